//! The source role: a system that is read.
//!
//! The host opens a source, asks for its collections, divides them, and reads one [`RecordStream`] per partition,
//! each on a thread of its own. Calls on one object never overlap; streams and the source that made them may be
//! called at the same time. Neighbours: [`crate::sink`] offers the same trait for reading back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::batch::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch};
use crate::capability::{SourceCapabilities, TypeMapping};
use crate::check::Finding;
use crate::collection::{Collection, CollectionsRequest};
use crate::config::Config;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::partition::{Partition, PartitionsRequest};
use crate::record_type::Schema;
use crate::services::Services;

/// How a source comes into being, and what it declares before that.
pub trait OpenSource: Source + Sized + 'static {
    /// Its part of the job file.
    type Config: Config;

    /// Opens the system. Called once per object, before anything else; may connect, must not write.
    fn open(config: Self::Config, services: Services) -> Result<Self>;

    /// What it can do. Called without opening.
    fn capabilities() -> SourceCapabilities {
        SourceCapabilities::default()
    }

    /// How each record type is read. Called without opening; the docs' table and the acceptance tests come from it.
    fn type_mappings() -> Vec<TypeMapping> {
        Vec::new()
    }
}

/// A system that is read.
pub trait Source: Send {
    /// Looks for anything that would stop a run: reachability, credentials, rights. Called by `check` and before a
    /// run; must not write. `Ok` with blockers is the way to say no; an error means that the check itself failed.
    fn check(&mut self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// What there is to read. Called before reading, perhaps several times, and no more of it than the job needs: a source may
    /// have to read a collection to describe it. The answer must not depend on the order of names in `request`.
    fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>>;

    /// Fixes one instant for all reads that name the token, from any process. At most once per run.
    /// If unsupported: `Ok(None)`, the default.
    fn open_snapshot(&mut self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Lets a token go. Called once per token, also after a failure; unknown tokens are fine.
    fn close_snapshot(&mut self, snapshot: &str) -> Result<()> {
        let _: &str = snapshot;
        Ok(())
    }

    /// Divides a collection. Together the parts hold each record once. The default is one part.
    fn partitions(&mut self, request: &PartitionsRequest) -> Result<Vec<Partition>> {
        let _: &PartitionsRequest = request;
        Ok(vec![Partition::whole()])
    }

    /// Starts to read. The stream lives on without the source and is called from another thread. Reading the same
    /// request twice gives the same records as long as nobody changes them.
    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>>;

    /// Follows the change log from `cursor` on; an empty cursor is now. If unsupported: the default error.
    fn changes(&mut self, request: &ChangesRequest) -> Result<Box<dyn RecordStream>> {
        let _: &ChangesRequest = request;
        Err(Error::unsupported("changes"))
    }

    /// Counts records exactly, at `snapshot` if given; `None` if that would cost as much as reading them all.
    fn count(&mut self, request: &CountRequest) -> Result<Option<u64>> {
        let _: &CountRequest = request;
        Ok(None)
    }

    /// Reads the records with these keys (columns named and typed like the key fields). Missing ones are left out.
    /// If unsupported: the default error.
    fn lookup(&mut self, request: &ReadRequest, keys: &Batch) -> Result<Box<dyn RecordStream>> {
        let _: (&ReadRequest, &Batch) = (request, keys);
        Err(Error::unsupported("lookup"))
    }

    /// Runs a statement of the system's own language that reads, such as a `SELECT`, and delivers what it selects, with the
    /// columns that it names. Must not write, and refuses a statement that would: where the system can forbid writing, it is
    /// forbidden. If unsupported: the default error.
    fn query(&mut self, request: &QueryRequest) -> Result<Box<dyn RecordStream>> {
        let _: &QueryRequest = request;
        Err(Error::unsupported("query"))
    }

    /// Everything up to `cursor` is durable in the sink and the log before it may be let go. Called after commits, in
    /// order per partition; may be left out by a crash, never called early.
    fn acknowledge(&mut self, request: &AcknowledgeRequest) -> Result<()> {
        let _: &AcknowledgeRequest = request;
        Ok(())
    }
}

/// Name of the field that [`ReadRequest::names_others`] asks for. No system has a field of this name.
pub const OTHER_FIELDS: &str = "__other_fields__";

/// What is read, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadRequest {
    /// The collection.
    pub collection: String,
    /// The part of it.
    pub partition: Option<Partition>,
    /// Only these fields, in this order; empty means all.
    pub columns: Vec<String>,
    /// The schema that the reader counts on. A source that stores less than the full type (a sink read back)
    /// delivers these types.
    pub expected: Option<Schema>,
    /// With an `expected` schema and no `columns`: a system whose records have fields of their own, without a schema that all of them
    /// share, adds the text field [`OTHER_FIELDS`] behind those that are expected. It holds the names of the fields that a record has and
    /// the schema lacks, in order, as a JSON list; it is null, and absent, in a record that has none. Others leave it out: what their
    /// collections hold besides is in the answer to `collections`.
    pub names_others: bool,
    /// Which records.
    pub predicate: Option<Predicate>,
    /// The instant.
    pub snapshot: Option<String>,
    /// Where to go on; the start if empty.
    pub cursor: Cursor,
    /// At most so many records.
    pub limit: Option<u64>,
    /// Bounds of a batch.
    pub batch: BatchBounds,
}

impl ReadRequest {
    /// All of a collection.
    pub fn all(collection: impl Into<String>) -> Self {
        Self {
            collection: collection.into(),
            ..Self::default()
        }
    }
}

/// A statement that reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryRequest {
    /// In the system's own language.
    pub statement: String,
    /// Bounds of a batch.
    pub batch: BatchBounds,
}

/// How large a batch may be. One record that is larger travels alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchBounds {
    /// Records.
    pub records_max: usize,
    /// Octets of the arrays.
    pub bytes_max: usize,
}

impl Default for BatchBounds {
    fn default() -> Self {
        Self {
            records_max: BATCH_RECORDS_MAX,
            bytes_max: BATCH_BYTES_MAX,
        }
    }
}

/// Which records of a collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Predicate {
    /// Key from `from` (inclusive) to `to` (exclusive); each a JSON array of key values in the JSON form of their types.
    KeyRange {
        /// Lower bound.
        from: Option<serde_json::Value>,
        /// Upper bound.
        to: Option<serde_json::Value>,
    },
    /// `field` from `from` to `to`, both inclusive, in the JSON form of its type.
    CursorRange {
        /// The cursor field.
        field: String,
        /// Lower bound.
        from: Option<serde_json::Value>,
        /// Upper bound.
        to: Option<serde_json::Value>,
    },
}

/// From where a change log is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangesRequest {
    /// Only these collections; empty means all.
    pub collections: Vec<String>,
    /// The position; empty means now.
    pub from: Cursor,
    /// The snapshot after which the log is to begin, if the copy was read at one.
    pub snapshot: Option<String>,
}

/// What is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CountRequest {
    /// The collection.
    pub collection: String,
    /// The instant.
    pub snapshot: Option<String>,
}

/// What is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AcknowledgeRequest {
    /// The collection.
    pub collection: String,
    /// Its part.
    pub partition: Option<Partition>,
    /// Up to here.
    pub cursor: Cursor,
}

/// A stream of one partition or one change log.
pub trait RecordStream: Send {
    /// The next item. Called until [`Item::End`] or an error, never after. The first item is [`Item::Schema`]; a batch
    /// follows the last schema. Must not return an empty batch for ever: what has nothing to say blocks, or sends
    /// a heartbeat at least every 10 s.
    fn next(&mut self) -> Result<Item>;
}

/// A stream over batches that follow one schema: announces it, numbers them, and ends with the iterator.
pub struct BatchStream<I> {
    schema: Option<Arc<Schema>>,
    batches: I,
    sequence: u64,
}

impl<I: Iterator<Item = Result<Batch>> + Send> BatchStream<I> {
    /// `batches` is asked for one batch at a time, when the host wants it.
    pub fn new(schema: Arc<Schema>, batches: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            schema: Some(schema),
            batches: batches.into_iter(),
            sequence: 0,
        }
    }
}

impl<I: Iterator<Item = Result<Batch>> + Send> RecordStream for BatchStream<I> {
    fn next(&mut self) -> Result<Item> {
        if let Some(schema) = self.schema.take() {
            return Ok(Item::Schema(schema));
        }
        let Some(mut batch) = self.batches.next().transpose()? else {
            return Ok(Item::End);
        };
        batch.facts.sequence = self.sequence;
        self.sequence += 1;
        Ok(Item::Batch(batch))
    }
}

/// What a stream delivers.
#[derive(Debug, Clone)]
pub enum Item {
    /// From now on batches follow this schema; its version is higher than that of the one before.
    Schema(Arc<Schema>),
    /// Records.
    Batch(Batch),
    /// Records that the source could not deliver. They are not in any batch.
    Rejected(Vec<RejectedRecord>),
    /// A transaction of the source ends here.
    TransactionEnd {
        /// Position in the log.
        position: Cursor,
    },
    /// The collection was emptied in the source.
    Truncate {
        /// Which one.
        collection: String,
    },
    /// Nothing new up to `cursor`.
    Heartbeat {
        /// The position.
        cursor: Cursor,
    },
    /// There is no more.
    End,
}

/// A record that was refused, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRecord {
    /// Where the record is: its key as text, or its place in the input.
    pub record: String,
    /// Row index in the batch, when it was part of one.
    #[serde(default)]
    pub row: Option<u64>,
    /// The stable code of the reason.
    pub code: String,
    /// The reason, without values.
    pub message: String,
    /// The data as far as it could be read, for the rejected-records store only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}
