//! The sink: sessions over a store in memory, with lanes, fences and every conflict policy.
//!
//! Neighbour: `store`, which holds the records.

use serde_json::json;
use whimbrel_plugin_api::acceptance::records::records;
use whimbrel_plugin_api::acceptance::values::edge_cases;
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, ClearReport, ClearRequest, Committed, LaneId, LaneState, PrepareReport,
    PrepareRequest, PreparedCollection, PreparedField,
};
use whimbrel_plugin_api::{
    Atomicity, Batch, Collection, ConflictPolicy, Error, ErrorKind, ErrorScope, Finding, OpenSink, Receipt,
    RejectedRecord, Result, Services, Sink, SinkCapabilities, Source, TypeMapping,
};

use crate::config::{Call, How, ScriptedConfig};
use crate::script::Script;
use crate::source::ScriptedSource;
use crate::store::{self, Transaction};

/// The sink role.
pub struct ScriptedSink {
    script: Script,
    open: Option<Transaction>,
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
        Ok(Self { script, open: None })
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
    }
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
        let report = |collection| prepared(collection, store::prepare(store, collection, request.dry));
        Ok(PrepareReport {
            collections: request.collections.iter().map(report).collect(),
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

    fn take_over(&mut self, lanes: &[LaneId]) -> Result<Vec<LaneState>> {
        self.script.play(Call::TakeOver)?;
        Ok(store::take_over(self.store(), lanes))
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        self.script.play(Call::Begin)?;
        self.open = Some(Transaction::begin(self.store()));
        Ok(())
    }

    fn write(&mut self, collection: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt> {
        let about = json!({ "collection": collection, "record_count": batch.record_count() });
        let due = self.script.play_about(Call::Write, about)?;
        let mut records = records(batch);
        if due == Some(How::ErrorHalfWay) {
            records.truncate(records.len() / 2);
        }
        if due == Some(How::Reject) && !records.is_empty() {
            records.remove(0);
        }
        let mut receipt = self.transaction()?.write(collection, records, policy)?;
        match due {
            Some(How::ErrorHalfWay) => {
                let error = Error::new(
                    ErrorKind::Unavailable,
                    "scripted.half_way",
                    "half of the batch was taken",
                );
                return Err(error.with_scope(ErrorScope::Transaction));
            }
            Some(How::Reject) if batch.record_count() > 0 => {
                receipt
                    .rejected
                    .iter_mut()
                    .for_each(|rejected| rejected.row = rejected.row.map(|row| row + 1));
                receipt.rejected.insert(0, rejected(0));
            }
            Some(How::WrongReceipt) => receipt.accepted += 1,
            _ => {}
        }
        Ok(receipt)
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        let about = json!({ "record_count": checkpoint.record_count, "done": checkpoint.done });
        let due = self.script.play_about(Call::Commit, about)?;
        let transaction = self
            .open
            .take()
            .ok_or_else(|| Error::internal("no transaction is open"))?;
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
        let committed = transaction.commit(checkpoint, self.script.config.committed_path.as_deref())?;
        Ok(if due == Some(How::UnknownKept) {
            Committed::Unknown
        } else {
            committed
        })
    }

    fn abort(&mut self) -> Result<()> {
        // Also called to clean up after a cancellation.
        self.script.act(Call::Abort)?;
        self.open = None;
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
            .map(|name| Some(store::clear(self.store(), name)));
        Ok(ClearReport {
            removed: removed.collect(),
        })
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        self.script.play(Call::Reader)?;
        Ok(Box::new(ScriptedSource::stored(self.script.clone())))
    }
}
