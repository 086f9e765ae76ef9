//! What holds for a job, as the program tells it: `config show`, `init`, `schema`, completions, manual pages.
//!
//! That values do what they say is shown by the tests of what they change.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::program::{Answer, Stage};

const JOB: &str = "name: demo
source: { environment: staging }
sink: { plugin: turso, config: { url: \"${env:SINK_URL}\" } }
import: { batch_size: 3 }
";

const SETTINGS: &str = "environments:
  staging: { plugin: files, config: { path: \"${file:in.path}\" } }
defaults: { import: { batch_size: 2, max_errors: 5 }, limits: { memory_mb: 64 } }
";

fn stage() -> Stage {
    let stage = Stage::new();
    stage.write("job.yaml", JOB);
    stage.write("whimbrel.yaml", SETTINGS);
    let secret = stage.write("in.path", "hunter2-folder\n");
    std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    stage
}

fn answer(mut command: std::process::Command) -> Answer {
    let output = command.output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn config_show_tells_each_value_with_its_origin_and_no_secret() {
    let stage = stage();
    let mut command = stage.command(&["config", "show", "job.yaml", "--json", "--max-errors", "6"]);
    command
        .env("SINK_URL", "hunter2.db")
        .env("MIGRATION_BATCH_SIZE", "4")
        .env("ROLLBACK_BATCH_SIZE", "9");
    let answer = answer(command).expect(0);
    assert!(!answer.out.contains("hunter2") && !answer.err.contains("hunter2"));
    let json = answer.json();
    let row = |key: &str| -> (Value, Value) {
        let rows = json["values"].as_array().unwrap();
        let row = rows
            .iter()
            .find(|row| row["key"] == key)
            .unwrap_or_else(|| panic!("no row for {key}"));
        let origin = &row["origin"];
        let from = ["name", "path", "plugin"]
            .iter()
            .find_map(|member| origin.get(*member));
        (row["value"].clone(), from.unwrap_or(&origin["kind"]).clone())
    };
    for (key, value, from) in [
        ("import.batch_size", Value::from(4), "MIGRATION_BATCH_SIZE"),
        ("import.max_errors", 6.into(), "--max-errors"),
        ("import.max_retries", 5.into(), "default"),
        ("limits.memory_mb", 64.into(), "whimbrel.yaml"),
        ("rollback.batch_size", 9.into(), "ROLLBACK_BATCH_SIZE"),
        ("source.plugin", "files".into(), "whimbrel.yaml"),
        ("source.config.path", "${file:in.path}".into(), "whimbrel.yaml"),
        ("source.config.format", "auto".into(), "files"),
        ("sink.config.url", "${env:SINK_URL}".into(), "job.yaml"),
        ("verification", "standard".into(), "default"),
    ] {
        assert_eq!(row(key), (value, from.into()), "{key}");
    }
}

#[test]
fn config_show_hides_every_text_of_a_plugin_that_it_cannot_ask() {
    let stage = Stage::new();
    stage.write(
        "job.yaml",
        "name: demo\nsource: { plugin: nowhere, config: { user: hunter2, port: 5 } }\nsink: { plugin: turso, config: { url: a.db } }\n",
    );
    let answer = stage.run(&["config", "show", "job.yaml"]).expect(2);
    assert!(answer.out.contains("source.config.user"), "{}", answer.out);
    assert!(!answer.out.contains("hunter2") && !answer.err.contains("hunter2"));
    assert!(answer.err.contains("plugin.not_found"), "{}", answer.err);
}

#[test]
fn init_writes_a_job_that_loads_and_replaces_no_file_unasked() {
    let stage = Stage::new();
    let plugins = ["init", "--source-plugin", "files", "--sink-plugin", "turso"];
    let answer = stage
        .run(&[&plugins[..], &["--name", "first"]].concat())
        .expect(0);
    assert!(answer.out.contains("`job.yaml`"), "{}", answer.out);
    let text = std::fs::read_to_string(stage.path("job.yaml")).unwrap();
    assert!(text.contains("\n    path: \"<path>\"\n"), "{text}");
    assert!(
        text.contains("\n    # A folder, each file of which is a collection"),
        "{text}"
    );
    let shown = stage
        .run(&["config", "show", "job.yaml", "--json"])
        .expect(0)
        .json();
    assert_eq!(shown["job"], "first");
    let again = stage.run(&plugins).expect(2);
    assert!(again.err.contains("cli.file_exists"), "{}", again.err);
    stage
        .run(&[&plugins[..], &["--force", "--json"]].concat())
        .expect(0);
    let replaced = std::fs::read_to_string(stage.path("job.yaml")).unwrap();
    assert!(replaced.contains("\nname: my-job\n"));
    let printed = stage.run(&[&plugins[..], &["--output", "-"]].concat()).expect(0);
    assert_eq!(printed.out, replaced);
}

#[test]
fn init_asks_nobody_without_a_terminal() {
    let stage = Stage::new();
    let answer = stage.run(&["init", "--sink-plugin", "turso"]).expect(2);
    assert!(
        answer.err.contains("cli.flag_missing") && answer.err.contains("files"),
        "{}",
        answer.err
    );
    assert_eq!(std::fs::read_dir(stage.path("")).unwrap().count(), 0);
}

#[test]
fn schema_completions_and_manual_pages_are_printed() {
    let stage = Stage::new();
    for file in ["job", "settings"] {
        let schema = stage.run(&["schema", file]).expect(0).json();
        assert_eq!(schema["$id"], format!("urn:whimbrel:schema:{file}:1"));
    }
    for shell in ["bash", "zsh", "fish"] {
        let text = stage.run(&["completions", shell]).expect(0).out;
        assert!(text.contains("no-auto-verification"), "{shell}");
    }
    assert!(stage.run(&["man"]).expect(0).out.contains(".TH whimbrel"));
    stage.run(&["man", "--dir", "pages"]).expect(0);
    let names: Vec<String> = std::fs::read_dir(stage.path("pages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.contains(&"whimbrel-config-show.1".to_owned()), "{names:?}");
    // What starts by itself is nobody's command.
    assert!(!names.iter().any(|name| name.contains("worker")), "{names:?}");
}

#[test]
fn a_bad_variable_or_flag_ends_with_exit_code_2_and_its_name() {
    let stage = stage();
    for (arguments, variable, place) in [
        (
            &["check", "job.yaml"][..],
            Some(("MIGRATION_MAX_RETRIES", "x")),
            "variable MIGRATION_MAX_RETRIES",
        ),
        (
            &["check", "job.yaml", "--batch-size", "0"],
            None,
            "flag --batch-size",
        ),
        (&["check", "job.yaml", "--sink", "live"], None, "flag --sink"),
        (&["check", "job.yaml", "--set", "a=b"], None, "flag --set"),
    ] {
        let mut command = stage.command(arguments);
        command.env("SINK_URL", "a.db").envs(variable);
        let answer = answer(command).expect(2);
        assert!(answer.err.contains(&format!("--> {place}\n")), "{}", answer.err);
    }
}
