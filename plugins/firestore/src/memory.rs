//! Documents of `_whimbrel`: the record types of fields that Firestore has no type of its own for.
//!
//! A date is a text to Firestore. What the sink wrote is remembered here per collection, so that reading gives the schema that was
//! written. Nothing is kept of collections whose fields say all of it themselves, such as copies of other Firestore
//! collections. What no longer fits is ignored, never believed. Neighbours: `sink` stores, `discovery` loads.

use std::collections::{BTreeMap, HashMap};

use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::write::Operation;
use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, CommitRequest, Document, Value, Write, batch_get_documents_request,
    batch_get_documents_response,
};
use gcloud_sdk::prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Error, Field, Result};

use crate::client::Client;
use crate::error::{Class, Fault};
use crate::path::{OWN_COLLECTION, Root};

/// The form of these documents; others are passed over.
const FORMAT: i64 = 1;
/// The field that holds [`FORMAT`].
const FORMAT_FIELD: &str = "format";
/// The field that holds the name of the collection.
const NAME_FIELD: &str = "collection";
/// The field that holds what is remembered, as JSON.
const CONTENT_FIELD: &str = "remembered";
/// Documents of one request: well below what the service takes.
const DOCUMENTS_PER_REQUEST: usize = 100;
/// Octets of a document's id; the service takes 1,500.
const ID_BYTES_MAX: usize = 1_500;
/// Octets of a name that is too long for an id that are kept in front of its hash, for people who look.
const ID_HEAD_BYTES: usize = 1_000;
/// Octets of what is remembered: the service takes documents of 1 MiB, with the name and the other fields.
const CONTENT_BYTES_MAX: usize = 1_000_000;

/// What is remembered of one collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// The fields, in the order of the schema that was written.
    pub(crate) fields: Vec<Field>,
    /// The key fields of the schema that was written, in order: fields of the documents, and the source of their ids.
    pub(crate) key: Vec<String>,
    /// Whether records may lack fields.
    pub(crate) presence: bool,
}

/// What is remembered of the collections called `names`, by name. Each different name is a document read, since the service
/// bills those that are not there, too.
pub(crate) async fn load(
    client: &Client,
    names: &[String],
    read_time: Option<Timestamp>,
) -> Result<BTreeMap<String, Remembered>> {
    let mut remembered = BTreeMap::new();
    let mut paths: Vec<String> = names.iter().map(|name| document_path(name)).collect();
    paths.sort_unstable();
    paths.dedup();
    for some in paths.chunks(DOCUMENTS_PER_REQUEST) {
        load_some(client, some, read_time, &mut remembered).await?;
    }
    Ok(remembered)
}

/// The name and what is remembered of that collection, from a document of [`OWN_COLLECTION`]; `None` for what others, or later
/// versions, have put there.
pub(crate) fn read(path: &str, fields: &HashMap<String, Value>) -> Option<(String, Remembered)> {
    let field = |name: &str| fields.get(name)?.value_type.as_ref();
    let (
        Some(ValueType::IntegerValue(FORMAT)),
        Some(ValueType::StringValue(name)),
        Some(ValueType::StringValue(content)),
    ) = (field(FORMAT_FIELD), field(NAME_FIELD), field(CONTENT_FIELD))
    else {
        return None;
    };
    // The hash of a long name may be that of another one.
    if document_path(name) != path {
        return None;
    }
    let remembered: Remembered = serde_json::from_str(content).ok()?;
    let is_sound = remembered
        .fields
        .iter()
        .all(|field| field.record_type.validate().is_ok());
    is_sound.then(|| (name.clone(), remembered))
}

/// Remembers a collection, in place of what was known of it.
///
/// # Errors
/// `firestore.memory_too_large`; what writing brings.
pub(crate) async fn store(client: &Client, name: &str, remembered: &Remembered) -> Result<()> {
    let document = document(client.root(), name, remembered)?;
    write(client, vec![Operation::Update(document)]).await
}

/// Forgets collections.
pub(crate) async fn forget(client: &Client, names: &[String]) -> Result<()> {
    for some in names.chunks(DOCUMENTS_PER_REQUEST) {
        let delete = |name: &String| Operation::Delete(client.root().document(&document_path(name)));
        write(client, some.iter().map(delete).collect()).await?;
    }
    Ok(())
}

fn document(root: &Root, name: &str, remembered: &Remembered) -> Result<Document> {
    let content = serde_json::to_string(remembered)
        .map_err(|error| Error::internal("record types could not be written").with_cause(&error))?;
    if content.len() + name.len() > CONTENT_BYTES_MAX {
        return Err(Error::invalid_data(
            "firestore.memory_too_large",
            format!("the record types of `{name}` do not fit into one document"),
        )
        .with_help("set `writing.keep_types` to false, or copy fewer fields"));
    }
    let fields = [
        (FORMAT_FIELD, ValueType::IntegerValue(FORMAT)),
        (NAME_FIELD, ValueType::StringValue(name.to_owned())),
        (CONTENT_FIELD, ValueType::StringValue(content)),
    ];
    let value = |value_type| Value {
        value_type: Some(value_type),
    };
    Ok(Document {
        name: root.document(&document_path(name)),
        fields: fields
            .into_iter()
            .map(|(name, value_type)| (name.to_owned(), value(value_type)))
            .collect(),
        ..Document::default()
    })
}

/// The path of the document that remembers the collection called `name`.
fn document_path(name: &str) -> String {
    // In front, so that no name becomes `.`, `..` or an id that the service keeps to itself.
    let mut id = "of:".to_owned();
    for character in name.chars() {
        match character {
            '%' => id.push_str("%25"),
            '/' => id.push_str("%2F"),
            other => id.push(other),
        }
    }
    if id.len() > ID_BYTES_MAX {
        id.truncate(id.floor_char_boundary(ID_HEAD_BYTES));
        id.push_str(&format!(":{:032x}", hash(name)));
    }
    format!("{OWN_COLLECTION}/{id}")
}

/// FNV-1a with 128 bits: the same in every version of the program, which the hashes of the standard library are not.
fn hash(name: &str) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    name.bytes().fold(OFFSET, |hash, octet| {
        (hash ^ u128::from(octet)).wrapping_mul(PRIME)
    })
}

async fn load_some(
    client: &Client,
    paths: &[String],
    read_time: Option<Timestamp>,
    remembered: &mut BTreeMap<String, Remembered>,
) -> Result<()> {
    let mut attempts = client.attempts();
    loop {
        let count = u32::try_from(paths.len()).unwrap_or(u32::MAX);
        client.reads().take(count).await;
        match try_load(client, paths, read_time).await {
            Ok(found) => {
                client.reads().succeeded(count);
                remembered.extend(found);
                return Ok(());
            }
            Err(fault) => {
                if fault.class == Class::RateLimited {
                    client.reads().slow_down(fault.retry_after);
                }
                attempts.after(fault).await?;
            }
        }
    }
}

async fn try_load(
    client: &Client,
    paths: &[String],
    read_time: Option<Timestamp>,
) -> Result<Vec<(String, Remembered)>, Fault> {
    use batch_get_documents_request::ConsistencySelector;
    use batch_get_documents_response::Result::Found;

    let request = BatchGetDocumentsRequest {
        database: client.root().database().to_owned(),
        documents: paths.iter().map(|path| client.root().document(path)).collect(),
        consistency_selector: read_time.map(ConsistencySelector::ReadTime),
        ..BatchGetDocumentsRequest::default()
    };
    let mut answers = client.batch_get(request).await?;
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await? {
        if let Some(Found(document)) = answer.result {
            let path = client.root().path(&document.name);
            found.extend(path.and_then(|path| read(path, &document.fields)));
        }
    }
    Ok(found)
}

async fn write(client: &Client, operations: Vec<Operation>) -> Result<()> {
    let write = |operation| Write {
        operation: Some(operation),
        ..Write::default()
    };
    let request = CommitRequest {
        database: client.root().database().to_owned(),
        writes: operations.into_iter().map(write).collect(),
        ..CommitRequest::default()
    };
    let mut attempts = client.attempts();
    loop {
        let count = u32::try_from(request.writes.len()).unwrap_or(u32::MAX);
        client.writes().take(count).await;
        // Repeating it changes nothing, so an unknown outcome is no danger.
        match client.commit(request.clone()).await {
            Ok(_) => {
                client.writes().succeeded(count);
                return Ok(());
            }
            Err(fault) => {
                if fault.class == Class::RateLimited {
                    client.writes().slow_down(fault.retry_after);
                }
                attempts.after(fault).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whimbrel_plugin_api::RecordType;

    use super::*;

    fn sample() -> Remembered {
        let mut fields: Vec<Field> = RecordType::one_of_each()
            .into_iter()
            .enumerate()
            .map(|(number, record_type)| Field::new(format!("f{number}"), record_type))
            .collect();
        fields.push(Field::required("\"; DROP TABLE \u{1f600}", RecordType::Date));
        Remembered {
            fields,
            key: vec!["f3".to_owned()],
            presence: true,
        }
    }

    fn read_back(name: &str, change: impl FnOnce(&mut Document)) -> Option<(String, Remembered)> {
        let root = Root::new("p", "d");
        let mut document = document(&root, name, &sample()).unwrap();
        change(&mut document);
        read(root.path(&document.name).unwrap(), &document.fields)
    }

    #[test]
    fn what_is_stored_is_what_is_read() {
        assert_eq!(
            read_back("users/*/orders", |_| {}),
            Some(("users/*/orders".to_owned(), sample()))
        );
    }

    #[test]
    fn what_others_have_put_there_is_passed_over() {
        let set = |field: &'static str, value_type: ValueType| {
            move |document: &mut Document| {
                let value = Value {
                    value_type: Some(value_type),
                };
                document.fields.insert(field.to_owned(), value);
            }
        };
        let text = |text: &str| ValueType::StringValue(text.to_owned());
        assert_eq!(
            read_back("a", set(FORMAT_FIELD, ValueType::IntegerValue(2))),
            None
        );
        assert_eq!(read_back("a", set(NAME_FIELD, text("b"))), None);
        assert_eq!(read_back("a", set(CONTENT_FIELD, text("{"))), None);
        let newer = r#"{"fields":[{"name":"a","type":"quaternion"}],"key":[],"presence":false}"#;
        assert_eq!(read_back("a", set(CONTENT_FIELD, text(newer))), None);
        let unsound =
            r#"{"fields":[{"name":"a","type":"decimal","precision":0,"scale":0}],"key":[],"presence":false}"#;
        assert_eq!(read_back("a", set(CONTENT_FIELD, text(unsound))), None);
        assert_eq!(read_back("a", |document| document.fields.clear()), None);
    }

    #[test]
    fn too_many_fields_for_a_document_are_refused_beforehand() {
        let mut remembered = sample();
        let long = |number| Field::new(format!("{number}{}", "x".repeat(1_000)), RecordType::Date);
        remembered.fields = (0..1_000).map(long).collect();
        let error = document(&Root::new("p", "d"), "a", &remembered).unwrap_err();
        assert_eq!(error.code, "firestore.memory_too_large");
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // http://www.isthe.com/chongo/tech/comp/fnv/: the empty text gives the offset, `a` this.
        assert_eq!(hash(""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(hash("a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    proptest! {
        #[test]
        fn every_name_has_an_id_of_its_own_that_the_service_takes(
            names in prop::collection::hash_set("\\PC{0,20}|[%/.2F_*]{1,6}|[a-bü]{1490,1520}", 1..20)
        ) {
            let mut paths = std::collections::HashSet::new();
            for name in &names {
                let path = document_path(name);
                let id = path.strip_prefix("_whimbrel/").unwrap();
                prop_assert!((1..=1_500).contains(&id.len()) && !id.contains('/'));
                prop_assert!(id != "." && id != ".." && !(id.starts_with("__") && id.ends_with("__")));
                paths.insert(path);
            }
            prop_assert_eq!(paths.len(), names.len());
        }
    }
}
