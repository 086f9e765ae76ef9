//! One transaction on the server, kept so that it can be carried out again from its beginning.
//!
//! The server takes a transaction away from a writer that holds it for five seconds while another one waits. What was
//! written since `BEGIN` is gone then. Three things make that harmless: steps of a request depend on each other and on an
//! open transaction, so the first error poisons the rest; the [`Guard`] stops requests that come later; and the statements
//! are kept, so that the whole transaction is sent once more. It is small and fast, so that this seldom happens. Before
//! anything is written, and again before `COMMIT`, its lane is looked at: one that was taken over ends it for good.

use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::fault::{Failure, is_constraint, sql_error};
use super::guard::Guard;
use super::hrana::{Condition, SqlError, Step, statement};
use super::http::Http;
use super::stream::{Answer, Stream};
use crate::database::Statement;
use crate::lane::{Advance, Fence};

/// Octets of statements in one request: some tens of milliseconds of work for the server.
pub(super) const REQUEST_BYTES: usize = 1024 * 1024;
/// From this many octets or this age on the host is asked to commit. The server's patience is 5 s.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
const COMMIT_AGE: Duration = Duration::from_secs(1);
/// Statements are kept for another try up to so many octets. A transaction that outgrows this, because the host does not
/// commit when it is asked to, is not tried again here.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a transaction does not go on.
#[derive(Debug)]
pub(super) enum Setback {
    /// It is gone, or may be; it can be carried out again from its beginning.
    Lost(Error),
    /// There is no use in trying again.
    Fatal(Error),
    /// Its lane was taken over.
    Fenced,
}

impl Setback {
    /// Lost if time may help, else fatal.
    pub(super) fn of(error: Error) -> Self {
        match error.kind.is_transient() {
            true => Self::Lost(error),
            false => Self::Fatal(error),
        }
    }
}

/// A transaction, open or about to be.
pub(super) struct Transaction {
    pub(super) number: i64,
    /// What its lane must be like at its beginning, as far as that is known.
    fence: Option<Fence>,
    stream: Option<Stream>,
    began_at: Option<Instant>,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// Statements that were carried out, in octets.
    bytes: usize,
    can_repeat: bool,
    was_lost: bool,
}

impl Transaction {
    /// Transaction `number`, which no other of the session has.
    pub(super) fn new(number: i64, fence: Option<Fence>) -> Self {
        Self {
            number,
            fence,
            stream: None,
            began_at: None,
            kept: Vec::new(),
            kept_bytes: 0,
            bytes: 0,
            can_repeat: true,
            was_lost: false,
        }
    }

    /// Whether nothing was carried out so far.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether it can be carried out again.
    pub(super) fn can_repeat(&self) -> bool {
        self.can_repeat
    }

    /// Says that statements follow which depend on what was read, so that they must not be repeated blindly.
    pub(super) fn depends_on_reading(&mut self) {
        self.can_repeat = false;
        self.kept = Vec::new();
    }

    /// Whether it is as large or as old as it should get, or was lost already.
    pub(super) fn is_due(&self) -> bool {
        self.was_lost
            || self.bytes >= COMMIT_BYTES
            || self.began_at.is_some_and(|began| began.elapsed() >= COMMIT_AGE)
    }

    /// Takes note of statements that were carried out and are not to be repeated as they are.
    pub(super) fn count(&mut self, statements: &[Bytes]) {
        self.bytes += statements.iter().map(Bytes::len).sum::<usize>();
    }

    /// Takes note of a statement that was carried out.
    pub(super) fn keep(&mut self, statement: Bytes) {
        self.bytes += statement.len();
        if !self.can_repeat {
            return;
        }
        self.kept_bytes += statement.len();
        if self.kept_bytes > KEPT_BYTES_MAX {
            self.depends_on_reading();
        } else {
            self.kept.push(statement);
        }
    }

    /// Lets go of what the server holds, if it holds anything.
    pub(super) fn drop_stream(&mut self) {
        self.was_lost = true;
        self.stream = None;
        self.began_at = None;
    }

    /// Brings a transaction that was lost back to where it was.
    pub(super) fn catch_up(&mut self, http: &Http, guard: &Guard) -> Result<(), Setback> {
        if self.stream.is_some() {
            return Ok(());
        }
        let kept = std::mem::take(&mut self.kept);
        let mut outcome = Ok(());
        let mut rest = kept.as_slice();
        while !rest.is_empty() && outcome.is_ok() {
            let (now, later) = rest.split_at(count_within(rest.iter().map(Bytes::len)));
            rest = later;
            outcome = self.repeat(http, guard, now);
        }
        self.kept = kept;
        outcome
    }

    fn repeat(&mut self, http: &Http, guard: &Guard, statements: &[Bytes]) -> Result<(), Setback> {
        let (answer, first) = self.send(http, guard, |first| chained(first, statements.iter().cloned()))?;
        for step in first..first + statements.len() {
            if let Some(error) = answer.error(step) {
                let error = sql_error(error, "write a batch again");
                if error.kind.is_transient() {
                    return Err(Setback::Lost(error));
                }
                // It did go well before: somebody else has changed the tables meanwhile.
                let message =
                    "records could not be written again after the server had taken the transaction away";
                return Err(Setback::Fatal(
                    Error::new(ErrorKind::Unavailable, "turso.changed_meanwhile", message)
                        .with_help("another program writes the same tables: let it end, then go on")
                        .with_cause(&error),
                ));
            }
        }
        match answer.changed(first + statements.len() - 1) {
            Some(_) if !answer.is_autocommit => Ok(()),
            _ => Err(lost()),
        }
    }

    /// Sends steps that belong to the transaction, and begins it first if need be. `steps` is told the number of its first
    /// step; the step before is ok exactly if the transaction is as it should be.
    pub(super) fn send(
        &mut self,
        http: &Http,
        guard: &Guard,
        steps: impl FnOnce(usize) -> Vec<Step>,
    ) -> Result<(Answer, usize), Setback> {
        let mut all = self.first_steps(guard);
        let first = all.len();
        all.extend(steps(first));
        let stream = self.stream(http);
        let answer = match stream.batch(all) {
            Ok(answer) => answer,
            Err(failure) => {
                self.drop_stream();
                return Err(Setback::of(failure.error));
            }
        };
        if answer.changed(first - 1).is_none() {
            let setback = self.why_not_begun(&answer, first);
            self.drop_stream();
            return Err(setback);
        }
        Ok((answer, first))
    }

    /// Sends what the commit does to the lane, and `COMMIT`, and ends the conversation. Nothing of it is done unless the lane is as
    /// it should be.
    pub(super) fn send_commit(
        &mut self,
        http: &Http,
        guard: &Guard,
        advance: Option<&Advance>,
    ) -> Result<Closing, Failure> {
        // What was carried out and is not there any more must come first.
        let is_there = self.stream.as_ref().map_or(self.is_empty(), Stream::is_usable);
        if !is_there {
            self.stream = None;
            return Err(Failure::before(lost_error()));
        }
        let mut steps = self.first_steps(guard);
        let begun = steps.len();
        if let Some(advance) = advance {
            let statements = [advance.fence.check(), advance.update.clone()];
            steps.extend(chained(begun, statements.iter().map(encoded)));
        }
        let commit = steps.len();
        steps.extend(chained(commit, std::iter::once(plain("COMMIT"))));
        steps.push(Step {
            condition: Some(Condition::not_ok(commit).and(Condition::in_transaction())),
            statement: plain("ROLLBACK"),
        });
        let answer = self.stream(http).last_batch(steps);
        self.stream = None;
        let answer = answer?;
        if answer.changed(commit).is_some() {
            return Ok(Closing::Committed);
        }
        if answer.changed(begun - 1).is_none() {
            return Ok(Closing::NotCommitted(self.why_not_begun(&answer, begun)));
        }
        Ok(Closing::NotCommitted(match answer.error(begun) {
            Some(error) if begun < commit && is_constraint(error) => Setback::Fenced,
            _ => match (begun..=commit).find_map(|step| answer.error(step)) {
                Some(error) => Setback::of(sql_error(error, "commit")),
                None => lost(),
            },
        }))
    }

    /// What comes before all else in a request: the last step is ok exactly if the transaction is open and as it should be.
    fn first_steps(&self, guard: &Guard) -> Vec<Step> {
        if self.stream.is_some() {
            return vec![guard.check(self.number, Condition::in_transaction())];
        }
        let mut steps = opening(guard, self.number);
        if let Some(fence) = &self.fence {
            steps.extend(chained(steps.len(), std::iter::once(encoded(&fence.check()))));
        }
        steps
    }

    /// Why the last of the `first` steps is not ok.
    fn why_not_begun(&self, answer: &Answer, first: usize) -> Setback {
        let error = (0..first).find_map(|step| answer.error(step).map(|error| (step, error)));
        match error {
            // Of a transaction that was open, nothing is there any more.
            _ if first == 1 => lost(),
            None => lost(),
            Some((step, error)) if self.is_fence(step, first, error) => Setback::Fenced,
            Some((_, error)) => Setback::of(sql_error(error, "begin a transaction")),
        }
    }

    fn is_fence(&self, step: usize, first: usize, error: &SqlError) -> bool {
        self.fence.is_some() && step + 1 == first && is_constraint(error)
    }

    fn stream(&mut self, http: &Http) -> &mut Stream {
        self.began_at.get_or_insert_with(Instant::now);
        self.stream.get_or_insert_with(|| Stream::new(http))
    }

    /// What its lane must be like, if it has to be begun again.
    pub(super) fn rely_on(&mut self, fence: &Fence) {
        self.fence = Some(fence.clone());
    }

    /// Undoes it, as far as the server has it.
    pub(super) fn abort(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.part();
        }
        self.drop_stream();
    }
}

/// How the end of a transaction was answered.
pub(super) enum Closing {
    Committed,
    NotCommitted(Setback),
}

/// What begins transaction `number`: the last step is ok exactly if all is well.
fn opening(guard: &Guard, number: i64) -> Vec<Step> {
    vec![
        // A parent may come later than its child; what points nowhere is looked for after the load.
        Step {
            condition: None,
            statement: plain("PRAGMA foreign_keys = OFF"),
        },
        Step {
            condition: Some(Condition::ok(0)),
            statement: plain("BEGIN IMMEDIATE"),
        },
        guard.mark(number, Condition::ok(1)),
        guard.check(number, Condition::ok(2)),
    ]
}

/// Steps that depend on each other, the first of them on the one before.
pub(super) fn chained(first: usize, statements: impl Iterator<Item = Bytes>) -> Vec<Step> {
    statements
        .enumerate()
        .map(|(number, statement)| Step {
            condition: Some(Condition::ok(first + number - 1).and(Condition::in_transaction())),
            statement,
        })
        .collect()
}

/// How many go into one request, at least one.
pub(super) fn count_within(lengths: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fitting = lengths.take_while(|length| {
        bytes += length;
        bytes <= REQUEST_BYTES
    });
    fitting.count().max(1)
}

/// A statement as it is sent.
pub(super) fn encoded(Statement { sql, values }: &Statement) -> Bytes {
    statement(
        &Bytes::copy_from_slice(sql.as_bytes()),
        values.iter().map(Into::into),
        false,
    )
}

/// A statement without values.
pub(super) fn plain(sql: &'static str) -> Bytes {
    statement(&Bytes::from_static(sql.as_bytes()), [], false)
}

pub(super) fn lost() -> Setback {
    Setback::Lost(lost_error())
}

fn lost_error() -> Error {
    let message = "the server has taken the transaction away";
    Error::new(ErrorKind::Unavailable, "turso.transaction_lost", message)
        .with_help("another program writes the database: let it end, or let it write in shorter transactions")
}
