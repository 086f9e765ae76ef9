//! A batch: Arrow records of one schema version with the facts that travel beside them.
//!
//! Bounded by the request: about 8,192 records and at most 8 MiB; a larger record travels alone. Neighbours:
//! [`crate::record_type`] (the schema), [`crate::source`] and [`crate::sink`] (who makes and takes it).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::record_type::Schema;

/// Records per batch that a source aims at. Measured: the hop over the boundary costs 3-4 us a batch, so at this
/// size it is below a nanosecond a record.
pub const BATCH_RECORDS_MAX: usize = 8_192;
/// Octets per batch that a source aims at; one larger record travels alone.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Whether the records come from reading what is there or from the log of what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchOrigin {
    /// Read from the collection itself.
    #[default]
    Copy,
    /// Read from a change log.
    Change,
}

/// What travels beside the records of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchFacts {
    /// Position in its stream, from 0, without gaps.
    pub sequence: u64,
    /// Where to go on after the last record of this batch.
    pub cursor: Cursor,
    /// Size of the arrays in octets, as the maker counts it.
    pub bytes: u64,
    /// Copy or change.
    pub origin: BatchOrigin,
    /// The snapshot that was read, if any.
    pub snapshot: Option<String>,
    /// The transaction of the source that the changes belong to, if any.
    pub transaction: Option<String>,
    /// Anything else, by name. A receiver that does not know a name passes it on.
    pub extensions: BTreeMap<String, Vec<u8>>,
}

/// Records of one schema version, with their facts.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The schema that the columns follow.
    pub schema: Arc<Schema>,
    /// The columns, in the order of `schema`, then `__presence` if the schema says so.
    pub records: RecordBatch,
    /// What travels beside them.
    pub facts: BatchFacts,
}

impl Batch {
    /// Joins columns with their schema; refuses columns whose number or Arrow type is not what the schema says.
    pub fn new(schema: Arc<Schema>, records: RecordBatch) -> Result<Self> {
        let wanted = schema.to_arrow();
        let given = records.schema_ref();
        if wanted.fields().len() != given.fields().len() {
            return Err(Error::internal(format!(
                "a batch has {} columns, its schema has {}",
                given.fields().len(),
                wanted.fields().len()
            )));
        }
        for (want, have) in wanted.fields().iter().zip(given.fields()) {
            if !want.data_type().equals_datatype(have.data_type()) {
                return Err(Error::internal(format!(
                    "the column `{}` is `{}`, its schema says `{}`",
                    want.name(),
                    have.data_type(),
                    want.data_type()
                )));
            }
        }
        let bytes = records.get_array_memory_size() as u64;
        Ok(Self {
            schema,
            records,
            facts: BatchFacts {
                bytes,
                ..BatchFacts::default()
            },
        })
    }

    /// How many records.
    pub fn record_count(&self) -> usize {
        self.records.num_rows()
    }

    /// Sets where to go on after this batch.
    #[must_use]
    pub fn with_cursor(mut self, cursor: Cursor) -> Self {
        self.facts.cursor = cursor;
        self
    }
}
