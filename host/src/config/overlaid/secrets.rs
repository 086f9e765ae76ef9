//! Secrets come from variables and files, and are told to nobody.
//! Neighbour: `overlaid`, which has the folder with a job file.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::super::MASK;
use super::{JOB, Stage};

#[test]
fn secrets_come_from_variables_and_files_and_are_shown_by_their_references_only() {
    let stage = Stage::new(
        "name: demo\nsource: { environment: staging }\nsink:\n  plugin: p\n  config:\n    url: \"libsql://x?t=${env:TOKEN}\"\n    \
         list: [\"${file:token.txt}\", plain]\nhooks: { before: [{ command: { run: [x, \"${env:TOKEN}\"] } }] }\n",
    )
    .write("token.txt", "file-hunter2\n")
    .write("conf/keys/k.txt", "other-hunter2")
    .write(
        "conf/s.yaml",
        "environments: { staging: { plugin: q, config: { key: \"${file:keys/k.txt}\" } } }\n",
    )
    .variable("TOKEN", "env-hunter2");
    let mut stage = stage;
    stage.overrides.settings = Some(stage.path("conf/s.yaml"));
    let loaded = stage.loaded();
    assert_eq!(loaded.job.sink.config["url"], "libsql://x?t=env-hunter2");
    assert_eq!(loaded.job.sink.config["list"], json!(["file-hunter2", "plain"]));
    assert_eq!(loaded.job.source.config["key"], "other-hunter2");
    assert_eq!(loaded.findings, []);
    let shown = loaded.shown();
    assert_eq!(shown["sink"]["config"]["url"], "libsql://x?t=${env:TOKEN}");
    assert_eq!(
        shown["sink"]["config"]["list"],
        json!(["${file:token.txt}", "plain"])
    );
    assert_eq!(shown["hooks"]["before"][0]["command"]["run"][1], "${env:TOKEN}");
    for text in [
        format!("{loaded:?}"),
        format!("{:?}", loaded.job),
        shown.to_string(),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(
        loaded
            .secrets
            .scrub("a env-hunter2 b file-hunter2 c other-hunter2"),
        "a *** b *** c ***"
    );
}

#[test]
fn what_looks_like_a_secret_is_not_shown_though_no_schema_says_so() {
    let job = JOB.replace(
        "sink: { plugin: p }",
        "sink: { plugin: p, config: { auth_token: hunter2, nested: [{ clientSecret: hunter2 }], u: \"x://a:hunter2@h\", \
         keep: tokens, v: \"x://a@h:5/p\" } }",
    );
    let shown = Stage::new(&job).loaded().shown();
    let wanted = json!({
        "auth_token": MASK, "nested": [{ "clientSecret": MASK }], "u": MASK, "keep": "tokens", "v": "x://a@h:5/p",
    });
    assert_eq!(shown["sink"]["config"], wanted);
}

#[test]
fn a_secret_file_that_others_may_read_stops_the_job() {
    let stage = Stage::new(&JOB.replace(
        "sink: { plugin: p }",
        "sink: { plugin: p, config: { t: \"${file:t}\" } }",
    ))
    .write("t", "hunter2");
    stage.loaded();
    std::fs::set_permissions(stage.path("t"), Permissions::from_mode(0o644)).unwrap();
    expect_test::expect![[r#"
        `sink.config.t` refers to file `t`, which may be read or written by others (rights 644)
          --> job.yaml:3:33
          help: chmod 600 t
          code: config.secret_file_open
    "#]]
    .assert_eq(&stage.faults());
}

#[test]
fn a_short_secret_is_a_finding_and_a_faulty_job_does_not_tell_its_secrets() {
    let job = JOB.replace(
        "sink: { plugin: p }",
        "sink: { plugin: \"${env:PIN}\", config: { t: \"${env:LONG}\" } }",
    );
    let stage = Stage::new(&job)
        .variable("PIN", "123")
        .variable("LONG", "hunter2");
    let findings = stage.loaded().findings;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].code, "config.short_secret");
    assert!(!findings[0].message.contains("123"));
    let text = Stage::new(&format!(
        "{job}mode: \"${{env:LONG}}\"\nimport: {{ batch_size: \"${{env:LONG}}\" }}\n"
    ))
    .variable("PIN", "a b")
    .variable("LONG", "hunter2")
    .faults();
    assert!(!text.contains("hunter2"), "{text}");
}
