//! Rules of a job, before and after: statements that select what breaks them, and transforms that judge record by record. By
//! the built program, from files and tables into libSQL files and PostgreSQL.

use serde_json::{Value, json};

use crate::migration::sql;
use crate::postgres::servers;
use crate::postgres_job::{database, told};
use crate::program::{Answer, Stage};

/// Orders; every tenth has a total below 0, the last one has none.
const ORDERS: usize = 300;
/// Keys that a report has of one rule.
const SHOWN: usize = 20;

fn orders() -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("in")).unwrap();
    let mut lines = String::new();
    for id in 1..ORDERS {
        let total = if id % 10 == 0 { -1 } else { 5 };
        lines.push_str(&format!(
            "{{\"id\":{id},\"total\":{total},\"customer\":\"c{id}\"}}\n"
        ));
    }
    lines.push_str(&format!(
        "{{\"id\":{ORDERS},\"total\":null,\"customer\":\"last\"}}\n"
    ));
    stage.write("in/orders.ndjson", lines);
    stage
}

/// Into a libSQL file, with these rules.
fn job(rules: &Value) -> Value {
    json!({
        "name": "with-rules",
        "source": { "plugin": "files", "config": { "path": "in" } },
        "sink": { "plugin": "turso", "config": { "url": "file:app.db" } },
        "collections": [{ "source": "orders", "key": ["id"] }],
        "rules": rules,
    })
}

fn judged(name: &str, when: &str, condition: &Value) -> Value {
    json!({ "name": name, "when": when, "collection": "orders", "plugin": "reshape", "config": { "rule": condition } })
}

fn total_at_least(value: i64) -> Value {
    json!({ "field": "total", "op": "at_least", "value": value })
}

fn run(stage: &Stage, job: &Value, command: &str) -> Answer {
    stage.write("job.yaml", job.to_string());
    stage.run(&[command, "job.yaml", "--json"])
}

fn rule<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rules = report["rules"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    let found = rules.iter().find(|rule| rule["name"] == name);
    found.unwrap_or_else(|| panic!("`{name}` is not in {rules:#?}"))
}

fn keys(rule: &Value) -> Vec<&str> {
    let keys = rule["violations"].as_array().unwrap();
    keys.iter().map(|key| key.as_str().unwrap()).collect()
}

fn code(answer: &Answer) -> String {
    answer.error()["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn rules_that_hold_are_told_with_what_they_have_seen() {
    let stage = orders();
    let rules = json!([
        judged("not too low", "both", &total_at_least(-1)),
        { "name": "none below", "sql": "SELECT id FROM orders WHERE total < -1" },
        { "name": "customers", "side": "source", "collection": "orders", "plugin": "reshape",
          "config": { "rule": { "field": "customer", "op": "matches", "value": "^(c|last)" } } },
    ]);
    let report = run(&stage, &job(&rules), "run").expect(0).json();
    let told: Vec<(&str, &str, &str, &str, &Value)> = report["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            let text = |key: &str| rule[key].as_str().unwrap();
            (
                text("name"),
                text("moment"),
                text("role"),
                text("state"),
                &rule["record_count"],
            )
        })
        .collect();
    let all = json!(ORDERS);
    assert_eq!(
        told,
        [
            ("not too low", "before", "source", "held", &all),
            ("not too low", "after", "sink", "held", &all),
            ("none below", "after", "sink", "held", &Value::Null),
            ("customers", "after", "source", "held", &all),
        ]
    );
}

#[test]
fn a_rule_that_is_broken_before_keeps_the_run_from_beginning() {
    for command in ["run", "plan"] {
        let stage = orders();
        let rules = json!([judged("no negative total", "before", &total_at_least(0))]);
        let answer = run(&stage, &job(&rules), command).expect(2);
        assert_eq!(code(&answer), "rule.broken", "{command}");
        let message = answer.error()["message"].as_str().unwrap().to_owned();
        assert_eq!(
            message, "29 records break the rule `no negative total`: `10`, `20`, `30`, ..",
            "{command}"
        );
        assert!(!stage.path("app.db").exists(), "{command}: something was written");
        let report = answer.json();
        let broken = rule(&report, "no negative total");
        assert_eq!(broken["state"], "broken");
        assert_eq!(broken["violation_count"], 29);
        let expected: Vec<String> = (1..=SHOWN).map(|ten| (ten * 10).to_string()).collect();
        assert_eq!(keys(broken), expected);
    }
}

#[test]
fn a_rule_that_is_broken_after_makes_the_run_end_as_different() {
    let stage = orders();
    for (level, rules) in [
        (
            "standard",
            json!([{ "name": "broken", "sql": "SELECT id, total FROM orders WHERE total < 0 ORDER BY id" }]),
        ),
        ("basic", json!([judged("broken", "after", &total_at_least(0))])),
        // Nothing is compared, and the rule is looked at all the same.
        (
            "none",
            json!([{ "name": "broken", "sql": "SELECT 'key ' || id FROM orders WHERE total < 0" }]),
        ),
    ] {
        let mut job = job(&rules);
        job["verification"] = json!(level);
        for command in ["run", "verify"] {
            let report = run(&stage, &job, command).expect(4).json();
            let broken = rule(&report, "broken");
            assert_eq!(broken["state"], "broken", "{level} {command}: {broken}");
            assert_eq!(broken["moment"], "after");
            assert_eq!(broken["violation_count"], 29, "{level} {command}: {broken}");
            assert_eq!(keys(broken).len(), SHOWN);
            let first = if level == "none" { "key 10" } else { "10" };
            assert_eq!(keys(broken)[0], first, "{level} {command}: {broken}");
        }
    }
    assert_eq!(
        sql(&stage.path("app.db"), "SELECT count(*) FROM orders"),
        "[(300,)]"
    );
}

#[test]
fn a_rule_that_nobody_can_look_at_is_neither_held_nor_broken() {
    for statement in [
        "SELEKT id FROM orders",
        "SELECT missing FROM orders",
        "DELETE FROM orders",
        "DELETE FROM orders RETURNING id",
        "SELECT 1; DELETE FROM orders",
        "SELECT 1); DELETE FROM orders; SELECT * FROM (SELECT 1",
        "PRAGMA user_version = 7",
    ] {
        let stage = orders();
        let rules = json!([
            { "name": "odd", "sql": statement },
            { "name": "none", "sql": "SELECT id FROM orders WHERE total > 5" },
        ]);
        let answer = run(&stage, &job(&rules), "run").expect(5);
        assert_eq!(code(&answer), "rule.unchecked", "{statement}");
        let report = answer.json();
        let odd = rule(&report, "odd");
        assert_eq!(odd["state"], "unchecked", "{statement}: {odd}");
        let reason = odd["reason"].as_str().unwrap();
        assert!(reason.contains("turso.bad_query"), "{statement}: {reason}");
        assert_eq!(rule(&report, "none")["state"], "held", "{statement}");
        let left = sql(&stage.path("app.db"), "SELECT count(*) FROM orders");
        assert_eq!(left, "[(300,)]", "{statement}");
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_found_before_anything_is_read() {
    for (rule, expected, word) in [
        (
            json!({ "name": "a", "when": "before", "sql": "SELECT 1" }),
            "rule.unusable",
            "`files` answers none",
        ),
        (
            json!({ "name": "a", "collection": "others", "plugin": "reshape" }),
            "rule.unusable",
            "`others`",
        ),
        (
            json!({ "name": "a", "collection": "orders", "plugin": "reshape" }),
            "reshape.no_rule",
            "`rule`",
        ),
        (
            judged("a", "after", &json!({ "field": "missing", "op": "not_null" })),
            "reshape.no_field",
            "`missing`",
        ),
        (
            judged("a", "after", &json!({ "field": "total", "op": "above" })),
            "config.bad_value",
            "`rules[0].config.rule.op`",
        ),
    ] {
        let stage = orders();
        let answer = run(&stage, &job(&json!([rule])), "run").expect(2);
        let said = told(&answer.json());
        assert!(said.contains(expected) && said.contains(word), "{rule}: {said}");
        assert!(!stage.path("app.db").exists(), "{rule}: something was written");
    }
}

/// A statement is asked of the source before, where nothing may be written either.
#[test]
fn statements_before_a_run_are_asked_of_its_source() {
    let stage = orders();
    run(&stage, &job(&json!([])), "run").expect(0);
    let onwards = |rules: &Value| {
        json!({
            "name": "onwards",
            "source": { "plugin": "turso", "config": { "url": "file:app.db" } },
            "sink": { "plugin": "files", "config": { "path": "out" } },
            "include": ["orders"],
            "rules": rules,
        })
    };
    for (statement, expected) in [
        ("SELECT id FROM orders WHERE total < 0", "rule.broken"),
        ("DELETE FROM orders", "rule.unchecked"),
        ("SELECT nothing FROM orders", "rule.unchecked"),
    ] {
        let rules = json!([{ "name": "first", "when": "before", "sql": statement }]);
        let answer = run(&stage, &onwards(&rules), "run").expect(2);
        assert_eq!(code(&answer), expected, "{statement}");
        assert!(!stage.path("out").exists(), "{statement}: something was written");
        assert_eq!(
            sql(&stage.path("app.db"), "SELECT count(*) FROM orders"),
            "[(300,)]"
        );
    }
    let rules =
        json!([{ "name": "first", "when": "before", "sql": "SELECT id FROM orders WHERE total > 5" }]);
    let report = run(&stage, &onwards(&rules), "run").expect(0).json();
    assert_eq!(rule(&report, "first")["state"], "held");
}

#[test]
fn both_databases_are_asked_in_postgres() {
    for server in servers() {
        let (from, to) = (server.database(), server.database());
        from.sql(
            "CREATE TABLE orders(id uuid PRIMARY KEY, total numeric(12, 2)); \
             INSERT INTO orders SELECT md5(i::text)::uuid, i - 3 FROM generate_series(1, 50) i",
        );
        let stage = Stage::new();
        let job = |rules: &Value| json!({ "name": "tables", "source": database(&from.url()), "sink": database(&to.url()), "rules": rules });
        let first = "SELECT id, total FROM orders WHERE total < 0 ORDER BY total";
        let expected: Vec<String> = from
            .rows("SELECT id::text FROM orders WHERE total < 0 ORDER BY total")
            .into_iter()
            .flatten()
            .collect();

        let before = json!([{ "name": "totals", "when": "before", "sql": first }]);
        let answer = run(&stage, &job(&before), "run").expect(2);
        assert_eq!(code(&answer), "rule.broken");
        assert_eq!(keys(rule(&answer.json(), "totals")), expected);
        assert_eq!(to.rows("SELECT to_regclass('orders') IS NULL"), [["t"]]);

        let after = json!([
            { "name": "held", "when": "both", "side": "source", "sql": "SELECT id FROM orders WHERE total > 47" },
            { "name": "totals", "sql": first },
        ]);
        let report = run(&stage, &job(&after), "run").expect(4).json();
        to.sql("CREATE SEQUENCE numbers");
        assert_eq!(keys(rule(&report, "totals")), expected);
        assert_eq!(rule(&report, "held")["state"], "held");

        for statement in [
            "DELETE FROM orders",
            "WITH gone AS (DELETE FROM orders RETURNING id) SELECT id FROM gone",
            "SELECT 1) AS t; COMMIT; DELETE FROM orders; SELECT * FROM (SELECT 1",
            "SELECT nextval('numbers')",
            "SELEKT",
        ] {
            let rules = json!([{ "name": "writing", "sql": statement }]);
            let answer = run(&stage, &job(&rules), "verify").expect(5);
            assert_eq!(code(&answer), "rule.unchecked", "{statement}");
            assert_eq!(to.rows("SELECT count(*) FROM orders"), [["50"]], "{statement}");
        }
    }
}
