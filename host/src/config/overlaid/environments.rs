//! Named connections, and the keys that a job lays over them.
//! Neighbour: `overlaid`, which has the folder with a job file.

use serde_json::json;

use super::Stage;

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
