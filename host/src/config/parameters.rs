//! Parameters of a job: declared in the file, given by `--set`, used as `${param:NAME}`.
//!
//! Every value is a text first; where it stands alone and the schema wants a number, it becomes one. Neighbour:
//! `references.rs`, which puts the values into texts.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use super::fault::Fault;
use super::layers::Tree;
use super::nearest::nearest;
use super::origin::Layer;
use super::references::{Resolver, is_name, known_words};
use super::spans::{Place, Spans, join};

/// Octets of what a pattern may become in memory; those of people take a thousandth.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// What a parameter has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Given {
    /// A value.
    Value {
        /// As a text.
        text: String,
        /// Whether a secret is in it.
        is_secret: bool,
    },
    /// None, which has been said.
    Missing,
}

/// The flag that gives values.
const FLAG: &str = "--set";

/// The parameters of the job in `tree` with the values of `settings`, each `name=value`.
pub(crate) fn given(
    tree: &Tree,
    settings: &[String],
    spans: &mut Spans,
    resolver: &mut Resolver<'_>,
) -> BTreeMap<String, Given> {
    let declared = tree.value.get("parameters").and_then(Value::as_object);
    let names: Vec<&str> = declared
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let flag = if settings.is_empty() {
        0
    } else {
        spans.layer_of(Layer::Flag(FLAG.to_owned()))
    };
    let set = read_flags(settings, &names, flag, &mut resolver.faults);
    let mut given = BTreeMap::new();
    for (name, about) in declared.into_iter().flatten() {
        let pointer = join("/parameters", name);
        let value = match set.get(name.as_str()) {
            Some(text) => Some(((*text).to_owned(), false, Spot::Flag(flag))),
            None => default(tree, name, about, &pointer, resolver).map(|(text, is_secret)| {
                let pointer = join(&pointer, "default");
                (text, is_secret, Spot::of(tree, &pointer))
            }),
        };
        let Some((text, is_secret, spot)) = value else {
            given.insert(name.clone(), Given::Missing);
            continue;
        };
        if let Some(pattern) = about.get("pattern").and_then(Value::as_str) {
            check(name, pattern, &text, &spot, tree, &pointer, &mut resolver.faults);
        }
        given.insert(name.clone(), Given::Value { text, is_secret });
    }
    given
}

/// Where a parameter's value stands.
enum Spot {
    Flag(u16),
    File(Place, u16, String),
}

impl Spot {
    fn of(tree: &Tree, pointer: &str) -> Self {
        let part = tree.part(pointer).unwrap_or_default();
        Self::File(part.span.value, part.span.layer, pointer.to_owned())
    }

    fn fault(&self, code: &'static str, message: String) -> Fault {
        match self {
            Self::Flag(layer) => Fault::new(Place::START, code, message).in_layer(*layer),
            Self::File(place, layer, pointer) => {
                Fault::new(*place, code, message).in_layer(*layer).at(pointer)
            }
        }
    }
}

fn read_flags<'text>(
    settings: &'text [String],
    names: &[&str],
    flag: u16,
    faults: &mut Vec<Fault>,
) -> BTreeMap<&'text str, &'text str> {
    let mut set = BTreeMap::new();
    for setting in settings {
        let Some((name, value)) = setting.split_once('=') else {
            let message = "flag `--set` must be `NAME=VALUE`";
            faults.push(
                Fault::new(Place::START, "config.bad_flag", message)
                    .with_help("such as `--set user_id=42`")
                    .in_layer(flag),
            );
            continue;
        };
        if names.contains(&name) {
            set.insert(name, value);
            continue;
        }
        let shown = if is_name(name, true) {
            format!(" `{name}`")
        } else {
            String::new()
        };
        let message = format!(
            "flag `--set` names an unknown parameter{shown} ({})",
            known_words(names)
        );
        let help = match nearest(name, names.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "declare it under `parameters` of the job".to_owned(),
        };
        faults.push(
            Fault::new(Place::START, "config.unknown_parameter", message)
                .with_help(help)
                .in_layer(flag),
        );
    }
    set
}

/// The default of a parameter as a text, and whether it is a secret.
fn default(
    tree: &Tree,
    name: &str,
    about: &Value,
    pointer: &str,
    resolver: &mut Resolver<'_>,
) -> Option<(String, bool)> {
    let members = about.as_object()?;
    match members.get("default") {
        Some(Value::String(text)) => {
            let pointer = join(pointer, "default");
            let span = tree.part(&pointer)?.span;
            let path = format!("parameters.{name}.default");
            let resolved = resolver.text(text, &span, &pointer, &path)?;
            Some((resolved.text, resolved.is_secret))
        }
        Some(Value::Number(number)) => Some((number.to_string(), false)),
        Some(Value::Bool(value)) => Some((value.to_string(), false)),
        // The schema says what is wrong with it.
        Some(_) => None,
        None => {
            let shown = if is_name(name, true) { name } else { "NAME" };
            let span = tree.part(pointer)?.span;
            resolver.faults.push(
                Fault::new(
                    span.key.unwrap_or(span.value),
                    "config.missing_parameter",
                    format!("parameter `{shown}` has neither a value nor a default"),
                )
                .with_help(format!("give it one: `--set {shown}=VALUE`"))
                .in_layer(span.layer)
                .at(pointer),
            );
            None
        }
    }
}

fn check(
    name: &str,
    pattern: &str,
    text: &str,
    spot: &Spot,
    tree: &Tree,
    pointer: &str,
    faults: &mut Vec<Fault>,
) {
    let whole = format!("^(?:{pattern})$");
    let regex = regex::RegexBuilder::new(&whole)
        .size_limit(PATTERN_BYTES_MAX)
        .build();
    // `(?:` around one alternative of a broken pattern could close it by chance.
    match (regex, Regex::new(pattern)) {
        (Ok(regex), Ok(_)) => {
            if !regex.is_match(text) {
                let message = format!("parameter `{name}` must match `{pattern}`");
                let fault = spot.fault("config.bad_parameter", message);
                let said = tree.value.pointer(&join(pointer, "description"));
                faults.push(match said.and_then(Value::as_str) {
                    Some(description) => fault.with_help(format!("`{name}`: {description}")),
                    None => fault,
                });
            }
        }
        _ => faults.push(
            Spot::of(tree, &join(pointer, "pattern"))
                .fault(
                    "config.bad_pattern",
                    format!("`parameters.{name}.pattern` is no regular expression that can be used"),
                )
                .with_help("see https://docs.rs/regex for what can be written, such as `[0-9]+`"),
        ),
    }
}

/// Parameters that nothing refers to.
pub(crate) fn unused(tree: &Tree, used: &BTreeSet<String>) -> Vec<Fault> {
    let declared = tree.value.get("parameters").and_then(Value::as_object);
    declared
        .into_iter()
        .flatten()
        .filter(|(name, _)| is_name(name, true) && !used.contains(*name))
        .filter_map(|(name, _)| {
            let pointer = join("/parameters", name);
            let span = tree.part(&pointer)?.span;
            Some(
                Fault::new(
                    span.key.unwrap_or(span.value),
                    "config.unused_parameter",
                    format!("parameter `{name}` is used nowhere"),
                )
                .with_help(format!(
                    "write `${{param:{name}}}` where its value belongs, or remove it"
                ))
                .in_layer(span.layer)
                .at(pointer),
            )
        })
        .collect()
}
