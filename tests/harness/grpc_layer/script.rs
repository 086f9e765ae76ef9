//! What a test says: rules by method, each an answer for the next call that fits it.
//!
//! A rule is an [`Answer`] with how often it holds and what it is about. Neighbour: `call` carries answers out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gcloud_sdk::google::rpc::{RetryInfo, Status};
use gcloud_sdk::prost::Message as _;
use gcloud_sdk::prost_types::Any;
use gcloud_sdk::tonic::Code;

use super::messages::Request;
use super::name_of;

/// A call of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Documents that a query finds, as a stream.
    RunQuery,
    /// What a query counts.
    RunAggregationQuery,
    /// Documents by name, as a stream.
    BatchGetDocuments,
    /// A page of documents.
    ListDocuments,
    /// Ids of collections.
    ListCollectionIds,
    /// Cursors that divide a query.
    PartitionQuery,
    /// Writes that succeed or fail one by one.
    BatchWrite,
    /// Writes that succeed or fail together.
    Commit,
    /// Any other.
    Other,
}

impl Method {
    /// The method of a request's path, `/google.firestore.v1.Firestore/RunQuery`.
    pub(super) fn of_path(path: &str) -> Self {
        match path.rsplit('/').next() {
            Some("RunQuery") => Self::RunQuery,
            Some("RunAggregationQuery") => Self::RunAggregationQuery,
            Some("BatchGetDocuments") => Self::BatchGetDocuments,
            Some("ListDocuments") => Self::ListDocuments,
            Some("ListCollectionIds") => Self::ListCollectionIds,
            Some("PartitionQuery") => Self::PartitionQuery,
            Some("BatchWrite") => Self::BatchWrite,
            Some("Commit") => Self::Commit,
            _ => Self::Other,
        }
    }
}

/// A status that is not OK.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    code: Code,
    message: Option<String>,
    retry_after: Option<Duration>,
}

impl Failure {
    /// A status without details.
    pub fn of(code: Code) -> Self {
        Self {
            code,
            message: None,
            retry_after: None,
        }
    }

    /// With a message that means something to the client.
    pub fn saying(mut self, message: &str) -> Self {
        self.message = Some(message.to_owned());
        self
    }

    /// With `google.rpc.RetryInfo` in its details. Calls of the same method before that time are counted as early.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    pub(super) fn code(&self) -> i32 {
        self.code as i32
    }

    pub(super) fn code_name(&self) -> &'static str {
        name_of(self.code)
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(super) fn message(&self) -> String {
        let own = || format!("{} by the script of a test", self.code_name());
        self.message.clone().unwrap_or_else(own)
    }

    /// As a message, with its details.
    pub(super) fn status(&self) -> Status {
        let details = self.retry_after.map(|delay| Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: RetryInfo {
                retry_delay: delay.try_into().ok(),
            }
            .encode_to_vec(),
        });
        Status {
            code: self.code(),
            message: self.message(),
            details: details.into_iter().collect(),
        }
    }
}

/// How a call ends that is not answered.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// With a status, as an answer of its own or after what was already answered.
    Status(Failure),
    /// Its stream is reset; the connection lives.
    Reset,
    /// Its connection is closed, and all calls of it with it.
    Closed,
    /// Its connection says nothing more and stays open; new ones are taken.
    SilentConnection,
    /// Never; the connection and its other calls live.
    Silence,
    /// The layer stops, as if the emulator had ended; see `Layer::restart`.
    Stopped,
}

impl From<Code> for End {
    fn from(code: Code) -> Self {
        Self::Status(Failure::of(code))
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Status(failure)
    }
}

/// A write of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Which {
    /// By its place among the writes.
    Index(usize),
    /// By the path of its document, such as `users/ann`.
    Document(String),
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is forwarded, as without a rule.
    Forward,
    /// It is not forwarded.
    Refuse(End),
    /// It is forwarded and carried out, but nothing of the answer gets through.
    Lose(End),
    /// It is forwarded; so many documents of the answer get through.
    CutAfter(u64, End),
    /// `BatchWrite` only: these writes fail and are not forwarded, the others are. Fits requests that have one of them.
    FailWrites(Vec<(Which, Failure)>),
    /// It is forwarded after a while.
    Delay(Duration),
    /// `PartitionQuery` only: it is answered as the service does, with cursors on pages that are in no order.
    Divide,
}

impl Answer {
    /// A status in place of an answer.
    pub fn refuse(end: impl Into<End>) -> Self {
        Self::Refuse(end.into())
    }

    /// Carried out, and a status in place of the answer.
    pub fn lose(end: impl Into<End>) -> Self {
        Self::Lose(end.into())
    }

    /// A status after so many documents.
    pub fn cut_after(documents: u64, end: impl Into<End>) -> Self {
        Self::CutAfter(documents, end.into())
    }

    /// Chosen writes fail with one code.
    pub fn fail_writes(code: Code, which: impl IntoIterator<Item = Which>) -> Self {
        let failure = Failure::of(code);
        Self::FailWrites(which.into_iter().map(|which| (which, failure.clone())).collect())
    }

    /// For so many calls.
    pub fn times(self, times: u64) -> Rule {
        Rule::from(self).times(times)
    }

    /// For all calls from then on.
    pub fn always(self) -> Rule {
        Rule::from(self).always()
    }

    /// Only for calls about a collection or a document, by its id or path.
    pub fn about(self, path: &str) -> Rule {
        Rule::from(self).about(path)
    }
}

/// An answer, how often, and to what.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    answer: Answer,
    times: u64,
    about: Option<String>,
}

impl From<Answer> for Rule {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            times: 1,
            about: None,
        }
    }
}

impl Rule {
    /// For so many calls.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// For all calls from then on.
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// Only for calls about a collection or a document, by its id or path: `orders`, `users/ann`, `users/ann/orders`.
    pub fn about(mut self, path: &str) -> Self {
        self.about = Some(path.to_owned());
        self
    }

    fn fits(&self, request: &Request) -> bool {
        let is_meant = self.about.as_ref().is_none_or(|path| request.is_about(path));
        let has_writes = match &self.answer {
            Answer::FailWrites(failing) => failing.iter().any(|(which, _)| request.has(which)),
            _ => true,
        };
        is_meant && has_writes
    }
}

/// The rules that are left.
#[derive(Debug, Default)]
pub(super) struct Script {
    rules: BTreeMap<Method, VecDeque<Rule>>,
}

impl Script {
    pub(super) fn push(&mut self, method: Method, rule: Rule) {
        match rule.answer {
            Answer::FailWrites(_) => {
                assert_eq!(method, Method::BatchWrite, "only its writes fail one by one")
            }
            Answer::Divide => assert_eq!(method, Method::PartitionQuery, "only it divides"),
            _ => {}
        }
        self.rules.entry(method).or_default().push_back(rule);
    }

    pub(super) fn left(&self) -> u64 {
        let times = self.rules.values().flatten().map(|rule| match rule.times {
            u64::MAX => 1,
            times => times,
        });
        times.sum()
    }

    /// Uses up the first rule that fits.
    pub(super) fn answer(&mut self, request: &Request) -> Answer {
        let Some(rules) = self.rules.get_mut(&request.method) else {
            return Answer::Forward;
        };
        let Some(index) = rules.iter().position(|rule| rule.fits(request)) else {
            return Answer::Forward;
        };
        let rule = &mut rules[index];
        let answer = rule.answer.clone();
        if rule.times != u64::MAX {
            rule.times = rule.times.saturating_sub(1);
        }
        if rule.times == 0 {
            rules.remove(index);
        }
        answer
    }
}
