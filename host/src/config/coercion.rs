//! Walks a value beside the schemas that speak of it: texts that were one reference become the numbers that are
//! wanted, and values that a schema marks as secret become known.
//!
//! A schema may speak of a value in several places (references, combinations); all of them count.

use serde_json::Value;

use super::schema::{expanded, typed, types_of};
use super::spans::SpanNode;

/// Visits `value` and all its parts, each with the schemas that speak of it.
pub(crate) fn walk(
    root: &Value,
    schemas: &[&Value],
    value: &mut Value,
    span: &mut SpanNode,
    visit: &mut dyn FnMut(&[&Value], &mut Value, &mut SpanNode),
) {
    visit(schemas, value, span);
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let below: Vec<&Value> = schemas
                    .iter()
                    .filter_map(|schema| {
                        let own = schema
                            .get("properties")
                            .and_then(|properties| properties.get(key));
                        own.or_else(|| schema.get("additionalProperties"))
                    })
                    .flat_map(|schema| expanded(root, schema))
                    .collect();
                if let Some(part) = span.parts.get_mut(key) {
                    walk(root, &below, member, part, visit);
                }
            }
        }
        Value::Array(items) => {
            let below: Vec<&Value> = schemas
                .iter()
                .filter_map(|schema| schema.get("items"))
                .flat_map(|schema| expanded(root, schema))
                .collect();
            for (index, item) in items.iter_mut().enumerate() {
                if let Some(part) = span.parts.get_mut(&index.to_string()) {
                    walk(root, &below, item, part, visit);
                }
            }
        }
        _ => {}
    }
}

/// Gives texts that were one reference the type that `schema` wants.
pub(crate) fn coerce(schema: &Value, value: &mut Value, span: &mut SpanNode) {
    walk(
        schema,
        &expanded(schema, schema),
        value,
        span,
        &mut |schemas, value, span| {
            if let (true, Value::String(text)) = (span.is_reference, &*value)
                && let Some(better) = typed(&types_of(schemas), text)
            {
                *value = better;
            }
        },
    );
}

/// Marks what the schema marks as secret (`writeOnly`, or the format `password`), and hands each text of it to `found`
/// with its place.
pub(crate) fn mark_secrets(
    schema: &Value,
    value: &mut Value,
    span: &mut SpanNode,
    found: &mut dyn FnMut(&str, &SpanNode),
) {
    walk(
        schema,
        &expanded(schema, schema),
        value,
        span,
        &mut |schemas, value, span| {
            let is_secret = schemas.iter().any(|schema| {
                schema.get("writeOnly") == Some(&Value::Bool(true))
                    || schema.get("format").is_some_and(|format| format == "password")
            });
            if is_secret {
                mark(value, span, found);
            }
        },
    );
}

fn mark(value: &Value, span: &mut SpanNode, found: &mut dyn FnMut(&str, &SpanNode)) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                mark(member, span.parts.entry(key.clone()).or_default(), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                mark(item, span.parts.entry(index.to_string()).or_default(), found);
            }
        }
        Value::Null => {}
        Value::String(text) => {
            span.is_secret = true;
            found(text, span);
        }
        other => {
            span.is_secret = true;
            found(&other.to_string(), span);
        }
    }
}

/// Words of keys whose values are hidden when a job is shown, even if no schema calls them secret.
const SUSPECT_WORDS: [&str; 8] = [
    "apikey",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "pwd",
    "secret",
    "token",
];

/// Hides texts that look like secrets when the job is shown: by their key, or as a URL with a password. They are not
/// taken out of other texts, since they may be anything.
pub(crate) fn hide_suspects(value: &Value, span: &mut SpanNode) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                if let Some(part) = span.parts.get_mut(key) {
                    part.is_secret |= member.is_string() && is_suspect(key);
                    hide_suspects(member, part);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(part) = span.parts.get_mut(&index.to_string()) {
                    hide_suspects(item, part);
                }
            }
        }
        Value::String(text) => span.is_secret |= has_password(text),
        _ => {}
    }
}

pub(crate) fn is_suspect(key: &str) -> bool {
    let key: String = key
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    SUSPECT_WORDS.iter().any(|word| key.ends_with(word))
}

/// Whether `text` is a URL with a name and a password in it.
fn has_password(text: &str) -> bool {
    let authority = text
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
    authority.is_some_and(|authority| {
        authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':'))
    })
}
