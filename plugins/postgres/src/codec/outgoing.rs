//! Values as they stand in a row, behind their lengths.
//!
//! Neighbour: `values` has the columns that they come from.

use whimbrel_plugin_api::json_form::JsonEncoder;

use super::json_escapes::{Escapes, escapes, put_without_nul};
use super::values::Values;
use super::{JSONB_VERSION, Refusal, VALUE_BYTES_MAX, clock};

/// The length that stands for null.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Appends the length of a value and the value, or what stands for null.
#[inline]
pub(super) fn put_field(values: &Values, row: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
    if values.is_null(row) {
        out.extend_from_slice(&NULL);
        return Ok(());
    }
    values.put(row, out)
}

/// Appends octets behind their count, which fits since there are few.
#[inline]
pub(super) fn put_fixed<const N: usize>(octets: [u8; N], out: &mut Vec<u8>) {
    out.extend_from_slice(&(N as i32).to_be_bytes());
    out.extend_from_slice(&octets);
}

pub(super) fn put_timestamp(micros: i64, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let micros = clock::timestamp_to_wire(micros).ok_or(Refusal::OutOfRange)?;
    put_fixed(micros.to_be_bytes(), out);
    Ok(())
}

pub(super) fn put_time(micros: i64, out: &mut Vec<u8>) -> Result<(), Refusal> {
    if !clock::is_time(micros) {
        return Err(Refusal::OutOfRange);
    }
    put_fixed(micros.to_be_bytes(), out);
    Ok(())
}

/// The length of a value of so many octets.
fn length(count: usize) -> Result<[u8; 4], Refusal> {
    match i32::try_from(count) {
        Ok(length) if count <= VALUE_BYTES_MAX => Ok(length.to_be_bytes()),
        _ => Err(Refusal::TooLarge),
    }
}

/// Fills in the length of the value that was written behind the four octets at `start`.
pub(super) fn fill_length(start: usize, out: &mut [u8]) -> Result<(), Refusal> {
    let count = length(out.len() - start - 4)?;
    out[start..start + 4].copy_from_slice(&count);
    Ok(())
}

pub(super) fn put_octets(octets: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    out.extend_from_slice(&length(octets.len())?);
    out.extend_from_slice(octets);
    Ok(())
}

pub(super) fn put_plain_text(text: &str, removes_nul: bool, out: &mut Vec<u8>) -> Result<(), Refusal> {
    // On a slice of octets this search goes by words.
    if !text.as_bytes().contains(&0) {
        return put_octets(text.as_bytes(), out);
    }
    if !removes_nul {
        return Err(Refusal::Nul);
    }
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    for part in text.split('\0') {
        out.extend_from_slice(part.as_bytes());
    }
    fill_length(start, out)
}

/// Appends a text of at most so many characters.
pub(super) fn put_text_up_to(
    characters: usize,
    text: &str,
    removes_nul: bool,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    // No text has more characters than octets; what is removed does not count.
    let is_long = text.len() > characters
        && text
            .chars()
            .filter(|character| !(removes_nul && *character == '\0'))
            .count()
            > characters;
    if is_long {
        return Err(Refusal::TooLong);
    }
    put_plain_text(text, removes_nul, out)
}

pub(super) fn put_json(json: &[u8], removes_nul: bool, out: &mut Vec<u8>) -> Result<(), Refusal> {
    if json.contains(&b'\\') {
        match escapes(json) {
            Escapes::Fine => {}
            Escapes::LoneSurrogate => return Err(Refusal::LoneSurrogate),
            Escapes::Nul if removes_nul => {
                put_without_nul(json, out);
                return Ok(());
            }
            Escapes::Nul => return Err(Refusal::Nul),
        }
    }
    if json.contains(&0) {
        return Err(Refusal::Nul);
    }
    out.extend_from_slice(json);
    Ok(())
}

/// Appends the JSON form, which has control characters and nothing else as escapes.
pub(super) fn put_form(
    json: &JsonEncoder,
    row: usize,
    is_jsonb: bool,
    removes_nul: bool,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    if is_jsonb {
        out.push(JSONB_VERSION);
    }
    let start = out.len();
    json.write(row, out).map_err(|_| Refusal::BadValue)?;
    if is_jsonb && out[start..].contains(&b'\\') && escapes(&out[start..]) == Escapes::Nul {
        if !removes_nul {
            return Err(Refusal::Nul);
        }
        // Rare enough for a copy.
        let written = out.split_off(start);
        put_without_nul(&written, out);
    }
    Ok(())
}

pub(super) fn put_uuid_text(octets: &[u8], out: &mut Vec<u8>) {
    for (index, octet) in octets.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        for digit in [octet >> 4, octet & 15] {
            out.push(if digit < 10 {
                b'0' + digit
            } else {
                b'a' + digit - 10
            });
        }
    }
}

/// Appends an array of one dimension: dimensions, whether there are nulls, element type, length, lower bound, elements.
pub(super) fn put_array(
    items: &Values,
    from: usize,
    to: usize,
    element_oid: u32,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let has_null = (from..to).any(|index| items.is_null(index));
    let dimensions = i32::from(from < to);
    out.extend_from_slice(&dimensions.to_be_bytes());
    out.extend_from_slice(&i32::from(has_null).to_be_bytes());
    out.extend_from_slice(&element_oid.to_be_bytes());
    if from == to {
        return Ok(());
    }
    let count = i32::try_from(to - from).map_err(|_| Refusal::TooLarge)?;
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    for index in from..to {
        put_field(items, index, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_more_than_1_gb_is_refused() {
        assert_eq!(
            length(VALUE_BYTES_MAX),
            Ok((VALUE_BYTES_MAX as u32).to_be_bytes())
        );
        assert_eq!(length(VALUE_BYTES_MAX + 1), Err(Refusal::TooLarge));
        assert_eq!(length(usize::MAX), Err(Refusal::TooLarge));
    }
}
