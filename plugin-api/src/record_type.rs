//! The closed list of record types, each with the one physical Arrow type in which it travels.
//!
//! Source of the list: DESIGN 5; `ABI.md` gives the meaning of each value, byte by byte. A [`Schema`] is the
//! ordered list of a collection's fields, and knows how to become an Arrow schema. Not here: how a connector
//! stores a type (its own `type_mapping`), and how values are compared (the host).

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field as ArrowField, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Name of the trailing presence column, see [`Schema::presence`].
pub const PRESENCE_COLUMN: &str = "__presence";

/// What a value is, independent of any system. The serialised form is the message form of `ABI.md`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RecordType {
    /// True or false. Arrow `Boolean`.
    Bool,
    /// Signed integer of 8, 16, 32 or 64 bits. Arrow `Int8` .. `Int64`.
    Int {
        /// 8, 16, 32 or 64.
        bits: u8,
    },
    /// IEEE 754 binary float of 32 or 64 bits. Arrow `Float32`, `Float64`.
    Float {
        /// 32 or 64.
        bits: u8,
    },
    /// Exact decimal. Arrow `Decimal128` up to precision 38, `Decimal256` up to 76.
    Decimal {
        /// Digits in all, 1 to 76.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: i8,
    },
    /// Exact decimal without bounds, with `NaN`, `Infinity` and `-Infinity`, as text. Arrow `Utf8`.
    Numeric,
    /// Unicode text. Arrow `Utf8`.
    Text,
    /// Octets. Arrow `Binary`.
    Bytes,
    /// Calendar date (proleptic Gregorian). Arrow `Date32`; `i32::MAX` and `i32::MIN` are the infinities.
    Date,
    /// Time of day. Arrow `Time64(us)`; 86,400,000,000 is 24:00:00.
    Time,
    /// Time of day with an offset, as text `HH:MM:SS[.ffffff]+HH:MM[:SS]`. Arrow `Utf8`.
    TimeTz,
    /// Instant. Arrow `Timestamp(us, "UTC")`; `i64::MAX` and `i64::MIN` are the infinities.
    TimestampTz,
    /// Date and time without a zone. Arrow `Timestamp(us)`; infinities as above.
    Timestamp,
    /// Months, days and microseconds, kept apart. Arrow `Struct<months: Int32, days: Int32, micros: Int64>`.
    Interval,
    /// 128-bit identifier. Arrow `FixedSizeBinary(16)`, extension `arrow.uuid`.
    Uuid,
    /// JSON text, kept as it was written. Arrow `Utf8`, extension `arrow.json`.
    Json,
    /// Ordered values of one type, each may be null. Arrow `List`.
    List {
        /// The type of the elements.
        item: Box<RecordType>,
    },
    /// Named values. Arrow `Struct`.
    Struct {
        /// The members, in order.
        fields: Vec<Field>,
    },
    /// Latitude and longitude in degrees. Arrow `Struct<lat: Float64, lng: Float64>`.
    Geopoint,
    /// The path or key of a record elsewhere, as text. Arrow `Utf8`.
    Reference,
    /// Embedding. Arrow `List<Float64>`.
    Vector,
    /// A value of a named type that only its own system understands, as text. Arrow `Utf8`.
    Opaque {
        /// The system's name for the type, such as `inet`.
        // A field's message form is flat and has a `name` already.
        #[serde(rename = "type_name")]
        name: String,
    },
    /// A value whose type differs between records, as JSON (tagged objects for what JSON cannot express).
    /// Arrow `Utf8`.
    Variant,
}

/// One column of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Its name, exactly as the source spells it.
    pub name: String,
    /// Its type.
    #[serde(flatten)]
    pub record_type: RecordType,
    /// Whether it may be null.
    #[serde(default = "nullable_by_default")]
    pub nullable: bool,
}

const fn nullable_by_default() -> bool {
    true
}

impl Field {
    /// A field that may be null.
    pub fn new(name: impl Into<String>, record_type: RecordType) -> Self {
        Self {
            name: name.into(),
            record_type,
            nullable: true,
        }
    }

    /// A field that is never null.
    pub fn required(name: impl Into<String>, record_type: RecordType) -> Self {
        Self {
            nullable: false,
            ..Self::new(name, record_type)
        }
    }

    /// The Arrow field in which it travels, with `whimbrel.type` in its metadata.
    pub fn to_arrow(&self) -> ArrowField {
        let mut metadata =
            std::collections::HashMap::from([("whimbrel.type".to_owned(), self.record_type.to_string())]);
        match self.record_type {
            RecordType::Uuid => {
                metadata.insert("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned());
            }
            RecordType::Json => {
                metadata.insert("ARROW:extension:name".to_owned(), "arrow.json".to_owned());
            }
            _ => {}
        }
        ArrowField::new(&self.name, self.record_type.to_arrow(), self.nullable).with_metadata(metadata)
    }
}

impl RecordType {
    /// 64-bit integer, the usual one.
    pub const INT64: Self = Self::Int { bits: 64 };
    /// 64-bit float, the usual one.
    pub const FLOAT64: Self = Self::Float { bits: 64 };

    /// One of each type of the closed list, each width on its own, other parameters standing for all of their kind: for
    /// tables of mappings and for tests.
    pub fn one_of_each() -> Vec<Self> {
        let mut types = vec![Self::Bool];
        types.extend([8, 16, 32, 64].map(|bits| Self::Int { bits }));
        types.extend([32, 64].map(|bits| Self::Float { bits }));
        types.extend([
            Self::Decimal {
                precision: 38,
                scale: 10,
            },
            Self::Numeric,
            Self::Text,
            Self::Bytes,
            Self::Date,
            Self::Time,
            Self::TimeTz,
            Self::TimestampTz,
            Self::Timestamp,
            Self::Interval,
            Self::Uuid,
            Self::Json,
            Self::list(Self::Text),
            Self::Struct {
                fields: vec![Field::new("a", Self::INT64)],
            },
            Self::Geopoint,
            Self::Reference,
            Self::Vector,
            Self::Opaque {
                name: "inet".to_owned(),
            },
            Self::Variant,
        ]);
        types
    }

    /// A list of `item`.
    pub fn list(item: Self) -> Self {
        Self::List { item: Box::new(item) }
    }

    /// The one physical Arrow type in which values of this type travel.
    pub fn to_arrow(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int { bits: 8 } => DataType::Int8,
            Self::Int { bits: 16 } => DataType::Int16,
            Self::Int { bits: 32 } => DataType::Int32,
            Self::Int { .. } => DataType::Int64,
            Self::Float { bits: 32 } => DataType::Float32,
            Self::Float { .. } => DataType::Float64,
            Self::Decimal { precision, scale } if *precision <= 38 => {
                DataType::Decimal128(*precision, *scale)
            }
            Self::Decimal { precision, scale } => DataType::Decimal256(*precision, *scale),
            Self::Numeric
            | Self::Text
            | Self::TimeTz
            | Self::Json
            | Self::Reference
            | Self::Opaque { .. }
            | Self::Variant => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Interval => DataType::Struct(Fields::from(vec![
                ArrowField::new("months", DataType::Int32, false),
                ArrowField::new("days", DataType::Int32, false),
                ArrowField::new("micros", DataType::Int64, false),
            ])),
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::List { item } => DataType::List(Arc::new(Field::new("item", (**item).clone()).to_arrow())),
            Self::Struct { fields } => DataType::Struct(fields.iter().map(Field::to_arrow).collect()),
            Self::Geopoint => DataType::Struct(Fields::from(vec![
                ArrowField::new("lat", DataType::Float64, false),
                ArrowField::new("lng", DataType::Float64, false),
            ])),
            Self::Vector => DataType::List(Arc::new(ArrowField::new("item", DataType::Float64, false))),
        }
    }

    /// Refuses parameters outside the closed list: widths, precision, scale, depth of nesting over 100,
    /// member names used twice.
    pub fn validate(&self) -> Result<()> {
        self.validate_at(0)
    }

    fn validate_at(&self, depth: usize) -> Result<()> {
        let refuse = |what: String| Err(Error::invalid_data("schema.bad_type", what));
        if depth > DEPTH_MAX {
            return refuse(format!("a type is nested deeper than {DEPTH_MAX} levels"));
        }
        match self {
            Self::Int { bits } if ![8, 16, 32, 64].contains(bits) => {
                refuse(format!("`int` has {bits} bits (valid: 8, 16, 32, 64)"))
            }
            Self::Float { bits } if ![32, 64].contains(bits) => {
                refuse(format!("`float` has {bits} bits (valid: 32, 64)"))
            }
            Self::Decimal { precision, scale }
                if !(1..=76).contains(precision)
                    || *scale < 0
                    || i16::from(*scale) > i16::from(*precision) =>
            {
                refuse(format!(
                    "`decimal({precision}, {scale})` is out of range (precision 1 to 76, scale 0 to precision)"
                ))
            }
            Self::List { item } => item.validate_at(depth + 1),
            Self::Struct { fields } => {
                for (index, field) in fields.iter().enumerate() {
                    if fields[..index].iter().any(|earlier| earlier.name == field.name) {
                        return refuse(format!("the struct member `{}` stands twice", field.name));
                    }
                    field.record_type.validate_at(depth + 1)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// How deep lists and structs may nest. Arrow's own readers recurse, so this bounds their stack.
const DEPTH_MAX: usize = 100;

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int { bits } => write!(f, "int{bits}"),
            Self::Float { bits } => write!(f, "float{bits}"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision}, {scale})"),
            Self::Numeric => f.write_str("numeric"),
            Self::Text => f.write_str("text"),
            Self::Bytes => f.write_str("bytes"),
            Self::Date => f.write_str("date"),
            Self::Time => f.write_str("time"),
            Self::TimeTz => f.write_str("time_tz"),
            Self::TimestampTz => f.write_str("timestamp_tz"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Interval => f.write_str("interval"),
            Self::Uuid => f.write_str("uuid"),
            Self::Json => f.write_str("json"),
            Self::List { item } => write!(f, "list({item})"),
            Self::Struct { fields } => {
                f.write_str("struct(")?;
                for (index, field) in fields.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{}: {}", field.name, field.record_type)?;
                }
                f.write_str(")")
            }
            Self::Geopoint => f.write_str("geopoint"),
            Self::Reference => f.write_str("reference"),
            Self::Vector => f.write_str("vector"),
            Self::Opaque { name } => write!(f, "opaque({name})"),
            Self::Variant => f.write_str("variant"),
        }
    }
}

/// The ordered fields of a collection, with a number that changes whenever they do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Schema {
    /// Grows by one with each change within a stream; batches name the version they follow.
    #[serde(default)]
    pub version: u32,
    /// The fields, in column order.
    pub fields: Vec<Field>,
    /// Whether batches carry a last column `__presence`: Arrow `Binary`, not null, one bit per field (bit `i % 8`
    /// of octet `i / 8`), set if the record has the field. A field that is not there is not null.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub presence: bool,
}

impl Schema {
    /// A schema of version 0 without a presence column.
    pub fn new(fields: Vec<Field>) -> Self {
        Self {
            version: 0,
            fields,
            presence: false,
        }
    }

    /// The position of the field called `name`.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The fields called `columns`, in that order; all of them if `columns` is empty.
    ///
    /// # Errors
    /// `schema.no_field` (kind not found) if there is no such field.
    pub fn select(&self, columns: &[String]) -> Result<Self> {
        let mut selected = self.clone();
        if !columns.is_empty() {
            let field = |name: &String| {
                let index = self.index_of(name).ok_or_else(|| {
                    Error::not_found("schema.no_field", format!("the collection has no field `{name}`"))
                })?;
                Ok(self.fields[index].clone())
            };
            selected.fields = columns.iter().map(field).collect::<Result<_>>()?;
        }
        Ok(selected)
    }

    /// The Arrow schema in which batches of this schema travel.
    pub fn to_arrow(&self) -> SchemaRef {
        let mut fields: Vec<ArrowField> = self.fields.iter().map(Field::to_arrow).collect();
        if self.presence {
            fields.push(ArrowField::new(PRESENCE_COLUMN, DataType::Binary, false));
        }
        Arc::new(ArrowSchema::new(fields))
    }

    /// Refuses field names used twice, the reserved name and types outside the closed list.
    pub fn validate(&self) -> Result<()> {
        let mut seen = std::collections::HashSet::with_capacity(self.fields.len());
        for field in &self.fields {
            if field.name == PRESENCE_COLUMN {
                return Err(Error::invalid_data(
                    "schema.reserved_name",
                    format!("the field name `{PRESENCE_COLUMN}` is reserved"),
                ));
            }
            if !seen.insert(field.name.as_str()) {
                return Err(Error::invalid_data(
                    "schema.field_twice",
                    format!("the field `{}` stands twice", field.name),
                ));
            }
            field.record_type.validate()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_form_is_flat_and_readable() {
        let field = Field::required(
            "price",
            RecordType::Decimal {
                precision: 12,
                scale: 2,
            },
        );
        assert_eq!(
            serde_json::to_string(&field).unwrap(),
            r#"{"name":"price","type":"decimal","precision":12,"scale":2,"nullable":false}"#
        );
        let nested = Field::new(
            "tags",
            RecordType::list(RecordType::Struct {
                fields: vec![Field::new("a", RecordType::Opaque { name: "inet".into() })],
            }),
        );
        let text = serde_json::to_string(&nested).unwrap();
        assert_eq!(serde_json::from_str::<Field>(&text).unwrap(), nested);
    }

    #[test]
    fn parameters_outside_the_list_are_refused() {
        for bad in [
            RecordType::Int { bits: 7 },
            RecordType::Float { bits: 16 },
            RecordType::Decimal {
                precision: 77,
                scale: 0,
            },
            RecordType::Decimal {
                precision: 5,
                scale: 6,
            },
            RecordType::list(RecordType::Int { bits: 0 }),
        ] {
            assert_eq!(bad.validate().unwrap_err().code, "schema.bad_type", "{bad}");
        }
        let mut deep = RecordType::Bool;
        for _ in 0..=DEPTH_MAX {
            deep = RecordType::list(deep);
        }
        assert!(deep.validate().is_err());
    }

    #[test]
    fn a_name_used_twice_is_refused() {
        let schema = Schema::new(vec![
            Field::new("a", RecordType::Text),
            Field::new("a", RecordType::Bool),
        ]);
        assert_eq!(schema.validate().unwrap_err().code, "schema.field_twice");
    }
}
