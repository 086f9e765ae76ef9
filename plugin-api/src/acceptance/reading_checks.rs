//! The checks that read: each opens a source anew, reads, and compares with what was declared or expected.
//!
//! Neighbours: `stream_checks` (streams as such), `source` (the list of checks and the case).

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::Array as _;

use super::reading::{Reader, Reading, counted, ensure_same, read_to_end};
use super::records::{Record, Value, batch};
use super::report::{Checked, ensure, fail, needs, skip};
use crate::batch::Batch;
use crate::check::FindingLevel;
use crate::collection::{Collection, CollectionsRequest};
use crate::error::{Error, ErrorKind};
use crate::partition::PartitionsRequest;
use crate::record_type::{RecordType, Schema};
use crate::source::{BatchBounds, CountRequest, Item, Predicate, ReadRequest};

/// A name that no system has.
const UNKNOWN: &str = "no_system_has_this_collection";
/// Batches into which a collection is cut.
const CUTS: u64 = 5;
/// The small bound of octets.
const SMALL_BATCH_BYTES: usize = 4_096;

/// A request that cuts a collection of `record_count` records into about [`CUTS`] batches.
pub(super) fn cut(name: &str, record_count: u64) -> ReadRequest {
    ReadRequest {
        batch: BatchBounds {
            records_max: record_count.div_ceil(CUTS).max(1) as usize,
            ..BatchBounds::default()
        },
        ..ReadRequest::all(name)
    }
}

fn named(reader: &Reader, name: &str) -> Checked<Collection> {
    match reader
        .open()?
        .source
        .collections(&CollectionsRequest::named(name))?
        .pop()
    {
        Some(collection) => Ok(collection),
        None => fail("it is not among the collections"),
    }
}

pub(super) fn check_finds_no_blocker(reader: &Reader) -> Checked {
    match reader
        .open()?
        .source
        .check()?
        .into_iter()
        .find(|finding| finding.level == FindingLevel::Blocker)
    {
        Some(finding) => fail(format!(
            "`check` finds a blocker ({}): {}",
            finding.code, finding.message
        )),
        None => Ok(()),
    }
}

pub(super) fn collections_are_as_expected(reader: &Reader) -> Checked {
    let collections = reader.collections()?;
    let found: BTreeSet<&str> = collections
        .iter()
        .map(|collection| collection.name.as_str())
        .collect();
    let expected: BTreeSet<&str> = reader
        .expected
        .iter()
        .map(|expected| expected.name.as_str())
        .collect();
    ensure(found == expected, || {
        format!("the collections are {found:?} in place of {expected:?}")
    })?;
    reader.each(|expected| {
        let collection = named(reader, &expected.name)?;
        if let Some(key) = &expected.key {
            ensure(collection.key == *key, || {
                format!("the key is {:?} in place of {key:?}", collection.key)
            })?;
        }
        if let Some(fields) = &expected.fields {
            ensure(collection.schema.fields == *fields, || {
                format!(
                    "the fields are {:?} in place of {fields:?}",
                    collection.schema.fields
                )
            })?;
        }
        let estimate = collection.estimate;
        ensure(
            !estimate.exact || estimate.record_count == Some(expected.record_count + expected.rejected_count),
            || {
                format!(
                    "the estimate that is said to be exact is {:?}",
                    estimate.record_count
                )
            },
        )
    })
}

pub(super) fn collections_answer_is_stable(reader: &Reader) -> Checked {
    let all = reader.collections()?;
    let again = reader.collections()?;
    ensure(all == again, || {
        "asked twice, `collections` gives two answers".to_owned()
    })?;
    let mut names: Vec<String> = all.iter().map(|collection| collection.name.clone()).collect();
    let ask = |names: &[String], schemas| -> Checked<Vec<Collection>> {
        let request = CollectionsRequest {
            names: names.to_vec(),
            schemas,
        };
        Ok(reader.open()?.source.collections(&request)?)
    };
    let forwards = ask(&names, true)?;
    names.reverse();
    names.push(UNKNOWN.to_owned());
    let backwards = ask(&names, true)?;
    ensure(forwards == backwards, || {
        "the answer depends on the order of names, or holds an unknown one".to_owned()
    })?;
    let count = forwards.len();
    ensure(count == all.len(), || {
        format!("asked by name, {count} of {} collections are given", all.len())
    })?;
    let plain = ask(&[], false)?;
    ensure(
        plain
            .iter()
            .map(|plain| &plain.name)
            .eq(all.iter().map(|full| &full.name)),
        || "without schemas other names are given".to_owned(),
    )
}

pub(super) fn collections_are_consistent(reader: &Reader) -> Checked {
    let mut names = BTreeSet::new();
    for collection in reader.collections()? {
        let name = &collection.name;
        ensure(names.insert(name.clone()), || {
            format!("the collection `{name}` is given twice")
        })?;
        collection.schema.validate()?;
        let own = collection.key.iter().chain(&collection.cursor_fields);
        let referring = collection
            .references
            .iter()
            .flat_map(|reference| &reference.fields);
        let losing = collection.losses.iter().map(|loss| &loss.field);
        for field in own.chain(referring).chain(losing) {
            ensure(collection.schema.index_of(field).is_some(), || {
                format!("the collection `{name}` names the field `{field}`, which it does not have")
            })?;
        }
    }
    Ok(())
}

pub(super) fn every_record_is_read_once(reader: &Reader) -> Checked {
    reader.each(|expected| {
        let collection = named(reader, &expected.name)?;
        let reading = reader.read(&ReadRequest::all(&expected.name))?;
        let (schema, announced) = (&reading.schema, &collection.schema);
        ensure(
            schema.fields == announced.fields && schema.presence == announced.presence,
            || "the stream's schema is not the one that `collections` announced".to_owned(),
        )?;
        let (records, rejected) = (reading.records.len() as u64, reading.rejected.len() as u64);
        ensure(records == expected.record_count, || {
            format!("{records} records are read in place of {}", expected.record_count)
        })?;
        ensure(rejected == expected.rejected_count, || {
            format!(
                "{rejected} records are rejected in place of {}",
                expected.rejected_count
            )
        })?;
        if let Some(known) = &expected.records {
            ensure_same(&counted(known), &counted(reading.records()), "reading")?;
        }
        keys_tell_records_apart(&collection, &reading)
    })
}

fn keys_tell_records_apart(collection: &Collection, reading: &Reading) -> Checked {
    if collection.key.is_empty() {
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    for (_, record) in &reading.records {
        let key: Vec<&Value> = collection.key.iter().map(|field| &record[field]).collect();
        ensure(!key.contains(&&Value::Absent), || {
            "a record lacks a field of its key".to_owned()
        })?;
        ensure(seen.insert(key), || {
            format!("two records have the same key ({})", collection.key.join(", "))
        })?;
    }
    Ok(())
}

pub(super) fn reading_twice_is_the_same(reader: &Reader) -> Checked {
    reader.each(|expected| {
        let mut opened = reader.open()?;
        let request = ReadRequest::all(&expected.name);
        let first = read_to_end(opened.source.read(&request)?)?;
        let second = read_to_end(opened.source.read(&request)?)?;
        ensure_same(&first.all(), &second.all(), "the second read")?;
        let request = ReadRequest {
            expected: Some((*first.schema).clone()),
            ..request
        };
        ensure_same(
            &first.all(),
            &reader.read(&request)?.all(),
            "a read that names the expected schema",
        )
    })
}

pub(super) fn batches_obey_the_bounds(reader: &Reader) -> Checked {
    reader.each(|expected| {
        let all = reader.read(&ReadRequest::all(&expected.name))?;
        let request = cut(&expected.name, expected.record_count);
        let reading = reader.read(&request)?;
        let most = reading.batches.iter().map(Batch::record_count).max().unwrap_or(0);
        ensure(most <= request.batch.records_max, || {
            format!(
                "a batch has {most} records where {} are allowed",
                request.batch.records_max
            )
        })?;
        ensure_same(&all.all(), &reading.all(), "reading in small batches")?;
        let request = ReadRequest {
            batch: BatchBounds {
                bytes_max: SMALL_BATCH_BYTES,
                ..BatchBounds::default()
            },
            ..ReadRequest::all(&expected.name)
        };
        let reading = reader.read(&request)?;
        ensure_same(&all.all(), &reading.all(), "reading in batches of few octets")?;
        for batch in reading.batches.iter().filter(|batch| batch.record_count() > 1) {
            // Sources estimate before they build, so twice the bound is tolerated, and the padding of each buffer.
            let allowed = 2 * SMALL_BATCH_BYTES + 256 * batch.records.num_columns();
            let bytes = octets(batch)?;
            let count = batch.record_count();
            ensure(bytes <= allowed, || {
                format!("a batch of {count} records has {bytes} octets where {SMALL_BATCH_BYTES} are allowed")
            })?;
        }
        Ok(())
    })
}

fn octets(batch: &Batch) -> Checked<usize> {
    let mut sum = 0;
    for column in batch.records.columns() {
        sum += column.to_data().get_slice_memory_size().map_err(Error::from)?;
    }
    Ok(sum)
}

pub(super) fn resume_continues_after_each_batch(reader: &Reader) -> Checked {
    needs(reader.capabilities.resume, "resume")?;
    let described = reader.collections()?;
    // Lives as long as its snapshot is read.
    let mut keeper = reader.open()?;
    let kept = keeper.source.open_snapshot()?;
    reader.each(|expected| {
        let is_bound = |of: &Collection| of.name == expected.name && of.within_snapshot;
        // Where cursors hold within one snapshot only, reading goes on there and nowhere else.
        let snapshot = kept.clone().filter(|_| described.iter().any(is_bound));
        let wanted = PartitionsRequest {
            collection: expected.name.clone(),
            snapshot: snapshot.clone(),
            wanted: if reader.capabilities.partitions { 2 } else { 1 },
        };
        let partitions = reader.open()?.source.partitions(&wanted)?;
        for partition in std::iter::once(None).chain(partitions.into_iter().map(Some)) {
            let request = ReadRequest {
                partition,
                snapshot: snapshot.clone(),
                ..cut(&expected.name, expected.record_count)
            };
            let whole = reader.read(&request)?;
            for (number, batch) in whole.batches.iter().enumerate() {
                let cursor = batch.facts.cursor.clone();
                ensure(!cursor.is_start(), || format!("batch {number} has no cursor"))?;
                let rest = reader.read(&ReadRequest {
                    cursor,
                    ..request.clone()
                })?;
                ensure_same(
                    &whole.after(number + 1),
                    &rest.all(),
                    &format!("going on after batch {number}"),
                )?;
            }
        }
        Ok(())
    })
}

pub(super) fn columns_are_projected(reader: &Reader) -> Checked {
    reader.each(|expected| {
        let all = reader.read(&ReadRequest::all(&expected.name))?;
        let mut columns: Vec<String> = all.schema.fields.iter().map(|field| field.name.clone()).collect();
        columns.reverse();
        columns.truncate(columns.len().div_ceil(2));
        if columns.is_empty() {
            return Ok(());
        }
        let request = ReadRequest {
            columns: columns.clone(),
            ..ReadRequest::all(&expected.name)
        };
        let some = reader.read(&request)?;
        let given: Vec<&String> = some.schema.fields.iter().map(|field| &field.name).collect();
        ensure(given.iter().copied().eq(&columns), || {
            format!("asked for {columns:?}, the columns are {given:?}")
        })?;
        let narrowed = all.records.into_iter().map(|(batch, mut record)| {
            record.retain(|field, _| columns.contains(field));
            (batch, record)
        });
        let narrowed = Reading {
            records: narrowed.collect(),
            rejected: all.rejected,
            ..Reading::default()
        };
        ensure_same(&narrowed.all(), &some.all(), "reading some columns")?;
        let unknown = ReadRequest {
            columns: vec![UNKNOWN.to_owned()],
            ..ReadRequest::all(&expected.name)
        };
        ensure(reader.read(&unknown).is_err(), || {
            "a column that does not exist is not refused".to_owned()
        })
    })
}

pub(super) fn limit_is_kept(reader: &Reader) -> Checked {
    reader.each(|expected| {
        let all = reader.read(&ReadRequest::all(&expected.name))?.all();
        for limit in [1, expected.record_count.div_ceil(2), expected.record_count + 1] {
            let request = ReadRequest {
                limit: Some(limit),
                ..cut(&expected.name, expected.record_count)
            };
            let reading = reader.read(&request)?;
            let (wanted, given) = (limit.min(expected.record_count), reading.records.len() as u64);
            ensure(given == wanted, || {
                format!("with the limit {limit}, {given} records are read, not {wanted}")
            })?;
            let known = reading
                .all()
                .iter()
                .all(|(line, count)| all.get(line).is_some_and(|all| all >= count));
            ensure(known, || {
                format!("with the limit {limit}, records are read that are not in the collection")
            })?;
        }
        Ok(())
    })
}

pub(super) fn key_range_is_exact_or_refused(reader: &Reader) -> Checked {
    let mut tried = false;
    reader.each(|expected| {
        let collection = named(reader, &expected.name)?;
        let [key] = &collection.key[..] else { return Ok(()) };
        let all = reader.read(&ReadRequest::all(&expected.name))?;
        let number = |record: &Record| match record[key] {
            Value::Int(number) => Some(number),
            _ => None,
        };
        let mut keys: Vec<i64> = all
            .records
            .iter()
            .filter_map(|(_, record)| number(record))
            .collect();
        let is_int = collection.schema.index_of(key).is_some_and(|index| {
            matches!(
                collection.schema.fields[index].record_type,
                RecordType::Int { .. }
            )
        });
        if !is_int || keys.is_empty() {
            return Ok(());
        }
        keys.sort_unstable();
        let (from, to) = (keys[keys.len() / 3], keys[keys.len() * 2 / 3]);
        let request = ReadRequest {
            predicate: Some(Predicate::KeyRange {
                from: Some(serde_json::json!([from])),
                to: Some(serde_json::json!([to])),
            }),
            ..ReadRequest::all(&expected.name)
        };
        tried = true;
        match reader.open()?.source.read(&request) {
            Err(error) if error.kind == ErrorKind::Unsupported => Ok(()),
            Err(error) => Err(error.into()),
            Ok(stream) => {
                let within = |record: &Record| number(record).is_some_and(|key| (from..to).contains(&key));
                let wanted = counted(all.records().filter(|record| within(record)));
                let found = read_to_end(stream)?;
                ensure_same(&wanted, &counted(found.records()), "a range of keys")
            }
        }
    })?;
    if tried {
        Ok(())
    } else {
        skip("no collection of the case has one key field of type int and a record")
    }
}

pub(super) fn count_equals_read(reader: &Reader) -> Checked {
    let mut counted = false;
    reader.each(|expected| {
        let request = CountRequest {
            collection: expected.name.clone(),
            snapshot: None,
        };
        let Some(count) = reader.open()?.source.count(&request)? else {
            return Ok(());
        };
        counted = true;
        let allowed = expected.record_count..=expected.record_count + expected.rejected_count;
        ensure(allowed.contains(&count), || {
            format!("`count` says {count}, {} records are read", expected.record_count)
        })
    })?;
    if counted {
        Ok(())
    } else {
        skip("the plugin does not count")
    }
}

pub(super) fn partitions_are_disjoint_and_complete(reader: &Reader) -> Checked {
    reader.each(|expected| {
        let all = reader.read(&ReadRequest::all(&expected.name))?.all();
        for wanted in [1, 3] {
            let request = PartitionsRequest {
                collection: expected.name.clone(),
                snapshot: None,
                wanted,
            };
            let partitions = reader.open()?.source.partitions(&request)?;
            let descriptors: BTreeSet<_> = partitions.iter().map(|partition| &partition.descriptor).collect();
            ensure(descriptors.len() == partitions.len(), || {
                "two partitions have the same descriptor".to_owned()
            })?;
            let mut parts = Reading::default();
            for partition in partitions.iter().cloned() {
                let request = ReadRequest {
                    partition: Some(partition),
                    ..ReadRequest::all(&expected.name)
                };
                let part = reader.read(&request)?;
                parts.records.extend(part.records);
                parts.rejected.extend(part.rejected);
            }
            ensure_same(
                &all,
                &parts.all(),
                &format!("reading in {} partitions", partitions.len()),
            )?;
        }
        Ok(())
    })?;
    needs(reader.capabilities.partitions, "partitions")
}

pub(super) fn lookup_finds_the_keys(reader: &Reader) -> Checked {
    let mut tried = false;
    reader.each(|expected| {
        let collection = named(reader, &expected.name)?;
        let all = reader.read(&ReadRequest::all(&expected.name))?;
        if collection.key.is_empty() || all.records.is_empty() {
            return Ok(());
        }
        let schema = Arc::new(Schema::new((*all.schema).select(&collection.key)?.fields));
        let wanted: Vec<&Record> = all
            .records
            .iter()
            .map(|(_, record)| record)
            .step_by(2)
            .take(3)
            .collect();
        let mut keys: Vec<Record> = wanted.iter().copied().cloned().collect();
        let mut missing = keys[0].clone();
        for value in missing.values_mut() {
            match value {
                Value::Int(number) => *number = i64::from(*number == 101) + 101,
                Value::Text(text) => text.push_str(UNKNOWN),
                _ => {}
            }
        }
        let is_known = all
            .records
            .iter()
            .any(|(_, record)| collection.key.iter().all(|key| record[key] == missing[key]));
        if !is_known {
            keys.push(missing);
        }
        let mut opened = reader.open()?;
        let request = ReadRequest::all(&expected.name);
        match opened.source.lookup(&request, &batch(&schema, &keys)?) {
            Err(error) if error.kind == ErrorKind::Unsupported && !reader.capabilities.lookup => Ok(()),
            Err(error) => Err(error.into()),
            Ok(stream) => {
                tried = true;
                let found = read_to_end(stream)?;
                ensure_same(&counted(wanted), &counted(found.records()), "`lookup`")
            }
        }
    })?;
    if tried {
        Ok(())
    } else {
        skip("the plugin does not offer `lookup`, or no collection has a key and a record")
    }
}

pub(super) fn snapshot_reads_the_same(reader: &Reader) -> Checked {
    let mut opened = reader.open()?;
    opened.source.close_snapshot("a token that was never given out")?;
    let snapshot = opened.source.open_snapshot()?;
    ensure(snapshot.is_some() == reader.capabilities.snapshot, || {
        "the capability `snapshot` and the answer of `open_snapshot` differ".to_owned()
    })?;
    needs(reader.capabilities.snapshot, "snapshot")?;
    reader.each(|expected| {
        let plain = ReadRequest::all(&expected.name);
        let request = ReadRequest {
            snapshot: snapshot.clone(),
            ..plain.clone()
        };
        ensure_same(
            &reader.read(&plain)?.all(),
            &reader.read(&request)?.all(),
            "reading at a snapshot",
        )
    })?;
    Ok(opened
        .source
        .close_snapshot(snapshot.as_deref().unwrap_or_default())?)
}

pub(super) fn changes_are_followed(reader: &Reader) -> Checked {
    if reader.capabilities.changes {
        return skip("the suite cannot change the system; the connector's own tests follow its changes");
    }
    match reader
        .open()?
        .source
        .changes(&crate::source::ChangesRequest::default())
    {
        Err(error) if error.kind == ErrorKind::Unsupported => needs(false, "changes"),
        Err(error) => fail(format!(
            "`changes` is not declared and gives {} in place of unsupported",
            error.code
        )),
        Ok(_) => fail("`changes` works and is not declared"),
    }
}

pub(super) fn unknown_collection_is_not_found(reader: &Reader) -> Checked {
    let mut opened = reader.open()?;
    let outcome = opened
        .source
        .read(&ReadRequest::all(UNKNOWN))
        .and_then(|mut stream| {
            loop {
                if matches!(stream.next()?, Item::End) {
                    return Ok(());
                }
            }
        });
    match outcome {
        Ok(()) => fail("a collection that does not exist can be read"),
        Err(error) if error.kind == ErrorKind::NotFound && error.message.contains(UNKNOWN) => Ok(()),
        Err(error) => fail(format!(
            "the error for a collection that does not exist is of kind {} and says `{}`; it must be not_found and name it",
            error.kind.name(),
            error.message
        )),
    }
}
