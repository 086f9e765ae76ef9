//! The stream over a table: a statement per batch, its values decoded, misfits put aside.
//!
//! A value that is none of its field's type (somebody has edited the file) does not end the stream: its record is
//! delivered as rejected, before the batch in whose place it stood.

use std::collections::VecDeque;
use std::sync::Arc;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};
use whimbrel_plugin_api::arrow_array::{BooleanArray, RecordBatch, RecordBatchOptions};
use whimbrel_plugin_api::arrow_select::filter::filter;
use whimbrel_plugin_api::record_type::{RecordType, Schema};
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{Batch, Cursor, Error, ErrorKind, Item, RecordStream, RejectedRecord, Result, Services};

use crate::catalog::{Origin, Stored};
use crate::decode::Decoder;
use crate::encode::{Bound, Encoder, Scratch};
use crate::error::Doing as _;
use crate::names::REST_COLUMN;
use crate::position::Position;
use crate::query::{Order, Query, text_of};
use crate::rest;

/// Records between two looks at whether the host has cancelled.
const CANCEL_EVERY: usize = 1_024;
/// Octets that a value takes up beside its text: offset, length or the number itself.
const VALUE_BYTES: usize = 8;
const DOING: &str = "read a table";

/// What is read of a table.
pub(crate) struct Reading {
    pub(crate) query: Query,
    pub(crate) schema: Arc<Schema>,
    /// How each field of `schema` is decoded.
    slots: Vec<Slot>,
    /// The columns of the query that fields come from; the rest column is the last, if it is read.
    has_rest: bool,
    key: Vec<String>,
}

#[derive(Clone)]
enum Slot {
    /// A column of its own, by its place in the query.
    Column(usize, Kind),
    /// A member of the rest column.
    Member,
}

#[derive(Clone, Copy)]
enum Kind {
    Typed,
    Mixed,
}

impl Reading {
    /// Reads the fields of `schema` from the table.
    ///
    /// # Errors
    /// `schema.no_field` for a field that the table does not have, and those of [`Query::new`].
    pub(crate) fn new(
        stored: &Stored,
        schema: Schema,
        predicate: Option<&whimbrel_plugin_api::source::Predicate>,
    ) -> Result<Self> {
        let mut columns: Vec<String> = Vec::new();
        let mut slots = Vec::with_capacity(schema.fields.len());
        for field in &schema.fields {
            let Some(found) = stored.field(&field.name) else {
                let message = format!("the table `{}` has no column for the field `{}`", stored.table.name, field.name);
                return Err(Error::not_found("schema.no_field", message));
            };
            let is_mixed = found.origin == Origin::Found && field.record_type == RecordType::Variant;
            slots.push(if found.origin == Origin::Rest {
                Slot::Member
            } else {
                columns.push(found.column.clone());
                Slot::Column(columns.len() - 1, if is_mixed { Kind::Mixed } else { Kind::Typed })
            });
        }
        let has_rest = slots.iter().any(|slot| matches!(slot, Slot::Member));
        columns.extend(has_rest.then(|| REST_COLUMN.to_owned()));
        Ok(Self {
            query: Query::new(stored, &columns, predicate)?,
            schema: Arc::new(schema),
            slots,
            has_rest,
            key: stored.key_columns().into_iter().map(str::to_owned).collect(),
        })
    }

    fn key(&self) -> Vec<&str> {
        self.key.iter().map(String::as_str).collect()
    }
}

/// Records of one batch in the making.
struct Assembly<'reading> {
    reading: &'reading Reading,
    decoders: Vec<Decoder>,
    bounds: BatchBounds,
    bytes: usize,
    /// Per record, whether all its values fit.
    fits: Vec<bool>,
}

impl<'reading> Assembly<'reading> {
    fn new(reading: &'reading Reading, bounds: BatchBounds, capacity: usize) -> Result<Self> {
        let fields = reading.schema.fields.iter().zip(&reading.slots);
        let decoders = fields.map(|(field, slot)| match slot {
            Slot::Column(_, Kind::Typed) => Decoder::new(&field.record_type, capacity),
            Slot::Column(_, Kind::Mixed) => Ok(Decoder::mixed(capacity)),
            Slot::Member => Decoder::json(&field.record_type, capacity),
        });
        Ok(Self {
            decoders: decoders.collect::<Result<_>>()?,
            reading,
            bounds,
            bytes: 0,
            fits: Vec::with_capacity(capacity),
        })
    }

    /// Adds a record, unless the batch would grow too large; answers `None` then, else the first field that does not fit.
    fn push(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<Option<usize>>> {
        let mut bytes = 0;
        for column in 0..self.reading.query.column_count() {
            bytes += VALUE_BYTES
                + match row.get_ref(column)? {
                    ValueRef::Text(octets) | ValueRef::Blob(octets) => octets.len(),
                    _ => 0,
                };
        }
        if !self.fits.is_empty() && self.bytes + bytes > self.bounds.bytes_max {
            return Ok(None);
        }
        self.bytes += bytes;
        let rest = if self.reading.has_rest { row.get_ref(self.reading.query.column_count() - 1)? } else { ValueRef::Null };
        let members = match rest {
            ValueRef::Text(text) => str::from_utf8(text).ok().and_then(rest::read),
            ValueRef::Null => Some(rest::Members::new()),
            _ => None,
        };
        let mut misfit = None;
        for (index, (slot, decoder)) in self.reading.slots.iter().zip(&mut self.decoders).enumerate() {
            let fits = match (slot, &members) {
                (Slot::Column(column, _), _) => {
                    let value = row.get_ref(*column)?;
                    let is_allowed = value != ValueRef::Null || self.reading.schema.fields[index].nullable;
                    decoder.push(value) && is_allowed
                }
                (Slot::Member, Some(members)) => {
                    match members.get(self.reading.schema.fields[index].name.as_str()).map(|raw| raw.get()) {
                        Some(raw) if raw != "null" => decoder.push_json(raw),
                        _ => {
                            decoder.push_null();
                            self.reading.schema.fields[index].nullable
                        }
                    }
                }
                (Slot::Member, None) => {
                    decoder.push_null();
                    false
                }
            };
            if !fits && misfit.is_none() {
                misfit = Some(index);
            }
        }
        self.fits.push(misfit.is_none());
        Ok(Some(misfit))
    }

    /// The records that fit; `None` if there are none.
    fn finish(mut self) -> Result<Option<Batch>> {
        let record_count = self.fits.iter().filter(|fits| **fits).count();
        if record_count == 0 {
            return Ok(None);
        }
        let mut columns = self.decoders.iter_mut().map(Decoder::finish).collect::<Result<Vec<_>>>()?;
        if record_count < self.fits.len() {
            let mask = BooleanArray::from(self.fits);
            columns = columns.iter().map(|column| filter(column, &mask)).collect::<Result<_, _>>()?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(record_count));
        let records = RecordBatch::try_new_with_options(self.reading.schema.to_arrow(), columns, &options)?;
        Batch::new(Arc::clone(&self.reading.schema), records).map(Some)
    }

    fn rejected(&self, record: String, field: usize) -> RejectedRecord {
        let field = &self.reading.schema.fields[field];
        RejectedRecord {
            record,
            row: None,
            code: "turso.value_does_not_fit".to_owned(),
            message: format!("the stored value of the field `{}` is no `{}`", field.name, field.record_type),
            data: None,
        }
    }
}

/// What a stream goes through.
enum Course {
    /// The table in its order, from behind a position.
    Scan { after: Option<Position>, left: Option<u64> },
    /// Records of given keys.
    Lookup { keys: Vec<Encoder>, key_count: usize, next: usize },
}

/// A stream over one table.
pub(crate) struct TableStream {
    connection: Connection,
    services: Services,
    reading: Arc<Reading>,
    bounds: BatchBounds,
    course: Course,
    pending: VecDeque<Item>,
    sequence: u64,
    is_done: bool,
}

impl TableStream {
    /// Reads the table from behind `cursor` on.
    ///
    /// # Errors
    /// `turso.bad_cursor` for octets that are none of its cursors, `turso.cursor_lost` if row numbers may have changed
    /// since.
    pub(crate) fn scan(
        connection: Connection,
        services: Services,
        reading: Reading,
        bounds: BatchBounds,
        cursor: &Cursor,
        limit: Option<u64>,
    ) -> Result<Self> {
        let after = if cursor.is_start() { None } else { Some(Position::from_cursor(cursor)?) };
        if let Some(after) = &after {
            let by_key = matches!(reading.query.order, Order::Key(_));
            if after.by_key != by_key || after.values.len() != reading.query.position_len() {
                return Err(Error::invalid_data("turso.bad_cursor", "the cursor belongs to another way of reading this table"));
            }
        }
        let course = Course::Scan { after, left: limit };
        Ok(Self::new(connection, services, reading, bounds, course))
    }

    /// Reads the records of the given keys.
    pub(crate) fn lookup(
        connection: Connection,
        services: Services,
        reading: Reading,
        bounds: BatchBounds,
        keys: Vec<Encoder>,
        key_count: usize,
    ) -> Self {
        let course = Course::Lookup { keys, key_count, next: 0 };
        Self::new(connection, services, reading, bounds, course)
    }

    fn new(connection: Connection, services: Services, reading: Reading, bounds: BatchBounds, course: Course) -> Self {
        let pending = VecDeque::from([Item::Schema(Arc::clone(&reading.schema))]);
        Self {
            connection,
            services,
            reading: Arc::new(reading),
            bounds,
            course,
            pending,
            sequence: 0,
            is_done: false,
        }
    }

    /// The file's layout number, if positions depend on it.
    fn layout(&self) -> Result<Option<i64>> {
        match self.reading.query.order {
            Order::RowNumber { is_stable: false, .. } => {
                self.connection.query_row("PRAGMA schema_version", [], |row| row.get(0)).doing(DOING).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Reads the next batch of a scan.
    fn scan_on(&mut self) -> Result<()> {
        let layout = self.layout()?;
        let Course::Scan { after, left } = &self.course else {
            return Ok(());
        };
        if after.as_ref().is_some_and(|after| after.layout != layout) {
            return Err(Error::new(
                ErrorKind::Integrity,
                "turso.cursor_lost",
                "the tables of the file were changed, so that a record can no longer be found by its place",
            )
            .with_help("read the collection from its start"));
        }
        let reading = Arc::clone(&self.reading);
        let query = &reading.query;
        let capacity = self.bounds.records_max.max(1).min(left.unwrap_or(u64::MAX).try_into().unwrap_or(usize::MAX));
        let mut assembly = Assembly::new(&reading, self.bounds, capacity)?;
        let mut misfits: Vec<(Vec<Value>, usize)> = Vec::new();
        let mut last: Vec<Value> = Vec::with_capacity(query.position_len());
        let mut is_cut = false;
        {
            let mut statement = self.connection.prepare_cached(&query.sql(after.is_some())).doing(DOING)?;
            let limit = Value::Integer(capacity.try_into().unwrap_or(i64::MAX));
            let position = after.iter().flat_map(|after| &after.values);
            let values = query.values.iter().chain(position).chain(std::iter::once(&limit));
            let mut rows = statement.query(params_from_iter(values)).doing(DOING)?;
            while let Some(row) = rows.next().doing(DOING)? {
                if assembly.fits.len() % CANCEL_EVERY == 0 {
                    self.services.check_cancelled()?;
                }
                let Some(misfit) = assembly.push(row).doing(DOING)? else {
                    is_cut = true;
                    break;
                };
                last.clear();
                for place in 0..query.position_len() {
                    last.push(row.get(query.column_count() + place).doing(DOING)?);
                }
                misfits.extend(misfit.map(|field| (last.clone(), field)));
            }
        }
        let read_count = assembly.fits.len();
        let mut rejected = Vec::with_capacity(misfits.len());
        for (position, field) in misfits {
            rejected.push(assembly.rejected(self.record_at(&position)?, field));
        }
        let batch = assembly.finish()?;
        self.is_done = !is_cut && read_count < capacity;
        if let Course::Scan { after, left } = &mut self.course {
            if read_count > 0 {
                let by_key = matches!(reading.query.order, Order::Key(_));
                *after = Some(Position { by_key, layout, values: last });
            }
            if let Some(left) = left {
                *left -= read_count as u64;
                self.is_done |= *left == 0;
            }
            let cursor = after.as_ref().map_or(Cursor::start(), Position::to_cursor);
            self.send(rejected, batch.map(|batch| batch.with_cursor(cursor)));
        }
        Ok(())
    }

    /// How a person finds the record at a position.
    fn record_at(&self, position: &[Value]) -> Result<String> {
        let key = self.reading.key();
        let texts: Vec<String> = match &self.reading.query.order {
            Order::RowNumber { is_stable: false, .. } if key.is_empty() => {
                return Ok(format!("row number {}", position.iter().map(text_of).collect::<String>()));
            }
            Order::RowNumber { is_stable: false, .. } => {
                let mut statement = self.connection.prepare_cached(&self.reading.query.key_sql(&key)).doing(DOING)?;
                let mut rows = statement.query(params_from_iter(position)).doing(DOING)?;
                match rows.next().doing(DOING)? {
                    Some(row) => (0..key.len())
                        .map(|place| row.get_ref(place).map(shown))
                        .collect::<rusqlite::Result<_>>()
                        .doing(DOING)?,
                    None => Vec::new(),
                }
            }
            _ => position.iter().map(text_of).collect(),
        };
        Ok(texts.join(", "))
    }

    /// Reads the next batch of a lookup.
    fn look_up(&mut self) -> Result<()> {
        let reading = Arc::clone(&self.reading);
        let Course::Lookup { keys, key_count, next } = &mut self.course else {
            return Ok(());
        };
        let capacity = self.bounds.records_max.max(1).min(*key_count - *next);
        let mut assembly = Assembly::new(&reading, self.bounds, capacity)?;
        let mut rejected = Vec::new();
        let mut scratch = Scratch::default();
        let mut statement = self.connection.prepare_cached(&reading.query.lookup_sql(&reading.key())).doing(DOING)?;
        'keys: while *next < *key_count && assembly.fits.len() < capacity {
            if *next % CANCEL_EVERY == 0 {
                self.services.check_cancelled()?;
            }
            let mut name = Vec::with_capacity(keys.len());
            for (place, key) in keys.iter().enumerate() {
                let value = key.value(*next, &mut scratch).map_err(|fault| Error::invalid_data(fault.code, fault.message))?;
                name.push(shown(value));
                statement.raw_bind_parameter(place + 1, Bound(value)).doing(DOING)?;
            }
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().doing(DOING)? {
                match assembly.push(row).doing(DOING)? {
                    // The key is asked for again, alone in its batch.
                    None => break 'keys,
                    Some(Some(field)) => rejected.push(assembly.rejected(name.join(", "), field)),
                    Some(None) => {}
                }
            }
            *next += 1;
        }
        drop(statement);
        self.is_done = *next >= *key_count;
        let batch = assembly.finish()?;
        self.send(rejected, batch);
        Ok(())
    }

    fn send(&mut self, rejected: Vec<RejectedRecord>, batch: Option<Batch>) {
        if !rejected.is_empty() {
            self.pending.push_back(Item::Rejected(rejected));
        }
        if let Some(mut batch) = batch {
            batch.facts.sequence = self.sequence;
            self.sequence += 1;
            self.pending.push_back(Item::Batch(batch));
        }
    }
}

/// A key value as a person reads it.
fn shown(value: ValueRef<'_>) -> String {
    match value {
        // A text that is not UTF-8 cannot be shown as it is.
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => text_of(&other.into()),
    }
}

impl RecordStream for TableStream {
    fn next(&mut self) -> Result<Item> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Ok(item);
            }
            if self.is_done {
                return Ok(Item::End);
            }
            self.services.check_cancelled()?;
            match self.course {
                Course::Scan { left: Some(0), .. } => self.is_done = true,
                Course::Scan { .. } => self.scan_on()?,
                Course::Lookup { .. } => self.look_up()?,
            }
        }
    }
}
