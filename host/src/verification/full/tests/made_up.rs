//! A system that is made up: records with a number, a text and a score, in three parts, that can do what a test wants.
//! It can be changed by a test at the end of its first reading.

use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use whimbrel_plugin_api::capability::SourceCapabilities;
use whimbrel_plugin_api::collection::CollectionsRequest;
use whimbrel_plugin_api::partition::{Partition, PartitionsRequest};
use whimbrel_plugin_api::source::OTHER_FIELDS;
use whimbrel_plugin_api::{
    Batch, Collection, Cursor, Error, ErrorKind, Field, Item, ReadRequest, RecordStream, RecordType,
    RejectedRecord, Result, Schema, Source,
};

/// Parts of the collection.
const PARTS: i64 = 3;
/// Records of a batch.
const BATCH: usize = 7;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) name: Option<String>,
    pub(super) score: f64,
}

pub(super) fn row(id: i64) -> Row {
    Row {
        id,
        name: Some(format!("name {id}")),
        score: id as f64 / 8.0,
    }
}

type Change = Box<dyn FnOnce(&mut Vec<Row>) + Send>;

#[derive(Default)]
struct State {
    rows: Vec<Row>,
    /// What happens once all parts were read to their end for the first time.
    change: Option<Change>,
    ended: i64,
    /// Ids of records that it has and cannot deliver.
    broken: Vec<i64>,
    /// Batches given out by streams from the start or a cursor on.
    batches: u64,
    lookups: u64,
    /// A record with the names of fields that it has besides.
    others: Option<(i64, String)>,
    /// Fails instead of giving out so many batches.
    fails_after: Option<u64>,
    is_missing: bool,
}

/// The system. Clones share their records.
#[derive(Clone, Default)]
pub(super) struct MadeUp {
    state: Arc<Mutex<State>>,
    pub(super) can: SourceCapabilities,
    pub(super) is_keyless: bool,
}

impl MadeUp {
    pub(super) fn of(rows: impl IntoIterator<Item = Row>) -> Self {
        let made = Self::default();
        made.state.lock().unwrap().rows = rows.into_iter().collect();
        made
    }

    pub(super) fn that_can(mut self, lookup: bool, resume: bool) -> Self {
        self.can.lookup = lookup;
        self.can.resume = resume;
        self.can.partitions = true;
        self
    }

    pub(super) fn without_key(mut self) -> Self {
        self.is_keyless = true;
        self
    }

    /// What happens to it when it was read to its end for the first time.
    pub(super) fn changes(self, change: impl FnOnce(&mut Vec<Row>) + Send + 'static) -> Self {
        self.state.lock().unwrap().change = Some(Box::new(change));
        self
    }

    pub(super) fn with_broken(self, ids: &[i64]) -> Self {
        self.state.lock().unwrap().broken = ids.to_vec();
        self
    }

    pub(super) fn with_others(self, id: i64, names: &[&str]) -> Self {
        let names = serde_json::to_string(names).unwrap();
        self.state.lock().unwrap().others = Some((id, names));
        self
    }

    pub(super) fn fail_after(&self, batches: Option<u64>) {
        let mut state = self.state.lock().unwrap();
        state.batches = 0;
        state.fails_after = batches;
    }

    pub(super) fn lose(&self) {
        self.state.lock().unwrap().is_missing = true;
    }

    pub(super) fn batches(&self) -> u64 {
        self.state.lock().unwrap().batches
    }

    pub(super) fn lookups(&self) -> u64 {
        self.state.lock().unwrap().lookups
    }

    pub(super) fn schema() -> Schema {
        Schema::new(vec![
            Field::required("id", RecordType::INT64),
            Field::new("name", RecordType::Text),
            Field::new("score", RecordType::FLOAT64),
        ])
    }

    pub(super) fn collection(&self) -> Collection {
        let key: &[&str] = if self.is_keyless { &[] } else { &["id"] };
        Collection::new("things", Self::schema()).with_key(key.iter().copied())
    }

    fn stream(&self, from: usize, part: Option<i64>, ids: Option<Vec<i64>>, limit: Option<u64>) -> Stream {
        Stream {
            system: self.clone(),
            names_others: false,
            next: from,
            part,
            ids,
            left: limit.unwrap_or(u64::MAX),
            has_schema: false,
            has_rejected: false,
        }
    }
}

/// Parts take turns in the records, by their ids.
fn is_in(part: Option<i64>, row: &Row) -> bool {
    part.is_none_or(|part| row.id.rem_euclid(PARTS) == part)
}

impl Source for MadeUp {
    fn collections(&mut self, _: &CollectionsRequest) -> Result<Vec<Collection>> {
        Ok(vec![self.collection()])
    }

    fn partitions(&mut self, _: &PartitionsRequest) -> Result<Vec<Partition>> {
        let part = |part: i64| Partition {
            descriptor: Cursor(vec![part as u8]),
            label: format!("part {part}"),
            ..Partition::whole()
        };
        Ok((0..PARTS).map(part).collect())
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        if self.state.lock().unwrap().is_missing {
            return Err(Error::no_collection(&request.collection));
        }
        let from = match <[u8; 8]>::try_from(request.cursor.0.as_slice()) {
            Ok(octets) => u64::from_be_bytes(octets) as usize,
            Err(_) => 0,
        };
        let descriptor = request.partition.as_ref().map(|part| part.descriptor.clone());
        let part = descriptor.and_then(|descriptor| descriptor.0.first().copied());
        let mut stream = self.stream(from, part.map(i64::from), None, request.limit);
        stream.names_others = request.names_others;
        Ok(Box::new(stream))
    }

    fn lookup(&mut self, request: &ReadRequest, keys: &Batch) -> Result<Box<dyn RecordStream>> {
        if !self.can.lookup {
            return Err(Error::unsupported("lookup"));
        }
        self.state.lock().unwrap().lookups += 1;
        let ids = keys.records.column_by_name("id").unwrap();
        let ids: &Int64Array = ids.as_any().downcast_ref().unwrap();
        let mut stream = self.stream(0, None, Some(ids.values().to_vec()), None);
        stream.names_others = request.names_others;
        Ok(Box::new(stream))
    }
}

struct Stream {
    system: MadeUp,
    names_others: bool,
    next: usize,
    part: Option<i64>,
    /// Only these.
    ids: Option<Vec<i64>>,
    left: u64,
    has_schema: bool,
    has_rejected: bool,
}

impl Stream {
    fn wants(&self, id: i64) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&id))
    }
}

impl RecordStream for Stream {
    fn next(&mut self) -> Result<Item> {
        let schema = Arc::new(MadeUp::schema());
        if !std::mem::replace(&mut self.has_schema, true) {
            return Ok(Item::Schema(schema));
        }
        let state = Arc::clone(&self.system.state);
        let mut state = state.lock().unwrap();
        if !std::mem::replace(&mut self.has_rejected, true) {
            let broken = state.broken.iter().filter(|id| self.wants(**id));
            let rejected: Vec<RejectedRecord> = broken
                .filter(|id| is_in(self.part, &row(**id)))
                .map(|id| RejectedRecord {
                    record: format!("number {id}"),
                    row: None,
                    code: "made_up.broken".to_owned(),
                    message: "it is broken".to_owned(),
                    data: None,
                })
                .collect();
            if !rejected.is_empty() {
                return Ok(Item::Rejected(rejected));
            }
        }
        let mut rows = Vec::new();
        while self.next < state.rows.len() && rows.len() < BATCH && self.left > 0 {
            let row = &state.rows[self.next];
            self.next += 1;
            let is_broken = state.broken.contains(&row.id);
            if is_in(self.part, row) && self.wants(row.id) && !is_broken {
                rows.push(row.clone());
                self.left -= 1;
            }
        }
        if rows.is_empty() {
            state.ended += 1;
            if state.ended >= PARTS
                && let Some(change) = state.change.take()
            {
                change(&mut state.rows);
            }
            return Ok(Item::End);
        }
        if self.ids.is_none() {
            if state.fails_after.is_some_and(|batches| state.batches >= batches) {
                return Err(Error::new(ErrorKind::Unavailable, "made_up.gone", "it is gone"));
            }
            state.batches += 1;
        }
        let mut batch = batch(&rows);
        if let Some((id, names)) = state.others.as_ref().filter(|_| self.names_others) {
            batch = with_others(&batch, &rows, *id, names);
        }
        if self.system.can.resume {
            batch.facts.cursor = Cursor((self.next as u64).to_be_bytes().to_vec());
        }
        Ok(Item::Batch(batch))
    }
}

fn with_others(batch: &Batch, rows: &[Row], id: i64, names: &str) -> Batch {
    let mut schema = MadeUp::schema();
    schema.fields.push(Field::new(OTHER_FIELDS, RecordType::Text));
    let schema = Arc::new(schema);
    let others: StringArray = rows.iter().map(|row| (row.id == id).then_some(names)).collect();
    let mut columns = batch.records.columns().to_vec();
    columns.push(Arc::new(others));
    Batch::new(
        Arc::clone(&schema),
        RecordBatch::try_new(schema.to_arrow(), columns).unwrap(),
    )
    .unwrap()
}

pub(super) fn batch(rows: &[Row]) -> Batch {
    let schema = &Arc::new(MadeUp::schema());
    let ids: Int64Array = rows.iter().map(|row| row.id).collect();
    let names: StringArray = rows.iter().map(|row| row.name.clone()).collect();
    let scores: Float64Array = rows.iter().map(|row| row.score).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(names), Arc::new(scores)];
    let records = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
    Batch::new(Arc::clone(schema), records).unwrap()
}
