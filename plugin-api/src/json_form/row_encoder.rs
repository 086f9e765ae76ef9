//! From record batches to lines of JSON objects.
//!
//! The counterpart of [`super::RowDecoder`]: a field that the presence mask calls absent is left out, a null
//! one is written as `null`. The line break is the caller's.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, BinaryArray, RecordBatch};

use crate::error::{Error, Result};
use crate::record_type::{PRESENCE_COLUMN, Schema};
use crate::text_form::check_array;

use super::encoder::{JsonNull, Node, escaped_key};

/// Writes the records of one batch as JSON objects. See [`super::JsonEncoder`] for the JSON of each type.
#[derive(Debug, Clone)]
pub struct RowEncoder {
    columns: Vec<Column>,
    presence: Option<BinaryArray>,
    row_count: usize,
    json_null: JsonNull,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    /// The name escaped, quoted and followed by a colon.
    key: Box<[u8]>,
    node: Node,
}

impl RowEncoder {
    /// An encoder of `records`, a batch of `schema`.
    ///
    /// # Errors
    /// What [`Schema::validate`] refuses; `plugin.internal` if the columns are not those of the schema, or a
    /// presence mask is too short or null.
    pub fn new(schema: &Schema, records: &RecordBatch) -> Result<Self> {
        schema.validate()?;
        let column_count = schema.fields.len() + usize::from(schema.presence);
        if records.num_columns() != column_count {
            return Err(Error::internal(format!(
                "a batch has {} columns, its schema has {column_count}",
                records.num_columns()
            )));
        }
        let columns = schema.fields.iter().zip(records.columns()).map(|(field, array)| {
            check_array(&field.record_type, array)?;
            Ok(Column {
                name: field.name.clone(),
                key: escaped_key(&field.name)?,
                node: Node::new(&field.record_type, field.nullable, array)?,
            })
        });
        Ok(Self {
            columns: columns.collect::<Result<_>>()?,
            presence: if schema.presence {
                Some(presence_of(schema, records)?)
            } else {
                None
            },
            row_count: records.num_rows(),
            json_null: JsonNull::default(),
        })
    }

    /// Says what happens to the JSON `null`; [`JsonNull::Refuse`] unless said.
    #[must_use]
    pub const fn with_json_null(mut self, json_null: JsonNull) -> Self {
        self.json_null = json_null;
        self
    }

    /// How many records the batch has.
    pub const fn len(&self) -> usize {
        self.row_count
    }

    /// Whether the batch has no records.
    pub const fn is_empty(&self) -> bool {
        self.row_count == 0
    }

    /// Appends the record of `row` as one JSON object on one line, without the line break.
    ///
    /// # Errors
    /// As [`super::JsonEncoder::write`], with the name of the field in the message. Nothing is then appended.
    ///
    /// # Panics
    /// If `row` is not below the number of records.
    pub fn write_line(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        assert!(row < self.row_count, "row {row} of {} records", self.row_count);
        let before = out.len();
        let mask = self.presence.as_ref().map(|presence| presence.value(row));
        out.push(b'{');
        let mut is_first = true;
        for (index, column) in self.columns.iter().enumerate() {
            if mask.is_some_and(|mask| mask[index / 8] >> (index % 8) & 1 == 0) {
                continue;
            }
            if !is_first {
                out.push(b',');
            }
            is_first = false;
            out.extend_from_slice(&column.key);
            if let Err(mut error) = column.node.write(row, self.json_null, out) {
                out.truncate(before);
                error.message = format!("`{}`: {}", column.name, error.message);
                return Err(error.with_rows(vec![row as u64]));
            }
        }
        out.push(b'}');
        Ok(())
    }
}

/// The presence masks of a batch, each long enough for all fields.
fn presence_of(schema: &Schema, records: &RecordBatch) -> Result<BinaryArray> {
    let width = schema.fields.len().div_ceil(8);
    let masks = records.column(schema.fields.len()).as_binary_opt::<i32>();
    match masks {
        Some(masks) if masks.null_count() == 0 && masks.offsets().lengths().all(|len| len >= width) => {
            Ok(masks.clone())
        }
        _ => Err(Error::internal(format!(
            "the column `{PRESENCE_COLUMN}` is not a binary column with masks of {width} octets"
        ))),
    }
}
