//! What Google's client says of a project (`harness/firestore/dump.mjs`), and how a copy may differ: by declared losses alone.
//!
//! Values are JSON with their types, as `{"double":"1"}`. Neighbour: `firestore_job`, which has the jobs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// So many differences are shown, and so much of each.
const DIFFERENCES_SHOWN: usize = 20;
const DIFFERENCE_CHARS_MAX: usize = 400;

/// Losses by collection in Firestore, field, and name.
pub type Losses = BTreeSet<(String, String, String)>;

/// The fields of each document of a project with their types, by path.
#[derive(Debug, Clone, PartialEq)]
pub struct Dump(pub BTreeMap<String, Value>);

impl Dump {
    /// From what the script prints.
    pub fn read(text: &str) -> Self {
        let document = |line: &str| {
            let mut document: Value = serde_json::from_str(line).expect("a line is JSON");
            let path = document["path"].as_str().expect("it has a path").to_owned();
            (path, document["fields"].take())
        };
        Self(text.lines().map(document).collect())
    }

    /// The documents whose ancestor on so many levels above is not there.
    pub fn below_missing(&self, levels: usize) -> Vec<&str> {
        let is_below = |path: &&str| {
            let segments: Vec<&str> = path.split('/').collect();
            let ancestor = segments
                .len()
                .checked_sub(2 * levels)
                .filter(|length| *length > 0);
            ancestor.is_some_and(|length| !self.0.contains_key(&segments[..length].join("/")))
        };
        self.0.keys().map(String::as_str).filter(is_below).collect()
    }

    /// Fails unless `copy` has the same documents, and each value that differs is what its field's `losses` make of it; how many
    /// values each loss has changed.
    #[track_caller]
    pub fn assert_equal_but_for(&self, losses: &Losses, copy: &Self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        let mut wrong = Vec::new();
        let paths: BTreeSet<&String> = self.0.keys().chain(copy.0.keys()).collect();
        for path in paths {
            match (self.0.get(path), copy.0.get(path)) {
                (Some(fields), Some(copied)) => {
                    wrong.extend(differences(path, fields, copied, losses, &mut counts));
                }
                (fields, _) => wrong.push(format!(
                    "{path:?} is only in the {}",
                    if fields.is_some() { "original" } else { "copy" }
                )),
            }
        }
        let shown: Vec<String> = wrong
            .iter()
            .take(DIFFERENCES_SHOWN)
            .map(|line| line.chars().take(DIFFERENCE_CHARS_MAX).collect())
            .collect();
        assert!(
            wrong.is_empty(),
            "{} differences:\n{}",
            wrong.len(),
            shown.join("\n")
        );
        counts
    }

    /// Fails unless `copy` has the same documents with the same values of the same types.
    #[track_caller]
    pub fn assert_equal(&self, copy: &Self) {
        self.assert_equal_but_for(&Losses::new(), copy);
    }
}

/// The losses that a plan or report declares; `side` is the side that is Firestore.
pub fn declared(report: &Value, side: &str) -> Losses {
    let mut losses = Losses::new();
    for collection in report["collections"].as_array().expect("collections") {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        for loss in collection["losses"].as_array().expect("losses") {
            losses.insert((
                text(&collection[side]),
                text(&loss["field"]),
                text(&loss["loss"]["loss"]),
            ));
        }
    }
    losses
}

/// The pattern of the collection of a document.
fn pattern(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').collect();
    let named = segments
        .iter()
        .enumerate()
        .map(|(at, id)| if at % 2 == 0 { id } else { "*" });
    named.take(segments.len() - 1).collect::<Vec<_>>().join("/")
}

fn differences(
    path: &str,
    fields: &Value,
    copied: &Value,
    losses: &Losses,
    counts: &mut BTreeMap<String, u64>,
) -> Vec<String> {
    let pattern = pattern(path);
    let members = [fields, copied].map(|fields| fields.as_object().expect("fields are an object"));
    let names: BTreeSet<&String> = members.iter().flat_map(|members| members.keys()).collect();
    let mut wrong = Vec::new();
    for name in names {
        let (value, copy) = (members[0].get(name), members[1].get(name));
        if value == copy {
            continue;
        }
        let mut lost = value.cloned();
        let mut changes = Vec::new();
        for (_, _, loss) in losses
            .iter()
            .filter(|(collection, field, _)| *collection == pattern && field == name)
        {
            let count = match &mut lost {
                Some(value) => lose(value, loss),
                None if loss == "absent_to_null" => {
                    lost = Some(json!({ "null": true }));
                    1
                }
                None => 0,
            };
            changes.push((loss, count));
        }
        if lost.as_ref() == copy {
            for (loss, count) in changes {
                *counts.entry(loss.clone()).or_default() += count;
            }
        } else {
            wrong.push(format!("{path:?} {name:?}: {value:?} -> {copy:?}"));
        }
    }
    wrong
}

/// Carries out a loss within a value of a dump; how often it did.
fn lose(value: &mut Value, loss: &str) -> u64 {
    let (kind, content) = value
        .as_object_mut()
        .and_then(|value| value.iter_mut().next())
        .expect("a value has a type");
    let replaced = match (loss, kind.as_str(), &mut *content) {
        (_, "array", Value::Array(items)) => return items.iter_mut().map(|item| lose(item, loss)).sum(),
        (_, "map", Value::Object(members)) => {
            return members.values_mut().map(|member| lose(member, loss)).sum();
        }
        ("nan_to_null", "double", text) if text == "NaN" => json!({ "null": true }),
        ("negative_zero_to_zero", "double", text) if text == "-0" => json!({ "double": "0" }),
        ("nul_removed", "string", Value::String(text)) if text.contains('\0') => {
            json!({ "string": text.replace('\0', "") })
        }
        // The order of members and the spelling of numbers are nothing that Firestore keeps, and its null is one.
        ("json_normalised" | "json_null_to_null", ..)
        | ("absent_to_null" | "nan_to_null" | "negative_zero_to_zero" | "nul_removed", ..) => return 0,
        _ => panic!("the loss `{loss}` is not known here"),
    };
    *value = replaced;
    1
}

#[cfg(test)]
mod comparing {
    //! The comparison itself: a copy that differs is not taken for equal.

    use super::{Dump, Losses, declared};
    use serde_json::json;

    fn dump(value: &str) -> Dump {
        Dump::read(&format!(
            "{{\"path\":\"users/ann/orders/1\",\"fields\":{{\"price\":{value}}}}}\n"
        ))
    }

    fn losses(loss: &str) -> Losses {
        declared(
            &json!({ "collections": [{ "source": "users/*/orders", "losses": [{ "field": "price", "loss": { "loss": loss } }] }] }),
            "source",
        )
    }

    #[test]
    fn a_declared_loss_is_counted_where_it_has_changed_a_value() {
        let list = |first: &str| {
            dump(&format!(
                r#"{{"array":[{{"double":"{first}"}},{{"double":"NaN"}}]}}"#
            ))
        };
        let counts = list("-0").assert_equal_but_for(&losses("negative_zero_to_zero"), &list("0"));
        assert_eq!(counts["negative_zero_to_zero"], 1);
        // What was declared need not happen.
        let counts = list("-0").assert_equal_but_for(&losses("negative_zero_to_zero"), &list("-0"));
        assert!(counts.is_empty());
        assert_eq!(list("0").below_missing(1), ["users/ann/orders/1"]);
    }

    #[test]
    #[should_panic(expected = "1 differences")]
    fn an_integer_is_no_double() {
        dump(r#"{"integer":"1"}"#).assert_equal(&dump(r#"{"double":"1"}"#));
    }

    #[test]
    #[should_panic(expected = "1 differences")]
    fn a_loss_that_was_not_declared_is_a_difference() {
        let (was, is) = (dump(r#"{"double":"NaN"}"#), dump(r#"{"null":true}"#));
        was.assert_equal_but_for(&losses("negative_zero_to_zero"), &is);
    }

    #[test]
    #[should_panic(expected = "only in the original")]
    fn a_document_that_is_missing_is_a_difference() {
        dump(r#"{"null":true}"#).assert_equal(&Dump::read(""));
    }
}
