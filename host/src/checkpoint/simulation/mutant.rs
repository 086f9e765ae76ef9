//! What a lane can be made to do wrong, to see that the simulation notices. Production has none of it.
//!
//! Five faults that whoever changes [`Lane`](crate::checkpoint::Lane) might make; two of them come in two kinds.

use whimbrel_plugin_api::Cursor;
use whimbrel_plugin_api::sink::Checkpoint;

/// A guard that the simulated sink takes for whatever it has stored.
pub(super) const ANY: u64 = u64::MAX;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Guard dropped: whatever number the sink has stored is accepted.
    GuardDropped,
    /// Order swapped: the commit goes out before the records that it leaves out are durable.
    RefusedLate,
    /// Order swapped: the host's state says that it is durable before the sink does.
    SavedFirst,
    /// Blind resend: a commit whose answer was lost is made again without a look.
    BlindResend,
    /// Epoch check off: whatever epoch the sink has stored is accepted.
    EpochUnchecked,
    /// Epoch check off: the claim that finds out about a commit takes the lane from whoever has it.
    ReclaimUnheld,
    /// Cursor saved early: the checkpoint says where the batch after this one ends.
    CursorEarly,
}

impl Mutant {
    /// The cursor that a checkpoint gets.
    pub(crate) fn cursor(mutant: Option<Self>, cursor: Cursor) -> Cursor {
        match (mutant, cursor.0.first()) {
            (Some(Self::CursorEarly), Some(position)) => Cursor(vec![position.saturating_add(1)]),
            _ => cursor,
        }
    }

    /// The checkpoint that is sent.
    pub(crate) fn checkpoint(mutant: Option<Self>, mut checkpoint: Checkpoint) -> Checkpoint {
        match mutant {
            Some(Self::GuardDropped) => checkpoint.seq = ANY,
            Some(Self::EpochUnchecked) => checkpoint.epoch = ANY,
            _ => {}
        }
        checkpoint
    }
}
