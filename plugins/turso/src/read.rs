//! The stream over a table: a statement per batch, and what does not fit put aside.
//!
//! A value that is none of its field's type (somebody has edited the file) does not end the stream: its record is
//! delivered as rejected, before the batch in whose place it stood.

use std::collections::VecDeque;
use std::sync::Arc;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params_from_iter};
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{
    Batch, Cursor, Error, ErrorKind, Item, RecordStream, RejectedRecord, Result, Services,
};

use crate::assembly::{Assembly, Reading};
use crate::encode::{Bound, Encoder, Scratch};
use crate::error::Doing as _;
use crate::position::Position;
use crate::query::{Order, text_of};

/// Records between two looks at whether the host has cancelled.
const CANCEL_EVERY: usize = 1_024;
const DOING: &str = "read a table";

/// What a stream goes through.
enum Course {
    /// The table in its order, from behind a position.
    Scan {
        after: Option<Position>,
        left: Option<u64>,
    },
    /// Records of given keys.
    Lookup {
        keys: Vec<Encoder>,
        key_count: usize,
        next: usize,
    },
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
        let after = if cursor.is_start() {
            None
        } else {
            Some(Position::from_cursor(cursor)?)
        };
        if let Some(after) = &after {
            let by_key = matches!(reading.query.order, Order::Key(_));
            if after.by_key != by_key || after.values.len() != reading.query.position.len() {
                return Err(Error::invalid_data(
                    "turso.bad_cursor",
                    "the cursor belongs to another way of reading this table",
                ));
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
        let course = Course::Lookup {
            keys,
            key_count,
            next: 0,
        };
        Self::new(connection, services, reading, bounds, course)
    }

    fn new(
        connection: Connection,
        services: Services,
        reading: Reading,
        bounds: BatchBounds,
        course: Course,
    ) -> Self {
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
            Order::RowNumber { is_stable: false, .. } => self
                .connection
                .query_row("PRAGMA schema_version", [], |row| row.get(0))
                .doing(DOING)
                .map(Some),
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
        let capacity = self
            .bounds
            .records_max
            .max(1)
            .min(left.unwrap_or(u64::MAX).try_into().unwrap_or(usize::MAX));
        let mut assembly = Assembly::new(&reading, self.bounds, capacity)?;
        let mut misfits: Vec<(Vec<Value>, usize)> = Vec::new();
        let mut last: Vec<Value> = Vec::with_capacity(query.position.len());
        let mut is_cut = false;
        {
            let mut statement = self
                .connection
                .prepare_cached(&query.sql(after.is_some()))
                .doing(DOING)?;
            let limit = Value::Integer(capacity.try_into().unwrap_or(i64::MAX));
            let position = after.iter().flat_map(|after| &after.values);
            let values = query.values.iter().chain(position).chain(std::iter::once(&limit));
            let mut rows = statement.query(params_from_iter(values)).doing(DOING)?;
            while let Some(row) = rows.next().doing(DOING)? {
                if assembly.len() % CANCEL_EVERY == 0 {
                    self.services.check_cancelled()?;
                }
                let Some(misfit) = assembly.push(row).doing(DOING)? else {
                    is_cut = true;
                    break;
                };
                last.clear();
                for place in &query.position {
                    last.push(row.get(*place).doing(DOING)?);
                }
                misfits.extend(misfit.map(|field| (last.clone(), field)));
            }
        }
        let read_count = assembly.len();
        let mut rejected = Vec::with_capacity(misfits.len());
        for (position, field) in misfits {
            rejected.push(assembly.rejected(self.record_at(&position)?, field));
        }
        let batch = assembly.finish()?;
        self.is_done = !is_cut && read_count < capacity;
        if let Course::Scan { after, left } = &mut self.course {
            if read_count > 0 {
                let by_key = matches!(reading.query.order, Order::Key(_));
                *after = Some(Position {
                    by_key,
                    layout,
                    values: last,
                });
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
                return Ok(format!(
                    "row number {}",
                    position.iter().map(text_of).collect::<String>()
                ));
            }
            Order::RowNumber { is_stable: false, .. } => {
                let mut statement = self
                    .connection
                    .prepare_cached(&self.reading.query.key_sql(&key))
                    .doing(DOING)?;
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
        let Course::Lookup {
            keys,
            key_count,
            next,
        } = &mut self.course
        else {
            return Ok(());
        };
        let capacity = self.bounds.records_max.max(1).min(*key_count - *next);
        let mut assembly = Assembly::new(&reading, self.bounds, capacity)?;
        let mut rejected = Vec::new();
        let mut scratch = Scratch::default();
        let mut statement = self
            .connection
            .prepare_cached(&reading.query.lookup_sql(&reading.key()))
            .doing(DOING)?;
        'keys: while *next < *key_count && assembly.len() < capacity {
            if *next % CANCEL_EVERY == 0 {
                self.services.check_cancelled()?;
            }
            let mut name = Vec::with_capacity(keys.len());
            for (place, key) in keys.iter().enumerate() {
                let value = key
                    .value(*next, &mut scratch)
                    .map_err(|fault| Error::invalid_data(fault.code, fault.message))?;
                name.push(shown(value));
                statement
                    .raw_bind_parameter(place + 1, Bound(value))
                    .doing(DOING)?;
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
