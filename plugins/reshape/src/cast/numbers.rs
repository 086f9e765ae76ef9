//! Numbers to numbers, over whole columns without text in between.
//!
//! Decimals of more than 38 digits, `numeric`, and floats that become decimals go by their text (`texts`).

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::types::{
    Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use whimbrel_plugin_api::arrow_array::{
    Array as _, ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray,
};
use whimbrel_plugin_api::arrow_buffer::BooleanBuffer;
use whimbrel_plugin_api::{RecordType, Result};

use crate::columns::{Converted, map_values, nulls_at};
use crate::config::Rounding;
use crate::rounding::{rescale, round_float};

/// Where 64-bit floats begin to skip integers, and the first one too large for 64 bits.
const INT64_END: f64 = 9_223_372_036_854_775_808.0;

/// How numbers convert.
#[derive(Debug, Clone)]
pub(super) struct NumberWay {
    from: Number,
    to: Number,
    rounding: Option<Rounding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Bool,
    Int(u8),
    Float(u8),
    /// Of at most 38 digits.
    Decimal(u8, i8),
}

impl Number {
    const fn of(record_type: &RecordType) -> Option<Self> {
        Some(match record_type {
            RecordType::Bool => Self::Bool,
            RecordType::Int { bits } => Self::Int(*bits),
            RecordType::Float { bits } => Self::Float(*bits),
            RecordType::Decimal { precision, scale } if *precision <= 38 => Self::Decimal(*precision, *scale),
            _ => return None,
        })
    }
}

impl NumberWay {
    /// Between bool and int: false is 0, true is 1, nothing else.
    pub(super) const fn bool(from: &RecordType, to: &RecordType) -> Self {
        let from_bool = matches!(from, RecordType::Bool);
        let bits = match (from, to) {
            (RecordType::Int { bits }, _) | (_, RecordType::Int { bits }) => *bits,
            _ => 64,
        };
        let (from, to) = if from_bool {
            (Number::Bool, Number::Int(bits))
        } else {
            (Number::Int(bits), Number::Bool)
        };
        Self {
            from,
            to,
            rounding: None,
        }
    }

    /// Between numbers; `None` if it goes by text.
    pub(super) fn number(from: &RecordType, to: &RecordType, rounding: Option<Rounding>) -> Option<Self> {
        let (from, to) = (Number::of(from)?, Number::of(to)?);
        let by_text = matches!(
            (from, to),
            (Number::Float(_), Number::Decimal(..)) | (Number::Decimal(..), Number::Float(_))
        );
        (!by_text).then_some(Self { from, to, rounding })
    }

    pub(super) fn run(&self, array: &ArrayRef) -> Result<Converted> {
        match (self.from, self.to) {
            (Number::Bool, Number::Int(bits)) => {
                let bools = array.as_boolean();
                let values: Vec<i64> = bools.values().iter().map(i64::from).collect();
                Ok(narrow(
                    &PrimitiveArray::new(values.into(), bools.nulls().cloned()),
                    bits,
                ))
            }
            (Number::Int(bits), _) => self.of_int(&widen(array, bits)),
            (Number::Float(bits), _) => Ok(self.of_float(array, bits)),
            (Number::Decimal(_, scale), _) => self.of_decimal(array.as_primitive(), scale),
            // Nothing else becomes of a bool: `choose` makes no such pair.
            (Number::Bool, _) => Ok(Converted::whole(Arc::clone(array))),
        }
    }

    fn of_int(&self, array: &PrimitiveArray<Int64Type>) -> Result<Converted> {
        let is_free = self.rounding.is_some();
        Ok(match self.to {
            Number::Bool => to_bool(array),
            Number::Int(bits) => narrow(array, bits),
            Number::Float(32) => made(map_values::<_, Float32Type>(array, |value| {
                let float = value as f32;
                (is_free || float as i128 == i128::from(value)).then_some(float)
            })),
            Number::Float(_) => made(map_values::<_, Float64Type>(array, |value| {
                let float = value as f64;
                (is_free || float as i128 == i128::from(value)).then_some(float)
            })),
            Number::Decimal(precision, scale) => {
                let limit = 10_i128.pow(precision.into());
                decimal(array, (precision, scale), |value: i64| {
                    within(rescale(value.into(), 0, scale, None)?, limit)
                })?
            }
        })
    }

    fn of_float(&self, array: &ArrayRef, bits: u8) -> Converted {
        let is_free = self.rounding.is_some();
        let wide = match bits {
            32 => map_values::<Float32Type, Float64Type>(array.as_primitive(), |value| Some(value.into())).0,
            _ => array.as_primitive().clone(),
        };
        match self.to {
            Number::Int(bits) => float_to_int(&wide, bits, self.rounding),
            Number::Float(32) => made(map_values::<_, Float32Type>(&wide, |value| {
                let float = value as f32;
                let is_exact = value.is_nan() || f64::from(float) == value;
                (is_exact || is_free && float.is_finite()).then_some(float)
            })),
            _ => Converted::whole(Arc::new(wide)),
        }
    }

    fn of_decimal(&self, array: &PrimitiveArray<Decimal128Type>, from: i8) -> Result<Converted> {
        let rounding = self.rounding;
        match self.to {
            Number::Decimal(precision, scale) => {
                let limit = 10_i128.pow(precision.into());
                decimal(array, (precision, scale), |value| {
                    within(rescale(value, from, scale, rounding)?, limit)
                })
            }
            _ => {
                let bits = if let Number::Int(bits) = self.to { bits } else { 64 };
                let whole = map_values::<_, Int64Type>(array, |value| {
                    i64::try_from(rescale(value, from, 0, rounding)?).ok()
                });
                Ok(narrowed(whole, bits))
            }
        }
    }
}

fn within(value: i128, limit: i128) -> Option<i128> {
    (-limit < value && value < limit).then_some(value)
}

fn made<T: ArrowPrimitiveType>((array, failed): (PrimitiveArray<T>, Vec<usize>)) -> Converted {
    Converted {
        array: Arc::new(array),
        failed,
    }
}

fn decimal<From: ArrowPrimitiveType>(
    array: &PrimitiveArray<From>,
    (precision, scale): (u8, i8),
    convert: impl Fn(From::Native) -> Option<i128>,
) -> Result<Converted> {
    let (values, failed) = map_values::<From, Decimal128Type>(array, convert);
    Ok(Converted {
        array: Arc::new(values.with_precision_and_scale(precision, scale)?),
        failed,
    })
}

/// Integers of any width as 64 bits.
pub(super) fn widen(array: &ArrayRef, bits: u8) -> PrimitiveArray<Int64Type> {
    match bits {
        8 => map_values::<Int8Type, _>(array.as_primitive(), |value| Some(value.into())).0,
        16 => map_values::<Int16Type, _>(array.as_primitive(), |value| Some(value.into())).0,
        32 => map_values::<Int32Type, _>(array.as_primitive(), |value| Some(value.into())).0,
        _ => array.as_primitive().clone(),
    }
}

/// 64-bit integers with fewer bits, as far as they fit.
pub(super) fn narrow(array: &PrimitiveArray<Int64Type>, bits: u8) -> Converted {
    match bits {
        8 => made(map_values::<_, Int8Type>(array, |value| value.try_into().ok())),
        16 => made(map_values::<_, Int16Type>(array, |value| value.try_into().ok())),
        32 => made(map_values::<_, Int32Type>(array, |value| value.try_into().ok())),
        _ => Converted::whole(Arc::new(array.clone())),
    }
}

/// As [`narrow`], for values of which some have failed already.
pub(super) fn narrowed((whole, failed): (PrimitiveArray<Int64Type>, Vec<usize>), bits: u8) -> Converted {
    let mut converted = narrow(&whole, bits);
    if !failed.is_empty() {
        converted.failed.extend(failed);
        converted.failed.sort_unstable();
    }
    converted
}

fn float_to_int(array: &PrimitiveArray<Float64Type>, bits: u8, rounding: Option<Rounding>) -> Converted {
    let whole = map_values::<_, Int64Type>(array, |value| {
        let value = round_float(value, rounding)?;
        (-INT64_END..INT64_END).contains(&value).then_some(value as i64)
    });
    narrowed(whole, bits)
}

fn to_bool(array: &PrimitiveArray<Int64Type>) -> Converted {
    let values = array.values();
    let failed: Vec<usize> = (0..array.len())
        .filter(|row| array.is_valid(*row) && !(0..=1).contains(&values[*row]))
        .collect();
    let bits = BooleanBuffer::collect_bool(array.len(), |row| values[row] == 1);
    let nulls = nulls_at(array.nulls(), &failed, array.len());
    Converted {
        array: Arc::new(BooleanArray::new(bits, nulls)),
        failed,
    }
}
