//! By the canonical text of a value: the way of every pair of types that has no shorter one.
//! Numbers are rounded as text on their way, if the job says so, since `numeric` and long decimals fit nothing else.

use std::fmt::Write as _;

use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef};
use whimbrel_plugin_api::text_form::{TextDecoder, TextEncoder};
use whimbrel_plugin_api::{Error, RecordType, Result};

use crate::columns::{Converted, TextColumn};
use crate::config::Rounding;
use crate::rounding::{is_same_number, round_text};

use super::is_text_like;

/// Octets of a usual canonical text, to begin with.
const TEXT_BYTES_GUESSED: usize = 24;

/// What happens to the text on its way.
#[derive(Debug, Clone)]
pub(super) enum TextWay {
    /// Nothing.
    Plain,
    /// It is a number and gets this many digits after the point.
    Rounded { scale: i8, rounding: Option<Rounding> },
    /// It is an exact number, and the float must be written alike.
    SameFloat { bits: u8 },
}

impl TextWay {
    /// The way of a number to `to`.
    pub(super) const fn rounded(to: &RecordType, rounding: Option<Rounding>) -> Self {
        match to {
            RecordType::Int { .. } => Self::Rounded { scale: 0, rounding },
            RecordType::Decimal { scale, .. } => Self::Rounded {
                scale: *scale,
                rounding,
            },
            RecordType::Float { bits } if rounding.is_none() => Self::SameFloat { bits: *bits },
            _ => Self::Plain,
        }
    }

    pub(super) fn run(&self, from: &RecordType, to: &RecordType, array: &ArrayRef) -> Result<Converted> {
        // The text forms of these are any text, or were a number's before.
        if is_text_like(to) || *to == RecordType::Numeric && !is_text_like(from) {
            return encode(from, array).map(Converted::whole);
        }
        let mut decoder = TextDecoder::new(to, array.len())?;
        let mut failed = Vec::new();
        let mut take = |row: usize, text: Option<&str>, decoder: &mut TextDecoder| {
            match text.map(|text| decoder.push(text)) {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) if is_no_fault_of_the_record(&error) => return Err(error),
                _ => {}
            }
            decoder.push_null();
            failed.push(row);
            Ok(())
        };
        let mut scratch = String::new();
        let mut rounded = String::new();
        let encoder = if is_text_like(from) {
            None
        } else {
            Some(TextEncoder::new(from, array)?)
        };
        for row in 0..array.len() {
            if array.is_null(row) {
                decoder.push_null();
                continue;
            }
            let text = match &encoder {
                None => array.as_string::<i32>().value(row),
                Some(encoder) => {
                    scratch.clear();
                    encoder.write(row, &mut scratch);
                    scratch.as_str()
                }
            };
            match self {
                Self::Plain => take(row, Some(text), &mut decoder)?,
                Self::Rounded { scale, rounding } => {
                    rounded.clear();
                    let text = round_text(text, *scale, *rounding, &mut rounded).map(|()| rounded.as_str());
                    take(row, text, &mut decoder)?;
                }
                Self::SameFloat { bits } => {
                    rounded.clear();
                    let is_same = is_float(text, *bits, &mut rounded);
                    take(row, is_same.then_some(text), &mut decoder)?;
                }
            }
        }
        Ok(Converted {
            array: decoder.finish()?,
            failed,
        })
    }
}

/// Whether the shortest text of the nearest float is the number `text`, or `text` is no finite number.
fn is_float(text: &str, bits: u8, shortest: &mut String) -> bool {
    let written = match bits {
        32 => text
            .parse::<f32>()
            .map(|float| (float.is_finite(), write!(shortest, "{float}"))),
        _ => text
            .parse::<f64>()
            .map(|float| (float.is_finite(), write!(shortest, "{float}"))),
    };
    match written {
        Ok((true, _)) => is_same_number(shortest, text),
        // The decoder knows the names of what is no number, and refuses numbers that are too large.
        _ => true,
    }
}

/// Whether an error of a decoder is about the whole column.
pub(super) fn is_no_fault_of_the_record(error: &Error) -> bool {
    error.code.ends_with(".too_large") || error.code.starts_with("plugin.")
}

fn encode(from: &RecordType, array: &ArrayRef) -> Result<ArrayRef> {
    let encoder = TextEncoder::new(from, array)?;
    let mut column = TextColumn::new(array.len(), array.len() * TEXT_BYTES_GUESSED);
    for row in 0..array.len() {
        encoder.write(row, column.text());
        column.end()?;
    }
    column.finish(array.nulls().cloned())
}
