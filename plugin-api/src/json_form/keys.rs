//! Which position a key of an object has among the fields.
//!
//! Records mostly have their keys in one order with a few left out, so the next positions are tried before
//! the hash map is asked.

use std::collections::HashMap;

/// How many positions are compared before the map is asked: a miss costs one comparison of lengths, a hash
/// about ten.
const TRIED_FIRST: usize = 4;

/// The names of the fields of one object.
#[derive(Debug)]
pub(super) struct Keys {
    names: Vec<Box<str>>,
    positions: HashMap<Box<str>, usize>,
}

impl Keys {
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let names: Vec<Box<str>> = names.map(Box::from).collect();
        let positions = names
            .iter()
            .enumerate()
            .map(|(position, name)| (name.clone(), position))
            .collect();
        Self { names, positions }
    }

    /// The position of `key`, which is likely at or soon behind `expected`.
    pub(super) fn find(&self, key: &str, expected: usize) -> Option<usize> {
        let near = self.names.get(expected..).unwrap_or_default();
        near.iter()
            .take(TRIED_FIRST)
            .position(|name| **name == *key)
            .map(|ahead| expected + ahead)
            .or_else(|| self.positions.get(key).copied())
    }

    pub(super) fn name(&self, position: usize) -> &str {
        &self.names[position]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_wherever_it_is_expected() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let keys = Keys::new(names.into_iter());
        for expected in 0..=names.len() + 1 {
            for (position, name) in names.iter().enumerate() {
                assert_eq!(keys.find(name, expected), Some(position));
            }
            assert_eq!(keys.find("x", expected), None);
        }
    }
}
