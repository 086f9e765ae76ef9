//! R1: a service that says nothing more, within an answer or at all. It is asked again, and given up with a clear error.
//! Neighbours: `stopping` for a service that is not there any more.

use gcloud_sdk::tonic::Code;
use serde_json::json;

use super::{DOCUMENTS, PAD, Scene, WAYS, Way, planned};
use crate::grpc_layer::{Answer, End, Method, Rule};
use crate::postgres_job::{told, write_docs};

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
        .set("/source/config/request_timeout_ms", json!(1_000));
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
        .set("/source/config/request_timeout_ms", json!(1_000))
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
    for way in WAYS {
        let Some(scene) = Scene::new() else { return };
        write_docs(&scene.stage, 2_000, PAD);
        scene.script_docs(
            way,
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
            .set("/sink/config/writing", way.writing(json!({ "writes_max": 100 })));
        let report = scene.run(&job, 0);
        scene.assert_docs(&report, 2_000);
        scene.assert_played();
        if way == Way::Once {
            assert_eq!(scene.layer.counts().applied_below("docs"), (2_000, 1));
        }
    }
}
