//! Compares one collection of both sides and lists the differences: at `standard` here, at `basic` in `basic`.
//! Neighbours: `side` reads, `canonical` and `losses` make values comparable.

use std::collections::HashSet;
use std::time::Instant;

use whimbrel_plugin_api::source::ReadRequest;
use whimbrel_plugin_api::{Collection, ErrorKind, Field};

use super::basic::{self, count};
use super::left_out::LeftOut;
use super::side::{self, Choice, DISTINCT_KEYS_MAX, Digest, Method, RecordDigest, Side};
use crate::config::{TransformJob, VerificationLevel};
use crate::control::Stop;
use crate::events::{Failure, Mismatch, MismatchKind, VerificationResult};
use crate::loader::observe::OpenedSource;
use crate::transform::Chain;
use crate::transform::Transforms;

/// Collections up to this size are compared record by record; above, so many records are sampled.
pub const EVERY_RECORD_MAX: u64 = 10_000;
/// Differences that a result lists.
const MISMATCHES_SHOWN_MAX: usize = 50;

/// One collection on both sides.
pub struct Comparable<'a> {
    /// As the source has it.
    pub source: &'a Collection,
    /// As the sink was asked to hold it: its name, key, and all declared losses.
    pub sink: &'a Collection,
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// What changes the source's records before they are compared.
    pub jobs: &'a [TransformJob],
    /// Only so many records of the source were moved.
    pub sample: Option<u64>,
    /// How many records of the source a copy has just read, if one has.
    pub counted: Option<u64>,
    /// Records that the sink has refused.
    pub left_out: &'a LeftOut,
    /// Whether a field that only the sink's record has is a difference: not where copies are merged into records of the sink.
    pub names_others: bool,
}

impl Comparable<'_> {
    /// What the source's records are sent through; none if they are compared as they are.
    pub(super) fn chain(&self) -> Result<Option<Chain>, Failure> {
        if self.jobs.is_empty() {
            return Ok(None);
        }
        let mut chain = Chain::open(self.transforms, self.jobs)?;
        chain.plan(self.source)?;
        Ok(Some(chain))
    }
}

/// Says how the sink holds a collection that has these fields as well, which turned up after it was planned.
pub type Follow<'a> = dyn FnMut(Vec<Field>) -> Result<Collection, Failure> + 'a;

/// Compares a collection at `level`, which is not `none`. `follow` is asked if the source has fields that are not in the
/// plan: they are compared as well.
///
/// # Errors
/// What either side brings: then it could not be compared. A collection that the sink lacks is a difference.
pub fn compare(
    source: &mut OpenedSource,
    sink: &mut OpenedSource,
    both: &Comparable<'_>,
    level: VerificationLevel,
    follow: &mut Follow<'_>,
    stop: &Stop,
    progress: &mut dyn FnMut(u64),
) -> Result<VerificationResult, Failure> {
    let begun = Instant::now();
    let mut result = VerificationResult::begun(&both.source.name, &both.sink.name, level);
    let outcome = match level {
        VerificationLevel::Basic => basic::compare(source, sink, both, follow, &mut result, stop, progress),
        _ => records_of_both(source, sink, both, follow, &mut result, stop, progress),
    };
    match outcome {
        Ok(()) => {}
        Err(failure) if is_missing_in_sink(&failure) => {
            note(
                &mut result,
                MismatchKind::Schema,
                format!("the sink has no collection `{}`", both.sink.name),
                Vec::new(),
            );
        }
        Err(failure) => return Err(failure),
    }
    result.conclude();
    result.seconds = begun.elapsed().as_secs_f64();
    Ok(result)
}

fn is_missing_in_sink(failure: &Failure) -> bool {
    failure.error.kind == ErrorKind::NotFound
        && failure.role == Some(whimbrel_plugin_api::manifest::Role::Sink)
}

pub(super) fn note(result: &mut VerificationResult, kind: MismatchKind, record: String, fields: Vec<String>) {
    result.mismatch_count += 1;
    if result.mismatches.len() < MISMATCHES_SHOWN_MAX {
        result.mismatches.push(Mismatch {
            kind,
            record,
            fields,
            values: Vec::new(),
        });
    }
}

/// What is asked of both sides.
pub(super) fn requests(both: &Comparable<'_>) -> (ReadRequest, ReadRequest) {
    let source = ReadRequest {
        limit: both.sample,
        ..ReadRequest::all(&both.source.name)
    };
    let sink = ReadRequest {
        expected: Some(both.sink.schema.clone()),
        names_others: both.names_others,
        ..ReadRequest::all(&both.sink.name)
    };
    (source, sink)
}

/// How the records of both sides are turned into digests.
pub(super) fn method(both: &Comparable<'_>, choice: Choice) -> Method {
    Method {
        schema: both.sink.schema.clone(),
        key: both.sink.key.clone(),
        losses: both.sink.losses.clone(),
        choice,
        left_out: both.left_out.clone(),
    }
}

fn records_of_both(
    source: &mut OpenedSource,
    sink: &mut OpenedSource,
    both: &Comparable<'_>,
    follow: &mut Follow<'_>,
    result: &mut VerificationResult,
    stop: &Stop,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let (source_request, mut sink_request) = requests(both);
    // How much it is decides how much of it is compared. To count may cost as much as reading.
    let expected = match (both.sample, both.counted, both.source.estimate.record_count) {
        (Some(sample), _, _) => sample,
        (None, Some(count), _) => count,
        (None, None, Some(count)) if both.source.estimate.exact => count,
        _ => count(
            source,
            &source_request,
            &method(both, Choice::Nothing),
            stop,
            progress,
        )?,
    };
    let one_in = if expected > EVERY_RECORD_MAX {
        expected.div_ceil(EVERY_RECORD_MAX)
    } else {
        1
    };
    let mut method = method(both, Choice::OneIn(one_in));
    let mut theirs = side::read(source, &source_request, both.chain()?, &method, stop, progress)?;
    if !theirs.new_fields.is_empty() {
        let grown = follow(std::mem::take(&mut theirs.new_fields))?;
        method.schema = grown.schema.clone();
        method.losses = grown.losses;
        sink_request.expected = Some(grown.schema);
        theirs = side::read(source, &source_request, both.chain()?, &method, stop, progress)?;
    }
    result.source_count = theirs.record_count + theirs.left_out_count;
    result.left_out_count = theirs.left_out_count;
    result.note_source_unreadable(
        theirs.unreadable.len() as u64 + theirs.refused_count,
        both.left_out.unseen_count(),
    );
    if method.key.is_empty() {
        // Those that are alike and were not refused are there.
        method.left_out = LeftOut::default();
    }
    let mut ours = side::read(sink, &sink_request, None, &method, stop, progress)?;
    if both.sample.is_some() {
        // What was there before, or came from elsewhere, is not part of the sample.
        ours.keep_only(&theirs);
    }
    result.sink_count = ours.record_count + ours.left_out_count;
    result.every_record = one_in == 1;
    result.duplicate_key_count = theirs.duplicate_key_count;
    result.compared_count = theirs.records.len() as u64;
    compare_sides(&theirs, &ours, &method, result);
    Ok(())
}

fn compare_sides(source: &Side, sink: &Side, method: &Method, result: &mut VerificationResult) {
    match judge_counts(source, sink) {
        Counted::Alike => {}
        Counted::Open => result.is_count_open = true,
        Counted::Unlike(text) => note(result, MismatchKind::Count, text, Vec::new()),
    }
    if !sink.missing_fields.is_empty() {
        note(
            result,
            MismatchKind::Schema,
            "the sink lacks fields".to_owned(),
            sink.missing_fields.clone(),
        );
    }
    for label in &sink.unreadable {
        note(result, MismatchKind::Unreadable, label.clone(), Vec::new());
    }
    for (key, record) in sorted(source) {
        match sink.records.get(key) {
            None => note(result, MismatchKind::Missing, record.label.clone(), Vec::new()),
            Some(stored) if stored.copies != record.copies => {
                let text = format!(
                    "{} ({} times expected, {} found)",
                    record.label, record.copies, stored.copies
                );
                note(result, MismatchKind::Count, text, Vec::new());
            }
            Some(stored) => {
                let differing = differing_fields(record, stored, method);
                if !differing.is_empty() {
                    note(result, MismatchKind::Different, record.label.clone(), differing);
                }
            }
        }
    }
    let known: HashSet<&Digest> = source.records.keys().collect();
    for (key, record) in sorted(sink) {
        if !known.contains(key) {
            note(result, MismatchKind::Extra, record.label.clone(), Vec::new());
        }
    }
}

/// What the numbers of records say.
#[derive(Debug, PartialEq)]
enum Counted {
    Alike,
    /// Nothing: the source has records that share a key, and not all of them were counted.
    Open,
    /// Why they differ.
    Unlike(String),
}

/// Of several records with one key the sink has the last one, or all of them, as a sink that only appends.
fn judge_counts(source: &Side, sink: &Side) -> Counted {
    let wanted = source.record_count - source.duplicate_key_count;
    let found = sink.record_count + sink.unreadable.len() as u64;
    let has_all_copies =
        found == source.record_count && sink.duplicate_key_count == source.duplicate_key_count;
    if found == wanted || has_all_copies {
        return Counted::Alike;
    }
    if !source.counting_stopped {
        return Counted::Unlike(format!(
            "{wanted} records expected, {} in the sink",
            sink.record_count
        ));
    }
    // What is lacking may be further copies. A source without any so far is not suspected of having them.
    if source.duplicate_key_count > 0 && found < wanted {
        return Counted::Open;
    }
    Counted::Unlike(format!(
        "{wanted} records expected, {} in the sink; records of one key are counted once among the first {DISTINCT_KEYS_MAX} keys alone",
        sink.record_count
    ))
}

pub(super) fn differing_fields(record: &RecordDigest, stored: &RecordDigest, method: &Method) -> Vec<String> {
    let pairs = record.fields.iter().zip(&stored.fields);
    let differing = pairs
        .zip(&method.schema.fields)
        .filter(|((ours, theirs), _)| ours != theirs)
        .map(|(_, field)| field.name.clone());
    differing.chain(stored.others.iter().cloned()).collect()
}

/// By label, so that a report reads the same each time.
pub(super) fn sorted(side: &Side) -> Vec<(&Digest, &RecordDigest)> {
    let mut records: Vec<_> = side.records.iter().collect();
    records.sort_by(|(key_a, a), (key_b, b)| a.label.cmp(&b.label).then_with(|| key_a.cmp(key_b)));
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(record_count: u64, duplicate_key_count: u64, counting_stopped: bool) -> Side {
        Side {
            record_count,
            duplicate_key_count,
            counting_stopped,
            ..Side::default()
        }
    }

    #[test]
    fn of_records_with_one_key_the_sink_may_have_the_last_one_or_all() {
        for (source, sink, is_alike) in [
            ((10, 0), (10, 0), true),
            ((10, 3), (7, 0), true),
            ((10, 3), (10, 3), true),
            // As many by chance.
            ((10, 3), (10, 0), false),
            ((10, 3), (8, 1), false),
            ((10, 0), (9, 0), false),
            ((10, 0), (11, 1), false),
        ] {
            let judged = judge_counts(&side(source.0, source.1, false), &side(sink.0, sink.1, false));
            assert_eq!(
                judged == Counted::Alike,
                is_alike,
                "{source:?} {sink:?} {judged:?}"
            );
            assert_ne!(judged, Counted::Open);
        }
    }

    #[test]
    fn copies_that_nobody_has_counted_are_no_difference() {
        let judged = |source, found| judge_counts(&side(10, source, true), &side(found, 0, true));
        assert_eq!(judged(2, 8), Counted::Alike);
        assert_eq!(judged(2, 7), Counted::Open);
        assert!(
            matches!(judged(2, 9), Counted::Unlike(_)),
            "more than there can be"
        );
        assert!(matches!(judged(0, 9), Counted::Unlike(text) if text.contains("4000000 keys alone")));
    }

    #[test]
    fn a_field_that_only_the_sink_has_is_named_among_those_that_differ() {
        let record = |others: &[&str]| RecordDigest {
            label: "id=1".to_owned(),
            fields: Vec::new(),
            copies: 1,
            others: others.iter().map(|name| (*name).to_owned()).collect(),
            key: None,
        };
        let with = |others: &[&str]| Side {
            record_count: 1,
            records: [([0; 16], record(others))].into(),
            ..Side::default()
        };
        let method = Method {
            schema: whimbrel_plugin_api::Schema::default(),
            key: vec!["id".to_owned()],
            losses: Vec::new(),
            choice: Choice::OneIn(1),
            left_out: LeftOut::default(),
        };
        for (others, count) in [(&["admin"][..], 1), (&[], 0)] {
            let mut result = VerificationResult::begun("a", "a", VerificationLevel::Standard);
            compare_sides(&with(&[]), &with(others), &method, &mut result);
            assert_eq!(result.mismatch_count, count);
            let fields = result.mismatches.first().map(|mismatch| mismatch.fields.clone());
            assert_eq!(fields.unwrap_or_default(), others);
        }
    }
}
