//! The keys that are looked at, numbered in their order without gaps, and ranges of these numbers.
//!
//! Digests are spread evenly, so ranges of one size hold about as many of them. Neighbour: `difference` divides by them.

use crate::verification::bucket::{BUCKETS, bucket_of};

/// Bits of a key that follow those of its bucket and divide it further. With the 12 before them they are below 2^63.
const FURTHER_BITS: u32 = 51;

/// Keys in their order, as numbers without gaps: first those of the first bucket that is looked at, and so on.
pub(super) struct Wanted {
    /// For each bucket its number among those that are looked at.
    numbers: Vec<Option<u16>>,
    count: u64,
}

/// A range of such numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Wanted {
    /// Of these buckets, in any order.
    pub(super) fn new(buckets: impl IntoIterator<Item = usize>) -> Self {
        let mut numbers = vec![None; BUCKETS];
        for bucket in buckets {
            numbers[bucket] = Some(0);
        }
        let mut count = 0;
        for number in numbers.iter_mut().flatten() {
            *number = count;
            count += 1;
        }
        Self {
            numbers,
            count: u64::from(count),
        }
    }

    /// All of them.
    pub(super) fn range(&self) -> KeyRange {
        KeyRange {
            from: 0,
            to: self.count << FURTHER_BITS,
        }
    }

    /// The number of a key; `None` if its bucket is not looked at.
    pub(super) fn number_of(&self, key: u128) -> Option<u64> {
        let bucket = self.numbers[bucket_of(key)]?;
        let further = (key << BUCKETS.trailing_zeros() >> (u128::BITS - FURTHER_BITS)) as u64;
        Some(u64::from(bucket) << FURTHER_BITS | further)
    }
}

impl KeyRange {
    pub(super) fn has(self, number: u64) -> bool {
        (self.from..self.to).contains(&number)
    }

    /// About `count` ranges of one size, but for the last; the size.
    pub(super) fn divided(self, count: u64) -> (Vec<Self>, u64) {
        let size = (self.to - self.from).div_ceil(count).max(1);
        let starts = (self.from..self.to).step_by(usize::try_from(size).unwrap_or(usize::MAX));
        let parts = starts.map(|from| Self {
            from,
            to: self.to.min(from.saturating_add(size)),
        });
        (parts.collect(), size)
    }
}

impl KeyRange {
    /// How much of all keys there are is in it: of so many records about so many are.
    pub(super) fn share_of(self, record_count: u64) -> u64 {
        let whole = u128::from(BUCKETS as u64) << FURTHER_BITS;
        let width = u128::from(self.to - self.from);
        (u128::from(record_count) * width / whole) as u64
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(self) -> bool {
        self.from == self.to
    }

    /// Whether all of its keys have one number.
    pub(super) fn is_one(self) -> bool {
        self.to - self.from <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bucket: u128, further: u128) -> u128 {
        bucket << 116 | further << 65 | 0x1234_5678
    }

    #[test]
    fn keys_are_numbered_in_their_order_and_only_those_of_wanted_buckets() {
        let wanted = Wanted::new([4_095, 7, 7, 9]);
        let last = (1_u128 << FURTHER_BITS) - 1;
        let keys = [
            key(7, 0),
            key(7, 1),
            key(7, last),
            key(9, 0),
            key(4_095, 0),
            key(4_095, last),
        ];
        let numbers: Vec<u64> = keys.iter().map(|key| wanted.number_of(*key).unwrap()).collect();
        assert!(numbers.is_sorted() && numbers[0] == 0 && numbers[1] == 1);
        assert_eq!(numbers[2] + 1, numbers[3]);
        assert_eq!(numbers[5] + 1, wanted.range().to);
        assert_eq!(wanted.number_of(key(8, 0)), None);
        let all = Wanted::new(0..BUCKETS);
        assert_eq!(all.range().share_of(1_000), 1_000);
        assert_eq!(all.number_of(u128::MAX), Some(all.range().to - 1));
        assert_eq!(Wanted::new([]).range(), KeyRange { from: 0, to: 0 });
    }

    #[test]
    fn the_parts_of_a_range_are_all_of_it() {
        for (from, to, count) in [(0, 1 << 63, 64), (5, 6, 8), (0, 10, 3), (7, 7, 2), (0, 100, 64)] {
            let (parts, size) = KeyRange { from, to }.divided(count);
            assert!(parts.len() as u64 <= count);
            assert_eq!(
                parts.iter().map(|part| part.to - part.from).sum::<u64>(),
                to - from
            );
            for (number, part) in parts.iter().enumerate() {
                assert_eq!((part.from - from) / size, number as u64);
                assert!(part.to > part.from && (part.to - 1 - from) / size == number as u64);
                assert!(part.has(part.from) && !part.has(part.to));
            }
        }
    }
}
