//! Which dedupe keys were written lately, and where. Bounded; the oldest are forgotten first.
//! Neighbour: `appender`, which learns keys from the file and from what it writes.

use std::collections::{HashMap, VecDeque};

/// Keys that are remembered: far more than the host's outbox sends again, in less than a megabyte.
pub(crate) const KEYS_MAX: usize = 10_000;

/// Keys may be long, so their hashes are kept.
type KeyHash = [u8; 32];

/// Where a line stands: the file's inode, which renaming does not change, and the octet where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) inode: u64,
    pub(crate) start: u64,
}

impl Place {
    /// The id in the receipt.
    pub(crate) fn id(self) -> String {
        format!("{}:{}", self.inode, self.start)
    }
}

/// The keys.
#[derive(Default)]
pub(crate) struct Seen {
    places: HashMap<KeyHash, Place>,
    order: VecDeque<KeyHash>,
}

impl Seen {
    /// Where `key` was written first; an empty key is never known.
    pub(crate) fn place_of(&self, key: &str) -> Option<Place> {
        self.places.get(&hash(key)).copied()
    }

    /// Takes note of a line. The first place of a key stays.
    pub(crate) fn note(&mut self, key: &str, place: Place) {
        let hash = hash(key);
        if key.is_empty() || self.places.contains_key(&hash) {
            return;
        }
        if self.order.len() >= KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
        self.places.insert(hash, place);
        self.order.push_back(hash);
    }
}

fn hash(key: &str) -> KeyHash {
    *blake3::hash(key.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_keys_are_forgotten_first_and_empty_ones_at_once() {
        let at = |start| Place { inode: 7, start };
        let mut seen = Seen::default();
        seen.note("", at(0));
        assert_eq!(seen.place_of(""), None);
        for number in 0..=KEYS_MAX as u64 {
            seen.note(&number.to_string(), at(number));
        }
        seen.note("5", at(1_000_000));
        assert_eq!(seen.place_of("0"), None);
        assert_eq!(seen.place_of("1"), Some(at(1)));
        assert_eq!(seen.place_of("5"), Some(at(5)));
        assert_eq!(seen.places.len(), KEYS_MAX);
        assert_eq!(at(5).id(), "7:5");
    }
}
