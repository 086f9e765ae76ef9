//! References that PostgreSQL enforces while it is loaded: order, circles in two passes, orphans, and versions of records.
//! Against real servers of both releases; what they hold is told by psql. FAULTS D4, ledger R3.9.
//!
//! Neighbour: `references`, for the same without a server.

use std::fmt::Write as _;

use serde_json::json;

use crate::postgres::servers;
use crate::postgres_job::{Job, database, files, report_of};
use crate::program::Stage;
use crate::scripted_job::lines;

const PEOPLE: u64 = 3_000;

/// Departments with a head, people with a department and a boss, badges of people: a circle, a circle of one, and a child.
const TABLES: &str = "
    CREATE TABLE departments (id bigint PRIMARY KEY, name text, head bigint);
    CREATE TABLE people (id bigint PRIMARY KEY, department bigint NOT NULL REFERENCES departments, boss bigint REFERENCES people);
    ALTER TABLE departments ADD FOREIGN KEY (head) REFERENCES people;
    CREATE TABLE badges (id bigint PRIMARY KEY, person bigint NOT NULL REFERENCES people);
";

fn write_company(stage: &Stage) {
    std::fs::create_dir(stage.path("in")).unwrap();
    let mut texts = [String::new(), String::new(), String::new()];
    for id in 1..=20 {
        let head = if id % 7 == 0 {
            "null".to_owned()
        } else {
            (id * 100).to_string()
        };
        writeln!(texts[0], "{{\"id\":{id},\"name\":\"d{id}\",\"head\":{head}}}").unwrap();
    }
    for id in 1..=PEOPLE {
        let boss = if id % 5 == 0 {
            "null".to_owned()
        } else {
            (id * 7919 % PEOPLE + 1).to_string()
        };
        writeln!(
            texts[1],
            "{{\"id\":{id},\"department\":{},\"boss\":{boss}}}",
            id % 20 + 1
        )
        .unwrap();
    }
    for id in 1..=2 * PEOPLE {
        writeln!(texts[2], "{{\"id\":{id},\"person\":{}}}", id % PEOPLE + 1).unwrap();
    }
    for (name, text) in ["departments", "people", "badges"].iter().zip(texts) {
        stage.write(&format!("in/{name}.ndjson"), text);
    }
}

fn company(url: &str) -> Job {
    let reference = |field: &str, to: &str| json!({ "fields": [field], "collection": to });
    Job::new(files("in"), database(url)).set(
        "/collections",
        json!([
            { "source": "badges", "key": ["id"], "references": [reference("person", "people")] },
            { "source": "people", "key": ["id"], "references": [reference("boss", "people"), reference("department", "departments")] },
            { "source": "departments", "key": ["id"], "references": [reference("head", "people")] },
        ]),
    )
}

#[test]
fn d4_a_circle_of_foreign_keys_is_loaded_in_two_passes_into_empty_tables_and_over_what_is_there() {
    for server in servers() {
        let there = server.database();
        there.sql(TABLES);
        let stage = Stage::new();
        write_company(&stage);
        company(&there.url()).write(&stage);
        for round in ["empty", "full"] {
            let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
            for (collection, count) in
                report["collections"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .zip([20, PEOPLE, 2 * PEOPLE])
            {
                assert_eq!(
                    (&collection["read_count"], &collection["written_count"]),
                    (&json!(count), &json!(count)),
                    "{round}: {collection}"
                );
            }
            assert_eq!(report["rejected_count"], 0);
            let sums = there.sql(
                "SELECT (SELECT count(*) || ' ' || sum(head) FROM departments),
                        (SELECT count(*) || ' ' || sum(boss) || ' ' || sum(department) FROM people),
                        (SELECT count(*) || ' ' || sum(person) FROM badges)",
            );
            let heads: u64 = (1..=20).filter(|id| id % 7 != 0).map(|id| id * 100).sum();
            let bosses: u64 = (1..=PEOPLE)
                .filter(|id| id % 5 != 0)
                .map(|id| id * 7919 % PEOPLE + 1)
                .sum();
            let departments: u64 = (1..=PEOPLE).map(|id| id % 20 + 1).sum();
            let persons = PEOPLE * (PEOPLE + 1);
            assert_eq!(
                sums.trim(),
                format!(
                    "20 {heads}|{PEOPLE} {bosses} {departments}|{} {persons}",
                    2 * PEOPLE
                ),
                "{round}"
            );
        }
    }
}

#[test]
fn d4_orphans_are_told_before_the_load_and_rejected_by_the_foreign_key() {
    for server in servers() {
        let there = server.database();
        there.sql(TABLES);
        let stage = Stage::new();
        write_company(&stage);
        stage.write(
            "in/badges.ndjson",
            "{\"id\":1,\"person\":1}\n{\"id\":2,\"person\":9001}\n{\"id\":3,\"person\":2}\n",
        );
        company(&there.url())
            .set("/import/on_orphan", json!("fail"))
            .write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 2);
        assert_eq!(report["errors"][0]["code"], "references.orphans");
        assert_eq!(there.sql("SELECT count(*) FROM people").trim(), "0");
        company(&there.url())
            .set("/import/max_errors", json!(1))
            .set("/verification", json!("none"))
            .write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
        let listed = lines(&stage.path(".whimbrel/latest/orphans.ndjson"));
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (&listed[0]["record"], &listed[0]["missing"]),
            (&json!("id=2"), &json!("person=9001"))
        );
        assert_eq!(report["rejected_count"], 1);
        assert_eq!(
            there
                .sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM badges")
                .trim(),
            "1 3"
        );
    }
}

#[test]
fn d4_a_circle_that_takes_no_null_is_refused_and_nothing_is_written() {
    for server in servers() {
        let there = server.database();
        there.sql(TABLES);
        there.sql("ALTER TABLE departments ALTER head SET NOT NULL");
        let stage = Stage::new();
        write_company(&stage);
        company(&there.url()).write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 2);
        assert_eq!(report["errors"][0]["code"], "plan.cycle_not_null");
        assert_eq!(there.sql("SELECT count(*) FROM departments").trim(), "0");
    }
}

#[test]
fn the_newer_and_the_older_record_are_told_apart_by_the_field_that_the_job_names() {
    let there_before = "
        CREATE TABLE docs (id bigint PRIMARY KEY, rev bigint, text text);
        INSERT INTO docs VALUES (1, 5, 'there'), (2, 5, 'there'), (3, 5, 'there')";
    for server in servers() {
        for (policy, rows) in [
            ("keep-newest", "1:there 2:there 3:new 4:new"),
            ("keep-oldest", "1:new 2:there 3:there 4:new"),
        ] {
            let there = server.database();
            there.sql(there_before);
            let stage = Stage::new();
            let records = [(1, 4), (2, 5), (3, 6), (4, 1)]
                .map(|(id, rev)| format!("{{\"id\":{id},\"rev\":{rev},\"text\":\"new\"}}\n"));
            stage.write("docs.ndjson", records.concat());
            let job = |version: serde_json::Value| {
                let mut rule = json!({ "source": "docs", "key": ["id"], "on_conflict": policy });
                rule.as_object_mut()
                    .unwrap()
                    .extend(version.as_object().unwrap().clone());
                Job::new(files("docs.ndjson"), database(&there.url()))
                    .set("/collections", json!([rule]))
                    .set("/verification", json!("none"))
            };
            job(json!({})).write(&stage);
            let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 2);
            assert_eq!(report["errors"][0]["code"], "plan.no_version");
            job(json!({ "version": "rev" })).write(&stage);
            report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
            let found = there.sql("SELECT string_agg(id || ':' || text, ' ' ORDER BY id) FROM docs");
            assert_eq!(found.trim(), rows, "{policy}");
        }
    }
}
