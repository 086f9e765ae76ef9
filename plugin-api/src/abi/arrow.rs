//! Arrow arrays across the boundary, by the Arrow C Data Interface.
//!
//! The struct is declared here, so that no Arrow crate's type is part of the ABI and plugins with other Arrow versions
//! work. The schema does not cross with each batch: record types have one physical type each, so the numbered
//! [`Schema`] message is enough. What comes in is checked before it is believed.

use std::sync::Arc;

use abi_stable::StableAbi;
use abi_stable::std_types::RVec;
use arrow_array::ffi::{FFI_ArrowArray, from_ffi_and_data_type};
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StructArray, make_array};
use arrow_data::ArrayData;
use arrow_schema::{DataType, SchemaRef};
use serde::{Deserialize, Serialize};

use super::error::{decode, encode};
use super::panic::guard;
use crate::batch::{Batch, BatchFacts, BatchOrigin};
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind, Result};
use crate::record_type::Schema;

/// How closely arrays of the other side are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validation {
    /// Shapes, lengths, numbers of buffers and children, null pointers, buffer sizes against offsets.
    #[default]
    Cheap,
    /// Also every offset and every text (UTF-8).
    Full,
}

/// `struct ArrowArray` of the Arrow C Data Interface, field by field.
#[repr(C)]
#[derive(StableAbi)]
pub struct ArrowArrayAbi {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const (),
    children: *mut *mut (),
    dictionary: *mut (),
    release: *mut (),
    private_data: *mut (),
}

const _: () = assert!(size_of::<ArrowArrayAbi>() == size_of::<FFI_ArrowArray>());
const _: () = assert!(align_of::<ArrowArrayAbi>() == align_of::<FFI_ArrowArray>());

// SAFETY: the Arrow C Data Interface lets an array move between threads; its buffers are immutable.
unsafe impl Send for ArrowArrayAbi {}

impl ArrowArrayAbi {
    /// An array that has been released: nothing.
    pub(crate) const fn none() -> Self {
        Self {
            length: 0,
            null_count: 0,
            offset: 0,
            n_buffers: 0,
            n_children: 0,
            buffers: std::ptr::null_mut(),
            children: std::ptr::null_mut(),
            dictionary: std::ptr::null_mut(),
            release: std::ptr::null_mut(),
            private_data: std::ptr::null_mut(),
        }
    }

    /// Gives an array away.
    pub(crate) fn export(data: &ArrayData) -> Self {
        let array = FFI_ArrowArray::new(data);
        // SAFETY: both are `struct ArrowArray` of the C Data Interface (size and alignment are checked above);
        // ownership moves with the octets.
        unsafe { std::mem::transmute::<FFI_ArrowArray, Self>(array) }
    }

    fn into_ffi(self) -> FFI_ArrowArray {
        // SAFETY: as in `export`, the other way round; `self` is forgotten by the move.
        unsafe { std::mem::transmute::<Self, FFI_ArrowArray>(self) }
    }

    /// Takes an array of `data_type` with `length` values; `name` is for messages.
    pub(crate) fn import(
        self,
        data_type: &DataType,
        length: u64,
        validation: Validation,
        name: &str,
    ) -> Result<ArrayData> {
        // From here on the array is released when it is dropped, whatever happens.
        let array = self.into_ffi();
        // SAFETY: same layout, see `export`; the borrow ends before the array moves.
        let view: &Self = unsafe { &*std::ptr::from_ref(&array).cast::<Self>() };
        view.check_shape(data_type, name, 0)?;
        if view.offset < 0 || view.length as u64 != length {
            return Err(invalid(format!(
                "{name} holds {} records, {length} were announced",
                view.length
            )));
        }
        guard("import", || {
            // SAFETY: the shape was checked against `data_type`; that the pointers are good for the lengths is the
            // producer's promise (ABI.md, "Arrays").
            let data = unsafe { from_ffi_and_data_type(array, data_type.clone()) }
                .map_err(|error| invalid(format!("{name} is not valid")).with_cause(&error))?;
            let checked = match validation {
                Validation::Cheap => data.validate(),
                Validation::Full => data.validate_full(),
            };
            checked.map_err(|error| invalid(format!("{name} is not valid")).with_cause(&error))?;
            Ok(data)
        })
        .map_err(|error| {
            if error.code == "plugin.panic" {
                invalid(format!("{name} is not valid"))
            } else {
                error
            }
        })
    }

    /// Compares the struct with what `data_type` demands, before any buffer is read.
    fn check_shape(&self, data_type: &DataType, name: &str, needed: i64) -> Result<()> {
        let wrong = |what: &str| Err(invalid(format!("{name}: {what}")));
        if self.release.is_null() {
            return wrong("the array was released already");
        }
        let Some(end) = self.length.checked_add(self.offset) else {
            return wrong("length and offset overflow");
        };
        if self.length < 0 || self.offset < 0 || self.null_count < -1 || self.null_count > self.length {
            return wrong("a length, offset or null count is out of range");
        }
        if self.length < needed {
            return wrong(&format!("{} values where {needed} are needed", self.length));
        }
        if !self.dictionary.is_null() {
            return wrong("a dictionary is not allowed");
        }
        let Some((buffers, children)) = layout(data_type) else {
            return wrong("its type is not one of the physical types");
        };
        if self.n_buffers != buffers || self.n_children != children.len() as i64 {
            return wrong(&format!(
                "{} buffers and {} children where `{data_type}` has {buffers} and {}",
                self.n_buffers,
                self.n_children,
                children.len()
            ));
        }
        if (buffers > 0 && self.buffers.is_null()) || (!children.is_empty() && self.children.is_null()) {
            return wrong("a list of buffers or children is a null pointer");
        }
        for index in 0..buffers as usize {
            // SAFETY: `n_buffers` pointers stand at `buffers`, which is not null; the count was compared above.
            let buffer = unsafe { *self.buffers.add(index) };
            let may_be_null = if index == 0 {
                self.null_count <= 0
            } else {
                end == 0 || (index == 2 && buffers == 3)
            };
            if buffer.is_null() && !may_be_null {
                return wrong(&format!("buffer {index} is a null pointer"));
            }
        }
        for (index, (child_type, per_row)) in children.iter().enumerate() {
            // SAFETY: as above, for `children`.
            let child = unsafe { *self.children.add(index) }.cast::<Self>();
            if child.is_null() {
                return wrong(&format!("child {index} is a null pointer"));
            }
            // SAFETY: the producer owns a valid struct at each child pointer until release.
            let child = unsafe { &*child };
            child.check_shape(
                child_type,
                &format!("{name}, child {index}"),
                if *per_row { end } else { 0 },
            )?;
        }
        Ok(())
    }
}

impl Drop for ArrowArrayAbi {
    fn drop(&mut self) {
        if !self.release.is_null() {
            drop(std::mem::replace(self, Self::none()).into_ffi());
        }
    }
}

/// Number of buffers, and the children with whether they have one value per value of the parent. Source: Arrow
/// columnar format, "Buffer listing for each layout".
fn layout(data_type: &DataType) -> Option<(i64, Vec<(&DataType, bool)>)> {
    Some(match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Decimal256(..)
        | DataType::Date32
        | DataType::Time64(_)
        | DataType::Timestamp(..)
        | DataType::FixedSizeBinary(_) => (2, Vec::new()),
        DataType::Utf8 | DataType::Binary => (3, Vec::new()),
        DataType::List(item) => (2, vec![(item.data_type(), false)]),
        DataType::Struct(fields) => (1, fields.iter().map(|field| (field.data_type(), true)).collect()),
        _ => return None,
    })
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidData, "plugin.invalid_batch", message)
}

/// A batch on its way.
#[repr(C)]
#[derive(StableAbi)]
pub struct BatchAbi {
    array: ArrowArrayAbi,
    schema_version: u32,
    origin: u32,
    record_count: u64,
    sequence: u64,
    bytes: u64,
    cursor: RVec<u8>,
    rest: RVec<u8>,
}

/// The facts that most batches do not have, as a message.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct RareFacts {
    snapshot: Option<String>,
    transaction: Option<String>,
    extensions: std::collections::BTreeMap<String, Vec<u8>>,
}

/// A schema with the Arrow schema that it prescribes, made once per version.
#[derive(Clone)]
pub(crate) struct KnownSchema {
    pub(crate) schema: Arc<Schema>,
    arrow: SchemaRef,
    row: DataType,
}

impl KnownSchema {
    /// Takes note of a schema; refuses one that is not valid.
    pub(crate) fn new(schema: Arc<Schema>) -> Result<Self> {
        schema.validate()?;
        let arrow = schema.to_arrow();
        let row = DataType::Struct(arrow.fields().clone());
        Ok(Self { schema, arrow, row })
    }
}

impl BatchAbi {
    /// No batch.
    pub(crate) fn none() -> Self {
        Self {
            array: ArrowArrayAbi::none(),
            schema_version: 0,
            origin: 0,
            record_count: 0,
            sequence: 0,
            bytes: 0,
            cursor: RVec::new(),
            rest: RVec::new(),
        }
    }

    /// Gives a batch away under the number `schema_version`.
    pub(crate) fn export(batch: &Batch, schema_version: u32) -> Result<Self> {
        let facts = &batch.facts;
        let rest = if facts.snapshot.is_none() && facts.transaction.is_none() && facts.extensions.is_empty() {
            Vec::new()
        } else {
            encode(&RareFacts {
                snapshot: facts.snapshot.clone(),
                transaction: facts.transaction.clone(),
                extensions: facts.extensions.clone(),
            })?
        };
        let record_count = batch.records.num_rows();
        let rows = StructArray::from(batch.records.clone());
        Ok(Self {
            array: ArrowArrayAbi::export(&rows.into_data()),
            schema_version,
            origin: match facts.origin {
                BatchOrigin::Copy => 0,
                BatchOrigin::Change => 1,
            },
            record_count: record_count as u64,
            sequence: facts.sequence,
            bytes: facts.bytes,
            cursor: facts.cursor.0.clone().into(),
            rest: rest.into(),
        })
    }

    /// The schema version that the batch names.
    pub(crate) fn schema_version(&self) -> u32 {
        self.schema_version
    }

    /// Takes a batch that follows `known`.
    pub(crate) fn import(self, known: &KnownSchema, validation: Validation) -> Result<Batch> {
        let record_count = self.record_count;
        let rows = self
            .array
            .import(&known.row, record_count, validation, "the batch")?;
        if rows.null_count() != 0 {
            return Err(invalid("the batch has null records".to_owned()));
        }
        let columns = StructArray::from(rows).into_parts().1;
        let options = RecordBatchOptions::new().with_row_count(Some(record_count as usize));
        let records = RecordBatch::try_new_with_options(known.arrow.clone(), columns, &options)
            .map_err(|error| invalid("the batch does not follow its schema".to_owned()).with_cause(&error))?;
        let rare: RareFacts = if self.rest.is_empty() {
            RareFacts::default()
        } else {
            decode(&self.rest)?
        };
        Ok(Batch {
            schema: Arc::clone(&known.schema),
            records,
            facts: BatchFacts {
                sequence: self.sequence,
                cursor: Cursor(self.cursor.into_vec()),
                bytes: self.bytes,
                origin: if self.origin == 1 {
                    BatchOrigin::Change
                } else {
                    BatchOrigin::Copy
                },
                snapshot: rare.snapshot,
                transaction: rare.transaction,
                extensions: rare.extensions,
            },
        })
    }
}

/// A lone column on its way (the answer of a rule).
#[repr(C)]
#[derive(StableAbi)]
pub struct ColumnAbi {
    array: ArrowArrayAbi,
    length: u64,
}

impl ColumnAbi {
    /// Gives a column away.
    pub(crate) fn export(array: &dyn Array) -> Self {
        Self {
            length: array.len() as u64,
            array: ArrowArrayAbi::export(&array.to_data()),
        }
    }

    /// Takes a column of `data_type`.
    pub(crate) fn import(self, data_type: &DataType, validation: Validation) -> Result<ArrayRef> {
        self.array
            .import(data_type, self.length, validation, "the column")
            .map(make_array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record_type::{Field, RecordType};
    use arrow_array::{Int64Array, StringArray};

    fn batch() -> Batch {
        let schema = Arc::new(Schema::new(vec![
            Field::required("id", RecordType::INT64),
            Field::new("name", RecordType::Text),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 2, 3])),
            Arc::new(StringArray::from(vec![Some("a"), None, Some("ü")])),
        ];
        let records = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
        Batch::new(schema, records).unwrap().with_cursor(Cursor(vec![7]))
    }

    fn import(abi: BatchAbi, schema: &Schema) -> Result<Batch> {
        abi.import(
            &KnownSchema::new(Arc::new(schema.clone())).unwrap(),
            Validation::Full,
        )
    }

    #[test]
    fn a_batch_and_its_facts_survive_the_hop() {
        let mut batch = batch();
        batch.facts.extensions.insert("x".into(), vec![0, 255]);
        batch.facts.snapshot = Some("s".into());
        let there = import(BatchAbi::export(&batch, 4).unwrap(), &batch.schema).unwrap();
        assert_eq!(there.records, batch.records);
        assert_eq!(there.facts, batch.facts);
    }

    #[test]
    fn a_sliced_batch_survives_the_hop() {
        let mut batch = batch();
        batch.records = batch.records.slice(1, 2);
        let there = import(BatchAbi::export(&batch, 0).unwrap(), &batch.schema).unwrap();
        assert_eq!(there.records, batch.records);
    }

    #[test]
    fn a_batch_without_columns_keeps_its_record_count() {
        let schema = Arc::new(Schema::default());
        let options = RecordBatchOptions::new().with_row_count(Some(5));
        let records = RecordBatch::try_new_with_options(schema.to_arrow(), vec![], &options).unwrap();
        let batch = Batch::new(Arc::clone(&schema), records).unwrap();
        assert_eq!(
            import(BatchAbi::export(&batch, 0).unwrap(), &schema)
                .unwrap()
                .record_count(),
            5
        );
    }

    #[test]
    fn lies_about_shape_and_length_are_refused() {
        let batch = batch();
        let lie = |change: fn(&mut BatchAbi)| {
            let mut abi = BatchAbi::export(&batch, 0).unwrap();
            change(&mut abi);
            import(abi, &batch.schema).unwrap_err().code
        };
        let expected = "plugin.invalid_batch";
        assert_eq!(lie(|abi| abi.record_count = 4), expected);
        assert_eq!(lie(|abi| abi.array.length = 4), expected);
        assert_eq!(lie(|abi| abi.array.length = -1), expected);
        assert_eq!(lie(|abi| abi.array.offset = i64::MAX), expected);
        assert_eq!(lie(|abi| abi.array.null_count = 9), expected);
        assert_eq!(lie(|abi| abi.array = ArrowArrayAbi::none()), expected);
        let other = Schema::new(vec![
            Field::new("id", RecordType::Text),
            Field::new("name", RecordType::Text),
        ]);
        assert_eq!(
            import(BatchAbi::export(&batch, 0).unwrap(), &other)
                .unwrap_err()
                .code,
            expected
        );
        let fewer = Schema::new(vec![Field::required("id", RecordType::INT64)]);
        assert_eq!(
            import(BatchAbi::export(&batch, 0).unwrap(), &fewer)
                .unwrap_err()
                .code,
            expected
        );
        let strict = Schema::new(vec![
            Field::required("id", RecordType::INT64),
            Field::required("name", RecordType::Text),
        ]);
        assert_eq!(
            import(BatchAbi::export(&batch, 0).unwrap(), &strict)
                .unwrap_err()
                .code,
            expected
        );
    }
}
