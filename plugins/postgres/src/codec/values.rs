//! The columns of a batch on their way out: typed arrays with the way that their values take on the wire.
//!
//! Values without a fixed length are written behind four octets that are filled in when the length is known.

use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use whimbrel_plugin_api::arrow_array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray,
};
use whimbrel_plugin_api::arrow_buffer::{NullBuffer, OffsetBuffer};
use whimbrel_plugin_api::json_form::JsonEncoder;
use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::{Error, Result};

use super::integer::{IntWire, no_way};
use super::numeric::{put_decimal128, put_decimal256, put_text};
use super::outgoing::{
    fill_length, put_array, put_fixed, put_form, put_json, put_octets, put_plain_text, put_text_up_to,
    put_time, put_timestamp, put_uuid_text,
};
use super::{JSONB_VERSION, Refusal, Wire, WireColumn, clock, without_raw_json};

/// The values of one column.
pub(super) struct Values {
    way: Way,
    nulls: Option<NullBuffer>,
}

/// An array of integers of any width.
enum Ints {
    Of8(PrimitiveArray<Int8Type>),
    Of16(PrimitiveArray<Int16Type>),
    Of32(PrimitiveArray<Int32Type>),
    Of64(PrimitiveArray<Int64Type>),
}

/// How values travel.
enum Way {
    Bool(BooleanArray),
    Int(Ints, IntWire),
    Float4(PrimitiveArray<Float32Type>),
    Float4As8(PrimitiveArray<Float32Type>),
    Float8(PrimitiveArray<Float64Type>),
    Decimal128(PrimitiveArray<Decimal128Type>, u8),
    Decimal256(PrimitiveArray<Decimal256Type>, u8),
    Numeric(StringArray),
    Text {
        texts: StringArray,
        removes_nul: bool,
    },
    /// JSON texts for `jsonb`.
    Jsonb {
        texts: StringArray,
        removes_nul: bool,
    },
    Bytea(BinaryArray),
    Date(PrimitiveArray<Date32Type>),
    Time(PrimitiveArray<Time64MicrosecondType>),
    TimeTz(StringArray),
    Timestamp(PrimitiveArray<TimestampMicrosecondType>),
    Interval {
        months: PrimitiveArray<Int32Type>,
        days: PrimitiveArray<Int32Type>,
        micros: PrimitiveArray<Int64Type>,
    },
    Uuid(FixedSizeBinaryArray),
    /// Hyphenated, as text.
    UuidText(FixedSizeBinaryArray),
    Point {
        lng: PrimitiveArray<Float64Type>,
        lat: PrimitiveArray<Float64Type>,
    },
    /// The JSON form, for `jsonb` or as text.
    Form {
        json: JsonEncoder,
        is_jsonb: bool,
        removes_nul: bool,
    },
    Array {
        offsets: OffsetBuffer<i32>,
        items: Box<Values>,
        element_oid: u32,
    },
    /// Values cut to a multiple of so many microseconds.
    Cut {
        of: Box<Way>,
        unit_micros: i64,
    },
    /// Texts of so many characters at most.
    UpTo {
        texts: StringArray,
        removes_nul: bool,
        characters: usize,
    },
}

impl Values {
    /// The values of `array` on their way over the wire of `column`.
    ///
    /// # Errors
    /// `plugin.internal` if the array is not the physical type of the column, or its type has no way over this wire.
    pub(super) fn new(column: &WireColumn, array: &ArrayRef) -> Result<Self> {
        if !array.data_type().equals_datatype(&column.record_type.to_arrow()) {
            return Err(Error::internal(format!(
                "the column `{}` is `{}`, which is not what `{}` travels as",
                column.name,
                array.data_type(),
                column.record_type
            )));
        }
        Ok(Self {
            way: Way::new(&column.record_type, &column.wire, column.removes_nul, array)?,
            nulls: array.nulls().cloned(),
        })
    }

    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the length of the value and the value, which is not null. On a refusal, what was appended is for the
    /// caller to take back.
    #[inline]
    pub(super) fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.way.put(row, out)
    }
}

impl Ints {
    fn of(bits: u8, array: &ArrayRef) -> Self {
        match bits {
            8 => Self::Of8(array.as_primitive().clone()),
            16 => Self::Of16(array.as_primitive().clone()),
            32 => Self::Of32(array.as_primitive().clone()),
            _ => Self::Of64(array.as_primitive().clone()),
        }
    }

    #[inline]
    fn value(&self, row: usize) -> i64 {
        match self {
            Self::Of8(values) => values.value(row).into(),
            Self::Of16(values) => values.value(row).into(),
            Self::Of32(values) => values.value(row).into(),
            Self::Of64(values) => values.value(row),
        }
    }
}

impl Way {
    /// The way of `array` over `wire`.
    fn new(record_type: &RecordType, wire: &Wire, removes_nul: bool, array: &ArrayRef) -> Result<Self> {
        Ok(match (record_type, wire) {
            (RecordType::Bool, Wire::Bool) => Self::Bool(array.as_boolean().clone()),
            (RecordType::Int { bits }, wire) => Self::Int(Ints::of(*bits, array), IntWire::of(wire)?),
            (RecordType::Float { bits: 32 }, Wire::Float4) => Self::Float4(array.as_primitive().clone()),
            (RecordType::Float { bits: 32 }, Wire::Float8) => Self::Float4As8(array.as_primitive().clone()),
            (RecordType::Float { bits: 64 }, Wire::Float8) => Self::Float8(array.as_primitive().clone()),
            (RecordType::Decimal { precision, scale }, Wire::Numeric) => {
                let scale = scale.unsigned_abs();
                if *precision <= 38 {
                    Self::Decimal128(array.as_primitive().clone(), scale)
                } else {
                    Self::Decimal256(array.as_primitive().clone(), scale)
                }
            }
            (RecordType::Numeric, Wire::Numeric) => Self::Numeric(array.as_string().clone()),
            (RecordType::Bytes, Wire::Bytea) => Self::Bytea(array.as_binary().clone()),
            (RecordType::Date, Wire::Date) => Self::Date(array.as_primitive().clone()),
            (RecordType::Time, Wire::Time) => Self::Time(array.as_primitive().clone()),
            (RecordType::TimeTz, Wire::TimeTz) => Self::TimeTz(array.as_string().clone()),
            (RecordType::TimestampTz, Wire::TimestampTz) | (RecordType::Timestamp, Wire::Timestamp) => {
                Self::Timestamp(array.as_primitive().clone())
            }
            (RecordType::Interval, Wire::Interval) => {
                let parts = array.as_struct();
                Self::Interval {
                    months: parts.column(0).as_primitive().clone(),
                    days: parts.column(1).as_primitive().clone(),
                    micros: parts.column(2).as_primitive().clone(),
                }
            }
            (RecordType::Uuid, Wire::Uuid) => Self::Uuid(array.as_fixed_size_binary().clone()),
            (RecordType::Uuid, Wire::Text) => Self::UuidText(array.as_fixed_size_binary().clone()),
            (RecordType::Geopoint, Wire::Point) => {
                let parts = array.as_struct();
                Self::Point {
                    lat: parts.column(0).as_primitive().clone(),
                    lng: parts.column(1).as_primitive().clone(),
                }
            }
            (_, Wire::Cut { unit_micros, of }) => Self::Cut {
                of: Box::new(Self::new(record_type, of, removes_nul, array)?),
                unit_micros: (*unit_micros).max(1),
            },
            (RecordType::List { item }, Wire::Array { element_oid, element }) => {
                Self::array(item, *element_oid, element, removes_nul, array)?
            }
            (RecordType::Vector, Wire::Array { element_oid, element }) => {
                Self::array(&RecordType::FLOAT64, *element_oid, element, removes_nul, array)?
            }
            _ => Self::of_texts(record_type, wire, removes_nul, array)?,
        })
    }

    /// What travels as text or as JSON.
    fn of_texts(record_type: &RecordType, wire: &Wire, removes_nul: bool, array: &ArrayRef) -> Result<Self> {
        Ok(match (record_type, wire) {
            (
                RecordType::Text
                | RecordType::Json
                | RecordType::Variant
                | RecordType::Reference
                | RecordType::TimeTz
                | RecordType::Opaque { .. },
                Wire::Text,
            ) => Self::Text {
                texts: array.as_string().clone(),
                removes_nul,
            },
            (
                RecordType::Text
                | RecordType::Json
                | RecordType::Variant
                | RecordType::Reference
                | RecordType::TimeTz,
                Wire::TextUpTo { characters },
            ) => Self::UpTo {
                texts: array.as_string().clone(),
                removes_nul,
                characters: *characters as usize,
            },
            (RecordType::Json | RecordType::Variant, Wire::Jsonb) => Self::Jsonb {
                texts: array.as_string().clone(),
                removes_nul,
            },
            (
                RecordType::Struct { .. }
                | RecordType::List { .. }
                | RecordType::Vector
                | RecordType::Geopoint,
                Wire::Text | Wire::Jsonb,
            ) => Self::Form {
                json: JsonEncoder::new(&without_raw_json(record_type), array)?,
                is_jsonb: *wire == Wire::Jsonb,
                removes_nul,
            },
            _ => return Err(no_way(record_type, wire)),
        })
    }

    fn array(
        item: &RecordType,
        element_oid: u32,
        element: &Wire,
        removes_nul: bool,
        array: &ArrayRef,
    ) -> Result<Self> {
        let lists = array.as_list::<i32>();
        let items = Values {
            way: Self::new(item, element, removes_nul, lists.values())?,
            nulls: lists.values().nulls().cloned(),
        };
        Ok(Self::Array {
            offsets: lists.offsets().clone(),
            items: Box::new(items),
            element_oid,
        })
    }

    #[inline]
    fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
        match self {
            Self::Bool(values) => put_fixed([u8::from(values.value(row))], out),
            Self::Int(values, wire) => wire.put(values.value(row), out)?,
            // Bits, not values: which NaN it is and the sign of zero stay.
            Self::Float4(values) => put_fixed(values.value(row).to_bits().to_be_bytes(), out),
            Self::Float4As8(values) => put_fixed(f64::from(values.value(row)).to_bits().to_be_bytes(), out),
            Self::Float8(values) => put_fixed(values.value(row).to_bits().to_be_bytes(), out),
            Self::Uuid(values) => {
                out.extend_from_slice(&16_i32.to_be_bytes());
                out.extend_from_slice(values.value(row));
            }
            Self::Timestamp(values) => put_timestamp(values.value(row), out)?,
            Self::Date(values) => {
                let days = clock::date_to_wire(values.value(row)).ok_or(Refusal::OutOfRange)?;
                put_fixed(days.to_be_bytes(), out);
            }
            Self::Time(values) => put_time(values.value(row), out)?,
            Self::Cut { of, unit_micros } => of.put_cut(row, *unit_micros, out)?,
            Self::Interval { months, days, micros } => {
                out.extend_from_slice(&16_i32.to_be_bytes());
                out.extend_from_slice(&micros.value(row).to_be_bytes());
                out.extend_from_slice(&days.value(row).to_be_bytes());
                out.extend_from_slice(&months.value(row).to_be_bytes());
            }
            Self::Point { lng, lat } => {
                out.extend_from_slice(&16_i32.to_be_bytes());
                out.extend_from_slice(&lng.value(row).to_bits().to_be_bytes());
                out.extend_from_slice(&lat.value(row).to_bits().to_be_bytes());
            }
            Self::Text { texts, removes_nul } => put_plain_text(texts.value(row), *removes_nul, out)?,
            Self::UpTo {
                texts,
                removes_nul,
                characters,
            } => put_text_up_to(*characters, texts.value(row), *removes_nul, out)?,
            Self::Bytea(values) => put_octets(values.value(row), out)?,
            _ => return self.put_measured(row, out),
        }
        Ok(())
    }

    /// Appends a value whose length is only known when it is written.
    fn put_measured(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        match self {
            Self::Decimal128(values, scale) => put_decimal128(values.value(row), *scale, out),
            Self::Decimal256(values, scale) => put_decimal256(values.value(row), *scale, out),
            Self::Numeric(texts) => put_text(texts.value(row), out)?,
            Self::Jsonb { texts, removes_nul } => {
                out.push(JSONB_VERSION);
                put_json(texts.value(row).as_bytes(), *removes_nul, out)?;
            }
            Self::TimeTz(texts) => {
                let (micros, west) = clock::read_time_tz(texts.value(row)).ok_or(Refusal::BadValue)?;
                out.extend_from_slice(&micros.to_be_bytes());
                out.extend_from_slice(&west.to_be_bytes());
            }
            Self::UuidText(values) => put_uuid_text(values.value(row), out),
            Self::Form {
                json,
                is_jsonb,
                removes_nul,
            } => put_form(json, row, *is_jsonb, *removes_nul, out)?,
            Self::Array {
                offsets,
                items,
                element_oid,
            } => {
                // Offsets of a valid array are never negative.
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                put_array(items, from, to, *element_oid, out)?;
            }
            _ => return Err(Refusal::BadValue),
        }
        fill_length(start, out)
    }

    fn put_cut(&self, row: usize, unit_micros: i64, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let cut = |micros: i64| micros.div_euclid(unit_micros).checked_mul(unit_micros);
        match self {
            Self::Timestamp(values) => {
                let micros = values.value(row);
                let is_infinite = micros == i64::MAX || micros == i64::MIN;
                let micros = if is_infinite { Some(micros) } else { cut(micros) };
                put_timestamp(micros.ok_or(Refusal::OutOfRange)?, out)
            }
            Self::Time(values) => put_time(cut(values.value(row)).ok_or(Refusal::OutOfRange)?, out),
            _ => self.put(row, out),
        }
    }
}
