//! The checks of what a sink stores: record types, presence, names and conflict policies.
//!
//! Neighbours: `sink_checks` (transactions), [`super::values`] (the edge values), [`super::losses`] (what may differ).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::records::{Record, Value, batch};
use super::report::{Checked, Stop, ensure, fail, needs, skip};
use super::sink_target::{Target, batch_for, lane, people, person, take_over};
use super::values::EdgeCase;
use crate::capability::Loss;
use crate::check::FindingLevel;
use crate::collection::Collection;
use crate::error::ErrorKind;
use crate::record_type::{Field, RecordType, Schema};
use crate::sink::{ConflictPolicy, PrepareReport, PrepareRequest, Receipt, Sink as _};

/// Names that break systems which do not quote.
const HOSTILE_NAMES: [&str; 20] = [
    "select",
    "with space",
    " outer space ",
    "quo\"te",
    "quo''te",
    "x\"; DROP TABLE people; --",
    "back`tick\\slash",
    "bracket]",
    "a.b",
    "a/b",
    "..",
    "percent%s%20",
    "line\nend",
    "ünï",
    "🦆",
    "1st",
    "-dash",
    "$dollar:colon?",
    "a_name_of_seventy_octets_which_is_longer_than_some_systems_allow_at_all",
    "rowid",
];

fn row(index: usize) -> String {
    format!("first record {index}")
}

pub(super) fn same_batch_twice_is_the_same(target: &Target) -> Checked {
    needs(
        target.capabilities.policies.contains(&ConflictPolicy::Overwrite),
        "policy: overwrite",
    )?;
    let people = people("people");
    let records = super::sink_target::crowd(10);
    let batch = batch_for(&people, &records)?;
    let collections = std::slice::from_ref(&people);
    let twice = [("people", &batch), ("people", &batch)];
    target.write(collections, &twice, ConflictPolicy::Overwrite)?;
    let (report, _) = target.write(collections, &twice[..1], ConflictPolicy::Overwrite)?;
    target.reads_back()?;
    target.compare(&people, &report, &records, &target.read(&people, &report)?, row)
}

pub(super) fn last_record_of_a_key_wins(target: &Target) -> Checked {
    needs(
        target.capabilities.policies.contains(&ConflictPolicy::Overwrite),
        "policy: overwrite",
    )?;
    let people = people("people");
    let records = [person(1, "first", 1), person(2, "other", 1), person(1, "last", 2)];
    let batch = batch_for(&people, &records)?;
    let (report, _) = target.write(
        std::slice::from_ref(&people),
        &[("people", &batch)],
        ConflictPolicy::Overwrite,
    )?;
    target.reads_back()?;
    target.compare(
        &people,
        &report,
        &records[1..],
        &target.read(&people, &report)?,
        row,
    )
}

pub(super) fn type_is_kept_or_loss_declared(target: &Target, edge: &EdgeCase) -> Checked {
    let collection = Collection::new(edge.name(), (*edge.schema()).clone()).with_key(["id"]);
    let Some(mapping) = target.mapping(&edge.record_type) else {
        return match prepared_or_refused(target, std::slice::from_ref(&collection))? {
            Ok(_) => fail(format!(
                "`{}` is not in the type mappings, and `prepare` takes it",
                edge.record_type
            )),
            Err(_) => skip(format!(
                "`{}` is not in the type mappings, and is refused",
                edge.record_type
            )),
        };
    };
    let records = edge.records();
    let batch = edge.batch()?;
    let name = collection.name.as_str();
    let (report, receipts) = target.write(
        std::slice::from_ref(&collection),
        &[(name, &batch)],
        target.policy(),
    )?;
    let said = report
        .collections
        .iter()
        .flat_map(|prepared| &prepared.fields)
        .find(|field| field.name == "value");
    if let Some(undeclared) =
        said.and_then(|field| field.losses.iter().find(|loss| !mapping.losses.contains(loss)))
    {
        return fail(format!(
            "`prepare` says the loss `{}`, the type mapping does not",
            undeclared.name()
        ));
    }
    let rejected: BTreeSet<&str> = receipts[0]
        .rejected
        .iter()
        .map(|rejected| label(edge, rejected.row))
        .collect();
    let of_type = |(record_type, _): &&(String, String)| *record_type == edge.record_type.to_string();
    let expected = target.case.rejected_values.iter().filter(of_type);
    let expected: BTreeSet<&str> = expected.map(|(_, value)| value.as_str()).collect();
    ensure(rejected == expected, || {
        format!("the values {rejected:?} are rejected, not {expected:?}")
    })?;
    target.reads_back()?;
    let kept: Vec<(usize, Record)> = records
        .into_iter()
        .enumerate()
        .filter(|(row, _)| !rejected.contains(edge.values[*row].0))
        .collect();
    let (rows, kept): (Vec<usize>, Vec<Record>) = kept.into_iter().unzip();
    let named = |row: usize| format!("first `{}`", edge.values[rows[row]].0);
    target.compare(
        &collection,
        &report,
        &kept,
        &target.read(&collection, &report)?,
        named,
    )
}

fn label(edge: &EdgeCase, row: Option<u64>) -> &'static str {
    row.and_then(|row| edge.values.get(row as usize))
        .map_or("unknown", |(name, _)| *name)
}

pub(super) fn presence_is_kept_or_loss_declared(target: &Target) -> Checked {
    let mut people = people("people");
    people.schema.presence = true;
    let with = |name: Value| {
        let mut record = person(0, "", 1);
        record.insert("name".to_owned(), name);
        record
    };
    let mut records = [with(Value::Absent), with(Value::Null), with(Value::text("there"))];
    for (id, record) in records.iter_mut().enumerate() {
        record.insert("id".to_owned(), Value::Int(id as i64));
    }
    let batch = batch_for(&people, &records)?;
    let (mut report, _) = target.write(
        std::slice::from_ref(&people),
        &[("people", &batch)],
        target.policy(),
    )?;
    target.reads_back()?;
    let found = target.read(&people, &report)?;
    if target.capabilities.presence {
        return target.compare(&people, &report, &records, &found, row);
    }
    // Without the capability, absent becomes null in every field.
    for field in report
        .collections
        .iter_mut()
        .flat_map(|prepared| &mut prepared.fields)
    {
        field.losses.push(Loss::AbsentToNull);
    }
    target.compare(&people, &report, &records, &found, row)?;
    needs(false, "presence")
}

/// Prepares; a refusal, by an error or a blocker, is the inner error with its text.
fn prepared_or_refused(
    target: &Target,
    collections: &[Collection],
) -> Checked<Result<PrepareReport, String>> {
    let outcome = target.open()?.prepare(&PrepareRequest {
        collections: collections.to_vec(),
        dry: false,
        ..PrepareRequest::default()
    });
    match outcome {
        Err(error) if error.kind == ErrorKind::Internal => Err(error.into()),
        Err(error) => Ok(Err(error.message)),
        Ok(report) => {
            let mut blockers = report
                .findings
                .iter()
                .filter(|finding| finding.level == FindingLevel::Blocker)
                .peekable();
            if blockers.peek().is_none() {
                return Ok(Ok(report));
            }
            Ok(Err(blockers
                .map(|finding| finding.message.as_str())
                .collect::<Vec<_>>()
                .join("; ")))
        }
    }
}

/// Writes one record and reads it back, unless the name is among those that the case says are refused.
fn name_is_kept(
    target: &Target,
    collection: &Collection,
    record: &Record,
    name: &str,
    refused: &[String],
) -> Checked {
    let may_refuse = refused.iter().any(|refused| refused == name);
    match prepared_or_refused(target, std::slice::from_ref(collection))? {
        Err(reason) if may_refuse && reason.contains(name) => return Ok(()),
        Err(reason) => return fail(format!("the name {name:?} is refused: {reason}")),
        Ok(_) if may_refuse => return fail(format!("the name {name:?} is not refused, as the case says")),
        Ok(_) => {}
    }
    let batch = batch_for(collection, std::slice::from_ref(record))?;
    let batches = [(collection.name.as_str(), &batch)];
    let named = |stop| match stop {
        Stop::Fail(reason) => Stop::Fail(format!("the name {name:?}: {reason}")),
        skip @ Stop::Skip(_) => skip,
    };
    let (report, _) = target
        .write(std::slice::from_ref(collection), &batches, target.policy())
        .map_err(named)?;
    target.reads_back()?;
    let found = target.read(collection, &report).map_err(named)?;
    target.compare(collection, &report, std::slice::from_ref(record), &found, |_| {
        format!("the one under {name:?}")
    })
}

pub(super) fn hostile_collection_names(target: &Target) -> Checked {
    for (id, name) in HOSTILE_NAMES.into_iter().enumerate() {
        let record = person(id as i64, name, 1);
        name_is_kept(target, &people(name), &record, name, &target.case.refused_names)?;
    }
    target.reads_back()?;
    // All of them are still there, under their names.
    let found = target.reader(Vec::new()).collections()?;
    let missing: Vec<_> = HOSTILE_NAMES
        .iter()
        .filter(|name| !found.iter().any(|found| found.name == **name))
        .collect();
    let unexpected = missing
        .iter()
        .find(|name| !target.case.refused_names.iter().any(|refused| refused == **name));
    ensure(unexpected.is_none(), || {
        format!("the collections {missing:?} are not found again")
    })
}

pub(super) fn hostile_field_names(target: &Target) -> Checked {
    for (id, name) in HOSTILE_NAMES.into_iter().enumerate() {
        let fields = vec![
            Field::required("id", RecordType::INT64),
            Field::new(name, RecordType::Text),
        ];
        let collection = Collection::new(format!("fields_{id}"), Schema::new(fields)).with_key(["id"]);
        let record = Record::from([
            ("id".to_owned(), Value::Int(1)),
            (name.to_owned(), Value::text("kept")),
        ]);
        name_is_kept(
            target,
            &collection,
            &record,
            name,
            &target.case.refused_field_names,
        )?;
    }
    Ok(())
}

pub(super) fn case_twins_are_kept_apart_or_refused(target: &Target) -> Checked {
    let twins = [people("twin"), people("Twin")];
    match prepared_or_refused(target, &twins)? {
        Err(reason) => ensure(reason.contains("`twin`") && reason.contains("`Twin`"), || {
            format!("twin collections are refused without both names: {reason}")
        })?,
        Ok(_) => {
            let (small, large) = (person(1, "small", 1), person(1, "large", 1));
            let first = batch_for(&twins[0], std::slice::from_ref(&small))?;
            let second = batch_for(&twins[1], std::slice::from_ref(&large))?;
            let (report, _) =
                target.write(&twins, &[("twin", &first), ("Twin", &second)], target.policy())?;
            target.reads_back()?;
            target.compare(
                &twins[0],
                &report,
                &[small],
                &target.read(&twins[0], &report)?,
                row,
            )?;
            target.compare(
                &twins[1],
                &report,
                &[large],
                &target.read(&twins[1], &report)?,
                row,
            )?;
        }
    }
    let field = |name: &str| Field::new(name, RecordType::Text);
    let schema = Schema::new(vec![
        Field::required("id", RecordType::INT64),
        field("name"),
        field("Name"),
    ]);
    let collection = Collection::new("fields", schema).with_key(["id"]);
    let target = target.beside("fields");
    match prepared_or_refused(&target, std::slice::from_ref(&collection))? {
        Err(reason) => ensure(reason.contains("`name`") && reason.contains("`Name`"), || {
            format!("twin fields are refused without both names: {reason}")
        }),
        Ok(_) => {
            let text = |name: &str, value: &str| (name.to_owned(), Value::text(value));
            let record = Record::from([
                ("id".to_owned(), Value::Int(1)),
                text("name", "small"),
                text("Name", "large"),
            ]);
            let batch = batch_for(&collection, std::slice::from_ref(&record))?;
            let (report, _) = target.write(
                std::slice::from_ref(&collection),
                &[("fields", &batch)],
                target.policy(),
            )?;
            target.reads_back()?;
            target.compare(
                &collection,
                &report,
                &[record],
                &target.read(&collection, &report)?,
                row,
            )
        }
    }
}

/// What a policy makes of stored records when others with the same keys come.
pub(super) fn policy(target: &Target, policy: ConflictPolicy) -> Checked {
    let people = people("people");
    let coming = [person(1, "older", 3), person(2, "newer", 9), person(3, "new", 1)];
    let stored = [person(1, "one", 5), person(2, "two", 5)];
    if !target.capabilities.policies.contains(&policy) {
        return undeclared(target, &people, &coming, policy);
    }
    if policy == ConflictPolicy::Append {
        return append(target);
    }
    let collections = std::slice::from_ref(&people);
    let before = batch_for(&people, &stored)?;
    target.write(collections, &[("people", &before)], target.policy())?;
    if policy == ConflictPolicy::Merge {
        return merge(target, &people, &stored);
    }
    let after = batch_for(&people, &coming)?;
    let (report, receipts) = target.write(collections, &[("people", &after)], policy)?;
    let [s1, s2] = stored;
    let [c1, c2, c3] = coming;
    let (expected, skipped, rejected) = match policy {
        ConflictPolicy::Skip => ([s1, s2, c3], 2, 0),
        ConflictPolicy::KeepNewest => ([s1, c2, c3], 1, 0),
        ConflictPolicy::KeepOldest => ([c1, s2, c3], 1, 0),
        ConflictPolicy::Fail => ([s1, s2, c3], 0, 2),
        _ => ([c1, c2, c3], 0, 0),
    };
    let Receipt {
        skipped: given,
        rejected: refused,
        ..
    } = &receipts[0];
    ensure(*given == skipped && refused.len() == rejected, || {
        let refused = refused.len();
        format!("the receipt says {given} skipped and {refused} rejected, not {skipped} and {rejected}")
    })?;
    target.reads_back()?;
    target.compare(&people, &report, &expected, &target.read(&people, &report)?, row)
}

fn undeclared(target: &Target, people: &Collection, coming: &[Record], policy: ConflictPolicy) -> Checked {
    let batch = batch_for(people, coming)?;
    let (mut session, _) = target.prepared(std::slice::from_ref(people))?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    let outcome = session.write("people", &batch, policy);
    session.abort()?;
    match outcome {
        Ok(_) => fail(format!("`{policy:?}` is not declared, and `write` takes it")),
        Err(error) if error.kind == ErrorKind::Unsupported => {
            skip(format!("the plugin does not declare `policy: {policy:?}`"))
        }
        Err(error) => fail(format!(
            "`{policy:?}` is not declared and gives {}, not an error of kind unsupported",
            error.code
        )),
    }
}

/// Fields that come replace, the others stay: told by presence if the sink can, else by a narrower schema.
fn merge(target: &Target, people: &Collection, stored: &[Record]) -> Checked {
    let mut narrow = people.clone();
    narrow.schema.presence = target.capabilities.presence;
    if !narrow.schema.presence {
        narrow.schema.fields.retain(|field| field.name != "name");
    }
    let mut coming = person(1, "", 8);
    coming.insert("name".to_owned(), Value::Absent);
    let batch = batch(&Arc::new(narrow.schema.clone()), std::slice::from_ref(&coming))?;
    target.write(
        std::slice::from_ref(&narrow),
        &[("people", &batch)],
        ConflictPolicy::Merge,
    )?;
    target.reads_back()?;
    let (session, report) = target.prepared(std::slice::from_ref(people))?;
    drop(session);
    let merged = [person(1, "one", 8), stored[1].clone()];
    target.compare(people, &report, &merged, &target.read(people, &report)?, row)
}

/// Records without a key are kept as often as they come.
fn append(target: &Target) -> Checked {
    let mut people = people("people");
    people.key.clear();
    let records = [person(1, "one", 1), person(1, "one", 1), person(2, "two", 1)];
    let batch = batch_for(&people, &records)?;
    let (report, _) = target.write(
        std::slice::from_ref(&people),
        &[("people", &batch)],
        ConflictPolicy::Append,
    )?;
    target.reads_back()?;
    target.compare(&people, &report, &records, &target.read(&people, &report)?, row)
}
