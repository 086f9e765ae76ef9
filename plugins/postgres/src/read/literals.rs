//! Values of records as literals of statements: bounds of ranges, keys to look up.
//!
//! A literal is cast to the column's type without its modifier, since `'1.005'::numeric(12,2)` would be another number.

use arrow_array::ArrayRef;
use whimbrel_plugin_api::arrow_array;
use whimbrel_plugin_api::json_form::JsonDecoder;
use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::text_form::{TextDecoder, TextEncoder};
use whimbrel_plugin_api::{Batch, Error, Result};

use crate::catalog::{PgType, PgTypeKind};
use crate::names::{literal, quote};

use super::stored::Stored;

/// The type to which literals for a column of `pg_type` are cast.
pub(super) fn cast_type(pg_type: &PgType) -> String {
    match &pg_type.kind {
        PgTypeKind::Domain(base) => cast_type(base),
        _ => format!("{}.{}", quote(&pg_type.schema), quote(&pg_type.name)),
    }
}

/// `text`, as the database writes a value of `cast`, as a value.
pub(super) fn typed(text: &str, cast: &str) -> String {
    format!("{}::{cast}", literal(text))
}

/// Texts of values as the database reads them; nothing for types whose order is not that of their column.
struct Texts<'a> {
    record_type: &'a RecordType,
    encoder: TextEncoder,
}

impl<'a> Texts<'a> {
    fn new(record_type: &'a RecordType, array: &ArrayRef) -> Result<Self> {
        if matches!(
            record_type,
            RecordType::List { .. }
                | RecordType::Struct { .. }
                | RecordType::Geopoint
                | RecordType::Vector
                | RecordType::Json
                | RecordType::Variant
        ) {
            return Err(Error::unsupported("a range or a look-up over this type"));
        }
        Ok(Self {
            record_type,
            encoder: TextEncoder::new(record_type, array)?,
        })
    }

    /// `None` for null.
    fn text(&self, row: usize) -> Option<String> {
        if self.encoder.is_null(row) {
            return None;
        }
        let mut text = String::new();
        self.encoder.write(row, &mut text);
        Some(match self.record_type {
            RecordType::Bytes => format!("\\x{text}"),
            RecordType::Date | RecordType::Timestamp | RecordType::TimestampTz => with_era(&text),
            _ => text,
        })
    }
}

/// A date whose year the database can read: it knows no signs and no year 0, but an era.
fn with_era(text: &str) -> String {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let Some((year, rest)) = digits.split_once('-') else {
        return text.to_owned();
    };
    match year.parse::<i64>() {
        Ok(year) if is_negative || year == 0 => format!("{:04}-{rest} BC", year + 1),
        _ => digits.to_owned(),
    }
}

/// A JSON value in the form of its type, as a literal of `pg_type`.
///
/// # Errors
/// `postgres.bad_range` if it is no value of the type, `plugin.unsupported` for types without an order of their own.
pub(super) fn parsed(
    value: &serde_json::Value,
    record_type: &RecordType,
    pg_type: &PgType,
) -> Result<String> {
    let bad = || {
        Error::invalid_data(
            "postgres.bad_range",
            "a bound of the range is no value of its field",
        )
    };
    let mut decoder = JsonDecoder::new(record_type, 1)?;
    decoder.push_raw(&value.to_string()).map_err(|_| bad())?;
    let text = Texts::new(record_type, &decoder.finish()?)?
        .text(0)
        .ok_or_else(bad)?;
    Ok(typed(&text, &cast_type(pg_type)))
}

/// The keys of a batch as rows of `VALUES`. Keys that no record can have are left out: with a null, with a text that is no
/// number or no label of an enum.
///
/// # Errors
/// `postgres.bad_keys` if the batch lacks a field of the key.
pub(crate) fn key_rows(stored: &Stored, keys: &Batch) -> Result<Vec<String>> {
    let columns = stored.key_columns();
    let columns = columns
        .iter()
        .map(|(field, column, _)| (field.field.name.as_str(), &column.pg_type));
    literal_rows(columns, keys)
}

/// The same for any columns: of each the field of the batch and the type in the database.
///
/// # Errors
/// As [`key_rows`].
pub(crate) fn literal_rows<'c>(
    key: impl IntoIterator<Item = (&'c str, &'c PgType)>,
    keys: &Batch,
) -> Result<Vec<String>> {
    let mut columns = Vec::new();
    for (name, pg_type) in key {
        let index = keys.schema.index_of(name).ok_or_else(|| {
            Error::invalid_data("postgres.bad_keys", format!("the keys lack the field `{name}`"))
        })?;
        let texts = Texts::new(&keys.schema.fields[index].record_type, keys.records.column(index))?;
        columns.push((texts, pg_type, cast_type(pg_type)));
    }
    let row = |row: usize| {
        let values: Option<Vec<String>> = columns
            .iter()
            .map(|(texts, pg_type, cast)| {
                let text = texts.text(row).filter(|text| may_be(text, pg_type));
                text.map(|text| typed(&text, cast))
            })
            .collect();
        values.map(|values| format!("({})", values.join(", ")))
    };
    Ok((0..keys.record_count()).filter_map(row).collect())
}

/// Whether the database takes the text for a value of the type, as far as that is known here.
fn may_be(text: &str, pg_type: &PgType) -> bool {
    match &pg_type.kind {
        PgTypeKind::Domain(base) => may_be(text, base),
        PgTypeKind::Enum(labels) => labels.iter().any(|label| label == text),
        _ if pg_type.schema == "pg_catalog" && pg_type.name == "numeric" => {
            TextDecoder::new(&RecordType::Numeric, 1).is_ok_and(|mut decoder| decoder.push(text).is_ok())
        }
        _ => !text.contains('\0'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_are_written_with_their_era() {
        for (text, expected) in [
            ("2024-02-29", "2024-02-29"),
            ("+12345-01-01", "12345-01-01"),
            ("0000-12-31T00:00:00", "0001-12-31T00:00:00 BC"),
            ("-0001-01-01", "0002-01-01 BC"),
            ("-4712-01-01T00:00:00Z", "4713-01-01T00:00:00Z BC"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
        ] {
            assert_eq!(with_era(text), expected);
        }
    }

    #[test]
    fn modifiers_are_left_out_of_casts() {
        let base = PgType {
            oid: 1_700,
            schema: "pg_catalog".to_owned(),
            name: "numeric".to_owned(),
            formatted: "numeric(12,2)".to_owned(),
            modifier: 786_438,
            kind: PgTypeKind::Base,
        };
        let domain = PgType {
            schema: "public".to_owned(),
            name: "price".to_owned(),
            kind: PgTypeKind::Domain(Box::new(base)),
            ..PgType {
                oid: 1,
                schema: String::new(),
                name: String::new(),
                formatted: "public.price".to_owned(),
                modifier: -1,
                kind: PgTypeKind::Base,
            }
        };
        assert_eq!(cast_type(&domain), "\"pg_catalog\".\"numeric\"");
        assert_eq!(typed("o'k", "t"), "'o''k'::t");
    }
}
