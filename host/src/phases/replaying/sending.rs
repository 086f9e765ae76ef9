//! The records of one collection on their way to the sink, in transactions of a lane of their own.
//!
//! Neighbours: `records` makes rows of them, [`crate::phases::rewriting`] has the transactions.

use std::collections::BTreeMap;

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
    /// Those that the sink has taken by the last commit of an earlier replay, which may have been broken off before anybody was told, by
    /// the run that refused them.
    known: BTreeMap<String, Vec<u64>>,
    pub(super) replayed: Replayed,
}

impl<'a> Sending<'a> {
    pub(super) fn begin(
        replay: &'a Replay<'a>,
        planned: &'a PlannedCollection,
        sink: &'a mut OpenedSink,
    ) -> Result<Self, Failure> {
        let (rewriting, before) = Rewriting::begin(replay.job, planned, PARTITION, replay.stop, sink)?;
        let last = before.extensions.get(EXTENSION);
        let known = last.and_then(|text| mark_of(text)).into_iter().collect();
        Ok(Self {
            replay,
            planned,
            rewriting,
            known,
            replayed: Replayed::default(),
        })
    }

    pub(super) fn all(&mut self, records: &[&ReplayRecord]) -> Result<(), Failure> {
        let mark = self.known.get(&self.replay.options.refused_by);
        let is_known = |record: &&&ReplayRecord| mark.is_some_and(|mark| mark.contains(&record.number));
        let (known, new): (Vec<&ReplayRecord>, Vec<&ReplayRecord>) = records.iter().partition(is_known);
        let taken: Vec<u64> = known.iter().map(|record| record.number).collect();
        self.replayed.taken += taken.len() as u64;
        // Also those that nobody wants to send now, and those of another run: the next commit takes the place of the mark.
        tell(self.replay, taken, Vec::new(), std::mem::take(&mut self.known))?;
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
    let taken = taken.into_iter().collect();
    Ok(tell(replay, taken, refused.collect(), BTreeMap::new())?)
}

fn text_of(numbers: &[u64], refused_by: &str) -> String {
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    format!("{refused_by} {}", numbers.join(" "))
}

/// What [`text_of`] has written: the run, and its records.
fn mark_of(text: &str) -> Option<(String, Vec<u64>)> {
    let mut words = text.split(' ');
    let refused_by = words.next()?.to_owned();
    let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    (!numbers.is_empty()).then_some((refused_by, numbers))
}
