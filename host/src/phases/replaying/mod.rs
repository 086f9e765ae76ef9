//! Sends rejected records of an earlier run again, each one judged on its own.
//!
//! What the source or a transform has refused goes through the transforms, what the sink has refused goes to the sink as it is. Each
//! collection has a lane of its own for this, whose checkpoint names the records of its last commit and becomes durable with them. Before
//! the next commit the state knows of these; a replay that was killed before that is gone on with by any other one, which first tells
//! the state what the checkpoint names, and sends nothing twice. Neighbours: [`crate::checkpoint`] has the rules of the
//! lane, `orchestrator::replay` calls this, [`crate::state`] keeps the records.

mod records;
mod sending;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::Error;

pub use records::UNFIT;
pub(super) use sending::PARTITION;

use crate::barrier::Barrier;
use crate::config::Job;
use crate::control::Stop;
use crate::events::{Emitter, Event, Failure, Phase, RefusedAgain};
use crate::loader::observe::OpenedSink;
use crate::plan::PlannedCollection;
use crate::transform::Transforms;
use sending::Sending;

/// Rejected records that are sent again.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayOptions {
    /// The run that refused them.
    pub refused_by: String,
    /// The records, in the order of their numbers.
    pub records: Vec<ReplayRecord>,
}

// Not derived, since it would show the records' values.
impl std::fmt::Debug for ReplayOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayOptions")
            .field("refused_by", &self.refused_by)
            .field("record_count", &self.records.len())
            .finish_non_exhaustive()
    }
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRecord {
    /// Its number among those of its run.
    pub number: u64,
    /// The collection, in the source.
    pub collection: String,
    /// The phase that refused it: what its data looks like depends on it.
    pub stage: Phase,
    /// Its data, a JSON object.
    pub data: String,
    /// Whether somebody has corrected it.
    pub is_edited: bool,
}

/// What a replay works with.
pub struct Replay<'a> {
    /// The job.
    pub job: &'a Job,
    /// The records.
    pub options: &'a ReplayOptions,
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// Where events go.
    pub emitter: &'a Emitter,
    /// Ends everything.
    pub stop: &'a Stop,
    /// Where it waits until the state knows what was taken.
    pub barrier: &'a Barrier,
}

/// How many records became of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// In the sink now, or left out on purpose by a transform.
    pub taken: u64,
    /// Refused once more.
    pub refused: u64,
}

/// Sends the records again, collection by collection in the order of the plan. `sink` is prepared.
///
/// # Errors
/// What either side brings that is not about a single record; what was taken until then stays so.
pub fn run(
    replay: &Replay<'_>,
    collections: &[PlannedCollection],
    sink: &mut OpenedSink,
) -> Result<Replayed, Failure> {
    let mut of: BTreeMap<&str, Vec<&ReplayRecord>> = BTreeMap::new();
    for record in &replay.options.records {
        of.entry(&record.collection).or_default().push(record);
    }
    let mut replayed = Replayed::default();
    for planned in collections {
        let Some(records) = of.remove(planned.source.name.as_str()) else {
            continue;
        };
        let mut sending = Sending::begin(replay, planned, sink)?;
        let outcome = sending.all(&records);
        replayed.taken += sending.replayed.taken;
        replayed.refused += sending.replayed.refused;
        outcome?;
    }
    let gone = of.into_values().flatten().map(|record| RefusedAgain {
        number: record.number,
        code: "rejected.collection_gone".to_owned(),
        message: format!("the job does not copy `{}` any more", record.collection),
    });
    let gone: Vec<RefusedAgain> = gone.collect();
    replayed.refused += gone.len() as u64;
    tell(replay, Vec::new(), gone, BTreeMap::new())?;
    Ok(replayed)
}

/// Says what became of records, and waits until the state knows.
fn tell(
    replay: &Replay<'_>,
    taken: Vec<u64>,
    refused: Vec<RefusedAgain>,
    known: BTreeMap<String, Vec<u64>>,
) -> Result<(), Error> {
    if taken.is_empty() && refused.is_empty() && known.is_empty() {
        return Ok(());
    }
    replay.emitter.emit(&Event::Replayed {
        taken,
        refused,
        known,
    });
    replay.barrier.pass(replay.emitter, replay.stop)
}
