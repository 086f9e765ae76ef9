//! Firestore end to end: whole databases copied by the built program with jobs as users write them, there and back again.
//!
//! The input is written by Google's own client, which also says what is in a database before and after, value by value and with
//! types (`harness/firestore`); whimbrel is not asked. What differs must be a loss that the plan has declared for that very field.
//! Neighbours: `firestore_dump` compares, `postgres_job` has the jobs' parts. Not here: faults and refusals.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::firestore::{Emulator, Node, document_name};
use crate::firestore_dump::{Dump, Losses, declared};
use crate::postgres::{Server, Version};
use crate::postgres_job::{Job, database, report_of};
use crate::program::Stage;
use crate::running::Running;

/// The collections of the input: as Firestore names them, and as tables.
const COLLECTIONS: [(&str, &str); 6] = [
    ("events", "events"),
    ("shops", "shops"),
    ("shops/*/reviews", "reviews"),
    ("users", "users"),
    ("users/*/orders", "orders"),
    ("users/*/orders/*/items", "items"),
];

/// How a line of a dump begins with a document in which the plugin keeps a checkpoint.
const LANE: &str = "{\"path\":\"_whimbrel/lane:";

/// How much of the input is written. At 1 it is 52,458 documents, and each copy takes a minute or more with programs that are not
/// optimised, so this part of it is usual: 1,553 documents, with every special one.
const USUAL_SCALE: f64 = 0.02;

/// The scale: what `WHIMBREL_FIRESTORE_SCALE` says, or the usual one.
fn scale() -> f64 {
    std::env::var("WHIMBREL_FIRESTORE_SCALE").map_or(USUAL_SCALE, |scale| scale.parse().expect("a scale"))
}

/// A side of a job: a project in the emulator.
pub fn project(emulator: &Emulator, project: &str) -> Value {
    json!({ "plugin": "firestore", "config": { "project": project, "host": emulator.host() } })
}

/// A project with the input in it, what is in it, and how many documents each collection has.
struct Input {
    emulator: Emulator,
    node: Node,
    project: String,
    dump: Dump,
    counts: BTreeMap<String, u64>,
}

impl Input {
    fn write() -> Option<Self> {
        let (emulator, node) = (Emulator::shared()?, Node::shared()?);
        let project = emulator.project("input");
        let said = node.seed(&emulator, &project, scale());
        let count = |line: &str| {
            let (pattern, count) = line.split_once('\t').expect("a pattern and a count");
            (pattern.to_owned(), count.parse().expect("a count"))
        };
        let counts: BTreeMap<String, u64> = said.lines().map(count).collect();
        assert_eq!(counts.len(), COLLECTIONS.len());
        let dump = Dump::read(&node.dump(&emulator, &project));
        assert_eq!(dump.0.len() as u64, counts.values().sum::<u64>());
        assert!(!dump.below_missing(1).is_empty() && !dump.below_missing(2).is_empty());
        Some(Self {
            emulator,
            node,
            project,
            dump,
            counts,
        })
    }

    /// What a project holds, without whimbrel's own documents.
    fn dump_of(&self, project: &str) -> Dump {
        Dump::read(&self.node.dump_without_own(&self.emulator, project))
    }
}

/// A structured query of all documents of a collection of the input, whose collections on lower levels have ids of their own.
fn query_of(pattern: &str) -> String {
    let (is_nested, id) = pattern
        .rsplit_once('/')
        .map_or((false, pattern), |(_, id)| (true, id));
    format!(r#"{{"from":[{{"collectionId":"{id}","allDescendants":{is_nested}}}]}}"#)
}

/// Plans and runs a job, which must reject nothing and verify; its report, whose losses the plan has declared.
#[track_caller]
fn run(stage: &Stage, job: &Job) -> Value {
    job.write(stage);
    let plan = report_of(stage.run(&["plan", "job.yaml", "--json"]), 0);
    let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
    assert_eq!(report["outcome"], "done");
    assert_eq!(report["rejected_count"], 0, "{}", report["rejected"]);
    assert_eq!(
        report["verification"].as_array().unwrap().len(),
        COLLECTIONS.len()
    );
    for result in report["verification"].as_array().unwrap() {
        assert_eq!(result["comparison"], "equal", "{result}");
    }
    assert_eq!(declared(&plan, "source"), declared(&report, "source"));
    report
}

/// Each collection of the report has as many records as there are documents.
#[track_caller]
fn assert_counts(report: &Value, side: &str, counts: &BTreeMap<String, u64>) {
    let collections = report["collections"].as_array().unwrap();
    assert_eq!(collections.len(), counts.len());
    for collection in collections {
        let count = counts[collection[side].as_str().unwrap()];
        for told in ["read_count", "written_count"] {
            assert_eq!(collection[told], count, "{told} of {}", collection[side]);
        }
    }
}

/// All documents whose parent is not there are told as such.
#[track_caller]
fn assert_orphans(report: &Value, dump: &Dump) {
    let counts = report["references"].as_array().unwrap().iter();
    let counted: u64 = counts
        .map(|reference| reference["orphan_count"].as_u64().unwrap())
        .sum();
    assert_eq!(
        counted,
        dump.below_missing(1).len() as u64,
        "{}",
        report["references"]
    );
}

/// The same collections on both sides, as tables on one of them.
fn named(firestore: &str, tables: &str) -> Value {
    let rules = COLLECTIONS.map(|(pattern, table)| json!({ firestore: pattern, tables: table }));
    json!(rules)
}

#[test]
fn a_copy_in_another_project_is_equal_with_types_and_nothing_is_lost() {
    let Some(input) = Input::write() else { return };
    let copy = input.emulator.project("copy");
    let job = Job::new(
        project(&input.emulator, &input.project),
        project(&input.emulator, &copy),
    );
    let report = run(&Stage::new(), &job);
    assert_eq!(declared(&report, "source"), Losses::new());
    assert_counts(&report, "source", &input.counts);
    assert_orphans(&report, &input.dump);
    // With whimbrel's own documents but for those of its checkpoints: such a copy needs none.
    let is_lane = |line: &&str| line.starts_with(LANE);
    let all = input.node.dump(&input.emulator, &copy);
    assert!(all.lines().any(|line| is_lane(&line)), "a copy has checkpoints");
    let others: Vec<&str> = all.lines().filter(|line| !is_lane(line)).collect();
    input.dump.assert_equal(&Dump::read(&others.join("\n")));
}

#[test]
fn counts_are_those_of_the_one_instant_that_is_read_whatever_is_written_meanwhile() {
    let Some(input) = Input::write() else { return };
    let copy = input.emulator.project("copy");
    let stage = Stage::new();
    let (from, to) = (&input.project, &copy);
    Job::new(project(&input.emulator, from), project(&input.emulator, to))
        .set("/limits/collections_parallel", json!(1))
        // The source as it is after the run would be compared, and that is another one then.
        .set("/verification", json!("none"))
        .write(&stage);
    let mut running = Running::start(&stage, &[]);
    // Something is stored, so the instant is fixed; the collections on lower levels are still to be read.
    running.until_named("committed");
    for (pattern, _) in COLLECTIONS {
        let path = format!("{}/zzz", pattern.replace('*', "zzz"));
        input.emulator.put(from, &path, "{}");
    }
    let end = running.finish().expect(0);
    assert_counts(end.report(), "source", &input.counts);
    let instants: BTreeSet<String> = end.named("committed").into_iter().map(read_time).collect();
    let [instant] = instants.into_iter().collect::<Vec<_>>().try_into().unwrap();
    for (pattern, count) in &input.counts {
        let count_at = |instant| input.emulator.count(from, &query_of(pattern), instant);
        assert_eq!(count_at(Some(&instant)), *count, "{pattern} at {instant}");
        assert_eq!(count_at(None), count + 1, "{pattern} now");
    }
    input.dump.assert_equal(&input.dump_of(to));
}

/// The instant that a cursor of the source is of.
fn read_time(committed: &Value) -> String {
    let digits = committed["cursor"].as_str().expect("a cursor").as_bytes();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let cursor: Vec<u8> = digits.chunks(2).map(octet).collect();
    let cursor: Value = serde_json::from_slice(&cursor).expect("a cursor is JSON");
    cursor["at"].as_str().expect("it has its instant").to_owned()
}

/// There as tables and back into another project; what was lost on both ways, by loss.
fn there_and_back(input: &Input, tables: &Value, check: impl FnOnce(&Value)) -> BTreeMap<String, u64> {
    let back = input.emulator.project("back");
    let stage = Stage::new();
    let job = Job::new(project(&input.emulator, &input.project), tables.clone())
        .set("/collections", named("source", "sink"));
    let report = run(&stage, &job);
    assert_counts(&report, "source", &input.counts);
    assert_orphans(&report, &input.dump);
    let mut losses = declared(&report, "source");
    check(&report);
    let job = Job::new(tables.clone(), project(&input.emulator, &back))
        .set("/collections", named("sink", "source"))
        .set("/name", json!("back"));
    let report = run(&stage, &job);
    assert_counts(&report, "sink", &input.counts);
    losses.extend(declared(&report, "sink"));
    input.dump.assert_equal_but_for(&losses, &input.dump_of(&back))
}

#[test]
fn postgresql_gives_back_what_it_got_but_for_declared_losses() {
    let (Some(input), Some(server)) = (Input::write(), Server::shared(Version::V18)) else {
        return;
    };
    let there = server.database();
    let mut tables = database(&there.url());
    // The input has texts with NUL characters, which PostgreSQL cannot hold.
    tables["config"]["nul"] = json!("remove");
    let counts = there_and_back(&input, &tables, |_| {
        for (pattern, table) in COLLECTIONS {
            assert_eq!(
                there.sql(&format!("SELECT count(*) FROM {table}")),
                input.counts[pattern].to_string()
            );
        }
        assert_eq!(
            there.sql(COLUMN_TYPES),
            "__id__ text\nat timestamp with time zone\nedge_instant timestamp with time zone\n\
            edge_octets bytea\nedge_point point\nedge_price numeric\nedge_real double precision\nedge_whole bigint\nkind text\n\
            payload jsonb\nratio double precision\nseq bigint"
        );
        let constraints = there.sql(CONSTRAINTS);
        assert_eq!(
            constraints,
            "items -> orders (2) false\norders -> users (1) false\nreviews -> shops (1) false"
        );
    });
    assert_eq!(counts.get("nul_removed"), Some(&4));
    assert_eq!(counts.values().sum::<u64>(), 4, "{counts:?}");
}

#[test]
fn libsql_gives_back_what_it_got_but_for_declared_losses() {
    let Some(input) = Input::write() else { return };
    let tables = json!({ "plugin": "turso", "config": { "url": "file:copy.db" } });
    let counts = there_and_back(&input, &tables, |_| {});
    assert_eq!(counts.get("nan_to_null"), Some(&1));
    assert_eq!(counts.get("negative_zero_to_zero"), Some(&1));
    assert_eq!(counts.values().sum::<u64>(), 2, "{counts:?}");
}

/// Columns of `events` and their types.
const COLUMN_TYPES: &str = "SELECT column_name || ' ' || data_type FROM information_schema.columns WHERE table_name = 'events' \
    AND column_name IN ('__id__', 'at', 'edge_instant', 'edge_octets', 'edge_point', 'edge_price', 'edge_real', 'edge_whole', 'kind', \
    'payload', 'ratio', 'seq') ORDER BY column_name COLLATE \"C\"";
/// Foreign keys: from where to where, over how many columns, and whether all records hold to it.
const CONSTRAINTS: &str = "SELECT conrelid::regclass || ' -> ' || confrelid::regclass || ' (' || array_length(conkey, 1) || ') ' || \
    convalidated FROM pg_constraint WHERE contype = 'f' ORDER BY 1";

/// The harness itself: two projects get the same input, and the emulator counts as many documents in it as the script has written.
#[test]
fn the_input_is_the_same_each_time() {
    let (Some(one), Some(two)) = (Input::write(), Input::write()) else {
        return;
    };
    one.dump.assert_equal(&two.dump);
    for (pattern, count) in &one.counts {
        assert_eq!(
            one.emulator.count(&one.project, &query_of(pattern), None),
            *count,
            "{pattern}"
        );
    }
}

/// The harness itself: what is written is found, counted and removed again, and projects do not meet.
#[test]
fn emulator_keeps_projects_apart() {
    let Some(emulator) = Emulator::shared() else {
        return;
    };
    let (one, other) = (emulator.project("harness"), emulator.project("harness"));
    emulator.put(&one, "users/ann", r#"{"age":{"integerValue":"5"}}"#);
    emulator.put(&one, "users/no one/orders/1", "{}");
    let found = emulator.get(&one, "users/ann").unwrap();
    assert!(
        found.contains(&document_name(&one, "users/ann")) && found.contains(r#""integerValue": "5""#),
        "{found}"
    );
    assert!(emulator.get(&one, "users/no one/orders/1").is_some());
    assert_eq!(emulator.count_group(&one, "orders", None), 1);
    let everything = r#"{"from":[{"allDescendants":true}]}"#;
    assert_eq!(emulator.count(&one, everything, None), 2);
    assert_eq!(emulator.count(&other, everything, None), 0);
    emulator.delete(&one, "users/ann");
    assert_eq!(emulator.get(&one, "users/ann"), None);
    emulator.clear(&one);
    assert_eq!(emulator.count_group(&one, "orders", None), 0);
}

/// The harness itself: an emulator of a test's own forgets all when it ends, and keeps its port.
#[test]
fn own_emulator_can_be_restarted() {
    let Some(mut emulator) = Emulator::own() else {
        return;
    };
    let (host, project) = (emulator.host().to_owned(), emulator.project("restart"));
    emulator.put(&project, "users/ann", "{}");
    emulator.restart();
    assert_eq!(emulator.host(), host);
    assert_eq!(emulator.get(&project, "users/ann"), None);
    emulator.stop();
    emulator.start();
    emulator.put(&project, "users/ann", "{}");
}
