//! Firestore behind a line and a service that fail by script, read and written by the built program. FAULTS F1, F2, F3, R1.
//!
//! The layer of `harness/grpc_layer.rs` spoils and counts calls; the emulator says over REST what has arrived. Neighbours:
//! `firestore_refusals` for what is refused and rejected, `firestore_values` for values and names, `firestore_job` for whole copies.

use std::collections::BTreeMap;
use std::time::Duration;

use gcloud_sdk::tonic::Code;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::firestore::{Emulator, document_name};
use crate::grpc_layer::{Answer, End, Failure, Layer, Method, Rule, Which};
use crate::postgres_job::{Job, ended, files, noise, report_of, told, write_docs};
use crate::program::Stage;
use crate::running::Running;

/// Documents that are read in most tests: several pages of [`PAGE`].
const DOCUMENTS: u64 = 400;
/// Documents of a page.
const PAGE: u64 = 100;
/// Octets of the text of a record that is written.
const PAD: usize = 100;

/// A project behind a layer, and a folder to run the program in.
pub struct Scene {
    pub emulator: Emulator,
    pub layer: Layer,
    pub project: String,
    pub stage: Stage,
}

impl Scene {
    /// `None` where there is no emulator, which is said.
    pub fn new() -> Option<Self> {
        let emulator = Emulator::shared()?;
        Some(Self {
            layer: Layer::before(emulator.host()),
            project: emulator.project("faults"),
            emulator,
            stage: Stage::new(),
        })
    }

    /// The side of a job that is its project, over the layer, with little patience.
    pub fn side(&self) -> Value {
        let config = json!({
            "project": self.project,
            "host": self.layer.host(),
            "request_timeout_ms": 2_000,
            "page_documents_max": PAGE,
        });
        json!({ "plugin": "firestore", "config": config })
    }

    /// The side of a job that is another project, without a layer.
    pub fn direct(&self, project: &str) -> Value {
        json!({ "plugin": "firestore", "config": { "project": project, "host": self.emulator.host() } })
    }

    /// From `docs.ndjson` into the collection `docs` of its project.
    pub fn docs_in(&self) -> Job {
        Job::new(files("docs.ndjson"), self.side())
            .set("/name", json!("firestore-test"))
            .set("/collections", json!([{ "source": "docs", "key": ["id"] }]))
            .set("/import/retry_delay_ms", json!(10))
    }

    /// From its collection `users` into another project.
    pub fn users_into(&self, project: &str) -> Job {
        Job::new(self.side(), self.direct(project))
            .set("/name", json!("firestore-test"))
            .set("/collections", json!([{ "source": "users" }]))
    }

    /// Fills `users` past the layer.
    pub fn fill_users(&self, count: u64) {
        let numbers: Vec<u64> = (0..count).collect();
        for part in numbers.chunks(500) {
            let writes: Vec<Value> = part
                .iter()
                .map(|number| {
                    let name = document_name(&self.project, &format!("users/{number:05}"));
                    let fields = json!({
                        "n": { "integerValue": number.to_string() },
                        "text": { "stringValue": noise(*number, PAD) },
                    });
                    json!({ "update": { "name": name, "fields": fields } })
                })
                .collect();
            self.emulator.commit(&self.project, &json!(writes).to_string());
        }
    }

    /// The fields of all documents of a collection, by path.
    pub fn documents(&self, project: &str, collection: &str) -> BTreeMap<String, Value> {
        let query = json!({ "from": [{ "collectionId": collection, "allDescendants": true }] });
        let answer = self.emulator.run_query(project, &query.to_string());
        let results: Vec<Value> = serde_json::from_str(&answer).unwrap();
        let documents = results.into_iter().filter_map(|mut result| {
            let name = result["document"]["name"].as_str()?;
            let path = name.split_once("/documents/")?.1.to_owned();
            Some((path, result["document"]["fields"].take()))
        });
        documents.collect()
    }

    /// The run that `job` makes; it must end with `exit`.
    #[track_caller]
    pub fn run(&self, job: &Job, exit: i32) -> Value {
        job.write(&self.stage);
        report_of(self.stage.run(&["run", "job.yaml", "--json"]), exit)
    }

    /// All records of `docs.ndjson` are there once and as they were, and the report says the same.
    #[track_caller]
    fn assert_docs(&self, report: &Value, count: u64) {
        assert_eq!(report["outcome"], "done", "{report}");
        assert_eq!(report["rejected_count"], 0, "{}", report["rejected"]);
        assert_eq!(report["collections"][0]["written_count"], count);
        assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
        let there = self.documents(&self.project, "docs");
        assert_eq!(there.len() as u64, count);
        for id in 0..count {
            assert_eq!(there[&format!("docs/{id}")], doc(id), "{id}");
        }
    }

    /// The copy of `users` is equal, and the report says so.
    #[track_caller]
    fn assert_users(&self, report: &Value, copy: &str) {
        assert_eq!(report["outcome"], "done", "{report}");
        assert_eq!(report["rejected_count"], 0, "{}", report["rejected"]);
        assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
        let original = self.documents(&self.project, "users");
        assert_eq!(report["collections"][0]["written_count"], original.len());
        assert!(original == self.documents(copy, "users"), "the copy is not equal");
    }

    /// Every rule of the script was used.
    #[track_caller]
    pub fn assert_played(&self) {
        assert_eq!(self.layer.left(), 0, "{:?}", self.layer.counts().calls);
    }
}

/// The document reads that the plan announced.
fn planned(report: &Value) -> u64 {
    let units = report["cost"]["run_units"].as_u64();
    units.unwrap_or_else(|| panic!("no cost: {}", report["cost"]))
}

/// A record of `docs.ndjson` as a document; see `write_docs`.
fn doc(id: u64) -> Value {
    json!({
        "id": { "integerValue": id.to_string() },
        "name": { "stringValue": format!("name {id}") },
        "n": { "doubleValue": id as f64 + 0.5 },
        "pad": { "stringValue": noise(id, PAD) },
    })
}

fn documents(ids: impl IntoIterator<Item = u64>) -> Vec<Which> {
    let paths = ids.into_iter().map(|id| Which::Document(format!("docs/{id}")));
    paths.collect()
}

#[test]
fn f1_a_sink_that_asks_to_slow_down_gets_each_record_once_and_nothing_too_early() {
    let Some(scene) = Scene::new() else { return };
    let slower = Failure::of(Code::ResourceExhausted).retry_after(Duration::from_millis(900));
    write_docs(&scene.stage, 2_000, PAD);
    scene.layer.script(
        Method::BatchWrite,
        [
            Answer::Forward.times(2),
            Answer::refuse(slower.clone()).times(2),
            Answer::Forward.into(),
            Answer::FailWrites(vec![(Which::Index(7), slower.clone())]).into(),
            Answer::refuse(Code::ResourceExhausted).times(2),
        ],
    );
    let job = scene.docs_in().set(
        "/sink/config/writing",
        json!({ "writes_max": 200, "in_flight_max": 1 }),
    );
    let report = scene.run(&job, 0);
    scene.assert_docs(&report, 2_000);
    scene.assert_played();
    let counts = scene.layer.counts();
    assert_eq!(counts.failures["RESOURCE_EXHAUSTED"], 5);
    assert_eq!(
        counts.early, 0,
        "nothing comes before the time that the service gave"
    );
    assert_eq!(counts.applied_below("docs"), (2_000, 1));
    assert_eq!(counts.in_flight_max, 1);
}

#[test]
fn f1_a_source_that_asks_to_slow_down_is_read_whole_and_nothing_too_early() {
    let Some(scene) = Scene::new() else { return };
    scene.fill_users(DOCUMENTS);
    let slower = Failure::of(Code::ResourceExhausted).retry_after(Duration::from_millis(900));
    scene.layer.script(
        Method::RunQuery,
        [
            Rule::from(Answer::refuse(slower.clone())),
            Answer::cut_after(30, slower).about("users").times(2),
            Answer::refuse(Code::ResourceExhausted).times(2),
        ],
    );
    let copy = scene.emulator.project("copy");
    let job = scene
        .users_into(&copy)
        .set("/limits/partitions_parallel", json!(1));
    let report = scene.run(&job, 0);
    scene.assert_users(&report, &copy);
    scene.assert_played();
    assert_eq!(scene.layer.counts().early, 0);
}

/// What a request may meet that passes, before it is carried out and after.
fn passing() -> Vec<Rule> {
    let codes = [
        Code::Aborted,
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Internal,
    ];
    let ends = [End::Reset, End::Closed];
    let before = codes.iter().map(|code| Answer::refuse(*code));
    let before = before.chain(ends.iter().cloned().map(Answer::Refuse));
    let after = codes.iter().map(|code| Answer::lose(*code));
    let after = after.chain(ends.iter().cloned().map(Answer::Lose));
    // What passes goes between them, so that none is one too many for the same request.
    before
        .chain(after)
        .flat_map(|answer| [Rule::from(answer), Answer::Forward.into()])
        .collect()
}

#[test]
fn f2_writes_whose_outcome_is_unknown_leave_each_record_there_once() {
    for (request, policy) in [
        ("batch_write", "overwrite"),
        ("batch_write", "skip"),
        ("batch_write", "fail"),
        ("commit", "merge"),
        ("commit", "fail"),
    ] {
        let Some(scene) = Scene::new() else { return };
        let method = match request {
            "commit" => Method::Commit,
            _ => Method::BatchWrite,
        };
        write_docs(&scene.stage, 1_500, PAD);
        scene.layer.script(method, passing());
        let job = scene.docs_in().set("/import/on_conflict", json!(policy)).set(
            "/sink/config/writing",
            json!({ "request": request, "writes_max": 50 }),
        );
        let report = scene.run(&job, 0);
        scene.assert_docs(&report, 1_500);
        scene.assert_played();
        if policy == "skip" || policy == "fail" {
            assert_eq!(
                scene.layer.counts().applied_below("docs"),
                (1_500, 1),
                "{request} {policy}"
            );
        }
    }
}

#[test]
fn f2_reads_that_fail_and_streams_that_are_cut_are_read_whole_and_not_again() {
    let Some(scene) = Scene::new() else { return };
    scene.fill_users(DOCUMENTS);
    let cuts = 12;
    let codes = [
        Code::Unavailable,
        Code::Aborted,
        Code::DeadlineExceeded,
        Code::Internal,
    ];
    let ends = codes.map(End::from).into_iter().chain([End::Reset, End::Closed]);
    let rules: Vec<Rule> = ends
        .flat_map(|end| {
            [
                Answer::CutAfter(40, end.clone()).times(2),
                Answer::Refuse(end).into(),
                Answer::Forward.into(),
            ]
        })
        .collect();
    scene.layer.script(Method::RunQuery, rules);
    for method in [
        Method::RunAggregationQuery,
        Method::PartitionQuery,
        Method::BatchGetDocuments,
    ] {
        scene.layer.script(
            method,
            [Answer::refuse(Code::Unavailable), Answer::Refuse(End::Reset)],
        );
    }
    let copy = scene.emulator.project("copy");
    let report = scene.run(&scene.users_into(&copy), 0);
    scene.assert_users(&report, &copy);
    let counts = scene.layer.counts();
    assert!(counts.calls(Method::RunQuery) > 24, "{counts:?}");
    // What has come through is not read again: the run costs what the plan said but for the queries that found nothing more.
    let units = planned(&report);
    assert!(
        (units..units + 2 * cuts).contains(&counts.reads()),
        "{:?} for {units}",
        counts.reads_by_method
    );
}

#[test]
fn f3_of_a_request_only_the_writes_that_failed_are_sent_again() {
    let Some(scene) = Scene::new() else { return };
    write_docs(&scene.stage, 500, PAD);
    let failing = [0, 250, 499];
    scene.layer.script(
        Method::BatchWrite,
        [
            Answer::FailWrites(vec![
                (Which::Document("docs/0".to_owned()), Failure::of(Code::Aborted)),
                (
                    Which::Document("docs/250".to_owned()),
                    Failure::of(Code::Unavailable),
                ),
                (
                    Which::Document("docs/499".to_owned()),
                    Failure::of(Code::DeadlineExceeded),
                ),
            ]),
            Answer::fail_writes(Code::Unavailable, documents([250])),
        ],
    );
    let report = scene.run(&scene.docs_in(), 0);
    scene.assert_docs(&report, 500);
    scene.assert_played();
    let counts = scene.layer.counts();
    assert_eq!(counts.request_writes_max, 500);
    assert_eq!(counts.applied_below("docs"), (500, 1));
    for id in 0..500 {
        let expected = match id {
            250 => 3,
            _ if failing.contains(&id) => 2,
            _ => 1,
        };
        assert_eq!(counts.sent(&format!("docs/{id}")), expected, "docs/{id}");
    }
}

#[test]
fn f3_writes_that_will_fail_again_are_rejected_with_the_reason_and_the_others_are_kept() {
    let Some(scene) = Scene::new() else { return };
    write_docs(&scene.stage, 500, PAD);
    scene.layer.script(
        Method::BatchWrite,
        [Answer::fail_writes(
            Code::InvalidArgument,
            documents([3, 77, 400]),
        )],
    );
    let job = scene.docs_in().set("/import/max_errors", json!(10));
    let report = scene.run(&job, 0);
    assert_eq!(report["rejected_count"], 3, "{}", told(&report));
    assert_eq!(report["collections"][0]["written_count"], 497);
    for rejected in report["rejected"].as_array().unwrap() {
        assert_eq!(rejected[1]["code"], "firestore.refused", "{rejected}");
    }
    let counts = scene.layer.counts();
    assert_eq!(
        counts.sent_below("docs"),
        (500, 1),
        "nothing is tried again in vain"
    );
    let there = scene.documents(&scene.project, "docs");
    assert_eq!(there.len(), 497);
    assert!(
        [3, 77, 400]
            .iter()
            .all(|id| !there.contains_key(&format!("docs/{id}")))
    );
}

#[test]
fn f3_of_writes_that_fail_together_the_one_at_fault_is_found_and_the_others_are_made_once() {
    let Some(scene) = Scene::new() else { return };
    write_docs(&scene.stage, 500, PAD);
    scene.layer.script(
        Method::Commit,
        [Answer::refuse(Code::InvalidArgument).about("docs/77").always()],
    );
    let job = scene
        .docs_in()
        .set("/sink/config/writing", json!({ "request": "commit" }))
        .set("/import/max_errors", json!(1));
    let report = scene.run(&job, 0);
    assert_eq!(report["rejected_count"], 1, "{}", report["rejected"]);
    let rejected = &report["rejected"][0][1];
    assert_eq!(rejected["code"], "firestore.refused", "{rejected}");
    assert_eq!(rejected["record"], "docs/77", "{rejected}");
    let counts = scene.layer.counts();
    assert_eq!(counts.applied_below("docs"), (499, 1));
    let halvings = 10;
    assert!(
        counts.sent("docs/77") <= halvings,
        "{} times",
        counts.sent("docs/77")
    );
}

#[test]
fn a_right_that_is_taken_away_in_mid_run_is_a_clear_error_at_once() {
    let denied = Failure::of(Code::PermissionDenied);
    for (method, rules) in [
        (
            Method::RunQuery,
            [
                Answer::Forward.about("users").times(7),
                Answer::refuse(denied.clone()).always(),
            ],
        ),
        (
            Method::BatchWrite,
            [
                Answer::Forward.times(2),
                Answer::FailWrites(vec![(Which::Index(0), denied)]).always(),
            ],
        ),
    ] {
        let Some(scene) = Scene::new() else { return };
        let copy = scene.emulator.project("copy");
        let job = match method {
            Method::RunQuery => {
                scene.fill_users(DOCUMENTS);
                scene.users_into(&copy)
            }
            _ => {
                write_docs(&scene.stage, 500, PAD);
                let writing = json!({ "writes_max": 50, "in_flight_max": 1 });
                scene.docs_in().set("/sink/config/writing", writing)
            }
        };
        scene.layer.script(method, rules);
        let report = scene.run(&job, 3);
        assert_eq!(report["outcome"], "failed");
        assert_eq!(
            report["errors"][0]["code"],
            "firestore.permission_denied",
            "{}",
            told(&report)
        );
        assert_eq!(scene.layer.counts().failures["PERMISSION_DENIED"], 1);
    }
}

#[test]
fn a_run_that_waits_for_the_service_ends_when_it_is_told_to() {
    let hour = Duration::from_secs(3_600);
    let slower = Failure::of(Code::ResourceExhausted).retry_after(hour);
    for (method, answer) in [
        (Method::RunQuery, Answer::refuse(slower.clone())),
        (Method::RunQuery, Answer::Refuse(End::Silence)),
        (Method::BatchWrite, Answer::refuse(slower)),
    ] {
        let Some(scene) = Scene::new() else { return };
        let copy = scene.emulator.project("copy");
        let (job, side) = match method {
            Method::RunQuery => {
                scene.fill_users(3);
                (scene.users_into(&copy), "source")
            }
            _ => {
                write_docs(&scene.stage, 3, PAD);
                (scene.docs_in(), "sink")
            }
        };
        job.set(&format!("/{side}/config/request_timeout_ms"), json!(3_600_000))
            .write(&scene.stage);
        scene.layer.script(method, [answer.always()]);
        let running = Running::start(&scene.stage, &[]);
        scene
            .layer
            .wait_until("it is asked", |counts| counts.calls(method) > 0);
        running.signal(Signal::INT);
        let end = ended(running.finish(), 130);
        assert_eq!(end.report()["outcome"], "cancelled", "{}", told(end.report()));
    }
}

#[test]
fn r1_a_source_that_falls_silent_is_asked_again_at_the_cursor() {
    let Some(scene) = Scene::new() else { return };
    scene.fill_users(DOCUMENTS);
    let silences = 6;
    scene.layer.script(
        Method::RunQuery,
        [
            Answer::Refuse(End::Silence).into(),
            Answer::CutAfter(90, End::Silence).about("users").times(3),
            Answer::Refuse(End::SilentConnection).about("users"),
            Answer::CutAfter(90, End::SilentConnection).about("users"),
        ],
    );
    let copy = scene.emulator.project("copy");
    let job = scene
        .users_into(&copy)
        .set("/source/config/request_timeout_ms", json!(500));
    let report = scene.run(&job, 0);
    scene.assert_users(&report, &copy);
    scene.assert_played();
    let reads = scene.layer.counts().reads();
    // What was on its way on the connection that fell silent may be lost.
    let units = planned(&report);
    assert!(
        (units..units + 90 + 2 * silences).contains(&reads),
        "{reads} for {units}"
    );
}

#[test]
fn r1_parts_that_are_read_side_by_side_are_whole_whatever_happens_to_one_of_them() {
    let Some(scene) = Scene::new() else { return };
    let documents = 6_000;
    scene.fill_users(documents);
    scene.layer.script(
        Method::PartitionQuery,
        [
            Answer::refuse(Code::Unavailable).into(),
            Answer::Lose(End::Reset).into(),
            Answer::Divide.always(),
        ],
    );
    scene.layer.script(
        Method::RunQuery,
        [
            Rule::from(Answer::Forward).about("users").times(5),
            Answer::CutAfter(150, End::Closed).about("users").times(3),
            Answer::CutAfter(150, End::SilentConnection).about("users"),
            Answer::CutAfter(150, End::Reset).about("users").times(3),
        ],
    );
    let copy = scene.emulator.project("copy");
    let job = scene
        .users_into(&copy)
        .set("/source/config/inference", json!({ "sample": 100 }))
        .set("/source/config/page_documents_max", json!(500))
        .set("/source/config/request_timeout_ms", json!(1_000));
    let report = scene.run(&job, 0);
    scene.assert_users(&report, &copy);
    let counts = scene.layer.counts();
    assert!(counts.calls(Method::PartitionQuery) >= 3, "{:?}", counts.calls);
    assert!(counts.in_flight_max > 1, "parts are read side by side");
}

#[test]
fn r1_a_source_that_stays_silent_is_given_up_with_a_clear_error() {
    let Some(scene) = Scene::new() else { return };
    scene.fill_users(DOCUMENTS);
    scene
        .layer
        .script(Method::RunQuery, [Answer::Refuse(End::Silence).always()]);
    let copy = scene.emulator.project("copy");
    let job = scene
        .users_into(&copy)
        .set("/source/config/request_timeout_ms", json!(100))
        .set("/source/config/retries_max", json!(2));
    let report = scene.run(&job, 3);
    assert_eq!(report["outcome"], "failed");
    assert_eq!(
        report["errors"][0]["code"],
        "firestore.timeout",
        "{}",
        told(&report)
    );
    assert_eq!(scene.layer.counts().calls(Method::RunQuery), 3);
}

#[test]
fn r1_a_sink_that_falls_silent_is_asked_again() {
    let Some(scene) = Scene::new() else { return };
    write_docs(&scene.stage, 2_000, PAD);
    scene.layer.script(
        Method::BatchWrite,
        [
            Answer::Refuse(End::Silence).into(),
            Answer::Forward.times(3),
            Answer::Lose(End::Silence).into(),
            Answer::Forward.into(),
            Answer::Lose(End::SilentConnection).into(),
        ],
    );
    let job = scene
        .docs_in()
        .set("/sink/config/request_timeout_ms", json!(500))
        .set("/sink/config/writing", json!({ "writes_max": 100 }));
    let report = scene.run(&job, 0);
    scene.assert_docs(&report, 2_000);
    scene.assert_played();
}

/// The collection of a report has as many records as `there` has documents, each of them as in `original`.
#[track_caller]
fn assert_said(report: &Value, there: &BTreeMap<String, Value>, original: &BTreeMap<String, Value>) {
    assert_eq!(report["collections"][0]["written_count"], there.len(), "{report}");
    assert!(
        there
            .iter()
            .all(|(path, fields)| original.get(path) == Some(fields))
    );
}

#[test]
fn a_source_that_stops_in_mid_read_and_comes_back_is_read_whole() {
    let Some(scene) = Scene::new() else { return };
    scene.fill_users(DOCUMENTS);
    let copy = scene.emulator.project("copy");
    for pages in [0, 2, 5] {
        scene.layer.script(
            Method::RunQuery,
            [
                Answer::Forward.about("users").times(pages),
                Answer::CutAfter(50, End::Stopped).about("users"),
            ],
        );
        scene
            .users_into(&copy)
            .set("/import/on_conflict", json!("overwrite"))
            .write(&scene.stage);
        let running = Running::start(&scene.stage, &[]);
        scene.layer.wait_until_stopped();
        scene.layer.restart();
        let end = ended(running.finish(), 0);
        scene.assert_users(end.report(), &copy);
        scene.assert_played();
    }
}

#[test]
fn a_source_that_stops_in_mid_read_for_good_is_a_clear_error_and_nothing_is_half_said() {
    let Some(scene) = Scene::new() else { return };
    scene.fill_users(DOCUMENTS);
    let original = scene.documents(&scene.project, "users");
    for pages in [1, 7] {
        let copy = scene.emulator.project("copy");
        scene.layer.script(
            Method::RunQuery,
            [
                Answer::Forward.about("users").times(pages),
                Answer::CutAfter(50, End::Stopped).about("users"),
            ],
        );
        let job = scene
            .users_into(&copy)
            .set("/source/config/retries_max", json!(1))
            .set("/import/on_conflict", json!("overwrite"));
        let report = scene.run(&job, 3);
        assert_eq!(
            report["errors"][0]["code"],
            "firestore.unavailable",
            "{}",
            told(&report)
        );
        assert_eq!(report["outcome"], "failed");
        let there = scene.documents(&copy, "users");
        assert!((there.len() as u64) < DOCUMENTS);
        if pages > 1 {
            assert_said(&report, &there, &original);
        }
        // The next run brings everything.
        scene.layer.restart();
        let report = scene.run(&job, 0);
        scene.assert_users(&report, &copy);
    }
}

#[test]
fn a_sink_that_stops_in_mid_write_and_comes_back_gets_each_record_once() {
    let Some(scene) = Scene::new() else { return };
    write_docs(&scene.stage, 2_000, PAD);
    for stop in [Answer::Refuse(End::Stopped), Answer::Lose(End::Stopped)] {
        scene.emulator.clear(&scene.project);
        scene
            .layer
            .script(Method::BatchWrite, [Answer::Forward.times(3), stop.into()]);
        scene
            .docs_in()
            .set("/sink/config/writing", json!({ "writes_max": 100 }))
            .write(&scene.stage);
        let running = Running::start(&scene.stage, &[]);
        scene.layer.wait_until_stopped();
        scene.layer.restart();
        let end = ended(running.finish(), 0);
        scene.assert_docs(end.report(), 2_000);
        scene.assert_played();
    }
}

#[test]
fn a_sink_that_stops_in_mid_write_for_good_is_a_clear_error_and_nothing_is_half_said() {
    let Some(scene) = Scene::new() else { return };
    write_docs(&scene.stage, 2_000, PAD);
    scene.layer.script(
        Method::BatchWrite,
        [Answer::Forward.times(3), Answer::Refuse(End::Stopped).into()],
    );
    let job = scene
        .docs_in()
        .set("/sink/config/retries_max", json!(1))
        .set(
            "/sink/config/writing",
            json!({ "writes_max": 100, "in_flight_max": 1 }),
        )
        .set("/import/batch_size", json!(100))
        .set("/import/max_retries", json!(1))
        .set("/import/on_conflict", json!("overwrite"));
    let report = scene.run(&job, 3);
    assert_eq!(
        report["errors"][0]["code"],
        "firestore.unavailable",
        "{}",
        told(&report)
    );
    assert_eq!(report["outcome"], "failed");
    let there = scene.documents(&scene.project, "docs");
    let said = report["collections"][0]["written_count"].as_u64().unwrap();
    assert_eq!(there.len(), 300, "three requests of a hundred were carried out");
    assert!(said <= 300, "no record is said to be written that is not: {said}");
    scene.layer.restart();
    let report = scene.run(&job, 0);
    scene.assert_docs(&report, 2_000);
}

#[test]
fn an_emulator_that_is_killed_in_mid_read_is_a_clear_error() {
    let Some(mut own) = Emulator::own() else { return };
    let Some(scene) = Scene::new() else { return };
    // Another project there: this scene's documents are in the shared emulator.
    let project = own.project("killed");
    for number in 0..50 {
        own.put(&project, &format!("users/{number}"), "{}");
    }
    let layer = Layer::before(own.host());
    layer.script(
        Method::RunQuery,
        [
            Rule::from(Answer::Forward).about("users"),
            Answer::Refuse(End::Silence).always().about("users"),
        ],
    );
    let mut source = scene.side();
    source["config"]["host"] = json!(layer.host());
    source["config"]["project"] = json!(project);
    source["config"]["page_documents_max"] = json!(20);
    source["config"]["retries_max"] = json!(2);
    source["config"]["request_timeout_ms"] = json!(20_000);
    let copy = scene.emulator.project("copy");
    Job::new(source, scene.direct(&copy))
        .set("/collections", json!([{ "source": "users" }]))
        .write(&scene.stage);
    let running = Running::start(&scene.stage, &[]);
    layer.wait_until("the second page is asked for", |counts| {
        counts.calls(Method::RunQuery) >= 2
    });
    own.kill();
    layer.forget_script();
    layer.close_connections();
    let end = ended(running.finish(), 3);
    assert_eq!(
        end.report()["errors"][0]["code"],
        "firestore.unavailable",
        "{}",
        told(end.report())
    );
    assert!(scene.documents(&copy, "users").is_empty());
}
