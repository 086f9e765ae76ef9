//! The variables of ledger row R4.9: each has an effect that a run shows, or, where the part of the program that heeds it
//! is not there yet, one that `config show` shows. Also which of file, variable and flag wins.
//!
//! The names are compared with the table in `host/src/config/variables.rs`: one without a test fails.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use crate::program::{Stage, repository};
use crate::running::{End, Running, latest_run, wait_until};
use crate::scripted_job::{SINK_CALLS, SOURCE_CALLS, ScriptedJob, calls, committed, data_commits, misbehave};

/// One test for each line, which is given each name of the variable in turn; the names are what is tested.
macro_rules! effects {
    ($($test:ident($($name:literal),+) = $effect:expr;)+) => {
        $(
            #[test]
            fn $test() {
                for name in [$($name),+] {
                    let effect: fn(&str) = $effect;
                    effect(name);
                }
            }
        )+
        const TESTED: &[&str] = &[$($($name),+),+];
    };
}

effects! {
    the_settings_file_is_named("WHIMBREL_SETTINGS") = settings_file;
    the_working_folder_is_elsewhere("MIGRATION_WORKING_DIR") = working_folder;
    a_write_has_so_many_records("MIGRATION_BATCH_SIZE") = batch_size;
    a_transaction_is_tried_so_often("MIGRATION_MAX_RETRIES") = max_retries;
    a_try_waits_so_long("MIGRATION_RETRY_DELAY", "MIGRATION_RETRY_DELAY_BASE") = retry_delay;
    both_sides_are_compared_or_not("MIGRATION_VALIDATION_ENABLED") = verification;
    a_transaction_stays_open_so_long("MIGRATION_TRANSACTION_TIMEOUT") = transaction_timeout;
    so_many_batches_wait("MIGRATION_CONCURRENT_BATCHES") = concurrent_batches;
    a_commit_comes_after_so_many_records("MIGRATION_CHECKPOINT_INTERVAL") = checkpoint_interval;
    a_run_is_looked_at_so_often("MIGRATION_HEALTH_CHECK_INTERVAL") = health_interval;
    records_on_their_way_take_so_much("MIGRATION_MEMORY_THRESHOLD", "MIGRATION_MEMORY_THRESHOLD_MB") = memory;
    so_many_sessions_are_open("MIGRATION_CONNECTION_POOL_SIZE") = sessions;
    a_part_of_the_quota_is_used("MIGRATION_QUOTA_SAFETY", "MIGRATION_FIRESTORE_QUOTA_SAFETY_FACTOR") =
        quota_safety;
    rollback_is_enabled("MIGRATION_ROLLBACK_ENABLED") =
        |name| shown(name, "false", "rollback.enabled", json!(false));
    rollback_has_a_batch_size("ROLLBACK_BATCH_SIZE") = |name| shown(name, "7", "rollback.batch_size", json!(7));
    rollback_has_retries("ROLLBACK_MAX_RETRIES") = |name| shown(name, "9", "rollback.max_retries", json!(9));
    rollback_has_a_timeout("ROLLBACK_TIMEOUT") = |name| shown(name, "1234", "rollback.timeout_ms", json!(1234));
    rollback_looks_so_often("ROLLBACK_SAFETY_INTERVAL") =
        |name| shown(name, "1234", "rollback.safety_interval_ms", json!(1234));
    rollback_looks_at_so_many("ROLLBACK_VALIDATION_SAMPLE") =
        |name| shown(name, "12", "rollback.validation_sample", json!(12));
    rollback_comes_by_itself("ROLLBACK_EMERGENCY_THRESHOLD") =
        |name| shown(name, "0.5", "rollback.emergency_threshold", json!(0.5));
    rollback_checks_its_backup("ROLLBACK_BACKUP_VALIDATION") =
        |name| shown(name, "0", "rollback.backup_validation", json!(false));
    rollback_asks("ROLLBACK_REQUIRE_CONFIRMATION") =
        |name| shown(name, "false", "rollback.require_confirmation", json!(false));
    rollback_is_agreed_to("ROLLBACK_CONFIRMED") = |name| shown(name, "1", "rollback.confirmed", json!(true));
    monitor_looks_at_so_many("MONITOR_SAMPLE_SIZE") = |name| shown(name, "5", "monitor.sample_size", json!(5));
    monitor_looks_so_often("MONITOR_HEALTH_INTERVAL") =
        |name| shown(name, "1234", "monitor.health_interval_ms", json!(1234));
    monitor_warns_above("MONITOR_ALERT_THRESHOLDS") =
        |name| shown(name, r#"{"error_rate": [0.25, 0.5]}"#, "monitor.alert_thresholds.error_rate", json!([0.25, 0.5]));
}

#[test]
fn every_variable_of_the_table_has_a_test_and_no_test_is_of_another() {
    let path = repository().join("host/src/config/variables.rs");
    let text = std::fs::read_to_string(path).unwrap();
    let table = text.split_once("pub const VARIABLES").unwrap().1;
    let table = table.split_once("\n];").unwrap().0;
    let is_name =
        |text: &&str| text.contains('_') && text.chars().all(|char| char.is_ascii_uppercase() || char == '_');
    // Every second part between quotes is a literal.
    let named: BTreeSet<&str> = table.split('"').skip(1).step_by(2).filter(is_name).collect();
    assert!(named.len() >= 29, "{named:?}");
    assert_eq!(named, TESTED.iter().copied().collect());
}

/// These belong to plugins, which name them in the schemas of their configs.
#[test]
fn a_variable_that_a_plugin_names_stands_in_for_a_field_that_is_left_out() {
    for (name, field) in [
        ("SUPABASE_URL", "address"),
        ("SUPABASE_SERVICE_ROLE_KEY", "service_key"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "credentials_path"),
    ] {
        let stage = ScriptedJob::new().stage();
        let given = |variables: &[(&str, &str)]| {
            let answer = stage
                .run_with(&["check", "job.yaml", "--json"], variables)
                .expect(0);
            assert!(!answer.out.contains("a-planted-value"), "{}", answer.out);
            let findings = answer.json()["findings"].clone();
            let said = findings
                .as_array()
                .into_iter()
                .flatten()
                .find(|found| found["code"] == "scripted.given");
            said.map(|found| found["message"].as_str().unwrap().to_owned())
        };
        assert_eq!(given(&[]), None, "{name}");
        assert_eq!(
            given(&[(name, "a-planted-value")]),
            Some(format!("given: {field}")),
            "{name}"
        );
    }
}

/// The row of `config show` for `key`.
fn show(stage: &Stage, arguments: &[&str], variables: &[(&str, &str)], key: &str) -> Value {
    let all = [&["config", "show", "job.yaml", "--json"], arguments].concat();
    let shown = stage.run_with(&all, variables).expect(0).json();
    let values = shown["values"].as_array().unwrap();
    let row = values.iter().find(|row| row["key"] == key);
    row.unwrap_or_else(|| panic!("{key}: {shown}")).clone()
}

fn shown(name: &str, text: &str, key: &str, value: Value) {
    let stage = ScriptedJob::new().stage();
    let before = show(&stage, &[], &[], key);
    assert_ne!(before["value"], value, "{name}: the default would not show it");
    let row = show(&stage, &[], &[(name, text)], key);
    assert_eq!(row["value"], value, "{name}");
    assert!(row["origin"].to_string().contains(name), "{name}: {row}");
}

#[test]
fn the_flag_wins_over_the_variable_and_the_variable_over_the_file() {
    let key = "import.batch_size";
    let stage = ScriptedJob::new().stage();
    stage.write("whimbrel.yaml", "defaults: { import: { batch_size: 11 } }\n");
    let wide = [("MIGRATION_BATCH_SIZE", "33")];
    let size = |arguments: &[&str], variables: &[(&str, &str)]| {
        let row = show(&stage, arguments, variables, key);
        std::fs::remove_file(stage.path(SINK_CALLS)).unwrap_or_default();
        let all = [
            &["run", "job.yaml", "--json", "--no-auto-verification"],
            arguments,
        ]
        .concat();
        stage.run_with(&all, variables).expect(0);
        // Two partitions of fifty records each.
        assert_eq!(
            largest_write(&stage),
            row["value"],
            "the run does as `config show` says"
        );
        (row["value"].as_u64().unwrap(), row["origin"].to_string())
    };
    let (value, origin) = size(&[], &[]);
    assert!(
        value == 11 && origin.contains("whimbrel.yaml"),
        "{value} {origin}"
    );
    ScriptedJob::new()
        .set("/import/batch_size", json!(22))
        .write(&stage);
    let (value, origin) = size(&[], &[]);
    assert!(value == 22 && origin.contains("job.yaml"), "{value} {origin}");
    let (value, origin) = size(&[], &wide);
    assert!(
        value == 33 && origin.contains("MIGRATION_BATCH_SIZE"),
        "{value} {origin}"
    );
    let (value, origin) = size(&["--batch-size", "44"], &wide);
    assert!(value == 44 && origin.contains("--batch-size"), "{value} {origin}");
}

fn largest_write(stage: &Stage) -> u64 {
    let writes = calls(stage, SINK_CALLS, "write");
    writes
        .iter()
        .map(|about| about["record_count"].as_u64().unwrap())
        .max()
        .unwrap()
}

fn settings_file(name: &str) {
    let stage = ScriptedJob::new()
        .set("/source", json!({ "environment": "elsewhere" }))
        .stage();
    stage.write(
        "other.yaml",
        "environments: { elsewhere: { plugin: scripted, config: { records: 3 } } }\n",
    );
    let refused = stage.run(&["run", "job.yaml", "--json"]).expect(2);
    assert_eq!(refused.error()["code"], "config.unknown_environment");
    stage
        .run_with(&["run", "job.yaml", "--json"], &[(name, "other.yaml")])
        .expect(0);
    assert_eq!(committed(&stage)["records"], 3);
}

fn working_folder(name: &str) {
    let stage = ScriptedJob::new().stage();
    stage
        .run_with(&["run", "job.yaml"], &[(name, "kept/here")])
        .expect(0);
    assert!(
        latest_run(&stage, "kept/here")
            .join("migration-status.json")
            .exists()
    );
    assert!(stage.path("kept/here/state.db").exists());
    assert!(!stage.path(".whimbrel").exists());
}

fn batch_size(name: &str) {
    let job = ScriptedJob::new().source("records", json!(1_000));
    for (text, size) in [(None, 100), (Some("7"), 7), (Some("1000"), 500)] {
        let stage = job.stage();
        let variables: Vec<_> = text.map(|text| (name, text)).into_iter().collect();
        stage.run_with(&["run", "job.yaml"], &variables).expect(0);
        assert_eq!(largest_write(&stage), size, "{text:?}");
        assert_eq!(committed(&stage)["records"], 1_000);
    }
}

/// A run whose first transaction with records is not committed, ever. The first commit of all is that of the run's own lane.
fn never_committed(variables: &[(&str, &str)]) -> End {
    let stage = ScriptedJob::new()
        .set("/limits/partitions_parallel", json!(1))
        .sink("misbehave", misbehave("commit", 2, 0, "not_committed"))
        .stage();
    let end = Running::start_with(&stage, &[], variables).finish().expect(3);
    let tries = data_commits(&stage).len();
    assert_eq!(tries, end.named("retrying").len() + 1, "each try is announced");
    assert!(committed(&stage).is_empty());
    end
}

fn max_retries(name: &str) {
    for count in [0, 3] {
        let text = count.to_string();
        let end = never_committed(&[(name, &text), ("MIGRATION_RETRY_DELAY", "0")]);
        let attempts: Vec<&Value> = end
            .named("retrying")
            .iter()
            .map(|event| &event["attempt"])
            .collect();
        assert_eq!(
            attempts,
            (1..=count)
                .map(Value::from)
                .collect::<Vec<_>>()
                .iter()
                .collect::<Vec<_>>()
        );
    }
    // One that passes is overcome.
    let stage = ScriptedJob::new()
        .sink("misbehave", misbehave("write", 2, 2, "transient_error"))
        .stage();
    stage
        .run_with(
            &["run", "job.yaml"],
            &[(name, "2"), ("MIGRATION_RETRY_DELAY", "0")],
        )
        .expect(0);
    assert_eq!(committed(&stage)["records"], 100);
}

fn retry_delay(name: &str) {
    let delays = |text: &str| -> Vec<u64> {
        let end = never_committed(&[(name, text), ("MIGRATION_MAX_RETRIES", "3")]);
        let delays = end
            .named("retrying")
            .into_iter()
            .map(|event| event["delay_ms"].as_u64().unwrap());
        delays.collect()
    };
    assert_eq!(delays("0"), [0, 0, 0]);
    let jittered = delays("200");
    let ceilings = [200, 400, 800];
    assert!(
        jittered
            .iter()
            .zip(ceilings)
            .all(|(delay, ceiling)| *delay <= ceiling),
        "{jittered:?}"
    );
    // Each is a random part of its ceiling: that all three are next to nothing happens once in ten million times.
    assert!(jittered.iter().any(|delay| *delay > 2), "{jittered:?}");
}

fn verification(name: &str) {
    let compared = |job: &ScriptedJob, text: &str| {
        let stage = job.stage();
        let report = stage
            .run_with(&["run", "job.yaml", "--json"], &[(name, text)])
            .expect(0)
            .json();
        report["verification"].as_array().unwrap().len()
    };
    let job = ScriptedJob::new();
    assert_eq!((compared(&job, "true"), compared(&job, "false")), (1, 0));
    let job = job.set("/verification", json!("none"));
    assert_eq!((compared(&job, "1"), compared(&job, "")), (1, 0));
}

/// Slow writes of ten records each, in one partition: the records of each commit.
fn commits_of_slow_writes(
    slow_ms: u64,
    writes: u64,
    more: &[(&str, Value)],
    variable: (&str, &str),
) -> Vec<u64> {
    let job = ScriptedJob::new()
        .set("/limits/partitions_parallel", json!(1))
        .set("/limits/batch_records", json!(10))
        .set("/verification", json!("none"))
        .source("records", json!(writes * 10))
        .sink("slow_ms", json!(slow_ms))
        .sink("misbehave", misbehave("write", 1, 0, "slow"));
    let job = more
        .iter()
        .fold(job, |job, (pointer, value)| job.set(pointer, value.clone()));
    let stage = job.stage();
    stage.run_with(&["run", "job.yaml"], &[variable]).expect(0);
    assert_eq!(committed(&stage)["records"] as u64, writes * 10);
    data_commits(&stage)
        .iter()
        .map(|about| about["record_count"].as_u64().unwrap())
        .collect()
}

fn transaction_timeout(name: &str) {
    let more = [("/import/checkpoint_interval", json!(1_000_000))];
    // After half of its time a transaction is committed, whatever it holds.
    let hasty = commits_of_slow_writes(150, 10, &more, (name, "1000"));
    assert!(hasty.len() >= 2, "{hasty:?}");
    assert_eq!(commits_of_slow_writes(150, 10, &more, (name, "600000")), [100]);
}

#[test]
fn p3_a_write_that_takes_longer_than_a_transaction_may_is_cancelled_and_tried_again() {
    let stage = ScriptedJob::new()
        .sink("misbehave", misbehave("write", 1, 1, "hang"))
        .stage();
    let variables = [
        // Longer than any other call of this run takes, which would be tried again as well.
        ("MIGRATION_TRANSACTION_TIMEOUT", "1500"),
        ("MIGRATION_RETRY_DELAY", "0"),
    ];
    let end = Running::start_with(&stage, &[], &variables).finish().expect(0);
    let codes: Vec<&Value> = end.named("retrying").iter().map(|event| &event["code"]).collect();
    assert_eq!(codes, ["run.transaction_timeout"]);
    assert_eq!(committed(&stage)["records"], 100);
}

/// A sink that keeps to a rate waits in its calls for longer than they may last.
#[test]
fn the_time_for_which_a_plugin_waits_of_its_own_will_is_none_of_its_calls() {
    let codes = |call: &str, how: &str| {
        let job = ScriptedJob::new()
            .sink("misbehave", misbehave(call, 1, 1, how))
            // The calls are looked at each second.
            .sink("slow_ms", json!(2_500))
            .set("/import/retry_delay_ms", json!(0))
            .set("/import/transaction_timeout_ms", json!(100));
        let stage = job.stage();
        let end = Running::start_with(&stage, &[], &[]).finish().expect(0);
        assert_eq!(committed(&stage)["records"], 100, "{call} {how}");
        let retries = end.named("retrying").into_iter();
        retries
            .map(|event| event["code"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        for call in ["write", "commit"] {
            scope.spawn(move || assert_eq!(codes(call, "wait"), [""; 0], "{call}"));
        }
        scope.spawn(|| assert_eq!(codes("write", "slow"), ["run.transaction_timeout"]));
    });
}

/// A run of 300 views, of which 1,000 a day are allowed.
fn quota_safety(name: &str) {
    let billed = |part: Option<f64>| {
        let mut billed = json!({ "unit": "page views", "usd_per_million": 40.0, "units_max": 1_000 });
        if let Some(part) = part {
            billed["units_part"] = json!(part);
        }
        ScriptedJob::new().source("billed", billed).stage()
    };
    let plan = |stage: &Stage, variables: &[(&str, &str)], status: i32| {
        let plan = stage.run_with(&["plan", "job.yaml", "--json"], variables);
        let plan = plan.expect(status).json();
        assert_eq!(
            plan.to_string().contains("plan.over_quota"),
            status == 2,
            "{plan}"
        );
        plan["estimate"]["cost"]["units_max"].clone()
    };
    let (silent, own) = (billed(None), billed(Some(0.9)));
    let variable = [(name, "0.01")];
    assert_eq!(plan(&silent, &[], 0), 1_000);
    assert_eq!(plan(&silent, &variable, 2), 10);
    // What the plugin's own config says goes first.
    assert_eq!(plan(&own, &variable, 0), 900);
    let key = "source.config.billed.units_part";
    let row = show(&silent, &[], &variable, key);
    assert_eq!(row["value"], 0.01);
    assert!(row["origin"].to_string().contains(name), "{name}: {row}");
    assert_eq!(show(&own, &[], &variable, key)["value"], 0.9);
}

fn checkpoint_interval(name: &str) {
    let (often, seldom) = std::thread::scope(|scope| {
        let often = scope.spawn(|| commits_of_slow_writes(150, 16, &[], (name, "10")));
        let seldom = scope.spawn(|| commits_of_slow_writes(150, 16, &[], (name, "1000000")));
        (often.join().unwrap(), seldom.join().unwrap())
    });
    // Not before a transaction is a second old, or each write would have a commit of its own.
    assert!(often.len() >= 2 && often[0] > 10, "{often:?}");
    assert_eq!(seldom, [160]);
}

/// Between two looks at the worker's health, in tests that wait for several.
const HEALTH_MS: u64 = 100;

/// A job whose sink never returns from its first write, and whose health is told ten times a second.
fn stuck_in_the_sink() -> ScriptedJob {
    ScriptedJob::new()
        .set("/limits/partitions_parallel", json!(1))
        .set("/limits/batch_records", json!(10))
        .set("/limits/health_check_interval_ms", json!(HEALTH_MS))
        .sink("misbehave", misbehave("write", 1, 0, "hang"))
}

/// Runs until the source `is_ahead` of a sink that hangs, as a look at the worker shows, and has had time to run further;
/// answers the last look.
fn run_ahead(stage: &Stage, variable: (&str, &str), is_ahead: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    let mut running = Running::start_with(stage, &[], &[variable]);
    wait_until("the source is ahead", || is_ahead(&running.until_named("health")));
    // So many looks have been told by now, at most, of which some may still be on their way. Those after them are later ones.
    let told_max = begun.elapsed().as_millis() / u128::from(HEALTH_MS) + 1;
    loop {
        let last = running.until_named("health");
        let looks = running.events.iter().filter(|event| event["event"] == "health");
        if looks.count() as u128 >= told_max + 4 {
            return last;
        }
    }
}

fn concurrent_batches(name: &str) {
    for waiting in [1, 2, 9] {
        let stage = stuck_in_the_sink().source("records", json!(1_000)).stage();
        let read = || calls(&stage, SOURCE_CALLS, "next").len();
        // The first call answers the schema; one batch is with the sink, and one is in the reader's hand.
        let expected = 1 + 1 + waiting + 1;
        run_ahead(&stage, (name, &waiting.to_string()), |_| read() >= expected);
        assert_eq!(read(), expected);
        assert_eq!(calls(&stage, SINK_CALLS, "write").len(), 1);
    }
}

fn memory(name: &str) {
    let waiting = |text: &str, min: u64| {
        let stage = stuck_in_the_sink()
            .set("/import/concurrent_batches", json!(64))
            .source("records", json!(400))
            .source("text_bytes", json!(50_000))
            .stage();
        let mib = |look: &Value| look["waiting_bytes"].as_u64().unwrap() >> 20;
        mib(&run_ahead(&stage, (name, text), |look| mib(look) >= min))
    };
    // A quarter of it is for records on their way; the rest is for plugins and the program itself.
    let (little, enough) = (waiting("16", 1), waiting("512", 16));
    assert!((1..=4).contains(&little), "{little} MiB");
    assert!(enough >= 16, "{enough} MiB");
}

fn health_interval(name: &str) {
    let day_ms = json!(86_400_000);
    // Without the variable there would be several looks here, and one in the run after it.
    let hook = json!([{ "command": { "run": ["sleep", "0.7"] } }]);
    let stage = ScriptedJob::new()
        .set("/hooks/before", hook)
        .set("/limits/health_check_interval_ms", json!(HEALTH_MS))
        .stage();
    let end = Running::start_with(&stage, &[], &[(name, &day_ms.to_string())]);
    assert_eq!(end.finish().expect(0).named("health").len(), 1);

    let stage = stuck_in_the_sink()
        .set("/limits/health_check_interval_ms", day_ms)
        .stage();
    let mut running = Running::start_with(&stage, &[], &[(name, &HEALTH_MS.to_string())]);
    for _ in 0..5 {
        running.until_named("health");
    }
}

fn sessions(name: &str) {
    let job = ScriptedJob::new()
        .source("collections", json!(["a", "b"]))
        .set("/verification", json!("none"));
    for count in [1, 3] {
        let stage = job.stage();
        stage
            .run_with(&["run", "job.yaml"], &[(name, &count.to_string())])
            .expect(0);
        assert_eq!(calls(&stage, SINK_CALLS, "open").len(), count);
    }
}
