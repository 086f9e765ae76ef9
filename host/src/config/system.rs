//! Which system a connector's config names, without its secrets: by this it is seen that a variable or a URL stands for another system than
//! it did when a copy began, while a changed password makes none.
//!
//! What the plugin's schema or the name of a key calls a secret counts for nothing; of a URL all counts but its password and such
//! parameters. Nor does a property count of which the schema says that it decides how is read and not what (`"x-whimbrel-may-change":
//! true`). Neighbour: `coercion.rs`, which knows secrets.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::coercion::{is_suspect, mark_secrets};
use super::schema::expanded;
use super::secrets::MASK;
use super::spans::SpanNode;

/// Marks a property of a plugin's schema that may have another value in a run that goes on with a copy: the records are the same.
const MAY_CHANGE_MARK: &str = "x-whimbrel-may-change";
/// Letters of a digest: enough to tell two versions of a job apart, and short enough for a message.
const DIGEST_CHARS: usize = 16;

/// What a source's `config`, as it is written, counts as among the things that a copy is made from.
pub fn source_as_written(plugin: &str, config: &Value) -> String {
    format!("{plugin}, config {}", short_digest(config))
}

/// `config` without what `schema` marks as open to change while a copy is under way.
pub fn lasting(schema: &Value, config: &Map<String, Value>) -> Map<String, Value> {
    lasting_of(schema, &expanded(schema, schema), config)
}

fn lasting_of(root: &Value, schemas: &[&Value], config: &Map<String, Value>) -> Map<String, Value> {
    let mut kept = Map::new();
    for (key, value) in config {
        let of_key = schemas
            .iter()
            .filter_map(|schema| schema.get("properties")?.get(key));
        let of_key: Vec<&Value> = of_key.flat_map(|schema| expanded(root, schema)).collect();
        let is_marked = |schema: &&Value| schema.get(MAY_CHANGE_MARK) == Some(&Value::Bool(true));
        if of_key.iter().any(is_marked) {
            continue;
        }
        let value = match value {
            Value::Object(members) => Value::Object(lasting_of(root, &of_key, members)),
            other => other.clone(),
        };
        kept.insert(key.clone(), value);
    }
    kept
}

/// A digest that does not depend on the order of keys, which says nothing.
pub fn short_digest(value: &Value) -> String {
    let mut text = String::new();
    write_sorted(value, &mut text);
    blake3::hash(text.as_bytes()).to_hex()[..DIGEST_CHARS].to_owned()
}

fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            text.push('{');
            for (key, member) in sorted {
                text.push_str(&format!("{key:?}:"));
                write_sorted(member, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_sorted(item, text);
                text.push(',');
            }
            text.push(']');
        }
        leaf => text.push_str(&leaf.to_string()),
    }
}

/// What `config`, complete and resolved, says besides its secrets, which the plugin's `schema` tells. For a digest, not for people.
pub fn system_named(schema: &Value, config: &Map<String, Value>) -> Value {
    let mut named = Value::Object(config.clone());
    let mut span = span_of(&named);
    mark_secrets(schema, &mut named, &mut span, &mut |_, _| {});
    take_out(None, &mut named, &span);
    named
}

/// Only what has a place is looked at beside its schema.
fn span_of(value: &Value) -> SpanNode {
    let mut span = SpanNode::default();
    match value {
        Value::Object(members) => {
            let parts = members.iter().map(|(key, member)| (key.clone(), span_of(member)));
            span.parts.extend(parts);
        }
        Value::Array(items) => {
            let parts = items
                .iter()
                .enumerate()
                .map(|(index, item)| (index.to_string(), span_of(item)));
            span.parts.extend(parts);
        }
        _ => {}
    }
    span
}

fn take_out(key: Option<&str>, value: &mut Value, span: &SpanNode) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                if let Some(part) = span.parts.get(key) {
                    take_out(Some(key), member, part);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                if let Some(part) = span.parts.get(&index.to_string()) {
                    take_out(key, item, part);
                }
            }
        }
        Value::Null => {}
        Value::String(text) if text.contains("://") => *text = without_password(text),
        leaf if span.is_secret || leaf.is_string() && key.is_some_and(is_suspect) => {
            *leaf = Value::from(MASK);
        }
        _ => {}
    }
}

/// A URL without its password, and without the values of parameters whose names call them secret.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return MASK.to_owned();
    };
    let before_parameters = rest.split('?').next().unwrap_or_default();
    // People write passwords with a bare `@`, `/` or `?`; the last `@` ends them all.
    let is_plain = before_parameters.contains('@') || !rest.contains('@');
    let login_chars = if is_plain { before_parameters } else { rest }.rfind('@');
    let (user, rest) = match login_chars {
        Some(at) => (rest[..at].split(':').next(), &rest[at + 1..]),
        None => (None, rest),
    };
    let (place, parameters) = match rest.split_once('?') {
        Some((place, parameters)) => (place, Some(parameters)),
        None => (rest, None),
    };
    let parameters = parameters.map(|parameters| {
        let named = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if is_suspect(name) => format!("{name}={MASK}"),
            _ => pair.to_owned(),
        };
        parameters.split('&').map(named).collect::<Vec<_>>()
    });
    format!("{scheme} {user:?} {place} {parameters:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(config: Value) -> Value {
        let schema = json!({ "properties": {
            "url": { "type": "string", "writeOnly": true },
            "key": { "type": "string", "format": "password" },
            "nested": { "properties": { "pin": { "writeOnly": true } } },
        } });
        let Value::Object(config) = config else {
            panic!("a config is a mapping");
        };
        system_named(&schema, &config)
    }

    #[test]
    fn what_decides_how_is_read_and_not_what_does_not_last() {
        let schema = json!({
            "$defs": { "Quota": { "properties": { "reads": {} } } },
            "properties": {
                "place": { "type": "string" },
                "retries": { "x-whimbrel-may-change": true },
                "quota": { "$ref": "#/$defs/Quota", "x-whimbrel-may-change": true },
                "nested": { "properties": { "wait": { "x-whimbrel-may-change": true }, "name": {} } },
                "counts": { "x-whimbrel-may-change": false },
            },
        });
        let of = |config: Value| {
            let Value::Object(config) = config else {
                panic!("a config is a mapping");
            };
            Value::Object(lasting(&schema, &config))
        };
        let kept = of(json!({
            "place": "a", "retries": 3, "quota": { "reads": 7 }, "nested": { "wait": 1, "name": "n" }, "counts": 1, "retried": 2,
        }));
        assert_eq!(
            kept,
            json!({ "place": "a", "nested": { "name": "n" }, "counts": 1, "retried": 2 })
        );
        let Value::Object(kept) = kept else {
            panic!("it is a mapping");
        };
        assert_eq!(lasting(&Value::Null, &kept), kept);
    }

    #[test]
    fn another_system_has_another_digest_and_another_secret_has_not() {
        let base = named(
            json!({ "url": "postgres://u:pw@a/db?sslmode=require&sslpassword=x", "key": "k", "host": "h" }),
        );
        for same in [
            json!({ "host": "h", "key": "k", "url": "postgres://u:pw@a/db?sslmode=require&sslpassword=x" }),
            json!({ "url": "postgres://u:other@a/db?sslmode=require&sslpassword=x", "key": "k", "host": "h" }),
            json!({ "url": "postgres://u:p@:/w@a/db?sslmode=require&sslpassword=y", "key": "l", "host": "h" }),
            json!({ "url": "postgres://u:p?w@a/db?sslmode=require&sslpassword=y", "key": "l", "host": "h" }),
        ] {
            assert_eq!(named(same.clone()), base, "{same}");
        }
        for other in [
            json!({ "url": "postgres://u:pw@b/db?sslmode=require&sslpassword=x", "key": "k", "host": "h" }),
            json!({ "url": "postgres://u:pw@a/other?sslmode=require&sslpassword=x", "key": "k", "host": "h" }),
            json!({ "url": "postgres://v:pw@a/db?sslmode=require&sslpassword=x", "key": "k", "host": "h" }),
            json!({ "url": "postgres://u:pw@a/db?sslmode=disable&sslpassword=x", "key": "k", "host": "h" }),
            json!({ "url": "postgres://u:pw@a/db?sslmode=require&sslpassword=x", "key": "k", "host": "g" }),
        ] {
            assert_ne!(named(other.clone()), base, "{other}");
        }
        for secret in ["pw", "sslpassword=x"] {
            assert!(!base.to_string().contains(secret), "{base}");
        }
        let pin = |pin: u32| named(json!({ "nested": { "pin": pin }, "api_token": pin.to_string() }));
        assert_eq!(pin(1234), pin(5678));
    }
}
