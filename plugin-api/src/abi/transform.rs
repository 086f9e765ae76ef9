//! The transform role across the boundary: the producing half and the foreign half.
//! Contracts: [`crate::transform`].

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use abi_stable::StableAbi;
use abi_stable::prefix_type::PrefixTypeTrait as _;
use abi_stable::std_types::{RResult, RString, RVec};
use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, BooleanArray};
use arrow_schema::DataType;
use serde::{Deserialize, Serialize};

use super::arrow::{BatchAbi, ColumnAbi, KnownSchema, Validation};
use super::error::{Reply, Request, decode, decode_error, encode, encode_error, read_reply, reply};
use super::object::{CancelObject, Canceller, Cell, Handle};
use crate::batch::Batch;
use crate::collection::Collection;
use crate::error::{Error, ErrorKind, Result};
use crate::record_type::Schema;
use crate::services::CancelToken;
use crate::source::RejectedRecord;
use crate::transform::{Applied, Plan, Transform};

/// The functions of an opened transform. Grows only at its end.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = TransformVtableRef)))]
#[sabi(missing_field(option))]
pub struct TransformVtable {
    /// Ends the object.
    pub close: extern "C" fn(Handle),
    /// The object's canceller.
    pub canceller: extern "C" fn(Handle) -> CancelObject,
    /// `Transform::plan`.
    pub plan: extern "C" fn(Handle, Request) -> Reply,
    /// Announces the numbered schema of the batches that come in.
    pub schema: extern "C" fn(Handle, Request) -> Reply,
    /// `Transform::apply`.
    pub apply: extern "C" fn(Handle, BatchAbi) -> AppliedReply,
    /// `Transform::rule`.
    #[sabi(last_prefix_field)]
    pub rule: extern "C" fn(Handle, BatchAbi) -> ColumnReply,
}

/// An opened transform.
#[repr(C)]
#[derive(StableAbi)]
pub struct TransformObject {
    handle: Handle,
    vtable: TransformVtableRef,
}

/// The answer of `open_transform`.
pub type TransformReply = RResult<TransformObject, RVec<u8>>;

/// One output of `apply`.
#[repr(C)]
#[derive(StableAbi)]
pub struct OutputAbi {
    collection: RString,
    schema: RVec<u8>,
    batch: BatchAbi,
}

/// The outcome of `apply`. `schema` of an output is empty if it is that of the plan.
#[repr(C)]
#[derive(StableAbi)]
pub struct AppliedAbi {
    outputs: RVec<OutputAbi>,
    rejected: RVec<u8>,
}

/// The answer of `apply`.
pub type AppliedReply = RResult<AppliedAbi, RVec<u8>>;
/// The answer of `rule`.
pub type ColumnReply = RResult<ColumnAbi, RVec<u8>>;

/// The extension of the first output's batch that tells [`Applied::filtered`], little-endian. It came after the
/// structs here were laid down, and a host that does not know it passes it on.
const FILTERED_EXTENSION: &str = "whimbrel.filtered";

#[derive(Serialize, Deserialize)]
struct SchemaMessage {
    number: u32,
    schema: Schema,
}

// ---------------------------------------------------------------- producing half

struct Held {
    transform: Box<dyn Transform>,
    plan: Plan,
    schema: Option<(u32, KnownSchema)>,
}

impl Held {
    fn import(&self, batch: BatchAbi) -> Result<Batch> {
        match &self.schema {
            Some((number, known)) if *number == batch.schema_version() => {
                batch.import(known, Validation::Cheap)
            }
            _ => Err(Error::internal("a batch names a schema that was not announced")),
        }
    }
}

type TransformCell = Cell<Held>;

impl TransformObject {
    /// Gives a transform away.
    pub(crate) fn new(transform: Box<dyn Transform>, cancel: CancelToken) -> Self {
        static VTABLE: OnceLock<TransformVtableRef> = OnceLock::new();
        let vtable = *VTABLE.get_or_init(|| {
            TransformVtable {
                close,
                canceller,
                plan,
                schema,
                apply,
                rule,
            }
            .leak_into_prefix()
        });
        let held = Held {
            transform,
            plan: Plan::default(),
            schema: None,
        };
        Self {
            handle: Handle::own(TransformCell::new(Box::new(held), cancel)),
            vtable,
        }
    }
}

fn cell<'call>(handle: Handle) -> &'call TransformCell {
    // SAFETY: the foreign half calls with the handle of a living `TransformObject` of this library only.
    unsafe { handle.lend() }
}

extern "C" fn close(handle: Handle) {
    // SAFETY: the foreign half calls this once, last.
    let cell = unsafe { handle.take::<TransformCell>() };
    drop(super::panic::guard("close", move || {
        drop(cell);
        Ok(())
    }));
}

extern "C" fn canceller(handle: Handle) -> CancelObject {
    CancelObject::new(cell(handle).cancel_token())
}

extern "C" fn plan(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("plan", |held| {
        held.plan = held.transform.plan(&request.read()?)?;
        Ok(held.plan.clone())
    }))
}

extern "C" fn schema(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("schema", |held| {
        let message: SchemaMessage = request.read()?;
        held.schema = Some((message.number, KnownSchema::new(Arc::new(message.schema))?));
        Ok(())
    }))
}

extern "C" fn apply(handle: Handle, batch: BatchAbi) -> AppliedReply {
    let outcome = cell(handle).call("apply", |held| {
        let batch = held.import(batch)?;
        let applied = held.transform.apply(&batch)?;
        let mut outputs = RVec::with_capacity(applied.outputs.len());
        let mut filtered = applied.filtered;
        for (collection, mut batch) in applied.outputs {
            if filtered > 0 {
                let count = std::mem::take(&mut filtered).to_le_bytes().to_vec();
                batch
                    .facts
                    .extensions
                    .insert(FILTERED_EXTENSION.to_owned(), count);
            }
            let planned = held
                .plan
                .outputs
                .iter()
                .any(|output| output.name == collection && output.schema == *batch.schema);
            outputs.push(OutputAbi {
                schema: if planned {
                    RVec::new()
                } else {
                    encode(&*batch.schema)?.into()
                },
                batch: BatchAbi::export(&batch, batch.schema.version)?,
                collection: collection.into(),
            });
        }
        Ok(AppliedAbi {
            outputs,
            rejected: if applied.rejected.is_empty() {
                RVec::new()
            } else {
                encode(&applied.rejected)?.into()
            },
        })
    });
    match outcome {
        Ok(applied) => RResult::ROk(applied),
        Err(error) => RResult::RErr(encode_error(&error)),
    }
}

extern "C" fn rule(handle: Handle, batch: BatchAbi) -> ColumnReply {
    let outcome = cell(handle).call("rule", |held| {
        let batch = held.import(batch)?;
        Ok(ColumnAbi::export(&held.transform.rule(&batch)?))
    });
    match outcome {
        Ok(column) => RResult::ROk(column),
        Err(error) => RResult::RErr(encode_error(&error)),
    }
}

// ---------------------------------------------------------------- foreign half

impl Drop for TransformObject {
    fn drop(&mut self) {
        (self.vtable.close())(self.handle);
    }
}

/// A transform of another library, as an ordinary [`Transform`].
pub struct ForeignTransform {
    object: TransformObject,
    validation: Validation,
    planned: HashMap<String, KnownSchema>,
    announced: Option<(u32, Arc<Schema>)>,
}

impl ForeignTransform {
    /// Takes the object of the other side.
    pub(crate) fn new(object: TransformObject, validation: Validation) -> Self {
        Self {
            object,
            validation,
            planned: HashMap::new(),
            announced: None,
        }
    }

    /// Ends its calls from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller::new((self.object.vtable.canceller())(self.object.handle))
    }

    fn announce(&mut self, schema: &Arc<Schema>) -> Result<u32> {
        let number = match &self.announced {
            Some((number, known)) if Arc::ptr_eq(known, schema) || known == schema => return Ok(*number),
            Some((number, _)) => number + 1,
            None => 1,
        };
        let message = encode(&SchemaMessage {
            number,
            schema: (**schema).clone(),
        })?;
        read_reply::<()>((self.object.vtable.schema())(
            self.object.handle,
            Request::lend(&message),
        ))?;
        self.announced = Some((number, Arc::clone(schema)));
        Ok(number)
    }

    fn output(&self, output: OutputAbi) -> Result<(String, Batch)> {
        let collection = output.collection.into_string();
        let batch = if output.schema.is_empty() {
            let known = self.planned.get(&collection).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidData,
                    "plugin.invalid_batch",
                    format!("an output names the collection `{collection}`, which is not in the plan"),
                )
            })?;
            output.batch.import(known, self.validation)?
        } else {
            output.batch.import(
                &KnownSchema::new(Arc::new(decode(&output.schema)?))?,
                self.validation,
            )?
        };
        Ok((collection, batch))
    }
}

impl Transform for ForeignTransform {
    fn plan(&mut self, collection: &Collection) -> Result<Plan> {
        let request = encode(collection)?;
        let plan: Plan = read_reply((self.object.vtable.plan())(
            self.object.handle,
            Request::lend(&request),
        ))?;
        self.planned = plan
            .outputs
            .iter()
            .map(|output| {
                Ok((
                    output.name.clone(),
                    KnownSchema::new(Arc::new(output.schema.clone()))?,
                ))
            })
            .collect::<Result<_>>()?;
        Ok(plan)
    }

    fn apply(&mut self, batch: &Batch) -> Result<Applied> {
        let number = self.announce(&batch.schema)?;
        let applied = match (self.object.vtable.apply())(self.object.handle, BatchAbi::export(batch, number)?)
        {
            RResult::ROk(applied) => applied,
            RResult::RErr(error) => return Err(decode_error(&error)),
        };
        let rejected: Vec<RejectedRecord> = if applied.rejected.is_empty() {
            Vec::new()
        } else {
            decode(&applied.rejected)?
        };
        let mut outputs = applied
            .outputs
            .into_iter()
            .map(|output| self.output(output))
            .collect::<Result<Vec<_>>>()?;
        let filtered = outputs
            .iter_mut()
            .filter_map(|(_, batch)| batch.facts.extensions.remove(FILTERED_EXTENSION))
            .filter_map(|count| count.try_into().ok().map(u64::from_le_bytes))
            .fold(0, u64::saturating_add);
        Ok(Applied {
            outputs,
            rejected,
            filtered,
        })
    }

    fn rule(&mut self, batch: &Batch) -> Result<BooleanArray> {
        let number = self.announce(&batch.schema)?;
        let column = match (self.object.vtable.rule())(self.object.handle, BatchAbi::export(batch, number)?) {
            RResult::ROk(column) => column.import(&DataType::Boolean, self.validation)?,
            RResult::RErr(error) => return Err(decode_error(&error)),
        };
        if column.len() != batch.record_count() {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "plugin.invalid_batch",
                "a rule judged another number of records than it was given",
            ));
        }
        Ok(column.as_boolean().clone())
    }
}
