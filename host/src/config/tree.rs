//! The values of a YAML text as they stand there, before aliases are expanded, and what they would cost.
//!
//! Neighbours: `yaml.rs` builds a tree from the parser's events and watches its cost; [`expand`] makes a JSON value
//! and the places of its parts.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::spans::{Place, SpanNode};

/// One value; shared, so that an alias costs nothing before it is expanded.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its first character.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) content: Content,
    /// What it amounts to.
    pub(crate) cost: Cost,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Content {
    /// Text, a number, true, false or null.
    Scalar(Value),
    /// A list.
    List(Vec<Rc<Node>>),
    /// A mapping: keys in the order of the text, no key twice.
    Map(Vec<Entry>),
    /// Another value's stand-in.
    Alias(Rc<Node>),
    /// At fault, which has been said.
    Unreadable,
}

/// A key and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Rc<Node>,
}

/// What a value amounts to with all aliases in it expanded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// It and all values in it.
    pub(crate) values: u64,
    /// Octets of its texts and keys.
    pub(crate) text_bytes: u64,
    /// Lists and mappings inside each other.
    pub(crate) depth: usize,
}

impl Cost {
    pub(crate) fn of_text(text: &str) -> Self {
        Self {
            values: 1,
            text_bytes: text.len() as u64,
            depth: 0,
        }
    }

    /// Of a list or mapping without parts.
    pub(crate) const fn of_collection() -> Self {
        Self {
            values: 1,
            text_bytes: 0,
            depth: 1,
        }
    }

    pub(crate) fn add_part(&mut self, part: Self) {
        self.add_beside(part);
        self.depth = self.depth.max(part.depth + 1);
    }

    pub(crate) fn add_beside(&mut self, other: Self) {
        self.values = self.values.saturating_add(other.values);
        self.text_bytes = self.text_bytes.saturating_add(other.text_bytes);
    }
}

impl Node {
    pub(crate) fn unreadable(place: Place) -> Self {
        Self {
            place,
            content: Content::Unreadable,
            cost: Cost::of_text(""),
        }
    }
}

/// The value of `node`, and the places of it and all its parts; as many calls deep as its cost says.
///
/// Behind an alias, the parts are placed where they are written, the whole where it is used.
pub(crate) fn expand(node: &Node, key: Option<Place>) -> (Value, SpanNode) {
    let mut span = SpanNode {
        key,
        value: node.place,
        ..SpanNode::default()
    };
    let mut content = &node.content;
    while let Content::Alias(target) = content {
        content = &target.content;
    }
    let value = match content {
        Content::Scalar(value) => value.clone(),
        Content::List(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let (value, part) = expand(item, None);
                values.push(value);
                span.parts.insert(index.to_string(), part);
            }
            Value::Array(values)
        }
        Content::Map(entries) => {
            let mut members = Map::new();
            for entry in entries {
                let (value, part) = expand(&entry.value, Some(entry.place));
                members.insert(entry.key.clone(), value);
                span.parts.insert(entry.key.clone(), part);
            }
            Value::Object(members)
        }
        Content::Alias(_) | Content::Unreadable => {
            span.unreadable = true;
            Value::Null
        }
    };
    (value, span)
}
