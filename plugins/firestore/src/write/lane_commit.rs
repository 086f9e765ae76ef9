//! One commit: the records of a transaction and its checkpoint by one request, guarded by the lane's document.
//!
//! The condition on that document makes every attempt safe: of all those that were sent, late ones too, one at most is carried out,
//! and none once somebody else has the lane. Where the records do not fit into one request, the others go ahead of the last one, each
//! request guarded likewise and noted in the lane, so that whoever goes on there does not write them again. Neighbours: `kept`
//! has the records, `lanes` the lanes, `lane_document` their form.

use gcloud_sdk::google::firestore::v1::Write;
use whimbrel_plugin_api::error::ErrorScope;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneState};
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, Result};

use super::kept::{Digest, Kept};
use super::lane_document::{self, Ahead, Change, Pages, Stored};
use super::lanes::{Lanes, Limits, no_time, without_cursor};
use crate::client::Attempts;
use crate::error::{Class, Fault};

/// Octets of a request beside its writes: the name of the database, and room for what a proxy adds.
const REQUEST_OVERHEAD_BYTES: usize = 1_024;

/// How a commit ended.
#[derive(Debug)]
pub(super) enum Ended {
    As(Committed),
    /// The service takes something in it for wrong: it is the same each time, and certainly nothing was carried out.
    Refused(Error),
}

/// What a request makes of the lane.
enum Step {
    /// So many records are there ahead of the checkpoint.
    Ahead(Ahead),
    /// The checkpoint is there.
    Last(Box<LaneState>),
}

/// How a request ended.
enum Sent {
    /// It is carried out; this is the lane now.
    Done(Box<Stored>),
    Not(Ended),
}

impl Lanes {
    /// Makes the records durable together with `checkpoint`.
    ///
    /// # Errors
    /// `firestore.checkpoint_too_large`, and what certainly kept it from being durable.
    pub(super) async fn commit(&mut self, checkpoint: &Checkpoint, records: &Kept) -> Result<Ended> {
        let Some((mut stored, after)) = self.guard(checkpoint).await? else {
            return Ok(Ended::As(Committed::Fenced));
        };
        let (mut start, mut digest) = done_already(&stored, records)?;
        loop {
            let change = Change {
                before: Some(&stored),
                holder: &stored.holder,
                begun_epoch: stored.begun_epoch,
                after: &after,
            };
            let (whole, pages) = change.whole(self.client.root())?;
            let (writes_max, bytes_max) = self.room(&whole)?;
            let mut end = records.fitting(start, writes_max, bytes_max);
            let is_last = end == records.len();
            if !is_last {
                let (writes_max, bytes_max) =
                    self.room(&[change.ahead(self.client.root(), &Ahead::default())])?;
                // A document that is larger than a request should be travels alone.
                end = records.fitting(start, writes_max, bytes_max).max(start + 1);
            }
            let writes: Vec<Write> = records.writes(start..end).collect::<Result<_>>()?;
            let (step, pages) = if is_last {
                (Step::Last(Box::new(after.clone())), pages)
            } else {
                writes.iter().for_each(|write| digest.add(write));
                let ahead = Ahead {
                    count: end as u64,
                    digest: digest.octets(),
                };
                (Step::Ahead(ahead), stored.pages.clone())
            };
            let again = || records.writes(start..end).collect();
            match self
                .carry(stored, checkpoint, (&step, &pages), writes, again)
                .await?
            {
                Sent::Not(ended) => return Ok(ended),
                Sent::Done(now) => {
                    self.known.insert(checkpoint.lane.clone(), (*now).clone());
                    if is_last {
                        return Ok(Ended::As(Committed::Committed { seq: after.seq }));
                    }
                    stored = *now;
                    start = end;
                }
            }
        }
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
                    Err(_) if is_doubtful => return Ok(Sent::Not(Ended::As(Committed::Unknown))),
                    Err(error) => return Err(of_transaction(error)),
                };
                match judge(now, checkpoint, step, &stored) {
                    Found::Done(now) => return Ok(Sent::Done(now)),
                    Found::Fenced => return Ok(Sent::Not(Ended::As(Committed::Fenced))),
                    Found::Touched(now) => stored = *now,
                    Found::Unchanged if fault.is_unmet_condition() => {
                        // It was a record's condition; an earlier attempt may still be under way.
                        let outcome = match is_doubtful {
                            true => Committed::Unknown,
                            false => Committed::NotCommitted,
                        };
                        return Ok(Sent::Not(Ended::As(outcome)));
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
        if is_permanent && error.kind == ErrorKind::InvalidData {
            // What is wrong with it was wrong before, so that no earlier attempt was carried out either.
            return Ok(Some(Sent::Not(Ended::Refused(error))));
        }
        if is_doubtful {
            return Ok(Some(Sent::Not(Ended::As(Committed::Unknown))));
        }
        Err(of_transaction(error))
    }

    fn lane_writes(&self, stored: &Stored, step: &Step) -> Result<Vec<Write>> {
        let after = match step {
            Step::Ahead(_) => &stored.state,
            Step::Last(after) => after,
        };
        let change = Change {
            before: Some(stored),
            holder: &stored.holder,
            begun_epoch: stored.begun_epoch,
            after,
        };
        match step {
            Step::Ahead(ahead) => Ok(vec![change.ahead(self.client.root(), ahead)]),
            Step::Last(_) => Ok(change.whole(self.client.root())?.0),
        }
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
        Step::Last(_) => now.state.seq == checkpoint.seq + 1,
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
        Step::Last(after) => without_cursor(Stored {
            state: LaneState {
                cursor: Cursor::start(),
                ..(**after).clone()
            },
            ahead: Ahead::default(),
            pages: pages.clone(),
            ..stored
        }),
    }
}

/// The transaction is certainly not durable. An error of the whole session would leave the host in doubt of that.
fn of_transaction(error: Error) -> Error {
    error.with_scope(ErrorScope::Transaction)
}
