//! Holds a certificate against a sink that was read again: its digests must be those of the certificate.
//!
//! Only the sink's side counts: the source may long be another one. Not here: the reading (`cli::certificate`).

use serde::Serialize;

use super::body::{Body, CollectionSection};
use super::check::{Check, CheckState};
use crate::events::{CollectionDigests, Mismatch, MismatchKind, RunSummary, VerificationResult};
use crate::report::figures::{counted, printable};

/// What a sink came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgainstSink {
    /// The collections of the certificate, in their order.
    pub collections: Vec<SinkCollection>,
}

/// One collection of the sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SinkCollection {
    /// In the sink.
    pub collection: String,
    /// How it ended.
    pub state: CheckState,
    /// What was found, in one sentence.
    pub message: String,
    /// Records that the certificate counts.
    pub certified_count: u64,
    /// Records there now, if they could be read.
    pub record_count: Option<u64>,
}

impl AgainstSink {
    /// All of it as one check.
    pub fn check(&self) -> Check {
        let state = self.collections.iter().map(|collection| collection.state).max();
        let state = state.unwrap_or(CheckState::Unchecked);
        let count = |state| {
            let all = self.collections.iter();
            all.filter(|collection| collection.state == state).count() as u64
        };
        let message = match state {
            CheckState::Held => "the sink holds what is certified".to_owned(),
            CheckState::Failed => format!(
                "the sink is not as certified in {}",
                counted(count(CheckState::Failed), "collection")
            ),
            _ => format!(
                "{} of the sink cannot be compared",
                counted(count(CheckState::Unchecked), "collection")
            ),
        };
        Check::new("sink", state, message)
    }
}

/// Compares `body` with what a verification has read back just now.
pub fn against_sink(body: &Body, summary: &RunSummary) -> AgainstSink {
    let collections = body
        .collections
        .iter()
        .map(|section| collection(section, of_section(section, summary)));
    AgainstSink {
        collections: collections.collect(),
    }
}

/// Whether some collection was read by other fields than those of the certificate.
pub fn has_other_fields(body: &Body, summary: &RunSummary) -> bool {
    let is_other = |section: &CollectionSection| {
        let now = of_section(section, summary).and_then(|now| now.digests.as_ref());
        now.is_some_and(|now| !is_of_fields(section, now))
    };
    body.collections.iter().any(is_other)
}

fn of_section<'a>(section: &CollectionSection, summary: &'a RunSummary) -> Option<&'a VerificationResult> {
    let mut results = summary.verification.iter();
    results.find(|result| result.source == section.source && result.sink == section.sink)
}

fn is_of_fields(section: &CollectionSection, digests: &CollectionDigests) -> bool {
    (&digests.fields, &digests.key) == (&section.fields, &section.key)
}

fn collection(section: &CollectionSection, now: Option<&VerificationResult>) -> SinkCollection {
    let certified = section.digests.read_back.as_ref();
    let answer = |state, message: &str, record_count| SinkCollection {
        collection: section.sink.clone(),
        state,
        message: message.to_owned(),
        certified_count: certified.map_or(0, |place| place.record_count),
        record_count,
    };
    let unchecked = |message: &str| answer(CheckState::Unchecked, message, None);
    let failed = |message: &str, record_count| answer(CheckState::Failed, message, record_count);
    let Some(certified) = certified else {
        return unchecked("the certificate has no digest of the sink");
    };
    let Some(now) = now else {
        return unchecked("the job does not move it any more");
    };
    // Of a schema that differs nothing shows in digests: a lost field whose values were all null is as good as there. Those of a
    // schema are the first in the list, so that none is cut off.
    let lost = now
        .mismatches
        .iter()
        .find(|mismatch| mismatch.kind == MismatchKind::Schema);
    let Some(digests) = &now.digests else {
        return match lost {
            Some(lost) => failed(&of_schema(lost), None),
            None => unchecked("it was not read record by record"),
        };
    };
    let Some(place) = &digests.read_back else {
        return unchecked("it was not read back");
    };
    if !is_of_fields(section, digests) {
        return answer(
            CheckState::Unchecked,
            "its records are made of other fields now",
            Some(place.record_count),
        );
    }
    let record_count = Some(place.record_count.saturating_add(now.sink_unreadable_count));
    if now.sink_unreadable_count > 0 {
        let records = counted(now.sink_unreadable_count, "record");
        let message = format!("{records} cannot be read as what the certificate is of");
        return failed(&message, record_count);
    }
    if let Some(lost) = lost {
        return failed(&of_schema(lost), record_count);
    }
    let is_same = (&place.root, &place.sum, &place.xor, place.record_count)
        == (
            &certified.root,
            &certified.sum,
            &certified.xor,
            certified.record_count,
        );
    if is_same {
        answer(CheckState::Held, "as certified", record_count)
    } else {
        failed("its records are not those of the certificate", record_count)
    }
}

/// What differs of a schema, with the fields that it is about.
fn of_schema(mismatch: &Mismatch) -> String {
    let fields = mismatch.fields.iter().map(|field| format!("`{field}`"));
    let unnamed: Vec<String> = fields.filter(|field| !mismatch.record.contains(field)).collect();
    let words = match unnamed.is_empty() {
        true => mismatch.record.clone(),
        false => format!("{}: {}", mismatch.record, unnamed.join(", ")),
    };
    printable(&words)
}

#[cfg(test)]
mod tests;
