//! What sinks of this process have committed, by the name of the store, and the transactions on it. Neighbour: `journal`, which
//! keeps a store across processes.
//!
//! A transaction works on a copy; when it commits, the records that it touched go to their places, guarded by the lane's
//! epoch and number. Transactions of several lanes may be open at once.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use whimbrel_plugin_api::acceptance::records::{Record, Value};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Error, Receipt, RejectedRecord, Result, Schema};

use crate::committed_lines::{append, lines_of, unwritable};
use crate::journal::{Change, Journal, Locked, Written};

static STORES: Mutex<BTreeMap<String, Store>> = Mutex::new(BTreeMap::new());

/// Tells records apart that have no key, together with the number of the process.
static RECORD_NUMBER: AtomicI64 = AtomicI64::new(0);

#[derive(Default)]
struct Store {
    collections: BTreeMap<String, Stored>,
    lanes: HashMap<LaneId, LaneState>,
    journal: Option<Journal>,
}

#[derive(Clone)]
struct Stored {
    collection: Collection,
    records: BTreeMap<Vec<Value>, Record>,
}

fn stores() -> MutexGuard<'static, BTreeMap<String, Store>> {
    STORES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Does to the store what the change says.
    fn apply(&mut self, change: Change) {
        match change {
            Change::Prepared(collection) => {
                let stored = self.collections.entry(collection.name.clone());
                let stored = stored.or_insert_with(|| Stored {
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
            Change::Altered { collection, schema } => {
                let Some(stored) = self.collections.get_mut(&collection) else {
                    return;
                };
                for record in stored.records.values_mut() {
                    for field in &schema.fields {
                        record.entry(field.name.clone()).or_insert(Value::Null);
                    }
                }
                stored.collection.schema = schema;
            }
            Change::Cleared(collection) => {
                if let Some(stored) = self.collections.get_mut(&collection) {
                    stored.records.clear();
                }
            }
            Change::TakenOver(lanes) => {
                let named = lanes.into_iter().map(|state| (state.lane.clone(), state));
                self.lanes.extend(named);
            }
            Change::Committed { lane, records } => {
                for written in records {
                    if let Some(stored) = self.collections.get_mut(&written.collection) {
                        stored.records.insert(written.key, written.record);
                    }
                }
                self.lanes.insert(lane.lane.clone(), lane);
            }
        }
    }

    /// Brings the store up to date with what other processes have done to it, and keeps them away.
    fn enter(&mut self) -> Result<Option<Locked>> {
        let Some(journal) = &mut self.journal else {
            return Ok(None);
        };
        let (file, changes) = journal.lock()?;
        changes.into_iter().for_each(|change| self.apply(change));
        Ok(Some(file))
    }

    /// Makes a change, durable if the store is kept.
    fn change(&mut self, file: &mut Option<Locked>, change: Change) -> Result<()> {
        if let (Some(journal), Some(file)) = (&mut self.journal, file) {
            journal.append(file, &change)?;
        }
        self.apply(change);
        Ok(())
    }
}

/// Keeps a store in a file from here on, beginning with what the file has. The file of committed records is made anew from it, since
/// the process that ended last may not have come to it.
pub(crate) fn keep(store: &str, lanes_path: &Path, committed_path: Option<&Path>) -> Result<()> {
    let mut stores = stores();
    let store = stores.entry(store.to_owned()).or_default();
    if store
        .journal
        .as_ref()
        .is_some_and(|journal| journal.path() == lanes_path)
    {
        return Ok(());
    }
    let mut journal = Journal::new(lanes_path);
    let (file, changes) = journal.lock()?;
    let mut lines = String::new();
    for change in changes {
        if let Change::Committed { lane, records } = &change {
            lines.push_str(&lines_of(lane, records));
        }
        store.apply(change);
    }
    store.journal = Some(journal);
    if let Some(path) = committed_path.filter(|path| path.exists() || !lines.is_empty()) {
        std::fs::write(path, lines).map_err(|error| unwritable(&error))?;
    }
    drop(file);
    Ok(())
}

/// The collections of a store.
pub(crate) fn collections(store: &str) -> Result<Vec<Collection>> {
    let mut stores = stores();
    let Some(store) = stores.get_mut(store) else {
        return Ok(Vec::new());
    };
    store.enter()?;
    Ok(store
        .collections
        .values()
        .map(|stored| stored.collection.clone())
        .collect())
}

/// One collection with its records.
pub(crate) fn committed(store: &str, name: &str) -> Result<(Collection, Vec<Record>)> {
    let mut stores = stores();
    let store = stores.get_mut(store).ok_or_else(|| Error::no_collection(name))?;
    store.enter()?;
    let stored = store.collections.get(name);
    let stored = stored.ok_or_else(|| Error::no_collection(name))?;
    Ok((
        stored.collection.clone(),
        stored.records.values().cloned().collect(),
    ))
}

/// Makes room for a collection unless `dry`; returns how many records it had, if it was there.
pub(crate) fn prepare(store: &str, collection: &Collection, dry: bool) -> Result<Option<u64>> {
    let mut stores = stores();
    let store = stores.entry(store.to_owned()).or_default();
    let mut file = store.enter()?;
    let existed = store.collections.get(&collection.name);
    let existed = existed.map(|stored| stored.records.len() as u64);
    if !dry {
        store.change(&mut file, Change::Prepared(collection.clone()))?;
    }
    Ok(existed)
}

/// Gives a collection a new schema; records that lack a field have null there.
pub(crate) fn alter(store: &str, name: &str, schema: &Schema) -> Result<Collection> {
    let mut stores = stores();
    let store = stores.get_mut(store).ok_or_else(|| Error::no_collection(name))?;
    let mut file = store.enter()?;
    let change = Change::Altered {
        collection: name.to_owned(),
        schema: schema.clone(),
    };
    store.change(&mut file, change)?;
    let stored = store.collections.get(name);
    Ok(stored
        .ok_or_else(|| Error::no_collection(name))?
        .collection
        .clone())
}

/// Removes all records of a collection; returns how many there were, 0 also if it is not there.
pub(crate) fn clear(store: &str, name: &str) -> Result<u64> {
    let mut stores = stores();
    let Some(store) = stores.get_mut(store) else {
        return Ok(0);
    };
    let mut file = store.enter()?;
    let count = store
        .collections
        .get(name)
        .map_or(0, |stored| stored.records.len() as u64);
    store.change(&mut file, Change::Cleared(name.to_owned()))?;
    Ok(count)
}

/// A lane as it is.
pub(crate) fn lane(store: &str, id: &LaneId) -> Result<Option<LaneState>> {
    let mut stores = stores();
    let store = stores.entry(store.to_owned()).or_default();
    store.enter()?;
    Ok(store.lanes.get(id).cloned())
}

/// Grants all claims, or none.
pub(crate) fn take_over(store: &str, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
    let mut stores = stores();
    let store = stores.entry(store.to_owned()).or_default();
    let mut file = store.enter()?;
    let granted = claims
        .iter()
        .map(|claim| LaneState::taken_over(store.lanes.get(&claim.lane), claim));
    let granted = granted.collect::<Result<Vec<_>>>()?;
    store.change(&mut file, Change::TakenOver(granted.clone()))?;
    Ok(granted)
}

/// An open transaction.
pub(crate) struct Transaction {
    store: String,
    changed: BTreeMap<String, Stored>,
    written: Vec<Written>,
}

impl Transaction {
    pub(crate) fn begin(store: &str) -> Result<Self> {
        stores().entry(store.to_owned()).or_default().enter()?;
        Ok(Self {
            store: store.to_owned(),
            changed: BTreeMap::new(),
            written: Vec::new(),
        })
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
        let mut receipt = Receipt::default();
        for (row, record) in records.into_iter().enumerate() {
            match taken(stored, record, policy) {
                Taken::As(key, record) => {
                    receipt.accepted += 1;
                    self.written.push(Written {
                        collection: name.to_owned(),
                        key,
                        record,
                    });
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
        let mut file = store.enter()?;
        let held = store.lanes.get(&checkpoint.lane);
        let Some(lane) = held.and_then(|lane| lane.committed(checkpoint)) else {
            return Ok(Committed::Fenced);
        };
        let seq = lane.seq;
        let lines = path.map(|_| lines_of(&lane, &self.written));
        let append = || match (path, &lines) {
            (Some(path), Some(lines)) => append(path, lines),
            _ => Ok(()),
        };
        // What is kept in a file of its own is true; the lines follow from it. Else they are all that is durable.
        let is_kept = file.is_some();
        if !is_kept {
            append()?;
        }
        let change = Change::Committed {
            lane,
            records: self.written,
        };
        store.change(&mut file, change)?;
        if is_kept {
            append()?;
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
        let number = RECORD_NUMBER.fetch_add(1, Ordering::Relaxed) + (i64::from(std::process::id()) << 32);
        key.chain([Value::Int(number)]).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_plugin_api::{Field, RecordType};

    fn records(ids: std::ops::Range<i64>) -> Vec<Record> {
        ids.map(|id| Record::from([("id".to_owned(), Value::Int(id))]))
            .collect()
    }

    fn commit(store: &str, state: &LaneState, ids: std::ops::Range<i64>, lines: &Path) -> Committed {
        let mut transaction = Transaction::begin(store).unwrap();
        transaction
            .write("a", records(ids), ConflictPolicy::Fail)
            .unwrap();
        let checkpoint = Checkpoint {
            lane: state.lane.clone(),
            epoch: state.epoch,
            seq: state.seq,
            ..Checkpoint::default()
        };
        transaction.commit(&checkpoint, Some(lines)).unwrap()
    }

    /// Two names in one process stand for two processes: they share nothing but the files.
    #[test]
    fn processes_with_one_file_have_one_store() {
        let folder = tempfile::tempdir().unwrap();
        let (file, lines) = (folder.path().join("lanes"), folder.path().join("lines"));
        let (old, new) = ("kept-old", "kept-new");
        keep(old, &file, Some(&lines)).unwrap();
        assert!(!lines.exists());
        let schema = Schema::new(vec![Field::required("id", RecordType::INT64)]);
        let collection = Collection::new("a", schema).with_key(["id"]);
        assert_eq!(prepare(old, &collection, false).unwrap(), None);
        let claim = LaneClaim {
            begun_by: "run".to_owned(),
            ..LaneClaim::default()
        };
        let mut state = take_over(old, std::slice::from_ref(&claim)).unwrap().remove(0);
        assert_eq!(commit(old, &state, 0..3, &lines), Committed::Committed { seq: 1 });
        state.seq = 1;

        // The first one ended before it came to the lines.
        std::fs::write(&lines, "").unwrap();
        keep(new, &file, Some(&lines)).unwrap();
        let count = || std::fs::read_to_string(&lines).unwrap().lines().count();
        assert_eq!(count(), 3);
        let found = committed(new, "a").unwrap();
        assert_eq!(found, (collection.clone(), records(0..3)));
        assert_eq!(lane(new, &state.lane).unwrap(), Some(state.clone()));

        // It was only stopped; the second one has the lane by now.
        let taken = take_over(new, std::slice::from_ref(&claim)).unwrap().remove(0);
        assert_eq!((taken.epoch, taken.seq), (2, 1));
        assert_eq!(commit(old, &state, 3..6, &lines), Committed::Fenced);
        assert_eq!(commit(new, &taken, 3..6, &lines), Committed::Committed { seq: 2 });
        assert_eq!(committed(old, "a").unwrap().1, records(0..6));
        assert_eq!(count(), 6);

        assert_eq!(clear(new, "a").unwrap(), 6);
        assert_eq!(prepare(old, &collection, true).unwrap(), Some(0));
    }
}
