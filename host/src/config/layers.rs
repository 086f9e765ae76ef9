//! Lays values over each other: settings, job file, variables, flags, the last one winning; each keeps its origin.
//!
//! Mappings are joined key by key, everything else is replaced as a whole. Neighbour: `load.rs`, which says in which
//! order.

use serde_json::{Map, Value};

use super::fault::{Fault, path_of};
use super::nearest::nearest;
use super::origin::Layer;
use super::overrides::{KeyFlag, Overrides, Said};
use super::schema;
use super::spans::{Place, SpanNode, Spans, segments};
use super::variables::{Sets, VARIABLES, Variables, known_names};
use whimbrel_plugin_api::Finding;

/// A value and where each of its parts comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    pub(crate) value: Value,
    pub(crate) span: SpanNode,
}

impl Tree {
    /// The part at `pointer`, as a tree of its own.
    pub(crate) fn part(&self, pointer: &str) -> Option<Self> {
        let value = self.value.pointer(pointer)?.clone();
        let mut span = &self.span;
        for segment in segments(pointer) {
            span = span.parts.get(&segment)?;
        }
        Some(Self {
            value,
            span: span.clone(),
        })
    }

    /// Puts `part` at `key`, in place of what is there.
    pub(crate) fn put(&mut self, key: &str, part: Self) {
        if let Value::Object(members) = &mut self.value {
            members.insert(key.to_owned(), part.value);
            self.span.parts.insert(key.to_owned(), part.span);
        }
    }

    /// Sets the value at `pointer`; mappings on the way are made. Whatever else stands on the way stays: the schema
    /// has something to say about it.
    pub(crate) fn set(&mut self, pointer: &str, value: Value, layer: u16) {
        let mut at = &mut self.value;
        for segment in segments(pointer) {
            let Value::Object(members) = at else {
                return;
            };
            at = members
                .entry(segment)
                .or_insert_with(|| Value::Object(Map::new()));
        }
        let mut span = SpanNode::of_layer(layer);
        spread(&value, &mut span, layer);
        *at = value;
        *self.span.at_mut(pointer, layer) = span;
    }
}

/// Gives every part of `value` a place in `span`.
fn spread(value: &Value, span: &mut SpanNode, layer: u16) {
    let mut add = |key: String, part: &Value| {
        let mut node = SpanNode::of_layer(layer);
        spread(part, &mut node, layer);
        span.parts.insert(key, node);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(key, part)| add(key.clone(), part)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, part)| add(index.to_string(), part)),
        _ => {}
    }
}

/// `upper` laid over `lower`.
pub(crate) fn overlay(lower: Tree, upper: Tree) -> Tree {
    match (lower, upper) {
        (
            Tree {
                value: Value::Object(mut members),
                span: mut below,
            },
            Tree {
                value: Value::Object(above),
                mut span,
            },
        ) => {
            for (key, value) in above {
                let part = Tree {
                    value,
                    span: span.parts.remove(&key).unwrap_or_default(),
                };
                let part = match (members.remove(&key), below.parts.remove(&key)) {
                    (Some(value), Some(span)) => overlay(Tree { value, span }, part),
                    _ => part,
                };
                members.insert(key.clone(), part.value);
                below.parts.insert(key, part.span);
            }
            span.parts = below.parts;
            Tree {
                value: Value::Object(members),
                span,
            }
        }
        (_, upper) => upper,
    }
}

/// Lays variables and flags over `tree`.
pub(crate) fn lay_over(
    tree: &mut Tree,
    spans: &mut Spans,
    job_schema: &Value,
    variables: &Variables,
    overrides: &Overrides,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for variable in &VARIABLES {
        let set: Vec<(&str, Option<&str>)> = variable
            .names
            .iter()
            .filter_map(|name| Some((*name, variables.filled(name)?.to_str())))
            .collect();
        let Some((name, text)) = set.first().copied() else {
            continue;
        };
        let layer = spans.layer_of(Layer::Variable(name.to_owned()));
        if let Some((other, _)) = set.iter().find(|(_, other)| *other != text) {
            faults.push(contradiction(name, other, layer));
            continue;
        }
        let fault = match (variable.sets, text) {
            (Sets::Settings | Sets::WorkingDir, _) => None,
            (_, None) => Some(not_text(name, layer)),
            (Sets::Value(pointer), Some(text)) => {
                let text = switch_word(schema::at(job_schema, pointer), text);
                set_text(tree, job_schema, pointer, text, layer, ("variable", name))
            }
            (Sets::Json(pointer), Some(text)) => set_json(tree, pointer, text, layer, name),
            (Sets::Verification, Some(text)) => set_verification(tree, text, layer, name),
        };
        faults.extend(fault);
    }
    for KeyFlag { flag, pointer, says } in &overrides.keys {
        let layer = spans.layer_of(Layer::Flag((*flag).to_owned()));
        match says {
            Said::Value(value) => tree.set(pointer, value.clone(), layer),
            Said::Text(text) => {
                faults.extend(set_text(tree, job_schema, pointer, text, layer, ("flag", flag)));
            }
        }
    }
    faults
}

/// `1` and `0` mean true and false in variables.
fn switch_word<'text>(schema: Option<&Value>, text: &'text str) -> &'text str {
    let is_switch = schema.is_some_and(|schema| schema["type"] == "boolean");
    match text {
        "1" if is_switch => "true",
        "0" if is_switch => "false",
        text => text,
    }
}

fn set_text(
    tree: &mut Tree,
    job_schema: &Value,
    pointer: &str,
    text: &str,
    layer: u16,
    (kind, name): (&str, &str),
) -> Option<Fault> {
    let Some(schema) = schema::at(job_schema, pointer) else {
        tree.set(pointer, Value::from(text), layer);
        return None;
    };
    if let Some(value) = schema::typed(&schema::wanted_types(job_schema, schema), text) {
        tree.set(pointer, value, layer);
        return None;
    }
    let wanted = schema::requirement(job_schema, schema);
    Some(bad(
        kind,
        name,
        &wanted,
        layer,
        format!("it sets `{}`", path_of(pointer, &Value::Null)),
    ))
}

fn set_json(tree: &mut Tree, pointer: &str, text: &str, layer: u16, name: &str) -> Option<Fault> {
    let Ok(Value::Object(members)) = serde_json::from_str(text) else {
        let help = format!("it sets keys of `{}`", path_of(pointer, &Value::Null));
        return Some(bad("variable", name, "a mapping in JSON", layer, help));
    };
    for (key, value) in members {
        tree.set(&super::spans::join(pointer, &key), value, layer);
    }
    None
}

fn set_verification(tree: &mut Tree, text: &str, layer: u16, name: &str) -> Option<Fault> {
    let is_none = tree
        .value
        .get("verification")
        .is_some_and(|level| level == "none");
    match text {
        "false" | "0" => tree.set("/verification", Value::from("none"), layer),
        "true" | "1" if is_none => tree.set("/verification", Value::from("standard"), layer),
        "true" | "1" => {}
        _ => {
            let help = "it sets `verification`".to_owned();
            return Some(bad("variable", name, "true or false", layer, help));
        }
    }
    None
}

fn bad(kind: &str, name: &str, wanted: &str, layer: u16, help: String) -> Fault {
    let code = if kind == "flag" {
        "config.bad_flag"
    } else {
        "config.bad_variable"
    };
    Fault::new(Place::START, code, format!("{kind} `{name}` must be {wanted}"))
        .with_help(help)
        .in_layer(layer)
}

fn not_text(name: &str, layer: u16) -> Fault {
    Fault::new(
        Place::START,
        "config.bad_variable",
        format!("variable `{name}` is not UTF-8 text"),
    )
    .in_layer(layer)
}

fn contradiction(name: &str, other: &str, layer: u16) -> Fault {
    Fault::new(
        Place::START,
        "config.contradicting_variables",
        format!("variables `{name}` and `{other}` mean the same and differ"),
    )
    .with_help("unset one of them")
    .in_layer(layer)
}

/// Variables that look like slips of the pen.
pub(crate) fn unknown_variables(variables: &Variables) -> Vec<Finding> {
    variables
        .unknown()
        .filter_map(|name| {
            // The prefix, which is the same anyway, would make every name alike.
            let (prefix, rest) = name.split_once('_')?;
            let candidates = known_names().filter_map(|known| {
                let (of, rest) = known.split_once('_')?;
                (of == prefix).then_some(rest)
            });
            let meant = nearest(rest, candidates)?;
            Some(
                Finding::warning(
                    "config.unknown_variable",
                    format!("variable `{name}` is not known and has no effect"),
                )
                .with_help(format!("did you mean `{prefix}_{meant}`?")),
            )
        })
        .collect()
}
