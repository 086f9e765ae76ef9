//! The sink role: a system that is written.
//!
//! `write` returning means accepted, `commit` returning means durable. A session has one thread of the host; several
//! sessions may be open at once if the capabilities allow it. The order of calls is: `check`, `prepare`, `take_over`,
//! then (`begin`, `write`.., `flush`, `commit` or `abort`)*, `add_constraints`, `finalize`. Neighbour: [`crate::source`].

mod cost;

pub use cost::SinkCost;

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::capability::{Loss, SinkCapabilities, TypeMapping};
use crate::check::Finding;
use crate::collection::{Collection, Reference};
use crate::config::Config;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::record_type::Schema;
use crate::services::Services;
use crate::source::{RejectedRecord, Source};

/// How a sink comes into being, and what it declares before that.
pub trait OpenSink: Sink + Sized + 'static {
    /// Its part of the job file.
    type Config: Config;

    /// Opens a session. May connect; must not write before `prepare`.
    fn open(config: Self::Config, services: Services) -> Result<Self>;

    /// What it can do. Called without opening.
    fn capabilities() -> SinkCapabilities;

    /// How each record type is stored. Called without opening.
    fn type_mappings() -> Vec<TypeMapping>;
}

/// A system that is written.
pub trait Sink: Send {
    /// As [`Source::check`]: reachability and rights, without writing.
    fn check(&mut self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// Makes room for the collections: creates what is missing and compares what is there. With `dry` nothing is
    /// changed and the answer says what would be done. Called without `dry` by every session before it writes, by the
    /// first one before the others are opened (which say `again`); running it again changes nothing.
    fn prepare(&mut self, request: &PrepareRequest) -> Result<PrepareReport>;

    /// Follows a change of schema in mid-run, outside of `begin` and `commit`. Nothing is changed if the report has a
    /// blocker; batches of the old schema may still come. If unsupported: the default error.
    fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport> {
        let _: &AlterRequest = request;
        Err(Error::unsupported("alter"))
    }

    /// Fences off older holders of the lanes and returns what is durable in each, in the order of the claims. Outside of
    /// `begin` and `commit`; what is fenced off can commit nothing from here on, and what it has open does not hold the caller up
    /// for ever. One session may take over for others of the same run. All claims of a call are granted, or none. Who cannot
    /// be fenced off, since it lives and its system knows no fence, is named: `run.lane_held`. A sink without lanes answers
    /// the start for each, the default.
    ///
    /// # Errors
    /// [`Error::fenced`] if a claim says which epoch it holds and the lane has another one.
    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        Ok(claims
            .iter()
            .map(|claim| LaneState::unknown(claim.lane.clone()))
            .collect())
    }

    /// Opens a transaction for the lane. At most one is open per session.
    fn begin(&mut self, lane: &LaneId) -> Result<()>;

    /// Accepts a batch of `collection` into the open transaction; its fate is sealed by `commit`. The same batch may
    /// arrive again after a failure. Records that cannot be stored come back in the receipt and leave no trace;
    /// an error with [`crate::error::ErrorScope::Write`] leaves the transaction as it was before.
    fn write(&mut self, collection: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt>;

    /// Judges the records that `write` has deferred since `begin`, in order that the checkpoint is known before
    /// [`Sink::commit`]. Called before a commit if a receipt since `begin` had deferred records; after `Ok` none is left.
    /// The receipt counts these records alone; the `row` of a rejected one counts all records written since `begin`,
    /// over all calls of `write`, from 0. Rejected records leave no trace, the others stay in the open transaction.
    /// A sink that defers nothing needs none.
    fn flush(&mut self) -> Result<Receipt> {
        Ok(Receipt::default())
    }

    /// Makes everything since `begin` durable, together with the checkpoint: both or neither. The lane must have the
    /// checkpoint's `epoch` and `seq`, else nothing is changed and the answer is [`Committed::Fenced`].
    /// [`Committed::Unknown`] if the answer was lost: the host takes over again instead of repeating. Nothing need have been
    /// written since `begin`: the checkpoint alone is made durable then.
    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed>;

    /// Undoes everything since `begin`. Also called when nothing is open, then without effect.
    fn abort(&mut self) -> Result<()>;

    /// Adds what slows loading down: foreign keys, indexes. Called once after the last commit, by one session.
    fn add_constraints(&mut self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// Takes back what the lanes wrote in the given range. If unsupported: the default error.
    fn undo(&mut self, request: &UndoRequest) -> Result<UndoReport> {
        let _: &UndoRequest = request;
        Err(Error::unsupported("undo"))
    }

    /// The last call of a successful run: close files, refresh statistics.
    fn finalize(&mut self) -> Result<()> {
        Ok(())
    }

    /// Removes all records of the collections, in the given order, and nothing else; the collections themselves stay,
    /// unless a collection is nothing but its records, as a file is. All in one transaction where there are
    /// transactions. Outside of `begin` and `commit`. Needs no `prepare`; called without collections first, to learn whether it is
    /// supported, then, in a sink with lanes, after a `take_over` that fences off whoever writes; `finalize` follows then. If
    /// unsupported: the default error.
    fn clear(&mut self, request: &ClearRequest) -> Result<ClearReport> {
        let _: &ClearRequest = request;
        Err(Error::unsupported("clear"))
    }

    /// Removes the records with these keys (columns named and typed like the key fields) and says how many there were.
    /// Keys that are not there are fine. Called between `begin` and `commit`, and undone by `abort` like a write.
    /// If unsupported: the default error.
    fn remove(&mut self, collection: &str, keys: &Batch) -> Result<u64> {
        let _: (&str, &Batch) = (collection, keys);
        Err(Error::unsupported("remove"))
    }

    /// The reading half, over a connection of its own: what can be read back can be verified, backed up and rolled
    /// back. If unsupported: the default error.
    fn reader(&mut self) -> Result<Box<dyn Source>> {
        Err(Error::unsupported("reader"))
    }
}

/// What happens to a record whose key the sink already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[repr(u32)]
pub enum ConflictPolicy {
    /// The stored record stays.
    Skip = 1,
    /// The new record replaces it.
    #[default]
    Overwrite = 2,
    /// Fields that the new record has replace those stored; the others stay.
    Merge = 3,
    /// The one with the higher version field wins.
    KeepNewest = 4,
    /// The one with the lower version field wins.
    KeepOldest = 5,
    /// The record is rejected.
    Fail = 6,
    /// There are no stored records: plain insertion.
    Append = 7,
}

impl ConflictPolicy {
    /// Its number at the boundary.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The policy of a number, if known.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Skip,
            2 => Self::Overwrite,
            3 => Self::Merge,
            4 => Self::KeepNewest,
            5 => Self::KeepOldest,
            6 => Self::Fail,
            7 => Self::Append,
            _ => return None,
        })
    }
}

/// The collections that a run will write.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrepareRequest {
    /// As they are to be in the sink: sink names, transformed schemas, the job's keys.
    pub collections: Vec<Collection>,
    /// Whether nothing may be changed.
    pub dry: bool,
    /// Whether an earlier call of the same task has prepared these collections already, or, with `dry`, looked at them: another
    /// session has, or this one did before its records were written. Nothing is left to be made, and a sink that bills for
    /// looking need not look: what the answer says of `existed` and `record_count` counts for nothing then.
    #[serde(skip_serializing_if = "is_false")]
    pub again: bool,
}

/// What a sink says of one collection that is to be written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreparedCollection {
    /// The collection, as in the request.
    pub name: String,
    /// Whether the sink had it before.
    pub existed: bool,
    /// Records that it held before; `None` if not counted.
    pub record_count: Option<u64>,
    /// How each field is stored, in the order of the schema.
    pub fields: Vec<PreparedField>,
    /// References that the sink holds every write to, from the first one on, because they were there before; with the names
    /// of this request's collections. Those of one's own making come with `add_constraints`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enforced: Vec<Reference>,
    /// Fields that may not be null there, because the collection was there before; those that the schema requires need not be
    /// named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
    /// What is billed for looking at it, writing it and reading it back; `None` where nothing is. Said of every collection that
    /// can be prepared, with `again` too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<SinkCost>,
}

/// How one field is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreparedField {
    /// The field, as in the request.
    pub name: String,
    /// Its name in the sink.
    pub stored_name: String,
    /// Its type there.
    pub stored_as: String,
    /// What is lost.
    pub losses: Vec<Loss>,
}

/// The answer to `prepare`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrepareReport {
    /// Statements that were, or with `dry` would be, executed; for people.
    pub ddl: Vec<String>,
    /// One entry per collection of the request, in its order.
    pub collections: Vec<PreparedCollection>,
    /// What is in the way, and what should be looked at.
    pub findings: Vec<Finding>,
}

/// A change of schema.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlterRequest {
    /// The collection in the sink.
    pub collection: String,
    /// As it is.
    pub old: Schema,
    /// As it is to be.
    pub new: Schema,
    /// Whether new fields go where the sink keeps what has no place of its own (`on_new_field: overflow`), rather than
    /// each into a place of its own (`evolve`).
    pub overflow: bool,
}

/// Names a lane: one source partition, or one change stream, of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneId {
    /// The job.
    pub job: String,
    /// What identifies the source, as the host computes it.
    pub source: String,
    /// The collection in the source.
    pub collection: String,
    /// The partition's descriptor.
    pub partition: Cursor,
}

/// A wish to hold a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneClaim {
    /// The lane.
    #[serde(flatten)]
    pub lane: LaneId,
    /// The run that begins the lane: one that another run has begun starts anew, with `seq` 0, no cursor and no extensions, under
    /// the next epoch. A run that resumes says which run it resumes. Empty: the lane stays as it is, whoever began it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub begun_by: String,
    /// The epoch that the caller believes to hold, after a commit whose answer was lost: granted only if it still does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
}

/// What is durable in a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneState {
    /// The lane.
    pub lane: LaneId,
    /// The run that began it.
    pub begun_by: String,
    /// The fence that this session holds now.
    pub epoch: u64,
    /// Commits so far.
    pub seq: u64,
    /// Where the last commit ended.
    pub cursor: Cursor,
    /// Whether the partition is complete.
    pub done: bool,
    /// Records committed so far.
    pub record_count: u64,
    /// Those of the last checkpoint.
    pub extensions: std::collections::BTreeMap<String, String>,
}

impl LaneState {
    /// The start of a lane in a sink that keeps none.
    pub fn unknown(lane: LaneId) -> Self {
        Self {
            lane,
            ..Self::default()
        }
    }

    /// The rule of [`Sink::take_over`] for one lane: what the lane is once `claim` is granted, given what is stored.
    ///
    /// # Errors
    /// [`Error::fenced`].
    pub fn taken_over(stored: Option<&Self>, claim: &LaneClaim) -> Result<Self> {
        let epoch = stored.map_or(0, |stored| stored.epoch);
        if claim.held.is_some_and(|held| held != epoch) {
            return Err(Error::fenced());
        }
        let goes_on = stored.filter(|stored| claim.begun_by.is_empty() || stored.begun_by == claim.begun_by);
        let mut state = goes_on.cloned().unwrap_or_else(|| Self {
            begun_by: claim.begun_by.clone(),
            ..Self::unknown(claim.lane.clone())
        });
        state.epoch = epoch + 1;
        Ok(state)
    }

    /// The rule of [`Sink::commit`] for one lane: what the lane is once `checkpoint` is durable; `None` if it is fenced off.
    pub fn committed(&self, checkpoint: &Checkpoint) -> Option<Self> {
        (self.epoch == checkpoint.epoch && self.seq == checkpoint.seq).then(|| Self {
            seq: self.seq + 1,
            cursor: checkpoint.cursor.clone(),
            done: checkpoint.done,
            record_count: self.record_count + checkpoint.record_count,
            extensions: checkpoint.extensions.clone(),
            ..self.clone()
        })
    }
}

/// What becomes durable together with the records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// The lane.
    pub lane: LaneId,
    /// The fence that the session believes to hold.
    pub epoch: u64,
    /// The commit before this one; the guard.
    pub seq: u64,
    /// Where to go on after this commit.
    pub cursor: Cursor,
    /// Whether the partition is complete.
    pub done: bool,
    /// Records of this commit.
    pub record_count: u64,
    /// What the host wants to find again: digest totals and the like.
    pub extensions: std::collections::BTreeMap<String, String>,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Committed {
    /// Durable, as commit number `seq` of the lane.
    Committed {
        /// The new number.
        seq: u64,
    },
    /// Certainly not durable; it may be tried again as a whole.
    NotCommitted,
    /// Another run holds the lane. Never tried again.
    Fenced,
    /// The answer was lost.
    #[serde(other)]
    Unknown,
}

/// The answer to `write`, and to `flush`. Each record of the write is accepted, rejected or deferred.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Receipt {
    /// Records taken into the transaction, those skipped by policy included.
    pub accepted: u64,
    /// Of these, left as they were by policy.
    pub skipped: u64,
    /// Records that cannot be stored.
    pub rejected: Vec<RejectedRecord>,
    /// Records taken into the transaction that are not judged yet: [`Sink::flush`] says which of them are accepted. A sink
    /// that defers wants large writes.
    #[serde(skip_serializing_if = "is_zero")]
    pub deferred: u64,
    /// Whether the sink would rather commit now than take another batch: the transaction is as large or as old as its
    /// system bears well. More may still come.
    pub commit_due: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Receipt {
    /// Everything was taken.
    pub fn all(accepted: u64) -> Self {
        Self {
            accepted,
            ..Self::default()
        }
    }
}

/// What is to be emptied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClearRequest {
    /// The collections, those that refer to others before these.
    pub collections: Vec<String>,
}

/// What was emptied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClearReport {
    /// Records removed, one number per collection of the request; `None` if not counted.
    pub removed: Vec<Option<u64>>,
}

/// What is to be taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UndoRequest {
    /// The lane.
    pub lane: LaneId,
    /// Commits after this one are taken back.
    pub from_seq: u64,
    /// Up to and including this one.
    pub to_seq: u64,
}

/// What was taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UndoReport {
    /// Records that are as they were before.
    pub restored: u64,
    /// Records that somebody changed since and that were kept.
    pub kept: Vec<RejectedRecord>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> LaneId {
        LaneId {
            job: "job".to_owned(),
            source: "source".to_owned(),
            collection: "people".to_owned(),
            partition: Cursor(vec![7]),
        }
    }

    fn stored() -> LaneState {
        LaneState {
            lane: lane(),
            begun_by: "first".to_owned(),
            epoch: 5,
            seq: 3,
            cursor: Cursor(b"here".to_vec()),
            done: true,
            record_count: 40,
            extensions: [("note".to_owned(), "kept".to_owned())].into(),
        }
    }

    fn claim(begun_by: &str, held: Option<u64>) -> LaneClaim {
        LaneClaim {
            lane: lane(),
            begun_by: begun_by.to_owned(),
            held,
        }
    }

    #[test]
    fn a_lane_goes_on_for_the_run_that_began_it_and_for_nobody_in_particular() {
        let raised = LaneState { epoch: 6, ..stored() };
        for begun_by in ["first", ""] {
            for held in [None, Some(5)] {
                let state = LaneState::taken_over(Some(&stored()), &claim(begun_by, held)).unwrap();
                assert_eq!(state, raised, "{begun_by:?} {held:?}");
            }
        }
    }

    #[test]
    fn a_lane_starts_anew_for_another_run_under_the_next_epoch() {
        let anew = LaneState {
            begun_by: "second".to_owned(),
            epoch: 6,
            ..LaneState::unknown(lane())
        };
        for held in [None, Some(5)] {
            let state = LaneState::taken_over(Some(&stored()), &claim("second", held)).unwrap();
            assert_eq!(state, anew);
        }
        // One that nobody has named goes on for nobody, and starts anew for the first who is named.
        let unnamed = LaneState {
            begun_by: String::new(),
            ..stored()
        };
        let state = LaneState::taken_over(Some(&unnamed), &claim("", None)).unwrap();
        assert_eq!((state.begun_by.as_str(), state.seq), ("", 3));
        assert_eq!(
            LaneState::taken_over(Some(&unnamed), &claim("second", None)).unwrap(),
            anew
        );
    }

    #[test]
    fn a_new_lane_is_at_its_start() {
        for begun_by in ["first", ""] {
            let state = LaneState::taken_over(None, &claim(begun_by, None)).unwrap();
            let expected = LaneState {
                begun_by: begun_by.to_owned(),
                epoch: 1,
                ..LaneState::unknown(lane())
            };
            assert_eq!(state, expected);
        }
    }

    #[test]
    fn a_lane_that_is_held_no_longer_is_not_granted() {
        for begun_by in ["first", "second", ""] {
            for held in [0, 4, 6, u64::MAX] {
                let error = LaneState::taken_over(Some(&stored()), &claim(begun_by, Some(held))).unwrap_err();
                assert_eq!(
                    (error.code.as_ref(), error.kind),
                    ("run.fenced", crate::error::ErrorKind::Integrity)
                );
            }
            // It was removed meanwhile.
            LaneState::taken_over(None, &claim(begun_by, Some(5))).unwrap_err();
        }
    }

    #[test]
    fn a_commit_moves_the_lane_only_from_its_epoch_and_number() {
        let checkpoint = Checkpoint {
            lane: lane(),
            epoch: 5,
            seq: 3,
            cursor: Cursor(b"there".to_vec()),
            done: false,
            record_count: 2,
            extensions: [("total".to_owned(), "9".to_owned())].into(),
        };
        let moved = LaneState {
            seq: 4,
            cursor: checkpoint.cursor.clone(),
            done: false,
            record_count: 42,
            extensions: checkpoint.extensions.clone(),
            ..stored()
        };
        assert_eq!(stored().committed(&checkpoint), Some(moved.clone()));
        // The same once more is fenced off, and so is every other number and epoch.
        assert_eq!(moved.committed(&checkpoint), None);
        for (epoch, seq) in [(5, 2), (5, 4), (4, 3), (6, 3), (0, 0), (3, 5)] {
            let stale = Checkpoint {
                epoch,
                seq,
                ..checkpoint.clone()
            };
            assert_eq!(stored().committed(&stale), None, "epoch {epoch}, seq {seq}");
        }
        let taken = LaneState::taken_over(Some(&stored()), &claim("", None)).unwrap();
        assert_eq!(taken.committed(&checkpoint), None);
    }

    #[test]
    fn claims_and_states_cross_as_messages_and_leave_out_what_they_lack() {
        let plain = serde_json::to_value(claim("", None)).unwrap();
        let named = serde_json::json!({
            "job": "job", "source": "source", "collection": "people", "partition": "07"
        });
        assert_eq!(plain, named);
        for claim in [claim("", None), claim("run", Some(u64::MAX))] {
            let text = serde_json::to_string(&claim).unwrap();
            assert_eq!(serde_json::from_str::<LaneClaim>(&text).unwrap(), claim);
        }
        let text = serde_json::to_string(&stored()).unwrap();
        assert_eq!(serde_json::from_str::<LaneState>(&text).unwrap(), stored());
        // A sink built before lanes had names answers without them.
        let old: LaneState = serde_json::from_str(r#"{"epoch":1,"seq":2}"#).unwrap();
        assert_eq!((old.epoch, old.seq, old.begun_by.as_str()), (1, 2, ""));
        let unknown: Committed = serde_json::from_str(r#"{"outcome":"perhaps"}"#).unwrap();
        assert_eq!(unknown, Committed::Unknown);
    }
}
