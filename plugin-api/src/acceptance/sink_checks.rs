//! The checks of a sink's transactions: preparing, committing, taking back.
//!
//! Neighbours: `sink_lane_checks` (checkpoints and fences), `sink_value_checks` (what is stored), `sink` (the list of checks), `sink_target` (how they write).

use std::sync::Arc;

use super::reading::Reader;
use super::records::{Record, Value, batch};
use super::report::{Checked, ensure, fail, needs, skip};
use super::sink_target::{
    Target, batch_for, commit, count, crowd, lane, people, person, take_over, write_all,
};
use super::source::ExpectedCollection;
use crate::check::FindingLevel;
use crate::collection::Collection;
use crate::error::ErrorKind;
use crate::record_type::{Field, RecordType};
use crate::sink::{AlterRequest, ClearRequest, ConflictPolicy, PrepareRequest, Sink as _, UndoRequest};

/// Records of the large check; more than two batches of the usual size.
const LARGE_RECORD_COUNT: i64 = 20_000;
/// Records per batch there.
const LARGE_BATCH_RECORDS: usize = 8_192;
/// Octets of one very large value.
const LARGE_VALUE_BYTES: usize = 10 * 1024 * 1024;

fn row(index: usize) -> String {
    format!("first record {index}")
}

pub(super) fn check_writes_nothing(target: &Target) -> Checked {
    let findings = target.open()?.check()?;
    if let Some(finding) = findings
        .iter()
        .find(|finding| finding.level == FindingLevel::Blocker)
    {
        return fail(format!(
            "`check` finds a blocker ({}): {}",
            finding.code, finding.message
        ));
    }
    target.reads_back()?;
    has_no_collections(target)
}

fn has_no_collections(target: &Target) -> Checked {
    // A target that is not there at all holds nothing either.
    match target
        .reader(Vec::new())
        .open()
        .and_then(|mut opened| opened.source.collections(&Default::default()))
    {
        Ok(found) => ensure(found.is_empty(), || {
            format!("{} collections can be read", found.len())
        }),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn dry_prepare_changes_nothing(target: &Target) -> Checked {
    let request = PrepareRequest {
        collections: vec![people("people")],
        dry: true,
        ..PrepareRequest::default()
    };
    let first = target.open()?.prepare(&request)?;
    let second = target.open()?.prepare(&request)?;
    for report in [&first, &second] {
        ensure(
            report.collections.iter().all(|prepared| !prepared.existed),
            || "with `dry`, a collection that was not there is said to exist".to_owned(),
        )?;
    }
    ensure(first == second, || {
        "with `dry`, the second answer differs from the first".to_owned()
    })?;
    target.reads_back()?;
    has_no_collections(target)
}

pub(super) fn prepare_answers_each_collection(target: &Target) -> Checked {
    let collections = [people("second"), people("first")];
    let (_session, report) = target.prepared(&collections)?;
    let names: Vec<&str> = report
        .collections
        .iter()
        .map(|prepared| prepared.name.as_str())
        .collect();
    ensure(names == ["second", "first"], || {
        format!("the answer names {names:?}, not the request's order")
    })?;
    for prepared in &report.collections {
        ensure(!prepared.existed, || {
            "a new collection is said to have existed".to_owned()
        })?;
        let fields: Vec<&str> = prepared.fields.iter().map(|field| field.name.as_str()).collect();
        ensure(fields == ["id", "name", "version"], || {
            format!("the answer names the fields {fields:?}")
        })?;
        ensure(
            prepared.fields.iter().all(|field| !field.stored_as.is_empty()),
            || "a field has no type in the sink".to_owned(),
        )?;
    }
    Ok(())
}

pub(super) fn prepare_twice_is_the_same(target: &Target) -> Checked {
    let people = people("people");
    let records = crowd(10);
    let batch = batch_for(&people, &records)?;
    let collections = std::slice::from_ref(&people);
    let (first, _) = target.write(collections, &[("people", &batch)], target.policy())?;
    let (session, second) = target.prepared(collections)?;
    drop(session);
    let [before] = &first.collections[..] else {
        return fail("`prepare` does not answer the collection");
    };
    let [after] = &second.collections[..] else {
        return fail("`prepare` does not answer the collection");
    };
    ensure(after.existed, || {
        "the second time, the collection is said to be new".to_owned()
    })?;
    ensure(after.record_count.is_none_or(|count| count == 10), || {
        format!("{:?} records are counted in place of 10", after.record_count)
    })?;
    ensure(before.fields == after.fields, || {
        "the second time, the fields are stored otherwise".to_owned()
    })?;
    target.reads_back()?;
    target.compare(&people, &second, &records, &target.read(&people, &second)?, row)
}

pub(super) fn what_is_committed_is_read_back(target: &Target) -> Checked {
    let people = people("people");
    let records = crowd(100);
    let batch = batch_for(&people, &records)?;
    let (report, receipts) = target.write(
        std::slice::from_ref(&people),
        &[("people", &batch)],
        target.policy(),
    )?;
    ensure(receipts[0].accepted == 100 && receipts[0].skipped == 0, || {
        format!(
            "of 100 new records, {} are accepted and {} skipped",
            receipts[0].accepted, receipts[0].skipped
        )
    })?;
    target.reads_back()?;
    target.compare(&people, &report, &records, &target.read(&people, &report)?, row)
}

pub(super) fn commit_is_durable_without_finalize(target: &Target) -> Checked {
    target.reads_back()?;
    let people = people("people");
    let records = crowd(10);
    let (mut session, report) = target.prepared(std::slice::from_ref(&people))?;
    let mut state = take_over(&mut session, &lane())?;
    for half in [&records[..5], &records[5..]] {
        let batch = batch_for(&people, half)?;
        session.begin(&state.lane)?;
        write_all(&mut session, &[("people", &batch)], target.policy())?;
        state.seq = commit(&mut session, &state, 5)?;
    }
    drop(session);
    target.compare(&people, &report, &records, &target.read(&people, &report)?, row)
}

/// Begins, writes some people, and does `then`; nothing of it may be found afterwards.
fn leaves_nothing(target: &Target, then: impl FnOnce(crate::abi::sink::ForeignSink) -> Checked) -> Checked {
    target.takes_back()?;
    let people = people("people");
    let batch = batch_for(&people, &crowd(10))?;
    let (mut session, _) = target.prepared(std::slice::from_ref(&people))?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    write_all(&mut session, &[("people", &batch)], target.policy())?;
    then(session)?;
    target.holds_nothing(&people)
}

pub(super) fn abort_leaves_nothing(target: &Target) -> Checked {
    leaves_nothing(target, |mut session| Ok(session.abort()?))?;
    // After an abort the same session can be used again.
    let target = target.beside("again");
    let people = people("people");
    let (mut session, report) = target.prepared(std::slice::from_ref(&people))?;
    let state = take_over(&mut session, &lane())?;
    for (record, keep) in [(person(1, "dropped", 1), false), (person(2, "kept", 1), true)] {
        let batch = batch_for(&people, &[record])?;
        session.begin(&state.lane)?;
        write_all(&mut session, &[("people", &batch)], target.policy())?;
        if keep {
            commit(&mut session, &state, 1)?;
        } else {
            session.abort()?;
        }
    }
    session.finalize()?;
    drop(session);
    target.compare(
        &people,
        &report,
        &[person(2, "kept", 1)],
        &target.read(&people, &report)?,
        row,
    )
}

pub(super) fn close_without_commit_leaves_nothing(target: &Target) -> Checked {
    leaves_nothing(target, |session| {
        drop(session);
        Ok(())
    })
}

pub(super) fn cancelled_session_leaves_nothing(target: &Target) -> Checked {
    leaves_nothing(target, |mut session| {
        session.canceller().cancel();
        let people = people("people");
        // It may end as cancelled or as written; what it must not do is to stay.
        match session.write(
            "people",
            &batch_for(&people, &[person(99, "late", 1)])?,
            target.policy(),
        ) {
            Err(error) if error.kind != ErrorKind::Cancelled => Err(error.into()),
            _ => Ok(session.abort()?),
        }
    })
}

pub(super) fn abort_without_begin_is_fine(target: &Target) -> Checked {
    let (mut session, _) = target.prepared(&[people("people")])?;
    session.abort()?;
    Ok(session.abort()?)
}

pub(super) fn empty_batch_is_fine(target: &Target) -> Checked {
    let people = people("people");
    let batch = batch_for(&people, &[])?;
    let (_, receipts) = target.write(
        std::slice::from_ref(&people),
        &[("people", &batch)],
        target.policy(),
    )?;
    ensure(receipts[0].accepted == 0, || {
        "an empty batch has accepted records".to_owned()
    })?;
    target.reads_back()?;
    target.holds_nothing(&people)
}

pub(super) fn large_batches_are_kept(target: &Target) -> Checked {
    let people = people("people");
    let mut records = crowd(LARGE_RECORD_COUNT);
    let large: String = "whimbrel ".repeat(LARGE_VALUE_BYTES / 9);
    records.push(person(LARGE_RECORD_COUNT, &large, 1));
    let batches = records
        .chunks(LARGE_BATCH_RECORDS)
        .map(|part| batch_for(&people, part))
        .collect::<Checked<Vec<_>>>()?;
    let batches: Vec<_> = batches.iter().map(|batch| ("people", batch)).collect();
    let (report, receipts) = target.write(std::slice::from_ref(&people), &batches, target.policy())?;
    let rejected: usize = receipts.iter().map(|receipt| receipt.rejected.len()).sum();
    ensure(rejected <= 1, || format!("{rejected} records are rejected"))?;
    // One very large value may be too large, if it is said.
    records.truncate(records.len() - rejected);
    target.reads_back()?;
    let found = target.read(&people, &report)?;
    let sorted = |mut records: Vec<Record>| {
        records.sort();
        records
    };
    ensure(found.len() == records.len(), || {
        format!("{} of {} records are read back", found.len(), records.len())
    })?;
    ensure(sorted(found) == sorted(records), || {
        "what is read back is not what was written".to_owned()
    })
}

pub(super) fn unknown_collection_is_refused(target: &Target) -> Checked {
    let people = people("people");
    let batch = batch_for(&people, &crowd(1))?;
    let (mut session, _) = target.prepared(&[people])?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    let outcome = session.write("never_prepared", &batch, target.policy());
    session.abort()?;
    ensure(outcome.is_err(), || {
        "a collection that was not prepared can be written".to_owned()
    })
}

pub(super) fn several_collections_in_one_transaction(target: &Target) -> Checked {
    let (a, b) = (people("a"), people("b"));
    let records = crowd(6);
    let (first, second) = (batch_for(&a, &records[..2])?, batch_for(&b, &records[2..4])?);
    let third = batch_for(&a, &records[4..])?;
    let batches = [("a", &first), ("b", &second), ("a", &third)];
    let (report, _) = target.write(&[a.clone(), b.clone()], &batches, target.policy())?;
    target.reads_back()?;
    let in_a = [&records[..2], &records[4..]].concat();
    target.compare(&a, &report, &in_a, &target.read(&a, &report)?, row)?;
    target.compare(&b, &report, &records[2..4], &target.read(&b, &report)?, row)
}

pub(super) fn changed_schema_is_followed(target: &Target) -> Checked {
    let old = people("people");
    let mut new = old.clone();
    new.schema.version += 1;
    new.schema.fields.push(Field::new("added", RecordType::Text));
    let mut later = person(2, "later", 1);
    later.insert("added".to_owned(), Value::text("new"));
    let (first, second) = (
        batch_for(&old, &[person(1, "earlier", 1)])?,
        batch_for(&new, &[later.clone()])?,
    );
    // Another part of the source, where nothing new was seen yet.
    let third = batch_for(&old, &[person(3, "late", 1)])?;
    let (mut session, _) = target.prepared(std::slice::from_ref(&old))?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    write_all(&mut session, &[("people", &first)], target.policy())?;
    let seq = commit(&mut session, &state, 1)?;
    let request = AlterRequest {
        collection: "people".to_owned(),
        old: old.schema.clone(),
        new: new.schema.clone(),
        overflow: false,
    };
    match session.alter(&request) {
        Err(error) if error.kind == ErrorKind::Unsupported => {
            return skip("the plugin does not offer `alter`");
        }
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    let state = crate::sink::LaneState { seq, ..state };
    session.begin(&state.lane)?;
    write_all(
        &mut session,
        &[("people", &second), ("people", &third)],
        target.policy(),
    )?;
    commit(&mut session, &state, 2)?;
    session.finalize()?;
    drop(session);
    target.reads_back()?;
    let without = |mut record: Record| {
        record.insert("added".to_owned(), Value::Null);
        record
    };
    let (session, report) = target.prepared(std::slice::from_ref(&new))?;
    drop(session);
    target.compare(
        &new,
        &report,
        &[
            without(person(1, "earlier", 1)),
            later,
            without(person(3, "late", 1)),
        ],
        &target.read(&new, &report)?,
        row,
    )
}

pub(super) fn undo_takes_back_a_commit(target: &Target) -> Checked {
    needs(target.capabilities.undo, "undo")?;
    let overwrites = target.capabilities.policies.contains(&ConflictPolicy::Overwrite);
    needs(overwrites, "policy: overwrite")?;
    let people = people("people");
    let (mut session, report) = target.prepared(std::slice::from_ref(&people))?;
    let mut state = take_over(&mut session, &lane())?;
    let first = [person(1, "a", 1), person(2, "b", 1)];
    for records in [first.clone(), [person(2, "changed", 2), person(3, "c", 1)]] {
        let batch = batch_for(&people, &records)?;
        session.begin(&state.lane)?;
        let batches = [("people", &batch)];
        write_all(&mut session, &batches, target.policy())?;
        state.seq = commit(&mut session, &state, count(&batches))?;
    }
    session.undo(&UndoRequest {
        lane: state.lane.clone(),
        from_seq: state.seq - 1,
        to_seq: state.seq,
    })?;
    session.finalize()?;
    drop(session);
    target.reads_back()?;
    target.compare(&people, &report, &first, &target.read(&people, &report)?, row)
}

pub(super) fn clear_empties_exactly_the_named(target: &Target) -> Checked {
    let collections = [people("first"), people("second"), people("kept")];
    let records = crowd(7);
    let batch = batch_for(&collections[0], &records)?;
    let batches: Vec<_> = ["first", "second", "kept"].map(|name| (name, &batch)).into();
    let (report, _) = target.write(&collections, &batches, target.policy())?;
    let request = ClearRequest {
        collections: ["second", "first"].map(str::to_owned).into(),
    };
    // As the host does it: without `prepare`, asked first, and with the lanes in hand.
    let mut session = target.open()?;
    match session.clear(&ClearRequest::default()) {
        Err(error) if error.kind == ErrorKind::Unsupported => {
            return skip("the plugin does not offer `clear`");
        }
        answer => answer?,
    };
    if target.capabilities.lanes {
        take_over(&mut session, &lane())?;
    }
    let removed = session.clear(&request)?.removed;
    drop(session);
    ensure(
        removed.len() == 2 && removed.iter().flatten().all(|count| *count == 7),
        || format!("of two collections with 7 records each, {removed:?} are said to be removed"),
    )?;
    let again = target.open()?.clear(&request)?.removed;
    ensure(again.iter().flatten().all(|count| *count == 0), || {
        format!("of empty collections, {again:?} are said to be removed")
    })?;
    target.reads_back()?;
    for emptied in &collections[..2] {
        target.holds_nothing(emptied)?;
    }
    let kept = &collections[2];
    target.compare(kept, &report, &records, &target.read(kept, &report)?, row)?;
    // What was emptied can be written again.
    let first = std::slice::from_ref(&collections[0]);
    let (report, _) = target.write(first, &[("first", &batch)], target.policy())?;
    target.compare(
        &first[0],
        &report,
        &records,
        &target.read(&first[0], &report)?,
        row,
    )
}

/// A target with two collections, for the checks of a source.
pub(super) fn reader_with_records(target: &Target) -> Checked<Reader> {
    target.reads_back()?;
    let (people, mut others) = (people("people"), people("others"));
    others.key.clear();
    let records = crowd(23);
    let twice = [&records[..4], &records[..2]].concat();
    let schema = Arc::new(people.schema.clone());
    let (first, second) = (batch(&schema, &records)?, batch(&schema, &twice)?);
    let keeps_doubles = target.capabilities.policies.contains(&ConflictPolicy::Append);
    let collections: &[Collection] = if keeps_doubles {
        &[people.clone(), others]
    } else {
        std::slice::from_ref(&people)
    };
    let (mut session, _) = target.prepared(collections)?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    write_all(&mut session, &[("people", &first)], target.policy())?;
    let mut expected = vec![ExpectedCollection::new("people", 23)];
    if keeps_doubles {
        write_all(&mut session, &[("others", &second)], ConflictPolicy::Append)?;
        expected.push(ExpectedCollection::new("others", 6));
    }
    commit(&mut session, &state, 29)?;
    session.finalize()?;
    Ok(target.reader(expected))
}
