//! From entries to collections: which keys are records of which collection, and which records cannot be delivered.
//!
//! The rules are those of the README, in its order. Every entry ends as records, or as rejected ones, of exactly one
//! collection; types are not looked at here (`inference`).

use std::collections::{BTreeMap, HashMap, HashSet};

use whimbrel_plugin_api::{RejectedRecord, Result, Services};

use crate::arena::{Arena, Span};
use crate::config::{CollectionNames, LocalStorageConfig, LoneSurrogates};
use crate::export_file::{Entry, Export};
use crate::json_text;
use crate::names::{self, VALUES};
use crate::refusal::{LONE_SURROGATE, Refusal, refusals};

/// Characters of a key before `:` or `/` that can be a collection's name.
const PREFIX_CHARS_MAX: usize = 64;
/// Characters of a key in the place of a rejected record; its data has the whole key.
const KEY_SHOWN_CHARS_MAX: usize = 120;
/// How often the host is asked whether to go on, in entries.
const CANCEL_CHECK_ENTRIES: usize = 4_096;

/// A record, or one that is not delivered, in its place.
#[derive(Debug)]
pub enum Slot {
    Record(Record),
    Rejected(Box<RejectedRecord>),
}

/// Where a record's parts are.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub origin: Option<u32>,
    pub key: Span,
    pub key_replaced: bool,
    pub id: Id,
    pub body: Body,
}

impl Record {
    /// Octets of the record's own text.
    pub fn size_bytes(&self) -> u64 {
        match self.body {
            Body::Object(span) | Body::Json(span) | Body::Text { span, .. } => span.size() as u64,
        }
    }
}

/// What tells the records of one key apart.
#[derive(Debug, Clone, Copy)]
pub enum Id {
    /// Part of the key, or the name of a member.
    Text { span: Span, replaced: bool },
    /// Position in a list.
    Index(u32),
}

/// What a record holds.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// A JSON object whose members are fields.
    Object(Span),
    /// JSON text kept as one value.
    Json(Span),
    /// Text that is no JSON.
    Text { span: Span, replaced: bool },
}

/// The records of one collection, in the order of the file.
#[derive(Debug, Default)]
pub struct Group {
    /// The name, as the keys give it.
    pub exact_name: String,
    /// The name that is announced.
    pub name: String,
    pub slots: Vec<Slot>,
}

impl Group {
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Record(record) => Some(record),
            Slot::Rejected(_) => None,
        })
    }
}

/// What an entry looks like on its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Shape 1, split at this octet of the key.
    Prefixed { at: usize, is_object: bool },
    /// Shape 2.
    List,
    /// Shape 3.
    Map,
    /// Everything else.
    Plain,
}

/// Divides the entries into collections, sorted by name. Names of members join the arena.
pub fn group(
    text: &str,
    export: &mut Export,
    config: &LocalStorageConfig,
    services: &Services,
) -> Result<Vec<Group>> {
    let mut classes = Vec::with_capacity(export.entries.len());
    for (index, entry) in export.entries.iter().enumerate() {
        if index.is_multiple_of(CANCEL_CHECK_ENTRIES) {
            services.check_cancelled()?;
        }
        classes.push(classify(
            entry.key.of(&export.arena.0),
            entry.value.of(&export.arena.0),
        ));
    }
    let refused = refusals(export, config);
    let collections = collection_names(export, &classes, &refused);
    let mut grouping = Grouping {
        text,
        config,
        profile_origins: export
            .form
            .is_profile()
            .then(|| export.origins.clone().unwrap_or_default()),
        groups: BTreeMap::new(),
    };
    for (index, entry) in export.entries.iter().enumerate() {
        if index.is_multiple_of(CANCEL_CHECK_ENTRIES) {
            services.check_cancelled()?;
        }
        grouping.place(
            entry,
            classes[index],
            refused.get(&index),
            &collections,
            &mut export.arena,
        );
    }
    Ok(named(grouping.groups, config.collection_names))
}

fn named(groups: BTreeMap<String, Group>, names: CollectionNames) -> Vec<Group> {
    let given = match names {
        CollectionNames::Exact => BTreeMap::new(),
        CollectionNames::Distinct => names::distinct_collections(groups.keys().cloned()),
    };
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|(exact, group)| Group {
            name: given.get(&exact).unwrap_or(&exact).clone(),
            exact_name: exact,
            ..group
        })
        .collect();
    groups.sort_by(|left, right| left.name.cmp(&right.name));
    groups
}

/// Where a key of shape 1 divides: the octet of its first `:` or `/`.
fn split(key: &str) -> Option<usize> {
    let at = key.find([':', '/'])?;
    let (prefix, id) = (&key[..at], &key[at + 1..]);
    let is_name = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '.');
    let is_prefix = !prefix.is_empty()
        && !prefix.starts_with('_')
        && prefix.chars().all(is_name)
        && prefix.chars().count() <= PREFIX_CHARS_MAX;
    // `https://...` is an address, not a record.
    (is_prefix && !id.is_empty() && !id.starts_with("//")).then_some(at)
}

fn classify(key: &str, value: &str) -> Class {
    let first = value.trim_ascii_start().bytes().next();
    if let Some(at) = split(key) {
        return Class::Prefixed {
            at,
            is_object: first == Some(b'{') && json_text::is_json(value),
        };
    }
    if key.is_empty() || key == VALUES {
        return Class::Plain;
    }
    match first {
        Some(b'[') if json_text::elements(value).is_ok_and(|elements| !elements.is_empty()) => Class::List,
        Some(b'{') => match json_text::distinct_members(value) {
            Some(members)
                if !members.is_empty() && members.iter().all(|(_, value)| value.starts_with('{')) =>
            {
                Class::Map
            }
            _ => Class::Plain,
        },
        _ => Class::Plain,
    }
}

/// The collections besides `_values`: keys of lists and maps, and prefixes of an object or of several keys.
fn collection_names(
    export: &Export,
    classes: &[Class],
    refused: &HashMap<usize, Refusal>,
) -> HashSet<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (index, (entry, class)) in export.entries.iter().zip(classes).enumerate() {
        if refused.contains_key(&index) {
            continue;
        }
        let key = entry.key.of(&export.arena.0);
        match class {
            Class::Prefixed { at, is_object } => {
                *counts.entry(&key[..*at]).or_default() += if *is_object { 2 } else { 1 }
            }
            Class::List | Class::Map => *counts.entry(key).or_default() += 2,
            Class::Plain => {}
        }
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(name, _)| name.to_owned())
        .collect()
}

struct Grouping<'a> {
    text: &'a str,
    config: &'a LocalStorageConfig,
    /// The origins of a profile, in which entries have no place but their key.
    profile_origins: Option<Vec<String>>,
    groups: BTreeMap<String, Group>,
}

impl Grouping<'_> {
    fn place(
        &mut self,
        entry: &Entry,
        class: Class,
        refusal: Option<&Refusal>,
        collections: &HashSet<String>,
        arena: &mut Arena,
    ) {
        let key = entry.key.of(&arena.0);
        let collection = match class {
            Class::Prefixed { at, .. } => &key[..at],
            Class::List | Class::Map => key,
            Class::Plain => VALUES,
        };
        let collection = if collections.contains(collection) {
            collection
        } else {
            VALUES
        }
        .to_owned();
        let slots = if let Some(refusal) = refusal {
            let (key, value) = (entry.raw.0.of(self.text), entry.raw.1.of(self.text));
            vec![self.rejected(
                entry,
                None,
                refusal.code(),
                refusal.message(),
                format!("{key}: {value}"),
            )]
        } else {
            match class {
                _ if collection == VALUES => {
                    vec![self.slot(entry, None, plain_id(entry), plain_body(entry, arena), arena)]
                }
                Class::Prefixed { at, is_object } => {
                    let start = entry.key.start + at as u32 + 1;
                    let id = Id::Text {
                        span: Span { start, ..entry.key },
                        replaced: entry.key_replaced,
                    };
                    let body = match value_body(entry, arena) {
                        Body::Json(span) if is_object => Body::Object(span),
                        body => body,
                    };
                    vec![self.slot(entry, None, id, body, arena)]
                }
                Class::List => self.list(entry, arena),
                Class::Map | Class::Plain => self.map(entry, arena),
            }
        };
        self.groups.entry(collection).or_default().slots.extend(slots);
    }

    fn list(&self, entry: &Entry, arena: &Arena) -> Vec<Slot> {
        let elements = json_text::elements(entry.value.of(&arena.0)).unwrap_or_default();
        let slot = |(index, element): (usize, &str)| {
            let span = arena.span_of(element);
            let body = if element.starts_with('{') {
                Body::Object(span)
            } else {
                Body::Json(span)
            };
            self.slot(entry, Some(index), Id::Index(index as u32), body, arena)
        };
        elements.into_iter().enumerate().map(slot).collect()
    }

    fn map(&self, entry: &Entry, arena: &mut Arena) -> Vec<Slot> {
        let members = json_text::distinct_members(entry.value.of(&arena.0)).unwrap_or_default();
        let members: Vec<(String, bool, Span)> = members
            .into_iter()
            .map(|(name, value)| (name.text.into_owned(), name.replaced, arena.span_of(value)))
            .collect();
        let mut slots = Vec::with_capacity(members.len());
        for (index, (name, replaced, value)) in members.into_iter().enumerate() {
            if replaced && self.config.lone_surrogates == LoneSurrogates::Reject {
                slots.push(self.lone(entry, index, value.of(&arena.0)));
                continue;
            }
            let id = Id::Text {
                span: arena.add(&name),
                replaced,
            };
            slots.push(self.slot(entry, Some(index), id, Body::Object(value), arena));
        }
        slots
    }

    /// A record, unless it holds half of a surrogate pair and may not.
    fn slot(&self, entry: &Entry, index: Option<usize>, id: Id, body: Body, arena: &Arena) -> Slot {
        if let Body::Object(json) | Body::Json(json) = body
            && self.config.lone_surrogates == LoneSurrogates::Reject
            && json_text::has_lone_half(json.of(&arena.0))
        {
            return match index {
                Some(index) => self.lone(entry, index, json.of(&arena.0)),
                None => {
                    let (key, value) = (entry.raw.0.of(self.text), entry.raw.1.of(self.text));
                    let refusal = Refusal::LoneSurrogate;
                    self.rejected(
                        entry,
                        None,
                        refusal.code(),
                        refusal.message(),
                        format!("{key}: {value}"),
                    )
                }
            };
        }
        let Entry {
            origin,
            key,
            key_replaced,
            ..
        } = *entry;
        Slot::Record(Record {
            origin,
            key,
            key_replaced,
            id,
            body,
        })
    }

    fn lone(&self, entry: &Entry, index: usize, json: &str) -> Slot {
        let message = "the record holds half of a surrogate pair";
        self.rejected(entry, Some(index), LONE_SURROGATE, message, json.to_owned())
    }

    fn rejected(&self, entry: &Entry, index: Option<usize>, code: &str, message: &str, data: String) -> Slot {
        let place = match &self.profile_origins {
            Some(origins) => {
                let origin = entry
                    .origin
                    .map_or("", |origin| origins[origin as usize].as_str());
                let key = entry.raw.0.of(self.text);
                let end = key.char_indices().nth(KEY_SHOWN_CHARS_MAX);
                let (key, rest) = end.map_or((key, ""), |(end, _)| (&key[..end], ".."));
                format!("{}: {key}{rest} of {origin}", self.config.path)
            }
            None => format!("{}:{}", self.config.path, entry.place),
        };
        Slot::Rejected(Box::new(RejectedRecord {
            // Records of one key are told apart by their position in its value.
            record: index.map_or_else(|| place.clone(), |index| format!("{place}[{index}]")),
            row: None,
            code: code.to_owned(),
            message: message.to_owned(),
            data: Some(data),
        }))
    }
}

/// `_values` has no ids; the key stands in for one.
fn plain_id(entry: &Entry) -> Id {
    Id::Text {
        span: entry.key,
        replaced: entry.key_replaced,
    }
}

/// A value of `_values`, exactly. The JSON `null` counts as text: in a column of JSON it could not be told from no value.
fn plain_body(entry: &Entry, arena: &Arena) -> Body {
    match value_body(entry, arena) {
        Body::Json(json) if json.of(&arena.0) == "null" => Body::Text {
            span: entry.value,
            replaced: false,
        },
        Body::Json(_) => Body::Json(entry.value),
        text => text,
    }
}

/// A value as one JSON text, without white space around it, or as text.
fn value_body(entry: &Entry, arena: &Arena) -> Body {
    let value = entry.value.of(&arena.0);
    if !entry.value_replaced && json_text::is_json(value) {
        Body::Json(arena.span_of(value.trim_ascii()))
    } else {
        Body::Text {
            span: entry.value,
            replaced: entry.value_replaced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_divide_at_the_first_separator_after_a_name() {
        for (key, prefix) in [
            ("note:1", Some("note")),
            ("order/a8", Some("order")),
            ("cart:9:item:3", Some("cart")),
            ("file/docs/x:1", Some("file")),
            ("鳥:1", Some("鳥")),
            ("طائر:1", Some("طائر")),
            ("a.b-c_d:x", Some("a.b-c_d")),
            ("a//b", Some("a")),
            ("n: ", Some("n")),
            (":1", None),
            ("note:", None),
            ("_own:1", None),
            ("https://example.org", None),
            ("file:///x", None),
            ("a///b", None),
            ("two words:1", None),
            ("🐦:1", None),
            ("plain", None),
            ("", None),
        ] {
            assert_eq!(split(key).map(|at| &key[..at]), prefix, "{key:?}");
        }
        assert!(split(&format!("{}:1", "é".repeat(64))).is_some());
        assert!(split(&format!("{}:1", "é".repeat(65))).is_none());
    }
}
