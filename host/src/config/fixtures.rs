//! Tests over the job files in `tests/fixtures`: each wrong one against its golden text, each good one read.
//!
//! After a change that is meant, `UPDATE_EXPECT=1 cargo test -p whimbrel config::fixtures` writes the golden texts
//! anew; read the difference before it is kept.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;
use whimbrel_plugin_api::{ConflictPolicy, Error};

use super::load::parse;
use super::*;

fn folder(name: &str) -> PathBuf {
    // Resolved, since expect-test writes to this path as it is.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
        .canonicalize()
        .unwrap()
}

fn files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn load(path: &Path) -> Result<LoadedJob, Vec<Error>> {
    load_job(path, &Overrides::default(), &Variables::none())
}

fn good(name: &str) -> LoadedJob {
    let path = folder("good-jobs").join(name);
    load(&path).unwrap_or_else(|errors| panic!("{name}:\n{}", render(&errors)))
}

/// The errors with their places below `folder`; each has a place with line and column, a code, and no secret.
fn checked(errors: Vec<Error>, folder: &Path) -> String {
    let prefix = format!("{}/", folder.display());
    let mut errors = errors;
    for error in &mut errors {
        let place = error.place.clone().expect("every fault has a place");
        let place = place
            .strip_prefix(&prefix)
            .expect("the place begins with the path")
            .to_owned();
        let numbers: Vec<usize> = place.split(':').skip(1).map(|n| n.parse().unwrap()).collect();
        assert!(
            matches!(numbers.as_slice(), [line, column] if *line > 0 && *column > 0),
            "{place}"
        );
        assert!(error.code.starts_with("config."), "{}", error.code);
        assert!(!format!("{error:?}").contains("hunter2"));
        error.place = Some(place);
    }
    render(&errors)
}

#[test]
fn every_wrong_job_file_is_refused_with_its_golden_text() {
    let files = files("bad-jobs");
    assert!(files.len() >= 100, "only {} files", files.len());
    for path in files {
        let Err(errors) = load(&path) else {
            panic!("{} was accepted", path.display())
        };
        let text = checked(errors, path.parent().unwrap());
        expect_test::expect_file![path.with_extension("txt")].assert_eq(&text);
    }
}

#[test]
fn every_wrong_settings_file_is_refused_with_its_golden_text() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder("bad-settings")).unwrap() {
        let folder = entry.unwrap().path();
        let Err(errors) = load(&folder.join("job.yaml")) else {
            panic!("{} was accepted", folder.display())
        };
        expect_test::expect_file![folder.join("expected.txt")].assert_eq(&checked(errors, &folder));
        count += 1;
    }
    assert!(count >= 10, "only {count} folders");
}

#[test]
fn no_golden_text_is_left_without_its_job_file() {
    for entry in std::fs::read_dir(folder("bad-jobs")).unwrap() {
        let path = entry.unwrap().path();
        assert!(
            path.with_extension("yaml").exists() && path.with_extension("txt").exists(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn every_good_job_file_is_read_and_the_job_survives_the_pipe() {
    let files = files("good-jobs");
    assert!(files.len() >= 5);
    for path in files {
        let loaded = good(path.file_name().unwrap().to_str().unwrap());
        assert_eq!(loaded.folder, folder("good-jobs"));
        assert_eq!(loaded.findings, []);
        let text = serde_json::to_string(&loaded.job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), loaded.job);
    }
}

#[test]
fn a_minimal_job_has_the_documented_defaults() {
    let job = good("minimal.yaml").job;
    assert_eq!(
        serde_json::to_value(&job).unwrap(),
        json!({
            "name": "demo",
            "source": { "plugin": "local-storage", "config": {} },
            "sink": { "plugin": "turso", "config": {} },
            "mode": "full",
            "sample_records": 100,
            "verification": "standard",
            "staging": "memory",
            "import": {
                "on_conflict": "overwrite", "on_new_field": "fail", "on_orphan": "report", "max_errors": 0,
                "breaker": { "rate": 0.1, "records_min": 50, "window": 1000 }, "allow_duplicates": false,
                "continue_on_error": false,
                "batch_size": 100, "concurrent_batches": 3, "checkpoints": true, "checkpoint_interval": 1000, "checkpoint_interval_ms": 1000, "max_retries": 5,
                "retry_delay_ms": 1000, "transaction_timeout_ms": 30000, "pause_max_ms": 1800000,
            },
            "limits": {
                "memory_mb": 512, "collections_parallel": 3, "partitions_parallel": 2, "connection_pool_size": 10,
                "call_timeout_secs": 300, "batch_records": 8192, "quota_safety": 0.8,
                "health_check_interval_ms": 30000, "worker_restarts": 3,
            },
            "rollback": {
                "enabled": true, "batch_size": 50, "max_retries": 3, "timeout_ms": 300000,
                "safety_interval_ms": 30000, "validation_sample": 100, "emergency_threshold": 0.1,
                "backup_validation": true, "require_confirmation": true, "confirmed": false,
            },
            "monitor": {
                "sample_size": 100, "health_interval_ms": 30000,
                "alert_thresholds": {
                    "response_ms": [1000, 3000], "error_rate": [0.01, 0.05], "memory_mb": [512, 1024],
                    "integrity": [0.95, 0.9],
                },
            },
        })
    );
}

#[test]
fn every_key_of_a_job_is_read() {
    let loaded = good("whole.yaml");
    let mut value = serde_json::to_value(&loaded.job).unwrap();
    let properties = Job::schema()["properties"].as_object().unwrap().clone();
    for key in properties.keys() {
        assert!(value.get(key).is_some(), "`{key}` is not in the file");
    }
    // The file itself, without its references, is what is expected.
    let text = std::fs::read_to_string(folder("good-jobs").join("whole.yaml")).unwrap();
    let mut written = super::yaml::read(&text).value.unwrap();
    written["include"][1] = json!("users_7");
    written["import"]["batch_size"] = json!(250);
    assert_eq!(written, value.take());
    let job = loaded.job;
    let collections = job.collections.unwrap();
    let names: Vec<&str> = collections.iter().map(CollectionJob::sink_name).collect();
    assert_eq!(names, ["tasks", "users", "_values"]);
    let policies: Vec<ConflictPolicy> = collections
        .iter()
        .map(|collection| collection.conflict_policy(&job.import))
        .collect();
    assert_eq!(
        policies,
        [
            ConflictPolicy::Skip,
            ConflictPolicy::KeepNewest,
            ConflictPolicy::Skip
        ]
    );
}

#[test]
fn words_of_yaml_1_1_stay_text() {
    let job = good("yaml-1-2.yaml").job;
    assert_eq!(job.name, "on");
    assert_eq!(
        serde_json::Value::from(job.source.config),
        json!({
            "country": "no", "answer": "yes", "time": "12:30:00", "day": "2024-01-31", "grouped": "1_000",
            "octal": 15, "hex": 255, "thousand": 1000, "ratio": 0.25, "quoted": "12", "tagged": "12",
            "nothing": null, "lines": "one\ntwo\n", "404": "a key is text",
        })
    );
}

#[test]
fn an_alias_is_placed_where_it_is_used_and_its_parts_where_they_are_written() {
    let loaded = good("aliases.yaml");
    assert_eq!(loaded.job.sink, loaded.job.source);
    assert_eq!(loaded.spans.value("/sink"), Place { line: 5, column: 7 });
    assert_eq!(
        loaded.spans.value("/sink/config/tables/1"),
        Place { line: 4, column: 51 }
    );
    assert_eq!(loaded.spans.key("/sink/plugin"), Place { line: 3, column: 3 });
}

#[test]
fn every_conflict_policy_is_known_by_its_name() {
    for number in 1..=7 {
        let policy = ConflictPolicy::from_number(number).unwrap();
        let name = serde_json::to_value(policy).unwrap();
        let text = format!(
            "name: a\nsource: {{ plugin: p }}\nsink: {{ plugin: p }}\nimport: {{ on_conflict: {} }}\n",
            name.as_str().unwrap()
        );
        assert_eq!(parse(text.as_bytes()).unwrap().job.import.on_conflict, policy);
    }
    assert_eq!(ConflictPolicy::from_number(8), None);
}

#[test]
fn a_missing_file_is_named_with_a_similar_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("nightly.yaml"), "").unwrap();
    let errors = load(&folder.path().join("nightly.yml")).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].code, "config.file_missing");
    assert!(
        errors[0].help.as_ref().unwrap().ends_with("nightly.yaml`?"),
        "{:?}",
        errors[0].help
    );
    let errors = load(&folder.path().join("elsewhere/job.yaml")).unwrap_err();
    assert_eq!(errors[0].code, "config.file_missing");
    let errors = load(&folder.path().join("nightly.yaml/job.yaml")).unwrap_err();
    assert_eq!(errors[0].code, "config.file_missing");
}

#[test]
fn a_folder_and_an_endless_device_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let errors = load(folder.path()).unwrap_err();
    assert_eq!(errors[0].code, "config.file_unreadable");
    let errors = load(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(errors[0].code, "config.too_large");
}

#[test]
fn a_file_over_one_mebibyte_is_refused_and_one_of_exactly_that_size_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.yaml");
    let mut text = String::from("name: demo\nsource: { plugin: a }\nsink: { plugin: b }\n#");
    text.push_str(&" ".repeat(FILE_BYTES_MAX as usize - text.len()));
    std::fs::write(&path, &text).unwrap();
    load(&path).unwrap();
    text.push(' ');
    std::fs::write(&path, &text).unwrap();
    let errors = load(&path).unwrap_err();
    assert_eq!(errors[0].code, "config.too_large");
    assert_eq!(errors[0].place.as_deref(), path.to_str());
}

/// Files of the full size, made to cost as much as they can.
#[test]
fn hostile_files_come_to_an_end() {
    let size = FILE_BYTES_MAX as usize;
    let head = "name: demo\nsource: { plugin: a, config: ";
    let long = "x".repeat(size / 2);
    let cases = [
        ("brackets", "[".repeat(size)),
        (
            "indents",
            (0..1_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
        ),
        ("dashes", "- ".repeat(size / 2)),
        ("items", format!("{head}[{}] }}", "1,".repeat(size / 2 - 50))),
        (
            "unknown keys",
            (0..20_000).map(|n| format!("k{n}: 1\n")).collect(),
        ),
        (
            "wrong collections",
            format!("collections:\n{}", "- 1\n".repeat(20_000)),
        ),
        ("one key", "a: 1\n".repeat(size / 5)),
        (
            "long text by alias",
            format!("a: &a {long}\nb: [{}]\n", "*a,".repeat(100_000)),
        ),
        (
            "anchors",
            (0..size / 16).map(|n| format!("- &a{n} *a{n}\n")).collect(),
        ),
        ("quote", format!("a: \"{}", "\\n".repeat(size / 2 - 8))),
        ("comments", "#\n".repeat(size / 2)),
        ("spaces", " ".repeat(size)),
        ("question marks", "? ".repeat(size / 2)),
        ("colons", ": ".repeat(size / 2)),
        ("block text", format!("a: |\n{}", " \n".repeat(size / 2 - 4))),
    ];
    for (name, text) in cases {
        let errors = parse(text.as_bytes()).unwrap_err();
        assert!(
            !errors.is_empty() && errors.len() <= super::fault::FAULTS_MAX + 1,
            "{name}"
        );
        // A quadratic step would take minutes here and be ended by the test runner's limit.
    }
}

/// Pieces of YAML that mean something, so that random texts get past the first character.
fn yaml_like() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "name",
        "source",
        "sink",
        "collections",
        "import",
        "limits",
        "plugin",
        "config",
        ": ",
        ":",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "'",
        "&a ",
        "*a",
        "*b",
        "!!int ",
        "!x ",
        "? ",
        "|",
        ">",
        "<<",
        "---",
        "...",
        "%",
        "#",
        "\t",
        "~",
        "1",
        "-0",
        "1e9",
        ".nan",
        "ü",
        "\u{feff}",
        "\u{2028}",
        "\0",
        "\r",
        "yes",
        "@",
    ]);
    prop::collection::vec(pieces, 0..80).prop_map(|pieces| pieces.concat())
}

fn assert_faults_are_placed(octets: &[u8]) {
    if let Err(errors) = parse(octets) {
        assert!(!errors.is_empty());
        for error in &errors {
            let place = error.place.as_deref().unwrap();
            assert!(
                error.code == "config.too_many_faults" || place.split(':').count() == 3,
                "{place}"
            );
            assert!(!error.message.is_empty() && !error.message.ends_with('.'));
        }
        assert!(render(&errors).ends_with('\n'));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        assert_faults_are_placed(&octets);
    }

    #[test]
    fn arbitrary_yaml_never_panics(text in yaml_like()) {
        assert_faults_are_placed(text.as_bytes());
    }

    #[test]
    fn a_job_with_a_damaged_part_never_panics(at in 0_usize..600, piece in yaml_like()) {
        let mut text = std::fs::read_to_string(folder("good-jobs").join("whole.yaml")).unwrap();
        let at = at.min(text.len());
        text.insert_str(at, &piece);
        assert_faults_are_placed(text.as_bytes());
    }
}

#[test]
fn a_config_as_deep_as_allowed_survives_the_pipe_and_one_level_more_is_refused() {
    let job = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!("name: a\nsink: {{ plugin: p }}\nsource: {{ plugin: p, config: {{ a: {open}1{close} }} }}\n")
    };
    // The job, `source` and `config` are three levels.
    let read = parse(job(super::yaml::DEPTH_MAX - 3).as_bytes()).unwrap().job;
    let text = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), read);
    assert_eq!(
        parse(job(super::yaml::DEPTH_MAX - 2).as_bytes()).unwrap_err()[0].code,
        "config.too_deep"
    );
}

#[test]
fn long_keys_around_many_values_do_not_multiply() {
    let key = "k".repeat(1_000);
    let mut text = String::from("name: a\nsink: { plugin: p }\nsource:\n  plugin: p\n  config:\n");
    for level in 0..25 {
        text.push_str(&format!("{}{key}:\n", " ".repeat(level + 4)));
    }
    text.push_str(&format!("{}a: [{}]\n", " ".repeat(40), "1,".repeat(90_000)));
    // Places as pointers would take 25,000 bytes for each of the values, which the test's memory would not hold.
    let loaded = parse(text.as_bytes()).unwrap();
    let pointer = format!("/source/config{}/a/89999", format!("/{key}").repeat(25));
    assert_eq!(loaded.spans.value(&pointer).line, 31);
}
