//! One commit: the records of a transaction and its checkpoint by one request, guarded by the lane's document.
//!
//! The condition on that document makes every attempt safe: of all those that were sent, late ones too, one at most is carried out,
//! and none once somebody else has the lane. Where the records do not fit into one request, the others go ahead of the last one, each
//! request guarded likewise and noted in the lane, so that whoever goes on there does not write them again. A request that the service
//! refuses for its content is divided in the same way, until it is small enough or the record at fault is alone. Neighbours: `kept`
//! has the records, `portion` how many go at once, `lanes` the lanes, `lane_document` their form.

use gcloud_sdk::google::firestore::v1::Write;
use whimbrel_plugin_api::error::ErrorScope;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneState};
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, Result};

use super::digest::Digest;
use super::kept::Kept;
use super::lane_document::{self, Ahead, Change, Pages, Stored};
use super::lanes::{Lanes, Limits, no_time, without_cursor};
use super::portion::Portion;
use super::sending::{Sending, Way};
use crate::client::Attempts;
use crate::error::{Class, Fault, TOO_LARGE};

/// Octets of a request beside its writes: the name of the database, and room for what a proxy adds.
const REQUEST_OVERHEAD_BYTES: usize = 1_024;

/// What a request makes of the lane.
enum Step {
    /// So many records are there ahead of the checkpoint.
    Ahead(Ahead),
    /// The checkpoint is there, and what the lane then says of records that are sent before the next one.
    Last(Box<LaneState>, Sending),
}

/// How a request ended.
enum Sent {
    /// It is carried out; this is the lane now.
    Done(Box<Stored>),
    Not(Committed),
    /// The service takes something in it for wrong: it is the same each time, and certainly nothing was carried out.
    Refused(Error),
}

impl Lanes {
    /// Makes the records durable together with `checkpoint`. Those that the service does not take are taken out of `records`, which knows
    /// them then, and the answer is that nothing was committed: the checkpoint has to leave them out. `way`: how
    /// records were sent, if there are any.
    ///
    /// # Errors
    /// `firestore.checkpoint_too_large`, and what certainly kept it from being durable.
    pub(super) async fn commit(
        &mut self,
        checkpoint: &Checkpoint,
        records: &mut Kept,
        way: Option<Way>,
    ) -> Result<Committed> {
        let Some((mut stored, after)) = self.guard(checkpoint).await? else {
            return Ok(Committed::Fenced);
        };
        if records.is_misjudged(stored.is_doubtful()) {
            return Ok(Committed::NotCommitted);
        }
        let (mut start, mut digest) = done_already(&stored, records)?;
        let mut portion = Portion::whole(self.records_bytes_max);
        while !(records.has_refused() && (start == records.len() || portion.is_late())) {
            let sending = stored.sending_committed(way);
            let (whole, pages) = change_of(&stored, &sending, &after).whole(self.client.root())?;
            let (end, is_last) = self.end(records, start, (&stored, &whole), portion)?;
            let writes: Vec<Write> = records.writes(start..end).collect::<Result<_>>()?;
            let mut with_these = digest.clone();
            let (step, pages) = if is_last {
                (Step::Last(Box::new(after.clone()), sending), pages)
            } else {
                writes.iter().for_each(|write| with_these.add(write));
                let ahead = Ahead {
                    count: end as u64,
                    digest: with_these.octets(),
                };
                (Step::Ahead(ahead), stored.pages.clone())
            };
            let again = || records.writes(start..end).collect();
            let lane = stored.clone();
            match self
                .carry(lane, checkpoint, (&step, &pages), writes, again)
                .await?
            {
                Sent::Not(outcome) => return Ok(outcome),
                Sent::Refused(error) => {
                    self.known.insert(checkpoint.lane.clone(), stored.clone());
                    if !self.divide(&mut portion, (start, end, is_last), records, error)? {
                        break;
                    }
                }
                Sent::Done(now) => {
                    self.known.insert(checkpoint.lane.clone(), (*now).clone());
                    if is_last {
                        return Ok(Committed::Committed { seq: after.seq });
                    }
                    (stored, start, digest) = (*now, end, with_these);
                    portion.taken(!records.has_refused());
                }
            }
        }
        Ok(Committed::NotCommitted)
    }

    /// Up to which record the next request goes that begins at `start`, and whether it is the last one.
    fn end(
        &self,
        records: &Kept,
        start: usize,
        (stored, whole): (&Stored, &[Write]),
        portion: Portion,
    ) -> Result<(usize, bool)> {
        let fitting = |(writes_max, bytes_max): (usize, usize)| {
            let writes_max = writes_max.min(portion.count_max);
            records.fitting(start, writes_max, bytes_max.min(self.records_bytes_max))
        };
        if portion.takes_last && fitting(self.room(whole)?) == records.len() {
            return Ok((records.len(), true));
        }
        let noted =
            change_of(stored, &stored.sending, &stored.state).ahead(self.client.root(), &Ahead::default());
        // A document that is larger than a request should be travels alone.
        let end = fitting(self.room(&[noted])?).max(start + 1);
        Ok((end, false))
    }

    /// What follows a request that was refused: a smaller one, or the others without the record that was alone in it. False if so many
    /// were refused that the host is to know what was found.
    ///
    /// # Errors
    /// `error` if it is not about records.
    fn divide(
        &mut self,
        portion: &mut Portion,
        (start, end, is_last): (usize, usize, bool),
        records: &mut Kept,
        error: Error,
    ) -> Result<bool> {
        let count = end - start;
        portion.refused(count);
        if count == 0 {
            self.records_bytes_max = portion.bytes_max_before;
            return Err(of_transaction(error));
        }
        if error.code == TOO_LARGE {
            // What comes next is no smaller, unless it was one record that is too large whatever goes with it.
            self.records_bytes_max = match count {
                1 => portion.bytes_max_before,
                _ => records.bytes_of(start..end) / 2,
            };
        }
        if count == 1 {
            // What is refused beside a checkpoint may be the checkpoint.
            portion.takes_last = false;
            if !is_last {
                records.refuse(start, error).map_err(of_transaction)?;
            }
        }
        Ok(!portion.is_spent())
    }

    /// The lane as it is stored and as it is after `checkpoint`; `None` if it has another epoch or number.
    async fn guard(&mut self, checkpoint: &Checkpoint) -> Result<Option<(Stored, LaneState)>> {
        let known = self.known.get(&checkpoint.lane);
        if let Some(after) = known.and_then(|known| known.state.committed(checkpoint)) {
            return Ok(known.cloned().map(|known| (known, after)));
        }
        // Another session may have taken it over for this one.
        let now = self.look_again(&checkpoint.lane).await.map_err(of_transaction)?;
        Ok(now.and_then(|now| {
            let after = now.state.committed(checkpoint)?;
            Some((now, after))
        }))
    }

    /// What a request with these writes has room for.
    fn room(&self, writes: &[Write]) -> Result<(usize, usize)> {
        let bytes = Limits::bytes(writes) + REQUEST_OVERHEAD_BYTES;
        // The lane's document alone goes into every request.
        let writes_max = self.limits.writes_max.checked_sub(writes.len());
        let writes_max = writes_max.or((writes.len() == 1).then_some(0));
        match writes_max.zip(self.limits.bytes_max.checked_sub(bytes)) {
            Some(room) => Ok(room),
            None => Err(lane_document::too_large(format!(
                "a checkpoint takes {bytes} octets and {} documents, a request has room for {} and {}",
                writes.len(),
                self.limits.bytes_max,
                self.limits.writes_max
            ))
            .with_scope(ErrorScope::Transaction)),
        }
    }

    /// Sends one request until it is known what has become of it, or nothing more can be tried. `again` makes its records anew.
    async fn carry(
        &mut self,
        mut stored: Stored,
        checkpoint: &Checkpoint,
        (step, pages): (&Step, &Pages),
        records: Vec<Write>,
        again: impl Fn() -> Result<Vec<Write>>,
    ) -> Result<Sent> {
        let mut attempts = self.client.attempts();
        let mut is_doubtful = false;
        let mut first = Some(records);
        loop {
            let mut writes = self.lane_writes(&stored, step)?;
            writes.extend(match first.take() {
                Some(records) => records,
                None => again()?,
            });
            self.known.remove(&checkpoint.lane);
            let fault = match self.send(writes).await {
                Ok(times) => match times.first().copied().flatten() {
                    Some(update_time) => {
                        let now = Stored {
                            update_time,
                            ..stepped(stored, step, pages)
                        };
                        return Ok(Sent::Done(Box::new(now)));
                    }
                    None => Fault::from(no_time()),
                },
                Err(fault) => fault,
            };
            is_doubtful |= fault.is_doubtful();
            if fault.is_doubtful() || fault.is_unmet_condition() {
                let now = match self.look_again(&checkpoint.lane).await {
                    Ok(now) => now,
                    Err(_) if is_doubtful => return Ok(Sent::Not(Committed::Unknown)),
                    Err(error) => return Err(of_transaction(error)),
                };
                match judge(now, checkpoint, step, &stored) {
                    Found::Done(now) => return Ok(Sent::Done(now)),
                    Found::Fenced => return Ok(Sent::Not(Committed::Fenced)),
                    Found::Touched(now) => stored = *now,
                    Found::Unchanged if fault.is_unmet_condition() => {
                        // It was a record's condition; an earlier attempt may still be under way.
                        let outcome = match is_doubtful {
                            true => Committed::Unknown,
                            false => Committed::NotCommitted,
                        };
                        return Ok(Sent::Not(outcome));
                    }
                    Found::Unchanged => {}
                }
            }
            if let Some(sent) = self.wait(fault, &mut attempts, is_doubtful).await? {
                return Ok(sent);
            }
        }
    }

    /// Waits before the next attempt; answers how the request ended if there is none.
    async fn wait(&self, fault: Fault, attempts: &mut Attempts, is_doubtful: bool) -> Result<Option<Sent>> {
        let fault = match fault.is_unmet_condition() {
            true => fault.contended(),
            false => fault,
        };
        if fault.class == Class::RateLimited {
            self.client.writes().slow_down(fault.retry_after);
        }
        let is_permanent = fault.class == Class::Permanent;
        let Err(error) = attempts.after(fault).await else {
            return Ok(None);
        };
        if is_permanent && error.kind == ErrorKind::InvalidData && !is_doubtful {
            return Ok(Some(Sent::Refused(error)));
        }
        if is_doubtful {
            return Ok(Some(Sent::Not(Committed::Unknown)));
        }
        Err(of_transaction(error))
    }

    fn lane_writes(&self, stored: &Stored, step: &Step) -> Result<Vec<Write>> {
        let root = self.client.root();
        match step {
            Step::Ahead(ahead) => Ok(vec![
                change_of(stored, &stored.sending, &stored.state).ahead(root, ahead),
            ]),
            Step::Last(after, sending) => Ok(change_of(stored, sending, after).whole(root)?.0),
        }
    }
}

/// The lane goes from `before` to `after`.
pub(super) fn change_of<'a>(before: &'a Stored, sending: &'a Sending, after: &'a LaneState) -> Change<'a> {
    Change {
        before: Some(before),
        holder: &before.holder,
        begun_epoch: before.begun_epoch,
        sending,
        after,
    }
}

/// How many of the records an earlier attempt at this checkpoint has written, with their digest: those that it noted, if they are
/// the same.
fn done_already(stored: &Stored, records: &Kept) -> Result<(usize, Digest)> {
    let count = usize::try_from(stored.ahead.count).unwrap_or(usize::MAX);
    if (1..=records.len()).contains(&count) {
        let mut digest = Digest::default();
        for write in records.writes(0..count) {
            digest.add(&write?);
        }
        if digest.octets() == stored.ahead.digest {
            return Ok((count, digest));
        }
    }
    Ok((0, Digest::default()))
}

/// What a look at the lane says of a request that was not answered.
enum Found {
    /// It was carried out.
    Done(Box<Stored>),
    /// Somebody else has the lane.
    Fenced,
    /// It was not, and cannot be any more: the lane was written since, by ourselves.
    Touched(Box<Stored>),
    /// It was not, but may still be.
    Unchanged,
}

fn judge(now: Option<Stored>, checkpoint: &Checkpoint, step: &Step, before: &Stored) -> Found {
    let Some(now) = now.filter(|now| now.state.epoch == checkpoint.epoch) else {
        return Found::Fenced;
    };
    let is_done = match step {
        Step::Last(..) => now.state.seq == checkpoint.seq + 1,
        Step::Ahead(ahead) => now.state.seq == checkpoint.seq && now.ahead == *ahead,
    };
    if is_done {
        Found::Done(Box::new(now))
    } else if now.state.seq != checkpoint.seq {
        Found::Fenced
    } else if now.update_time != before.update_time {
        Found::Touched(Box::new(now))
    } else {
        Found::Unchanged
    }
}

/// The lane after a step.
fn stepped(stored: Stored, step: &Step, pages: &Pages) -> Stored {
    match step {
        Step::Ahead(ahead) => Stored {
            ahead: ahead.clone(),
            ..stored
        },
        Step::Last(after, sending) => without_cursor(Stored {
            state: LaneState {
                cursor: Cursor::start(),
                ..(**after).clone()
            },
            ahead: Ahead::default(),
            sending: sending.clone(),
            pages: pages.clone(),
            ..stored
        }),
    }
}

/// The transaction is certainly not durable. An error of the whole session would leave the host in doubt of that.
fn of_transaction(error: Error) -> Error {
    error.with_scope(ErrorScope::Transaction)
}
