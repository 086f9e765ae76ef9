//! Batches of a collection: JSON text goes into Arrow columns, rejected records are told in their place.
//!
//! A cursor is the index of the next slot (record or rejected record) and a fingerprint of file and config, so that
//! a cursor of another file is refused. Types were chosen before (`inference`), so each value fits its column.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::builder::{BinaryBuilder, StringBuilder};
use whimbrel_plugin_api::arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
};
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{
    Batch, Cursor, Error, Field, Item, ReadRequest, RecordStream, RecordType, RejectedRecord, Result, Schema,
    Services,
};

use crate::error;
use crate::grouping::{Body, Group, Id, Record, Slot};
use crate::inference::{Content, Layout};
use crate::json_text;

/// Rejected records that travel in one item.
const REJECTED_MAX: usize = 1_000;
/// What a column costs besides its values: its struct and the rounding of up to three buffers to 64 octets.
const COLUMN_OVERHEAD: usize = 512;

/// Everything that was read from one file, shared by the streams.
#[derive(Debug)]
pub struct Dataset {
    pub path: String,
    pub arena: String,
    pub origins: Vec<String>,
    pub collections: Vec<(Group, Layout)>,
    /// Of the file and of the config that shapes the collections.
    pub fingerprint: u64,
}

/// A stream of one collection.
pub struct ExportStream {
    data: Arc<Dataset>,
    collection: usize,
    /// For each column that is read, its index in the layout.
    columns: Vec<usize>,
    /// For each column of the layout, its index among those that are read.
    positions: Vec<Option<usize>>,
    schema: Arc<Schema>,
    bounds: BatchBounds,
    services: Services,
    next_slot: usize,
    /// Batches so far.
    sequence: u64,
    /// Records that may still be delivered.
    remaining: u64,
    waiting: VecDeque<Item>,
}

/// One value on its way into a column.
#[derive(Clone)]
enum CellValue<'a> {
    Absent,
    Null,
    /// Raw JSON.
    Json(&'a str),
    /// Text as it is.
    Text(Cow<'a, str>),
}

impl ExportStream {
    /// Opens a stream at the cursor of `request`.
    pub fn open(
        data: Arc<Dataset>,
        collection: usize,
        request: &ReadRequest,
        services: Services,
    ) -> Result<Self> {
        let (group, layout) = &data.collections[collection];
        let next_slot = data.slot_of(&request.cursor, group)?;
        let all = &layout.schema;
        let columns: Vec<usize> = if request.columns.is_empty() {
            (0..all.fields.len()).collect()
        } else {
            let column = |name: &String| {
                all.index_of(name)
                    .ok_or_else(|| error::column_missing(&group.name, name))
            };
            request.columns.iter().map(column).collect::<Result<_>>()?
        };
        let mut positions = vec![None; all.fields.len()];
        for (position, column) in columns.iter().enumerate() {
            positions[*column] = Some(position);
        }
        let fields = columns.iter().map(|column| all.fields[*column].clone()).collect();
        let schema = Arc::new(Schema {
            fields,
            ..Schema {
                presence: all.presence,
                ..Schema::default()
            }
        });
        schema.validate()?;
        Ok(Self {
            collection,
            columns,
            positions,
            bounds: request.batch,
            services,
            next_slot,
            sequence: 0,
            remaining: request.limit.unwrap_or(u64::MAX),
            waiting: VecDeque::from([Item::Schema(Arc::clone(&schema))]),
            schema,
            data,
        })
    }

    /// Builds the next batch, preceded by the rejected records that its cursor passes.
    fn fill(&mut self) -> Result<()> {
        let data = Arc::clone(&self.data);
        let (group, layout) = &data.collections[self.collection];
        let records_max = self.bounds.records_max.max(1);
        let overhead = COLUMN_OVERHEAD * (self.columns.len() + 1);
        let bytes_max = self.bounds.bytes_max.saturating_sub(overhead);
        let mut cells: Vec<Vec<CellValue<'_>>> = vec![Vec::new(); self.columns.len()];
        let mut rejected: Vec<RejectedRecord> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(slot) = group.slots.get(self.next_slot) {
            let record = match slot {
                Slot::Rejected(_) if rejected.len() >= REJECTED_MAX => break,
                Slot::Rejected(record) => {
                    rejected.push((**record).clone());
                    self.next_slot += 1;
                    continue;
                }
                Slot::Record(_) if rows >= records_max || self.remaining == 0 => break,
                Slot::Record(record) => record,
            };
            let row = self.row(&data, layout, record);
            let size = self.size(&row);
            if rows > 0 && bytes + size > bytes_max {
                break;
            }
            for (column, value) in cells.iter_mut().zip(row) {
                column.push(value);
            }
            rows += 1;
            bytes += size;
            self.remaining -= 1;
            self.next_slot += 1;
        }
        if !rejected.is_empty() {
            self.waiting.push_back(Item::Rejected(rejected));
        }
        if rows > 0 {
            let mut batch = self.batch(&cells, rows)?.with_cursor(data.cursor(self.next_slot));
            batch.facts.sequence = self.sequence;
            self.sequence += 1;
            self.waiting.push_back(Item::Batch(batch));
        }
        if self.waiting.is_empty() {
            self.waiting.push_back(Item::End);
        }
        Ok(())
    }

    /// The values of one record, in the order of the columns that are read.
    fn row<'a>(&self, data: &'a Dataset, layout: &Layout, record: &Record) -> Vec<CellValue<'a>> {
        let mut row: Vec<CellValue<'a>> = vec![CellValue::Absent; self.columns.len()];
        for (value, column) in row.iter_mut().zip(&self.columns) {
            match layout.contents[*column] {
                Content::Origin => *value = CellValue::Text(Cow::Borrowed(data.origin(record))),
                Content::Key => *value = CellValue::Text(Cow::Borrowed(record.key.of(&data.arena))),
                Content::Id => *value = CellValue::Text(data.id(record)),
                Content::Value => {
                    if let Body::Json(span) = record.body {
                        *value = CellValue::of(span.of(&data.arena));
                    }
                }
                Content::ValueText => {
                    if let Body::Text { span, .. } = record.body {
                        *value = CellValue::Text(Cow::Borrowed(span.of(&data.arena)));
                    }
                }
                Content::Member => {}
            }
        }
        if let Body::Object(span) = record.body {
            for (name, raw) in json_text::members(span.of(&data.arena)).unwrap_or_default() {
                let name = json_text::text(name).text;
                if let Some(position) = layout
                    .members
                    .get(name.as_ref())
                    .and_then(|column| self.positions[*column])
                {
                    row[position] = CellValue::of(raw);
                }
            }
        }
        row
    }

    /// At most so many octets of arrays, without what each column costs anyway.
    fn size(&self, row: &[CellValue<'_>]) -> usize {
        let values =
            row.iter()
                .zip(&self.schema.fields)
                .map(|(value, field)| match (&field.record_type, value) {
                    (RecordType::Decimal { .. }, _) => 17,
                    (RecordType::Bool | RecordType::Int { .. } | RecordType::Float { .. }, _) => 9,
                    (_, CellValue::Absent | CellValue::Null) => 5,
                    (_, CellValue::Json(raw)) => 5 + raw.len(),
                    (_, CellValue::Text(text)) => 5 + text.len(),
                });
        values.sum::<usize>()
            + if self.schema.presence {
                4 + row.len().div_ceil(8)
            } else {
                0
            }
    }

    fn batch(&self, cells: &[Vec<CellValue<'_>>], rows: usize) -> Result<Batch> {
        let mut columns = Vec::with_capacity(cells.len() + 1);
        for (field, values) in self.schema.fields.iter().zip(cells) {
            columns.push(column(field, values)?);
        }
        if self.schema.presence {
            let octets = cells.len().div_ceil(8);
            let mut masks = BinaryBuilder::with_capacity(rows, rows * octets);
            let mut mask = vec![0_u8; octets];
            for row in 0..rows {
                mask.fill(0);
                for (field, values) in cells.iter().enumerate() {
                    if !matches!(values[row], CellValue::Absent) {
                        mask[field / 8] |= 1 << (field % 8);
                    }
                }
                masks.append_value(&mask);
            }
            columns.push(Arc::new(masks.finish()) as ArrayRef);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let records = RecordBatch::try_new_with_options(self.schema.to_arrow(), columns, &options)?;
        Batch::new(Arc::clone(&self.schema), records)
    }
}

impl RecordStream for ExportStream {
    fn next(&mut self) -> Result<Item> {
        self.services.check_cancelled()?;
        if self.waiting.is_empty() {
            self.fill()?;
        }
        self.waiting
            .pop_front()
            .ok_or_else(|| Error::internal("a stream was asked for more after its end"))
    }
}

impl<'a> CellValue<'a> {
    fn of(raw: &'a str) -> Self {
        if raw == "null" {
            Self::Null
        } else {
            Self::Json(raw)
        }
    }

    /// The raw JSON of a value; `None` for null.
    fn json(&self) -> Option<&str> {
        match self {
            Self::Json(raw) => Some(raw),
            Self::Absent | Self::Null | Self::Text(_) => None,
        }
    }
}

fn column(field: &Field, values: &[CellValue<'_>]) -> Result<ArrayRef> {
    let misfit = || Error::internal(format!("a value does not fit the field `{}`", field.name));
    /// Reads each value, or null.
    fn read<T>(
        values: &[CellValue<'_>],
        misfit: impl Fn() -> Error,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<Option<T>>> {
        values
            .iter()
            .map(|value| value.json().map(|raw| parse(raw).ok_or_else(&misfit)).transpose())
            .collect()
    }
    Ok(match &field.record_type {
        RecordType::Bool => Arc::new(BooleanArray::from(read(values, misfit, |raw| raw.parse().ok())?)),
        RecordType::Int { .. } => Arc::new(Int64Array::from(read(values, misfit, |raw| raw.parse().ok())?)),
        RecordType::Float { .. } => {
            Arc::new(Float64Array::from(read(values, misfit, |raw| raw.parse().ok())?))
        }
        RecordType::Decimal { precision, scale } => {
            let decimals = Decimal128Array::from(read(values, misfit, |raw| raw.parse().ok())?);
            Arc::new(decimals.with_precision_and_scale(*precision, *scale)?)
        }
        record_type => {
            let texts: Vec<Option<Cow<'_, str>>> =
                values.iter().map(|value| value.text(record_type)).collect();
            // Counted first: a growing buffer would take up to twice the room.
            let size = texts.iter().flatten().map(|text| text.len()).sum();
            let mut builder = StringBuilder::with_capacity(texts.len(), size);
            texts
                .iter()
                .for_each(|text| builder.append_option(text.as_deref()));
            Arc::new(builder.finish())
        }
    })
}

impl CellValue<'_> {
    /// The value in a column of text of one sort or another.
    fn text(&self, record_type: &RecordType) -> Option<Cow<'_, str>> {
        match self {
            Self::Absent | Self::Null => None,
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Json(raw) if *record_type == RecordType::Text => Some(json_text::text(raw).text),
            Self::Json(raw) => Some(json_text::without_lone_halves(raw).text),
        }
    }
}

impl Dataset {
    fn origin(&self, record: &Record) -> &str {
        record
            .origin
            .map_or("", |origin| self.origins[origin as usize].as_str())
    }

    fn id(&self, record: &Record) -> Cow<'_, str> {
        match record.id {
            Id::Text { span, .. } => Cow::Borrowed(span.of(&self.arena)),
            Id::Index(index) => Cow::Owned(index.to_string()),
        }
    }

    fn cursor(&self, slot: usize) -> Cursor {
        let mut octets = (slot as u64).to_be_bytes().to_vec();
        octets.extend(self.fingerprint.to_be_bytes());
        Cursor(octets)
    }

    fn slot_of(&self, cursor: &Cursor, group: &Group) -> Result<usize> {
        if cursor.is_start() {
            return Ok(0);
        }
        let bad = || error::bad_cursor(&group.name);
        let (slot, fingerprint) = cursor.0.split_first_chunk::<8>().ok_or_else(bad)?;
        let fingerprint = <[u8; 8]>::try_from(fingerprint).map_err(|_| bad())?;
        if u64::from_be_bytes(fingerprint) != self.fingerprint {
            return Err(error::changed(&self.path));
        }
        let slot = usize::try_from(u64::from_be_bytes(*slot)).map_err(|_| bad())?;
        if slot > group.slots.len() {
            Err(bad())
        } else {
            Ok(slot)
        }
    }
}
