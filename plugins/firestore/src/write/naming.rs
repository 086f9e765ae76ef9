//! Names, keys and types that Firestore has no place for, found before anything is written.
//! Not here: what only the values show, which `limits` and `value::encode` look at.

use arrow_array::new_empty_array;
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{Collection, Finding, RecordType};

use super::limits::{is_reserved, name_fault};
use crate::path::{OWN_COLLECTION, PATH_FIELD, Pattern};
use crate::value::Place;

/// Octets of the id of a collection.
const COLLECTION_ID_BYTES_MAX: usize = 1_500;
/// Collections within one another.
const COLLECTION_DEPTH_MAX: usize = 100;

/// Where the records of a collection go; what is in the way is added to `findings`.
pub(super) fn place(collection: &Collection, findings: &mut Vec<Finding>) -> Option<Place> {
    let pattern = match Pattern::parse(&collection.name) {
        Ok(pattern) => pattern,
        Err(error) => {
            findings.push(Finding::of_error(&error).with_collection(&collection.name));
            return None;
        }
    };
    let fault = pattern_fault(&pattern)
        .map(|why| {
            Finding::blocker(
                "firestore.bad_collection",
                format!("the collection name `{}` {why}", collection.name),
            )
            .with_help("give the collection another name in the sink")
        })
        .or_else(|| key_fault(collection, &pattern));
    match fault {
        Some(finding) => {
            findings.push(finding.with_collection(&collection.name));
            None
        }
        None => Some(Place {
            pattern,
            key: collection.key.clone(),
        }),
    }
}

/// Adds to `findings` the fields that documents cannot have.
pub(super) fn check_fields(collection: &Collection, findings: &mut Vec<Finding>) {
    let name = &collection.name;
    for field in &collection.schema.fields {
        let is_in_path =
            field.name == PATH_FIELD || (is_reserved(&field.name) && collection.key.contains(&field.name));
        if !is_in_path && let Some(fault) = name_fault(&field.name) {
            findings.push(
                Finding::blocker(
                    "firestore.bad_field_name",
                    format!("the field `{}` of `{name}` has {fault}", field.name),
                )
                .with_help("give it another name, or leave it out, by a transform of the job")
                .with_collection(name),
            );
        }
        if let Some((code, fault)) = type_fault(&field.record_type) {
            findings.push(
                Finding::blocker(
                    code,
                    format!(
                        "the field `{}` of `{name}`, of type `{}`, {fault}",
                        field.name, field.record_type
                    ),
                )
                .with_help("change it by a transform of the job, such as to json text")
                .with_collection(name),
            );
        }
    }
}

fn pattern_fault(pattern: &Pattern) -> Option<String> {
    let ids = match pattern {
        Pattern::Nested(ids) => ids.as_slice(),
        Pattern::Group(id) => std::slice::from_ref(id),
    };
    if ids.first().is_some_and(|id| id == OWN_COLLECTION) {
        return Some("is the one in which whimbrel keeps what it has to remember".to_owned());
    }
    if ids.len() > COLLECTION_DEPTH_MAX {
        return Some(format!(
            "is nested deeper than {COLLECTION_DEPTH_MAX} collections"
        ));
    }
    ids.iter().find_map(|id| {
        if matches!(id.as_str(), "." | "..") {
            Some("has the id `.` or `..`, which Firestore does not take".to_owned())
        } else if is_reserved(id) {
            Some("has an id that Firestore keeps to itself (`__..__`)".to_owned())
        } else if id.len() > COLLECTION_ID_BYTES_MAX {
            Some(format!(
                "has an id of {} octets, Firestore takes {COLLECTION_ID_BYTES_MAX}",
                id.len()
            ))
        } else {
            None
        }
    })
}

fn key_fault(collection: &Collection, pattern: &Pattern) -> Option<Finding> {
    let (name, key) = (&collection.name, &collection.key);
    if key.is_empty() {
        return Some(
            Finding::blocker(
                "firestore.no_key",
                format!("`{name}` has no key, from which the ids of its documents are made"),
            )
            .with_help("name a key in the job (`key: [..]`)"),
        );
    }
    let wanted = match pattern {
        Pattern::Nested(ids) => ids.len(),
        Pattern::Group(_) => 1,
    };
    let fits = key.len() == wanted || matches!(pattern, Pattern::Nested(ids) if ids.len() == 1);
    if !fits {
        let message = format!(
            "`{name}` takes {wanted} key fields, one for each document on the way, and the key has {}: `{}`",
            key.len(),
            key.join("`, `")
        );
        return Some(
            Finding::blocker("firestore.key_does_not_fit", message)
                .with_help("name the key in the job in the order of the path, or write to a root collection"),
        );
    }
    key.iter().find_map(|name| {
        let field = collection.schema.fields.iter().find(|field| field.name == *name);
        let Some(field) = field else {
            let message = format!("`{}` has no field `{name}`, which is in its key", collection.name);
            return Some(
                Finding::blocker("firestore.key_does_not_fit", message).with_help("name fields that it has"),
            );
        };
        let has_text = TextEncoder::new(
            &field.record_type,
            &new_empty_array(&field.record_type.to_arrow()),
        )
        .is_ok();
        (!has_text).then(|| {
            Finding::blocker(
                "firestore.key_does_not_fit",
                format!(
                    "the key field `{name}` of `{}` is of type `{}`, of which no id can be made",
                    collection.name, field.record_type
                ),
            )
            .with_help("name key fields with single values, such as texts and integers")
        })
    })
}

fn type_fault(record_type: &RecordType) -> Option<(&'static str, String)> {
    match record_type {
        RecordType::List { item } if matches!(**item, RecordType::List { .. } | RecordType::Vector) => {
            Some((
                "firestore.array_in_array",
                "has arrays directly in arrays, which Firestore does not take".to_owned(),
            ))
        }
        RecordType::List { item } => type_fault(item),
        RecordType::Struct { fields } => fields.iter().find_map(|field| match name_fault(&field.name) {
            Some(fault) => Some(("firestore.bad_field_name", format!("has a member with {fault}"))),
            None => type_fault(&field.record_type),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::record_type::{Field, Schema};

    use super::*;

    fn codes(name: &str, key: &[&str], fields: &[(&str, RecordType)]) -> Vec<String> {
        let fields = fields
            .iter()
            .map(|(name, record_type)| Field::new(*name, record_type.clone()));
        let collection = Collection::new(name, Schema::new(fields.collect())).with_key(key.iter().copied());
        let mut findings = Vec::new();
        let place = place(&collection, &mut findings);
        check_fields(&collection, &mut findings);
        assert!(
            findings
                .iter()
                .all(|finding| finding.message.contains(name) && finding.help.is_some())
        );
        assert!(place.is_some() || !findings.is_empty());
        findings.into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn names_that_cannot_be_collections_are_found() {
        let fields = [("id", RecordType::Text), ("other", RecordType::INT64)];
        let long = "x".repeat(1_501);
        let deep = ["a"; 101].join("/*/");
        for name in [
            "a/b",
            "",
            "..",
            "__x__",
            "a/*/.",
            "_whimbrel",
            "users/ann/orders",
            &long,
            &deep,
        ] {
            let key: &[&str] = if name.contains("/*/") {
                &["id", "other"]
            } else {
                &["id"]
            };
            assert_eq!(codes(name, key, &fields), ["firestore.bad_collection"], "{name}");
        }
        for name in ["a.b", "a b", "*", "_whimbrel2", "**/_x"] {
            assert_eq!(codes(name, &["id"], &fields), [""; 0], "{name}");
        }
    }

    #[test]
    fn keys_fit_the_pattern() {
        let fields = [
            ("id", RecordType::Text),
            ("other", RecordType::INT64),
            ("place", RecordType::Geopoint),
        ];
        for (name, key, expected) in [
            ("users", vec![], "firestore.no_key"),
            ("users", vec!["id"], ""),
            ("users", vec!["id", "other"], ""),
            ("users", vec!["missing"], "firestore.key_does_not_fit"),
            ("users", vec!["place"], "firestore.key_does_not_fit"),
            ("users/*/orders", vec!["id"], "firestore.key_does_not_fit"),
            ("users/*/orders", vec!["id", "other"], ""),
            (
                "users/*/orders",
                vec!["id", "other", "id"],
                "firestore.key_does_not_fit",
            ),
            ("**/orders", vec!["id"], ""),
            ("**/orders", vec!["id", "other"], "firestore.key_does_not_fit"),
        ] {
            let found = codes(name, &key, &fields);
            assert_eq!(
                found.first().map_or("", String::as_str),
                expected,
                "{name} {key:?}"
            );
        }
    }

    #[test]
    fn fields_that_documents_cannot_have_are_found() {
        let list = RecordType::list;
        let within = |name: &str, record_type| RecordType::Struct {
            fields: vec![Field::new(name, record_type)],
        };
        for (name, record_type, expected) in [
            ("__x__", RecordType::Text, "firestore.bad_field_name"),
            ("", RecordType::Text, "firestore.bad_field_name"),
            ("__path__", RecordType::Text, ""),
            ("a.b", RecordType::Text, ""),
            ("a", list(list(RecordType::Text)), "firestore.array_in_array"),
            ("a", list(RecordType::Vector), "firestore.array_in_array"),
            ("a", list(within("b", list(RecordType::Text))), ""),
            ("a", within("__b__", RecordType::Text), "firestore.bad_field_name"),
            (
                "a",
                within("b", list(list(RecordType::Text))),
                "firestore.array_in_array",
            ),
        ] {
            let found = codes(
                "users",
                &["__id__"],
                &[("__id__", RecordType::Text), (name, record_type)],
            );
            assert_eq!(found.first().map_or("", String::as_str), expected, "{name}");
        }
    }
}
