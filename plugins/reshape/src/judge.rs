//! Decides conditions over columns, with three outcomes: true, false, and null where a field is null or absent.
//!
//! Each outcome is a pair of bit masks, the records for which the condition is true and those for which it is false,
//! so that `all`, `any` and `not` are operations on whole masks.

use std::cmp::Ordering;

use regex::Regex;

use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef, ArrowPrimitiveType, BooleanArray};
use whimbrel_plugin_api::arrow_buffer::{BooleanBuffer, NullBuffer};
use whimbrel_plugin_api::{RecordType, Result, Schema};

use crate::condition::{Condition, Operator, pattern};
use crate::constant::{constants, field_index};
use crate::reading::wrong;
use crate::records::Records;

/// A condition that has been checked against a schema.
#[derive(Debug, Clone)]
pub(crate) enum Judge {
    All(Vec<Judge>),
    Any(Vec<Judge>),
    Not(Box<Judge>),
    Field { column: usize, test: Test },
}

/// What is asked of one field.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    IsNull,
    NotNull,
    Present,
    Absent,
    Matches(Regex),
    Compare {
        operator: Operator,
        record_type: RecordType,
        constants: ArrayRef,
    },
}

/// For which records a condition is true, and for which it is false; neither is null.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) is_true: BooleanBuffer,
    is_false: BooleanBuffer,
}

impl Judged {
    /// As a column.
    pub(crate) fn into_array(self) -> BooleanArray {
        let known = &self.is_true | &self.is_false;
        let nulls = (known.count_set_bits() < known.len()).then(|| NullBuffer::new(known));
        BooleanArray::new(self.is_true, nulls)
    }

    fn known(is_true: BooleanBuffer) -> Self {
        let is_false = !&is_true;
        Self { is_true, is_false }
    }
}

impl Judge {
    /// Checks a condition, whose form is right, against `schema`.
    pub(crate) fn new(condition: &Condition, schema: &Schema, place: &str) -> Result<Self> {
        let list = |key: &str, list: &[Condition]| {
            let inner = list.iter().enumerate();
            inner
                .map(|(index, inner)| Self::new(inner, schema, &format!("{place}.{key}[{index}]")))
                .collect::<Result<Vec<_>>>()
        };
        if let Some(conditions) = &condition.all {
            return list("all", conditions).map(Self::All);
        }
        if let Some(conditions) = &condition.any {
            return list("any", conditions).map(Self::Any);
        }
        if let Some(inner) = &condition.not {
            return Ok(Self::Not(Box::new(Self::new(
                inner,
                schema,
                &format!("{place}.not"),
            )?)));
        }
        let name = condition.field.as_deref().unwrap_or_default();
        let column = field_index(schema, name, &format!("{place}.field"))?;
        let record_type = &schema.fields[column].record_type;
        let test = match condition.op.unwrap_or(Operator::Present) {
            Operator::IsNull => Test::IsNull,
            Operator::NotNull => Test::NotNull,
            Operator::Present => Test::Present,
            Operator::Absent => Test::Absent,
            Operator::Matches if is_text(record_type) => {
                Test::Matches(pattern(condition.value.as_ref(), &format!("{place}.value"))?)
            }
            operator if operator == Operator::Matches || !is_comparable(record_type, operator) => {
                return Err(wrong(
                    "bad_comparison",
                    format!(
                        "the field `{name}` of type `{record_type}` cannot be looked at with `{}`",
                        operator.name()
                    ),
                    &format!("{place}.op"),
                )
                .with_help("cast it first, or use is_null, not_null, present or absent"));
            }
            operator => Test::Compare {
                operator,
                record_type: record_type.clone(),
                constants: match (&condition.value, &condition.values) {
                    (_, Some(values)) => constants(record_type, values, &format!("{place}.values"))?,
                    (value, None) => constants(record_type, value.as_slice(), &format!("{place}.value"))?,
                },
            },
        };
        Ok(Self::Field { column, test })
    }

    /// Decides the condition for each record.
    pub(crate) fn judge(&self, records: &Records) -> Judged {
        let fold = |judges: &[Self], join: fn(Judged, Judged) -> Judged| {
            let judged = judges.iter().map(|judge| judge.judge(records));
            judged
                .reduce(join)
                .unwrap_or_else(|| Judged::known(BooleanBuffer::new_set(records.len())))
        };
        match self {
            Self::All(judges) => fold(judges, |a, b| Judged {
                is_true: &a.is_true & &b.is_true,
                is_false: &a.is_false | &b.is_false,
            }),
            Self::Any(judges) => fold(judges, |a, b| Judged {
                is_true: &a.is_true | &b.is_true,
                is_false: &a.is_false & &b.is_false,
            }),
            Self::Not(judge) => {
                let judged = judge.judge(records);
                Judged {
                    is_true: judged.is_false,
                    is_false: judged.is_true,
                }
            }
            Self::Field { column, test } => test.judge(records, *column),
        }
    }
}

impl Test {
    fn judge(&self, records: &Records, column: usize) -> Judged {
        let array = &records.columns[column];
        let len = array.len();
        let valid = || match array.nulls() {
            Some(nulls) => nulls.inner().clone(),
            None => BooleanBuffer::new_set(len),
        };
        let present = || {
            records
                .presence(column)
                .unwrap_or_else(|| BooleanBuffer::new_set(len))
        };
        let bits = match self {
            Self::IsNull => return Judged::known(&present() & &!&valid()),
            Self::NotNull => return Judged::known(valid()),
            Self::Present => return Judged::known(present()),
            Self::Absent => return Judged::known(!&present()),
            Self::Matches(regex) => {
                let texts = array.as_string::<i32>();
                BooleanBuffer::collect_bool(len, |row| {
                    texts.is_valid(row) && regex.is_match(texts.value(row))
                })
            }
            Self::Compare {
                operator,
                record_type,
                constants,
            } => compare(*operator, record_type, array, constants),
        };
        let valid = valid();
        Judged {
            is_true: &bits & &valid,
            is_false: &!&bits & &valid,
        }
    }
}

const fn is_text(record_type: &RecordType) -> bool {
    matches!(
        record_type,
        RecordType::Text | RecordType::Reference | RecordType::Opaque { .. } | RecordType::TimeTz
    )
}

fn is_comparable(record_type: &RecordType, operator: Operator) -> bool {
    use RecordType as T;
    match record_type {
        T::Numeric
        | T::Interval
        | T::Json
        | T::Variant
        | T::List { .. }
        | T::Struct { .. }
        | T::Geopoint
        | T::Vector => false,
        // Equal as texts, and in no order as such.
        T::Bool | T::Opaque { .. } | T::TimeTz => !matches!(
            operator,
            Operator::Less | Operator::AtMost | Operator::Greater | Operator::AtLeast
        ),
        _ => true,
    }
}

/// Compares each row with the constants; rows that are null come out as anything.
fn compare(
    operator: Operator,
    record_type: &RecordType,
    array: &ArrayRef,
    constants: &ArrayRef,
) -> BooleanBuffer {
    use RecordType as T;
    match record_type {
        T::Bool => {
            let (left, right) = (array.as_boolean().values(), constants.as_boolean().values());
            decide(operator, array, constants, |a, b| {
                left.value(a).cmp(&right.value(b))
            })
        }
        T::Int { bits: 8 } => ordered::<Int8Type>(operator, array, constants),
        T::Int { bits: 16 } => ordered::<Int16Type>(operator, array, constants),
        T::Int { bits: 32 } => ordered::<Int32Type>(operator, array, constants),
        T::Int { .. } => ordered::<Int64Type>(operator, array, constants),
        T::Float { bits: 32 } => {
            let (left, right) = (
                array.as_primitive::<Float32Type>(),
                constants.as_primitive::<Float32Type>(),
            );
            decide(operator, array, constants, |a, b| {
                float_order(left.value(a).into(), right.value(b).into())
            })
        }
        T::Float { .. } => {
            let (left, right) = (
                array.as_primitive::<Float64Type>(),
                constants.as_primitive::<Float64Type>(),
            );
            decide(operator, array, constants, |a, b| {
                float_order(left.value(a), right.value(b))
            })
        }
        T::Decimal { precision, .. } if *precision <= 38 => {
            ordered::<Decimal128Type>(operator, array, constants)
        }
        T::Decimal { .. } => ordered::<Decimal256Type>(operator, array, constants),
        T::Date => ordered::<Date32Type>(operator, array, constants),
        T::Time => ordered::<Time64MicrosecondType>(operator, array, constants),
        T::Timestamp | T::TimestampTz => ordered::<TimestampMicrosecondType>(operator, array, constants),
        T::Uuid => {
            let (left, right) = (array.as_fixed_size_binary(), constants.as_fixed_size_binary());
            decide(operator, array, constants, |a, b| {
                left.value(a).cmp(right.value(b))
            })
        }
        T::Bytes => {
            let (left, right) = (array.as_binary::<i32>(), constants.as_binary::<i32>());
            decide(operator, array, constants, |a, b| {
                left.value(a).cmp(right.value(b))
            })
        }
        _ => {
            let (left, right) = (array.as_string::<i32>(), constants.as_string::<i32>());
            decide(operator, array, constants, |a, b| {
                left.value(a).cmp(right.value(b))
            })
        }
    }
}

fn ordered<T: ArrowPrimitiveType<Native: Ord>>(
    operator: Operator,
    array: &ArrayRef,
    constants: &ArrayRef,
) -> BooleanBuffer {
    let (left, right) = (
        array.as_primitive::<T>().values(),
        constants.as_primitive::<T>().values(),
    );
    decide(operator, array, constants, |a, b| left[a].cmp(&right[b]))
}

/// -0.0 is 0.0; NaN is itself and greater than any number.
fn float_order(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right)
        .unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
}

fn decide(
    operator: Operator,
    array: &ArrayRef,
    constants: &ArrayRef,
    order: impl Fn(usize, usize) -> Ordering,
) -> BooleanBuffer {
    let (len, count) = (array.len(), constants.len());
    let is_any = |row: usize| (0..count).any(|constant| order(row, constant).is_eq());
    match operator {
        Operator::Equals => BooleanBuffer::collect_bool(len, |row| order(row, 0).is_eq()),
        Operator::NotEquals => BooleanBuffer::collect_bool(len, |row| order(row, 0).is_ne()),
        Operator::Less => BooleanBuffer::collect_bool(len, |row| order(row, 0).is_lt()),
        Operator::AtMost => BooleanBuffer::collect_bool(len, |row| order(row, 0).is_le()),
        Operator::Greater => BooleanBuffer::collect_bool(len, |row| order(row, 0).is_gt()),
        Operator::AtLeast => BooleanBuffer::collect_bool(len, |row| order(row, 0).is_ge()),
        Operator::NotIn => BooleanBuffer::collect_bool(len, |row| !is_any(row)),
        _ => BooleanBuffer::collect_bool(len, is_any),
    }
}
