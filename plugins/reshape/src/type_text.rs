//! Record types as a job writes them: `int64`, `decimal(12, 2)`, `list(text)`, `struct(a: int64, b: text)`.
//!
//! The texts are those that `RecordType` prints, with `int` and `float` short for their 64-bit forms. Neighbour:
//! `config` uses [`TypeText`] wherever a type is asked for.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use whimbrel_plugin_api::{Field, RecordType};

/// What a message names as valid.
pub(crate) const VALID_TYPES: &str = "bool, int8 to int64, float32, float64, decimal(P, S), numeric, text, bytes, date, \
    time, time_tz, timestamp, timestamp_tz, interval, uuid, json, variant, reference, geopoint, vector, opaque(NAME), \
    list(TYPE), struct(NAME: TYPE, ...)";

/// How deep a written type may nest; more than any person writes.
const DEPTH_MAX: usize = 16;

/// A record type, written as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeText(pub RecordType);

impl<'de> Deserialize<'de> for TypeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown type `{text}`, valid: {VALID_TYPES}")))
    }
}

impl JsonSchema for TypeText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TypeText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Reads a type; `None` if there is none of that text.
pub(crate) fn parse(text: &str) -> Option<RecordType> {
    let mut rest = text;
    let record_type = read(&mut rest, 0)?;
    let is_valid = rest.trim().is_empty() && record_type.validate().is_ok();
    is_valid.then_some(record_type)
}

fn read(rest: &mut &str, depth: usize) -> Option<RecordType> {
    if depth > DEPTH_MAX {
        return None;
    }
    let word = word(rest);
    Some(match word {
        "bool" => RecordType::Bool,
        "int8" => RecordType::Int { bits: 8 },
        "int16" => RecordType::Int { bits: 16 },
        "int32" => RecordType::Int { bits: 32 },
        "int64" | "int" => RecordType::INT64,
        "float32" => RecordType::Float { bits: 32 },
        "float64" | "float" => RecordType::FLOAT64,
        "numeric" => RecordType::Numeric,
        "text" => RecordType::Text,
        "bytes" => RecordType::Bytes,
        "date" => RecordType::Date,
        "time" => RecordType::Time,
        "time_tz" => RecordType::TimeTz,
        "timestamp" => RecordType::Timestamp,
        "timestamp_tz" => RecordType::TimestampTz,
        "interval" => RecordType::Interval,
        "uuid" => RecordType::Uuid,
        "json" => RecordType::Json,
        "variant" => RecordType::Variant,
        "reference" => RecordType::Reference,
        "geopoint" => RecordType::Geopoint,
        "vector" => RecordType::Vector,
        "decimal" => {
            expect(rest, '(')?;
            let precision = number(rest)?;
            expect(rest, ',')?;
            let scale = number(rest)?;
            expect(rest, ')')?;
            RecordType::Decimal {
                precision,
                scale: i8::try_from(scale).ok()?,
            }
        }
        "opaque" => {
            let (name, after) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
            *rest = after;
            let name = name.trim();
            RecordType::Opaque {
                name: (!name.is_empty()).then(|| name.to_owned())?,
            }
        }
        "list" => {
            expect(rest, '(')?;
            let item = read(rest, depth + 1)?;
            expect(rest, ')')?;
            RecordType::list(item)
        }
        "struct" => RecordType::Struct {
            fields: members(rest, depth)?,
        },
        _ => return None,
    })
}

fn members(rest: &mut &str, depth: usize) -> Option<Vec<Field>> {
    expect(rest, '(')?;
    let mut fields = Vec::new();
    loop {
        let (name, after) = rest.split_once(':')?;
        let name = name.trim();
        if name.is_empty() || name.contains(['(', ')', ',']) {
            return None;
        }
        *rest = after;
        fields.push(Field::new(name, read(rest, depth + 1)?));
        if expect(rest, ')').is_some() {
            return Some(fields);
        }
        expect(rest, ',')?;
    }
}

fn word<'t>(rest: &mut &'t str) -> &'t str {
    let text = rest.trim_start();
    let end = text
        .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after;
    word
}

fn number(rest: &mut &str) -> Option<u8> {
    word(rest).parse().ok()
}

fn expect(rest: &mut &str, wanted: char) -> Option<()> {
    *rest = rest.trim_start().strip_prefix(wanted)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_as_it_is_printed() {
        for record_type in RecordType::one_of_each() {
            assert_eq!(parse(&record_type.to_string()), Some(record_type));
        }
        assert_eq!(parse(" int "), Some(RecordType::INT64));
        assert_eq!(
            parse("list( struct(a b: decimal(3,1), c: list(text)) )").map(|found| found.to_string()),
            Some("list(struct(a b: decimal(3, 1), c: list(text)))".to_owned())
        );
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for bad in [
            "",
            "integer",
            "INT64",
            "decimal",
            "decimal(12)",
            "decimal(2, 3)",
            "decimal(77, 0)",
            "list",
            "list()",
            "list(text",
            "list(text))",
            "struct()",
            "struct(a)",
            "struct(a: text, a: bool)",
            "opaque()",
            "int 64",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&"list(".repeat(100_000)), None);
    }
}
