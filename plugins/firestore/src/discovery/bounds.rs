//! Paths that divide a collection into parts of equal size, found while its documents pass by in order.
//!
//! Every k-th path is kept; whenever there are too many, every other one goes and k doubles. Memory is bounded whatever
//! passes by, and all parts but the last hold the same number of documents.

/// Paths kept of one collection: enough to choose evenly among for any number of readers.
pub(super) const BOUNDS_MAX: usize = 512;

/// Every k-th path.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    paths: Vec<String>,
    /// Documents between two of them.
    stride: u64,
    /// Documents that have passed.
    passed: u64,
    bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            stride: 1,
            passed: 0,
            bytes: 0,
        }
    }
}

impl Bounds {
    /// Takes note of the next document. Returns the octets that are kept more than before, which may be fewer.
    pub(super) fn pass(&mut self, path: &str) -> isize {
        let before = self.bytes;
        // The first document begins the first part, which needs no bound.
        if self.passed > 0 && self.passed.is_multiple_of(self.stride) {
            self.paths.push(path.to_owned());
            self.bytes += path.len();
            if self.paths.len() > BOUNDS_MAX {
                self.thin();
            }
        }
        self.passed += 1;
        self.bytes.cast_signed() - before.cast_signed()
    }

    /// Keeps every other path.
    pub(super) fn thin(&mut self) {
        self.stride *= 2;
        // The path at index i is that of document (i + 1) * k.
        let mut number = 0_u64;
        self.paths.retain(|_| {
            number += 1;
            number.is_multiple_of(2)
        });
        self.bytes = self.paths.iter().map(String::len).sum();
    }

    /// Octets of the paths that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The paths, in order.
    pub(super) fn into_paths(self) -> Vec<String> {
        self.paths
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_of_one_size_but_for_the_last(record_count in 1_u64..20_000) {
            let mut bounds = Bounds::default();
            let mut kept = 0_isize;
            for number in 0..record_count {
                kept += bounds.pass(&format!("c/{number}"));
            }
            prop_assert_eq!(kept, bounds.bytes().cast_signed());
            let paths = bounds.into_paths();
            prop_assert!(paths.len() <= BOUNDS_MAX);
            // Never thinner than need be.
            prop_assert!(paths.len() as u64 >= (record_count - 1).min(BOUNDS_MAX as u64 / 2));
            let starts: Vec<u64> = paths.iter().map(|path| path[2..].parse().unwrap()).collect();
            if let Some(size) = starts.first().copied() {
                for (index, start) in (1..).zip(starts) {
                    prop_assert_eq!(start, index * size);
                }
                prop_assert!(record_count - paths.len() as u64 * size <= size);
            }
        }
    }
}
