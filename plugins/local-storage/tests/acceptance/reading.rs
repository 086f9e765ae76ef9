//! Reading from a cursor, and requests that are refused.
//! The suite of the API covers the rest.

use serde_json::{Value as Json, json};
use whimbrel_plugin_api::source::{CountRequest, Predicate};
use whimbrel_plugin_api::{Cursor, ErrorKind, ReadRequest};

use crate::harness::{export, read};

#[test]
fn a_cursor_of_another_file_or_config_is_refused() {
    let content = r#"{"l":"[1,2,3]"}"#;
    let request = |cursor: Cursor| ReadRequest {
        cursor,
        ..ReadRequest::all("l")
    };
    let limited = ReadRequest {
        limit: Some(1),
        ..ReadRequest::all("l")
    };
    let (_, _, cursors) = read(&mut *export(content, json!({})).open(), &limited);
    let (rest, _, _) = read(
        &mut *export(content, json!({"format": "flat"})).open(),
        &request(cursors[0].clone()),
    );
    assert_eq!(rest.len(), 2);
    let refused = |content: &str, config: Json, cursor: Cursor| {
        export(content, config)
            .open()
            .read(&request(cursor))
            .err()
            .map(|error| error.code)
            .unwrap()
    };
    assert_eq!(
        refused(r#"{"l":"[1,2,3,4]"}"#, json!({}), cursors[0].clone()),
        "local_storage.changed"
    );
    assert_eq!(
        refused(content, json!({"fields_max": 5}), cursors[0].clone()),
        "local_storage.changed"
    );
    assert_eq!(
        refused(content, json!({}), Cursor(vec![1, 2])),
        "local_storage.bad_cursor"
    );
    let mut beyond = cursors[0].clone();
    beyond.0[7] = 9;
    assert_eq!(refused(content, json!({}), beyond), "local_storage.bad_cursor");
}

#[test]
fn a_rejected_record_is_told_once_across_a_resume() {
    let content = r#"{"l":"[1,\"\\ud83d\",2,\"\\ud83d\",\"\\ud83d\"]"}"#;
    let file = export(content, json!({}));
    let mut source = file.open();
    let first = ReadRequest {
        limit: Some(1),
        ..ReadRequest::all("l")
    };
    let (records, rejected, cursors) = read(&mut *source, &first);
    assert_eq!((records.len(), rejected.len()), (1, 1));
    let rest = ReadRequest {
        cursor: cursors[0].clone(),
        ..ReadRequest::all("l")
    };
    let (records, rejected, cursors) = read(&mut *source, &rest);
    assert_eq!((records.len(), rejected.len()), (1, 2));
    assert!(
        rejected[0].record.ends_with("export.json:1:2[3]"),
        "{}",
        rejected[0].record
    );
    let end = ReadRequest {
        cursor: cursors[0].clone(),
        ..ReadRequest::all("l")
    };
    let (records, rejected, _) = read(&mut *source, &end);
    assert_eq!((records.len(), rejected.len()), (0, 0));
    let count = CountRequest {
        collection: "l".to_owned(),
        snapshot: None,
    };
    assert_eq!(source.count(&count).unwrap(), Some(5));
}

#[test]
fn predicates_are_refused_rather_than_ignored() {
    let request = ReadRequest {
        predicate: Some(Predicate::KeyRange { from: None, to: None }),
        ..ReadRequest::all("l")
    };
    let error = export(r#"{"l":"[1]"}"#, json!({}))
        .open()
        .read(&request)
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::Unsupported);
}
