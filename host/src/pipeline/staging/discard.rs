//! A sink that takes everything and keeps nothing: where a dry run ends, so that reading and transforming are tried.
//! It writes nothing anywhere.

use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, Committed, ConflictPolicy, LaneId, PrepareReport, PrepareRequest, Receipt,
};
use whimbrel_plugin_api::{Batch, Result, Sink};

/// See the module.
#[derive(Debug, Default)]
pub struct Discard;

impl Sink for Discard {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn alter(&mut self, _: &AlterRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &Batch, _: ConflictPolicy) -> Result<Receipt> {
        Ok(Receipt::all(batch.record_count() as u64))
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        Ok(Committed::Committed {
            seq: checkpoint.seq + 1,
        })
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}
