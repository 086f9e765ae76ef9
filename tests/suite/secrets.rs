//! Secrets are planted in every field that takes a text and looked for in everything that comes out: ledger row R14.1.
//!
//! The plugin repeats them in errors, panics and printed lines, as they are and as base64 and percent-encoded text. They are
//! looked for in what is printed, in every file of the working folder, in the events, in what people are told, and in the
//! command lines and variables of the processes. Neighbour: `secret_search.rs`, which finds them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::program::Stage;
use crate::running::{Running, children};
use crate::scripted_job::{ScriptedJob, calls};
use crate::secret_search::{Output, base64, files, percent, printed, search};

/// What every secret holds after its own name: signs that JSON, URLs and YAML write otherwise.
const TAIL: &str = "-Zq7\"\\/+ü&=%";

/// Secrets by the place where they were planted.
type Planted = BTreeMap<&'static str, String>;

/// In variables, in files, and in clear in a field that its plugin's schema marks as secret.
struct Plants {
    variables: Planted,
    files: Planted,
    literals: Planted,
}

fn secret(name: &str) -> String {
    format!("plant.{name}{TAIL}")
}

impl Plants {
    fn new() -> Self {
        let with = |names: &[&'static str]| names.iter().map(|name| (*name, secret(name))).collect();
        let mut plants = Self {
            variables: with(&[
                "SOURCE_SAYS",
                "SINK_STORE",
                "TRANSFORM_SAYS",
                "NOTIFIER_SAYS",
                "HOOK_WORD",
            ]),
            files: with(&[
                "source_store",
                "sink_says",
                "transform_store",
                "notifier_store",
                "hook_value",
            ]),
            literals: with(&[
                "source_literal",
                "sink_literal",
                "transform_literal",
                "notifier_literal",
            ]),
        };
        // These become names of files, which have no such signs.
        plants
            .variables
            .insert("SINK_PATH", "plant.SINK_PATH.ndjson".to_owned());
        plants
            .files
            .insert("notifier_path", "plant.notifier_path.ndjson".to_owned());
        plants
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect()
    }

    /// A job that holds all of them; `misbehave` is what its parts do besides printing them.
    fn stage(&self, misbehave: &[(&str, Value)]) -> Stage {
        let stage = Stage::new();
        for (name, value) in &self.files {
            let path = stage.write(name, format!("{value}\n"));
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        // A person's own words, in which somebody has put what a secret looks like elsewhere.
        let spoken = |say: &str, of: &str| {
            let encoded = [base64(of.as_bytes()), percent(of)].join(" ");
            format!("{say} {encoded}")
        };
        let hook = json!({ "command": { "run": ["echo", "hooked ${env:HOOK_WORD}"] } });
        let env_file = json!({ "env_file": { "path": "app.env", "set": { "TOKEN": "${file:hook_value}" } } });
        let mut job = ScriptedJob::new()
            .source("says", json!(spoken("${env:SOURCE_SAYS}", &self.variables["SOURCE_SAYS"])))
            .source("store", json!("${file:source_store}"))
            .source("secret", json!(self.literals["source_literal"]))
            .source("calls_path", Value::Null)
            .sink("says", json!(spoken("${file:sink_says}", &self.files["sink_says"])))
            .sink("store", json!("${env:SINK_STORE}"))
            .sink("secret", json!(self.literals["sink_literal"]))
            .sink("calls_path", Value::Null)
            .sink("committed_path", json!("${env:SINK_PATH}"))
            .set("/limits/batch_records", json!(10))
            .set("/import/max_retries", json!(0))
            .set("/transforms", json!([{ "plugin": "scripted", "config": {
                "says": "${env:TRANSFORM_SAYS}",
                "store": "${file:transform_store}",
                "secret": self.literals["transform_literal"],
            } }]))
            .set("/notifiers", json!([{ "plugin": "scripted", "events": ["started", "phase_changed", "error_added", "completed", "failed"], "config": {
                "says": "${env:NOTIFIER_SAYS}",
                "store": "${file:notifier_store}",
                "secret": self.literals["notifier_literal"],
                "notified_path": "${file:notifier_path}",
            } }]))
            .set("/hooks/before", json!([hook]))
            .set("/hooks/after_success", json!([hook, env_file]))
            .set("/hooks/after_failure", json!([hook, env_file]));
        for (place, script) in misbehave {
            job = job.set(&format!("{place}/config/misbehave"), script.clone());
        }
        job.write(&stage);
        stage
    }

    /// Fails if one of them is anywhere in `outputs`.
    #[track_caller]
    fn assert_absent(&self, what: &str, outputs: &[Output]) {
        let all = self.variables.iter().chain(&self.files).chain(&self.literals);
        let found = search(all.map(|(name, value)| (*name, value.as_str())), outputs);
        assert_eq!(found, None, "{what}");
    }
}

const RUN: &[&str] = &["run", "job.yaml", "--verbose", "--events-file", "events.ndjson"];

/// Runs the job, has it told in every way, and looks through all of that and all that it leaves.
#[track_caller]
fn run_and_search(what: &str, misbehave: &[(&str, Value)], exit: i32, commands: &[&[&str]]) -> Vec<Output> {
    let plants = Plants::new();
    let stage = plants.stage(misbehave);
    let mut outputs = Vec::new();
    for arguments in commands {
        let answer = stage.run_with(arguments, &plants.variables());
        let answer = answer.expect(if arguments[0] == "run" { exit } else { 0 });
        outputs.extend(printed(&arguments.join(" "), &answer));
    }
    outputs.extend(files(&stage.path(".whimbrel")));
    outputs.extend(files(&stage.path("events.ndjson")));
    let told = std::fs::read(stage.path("plant.notifier_path.ndjson")).unwrap_or_default();
    assert!(!told.is_empty(), "{what}: nobody was told");
    outputs.push(Output::new("what people were told", &told));
    for name in [
        "state.db",
        "migration-log.json",
        "migration-status.json",
        "report.html",
        "events.ndjson",
    ] {
        assert!(
            outputs.iter().any(|output| output.place.ends_with(name)),
            "{what}: {name} was looked through"
        );
    }
    plants.assert_absent(what, &outputs);
    let env_file = std::fs::read_to_string(stage.path("app.env")).unwrap_or_default();
    assert!(
        env_file.contains("plant.hook_value"),
        "{what}: the application gets its secret: {env_file}"
    );
    outputs
}

/// How often `part` is in all of `outputs`.
fn count(outputs: &[Output], part: &str) -> usize {
    outputs
        .iter()
        .map(|output| output.text.matches(part).count())
        .sum()
}

fn each(calls: &[(&str, u64, &str)]) -> Value {
    calls
        .iter()
        .map(|(call, at, how)| json!({ "call": call, "at": at, "how": how }))
        .collect()
}

#[test]
fn a_run_that_succeeds_tells_none() {
    let prints = [
        (
            "/source",
            each(&[("open", 1, "print_stderr"), ("next", 3, "print_stdout")]),
        ),
        (
            "/sink",
            each(&[("write", 1, "print_stderr"), ("commit", 1, "print_stdout")]),
        ),
        ("/transforms/0", each(&[("apply", 1, "print_stderr")])),
        ("/notifiers/0", each(&[("send", 1, "print_stderr")])),
    ];
    let commands = [
        RUN,
        &["run", "job.yaml", "--json"],
        &["run", "job.yaml", "--events", "json"],
        &["status", "--json"],
        &["status"],
        &["runs", "--json"],
        &["rejected", "list", "--json"],
    ];
    let outputs = run_and_search("success", &prints, 0, &commands);
    // What was printed is there, with something in its place.
    assert!(count(&outputs, "scripted plugin prints: ***") >= 4);
    assert!(count(&outputs, "hooked ***") >= 1);
}

#[test]
fn a_run_that_fails_tells_none() {
    for (place, call, at) in [
        ("/source", "next", 4),
        ("/sink", "write", 3),
        ("/transforms/0", "apply", 2),
        ("/source", "check", 1),
    ] {
        let script = [(place, each(&[(call, at, "error")]))];
        let commands = [RUN, &["status", "--json"]];
        let outputs = run_and_search(&format!("an error in {call}"), &script, 1, &commands);
        assert!(count(&outputs, "the script says so: ***") >= 3, "{call}");
    }
}

#[test]
fn a_secret_that_is_a_word_of_an_outcome_lets_no_other_secret_out() {
    let password = "plant.PASSWORD";
    let variables = [
        ("LEVEL", "standard"),
        ("SINK_USER", "import"),
        ("SOURCE_WORD", "port"),
        ("PASSWORD", password),
    ];
    let stage = ScriptedJob::new()
        .set("/verification", json!("${env:LEVEL}"))
        .set("/import/max_retries", json!(0))
        .source("store", json!("${env:SOURCE_WORD}"))
        .sink("store", json!("${env:SINK_USER}"))
        .sink("says", json!("${env:PASSWORD}"))
        .set("/sink/config/misbehave", each(&[("write", 1, "error")]))
        .stage();
    let answer = stage.run_with(&[RUN, &["--json"]].concat(), &variables).expect(1);
    // The words stay where they are needed.
    assert_eq!(answer.json()["errors"][0]["phase"], "import", "{}", answer.out);
    let mut outputs: Vec<Output> = printed("run", &answer).into();
    outputs.extend(files(&stage.path(".whimbrel")));
    outputs.extend(files(&stage.path("events.ndjson")));
    assert_eq!(search([("PASSWORD", password)].into_iter(), &outputs), None);
    assert!(count(&outputs, "the script says so: ***") >= 3);
}

#[test]
fn a_plugin_that_panics_or_takes_the_process_down_tells_none() {
    let commands = [RUN, &["run", "job.yaml", "--json"], &["status", "--json"]];
    let panics = [("/sink", each(&[("write", 3, "panic")]))];
    let outputs = run_and_search("a panic", &panics, 1, &commands);
    assert!(count(&outputs, "scripted panic in call 3: ***") >= 3);
    // Its last words explain the crash.
    let crashes = [(
        "/source",
        each(&[("next", 4, "print_stderr"), ("next", 5, "abort")]),
    )];
    let outputs = run_and_search("a crash", &crashes, 1, &commands);
    assert!(count(&outputs, "printed: scripted plugin prints: ***") >= 3);
}

#[test]
fn commands_that_only_look_tell_none() {
    let plants = Plants::new();
    let prints = [(
        "/source",
        each(&[("open", 1, "print_stderr"), ("collections", 1, "print_stderr")]),
    )];
    let stage = plants.stage(&prints);
    let mut outputs = Vec::new();
    for arguments in [
        &["config", "show", "job.yaml"][..],
        &["config", "show", "job.yaml", "--json"],
        &["plan", "job.yaml", "--json"],
        &["plan", "job.yaml"],
        &["check", "job.yaml", "--json"],
        &["stats", "job.yaml", "--json"],
        &["verify", "job.yaml", "--json"],
        &["run", "job.yaml", "--dry-run", "--json"],
    ] {
        let answer = stage.run_with(arguments, &plants.variables());
        assert!(
            [0, 4, 5].contains(&answer.code),
            "{arguments:?}: {}\n{}",
            answer.out,
            answer.err
        );
        outputs.extend(printed(&arguments.join(" "), &answer));
    }
    outputs.extend(files(&stage.path(".whimbrel")));
    plants.assert_absent("looking", &outputs);
    // A reference is shown as it was written, since it tells where to look.
    let shown = &outputs[0].text;
    assert!(
        shown.contains("${file:source_store}") && shown.contains("***"),
        "{shown}"
    );
    // A job that is refused says why without them.
    let missing: Vec<_> = plants
        .variables()
        .into_iter()
        .filter(|(name, _)| *name != "HOOK_WORD")
        .collect();
    let refused = stage.run_with(&["run", "job.yaml", "--json"], &missing).expect(2);
    assert_eq!(
        refused.error()["code"],
        "config.secret_missing",
        "{}",
        refused.out
    );
    plants.assert_absent("a refusal", &printed("run", &refused));
}

#[test]
fn no_process_shows_them_in_its_command_line_or_in_variables_that_nobody_exported() {
    let plants = Plants::new();
    let hang = [("/source", each(&[("next", 4, "hang")]))];
    let stage = plants.stage(&hang);
    let mut running = Running::start_with(&stage, &["--verbose"], &plants.variables());
    running.until(|event| event["event"] == "phase_started" && event["phase"] == "extraction");
    let supervisor = running.pid();
    let mut processes = vec![supervisor];
    while let Some(more) = processes
        .iter()
        .flat_map(|pid| children(*pid))
        .find(|pid| !processes.contains(pid))
    {
        processes.push(more);
    }
    assert!(processes.len() >= 2, "the worker is there");
    let read = |kind: &str| -> Vec<Output> {
        let of = |pid: &rustix::process::Pid| {
            let path = format!("/proc/{}/{kind}", pid.as_raw_nonzero());
            let octets = std::fs::read(&path).unwrap_or_default();
            Output::new(path, &octets)
        };
        processes.iter().map(of).collect()
    };
    let lines = read("cmdline");
    assert!(
        lines.iter().all(|line| !line.text.is_empty()),
        "the command lines could be read"
    );
    plants.assert_absent("command lines", &lines);
    // What a person has exported is there by their own wish.
    let variables = read("environ");
    assert!(
        variables
            .iter()
            .all(|variables| variables.text.contains("SOURCE_SAYS=")),
        "the variables could be read"
    );
    let unexported = Plants {
        variables: Planted::new(),
        ..plants
    };
    unexported.assert_absent("variables", &variables);
    assert!(
        calls(&stage, "source.calls", "next").is_empty(),
        "calls would hold the store's name"
    );
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let plants = Plants::new();
    let stage = plants.stage(&[]);
    for mode in [0o644, 0o640, 0o606] {
        std::fs::set_permissions(stage.path("sink_says"), PermissionsExt::from_mode(mode)).unwrap();
        for arguments in [
            &["run", "job.yaml"][..],
            &["plan", "job.yaml", "--json"],
            &["config", "show", "job.yaml"],
        ] {
            let refused = stage.run_with(arguments, &plants.variables()).expect(2);
            let text = format!("{}{}", refused.out, refused.err);
            assert!(
                text.contains("config.secret_file_open") && text.contains("chmod 600"),
                "{text}"
            );
            plants.assert_absent("a refusal", &printed(arguments[0], &refused));
        }
    }
    assert!(!stage.path(".whimbrel").exists());
    std::fs::set_permissions(stage.path("sink_says"), PermissionsExt::from_mode(0o600)).unwrap();
    stage
        .run_with(&["run", "job.yaml"], &plants.variables())
        .expect(0);
}
