//! The types of the database, as far as they matter for what a column can hold.
//!
//! Names are those of `pg_type`, modifiers those of each type's `typmodin`.

use crate::catalog::{PgType, PgTypeKind};
use crate::codec::Wire;

/// A type of the database, domains taken for what they are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stored {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric(Option<Digits>),
    /// `text`, `varchar`, `citext`; with the most characters, if there are any such.
    Text(Option<u32>),
    /// `char(n)`, which fills up with blanks, or `name`, which has 63 octets.
    Padded,
    Enum,
    Bytea,
    Date,
    /// With the digits of the second that are kept.
    Time(u32),
    TimeTz(u32),
    Timestamp(u32),
    TimestampTz(u32),
    /// Whether all parts are kept.
    Interval(bool),
    Uuid,
    Json,
    Jsonb,
    Point,
    Array {
        element_oid: u32,
        element: Box<Self>,
    },
    /// Whatever else there is.
    Other,
}

/// The modifier of a `numeric`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digits {
    /// In all.
    pub(super) precision: i32,
    /// Behind the point; negative if even whole digits are rounded.
    pub(super) scale: i32,
}

/// Digits of a second that every time has unless its type says otherwise.
const SECOND_DIGITS: u32 = 6;
/// What a modifier counts in front of the number that it stands for (`VARHDRSZ`).
const MODIFIER_HEAD: i32 = 4;

impl Stored {
    /// What `pg_type` is.
    pub(super) fn of(pg_type: &PgType) -> Self {
        Self::with_modifier(pg_type, pg_type.modifier)
    }

    fn with_modifier(pg_type: &PgType, modifier: i32) -> Self {
        match &pg_type.kind {
            PgTypeKind::Domain(base) => Self::of(base),
            PgTypeKind::Enum(_) => Self::Enum,
            PgTypeKind::Array(element) => {
                // The modifier of an array's column is that of its elements.
                let inner = if element.modifier < 0 {
                    modifier
                } else {
                    element.modifier
                };
                Self::Array {
                    element_oid: element.oid,
                    element: Box::new(Self::with_modifier(element, inner)),
                }
            }
            PgTypeKind::Composite | PgTypeKind::Range => Self::Other,
            PgTypeKind::Base if pg_type.name == "citext" => Self::Text(None),
            PgTypeKind::Base if pg_type.schema == "pg_catalog" => Self::builtin(&pg_type.name, modifier),
            PgTypeKind::Base => Self::Other,
        }
    }

    fn builtin(name: &str, modifier: i32) -> Self {
        let digits = u32::try_from(modifier).unwrap_or(SECOND_DIGITS);
        match name {
            "bool" => Self::Bool,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "oid" => Self::Oid,
            "float4" => Self::Float4,
            "float8" => Self::Float8,
            "numeric" => Self::Numeric(Digits::of(modifier)),
            "text" => Self::Text(None),
            "varchar" => Self::Text(u32::try_from(modifier - MODIFIER_HEAD).ok()),
            "bpchar" | "name" => Self::Padded,
            "bytea" => Self::Bytea,
            "date" => Self::Date,
            "time" => Self::Time(digits),
            "timetz" => Self::TimeTz(digits),
            "timestamp" => Self::Timestamp(digits),
            "timestamptz" => Self::TimestampTz(digits),
            "interval" => Self::Interval(is_whole_interval(modifier)),
            "uuid" => Self::Uuid,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "point" => Self::Point,
            _ => Self::Other,
        }
    }

    /// How its values travel; `None` if only as text of the server's making.
    pub(super) fn wire(&self) -> Option<Wire> {
        Some(match self {
            Self::Bool => Wire::Bool,
            Self::Int2 => Wire::Int2,
            Self::Int4 => Wire::Int4,
            Self::Int8 => Wire::Int8,
            Self::Oid => Wire::Oid,
            Self::Float4 => Wire::Float4,
            Self::Float8 => Wire::Float8,
            Self::Numeric(_) => Wire::Numeric,
            Self::Text(_) | Self::Padded | Self::Enum | Self::Json => Wire::Text,
            Self::Bytea => Wire::Bytea,
            Self::Date => Wire::Date,
            Self::Time(_) => Wire::Time,
            Self::TimeTz(_) => Wire::TimeTz,
            Self::Timestamp(_) => Wire::Timestamp,
            Self::TimestampTz(_) => Wire::TimestampTz,
            Self::Interval(_) => Wire::Interval,
            Self::Uuid => Wire::Uuid,
            Self::Jsonb => Wire::Jsonb,
            Self::Point => Wire::Point,
            Self::Array { element_oid, element } => Wire::Array {
                element_oid: *element_oid,
                element: Box::new(element.wire()?),
            },
            Self::Other => return None,
        })
    }
}

impl Digits {
    /// Precision in the upper half of the modifier, scale as eleven bits with a sign in the lower one (`numerictypmodin`).
    fn of(modifier: i32) -> Option<Self> {
        let packed = modifier
            .checked_sub(MODIFIER_HEAD)
            .filter(|packed| *packed >= 0)?;
        Some(Self {
            precision: packed >> 16 & 0xffff,
            scale: (packed & 0x7ff ^ 0x400) - 0x400,
        })
    }
}

/// Whether a modifier of an interval leaves it all fields and all digits: either half of it says "all" with all bits.
fn is_whole_interval(modifier: i32) -> bool {
    let (fields, digits) = (modifier >> 16 & 0x7fff, modifier & 0xffff);
    modifier < 0 || fields == 0x7fff && (digits == 0xffff || digits == 6)
}
