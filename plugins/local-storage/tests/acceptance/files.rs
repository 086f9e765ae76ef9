//! Files that cannot be read: what is wrong with one is told with its place.
//! Not here: single records that are rejected (`refusals`).

use serde_json::{Value as Json, json};
use whimbrel_plugin_api::{ErrorKind, FindingLevel};

use crate::harness::{export, lines, try_open};
use crate::profile::{Folder, NOBODYS_FOLDER, as_nobody, error};

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_place() {
    for (content, code, place) in [
        ("", "malformed", "1:1"),
        ("{\"a\":\"b\"", "malformed", "1:8"),
        ("{\n \"a\": \"b\",\n \"c\": tru\n}", "malformed", "3:10"),
        ("{\"a\":\"b\"} x", "malformed", "1:11"),
        ("{\"a\":\"\u{1}\"}", "malformed", "1:6"),
        ("{\n \"ä\": \"b\", \"c\": 1\n}", "value_not_text", "2:18"),
        ("{\"a\":null}", "value_not_text", "1:6"),
        ("{\"a\":\"b\",\"c\":{\"d\":\"e\"}}", "value_not_text", "1:14"),
        ("{\"http://a\":{\"k\":\n7}}", "value_not_text", "2:1"),
        ("{\"http://a\":{},\"b\":\"c\"}", "wrong_form", "1:20"),
        ("[[\"a\",1]]", "value_not_text", "1:7"),
        ("[[\"a\",\"b\",\"c\"]]", "bad_pair", "1:2"),
        ("[[1,\"b\"]]", "bad_pair", "1:2"),
        ("[\"a\"]", "wrong_form", "1:2"),
        ("[{\"key\":\"a\"}]", "bad_pair", "1:2"),
        (
            "[{\"key\":\"a\",\"name\":\"a\",\"value\":\"b\"}]",
            "bad_pair",
            "1:13",
        ),
        ("[{\"key\":\"a\",\"value\":\"b\",\"more\":1}]", "bad_pair", "1:25"),
        ("7", "wrong_form", "1:1"),
        ("\"text\"", "wrong_form", "1:1"),
        ("{\"origins\":[{\"localStorage\":[]}]}", "wrong_form", "1:13"),
        (
            "{\"origins\":[{\"origin\":\"a\",\"localStorage\":{}}]}",
            "wrong_form",
            "1:42",
        ),
        (
            "{\"origins\":[{\"origin\":\"a\",\"localStorage\":[{\"name\":\"k\",\"value\":2}]}]}",
            "value_not_text",
            "1:63",
        ),
    ] {
        let file = export(content, json!({}));
        let error = file.error();
        assert_eq!(error.kind, ErrorKind::InvalidData, "{content}");
        assert_eq!(error.code, format!("local_storage.{code}"), "{content}");
        assert_eq!(
            error.place.as_deref(),
            Some(format!("export.json:{place}").as_str()),
            "{content}"
        );
        let findings = file.findings();
        assert_eq!(findings.len(), 1);
        assert_eq!(
            (findings[0].level, &findings[0].code),
            (FindingLevel::Blocker, &error.code)
        );
        let found_at = findings[0].place.as_deref().unwrap_or_default();
        assert!(found_at.ends_with(&format!("/export.json:{place}")), "{found_at}");
        assert_eq!(findings[0].message, error.message, "{content}");
    }
    let error = export(b"{\"a\":\n\"\xff\"}", json!({})).error();
    assert_eq!(
        (error.code.as_str(), error.place.as_deref()),
        ("local_storage.not_utf8", Some("export.json:2:2"))
    );
}

#[test]
fn a_form_that_is_asked_for_must_be_there() {
    for (content, format, code) in [
        ("[]", "flat", "wrong_form"),
        ("{}", "pairs", "wrong_form"),
        ("{\"a\":{}}", "flat", "value_not_text"),
        ("{\"a\":\"b\"}", "per-origin", "wrong_form"),
        ("{\"a\":\"b\"}", "storage-state", "wrong_form"),
    ] {
        let error = export(content, json!({"format": format})).error();
        assert_eq!(
            error.code,
            format!("local_storage.{code}"),
            "{content} as {format}"
        );
    }
    // A flat export may have any key.
    let flat = export(r#"{"origins":"[]"}"#, json!({"format": "flat"})).everything();
    assert_eq!(
        lines(&flat["_values"].records),
        [r#"_key="origins" value_json="[]" value_text=null"#]
    );
}

#[test]
fn files_that_are_missing_too_large_or_no_files_are_blockers() {
    let folder = tempfile::tempdir().unwrap();
    let code = |config: Json| try_open(&config).unwrap().check().unwrap()[0].code.clone();
    assert_eq!(
        code(json!({"path": folder.path().join("none")})),
        "local_storage.file_missing"
    );
    assert_eq!(code(json!({"path": folder.path()})), "local_storage.no_profile");
    assert_eq!(
        code(json!({"path": folder.path(), "format": "flat"})),
        "local_storage.not_a_file"
    );
    assert_eq!(
        export("{\"a\":\"b\"}", json!({"size_bytes_max": 8})).findings()[0].code,
        "local_storage.file_too_large"
    );
    assert_eq!(
        export("{\"a\":\"b\"}", json!({"size_bytes_max": 9})).findings(),
        []
    );
}

#[test]
fn what_may_not_be_read_is_refused_with_its_name() {
    use std::os::unix::fs::PermissionsExt as _;

    // As root nothing is refused, so the test runs itself again as somebody else.
    if let Some(folder) = std::env::var_os(NOBODYS_FOLDER) {
        let folder = std::path::PathBuf::from(folder);
        for below in [
            "",
            "Default",
            "Default/Local Storage",
            "Default/Local Storage/leveldb",
            "export.json",
        ] {
            let error = error(&json!({"path": folder.join(below)}));
            assert_eq!(
                (error.kind, error.code.as_str()),
                (ErrorKind::Permission, "local_storage.file_unreadable"),
                "{below:?}"
            );
            assert!(
                error.message.contains(folder.to_str().unwrap()),
                "{}",
                error.message
            );
        }
        return;
    }
    let folder = Folder::of("chromium");
    std::fs::write(folder.join("export.json"), "{}").unwrap();
    let permit = |name: &str, mode: u32| {
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    permit("", 0o755);
    permit("export.json", 0o000);
    permit("Default/Local Storage/leveldb", 0o000);
    if !as_nobody(
        "files::what_may_not_be_read_is_refused_with_its_name",
        folder.path(),
    ) {
        for below in ["Default", "export.json"] {
            let error = error(&json!({"path": folder.join(below)}));
            assert_eq!(error.code, "local_storage.file_unreadable", "{below}");
        }
    }
    permit("Default/Local Storage/leveldb", 0o700);
}
