//! The plugin's part, once its schema is known.
//! Neighbour: `overlaid`, which has the folder with a job file.

use serde_json::{Value, json};

use super::super::{LoadedJob, MASK, plugin_config, render};
use super::{JOB, Stage};

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
    let (_, faults) = complete(&stage("{ url: x, port: 99, tokn: hunter2 }").variable("APP_TOKEN", "t0ken"));
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

#[test]
fn a_limit_of_the_job_that_is_set_stands_in_for_a_field_that_names_it() {
    let schema = json!({
        "type": "object",
        "properties": {
            "quota": { "anyOf": [{ "$ref": "#/$defs/Quota" }, { "type": "null" }] },
            "part": { "type": "number", "x-whimbrel-setting": "limits.quota_safety" },
            "memory": { "type": "integer", "x-whimbrel-setting": "limits.memory_mb" },
            "unknown": { "type": "integer", "x-whimbrel-setting": "limits.no_such" },
            "theirs": { "type": "string", "x-whimbrel-setting": "sink.plugin" },
        },
        "$defs": { "Quota": { "type": "object", "properties": {
            "factor": { "type": "number", "minimum": 0.2, "x-whimbrel-setting": "limits.quota_safety" },
        } } },
    });
    let complete = |stage: &Stage| {
        let mut loaded = stage.loaded();
        let errors = plugin_config::complete(&schema, &mut loaded, "/source/config", &stage.variables);
        let folder = format!("{}/", stage.folder.path().display());
        (loaded, render(&errors).replace(&folder, ""), folder)
    };
    let config = |stage: &Stage| {
        let (loaded, faults, _) = complete(stage);
        assert_eq!(faults, "");
        Value::from(loaded.job.source.config)
    };
    // What nobody has set is the plugin's to choose.
    assert_eq!(config(&stage("{ quota: {} }")), json!({ "quota": {} }));
    let set = |stage: Stage| stage.variable("MIGRATION_QUOTA_SAFETY", "0.25");
    assert_eq!(
        config(&set(stage("{ quota: {} }"))),
        json!({ "quota": { "factor": 0.25 }, "part": 0.25 })
    );
    assert_eq!(config(&set(stage("{}"))), json!({ "part": 0.25 }));
    let own = "{ quota: { factor: 0.5 }, part: 1 }";
    assert_eq!(
        config(&set(stage(own))),
        json!({ "quota": { "factor": 0.5 }, "part": 1 })
    );
    // It comes from where the limit comes from.
    let (loaded, _, _) = complete(&set(stage("{ quota: {} }")));
    let variable = "variable MIGRATION_QUOTA_SAFETY";
    assert_eq!(loaded.origin("/source/config/quota/factor").to_string(), variable);
    let job = format!("{JOB}limits: {{ quota_safety: 0.1, memory_mb: 64 }}\n");
    let job = job.replace("{ plugin: p }", "{ plugin: p, config: { quota: {} } }");
    let (loaded, faults, folder) = complete(&Stage::new(&job));
    assert_eq!(loaded.job.source.config["memory"], 64);
    let origin = loaded.origin("/source/config/part").to_string();
    assert_eq!(origin.replace(&folder, ""), "job.yaml:4:25");
    assert_eq!(
        faults,
        "`source.config.quota.factor` must be at least 0.2\n  --> job.yaml:4:25\n  code: config.bad_value\n"
    );
}
