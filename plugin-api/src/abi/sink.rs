//! The sink role across the boundary: the producing half and the foreign half.
//! Contracts: [`crate::sink`]. Schemas are announced under numbers, batches name them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use abi_stable::StableAbi;
use abi_stable::prefix_type::PrefixTypeTrait as _;
use abi_stable::std_types::{RResult, RVec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::arrow::{BatchAbi, KnownSchema, Validation};
use super::error::{Reply, Request, decode_error, encode, encode_error, read_reply, reply};
use super::object::{CancelObject, Canceller, Cell, Handle};
use super::source::{ForeignSource, SourceObject, SourceReply};
use crate::batch::Batch;
use crate::check::Finding;
use crate::error::{Error, ErrorKind, Result};
use crate::record_type::Schema;
use crate::services::CancelToken;
use crate::sink::{
    AlterRequest, Checkpoint, Committed, ConflictPolicy, LaneClaim, LaneId, LaneState, PrepareReport,
    PrepareRequest, Receipt, Sink, UndoReport, UndoRequest,
};
#[cfg(not(whimbrel_made_up = "older"))]
use crate::sink::{ClearReport, ClearRequest};
use crate::source::Source;

/// The functions of an opened sink. Grows only at its end; what an older plugin lacks has its default.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = SinkVtableRef)))]
#[sabi(missing_field(option))]
pub struct SinkVtable {
    /// Ends the object; an open transaction is undone.
    pub close: extern "C" fn(Handle),
    /// The object's canceller.
    pub canceller: extern "C" fn(Handle) -> CancelObject,
    /// `Sink::check`.
    pub check: extern "C" fn(Handle) -> Reply,
    /// `Sink::prepare`.
    pub prepare: extern "C" fn(Handle, Request) -> Reply,
    /// `Sink::alter`.
    pub alter: extern "C" fn(Handle, Request) -> Reply,
    /// `Sink::take_over`.
    pub take_over: extern "C" fn(Handle, Request) -> Reply,
    /// `Sink::begin`.
    pub begin: extern "C" fn(Handle, Request) -> Reply,
    /// Announces a numbered schema of a collection; batches name the number.
    pub schema: extern "C" fn(Handle, Request) -> Reply,
    /// `Sink::write`: collection, batch, number of the policy.
    pub write: extern "C" fn(Handle, Request, BatchAbi, u32) -> Reply,
    /// `Sink::commit`.
    pub commit: extern "C" fn(Handle, Request) -> Reply,
    /// `Sink::abort`.
    pub abort: extern "C" fn(Handle) -> Reply,
    /// `Sink::add_constraints`.
    pub add_constraints: extern "C" fn(Handle) -> Reply,
    /// `Sink::undo`.
    pub undo: extern "C" fn(Handle, Request) -> Reply,
    /// `Sink::reader`.
    #[sabi(last_prefix_field)]
    pub reader: extern "C" fn(Handle) -> SourceReply,
    /// `Sink::finalize`; since 0.1.1, default: nothing to do.
    #[cfg(not(whimbrel_made_up = "older"))]
    pub finalize: extern "C" fn(Handle) -> Reply,
    /// `Sink::clear`; since 0.1.1, default: not offered.
    #[cfg(not(whimbrel_made_up = "older"))]
    pub clear: extern "C" fn(Handle, Request) -> Reply,
    /// `Sink::flush`; since 0.1.1, default: nothing was deferred.
    #[cfg(not(whimbrel_made_up = "older"))]
    pub flush: extern "C" fn(Handle) -> Reply,
    /// `Sink::remove`: the collection, the schema of the keys, the keys; since 0.1.2, default: not offered.
    #[cfg(not(whimbrel_made_up = "older"))]
    pub remove: extern "C" fn(Handle, Request, Request, BatchAbi) -> Reply,
    /// A call that only a made-up newer minor has.
    #[cfg(whimbrel_made_up = "newer")]
    pub made_up: extern "C" fn(Handle) -> Reply,
}

/// An opened sink.
#[repr(C)]
#[derive(StableAbi)]
pub struct SinkObject {
    handle: Handle,
    vtable: SinkVtableRef,
}

/// The answer of `open_sink`.
pub type SinkReply = RResult<SinkObject, RVec<u8>>;

#[derive(Serialize, Deserialize)]
struct SchemaMessage {
    collection: String,
    number: u32,
    schema: Schema,
}

#[derive(Serialize)]
struct SchemaMessageRef<'a> {
    collection: &'a str,
    number: u32,
    schema: &'a Schema,
}

// ---------------------------------------------------------------- producing half

struct Held {
    sink: Box<dyn Sink>,
    schemas: HashMap<String, (u32, KnownSchema)>,
}

type SinkCell = Cell<Held>;

impl SinkObject {
    /// Gives a sink away.
    pub(crate) fn new(sink: Box<dyn Sink>, cancel: CancelToken) -> Self {
        static VTABLE: OnceLock<SinkVtableRef> = OnceLock::new();
        let vtable = *VTABLE.get_or_init(|| {
            SinkVtable {
                close,
                canceller,
                check,
                prepare,
                alter,
                take_over,
                begin,
                schema,
                write,
                commit,
                abort,
                add_constraints,
                undo,
                reader,
                #[cfg(not(whimbrel_made_up = "older"))]
                finalize,
                #[cfg(not(whimbrel_made_up = "older"))]
                clear,
                #[cfg(not(whimbrel_made_up = "older"))]
                flush,
                #[cfg(not(whimbrel_made_up = "older"))]
                remove,
                #[cfg(whimbrel_made_up = "newer")]
                made_up,
            }
            .leak_into_prefix()
        });
        let held = Held {
            sink,
            schemas: HashMap::new(),
        };
        Self {
            handle: Handle::own(SinkCell::new(Box::new(held), cancel)),
            vtable,
        }
    }
}

fn cell<'call>(handle: Handle) -> &'call SinkCell {
    // SAFETY: the foreign half calls with the handle of a living `SinkObject` of this library only.
    unsafe { handle.lend() }
}

extern "C" fn close(handle: Handle) {
    // SAFETY: the foreign half calls this once, last.
    let cell = unsafe { handle.take::<SinkCell>() };
    drop(super::panic::guard("close", move || {
        drop(cell);
        Ok(())
    }));
}

extern "C" fn canceller(handle: Handle) -> CancelObject {
    CancelObject::new(cell(handle).cancel_token())
}

extern "C" fn check(handle: Handle) -> Reply {
    reply(cell(handle).call("check", |held| held.sink.check()))
}

extern "C" fn prepare(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("prepare", |held| held.sink.prepare(&request.read()?)))
}

extern "C" fn alter(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("alter", |held| held.sink.alter(&request.read()?)))
}

extern "C" fn take_over(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("take_over", |held| {
        held.sink.take_over(&request.read::<Vec<LaneClaim>>()?)
    }))
}

extern "C" fn begin(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("begin", |held| held.sink.begin(&request.read()?)))
}

extern "C" fn schema(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("schema", |held| {
        let message: SchemaMessage = request.read()?;
        let known = KnownSchema::new(Arc::new(message.schema))?;
        held.schemas.insert(message.collection, (message.number, known));
        Ok(())
    }))
}

extern "C" fn write(handle: Handle, collection: Request, batch: BatchAbi, policy: u32) -> Reply {
    reply(cell(handle).call("write", |held| {
        let collection: String = collection.read()?;
        let policy = ConflictPolicy::from_number(policy)
            .ok_or_else(|| Error::unsupported("write with this policy"))?;
        let known = match held.schemas.get(&collection) {
            Some((number, known)) if *number == batch.schema_version() => known,
            _ => return Err(Error::internal("a batch names a schema that was not announced")),
        };
        let batch = batch.import(known, Validation::Cheap)?;
        held.sink.write(&collection, &batch, policy)
    }))
}

extern "C" fn commit(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("commit", |held| held.sink.commit(&request.read()?)))
}

extern "C" fn abort(handle: Handle) -> Reply {
    reply(cell(handle).call("abort", |held| held.sink.abort()))
}

extern "C" fn add_constraints(handle: Handle) -> Reply {
    reply(cell(handle).call("add_constraints", |held| held.sink.add_constraints()))
}

extern "C" fn undo(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("undo", |held| held.sink.undo(&request.read()?)))
}

extern "C" fn reader(handle: Handle) -> SourceReply {
    let cell = cell(handle);
    match cell.call("reader", |held| held.sink.reader()) {
        Ok(source) => RResult::ROk(SourceObject::new(source, cell.cancel_token())),
        Err(error) => RResult::RErr(encode_error(&error)),
    }
}

#[cfg(not(whimbrel_made_up = "older"))]
extern "C" fn finalize(handle: Handle) -> Reply {
    reply(cell(handle).call("finalize", |held| held.sink.finalize()))
}

#[cfg(not(whimbrel_made_up = "older"))]
extern "C" fn clear(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("clear", |held| held.sink.clear(&request.read()?)))
}

#[cfg(not(whimbrel_made_up = "older"))]
extern "C" fn flush(handle: Handle) -> Reply {
    reply(cell(handle).call("flush", |held| held.sink.flush()))
}

#[cfg(not(whimbrel_made_up = "older"))]
extern "C" fn remove(handle: Handle, collection: Request, key_schema: Request, keys: BatchAbi) -> Reply {
    reply(cell(handle).call("remove", |held| {
        let known = KnownSchema::new(Arc::new(key_schema.read::<Schema>()?))?;
        let keys = keys.import(&known, Validation::Cheap)?;
        held.sink.remove(&collection.read::<String>()?, &keys)
    }))
}

#[cfg(whimbrel_made_up = "newer")]
extern "C" fn made_up(_: Handle) -> Reply {
    reply(Ok(()))
}

// ---------------------------------------------------------------- foreign half

impl Drop for SinkObject {
    fn drop(&mut self) {
        (self.vtable.close())(self.handle);
    }
}

/// A sink of another library, as an ordinary [`Sink`].
pub struct ForeignSink {
    object: SinkObject,
    validation: Validation,
    announced: HashMap<String, (u32, Arc<Schema>)>,
    /// Records of the open transaction that the sink has not judged yet.
    deferred: u64,
}

impl ForeignSink {
    /// Takes the object of the other side; `validation` is how closely batches that it reads back are looked at.
    pub(crate) fn new(object: SinkObject, validation: Validation) -> Self {
        Self {
            object,
            validation,
            announced: HashMap::new(),
            deferred: 0,
        }
    }

    /// Ends its calls and those of its readers from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller::new((self.object.vtable.canceller())(self.object.handle))
    }

    fn ask<Q: Serialize + ?Sized, A: DeserializeOwned>(
        &self,
        call: extern "C" fn(Handle, Request) -> Reply,
        request: &Q,
    ) -> Result<A> {
        let request = encode(request)?;
        read_reply(call(self.object.handle, Request::lend(&request)))
    }

    /// Announces the batch's schema if the other side does not have it, and returns its number there.
    fn announce(&mut self, collection: &str, schema: &Arc<Schema>) -> Result<u32> {
        let number = match self.announced.get(collection) {
            Some((number, known)) if Arc::ptr_eq(known, schema) || known == schema => return Ok(*number),
            Some((number, _)) => number + 1,
            None => 1,
        };
        let message = SchemaMessageRef {
            collection,
            number,
            schema,
        };
        self.ask::<_, ()>(self.object.vtable.schema(), &message)?;
        self.announced
            .insert(collection.to_owned(), (number, Arc::clone(schema)));
        Ok(number)
    }
}

impl Sink for ForeignSink {
    fn check(&mut self) -> Result<Vec<Finding>> {
        read_reply((self.object.vtable.check())(self.object.handle))
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<PrepareReport> {
        self.ask(self.object.vtable.prepare(), request)
    }

    fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport> {
        self.ask(self.object.vtable.alter(), request)
    }

    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        self.ask(self.object.vtable.take_over(), claims)
    }

    fn begin(&mut self, lane: &LaneId) -> Result<()> {
        self.deferred = 0;
        self.ask(self.object.vtable.begin(), lane)
    }

    fn write(&mut self, collection: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt> {
        let number = self.announce(collection, &batch.schema)?;
        let sent = batch.record_count() as u64;
        let name = encode(collection)?;
        let batch = BatchAbi::export(batch, number)?;
        let receipt: Receipt = read_reply((self.object.vtable.write())(
            self.object.handle,
            Request::lend(&name),
            batch,
            policy.number(),
        ))?;
        if judged(&receipt).and_then(|judged| judged.checked_add(receipt.deferred)) != Some(sent) {
            return Err(wrong_receipt(&receipt, &format!("{sent} records")));
        }
        self.deferred += receipt.deferred;
        Ok(receipt)
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        self.ask(self.object.vtable.commit(), checkpoint)
    }

    fn abort(&mut self) -> Result<()> {
        read_reply((self.object.vtable.abort())(self.object.handle))
    }

    fn add_constraints(&mut self) -> Result<Vec<Finding>> {
        read_reply((self.object.vtable.add_constraints())(self.object.handle))
    }

    fn undo(&mut self, request: &UndoRequest) -> Result<UndoReport> {
        self.ask(self.object.vtable.undo(), request)
    }

    #[cfg(not(whimbrel_made_up = "older"))]
    fn finalize(&mut self) -> Result<()> {
        match self.object.vtable.finalize() {
            Some(call) => read_reply(call(self.object.handle)),
            None => Ok(()),
        }
    }

    #[cfg(not(whimbrel_made_up = "older"))]
    fn clear(&mut self, request: &ClearRequest) -> Result<ClearReport> {
        match self.object.vtable.clear() {
            Some(call) => self.ask(call, request),
            None => Err(Error::unsupported("clear")),
        }
    }

    #[cfg(not(whimbrel_made_up = "older"))]
    fn flush(&mut self) -> Result<Receipt> {
        let receipt: Receipt = match self.object.vtable.flush() {
            Some(call) => read_reply(call(self.object.handle))?,
            None => Receipt::default(),
        };
        if receipt.deferred > 0 || judged(&receipt) != Some(self.deferred) {
            let of = format!("{} records that were deferred", self.deferred);
            return Err(wrong_receipt(&receipt, &of));
        }
        self.deferred = 0;
        Ok(receipt)
    }

    #[cfg(not(whimbrel_made_up = "older"))]
    fn remove(&mut self, collection: &str, keys: &Batch) -> Result<u64> {
        let Some(call) = self.object.vtable.remove() else {
            return Err(Error::unsupported("remove"));
        };
        let sent = keys.record_count() as u64;
        let name = encode(collection)?;
        let key_schema = encode(&*keys.schema)?;
        let keys = BatchAbi::export(keys, keys.schema.version)?;
        let removed: u64 = read_reply(call(
            self.object.handle,
            Request::lend(&name),
            Request::lend(&key_schema),
            keys,
        ))?;
        if removed > sent {
            let message = format!("the sink answered that it removed {removed} records by {sent} keys");
            return Err(Error::new(ErrorKind::Integrity, WRONG_RECEIPT, message));
        }
        Ok(removed)
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        match (self.object.vtable.reader())(self.object.handle) {
            RResult::ROk(object) => Ok(Box::new(ForeignSource::new(object, self.validation))),
            RResult::RErr(error) => Err(decode_error(&error)),
        }
    }
}

/// The code of an answer that cannot be true of what was sent.
const WRONG_RECEIPT: &str = "plugin.wrong_receipt";

/// Records whose fate the receipt says.
fn judged(receipt: &Receipt) -> Option<u64> {
    receipt.accepted.checked_add(receipt.rejected.len() as u64)
}

fn wrong_receipt(receipt: &Receipt, of: &str) -> Error {
    Error::new(
        ErrorKind::Integrity,
        WRONG_RECEIPT,
        format!(
            "the sink answered {} accepted, {} rejected and {} deferred for {of}",
            receipt.accepted,
            receipt.rejected.len(),
            receipt.deferred
        ),
    )
}
