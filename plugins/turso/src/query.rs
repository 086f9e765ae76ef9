//! The statement that reads a part of a table: its columns, conditions and order, going on after a position.
//!
//! Each batch is one statement that begins behind the last record (never `OFFSET`), so no statement and no lock of the
//! file stays open between batches. Tables are read by row number, which is the order in which they lie in the file, or
//! by key where there is no row number or a range of keys is asked for.

use rusqlite::types::Value;
use whimbrel_plugin_api::json_form::JsonDecoder;
use whimbrel_plugin_api::source::Predicate;
use whimbrel_plugin_api::{Error, ErrorKind, Result};

use crate::catalog::{Origin, Stored, StoredField};
use crate::encode::{Encoder, Scratch};
use crate::names::quote;
use crate::type_mapping::is_ordered;

/// Columns that a query may ask for, and a table may have. Source: "Limits In SQLite", SQLITE_MAX_COLUMN, as it is
/// compiled in.
pub(crate) const QUERY_COLUMNS_MAX: usize = 2_000;

/// By what a table is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// The row number, as the query asks for it; `is_stable` if it is an integer key.
    RowNumber { expression: String, is_stable: bool },
    /// The columns of the key.
    Key(Vec<String>),
}

/// A statement but for its position and limit.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    select: Vec<String>,
    table: String,
    conditions: Vec<String>,
    /// Values of the conditions.
    pub(crate) values: Vec<Value>,
    pub(crate) order: Order,
    /// Where the values of the position stand among the columns.
    pub(crate) position: Vec<usize>,
    /// How many columns were asked for; those of the position may stand behind them.
    pub(crate) column_count: usize,
}

impl Query {
    /// Reads `columns` of the table where `predicate` holds.
    ///
    /// # Errors
    /// `plugin.unsupported` for predicates over types whose stored order is another; `turso.no_row_order` for a table
    /// that has neither a row number nor a key to read by.
    pub(crate) fn new(stored: &Stored, columns: &[String], predicate: Option<&Predicate>) -> Result<Self> {
        let mut query = Self {
            select: columns.iter().map(|column| qualified(column)).collect(),
            table: quote(&stored.table.name),
            conditions: Vec::new(),
            values: Vec::new(),
            order: Order::Key(Vec::new()),
            position: Vec::new(),
            column_count: columns.len(),
        };
        match predicate {
            None => {}
            Some(Predicate::KeyRange { from, to }) => {
                let fields: Vec<&StoredField> =
                    stored.key.iter().filter_map(|name| stored.field(name)).collect();
                query.bound(&fields, from.as_ref(), ">=")?;
                query.bound(&fields, to.as_ref(), "<")?;
            }
            Some(Predicate::CursorRange { field, from, to }) => {
                let field = stored.field(field).ok_or_else(|| {
                    Error::not_found(
                        "schema.no_field",
                        format!("the collection has no field `{field}`"),
                    )
                })?;
                let bound = |value: &Option<serde_json::Value>| {
                    value.clone().map(|value| serde_json::Value::Array(vec![value]))
                };
                query.bound(&[field], bound(from).as_ref(), ">=")?;
                query.bound(&[field], bound(to).as_ref(), "<=")?;
            }
        }
        let by_key =
            matches!(predicate, Some(Predicate::KeyRange { .. })) || columns.len() >= QUERY_COLUMNS_MAX;
        query.order = order(stored, by_key)?;
        for column in query.order_columns() {
            let place = query.select.iter().position(|selected| *selected == column);
            query.position.push(place.unwrap_or(query.select.len()));
            if place.is_none() {
                query.select.push(column);
            }
        }
        Ok(query)
    }

    /// Stands for a statement of another's, of which only the number of columns matters.
    pub(crate) fn of_answer(column_count: usize) -> Self {
        Self {
            select: Vec::new(),
            table: String::new(),
            conditions: Vec::new(),
            values: Vec::new(),
            order: Order::Key(Vec::new()),
            position: Vec::new(),
            column_count,
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
        let bad = || {
            Error::invalid_data(
                "turso.bad_range",
                "a bound of the range is no JSON array of values of its fields",
            )
        };
        let values = bound
            .as_array()
            .filter(|values| !values.is_empty() && values.len() <= fields.len())
            .ok_or_else(bad)?;
        let mut columns = Vec::with_capacity(values.len());
        for (field, value) in fields.iter().zip(values) {
            let record_type = &field.field.record_type;
            if field.origin == Origin::Rest || !is_ordered(record_type) {
                return Err(Error::unsupported("a range over this type"));
            }
            let mut decoder = JsonDecoder::new(record_type, 1)?;
            decoder.push_raw(&value.to_string()).map_err(|_| bad())?;
            let encoder = Encoder::new(record_type, &decoder.finish()?)?;
            let mut scratch = Scratch::default();
            self.values
                .push(encoder.value(0, &mut scratch).map_err(|_| bad())?.into());
            columns.push(qualified(&field.column));
        }
        let marks = vec!["?"; columns.len()].join(", ");
        self.conditions
            .push(format!("({}) {comparison} ({marks})", columns.join(", ")));
        Ok(())
    }

    fn order_columns(&self) -> Vec<String> {
        match &self.order {
            Order::RowNumber { expression, .. } => vec![expression.clone()],
            Order::Key(columns) => columns.iter().map(|column| qualified(column)).collect(),
        }
    }

    /// The statement; its values are those of the conditions, of the position if it has one, and the limit.
    pub(crate) fn sql(&self, has_position: bool) -> String {
        self.sql_for(&self.select, has_position)
    }

    /// The same for nothing but the position of each record.
    pub(crate) fn position_sql(&self, has_position: bool) -> String {
        self.sql_for(&self.order_columns(), has_position)
    }

    fn sql_for(&self, select: &[String], has_position: bool) -> String {
        let order = self.order_columns();
        let mut conditions = self.conditions.clone();
        if has_position {
            conditions.push(format!(
                "({}) > ({})",
                order.join(", "),
                vec!["?"; order.len()].join(", ")
            ));
        }
        let condition = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        format!(
            "SELECT {} FROM {} AS t{condition} ORDER BY {} LIMIT ?",
            select.join(", "),
            self.table,
            order.join(", ")
        )
    }

    /// The statement for records of given keys, whose values are its values.
    pub(crate) fn lookup_sql(&self, key: &[&str]) -> String {
        let conditions: Vec<String> = key
            .iter()
            .map(|column| format!("{} = ?", qualified(column)))
            .collect();
        format!(
            "SELECT {} FROM {} AS t WHERE {}",
            self.select.join(", "),
            self.table,
            conditions.join(" AND ")
        )
    }

    /// The statement for the key of the record at a position.
    pub(crate) fn key_sql(&self, key: &[&str]) -> String {
        let columns: Vec<String> = key.iter().map(|column| qualified(column)).collect();
        let position: Vec<String> = self
            .order_columns()
            .iter()
            .map(|column| format!("{column} = ?"))
            .collect();
        format!(
            "SELECT {} FROM {} AS t WHERE {}",
            columns.join(", "),
            self.table,
            position.join(" AND ")
        )
    }
}

/// With the table before it: a quoted name alone that is no column would be taken for a text.
fn qualified(column: &str) -> String {
    format!("t.{}", quote(column))
}

fn order(stored: &Stored, by_key: bool) -> Result<Order> {
    let table = &stored.table;
    if let Some(own) = table.row_number_column() {
        return Ok(Order::RowNumber {
            expression: qualified(&own.name),
            is_stable: true,
        });
    }
    let key = || Order::Key(stored.key_columns().into_iter().map(str::to_owned).collect());
    match table.row_number() {
        Some(name) if !by_key => Ok(Order::RowNumber {
            expression: format!("t.{name}"),
            is_stable: false,
        }),
        _ if !stored.key.is_empty() => Ok(key()),
        _ if by_key => Err(Error::unsupported("a range of keys without a key")),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "turso.no_row_order",
            format!(
                "the table `{}` has neither a key nor a free name for its row number",
                table.name
            ),
        )
        .with_help("rename one of its columns `rowid`, `oid` and `_rowid_`")),
    }
}

/// Key values as a person reads them.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(octets) => hex(octets),
    }
}

/// Octets as lower-case hexadecimal text.
fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS[usize::from(value)] as char;
    octets
        .iter()
        .flat_map(|octet| [digit(octet >> 4), digit(octet & 15)])
        .collect()
}
