//! The records of one collection on their way to the sink, in transactions of a lane of their own.
//!
//! Neighbours: `records` makes rows of them, [`crate::phases::rewriting`] has the transactions.

use whimbrel_plugin_api::Cursor;

use super::records::pieces;
use super::{Replay, ReplayRecord, Replayed, tell};
use crate::events::{Failure, RefusedAgain};
use crate::loader::observe::OpenedSink;
use crate::phases::rewriting::{Deed, Judged, Mark, Piece, Rewriting, TRANSACTION_RECORDS_MAX};
use crate::plan::PlannedCollection;

/// The partition of the lanes of replays.
pub(in crate::phases) const PARTITION: &[u8] = b"replay";
/// Names the records of the last commit in the lane's checkpoint: the run that refused them, then their numbers.
const EXTENSION: &str = "replayed";

/// The records of one collection on their way.
pub(super) struct Sending<'a> {
    replay: &'a Replay<'a>,
    planned: &'a PlannedCollection,
    rewriting: Rewriting<'a>,
    /// Those that the sink has taken already, by the last commit of a replay that was broken off.
    known: Vec<u64>,
    pub(super) replayed: Replayed,
}

impl<'a> Sending<'a> {
    pub(super) fn begin(
        replay: &'a Replay<'a>,
        planned: &'a PlannedCollection,
        sink: &'a mut OpenedSink,
    ) -> Result<Self, Failure> {
        let (rewriting, before) =
            Rewriting::begin(replay.job, replay.run_id, planned, PARTITION, replay.stop, sink)?;
        let last = before.extensions.get(EXTENSION);
        let known = last.map_or_else(Vec::new, |text| numbers_of(text, &replay.options.refused_by));
        Ok(Self {
            replay,
            planned,
            rewriting,
            known,
            replayed: Replayed::default(),
        })
    }

    pub(super) fn all(&mut self, records: &[&ReplayRecord]) -> Result<(), Failure> {
        let (known, new): (Vec<&ReplayRecord>, Vec<&ReplayRecord>) = records
            .iter()
            .partition(|record| self.known.contains(&record.number));
        let known = Judged {
            taken: known.iter().map(|record| record.number).collect(),
            ..Judged::default()
        };
        settle(self.replay, &mut self.replayed, known)?;
        for records in new.chunks(TRANSACTION_RECORDS_MAX) {
            if self.replay.stop.is_raised() {
                return Ok(());
            }
            let (pieces, judged) = pieces(self.replay.transforms, self.planned, records)?;
            settle(self.replay, &mut self.replayed, judged)?;
            if !pieces.is_empty() {
                self.send(&pieces)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, pieces: &[Piece]) -> Result<(), Failure> {
        let replay = self.replay;
        let replayed = &mut self.replayed;
        let refused_by = &replay.options.refused_by;
        self.rewriting.send(
            Deed::Write(self.planned.policy),
            pieces,
            &|taken| {
                let last = taken.last().copied().unwrap_or_default();
                Mark {
                    cursor: Cursor(format!("{refused_by}/{last}").into_bytes()),
                    extension: Some((EXTENSION, text_of(taken, refused_by))),
                }
            },
            &mut |judged| settle(replay, replayed, judged),
        )
    }
}

/// Counts and tells what became of records.
fn settle(replay: &Replay<'_>, replayed: &mut Replayed, judged: Judged) -> Result<(), Failure> {
    let Judged { mut taken, refused } = judged;
    taken.retain(|number| !refused.contains_key(number));
    replayed.taken += taken.len() as u64;
    replayed.refused += refused.len() as u64;
    let refused = refused.into_iter().map(|(number, (code, message))| RefusedAgain {
        number,
        code,
        message,
    });
    Ok(tell(replay, taken.into_iter().collect(), refused.collect())?)
}

fn text_of(numbers: &[u64], refused_by: &str) -> String {
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    format!("{refused_by} {}", numbers.join(" "))
}

/// The records that [`text_of`] names, if they are those of `refused_by`.
fn numbers_of(text: &str, refused_by: &str) -> Vec<u64> {
    let mut words = text.split(' ');
    if words.next() != Some(refused_by) {
        return Vec::new();
    }
    words.filter_map(|word| word.parse().ok()).collect()
}
