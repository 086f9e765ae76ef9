//! What sinks of this process have committed, by the name of the store, and the transactions on it.
//!
//! A transaction works on a copy; when it commits, the records that it touched go to their places, guarded by the lane's
//! epoch and number. Transactions of several lanes may be open at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use whimbrel_plugin_api::acceptance::records::{Record, Value};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId, LaneState};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Error, Receipt, RejectedRecord, Result, Schema};

static STORES: Mutex<BTreeMap<String, Store>> = Mutex::new(BTreeMap::new());

/// Tells records apart that have no key.
static RECORD_NUMBER: AtomicI64 = AtomicI64::new(0);

#[derive(Default)]
struct Store {
    collections: BTreeMap<String, Stored>,
    lanes: HashMap<LaneId, LaneState>,
}

#[derive(Clone)]
struct Stored {
    collection: Collection,
    records: BTreeMap<Vec<Value>, Record>,
}

fn stores() -> MutexGuard<'static, BTreeMap<String, Store>> {
    STORES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The collections of a store.
pub(crate) fn collections(store: &str) -> Vec<Collection> {
    let stores = stores();
    stores
        .get(store)
        .into_iter()
        .flat_map(|store| store.collections.values())
        .map(|stored| stored.collection.clone())
        .collect()
}

/// One collection with its records.
pub(crate) fn committed(store: &str, name: &str) -> Result<(Collection, Vec<Record>)> {
    let stores = stores();
    let stored = stores.get(store).and_then(|store| store.collections.get(name));
    let stored = stored.ok_or_else(|| Error::no_collection(name))?;
    Ok((
        stored.collection.clone(),
        stored.records.values().cloned().collect(),
    ))
}

/// Makes room for a collection unless `dry`; returns how many records it had, if it was there.
pub(crate) fn prepare(store: &str, collection: &Collection, dry: bool) -> Option<u64> {
    let mut stores = stores();
    let existed = stores
        .get(store)
        .and_then(|store| store.collections.get(&collection.name));
    let existed = existed.map(|stored| stored.records.len() as u64);
    if !dry {
        let collections = &mut stores.entry(store.to_owned()).or_default().collections;
        let stored = collections
            .entry(collection.name.clone())
            .or_insert_with(|| Stored {
                collection: collection.clone(),
                records: BTreeMap::new(),
            });
        // A narrower collection does not take fields away.
        for field in &collection.schema.fields {
            if stored.collection.schema.index_of(&field.name).is_none() {
                stored.collection.schema.fields.push(field.clone());
            }
        }
    }
    existed
}

/// Gives a collection a new schema; records that lack a field have null there.
pub(crate) fn alter(store: &str, name: &str, schema: &Schema) -> Result<Collection> {
    let mut stores = stores();
    let stored = stores
        .get_mut(store)
        .and_then(|store| store.collections.get_mut(name));
    let stored = stored.ok_or_else(|| Error::no_collection(name))?;
    stored.collection.schema = schema.clone();
    for record in stored.records.values_mut() {
        for field in &schema.fields {
            record.entry(field.name.clone()).or_insert(Value::Null);
        }
    }
    Ok(stored.collection.clone())
}

/// Removes all records of a collection; returns how many there were, 0 also if it is not there.
pub(crate) fn clear(store: &str, name: &str) -> u64 {
    let mut stores = stores();
    let stored = stores
        .get_mut(store)
        .and_then(|store| store.collections.get_mut(name));
    stored.map_or(0, |stored| std::mem::take(&mut stored.records).len() as u64)
}

/// Raises the epoch of each lane.
pub(crate) fn take_over(store: &str, lanes: &[LaneId]) -> Vec<LaneState> {
    let mut stores = stores();
    let known = &mut stores.entry(store.to_owned()).or_default().lanes;
    let raise = |lane: &LaneId| {
        let state = known
            .entry(lane.clone())
            .or_insert_with(|| LaneState::unknown(lane.clone()));
        state.epoch += 1;
        state.clone()
    };
    lanes.iter().map(raise).collect()
}

/// An open transaction.
pub(crate) struct Transaction {
    store: String,
    changed: BTreeMap<String, Stored>,
    touched: BTreeMap<String, BTreeSet<Vec<Value>>>,
    written: Vec<(String, Record)>,
}

impl Transaction {
    pub(crate) fn begin(store: &str) -> Self {
        Self {
            store: store.to_owned(),
            changed: BTreeMap::new(),
            touched: BTreeMap::new(),
            written: Vec::new(),
        }
    }

    /// Whether a record with this `id` is there, for this transaction.
    pub(crate) fn has(&self, name: &str, id: &Value) -> bool {
        let is_in = |stored: &Stored| {
            let mut from = stored.records.range(vec![id.clone()]..);
            from.next().is_some_and(|(key, _)| key.first() == Some(id))
        };
        match self.changed.get(name) {
            Some(stored) => is_in(stored),
            None => {
                let stores = stores();
                let stored = stores
                    .get(&self.store)
                    .and_then(|store| store.collections.get(name));
                stored.is_some_and(is_in)
            }
        }
    }

    /// Takes records as the policy says.
    pub(crate) fn write(
        &mut self,
        name: &str,
        records: Vec<Record>,
        policy: ConflictPolicy,
    ) -> Result<Receipt> {
        if !self.changed.contains_key(name) {
            let stores = stores();
            let stored = stores
                .get(&self.store)
                .and_then(|store| store.collections.get(name));
            self.changed.insert(
                name.to_owned(),
                stored.ok_or_else(|| Error::no_collection(name))?.clone(),
            );
        }
        let stored = self
            .changed
            .get_mut(name)
            .ok_or_else(|| Error::internal("the collection was just put there"))?;
        let touched = self.touched.entry(name.to_owned()).or_default();
        let mut receipt = Receipt::default();
        for (row, record) in records.into_iter().enumerate() {
            match taken(stored, record, policy) {
                Taken::As(key, record) => {
                    touched.insert(key);
                    receipt.accepted += 1;
                    self.written.push((name.to_owned(), record));
                }
                Taken::Skipped => {
                    receipt.accepted += 1;
                    receipt.skipped += 1;
                }
                Taken::Refused => receipt.rejected.push(RejectedRecord {
                    record: format!("row {row}"),
                    row: Some(row as u64),
                    code: "scripted.exists".to_owned(),
                    message: format!("a record of `{name}` has this key already"),
                    data: None,
                }),
            }
        }
        Ok(receipt)
    }

    /// Makes it durable if the lane is still held; also as lines in `path`.
    pub(crate) fn commit(mut self, checkpoint: &Checkpoint, path: Option<&Path>) -> Result<Committed> {
        let mut stores = stores();
        let store = stores.entry(std::mem::take(&mut self.store)).or_default();
        let Some(lane) = store.lanes.get_mut(&checkpoint.lane) else {
            return Ok(Committed::Fenced);
        };
        if lane.epoch != checkpoint.epoch || lane.seq != checkpoint.seq {
            return Ok(Committed::Fenced);
        }
        let seq = lane.seq + 1;
        if let Some(path) = path {
            append(path, seq, checkpoint, &self.written)?;
        }
        lane.seq = seq;
        lane.cursor = checkpoint.cursor.clone();
        lane.done = checkpoint.done;
        lane.record_count += checkpoint.record_count;
        for (name, mut changed) in self.changed {
            let touched = self.touched.remove(&name).unwrap_or_default();
            let Some(stored) = store.collections.get_mut(&name) else {
                continue;
            };
            for key in touched {
                if let Some(record) = changed.records.remove(&key) {
                    stored.records.insert(key, record);
                }
            }
        }
        Ok(Committed::Committed { seq })
    }
}

enum Taken {
    As(Vec<Value>, Record),
    Skipped,
    Refused,
}

fn taken(stored: &mut Stored, record: Record, policy: ConflictPolicy) -> Taken {
    let fields = &stored.collection.key;
    let key: Vec<Value> = if fields.is_empty() || policy == ConflictPolicy::Append {
        let key = fields.iter().map(|field| record[field].clone());
        key.chain([Value::Int(RECORD_NUMBER.fetch_add(1, Ordering::Relaxed))])
            .collect()
    } else {
        fields.iter().map(|field| record[field].clone()).collect()
    };
    let version = stored.collection.cursor_fields.first();
    let newer = |than: &Record| version.is_some_and(|field| record[field] > than[field]);
    let record = match stored.records.get(&key) {
        None => record,
        Some(old) => match policy {
            ConflictPolicy::Skip => return Taken::Skipped,
            ConflictPolicy::KeepNewest if !newer(old) => return Taken::Skipped,
            ConflictPolicy::KeepOldest if newer(old) => return Taken::Skipped,
            ConflictPolicy::Fail => return Taken::Refused,
            ConflictPolicy::Merge => {
                let mut merged = old.clone();
                merged.extend(record.into_iter().filter(|(_, value)| *value != Value::Absent));
                merged
            }
            _ => record,
        },
    };
    stored.records.insert(key.clone(), record.clone());
    Taken::As(key, record)
}

/// One line per record, all of a commit in one write.
fn append(path: &Path, seq: u64, checkpoint: &Checkpoint, written: &[(String, Record)]) -> Result<()> {
    let mut lines = String::new();
    for (collection, record) in written {
        let record: serde_json::Map<_, _> = record
            .iter()
            .filter(|(_, value)| **value != Value::Absent)
            .map(|(field, value)| (field.clone(), json(value)))
            .collect();
        let lane = String::from(checkpoint.lane.partition.clone());
        let line =
            serde_json::json!({ "collection": collection, "lane": lane, "seq": seq, "record": record });
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()))
        .map_err(|error| {
            Error::config("scripted.committed_path", "`committed_path` cannot be written").with_cause(&error)
        })
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Absent | Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(bits) => f64::from_bits(*bits).into(),
        Value::Decimal(value) => value.to_string().into(),
        Value::Text(text) => text.as_str().into(),
        Value::Bytes(octets) => octets.clone().into(),
        Value::List(values) | Value::Struct(values) => values.iter().map(json).collect(),
    }
}
