//! Values of the wire that take more than their octets: texts of several kinds, arrays, uuids.
//!
//! Every octet may be hostile; nothing is read beyond what is there. Neighbour: `column` asks for them.

use whimbrel_plugin_api::record_type::RecordType;

use super::arrays::Runs;
use super::column::Column;
use super::decode::take_field;
use super::integer::no_way;
use super::numeric::Numeric;
use super::{JSONB_VERSION, Refusal, Stop, Wire, clock};

/// How a text travels that is only taken over.
#[derive(Clone, Copy)]
pub(super) enum TextWire {
    Text,
    Jsonb,
}

/// What is written as text here.
#[derive(Clone, Copy)]
pub(super) enum WrittenWire {
    Numeric,
    TimeTz,
}

pub(super) fn text_wire(record_type: &RecordType, wire: &Wire) -> whimbrel_plugin_api::Result<TextWire> {
    Ok(match (record_type, wire) {
        (
            RecordType::Text
            | RecordType::Json
            | RecordType::Variant
            | RecordType::Reference
            | RecordType::TimeTz
            | RecordType::Opaque { .. },
            Wire::Text,
        ) => TextWire::Text,
        (RecordType::Json | RecordType::Variant, Wire::Jsonb) => TextWire::Jsonb,
        _ => return Err(no_way(record_type, wire)),
    })
}

/// The octets of a value of a fixed length.
#[inline]
pub(super) fn fixed<const N: usize>(octets: &[u8]) -> Result<[u8; N], Stop> {
    octets.try_into().map_err(|_| Stop::Malformed)
}

pub(super) fn narrow(value: f64) -> Result<f32, Refusal> {
    let narrow = value as f32;
    if f64::from(narrow) == value || value.is_nan() {
        Ok(narrow)
    } else {
        Err(Refusal::OutOfRange)
    }
}

pub(super) fn text_of(octets: &[u8]) -> Result<&str, Refusal> {
    simdutf8::basic::from_utf8(octets).map_err(|_| Refusal::NotUtf8)
}

pub(super) fn jsonb_text(octets: &[u8]) -> Result<&[u8], Stop> {
    match octets.split_first() {
        Some((&JSONB_VERSION, text)) => Ok(text),
        _ => Err(Stop::Malformed),
    }
}

pub(super) fn read_text(wire: TextWire, octets: &[u8]) -> Result<&str, Stop> {
    Ok(match wire {
        TextWire::Text => text_of(octets)?,
        TextWire::Jsonb => text_of(jsonb_text(octets)?)?,
    })
}

pub(super) fn push_written(runs: &mut Runs, wire: WrittenWire, octets: &[u8]) -> Result<(), Stop> {
    match wire {
        WrittenWire::Numeric => {
            Numeric::read(octets)?.write_text(&mut runs.data)?;
            runs.end()
        }
        WrittenWire::TimeTz => {
            let octets: [u8; 12] = fixed(octets)?;
            let (micros, west) = octets.split_at(8);
            let (micros, west) = (fixed(micros)?, fixed(west)?);
            clock::write_time_tz(
                i64::from_be_bytes(micros),
                i32::from_be_bytes(west),
                &mut runs.data,
            )
            .ok_or(Stop::Malformed)?;
            runs.end()
        }
    }
}

/// Takes the items of an array of no or one dimension that begins at 1.
pub(super) fn push_array(
    ends: &mut Vec<i32>,
    items: &mut Column,
    takes_null: bool,
    octets: &[u8],
) -> Result<(), Stop> {
    let mut rest = octets;
    let mut number = || -> Result<i32, Stop> {
        let (number, behind) = rest.split_first_chunk().ok_or(Stop::Malformed)?;
        rest = behind;
        Ok(i32::from_be_bytes(*number))
    };
    // Whether there are nulls shows in the items, and the type of the elements is known.
    let (dimensions, _, _) = (number()?, number()?, number()?);
    let count = match dimensions {
        0 => 0,
        1 => {
            let (count, first) = (number()?, number()?);
            if first != 1 {
                return Err(Refusal::ArrayShape.into());
            }
            u32::try_from(count).map_err(|_| Stop::Malformed)?
        }
        2.. => return Err(Refusal::ArrayShape.into()),
        _ => return Err(Stop::Malformed),
    };
    for _ in 0..count {
        let field = take_field(&mut rest).ok_or(Stop::Malformed)?;
        if field.is_none() && !takes_null {
            return Err(Refusal::Null.into());
        }
        items.push(field)?;
    }
    if !rest.is_empty() {
        return Err(Stop::Malformed);
    }
    let end = i64::from(ends.last().copied().unwrap_or(0)) + i64::from(count);
    ends.push(i32::try_from(end).map_err(|_| Stop::Full)?);
    Ok(())
}

/// Reads 32 hexadecimal digits, with or without hyphens between them.
pub(super) fn read_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut octets = [0; 16];
    let mut digits = text
        .iter()
        .filter(|octet| **octet != b'-')
        .map(|octet| char::from(*octet).to_digit(16));
    for octet in &mut octets {
        *octet = (digits.next()?? * 16 + digits.next()??) as u8;
    }
    digits.next().is_none().then_some(octets)
}
