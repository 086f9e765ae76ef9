//! One fault of a job file before it becomes an [`Error`]: it still knows its pointer, so that rules can add to it.
//!
//! Also the words in which faults speak of keys and paths. Values never appear, and a key only if it looks like a
//! name: in `{ password:hunter2 }` YAML sees one long key.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use whimbrel_plugin_api::Error;

use super::origin::Layer;
use super::spans::{Place, Spans, segments};

/// How many faults of one file are listed.
pub(crate) const FAULTS_MAX: usize = 100;

/// The longest key that is repeated in a message.
const KEY_CHARS_MAX: usize = 64;

/// What kind of fault it is, as far as other rules ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Nothing asks.
    Other,
    /// A key that is not known, and the known key that was probably meant.
    UnknownKey { meant: Option<String> },
    /// A key that is missing.
    MissingKey { key: String },
    /// A value of the wrong type.
    WrongType,
    /// A value that is not one of the valid ones.
    NotOneOf,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    /// Which of the layers of the job's spans it is in.
    pub(crate) layer: u16,
    pub(crate) pointer: String,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) subject: Subject,
}

impl Fault {
    pub(crate) fn new(place: Place, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            place,
            layer: 0,
            pointer: String::new(),
            code,
            message: message.into(),
            help: None,
            subject: Subject::Other,
        }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = pointer.into();
        self
    }

    pub(crate) fn in_layer(mut self, layer: u16) -> Self {
        self.layer = layer;
        self
    }

    pub(crate) fn about(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }
}

/// The faults as errors, placed by the layers of `spans`: in the order of the files, none twice, at most
/// [`FAULTS_MAX`] and a last one that counts the rest, as far as they were looked for.
pub(crate) fn into_errors(mut faults: Vec<Fault>, spans: &Spans) -> Vec<Error> {
    faults.sort_by(|a, b| {
        (a.layer, a.place, &a.code, &a.message).cmp(&(b.layer, b.place, &b.code, &b.message))
    });
    faults.dedup_by(|a, b| (a.layer, a.place) == (b.layer, b.place) && a.message == b.message);
    let more = faults.len().saturating_sub(FAULTS_MAX);
    faults.truncate(FAULTS_MAX);
    let mut errors: Vec<Error> = faults
        .into_iter()
        .map(|fault| {
            let mut error = Error::config(fault.code, fault.message);
            error.help = fault.help;
            error.place = Some(spans.say(fault.layer, fault.place));
            error
        })
        .collect();
    if more > 0 {
        let message = format!("at least {more} more faults are not listed (listed: {FAULTS_MAX})");
        let mut error =
            Error::config("config.too_many_faults", message).with_help("correct those above and check again");
        if let Some(Layer::File(path)) = spans.layers.first() {
            error = error.with_place(path.display().to_string());
        }
        errors.push(error);
    }
    errors
}

/// A key as messages show it: in backticks if it looks like a name, else only its length.
pub(crate) fn quoted_key(key: &str) -> String {
    if is_name(key) {
        format!("`{key}`")
    } else {
        format!("of {} characters (not shown)", key.chars().count())
    }
}

fn is_name(key: &str) -> bool {
    !key.is_empty()
        && key.chars().nth(KEY_CHARS_MAX).is_none()
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '<'))
}

/// The path of `pointer` as people write it, such as `collections[0].key`; empty for the whole file. `root` tells
/// lists from mappings.
pub(crate) fn path_of(pointer: &str, root: &Value) -> String {
    let mut path = String::new();
    let mut at = Some(root);
    for segment in segments(pointer) {
        path = path_with(&path, &segment, at.is_some_and(Value::is_array));
        at = match at {
            Some(Value::Array(items)) => segment.parse().ok().and_then(|index: usize| items.get(index)),
            Some(Value::Object(members)) => members.get(&segment),
            _ => None,
        };
    }
    path
}

/// `path` with one more key or index.
pub(crate) fn path_with(path: &str, segment: &str, is_index: bool) -> String {
    if is_index {
        return format!("{path}[{segment}]");
    }
    let segment = if is_name(segment) { segment } else { "*" };
    if path.is_empty() {
        segment.to_owned()
    } else {
        format!("{path}.{segment}")
    }
}

/// The path in backticks, or `whole` for the whole file.
pub(crate) fn quoted_path(pointer: &str, root: &Value, whole: &str) -> String {
    let path = path_of(pointer, root);
    if path.is_empty() {
        whole.to_owned()
    } else {
        format!("`{path}`")
    }
}

/// Drops what only repeats another fault: a missing key that an unknown key misspells, a wrong type where the valid
/// values are listed anyway, and a broken rule of a value that has the wrong type.
pub(crate) fn without_echoes(faults: Vec<Fault>) -> Vec<Fault> {
    let mut misspelt: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut listed: BTreeSet<&str> = BTreeSet::new();
    let mut mistyped: BTreeSet<&str> = BTreeSet::new();
    for fault in &faults {
        match &fault.subject {
            Subject::UnknownKey { meant: Some(meant) } => {
                misspelt.entry(parent(&fault.pointer)).or_default().push(meant);
            }
            Subject::NotOneOf => {
                listed.insert(&fault.pointer);
            }
            Subject::WrongType => {
                mistyped.insert(&fault.pointer);
            }
            _ => {}
        }
    }
    let keep: Vec<bool> = faults
        .iter()
        .map(|fault| match &fault.subject {
            Subject::MissingKey { key } => !misspelt
                .get(fault.pointer.as_str())
                .is_some_and(|keys| keys.contains(&key.as_str())),
            Subject::WrongType => !listed.contains(fault.pointer.as_str()),
            Subject::Other => !mistyped.contains(fault.pointer.as_str()),
            _ => true,
        })
        .collect();
    faults
        .into_iter()
        .zip(keep)
        .filter_map(|(fault, keep)| keep.then_some(fault))
        .collect()
}

fn parent(pointer: &str) -> &str {
    pointer.rfind('/').map_or("", |end| &pointer[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_may_hold_a_secret_is_not_repeated() {
        assert_eq!(quoted_key("max_errors"), "`max_errors`");
        assert_eq!(quoted_key("password:hunter2"), "of 16 characters (not shown)");
        assert_eq!(quoted_key(&"a".repeat(65)), "of 65 characters (not shown)");
        let root = serde_json::json!({ "source": { "config": { "a b": [{ "x": 1 }] } } });
        assert_eq!(path_of("/source/config/a b/0/x", &root), "source.config.*[0].x");
    }

    #[test]
    fn many_faults_are_cut_with_a_count_of_the_rest() {
        let faults = (0..FAULTS_MAX + 7)
            .map(|line| {
                Fault::new(
                    Place {
                        line: line + 1,
                        column: 1,
                    },
                    "config.bad_value",
                    "m",
                )
            })
            .rev()
            .collect();
        let mut spans = Spans::default();
        spans.layer_of(Layer::File("job.yaml".into()));
        let errors = into_errors(faults, &spans);
        assert_eq!(errors.len(), FAULTS_MAX + 1);
        assert_eq!(errors[0].place.as_deref(), Some("job.yaml:1:1"));
        assert_eq!(errors[FAULTS_MAX].code, "config.too_many_faults");
        assert!(errors[FAULTS_MAX].message.starts_with("at least 7 more"));
    }
}
