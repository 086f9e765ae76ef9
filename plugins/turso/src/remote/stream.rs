//! One conversation with the server: requests in their order, held together by the server's batons.
//!
//! A stream that has lost a request is not used again: what it would do is no longer known. The server forgets a stream that
//! is silent for ten seconds, and its transaction with it.

use prost::Message as _;
use prost::bytes::Bytes;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::fault::Failure;
use super::hrana::{
    BatchRequest, BatchResult, Condition, Empty, Outcome, PipelineRequest, PipelineResponse, Request,
    Response, Row, SqlError, Step, Steps, StreamRequest,
};
use super::http::Http;

/// Where requests go.
const PIPELINE: &str = "/v3-protobuf/pipeline";

/// What a request of several steps has brought.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) steps: BatchResult,
    /// Whether no transaction is open now.
    pub(super) is_autocommit: bool,
    /// Octets of the answer.
    pub(super) bytes: usize,
}

impl Answer {
    /// Why the step was not carried out; `None` if it was, or was left out.
    pub(super) fn error(&self, step: usize) -> Option<&SqlError> {
        self.steps.errors.get(&u32::try_from(step).ok()?)
    }

    /// The rows that the step has brought; `None` if it was not carried out.
    pub(super) fn rows(&self, step: usize) -> Option<&[Row]> {
        let result = self.steps.results.get(&u32::try_from(step).ok()?)?;
        Some(&result.rows)
    }

    /// How many rows the step has changed; `None` if it was not carried out.
    pub(super) fn changed(&self, step: usize) -> Option<u64> {
        let result = self.steps.results.get(&u32::try_from(step).ok()?)?;
        Some(result.affected_row_count)
    }
}

/// A conversation.
pub(super) struct Stream {
    http: Http,
    baton: Option<String>,
    base: String,
    is_usable: bool,
}

impl Stream {
    /// A conversation that begins with the first request.
    pub(super) fn new(http: &Http) -> Self {
        Self {
            http: http.clone(),
            baton: None,
            base: http.base().to_owned(),
            is_usable: true,
        }
    }

    /// Whether the server still knows the conversation, as far as can be known here.
    pub(super) fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// Carries out the steps, each under its condition, and says how the conversation stands.
    pub(super) fn batch(&mut self, steps: Vec<Step>) -> Result<Answer, Failure> {
        self.exchange(steps, false, false)
    }

    /// As [`Self::batch`], and ends the conversation.
    pub(super) fn last_batch(&mut self, steps: Vec<Step>) -> Result<Answer, Failure> {
        self.exchange(steps, true, false)
    }

    /// Undoes what is open and ends the conversation, also after the host has cancelled. That the server hears of it is
    /// not certain; it forgets the conversation in any case.
    pub(super) fn part(&mut self) {
        if self.is_usable && self.baton.is_some() {
            let undo = Step {
                condition: Some(Condition::in_transaction()),
                statement: super::hrana::statement(&Bytes::from_static(b"ROLLBACK"), [], false),
            };
            drop(self.exchange(vec![undo], true, true));
        }
        self.is_usable = false;
    }

    fn exchange(&mut self, steps: Vec<Step>, is_last: bool, is_parting: bool) -> Result<Answer, Failure> {
        if !self.is_usable {
            let error = Error::new(
                ErrorKind::Unavailable,
                "turso.stream_lost",
                "the conversation with the server is over",
            );
            return Err(Failure::before(error));
        }
        let batch = BatchRequest {
            batch: Some(Steps { steps }),
        };
        let mut requests = vec![Request::Batch(batch), Request::GetAutocommit(Empty {})];
        requests.extend(is_last.then_some(Request::Close(Empty {})));
        let wrapped = requests.into_iter().map(|request| StreamRequest {
            request: Some(request),
        });
        let body = PipelineRequest {
            baton: self.baton.take(),
            requests: wrapped.collect(),
        };
        let body = body.encode_to_vec();
        // Until the answer says otherwise.
        self.is_usable = false;
        let answer = match is_parting {
            true => self.http.post_parting(&self.base, PIPELINE, body)?,
            false => self.http.post(&self.base, PIPELINE, body)?,
        };
        let bytes = answer.len();
        let unreadable = || Failure::unreadable(self.http.server_name());
        let answer = PipelineResponse::decode(answer).map_err(|_| unreadable())?;
        self.is_usable = !is_last && answer.baton.is_some();
        self.baton = answer.baton;
        if let Some(base) = answer.base_url
            && (base.starts_with("https://") || !self.base.starts_with("https://"))
        {
            self.base = base.trim_end_matches('/').to_owned();
        }
        let mut outcomes = answer.results.into_iter().map(|result| result.outcome);
        let steps = match outcomes.next().flatten() {
            Some(Outcome::Ok(response)) => match response.response {
                Some(Response::Batch(batch)) => batch.result.ok_or_else(unreadable)?,
                _ => return Err(unreadable()),
            },
            Some(Outcome::Error(error)) => {
                return Err(Failure::unknown(super::fault::sql_error(
                    &error,
                    "carry out a request",
                )));
            }
            None => return Err(unreadable()),
        };
        let is_autocommit = match outcomes.next().flatten() {
            Some(Outcome::Ok(response)) => {
                matches!(response.response, Some(Response::GetAutocommit(answer)) if answer.is_autocommit)
            }
            _ => return Err(unreadable()),
        };
        Ok(Answer {
            steps,
            is_autocommit,
            bytes,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.part();
    }
}
