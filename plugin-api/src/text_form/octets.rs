//! Octets as hexadecimal text and identifiers as hyphenated text, both in lower case.
//!
//! Reading accepts upper case too. Hexadecimal text has no prefix and an even number of digits; an identifier
//! has its four hyphens in the usual places and nowhere else.

use super::ascii::{Ascii, Sink};

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

pub(crate) fn put_hex(octets: &[u8], out: &mut impl Sink) {
    // Half of what an `Ascii` holds, rounded down to whole cache lines.
    for piece in octets.chunks(32) {
        let mut ascii = Ascii::new();
        push_hex(piece, &mut ascii);
        out.ascii(ascii.as_slice());
    }
}

/// Appends the octets that `text` stands for; on `None`, `octets` holds a part of them.
pub(crate) fn read_hex(text: &str, octets: &mut Vec<u8>) -> Option<()> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    for [high, low] in pairs {
        octets.push(hex_value(*high)? << 4 | hex_value(*low)?);
    }
    rest.is_empty().then_some(())
}

pub(crate) fn put_uuid(octets: &[u8], out: &mut impl Sink) {
    let mut ascii = Ascii::new();
    for (index, octet) in octets.iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            ascii.push(b'-');
        }
        push_hex(&[*octet], &mut ascii);
    }
    out.ascii(ascii.as_slice());
}

pub(crate) fn read_uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut octets = [0; 16];
    let mut place = 0;
    for (index, octet) in octets.iter_mut().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            if text[place] != b'-' {
                return None;
            }
            place += 1;
        }
        *octet = hex_value(text[place])? << 4 | hex_value(text[place + 1])?;
        place += 2;
    }
    Some(octets)
}

fn push_hex(octets: &[u8], out: &mut Ascii) {
    for octet in octets {
        out.push(HEX_DIGITS[usize::from(octet >> 4)]);
        out.push(HEX_DIGITS[usize::from(octet & 15)]);
    }
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_of_every_value_and_length_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        for len in [0, 1, 31, 32, 33, 255, 256] {
            let mut text = String::new();
            put_hex(&all[..len], &mut text);
            let mut octets = Vec::new();
            read_hex(&text, &mut octets).unwrap();
            assert_eq!(octets, &all[..len]);
        }
        for bad in ["0", "0g", "0x", "é", "00 "] {
            assert_eq!(read_hex(bad, &mut Vec::new()), None, "{bad}");
        }
    }

    #[test]
    fn an_identifier_is_hyphenated() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let octets = read_uuid(text).unwrap();
        assert_eq!(octets[15], 0xff);
        let mut out = String::new();
        put_uuid(&octets, &mut out);
        assert_eq!(out, text);
        assert_eq!(read_uuid(&text.to_uppercase()), Some(octets));
        for bad in [
            "",
            "00112233445566778899aabbccddeeff",
            "{0112233-4455-6677-8899-aabbccddeef}",
            "0011223-34455-6677-8899-aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeefg",
            "00112233-4455-6677-8899-aabbccddeeff0",
        ] {
            assert_eq!(read_uuid(bad), None, "{bad}");
        }
    }
}
