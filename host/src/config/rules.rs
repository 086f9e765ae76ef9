//! What the schema of the job cannot say: names that stand twice, patterns that choose nothing, words that later
//! versions will know.
//!
//! Works on the file's content rather than on a [`super::Job`], so that it also runs when other parts are at fault.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fault::{Fault, Subject};
use super::patterns::{Pattern, Patterns};
use super::references::is_name;
use super::settings::SETTINGS_FILE;
use super::spans::{Spans, segments};

/// Values of the design that this version does not offer yet, by the key that has them: they are no slips of the pen.
const LATER: [(&str, &[&str]); 2] = [("mode", &["incremental"]), ("on_conflict", &["interactive"])];

/// The keys that name a system.
const SIDES: [&str; 2] = ["source", "sink"];

/// Gives faults that a schema found better help.
pub(crate) fn improve_all(document: &Value, faults: &mut [Fault]) {
    faults.iter_mut().for_each(|fault| improve(document, fault));
}

/// Adds what the job as a whole breaks, and better help to faults that the schema found.
pub(crate) fn apply(document: &Value, spans: &Spans, faults: &mut Vec<Fault>) {
    improve_all(document, faults);
    let mut found = Vec::new();
    duplicate_collections(document, spans, &mut found);
    references(document, spans, &mut found);
    patterns(document, spans, &mut found);
    hooks(document, spans, &mut found);
    notifiers(document, spans, &mut found);
    thresholds(document, spans, &mut found);
    super::record_rules::apply(document, spans, &mut found);
    for fault in &mut found {
        fault.layer = spans.layer(&fault.pointer);
    }
    faults.extend(found);
}

fn improve(document: &Value, fault: &mut Fault) {
    match &fault.subject {
        Subject::NotOneOf => {
            let found = document
                .pointer(&fault.pointer)
                .and_then(Value::as_str)
                .unwrap_or_default();
            let key = segments(&fault.pointer).last().unwrap_or_default();
            let later = LATER
                .iter()
                .any(|(of, values)| *of == key && values.contains(&found));
            if later {
                fault.help = Some(format!("this version does not offer `{found}`"));
            }
        }
        Subject::UnknownKey { meant: None } if fault.help.is_none() => {
            if ["/environments", "/defaults", "/working_dir"].contains(&fault.pointer.as_str()) {
                let key = &fault.pointer[1..];
                fault.help = Some(format!("`{key}` belongs in the settings file, `{SETTINGS_FILE}`"));
            } else if let Some(plugin) = plugin_of(&fault.pointer) {
                fault.help = Some(format!("the plugin's own keys belong in `{plugin}.config`"));
            }
        }
        Subject::MissingKey { key }
            if key == "plugin" && SIDES.contains(&fault.pointer.trim_start_matches('/')) =>
        {
            fault.help = Some(
                "name a plugin, as `whimbrel plugin list` shows it, or an `environment` of the settings file"
                    .to_owned(),
            );
        }
        _ => {}
    }
}

/// The plugin's path if `pointer` is a key beside its name, such as `source` or `transforms[0]`.
fn plugin_of(pointer: &str) -> Option<String> {
    let segments: Vec<String> = segments(pointer).collect();
    match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [side, _] if SIDES.contains(side) => Some((*side).to_owned()),
        [list @ ("transforms" | "notifiers" | "rules"), index, _] => Some(format!("{list}[{index}]")),
        ["environments", name, _] => Some(format!("environments.{name}")),
        ["collections", at, "transforms", index, _] => Some(format!("collections[{at}].transforms[{index}]")),
        _ => None,
    }
}

/// A fault of the value at `pointer`.
pub(super) fn at(spans: &Spans, pointer: String, code: &'static str, message: String) -> Fault {
    Fault::new(spans.value(&pointer), code, message).at(pointer)
}

/// Patterns that are not valid or choose nothing, and collections that are listed and left out.
fn patterns(document: &Value, spans: &Spans, faults: &mut Vec<Fault>) {
    let texts = |key: &str| -> Vec<(usize, String)> {
        let items = document.get(key).and_then(Value::as_array);
        let texts = items.into_iter().flatten().enumerate();
        texts
            .filter_map(|(index, text)| Some((index, text.as_str()?.to_owned())))
            .filter(|(_, text)| !text.is_empty())
            .collect()
    };
    let lists = [("include", texts("include")), ("exclude", texts("exclude"))];
    if document
        .get("include")
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty)
    {
        let message = "`include` must not be empty: no collection would be moved".to_owned();
        let fault = at(spans, "/include".to_owned(), "config.bad_value", message);
        faults.push(fault.with_help("leave it out to move all collections"));
    }
    for (key, list) in &lists {
        for (nth, (index, text)) in list.iter().enumerate() {
            let pointer = format!("/{key}/{index}");
            if Pattern::new(text).is_none() {
                let message = format!("`{key}[{index}]` ends with a `\\` that stands before nothing");
                let fault = at(spans, pointer, "config.bad_pattern", message);
                faults.push(fault.with_help("write `\\\\` for a plain `\\`"));
            } else if let Some((first, _)) = list[..nth].iter().find(|(_, earlier)| earlier == text) {
                let message = format!("`{key}[{index}]` is the same pattern as `{key}[{first}]`");
                faults.push(at(spans, pointer, "config.duplicate_pattern", message).with_help("remove it"));
            }
        }
    }
    let [(_, include), (_, exclude)] = &lists;
    for (index, text) in include {
        if exclude.iter().any(|(_, other)| other == text || other == "*") {
            let message =
                format!("`include[{index}]` chooses nothing: `exclude` leaves out all that it stands for");
            let fault = at(spans, format!("/include/{index}"), "config.bad_pattern", message);
            faults.push(
                fault.with_help("`exclude` goes before `include`; remove the pattern from one of them"),
            );
        }
    }
    let only = |list: &[(usize, String)]| list.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>();
    let chosen = Patterns::new(&only(include), &only(exclude));
    let entries = document.get("collections").and_then(Value::as_array);
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let Some(source) = entry.get("source").and_then(Value::as_str) else {
            continue;
        };
        let (what, help) = if chosen.excludes(source) {
            (
                "`exclude` leaves it out",
                "remove the entry, or narrow the pattern",
            )
        } else if !chosen.includes(source) {
            (
                "no pattern of `include` stands for it",
                "remove the entry, or add its name to `include`",
            )
        } else {
            continue;
        };
        let pointer = format!("/collections/{index}/source");
        let message = format!("`collections[{index}]` is listed, but {what}");
        faults.push(at(spans, pointer, "config.excluded_collection", message).with_help(help));
    }
}

/// Programs without a name, and variables that no file could hold.
fn hooks(document: &Value, spans: &Spans, faults: &mut Vec<Fault>) {
    for moment in ["before", "after_success", "after_failure"] {
        let list = document.get("hooks").and_then(|hooks| hooks.get(moment));
        for (index, hook) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let pointer = format!("/hooks/{moment}/{index}");
            let path = format!("hooks.{moment}[{index}]");
            if hook
                .pointer("/command/run/0")
                .is_some_and(|program| program == "")
            {
                let pointer = format!("{pointer}/command/run/0");
                let message = format!("`{path}.command.run[0]` names no program");
                faults.push(
                    at(spans, pointer, "config.bad_value", message).with_help("name the program first"),
                );
            }
            let Some(set) = hook.pointer("/env_file/set").and_then(Value::as_object) else {
                continue;
            };
            if set.is_empty() {
                let message = format!("`{path}.env_file.set` must not be empty");
                faults.push(
                    at(
                        spans,
                        format!("{pointer}/env_file/set"),
                        "config.bad_value",
                        message,
                    )
                    .with_help("name at least one variable, or remove the hook"),
                );
            }
            for (name, value) in set {
                let pointer = super::spans::join(&format!("{pointer}/env_file/set"), name);
                if !is_name(name, false) {
                    let message = format!("`{path}.env_file.set` has a key that is no name of a variable");
                    let mut fault = at(spans, pointer, "config.bad_value", message);
                    fault.place = spans.key(&fault.pointer);
                    faults.push(fault.with_help("use letters, digits and underscores, no digit first"));
                } else if value
                    .as_str()
                    .is_some_and(|text| text.contains(['\n', '\r', '\0']))
                {
                    let message = format!(
                        "`{path}.env_file.set.{name}` has several lines, which such a file cannot hold"
                    );
                    faults.push(
                        at(spans, pointer, "config.bad_value", message).with_help("write it on one line"),
                    );
                }
            }
        }
    }
}

/// Notifiers that would tell nothing.
fn notifiers(document: &Value, spans: &Spans, faults: &mut Vec<Fault>) {
    let list = document.get("notifiers").and_then(Value::as_array);
    for (index, notifier) in list.into_iter().flatten().enumerate() {
        let Some(events) = notifier.get("events").and_then(Value::as_array) else {
            continue;
        };
        let pointer = format!("/notifiers/{index}/events");
        if events.is_empty() {
            let message = format!("`notifiers[{index}].events` must not be empty: nobody would be told");
            faults.push(
                at(spans, pointer.clone(), "config.bad_value", message)
                    .with_help("leave it out for `started`, `completed` and `failed`"),
            );
        }
        for (nth, event) in events.iter().enumerate() {
            if events[..nth].contains(event) {
                let message = format!("`notifiers[{index}].events[{nth}]` stands twice");
                let fault = at(spans, format!("{pointer}/{nth}"), "config.bad_value", message);
                faults.push(fault.with_help("remove it"));
            }
        }
    }
}

/// An error that would come before its warning.
fn thresholds(document: &Value, spans: &Spans, faults: &mut Vec<Fault>) {
    let thresholds = document.pointer("/monitor/alert_thresholds");
    for (key, values) in thresholds.and_then(Value::as_object).into_iter().flatten() {
        let pair: Vec<f64> = values
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_f64)
            .collect();
        let &[warning, error] = pair.as_slice() else {
            continue;
        };
        let is_falling = key == "integrity";
        if (warning > error && !is_falling) || (warning < error && is_falling) {
            let order = if is_falling { "at most" } else { "at least" };
            let pointer = super::spans::join("/monitor/alert_thresholds", key);
            let message = format!(
                "`monitor.alert_thresholds.{key}`: the second value, for errors, must be {order} the first, for warnings"
            );
            faults
                .push(at(spans, pointer, "config.bad_value", message).with_help("write `[warning, error]`"));
        }
    }
}

/// References that stand twice, or point with another number of fields than they point to.
fn references(document: &Value, spans: &Spans, faults: &mut Vec<Fault>) {
    let entries = document.get("collections").and_then(Value::as_array);
    for (number, entry) in entries.into_iter().flatten().enumerate() {
        let Some(list) = entry.get("references").and_then(Value::as_array) else {
            continue;
        };
        for (index, reference) in list.iter().enumerate() {
            let pointer = format!("/collections/{number}/references/{index}");
            let path = format!("collections[{number}].references[{index}]");
            let fields = |key: &str| reference.get(key).and_then(Value::as_array);
            if let (Some(from), Some(to)) = (fields("fields"), fields("to_fields"))
                && from.len() != to.len()
                && !to.is_empty()
            {
                let message = format!(
                    "`{path}.to_fields` must have as many fields as `{path}.fields`: {}",
                    from.len()
                );
                let fault = at(spans, format!("{pointer}/to_fields"), "config.bad_value", message);
                faults.push(
                    fault.with_help("name them in the order of `fields`, or leave them out for the key"),
                );
            }
            if let Some(first) = list[..index].iter().position(|earlier| earlier == reference) {
                let message =
                    format!("`{path}` is the same reference as `collections[{number}].references[{first}]`");
                faults.push(at(spans, pointer, "config.duplicate_reference", message).with_help("remove it"));
            }
        }
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
