//! Each variable of the table, what is wrong with one, and what two names of one say.
//! Neighbour: `overlaid`, which has the folder with a job file.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::variables;
use super::{JOB, Stage};

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
