//! By what a read knows where it stands: which values of a row say it, and which must be asked for to say it.
//! Neighbours: `query` asks for them, `position` reads them out of a row.

use crate::catalog::TableKind;
use crate::codec::Wire;

use super::literals::cast_type;
use super::position::Octets;
use super::query::qualified;
use super::stored::{Origin, Stored, StoredField};

/// By what a read knows where it stands.
#[derive(Debug, Clone)]
pub(super) enum Order {
    /// The columns of the key.
    Key { shape: u32, columns: Vec<KeyColumn> },
    /// The place in the file called `file`; `at` is the value that says it.
    Place { at: usize, file: u32 },
    /// The number of the record.
    Number,
}

/// A column of the key.
#[derive(Debug, Clone)]
pub(super) struct KeyColumn {
    pub(super) expression: String,
    /// What literals are cast to.
    pub(super) cast: String,
    /// Which value of a row it is.
    pub(super) at: usize,
    /// How that becomes text.
    pub(super) octets: Octets,
}

/// Finds the values that say where a record stands among `select`, or adds them.
pub(super) fn order(stored: &Stored, fields: &[&StoredField], select: &mut Vec<String>, file: u32) -> Order {
    let key = stored.key_columns();
    if key.is_empty() {
        return match stored.table.kind {
            TableKind::Table | TableKind::MaterializedView => {
                select.push("t.ctid".to_owned());
                Order::Place {
                    at: select.len() - 1,
                    file,
                }
            }
            _ => Order::Number,
        };
    }
    let mut columns = Vec::with_capacity(key.len());
    let mut shape = Shape::default();
    for (of, column, reading) in key {
        let expression = qualified(&column.name);
        let cast = cast_type(&column.pg_type);
        shape.add(&expression);
        shape.add(&cast);
        let wire = if reading.as_text {
            &Wire::Text
        } else {
            &reading.wire
        };
        let found = fields
            .iter()
            .filter(|stored| matches!(stored.origin, Origin::Column(..)))
            .position(|stored| stored.field.name == of.field.name);
        let (at, octets) = match (Octets::of(wire), found) {
            (Some(octets), Some(at)) => (at, octets),
            (octets, _) => {
                // What is not read here is asked for as text.
                let as_text = octets.is_none() || reading.as_text;
                let cast = if as_text { "::pg_catalog.text" } else { "" };
                select.push(format!("{expression}{cast}"));
                (select.len() - 1, octets.unwrap_or(Octets::Text))
            }
        };
        columns.push(KeyColumn {
            expression,
            cast,
            at,
            octets,
        });
    }
    Order::Key {
        shape: shape.0,
        columns,
    }
}

/// A number that differs, in all likelihood, between keys. FNV-1a, 32 bits.
struct Shape(u32);

impl Default for Shape {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Shape {
    fn add(&mut self, text: &str) {
        for octet in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u32::from(octet)).wrapping_mul(0x0100_0193);
        }
    }
}
