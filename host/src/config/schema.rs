//! Questions to a JSON Schema: which keys are known, which values valid, within which bounds.
//!
//! Schemas of plugins come from outside, so every answer may be "unknown" and references are followed a bounded
//! number of times. Neighbours: `validate.rs` and `union.rs` put the answers into words.

use serde_json::Value;

use super::fault::quoted_key;
use super::spans::segments;

/// How many references, or combinations inside each other, are followed.
const STEPS_MAX: usize = 16;

/// How many schemas may speak of one value.
const EXPANDED_MAX: usize = 256;

/// How many keys or values one message lists.
const LISTED_MAX: usize = 40;

/// The schema that `schema` means, its references followed within `root`.
pub(crate) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut at = schema;
    for _ in 0..STEPS_MAX {
        let Some(target) = at
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|uri| uri.strip_prefix('#'))
        else {
            break;
        };
        match root.pointer(target) {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

/// The keys that a mapping of this schema may have, sorted.
pub(crate) fn known_keys<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a str> {
    let mut keys = Vec::new();
    collect_keys(root, schema, &mut keys, STEPS_MAX);
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn collect_keys<'a>(root: &'a Value, schema: &'a Value, keys: &mut Vec<&'a str>, steps: usize) {
    let resolved = resolve(root, schema);
    // Keys beside a reference count as well as those behind it.
    for schema in [schema, resolved] {
        keys.extend(
            schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .map(|(key, _)| key.as_str()),
        );
        for combination in ["allOf", "anyOf", "oneOf"] {
            if steps > 0
                && let Some(parts) = schema.get(combination).and_then(Value::as_array)
            {
                parts
                    .iter()
                    .for_each(|part| collect_keys(root, part, keys, steps - 1));
            }
        }
    }
}

/// The keys that a mapping of this schema must have, sorted.
pub(crate) fn required_keys(schema: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

/// The values of a closed list; `None` if the schema allows others.
pub(crate) fn literals<'a>(root: &'a Value, schema: &'a Value) -> Option<Vec<&'a Value>> {
    let schema = resolve(root, schema);
    if let Some(value) = schema.get("const") {
        return Some(vec![value]);
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Some(values.iter().collect());
    }
    if schema.get("type").is_some_and(|kind| kind == "null") {
        return Some(vec![&Value::Null]);
    }
    let parts = ["oneOf", "anyOf"]
        .iter()
        .find_map(|combination| schema.get(*combination)?.as_array())?;
    // One level suffices for what schemars writes.
    let values: Option<Vec<&Value>> = parts
        .iter()
        .map(|part| resolve(root, part).get("const"))
        .collect();
    values.filter(|values| !values.is_empty())
}

/// The types that a schema allows, by their names in JSON Schema; empty if it does not say.
pub(crate) fn types<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a str> {
    let schema = resolve(root, schema);
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => match literals(root, schema) {
            Some(values) => values.into_iter().map(type_of).collect(),
            None if ["properties", "required"]
                .iter()
                .any(|keyword| schema.get(*keyword).is_some()) =>
            {
                vec!["object"]
            }
            None => Vec::new(),
        },
    }
}

/// The schema of the value at `pointer`, which names keys of mappings only.
pub(crate) fn at<'a>(root: &'a Value, pointer: &str) -> Option<&'a Value> {
    let mut schema = root;
    for segment in segments(pointer) {
        schema = resolve(root, schema).get("properties")?.get(&segment)?;
    }
    Some(resolve(root, schema))
}

/// Every schema that speaks of the same value as `schema`: behind references, and in all combinations.
pub(crate) fn expanded<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let mut found = Vec::new();
    expand(root, schema, &mut found, STEPS_MAX);
    found
}

fn expand<'a>(root: &'a Value, schema: &'a Value, found: &mut Vec<&'a Value>, steps: usize) {
    let resolved = resolve(root, schema);
    for schema in [schema, resolved] {
        if steps == 0 || found.len() >= EXPANDED_MAX || found.iter().any(|known| std::ptr::eq(*known, schema))
        {
            continue;
        }
        found.push(schema);
        for combination in ["allOf", "anyOf", "oneOf"] {
            let parts = schema.get(combination).and_then(Value::as_array);
            parts
                .into_iter()
                .flatten()
                .for_each(|part| expand(root, part, found, steps - 1));
        }
    }
}

/// The types that a value may have, in whichever combination they stand; empty if any will do.
pub(crate) fn wanted_types<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a str> {
    types_of(&expanded(root, schema))
}

/// As [`wanted_types`], of schemas that are expanded already.
pub(crate) fn types_of<'a>(schemas: &[&'a Value]) -> Vec<&'a str> {
    let mut kinds: Vec<&'a str> = Vec::new();
    for &schema in schemas {
        match schema.get("type") {
            Some(Value::String(kind)) => kinds.push(kind.as_str()),
            Some(Value::Array(several)) => kinds.extend(several.iter().filter_map(Value::as_str)),
            _ => {
                let listed = schema.get("enum").and_then(Value::as_array);
                let values = listed.into_iter().flatten().chain(schema.get("const"));
                values.for_each(|value| kinds.push(type_of(value)));
            }
        }
    }
    kinds
}

/// `text` as a value of one of the types; `None` if it is none of them. Text wins where text is allowed.
pub(crate) fn typed(kinds: &[&str], text: &str) -> Option<Value> {
    let wanted = |kind: &str| kinds.contains(&kind);
    if kinds.is_empty() || wanted("string") {
        return Some(Value::from(text));
    }
    if wanted("boolean") && ["true", "false"].contains(&text) {
        return Some(Value::from(text == "true"));
    }
    let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if is_plain && (wanted("integer") || wanted("number")) {
        if let Ok(whole) = text.parse::<u64>() {
            return Some(Value::from(whole));
        }
        if let Ok(whole) = text.parse::<i64>() {
            return Some(Value::from(whole));
        }
        if wanted("number") {
            let number = text.parse::<f64>().ok()?;
            return serde_json::Number::from_f64(number).map(Value::Number);
        }
    }
    None
}

/// What a schema asks of a value, such as `a whole number from 1 to 64`.
pub(crate) fn requirement(root: &Value, schema: &Value) -> String {
    if let Some(values) = literals(root, schema) {
        return format!("one of {}", list_values(&values));
    }
    let kinds = type_list(&wanted_types(root, schema));
    match bounds(resolve(root, schema), "minimum", "maximum") {
        Some(bounds) => format!("{kinds} {bounds}"),
        None => kinds,
    }
}

/// The type of a value, by its name in JSON Schema.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A type in words.
pub(crate) fn type_words(kind: &str) -> &'static str {
    match kind {
        "null" => "empty",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "text",
        "array" => "a list",
        "object" => "a mapping",
        _ => "of another type",
    }
}

/// The first sentence of the schema's description, as help: in lower case, without its stop.
pub(crate) fn description(schema: &Value) -> Option<String> {
    let text = schema
        .get("description")?
        .as_str()?
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let sentence = text
        .split_once(". ")
        .map_or(text.as_str(), |(first, _)| first)
        .trim_end_matches('.');
    let mut chars = sentence.chars();
    let first = chars.next()?;
    // A word of capitals, such as JSON, stays as it is.
    let is_word = !chars.clone().next().is_some_and(char::is_uppercase);
    Some(if is_word {
        first.to_lowercase().chain(chars).collect()
    } else {
        sentence.to_owned()
    })
}

/// Bounds in words, such as `from 1 to 64`, out of the keywords of `schema`; `None` if it has neither.
pub(crate) fn bounds(schema: &Value, low: &str, high: &str) -> Option<String> {
    let bound = |keyword: &str| {
        schema
            .get(keyword)
            .filter(|value| value.is_number())
            .map(Value::to_string)
    };
    match (bound(low), bound(high)) {
        (Some(low), Some(high)) if low == high => Some(format!("exactly {low}")),
        (Some(low), Some(high)) => Some(format!("from {low} to {high}")),
        (Some(low), None) => Some(format!("at least {low}")),
        (None, Some(high)) => Some(format!("at most {high}")),
        (None, None) => None,
    }
}

/// Keys for a message: sorted, separated by commas, cut when there are many.
pub(crate) fn list_keys(keys: &[&str]) -> String {
    cut(keys.iter().map(|key| (*key).to_owned()).collect())
}

/// Values of a closed list for a message.
pub(crate) fn list_values(values: &[&Value]) -> String {
    cut(values.iter().map(|value| value_words(value)).collect())
}

fn value_words(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn cut(mut words: Vec<String>) -> String {
    let more = words.len().saturating_sub(LISTED_MAX);
    words.truncate(LISTED_MAX);
    let list = words.join(", ");
    if more > 0 {
        format!("{list} and {more} more")
    } else {
        list
    }
}

/// A mapping's form for a message: its required keys, or those that it may have.
pub(crate) fn form_words(root: &Value, schema: &Value) -> String {
    let resolved = resolve(root, schema);
    let kinds = types(root, schema);
    if kinds == ["object"] {
        let required = required_keys(resolved);
        let keys = if required.is_empty() {
            known_keys(root, schema)
        } else {
            required
        };
        if !keys.is_empty() {
            return format!(
                "a mapping with {}",
                keys.iter()
                    .map(|key| quoted_key(key))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
        }
    }
    if let Some(values) = literals(root, schema)
        && !kinds.contains(&"null")
    {
        let list = list_values(&values);
        return if values.len() == 1 {
            format!("`{list}`")
        } else {
            format!("one of {list}")
        };
    }
    type_list(&kinds)
}

/// Types in words, such as `text or a list`.
pub(crate) fn type_list(kinds: &[&str]) -> String {
    let mut words: Vec<&str> = Vec::new();
    // "or empty" would invite the empty values that mean nothing.
    for kind in kinds.iter().filter(|kind| **kind != "null" || kinds.len() == 1) {
        let word = type_words(kind);
        let is_covered = *kind == "integer" && kinds.contains(&"number");
        if !is_covered && !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() {
        "of another form".to_owned()
    } else {
        words.join(" or ")
    }
}
