//! What only looks changes nothing: every file of both sides is as it was, octet by octet, none is made, and no call that
//! writes reaches the sink. A server's own counters say the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::migration::sql;
use crate::program::Stage;
use crate::scripted_job::{COMMITTED, SINK_CALLS, ScriptedJob, calls};
use crate::sqld::{Sqld, request, tools};

/// The commands that only look.
const LOOKS: [&[&str]; 6] = [
    &["plan", "job.yaml"],
    &["check", "job.yaml"],
    &["stats", "job.yaml"],
    &["verify", "job.yaml"],
    &["run", "job.yaml", "--dry-run"],
    &["run", "job.yaml", "--validate-only"],
];

/// Every file below `folder` with its octets, but for the working folder, in which runs are kept, and for what SQLite makes
/// for each reader of a database and a reader cannot remove: a log without content, and the index of that log.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name == ".whimbrel" || name.ends_with("-shm") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let octets = std::fs::read(&path).unwrap();
                if !name.ends_with("-wal") || !octets.is_empty() {
                    found.insert(path, octets);
                }
            }
        }
    }
    found
}

#[track_caller]
fn assert_same(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after), "{what}: files came or went");
    for (path, octets) in before {
        assert!(after[path] == *octets, "{what}: {} was changed", path.display());
    }
}

/// A folder of files, and a database file, as source or sink.
fn stage_with_database() -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("in")).unwrap();
    let line = |id: usize| format!("{{\"id\":{id},\"text\":\"number {id}\"}}\n");
    stage.write("in/a.ndjson", (0..500).map(line).collect::<String>());
    stage.write("in/b.ndjson", (0..20).map(line).collect::<String>());
    stage
}

fn write_job(stage: &Stage, source: &Value, sink: &Value) {
    let rules = json!([{ "source": "a", "key": ["id"] }, { "source": "b", "key": ["id"] }]);
    let job = json!({ "name": "looks", "source": source, "sink": sink, "collections": rules });
    stage.write("job.yaml", job.to_string());
}

fn database(file: &str) -> Value {
    json!({ "plugin": "turso", "config": { "url": format!("file:{file}") } })
}

fn folder(path: &str) -> Value {
    json!({ "plugin": "files", "config": { "path": path } })
}

/// Runs every command that looks, and compares all files.
#[track_caller]
fn look(stage: &Stage, codes: &[i32]) {
    let before = files(&stage.path(""));
    for arguments in LOOKS {
        let answer = stage.run(arguments);
        assert!(
            codes.contains(&answer.code),
            "{arguments:?}: exit {}\n{}{}",
            answer.code,
            answer.out,
            answer.err
        );
        assert_same(&before, &files(&stage.path("")), &arguments.join(" "));
    }
}

#[test]
fn nothing_is_made_where_the_sink_will_be() {
    let stage = stage_with_database();
    write_job(&stage, &folder("in"), &database("app.db"));
    // There is nothing to compare with yet: `verify` says so.
    look(&stage, &[0, 4, 5]);
    write_job(&stage, &folder("in"), &folder("out"));
    look(&stage, &[0, 4, 5]);
    assert!(!stage.path("out").exists());
}

#[test]
fn a_database_that_is_there_keeps_every_octet() {
    let stage = stage_with_database();
    write_job(&stage, &folder("in"), &database("app.db"));
    stage.run(&["run", "job.yaml"]).expect(0);
    sql(&stage.path("app.db"), "DELETE FROM a WHERE id < 100");
    look(&stage, &[0, 4]);
    // As the source, too.
    write_job(&stage, &database("app.db"), &database("copy.db"));
    look(&stage, &[0, 4, 5]);
    write_job(&stage, &database("app.db"), &folder("out"));
    look(&stage, &[0, 4, 5]);
}

#[test]
fn a_server_counts_no_written_row() {
    let Some(tools) = tools() else {
        return;
    };
    let server = Sqld::start_with_admin(&tools, None);
    let admin = server.admin();
    let counters = || {
        let (status, text) = request(admin, "GET", "/v1/namespaces/default/stats", &[], "").unwrap();
        assert_eq!(status, 200, "{text}");
        let counted: Value = serde_json::from_str(&text).unwrap();
        [
            counted["rows_written_count"].as_u64().unwrap(),
            counted["replication_index"].as_u64().unwrap(),
        ]
    };
    let stage = stage_with_database();
    let remote = json!({ "plugin": "turso", "config": { "url": server.url() } });
    write_job(&stage, &folder("in"), &remote);
    let empty = counters();
    look(&stage, &[0, 4, 5]);
    assert_eq!(counters(), empty, "something was written into an empty server");
    stage.run(&["run", "job.yaml"]).expect(0);
    let filled = counters();
    assert!(filled[0] >= 520 && filled[1] > empty[1], "{filled:?}");
    look(&stage, &[0]);
    write_job(&stage, &remote, &folder("out"));
    look(&stage, &[0, 4, 5]);
    assert_eq!(counters(), filled);
}

#[test]
fn the_sink_gets_no_call_that_writes() {
    let writing = [
        "alter",
        "take_over",
        "begin",
        "write",
        "flush",
        "commit",
        "abort",
        "add_constraints",
        "finalize",
        "clear",
    ];
    for arguments in LOOKS {
        let stage = ScriptedJob::new()
            .source("records", json!(200))
            .set(
                "/staging",
                json!(if arguments.contains(&"--dry-run") {
                    "disk"
                } else {
                    "memory"
                }),
            )
            .stage();
        stage.run(arguments);
        for call in writing {
            assert_eq!(calls(&stage, SINK_CALLS, call), [] as [Value; 0], "{arguments:?}");
        }
        let prepared = calls(&stage, SINK_CALLS, "prepare");
        assert!(
            !prepared.is_empty() && prepared.iter().all(|about| about["dry"] == true),
            "{arguments:?}: {prepared:?}"
        );
        assert!(!stage.path(COMMITTED).exists());
        assert!(
            !stage.path(".whimbrel/staging").exists(),
            "{arguments:?}: something was staged"
        );
        let is_kept = arguments.contains(&"--dry-run") || arguments.contains(&"verify");
        assert_eq!(
            stage.path(".whimbrel").exists(),
            is_kept,
            "{arguments:?}: only runs and comparisons are kept"
        );
    }
}

#[test]
fn a_dry_run_reads_and_transforms_everything_and_says_so() {
    let steps = json!([{ "filter": { "where": { "field": "id", "op": "less", "value": 50 } } }]);
    let stage = ScriptedJob::new()
        .source("records", json!(200))
        .set(
            "/transforms",
            json!([{ "plugin": "reshape", "config": { "steps": steps } }]),
        )
        .stage();
    let report = stage
        .run(&["run", "job.yaml", "--dry-run", "--json"])
        .expect(0)
        .json();
    let collection = &report["collections"][0];
    assert_eq!(
        [
            &collection["read_count"],
            &collection["transformed_count"],
            &collection["filtered_count"],
            &collection["written_count"]
        ],
        [200, 50, 150, 0]
    );
    let text = stage.run(&["run", "job.yaml", "--dry-run"]).expect(0);
    assert!(!text.out.contains("done and verified"), "{}", text.out);
}
