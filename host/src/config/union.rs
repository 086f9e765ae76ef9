//! A value that fits none of several forms: which form was meant, and what is wrong with that one.
//!
//! JSON Schema says only "none fits". Here the form is chosen as a person would: by the type, by a key whose value
//! names the form, or by the one key that each form has for itself. What stays undecided is listed.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::fault::{Fault, Subject, quoted_key};
use super::schema::{form_words, list_values, literals, required_keys, resolve, types};
use super::spans::join;
use super::validate::Comparison;

/// Forms that one message lists.
const FORMS_LISTED_MAX: usize = 8;

/// One form, and what keeps the value from fitting it.
#[derive(Clone, Copy)]
struct Form<'a> {
    schema: &'a Value,
    errors: &'a [ValidationError<'static>],
}

/// Adds what is wrong with the value at `pointer`, which should fit one of `keyword`'s forms.
pub(crate) fn say(
    comparison: &Comparison<'_>,
    pointer: &str,
    keyword: &Value,
    context: &[Vec<ValidationError<'static>>],
    found: &Value,
    faults: &mut Vec<Fault>,
) {
    let root = comparison.schema;
    let schemas = keyword.as_array().map(Vec::as_slice).unwrap_or_default();
    let forms: Vec<Form<'_>> = schemas
        .iter()
        .zip(context)
        .map(|(schema, errors)| Form { schema, errors })
        .collect();

    let closed: Option<Vec<Vec<&Value>>> = schemas.iter().map(|schema| literals(root, schema)).collect();
    if let Some(values) = closed.filter(|values| !values.is_empty()) {
        faults.push(comparison.not_one_of(pointer, &values.concat(), found));
        return;
    }

    let fitting: Vec<Form<'_>> = forms
        .iter()
        .copied()
        .filter(|form| !has_other_type(comparison, form, pointer))
        .collect();
    match fitting.as_slice() {
        [] => {
            let kinds: Vec<&str> = schemas.iter().flat_map(|schema| types(root, schema)).collect();
            faults.push(comparison.wrong_type(pointer, &kinds, &[], found));
        }
        [form] => {
            let before = faults.len();
            say_all(comparison, form, faults);
            // Of the right type, but no valid word: the other types are valid, too.
            for fault in faults
                .iter_mut()
                .skip(before)
                .filter(|fault| fault.pointer == pointer && forms.len() > 1)
            {
                if fault.subject == Subject::NotOneOf && fault.help.is_none() {
                    fault.help = Some(valid_forms(comparison, schemas.iter()));
                }
            }
        }
        several => {
            if !by_tag(comparison, pointer, several, found, faults)
                && !by_own_key(comparison, pointer, several, found, faults)
            {
                faults.push(undecided(
                    comparison,
                    pointer,
                    "fits none of its forms",
                    several.iter().map(|form| form.schema),
                ));
            }
        }
    }
}

/// A value that fits more than one form where only one may.
pub(crate) fn ambiguous(comparison: &Comparison<'_>, pointer: &str, keyword: &Value) -> Fault {
    let schemas = keyword.as_array().map(Vec::as_slice).unwrap_or_default();
    undecided(
        comparison,
        pointer,
        "fits several forms, of which one must be chosen",
        schemas.iter(),
    )
}

fn undecided<'a>(
    comparison: &Comparison<'_>,
    pointer: &str,
    what: &str,
    schemas: impl Iterator<Item = &'a Value>,
) -> Fault {
    comparison
        .value_fault(pointer, "config.bad_value", what)
        .with_help(valid_forms(comparison, schemas))
}

fn valid_forms<'a>(comparison: &Comparison<'_>, schemas: impl Iterator<Item = &'a Value>) -> String {
    let words: Vec<String> = schemas
        .take(FORMS_LISTED_MAX)
        .map(|schema| form_words(comparison.schema, schema))
        .collect();
    format!("valid forms: {}", words.join("; "))
}

fn say_all(comparison: &Comparison<'_>, form: &Form<'_>, faults: &mut Vec<Fault>) {
    for error in form.errors {
        comparison.say(error, faults);
    }
}

/// Whether the value is of a type that the form does not allow, or a form of fixed values that it is not.
fn has_other_type(comparison: &Comparison<'_>, form: &Form<'_>, pointer: &str) -> bool {
    form.errors.iter().any(|error| {
        let about_type = matches!(error.kind(), Kind::Type { .. })
            || (matches!(error.kind(), Kind::Constant { .. } | Kind::Enum { .. })
                && !types(comparison.schema, form.schema)
                    .contains(&super::schema::type_of(error.instance())));
        about_type && comparison.pointer(error) == pointer
    })
}

/// Forms told apart by the value of a key that they all have (`kind: token`).
fn by_tag(
    comparison: &Comparison<'_>,
    pointer: &str,
    forms: &[Form<'_>],
    found: &Value,
    faults: &mut Vec<Fault>,
) -> bool {
    let root = comparison.schema;
    let first = resolve(root, forms[0].schema)
        .get("properties")
        .and_then(Value::as_object);
    let tag = first
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
        .find(|key| forms.iter().all(|form| literals_of(root, form, key).is_some()));
    let Some(tag) = tag else { return false };
    let values: Vec<&Value> = forms
        .iter()
        .filter_map(|form| literals_of(root, form, tag))
        .flatten()
        .collect();
    let Some(value) = found.get(tag) else {
        let help = format!("valid values of {}: {}", quoted_key(tag), list_values(&values));
        faults.push(comparison.missing_key(pointer, tag, &Value::Null).with_help(help));
        return true;
    };
    let named = forms
        .iter()
        .find(|form| literals_of(root, form, tag).is_some_and(|values| values.contains(&value)));
    match named {
        Some(form) => say_all(comparison, form, faults),
        None => faults.push(comparison.not_one_of(&join(pointer, tag), &values, value)),
    }
    true
}

/// Forms told apart by a required key that no other form has (`{ token: ... }` or `{ password: ... }`).
fn by_own_key(
    comparison: &Comparison<'_>,
    pointer: &str,
    forms: &[Form<'_>],
    found: &Value,
    faults: &mut Vec<Fault>,
) -> bool {
    let root = comparison.schema;
    let Some(members) = found.as_object() else {
        return false;
    };
    let is_own = |key: &str| {
        forms
            .iter()
            .filter(|form| keys_of(root, form).contains(&key))
            .count()
            == 1
    };
    let meant: Vec<&Form<'_>> = forms
        .iter()
        .filter(|form| {
            keys_of(root, form)
                .iter()
                .any(|key| is_own(key) && members.contains_key(*key))
        })
        .collect();
    if let [form] = meant.as_slice() {
        say_all(comparison, form, faults);
        return true;
    }
    // Forms of one key each, as an enum with data is written: an unknown key can only be a misspelt form.
    let single: Option<Vec<&str>> = forms
        .iter()
        .map(|form| match keys_of(root, form).as_slice() {
            [key] => Some(*key),
            _ => None,
        })
        .collect();
    let (Some(mut known), Some(key), 1) = (single, members.keys().next(), members.len()) else {
        return false;
    };
    if known.contains(&key.as_str()) {
        return false;
    }
    known.sort_unstable();
    known.dedup();
    faults.push(comparison.unknown_key(pointer, key, &known));
    true
}

/// The values that the form allows for `key`, if they are a closed list.
fn literals_of<'a>(root: &'a Value, form: &Form<'a>, key: &str) -> Option<Vec<&'a Value>> {
    literals(root, resolve(root, form.schema).get("properties")?.get(key)?)
}

/// The keys that the form requires.
fn keys_of<'a>(root: &'a Value, form: &Form<'a>) -> Vec<&'a str> {
    required_keys(resolve(root, form.schema))
}
