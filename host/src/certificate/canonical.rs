//! The octets that are signed, and those that make the root: the same for the same body, whoever writes them.
//!
//! `docs/certificate.md` is the specification; a change here is a new format number.

use super::body::{Body, CollectionSection, PlaceSection};
use crate::canonical_json::canonical_json;

/// What goes into the root first, so that no other list of octets makes the same one.
const ROOT_CONTEXT: &[u8] = b"whimbrel migration certificate, root, format 1\n";

/// The body as JSON without blanks, the members of each object sorted by the octets of their names.
pub fn octets(body: &Body) -> Vec<u8> {
    // Without fractions and with texts as keys there is nothing that JSON cannot write.
    let value = serde_json::to_value(body).unwrap_or_default();
    canonical_json(&value).into_bytes()
}

/// BLAKE3 of `octets`, 64 hexadecimal digits.
pub fn checksum(octets: &[u8]) -> String {
    blake3::hash(octets).to_hex().to_string()
}

/// The digest of all collections: names, fields, key, and the digests of the three places. `None` if a digest is not made of
/// as many hexadecimal digits as it must have.
pub fn root(collections: &[CollectionSection]) -> Option<String> {
    let mut hasher = Hasher(blake3::Hasher::new());
    hasher.0.update(ROOT_CONTEXT);
    hasher.number(collections.len() as u64);
    for collection in collections {
        hasher.text(&collection.source);
        hasher.text(&collection.sink);
        hasher.texts(&collection.fields);
        hasher.texts(&collection.key);
        for (_, place) in collection.digests.named() {
            hasher.place(place)?;
        }
    }
    Some(hasher.0.finalize().to_hex().to_string())
}

struct Hasher(blake3::Hasher);

impl Hasher {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn texts(&mut self, texts: &[String]) {
        self.number(texts.len() as u64);
        texts.iter().for_each(|text| self.text(text));
    }

    fn place(&mut self, place: Option<&PlaceSection>) -> Option<()> {
        let Some(place) = place else {
            self.0.update(&[0]);
            return Some(());
        };
        self.0.update(&[1]);
        self.number(place.record_count);
        self.0.update(&bits_128(&place.sum)?.to_be_bytes());
        self.0.update(&bits_128(&place.xor)?.to_be_bytes());
        let (upper, lower) = place.root.split_at_checked(32)?;
        self.0.update(&bits_128(upper)?.to_be_bytes());
        self.0.update(&bits_128(lower)?.to_be_bytes());
        Some(())
    }
}

/// The number that 32 lower-case hexadecimal digits stand for.
pub fn bits_128(digits: &str) -> Option<u128> {
    let is_digit = |octet: u8| matches!(octet, b'0'..=b'9' | b'a'..=b'f');
    (digits.len() == 32 && digits.bytes().all(is_digit))
        .then(|| u128::from_str_radix(digits, 16).ok())
        .flatten()
}
