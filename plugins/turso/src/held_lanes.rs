//! The lanes that a session has taken over, as far as it knows of them.
//!
//! Two uses: a transaction notices at its beginning that its lane was taken over by somebody else, and a file is let go of in the
//! name of a process that goes on to live. What is durable is in the database (`lane`), never here.

use std::collections::HashMap;

use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId, LaneState};

use crate::database::Statement;
use crate::lane::{Fence, Lanes};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HeldLanes(HashMap<LaneId, Held>);

#[derive(Debug)]
struct Held {
    epoch: u64,
    is_done: bool,
    is_released: bool,
}

impl HeldLanes {
    /// The claims were granted.
    pub(crate) fn granted(&mut self, states: &[LaneState]) {
        for state in states {
            let held = Held {
                epoch: state.epoch,
                is_done: state.done,
                is_released: false,
            };
            self.0.insert(state.lane.clone(), held);
        }
    }

    /// Whether nothing was ever taken over.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a transaction of the lane relies on; `None` if another session took it over for this one.
    pub(crate) fn fence(&self, lanes: &Lanes, lane: &LaneId) -> Result<Option<Fence>> {
        let held = self.0.get(lane);
        held.map(|held| lanes.fence(lane, held.epoch)).transpose()
    }

    /// A commit was answered.
    pub(crate) fn answered(&mut self, checkpoint: &Checkpoint, outcome: Committed) {
        if let (Committed::Committed { .. }, Some(held)) = (outcome, self.0.get_mut(&checkpoint.lane)) {
            held.is_done = checkpoint.done;
        }
    }

    /// What lets go of the lanes, or of those that are done; afterwards they count as let go of.
    pub(crate) fn release(&mut self, lanes: &Lanes, only_done: bool) -> Result<Vec<Statement>> {
        let is_wanted = |held: &Held| !held.is_released && (held.is_done || !only_done);
        let mut statements = Vec::new();
        for (lane, held) in self.0.iter_mut().filter(|(_, held)| is_wanted(held)) {
            held.is_released = true;
            statements.push(lanes.release(lane, held.epoch)?);
        }
        Ok(statements)
    }
}
