//! What the source is asked for, and what it bills: whimbrel asks for what the job names, and says beforehand what that costs.
//!
//! The scripted source writes down each request and each unit that it bills, so that the estimate is held against what a
//! plugin saw. The same against a real system is in `firestore_cost`.

use serde_json::{Value, json};

use crate::program::Stage;
use crate::scripted_job::{SOURCE_CALLS, ScriptedJob, calls};

/// Records of each collection; the scripted source bills as many units for reading one.
const RECORDS: u64 = 1_500;

fn job(collections: &[&str]) -> ScriptedJob {
    ScriptedJob::new().source("collections", json!(collections))
}

fn billed_job(collections: &[&str]) -> ScriptedJob {
    job(collections)
        .source("records", json!(RECORDS))
        .source("billed", json!({ "unit": "page views", "usd_per_million": 40.0 }))
}

/// Runs a command with JSON and answers what it says, what was asked of the source, and what that billed.
fn asked(stage: &Stage, arguments: &[&str], code: i32) -> (Value, Vec<Value>, u64) {
    let calls_file = stage.path(SOURCE_CALLS);
    if calls_file.exists() {
        std::fs::remove_file(&calls_file).unwrap();
    }
    let report = stage.run(arguments).expect(code).json();
    let requests = calls(stage, SOURCE_CALLS, "collections");
    let billed = calls(stage, SOURCE_CALLS, "billed");
    let units = billed.iter().map(|about| about["units"].as_u64().unwrap()).sum();
    (report, requests, units)
}

fn checked(job: &ScriptedJob) -> (Value, Vec<Value>) {
    let (report, requests, _) = asked(&job.stage(), &["check", "job.yaml", "--json"], 0);
    (report, requests)
}

fn described(names: &[&str]) -> Value {
    json!({ "names": names, "schemas": true })
}

fn listed() -> Value {
    json!({ "names": [], "schemas": false })
}

fn sources(report: &Value) -> Vec<&str> {
    let collections = report["collections"].as_array().unwrap().iter();
    collections.map(|one| one["source"].as_str().unwrap()).collect()
}

#[test]
fn a_job_for_everything_is_one_request() {
    let (report, requests) = checked(&job(&["a", "b", "c"]));
    assert_eq!(requests, [described(&[])]);
    assert_eq!(sources(&report), ["a", "b", "c"]);
    let (_, requests) = checked(&job(&["a", "b"]).set("/include", json!(["*"])));
    assert_eq!(requests, [described(&[])]);
}

#[test]
fn collections_that_a_job_names_are_asked_for_alone() {
    let rules = json!([{ "source": "b" }, { "source": "a*" }]);
    let (report, requests) = checked(&job(&["a", "b", "a*"]).set("/collections", rules));
    assert_eq!(requests, [described(&["a*", "b"])]);
    assert_eq!(sources(&report), ["b", "a*"]);
    let (report, requests) = checked(&job(&["a", "b", "c"]).set("/include", json!(["c", "a"])));
    assert_eq!(requests, [described(&["a", "c"])]);
    assert_eq!(sources(&report), ["a", "c"]);
}

#[test]
fn a_pattern_that_is_the_name_of_a_collection_stands_for_it_alone() {
    let there = ["users", "users/*/orders", "users/*/shops/*/orders"];
    let (report, requests) = checked(&job(&there).set("/include", json!(["users/*/orders"])));
    assert_eq!(requests, [described(&["users/*/orders"])]);
    assert_eq!(sources(&report), ["users/*/orders"]);
}

#[test]
fn names_are_listed_for_patterns_and_only_what_they_stand_for_is_described() {
    let there = ["logs", "users", "logs2", "other"];
    let (report, requests) = checked(&job(&there).set("/include", json!(["users", "l*"])));
    let wanted = [
        described(&["l*", "users"]),
        listed(),
        described(&["logs", "logs2"]),
    ];
    assert_eq!(requests, wanted);
    assert_eq!(sources(&report), ["logs", "users", "logs2"]);
    let (report, requests) = checked(&job(&there).set("/exclude", json!(["logs*"])));
    assert_eq!(requests, [listed(), described(&["users", "other"])]);
    assert_eq!(sources(&report), ["users", "other"]);
}

#[test]
fn a_list_that_describes_all_the_same_is_not_asked_for_again() {
    let job = job(&["logs", "users"])
        .source("describes_always", json!(true))
        .set("/exclude", json!(["logs"]));
    let (report, requests) = checked(&job);
    assert_eq!(requests, [listed()]);
    assert_eq!(sources(&report), ["users"]);
}

#[test]
fn what_is_missing_is_said_with_what_there_is() {
    let stage = billed_job(&["a", "b"])
        .set("/collections", json!([{ "source": "a" }, { "source": "z" }]))
        .stage();
    let (report, requests, units) = asked(&stage, &["plan", "job.yaml", "--json"], 2);
    assert_eq!(requests, [described(&["a", "z"]), listed()]);
    let error = &report["errors"][0];
    assert_eq!(error["code"], "plan.collection_missing");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`z` (it has: a, b)"), "{message}");
    assert_eq!(report["estimate"]["cost"]["planned_units"], units);
    assert_eq!(units, 3 * RECORDS);
}

#[test]
fn a_source_without_collections_is_said_to_have_none() {
    for (key, value) in [
        ("/mode", json!("full")),
        ("/include", json!(["a*"])),
        ("/exclude", json!(["a*"])),
    ] {
        let stage = job(&[]).set(key, value).stage();
        let (report, _, _) = asked(&stage, &["run", "job.yaml", "--json"], 2);
        let error = &report["errors"][0];
        assert_eq!(error["code"], "plan.nothing_to_copy", "{key}");
        assert_eq!(error["message"], "the source has no collections", "{key}");
    }
    let stage = job(&["b", "c"]).set("/include", json!(["a*"])).stage();
    let (report, _, _) = asked(&stage, &["run", "job.yaml", "--json"], 2);
    let message = report["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("(the source has: b, c)"), "{message}");
}

#[test]
fn a_collection_that_is_referred_to_and_not_copied_is_looked_up_by_name() {
    let rules = json!([{ "source": "b", "references": [{ "fields": ["score"], "collection": "c" }] }]);
    let with_links = |job: ScriptedJob| {
        job.source("references", json!({ "b": "a" }))
            .set("/collections", rules.clone())
    };
    for (job, schemas) in [
        (with_links(job(&["a", "b", "c"])), true),
        (with_links(billed_job(&["a", "b", "c"])), false),
    ] {
        let (report, requests) = checked(&job);
        let others = json!({ "names": ["a", "c"], "schemas": schemas });
        assert_eq!(requests, [described(&["b"]), others]);
        let left_out = |of: &str| format!("`b` refers to `{of}`, which this job does not copy");
        let text = report["findings"].to_string();
        assert!(
            text.contains(&left_out("a")) && text.contains(&left_out("c")),
            "{text}"
        );
    }
    let stage = with_links(billed_job(&["a", "b"])).stage();
    let (report, requests, _) = asked(&stage, &["check", "job.yaml", "--json"], 2);
    let error = &report["errors"][0];
    assert_eq!(error["code"], "plan.reference_collection_missing");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("(it has: a, b)"), "{message}");
    assert_eq!(requests.len(), 3);
}

/// Plans and runs `job`, and holds what both billed against what the plan and the run's own report had said.
#[track_caller]
fn billed_as_estimated(job: &ScriptedJob, options: &[&str]) -> Value {
    let stage = job.stage();
    let (plan, _, planned) = asked(&stage, &["plan", "job.yaml", "--json"], 0);
    let cost = plan["estimate"]["cost"].clone();
    assert_eq!(cost["unit"], "page views");
    assert_eq!(cost["planned_units"], planned, "{cost}");
    let arguments = [&["run", "job.yaml", "--json"], options].concat();
    let (report, _, billed) = asked(&stage, &arguments, 0);
    let estimated = &report["cost"];
    assert_eq!(estimated["run_units"], billed, "{estimated}");
    assert_eq!(estimated.get("planned_units"), None);
    if options.is_empty() {
        assert_eq!(cost["run_units"], billed, "{cost}");
    }
    let usd = estimated["usd"].as_f64().unwrap();
    assert!((usd - billed as f64 * 40.0 / 1e6).abs() < 1e-9, "{usd}");
    estimated.clone()
}

#[test]
fn a_run_bills_what_its_plan_said_at_each_level() {
    for (level, verification_units) in [("none", 0), ("basic", 2 + 10), ("standard", RECORDS)] {
        for exact in [false, true] {
            let job = billed_job(&["a", "b"])
                .source("exact_counts", json!(exact))
                .set("/verification", json!(level));
            let cost = billed_as_estimated(&job, &[]);
            let wanted = json!({
                "collection": "b",
                "description_units": RECORDS,
                "search_units": 0,
                "copy_units": RECORDS,
                "verification_units": verification_units,
                "run_units": 2 * RECORDS + verification_units,
                "usd": (2 * RECORDS + verification_units) as f64 * 40.0 / 1e6,
            });
            assert_eq!(cost["collections"][1], wanted, "{level} {exact}");
        }
    }
}

#[test]
fn a_source_that_does_not_count_is_read_only_where_nobody_has_counted() {
    // Ten records are compared: they are read for that, or met while all are read.
    for (exact, wanted) in [(true, 10), (false, RECORDS)] {
        let job = billed_job(&["a"])
            .source("counts", json!(false))
            .source("exact_counts", json!(exact))
            .set("/verification", json!("basic"));
        let cost = billed_as_estimated(&job, &[]);
        assert_eq!(cost["collections"][0]["verification_units"], wanted, "{exact}");
    }
}

#[test]
fn a_run_bills_what_its_plan_said_for_samples_stages_and_what_is_not_copied() {
    let sample = billed_job(&["a", "b"])
        .set("/mode", json!("test"))
        .set("/sample_records", json!(7));
    let cost = billed_as_estimated(&sample, &[]);
    assert_eq!(cost["collections"][0]["copy_units"], 7);
    let staged = billed_job(&["a", "b"]).set("/staging", json!("disk"));
    let cost = billed_as_estimated(&staged, &[]);
    assert_eq!(cost["collections"][0]["verification_units"], 0);
    let excluding = billed_job(&["a", "b", "c"]).set("/exclude", json!(["a"]));
    let cost = billed_as_estimated(&excluding, &[]);
    assert_eq!(cost["other_units"], RECORDS);
    assert_eq!(cost["collections"][0]["description_units"], 2 * RECORDS);
}

#[test]
fn a_run_bills_what_its_plan_said_for_references_and_a_second_pass() {
    let link =
        |from: &str, to: &str| json!({ "from": from, "field": format!("{to}_id"), "to": to, "shift": 0 });
    let tree = billed_job(&["a", "b", "c"])
        .source("links", json!([link("b", "a"), link("c", "a"), link("c", "b")]))
        .set("/verification", json!("basic"));
    let cost = billed_as_estimated(&tree, &[]);
    let searched: Vec<&Value> = (0..3)
        .map(|at| &cost["collections"][at]["search_units"])
        .collect();
    // Keys of `a` and `b` are read once, what points once for all.
    assert_eq!(searched, [RECORDS, 2 * RECORDS, RECORDS]);
    let unsearched = tree.set("/import/on_orphan", json!("skip"));
    let cost = billed_as_estimated(&unsearched, &[]);
    assert_eq!(cost["collections"][2]["search_units"], 0);
    let enforced = json!([{ "from": "a", "field": "a_id", "to": "a", "shift": 0, "enforced": true }]);
    let circle = billed_job(&["a"])
        .source("links", json!([link("a", "a")]))
        .sink("links", enforced)
        .set("/import/on_orphan", json!("skip"));
    let cost = billed_as_estimated(&circle, &[]);
    assert_eq!(cost["collections"][0]["copy_units"], 2 * RECORDS);
}

#[test]
fn a_run_bills_what_its_report_says_whatever_is_left_out() {
    let job = billed_job(&["a", "b"]);
    for (options, copy_units, verification_units) in [
        (&["--dry-run"][..], RECORDS, 0),
        (&["--skip-phases", "verification"], RECORDS, 0),
        (&["--skip-phases", "pre_validation"], RECORDS, RECORDS),
    ] {
        let cost = billed_as_estimated(&job, options);
        let one = &cost["collections"][0];
        assert_eq!(one["copy_units"], copy_units, "{options:?}");
        assert_eq!(one["verification_units"], verification_units, "{options:?}");
    }
}

#[test]
fn a_repeated_import_from_a_stage_bills_nothing() {
    let stage = billed_job(&["a"])
        .set("/staging", json!("disk"))
        .sink(
            "misbehave",
            crate::scripted_job::misbehave("commit", 1, 1, "error"),
        )
        .set("/import/max_retries", json!(0))
        .stage();
    let (_, _, first) = asked(&stage, &["run", "job.yaml", "--json"], 1);
    assert_eq!(first, 2 * RECORDS);
    billed_job(&["a"]).set("/staging", json!("disk")).write(&stage);
    let (report, _, again) = asked(&stage, &["run", "job.yaml", "--json"], 0);
    assert_eq!(again, 0);
    assert_eq!(report.get("cost"), None);
}

#[test]
fn a_sink_is_held_against_its_certificate_without_reading_the_source() {
    let stage = billed_job(&["a"])
        .set("/verification", json!("comprehensive"))
        .set(
            "/sink",
            json!({ "plugin": "turso", "config": { "url": "file:copy.db" } }),
        )
        .stage();
    asked(&stage, &["run", "job.yaml", "--json"], 0);
    let certificate = ".whimbrel/latest/migration-certificate.json";
    let against = [
        "certificate",
        "verify",
        certificate,
        "--against",
        "job.yaml",
        "--json",
    ];
    let (answer, requests, units) = asked(&stage, &against, 0);
    assert_eq!(answer["sink"][0]["record_count"], RECORDS, "{answer}");
    // It says what it has, and that is all.
    assert_eq!((requests.len(), units), (1, RECORDS), "{answer}");
}

#[test]
fn plan_and_reports_say_what_it_costs_in_words() {
    let stage = billed_job(&["a"]).stage();
    let plan = stage.run(&["plan", "job.yaml"]).expect(0).out;
    let wanted = "the run: 4,500 page views, 0.1800 USD at 40.00 USD for a million";
    assert!(plan.contains(wanted), "{plan}");
    assert!(plan.contains("this plan: 3,000 page views, 0.1200 USD"), "{plan}");
    let run = stage.run(&["run", "job.yaml"]).expect(0).out;
    let estimated = "estimated before the copy: 4,500 page views, 0.1800 USD";
    assert!(run.contains(estimated), "{run}");
    let file = |name: &str| std::fs::read_to_string(stage.path(".whimbrel/latest").join(name)).unwrap();
    assert!(file("report.html").contains("page views, estimated before (0.1800 USD)"));
    assert!(file("migration-executive-summary.md").contains("4,500 page views"));
    let free = job(&["a"]).stage().run(&["plan", "job.yaml"]).expect(0).out;
    assert!(!free.contains("USD"), "{free}");
}

#[test]
fn a_run_that_would_take_more_than_is_allowed_is_refused_before_anything_is_written() {
    let job = |units_max: u64| {
        let billed = json!({ "unit": "page views", "usd_per_million": 40.0, "units_max": units_max });
        billed_job(&["a"]).source("billed", billed)
    };
    // Described once, copied once, verified once.
    let takes = 3 * RECORDS;
    for command in ["plan", "run"] {
        let stage = job(takes - 1).stage();
        let report = stage.run(&[command, "job.yaml", "--json"]).expect(2).json();
        let error = &report["errors"][0];
        assert_eq!(error["code"], "plan.over_quota", "{report}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("4500 page views") && message.contains("4499"),
            "{message}"
        );
        let cost = match command {
            "plan" => &report["estimate"]["cost"],
            _ => &report["cost"],
        };
        assert_eq!(cost["units_max"], takes - 1, "{report}");
        assert!(calls(&stage, crate::scripted_job::SINK_CALLS, "write").is_empty());
    }
    let stage = job(takes).stage();
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["cost"]["run_units"], takes, "{report}");
}
