//! A source and a sink in memory. The sink refuses a record whose parent it does not have, and to remove one that others refer to.
//! Neighbours: the other tests, which repair one from the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, ArrayRef, Int64Array, RecordBatch, StringArray};
use whimbrel_plugin_api::collection::CollectionsRequest;
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, Committed, LaneClaim, LaneId, LaneState, PrepareReport, PrepareRequest, Receipt,
};
use whimbrel_plugin_api::source::{Item, ReadRequest, RecordStream, RejectedRecord};
use whimbrel_plugin_api::{
    Batch, Collection, ConflictPolicy, Error, Field, RecordType, Result, Schema, Sink, Source,
};

/// Records by id, each with its parent.
pub(super) type Records = BTreeMap<i64, Option<i64>>;

pub(super) fn schema() -> Schema {
    Schema::new(vec![
        Field::required("id", RecordType::INT64),
        Field::new("parent", RecordType::INT64),
    ])
}

fn batch(records: &Records) -> Batch {
    let schema = schema();
    let ids = Int64Array::from_iter_values(records.keys().copied());
    let parents = Int64Array::from_iter(records.values().copied());
    let columns = RecordBatch::try_new(schema.to_arrow(), vec![Arc::new(ids), Arc::new(parents)]).unwrap();
    Batch::new(Arc::new(schema), columns).unwrap()
}

/// How often it was asked for what.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) lookups: u64,
    pub(super) scans: u64,
    /// Whether it brings a record that cannot be delivered.
    pub(super) rejects: bool,
    /// Records that cannot be read, each with what is given of it.
    spoilt: BTreeMap<i64, Option<String>>,
    /// Whether records have a field that is not in the schema as it is described.
    has_more: bool,
    is_undescribed: bool,
}

impl Asked {
    /// What a stream brings of `records`.
    fn deliver(&self, request: &ReadRequest, records: &Records) -> Box<dyn RecordStream> {
        let mut rejected: Vec<RejectedRecord> = Vec::new();
        let mut whole = records.clone();
        for (id, data) in &self.spoilt {
            if whole.remove(id).is_some() {
                let data = data.clone();
                rejected.push(RejectedRecord { data, ..torn() });
            }
        }
        if self.rejects {
            rejected.push(torn());
        }
        let expected = request.expected.as_ref();
        let has_more = expected.is_none_or(|expected| expected.index_of("mine").is_some());
        let batch = match self.has_more && has_more {
            true => with_more(&whole),
            false => batch(&whole),
        };
        let items = [
            Item::Schema(Arc::clone(&batch.schema)),
            Item::Rejected(rejected),
            Item::Batch(batch),
        ];
        Box::new(Items(items.into_iter().collect()))
    }
}

/// The same with a field that nobody has described.
fn with_more(records: &Records) -> Batch {
    let mut schema = schema();
    schema.fields.push(Field::new("mine", RecordType::Text));
    let mine: ArrayRef = Arc::new(StringArray::from(vec!["a"; records.len()]));
    let plain = batch(records).records;
    let columns = plain.columns().iter().cloned().chain([mine]).collect();
    let columns = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
    Batch::new(Arc::new(schema), columns).unwrap()
}

#[derive(Clone)]
pub(super) struct MemorySource(pub(super) Arc<Mutex<(Records, Asked)>>);

impl Source for MemorySource {
    fn collections(&mut self, _: &CollectionsRequest) -> Result<Vec<Collection>> {
        let asked = &self.0.lock().unwrap().1;
        let is_described = asked.has_more && !asked.is_undescribed;
        let described = Collection::new("c", schema()).with_key(["id"]);
        Ok(is_described.then_some(described).into_iter().collect())
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        let mut inner = self.0.lock().unwrap();
        inner.1.scans += 1;
        Ok(inner.1.deliver(request, &inner.0))
    }

    fn lookup(&mut self, request: &ReadRequest, keys: &Batch) -> Result<Box<dyn RecordStream>> {
        let mut inner = self.0.lock().unwrap();
        inner.1.lookups += 1;
        assert_eq!(keys.schema.fields[0].name, "id");
        let ids = keys.records.column(0).as_primitive::<Int64Type>();
        let found = (0..ids.len())
            .filter_map(|row| Some((ids.value(row), *inner.0.get(&ids.value(row))?)))
            .collect();
        Ok(inner.1.deliver(request, &found))
    }
}

/// A stream of these.
struct Items(VecDeque<Item>);

impl RecordStream for Items {
    fn next(&mut self) -> Result<Item> {
        Ok(self.0.pop_front().unwrap_or(Item::End))
    }
}

/// A record that cannot be delivered.
fn torn() -> RejectedRecord {
    RejectedRecord {
        record: "x".into(),
        row: None,
        code: "a.torn".into(),
        message: "it is torn".into(),
        data: None,
    }
}

#[derive(Default)]
pub(super) struct Store {
    lane: Option<LaneState>,
    pub(super) durable: Records,
    open: Records,
    pub(super) commits: u64,
    /// So many commits are made before writing fails, if it does.
    pub(super) fails_at: Option<u64>,
    /// By which policies records were written.
    pub(super) policies: BTreeSet<&'static str>,
    pub(super) spoilt: BTreeMap<i64, Option<String>>,
    pub(super) has_more: bool,
    pub(super) is_undescribed: bool,
}

#[derive(Clone, Default)]
pub(super) struct MemorySink(pub(super) Arc<Mutex<Store>>);

impl Sink for MemorySink {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn alter(&mut self, _: &AlterRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        let mut store = self.0.lock().unwrap();
        let claim = &claims[0];
        assert_eq!(claim.lane.partition.0, b"repair");
        let state = LaneState::taken_over(store.lane.as_ref(), claim)?;
        store.lane = Some(state.clone());
        Ok(vec![state])
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        let mut store = self.0.lock().unwrap();
        store.open = store.durable.clone();
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt> {
        let mut store = self.0.lock().unwrap();
        if store.fails_at == Some(store.commits) {
            return Err(Error::new(
                whimbrel_plugin_api::ErrorKind::Permission,
                "a.closed",
                "it is closed",
            ));
        }
        store.policies.insert(match policy {
            ConflictPolicy::Overwrite => "overwrite",
            ConflictPolicy::Merge => "merge",
            ConflictPolicy::Skip => "skip",
            _ => "another one",
        });
        let ids = batch.records.column(0).as_primitive::<Int64Type>();
        let parents = batch.records.column(1).as_primitive::<Int64Type>();
        let mut receipt = Receipt::default();
        for row in 0..ids.len() {
            let parent = (!parents.is_null(row)).then(|| parents.value(row));
            if parent.is_some_and(|parent| !store.open.contains_key(&parent)) {
                receipt.rejected.push(RejectedRecord {
                    record: "x".into(),
                    row: Some(row as u64),
                    code: "a.orphan".into(),
                    message: "its parent is not there".into(),
                    data: None,
                });
                continue;
            }
            store.open.insert(ids.value(row), parent);
            receipt.accepted += 1;
        }
        Ok(receipt)
    }

    fn remove(&mut self, _: &str, keys: &Batch) -> Result<u64> {
        let mut store = self.0.lock().unwrap();
        let ids = keys.records.column(0).as_primitive::<Int64Type>();
        let mut count = 0;
        for row in 0..ids.len() {
            let id = ids.value(row);
            if store.open.values().any(|parent| *parent == Some(id)) {
                return Err(Error::new(
                    whimbrel_plugin_api::ErrorKind::Integrity,
                    "a.child",
                    "others refer to it",
                ));
            }
            count += u64::from(store.open.remove(&id).is_some());
        }
        Ok(count)
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        let store = self.0.lock().unwrap();
        let asked = Asked {
            spoilt: store.spoilt.clone(),
            has_more: store.has_more,
            is_undescribed: store.is_undescribed,
            ..Asked::default()
        };
        let records = (store.durable.clone(), asked);
        Ok(Box::new(MemorySource(Arc::new(Mutex::new(records)))))
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        let mut store = self.0.lock().unwrap();
        let Some(next) = store.lane.as_ref().and_then(|lane| lane.committed(checkpoint)) else {
            return Ok(Committed::Fenced);
        };
        let seq = next.seq;
        store.lane = Some(next);
        store.durable = std::mem::take(&mut store.open);
        store.commits += 1;
        Ok(Committed::Committed { seq })
    }

    fn abort(&mut self) -> Result<()> {
        self.0.lock().unwrap().open.clear();
        Ok(())
    }
}
