//! What the program bears: wrong job files, large and uneven records, hostile names. FAULTS H4, D5, D6, ledger R2.4.
//!
//! Values and names are made here; what arrives is read by Python's own SQLite.

use std::io::Write as _;
use std::process::Command;

use crate::program::{Stage, repository};

#[test]
fn h4_every_wrong_job_file_is_refused_with_place_code_and_help_and_nothing_is_touched() {
    let folder = repository().join("tests/fixtures/bad-jobs");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let stage = Stage::new();
        std::fs::copy(&path, stage.path("job.yaml")).unwrap();
        let answer = stage.run(&["run", "job.yaml"]).expect(2);
        let name = path.display();
        assert!(answer.err.contains("code: config."), "{name}: {}", answer.err);
        assert!(answer.err.contains("--> job.yaml:"), "{name}: {}", answer.err);
        assert_eq!(answer.out, "", "{name}");
        let json = stage.run(&["run", "job.yaml", "--json"]).expect(2);
        assert!(
            json.error()["code"].as_str().unwrap().starts_with("config."),
            "{name}"
        );
        assert_eq!(
            std::fs::read_dir(stage.path("")).unwrap().count(),
            1,
            "{name}: a file was made"
        );
        count += 1;
    }
    assert!(count >= 40, "{count}");
}

#[test]
fn h4_the_config_of_a_plugin_is_checked_against_its_schema_with_the_place_in_the_job() {
    let stage = Stage::new();
    stage.write(
        "job.yaml",
        "name: x\nsource: { plugin: local-storage, config: { path: ./export.json, formt: flat } }\n\
         sink:\n  plugin: turso\n  config:\n    url: 7\n",
    );
    let answer = stage.run(&["run", "job.yaml", "--json"]).expect(2).json();
    let errors: Vec<(&str, &str)> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["code"].as_str().unwrap(), error["place"].as_str().unwrap()))
        .collect();
    assert!(
        errors.contains(&("config.unknown_key", "job.yaml:2:65")),
        "{errors:?}"
    );
    assert!(
        errors.contains(&("config.wrong_type", "job.yaml:6:10")),
        "{errors:?}"
    );
}

#[test]
fn h4_what_a_plugin_says_of_its_config_is_placed_in_the_job() {
    let stage = Stage::new();
    stage.write("export.json", "{}");
    stage.write(
        "job.yaml",
        "name: x\nsource: { plugin: local-storage, config: { path: ./export.json } }\n\
         sink:\n  plugin: turso\n  config:\n    url: http://example.invalid\n",
    );
    let answer = stage.run(&["run", "job.yaml"]).expect(2);
    assert!(
        answer.err.contains("--> job.yaml:6:10") && answer.err.contains("code: turso.plain_http"),
        "{}",
        answer.err
    );
    assert!(
        answer.out.contains("failed before anything was written"),
        "{}",
        answer.out
    );
}

#[test]
fn memory_stays_within_its_budget_with_large_and_uneven_records() {
    let stage = Stage::new();
    let mut out = std::io::BufWriter::new(std::fs::File::create(stage.path("docs.ndjson")).unwrap());
    let large = "x".repeat(4 << 20);
    for id in 0..20_000 {
        let text = if id % 500 == 0 { large.as_str() } else { "small" };
        writeln!(out, "{{\"id\":{id},\"text\":\"{text}\",\"n\":{id}.5}}").unwrap();
    }
    out.flush().unwrap();
    stage.write(
        "job.yaml",
        "name: uneven\nsource: { plugin: files, config: { path: docs.ndjson } }\n\
         sink: { plugin: turso, config: { url: \"file:app.db\" } }\ncollections: [{ source: docs, key: [id] }]\n\
         limits: { memory_mb: 64 }\nverification: basic\n",
    );
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["collections"][0]["written_count"], 20_000);
    let peak = report["memory_peak_bytes"].as_u64().unwrap() >> 20;
    // 160 MiB of records went through. The budget is 64 MiB; the fixed part is the program, its plugins and what one
    // large record costs on its way through each of them.
    assert!(peak < 64 + 96, "{peak} MiB");
}

#[test]
fn d6_hostile_names_arrive_or_are_refused_with_both_names() {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("in")).unwrap();
    let fields = [
        "select",
        "a\\\"b",
        "x'; DROP TABLE t;--",
        "😀",
        "Ünïcode",
        "Twin",
        "TWIN",
        "rowid",
        "with space",
    ];
    let members: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(at, name)| format!("\"{name}\":{at}"))
        .collect();
    let line = format!("{{\"id\":1,{}}}\n", members.join(","));
    for name in ["t\"; DROP TABLE x;--", "order", "sqlite_like", "日本"] {
        std::fs::write(stage.path("in").join(format!("{name}.ndjson")), &line).unwrap();
    }
    let job = "name: hostile\nsource: { plugin: files, config: { path: in } }\n\
               sink: { plugin: turso, config: { url: \"file:app.db\" } }\n";
    stage.write("job.yaml", job);
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["verification"].as_array().unwrap().len(), 4);
    let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\n\
                  print(sorted(r[0] for r in c.execute(\"SELECT name FROM sqlite_master WHERE type='table'\")))";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(stage.path("app.db"))
        .output()
        .unwrap();
    let tables = String::from_utf8(output.stdout).unwrap();
    assert!(
        tables.contains("DROP TABLE x;--") && tables.contains("_sqlite_like"),
        "{tables}"
    );

    std::fs::write(stage.path("in").join("ORDER.ndjson"), &line).unwrap();
    let refused = stage.run(&["run", "job.yaml", "--json"]).expect(2);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("`ORDER`") && message.contains("`order`"),
        "{message}"
    );
}

#[test]
fn d3_duplicate_keys_follow_the_policy_and_are_counted() {
    let stage = Stage::new();
    stage.write(
        "docs.ndjson",
        "{\"id\":1,\"v\":\"a\"}\n{\"id\":2,\"v\":\"b\"}\n{\"id\":1,\"v\":\"c\"}\n",
    );
    let job = |policy: &str| {
        format!(
            "name: twice\nsource: {{ plugin: files, config: {{ path: docs.ndjson }} }}\n\
             sink: {{ plugin: turso, config: {{ url: \"file:{policy}.db\" }} }}\n\
             collections: [{{ source: docs, key: [id], on_conflict: {policy} }}]\n"
        )
    };
    stage.write("overwrite.yaml", job("overwrite"));
    let report = stage.run(&["run", "overwrite.yaml", "--json"]).expect(0).json();
    assert_eq!(report["verification"][0]["duplicate_key_count"], 1);
    assert_eq!(report["verification"][0]["sink_count"], 2);
    stage.write("fail.yaml", job("fail"));
    let report = stage.run(&["run", "fail.yaml", "--json"]).expect(1).json();
    assert_eq!(report["rejected_count"], 1);
}
