//! The comparison at the level `basic`: the numbers of records, and ten of the records themselves.
//!
//! The ten are the first that the source gives, so that they are the same ones each time and cost ten reads where reading is
//! billed; the sink is asked for them by their keys. [`reads_first_records`] says where there are none. Neighbours:
//! `compare` compares at `standard` and has what both share, [`crate::plan::cost`] knows what is read here.

use std::collections::{HashMap, HashSet};

use whimbrel_plugin_api::Collection;
use whimbrel_plugin_api::source::{CountRequest, ReadRequest};

use super::compare::{Comparable, Follow, differing_fields, method, note, requests, sorted};
use super::digest::Recipe;
use super::full::{is_no_way, lenient};
use super::side::{self, Choice, Digest, Method, RecordDigest, Side};
use crate::control::Stop;
use crate::events::{Failure, MismatchKind, VerificationResult};
use crate::loader::observe::OpenedSource;

/// Records that are compared.
pub const BASIC_RECORDS: u64 = 10;

/// As they come.
const FIRST: Choice = Choice::First(BASIC_RECORDS as usize);

/// Whether the first records of `source` are read to be compared with those of `sink`: not where nobody can ask the sink for them, nor
/// where a read is billed for more than the records that it gives, as that of a collection which shares an index with others: how many
/// of these come before its first ones nobody knows.
pub fn reads_first_records(source: &Collection, sink: &Collection) -> bool {
    let is_alone = match (&source.cost, source.estimate.record_count) {
        (Some(cost), Some(count)) => cost.read_units <= count.saturating_add(BASIC_RECORDS),
        _ => true,
    };
    is_alone && !sink.key.is_empty()
}

/// Compares a collection and adds to `result` what differs.
///
/// # Errors
/// What either side brings.
pub(super) fn compare(
    source: &mut OpenedSource,
    sink: &mut OpenedSource,
    both: &Comparable<'_>,
    follow: &mut Follow<'_>,
    result: &mut VerificationResult,
    stop: &Stop,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let (source_request, mut sink_request) = requests(both);
    let has_key = !both.sink.key.is_empty();
    let mut method = method(both, if has_key { FIRST } else { Choice::Nothing });
    let estimate = &both.source.estimate;
    // The source has counted them when it described the collection, a moment ago.
    let known = estimate.record_count.filter(|_| estimate.exact);
    let counted = counted(source, &source_request, !both.jobs.is_empty(), known)?;
    // What has to be read to be counted is read once, for both.
    let first = ReadRequest {
        limit: source_request.limit.or(counted.map(|_| BASIC_RECORDS)),
        ..source_request.clone()
    };
    let mut theirs = Side::default();
    if counted.is_none() || reads_first_records(both.source, both.sink) {
        theirs = side::read(source, &first, both.chain()?, &method, stop, progress)?;
    }
    if has_key && !theirs.new_fields.is_empty() {
        let grown = follow(std::mem::take(&mut theirs.new_fields))?;
        method.schema = grown.schema;
        method.losses = grown.losses;
        theirs = side::read(source, &first, both.chain()?, &method, stop, progress)?;
    }
    // A record that has lost a field is one that differs; it can be read.
    sink_request.expected = Some(lenient(&Recipe {
        schema: method.schema.clone(),
        key: method.key.clone(),
        losses: Vec::new(),
    }));
    result.sink_count = count(sink, &sink_request, &method, stop, progress)?;
    judge_counts(both, counted, &theirs, result);
    // Of a record without a value in its key nobody can ask.
    theirs.records.retain(|_, record| record.key.is_some());
    result.compared_count = theirs.records.len() as u64;
    let mut sink = Sink {
        opened: sink,
        request: &sink_request,
        stop,
    };
    let looked = sink.look(&theirs, &method)?;
    let mut differing = differing(&theirs, &looked, &method);
    if counted.is_some() && !differing.is_empty() {
        // Only the first records were read: the source may have a later one with the same key, which is the one that counts.
        let wanted = differing.iter().map(|found| found.key).collect();
        let again = Again { theirs, wanted, stop };
        let theirs = again.read(source, &source_request, both, &method, progress)?;
        let looked = sink.look(&theirs, &method)?;
        differing = self::differing(&theirs, &looked, &method);
    }
    if !looked.missing_fields.is_empty() && !differing.is_empty() {
        let text = "the sink lacks fields".to_owned();
        note(result, MismatchKind::Schema, text, looked.missing_fields);
    }
    for found in differing {
        note(result, found.kind, found.record, found.fields);
    }
    Ok(())
}

/// The number of records, counted by the system if it can; else by reading.
pub(super) fn count(
    side: &mut OpenedSource,
    request: &ReadRequest,
    method: &Method,
    stop: &Stop,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, Failure> {
    if let Some(count) = counted(side, request, false, None)? {
        return Ok(count);
    }
    let nothing = Method {
        choice: Choice::Nothing,
        ..method.clone()
    };
    let read = side::read(side, request, None, &nothing, stop, progress)?;
    Ok(read.record_count + read.left_out_count)
}

/// The number of records as the system counts them, else as it is `known`; none if only reading tells it. Where records are
/// `changed` on their way some may be left out, and of a sample only reading tells how large it is.
fn counted(
    side: &mut OpenedSource,
    request: &ReadRequest,
    changed: bool,
    known: Option<u64>,
) -> Result<Option<u64>, Failure> {
    if changed || request.limit.is_some() {
        return Ok(None);
    }
    let asked = CountRequest {
        collection: request.collection.clone(),
        snapshot: None,
    };
    Ok(side.count(&asked)?.or(known))
}

/// Judges the numbers of records. Those of the source are as its system has `counted` them, else as they were read into `theirs`.
fn judge_counts(both: &Comparable<'_>, counted: Option<u64>, theirs: &Side, result: &mut VerificationResult) {
    let unreadable = theirs.unreadable.len() as u64 + theirs.refused_count;
    let unseen = both.left_out.unseen_count();
    result.note_source_unreadable(unreadable, unseen);
    result.source_count = counted.unwrap_or(theirs.record_count + theirs.left_out_count);
    result.left_out_count = match counted {
        // Of those that were refused the source may have lost some since.
        None if !both.sink.key.is_empty() => theirs.left_out_count,
        _ => both.left_out.count(),
    };
    // A system may also count what it cannot deliver. What was read has none of these.
    let undelivered = counted.map_or(0, |_| unseen.max(unreadable));
    let missing = result.source_count.saturating_sub(result.sink_count);
    // Some of those that were refused may have been in the sink before, and it may hold more than a sample.
    let fits = missing <= result.left_out_count + undelivered
        && (both.sample.is_some() || result.sink_count <= result.source_count);
    if !fits {
        let text = format!(
            "{} records in the source, {} in the sink",
            result.source_count, result.sink_count
        );
        note(result, MismatchKind::Count, text, Vec::new());
    }
}

/// What was asked for by key.
#[derive(Debug, Default)]
struct Looked {
    records: HashMap<Digest, RecordDigest>,
    /// Keys of those that are there and cannot be read, as far as it is known which ones these are.
    unreadable: HashSet<Digest>,
    missing_fields: Vec<String>,
}

impl Looked {
    /// Adds what a request for the record with the key `asked` has brought.
    fn add(&mut self, asked: Digest, found: Side) {
        if !found.unreadable.is_empty() {
            self.unreadable.insert(asked);
        }
        self.take(found);
    }

    fn take(&mut self, found: Side) {
        self.records.extend(found.records);
        if !found.missing_fields.is_empty() {
            self.missing_fields = found.missing_fields;
        }
    }
}

/// The sink while records are looked up in it.
struct Sink<'a> {
    opened: &'a mut OpenedSource,
    request: &'a ReadRequest,
    stop: &'a Stop,
}

impl Sink<'_> {
    /// Asks for the records that `theirs` has; reads all of the sink if it cannot be asked, or not for these keys.
    fn look(&mut self, theirs: &Side, method: &Method) -> Result<Looked, Failure> {
        let wanted: HashSet<Digest> = theirs.records.keys().copied().collect();
        if wanted.is_empty() {
            return Ok(Looked::default());
        }
        // A value that the sink does not hold as it is finds nothing there.
        let is_lossy = method.losses.iter().any(|loss| method.key.contains(&loss.field));
        let these = &Method {
            choice: Choice::These(wanted),
            ..method.clone()
        };
        if !is_lossy && let Some(looked) = by_key(self.opened, self.request, theirs, these, self.stop)? {
            return Ok(looked);
        }
        let found = side::read(self.opened, self.request, None, these, self.stop, &mut |_| {})?;
        let mut looked = Looked::default();
        if !found.unreadable.is_empty() {
            // It is one of these, or has become one.
            let all = theirs.records.keys();
            looked.unreadable = all
                .filter(|key| !found.records.contains_key(*key))
                .copied()
                .collect();
        }
        looked.take(found);
        Ok(looked)
    }
}

/// Looks the records of `theirs` up, each by itself, so that it is known which one cannot be read. None if the system does not
/// look up, or not by this key.
fn by_key(
    side: &mut OpenedSource,
    request: &ReadRequest,
    theirs: &Side,
    method: &Method,
    stop: &Stop,
) -> Result<Option<Looked>, Failure> {
    let mut looked = Looked::default();
    for (digest, record) in sorted(theirs) {
        let Some(key) = &record.key else {
            continue;
        };
        match side::look_up(side, request, key, method, stop) {
            Err(failure) if is_no_way(&failure) => return Ok(None),
            found => looked.add(*digest, found?),
        }
    }
    Ok(Some(looked))
}

/// Records of the source that are looked at once more.
struct Again<'a> {
    theirs: Side,
    wanted: HashSet<Digest>,
    stop: &'a Stop,
}

impl Again<'_> {
    /// The wanted records as the source has them by now: by key where it can be asked so, else it is read to its end. One that it
    /// has no longer is not among them.
    fn read(
        mut self,
        source: &mut OpenedSource,
        request: &ReadRequest,
        both: &Comparable<'_>,
        method: &Method,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Side, Failure> {
        self.theirs.records.retain(|key, _| self.wanted.contains(key));
        let these = &Method {
            choice: Choice::These(self.wanted),
            ..method.clone()
        };
        let keys = (&both.source.key, &both.sink.key);
        let is_same_key = keys.0.len() == keys.1.len() && keys.0.iter().all(|name| keys.1.contains(name));
        if both.jobs.is_empty()
            && is_same_key
            && let Some(looked) = by_key(source, request, &self.theirs, these, self.stop)?
        {
            return Ok(Side {
                records: looked.records,
                ..Side::default()
            });
        }
        side::read(source, request, both.chain()?, these, self.stop, progress)
    }
}

/// A record that differs.
struct Differing {
    key: Digest,
    kind: MismatchKind,
    record: String,
    fields: Vec<String>,
}

/// Those of `theirs` that are not in the sink as they should be, by label.
fn differing(theirs: &Side, looked: &Looked, method: &Method) -> Vec<Differing> {
    let mut differing = Vec::new();
    for (key, record) in sorted(theirs) {
        let (kind, fields) = match looked.records.get(key) {
            None if looked.unreadable.contains(key) => (MismatchKind::Unreadable, Vec::new()),
            None => (MismatchKind::Missing, Vec::new()),
            Some(stored) => match differing_fields(record, stored, method) {
                fields if fields.is_empty() => continue,
                fields => (MismatchKind::Different, fields),
            },
        };
        differing.push(Differing {
            key: *key,
            kind,
            record: record.label.clone(),
            fields,
        });
    }
    differing
}

#[cfg(test)]
mod tests;
