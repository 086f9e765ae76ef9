//! Where each value of a job comes from and stands: file, line and column, variable or flag for each JSON pointer.
//!
//! Made by `yaml.rs` while reading and by `layers.rs` while laying one source of values over the other, kept with the
//! job, so that faults found later (in a plugin's own config, whose schema arrives at run time) still name the line.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::origin::{Layer, Origin};

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
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct SpanNode {
    pub(crate) key: Option<Place>,
    pub(crate) value: Place,
    /// Which of [`Spans::layers`] it comes from.
    pub(crate) layer: u16,
    /// Set if the value could not be read and stands as null; never set in a job that was loaded.
    pub(crate) unreadable: bool,
    /// The text as it is written, if it holds references.
    pub(crate) written: Option<Box<str>>,
    /// Set if the text is one reference and nothing else: it may become a number where one is wanted.
    pub(crate) is_reference: bool,
    /// Set if the value holds a secret.
    pub(crate) is_secret: bool,
    /// By key, or by index in decimal.
    pub(crate) parts: BTreeMap<String, Self>,
}

impl SpanNode {
    /// Of a value that no file holds.
    pub(crate) fn of_layer(layer: u16) -> Self {
        Self {
            layer,
            ..Self::default()
        }
    }

    /// Says of it and all its parts that they come from `layer`.
    pub(crate) fn put_in_layer(&mut self, layer: u16) {
        self.layer = layer;
        self.parts.values_mut().for_each(|part| part.put_in_layer(layer));
    }

    /// The node at exactly `pointer`.
    pub(crate) fn find_mut(&mut self, pointer: &str) -> Option<&mut Self> {
        let mut at = self;
        for segment in segments(pointer) {
            at = at.parts.get_mut(&segment)?;
        }
        Some(at)
    }

    /// Counts it and all its parts as secret.
    pub(crate) fn hide(&mut self) {
        self.is_secret = true;
        self.parts.values_mut().for_each(Self::hide);
    }

    /// The node at `pointer`; nodes that are missing are made, in `layer`.
    pub(crate) fn at_mut(&mut self, pointer: &str, layer: u16) -> &mut Self {
        let mut at = self;
        for segment in segments(pointer) {
            at = at.parts.entry(segment).or_insert_with(|| Self::of_layer(layer));
        }
        at
    }
}

/// What a written text may hold is not for everybody's eyes.
impl fmt::Debug for SpanNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanNode")
            .field("key", &self.key)
            .field("value", &self.value)
            .field("layer", &self.layer)
            .field("is_secret", &self.is_secret)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

/// The places of all values of one job, asked for by JSON pointer, whichever file, variable or flag they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans {
    pub(crate) root: SpanNode,
    /// What values come from; the first one is the job file.
    pub(crate) layers: Vec<Layer>,
}

impl Spans {
    pub(crate) const fn new(root: SpanNode) -> Self {
        Self {
            root,
            layers: Vec::new(),
        }
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

    /// Where the value at `pointer` stands, as errors say it: path, line and column, or the variable or flag. If
    /// nothing holds it, the nearest value around it.
    pub fn place(&self, pointer: &str) -> String {
        self.say(self.layer(pointer), self.value(pointer))
    }

    /// What the value at `pointer` comes from.
    pub fn origin(&self, pointer: &str) -> Origin {
        let (node, true) = self.nearest(pointer) else {
            return Origin::Default;
        };
        match self.layers.get(usize::from(node.layer)) {
            Some(Layer::File(path)) => Origin::File {
                path: path.clone(),
                place: node.value,
            },
            Some(Layer::Variable(name)) => Origin::Variable { name: name.clone() },
            Some(Layer::PluginVariable(name)) => Origin::PluginVariable { name: name.clone() },
            Some(Layer::Flag(name)) => Origin::Flag { name: name.clone() },
            None => Origin::Default,
        }
    }

    /// The layer of the value at `pointer`, or of the nearest around it.
    pub(crate) fn layer(&self, pointer: &str) -> u16 {
        self.nearest(pointer).0.layer
    }

    /// `place` of the layer with this index, as errors say it.
    pub(crate) fn say(&self, layer: u16, place: Place) -> String {
        match self.layers.get(usize::from(layer)) {
            Some(Layer::File(path)) => format!("{}:{place}", path.display()),
            Some(Layer::Variable(name) | Layer::PluginVariable(name)) => format!("variable {name}"),
            Some(Layer::Flag(name)) => format!("flag {name}"),
            None => place.to_string(),
        }
    }

    /// The index of `layer`, which is added if it is new.
    pub(crate) fn layer_of(&mut self, layer: Layer) -> u16 {
        let index = self.layers.iter().position(|known| *known == layer);
        let index = index.unwrap_or_else(|| {
            self.layers.push(layer);
            self.layers.len() - 1
        });
        // A job has two files, and its variables and flags are counted in tens.
        u16::try_from(index).unwrap_or(u16::MAX)
    }

    /// The node at exactly `pointer`.
    pub(crate) fn node(&self, pointer: &str) -> Option<&SpanNode> {
        match self.nearest(pointer) {
            (node, true) => Some(node),
            _ => None,
        }
    }

    /// Whether the value at `pointer` holds a secret.
    pub fn is_secret(&self, pointer: &str) -> bool {
        self.node(pointer).is_some_and(|node| node.is_secret)
    }

    /// Whether the value at `pointer` could not be read.
    pub(crate) fn is_unreadable(&self, pointer: &str) -> bool {
        self.node(pointer).is_some_and(|node| node.unreadable)
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
