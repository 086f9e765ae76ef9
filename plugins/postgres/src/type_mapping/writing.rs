//! Which columns hold which values, exactly or with a declared loss, and why others do not.
//!
//! What would change unseen (a rounded number, a text filled up with blanks) never fits. What the database refuses record
//! by record is told apart, so that a table may be filled all the same.

use whimbrel_plugin_api::Loss;
use whimbrel_plugin_api::capability::TimeUnit;
use whimbrel_plugin_api::record_type::{Field, RecordType};

use crate::catalog::{Column, PgType, PgTypeKind};
use crate::codec::Wire;

use super::TypeSettings;
use super::stored::{Digits, Stored};

/// How a column is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Writing {
    /// How values travel in binary COPY.
    pub(crate) wire: Wire,
    /// The type that a staging table gives the column, such as `text`.
    pub(crate) staged_as: String,
    /// If values cannot be copied straight into the column: the type to cast the staged one to.
    pub(crate) cast: Option<String>,
    /// What is lost.
    pub(crate) losses: Vec<Loss>,
}

/// Why values of a record type do not fit into a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// A stable name: `postgres.column_narrower` if some values fit, `postgres.column_type` if none do.
    pub(crate) code: &'static str,
    /// One sentence that names both types.
    pub(crate) message: String,
    /// If every value that goes in stays what it was and the others are refused one by one (`text` into `varchar(20)`): how
    /// to write all the same. `None` if values would change unseen.
    pub(crate) refusing: Option<Box<Writing>>,
}

/// How well values fit.
enum Fit {
    /// All of them, but for the losses.
    All(Wire, Vec<Loss>),
    /// All of them as text that the database takes for its own.
    Cast,
    /// Not all: the others are refused.
    Some(Wire),
    /// Some would change.
    Changing,
    /// None.
    No,
}

/// The number of the type `text`, which is the same in every database.
const TEXT_OID: u32 = 25;

/// How values of `record_type` go into `column`, or why they do not fit there, as an integer into a narrower one.
pub(crate) fn writing(
    record_type: &RecordType,
    column: &Column,
    settings: TypeSettings,
) -> Result<Writing, Misfit> {
    let pg_type = base(&column.pg_type);
    let stored = Stored::of(pg_type);
    let direct = |wire: Wire, mut losses: Vec<Loss>| {
        if settings.removes_nul && has_text(record_type) && stored != Stored::Json {
            losses.push(Loss::NulRemoved);
        }
        Writing {
            wire,
            staged_as: pg_type.formatted.clone(),
            cast: None,
            losses,
        }
    };
    let misfit = |code, why: &str, refusing| Misfit {
        code,
        message: format!(
            "values of the type `{record_type}` do not fit into the column `{}` of the type `{}`: {why}",
            column.name, column.pg_type.formatted
        ),
        refusing,
    };
    match fit(record_type, &stored, pg_type) {
        Fit::All(wire, losses) => Ok(direct(wire, losses)),
        Fit::Cast => Ok(as_text(record_type, pg_type, direct)),
        Fit::Some(wire) => Err(misfit(
            "postgres.column_narrower",
            "it is narrower, and refuses values beyond its range",
            Some(Box::new(direct(wire, Vec::new()))),
        )),
        Fit::Changing => Err(misfit(
            "postgres.column_narrower",
            "it would round or pad some of them",
            None,
        )),
        Fit::No => Err(misfit(
            "postgres.column_type",
            "the types are of different kinds",
            None,
        )),
    }
}

/// Staged as text, or as an array of texts, and cast by the database.
fn as_text(
    record_type: &RecordType,
    pg_type: &PgType,
    direct: impl Fn(Wire, Vec<Loss>) -> Writing,
) -> Writing {
    let (wire, staged_as) = match record_type {
        RecordType::List { .. } => {
            let element = Box::new(Wire::Text);
            let element_oid = TEXT_OID;
            (Wire::Array { element_oid, element }, "text[]")
        }
        _ => (Wire::Text, "text"),
    };
    Writing {
        staged_as: staged_as.to_owned(),
        cast: Some(pg_type.formatted.clone()),
        ..direct(wire, Vec::new())
    }
}

/// Characters of a uuid with its hyphens.
const UUID_CHARACTERS: u32 = 36;

fn fit(record_type: &RecordType, stored: &Stored, pg_type: &PgType) -> Fit {
    let exact = || stored.wire().map_or(Fit::No, |wire| Fit::All(wire, Vec::new()));
    match (record_type, stored) {
        (RecordType::Bool, Stored::Bool)
        | (RecordType::Float { .. }, Stored::Float8)
        | (RecordType::Float { bits: 32 }, Stored::Float4)
        | (RecordType::Bytes, Stored::Bytea)
        | (RecordType::Date, Stored::Date)
        | (RecordType::TimeTz, Stored::TimeTz(6) | Stored::Text(None))
        | (RecordType::Interval, Stored::Interval(true))
        | (RecordType::Uuid, Stored::Uuid | Stored::Text(None))
        | (RecordType::Geopoint, Stored::Point)
        | (RecordType::Text | RecordType::Reference, Stored::Text(None) | Stored::Enum) => exact(),
        (RecordType::Int { bits }, stored) => int_fit(*bits, stored),
        (RecordType::Float { .. }, Stored::Float4)
        | (RecordType::Text | RecordType::Reference | RecordType::Uuid, Stored::Padded)
        | (RecordType::Interval, Stored::Interval(false))
        | (RecordType::TimeTz, Stored::TimeTz(_)) => Fit::Changing,
        (RecordType::Decimal { .. } | RecordType::Numeric, Stored::Numeric(digits)) => {
            decimal_fit(record_type, *digits)
        }
        (RecordType::Time, Stored::Time(digits))
        | (RecordType::Timestamp, Stored::Timestamp(digits))
        | (RecordType::TimestampTz, Stored::TimestampTz(digits)) => cut_fit(stored, *digits),
        (RecordType::Opaque { .. }, Stored::Text(None)) => Fit::All(Wire::Text, vec![Loss::TypeNameDropped]),
        (RecordType::Opaque { name }, stored) => opaque_fit(name, stored, pg_type),
        (RecordType::Json | RecordType::Variant, Stored::Json | Stored::Text(None)) => exact(),
        (RecordType::Json | RecordType::Variant, Stored::Jsonb) => Fit::All(Wire::Jsonb, json_losses()),
        (RecordType::List { item }, Stored::Array { element, .. }) => list_fit(item, element, pg_type),
        (RecordType::Vector, Stored::Array { element, .. }) => match **element {
            Stored::Float8 => exact(),
            Stored::Float4 => Fit::Changing,
            _ => Fit::No,
        },
        (
            RecordType::Struct { .. } | RecordType::List { .. } | RecordType::Vector | RecordType::Geopoint,
            Stored::Json | Stored::Text(None),
        ) => exact(),
        (
            RecordType::Struct { .. } | RecordType::List { .. } | RecordType::Vector | RecordType::Geopoint,
            Stored::Jsonb,
        ) => Fit::All(Wire::Jsonb, form_losses(record_type)),
        (RecordType::Uuid, Stored::Text(Some(UUID_CHARACTERS..))) => exact(),
        (
            RecordType::Text
            | RecordType::Reference
            | RecordType::TimeTz
            | RecordType::Json
            | RecordType::Variant,
            Stored::Text(Some(characters)),
        ) => Fit::Some(Wire::TextUpTo {
            characters: *characters,
        }),
        _ => Fit::No,
    }
}

fn int_fit(bits: u8, stored: &Stored) -> Fit {
    let (wire, holds_all) = match stored {
        Stored::Int2 => (Wire::Int2, bits <= 16),
        Stored::Int4 => (Wire::Int4, bits <= 32),
        Stored::Int8 => (Wire::Int8, true),
        // It has no negative numbers.
        Stored::Oid => (Wire::Oid, false),
        Stored::Numeric(None) => (Wire::Numeric, true),
        Stored::Numeric(Some(digits)) if digits.scale < 0 => return Fit::Changing,
        Stored::Numeric(Some(digits)) => {
            let needed = match bits {
                8 => 3,
                16 => 5,
                32 => 10,
                _ => 19,
            };
            (Wire::Numeric, digits.precision - digits.scale >= needed)
        }
        _ => return Fit::No,
    };
    if holds_all {
        Fit::All(wire, Vec::new())
    } else {
        Fit::Some(wire)
    }
}

fn decimal_fit(record_type: &RecordType, digits: Option<Digits>) -> Fit {
    let Some(digits) = digits else {
        return Fit::All(Wire::Numeric, Vec::new());
    };
    let RecordType::Decimal { precision, scale } = record_type else {
        return Fit::Changing;
    };
    let (precision, scale) = (i32::from(*precision), i32::from(*scale));
    if scale > digits.scale {
        Fit::Changing
    } else if precision - scale > digits.precision - digits.scale {
        Fit::Some(Wire::Numeric)
    } else {
        Fit::All(Wire::Numeric, Vec::new())
    }
}

/// Times in a column that keeps fewer digits of the second: cut before the database rounds them, as far as the list of
/// losses has a name for it.
fn cut_fit(stored: &Stored, digits: u32) -> Fit {
    let Some(wire) = stored.wire() else {
        return Fit::No;
    };
    let (unit, unit_micros) = match digits {
        6.. => return Fit::All(wire, Vec::new()),
        3 => (TimeUnit::Milliseconds, 1_000),
        0 => (TimeUnit::Seconds, 1_000_000),
        _ => return Fit::Changing,
    };
    let of = Box::new(wire);
    Fit::All(
        Wire::Cut { unit_micros, of },
        vec![Loss::TruncateTimestamp { unit }],
    )
}

fn opaque_fit(name: &str, stored: &Stored, pg_type: &PgType) -> Fit {
    match stored {
        _ if !is_same_type(name, &pg_type.formatted) => Fit::No,
        Stored::Enum => Fit::All(Wire::Text, Vec::new()),
        _ => Fit::Cast,
    }
}

fn list_fit(item: &RecordType, element: &Stored, pg_type: &PgType) -> Fit {
    let PgTypeKind::Array(element_type) = &pg_type.kind else {
        return Fit::No;
    };
    let element_oid = element_type.oid;
    let array = |element| Wire::Array {
        element_oid,
        element: Box::new(element),
    };
    match fit(item, element, base(element_type)) {
        Fit::All(wire, losses) => Fit::All(array(wire), losses),
        Fit::Some(wire) => Fit::Some(array(wire)),
        other => other,
    }
}

fn base(pg_type: &PgType) -> &PgType {
    match &pg_type.kind {
        PgTypeKind::Domain(base) => base,
        _ => pg_type,
    }
}

/// Whether two names as `format_type` writes them are of one type; one that does not say its schema is of any.
fn is_same_type(one: &str, other: &str) -> bool {
    let without_schema = |name: &str| name.rsplit_once('.').map(|(_, name)| name.to_owned());
    let (one_inner, other_inner) = (without_schema(one), without_schema(other));
    match (one_inner, other_inner) {
        (Some(one), None) => one == other,
        (None, Some(other)) => one == other,
        _ => one == other,
    }
}

/// What `jsonb` loses of JSON.
pub(super) fn json_losses() -> Vec<Loss> {
    vec![Loss::JsonNormalised, Loss::NegativeZeroToZero]
}

/// What `jsonb` loses of the JSON form of other types: its numbers have no negative zero.
pub(super) fn form_losses(record_type: &RecordType) -> Vec<Loss> {
    if any(record_type, &|part| {
        matches!(
            part,
            RecordType::Float { .. } | RecordType::Vector | RecordType::Geopoint
        )
    }) {
        vec![Loss::NegativeZeroToZero]
    } else {
        Vec::new()
    }
}

fn has_text(record_type: &RecordType) -> bool {
    any(record_type, &|part| {
        matches!(
            part,
            RecordType::Text
                | RecordType::Reference
                | RecordType::Opaque { .. }
                | RecordType::Json
                | RecordType::Variant
        )
    })
}

/// Whether `of` is true of the type or of one within it.
fn any(record_type: &RecordType, of: &impl Fn(&RecordType) -> bool) -> bool {
    of(record_type)
        || match record_type {
            RecordType::List { item } => any(item, of),
            RecordType::Struct { fields } => fields
                .iter()
                .any(|Field { record_type, .. }| any(record_type, of)),
            _ => false,
        }
}
