//! Buckets: the digests of a collection added up, by the first bits of the digests of their keys.
//!
//! Neither the order of records nor how they were divided among readers matters, so that parts merge. Where a bucket of
//! both sides is equal, its records are. `docs/digest.md` is the specification.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::digest::Pair;
use crate::events::PartitionDigest;

/// Buckets of a collection.
pub const BUCKETS: usize = 4_096;
/// The low bits of a key's digest that are not looked at.
const SHIFT: u32 = 128 - 12;
/// A bucket as it is kept: its number (2 octets), count (8), sum and exclusive or (16 each).
const KEPT_BYTES: usize = 42;

/// Records of one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Records.
    pub count: u64,
    /// The sum of the digests of their records, modulo 2^128.
    pub sum: u128,
    /// These joined by exclusive or.
    pub xor: u128,
}

impl Bucket {
    /// Adds a record.
    pub fn add(&mut self, record: u128) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(record);
        self.xor ^= record;
    }

    /// Adds what another one holds.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.xor ^= other.xor;
    }

    /// As a report shows it.
    pub fn of_partition(&self, partition: &str) -> PartitionDigest {
        PartitionDigest {
            partition: partition.to_owned(),
            record_count: self.count,
            sum: format!("{:032x}", self.sum),
            xor: format!("{:032x}", self.xor),
        }
    }
}

/// The number of the bucket that a key belongs to.
pub fn bucket_of(key: u128) -> usize {
    (key >> SHIFT) as usize
}

/// All buckets of one side of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets(Vec<Bucket>);

impl Default for Buckets {
    fn default() -> Self {
        Self(vec![Bucket::default(); BUCKETS])
    }
}

impl Buckets {
    /// Adds a record.
    pub fn add(&mut self, pair: Pair) {
        self.0[bucket_of(pair.key)].add(pair.record);
    }

    /// Adds what others hold.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.merge(*theirs);
        }
    }

    /// All of them as one.
    pub fn total(&self) -> Bucket {
        let mut total = Bucket::default();
        for bucket in &self.0 {
            total.merge(*bucket);
        }
        total
    }

    /// The numbers of those that differ, in order.
    pub fn unequal(&self, other: &Self) -> Vec<usize> {
        (0..BUCKETS)
            .filter(|number| self.0[*number] != other.0[*number])
            .collect()
    }

    /// BLAKE3 over count (8 octets), sum and exclusive or (16 octets each) of every bucket in order, all big-endian.
    pub fn root(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for bucket in &self.0 {
            hasher.update(&bucket.count.to_be_bytes());
            hasher.update(&bucket.sum.to_be_bytes());
            hasher.update(&bucket.xor.to_be_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

impl Buckets {
    /// All that hold something, in order, 42 octets each: for a file that is read by this program alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, bucket) in (0_u16..).zip(&self.0) {
            if *bucket == Bucket::default() {
                continue;
            }
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&bucket.count.to_be_bytes());
            bytes.extend_from_slice(&bucket.sum.to_be_bytes());
            bytes.extend_from_slice(&bucket.xor.to_be_bytes());
        }
        bytes
    }

    /// What [`Self::to_bytes`] has made.
    ///
    /// # Errors
    /// `verification.work_torn` if it has not.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(bytes).ok_or_else(|| {
            Error::new(
                ErrorKind::Integrity,
                "verification.work_torn",
                "the buckets of a comparison are not what was written",
            )
            .with_help("remove the work folder of the comparison: it then begins anew")
        })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut buckets = Self::default();
        let mut smallest = 0;
        let kept = bytes.chunks_exact(KEPT_BYTES);
        if !kept.remainder().is_empty() {
            return None;
        }
        for octets in kept {
            let (number, octets) = octets.split_first_chunk()?;
            let (count, octets) = octets.split_first_chunk()?;
            let (sum, octets) = octets.split_first_chunk()?;
            let (xor, _) = octets.split_first_chunk()?;
            let number = usize::from(u16::from_be_bytes(*number));
            if number < smallest {
                return None;
            }
            smallest = number + 1;
            *buckets.0.get_mut(number)? = Bucket {
                count: u64::from_be_bytes(*count),
                sum: u128::from_be_bytes(*sum),
                xor: u128::from_be_bytes(*xor),
            };
        }
        Some(buckets)
    }
}

/// As base64 of [`Buckets::to_bytes`].
impl Serialize for Buckets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(self.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text).map_err(serde::de::Error::custom)?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs that look as digests do.
    fn pairs(count: u32) -> Vec<Pair> {
        let digest = |text: String| {
            let hash = blake3::hash(text.as_bytes());
            u128::from_be_bytes(*hash.as_bytes().first_chunk().unwrap())
        };
        let pair = |number| Pair {
            key: digest(format!("key {number}")),
            record: digest(format!("record {number}")),
        };
        (0..count).map(pair).collect()
    }

    fn of(pairs: &[Pair]) -> Buckets {
        let mut buckets = Buckets::default();
        for pair in pairs {
            buckets.add(*pair);
        }
        buckets
    }

    #[test]
    fn neither_order_nor_division_makes_a_difference() {
        let mut pairs = pairs(10_000);
        let whole = of(&pairs);
        let seed: u64 = std::env::var("WHIMBREL_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| fastrand::u64(..));
        println!("WHIMBREL_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for parts in [1, 2, 7, 100] {
            random.shuffle(&mut pairs);
            let mut merged = Buckets::default();
            for part in pairs.chunks(pairs.len().div_ceil(parts)) {
                merged.merge(&of(part));
            }
            assert_eq!(merged, whole, "{parts} parts");
            assert_eq!(merged.root(), whole.root());
            assert_eq!(merged.total(), whole.total());
            assert!(merged.unequal(&whole).is_empty());
        }
        assert_eq!(whole.total().count, 10_000);
    }

    #[test]
    fn a_changed_record_makes_its_own_bucket_unequal_and_no_other() {
        let pairs = pairs(10_000);
        let whole = of(&pairs);
        for index in [0, 1, 4_999, 9_999] {
            let mut changed = pairs.clone();
            changed[index].record ^= 1;
            let other = of(&changed);
            assert_eq!(whole.unequal(&other), [bucket_of(pairs[index].key)]);
            assert_ne!(whole.root(), other.root());
            changed.swap_remove(index);
            assert_eq!(whole.unequal(&of(&changed)), [bucket_of(pairs[index].key)]);
        }
    }

    #[test]
    fn values_swapped_between_records_of_a_bucket_are_seen() {
        // Sum and exclusive or alone would be the same if only the records' digests changed places within one bucket; a
        // record's digest is over its key, too, so that it does not happen to whole records.
        let key = |low| (7_u128 << SHIFT) | low;
        let a = [
            Pair {
                key: key(1),
                record: 10,
            },
            Pair {
                key: key(2),
                record: 20,
            },
        ];
        let b = [
            Pair {
                key: key(1),
                record: 11,
            },
            Pair {
                key: key(2),
                record: 21,
            },
        ];
        assert_eq!(of(&a).unequal(&of(&b)), [7]);
    }

    #[test]
    fn two_equal_records_are_not_none() {
        let one = pairs(1)[0];
        // Exclusive or alone would not see them.
        assert_ne!(of(&[one, one]), Buckets::default());
        assert_eq!(of(&[one, one]).total().sum, one.record.wrapping_mul(2));
    }

    #[test]
    fn the_number_of_a_bucket_is_the_first_twelve_bits_of_the_key() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u128::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(0xabc_u128 << SHIFT), 0xabc);
        assert_eq!(bucket_of((1 << SHIFT) - 1), 0);
    }

    #[test]
    fn buckets_come_back_from_octets_and_from_text() {
        for count in [0, 1, 50, 20_000] {
            let buckets = of(&pairs(count));
            let bytes = buckets.to_bytes();
            assert!(bytes.len() <= BUCKETS.min(count as usize) * KEPT_BYTES);
            assert_eq!(Buckets::from_bytes(&bytes).unwrap(), buckets);
            let text = serde_json::to_string(&buckets).unwrap();
            assert_eq!(serde_json::from_str::<Buckets>(&text).unwrap(), buckets);
        }
    }

    #[test]
    fn octets_that_are_no_buckets_are_refused() {
        let bytes = of(&pairs(3)).to_bytes();
        let mut twice = bytes.clone();
        twice.extend_from_slice(&bytes[..KEPT_BYTES]);
        let mut beyond = bytes.clone();
        beyond[0] = 0xff;
        for wrong in [&bytes[..bytes.len() - 1], &bytes[1..], &twice, &beyond] {
            let error = Buckets::from_bytes(wrong).unwrap_err();
            assert_eq!(error.code, "verification.work_torn");
        }
        assert!(serde_json::from_str::<Buckets>("\"not base64!\"").is_err());
    }
}
