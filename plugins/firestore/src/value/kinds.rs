//! The kinds of value that a field was seen to hold, and the narrowest record type that holds all of them exactly.
//!
//! Looking at a value costs a few nanoseconds; only the elements of arrays are looked at one by one. What a kind of number
//! or timestamp must be told apart by (-0.0, digits below the microsecond, widths) is noted beside the kind. Neighbours:
//! `decode` fills the columns of these types, `table` says which of them Firestore has by itself.

use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{MapValue, Value};
use gcloud_sdk::prost_types::Timestamp;
use whimbrel_plugin_api::RecordType;

use super::instant;
use super::numbers::DecimalForm;

/// The kinds of value that were seen in one place, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Kinds(u32);

/// What was seen of one field: kinds of its values, and of the elements of its arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    values: Kinds,
    items: Kinds,
}

impl Kinds {
    const NULL: Self = Self(1);
    const BOOL: Self = Self(1 << 1);
    const INTEGER: Self = Self(1 << 2);
    const DOUBLE: Self = Self(1 << 3);
    const TIMESTAMP: Self = Self(1 << 4);
    const TEXT: Self = Self(1 << 5);
    const BYTES: Self = Self(1 << 6);
    const REFERENCE: Self = Self(1 << 7);
    const GEOPOINT: Self = Self(1 << 8);
    const VECTOR: Self = Self(1 << 9);
    const ARRAY: Self = Self(1 << 10);
    const MAP: Self = Self(1 << 11);
    /// What no document can hold, or what a later version of the service has.
    const OTHER: Self = Self(1 << 12);
    /// Every kind; what is above are notes on some of their values.
    const ALL: Self = Self((1 << 13) - 1);

    /// A double that is -0.0.
    const NEGATIVE_ZERO: Self = Self(1 << 16);
    /// A timestamp with digits below the microsecond.
    const FINE: Self = Self(1 << 17);
    /// An integer beyond 8, 16, 32 bits.
    const OVER_8: Self = Self(1 << 18);
    const OVER_16: Self = Self(1 << 19);
    const OVER_32: Self = Self(1 << 20);
    /// A double that 32 bits do not hold.
    const OVER_FLOAT32: Self = Self(1 << 21);

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing but `allowed` was seen; notes do not count.
    const fn only(self, allowed: Self) -> bool {
        self.0 & Self::ALL.0 & !allowed.0 == 0
    }

    /// The kinds without null and without notes.
    const fn without_null(self) -> Self {
        Self(self.0 & Self::ALL.0 & !Self::NULL.0)
    }

    fn of(value: &Value) -> Self {
        match &value.value_type {
            Some(ValueType::NullValue(_)) => Self::NULL,
            Some(ValueType::BooleanValue(_)) => Self::BOOL,
            Some(ValueType::IntegerValue(number)) => Self::of_integer(*number),
            Some(ValueType::DoubleValue(number)) => Self::of_double(*number),
            Some(ValueType::TimestampValue(timestamp)) => Self::of_timestamp(timestamp),
            Some(ValueType::StringValue(_)) => Self::TEXT,
            Some(ValueType::BytesValue(_)) => Self::BYTES,
            Some(ValueType::ReferenceValue(_)) => Self::REFERENCE,
            Some(ValueType::GeoPointValue(_)) => Self::GEOPOINT,
            Some(ValueType::ArrayValue(_)) => Self::ARRAY,
            Some(ValueType::MapValue(map)) if vector_items(map).is_some() => Self::VECTOR,
            Some(ValueType::MapValue(_)) => Self::MAP,
            _ => Self::OTHER,
        }
    }

    fn of_integer(number: i64) -> Self {
        let mut kinds = Self::INTEGER;
        for (is_over, note) in [
            (i8::try_from(number).is_err(), Self::OVER_8),
            (i16::try_from(number).is_err(), Self::OVER_16),
            (i32::try_from(number).is_err(), Self::OVER_32),
        ] {
            if is_over {
                kinds = kinds.with(note);
            }
        }
        kinds
    }

    fn of_double(number: f64) -> Self {
        let mut kinds = Self::DOUBLE;
        if number == 0.0 && number.is_sign_negative() {
            kinds = kinds.with(Self::NEGATIVE_ZERO);
        }
        if !number.is_nan() && f64::from(number as f32) != number {
            kinds = kinds.with(Self::OVER_FLOAT32);
        }
        kinds
    }

    fn of_timestamp(timestamp: &Timestamp) -> Self {
        match instant::to_micros(timestamp) {
            Some(_) => Self::TIMESTAMP,
            None if instant::is_valid(timestamp) => Self::TIMESTAMP.with(Self::FINE),
            None => Self::OTHER,
        }
    }

    /// The record type of values of one scalar kind.
    fn scalar_type(self) -> Option<RecordType> {
        Some(match self.without_null() {
            Self::BOOL => RecordType::Bool,
            Self::INTEGER => RecordType::INT64,
            Self::DOUBLE => RecordType::FLOAT64,
            Self::TIMESTAMP if !self.has(Self::FINE) => RecordType::TimestampTz,
            Self::TEXT => RecordType::Text,
            Self::BYTES => RecordType::Bytes,
            Self::REFERENCE => RecordType::Reference,
            Self::GEOPOINT => RecordType::Geopoint,
            _ => return None,
        })
    }

    /// The names of the kinds, such as `text, integer`.
    fn names(self) -> String {
        const NAMES: [(Kinds, &str); 13] = [
            (Kinds::NULL, "null"),
            (Kinds::BOOL, "bool"),
            (Kinds::INTEGER, "integer"),
            (Kinds::DOUBLE, "double"),
            (Kinds::TIMESTAMP, "timestamp"),
            (Kinds::TEXT, "text"),
            (Kinds::BYTES, "bytes"),
            (Kinds::REFERENCE, "reference"),
            (Kinds::GEOPOINT, "geopoint"),
            (Kinds::VECTOR, "vector"),
            (Kinds::ARRAY, "array"),
            (Kinds::MAP, "map"),
            (Kinds::OTHER, "unknown kind"),
        ];
        let mut names: Vec<&str> = NAMES
            .iter()
            .filter(|(kind, _)| self.has(*kind))
            .map(|(_, name)| *name)
            .collect();
        if self.has(Self::FINE) {
            names.push("timestamp below the microsecond");
        }
        if self.has(Self::NEGATIVE_ZERO) {
            names.push("negative zero");
        }
        names.join(", ")
    }
}

impl Seen {
    /// What one value shows.
    pub(crate) fn of(value: &Value) -> Self {
        let mut seen = Self::default();
        seen.add(value);
        seen
    }

    /// Adds one value.
    pub(crate) fn add(&mut self, value: &Value) {
        self.values = self.values.with(Kinds::of(value));
        if let Some(ValueType::ArrayValue(array)) = &value.value_type {
            for item in &array.values {
                self.items = self.items.with(Kinds::of(item));
            }
        }
    }

    /// Whether a null was among the values.
    pub(crate) fn has_null(self) -> bool {
        self.values.has(Kinds::NULL)
    }

    /// The narrowest type that holds every value exactly.
    pub(crate) fn record_type(self) -> RecordType {
        let number = Kinds::INTEGER.with(Kinds::DOUBLE);
        let kinds = self.values.without_null();
        let found = if kinds == Kinds::VECTOR {
            Some(RecordType::Vector)
        } else if kinds == number && !self.values.has(Kinds::NEGATIVE_ZERO) {
            Some(RecordType::Numeric)
        } else if kinds == Kinds::ARRAY {
            self.items.scalar_type().map(RecordType::list)
        } else {
            self.values.scalar_type()
        };
        found.unwrap_or(RecordType::Variant)
    }

    /// Whether a column of `record_type`, which a sink wrote, can hold every value that was seen, as far as their kinds tell: a
    /// text that is no date shows when it is read.
    pub(crate) fn fits(self, record_type: &RecordType) -> bool {
        let seen = self.values;
        let only = |kinds: Kinds| seen.only(kinds.with(Kinds::NULL));
        match record_type {
            RecordType::Bool => only(Kinds::BOOL),
            RecordType::Int { bits } => {
                let over = match bits {
                    8 => Kinds::OVER_8,
                    16 => Kinds::OVER_16,
                    32 => Kinds::OVER_32,
                    _ => Kinds::default(),
                };
                only(Kinds::INTEGER) && !seen.has(over)
            }
            RecordType::Float { bits } => {
                only(Kinds::DOUBLE) && (*bits == 64 || !seen.has(Kinds::OVER_FLOAT32))
            }
            RecordType::Decimal { precision, scale } => match DecimalForm::of(*precision, *scale) {
                DecimalForm::Integer => only(Kinds::INTEGER),
                DecimalForm::Double => only(Kinds::DOUBLE) && !seen.has(Kinds::NEGATIVE_ZERO),
                DecimalForm::Text => only(Kinds::TEXT),
            },
            RecordType::Numeric => {
                only(Kinds::INTEGER.with(Kinds::DOUBLE).with(Kinds::TEXT)) && !seen.has(Kinds::NEGATIVE_ZERO)
            }
            RecordType::TimestampTz => only(Kinds::TIMESTAMP.with(Kinds::TEXT)) && !seen.has(Kinds::FINE),
            RecordType::Bytes => only(Kinds::BYTES),
            RecordType::Json => seen.only(Kinds::JSON) && self.items.only(Kinds::JSON),
            RecordType::Variant => !seen.with(self.items).has(Kinds::OTHER),
            RecordType::List { item } => {
                let items = Self {
                    values: self.items,
                    items: Kinds::default(),
                };
                only(Kinds::ARRAY) && !self.items.has(Kinds::ARRAY) && items.fits(item)
            }
            RecordType::Struct { .. } => only(Kinds::MAP),
            RecordType::Geopoint => only(Kinds::GEOPOINT),
            RecordType::Reference => only(Kinds::REFERENCE.with(Kinds::TEXT)),
            // One without numbers is an array to the service.
            RecordType::Vector => only(Kinds::VECTOR.with(Kinds::ARRAY)) && self.items == Kinds::default(),
            RecordType::Text
            | RecordType::Opaque { .. }
            | RecordType::Date
            | RecordType::Time
            | RecordType::TimeTz
            | RecordType::Timestamp
            | RecordType::Interval
            | RecordType::Uuid => only(Kinds::TEXT),
        }
    }

    /// The kinds for a person, such as `text, integer` or `array of text`.
    pub(crate) fn names(self) -> String {
        let names = self.values.names();
        if self.items == Kinds::default() {
            return names;
        }
        format!("{names} (of {})", self.items.names())
    }
}

impl Kinds {
    /// What JSON has a value for.
    const JSON: Self = Self::NULL
        .with(Self::BOOL)
        .with(Self::INTEGER)
        .with(Self::DOUBLE)
        .with(Self::TEXT)
        .with(Self::ARRAY)
        .with(Self::MAP);
}

/// The member of a vector's map that says what it is, and what it says. Source: the service's own libraries.
pub(super) const TYPE_MEMBER: &str = "__type__";
pub(super) const VECTOR_TYPE: &str = "__vector__";
/// The member that has the numbers.
pub(super) const VECTOR_MEMBER: &str = "value";

/// The numbers of a map that is a vector: its type, and an array of doubles.
pub(super) fn vector_items(map: &MapValue) -> Option<&[Value]> {
    if map.fields.len() != 2 {
        return None;
    }
    let named = map.fields.get(TYPE_MEMBER)?;
    let Some(ValueType::StringValue(name)) = &named.value_type else {
        return None;
    };
    let Some(ValueType::ArrayValue(array)) = &map.fields.get(VECTOR_MEMBER)?.value_type else {
        return None;
    };
    let is_double = |value: &Value| matches!(value.value_type, Some(ValueType::DoubleValue(_)));
    (name == VECTOR_TYPE && array.values.iter().all(is_double)).then_some(&array.values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::cell::{null, value, vector};
    use gcloud_sdk::google::firestore::v1::ArrayValue;
    use gcloud_sdk::google::r#type::LatLng;
    use whimbrel_plugin_api::Field;

    fn array(values: Vec<Value>) -> Value {
        value(ValueType::ArrayValue(ArrayValue { values }))
    }

    fn map(members: Vec<(&str, Value)>) -> Value {
        let fields = members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        value(ValueType::MapValue(MapValue { fields }))
    }

    fn integer(number: i64) -> Value {
        value(ValueType::IntegerValue(number))
    }

    fn double(number: f64) -> Value {
        value(ValueType::DoubleValue(number))
    }

    fn text(text: &str) -> Value {
        value(ValueType::StringValue(text.to_owned()))
    }

    fn timestamp(nanos: i32) -> Value {
        value(ValueType::TimestampValue(Timestamp { seconds: 0, nanos }))
    }

    fn seen(values: &[Value]) -> Seen {
        let mut seen = Seen::default();
        values.iter().for_each(|value| seen.add(value));
        // In whatever order.
        let mut reversed = Seen::default();
        values.iter().rev().for_each(|value| reversed.add(value));
        assert_eq!(seen, reversed);
        seen
    }

    /// Two values of each kind that a column can have a type for, with that type.
    fn kinds() -> Vec<(RecordType, Value, Value)> {
        let bytes = |octets: &[u8]| value(ValueType::BytesValue(octets.to_vec()));
        let point = |latitude| {
            value(ValueType::GeoPointValue(LatLng {
                latitude,
                longitude: 0.0,
            }))
        };
        let reference = |path: &str| {
            value(ValueType::ReferenceValue(format!(
                "projects/p/databases/d/documents/{path}"
            )))
        };
        let bool = |of| value(ValueType::BooleanValue(of));
        vec![
            (RecordType::Bool, bool(true), bool(false)),
            (RecordType::INT64, integer(i64::MIN), integer(0)),
            (RecordType::FLOAT64, double(-0.0), double(f64::NAN)),
            (RecordType::TimestampTz, timestamp(0), timestamp(999_999_000)),
            (RecordType::Text, text(""), text("a")),
            (RecordType::Bytes, bytes(b""), bytes(b"\0")),
            (RecordType::Reference, reference("a/b"), reference("c/d/e/f")),
            (RecordType::Geopoint, point(0.0), point(-90.0)),
        ]
    }

    #[test]
    fn one_kind_gives_its_type_and_two_kinds_give_a_variant() {
        for (index, (record_type, first, second)) in kinds().into_iter().enumerate() {
            let both = [first.clone(), second.clone()];
            assert_eq!(seen(&both).record_type(), record_type);
            let with_null = seen(&[null(), first.clone()]);
            assert_eq!(
                (with_null.record_type(), with_null.has_null()),
                (record_type.clone(), true)
            );
            let list = RecordType::list(record_type.clone());
            assert_eq!(
                seen(&[array(vec![]), array(vec![null(), first.clone(), second])]).record_type(),
                list
            );
            assert_eq!(
                seen(&[array(vec![first.clone()]), first.clone()]).record_type(),
                RecordType::Variant
            );
            for (other_index, (other_type, other, _)) in kinds().into_iter().enumerate() {
                if index == other_index {
                    continue;
                }
                let mixed = [first.clone(), other.clone()];
                assert_eq!(
                    seen(&mixed).record_type(),
                    RecordType::Variant,
                    "{record_type}, {other_type}"
                );
                assert_eq!(
                    seen(&[array(mixed.to_vec())]).record_type(),
                    RecordType::Variant,
                    "lists of {record_type}, {other_type}"
                );
            }
        }
    }

    #[test]
    fn what_is_between_the_kinds_has_its_rule() {
        for (values, record_type) in [
            (vec![], RecordType::Variant),
            (vec![null()], RecordType::Variant),
            (vec![integer(1), double(0.5)], RecordType::Numeric),
            (vec![integer(1), double(f64::NAN), null()], RecordType::Numeric),
            (vec![integer(1), double(-0.0)], RecordType::Variant),
            (vec![integer(1), double(0.5), text("1")], RecordType::Variant),
            (vec![double(0.5), double(-0.0)], RecordType::FLOAT64),
            (vec![timestamp(1)], RecordType::Variant),
            (vec![timestamp(1_000), timestamp(1_001)], RecordType::Variant),
            (vec![vector(vec![1.0])], RecordType::Vector),
            (vec![vector(vec![1.0]), map(vec![])], RecordType::Variant),
            (vec![map(vec![("a", null())])], RecordType::Variant),
            (vec![array(vec![])], RecordType::Variant),
            (vec![array(vec![null()])], RecordType::Variant),
            (vec![array(vec![integer(1), double(0.5)])], RecordType::Variant),
            (vec![array(vec![vector(vec![1.0])])], RecordType::Variant),
            (vec![array(vec![map(vec![])])], RecordType::Variant),
            (vec![array(vec![timestamp(1)])], RecordType::Variant),
            (
                vec![array(vec![double(-0.0)])],
                RecordType::list(RecordType::FLOAT64),
            ),
        ] {
            assert_eq!(seen(&values).record_type(), record_type, "{values:?}");
        }
    }

    #[test]
    fn only_a_map_that_says_so_is_a_vector() {
        let named = |name: &str, items: Value| map(vec![(TYPE_MEMBER, text(name)), (VECTOR_MEMBER, items)]);
        let doubles = array(vec![double(1.0)]);
        assert_eq!(
            seen(&[named(VECTOR_TYPE, doubles.clone())]).record_type(),
            RecordType::Vector
        );
        for other in [
            named("__other__", doubles.clone()),
            named(VECTOR_TYPE, array(vec![integer(1)])),
            named(VECTOR_TYPE, text("1")),
            map(vec![(TYPE_MEMBER, text(VECTOR_TYPE))]),
            map(vec![
                (TYPE_MEMBER, text(VECTOR_TYPE)),
                (VECTOR_MEMBER, doubles),
                ("more", null()),
            ]),
        ] {
            assert_eq!(seen(&[other]).record_type(), RecordType::Variant);
        }
    }

    #[test]
    fn a_remembered_type_fits_what_is_stored_for_it_and_no_more() {
        let decimal = |precision, scale| RecordType::Decimal { precision, scale };
        let fits = |record_type: &RecordType, value: &Value| Seen::of(value).fits(record_type);
        for (record_type, holds, others) in [
            (
                RecordType::Int { bits: 8 },
                integer(-128),
                vec![integer(128), double(1.0), text("1")],
            ),
            (
                RecordType::Int { bits: 16 },
                integer(-32_768),
                vec![integer(32_768)],
            ),
            (
                RecordType::Int { bits: 32 },
                integer(i32::MAX.into()),
                vec![integer(1 << 31)],
            ),
            (
                RecordType::Float { bits: 32 },
                double(0.5),
                vec![double(0.1), integer(1)],
            ),
            (
                RecordType::Float { bits: 32 },
                double(f64::NAN),
                vec![double(1e300)],
            ),
            (RecordType::FLOAT64, double(0.1), vec![integer(1)]),
            (decimal(18, 0), integer(1), vec![double(1.0), text("1")]),
            (
                decimal(15, 2),
                double(1.0),
                vec![double(-0.0), integer(1), text("1.00")],
            ),
            (decimal(38, 2), text("1.00"), vec![double(1.0), integer(1)]),
            (RecordType::Numeric, text("1.00"), vec![double(-0.0), null_map()]),
            (RecordType::Date, text("2024-12-31"), vec![integer(1)]),
            (
                RecordType::TimestampTz,
                timestamp(0),
                vec![timestamp(1), integer(1)],
            ),
            (RecordType::TimestampTz, text("infinity"), vec![null_map()]),
            (RecordType::Reference, text("a"), vec![integer(1)]),
            (
                RecordType::Json,
                null_map(),
                vec![timestamp(0), array(vec![timestamp(0)])],
            ),
            (
                RecordType::Json,
                array(vec![null_map(), integer(1)]),
                vec![vector(vec![1.0])],
            ),
            (RecordType::Variant, vector(vec![1.0]), vec![Value::default()]),
            (
                RecordType::Vector,
                array(vec![]),
                vec![array(vec![double(1.0)]), null_map()],
            ),
            (
                RecordType::list(RecordType::Date),
                array(vec![text("x"), null()]),
                vec![array(vec![integer(1)]), text("x")],
            ),
            (
                RecordType::list(RecordType::list(RecordType::Text)),
                array(vec![]),
                vec![array(vec![array(vec![])])],
            ),
            (
                RecordType::Struct {
                    fields: vec![Field::new("a", RecordType::Bool)],
                },
                null_map(),
                vec![vector(vec![1.0]), text("{}")],
            ),
        ] {
            assert!(fits(&record_type, &holds), "{record_type} {holds:?}");
            assert!(fits(&record_type, &null()), "{record_type}");
            for other in others {
                assert!(!fits(&record_type, &other), "{record_type} {other:?}");
            }
        }
    }

    fn null_map() -> Value {
        map(vec![("a", null())])
    }

    #[test]
    fn kinds_are_named_for_people() {
        assert_eq!(
            seen(&[text("a"), integer(1_000), null()]).names(),
            "null, integer, text"
        );
        assert_eq!(
            seen(&[array(vec![timestamp(1)])]).names(),
            "array (of timestamp, timestamp below the microsecond)"
        );
        assert_eq!(Seen::of(&Value::default()).names(), "unknown kind");
    }
}
