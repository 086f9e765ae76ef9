//! What record type a column is read as, and how its values travel then.
//!
//! Neighbour: `writing` is the way back; what it writes comes back here if it is expected.

use whimbrel_plugin_api::record_type::RecordType;

use crate::catalog::{Column, PgType, PgTypeKind};
use crate::codec::Wire;

use super::TypeSettings;
use super::stored::{Digits, Stored};

/// How a column is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What its values are.
    pub(crate) record_type: RecordType,
    /// How they travel in binary COPY.
    pub(crate) wire: Wire,
    /// Whether the query asks for the column's text (`column::text`) rather than the column itself.
    pub(crate) as_text: bool,
}

/// What the values of `column` are and how they are read; with `expected`, as that type if the column can hold it.
pub(crate) fn reading(column: &Column, expected: Option<&RecordType>, settings: TypeSettings) -> Reading {
    let stored = Stored::of(&column.pg_type);
    if let Some(reading) = expected.and_then(|expected| as_expected(expected, &stored)) {
        return reading;
    }
    let own = if matches!(stored, Stored::Array { .. }) && (settings.arrays_as_text || column.dimensions > 1)
    {
        None
    } else {
        own_type(&stored, &column.pg_type, settings).zip(stored.wire())
    };
    match own {
        Some((record_type, wire)) => Reading {
            record_type,
            wire,
            as_text: false,
        },
        None => Reading {
            record_type: RecordType::Opaque {
                name: column.pg_type.formatted.clone(),
            },
            wire: Wire::Text,
            as_text: true,
        },
    }
}

/// The record type of a stored type; `None` if its values are only known as text.
fn own_type(stored: &Stored, pg_type: &PgType, settings: TypeSettings) -> Option<RecordType> {
    Some(match stored {
        Stored::Bool => RecordType::Bool,
        Stored::Int2 => RecordType::Int { bits: 16 },
        Stored::Int4 => RecordType::Int { bits: 32 },
        Stored::Int8 | Stored::Oid => RecordType::INT64,
        Stored::Float4 => RecordType::Float { bits: 32 },
        Stored::Float8 => RecordType::FLOAT64,
        Stored::Numeric(digits) => digits
            .filter(|_| !settings.numerics_as_text)
            .and_then(decimal)
            .unwrap_or(RecordType::Numeric),
        Stored::Text(_) | Stored::Padded => RecordType::Text,
        Stored::Enum => RecordType::Opaque {
            name: base(pg_type).formatted.clone(),
        },
        Stored::Bytea => RecordType::Bytes,
        Stored::Date => RecordType::Date,
        Stored::Time(_) => RecordType::Time,
        Stored::TimeTz(_) => RecordType::TimeTz,
        Stored::Timestamp(_) => RecordType::Timestamp,
        Stored::TimestampTz(_) => RecordType::TimestampTz,
        Stored::Interval(_) => RecordType::Interval,
        Stored::Uuid => RecordType::Uuid,
        Stored::Json | Stored::Jsonb => RecordType::Json,
        Stored::Array { element, .. } => match &base(pg_type).kind {
            PgTypeKind::Array(of) => RecordType::list(own_type(element, of, settings)?),
            _ => return None,
        },
        Stored::Point | Stored::Other => return None,
    })
}

fn base(pg_type: &PgType) -> &PgType {
    match &pg_type.kind {
        PgTypeKind::Domain(base) => base,
        _ => pg_type,
    }
}

/// The decimal type of a numeric's digits, if there is one.
fn decimal(digits: Digits) -> Option<RecordType> {
    let precision = u8::try_from(digits.precision).ok()?;
    let scale = i8::try_from(digits.scale).ok()?;
    let record_type = RecordType::Decimal { precision, scale };
    record_type.validate().is_ok().then_some(record_type)
}

/// How values of a column come as `expected`; `None` if it cannot hold such values.
fn as_expected(expected: &RecordType, stored: &Stored) -> Option<Reading> {
    let reading = |wire, as_text| Reading {
        record_type: expected.clone(),
        wire,
        as_text,
    };
    if let Some(wire) = expected_wire(expected, stored) {
        return Some(reading(wire, false));
    }
    let is_text = matches!(
        expected,
        RecordType::Text | RecordType::Reference | RecordType::Opaque { .. }
    );
    let is_foreign = matches!(stored, Stored::Other | Stored::Point | Stored::Array { .. });
    (is_text && is_foreign).then(|| reading(Wire::Text, true))
}

fn expected_wire(expected: &RecordType, stored: &Stored) -> Option<Wire> {
    let fits = match (expected, stored) {
        (RecordType::Int { .. }, Stored::Int2 | Stored::Int4 | Stored::Int8 | Stored::Oid)
        | (RecordType::Int { .. } | RecordType::Decimal { .. } | RecordType::Numeric, Stored::Numeric(_))
        | (RecordType::Float { .. }, Stored::Float4 | Stored::Float8)
        | (RecordType::Bool, Stored::Bool)
        | (RecordType::Bytes, Stored::Bytea)
        | (RecordType::Date, Stored::Date)
        | (RecordType::Time, Stored::Time(_))
        | (RecordType::TimeTz, Stored::TimeTz(_) | Stored::Text(_))
        | (RecordType::Timestamp, Stored::Timestamp(_))
        | (RecordType::TimestampTz, Stored::TimestampTz(_))
        | (RecordType::Interval, Stored::Interval(_))
        | (RecordType::Uuid, Stored::Uuid | Stored::Text(_))
        | (RecordType::Geopoint, Stored::Point)
        | (
            RecordType::Text | RecordType::Reference | RecordType::Opaque { .. },
            Stored::Text(_) | Stored::Padded | Stored::Enum,
        )
        | (
            RecordType::Json
            | RecordType::Variant
            | RecordType::Struct { .. }
            | RecordType::List { .. }
            | RecordType::Vector
            | RecordType::Geopoint,
            Stored::Text(_) | Stored::Json | Stored::Jsonb,
        ) => true,
        (RecordType::List { item }, Stored::Array { element, .. }) => expected_wire(item, element).is_some(),
        (RecordType::Vector, Stored::Array { element, .. }) => {
            matches!(**element, Stored::Float4 | Stored::Float8)
        }
        _ => false,
    };
    stored.wire().filter(|_| fits)
}
