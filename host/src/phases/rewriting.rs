//! Single records written into the sink once more, or removed from it, in transactions of a lane of their own.
//!
//! A transaction that cannot be made for its records is taken apart, so that each one is judged on its own. Neighbours: `replaying`
//! sends rejected records again, `repairing` those that differ between both sides; [`crate::checkpoint`] has the rules of the lane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use whimbrel_plugin_api::sink::{Checkpoint, LaneId, LaneState};
use whimbrel_plugin_api::{Batch, ConflictPolicy, Cursor, Error, ErrorKind, ErrorScope};

use crate::checkpoint::{Answer, Lane, Reclaimed};
use crate::config::Job;
use crate::control::Stop;
use crate::crash_site;
use crate::events::Failure;
use crate::loader::observe::OpenedSink;
use crate::pipeline::{backoff, commit_meaning};
use crate::plan::PlannedCollection;

/// Records of one transaction: as many as are sent again after an error that may pass, or one by one after another one.
pub(super) const TRANSACTION_RECORDS_MAX: usize = 500;

/// Rows that are written together, each with the number of the record that it came from; or keys of records to remove.
pub(super) struct Piece {
    pub(super) numbers: Vec<u64>,
    pub(super) batch: Batch,
}

impl Piece {
    /// Rows `first` until `first + count`.
    fn part(&self, first: usize, count: usize) -> Self {
        Self {
            numbers: self
                .numbers
                .get(first..first + count)
                .unwrap_or_default()
                .to_vec(),
            batch: Batch {
                schema: Arc::clone(&self.batch.schema),
                records: self.batch.records.slice(first, count),
                facts: self.batch.facts.clone(),
            },
        }
    }
}

/// The rows of `pieces` record by record, in the order in which the records come first: a record may have several rows, and is judged by
/// all of them.
fn by_record(pieces: &[Piece]) -> Vec<(u64, Vec<Piece>)> {
    let mut at = BTreeMap::new();
    let mut records: Vec<(u64, Vec<Piece>)> = Vec::new();
    for piece in pieces {
        let mut first = 0;
        for rows in piece.numbers.chunk_by(|one, next| one == next) {
            let part = piece.part(first, rows.len());
            first += rows.len();
            let Some(number) = rows.first() else { continue };
            let index = *at.entry(*number).or_insert(records.len());
            match records.get_mut(index) {
                Some((_, parts)) => parts.push(part),
                None => records.push((*number, vec![part])),
            }
        }
    }
    records
}

/// What became of records, with code and message of a refusal.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) taken: BTreeSet<u64>,
    pub(super) refused: BTreeMap<u64, (String, String)>,
}

impl Judged {
    fn refused(numbers: &[u64], failure: Failure) -> Self {
        let reason = (failure.error.code, failure.error.message);
        Self {
            refused: numbers.iter().map(|number| (*number, reason.clone())).collect(),
            ..Self::default()
        }
    }
}

/// What is done with pieces.
#[derive(Debug, Clone, Copy)]
pub(super) enum Deed {
    /// They are written, by this policy.
    Write(ConflictPolicy),
    /// The records with these keys are removed.
    Remove,
}

/// What the checkpoint of a transaction says of it.
pub(super) struct Mark {
    pub(super) cursor: Cursor,
    pub(super) extension: Option<(&'static str, String)>,
}

/// Makes the mark of a transaction from the numbers of the records that it takes.
pub(super) type MarkOf<'a> = dyn Fn(&[u64]) -> Mark + 'a;
/// Is told what became of records, as soon as it is durable.
pub(super) type Settle<'a> = dyn FnMut(Judged) -> Result<(), Failure> + 'a;

/// The records of one collection on their way.
pub(super) struct Rewriting<'a> {
    job: &'a Job,
    collection: &'a str,
    stop: &'a Stop,
    sink: &'a mut OpenedSink,
    lane: Lane,
}

impl<'a> Rewriting<'a> {
    /// Claims the lane called `partition` of a collection. Also answers how whoever had it left it: it stays so until the first commit,
    /// so that nothing of it is forgotten by one who is killed before that.
    pub(super) fn begin(
        job: &'a Job,
        planned: &'a PlannedCollection,
        partition: &[u8],
        stop: &'a Stop,
        sink: &'a mut OpenedSink,
    ) -> Result<(Self, LaneState), Failure> {
        let id = LaneId {
            job: job.name.clone(),
            source: job.source.plugin.clone(),
            collection: planned.source.name.clone(),
            partition: Cursor(partition.to_vec()),
        };
        let mut lane = Lane::new(id, "");
        let state = one(sink.take_over(&[lane.claim()])?)?;
        lane.claimed(state)?;
        let before = lane.state().clone();
        let rewriting = Self {
            job,
            collection: &planned.sink.name,
            stop,
            sink,
            lane,
        };
        Ok((rewriting, before))
    }

    /// Does `deed` with `pieces` in one transaction, again if that may help; if it does not, each record has one of its own.
    pub(super) fn send(
        &mut self,
        deed: Deed,
        pieces: &[Piece],
        mark: &MarkOf<'_>,
        settle: &mut Settle<'_>,
    ) -> Result<(), Failure> {
        let failure = match self.with_retries(deed, pieces, mark) {
            Ok(judged) => return settle(judged),
            Err(failure) if is_of_records(&failure) => failure,
            Err(failure) => return Err(failure),
        };
        let records = by_record(pieces);
        if let [(number, _)] = records.as_slice() {
            return settle(Judged::refused(&[*number], failure));
        }
        for (number, rows) in records {
            match self.with_retries(deed, &rows, mark) {
                Ok(one) => settle(one)?,
                Err(failure) if is_of_records(&failure) => settle(Judged::refused(&[number], failure))?,
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn with_retries(&mut self, deed: Deed, pieces: &[Piece], mark: &MarkOf<'_>) -> Result<Judged, Failure> {
        let import = &self.job.import;
        let mut tries = 0;
        loop {
            let failure = match self.transaction(deed, pieces, mark) {
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
            if self.stop.wait(delay) {
                return Err(failure);
            }
        }
    }

    /// One transaction; none is answered if it was certainly not made.
    fn transaction(
        &mut self,
        deed: Deed,
        pieces: &[Piece],
        mark: &MarkOf<'_>,
    ) -> Result<Option<Judged>, Failure> {
        self.lane.begin()?;
        self.sink.begin(self.lane.id())?;
        let judged = match deed {
            Deed::Write(policy) => self.write(pieces, policy)?,
            Deed::Remove => self.remove(pieces)?,
        };
        // Those that are refused again are known already.
        self.lane.refused_are_kept();
        let is_taken = |number: &&u64| !judged.refused.contains_key(number);
        let taken: Vec<u64> = judged.taken.iter().filter(is_taken).copied().collect();
        if judged.taken.is_empty() {
            self.lane.undone();
            self.sink.abort()?;
            return Ok(Some(judged));
        }
        let records = pieces.iter().map(|piece| piece.numbers.len()).sum::<usize>() as u64;
        let left_out = judged.refused.len() as u64;
        let Mark { cursor, extension } = mark(&taken);
        let mut checkpoint = self
            .lane
            .checkpoint(cursor, false, records.saturating_sub(left_out))?;
        checkpoint
            .extensions
            .extend(extension.map(|(name, text)| (name.to_owned(), text)));
        Ok(self.commit(&checkpoint)?.then_some(judged))
    }

    /// Whether the commit was made, found out in either case.
    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<bool, Failure> {
        crash_site::reach("commit_sent");
        let sent = self.sink.commit(checkpoint);
        crash_site::reach("committed");
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

    fn write(&mut self, pieces: &[Piece], policy: ConflictPolicy) -> Result<Judged, Failure> {
        let (mut judged, mut deferred) = (Judged::default(), 0);
        let mut rows = Vec::new();
        for piece in pieces {
            let receipt = self.sink.write(self.collection, &piece.batch, policy)?;
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

    fn remove(&mut self, pieces: &[Piece]) -> Result<Judged, Failure> {
        let mut judged = Judged::default();
        for piece in pieces {
            // One that is not there any more is gone as well.
            self.sink.remove(self.collection, &piece.batch)?;
            judged.taken.extend(&piece.numbers);
        }
        Ok(judged)
    }
}

/// The record that a sink means by `row`; one that it does not name is looked for by writing each record alone.
fn number_at(numbers: &[u64], row: Option<u64>) -> Result<u64, Error> {
    let named = row
        .and_then(|row| usize::try_from(row).ok())
        .and_then(|row| numbers.get(row));
    match (named, numbers) {
        (Some(number), _) => Ok(*number),
        (None, [number, more @ ..]) if more.iter().all(|other| other == number) => Ok(*number),
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
