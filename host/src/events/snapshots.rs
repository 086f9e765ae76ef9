//! The snapshots of a source at which the records of a collection were read, as its batches name them.
//!
//! One is usual. Several there are where a source could no longer read the first one, or where a run went on with a copy that another
//! one had begun: then no single moment of the source is what was read. The names are the source's own and opaque; each names a
//! snapshot once. Neighbours: [`crate::pipeline`] and [`crate::verification`] note them, `report` and `certificate` show them.

use serde::{Deserialize, Serialize};

/// Names that are kept, so that their places are the bits of a number. Beyond that a collection was read at several all the same.
const SNAPSHOTS_MAX: usize = 64;
/// Names that a sentence has room for.
const SAID_MAX: usize = 3;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotsRead(Vec<String>);

impl SnapshotsRead {
    /// Takes note of the snapshot that a batch names; answers its place in the order in which they were met.
    pub fn note(&mut self, name: &str) -> usize {
        // Batches of one stream mostly name the one before.
        if let Some(place) = self.0.iter().rposition(|known| known == name) {
            return place;
        }
        if self.0.len() < SNAPSHOTS_MAX {
            self.0.push(name.to_owned());
        }
        self.0.len() - 1
    }

    /// Takes note of all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for name in &other.0 {
            self.note(name);
        }
    }

    /// Their names, in the order in which they were met.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether there is no moment of the source that all records are of.
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// For forms in which one snapshot is not worth a word.
    pub fn are_no_several(&self) -> bool {
        !self.are_several()
    }

    /// Whether none was named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many and which, in words: `2 snapshots of the source (`a`, `b`)`.
    pub fn in_words(&self) -> String {
        if let [only] = self.0.as_slice() {
            return format!("snapshot `{only}` of the source");
        }
        let names = |names: &[String]| {
            let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            quoted.join(", ")
        };
        let which = match self.0.as_slice() {
            all if all.len() <= SAID_MAX => names(all),
            [first, .., last] => format!("from `{first}` to `{last}`"),
            _ => String::new(),
        };
        let at_least = if self.0.len() == SNAPSHOTS_MAX {
            "at least "
        } else {
            ""
        };
        format!("{at_least}{} snapshots of the source ({which})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_snapshot_is_named_once_and_there_is_an_end_to_them() {
        let mut read = SnapshotsRead::default();
        assert!(!read.are_several());
        for (name, place) in [("b", 0), ("b", 0), ("a", 1), ("b", 0), ("c", 2)] {
            assert_eq!(read.note(name), place, "{name}");
        }
        assert_eq!(read.names(), ["b", "a", "c"]);
        assert_eq!(read.in_words(), "3 snapshots of the source (`b`, `a`, `c`)");
        let mut other = SnapshotsRead::default();
        other.note("a");
        assert!(other.are_no_several() && !other.is_empty());
        assert_eq!(other.in_words(), "snapshot `a` of the source");
        other.note("z");
        read.merge(&other);
        assert_eq!(read.in_words(), "4 snapshots of the source (from `b` to `z`)");
        for number in 0..200 {
            read.note(&number.to_string());
        }
        assert_eq!(read.names().len(), SNAPSHOTS_MAX);
        assert!(
            read.in_words().starts_with("at least 64 snapshots"),
            "{}",
            read.in_words()
        );
        assert_eq!(serde_json::to_string(&other).unwrap(), r#"["a","z"]"#);
    }
}
