//! The export of a real browser, from the folder `examples`.
//! Every key is found again, and the types are those of the snapshot.

use serde_json::{Value as Json, json};
use whimbrel_plugin_api::acceptance::records::Value;

use crate::harness::{all, everything, example, fields, try_open};

#[test]
fn every_key_of_a_real_export_is_found_again() {
    for (file, entries) in [
        ("export.json", 5_000),
        ("export-per-origin.json", 100),
        ("export-pairs.json", 100),
    ] {
        let text = std::fs::read_to_string(example(file)).unwrap();
        let mut expected: Vec<(String, String)> = match serde_json::from_str(&text).unwrap() {
            Json::Array(pairs) => pairs
                .iter()
                .map(|pair| (String::new(), pair[0].as_str().unwrap().to_owned()))
                .collect(),
            Json::Object(members) => members
                .iter()
                .flat_map(|(name, value)| match value {
                    Json::Object(keys) => keys.keys().map(|key| (name.clone(), key.clone())).collect(),
                    _ => vec![(String::new(), name.clone())],
                })
                .collect(),
            _ => unreachable!(),
        };
        expected.sort();
        assert!(expected.len() >= entries, "{file}");
        let mut found: Vec<(String, String)> = Vec::new();
        for read in everything(&mut *try_open(&json!({"path": example(file)})).unwrap()).into_values() {
            assert!(read.rejected.is_empty());
            assert_eq!(
                read.collection.estimate.record_count,
                Some(read.records.len() as u64)
            );
            for mut record in read.records {
                let mut text = |field: &str| match record.remove(field) {
                    Some(Value::Text(text)) => text,
                    _ => String::new(),
                };
                found.push((text("_origin"), text("_key")));
            }
        }
        found.sort();
        found.dedup();
        assert!(
            found == expected,
            "{file}: {} keys of {}",
            found.len(),
            expected.len()
        );
    }
}

#[test]
fn collections_and_types_of_the_real_export() {
    let mut shown = String::new();
    for file in ["export.json", "export-storage-state.json"] {
        shown.push_str(&format!("{file}\n"));
        let mut source = try_open(&json!({"path": example(file)})).unwrap();
        for collection in source.collections(&all()).unwrap() {
            let count = collection.estimate.record_count.unwrap();
            let presence = if collection.schema.presence {
                ", with presence"
            } else {
                ""
            };
            shown.push_str(&format!("\n{:?}: {count} records{presence}\n", collection.name));
            for field in fields(&collection) {
                shown.push_str(&format!("  {field:?}\n"));
            }
        }
        shown.push('\n');
    }
    insta::assert_snapshot!("real_export", shown);
}
