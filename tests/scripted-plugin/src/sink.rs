//! The sink: sessions over a store in memory, with lanes, fences and every conflict policy.
//!
//! Neighbour: `store`, which holds the records.

use serde_json::json;
use whimbrel_plugin_api::acceptance::records::{Record, Value, records};
use whimbrel_plugin_api::acceptance::values::edge_cases;
use whimbrel_plugin_api::collection::Reference;
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, ClearReport, ClearRequest, Committed, LaneClaim, LaneId, LaneState,
    PrepareReport, PrepareRequest, PreparedCollection, PreparedField,
};
use whimbrel_plugin_api::{
    Atomicity, Batch, Collection, ConflictPolicy, Error, ErrorKind, ErrorScope, Finding, OpenSink, Receipt,
    RejectedRecord, Result, Services, Sink, SinkCapabilities, Source, TypeMapping,
};

use crate::config::{Call, How, Link, ScriptedConfig};
use crate::lane_lies;
use crate::script::Script;
use crate::source::ScriptedSource;
use crate::store::{self, Transaction};

/// The sink role.
pub struct ScriptedSink {
    script: Script,
    open: Option<Transaction>,
    deferred: Vec<Deferred>,
    /// Records of all writes since `begin`.
    written_count: u64,
}

/// A write that waits for `flush`.
struct Deferred {
    collection: String,
    policy: ConflictPolicy,
    records: Vec<(u64, Record)>,
}

/// A rejected record of a batch.
pub(crate) fn rejected(row: u64) -> RejectedRecord {
    RejectedRecord {
        record: format!("row {row}"),
        row: Some(row),
        code: "scripted.rejected".to_owned(),
        message: "the script says so".to_owned(),
        data: None,
    }
}

impl OpenSink for ScriptedSink {
    type Config = ScriptedConfig;

    fn open(config: ScriptedConfig, services: Services) -> Result<Self> {
        let script = Script::new(config, services);
        script.play(Call::Open)?;
        if let Some(path) = &script.config.lanes_path {
            store::keep(
                &script.config.store,
                path,
                script.config.committed_path.as_deref(),
            )?;
        }
        Ok(Self {
            script,
            open: None,
            deferred: Vec::new(),
            written_count: 0,
        })
    }

    fn capabilities() -> SinkCapabilities {
        use ConflictPolicy::{Append, Fail, KeepNewest, KeepOldest, Merge, Overwrite, Skip};
        SinkCapabilities {
            atomicity: Atomicity::Transactional,
            upsert: true,
            policies: vec![Skip, Overwrite, Merge, KeepNewest, KeepOldest, Fail, Append],
            lanes: true,
            read_back: true,
            presence: true,
            ..SinkCapabilities::default()
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        let exactly = |case: whimbrel_plugin_api::acceptance::values::EdgeCase| TypeMapping {
            stored_as: case.record_type.to_string(),
            record_type: case.record_type,
            losses: Vec::new(),
        };
        edge_cases().into_iter().map(exactly).collect()
    }
}

impl Drop for ScriptedSink {
    fn drop(&mut self) {
        // There is nobody to hand an error to.
        drop(self.script.act(Call::Close));
    }
}

impl ScriptedSink {
    fn store(&self) -> &str {
        &self.script.config.store
    }

    fn transaction(&mut self) -> Result<&mut Transaction> {
        self.open
            .as_mut()
            .ok_or_else(|| Error::internal("no transaction is open"))
    }
}

impl ScriptedSink {
    /// Takes records with their rows into the transaction, but for those that the config refuses.
    fn take(
        &mut self,
        collection: &str,
        mut records: Vec<(u64, Record)>,
        policy: ConflictPolicy,
    ) -> Result<Receipt> {
        let refused = &self.script.config.refused_ids;
        let mut refusals = Vec::new();
        records.retain(|(row, record)| {
            let is_refused = matches!(record.get("id"), Some(Value::Int(id)) if refused.contains(id));
            if is_refused {
                refusals.push(rejected(*row));
            }
            !is_refused
        });
        let links = self.script.config.links.clone();
        for link in links
            .iter()
            .filter(|link| link.enforced && link.from == collection)
        {
            // Those of the same write are there at its end, as in a database.
            let own: Vec<Value> = match link.to == collection {
                true => records.iter().map(|(_, record)| record["id"].clone()).collect(),
                false => Vec::new(),
            };
            let transaction = self.transaction()?;
            records.retain(|(row, record)| {
                let value = &record[&link.field];
                let is_there =
                    *value == Value::Null || own.contains(value) || transaction.has(&link.to, value);
                if !is_there {
                    refusals.push(RejectedRecord {
                        code: "scripted.orphan".to_owned(),
                        record: format!("id={:?}", record["id"]),
                        ..rejected(*row)
                    });
                }
                is_there
            });
        }
        let (rows, records): (Vec<u64>, Vec<Record>) = records.into_iter().unzip();
        let mut receipt = self.transaction()?.write(collection, records, policy)?;
        for record in &mut receipt.rejected {
            record.row = record.row.map(|row| rows[row as usize]);
        }
        receipt.rejected.extend(refusals);
        receipt.rejected.sort_by_key(|record| record.row);
        Ok(receipt)
    }
}

fn prepared(collection: &Collection, existed: Option<u64>) -> PreparedCollection {
    let field = |field: &whimbrel_plugin_api::Field| PreparedField {
        name: field.name.clone(),
        stored_name: field.name.clone(),
        stored_as: field.record_type.to_string(),
        losses: Vec::new(),
    };
    PreparedCollection {
        name: collection.name.clone(),
        existed: existed.is_some(),
        record_count: existed,
        fields: collection.schema.fields.iter().map(field).collect(),
        ..PreparedCollection::default()
    }
}

fn enforced(links: &[Link], name: &str) -> Vec<Reference> {
    let links = links.iter().filter(|link| link.enforced && link.from == name);
    links
        .map(|link| Reference {
            fields: vec![link.field.clone()],
            collection: link.to.clone(),
            to_fields: vec!["id".to_owned()],
            ..Reference::default()
        })
        .collect()
}

impl Sink for ScriptedSink {
    fn check(&mut self) -> Result<Vec<Finding>> {
        self.script.play(Call::Check)?;
        Ok(Vec::new())
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<PrepareReport> {
        let about = json!({ "dry": request.dry });
        self.script.play_about(Call::Prepare, about)?;
        let store = self.store();
        let links = &self.script.config.links;
        let report = |collection: &Collection| -> Result<PreparedCollection> {
            Ok(PreparedCollection {
                enforced: enforced(links, &collection.name),
                ..prepared(collection, store::prepare(store, collection, request.dry)?)
            })
        };
        Ok(PrepareReport {
            collections: request.collections.iter().map(report).collect::<Result<_>>()?,
            ..PrepareReport::default()
        })
    }

    fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport> {
        self.script.play(Call::Alter)?;
        let altered = store::alter(self.store(), &request.collection, &request.new)?;
        Ok(PrepareReport {
            collections: vec![prepared(&altered, Some(0))],
            ..PrepareReport::default()
        })
    }

    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        let due = self.script.play(Call::TakeOver)?;
        lane_lies::take_over(due, self.store(), claims)
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        self.script.play(Call::Begin)?;
        self.open = Some(Transaction::begin(self.store())?);
        self.written_count = 0;
        Ok(())
    }

    fn write(&mut self, collection: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt> {
        let about = json!({ "collection": collection, "record_count": batch.record_count() });
        let due = self.script.play_about(Call::Write, about)?;
        self.script.check_full()?;
        let mut records: Vec<(u64, Record)> = (0..).zip(records(batch)).collect();
        let first = self.written_count;
        self.written_count += records.len() as u64;
        if self.script.config.defers {
            // That the collection is there is known at once.
            self.transaction()?.write(collection, Vec::new(), policy)?;
            let deferred = records.len() as u64;
            self.deferred.push(Deferred {
                collection: collection.to_owned(),
                policy,
                records: records
                    .into_iter()
                    .map(|(row, record)| (row + first, record))
                    .collect(),
            });
            return Ok(Receipt {
                deferred,
                ..Receipt::default()
            });
        }
        if due == Some(How::ErrorHalfWay) {
            records.truncate(records.len() / 2);
        }
        let is_rejected = due == Some(How::Reject) && !records.is_empty();
        if is_rejected {
            records.remove(0);
        }
        let mut receipt = self.take(collection, records, policy)?;
        match due {
            Some(How::ErrorHalfWay) => {
                let error = Error::new(
                    ErrorKind::Unavailable,
                    "scripted.half_way",
                    "half of the batch was taken",
                );
                return Err(error.with_scope(ErrorScope::Transaction));
            }
            Some(How::Reject) if is_rejected => receipt.rejected.insert(0, rejected(0)),
            Some(How::WrongReceipt) => receipt.accepted += 1,
            _ => {}
        }
        Ok(receipt)
    }

    fn flush(&mut self) -> Result<Receipt> {
        let due = self.script.play(Call::Flush)?;
        let mut sum = Receipt::default();
        let mut is_rejected = due == Some(How::Reject);
        for mut write in std::mem::take(&mut self.deferred) {
            if is_rejected && !write.records.is_empty() {
                is_rejected = false;
                sum.rejected.push(rejected(write.records.remove(0).0));
            }
            if due == Some(How::LoseRecords) {
                sum.accepted += write.records.len() as u64;
                continue;
            }
            let receipt = self.take(&write.collection, write.records, write.policy)?;
            sum.accepted += receipt.accepted;
            sum.skipped += receipt.skipped;
            sum.rejected.extend(receipt.rejected);
        }
        if due == Some(How::WrongReceipt) {
            sum.accepted += 1;
        }
        Ok(sum)
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        let about = json!({
            "collection": checkpoint.lane.collection,
            "record_count": checkpoint.record_count,
            "done": checkpoint.done,
        });
        let due = self.script.play_about(Call::Commit, about)?;
        self.script.check_full()?;
        let transaction = self
            .open
            .take()
            .ok_or_else(|| Error::internal("no transaction is open"))?;
        if self.deferred.drain(..).any(|write| !write.records.is_empty()) {
            return Err(Error::internal("deferred records were not flushed"));
        }
        match due {
            Some(How::NotCommitted) => return Ok(Committed::NotCommitted),
            Some(How::Fenced) => return Ok(Committed::Fenced),
            Some(How::UnknownLost) => return Ok(Committed::Unknown),
            Some(How::LostCommit) => {
                return Ok(Committed::Committed {
                    seq: checkpoint.seq + 1,
                });
            }
            _ => {}
        }
        let made = lane_lies::checkpoint(due, self.store(), checkpoint)?;
        let committed = transaction.commit(&made, self.script.config.committed_path.as_deref())?;
        Ok(lane_lies::said(due, checkpoint, &made, committed))
    }

    fn abort(&mut self) -> Result<()> {
        // Also called to clean up after a cancellation.
        let due = self.script.act(Call::Abort)?;
        self.open = None;
        if due != Some(How::KeepDeferred) {
            self.deferred.clear();
        }
        Ok(())
    }

    fn add_constraints(&mut self) -> Result<Vec<Finding>> {
        self.script.play(Call::AddConstraints)?;
        Ok(Vec::new())
    }

    fn finalize(&mut self) -> Result<()> {
        self.script.play(Call::Finalize).map(drop)
    }

    fn clear(&mut self, request: &ClearRequest) -> Result<ClearReport> {
        let about = json!({ "collections": request.collections });
        self.script.play_about(Call::Clear, about)?;
        let removed = request
            .collections
            .iter()
            .map(|name| store::clear(self.store(), name).map(Some));
        Ok(ClearReport {
            removed: removed.collect::<Result<_>>()?,
        })
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        self.script.play(Call::Reader)?;
        Ok(Box::new(ScriptedSource::stored(self.script.clone())))
    }
}
