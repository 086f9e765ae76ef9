//! What the schema of the job cannot say: collections that stand twice, and words that later versions will know.
//!
//! Works on the file's content rather than on a [`super::Job`], so that it also runs when other parts are at fault.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fault::{Fault, Subject};
use super::spans::Spans;

/// Values of the design that this version does not offer yet: they are no slips of the pen.
const LATER: [(&str, &[&str]); 3] = [
    ("/mode", &["incremental", "test"]),
    ("/verification", &["comprehensive"]),
    ("/import/on_conflict", &["interactive"]),
];

/// Adds what the job as a whole breaks, and better help to faults that the schema found.
pub(crate) fn apply(document: &Value, spans: &Spans, faults: &mut Vec<Fault>) {
    for fault in faults.iter_mut() {
        improve(document, fault);
    }
    duplicate_collections(document, spans, faults);
}

fn improve(document: &Value, fault: &mut Fault) {
    match &fault.subject {
        Subject::NotOneOf => {
            let found = document
                .pointer(&fault.pointer)
                .and_then(Value::as_str)
                .unwrap_or_default();
            let later = LATER
                .iter()
                .any(|(pointer, values)| *pointer == fault.pointer && values.contains(&found));
            if later {
                fault.help = Some(format!("this version does not offer `{found}`"));
            }
        }
        Subject::UnknownKey { meant: None } if fault.help.is_none() => {
            for role in ["source", "sink"] {
                if fault
                    .pointer
                    .strip_prefix('/')
                    .is_some_and(|rest| rest.split_once('/').is_some_and(|(first, _)| first == role))
                {
                    fault.help = Some(format!("the plugin's own keys belong in `{role}.config`"));
                }
            }
        }
        _ => {}
    }
}

/// Two entries of one source collection, or two that would write one sink collection.
fn duplicate_collections(document: &Value, spans: &Spans, faults: &mut Vec<Fault>) {
    let Some(entries) = document.get("collections").and_then(Value::as_array) else {
        return;
    };
    let mut sources: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sinks: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(source) = entry.get("source").and_then(Value::as_str) else {
            continue;
        };
        let (sink, sink_key) = match entry.get("sink") {
            None => (source, "source"),
            Some(sink) => match sink.as_str() {
                Some(sink) => (sink, "sink"),
                None => continue,
            },
        };
        let (first, key, side) = match (sources.get(source), sinks.get(sink)) {
            (Some(first), _) => (*first, "source", "read"),
            (None, Some(first)) => (*first, sink_key, "written"),
            (None, None) => {
                sources.insert(source, index);
                sinks.insert(sink, index);
                continue;
            }
        };
        let pointer = format!("/collections/{index}/{key}");
        let message = format!(
            "`collections[{index}]` names a collection that `collections[{first}]` names already: it would be {side} twice"
        );
        let place = spans.value(&format!("/collections/{first}"));
        faults.push(
            Fault::new(spans.value(&pointer), "config.duplicate_collection", message)
                .at(pointer)
                .with_help(format!(
                    "it stands first in line {}, column {}",
                    place.line, place.column
                )),
        );
    }
}
