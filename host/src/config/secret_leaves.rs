//! Taking secrets out of a typed value: every text in it is cleaned, but for those that its type needs as they are.
//!
//! A secret may look like a word of a closed list, such as the name of a phase, or like the digits of a cursor. Which texts are
//! such is not known beforehand, so it is tried: what the type does not give back as it was cleaned stays. Names, data of records and
//! digests stay in any case: the state needs them to the letter. Neighbour: `secrets.rs`,
//! which says what is taken out of a single text.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Members whose texts stay as they are: by these names lanes and refused records are found again, these data are sent again, and
/// these digits are compared, so that a changed one would lose a record or spoil a proof. None of them is made of settings.
const EXACT_MEMBERS: [&str; 11] = [
    "collection",
    "source",
    "sink",
    "partition",
    "record",
    "data",
    "digest",
    "sum",
    "xor",
    "root",
    "sha256",
];

/// Cleans one text.
pub(super) type Clean<'a> = dyn for<'text> Fn(&'text str) -> Cow<'text, str> + 'a;

/// A text with a secret in it and where it is. All items of a list are one place: a list of any length is tried in few steps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Leaf {
    place: String,
    text: String,
}

/// `value` without what `clean` takes out of texts. Numbers and keys stay as they are.
pub(super) fn cleaned<T: Serialize + DeserializeOwned>(value: T, clean: &Clean<'_>) -> T {
    let Ok(tree) = serde_json::to_value(&value) else {
        return value;
    };
    let mut found = BTreeSet::new();
    look(&tree, "", clean, &mut found);
    if found.is_empty() {
        return value;
    }
    let mut search = Search {
        tree: &tree,
        clean,
        settled: BTreeSet::new(),
        read: None,
    };
    search.settle(&found.into_iter().collect::<Vec<_>>());
    // None was readable if every text found is a word of the type.
    search.read.unwrap_or(value)
}

fn look(value: &Value, place: &str, clean: &Clean<'_>, found: &mut BTreeSet<Leaf>) {
    match value {
        Value::String(text) if matches!(clean(text), Cow::Owned(_)) => {
            found.insert(Leaf {
                place: place.to_owned(),
                text: text.clone(),
            });
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| look(item, &of_item(place), clean, found)),
        Value::Object(members) => members
            .iter()
            .filter(|(key, member)| !(member.is_string() && EXACT_MEMBERS.contains(&key.as_str())))
            .for_each(|(key, member)| look(member, &of_member(place, key), clean, found)),
        _ => {}
    }
}

fn of_item(place: &str) -> String {
    format!("{place}/*")
}

fn of_member(place: &str, key: &str) -> String {
    format!("{place}/{key}")
}

/// The search for the texts that can be cleaned.
struct Search<'a, T> {
    tree: &'a Value,
    clean: &'a Clean<'a>,
    settled: BTreeSet<Leaf>,
    /// With all of these cleaned.
    read: Option<T>,
}

impl<T: Serialize + DeserializeOwned> Search<'_, T> {
    /// Cleans `leaves` besides those that are settled, by halves if not all of them together can be.
    fn settle(&mut self, leaves: &[Leaf]) {
        let mut tried = self.settled.clone();
        tried.extend(leaves.iter().cloned());
        if let Some(read) = read_back(self.tree, &self.with(self.tree, "", &tried)) {
            self.settled = tried;
            self.read = Some(read);
        } else if leaves.len() > 1 {
            let (first, second) = leaves.split_at(leaves.len() / 2);
            self.settle(first);
            self.settle(second);
        }
    }

    /// `value`, which is at `place`, with `leaves` cleaned.
    fn with(&self, value: &Value, place: &str, leaves: &BTreeSet<Leaf>) -> Value {
        match value {
            Value::String(text) => {
                let leaf = Leaf {
                    place: place.to_owned(),
                    text: text.clone(),
                };
                if leaves.contains(&leaf) {
                    Value::String((self.clean)(text).into_owned())
                } else {
                    value.clone()
                }
            }
            Value::Array(items) => items
                .iter()
                .map(|item| self.with(item, &of_item(place), leaves))
                .collect(),
            Value::Object(members) => members
                .iter()
                .map(|(key, member)| (key.clone(), self.with(member, &of_member(place, key), leaves)))
                .collect(),
            other => other.clone(),
        }
    }
}

/// What `cleaned` says, if the type takes each text that is not as in `tree`. A list of words may take any other one for its last.
fn read_back<T: Serialize + DeserializeOwned>(tree: &Value, cleaned: &Value) -> Option<T> {
    let read = T::deserialize(cleaned).ok()?;
    let back = serde_json::to_value(&read).ok()?;
    takes(tree, cleaned, Some(&back)).then_some(read)
}

fn takes(before: &Value, cleaned: &Value, back: Option<&Value>) -> bool {
    match (before, cleaned) {
        (Value::Array(before), Value::Array(cleaned)) => before
            .iter()
            .zip(cleaned)
            .enumerate()
            .all(|(index, (before, cleaned))| takes(before, cleaned, back.and_then(|back| back.get(index)))),
        (Value::Object(before), Value::Object(cleaned)) => before
            .iter()
            .zip(cleaned)
            .all(|((key, before), (_, cleaned))| takes(before, cleaned, back.and_then(|back| back.get(key)))),
        _ => before == cleaned || back == Some(cleaned),
    }
}
