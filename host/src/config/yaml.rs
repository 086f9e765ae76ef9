//! Reads YAML into a JSON value with the place of every key and value, and lists all faults of form on the way.
//!
//! It works on the parser's events, so nothing is lost that a finished tree would hide: second keys, aliases, tags,
//! documents. What a job may contain is not its matter (`validate.rs`); the words are in `syntax.rs`. Everything is
//! bounded: depth, number of values, and what aliases may expand to.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag, options};
use serde_json::Value;

use super::fault::Fault;
use super::scalar::resolve;
use super::spans::{Place, Spans};
use super::syntax;
use super::tree::{Content, Cost, Entry, Node, expand};

/// Lists and mappings inside each other; deeper than any job. With its places a job is three times as deep as JSON,
/// of which serde_json reads 128 levels.
pub(crate) const DEPTH_MAX: usize = 32;

/// Values of one file, each use of an alias counted with all that it stands for.
pub(crate) const VALUES_MAX: u64 = 100_000;

/// Octets of text of one file, aliases expanded. Four times the size that a file may have.
pub(crate) const TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Anchors that an alias without one is compared with, for a suggestion.
const ANCHOR_NAMES_MAX: usize = 64;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// The content; `None` if the file holds none, or if it could not be read to its end.
    pub(crate) value: Option<Value>,
    /// Where each value stands.
    pub(crate) spans: Spans,
    /// What is wrong with its form.
    pub(crate) faults: Vec<Fault>,
}

/// Reads `text`.
pub(crate) fn read(text: &str) -> Document {
    let mut reader = Reader::default();
    let whole = reader.run(text);
    let mut document = Document {
        faults: reader.faults,
        ..Document::default()
    };
    if whole && let Some(root) = reader.root {
        let (value, span) = expand(&root, None);
        document.value = Some(value);
        document.spans = Spans::new(span);
    }
    document
}

/// A list or mapping that is still open.
struct Frame {
    place: Place,
    anchor: usize,
    cost: Cost,
    parts: Parts,
    readable: bool,
}

enum Parts {
    List(Vec<Rc<Node>>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    /// Where each key stands first.
    seen: BTreeMap<String, Place>,
    /// The key whose value comes next.
    key: Option<Key>,
}

struct Key {
    text: String,
    place: Place,
    /// Whether the entry is kept; not if the key is at fault, which has been said.
    kept: bool,
}

/// Reading cannot go on; the fault has been noted.
struct Stop;

#[derive(Default)]
struct Reader {
    frames: Vec<Frame>,
    anchors: BTreeMap<usize, Rc<Node>>,
    anchor_names: BTreeSet<String>,
    documents: usize,
    total: Cost,
    root: Option<Rc<Node>>,
    faults: Vec<Fault>,
}

impl Reader {
    /// Whether the text was read to its end, or at least to the end of its first document.
    fn run(&mut self, text: &str) -> bool {
        let options = options! {
            emit_unresolved_aliases: true,
            emit_anchor_events: true,
            emit_comments: false,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        for event in Parser::new_from_str_with_options(text, options) {
            match event {
                Ok((event, span)) => {
                    if self.take(event, &span).is_err() {
                        return self.documents > 1;
                    }
                }
                Err(error) => {
                    self.faults.push(syntax::not_yaml(&error));
                    return false;
                }
            }
        }
        true
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Stop> {
        let place = syntax::place_of(span);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.faults.push(syntax::second_document(place));
                    return Err(Stop);
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(map) = self.map_without_key() {
                    let (key, fault) = map.key(&text, style, tag.as_deref(), span);
                    map.key = Some(key);
                    self.faults.extend(fault);
                    return self.spend_key(&text, place);
                }
                let node = self.scalar(&text, style, tag.as_deref(), span);
                self.spend(node.cost, node.place, false)?;
                self.finish(node, anchor);
                Ok(())
            }
            Event::SequenceStart(_, anchor, tag) => self.open(
                Parts::List(Vec::new()),
                anchor,
                tag.as_deref().map(|tag| (tag, "seq")),
                span,
            ),
            Event::MappingStart(_, anchor, tag) => self.open(
                Parts::Map(OpenMap::default()),
                anchor,
                tag.as_deref().map(|tag| (tag, "map")),
                span,
            ),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = self.frames.pop() {
                    let anchor = frame.anchor;
                    self.finish(frame.close(), anchor);
                }
                Ok(())
            }
            Event::Alias(id) => self.alias(self.anchors.get(&id).cloned(), place),
            Event::UnresolvedAlias(name) => {
                self.faults
                    .push(syntax::unknown_alias(place, &name, &self.anchor_names));
                self.attach(Node::unreadable(place).into());
                Ok(())
            }
            Event::Anchor(_, name) => {
                if self.anchor_names.len() < ANCHOR_NAMES_MAX {
                    self.anchor_names.insert(name.into_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The innermost mapping, if a key comes next.
    fn map_without_key(&mut self) -> Option<&mut OpenMap> {
        match self.frames.last_mut() {
            Some(Frame {
                parts: Parts::Map(map),
                ..
            }) if map.key.is_none() => Some(map),
            _ => None,
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Node {
        let absent = syntax::is_absent(span);
        let mut place = syntax::place_of(span);
        if absent
            && let Some(Frame {
                parts: Parts::Map(OpenMap { key: Some(key), .. }),
                ..
            }) = self.frames.last()
        {
            // Where a value is missing, the key in front of it is shown.
            place = key.place;
        }
        // The parser writes `~` for a value that is not there.
        let text = if absent { "" } else { text };
        let content = match resolve(text, style, tag) {
            Ok(value) => Content::Scalar(value),
            Err(fault) => {
                self.faults.push(syntax::no_scalar(fault, place, span));
                Content::Unreadable
            }
        };
        Node {
            place,
            content,
            cost: Cost::of_text(text),
        }
    }

    fn open(
        &mut self,
        parts: Parts,
        anchor: usize,
        tag: Option<(&Tag, &str)>,
        span: &Span,
    ) -> Result<(), Stop> {
        let place = syntax::place_of(span);
        if self.frames.len() >= DEPTH_MAX {
            self.faults.push(syntax::too_deep(place));
            return Err(Stop);
        }
        let fault = tag.and_then(|(tag, expected)| syntax::wrong_tag(tag, expected, span));
        let readable = fault.is_none();
        self.faults.extend(fault);
        let cost = Cost::of_collection();
        self.frames.push(Frame {
            place,
            anchor,
            cost,
            parts,
            readable,
        });
        self.spend(cost, place, false)
    }

    fn alias(&mut self, target: Option<Rc<Node>>, place: Place) -> Result<(), Stop> {
        if self.map_without_key().is_some() {
            self.faults.push(syntax::alias_as_key(place));
            self.skip_entry(place);
            return Ok(());
        }
        let Some(target) = target else {
            self.faults.push(syntax::alias_in_itself(place));
            self.attach(Node::unreadable(place).into());
            return Ok(());
        };
        let cost = target.cost;
        if self.frames.len() + cost.depth > DEPTH_MAX {
            self.faults.push(syntax::too_deep(place));
            return Err(Stop);
        }
        self.spend(cost, place, true)?;
        self.attach(
            Node {
                place,
                content: Content::Alias(target),
                cost,
            }
            .into(),
        );
        Ok(())
    }

    /// Remembers the anchor of a value that is complete, and puts it where it belongs.
    fn finish(&mut self, node: Node, anchor: usize) {
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.attach(node);
    }

    fn attach(&mut self, node: Rc<Node>) {
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return;
        };
        frame.cost.add_part(node.cost);
        let place = node.place;
        match &mut frame.parts {
            Parts::List(items) => items.push(node),
            Parts::Map(map) => match map.key.take() {
                Some(Key {
                    text,
                    place,
                    kept: true,
                }) => {
                    map.entries.push(Entry {
                        key: text,
                        place,
                        value: node,
                    });
                }
                Some(_) => {}
                None => {
                    if !matches!(node.content, Content::Unreadable) {
                        self.faults.push(syntax::key_is_no_text(place));
                    }
                    self.skip_entry(place);
                }
            },
        }
    }

    /// Leaves the value that comes next out, since its key is at fault.
    fn skip_entry(&mut self, place: Place) {
        if let Some(map) = self.map_without_key() {
            map.key = Some(Key {
                text: String::new(),
                place,
                kept: false,
            });
        }
    }

    fn spend_key(&mut self, text: &str, place: Place) -> Result<(), Stop> {
        let cost = Cost {
            text_bytes: text.len() as u64,
            ..Cost::default()
        };
        if let Some(frame) = self.frames.last_mut() {
            frame.cost.add_beside(cost);
        }
        self.spend(cost, place, false)
    }

    fn spend(&mut self, cost: Cost, place: Place, by_alias: bool) -> Result<(), Stop> {
        self.total.add_beside(cost);
        if self.total.values <= VALUES_MAX && self.total.text_bytes <= TEXT_BYTES_MAX {
            return Ok(());
        }
        self.faults.push(syntax::too_much(place, by_alias));
        Err(Stop)
    }
}

impl OpenMap {
    /// The key that `text` is, and what is wrong with it.
    fn key(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: &Span,
    ) -> (Key, Option<Fault>) {
        let place = syntax::place_of(span);
        let fault = syntax::wrong_key(text, style, tag, span).or_else(|| {
            let first = self.seen.get(text)?;
            Some(syntax::second_key(text, place, *first))
        });
        let kept = fault.is_none();
        if kept {
            self.seen.insert(text.to_owned(), place);
        }
        (
            Key {
                text: text.to_owned(),
                place,
                kept,
            },
            fault,
        )
    }
}

impl Frame {
    fn close(self) -> Node {
        let content = match self.parts {
            _ if !self.readable => Content::Unreadable,
            Parts::List(items) => Content::List(items),
            Parts::Map(map) => Content::Map(map.entries),
        };
        Node {
            place: self.place,
            content,
            cost: self.cost,
        }
    }
}
