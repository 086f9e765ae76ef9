//! The source role and its streams across the boundary: the producing half and the foreign half.
//! Contracts: [`crate::source`]. What comes back is checked before it is passed on.

use std::sync::{Arc, OnceLock};

use abi_stable::StableAbi;
use abi_stable::prefix_type::PrefixTypeTrait as _;
use abi_stable::std_types::{RResult, RVec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::arrow::{BatchAbi, KnownSchema, Validation};
use super::error::{Reply, Request, decode, decode_error, encode, encode_error, read_reply, reply};
use super::object::{CancelObject, Canceller, Cell, Handle};
use crate::batch::Batch;
use crate::check::Finding;
use crate::collection::{Collection, CollectionsRequest};
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind, Result};
use crate::partition::{Partition, PartitionsRequest};
use crate::record_type::Schema;
use crate::services::CancelToken;
#[cfg(not(whimbrel_made_up = "older"))]
use crate::source::QueryRequest;
use crate::source::{
    AcknowledgeRequest, ChangesRequest, CountRequest, Item, ReadRequest, RecordStream, RejectedRecord, Source,
};

/// The functions of an opened source. Grows only at its end; what an older plugin lacks has its default.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = SourceVtableRef)))]
#[sabi(missing_field(option))]
pub struct SourceVtable {
    /// Ends the object.
    pub close: extern "C" fn(Handle),
    /// The object's canceller.
    pub canceller: extern "C" fn(Handle) -> CancelObject,
    /// `Source::check`.
    pub check: extern "C" fn(Handle) -> Reply,
    /// `Source::collections`.
    pub collections: extern "C" fn(Handle, Request) -> Reply,
    /// `Source::open_snapshot`.
    pub open_snapshot: extern "C" fn(Handle) -> Reply,
    /// `Source::close_snapshot`.
    pub close_snapshot: extern "C" fn(Handle, Request) -> Reply,
    /// `Source::partitions`.
    pub partitions: extern "C" fn(Handle, Request) -> Reply,
    /// `Source::read`.
    pub read: extern "C" fn(Handle, Request) -> StreamReply,
    /// `Source::changes`.
    pub changes: extern "C" fn(Handle, Request) -> StreamReply,
    /// `Source::count`.
    pub count: extern "C" fn(Handle, Request) -> Reply,
    /// `Source::lookup`: the read request, the schema of the keys, the keys.
    #[sabi(last_prefix_field)]
    pub lookup: extern "C" fn(Handle, Request, Request, BatchAbi) -> StreamReply,
    /// `Source::acknowledge`; since 0.1.1, default: nothing to do.
    #[cfg(not(whimbrel_made_up = "older"))]
    pub acknowledge: extern "C" fn(Handle, Request) -> Reply,
    /// `Source::query`; since 0.1.2, default: not offered.
    #[cfg(not(whimbrel_made_up = "older"))]
    pub query: extern "C" fn(Handle, Request) -> StreamReply,
    /// A call that only a made-up newer minor has.
    #[cfg(whimbrel_made_up = "newer")]
    pub made_up: extern "C" fn(Handle, Request) -> Reply,
}

/// An opened source.
#[repr(C)]
#[derive(StableAbi)]
pub struct SourceObject {
    handle: Handle,
    vtable: SourceVtableRef,
}

/// The answer of `open_source` and of a sink's `reader`.
pub type SourceReply = RResult<SourceObject, RVec<u8>>;

/// The functions of a stream.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = StreamVtableRef)))]
#[sabi(missing_field(option))]
pub struct StreamVtable {
    /// Ends the stream.
    pub close: extern "C" fn(Handle),
    /// `RecordStream::next`.
    #[sabi(last_prefix_field)]
    pub next: extern "C" fn(Handle) -> ItemReply,
}

/// An open stream.
#[repr(C)]
#[derive(StableAbi)]
pub struct StreamObject {
    handle: Handle,
    vtable: StreamVtableRef,
}

/// The answer of `read`, `changes`, `lookup` and `query`.
pub type StreamReply = RResult<StreamObject, RVec<u8>>;

/// One item: a tag, a batch (if the tag says so), and otherwise a message.
#[repr(C)]
#[derive(StableAbi)]
pub struct ItemAbi {
    tag: u32,
    batch: BatchAbi,
    message: RVec<u8>,
}

/// The answer of `next`.
pub type ItemReply = RResult<ItemAbi, RVec<u8>>;

const TAG_SCHEMA: u32 = 1;
const TAG_BATCH: u32 = 2;
const TAG_TRANSACTION_END: u32 = 3;
const TAG_TRUNCATE: u32 = 4;
const TAG_HEARTBEAT: u32 = 5;
const TAG_END: u32 = 6;
const TAG_REJECTED: u32 = 7;

// ---------------------------------------------------------------- producing half

type SourceCell = Cell<dyn Source>;

struct StreamCell {
    cell: Cell<dyn RecordStream>,
}

impl SourceObject {
    /// Gives a source away.
    pub(crate) fn new(source: Box<dyn Source>, cancel: CancelToken) -> Self {
        static VTABLE: OnceLock<SourceVtableRef> = OnceLock::new();
        let vtable = *VTABLE.get_or_init(|| {
            SourceVtable {
                close,
                canceller,
                check,
                collections,
                open_snapshot,
                close_snapshot,
                partitions,
                read,
                changes,
                count,
                lookup,
                #[cfg(not(whimbrel_made_up = "older"))]
                acknowledge,
                #[cfg(not(whimbrel_made_up = "older"))]
                query,
                #[cfg(whimbrel_made_up = "newer")]
                made_up,
            }
            .leak_into_prefix()
        });
        Self {
            handle: Handle::own(SourceCell::new(source, cancel)),
            vtable,
        }
    }
}

fn cell<'call>(handle: Handle) -> &'call SourceCell {
    // SAFETY: the foreign half calls with the handle of a living `SourceObject` of this library only.
    unsafe { handle.lend() }
}

extern "C" fn close(handle: Handle) {
    // SAFETY: the foreign half calls this once, last.
    let cell = unsafe { handle.take::<SourceCell>() };
    drop(super::panic::guard("close", move || {
        drop(cell);
        Ok(())
    }));
}

extern "C" fn canceller(handle: Handle) -> CancelObject {
    CancelObject::new(cell(handle).cancel_token())
}

extern "C" fn check(handle: Handle) -> Reply {
    reply(cell(handle).call("check", |source| source.check()))
}

extern "C" fn collections(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("collections", |source| source.collections(&request.read()?)))
}

extern "C" fn open_snapshot(handle: Handle) -> Reply {
    reply(cell(handle).call("open_snapshot", |source| source.open_snapshot()))
}

extern "C" fn close_snapshot(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("close_snapshot", |source| {
        source.close_snapshot(&request.read::<String>()?)
    }))
}

extern "C" fn partitions(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("partitions", |source| source.partitions(&request.read()?)))
}

extern "C" fn read(handle: Handle, request: Request) -> StreamReply {
    let cell = cell(handle);
    stream_reply(cell, cell.call("read", |source| source.read(&request.read()?)))
}

extern "C" fn changes(handle: Handle, request: Request) -> StreamReply {
    let cell = cell(handle);
    stream_reply(
        cell,
        cell.call("changes", |source| source.changes(&request.read()?)),
    )
}

extern "C" fn count(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("count", |source| source.count(&request.read()?)))
}

extern "C" fn lookup(handle: Handle, request: Request, key_schema: Request, keys: BatchAbi) -> StreamReply {
    let cell = cell(handle);
    let outcome = cell.call("lookup", |source| {
        let known = KnownSchema::new(Arc::new(key_schema.read::<Schema>()?))?;
        source.lookup(&request.read()?, &keys.import(&known, Validation::Cheap)?)
    });
    stream_reply(cell, outcome)
}

#[cfg(not(whimbrel_made_up = "older"))]
extern "C" fn acknowledge(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("acknowledge", |source| source.acknowledge(&request.read()?)))
}

#[cfg(not(whimbrel_made_up = "older"))]
extern "C" fn query(handle: Handle, request: Request) -> StreamReply {
    let cell = cell(handle);
    stream_reply(cell, cell.call("query", |source| source.query(&request.read()?)))
}

#[cfg(whimbrel_made_up = "newer")]
extern "C" fn made_up(_: Handle, _: Request) -> Reply {
    reply(Ok(()))
}

fn stream_reply(source: &SourceCell, outcome: Result<Box<dyn RecordStream>>) -> StreamReply {
    static VTABLE: OnceLock<StreamVtableRef> = OnceLock::new();
    let vtable = *VTABLE.get_or_init(|| {
        StreamVtable {
            close: stream_close,
            next: stream_next,
        }
        .leak_into_prefix()
    });
    match outcome {
        Ok(stream) => RResult::ROk(StreamObject {
            handle: Handle::own(StreamCell {
                cell: Cell::new(stream, source.cancel_token()),
            }),
            vtable,
        }),
        Err(error) => RResult::RErr(encode_error(&error)),
    }
}

extern "C" fn stream_close(handle: Handle) {
    // SAFETY: the foreign half calls this once, last.
    let cell = unsafe { handle.take::<StreamCell>() };
    drop(super::panic::guard("close", move || {
        drop(cell);
        Ok(())
    }));
}

extern "C" fn stream_next(handle: Handle) -> ItemReply {
    // SAFETY: the foreign half calls with the handle of a living `StreamObject` of this library only.
    let stream: &StreamCell = unsafe { handle.lend() };
    match stream
        .cell
        .call("next", |stream| stream.next().and_then(item_out))
    {
        Ok(item) => RResult::ROk(item),
        Err(error) => RResult::RErr(encode_error(&error)),
    }
}

#[derive(Serialize, Deserialize)]
struct TruncateMessage {
    collection: String,
}

fn item_out(item: Item) -> Result<ItemAbi> {
    let (tag, batch, message) = match item {
        Item::Schema(schema) => (TAG_SCHEMA, BatchAbi::none(), encode(&*schema)?),
        Item::Batch(batch) => (
            TAG_BATCH,
            BatchAbi::export(&batch, batch.schema.version)?,
            Vec::new(),
        ),
        Item::TransactionEnd { position } => (TAG_TRANSACTION_END, BatchAbi::none(), encode(&position)?),
        Item::Truncate { collection } => (
            TAG_TRUNCATE,
            BatchAbi::none(),
            encode(&TruncateMessage { collection })?,
        ),
        Item::Heartbeat { cursor } => (TAG_HEARTBEAT, BatchAbi::none(), encode(&cursor)?),
        Item::End => (TAG_END, BatchAbi::none(), Vec::new()),
        Item::Rejected(records) => (TAG_REJECTED, BatchAbi::none(), encode(&records)?),
    };
    Ok(ItemAbi {
        tag,
        batch,
        message: message.into(),
    })
}

// ---------------------------------------------------------------- foreign half

/// A source of another library, as an ordinary [`Source`].
pub struct ForeignSource {
    object: SourceObject,
    validation: Validation,
}

impl Drop for SourceObject {
    fn drop(&mut self) {
        (self.vtable.close())(self.handle);
    }
}

impl Drop for StreamObject {
    fn drop(&mut self) {
        (self.vtable.close())(self.handle);
    }
}

impl ForeignSource {
    /// Takes the object of the other side; `validation` is how closely its batches are looked at.
    pub(crate) fn new(object: SourceObject, validation: Validation) -> Self {
        Self { object, validation }
    }

    /// Ends its calls and those of its streams from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller::new((self.object.vtable.canceller())(self.object.handle))
    }

    fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        call: extern "C" fn(Handle, Request) -> Reply,
        request: &Q,
    ) -> Result<A> {
        let request = encode(request)?;
        read_reply(call(self.object.handle, Request::lend(&request)))
    }

    fn stream(&self, reply: StreamReply) -> Result<Box<dyn RecordStream>> {
        match reply {
            RResult::ROk(object) => Ok(Box::new(ForeignStream {
                object,
                known: None,
                validation: self.validation,
            })),
            RResult::RErr(error) => Err(decode_error(&error)),
        }
    }
}

impl Source for ForeignSource {
    fn check(&mut self) -> Result<Vec<Finding>> {
        read_reply((self.object.vtable.check())(self.object.handle))
    }

    fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>> {
        self.ask(self.object.vtable.collections(), request)
    }

    fn open_snapshot(&mut self) -> Result<Option<String>> {
        read_reply((self.object.vtable.open_snapshot())(self.object.handle))
    }

    fn close_snapshot(&mut self, snapshot: &str) -> Result<()> {
        self.ask(self.object.vtable.close_snapshot(), &snapshot)
    }

    fn partitions(&mut self, request: &PartitionsRequest) -> Result<Vec<Partition>> {
        self.ask(self.object.vtable.partitions(), request)
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        let request = encode(request)?;
        self.stream((self.object.vtable.read())(
            self.object.handle,
            Request::lend(&request),
        ))
    }

    fn changes(&mut self, request: &ChangesRequest) -> Result<Box<dyn RecordStream>> {
        let request = encode(request)?;
        self.stream((self.object.vtable.changes())(
            self.object.handle,
            Request::lend(&request),
        ))
    }

    fn count(&mut self, request: &CountRequest) -> Result<Option<u64>> {
        self.ask(self.object.vtable.count(), request)
    }

    fn lookup(&mut self, request: &ReadRequest, keys: &Batch) -> Result<Box<dyn RecordStream>> {
        let request = encode(request)?;
        let key_schema = encode(&*keys.schema)?;
        let keys = BatchAbi::export(keys, keys.schema.version)?;
        self.stream((self.object.vtable.lookup())(
            self.object.handle,
            Request::lend(&request),
            Request::lend(&key_schema),
            keys,
        ))
    }

    #[cfg(not(whimbrel_made_up = "older"))]
    fn acknowledge(&mut self, request: &AcknowledgeRequest) -> Result<()> {
        match self.object.vtable.acknowledge() {
            Some(call) => self.ask(call, request),
            None => Ok(()),
        }
    }

    #[cfg(not(whimbrel_made_up = "older"))]
    fn query(&mut self, request: &QueryRequest) -> Result<Box<dyn RecordStream>> {
        let Some(call) = self.object.vtable.query() else {
            return Err(Error::unsupported("query"));
        };
        let request = encode(request)?;
        self.stream(call(self.object.handle, Request::lend(&request)))
    }
}

/// A stream of another library, as an ordinary [`RecordStream`].
struct ForeignStream {
    object: StreamObject,
    known: Option<KnownSchema>,
    validation: Validation,
}

impl RecordStream for ForeignStream {
    fn next(&mut self) -> Result<Item> {
        let item = match (self.object.vtable.next())(self.object.handle) {
            RResult::ROk(item) => item,
            RResult::RErr(error) => return Err(decode_error(&error)),
        };
        Ok(match item.tag {
            TAG_SCHEMA => {
                let known = KnownSchema::new(Arc::new(decode(&item.message)?))?;
                let schema = Arc::clone(&known.schema);
                if let Some(before) = &self.known
                    && before.schema.version >= schema.version
                {
                    return Err(lie("a schema does not have a higher version than the one before"));
                }
                self.known = Some(known);
                Item::Schema(schema)
            }
            TAG_BATCH => {
                let Some(known) = &self.known else {
                    return Err(lie("a batch came before its schema"));
                };
                if item.batch.schema_version() != known.schema.version {
                    return Err(lie("a batch names a schema version that is not the last one"));
                }
                Item::Batch(item.batch.import(known, self.validation)?)
            }
            TAG_TRANSACTION_END => Item::TransactionEnd {
                position: decode::<Cursor>(&item.message)?,
            },
            TAG_TRUNCATE => Item::Truncate {
                collection: decode::<TruncateMessage>(&item.message)?.collection,
            },
            TAG_HEARTBEAT => Item::Heartbeat {
                cursor: decode::<Cursor>(&item.message)?,
            },
            TAG_END => Item::End,
            TAG_REJECTED => Item::Rejected(decode::<Vec<RejectedRecord>>(&item.message)?),
            _ => return Err(lie("an item has a tag that this side does not know")),
        })
    }
}

fn lie(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, "plugin.invalid_batch", what)
}
