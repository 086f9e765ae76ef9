//! The transform role: records changed on the way from source to sink.
//!
//! A transform is planned once per collection and then applied to batches. It does no I/O of its own and keeps no
//! record from one batch for the next.

use std::sync::Arc;

use arrow_array::BooleanArray;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::collection::Collection;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::record_type::Schema;
use crate::services::Services;
use crate::source::RejectedRecord;

/// How a transform comes into being.
pub trait OpenTransform: Transform + Sized + 'static {
    /// Its part of the job file.
    type Config: Config;

    /// Makes one. Called once per collection and thread.
    fn open(config: Self::Config, services: Services) -> Result<Self>;
}

/// Records changed on the way.
pub trait Transform: Send {
    /// Says what comes out for a collection that comes in. Called before the first batch and again when the schema
    /// changes; must not depend on records.
    fn plan(&mut self, collection: &Collection) -> Result<Plan>;

    /// Changes one batch. Every output names a collection of the plan; an empty output still advances the cursor.
    fn apply(&mut self, batch: &Batch) -> Result<Applied>;

    /// Judges each record: true, false, or null for "does not apply". For checks before and after a run.
    /// If unsupported: the default error.
    fn rule(&mut self, batch: &Batch) -> Result<BooleanArray> {
        let _: &Batch = batch;
        Err(Error::unsupported("rule"))
    }
}

/// What a transform makes of a collection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// The collections that come out, often just one.
    pub outputs: Vec<Collection>,
}

/// The outcome for one batch.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// Collection and batch of each output, in order. Facts are filled in by the host.
    pub outputs: Vec<(String, Batch)>,
    /// Records that could not be changed as asked.
    pub rejected: Vec<RejectedRecord>,
    /// Records that were left out on purpose, such as by a filter. Told only beside an output, which may be empty.
    pub filtered: u64,
}

impl Applied {
    /// One output.
    pub fn one(collection: impl Into<String>, batch: Batch) -> Self {
        Self {
            outputs: vec![(collection.into(), batch)],
            ..Self::default()
        }
    }
}

/// The schema of `collection` in `plan`, if it is an output.
pub fn output_schema(plan: &Plan, collection: &str) -> Option<Arc<Schema>> {
    plan.outputs
        .iter()
        .find(|output| output.name == collection)
        .map(|output| Arc::new(output.schema.clone()))
}
