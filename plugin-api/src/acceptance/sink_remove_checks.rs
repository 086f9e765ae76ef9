//! The checks of a sink that removes records by their keys: those, no others, and in the order of the calls.
//!
//! Neighbours: `sink_checks` (transactions, `clear`), `sink` (the list of checks), `sink_target` (how they write).

use std::sync::Arc;

use super::records::{Record, Value, batch};
use super::report::{Checked, ensure, fail, needs};
use super::sink_target::{Target, batch_for, commit, crowd, lane, people, person, take_over, write_all};
use crate::abi::sink::ForeignSink;
use crate::batch::Batch;
use crate::collection::Collection;
use crate::error::ErrorKind;
use crate::record_type::{Field, RecordType, Schema};
use crate::sink::{PrepareReport, Sink as _};

fn row(index: usize) -> String {
    format!("first record {index}")
}

fn offers_remove(target: &Target) -> Checked {
    needs(target.capabilities.remove, "remove")?;
    target.reads_back()
}

/// A batch of keys, typed as the key fields of `collection`.
fn keys_of(collection: &Collection, records: &[Record]) -> Checked<Batch> {
    let schema = Arc::new(Schema::new(collection.schema.select(&collection.key)?.fields));
    Ok(batch(&schema, records)?)
}

fn ids(people: &Collection, ids: &[i64]) -> Checked<Batch> {
    let records: Vec<Record> = ids
        .iter()
        .map(|id| Record::from([("id".to_owned(), Value::Int(*id))]))
        .collect();
    keys_of(people, &records)
}

fn removes(session: &mut ForeignSink, collection: &str, keys: &Batch, expected: u64) -> Checked {
    let removed = session.remove(collection, keys)?;
    ensure(removed == expected, || {
        format!("`remove` says that it removed {removed} records, there were {expected}")
    })
}

/// Stores `records`; the report of `prepare` says how.
fn stored(target: &Target, collection: &Collection, records: &[Record]) -> Checked<PrepareReport> {
    let batch = batch_for(collection, records)?;
    let collections = std::slice::from_ref(collection);
    let (report, _) = target.write(collections, &[(&collection.name, &batch)], target.policy())?;
    Ok(report)
}

/// A sink that does not declare `remove` does not offer it.
pub(super) fn remove_is_offered_if_declared(target: &Target) -> Checked {
    let people = people("people");
    let (mut session, _) = target.prepared(std::slice::from_ref(&people))?;
    if target.capabilities.remove {
        return Ok(());
    }
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    let outcome = session.remove("people", &ids(&people, &[1])?);
    session.abort()?;
    match outcome {
        Err(error) if error.kind == ErrorKind::Unsupported => needs(false, "remove"),
        Err(error) => fail(format!(
            "`remove` is not declared and gives {} in place of unsupported",
            error.code
        )),
        Ok(_) => fail("`remove` works and is not declared"),
    }
}

/// Those with the keys are gone, and no others; keys that are not there change nothing.
pub(super) fn remove_takes_exactly_the_keys(target: &Target) -> Checked {
    offers_remove(target)?;
    let people = people("people");
    let records = crowd(40);
    stored(target, &people, &records)?;
    let (mut session, report) = target.prepared(std::slice::from_ref(&people))?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    removes(&mut session, "people", &ids(&people, &[])?, 0)?;
    removes(&mut session, "people", &ids(&people, &[3, 39, 1_000, 0, -3])?, 3)?;
    removes(&mut session, "people", &ids(&people, &[3, 17])?, 1)?;
    commit(&mut session, &state, 0)?;
    session.finalize()?;
    drop(session);
    let is_left = |(id, _): &(usize, Record)| ![0, 3, 17, 39].contains(id);
    let left = records.into_iter().enumerate().filter(is_left);
    let left: Vec<Record> = left.map(|(_, record)| record).collect();
    target.compare(&people, &report, &left, &target.read(&people, &report)?, row)
}

/// What is removed in a transaction that is undone is still there.
pub(super) fn removed_records_are_back_after_abort(target: &Target) -> Checked {
    offers_remove(target)?;
    target.takes_back()?;
    let people = people("people");
    let records = crowd(10);
    stored(target, &people, &records)?;
    let (mut session, report) = target.prepared(std::slice::from_ref(&people))?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    removes(&mut session, "people", &ids(&people, &[1, 2, 3])?, 3)?;
    session.abort()?;
    session.finalize()?;
    drop(session);
    target.compare(&people, &report, &records, &target.read(&people, &report)?, row)
}

/// Within one transaction: a record that was just written can be removed, one that was just removed can be written.
pub(super) fn remove_follows_the_order_of_calls(target: &Target) -> Checked {
    offers_remove(target)?;
    let people = people("people");
    stored(target, &people, &crowd(3))?;
    let (mut session, report) = target.prepared(std::slice::from_ref(&people))?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    let first = batch_for(&people, &[person(20, "goes again", 1), person(21, "stays", 1)])?;
    write_all(&mut session, &[("people", &first)], target.policy())?;
    removes(&mut session, "people", &ids(&people, &[20, 1])?, 2)?;
    let second = batch_for(&people, &[person(1, "comes again", 1)])?;
    write_all(&mut session, &[("people", &second)], target.policy())?;
    commit(&mut session, &state, 3)?;
    session.finalize()?;
    drop(session);
    let mut expected = crowd(3);
    expected[1] = person(1, "comes again", 1);
    expected.push(person(21, "stays", 1));
    target.compare(&people, &report, &expected, &target.read(&people, &report)?, row)
}

/// A key of several fields is one key: records that share a part of it stay.
pub(super) fn remove_by_composite_keys(target: &Target) -> Checked {
    offers_remove(target)?;
    let fields = vec![
        Field::required("town", RecordType::Text),
        Field::required("number", RecordType::INT64),
        Field::new("note", RecordType::Text),
    ];
    let houses = Collection::new("houses", Schema::new(fields)).with_key(["town", "number"]);
    let house = |town: &str, number: i64| {
        Record::from([
            ("town".to_owned(), Value::text(town)),
            ("number".to_owned(), Value::Int(number)),
            ("note".to_owned(), Value::text("a note")),
        ])
    };
    let towns = ["Ulm", "O'Hara \"x\"", "Ålesund"];
    let numbers = 1..=3;
    let all = towns
        .iter()
        .flat_map(|town| numbers.clone().map(|number| house(town, number)));
    let all: Vec<Record> = all.collect();
    stored(target, &houses, &all)?;
    let (mut session, report) = target.prepared(std::slice::from_ref(&houses))?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    let gone = [
        house("Ulm", 2),
        house("O'Hara \"x\"", 3),
        house("ulm", 1),
        house("Ålesund", 4),
    ];
    let only_keys = gone.iter().cloned().map(|mut record| {
        record.remove("note");
        record
    });
    let keys = keys_of(&houses, &only_keys.collect::<Vec<_>>())?;
    removes(&mut session, "houses", &keys, 2)?;
    commit(&mut session, &state, 0)?;
    session.finalize()?;
    drop(session);
    let left: Vec<Record> = all.into_iter().filter(|record| !gone.contains(record)).collect();
    target.compare(&houses, &report, &left, &target.read(&houses, &report)?, row)
}
