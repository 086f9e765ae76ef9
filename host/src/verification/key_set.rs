//! A set of keys in bounded memory, each as a digest of 128 bits.
//!
//! What does not fit is divided into classes by the digest: the set then holds one class only, and the others are looked at
//! in further passes. The memory is reserved once and never grows. Neighbour: `orphans` makes the passes.

use super::canonical::{ColumnEncoder, Encoded};
use super::losses::FieldLosses;
use whimbrel_plugin_api::{Batch, Result};

/// A part of all digests: those whose remainder by `of`, a power of two, is `number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) number: u128,
    pub(super) of: u128,
}

impl Class {
    pub(super) const ALL: Self = Self { number: 0, of: 1 };

    pub(super) fn has(self, digest: u128) -> bool {
        digest & (self.of - 1) == self.number
    }

    /// The half that the set goes on with, and the half that is left for later.
    fn halves(self) -> (Self, Self) {
        let half = |number| Self {
            number,
            of: self.of * 2,
        };
        (half(self.number), half(self.number + self.of))
    }
}

/// The digests of keys.
pub(super) struct KeySet {
    keys: Vec<u128>,
    keys_max: usize,
    class: Class,
    /// Classes that did not fit.
    later: Vec<Class>,
    may_divide: bool,
}

impl KeySet {
    /// An empty set of one class that holds at most `keys_max` digests. Unless it `may_divide`, more do not fit.
    pub(super) fn new(keys_max: usize, class: Class, may_divide: bool) -> Self {
        Self {
            // Memory that is reserved and not touched costs nothing.
            keys: Vec::with_capacity(keys_max.max(1)),
            keys_max: keys_max.max(1),
            class,
            later: Vec::new(),
            may_divide,
        }
    }

    /// Adds a digest, if it is of the class; false if there is no room and the set may not divide.
    pub(super) fn add(&mut self, digest: u128) -> bool {
        if !self.class.has(digest) {
            return true;
        }
        while self.keys.len() >= self.keys_max {
            self.in_order();
            // So much room must be won that putting in order stays rare.
            if self.keys.len() <= self.keys_max - self.keys_max.div_ceil(4) {
                break;
            }
            if !self.may_divide {
                return false;
            }
            let (first, second) = self.class.halves();
            self.class = first;
            self.later.push(second);
            self.keys.retain(|key| first.has(*key));
        }
        if self.class.has(digest) {
            self.keys.push(digest);
        }
        true
    }

    fn in_order(&mut self) {
        self.keys.sort_unstable();
        self.keys.dedup();
    }

    /// Ends the adding; answers the classes that are left for later.
    pub(super) fn seal(&mut self) -> Vec<Class> {
        self.in_order();
        self.keys.shrink_to_fit();
        std::mem::take(&mut self.later)
    }

    /// Whether `digest` is in a sealed set; `None` if it is of another class.
    pub(super) fn has(&self, digest: u128) -> Option<bool> {
        self.class
            .has(digest)
            .then(|| self.keys.binary_search(&digest).is_ok())
    }

    /// Whether this is the first of the passes over all classes.
    pub(super) fn is_first_pass(&self) -> bool {
        self.class.number == 0
    }

    /// Digests in the set.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// Makes digests of some fields of a batch.
pub(super) struct KeyDigests {
    columns: Vec<ColumnEncoder>,
    encoded: Encoded,
}

impl KeyDigests {
    /// For `fields` of `batch`; `None` if it lacks one of them.
    pub(super) fn new(batch: &Batch, fields: &[String]) -> Option<Self> {
        let columns = fields.iter().map(|field| {
            let index = batch.schema.index_of(field)?;
            let record_type = &batch.schema.fields[index].record_type;
            let column = batch.records.column(index);
            Some(ColumnEncoder::new(record_type, column, FieldLosses::NONE))
        });
        Some(Self {
            columns: columns.collect::<Option<_>>()?,
            encoded: Encoded::default(),
        })
    }

    /// The digest of the fields in `row`; `None` if one of them is null or absent, which points to nothing.
    pub(super) fn of(&mut self, row: usize) -> Result<Option<u128>> {
        if self.columns.iter().any(|column| column.is_null(row)) {
            return Ok(None);
        }
        self.encoded.clear();
        for column in &self.columns {
            column.encode(row, true, &mut self.encoded)?;
        }
        let hash = blake3::hash(self.encoded.octets());
        let head = hash.as_bytes().first_chunk().expect("a hash has 32 octets");
        Ok(Some(u128::from_be_bytes(*head)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u32) -> u128 {
        let hash = blake3::hash(&number.to_be_bytes());
        u128::from_be_bytes(*hash.as_bytes().first_chunk().unwrap())
    }

    #[test]
    fn a_set_never_takes_more_room_than_it_was_given_and_its_classes_hold_each_key_once() {
        let (keys_max, count) = (100, 5_000_u32);
        let mut waiting = vec![Class::ALL];
        let (mut passes, mut held) = (0, 0);
        while let Some(class) = waiting.pop() {
            let mut set = KeySet::new(keys_max, class, true);
            // Each key comes twice, which costs no room for long.
            for number in (0..count).chain(0..count) {
                assert!(set.add(digest(number)));
                assert!(set.keys.capacity() == keys_max && set.keys.len() <= keys_max);
            }
            waiting.extend(set.seal());
            for number in 0..count {
                assert_ne!(set.has(digest(number)), Some(false));
            }
            for number in count..count + 100 {
                assert_ne!(set.has(digest(number)), Some(true));
            }
            held += set.len();
            passes += 1;
        }
        assert_eq!(held, count as usize);
        assert!((64..=256).contains(&passes), "{passes} passes");
    }

    #[test]
    fn a_set_that_may_not_divide_says_that_it_is_full() {
        let mut set = KeySet::new(8, Class::ALL, false);
        assert!((0..8).all(|number| set.add(digest(number))));
        assert!(!set.add(digest(8)));
        let mut doubled = KeySet::new(8, Class::ALL, false);
        assert!((0..100).all(|number| doubled.add(digest(number % 4))));
        doubled.seal();
        assert_eq!(doubled.len(), 4);
    }
}
