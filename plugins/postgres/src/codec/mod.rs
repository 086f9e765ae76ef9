//! Rows of binary COPY from and to Arrow columns, without an allocation per row.
//!
//! Source of the format: the PostgreSQL manual, `COPY`, "Binary Format", and the `send`/`recv` functions of each type.
//! Pure: nothing here knows a connection. `encode` goes out with `values` and `outgoing`, `decode` comes in with `column`,
//! `incoming` and `arrays`; `integer`, `numeric`, `clock` and `json_escapes` know one kind of value each. Which type takes
//! which wire, `type_mapping` decides.

mod arrays;
#[cfg(test)]
mod captures;
mod clock;
mod column;
mod decode;
mod encode;
mod incoming;
mod integer;
mod json_escapes;
mod numeric;
mod outgoing;
#[cfg(test)]
mod round_trip;
mod values;

pub(crate) use decode::RowDecoder;
pub(crate) use encode::RowEncoder;

use whimbrel_plugin_api::record_type::{Field, RecordType};

/// What stands before the first row: signature, flags, length of the extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands after the last row.
pub(crate) const TRAILER: &[u8] = &[0xff, 0xff];

/// Octets that one value may have: the server allocates at most 2^30 - 1 (`MaxAllocSize`) for a value with its head and
/// an octet behind it.
pub(crate) const VALUE_BYTES_MAX: usize = 0x3fff_ffff - 8;

/// What stands in front of the text of a `jsonb`.
const JSONB_VERSION: u8 = 1;

/// How the values of a column travel in a row of binary COPY. The record type on the other side is given beside it; one
/// wire serves several of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    /// Unsigned 32 bits.
    Oid,
    Float4,
    Float8,
    Numeric,
    /// Octets of the text: `text`, `varchar`, enums, `json`, and whatever is asked for as text.
    Text,
    /// Text of so many characters at most, for `varchar(n)`: the server would cut off blanks behind them unseen.
    TextUpTo {
        characters: u32,
    },
    /// A version octet, then text.
    Jsonb,
    Bytea,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    /// Two floats: longitude, latitude.
    Point,
    /// An array of one dimension that begins at 1.
    Array {
        /// The number of the element type in this database.
        element_oid: u32,
        element: Box<Wire>,
    },
    /// Times and timestamps for a column that keeps fewer digits: cut, since the server would round them.
    Cut {
        /// What is kept are multiples of this.
        unit_micros: i64,
        of: Box<Wire>,
    },
}

/// One column of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WireColumn {
    /// The field's name, for reports.
    pub(crate) name: String,
    /// What the Arrow column holds. Types without a wire of their own (structs, lists of them, variants) travel as JSON
    /// over [`Wire::Text`] or [`Wire::Jsonb`].
    pub(crate) record_type: RecordType,
    pub(crate) wire: Wire,
    /// Whether NUL characters are removed rather than refused.
    pub(crate) removes_nul: bool,
}

/// Why one row cannot be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowFault {
    /// The column's place.
    pub(crate) column: usize,
    /// A stable name.
    pub(crate) code: &'static str,
    /// Without values.
    pub(crate) message: String,
}

impl RowFault {
    fn of(refusal: Refusal, column: usize, name: &str) -> Self {
        Self {
            column,
            code: refusal.code(),
            message: format!("`{name}`: {}", refusal.message()),
        }
    }

    /// What the person can do, if anything.
    pub(crate) fn help(&self) -> Option<&'static str> {
        [
            Refusal::Nul,
            Refusal::NotANumber,
            Refusal::ArrayShape,
            Refusal::NotUtf8,
        ]
        .into_iter()
        .find(|refusal| refusal.code() == self.code)
        .and_then(Refusal::help)
    }
}

/// Why a value cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// A NUL character in a text.
    Nul,
    /// Half of a surrogate pair in JSON.
    LoneSurrogate,
    /// Beyond what the other side can hold.
    OutOfRange,
    /// NaN or an infinity for a decimal.
    NotANumber,
    /// More characters than the column takes.
    TooLong,
    /// More octets than a value may have.
    TooLarge,
    /// No value of its type.
    BadValue,
    /// An array with several dimensions, or that does not begin at 1.
    ArrayShape,
    /// Null where none may be.
    Null,
    /// A text in another encoding.
    NotUtf8,
}

impl Refusal {
    const fn code(self) -> &'static str {
        match self {
            Self::Nul => "postgres.nul_in_text",
            Self::LoneSurrogate => "postgres.lone_surrogate",
            Self::OutOfRange => "postgres.out_of_range",
            Self::NotANumber => "postgres.decimal_nan",
            Self::TooLong => "postgres.text_too_long",
            Self::TooLarge => "postgres.value_too_large",
            Self::BadValue => "postgres.bad_value",
            Self::ArrayShape => "postgres.array_shape",
            Self::Null => "postgres.null_item",
            Self::NotUtf8 => "postgres.not_utf8",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Nul => "a text with the character NUL, which the database cannot store",
            Self::LoneSurrogate => "JSON with half of a surrogate pair, which `jsonb` cannot store",
            Self::OutOfRange => "a value beyond the range of its type on the other side",
            Self::NotANumber => "NaN or an infinity where a decimal is expected",
            Self::TooLong => "a text of more characters than the column takes",
            Self::TooLarge => "a value of more than 1 GB",
            Self::BadValue => "a value that is none of its type",
            Self::ArrayShape => "an array that has more than one dimension or does not begin at 1",
            Self::Null => "a null where none may be",
            Self::NotUtf8 => "a text that is not UTF-8",
        }
    }

    const fn help(self) -> Option<&'static str> {
        match self {
            Self::Nul => Some("`nul: remove` in the sink's config removes the character"),
            Self::NotANumber => {
                Some("`numeric: text` in the source's config reads all numbers of the type `numeric`")
            }
            Self::ArrayShape => Some("`arrays: text` in the source's config reads all arrays as text"),
            Self::NotUtf8 => {
                Some("the database's encoding is not checked, such as `SQL_ASCII`: repair the text")
            }
            _ => None,
        }
    }
}

impl From<numeric::NumericFault> for Refusal {
    fn from(fault: numeric::NumericFault) -> Self {
        match fault {
            numeric::NumericFault::Malformed => Self::BadValue,
            numeric::NumericFault::OutOfRange => Self::OutOfRange,
            numeric::NumericFault::NotANumber => Self::NotANumber,
        }
    }
}

/// Why a value from the wire was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Octets that are no value of the wire.
    Malformed,
    /// The value is none of the column's.
    Refused(Refusal),
    /// The column's offsets cannot count further.
    Full,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<numeric::NumericFault> for Stop {
    fn from(fault: numeric::NumericFault) -> Self {
        match fault {
            numeric::NumericFault::Malformed => Self::Malformed,
            other => Self::Refused(other.into()),
        }
    }
}

/// `record_type` with texts in place of json and variant, which are arrays of the same shape. As JSON strings their texts
/// survive to the letter; as JSON values their white space would not, nor the difference of `null` and missing.
fn without_raw_json(record_type: &RecordType) -> RecordType {
    match record_type {
        RecordType::Json | RecordType::Variant => RecordType::Text,
        RecordType::List { item } => RecordType::list(without_raw_json(item)),
        RecordType::Struct { fields } => RecordType::Struct {
            fields: fields
                .iter()
                .map(|field| Field {
                    record_type: without_raw_json(&field.record_type),
                    ..field.clone()
                })
                .collect(),
        },
        other => other.clone(),
    }
}
