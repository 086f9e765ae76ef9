//! A sink's target as the checks use it: open a session, write in the order of calls, and read back.
//!
//! Neighbours: `sink_checks` and `sink_value_checks`, which use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::losses::apply;
use super::reading::{QuietHost, Reader};
use super::records::{Record, Value, batch};
use super::report::{Checked, ensure, fail, needs};
use super::sink::SinkCase;
use super::source::ExpectedCollection;
use crate::abi::Validation;
use crate::abi::root_module::ForeignPlugin;
use crate::abi::sink::ForeignSink;
use crate::batch::Batch;
use crate::capability::{Atomicity, Loss, SinkCapabilities, TypeMapping};
use crate::check::FindingLevel;
use crate::collection::Collection;
use crate::cursor::Cursor;
use crate::export::Description;
use crate::record_type::{Field, RecordType, Schema};
use crate::sink::{
    Checkpoint, Committed, ConflictPolicy, LaneClaim, LaneId, LaneState, PrepareReport, PrepareRequest,
    PreparedField, Receipt, Sink as _,
};
use crate::source::ReadRequest;

/// One target of the case, and what the plugin declares.
pub(super) struct Target {
    plugin: ForeignPlugin,
    pub(super) case: SinkCase,
    pub(super) capabilities: SinkCapabilities,
    pub(super) mappings: Vec<TypeMapping>,
    config: Json,
    name: String,
}

impl Target {
    pub(super) fn new(plugin: ForeignPlugin, case: SinkCase, description: Description) -> Self {
        Self {
            plugin,
            case,
            capabilities: description.sink.unwrap_or_default(),
            mappings: description.type_mappings,
            config: Json::Null,
            name: String::new(),
        }
    }

    /// Another target of the same case.
    pub(super) fn named(&self, name: &str) -> Self {
        Self {
            plugin: self.plugin,
            case: self.case.clone(),
            capabilities: self.capabilities.clone(),
            mappings: self.mappings.clone(),
            config: (self.case.target)(name),
            name: name.to_owned(),
        }
    }

    /// Another target beside this one.
    pub(super) fn beside(&self, name: &str) -> Self {
        self.named(&format!("{}_{name}", self.name))
    }

    /// A new session.
    pub(super) fn open(&self) -> Checked<ForeignSink> {
        Ok(self
            .plugin
            .open_sink(&self.config, Arc::new(QuietHost), Validation::Full)?)
    }

    /// Skips unless what was written can be read back.
    pub(super) fn reads_back(&self) -> Checked {
        needs(self.capabilities.read_back, "read_back")
    }

    /// Skips unless what was not committed can be taken back.
    pub(super) fn takes_back(&self) -> Checked {
        self.reads_back()?;
        needs(
            matches!(
                self.capabilities.atomicity,
                Atomicity::Transactional | Atomicity::Conditional
            ),
            "atomicity: transactional or conditional",
        )
    }

    /// A declared policy for plain writing.
    pub(super) fn policy(&self) -> ConflictPolicy {
        let declared = &self.capabilities.policies;
        let preferred = [ConflictPolicy::Overwrite, ConflictPolicy::Append];
        let first = declared.first().copied().unwrap_or_default();
        preferred
            .into_iter()
            .find(|policy| declared.contains(policy))
            .unwrap_or(first)
    }

    /// Opens a session and prepares `collections`; fails on a blocker.
    pub(super) fn prepared(&self, collections: &[Collection]) -> Checked<(ForeignSink, PrepareReport)> {
        let mut session = self.open()?;
        let report = session.prepare(&PrepareRequest {
            collections: collections.to_vec(),
            dry: false,
            ..PrepareRequest::default()
        })?;
        match report
            .findings
            .iter()
            .find(|finding| finding.level == FindingLevel::Blocker)
        {
            Some(finding) => fail(format!(
                "`prepare` finds a blocker ({}): {}",
                finding.code, finding.message
            )),
            None => Ok((session, report)),
        }
    }

    /// A whole run of one transaction: open, prepare, take over, begin, write, commit, constraints, finalize.
    pub(super) fn write(
        &self,
        collections: &[Collection],
        batches: &[(&str, &Batch)],
        policy: ConflictPolicy,
    ) -> Checked<(PrepareReport, Vec<Receipt>)> {
        let (mut session, report) = self.prepared(collections)?;
        let state = take_over(&mut session, &lane())?;
        session.begin(&state.lane)?;
        let receipts = write_all(&mut session, batches, policy)?;
        commit(&mut session, &state, count(batches))?;
        session.add_constraints()?;
        session.finalize()?;
        Ok((report, receipts))
    }

    /// The records of `collection`, by another session; `report` is what `prepare` said of it.
    pub(super) fn read(&self, collection: &Collection, report: &PrepareReport) -> Checked<Vec<Record>> {
        let said = report
            .collections
            .iter()
            .find(|prepared| prepared.name == collection.name);
        let fields = said.map_or(&[][..], |prepared| &prepared.fields);
        let stored_name = |field: &Field| {
            let of = fields.iter().find(|prepared| prepared.name == field.name);
            of.map(|prepared| prepared.stored_name.clone())
                .filter(|name| !name.is_empty())
                .unwrap_or(field.name.clone())
        };
        let names: BTreeMap<String, String> = collection
            .schema
            .fields
            .iter()
            .map(|field| (stored_name(field), field.name.clone()))
            .collect();
        let mut expected = collection.schema.clone();
        expected
            .fields
            .iter_mut()
            .for_each(|field| field.name = stored_name(field));
        let request = ReadRequest {
            expected: Some(expected),
            ..ReadRequest::all(&collection.name)
        };
        let reading = self.reader(Vec::new()).read(&request)?;
        let renamed = |record: Record| {
            record
                .into_iter()
                .map(|(name, value)| (names.get(&name).cloned().unwrap_or(name), value))
                .collect()
        };
        Ok(reading
            .records
            .into_iter()
            .map(|(_, record)| renamed(record))
            .collect())
    }

    /// The reading half.
    pub(super) fn reader(&self, expected: Vec<ExpectedCollection>) -> Reader {
        Reader::sink(self.plugin, self.config.clone(), expected)
    }

    /// Whether the target holds no record of `collection`.
    pub(super) fn holds_nothing(&self, collection: &Collection) -> Checked {
        let reader = self.reader(Vec::new());
        if !reader
            .collections()?
            .iter()
            .any(|found| found.name == collection.name)
        {
            return Ok(());
        }
        let count = reader.read(&ReadRequest::all(&collection.name))?.records.len();
        ensure(count == 0, || format!("{count} records can be read"))
    }

    /// What is declared for `record_type`: by itself, or by one of its kind.
    pub(super) fn mapping(&self, record_type: &RecordType) -> Option<&TypeMapping> {
        let exactly = self
            .mappings
            .iter()
            .find(|mapping| mapping.record_type == *record_type);
        let kind = std::mem::discriminant(record_type);
        exactly.or_else(|| {
            self.mappings
                .iter()
                .find(|mapping| std::mem::discriminant(&mapping.record_type) == kind)
        })
    }

    /// What is lost of `field`: as `prepare` said, else as declared for its type.
    pub(super) fn losses(&self, field: &Field, prepared: &[PreparedField]) -> Vec<Loss> {
        match prepared.iter().find(|prepared| prepared.name == field.name) {
            Some(prepared) => prepared.losses.clone(),
            None => self
                .mapping(&field.record_type)
                .map(|mapping| mapping.losses.clone())
                .unwrap_or_default(),
        }
    }

    /// Fails unless `found` is `written` with the losses of `report`, in any order. `label` names a record.
    pub(super) fn compare(
        &self,
        collection: &Collection,
        report: &PrepareReport,
        written: &[Record],
        found: &[Record],
        label: impl Fn(usize) -> String,
    ) -> Checked {
        let said = report
            .collections
            .iter()
            .find(|prepared| prepared.name == collection.name);
        let prepared = said.map_or(&[][..], |prepared| &prepared.fields);
        let after_losses = |record: &Record| -> Record {
            let after = |field: &Field| {
                let value = record.get(&field.name).unwrap_or(&Value::Absent);
                (
                    field.name.clone(),
                    apply(&self.losses(field, prepared), &field.record_type, value),
                )
            };
            collection.schema.fields.iter().map(after).collect()
        };
        let mut left: Vec<Record> = found.iter().map(after_losses).collect();
        let mut without = Vec::new();
        for (row, record) in written.iter().map(after_losses).enumerate() {
            match left.iter().position(|found| *found == record) {
                Some(at) => drop(left.swap_remove(at)),
                None => without.push((row, record)),
            }
        }
        let Some((row, record)) = without.first() else {
            return ensure(left.is_empty(), || {
                format!("{} records are read back that were not written", left.len())
            });
        };
        let alike = |other: &&Record| collection.key.iter().all(|key| other[key] == record[key]);
        let detail = match left.iter().find(alike) {
            _ if collection.key.is_empty() => String::new(),
            None => ": no record has its key".to_owned(),
            Some(other) => {
                let differs = collection
                    .schema
                    .fields
                    .iter()
                    .find(|field| other[&field.name] != record[&field.name]);
                differs.map_or_else(String::new, |field| {
                    let (was, is) = (&record[&field.name], &other[&field.name]);
                    format!(": its field `{}` is {is:?} in place of {was:?}", field.name)
                })
            }
        };
        let (lost, more) = (without.len(), left.len());
        fail(format!(
            "{lost} records are not read back as written, {more} are read in their place; {}{detail}",
            label(*row)
        ))
    }
}

/// The lane of all checks that need but one.
pub(super) fn lane() -> LaneId {
    LaneId {
        job: "acceptance".to_owned(),
        source: "suite".to_owned(),
        collection: "all".to_owned(),
        partition: Cursor::start(),
    }
}

/// Takes over one lane.
pub(super) fn take_over(session: &mut ForeignSink, lane: &LaneId) -> Checked<LaneState> {
    let claim = LaneClaim {
        lane: lane.clone(),
        ..LaneClaim::default()
    };
    let mut states = session.take_over(&[claim])?;
    match (states.pop(), states.is_empty()) {
        (Some(state), true) if state.lane == *lane => Ok(state),
        _ => fail("`take_over` of one lane does not answer that lane"),
    }
}

/// Writes batches into the open transaction, has what is deferred judged, and holds each receipt to its rules. Where
/// something may be rejected, these must be the first writes since `begin`.
pub(super) fn write_all(
    session: &mut ForeignSink,
    batches: &[(&str, &Batch)],
    policy: ConflictPolicy,
) -> Checked<Vec<Receipt>> {
    let mut receipts = write_only(session, batches, policy)?;
    if receipts.iter().any(|receipt| receipt.deferred > 0) {
        let judged = session.flush()?;
        holds_rules(&judged, count(batches))?;
        share_out(judged, batches, &mut receipts);
    }
    Ok(receipts)
}

/// As [`write_all`], but what is deferred stays so.
pub(super) fn write_only(
    session: &mut ForeignSink,
    batches: &[(&str, &Batch)],
    policy: ConflictPolicy,
) -> Checked<Vec<Receipt>> {
    let mut receipts = Vec::with_capacity(batches.len());
    for (collection, batch) in batches {
        // That accepted, rejected and deferred sum up is compared by the foreign half already.
        let receipt = session.write(collection, batch, policy)?;
        holds_rules(&receipt, batch.record_count() as u64)?;
        receipts.push(receipt);
    }
    Ok(receipts)
}

/// A receipt for `record_count` records.
pub(super) fn holds_rules(receipt: &Receipt, record_count: u64) -> Checked {
    ensure(receipt.skipped <= receipt.accepted, || {
        "the receipt skips more than it accepts".to_owned()
    })?;
    let mut rows: Vec<u64> = receipt
        .rejected
        .iter()
        .filter_map(|rejected| rejected.row)
        .collect();
    rows.sort_unstable();
    rows.dedup();
    ensure(rows.len() == receipt.rejected.len(), || {
        "a rejected record has no row, or one twice".to_owned()
    })?;
    ensure(rows.last().is_none_or(|last| *last < record_count), || {
        "a rejected record has a row beyond what was written".to_owned()
    })?;
    let explained = receipt
        .rejected
        .iter()
        .all(|rejected| !rejected.code.is_empty() && !rejected.message.is_empty());
    ensure(explained, || {
        "a rejected record has no code or no message".to_owned()
    })
}

/// Gives each write what `flush` says of its records. Which ones were skipped it does not say: the last write has them all.
fn share_out(judged: Receipt, batches: &[(&str, &Batch)], receipts: &mut [Receipt]) {
    let mut first = 0;
    let mut rejected = judged.rejected;
    for (receipt, (_, batch)) in receipts.iter_mut().zip(batches) {
        let end = first + batch.record_count() as u64;
        let (own, others): (Vec<_>, Vec<_>) = rejected
            .into_iter()
            .partition(|record| record.row.is_some_and(|row| (first..end).contains(&row)));
        rejected = others;
        receipt.accepted += std::mem::take(&mut receipt.deferred).saturating_sub(own.len() as u64);
        receipt.rejected.extend(own.into_iter().map(|mut record| {
            record.row = record.row.map(|row| row - first);
            record
        }));
        first = end;
    }
    if let Some(last) = receipts.last_mut() {
        last.skipped += judged.skipped;
    }
}

/// Records in `batches`.
pub(super) fn count(batches: &[(&str, &Batch)]) -> u64 {
    batches.iter().map(|(_, batch)| batch.record_count() as u64).sum()
}

/// The checkpoint that follows `state`.
pub(super) fn checkpoint(state: &LaneState, record_count: u64) -> Checkpoint {
    Checkpoint {
        lane: state.lane.clone(),
        epoch: state.epoch,
        seq: state.seq,
        cursor: Cursor(format!("cursor {}", state.seq + 1).into_bytes()),
        done: false,
        record_count,
        extensions: BTreeMap::from([("note".to_owned(), "kept".to_owned())]),
    }
}

/// Commits; fails unless it is durable. Returns the number of the commit.
pub(super) fn commit(session: &mut ForeignSink, state: &LaneState, record_count: u64) -> Checked<u64> {
    match session.commit(&checkpoint(state, record_count))? {
        Committed::Committed { seq } => Ok(seq),
        other => fail(format!("`commit` answers {other:?}")),
    }
}

/// A collection of people with the key `id`.
pub(super) fn people(name: &str) -> Collection {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::new("name", RecordType::Text),
        Field::new("version", RecordType::INT64),
    ];
    let mut people = Collection::new(name, Schema::new(fields)).with_key(["id"]);
    people.cursor_fields = vec!["version".to_owned()];
    people
}

/// One of the people.
pub(super) fn person(id: i64, name: &str, version: i64) -> Record {
    Record::from([
        ("id".to_owned(), Value::Int(id)),
        ("name".to_owned(), Value::text(name)),
        ("version".to_owned(), Value::Int(version)),
    ])
}

/// Some people, all different.
pub(super) fn crowd(count: i64) -> Vec<Record> {
    (0..count)
        .map(|id| person(id, &format!("person {id}"), id % 7))
        .collect()
}

/// A batch of `records` for `collection`.
pub(super) fn batch_for(collection: &Collection, records: &[Record]) -> Checked<Batch> {
    Ok(batch(&Arc::new(collection.schema.clone()), records)?)
}
