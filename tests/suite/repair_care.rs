//! What a repair must not do: replace what the job leaves to the sink, change what it could not keep, remove what is only hidden in
//! the source, and tell of a state of the sink that is no more.
//!
//! Neighbours: `repair` heals thousands of records, `repair_asks` has the question, `firestore_proof` counts writes.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::firestore::Emulator;
use crate::migration::sql;
use crate::postgres::{PORTER, servers};
use crate::postgres_job::{Job, database, files};
use crate::program::{Answer, Stage};

const REPAIR: [&str; 5] = ["verify", "job.yaml", "--json", "--repair", "--yes"];

/// Three people in a file, and a job into `sink`.
fn stage_with(sink: Value, on_conflict: &str) -> Stage {
    let stage = Stage::new();
    let person = |n: usize| format!("{{\"id\":\"p{n}\",\"age\":{n},\"name\":\"n {n}\"}}\n");
    stage.write("people.ndjson", (1..=3).map(person).collect::<String>());
    Job::new(files("people.ndjson"), sink)
        .set("/collections", json!([{ "source": "people", "key": ["id"] }]))
        .set("/import/on_conflict", json!(on_conflict))
        .write(&stage);
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    stage
}

fn into_file() -> Value {
    json!({ "plugin": "turso", "config": { "url": "file:app.db" } })
}

/// The file of the one repair of a stage that keeps records, or lists differences.
fn of_repair(stage: &Stage, name: &str) -> Option<String> {
    let folders = std::fs::read_dir(stage.path(".whimbrel/verifications")).unwrap();
    let files = folders.map(|entry| entry.unwrap().path().join(name));
    let mut found: Vec<PathBuf> = files.filter(|path| path.exists()).collect();
    assert!(found.len() < 2, "{found:?}");
    found.pop().map(|path| std::fs::read_to_string(path).unwrap())
}

fn counts(report: &Value) -> (u64, u64) {
    let repaired = &report["repaired"][0];
    let count = |member: &str| repaired[member].as_u64().unwrap();
    (count("copied_count"), count("removed_count"))
}

/// What was left, and why, a line for each.
fn left(report: &Value) -> String {
    let left = report["repaired"][0]["left"].as_array().unwrap();
    let line = |one: &Value| format!("{}: {}\n", one[0].as_str().unwrap(), one[1].as_str().unwrap());
    left.iter().map(line).collect()
}

#[test]
fn what_a_job_leaves_to_the_sink_is_left_to_it() {
    let values = "SELECT group_concat(id || '=' || name, ' ') FROM (SELECT * FROM people ORDER BY id)";
    for (on_conflict, code, healed, expected) in [
        ("overwrite", 0, (2, 1), "p1=n 1 p2=n 2 p3=n 3"),
        ("merge", 0, (2, 1), "p1=n 1 p2=n 2 p3=n 3"),
        ("fail", 0, (2, 1), "p1=n 1 p2=n 2 p3=n 3"),
        ("skip", 4, (1, 0), "p1=n 1 p2=theirs p3=n 3 p4=theirs"),
    ] {
        let stage = stage_with(into_file(), on_conflict);
        let app = stage.path("app.db");
        sql(&app, "DELETE FROM people WHERE id = 'p1'");
        sql(&app, "UPDATE people SET name = 'theirs' WHERE id = 'p2'");
        sql(
            &app,
            "INSERT INTO people (id, age, name) VALUES ('p4', 4, 'theirs')",
        );
        let report = stage.run(&REPAIR).expect(code).json();
        assert_eq!(counts(&report), healed, "{on_conflict}: {report}");
        assert!(
            sql(&app, values).contains(&format!("'{expected}'")),
            "{on_conflict}"
        );
        if code == 4 {
            assert!(left(&report).contains("`on_conflict: skip`"), "{}", left(&report));
            // Nothing is left that a repair would do, so that none is advised.
            let again = stage.run(&["verify", "job.yaml", "--verification-level", "comprehensive"]);
            let text = again.expect(4).out;
            assert!(!text.contains("--repair"), "{text}");
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_is_not_replaced_unless_it_was_kept() {
    let stage = stage_with(into_file(), "overwrite");
    let app = stage.path("app.db");
    sql(&app, "UPDATE people SET age = 'forty' WHERE id = 'p2'");
    sql(&app, "UPDATE people SET name = 'mole' WHERE id = 'p3'");
    let report = stage.run(&REPAIR).expect(4).json();
    assert_eq!(counts(&report), (1, 0), "{report}");
    assert!(
        left(&report).starts_with("id=p2: ") && left(&report).contains("could not be kept"),
        "{}",
        left(&report)
    );
    assert!(sql(&app, "SELECT age FROM people WHERE id = 'p2'").contains("forty"));
    let kept = of_repair(&stage, "before-repair/records/people.ndjson").unwrap();
    assert!(kept.contains("mole") && !kept.contains("p2"), "{kept}");
    sql(&app, "DELETE FROM people WHERE id = 'p2'");
    stage.run(&REPAIR).expect(0);
}

/// A project of Firestore as a sink.
fn into_project(emulator: &Emulator, project: &str, inference: &Value) -> Value {
    json!({ "plugin": "firestore",
            "config": { "project": project, "host": emulator.host(), "inference": inference } })
}

/// What the application has made of a document.
const TOUCHED: &str = r#"{"id":{"stringValue":"p3"},"age":{"integerValue":"3"},"name":{"stringValue":"mole"},
                          "lastSeen":{"stringValue":"yesterday"}}"#;

#[test]
fn fields_of_the_application_stay_where_the_job_merges() {
    let Some(emulator) = Emulator::shared() else {
        return;
    };
    let project = emulator.project("merges");
    let stage = stage_with(into_project(&emulator, &project, &json!("full")), "merge");
    emulator.put(&project, "people/p3", TOUCHED);
    let report = stage.run(&REPAIR).expect(0).json();
    assert_eq!(counts(&report), (1, 0), "{report}");
    let healed = emulator.get(&project, "people/p3").unwrap();
    assert!(healed.contains("yesterday") && healed.contains("n 3"), "{healed}");
}

#[test]
fn a_document_is_kept_with_the_fields_that_no_sample_has_shown() {
    let Some(emulator) = Emulator::shared() else {
        return;
    };
    let project = emulator.project("keeps");
    let sink = into_project(&emulator, &project, &json!({ "sample": 1 }));
    let stage = stage_with(sink, "overwrite");
    emulator.put(&project, "people/p3", TOUCHED);
    // A value of another kind than was planned.
    let spoilt = r#"{"id":{"stringValue":"p2"},"age":{"stringValue":"forty"},"note":{"stringValue":"kept"}}"#;
    emulator.put(&project, "people/p2", spoilt);
    let report = stage.run(&REPAIR).expect(0).json();
    assert_eq!(counts(&report), (2, 0), "{report}");
    let kept = of_repair(&stage, "before-repair/records/people.ndjson").unwrap();
    for expected in ["yesterday", "mole", "forty", "kept"] {
        assert!(kept.contains(expected), "{expected}: {kept}");
    }
    assert_eq!(kept.lines().count(), 2, "{kept}");
}

/// A job of one table into a file, read by whoever connects by `url`.
fn of_table(stage: &Stage, url: &str, row_security: Option<&str>) {
    let mut source = database(url);
    if let Some(row_security) = row_security {
        source["config"]["row_security"] = json!(row_security);
    }
    Job::new(source, into_file())
        .set("/collections", json!([{ "source": "people" }]))
        .write(stage);
}

#[test]
fn records_that_row_level_security_hides_are_not_removed_from_the_sink() {
    for server in servers() {
        let there = server.database();
        there.sql(&format!(
            "CREATE TABLE people (id bigint PRIMARY KEY, name text); INSERT INTO people SELECT n, 'n ' || n FROM generate_series(1, 10) n;
             ALTER TABLE people ENABLE ROW LEVEL SECURITY; CREATE POLICY most ON people USING (id <= 6); GRANT SELECT ON people TO {PORTER}"
        ));
        let stage = Stage::new();
        of_table(&stage, &there.url(), None);
        stage.run(&["run", "job.yaml", "--json"]).expect(0);
        let count = || sql(&stage.path("app.db"), "SELECT count(*) FROM people");
        let porter = there.password_url();
        of_table(&stage, &porter, None);
        let refused: Answer = stage.run(&REPAIR);
        assert!(refused.out.contains("postgres.row_security"), "{}", refused.out);
        assert_ne!(refused.code, 0, "{}", refused.out);
        assert!(count().contains("10"), "{}", count());
        of_table(&stage, &porter, Some("visible_only"));
        let report = stage.run(&REPAIR).expect(4).json();
        assert_eq!(counts(&report), (0, 0), "{report}");
        assert!(
            left(&report).contains("the source hides records"),
            "{}",
            left(&report)
        );
        assert!(count().contains("10"), "{}", count());
        // A copy of what is visible is what was asked for.
        stage
            .run(&["run", "job.yaml", "--json", "--no-auto-verification"])
            .expect(0);
    }
}

#[test]
fn a_repair_that_cannot_be_compared_tells_what_it_did_and_no_state_that_is_no_more() {
    for server in servers() {
        let there = server.database();
        let stage = stage_with(database(&there.password_url()), "overwrite");
        // Whoever reads it once a record was written is not let in any more.
        there.sql(&format!(
            "CREATE FUNCTION shut() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
             'BEGIN EXECUTE ''REVOKE SELECT ON public.people FROM {PORTER}''; RETURN NULL; END';
             UPDATE people SET name = 'mole' WHERE id = 'p2';
             ALTER TABLE people OWNER TO postgres; GRANT ALL ON people TO {PORTER};
             CREATE CONSTRAINT TRIGGER shut AFTER INSERT OR UPDATE ON people DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION shut()"
        ));
        let answer = stage.run(&REPAIR);
        assert_ne!(answer.code, 0, "{}", answer.out);
        let report = answer.json();
        assert_eq!(counts(&report), (1, 0), "{report}");
        let compared = report["verification"].as_array();
        assert!(compared.is_none_or(Vec::is_empty), "{report}");
        let listed = of_repair(&stage, "before-repair/people.ndjson").unwrap();
        assert!(listed.contains("p2"), "{listed}");
    }
}
