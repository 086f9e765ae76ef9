//! What the schema of the job cannot say of its rules for records: names that stand twice, and what belongs together.
//! Neighbour: `rules`, for the other parts of a job.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fault::Fault;
use super::rules::at;
use super::spans::Spans;

/// The keys of a rule that a transform follows.
const OF_TRANSFORMS: [&str; 3] = ["collection", "plugin", "config"];

/// Adds what the rules break.
pub(super) fn apply(document: &Value, spans: &Spans, faults: &mut Vec<Fault>) {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let rules = document.get("rules").and_then(Value::as_array);
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        // What is no object the schema has refused.
        if !rule.is_object() {
            continue;
        }
        if let Some(name) = rule.get("name").and_then(Value::as_str)
            && let Some(first) = names.insert(name, index)
        {
            let message = format!("`rules[{index}].name` is the name of `rules[{first}]` already");
            let fault = at(
                spans,
                format!("/rules/{index}/name"),
                "config.duplicate_rule",
                message,
            );
            faults.push(fault.with_help("give each rule a name of its own: reports have nothing else"));
        }
        faults.extend(form(rule, index, spans));
        faults.extend(side(rule, index, spans));
    }
}

/// A rule is a statement, or a transform with its collection.
fn form(rule: &Value, index: usize, spans: &Spans) -> Option<Fault> {
    let path = format!("rules[{index}]");
    let has = |key: &str| rule.get(key).is_some();
    if has("sql") {
        let other = OF_TRANSFORMS.into_iter().find(|key| has(key))?;
        let message = format!("`{path}` has both `sql` and `{other}`");
        let fault = at(
            spans,
            format!("/rules/{index}/{other}"),
            "config.bad_value",
            message,
        );
        return Some(fault.with_help(
            "a rule is either a statement, `sql`, or a transform: `collection`, `plugin` and `config`",
        ));
    }
    let missing = match (has("collection"), has("plugin")) {
        (true, true) => return None,
        (true, false) => "`plugin`, which judges the records of its `collection`",
        (false, true) => "`collection`, whose records its `plugin` judges",
        (false, false) => "`sql`, or `collection` and `plugin`",
    };
    let message = format!("`{path}` misses {missing}");
    let fault = at(spans, format!("/rules/{index}"), "config.missing_key", message);
    Some(fault.with_help("write what must hold: a statement that selects what breaks it, or a transform"))
}

/// A transform judges what is moved: nothing of that is in the sink before.
fn side(rule: &Value, index: usize, spans: &Spans) -> Option<Fault> {
    let text = |key: &str| rule.get(key).and_then(Value::as_str);
    let is_before = matches!(text("when"), Some("before" | "both"));
    if rule.get("sql").is_some() || !is_before || text("side") != Some("sink") {
        return None;
    }
    let message = format!("`rules[{index}].side` is `sink`, where the records are not before they are moved");
    let fault = at(spans, format!("/rules/{index}/side"), "config.bad_value", message);
    Some(
        fault.with_help(
            "leave `side` out, or write `when: after`; a statement, `sql`, may ask the sink before",
        ),
    )
}
