//! What Firestore does not take or does not let be read: rejected with its reason, or refused with a clear error, before
//! anything is half done. FAULTS F4, R2, S6.
//!
//! Neighbours: `firestore_faults` has the scene; `firestore_values` for what is strange and passes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use gcloud_sdk::tonic::Code;
use serde_json::{Value, json};

use crate::firestore_faults::Scene;
use crate::grpc_layer::{Answer, Method};
use crate::postgres_job::{Job, files, noise, report_of, told};
use crate::program::Stage;

/// Every call that is made.
const METHODS: [Method; 8] = [
    Method::RunQuery,
    Method::RunAggregationQuery,
    Method::BatchGetDocuments,
    Method::ListDocuments,
    Method::ListCollectionIds,
    Method::PartitionQuery,
    Method::BatchWrite,
    Method::Commit,
];

/// The code of each rejected record, by its key.
fn rejected(report: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pairs = report["rejected"].as_array().unwrap().iter();
    pairs
        .map(|pair| (text(&pair[1]["record"]), text(&pair[1]["code"])))
        .collect()
}

fn nested(levels: u32) -> String {
    let mut text = "1".to_owned();
    for _ in 0..levels {
        text = format!("{{\"a\":{text}}}");
    }
    text
}

#[test]
fn f4_what_cannot_be_stored_is_rejected_before_it_is_sent() {
    for request in ["batch_write", "commit"] {
        let Some(scene) = Scene::new() else { return };
        let long = "x".repeat(1_501);
        let bad = [
            (
                "big",
                format!("\"{}\"", noise(1, 1 << 20)),
                "firestore.document_too_large",
            ),
            (
                "huge",
                format!("\"{}\"", noise(2, 10 << 20)),
                "firestore.document_too_large",
            ),
            ("deep", nested(21), "firestore.too_deep"),
            ("rows", "[[1,2],[3]]".to_owned(), "firestore.array_in_array"),
            (
                "rows-in-map",
                "{\"m\":[1,[2]]}".to_owned(),
                "firestore.array_in_array",
            ),
            ("no-name", "{\"\":1}".to_owned(), "firestore.bad_field_name"),
            (
                "own-name",
                "{\"__name__\":1}".to_owned(),
                "firestore.bad_field_name",
            ),
            ("__own__", "1".to_owned(), "firestore.bad_id"),
            ("a/b", "1".to_owned(), "firestore.bad_id"),
            (".", "1".to_owned(), "firestore.bad_id"),
            ("..", "1".to_owned(), "firestore.bad_id"),
            ("", "1".to_owned(), "firestore.bad_id"),
            (&long, "1".to_owned(), "firestore.bad_id"),
        ];
        let good = [
            ("nested", nested(20)),
            ("large", format!("\"{}\"", noise(3, 1_000_000))),
            ("array", "[1,\"two\",null,{\"a\":[]}]".to_owned()),
            ("__", "1".to_owned()),
            // What Datastore has numbered keeps its number.
            ("__id7__", "1".to_owned()),
            ("...", "1".to_owned()),
            ("id with space \u{1f600}", "1".to_owned()),
        ];
        let mut lines = String::new();
        for (id, value) in good
            .iter()
            .map(|(id, value)| (*id, value))
            .chain(bad.iter().map(|(id, value, _)| (*id, value)))
        {
            lines.push_str(&format!("{{\"id\":\"{id}\",\"v\":{value}}}\n"));
        }
        scene.stage.write("docs.ndjson", lines);
        let job = scene
            .docs_in()
            .set("/sink/config/writing", json!({ "request": request }))
            .set("/import/max_errors", json!(100));
        let report = scene.run(&job, 0);
        // By its path where there can be one, else by its key.
        let expected: BTreeMap<String, String> = bad
            .iter()
            .map(|(id, _, code)| match (*id, *code) {
                ("", code) => ("row 10 of its batch".to_owned(), code.to_owned()),
                (id, "firestore.bad_id") => (id.to_owned(), (*code).to_owned()),
                (id, code) => (format!("docs/{id}"), code.to_owned()),
            })
            .collect();
        assert_eq!(rejected(&report), expected);
        assert_eq!(report["collections"][0]["written_count"], good.len());
        let there = scene.documents(&scene.project, "docs");
        let mut found: Vec<&str> = there
            .keys()
            .map(|path| path.trim_start_matches("docs/"))
            .collect();
        let mut wanted = good.clone().map(|(id, _)| id);
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted);
        let counts = scene.layer.counts();
        assert_eq!(counts.sent_below("docs"), (good.len(), 1), "nothing else is sent");
        for pair in report["rejected"].as_array().unwrap() {
            let message = pair[1]["message"].as_str().unwrap();
            assert!(!message.is_empty() && message.len() < 500, "{message}");
        }
    }
}

/// Documents `users/00000` and on, of which those from `first` on have other fields.
fn fill(scene: &Scene, count: u64, first: u64, other: &Value) {
    scene.fill_users(count);
    for number in first..count {
        let path = format!("users/{number:05}");
        let mut fields = scene.documents(&scene.project, "users").remove(&path).unwrap();
        for (name, value) in other.as_object().unwrap() {
            fields[name] = value.clone();
        }
        scene.emulator.put(&scene.project, &path, &fields.to_string());
    }
}

#[test]
fn r2_a_document_that_changes_type_on_the_last_page_is_rejected_with_the_reason() {
    let Some(scene) = Scene::new() else { return };
    fill(
        &scene,
        350,
        349,
        &json!({ "n": { "stringValue": "three hundred" } }),
    );
    let copy = scene.emulator.project("copy");
    let job = scene
        .users_into(&copy)
        .set("/source/config/inference", json!({ "sample": 50 }))
        .set("/import/max_errors", json!(10));
    let report = scene.run(&job, 0);
    assert_eq!(report["rejected_count"], 1, "{report}");
    let reason = &report["rejected"][0][1];
    assert_eq!(reason["code"], "firestore.does_not_fit", "{reason}");
    assert_eq!(reason["record"], "users/00349", "{reason}");
    let message = reason["message"].as_str().unwrap();
    assert!(
        message.contains("`n`") && !message.contains("three hundred"),
        "{message}"
    );
    let (mut original, there) = (
        scene.documents(&scene.project, "users"),
        scene.documents(&copy, "users"),
    );
    original.remove("users/00349");
    assert!(there == original, "all others are copied");
    // With a look at everything, the type is one that holds both.
    let whole = scene.emulator.project("copy");
    let report = scene.run(&scene.users_into(&whole), 0);
    assert_eq!(report["rejected_count"], 0, "{report}");
    assert!(scene.documents(&whole, "users") == scene.documents(&scene.project, "users"));
}

#[test]
fn r2_without_leave_to_reject_a_type_that_changes_ends_the_run() {
    let Some(scene) = Scene::new() else { return };
    fill(
        &scene,
        350,
        349,
        &json!({ "n": { "stringValue": "three hundred" } }),
    );
    let copy = scene.emulator.project("copy");
    let job = scene
        .users_into(&copy)
        .set("/source/config/inference", json!({ "sample": 50 }));
    let report = scene.run(&job, 1);
    assert_eq!(report["outcome"], "failed", "{report}");
    let reason = &report["rejected"][0][1];
    assert_eq!(reason["code"], "firestore.does_not_fit", "{}", told(&report));
}

#[test]
fn r2_a_field_that_comes_on_the_last_page_follows_the_policy() {
    for (policy, exit) in [("evolve", 0), ("overflow", 0), ("fail", 1)] {
        let Some(scene) = Scene::new() else { return };
        let new = json!({ "late": { "timestampValue": "2024-12-31T23:59:59.999999Z" } });
        fill(&scene, 350, 348, &new);
        let copy = scene.emulator.project("copy");
        let job = scene
            .users_into(&copy)
            .set("/source/config/inference", json!({ "sample": 50 }))
            .set("/import/on_new_field", json!(policy));
        let report = scene.run(&job, exit);
        let (original, there) = (
            scene.documents(&scene.project, "users"),
            scene.documents(&copy, "users"),
        );
        match policy {
            "evolve" => assert!(there == original, "the new field is there"),
            "overflow" => {
                assert_eq!(there.len(), original.len());
                let rest = &there["users/00349"];
                assert!(rest.to_string().contains("2024-12-31T23:59:59.999999"), "{rest}");
            }
            _ => assert!(told(&report).contains("late"), "{}", told(&report)),
        }
    }
}

/// A job whose source and sink are both refused by everything that is scripted.
fn refused_job(scene: &Scene, is_source: bool) -> Job {
    if is_source {
        scene.users_into(&scene.emulator.project("copy"))
    } else {
        scene.stage.write("docs.ndjson", "{\"id\":1}\n");
        scene.docs_in()
    }
}

#[test]
fn what_the_service_denies_is_a_clear_error_at_once_and_nothing_is_written() {
    for (code, expected) in [
        (Code::PermissionDenied, "firestore.permission_denied"),
        (Code::Unauthenticated, "firestore.unauthenticated"),
    ] {
        for is_source in [true, false] {
            let Some(scene) = Scene::new() else { return };
            scene.fill_users(10);
            for method in METHODS {
                scene.layer.script(method, [Answer::refuse(code).always()]);
            }
            let job = refused_job(&scene, is_source);
            job.write(&scene.stage);
            for command in [
                &["plan", "job.yaml", "--json"][..],
                &["run", "job.yaml", "--json"],
            ] {
                let answer = scene.stage.run(command);
                let report = answer.json();
                assert_eq!(answer.code, 3, "{}{}", told(&report), answer.err);
                assert!(
                    report.to_string().contains(expected),
                    "{command:?}: {}",
                    told(&report)
                );
            }
            let counts = scene.layer.counts();
            assert!(
                counts.calls.values().sum::<u64>() < 10,
                "what will fail again is not tried again: {counts:?}"
            );
            assert!(scene.documents(&scene.project, "docs").is_empty());
        }
    }
}

#[test]
fn rights_to_read_only_are_found_before_anything_is_read_for_a_sink() {
    let Some(scene) = Scene::new() else { return };
    scene.stage.write("docs.ndjson", "{\"id\":1}\n{\"id\":2}\n");
    for method in [Method::BatchWrite, Method::Commit] {
        scene
            .layer
            .script(method, [Answer::refuse(Code::PermissionDenied).always()]);
    }
    let job = scene.docs_in();
    job.write(&scene.stage);
    let answer = scene.stage.run(&["run", "job.yaml", "--json"]);
    let report = answer.json();
    assert_eq!(answer.code, 3, "{}", told(&report));
    assert!(
        report.to_string().contains("firestore.permission_denied"),
        "{}",
        told(&report)
    );
    assert!(scene.documents(&scene.project, "docs").is_empty());
}

#[test]
fn a_project_with_no_documents_is_said_plainly_with_the_collections_that_are_there() {
    let Some(scene) = Scene::new() else { return };
    let copy = scene.emulator.project("copy");
    // The emulator has every project; one that is misspelt has no documents.
    let job = Job::new(scene.side(), scene.direct(&copy));
    job.write(&scene.stage);
    let answer = scene.stage.run(&["run", "job.yaml", "--json"]);
    let report = answer.json();
    assert_eq!(report["errors"][0]["code"], "plan.nothing_to_copy", "{report}");
    let found = &report["findings"][0];
    assert_eq!(found["code"], "firestore.empty", "{report}");
    assert!(
        found["message"].as_str().unwrap().contains(&scene.project),
        "{found}"
    );
    scene.fill_users(3);
    let job = job.set("/collections", json!([{ "source": "user" }]));
    job.write(&scene.stage);
    let answer = scene.stage.run(&["run", "job.yaml", "--json"]);
    let report = answer.json();
    assert!([2, 3].contains(&answer.code), "{}", told(&report));
    assert!(told(&report).contains("(it has: users)"), "{}", told(&report));
}

/// A job that would use the service itself, run where nothing is known of any account.
fn without_emulator(stage: &Stage, config: Value) -> Value {
    stage.write("docs.ndjson", "{\"id\":1}\n");
    let sink = json!({ "plugin": "firestore", "config": config });
    Job::new(files("docs.ndjson"), sink)
        .set("/collections", json!([{ "source": "docs", "key": ["id"] }]))
        .write(stage);
    let home = stage.path("home");
    let mut command = stage.command(&["run", "job.yaml", "--json"]);
    command.env("HOME", &home);
    // The metadata server of a machine of Google Cloud, which this is not: nobody listens there.
    command.env("GCE_METADATA_HOST", "127.0.0.1:1");
    for name in [
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_PROJECT",
        "FIRESTORE_EMULATOR_HOST",
    ] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        matches!(output.status.code(), Some(2 | 3)),
        "{:?}: {}",
        output.status,
        told(&report)
    );
    report
}

#[test]
fn missing_and_loose_credentials_are_refused_before_any_network() {
    let stage = Stage::new();
    let report = without_emulator(&stage, json!({ "project": "p-1" }));
    assert_eq!(
        report["errors"][0]["code"],
        "firestore.no_credentials",
        "{}",
        told(&report)
    );
    let key = json!({
        "type": "service_account", "project_id": "p-1", "private_key_id": "1", "private_key": "none",
        "client_email": "writer@p-1.iam.gserviceaccount.com", "token_uri": "http://127.0.0.1:1/token",
    });
    let path = stage.write("key.json", key.to_string());
    let of_file = |mode: u32| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        without_emulator(&stage, json!({ "project": "p-1", "credentials_file": path }))
    };
    for mode in [0o644, 0o640, 0o604] {
        let report = of_file(mode);
        assert_eq!(
            report["errors"][0]["code"],
            "firestore.loose_key_file",
            "{}",
            told(&report)
        );
    }
    let report = of_file(0o600);
    assert_eq!(
        report["errors"][0]["code"],
        "firestore.bad_key_file",
        "{}",
        told(&report)
    );
    assert!(
        !report.to_string().contains("private_key\":"),
        "no secret is shown"
    );
    let report = without_emulator(&stage, json!({ "credentials_file": stage.path("none.json") }));
    assert_eq!(
        report["errors"][0]["code"],
        "firestore.no_key_file",
        "{}",
        told(&report)
    );
}

#[test]
fn the_variable_of_the_emulator_is_said_where_it_counts_and_refused_beside_a_key_file() {
    let Some(scene) = Scene::new() else { return };
    scene.stage.write("docs.ndjson", "{\"id\":1}\n");
    let host = scene.emulator.host();
    let answer = |config: Value, command: &str| {
        let sink = json!({ "plugin": "firestore", "config": config });
        Job::new(files("docs.ndjson"), sink)
            .set("/collections", json!([{ "source": "docs", "key": ["id"] }]))
            .write(&scene.stage);
        let mut command = scene.stage.command(&[command, "job.yaml", "--json"]);
        command
            .env("FIRESTORE_EMULATOR_HOST", host)
            .env_remove("GOOGLE_APPLICATION_CREDENTIALS");
        let output = command.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let is_said = |report: &Value| {
        let text = report.to_string();
        text.contains("firestore.emulator_from_environment")
            && text.contains(&format!("the emulator at `{host}`"))
    };
    // The variable alone: used, and said before and with the run.
    for command in ["check", "plan", "run"] {
        let (code, report) = answer(json!({ "project": scene.project }), command);
        assert_eq!(code, Some(0), "{command}: {}", told(&report));
        assert!(is_said(&report), "{command}: {report}");
    }
    assert_eq!(scene.documents(&scene.project, "docs").len(), 1);
    // The job says where: nothing is to be said, whatever the variable is.
    let named = json!({ "project": scene.project, "host": scene.layer.host() });
    let (code, report) = answer(named, "check");
    assert_eq!(code, Some(0), "{}", told(&report));
    assert!(!report.to_string().contains("emulator_from"), "{report}");
    // A key file is for the service: neither it nor the emulator is touched.
    let key = scene.stage.path("key.json");
    let config = json!({ "project": scene.emulator.project("copy"), "credentials_file": key });
    for command in ["check", "plan", "run"] {
        let (code, report) = answer(config.clone(), command);
        assert_eq!(code, Some(2), "{command}: {report}");
        assert!(
            report.to_string().contains("firestore.two_places"),
            "{command}: {report}"
        );
    }
    let (_, report) = answer(
        json!({ "project": "p-1", "credentials_file": key, "fallback_host": null }),
        "run",
    );
    assert_eq!(
        report["errors"][0]["code"],
        "firestore.no_key_file",
        "{}",
        told(&report)
    );
}

#[test]
fn a_port_where_nobody_listens_is_tried_again_and_then_said() {
    let Some(scene) = Scene::new() else { return };
    scene.layer.stop();
    let job = scene
        .users_into(&scene.emulator.project("copy"))
        .set("/source/config/retries_max", json!(1));
    job.write(&scene.stage);
    let report = report_of(scene.stage.run(&["run", "job.yaml", "--json"]), 3);
    assert!(
        report.to_string().contains("firestore.unavailable"),
        "{}",
        told(&report)
    );
}
