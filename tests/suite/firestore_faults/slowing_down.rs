//! F1: a service that asks to slow down. Nothing comes before the time that it gives, and nothing is lost or written twice.
//! Neighbours: `unknown_outcomes` for requests of which nobody knows; the scene is in the parent.

use std::time::Duration;

use gcloud_sdk::tonic::Code;
use serde_json::json;

use super::{DOCUMENTS, PAD, Scene, WAYS, Way};
use crate::grpc_layer::{Answer, Failure, Method, Rule, Which};
use crate::postgres_job::{Job, write_docs};

#[test]
fn f1_a_sink_that_asks_to_slow_down_gets_each_record_once_and_nothing_too_early() {
    for way in WAYS {
        let Some(scene) = Scene::new() else { return };
        let slower = Failure::of(Code::ResourceExhausted).retry_after(Duration::from_millis(900));
        write_docs(&scene.stage, 2_000, PAD);
        let some = match way {
            Way::Once => Answer::refuse(slower.clone()),
            Way::Idempotent => Answer::FailWrites(vec![(Which::Index(7), slower.clone())]),
        };
        scene.script_docs(
            way,
            [
                Answer::Forward.times(2),
                Answer::refuse(slower).times(2),
                Answer::Forward.into(),
                some.into(),
                Answer::refuse(Code::ResourceExhausted).times(2),
            ],
        );
        let writing = way.writing(json!({ "writes_max": 200, "in_flight_max": 1 }));
        let report = scene.run(&scene.docs_in().set("/sink/config/writing", writing), 0);
        scene.assert_docs(&report, 2_000);
        scene.assert_played();
        let counts = scene.layer.counts();
        assert_eq!(counts.failures["RESOURCE_EXHAUSTED"], 5, "{way:?}");
        assert_eq!(
            counts.early, 0,
            "nothing comes before the time that the service gave: {way:?}"
        );
        assert_eq!(counts.applied_below("docs"), (2_000, 1), "{way:?}");
        assert_eq!(counts.in_flight_max, 1, "{way:?}");
    }
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

/// What a job says so that a call may last two seconds, and nothing is tried again.
fn impatient(job: Job) -> Job {
    job.set("/import/transaction_timeout_ms", json!(2_000))
        .set("/import/max_retries", json!(0))
}

#[test]
fn f1_a_rate_at_which_a_call_takes_longer_than_it_may_makes_a_run_slow_and_no_more() {
    std::thread::scope(|threads| {
        for way in WAYS {
            threads.spawn(move || {
                let Some(scene) = Scene::new() else { return };
                write_docs(&scene.stage, 150, PAD);
                let job = impatient(scene.docs_in())
                    .set(
                        "/sink/config/writing",
                        way.writing(json!({ "writes_max": 51, "in_flight_max": 1 })),
                    )
                    // Two further requests of fifty records, at twenty in a second.
                    .set(
                        "/sink/config/quota",
                        json!({ "writes_per_second": 40, "safety_factor": 0.5 }),
                    );
                let report = scene.run(&job, 0);
                scene.assert_docs(&report, 150);
                let counts = scene.layer.counts();
                assert_eq!(counts.applied_below("docs"), (150, 1), "{way:?}");
                assert_eq!(counts.sent_below("docs"), (150, 1), "{way:?}");
            });
        }
    });
}

#[test]
fn f1_a_service_that_asks_for_more_time_than_a_call_may_last_gets_it() {
    std::thread::scope(|threads| {
        for way in WAYS {
            threads.spawn(move || {
                let Some(scene) = Scene::new() else { return };
                write_docs(&scene.stage, 20, PAD);
                let slower = Failure::of(Code::ResourceExhausted).retry_after(Duration::from_secs(5));
                scene.script_docs(way, [Answer::refuse(slower)]);
                let job = impatient(scene.docs_in()).set("/sink/config/writing", way.writing(json!({})));
                let report = scene.run(&job, 0);
                scene.assert_docs(&report, 20);
                scene.assert_played();
                assert_eq!(scene.layer.counts().early, 0, "{way:?}");
            });
        }
    });
}
