//! Reads steps and conditions out of the job, and says where one is wrong and what would be right.
//!
//! The host has compared the config with its JSON Schema before; this is for hosts that do not, and for what a schema
//! cannot say. Serde's own texts quote values, so that only their known shapes are passed on.

use serde::de::DeserializeOwned;
use serde_json::Value;

use whimbrel_plugin_api::{Error, Result};

use crate::condition::Condition;
use crate::config::{ReshapeConfig, Step};

/// Characters of a word of the job that a message repeats.
const WORD_CHARACTERS_MAX: usize = 60;

/// An error of the config at `place`.
pub(crate) fn wrong(code: &str, message: impl Into<String>, place: &str) -> Error {
    Error::config(format!("reshape.{code}"), message).with_place(place)
}

/// A step with its place in the config.
#[derive(Debug, Clone)]
pub(crate) struct PlacedStep {
    pub(crate) place: String,
    pub(crate) step: Step,
}

/// Reads all steps.
pub(crate) fn steps(config: &ReshapeConfig) -> Result<Vec<PlacedStep>> {
    let read = |(index, value): (usize, &Value)| {
        let place = format!("config.steps[{index}]");
        let step = one_step(value, &place)?;
        Ok(PlacedStep { place, step })
    };
    config.steps.iter().enumerate().map(read).collect()
}

/// Reads the condition `rule`.
pub(crate) fn rule(config: &ReshapeConfig) -> Result<Option<Condition>> {
    config
        .rule
        .as_ref()
        .map(|value| parse(value, "config.rule"))
        .transpose()
}

fn one_step(value: &Value, place: &str) -> Result<Step> {
    let valid = Step::NAMES.join(", ");
    let Some(members) = value.as_object() else {
        return Err(wrong(
            "bad_step",
            format!("a step is an object with one operation (valid: {valid})"),
            place,
        ));
    };
    let mut names = members.keys();
    match (names.next(), names.next()) {
        (Some(name), None) if Step::NAMES.contains(&name.as_str()) => parse(value, place),
        (Some(name), None) => Err(wrong(
            "unknown_operation",
            format!("unknown operation `{}` (valid: {valid})", shorten(name)),
            place,
        )),
        (None, _) => Err(wrong(
            "bad_step",
            format!("a step has no operation (valid: {valid})"),
            place,
        )),
        (Some(first), Some(second)) => Err(wrong(
            "bad_step",
            format!(
                "a step has several operations, `{}` and `{}` among them",
                shorten(first),
                shorten(second)
            ),
            place,
        )
        .with_help("make each of them a step of its own, in the order in which they are wanted")),
    }
}

fn parse<T: DeserializeOwned>(value: &Value, place: &str) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let place = match path.as_str() {
            "." => place.to_owned(),
            path => format!("{place}.{path}"),
        };
        explain(&error.inner().to_string(), &place)
    })
}

fn explain(text: &str, place: &str) -> Error {
    if let Some((name, known)) = quoted(text, "unknown field `") {
        let message = format!("unknown key `{}`{}", shorten(name), valid("known keys", known));
        return wrong("unknown_key", message, place);
    }
    if let Some((name, known)) = quoted(text, "unknown variant `") {
        let message = format!("`{}` is not valid here{}", shorten(name), valid("valid", known));
        return wrong("bad_value", message, place);
    }
    if let Some((name, known)) = quoted(text, "unknown type `") {
        let known = known.trim_start_matches(", valid: ");
        let message = format!("unknown type `{}` (valid: {known})", shorten(name));
        return wrong("unknown_type", message, place);
    }
    if let Some((name, _)) = quoted(text, "missing field `") {
        return wrong("missing_key", format!("the key `{name}` is missing"), place);
    }
    match text.rsplit_once(", expected ") {
        Some((_, wanted)) => wrong(
            "bad_value",
            format!("a value of another kind is expected: {wanted}"),
            place,
        ),
        None => wrong("bad_value", "the value cannot be read", place),
    }
}

/// The word after `opening` up to its backtick, and what follows.
fn quoted<'t>(text: &'t str, opening: &str) -> Option<(&'t str, &'t str)> {
    text.strip_prefix(opening)?.split_once('`')
}

fn valid(word: &str, serde_list: &str) -> String {
    let list = serde_list
        .trim_start_matches(", expected one of ")
        .trim_start_matches(", expected ")
        .replace('`', "");
    match list.as_str() {
        "" => String::new(),
        list => format!(" ({word}: {})", list.replace(" or ", ", ")),
    }
}

/// A word of the job as a message repeats it.
pub(crate) fn shorten(word: &str) -> String {
    match word.char_indices().nth(WORD_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &word[..end]),
        None => word.to_owned(),
    }
}
