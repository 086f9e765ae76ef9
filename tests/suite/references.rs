//! References between collections: parents before children, circles in two passes, and records that point to nothing, which
//! are reported before anything is written. By the built program, from files and from the scripted source.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::migration::sql;
use crate::program::{Answer, Stage};
use crate::running::Running;
use crate::scripted_job::{COMMITTED, SOURCE_CALLS, ScriptedJob, calls, committed, lines};

/// Planes without a schema, and flights that point to them: of five, two to planes that are not there, one to none.
fn flights() -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("data")).unwrap();
    stage.write(
        "data/planes.ndjson",
        "{\"tailnum\":\"N1\",\"seats\":2}\n{\"tailnum\":\"N2\",\"seats\":4}\n",
    );
    stage.write(
        "data/flights.ndjson",
        concat!(
            "{\"id\":1,\"tailnum\":\"N1\"}\n{\"id\":2,\"tailnum\":\"N9\"}\n{\"id\":3,\"tailnum\":null}\n",
            "{\"id\":4,\"tailnum\":\"n1\"}\n{\"id\":5,\"tailnum\":\"N9\"}\n"
        ),
    );
    stage
}

fn flights_job() -> Value {
    json!({
        "name": "flights",
        "source": { "plugin": "files", "config": { "path": "data" } },
        "sink": { "plugin": "turso", "config": { "url": "file:app.db" } },
        "collections": [
            { "source": "flights", "sink": "trips", "key": ["id"],
              "references": [{ "fields": ["tailnum"], "collection": "planes" }] },
            { "source": "planes", "sink": "aircraft", "key": ["tailnum"] },
        ],
    })
}

fn run(stage: &Stage, job: &Value, arguments: &[&str]) -> Answer {
    stage.write("job.yaml", job.to_string());
    stage.run(&[arguments, &["job.yaml", "--json"]].concat())
}

fn names(report: &Value) -> Vec<&str> {
    let collections = report["collections"].as_array().unwrap();
    let names = collections.iter().map(|collection| collection["source"].as_str());
    names.map(Option::unwrap).collect()
}

fn finding<'a>(report: &'a Value, code: &str) -> Option<&'a Value> {
    let mut findings = report["findings"].as_array().unwrap().iter();
    findings.find(|finding| finding["code"] == code)
}

/// What is found of the flights.
fn orphans_of_flights() -> Value {
    json!([{
        "collection": "flights", "fields": ["tailnum"], "parent": "planes", "to_fields": ["tailnum"],
        "state": "searched", "record_count": 5, "orphan_count": 3, "missing_key_count": 2,
        "missing_keys_counted": true,
        "orphans": [
            { "record": "id=2", "missing": "tailnum=N9" },
            { "record": "id=4", "missing": "tailnum=n1" },
            { "record": "id=5", "missing": "tailnum=N9" },
        ],
    }])
}

#[test]
fn d4_orphans_of_a_declared_reference_are_named_in_the_plan_and_in_every_report_of_the_run() {
    let stage = flights();
    let plan = run(&stage, &flights_job(), &["plan"]).expect(0).json();
    assert_eq!(plan["references"], orphans_of_flights());
    assert_eq!(plan.get("orphans_file"), None);
    assert_eq!(names(&plan), ["planes", "flights"]);
    assert!(!stage.path("app.db").exists());

    let report = run(&stage, &flights_job(), &["run"]).expect(0).json();
    assert_eq!(report["references"], orphans_of_flights());
    assert_eq!(report["orphans_file"], "orphans.ndjson");
    let found = finding(&report, "references.orphans").unwrap();
    assert_eq!(
        (&found["level"], &found["collection"]),
        (&json!("warning"), &json!("flights"))
    );
    let folder = stage.path(".whimbrel/latest");
    let listed = lines(&folder.join("orphans.ndjson"));
    let one = |record: &str, missing: &str| json!({ "collection": "flights", "fields": ["tailnum"], "parent": "planes", "record": record, "missing": missing });
    assert_eq!(
        listed,
        [
            one("id=2", "tailnum=N9"),
            one("id=4", "tailnum=n1"),
            one("id=5", "tailnum=N9")
        ]
    );
    for file in [
        "migration-executive-summary.md",
        "report.html",
        "final-migration-report.json",
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains("orphans.ndjson"), "{file}");
        assert!(file.ends_with("md") || text.contains("tailnum=N9"), "{file}");
    }
    // They are written as they are, into a sink that does not mind.
    let rows = sql(&stage.path("app.db"), "SELECT id, tailnum FROM trips ORDER BY id");
    assert_eq!(rows, "[(1, 'N1'), (2, 'N9'), (3, None), (4, 'n1'), (5, 'N9')]");
    let text = stage.run(&["plan", "job.yaml"]).expect(0).out;
    assert!(
        text.contains("flights (tailnum) to planes: 3 of 5 records, 2 keys missing"),
        "{text}"
    );
    assert!(text.contains("id=4 points to tailnum=n1"), "{text}");
}

#[test]
fn d4_a_job_that_bears_no_orphans_is_refused_before_anything_is_written() {
    let stage = flights();
    let mut job = flights_job();
    job["import"] = json!({ "on_orphan": "fail" });
    for command in ["plan", "run"] {
        let report = run(&stage, &job, &[command]).expect(2).json();
        assert_eq!(report["outcome"], "refused");
        assert_eq!(report["errors"][0]["code"], "references.orphans");
        let message = report["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("3 of 5 records point to 2 keys"), "{message}");
        assert_eq!(report["references"], orphans_of_flights());
        assert!(!stage.path("app.db").exists(), "{command}");
    }
    assert_eq!(lines(&stage.path(".whimbrel/latest/orphans.ndjson")).len(), 3);
    // Without orphans it runs.
    stage.write("data/flights.ndjson", "{\"id\":1,\"tailnum\":\"N1\"}\n");
    let report = run(&stage, &job, &["run"]).expect(0).json();
    assert_eq!(report["references"][0]["orphan_count"], 0);
    assert!(!stage.path(".whimbrel/latest/orphans.ndjson").exists());
}

#[test]
fn nobody_looks_for_orphans_where_the_job_or_the_source_says_so() {
    let link = |more: Value| {
        let mut link = json!({ "from": "b", "field": "a_id", "to": "a", "shift": 1 });
        link.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        ScriptedJob::new()
            .source("collections", json!(["b", "a"]))
            .source("links", json!([link]))
            .set("/limits/partitions_parallel", json!(1))
            .set("/verification", json!("none"))
    };
    let looked = |job: &ScriptedJob, arguments: &[&str]| {
        let stage = job.stage();
        let report = stage
            .run(&[&["run", "job.yaml", "--json"], arguments].concat())
            .expect(0)
            .json();
        let reference = &report["references"][0];
        let opened = calls(&stage, SOURCE_CALLS, "open_snapshot").len();
        let closed = calls(&stage, SOURCE_CALLS, "close_snapshot").len();
        assert_eq!(
            (opened, closed),
            (1, 1),
            "the search and the copy see the same instant"
        );
        (
            reference["state"].as_str().unwrap_or_default().to_owned(),
            reference["orphan_count"].as_u64().unwrap_or_default(),
            calls(&stage, SOURCE_CALLS, "read").len(),
        )
    };
    let owned = |state: &str, orphans, reads| (state.to_owned(), orphans, reads);
    let plain = link(json!({}));
    assert_eq!(looked(&plain, &[]), owned("searched", 1 - 1, 4));
    let far = link(json!({ "shift": 98 }));
    // Each fourth record points to nothing.
    assert_eq!(looked(&far, &[]), owned("searched", 73, 4));
    assert_eq!(looked(&far, &["--skip-orphan-check"]), owned("skipped", 0, 2));
    assert_eq!(looked(&far, &["--mode", "test"]), owned("skipped", 0, 2));
    assert_eq!(
        looked(&far, &["--skip-phases", "pre_validation"]),
        ("".into(), 0, 2)
    );
    assert_eq!(
        looked(&link(json!({ "guaranteed": true })), &[]),
        owned("guaranteed", 0, 2)
    );
}

#[test]
fn a_wrong_reference_is_refused_with_its_place_and_what_is_valid() {
    let stage = flights();
    let refused = |reference: Value, code: &str, parts: &[&str]| {
        let mut job = flights_job();
        job["collections"][0]["references"] = json!([reference]);
        let error = run(&stage, &job, &["check"]).expect(2).error();
        let text = error.to_string();
        assert_eq!(error["code"], code, "{text}");
        for part in parts {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    };
    let place = |rest: &str| format!("collections[0].references[0]{rest}");
    refused(
        json!({ "fields": ["tail"], "collection": "planes" }),
        "plan.reference_field_missing",
        &[&place(".fields"), "`tail`", "id, tailnum"],
    );
    refused(
        json!({ "fields": ["tailnum"], "collection": "plane" }),
        "plan.reference_collection_missing",
        &[&place(".collection"), "`plane`", "flights, planes"],
    );
    refused(
        json!({ "fields": ["tailnum"], "collection": "planes", "to_fields": ["tail"] }),
        "plan.reference_field_missing",
        &[&place(".to_fields"), "`tail`", "tailnum, seats"],
    );
    refused(
        json!({ "fields": ["id", "tailnum"], "collection": "planes" }),
        "plan.reference_length",
        &[&place(""), "2 fields"],
    );
    refused(
        json!({ "fields": ["id", "tailnum"], "collection": "planes", "to_fields": ["tailnum"] }),
        "config.bad_value",
        &["to_fields", "2"],
    );
    refused(json!({ "fields": ["id"] }), "config.missing_key", &["collection"]);
    refused(
        json!({ "fields": ["id"], "collection": "planes", "to": ["seats"] }),
        "config.unknown_key",
        &["to_fields"],
    );
    let mut job = flights_job();
    job["collections"][1].as_object_mut().unwrap().remove("key");
    let error = run(&stage, &job, &["check"]).expect(2).error();
    assert_eq!(error["code"], "plan.reference_key_missing");
    assert!(error["help"].as_str().unwrap().contains("to_fields"));
    let mut job = flights_job();
    let same = job["collections"][0]["references"][0].clone();
    job["collections"][0]["references"] = json!([same, same]);
    assert_eq!(
        run(&stage, &job, &["check"]).expect(2).error()["code"],
        "config.duplicate_reference"
    );
}

#[test]
fn types_that_cannot_be_equal_are_not_looked_at_and_that_is_said() {
    let stage = flights();
    let mut job = flights_job();
    job["collections"][0]["references"] =
        json!([{ "fields": ["id"], "collection": "planes", "to_fields": ["tailnum"] }]);
    let report = run(&stage, &job, &["plan"]).expect(0).json();
    assert_eq!(report["references"][0]["state"], "skipped");
    let found = finding(&report, "references.not_searched").unwrap();
    let message = found["message"].as_str().unwrap();
    assert!(
        message.contains("`id` is `int64` and `tailnum` is `text`"),
        "{message}"
    );
}

#[test]
fn several_fields_point_as_one_and_records_may_point_to_their_own_collection() {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("data")).unwrap();
    stage.write(
        "data/rooms.ndjson",
        "{\"house\":\"a\",\"no\":1}\n{\"house\":\"a\",\"no\":2}\n{\"house\":\"b\",\"no\":1}\n",
    );
    stage.write(
        "data/people.ndjson",
        concat!(
            "{\"id\":1,\"house\":\"a\",\"room\":2,\"boss\":null}\n{\"id\":2,\"house\":\"b\",\"room\":2,\"boss\":1}\n",
            "{\"id\":3,\"house\":null,\"room\":9,\"boss\":7}\n{\"id\":4,\"house\":\"c\",\"room\":null,\"boss\":4}\n"
        ),
    );
    let job = json!({
        "name": "rooms",
        "source": { "plugin": "files", "config": { "path": "data" } },
        "sink": { "plugin": "turso", "config": { "url": "file:app.db" } },
        "collections": [
            { "source": "people", "key": ["id"], "references": [
                { "fields": ["house", "room"], "collection": "rooms" },
                { "fields": ["boss"], "collection": "people" },
            ] },
            { "source": "rooms", "key": ["house", "no"] },
        ],
    });
    let report = run(&stage, &job, &["run"]).expect(0).json();
    assert_eq!(names(&report), ["rooms", "people"]);
    let orphans: Vec<&Value> = report["references"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reference| &reference["orphans"])
        .collect();
    assert_eq!(
        orphans,
        [
            &json!([{ "record": "id=2", "missing": "house=b, room=2" }]),
            &json!([{ "record": "id=3", "missing": "boss=7" }]),
        ]
    );
}

#[test]
fn references_follow_renamed_fields_and_collections_and_are_looked_at_after_the_transforms() {
    let stage = flights();
    let mut job = flights_job();
    job["sink"] = json!({ "plugin": "files", "config": { "path": "out" } });
    job["collections"][0]["transforms"] =
        json!([{ "plugin": "reshape", "config": { "steps": [{ "rename": { "tailnum": "plane" } }] } }]);
    job["collections"][1]["transforms"] = json!([{ "plugin": "reshape", "config": { "steps": [
        { "rename": { "tailnum": "tail" } }, { "filter": { "where": { "field": "seats", "op": "at_least", "value": 3 } } }
    ] } }]);
    job["collections"][1]["key"] = json!(["tail"]);
    let mut with_key = job.clone();
    with_key["collections"][0]["references"][0]["to_fields"] = json!(["tailnum"]);
    let report = run(&stage, &with_key, &["run"]).expect(0).json();
    let reference = &report["references"][0];
    assert_eq!(
        (&reference["fields"], &reference["to_fields"]),
        (&json!(["plane"]), &json!(["tail"]))
    );
    // The plane with two seats does not come along, so its flight points to nothing either.
    assert_eq!(reference["orphan_count"], 4);
    assert_eq!(
        reference["orphans"][0],
        json!({ "record": "id=1", "missing": "plane=N1" })
    );
    let schema = std::fs::read_to_string(stage.path("out/trips.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(
        schema["references"],
        json!([{ "fields": ["plane"], "collection": "aircraft", "to_fields": ["tail"] }])
    );
}

#[test]
fn a_reference_to_a_collection_that_is_left_out_is_told_and_does_not_stand_in_the_way() {
    let stage = flights();
    let mut job = flights_job();
    job["collections"].as_array_mut().unwrap().pop();
    job["collections"][0]["references"][0]["to_fields"] = json!(["tailnum"]);
    let report = run(&stage, &job, &["run"]).expect(0).json();
    assert_eq!(report["references"], json!([]));
    let message = finding(&report, "plan.reference_left_out").unwrap()["message"].clone();
    assert!(message.as_str().unwrap().contains("`planes`"), "{message}");
}

/// Two links as source and sink have them; the sink refuses records that point to nothing.
fn linked(collections: Value, links: &[(&str, &str, bool)]) -> ScriptedJob {
    let links: Vec<Value> = links
        .iter()
        .map(|(from, to, required)| {
            json!({ "from": from, "field": format!("to_{to}"), "to": to, "required": required, "enforced": true })
        })
        .collect();
    ScriptedJob::new()
        .source("collections", collections)
        .source("records", json!(300))
        .source("links", json!(links))
        .sink("links", json!(links))
        .set("/limits/batch_records", json!(50))
}

#[test]
fn children_begin_when_their_parents_are_complete_whatever_there_is_to_work_with() {
    let deep = linked(
        json!(["e", "d", "c", "b", "a"]),
        &[
            ("e", "d", true),
            ("d", "c", true),
            ("c", "b", true),
            ("b", "a", true),
            ("e", "a", true),
        ],
    );
    for (collections, partitions, sessions) in [(3, 2, 10), (1, 1, 1), (64, 4, 1), (2, 1, 3)] {
        for staging in ["memory", "disk"] {
            let job = deep
                .clone()
                .set("/staging", json!(staging))
                .set("/limits/collections_parallel", json!(collections))
                .set("/limits/partitions_parallel", json!(partitions))
                .set("/limits/connection_pool_size", json!(sessions));
            let stage = job.stage();
            let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
            assert_eq!(names(&report), ["a", "b", "c", "d", "e"]);
            assert_eq!(report["rejected_count"], 0);
            assert!(committed(&stage).values().all(|count| *count == 300));
            let order: Vec<String> = lines(&stage.path(COMMITTED))
                .iter()
                .map(|line| line["collection"].as_str().unwrap().to_owned())
                .collect();
            assert!(
                order.is_sorted(),
                "{staging}, {collections} collections, {sessions} sessions"
            );
        }
    }
}

#[test]
fn no_more_collections_than_allowed_are_under_way_at_once() {
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    for allowed in [1_usize, 3] {
        let job = ScriptedJob::new()
            .source("collections", json!(names))
            .set("/limits/collections_parallel", json!(allowed))
            .set("/limits/partitions_parallel", json!(4))
            .set("/verification", json!("none"));
        let end = Running::start(&job.stage(), &[]).finish().expect(0);
        let mut parts: BTreeMap<String, usize> = BTreeMap::new();
        let mut under_way = BTreeSet::new();
        let mut most = 0;
        for event in &end.events {
            let Some(collection) = event["collection"].as_str() else {
                continue;
            };
            if event["event"] == "progress" || event["event"] == "committed" {
                let done = parts.entry(collection.to_owned()).or_default();
                if *done < 4 {
                    under_way.insert(collection.to_owned());
                }
                if event["event"] == "committed" && event["done"] == true {
                    *done += 1;
                    if *done == 4 {
                        under_way.remove(collection);
                    }
                }
            }
            most = most.max(under_way.len());
        }
        assert_eq!(parts.len(), 8);
        assert!(parts.values().all(|done| *done == 4), "{parts:?}");
        assert!(most <= allowed, "{most} of {allowed}");
    }
}

#[test]
fn d4_a_circle_is_written_in_two_passes_and_counted_once() {
    // `a` and `b` point to each other, `c` to itself, and `d` to all of them.
    let circle = linked(
        json!(["d", "a", "b", "c"]),
        &[
            ("a", "b", true),
            ("b", "a", false),
            ("c", "c", false),
            ("d", "a", true),
            ("d", "b", true),
            ("d", "c", true),
        ],
    );
    for staging in ["memory", "disk"] {
        let stage = circle.clone().set("/staging", json!(staging)).stage();
        let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
        for collection in report["collections"].as_array().unwrap() {
            let counts = ["read_count", "written_count", "rejected_count"]
                .map(|count| collection[count].as_u64().unwrap());
            assert_eq!(counts, [300, 300, 0], "{staging}: {collection}");
            assert_eq!(collection["complete"], true);
        }
        for result in report["verification"].as_array().unwrap() {
            assert_eq!(result["comparison"], "equal", "{result}");
        }
        // Null at first, and only those that are not null a second time.
        let mut writes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in lines(&stage.path(COMMITTED)) {
            let name = line["collection"].as_str().unwrap();
            for field in ["to_a", "to_c"] {
                if (name, field) == ("b", "to_a") || (name, field) == ("c", "to_c") {
                    let key = format!("{name} {}", line["record"]["id"]);
                    writes.entry(key).or_default().push(line["record"][field].clone());
                }
            }
        }
        assert_eq!(writes.len(), 600);
        for (record, values) in writes {
            let id: u64 = record.split_once(' ').unwrap().1.parse().unwrap();
            let wanted = match id % 4 {
                3 => vec![Value::Null],
                _ => vec![Value::Null, json!(id)],
            };
            assert_eq!(values, wanted, "{staging}: {record}");
        }
    }
}

#[test]
fn a_record_that_both_passes_reject_is_rejected_once() {
    // Each record points to the next one, and the fifth is refused whenever it comes.
    let stage = linked(json!(["c"]), &[("c", "c", false)])
        .set("/source/config/links/0/shift", json!(1))
        .sink("refused_ids", json!([5]))
        .set("/import/max_errors", json!(2))
        .set("/limits/partitions_parallel", json!(1))
        .set("/import/batch_size", json!(1))
        .set("/verification", json!("none"))
        .stage();
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    let collection = &report["collections"][0];
    assert_eq!(
        report["rejected_count"], 2,
        "the refused record, and the one that points to it: {report}"
    );
    assert_eq!(collection["rejected_count"], 2);
}

#[test]
fn d4_a_circle_that_cannot_be_opened_is_refused_with_what_can_be_done() {
    let stage = linked(json!(["a", "b"]), &[("a", "b", true), ("b", "a", true)]).stage();
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(2).json();
    assert_eq!(report["errors"][0]["code"], "plan.cycle_not_null");
    assert!(report["errors"][0]["help"].as_str().unwrap().contains("be null"));
    assert!(!stage.path(COMMITTED).exists());
}

#[test]
fn children_of_a_collection_that_failed_are_not_begun() {
    let job = linked(json!(["b", "a", "x"]), &[("b", "a", true)])
        .set("/limits/collections_parallel", json!(1))
        .set("/limits/partitions_parallel", json!(1))
        .set("/limits/connection_pool_size", json!(1))
        .sink(
            "misbehave",
            json!([{ "call": "write", "at": 1, "times": 1, "how": "error" }]),
        );
    let stage = job.stage();
    let report = stage
        .run(&["run", "job.yaml", "--json", "--continue-on-error"])
        .expect(1)
        .json();
    let message = report["errors"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("2 of the collections failed (`a`, `b`)"),
        "{message}"
    );
    let counts: Vec<_> = committed(&stage).into_iter().collect();
    assert_eq!(counts, [("x".to_owned(), 300)]);
}

#[test]
fn the_newest_record_is_kept_by_the_field_that_the_job_names() {
    let job = |version: Value| {
        let mut rule = json!({ "source": "records", "on_conflict": "keep-newest" });
        if version != Value::Null {
            rule["version"] = version;
        }
        ScriptedJob::new().set("/collections", json!([rule])).stage()
    };
    let error = job(Value::Null)
        .run(&["run", "job.yaml", "--json"])
        .expect(2)
        .error();
    assert_eq!(error["code"], "plan.no_version");
    assert!(error["help"].as_str().unwrap().contains("version"), "{error}");
    let error = job(json!("updated"))
        .run(&["run", "job.yaml", "--json"])
        .expect(2)
        .error();
    assert_eq!(error["code"], "plan.version_missing");
    assert!(
        error["message"].as_str().unwrap().contains("id, name, score"),
        "{error}"
    );
    job(json!("score")).run(&["run", "job.yaml", "--json"]).expect(0);
}
