//! The stream over a table: a statement per batch, and what does not fit put aside.
//!
//! A value that is none of its field's type (somebody has edited the file) does not end the stream: its record is
//! delivered as rejected, before the batch in whose place it stood.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::types::{Value, ValueRef};
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{
    Batch, Cursor, Error, ErrorKind, Item, RecordStream, RejectedRecord, Result, Services,
};

use crate::assembly::{Assembly, Reading};
use crate::database::{self, Database, TOO_LARGE, integer};
use crate::encode::{Encoder, Scratch};
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

/// What a statement has given.
#[derive(Default)]
struct Page {
    /// The position of the last record.
    last: Vec<Value>,
    /// Positions of records that do not fit, with the first field that does not.
    misfits: Vec<(Vec<Value>, usize)>,
    /// Whether records were left over.
    is_cut: bool,
}

/// A stream over one table.
pub(crate) struct TableStream {
    database: Box<dyn Database>,
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
        database: Box<dyn Database>,
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
        Ok(Self::new(database, services, reading, bounds, course))
    }

    /// Reads the records of the given keys.
    pub(crate) fn lookup(
        database: Box<dyn Database>,
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
        Self::new(database, services, reading, bounds, course)
    }

    fn new(
        database: Box<dyn Database>,
        services: Services,
        reading: Reading,
        bounds: BatchBounds,
        course: Course,
    ) -> Self {
        let pending = VecDeque::from([Item::Schema(Arc::clone(&reading.schema))]);
        Self {
            database,
            services,
            reading: Arc::new(reading),
            bounds,
            course,
            pending,
            sequence: 0,
            is_done: false,
        }
    }

    /// The database's layout number, if positions depend on it.
    fn layout(&self) -> Result<Option<i64>> {
        match self.reading.query.order {
            Order::RowNumber { is_stable: false, .. } => {
                database::first(&*self.database, DOING, "PRAGMA schema_version", &[], |row| {
                    integer(row, 0)
                })
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
                "the tables of the database were changed, so that a record can no longer be found by its place",
            )
            .with_help("read the collection from its start"));
        }
        let reading = Arc::clone(&self.reading);
        let (assembly, page, capacity) = loop {
            let capacity = self
                .bounds
                .records_max
                .max(1)
                .min(self.database.page_records_max().max(1))
                .min(left.unwrap_or(u64::MAX).try_into().unwrap_or(usize::MAX));
            let mut assembly = Assembly::new(&reading, self.bounds, capacity)?;
            match self.page(&mut assembly, capacity, after.as_ref()) {
                Ok(page) => break (assembly, page, capacity),
                Err(error) if error.code == TOO_LARGE && capacity == 1 => {
                    return self.pass_over(layout, &error);
                }
                Err(error) if error.code == TOO_LARGE => {}
                Err(error) => return Err(error),
            }
        };
        let read_count = assembly.len();
        let mut rejected = Vec::with_capacity(page.misfits.len());
        for (position, field) in page.misfits {
            rejected.push(assembly.rejected(self.record_at(&position)?, field));
        }
        let batch = assembly.finish()?;
        self.is_done = !page.is_cut && read_count < capacity;
        self.move_on(layout, page.last, read_count, rejected, batch);
        Ok(())
    }

    /// Takes note of the records that were read, and sends them.
    fn move_on(
        &mut self,
        layout: Option<i64>,
        last: Vec<Value>,
        read_count: usize,
        rejected: Vec<RejectedRecord>,
        batch: Option<Batch>,
    ) {
        let by_key = matches!(self.reading.query.order, Order::Key(_));
        let Course::Scan { after, left } = &mut self.course else {
            return;
        };
        if read_count > 0 {
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

    /// Rejects the next record, which the database does not give away even alone.
    fn pass_over(&mut self, layout: Option<i64>, error: &Error) -> Result<()> {
        let Course::Scan { after, .. } = &self.course else {
            return Ok(());
        };
        let query = &self.reading.query;
        let position = after.iter().flat_map(|after| &after.values);
        let values: Vec<Value> = query
            .values
            .iter()
            .chain(position)
            .cloned()
            .chain([Value::Integer(1)])
            .collect();
        let sql = query.position_sql(after.is_some());
        let next = database::first(&*self.database, DOING, &sql, &values, |row| {
            (0..query.position.len())
                .map(|place| row.cell(place).map(Value::from))
                .collect::<Result<Vec<_>>>()
        })?;
        let Some(next) = next else {
            self.is_done = true;
            return Ok(());
        };
        let rejected = RejectedRecord {
            record: self.record_at(&next)?,
            row: None,
            code: error.code.clone(),
            message: "the record is larger than the server's answers may be".to_owned(),
            data: None,
        };
        self.move_on(layout, next, 1, vec![rejected], None);
        Ok(())
    }

    /// Asks for up to `capacity` records from behind `after`.
    fn page(&self, assembly: &mut Assembly<'_>, capacity: usize, after: Option<&Position>) -> Result<Page> {
        let query = &self.reading.query;
        let mut page = Page::default();
        let limit = Value::Integer(capacity.try_into().unwrap_or(i64::MAX));
        let position = after.into_iter().flat_map(|after| &after.values);
        let values: Vec<Value> = query
            .values
            .iter()
            .chain(position)
            .chain([&limit])
            .cloned()
            .collect();
        let sql = query.sql(after.is_some());
        self.database.query_each(DOING, &sql, &[values], &mut |_, row| {
            if assembly.len().is_multiple_of(CANCEL_EVERY) {
                self.services.check_cancelled()?;
            }
            let Some(misfit) = assembly.push(row)? else {
                page.is_cut = true;
                return Ok(ControlFlow::Break(()));
            };
            page.last.clear();
            for place in &query.position {
                page.last.push(row.cell(*place)?.into());
            }
            page.misfits
                .extend(misfit.map(|field| (page.last.clone(), field)));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(page)
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
                let sql = self.reading.query.key_sql(&key);
                let shown_key = database::first(&*self.database, DOING, &sql, position, |row| {
                    (0..key.len()).map(|place| row.cell(place).map(shown)).collect()
                })?;
                shown_key.unwrap_or_default()
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
        let mut asked = Vec::with_capacity(capacity);
        for index in *next..*next + capacity {
            let mut values: Vec<Value> = Vec::with_capacity(keys.len());
            for key in &*keys {
                let value = key.value(index, &mut scratch);
                values.push(
                    value
                        .map_err(|fault| Error::invalid_data(fault.code, fault.message))?
                        .into(),
                );
            }
            asked.push(values);
        }
        let mut answered = capacity;
        let sql = reading.query.lookup_sql(&reading.key());
        self.database
            .query_each(DOING, &sql, &asked, &mut |number, row| {
                if number.is_multiple_of(CANCEL_EVERY) {
                    self.services.check_cancelled()?;
                }
                match assembly.push(row)? {
                    None => {
                        // The key is asked for again, alone in its batch.
                        answered = number;
                        return Ok(ControlFlow::Break(()));
                    }
                    Some(Some(field)) => {
                        let name: Vec<String> =
                            asked[number].iter().map(|value| shown(value.into())).collect();
                        rejected.push(assembly.rejected(name.join(", "), field));
                    }
                    Some(None) => {}
                }
                Ok(ControlFlow::Continue(()))
            })?;
        *next += answered;
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
