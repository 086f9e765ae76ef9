//! The statement that reads a part of a table: its columns, conditions and order, going on after a position.
//!
//! A table with a key is read in the order of the key, so that a read can go on behind any record of it, for ever and
//! from anywhere. Without one a table is read as it lies in its file, and a view as the database gives it.

use whimbrel_plugin_api::source::Predicate;
use whimbrel_plugin_api::{Error, Result};

use crate::catalog::{Column, PgTypeKind, Table, TableKind};
use crate::names::quote;

use super::literals::{parsed, typed};
use super::order::{Order, order};
use super::partition::Part;
use super::position::{Position, lost, values};
use super::stored::{Origin, Stored, StoredField};

/// A statement but for where it goes on and ends.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    select: Vec<String>,
    from: String,
    conditions: Vec<String>,
    pub(super) order: Order,
    snapshot: String,
}

impl Query {
    /// Reads `fields`, then whatever the order and `extra` ask for, where `part` and `predicate` hold.
    ///
    /// # Errors
    /// `postgres.bad_range`, or `plugin.unsupported` for ranges over types without an order; `postgres.partition_lost` for
    /// a part that is none of this table as it is now.
    pub(super) fn new(
        stored: &Stored,
        fields: &[&StoredField],
        extra: Option<String>,
        file: u32,
        snapshot: Option<&str>,
    ) -> Self {
        let mut select: Vec<String> = fields.iter().filter_map(|stored| selected(stored)).collect();
        select.extend(extra);
        let from = format!("{} AS t", from(&stored.table));
        let order = order(stored, fields, &mut select, file);
        Self {
            select,
            from,
            conditions: Vec::new(),
            order,
            snapshot: snapshot.unwrap_or_default().to_owned(),
        }
    }

    /// Reads what `statement` selects, which has a column for each of `fields`.
    pub(super) fn of_statement(statement: &str, fields: &[&StoredField]) -> Self {
        Self {
            select: fields.iter().filter_map(|stored| selected(stored)).collect(),
            // On a line of its own: the statement may end with a comment.
            from: format!("({statement}\n) AS t"),
            conditions: Vec::new(),
            order: Order::Number,
            snapshot: String::new(),
        }
    }

    /// Reads only a part.
    ///
    /// # Errors
    /// `postgres.partition_lost` if it is none of this table as it is now.
    pub(super) fn within(&mut self, part: &Part, stored: &Stored) -> Result<()> {
        let file = match &self.order {
            Order::Place { file, .. } => Some(*file),
            _ => None,
        };
        self.conditions
            .extend(part.conditions(stored, file, &self.snapshot)?);
        Ok(())
    }

    /// Reads only records of a range.
    ///
    /// # Errors
    /// `postgres.bad_range`, `schema.no_field`, or `plugin.unsupported` for types without an order of their own.
    pub(super) fn matching(&mut self, predicate: &Predicate, stored: &Stored) -> Result<()> {
        match predicate {
            Predicate::KeyRange { from, to } => {
                let fields: Vec<&StoredField> = stored
                    .key_columns()
                    .into_iter()
                    .map(|(stored, ..)| stored)
                    .collect();
                if fields.is_empty() {
                    return Err(Error::unsupported("a range of keys without a key"));
                }
                self.bound(&fields, from.as_ref(), ">=")?;
                self.bound(&fields, to.as_ref(), "<")
            }
            Predicate::CursorRange { field, from, to } => {
                let stored = stored.field(field).ok_or_else(|| {
                    Error::not_found(
                        "schema.no_field",
                        format!("the collection has no field `{field}`"),
                    )
                })?;
                let bound = |value: &Option<serde_json::Value>| {
                    value.clone().map(|value| serde_json::Value::Array(vec![value]))
                };
                self.bound(&[stored], bound(from).as_ref(), ">=")?;
                self.bound(&[stored], bound(to).as_ref(), "<=")
            }
        }
    }

    /// One side of a range, as a JSON array of the first values of `fields`.
    fn bound(
        &mut self,
        fields: &[&StoredField],
        bound: Option<&serde_json::Value>,
        comparison: &str,
    ) -> Result<()> {
        let Some(bound) = bound else {
            return Ok(());
        };
        let bound = bound
            .as_array()
            .filter(|bound| !bound.is_empty() && bound.len() <= fields.len())
            .ok_or_else(|| {
                Error::invalid_data(
                    "postgres.bad_range",
                    "a bound of the range is no JSON array of values of its fields",
                )
            })?;
        let mut columns = Vec::with_capacity(bound.len());
        let mut literals = Vec::with_capacity(bound.len());
        for (stored, value) in fields.iter().zip(bound) {
            let Origin::Column(column, _) = &stored.origin else {
                return Err(Error::unsupported("a range over a field without a column"));
            };
            columns.push(qualified(&column.name));
            literals.push(parsed(value, &stored.field.record_type, &column.pg_type)?);
        }
        self.conditions.push(format!(
            "({}) {comparison} ({})",
            columns.join(", "),
            literals.join(", ")
        ));
        Ok(())
    }

    /// Statements that the transaction needs before it.
    pub(super) fn preparation(&self) -> &'static str {
        match self.order {
            Order::Key { .. } => "SET LOCAL jit = off",
            // Only a scan of the file from its start gives the records in the order of their places.
            Order::Place { .. } => {
                "SET LOCAL jit = off; SET LOCAL synchronize_seqscans = off; SET LOCAL enable_indexscan = off; \
                 SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off; \
                 SET LOCAL max_parallel_workers_per_gather = 0"
            }
            // The same order each time, as far as that can be had.
            Order::Number => {
                "SET LOCAL jit = off; SET LOCAL synchronize_seqscans = off; \
                 SET LOCAL max_parallel_workers_per_gather = 0"
            }
        }
    }

    /// The COPY of the records behind `after`.
    ///
    /// # Errors
    /// `postgres.bad_cursor` for a position in another order, `postgres.cursor_lost` for one that no longer holds.
    pub(super) fn copy(&self, after: Option<&Position>, limit: Option<u64>) -> Result<String> {
        let mut conditions = self.conditions.clone();
        let mut tail = String::new();
        if let Some(after) = after {
            match self.after(after)? {
                Behind::Condition(condition) => conditions.push(condition),
                Behind::Offset(offset) => tail = format!(" OFFSET {offset}"),
            }
        }
        if let Order::Key { columns, .. } = &self.order {
            let columns: Vec<&str> = columns.iter().map(|column| column.expression.as_str()).collect();
            tail = format!(" ORDER BY {}{tail}", columns.join(", "));
        }
        if let Some(limit) = limit {
            tail.push_str(&format!(" LIMIT {limit}"));
        }
        Ok(self.statement(&conditions, &tail))
    }

    /// The COPY of the records with these keys, rows of `VALUES`.
    pub(super) fn lookup(&self, stored: &Stored, keys: &[String]) -> String {
        let columns: Vec<String> = stored
            .key_columns()
            .iter()
            .map(|(_, column, _)| qualified(&column.name))
            .collect();
        let mut conditions = self.conditions.clone();
        conditions.push(format!(
            "({}) IN (VALUES {})",
            columns.join(", "),
            keys.join(", ")
        ));
        self.statement(&conditions, "")
    }

    fn statement(&self, conditions: &[String], tail: &str) -> String {
        let condition = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        format!(
            "COPY (SELECT {} FROM {}{condition}{tail}) TO STDOUT (FORMAT binary)",
            self.select.join(", "),
            self.from
        )
    }

    fn after(&self, after: &Position) -> Result<Behind> {
        match (&self.order, after) {
            (Order::Key { shape, columns }, Position::Key { shape: of, values })
                if shape == of && columns.len() == values.len() =>
            {
                let expressions: Vec<&str> =
                    columns.iter().map(|column| column.expression.as_str()).collect();
                let values: Vec<String> = columns
                    .iter()
                    .zip(values)
                    .map(|(column, value)| typed(value, &column.cast))
                    .collect();
                Ok(Behind::Condition(format!(
                    "({}) > ({})",
                    expressions.join(", "),
                    values.join(", ")
                )))
            }
            (
                Order::Place { file, .. },
                Position::Place {
                    file: of,
                    block,
                    item,
                    snapshot,
                },
            ) => {
                self.same_snapshot(snapshot)?;
                if file != of {
                    return Err(lost("the table was rewritten"));
                }
                Ok(Behind::Condition(format!(
                    "t.ctid > '({block},{item})'::pg_catalog.tid"
                )))
            }
            (Order::Number, Position::Number { count, snapshot }) => {
                self.same_snapshot(snapshot)?;
                Ok(Behind::Offset(*count))
            }
            _ => Err(Error::invalid_data(
                "postgres.bad_cursor",
                "the cursor belongs to another way of reading this table",
            )
            .with_help("read the collection from its start")),
        }
    }

    fn same_snapshot(&self, snapshot: &str) -> Result<()> {
        if snapshot == self.snapshot {
            Ok(())
        } else {
            Err(lost("the table is read at another snapshot"))
        }
    }

    /// Where the record of `row` stands; `count` records were read with it. `None` if the octets are no such row.
    pub(super) fn position(&self, row: &[u8], count: u64) -> Option<Position> {
        match &self.order {
            Order::Key { shape, columns } => {
                let row: Vec<Option<&[u8]>> = values(row).collect();
                let values = columns
                    .iter()
                    .map(|column| column.octets.text((*row.get(column.at)?)?))
                    .collect::<Option<_>>()?;
                Some(Position::Key {
                    shape: *shape,
                    values,
                })
            }
            Order::Place { at, file } => {
                let (block, item) = values(row).nth(*at)??.split_first_chunk::<4>()?;
                Some(Position::Place {
                    file: *file,
                    block: u32::from_be_bytes(*block),
                    item: u16::from_be_bytes(item.try_into().ok()?),
                    snapshot: self.snapshot.clone(),
                })
            }
            Order::Number => Some(Position::Number {
                count,
                snapshot: self.snapshot.clone(),
            }),
        }
    }

    /// How many values a row has.
    pub(super) fn value_count(&self) -> usize {
        self.select.len()
    }
}

enum Behind {
    Condition(String),
    Offset(u64),
}

/// The table without those that inherit from it: their records are read as their own.
pub(crate) fn from(table: &Table) -> String {
    let only = if table.kind == TableKind::Table {
        "ONLY "
    } else {
        ""
    };
    format!("{only}{}", table.name.sql())
}

pub(super) fn qualified(column: &str) -> String {
    format!("t.{}", quote(column))
}

/// The column as its type's own output function writes it. A cast of `inet` would add the length of the prefix.
fn written_out(column: &Column) -> String {
    let name = qualified(&column.name);
    let mut innermost = &column.pg_type;
    while let PgTypeKind::Domain(base) = &innermost.kind {
        innermost = base;
    }
    if innermost.schema == "pg_catalog" && innermost.name == "inet" {
        format!("CASE WHEN {name} IS NOT NULL THEN pg_catalog.format('%s', {name}) END")
    } else {
        format!("{name}::pg_catalog.text")
    }
}

fn selected(stored: &StoredField) -> Option<String> {
    match &stored.origin {
        Origin::Column(column, reading) if reading.as_text => Some(written_out(column)),
        Origin::Column(column, _) => Some(qualified(&column.name)),
        Origin::Rest => None,
    }
}
