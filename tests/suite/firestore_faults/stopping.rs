//! A service that stops in mid-run, for a while or for good, a right that is taken away, and a run that is told to end.
//! Neighbours: `silence` for a service that stays and says nothing; `kills` for runs that are killed.

use std::collections::BTreeMap;
use std::time::Duration;

use gcloud_sdk::tonic::Code;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{DOCUMENTS, PAD, Scene, WAYS, Way};
use crate::firestore::Emulator;
use crate::grpc_layer::{Answer, End, Failure, Layer, Method, Rule, Which};
use crate::postgres_job::{Job, ended, told, write_docs};
use crate::running::{Running, side_by_side};

#[test]
fn a_right_that_is_taken_away_in_mid_run_is_a_clear_error_at_once() {
    let denied = Failure::of(Code::PermissionDenied);
    for way in [None, Some(Way::Once), Some(Way::Idempotent)] {
        let Some(scene) = Scene::new() else { return };
        let copy = scene.emulator.project("copy");
        let refused = Answer::refuse(denied.clone()).always();
        let job = match way {
            None => {
                scene.fill_users(DOCUMENTS);
                let rules = [Answer::Forward.about("users").times(7), refused];
                scene.layer.script(Method::RunQuery, rules);
                scene.users_into(&copy)
            }
            Some(way) => {
                write_docs(&scene.stage, 500, PAD);
                let refused = match way {
                    Way::Once => refused,
                    Way::Idempotent => Answer::FailWrites(vec![(Which::Index(0), denied.clone())]).always(),
                };
                scene.script_docs(way, [Answer::Forward.times(2), refused]);
                let writing = way.writing(json!({ "writes_max": 50, "in_flight_max": 1 }));
                scene.docs_in().set("/sink/config/writing", writing)
            }
        };
        let report = scene.run(&job, 3);
        assert_eq!(report["outcome"], "failed");
        assert_eq!(
            report["errors"][0]["code"],
            "firestore.permission_denied",
            "{way:?}: {}",
            told(&report)
        );
        assert_eq!(scene.layer.counts().failures["PERMISSION_DENIED"], 1, "{way:?}");
    }
}

#[test]
fn a_run_that_waits_for_the_service_ends_when_it_is_told_to() {
    let hour = Duration::from_secs(3_600);
    let slower = Failure::of(Code::ResourceExhausted).retry_after(hour);
    let cases = [
        (None, Answer::refuse(slower.clone())),
        (None, Answer::Refuse(End::Silence)),
        (Some(Way::Once), Answer::refuse(slower.clone())),
        (Some(Way::Once), Answer::Refuse(End::Silence)),
        (Some(Way::Idempotent), Answer::refuse(slower)),
    ];
    side_by_side(cases, |(way, answer)| {
        let Some(scene) = Scene::new() else { return };
        let copy = scene.emulator.project("copy");
        let (job, side) = match way {
            None => {
                scene.fill_users(3);
                scene.layer.script(Method::RunQuery, [answer.always()]);
                (scene.users_into(&copy), "source")
            }
            Some(way) => {
                write_docs(&scene.stage, 3, PAD);
                scene.script_docs(way, [answer.always()]);
                let writing = way.writing(json!({}));
                (scene.docs_in().set("/sink/config/writing", writing), "sink")
            }
        };
        job.set(&format!("/{side}/config/request_timeout_ms"), json!(3_600_000))
            .write(&scene.stage);
        let running = Running::start(&scene.stage, &[]);
        scene.layer.wait_until("it is asked", |counts| match way {
            None => counts.calls(Method::RunQuery) > 0,
            Some(_) => counts.sent_below("docs").0 > 0,
        });
        running.signal(Signal::INT);
        let end = ended(running.finish(), 130);
        assert_eq!(end.report()["outcome"], "cancelled", "{}", told(end.report()));
    });
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
    let stops = [Answer::Refuse(End::Stopped), Answer::Lose(End::Stopped)];
    for (way, stop) in WAYS
        .into_iter()
        .flat_map(|way| stops.clone().map(|stop| (way, stop)))
    {
        scene.emulator.clear(&scene.project);
        scene.layer.reset_counts();
        scene.script_docs(way, [Answer::Forward.times(3), stop.into()]);
        scene
            .docs_in()
            .set("/sink/config/writing", way.writing(json!({ "writes_max": 100 })))
            .write(&scene.stage);
        let running = Running::start(&scene.stage, &[]);
        scene.layer.wait_until_stopped();
        scene.layer.restart();
        let end = ended(running.finish(), 0);
        scene.assert_docs(end.report(), 2_000);
        scene.assert_played();
        if way == Way::Once {
            assert_eq!(scene.layer.counts().applied_below("docs"), (2_000, 1));
        }
    }
}

#[test]
fn a_sink_that_stops_in_mid_write_for_good_is_a_clear_error_and_nothing_is_half_said() {
    for way in WAYS {
        let Some(scene) = Scene::new() else { return };
        write_docs(&scene.stage, 2_000, PAD);
        scene.script_docs(
            way,
            [Answer::Forward.times(3), Answer::Refuse(End::Stopped).into()],
        );
        // The host gives 400 records to a commit, which then is one request.
        let (writes_max, requested) = match way {
            Way::Once => (500, 400),
            Way::Idempotent => (100, 100),
        };
        let writing = way.writing(json!({ "writes_max": writes_max, "in_flight_max": 1 }));
        let job = scene
            .docs_in()
            .set("/sink/config/retries_max", json!(1))
            .set("/sink/config/writing", writing)
            .set("/import/batch_size", json!(100))
            .set("/import/max_retries", json!(1))
            .set("/import/on_conflict", json!("overwrite"));
        let report = scene.run(&job, 3);
        let error = &report["errors"][0];
        match way {
            // Nobody is there who could tell what became of the last commit, which is said with the reason.
            Way::Once => {
                assert_eq!(error["code"], "run.commit_unknown", "{}", told(&report));
                let causes = error["causes"].to_string();
                assert!(causes.contains("cannot be reached"), "{error}");
            }
            Way::Idempotent => assert_eq!(error["code"], "firestore.unavailable", "{}", told(&report)),
        }
        assert_eq!(report["outcome"], "failed");
        let there = scene.documents(&scene.project, "docs");
        let said = report["collections"][0]["written_count"].as_u64().unwrap();
        let carried_out = 3 * requested;
        assert_eq!(there.len() as u64, carried_out, "three requests: {way:?}");
        match way {
            Way::Once => assert_eq!(said, carried_out, "records are written with their checkpoint"),
            Way::Idempotent => assert!(said <= carried_out, "said to be written and is not: {said}"),
        }
        scene.layer.restart();
        let report = scene.run(&job, 0);
        scene.assert_docs(&report, 2_000);
    }
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
