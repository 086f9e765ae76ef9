//! The records of one collection on their way to the sink, in transactions of a lane of their own.
//!
//! A transaction that cannot be made for its records is taken apart, so that each one is judged on its own. Neighbour: `records`, which
//! makes rows of them.

use std::collections::BTreeSet;
use std::time::Duration;

use whimbrel_plugin_api::sink::{Checkpoint, LaneId};
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, ErrorScope};

use super::records::{Judged, Piece, pieces};
use super::{Replay, ReplayRecord, Replayed, tell};
use crate::checkpoint::{Answer, Lane, Reclaimed};
use crate::events::{Failure, RefusedAgain};
use crate::loader::observe::OpenedSink;
use crate::pipeline::{backoff, commit_meaning};
use crate::plan::PlannedCollection;

/// The partition of the lanes of replays.
const PARTITION: &[u8] = b"replay";
/// Names the records of the last commit in the lane's checkpoint: the run that refused them, then their numbers.
const EXTENSION: &str = "replayed";
/// Records of one transaction: as many as are sent again after an error that may pass, or one by one after another one.
const TRANSACTION_RECORDS_MAX: usize = 500;

/// The records of one collection on their way.
pub(super) struct Sending<'a> {
    replay: &'a Replay<'a>,
    planned: &'a PlannedCollection,
    sink: &'a mut OpenedSink,
    lane: Lane,
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
        let id = LaneId {
            job: replay.job.name.clone(),
            source: replay.job.source.plugin.clone(),
            collection: planned.source.name.clone(),
            partition: Cursor(PARTITION.to_vec()),
        };
        // First as whoever had it left it, then anew for this run.
        let mut lane = Lane::new(id, "");
        let state = one(sink.take_over(&[lane.claim()])?)?;
        lane.claimed(state)?;
        let last = lane.state().extensions.get(EXTENSION);
        let known = last.map_or_else(Vec::new, |text| numbers_of(text, &replay.options.refused_by));
        let state = one(sink.take_over(&[lane.claim_anew(replay.run_id)])?)?;
        lane.renewed(state)?;
        Ok(Self {
            replay,
            planned,
            sink,
            lane,
            known,
            replayed: Replayed::default(),
        })
    }

    pub(super) fn all(&mut self, records: &[&ReplayRecord]) -> Result<(), Failure> {
        let (known, new): (Vec<&ReplayRecord>, Vec<&ReplayRecord>) = records
            .iter()
            .partition(|record| self.known.contains(&record.number));
        self.settle(Judged {
            taken: known.iter().map(|record| record.number).collect(),
            ..Judged::default()
        })?;
        for records in new.chunks(TRANSACTION_RECORDS_MAX) {
            if self.replay.stop.is_raised() {
                return Ok(());
            }
            let (pieces, judged) = pieces(self.replay.transforms, self.planned, records)?;
            self.settle(judged)?;
            if !pieces.is_empty() {
                self.send(&pieces)?;
            }
        }
        Ok(())
    }

    /// Counts and tells what became of records.
    fn settle(&mut self, judged: Judged) -> Result<(), Failure> {
        let Judged { mut taken, refused } = judged;
        taken.retain(|number| !refused.contains_key(number));
        self.replayed.taken += taken.len() as u64;
        self.replayed.refused += refused.len() as u64;
        let refused = refused.into_iter().map(|(number, (code, message))| RefusedAgain {
            number,
            code,
            message,
        });
        Ok(tell(self.replay, taken.into_iter().collect(), refused.collect())?)
    }

    /// Writes `pieces` in one transaction, again if that may help; if it does not, each row has one of its own.
    fn send(&mut self, pieces: &[Piece]) -> Result<(), Failure> {
        let failure = match self.with_retries(pieces) {
            Ok(judged) => return self.settle(judged),
            Err(failure) if is_of_records(&failure) => failure,
            Err(failure) => return Err(failure),
        };
        let rows: Vec<Piece> = pieces.iter().flat_map(Piece::rows).collect();
        let mut judged = Judged::default();
        if let [row] = rows.as_slice() {
            let reason = (failure.error.code, failure.error.message);
            judged
                .refused
                .extend(row.numbers.iter().map(|number| (*number, reason.clone())));
            return self.settle(judged);
        }
        for row in rows {
            match self.with_retries(std::slice::from_ref(&row)) {
                Ok(one) => self.settle(one)?,
                Err(failure) if is_of_records(&failure) => {
                    let reason = (failure.error.code, failure.error.message);
                    let refused = row.numbers.iter().map(|number| (*number, reason.clone()));
                    self.settle(Judged {
                        refused: refused.collect(),
                        ..Judged::default()
                    })?;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn with_retries(&mut self, pieces: &[Piece]) -> Result<Judged, Failure> {
        let import = &self.replay.job.import;
        let mut tries = 0;
        loop {
            let failure = match self.transaction(pieces) {
                Ok(Some(judged)) => return Ok(judged),
                Ok(None) => not_committed().into(),
                Err(failure) => failure,
            };
            self.lane.undone();
            // The failure that led here says more than a failing abort could.
            drop(self.sink.abort());
            tries += 1;
            let may_pass = failure.error.kind.is_transient()
                && failure.error.scope != ErrorScope::Session
                && !self.lane.is_doubtful();
            if !may_pass || tries > import.max_retries {
                return Err(failure);
            }
            let delay = backoff(Duration::from_millis(import.retry_delay_ms), tries, &failure);
            if self.replay.stop.wait(delay) {
                return Err(failure);
            }
        }
    }

    /// One transaction; none is answered if it was certainly not made.
    fn transaction(&mut self, pieces: &[Piece]) -> Result<Option<Judged>, Failure> {
        self.lane.begin()?;
        self.sink.begin(self.lane.id())?;
        let judged = self.write(pieces)?;
        // Those that are refused again are in the state already.
        self.lane.refused_are_kept();
        let taken: Vec<u64> = judged
            .taken
            .difference(&judged.refused.keys().copied().collect())
            .copied()
            .collect();
        let records = pieces.iter().map(|piece| piece.numbers.len()).sum::<usize>() as u64;
        let Some(last) = judged.taken.last() else {
            self.lane.undone();
            self.sink.abort()?;
            return Ok(Some(judged));
        };
        let refused_by = &self.replay.options.refused_by;
        let cursor = Cursor(format!("{refused_by}/{last}").into_bytes());
        let left_out = judged.refused.len() as u64;
        let mut checkpoint = self
            .lane
            .checkpoint(cursor, false, records.saturating_sub(left_out))?;
        checkpoint
            .extensions
            .insert(EXTENSION.to_owned(), text_of(&taken, refused_by));
        Ok(self.commit(&checkpoint)?.then_some(judged))
    }

    /// Whether the commit was made, found out in either case.
    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<bool, Failure> {
        let sent = self.sink.commit(checkpoint);
        let answer = self.lane.answered(match &sent {
            Ok(outcome) => *outcome,
            Err(failure) => commit_meaning(failure),
        })?;
        match (answer, sent) {
            (Answer::Durable(_), _) => self.lane.saved()?,
            (Answer::Fenced, sent) => return Err(sent.err().unwrap_or_else(|| Error::fenced().into())),
            (Answer::Again, Err(failure)) => return Err(failure),
            (Answer::Again, Ok(_)) => return Ok(false),
            (Answer::Doubtful, _) => {
                let state = one(self.sink.take_over(&[self.lane.claim()])?)?;
                match self.lane.reclaimed(state)? {
                    Reclaimed::Durable(_) => self.lane.saved()?,
                    Reclaimed::Again => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    fn write(&mut self, pieces: &[Piece]) -> Result<Judged, Failure> {
        let (mut judged, mut deferred) = (Judged::default(), 0);
        let mut rows = Vec::new();
        for piece in pieces {
            let receipt = self
                .sink
                .write(&self.planned.sink.name, &piece.batch, self.planned.policy)?;
            deferred += receipt.deferred;
            for refused in receipt.rejected {
                let number = number_at(&piece.numbers, refused.row)?;
                judged.refused.insert(number, (refused.code, refused.message));
            }
            judged.taken.extend(&piece.numbers);
            rows.extend(&piece.numbers);
        }
        if deferred > 0 {
            for refused in self.sink.flush()?.rejected {
                let number = number_at(&rows, refused.row)?;
                judged.refused.insert(number, (refused.code, refused.message));
            }
        }
        // A row of a record that has others keeps the transaction worth making.
        let is_single: BTreeSet<u64> = rows.iter().copied().collect();
        if is_single.len() == rows.len() {
            judged.taken.retain(|number| !judged.refused.contains_key(number));
        }
        Ok(judged)
    }
}

/// The record that a sink means by `row`; one that it does not name is looked for by writing each row alone.
fn number_at(numbers: &[u64], row: Option<u64>) -> Result<u64, Error> {
    let named = row
        .and_then(|row| usize::try_from(row).ok())
        .and_then(|row| numbers.get(row));
    match (named, numbers) {
        (Some(number), _) | (None, [number]) => Ok(*number),
        _ => Err(Error::invalid_data(
            "rejected.which",
            "the sink refused a record and did not say which",
        )),
    }
}

/// Whether a failure may be about single records of a transaction.
fn is_of_records(failure: &Failure) -> bool {
    let is_of_host = failure.error.code.starts_with("run.") || failure.error.code.starts_with("plugin.");
    let may_be = matches!(
        failure.error.kind,
        ErrorKind::InvalidData | ErrorKind::Integrity | ErrorKind::Exists | ErrorKind::Unsupported
    );
    may_be && !is_of_host
}

fn not_committed() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "run.not_committed",
        "the sink did not commit the records that were sent again",
    )
    .with_scope(ErrorScope::Transaction)
}

/// The one item of an answer about one lane.
fn one<T>(answer: Vec<T>) -> Result<T, Error> {
    let mut answer = answer.into_iter();
    answer
        .next()
        .ok_or_else(|| Error::internal("the sink answers for no lane where one was claimed"))
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
