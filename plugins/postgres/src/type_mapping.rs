//! How each record type is stored, and what record type each stored type is read as.
//!
//! Pure. `stored` knows the types of the database, `reading` and `writing` decide for one column, and the table of new
//! columns is here. Neighbours: `codec` moves the values, `catalog` knows the types of a database.

mod reading;
mod stored;
#[cfg(test)]
mod tests;
mod writing;

pub(crate) use reading::{Reading, reading};
pub(crate) use writing::{Writing, writing};

use std::fmt::Write as _;

use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::{Loss, TypeMapping};

use writing::{form_losses, json_losses};

/// What the job says of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TypeSettings {
    /// JSON is stored as `json`, to the letter, rather than as `jsonb`.
    pub(crate) json_as_text: bool,
    /// Arrays are read as text of their own type, whatever their dimensions and bounds.
    pub(crate) arrays_as_text: bool,
    /// All numerics are read as `numeric`, whatever their digits.
    pub(crate) numerics_as_text: bool,
    /// NUL characters are removed from texts rather than their records rejected.
    pub(crate) removes_nul: bool,
}

/// The type of a new column for `record_type`, as it stands in `CREATE TABLE`. `text` for an opaque type: whether the
/// database has one of that name, its caller knows.
pub(crate) fn stored_as(record_type: &RecordType, settings: TypeSettings) -> String {
    let name = match record_type {
        RecordType::Bool => "boolean",
        RecordType::Int { bits: 8 | 16 } => "smallint",
        RecordType::Int { bits: 32 } => "integer",
        RecordType::Int { .. } => "bigint",
        RecordType::Float { bits: 32 } => "real",
        RecordType::Float { .. } => "double precision",
        RecordType::Decimal { precision, scale } => return format!("numeric({precision},{scale})"),
        RecordType::Numeric => "numeric",
        RecordType::Text | RecordType::Reference | RecordType::Opaque { .. } => "text",
        RecordType::Bytes => "bytea",
        RecordType::Date => "date",
        RecordType::Time => "time without time zone",
        RecordType::TimeTz => "time with time zone",
        RecordType::TimestampTz => "timestamp with time zone",
        RecordType::Timestamp => "timestamp without time zone",
        RecordType::Interval => "interval",
        RecordType::Uuid => "uuid",
        RecordType::Geopoint => "point",
        RecordType::Vector => "double precision[]",
        RecordType::List { item } if has_array(item) => return format!("{}[]", stored_as(item, settings)),
        RecordType::Json | RecordType::Variant | RecordType::List { .. } | RecordType::Struct { .. } => {
            if settings.json_as_text {
                "json"
            } else {
                "jsonb"
            }
        }
    };
    name.to_owned()
}

/// Whether lists of `item` become arrays. Lists within lists do not: an array has as many items in each of its rows.
const fn has_array(item: &RecordType) -> bool {
    !matches!(
        item,
        RecordType::List { .. } | RecordType::Struct { .. } | RecordType::Vector
    )
}

/// How each record type is stored in new columns.
pub(crate) fn type_mappings() -> Vec<TypeMapping> {
    RecordType::one_of_each()
        .into_iter()
        .map(|record_type| TypeMapping {
            stored_as: match record_type {
                RecordType::Opaque { .. } => "the type of that name, or `text` without one".to_owned(),
                _ => stored_as(&record_type, TypeSettings::default()),
            },
            losses: declared_losses(&record_type),
            record_type,
        })
        .collect()
}

/// What new columns lose of all values of such a type.
fn declared_losses(record_type: &RecordType) -> Vec<Loss> {
    match record_type {
        RecordType::Json | RecordType::Variant => json_losses(),
        RecordType::Opaque { .. } => vec![Loss::TypeNameDropped],
        // The members and items stand for any others, floats within a struct among them.
        RecordType::Struct { .. } | RecordType::List { .. } => form_losses(&RecordType::FLOAT64),
        _ => Vec::new(),
    }
}

/// The type mappings as a Markdown table, for the README.
pub fn type_table() -> String {
    let mut table = String::from("| record type | stored as | lost |\n|---|---|---|\n");
    for mapping in type_mappings() {
        let losses: Vec<String> = mapping
            .losses
            .iter()
            .map(|loss| format!("`{}`", loss.name()))
            .collect();
        let losses = match losses.is_empty() {
            true => "nothing".to_owned(),
            false => losses.join(", "),
        };
        let stored = match mapping.record_type {
            RecordType::Opaque { .. } => mapping.stored_as,
            _ => format!("`{}`", mapping.stored_as),
        };
        writeln!(table, "| `{}` | {stored} | {losses} |", mapping.record_type)
            .expect("writing to a string does not fail");
    }
    table
}
