//! Where each value of a job file stands: line and column for each JSON pointer.
//!
//! Made by `yaml.rs` while reading, kept with the job, so that faults found later (in a plugin's own config, whose
//! schema arrives at run time) still name the line. Neighbour: `fault.rs` turns a pointer into a place.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A position in a text, both counted from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Place {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl Default for Place {
    fn default() -> Self {
        Self::START
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Where one value stands, the key that it belongs to, and the same of its parts.
///
/// A tree rather than a table of pointers: pointers repeat all keys above, which a hostile file could make long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpanNode {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Place>,
    pub(crate) value: Place,
    /// Set if the value could not be read and stands as null; never set in a job that was loaded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unreadable: bool,
    /// By key, or by index in decimal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) parts: BTreeMap<String, Self>,
}

/// The places of all values of one file, asked for by JSON pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spans {
    root: SpanNode,
}

impl Spans {
    pub(crate) const fn new(root: SpanNode) -> Self {
        Self { root }
    }

    /// The value at `pointer`; if the file does not have it, the key of the nearest value around it.
    pub fn value(&self, pointer: &str) -> Place {
        match self.nearest(pointer) {
            (node, true) => node.value,
            (node, false) => node.key.unwrap_or(node.value),
        }
    }

    /// The key of the value at `pointer`, or the value where there is no key; if the file does not have it, that of
    /// the nearest value around it.
    pub fn key(&self, pointer: &str) -> Place {
        let (node, _) = self.nearest(pointer);
        node.key.unwrap_or(node.value)
    }

    /// Whether the value at `pointer` could not be read.
    pub(crate) fn is_unreadable(&self, pointer: &str) -> bool {
        let (node, exact) = self.nearest(pointer);
        exact && node.unreadable
    }

    /// The node at `pointer`, or the nearest above it, and whether it is the one itself.
    fn nearest(&self, pointer: &str) -> (&SpanNode, bool) {
        let mut at = &self.root;
        for segment in segments(pointer) {
            match at.parts.get(&segment) {
                Some(part) => at = part,
                None => return (at, false),
            }
        }
        (at, true)
    }
}

/// `pointer` with one more segment, escaped as RFC 6901 asks.
pub(crate) fn join(pointer: &str, segment: &str) -> String {
    format!("{pointer}/{}", segment.replace('~', "~0").replace('/', "~1"))
}

/// The segments of a pointer, unescaped.
pub(crate) fn segments(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer
        .split('/')
        .skip(1)
        .map(|segment| segment.replace("~1", "/").replace("~0", "~"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_the_file_lacks_is_placed_at_what_should_hold_it() {
        let place = |line, column| Place { line, column };
        let import = SpanNode {
            key: Some(place(4, 1)),
            value: place(5, 3),
            ..SpanNode::default()
        };
        let parts = BTreeMap::from([("import".to_owned(), import)]);
        let spans = Spans::new(SpanNode {
            parts,
            ..SpanNode::default()
        });
        assert_eq!(spans.value("/import"), place(5, 3));
        assert_eq!(spans.key("/import"), place(4, 1));
        assert_eq!(spans.value("/import/max_errors/deeper"), place(4, 1));
        assert_eq!(spans.value("/elsewhere"), place(1, 1));
        assert_eq!(Spans::default().value("/a"), Place::START);
    }

    #[test]
    fn segments_with_slash_and_tilde_survive() {
        let pointer = join(&join("", "a/b"), "~1");
        assert_eq!(pointer, "/a~1b/~01");
        assert_eq!(segments(&pointer).collect::<Vec<_>>(), ["a/b", "~1"]);
        assert_eq!(segments("").count(), 0);
    }
}
