//! One request, from its first attempt until it is known of each write what has become of it.
//!
//! What may pass is tried again, and only that; a request that is refused as a whole is divided until the write at fault is alone.
//! An attempt may have been carried out although no answer came: replacing and merging may be repeated, and where a document was
//! to be made and is then there, its content says whether it is ours. Neighbours: `policy` knows what a refusal means, `stored`
//! decides by what is there, `flight` knows how many requests are under way.

use gcloud_sdk::google::firestore::v1::{BatchWriteRequest, CommitRequest, Write};
use gcloud_sdk::google::rpc;
use gcloud_sdk::prost::Message;
use gcloud_sdk::tonic::{Code, Status};
use tokio::sync::watch;
use whimbrel_plugin_api::{Error, Result};

use super::judged::Judged;
use super::policy::Meaning;
use super::request::{Encoded, Item, Request};
use crate::client::{Attempts, Client};
use crate::config::WriteRequest;
use crate::error::{Class, Fault};

/// Sends requests.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) mode: WriteRequest,
    /// Whether nothing further is to be sent.
    pub(super) stop: watch::Receiver<bool>,
}

/// Writes that go together.
struct Part {
    items: Vec<Item>,
    /// Their writes, at the first attempt.
    writes: Option<Vec<Write>>,
}

impl Part {
    fn again(items: Vec<Item>) -> Self {
        Self { items, writes: None }
    }
}

/// One request under way.
pub(super) struct Carrier {
    pub(super) sender: Sender,
    pub(super) encoded: Encoded,
    pub(super) judged: Judged,
    attempts: Attempts,
}

impl Sender {
    /// Carries a request out. What is known of its writes is answered whatever the outcome.
    pub(super) async fn send(self, request: Request) -> (Judged, Result<()>) {
        let mut carrier = Carrier {
            attempts: self.client.attempts(),
            sender: self,
            encoded: request.encoded,
            judged: Judged::default(),
        };
        let mut parts = vec![Part {
            items: request.items,
            writes: Some(request.writes),
        }];
        while let Some(part) = parts.pop() {
            match carrier.attempt(part).await {
                Ok(further) => parts.extend(further.into_iter().rev()),
                Err(error) => return (carrier.judged, Err(error)),
            }
        }
        (carrier.judged, Ok(()))
    }

    /// Waits for `work`, but not longer than until nothing further is to be sent.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            // Whoever could say so is gone: it will not be said any more.
            _ = stop.wait_for(|is_stopped| *is_stopped) => Err(Error::cancelled()),
            outcome = work => outcome,
        }
    }

    /// One attempt. Answers for each write why it was refused, if it was.
    async fn carry(&self, writes: Vec<Write>) -> Result<Vec<Option<Fault>>, Fault> {
        let count = writes.len();
        let database = self.client.root().database().to_owned();
        match self.mode {
            WriteRequest::Commit => {
                let request = CommitRequest {
                    database,
                    writes,
                    ..CommitRequest::default()
                };
                self.client.commit(request).await?;
                Ok(vec![None; count])
            }
            WriteRequest::BatchWrite => {
                let request = BatchWriteRequest {
                    database,
                    writes,
                    ..BatchWriteRequest::default()
                };
                let answer = self.client.batch_write(request).await?;
                if answer.status.len() != count {
                    return Err(
                        Status::internal("the answer does not say of each write what became of it").into(),
                    );
                }
                Ok(answer.status.into_iter().map(fault_of).collect())
            }
        }
    }
}

/// The fault of one write of a batch.
fn fault_of(status: rpc::Status) -> Option<Fault> {
    let code = Code::from(status.code);
    if code == Code::Ok {
        return None;
    }
    let details = status.encode_to_vec();
    Some(Status::with_details(code, status.message, details.into()).into())
}

impl Carrier {
    /// Sends a part once. Answers what is left of it.
    async fn attempt(&mut self, part: Part) -> Result<Vec<Part>> {
        let Some((mut part, writes)) = self.writes_of(part).await? else {
            return Ok(Vec::new());
        };
        let count = u32::try_from(writes.len()).unwrap_or(u32::MAX);
        let pace = self.sender.client.writes();
        let paced = async {
            pace.take(count).await;
            Ok(())
        };
        self.sender.unless_stopped(paced).await?;
        self.judged.sent += u64::from(count);
        self.judged.request_count += 1;
        match self.sender.carry(writes).await {
            Ok(faults) => self.judge_each(part, faults).await,
            Err(fault) if fault.class != Class::Permanent => {
                part.items.iter_mut().for_each(|item| item.is_doubtful = true);
                self.wait(fault).await?;
                Ok(vec![Part::again(part.items)])
            }
            Err(fault) if part.items.len() == 1 => self.judge_each(part, vec![Some(fault)]).await,
            Err(fault) => self.divide(part, fault).await,
        }
    }

    /// The writes of a part, each with the condition that its policy asks for now; those that need not be sent are judged.
    async fn writes_of(&mut self, mut part: Part) -> Result<Option<(Part, Vec<Write>)>> {
        let mut writes = match part.writes.take() {
            Some(writes) => writes,
            None => {
                let writes = part.items.iter().map(|item| self.encoded.write(item));
                writes.collect::<Result<_>>()?
            }
        };
        if part.items.iter().any(|item| item.policy.compares_versions()) {
            (part.items, writes) = self.compare_versions(part.items, writes).await?;
        }
        Ok((!writes.is_empty()).then_some((part, writes)))
    }

    /// Takes in what the service says of each write. Answers those that are to be sent again.
    async fn judge_each(&mut self, part: Part, faults: Vec<Option<Fault>>) -> Result<Vec<Part>> {
        let (mut again, mut doubtful) = (Vec::new(), Vec::new());
        let (mut worst, mut fatal): (Option<Fault>, Option<Fault>) = (None, None);
        let before = self.judged.accepted;
        for (mut item, fault) in part.items.into_iter().zip(faults) {
            let Some(fault) = fault else {
                self.judged.accepted += 1;
                continue;
            };
            match item.policy.meaning(&fault, item.is_doubtful) {
                Meaning::Rejected(reason) => self.judged.reject(&item, reason),
                Meaning::Skipped => self.judged.skip(),
                Meaning::Doubtful => doubtful.push(item),
                Meaning::Changed => {
                    again.push(item);
                    worst = worst.or(Some(fault.contended()));
                }
                Meaning::Again => {
                    item.is_doubtful = true;
                    again.push(item);
                    let is_worse = fault.class == Class::RateLimited || worst.is_none();
                    worst = if is_worse { Some(fault) } else { worst };
                }
                Meaning::Fatal => fatal = Some(fault),
            }
        }
        let done = u32::try_from(self.judged.accepted - before).unwrap_or(u32::MAX);
        if done > 0 {
            self.sender.client.writes().succeeded(done);
            self.attempts.reset();
        }
        if let Some(fault) = fatal {
            return Err(fault.into());
        }
        if !doubtful.is_empty() {
            again.extend(self.settle(doubtful).await?);
        }
        if again.is_empty() {
            return Ok(Vec::new());
        }
        self.wait(worst.unwrap_or_else(|| Fault::from(Status::aborted("a document came and went"))))
            .await?;
        Ok(vec![Part::again(again)])
    }

    /// Divides a part that was refused as a whole.
    async fn divide(&mut self, part: Part, fault: Fault) -> Result<Vec<Part>> {
        let may_be_at_fault = |item: &Item| item.policy.may_be_at_fault(&fault);
        if !part.items.iter().any(may_be_at_fault) {
            return Err(fault.into());
        }
        let mut items = part.items;
        if fault.status.code() == Code::AlreadyExists {
            let count = items.len();
            items = self.leave_existing(items).await?;
            if items.len() < count {
                return Ok(if items.is_empty() {
                    Vec::new()
                } else {
                    vec![Part::again(items)]
                });
            }
        }
        let second = items.split_off(items.len() / 2);
        Ok(vec![Part::again(items), Part::again(second)])
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The fault, if there is none.
    async fn wait(&mut self, fault: Fault) -> Result<()> {
        if fault.class == Class::RateLimited {
            self.sender.client.writes().slow_down(fault.retry_after);
        }
        let Self { sender, attempts, .. } = self;
        sender.unless_stopped(attempts.after(fault)).await
    }
}
