//! What a verification looks at in the sink besides its records: references, schema and keys, how fast it is read by key; and
//! that none of it is a false alarm. By the built program, against libSQL files and real PostgreSQL servers.
//!
//! Neighbours: `references`, for orphans of the source before a run; `postgres_references`.

use serde_json::{Value, json};

use crate::migration::sql;
use crate::postgres::servers;
use crate::postgres_job::{Job, database, files, report_of};
use crate::program::Stage;

/// Two planes, and flights that point to them: one of five to a plane that the source does not have.
fn write_flights(stage: &Stage) {
    std::fs::create_dir(stage.path("in")).unwrap();
    stage.write(
        "in/planes.ndjson",
        "{\"tailnum\":\"N1\",\"seats\":2}\n{\"tailnum\":\"N2\",\"seats\":4}\n",
    );
    stage.write(
        "in/flights.ndjson",
        concat!(
            "{\"id\":1,\"tailnum\":\"N1\"}\n{\"id\":2,\"tailnum\":\"N9\"}\n{\"id\":3,\"tailnum\":null}\n",
            "{\"id\":4,\"tailnum\":\"N2\"}\n{\"id\":5,\"tailnum\":\"N1\"}\n"
        ),
    );
}

fn flights(sink: Value) -> Job {
    Job::new(files("in"), sink).set(
        "/collections",
        json!([
            { "source": "flights", "sink": "trips", "key": ["id"],
              "references": [{ "fields": ["tailnum"], "collection": "planes" }] },
            { "source": "planes", "sink": "aircraft", "key": ["tailnum"] },
        ]),
    )
}

fn local() -> Value {
    json!({ "plugin": "turso", "config": { "url": "file:app.db" } })
}

fn run(stage: &Stage, command: &str, exit: i32) -> Value {
    report_of(stage.run(&[command, "job.yaml", "--json"]), exit)
}

fn result<'a>(report: &'a Value, source: &str) -> &'a Value {
    let mut results = report["verification"].as_array().unwrap().iter();
    results.find(|result| result["source"] == source).unwrap()
}

fn codes(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| finding["code"].as_str().unwrap())
        .collect()
}

fn schema_mismatches(report: &Value, source: &str) -> Vec<String> {
    let mismatches = result(report, source)["mismatches"].as_array().unwrap().iter();
    mismatches
        .filter(|mismatch| mismatch["kind"] == "schema")
        .map(|mismatch| {
            let fields = mismatch["fields"].as_array().into_iter().flatten();
            let fields: Vec<&str> = fields.filter_map(Value::as_str).collect();
            format!("{} [{}]", mismatch["record"].as_str().unwrap(), fields.join(", "))
        })
        .collect()
}

#[test]
fn orphans_that_the_source_has_too_are_told_and_one_that_the_sink_alone_has_is_a_difference() {
    let stage = Stage::new();
    write_flights(&stage);
    flights(local()).write(&stage);
    let report = run(&stage, "run", 0);
    let of_source = json!([{
        "collection": "trips", "fields": ["tailnum"], "parent": "aircraft", "to_fields": ["tailnum"],
        "state": "searched", "record_count": 5, "orphan_count": 1, "missing_key_count": 1,
        "missing_keys_counted": true, "orphans": [{ "record": "id=2", "missing": "tailnum=N9" }],
    }]);
    assert_eq!(report["sink_references"], of_source);
    let folder = stage.path(".whimbrel/latest");
    let kept: Value =
        serde_json::from_slice(&std::fs::read(folder.join("verification-results/flights.json")).unwrap())
            .unwrap();
    assert_eq!(kept["sink_references"], of_source);
    for file in ["report.html", "migration-executive-summary.md"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains("as in the source"), "{file}");
    }
    // Whoever only compares asks the source again.
    assert_eq!(run(&stage, "verify", 0)["sink_references"], of_source);

    sql(&stage.path("app.db"), "DELETE FROM aircraft WHERE tailnum = 'N1'");
    let report = run(&stage, "verify", 4);
    let kinds: Vec<&Value> = result(&report, "planes")["mismatches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mismatch| &mismatch["kind"])
        .collect();
    assert!(kinds.contains(&&json!("missing")), "{kinds:?}");
    let reference = &report["sink_references"][0];
    assert_eq!(
        (
            &reference["orphan_count"],
            &reference["sink_only_count"],
            &reference["missing_key_count"]
        ),
        (&json!(3), &json!(2), &json!(2))
    );
    // Those that were lost come first.
    assert_eq!(
        reference["orphans"],
        json!([
            { "record": "id=1", "missing": "tailnum=N1" },
            { "record": "id=5", "missing": "tailnum=N1" },
        ])
    );
    let text = stage.run(&["verify", "job.yaml"]).expect(4).out;
    assert!(
        text.contains("trips (tailnum) to aircraft: 3 of 5 records, 2 of them not in the source"),
        "{text}"
    );
    assert!(text.contains("whimbrel verify job.yaml --repair"), "{text}");
}

#[test]
fn children_of_a_refused_record_are_a_difference_though_all_others_are_equal() {
    let stage = Stage::new();
    write_flights(&stage);
    stage.write(
        "in/planes.ndjson",
        "{\"tailnum\":\"N1\",\"seats\":null}\n{\"tailnum\":\"N2\",\"seats\":4}\n",
    );
    sql(
        &stage.path("app.db"),
        "CREATE TABLE aircraft (tailnum TEXT NOT NULL PRIMARY KEY, seats INTEGER NOT NULL)",
    );
    flights(local()).set("/import/max_errors", json!(5)).write(&stage);
    let report = run(&stage, "run", 4);
    assert_eq!(report["rejected_count"], 1);
    for name in ["planes", "flights"] {
        let result = result(&report, name);
        assert_eq!(
            (&result["comparison"], &result["mismatch_count"]),
            (&json!("equal"), &json!(0)),
            "{name}"
        );
    }
    assert_eq!(report["sink_references"][0]["sink_only_count"], 2);
    let page =
        std::fs::read_to_string(stage.path(".whimbrel/latest/migration-executive-summary.md")).unwrap();
    assert!(
        page.contains("records of the sink have lost what they point to"),
        "{page}"
    );
}

#[test]
fn nobody_looks_for_orphans_or_a_schema_where_the_job_says_so_or_only_counts_are_compared() {
    let stage = Stage::new();
    write_flights(&stage);
    flights(local())
        .set("/import/on_orphan", json!("skip"))
        .write(&stage);
    let report = run(&stage, "run", 0);
    let reference = &report["sink_references"][0];
    assert_eq!(
        (&reference["state"], &reference["reason"]),
        (&json!("skipped"), &json!("the job says not to"))
    );
    flights(local())
        .set("/verification", json!("basic"))
        .write(&stage);
    let report = run(&stage, "verify", 0);
    assert_eq!(report.get("sink_references"), None);
    assert_eq!(result(&report, "flights").get("latency"), None);
}

#[test]
fn records_are_read_by_key_with_a_clock_where_there_is_a_key() {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("in")).unwrap();
    let lines: String = (0..60)
        .map(|id| format!("{{\"id\":{id},\"part\":\"p{}\"}}\n", id % 7))
        .collect();
    stage.write("in/many.ndjson", &lines);
    stage.write("in/keyless.ndjson", &lines);
    let job = |sink: Value| {
        Job::new(files("in"), sink).set(
            "/collections",
            json!([
                { "source": "many", "key": ["part", "id"] },
                { "source": "keyless" },
            ]),
        )
    };
    job(local()).write(&stage);
    let report = run(&stage, "run", 0);
    let latency = &result(&report, "many")["latency"];
    let at = |name: &str| latency[name].as_f64().unwrap();
    assert_eq!(latency["sample_count"], 20);
    assert!(
        0.0 < at("p50_ms") && at("p50_ms") <= at("p95_ms") && at("p95_ms") <= at("p99_ms"),
        "{latency}"
    );
    assert_eq!(result(&report, "keyless").get("latency"), None);
    let html = std::fs::read_to_string(stage.path(".whimbrel/latest/report.html")).unwrap();
    assert!(html.contains("(20 records)"));
    // Files cannot be asked for a record.
    job(files("out")).write(&stage);
    assert_eq!(result(&run(&stage, "run", 0), "many").get("latency"), None);
}

#[test]
fn references_that_a_database_enforces_need_no_search_and_those_it_no_longer_does_get_one() {
    for server in servers() {
        let there = server.database();
        let stage = Stage::new();
        write_flights(&stage);
        stage.write(
            "in/flights.ndjson",
            "{\"id\":1,\"tailnum\":\"N1\"}\n{\"id\":2,\"tailnum\":\"N2\"}\n",
        );
        flights(database(&there.url())).write(&stage);
        let report = run(&stage, "run", 0);
        assert_eq!(report["sink_references"][0]["state"], "guaranteed");
        assert_eq!(report["sink_references"][0]["record_count"], 0);

        let constraint = there.sql("SELECT conname FROM pg_constraint WHERE contype = 'f'");
        there.sql(&format!(
            "ALTER TABLE trips DROP CONSTRAINT \"{}\"; DELETE FROM aircraft WHERE tailnum = 'N2'",
            constraint.trim()
        ));
        let report = run(&stage, "verify", 4);
        let reference = &report["sink_references"][0];
        assert_eq!(
            (&reference["state"], &reference["sink_only_count"]),
            (&json!("searched"), &json!(1))
        );
        assert_eq!(
            reference["orphans"],
            json!([{ "record": "id=2", "missing": "tailnum=N2" }])
        );
        assert_eq!(result(&report, "planes")["latency"]["sample_count"], 1);
    }
}

/// Records with a number, a text and a price.
fn write_wares(stage: &Stage) {
    let lines: String = (0..30)
        .map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\",\"price\":{id}.5,\"stock\":{id}}}\n"))
        .collect();
    stage.write("wares.ndjson", lines);
}

fn wares(sink: Value) -> Job {
    Job::new(files("wares.ndjson"), sink).set("/collections", json!([{ "source": "wares", "key": ["id"] }]))
}

#[test]
fn a_column_a_type_and_a_key_that_the_sink_has_no_longer_are_differences_of_the_schema() {
    for server in servers() {
        let there = server.database();
        let stage = Stage::new();
        write_wares(&stage);
        wares(database(&there.url())).write(&stage);
        let report = run(&stage, "run", 0);
        assert!(schema_mismatches(&report, "wares").is_empty());
        for (spoil, heal, expected) in [
            (
                "ALTER TABLE wares DROP CONSTRAINT wares_pkey",
                "ALTER TABLE wares ADD PRIMARY KEY (id)",
                "the sink has no key [id]",
            ),
            (
                "ALTER TABLE wares ALTER stock TYPE date USING '2026-01-01'::date",
                "ALTER TABLE wares ALTER stock TYPE bigint USING id",
                "the sink has `date`, planned was `int64` [stock]",
            ),
            (
                "ALTER TABLE wares DROP COLUMN name",
                "ALTER TABLE wares ADD COLUMN name text; UPDATE wares SET name = 'n' || id",
                "the sink lacks fields [name]",
            ),
        ] {
            there.sql(spoil);
            let report = run(&stage, "verify", 4);
            let found = schema_mismatches(&report, "wares");
            assert!(
                found.iter().any(|found| found == expected),
                "{spoil}: {found:?}\n{report:#}"
            );
            let result = result(&report, "wares");
            assert_eq!(result["comparison"], "different");
            there.sql(heal);
            run(&stage, "verify", 0);
        }
    }
}

#[test]
fn a_column_that_a_database_file_lacks_is_a_difference_of_the_schema() {
    let stage = Stage::new();
    write_wares(&stage);
    wares(local()).write(&stage);
    let report = run(&stage, "run", 0);
    assert!(schema_mismatches(&report, "wares").is_empty());
    sql(&stage.path("app.db"), "ALTER TABLE wares DROP COLUMN name");
    let wanted = [
        "the sink lacks fields [name]",
        "its records cannot be read as they were planned []",
    ];
    let found = schema_mismatches(&run(&stage, "verify", 4), "wares");
    assert_eq!(found, wanted);
    // Where only ten of its records are asked for it is the same.
    let basic = ["verify", "job.yaml", "--json", "--verification-level", "basic"];
    let found = schema_mismatches(&stage.run(&basic).expect(4).json(), "wares");
    assert_eq!(found, wanted);
}

#[test]
fn a_table_that_was_there_before_may_be_wider_looser_and_keyed_otherwise() {
    for server in servers() {
        let there = server.database();
        there.sql(
            "CREATE TABLE wares (number bigserial PRIMARY KEY, id numeric UNIQUE, name varchar(50), price double precision,
                                 stock integer, since timestamptz DEFAULT now())",
        );
        let stage = Stage::new();
        write_wares(&stage);
        wares(database(&there.url())).write(&stage);
        for command in ["run", "verify"] {
            let report = run(&stage, command, 0);
            assert!(schema_mismatches(&report, "wares").is_empty(), "{report:#}");
            assert!(
                !codes(&report).contains(&"verification.sink_objects"),
                "{report:#}"
            );
        }
    }
}
