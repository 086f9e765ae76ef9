//! Tests of what lies over and under a job file: settings, variables, flags, parameters, environments, secrets.
//!
//! Wrong files are in `fixtures.rs`. That a key does what it says is shown where it is used.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use whimbrel_plugin_api::Error;

use super::*;

const JOB: &str = "name: demo\nsource: { plugin: p }\nsink: { plugin: p }\n";

/// A folder with a job file.
struct Stage {
    folder: TempDir,
    overrides: Overrides,
    variables: Variables,
}

impl Stage {
    fn new(job: &str) -> Self {
        let stage = Self {
            folder: tempfile::tempdir().unwrap(),
            overrides: Overrides::default(),
            variables: Variables::none(),
        };
        stage.write("job.yaml", job)
    }

    /// A file that its owner alone may read.
    fn write(self, name: &str, content: &str) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables = self.variables.with(name, value);
        self
    }

    fn set(mut self, parameter: &str) -> Self {
        self.overrides.parameters.push(parameter.to_owned());
        self
    }

    fn flag(mut self, flag: &'static str, pointer: &'static str, text: &str) -> Self {
        let says = Said::Text(text.to_owned());
        self.overrides.keys.push(KeyFlag { flag, pointer, says });
        self
    }

    fn load(&self) -> Result<LoadedJob, Vec<Error>> {
        load_job(&self.path("job.yaml"), &self.overrides, &self.variables)
    }

    #[track_caller]
    fn loaded(&self) -> LoadedJob {
        self.load().unwrap_or_else(|errors| panic!("{}", render(&errors)))
    }

    /// The faults as text, with paths below the folder.
    #[track_caller]
    fn faults(&self) -> String {
        let errors = self.load().expect_err("the job was accepted");
        render(&errors).replace(&format!("{}/", self.folder.path().display()), "")
    }

    #[track_caller]
    fn value(&self, pointer: &str) -> Value {
        let job = serde_json::to_value(self.loaded().job).unwrap();
        job.pointer(pointer).cloned().unwrap_or_default()
    }

    fn origin(&self, pointer: &str) -> String {
        let origin = self.loaded().origin(pointer).to_string();
        origin.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn settings_job_variables_and_flags_win_in_this_order_and_are_remembered() {
    let pointer = "/import/batch_size";
    let check = |stage: &Stage, value: u64, origin: &str| {
        assert_eq!(stage.value(pointer), value);
        assert_eq!(stage.origin(pointer), origin);
    };
    let stage = Stage::new(JOB);
    check(&stage, 100, "default");
    let stage = stage.write(
        "whimbrel.yaml",
        "defaults:\n  import: { batch_size: 2, max_errors: 9 }\n",
    );
    check(&stage, 2, "whimbrel.yaml:2:25");
    let stage = stage.write("job.yaml", &format!("{JOB}import: {{ batch_size: 3 }}\n"));
    check(&stage, 3, "job.yaml:4:23");
    assert_eq!(stage.value("/import/max_errors"), 9);
    assert_eq!(stage.origin("/import/max_errors"), "whimbrel.yaml:2:40");
    let stage = stage.variable("MIGRATION_BATCH_SIZE", "4");
    check(&stage, 4, "variable MIGRATION_BATCH_SIZE");
    let stage = stage.flag("--batch-size", pointer, "5");
    check(&stage, 5, "flag --batch-size");
}

/// Name, what it is set to, what it changes, to what, and what holds without it.
fn effects() -> Vec<(&'static str, &'static str, &'static str, Value, Value)> {
    vec![
        (
            "MIGRATION_BATCH_SIZE",
            "7",
            "/import/batch_size",
            json!(7),
            json!(100),
        ),
        (
            "MIGRATION_MAX_RETRIES",
            "0",
            "/import/max_retries",
            json!(0),
            json!(5),
        ),
        (
            "MIGRATION_RETRY_DELAY",
            "10",
            "/import/retry_delay_ms",
            json!(10),
            json!(1000),
        ),
        (
            "MIGRATION_RETRY_DELAY_BASE",
            "11",
            "/import/retry_delay_ms",
            json!(11),
            json!(1000),
        ),
        (
            "MIGRATION_VALIDATION_ENABLED",
            "false",
            "/verification",
            json!("none"),
            json!("standard"),
        ),
        (
            "MIGRATION_TRANSACTION_TIMEOUT",
            "5000",
            "/import/transaction_timeout_ms",
            json!(5000),
            json!(30000),
        ),
        (
            "MIGRATION_CONCURRENT_BATCHES",
            "1",
            "/import/concurrent_batches",
            json!(1),
            json!(3),
        ),
        (
            "MIGRATION_CHECKPOINT_INTERVAL",
            "50",
            "/import/checkpoint_interval",
            json!(50),
            json!(1000),
        ),
        (
            "MIGRATION_ROLLBACK_ENABLED",
            "false",
            "/rollback/enabled",
            json!(false),
            json!(true),
        ),
        (
            "MIGRATION_HEALTH_CHECK_INTERVAL",
            "200",
            "/limits/health_check_interval_ms",
            json!(200),
            json!(30000),
        ),
        (
            "MIGRATION_MEMORY_THRESHOLD",
            "64",
            "/limits/memory_mb",
            json!(64),
            json!(512),
        ),
        (
            "MIGRATION_MEMORY_THRESHOLD_MB",
            "65",
            "/limits/memory_mb",
            json!(65),
            json!(512),
        ),
        (
            "MIGRATION_QUOTA_SAFETY",
            "0.5",
            "/limits/quota_safety",
            json!(0.5),
            json!(0.8),
        ),
        (
            "MIGRATION_FIRESTORE_QUOTA_SAFETY_FACTOR",
            "1",
            "/limits/quota_safety",
            json!(1.0),
            json!(0.8),
        ),
        (
            "MIGRATION_CONNECTION_POOL_SIZE",
            "2",
            "/limits/connection_pool_size",
            json!(2),
            json!(10),
        ),
        (
            "MONITOR_SAMPLE_SIZE",
            "3",
            "/monitor/sample_size",
            json!(3),
            json!(100),
        ),
        (
            "MONITOR_HEALTH_INTERVAL",
            "400",
            "/monitor/health_interval_ms",
            json!(400),
            json!(30000),
        ),
        (
            "MONITOR_ALERT_THRESHOLDS",
            "{\"error_rate\": [0.1, 0.2]}",
            "/monitor/alert_thresholds",
            json!({
                "error_rate": [0.1, 0.2], "response_ms": [1000, 3000], "memory_mb": [512, 1024],
                "integrity": [0.95, 0.9],
            }),
            json!({
                "error_rate": [0.01, 0.05], "response_ms": [1000, 3000], "memory_mb": [512, 1024],
                "integrity": [0.95, 0.9],
            }),
        ),
        (
            "ROLLBACK_BATCH_SIZE",
            "8",
            "/rollback/batch_size",
            json!(8),
            json!(50),
        ),
        (
            "ROLLBACK_MAX_RETRIES",
            "9",
            "/rollback/max_retries",
            json!(9),
            json!(3),
        ),
        (
            "ROLLBACK_TIMEOUT",
            "1000",
            "/rollback/timeout_ms",
            json!(1000),
            json!(300_000),
        ),
        (
            "ROLLBACK_SAFETY_INTERVAL",
            "100",
            "/rollback/safety_interval_ms",
            json!(100),
            json!(30000),
        ),
        (
            "ROLLBACK_VALIDATION_SAMPLE",
            "0",
            "/rollback/validation_sample",
            json!(0),
            json!(100),
        ),
        (
            "ROLLBACK_EMERGENCY_THRESHOLD",
            "0.25",
            "/rollback/emergency_threshold",
            json!(0.25),
            json!(0.1),
        ),
        (
            "ROLLBACK_BACKUP_VALIDATION",
            "0",
            "/rollback/backup_validation",
            json!(false),
            json!(true),
        ),
        (
            "ROLLBACK_REQUIRE_CONFIRMATION",
            "false",
            "/rollback/require_confirmation",
            json!(false),
            json!(true),
        ),
        (
            "ROLLBACK_CONFIRMED",
            "1",
            "/rollback/confirmed",
            json!(true),
            json!(false),
        ),
    ]
}

#[test]
fn each_variable_of_the_table_changes_its_key_and_nothing_else() {
    let plain = serde_json::to_value(Stage::new(JOB).loaded().job).unwrap();
    let mut seen = BTreeSet::from(["WHIMBREL_SETTINGS", "MIGRATION_WORKING_DIR"]);
    for (name, text, pointer, wanted, default) in effects() {
        let stage = Stage::new(JOB).variable(name, text);
        let mut job = serde_json::to_value(stage.loaded().job).unwrap();
        assert_eq!(job.pointer(pointer), Some(&wanted), "{name}");
        assert_eq!(plain.pointer(pointer), Some(&default), "{name}");
        *job.pointer_mut(pointer).unwrap() = default;
        assert_eq!(job, plain, "{name}");
        let origin = if wanted.is_object() {
            format!("{pointer}/error_rate")
        } else {
            pointer.to_owned()
        };
        assert_eq!(stage.origin(&origin), format!("variable {name}"));
        assert_eq!(
            Stage::new(JOB).variable(name, "").value(pointer),
            plain.pointer(pointer).cloned().unwrap()
        );
        seen.insert(name);
    }
    let listed: BTreeSet<&str> = variables::known_names().collect();
    assert_eq!(seen, listed);
}

#[test]
fn a_variable_that_switches_verification_on_keeps_the_level_of_the_job() {
    let on = |level: &str| {
        Stage::new(&format!("{JOB}verification: {level}\n"))
            .variable("MIGRATION_VALIDATION_ENABLED", "true")
            .value("/verification")
    };
    assert_eq!(on("none"), "standard");
    assert_eq!(on("basic"), "basic");
}

#[test]
fn a_bad_variable_or_flag_is_named_with_what_is_valid() {
    let stage = Stage::new(JOB)
        .variable("MIGRATION_BATCH_SIZE", "many")
        .variable("MIGRATION_MAX_RETRIES", "101")
        .variable("MIGRATION_QUOTA_SAFETY", "nan")
        .variable("MIGRATION_ROLLBACK_ENABLED", "yes")
        .variable("MIGRATION_VALIDATION_ENABLED", "maybe")
        .variable("MIGRATION_RETRY_DELAY", "1")
        .variable("MIGRATION_RETRY_DELAY_BASE", "2")
        .variable("MONITOR_ALERT_THRESHOLDS", "[1]")
        .flag("--mode", "/mode", "tset")
        .flag("--memory-mb", "/limits/memory_mb", "1e3x");
    expect_test::expect![[r#"
        variable `MIGRATION_BATCH_SIZE` must be a whole number from 1 to 65536
          --> variable MIGRATION_BATCH_SIZE
          help: it sets `import.batch_size`
          code: config.bad_variable

        `import.max_retries` must be from 0 to 100
          --> variable MIGRATION_MAX_RETRIES
          code: config.bad_value

        variables `MIGRATION_RETRY_DELAY` and `MIGRATION_RETRY_DELAY_BASE` mean the same and differ
          --> variable MIGRATION_RETRY_DELAY
          help: unset one of them
          code: config.contradicting_variables

        variable `MIGRATION_VALIDATION_ENABLED` must be true or false
          --> variable MIGRATION_VALIDATION_ENABLED
          help: it sets `verification`
          code: config.bad_variable

        variable `MIGRATION_ROLLBACK_ENABLED` must be true or false
          --> variable MIGRATION_ROLLBACK_ENABLED
          help: it sets `rollback.enabled`
          code: config.bad_variable

        variable `MIGRATION_QUOTA_SAFETY` must be a number from 0.01 to 1.0
          --> variable MIGRATION_QUOTA_SAFETY
          help: it sets `limits.quota_safety`
          code: config.bad_variable

        variable `MONITOR_ALERT_THRESHOLDS` must be a mapping in JSON
          --> variable MONITOR_ALERT_THRESHOLDS
          help: it sets keys of `monitor.alert_thresholds`
          code: config.bad_variable

        `mode` must be one of full, test
          --> flag --mode
          help: did you mean `test`?
          code: config.bad_value

        flag `--memory-mb` must be a whole number from 16 to 1048576
          --> flag --memory-mb
          help: it sets `limits.memory_mb`
          code: config.bad_flag
    "#]]
    .assert_eq(&stage.faults());
}

#[test]
fn two_names_of_one_variable_may_agree() {
    let stage = Stage::new(JOB)
        .variable("MIGRATION_MEMORY_THRESHOLD", "99")
        .variable("MIGRATION_MEMORY_THRESHOLD_MB", "99");
    assert_eq!(stage.value("/limits/memory_mb"), 99);
}

#[test]
fn a_misspelt_variable_is_a_finding() {
    let stage = Stage::new(JOB)
        .variable("MIGRATION_BATCHSIZE", "5")
        .variable("MIGRATION_OF_BIRDS", "5");
    let findings = stage.loaded().findings;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].code, "config.unknown_variable");
    assert_eq!(
        findings[0].help.as_deref(),
        Some("did you mean `MIGRATION_BATCH_SIZE`?")
    );
}

#[test]
fn the_folder_of_runs_comes_from_flag_variable_settings_or_stands_beside_the_job() {
    let here = std::env::current_dir().unwrap();
    let folder = |stage: &Stage| {
        let loaded = stage.loaded();
        (loaded.working_dir, loaded.working_dir_origin.to_string())
    };
    let stage = Stage::new(JOB);
    assert_eq!(folder(&stage), (stage.path(".whimbrel"), "default".to_owned()));
    let stage = stage.write("whimbrel.yaml", "working_dir: runs\n");
    assert_eq!(folder(&stage).0, stage.path("runs"));
    assert!(folder(&stage).1.ends_with("whimbrel.yaml:1:14"));
    let stage = stage.variable("MIGRATION_WORKING_DIR", "of-variable");
    let wanted = (
        here.join("of-variable"),
        "variable MIGRATION_WORKING_DIR".to_owned(),
    );
    assert_eq!(folder(&stage), wanted);
    let mut stage = stage;
    stage.overrides.working_dir = Some("of-flag".into());
    assert_eq!(
        folder(&stage),
        (here.join("of-flag"), "flag --working-dir".to_owned())
    );
}

#[test]
fn the_settings_file_is_named_by_a_flag_a_variable_or_its_place() {
    let batch_size = |stage: &Stage| stage.value("/import/batch_size");
    let text = |size: u32| format!("defaults: {{ import: {{ batch_size: {size} }} }}\n");
    let stage = Stage::new(JOB)
        .write("whimbrel.yaml", &text(1))
        .write("x/a.yaml", &text(2))
        .write("x/b.yaml", &text(3));
    assert_eq!(batch_size(&stage), 1);
    let named = stage.path("x/a.yaml").display().to_string();
    let mut stage = stage.variable("WHIMBREL_SETTINGS", &named);
    assert_eq!(batch_size(&stage), 2);
    stage.overrides.settings = Some(stage.path("x/b.yaml"));
    assert_eq!(batch_size(&stage), 3);
    assert_eq!(stage.loaded().settings, Some(stage.path("x/b.yaml")));
    stage.overrides.settings = Some(stage.path("x/c.yaml"));
    let errors = stage.load().unwrap_err();
    assert_eq!(errors[0].code, "config.file_missing");
    assert!(errors[0].message.starts_with("settings file"));
}

#[test]
fn a_job_file_with_the_name_of_the_settings_file_is_not_its_own_settings() {
    let stage = Stage::new("").write("whimbrel.yaml", JOB);
    let path = stage.path("whimbrel.yaml");
    let loaded = load_job(&path, &stage.overrides, &stage.variables).unwrap();
    assert_eq!(loaded.settings, None);
}

const ENVIRONMENTS: &str = "environments:
  staging: { plugin: one, config: { url: staging.db, wait: 1 } }
  production:
    plugin: two
    config: { url: production.db }
";

#[test]
fn an_environment_brings_its_plugin_and_the_job_lays_keys_over_it() {
    let stage = Stage::new(
        "name: demo\nsource: { environment: staging, config: { wait: 2, more: 3 } }\nsink: { plugin: p, config: { old: 1 } }\n",
    )
    .write("whimbrel.yaml", ENVIRONMENTS);
    let source = json!({
        "plugin": "one", "environment": "staging", "config": { "url": "staging.db", "wait": 2, "more": 3 },
    });
    assert_eq!(stage.value("/source"), source);
    assert_eq!(stage.origin("/source/config/url"), "whimbrel.yaml:2:42");
    assert_eq!(stage.origin("/source/config/wait"), "job.yaml:2:49");
    assert_eq!(stage.origin("/source/plugin"), "whimbrel.yaml:2:22");
    let mut stage = stage;
    stage.overrides.source = Some("production".into());
    stage.overrides.sink = Some("staging".into());
    assert_eq!(
        stage.value("/source/config"),
        json!({ "url": "production.db", "wait": 2, "more": 3 })
    );
    // What stood beside a plugin belongs to that plugin.
    assert_eq!(
        stage.value("/sink/config"),
        json!({ "url": "staging.db", "wait": 1 })
    );
    assert_eq!(stage.origin("/sink/environment"), "flag --sink");
    stage.overrides.sink = Some("stagin".into());
    expect_test::expect![[r#"
        `sink.environment` names an unknown environment (known: production, staging)
          --> flag --sink
          help: did you mean `staging`?
          code: config.unknown_environment
    "#]]
    .assert_eq(&stage.faults());
}

#[test]
fn a_parameter_may_choose_the_environment() {
    let stage = Stage::new(
        "name: demo\nparameters: { from: {} }\nsource: { environment: \"${param:from}\" }\nsink: { plugin: p }\n",
    )
    .write("whimbrel.yaml", ENVIRONMENTS)
    .set("from=production");
    assert_eq!(stage.value("/source/plugin"), "two");
    assert_eq!(stage.loaded().parameters["from"], "production");
}

#[test]
fn parameters_become_what_the_schema_wants() {
    let job = format!(
        "{JOB}parameters:\n  n: {{ pattern: \"[0-9]+\" }}\n  on: {{ default: true }}\n  part: {{ default: 0.5 }}\n\
         import: {{ batch_size: \"${{param:n}}\", continue_on_error: \"${{param:on}}\" }}\n\
         limits: {{ quota_safety: \"${{param:part}}\" }}\n\
         include: [\"${{param:n}}\", \"users_${{param:n}}_$${{param:n}}_$1\"]\n"
    );
    let stage = Stage::new(&job).set("n=42");
    assert_eq!(stage.value("/import/batch_size"), 42);
    assert_eq!(stage.value("/import/continue_on_error"), true);
    assert_eq!(stage.value("/limits/quota_safety"), 0.5);
    assert_eq!(stage.value("/include"), json!(["42", "users_42_${param:n}_$1"]));
    let stage = Stage::new(&job).set("n=4x").set("m=1").set("part").set("p art=1");
    expect_test::expect![[r#"
        `import.batch_size` must be a whole number, not text
          --> job.yaml:8:23
          help: write digits, without quotes, units and separators
          code: config.wrong_type

        flag `--set` must be `NAME=VALUE`
          --> flag --set
          help: such as `--set user_id=42`
          code: config.bad_flag

        parameter `n` must match `[0-9]+`
          --> flag --set
          code: config.bad_parameter

        flag `--set` names an unknown parameter (known: n, on, part)
          --> flag --set
          help: did you mean `part`?
          code: config.unknown_parameter

        flag `--set` names an unknown parameter `m` (known: n, on, part)
          --> flag --set
          help: declare it under `parameters` of the job
          code: config.unknown_parameter
    "#]]
    .assert_eq(&stage.faults());
}

#[test]
fn what_a_flag_says_is_no_reference() {
    let stage = Stage::new(&format!(
        "{JOB}parameters: {{ a: {{}} }}\ninclude: [\"${{param:a}}\"]\n"
    ))
    .set("a=${env:HOME}");
    assert_eq!(stage.value("/include"), json!(["${env:HOME}"]));
    let mut stage = Stage::new(JOB);
    stage.overrides.keys.push(KeyFlag {
        flag: "--include",
        pointer: "/include",
        says: Said::Value(json!(["${env:HOME}", "$${x"])),
    });
    assert_eq!(stage.value("/include"), json!(["${env:HOME}", "$${x"]));
}

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

mod plugins {
    //! The plugin's part, once its schema is known.

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "url": { "type": "string", "x-whimbrel-env": ["APP_URL", "APP_OTHER_URL"] },
                "token": { "anyOf": [{ "$ref": "#/$defs/Token" }, { "type": "null" }] },
                "key_file": { "type": "string", "x-whimbrel-env": "APP_KEY_FILE", "x-whimbrel-path": true },
                "port": { "type": "integer", "maximum": 9, "x-whimbrel-env": "APP_PORT" },
                "auth": { "type": "object", "properties": {
                    "password": { "type": "string", "format": "password", "x-whimbrel-env": "APP_PASSWORD" },
                    "user": { "type": "string" },
                } },
                "headers": { "type": "object", "additionalProperties": { "type": "string", "writeOnly": true } },
            },
            "required": ["url"],
            "additionalProperties": false,
            "$defs": { "Token": { "type": "string", "writeOnly": true, "x-whimbrel-env": "APP_TOKEN" } },
        })
    }

    fn stage(config: &str) -> Stage {
        Stage::new(&format!(
            "name: demo\nsink: {{ plugin: p }}\nsource:\n  plugin: p\n  config: {config}\n"
        ))
    }

    fn complete(stage: &Stage) -> (LoadedJob, String) {
        let mut loaded = stage.loaded();
        let errors = plugin_config::complete(&schema(), &mut loaded, "/source/config", &stage.variables);
        let text = render(&errors).replace(&format!("{}/", stage.folder.path().display()), "");
        (loaded, text)
    }

    #[test]
    fn fields_that_the_job_leaves_out_are_filled_from_the_plugins_variables() {
        let here = std::env::current_dir().unwrap();
        let stage = stage("{ auth: {} }")
            .variable("APP_OTHER_URL", "https://x")
            .variable("APP_TOKEN", "hunter2-token")
            .variable("APP_KEY_FILE", "keys/a.json")
            .variable("APP_PORT", "7")
            .variable("APP_PASSWORD", "hunter2-password");
        let (loaded, faults) = complete(&stage);
        assert_eq!(faults, "");
        assert_eq!(
            Value::from(loaded.job.source.config.clone()),
            json!({
                "url": "https://x", "token": "hunter2-token", "key_file": here.join("keys/a.json"), "port": 7,
                "auth": { "password": "hunter2-password" },
            })
        );
        let origin = |pointer: &str| loaded.origin(&format!("/source/config/{pointer}")).to_string();
        assert_eq!(origin("url"), "variable APP_OTHER_URL (asked for by the plugin)");
        assert_eq!(
            origin("auth/password"),
            "variable APP_PASSWORD (asked for by the plugin)"
        );
        let shown = loaded.shown();
        assert_eq!(shown["source"]["config"]["token"], MASK);
        assert_eq!(shown["source"]["config"]["auth"]["password"], MASK);
        assert_eq!(shown["source"]["config"]["port"], 7);
        assert!(
            !loaded
                .secrets
                .scrub("x hunter2-password hunter2-token")
                .contains("hunter2")
        );
        assert!(!format!("{loaded:?}").contains("hunter2"));
        assert_eq!(loaded.findings, []);
    }

    #[test]
    fn what_the_job_says_goes_before_the_plugins_variables() {
        let stage = stage("{ url: mine, port: 3 }")
            .variable("APP_URL", "theirs")
            .variable("APP_PORT", "4");
        let (loaded, faults) = complete(&stage);
        assert_eq!(faults, "");
        assert_eq!(loaded.job.source.config["url"], "mine");
        assert_eq!(loaded.job.source.config["port"], 3);
        assert_eq!(loaded.job.source.config.len(), 2);
    }

    #[test]
    fn a_bad_variable_of_a_plugin_is_named() {
        let (_, faults) =
            complete(&stage("{ url: x, port: 99, tokn: hunter2 }").variable("APP_TOKEN", "t0ken"));
        assert!(
            faults.contains("must be at most 9\n  --> job.yaml:5:27"),
            "{faults}"
        );
        let (_, faults) = complete(&stage("{ url: x }").variable("APP_PORT", "hunter2"));
        assert_eq!(
            faults,
            "`source.config.port` must be a whole number, not text\n  --> variable APP_PORT\n  help: write digits, without \
             quotes, units and separators\n  code: config.wrong_type\n"
        );
    }

    #[test]
    fn a_secret_in_clear_is_a_finding_and_is_taken_out_like_any_other() {
        let stage = stage("{ url: x, token: hunter2-a, headers: { a: hunter2-b }, auth: { user: me } }");
        let (loaded, faults) = complete(&stage);
        assert_eq!(faults, "");
        assert_eq!(loaded.findings.len(), 1);
        assert_eq!(loaded.findings[0].code, "config.literal_secret");
        assert_eq!(loaded.secrets.scrub("hunter2-a hunter2-b me"), "*** *** me");
        assert_eq!(
            loaded.shown()["source"]["config"],
            json!({ "url": "x", "token": MASK, "headers": { "a": MASK }, "auth": { "user": "me" } })
        );
    }

    #[test]
    fn a_reference_becomes_a_number_where_the_plugin_wants_one() {
        let stage = stage("{ url: \"${env:N}\", port: \"${env:N}\" }").variable("N", "8");
        let (loaded, faults) = complete(&stage);
        assert_eq!(faults, "");
        assert_eq!(
            Value::from(loaded.job.source.config),
            json!({ "url": "8", "port": 8 })
        );
    }

    #[test]
    fn a_config_that_the_job_leaves_out_is_filled_too() {
        let stage = Stage::new(JOB).variable("APP_URL", "theirs");
        let (loaded, faults) = complete(&stage);
        assert_eq!(faults, "");
        assert_eq!(loaded.job.source.config["url"], "theirs");
    }
}
