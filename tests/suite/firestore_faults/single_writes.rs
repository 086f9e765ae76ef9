//! F3: requests of which some writes fail. What may pass is sent again, what will fail again is rejected, the others are kept.
//! Neighbours: `unknown_outcomes` for requests that fail as a whole; `firestore_refusals` for what is refused before it is sent.

use gcloud_sdk::tonic::Code;
use serde_json::json;

use super::{PAD, Scene, WAYS, Way, documents};
use crate::grpc_layer::{Answer, Failure, Method, Which};
use crate::postgres_job::{told, write_docs};

/// Requests in which one of 500 records goes at most while those at fault are sought: a request is halved where it is refused and doubled
/// where it is taken, which is two for each of the nine halvings of 500.
const SOUGHT_MAX: u64 = 18;

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
    let writing = Way::Idempotent.writing(json!({}));
    let report = scene.run(&scene.docs_in().set("/sink/config/writing", writing), 0);
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
    let failing = [3, 77, 400];
    for way in WAYS {
        let Some(scene) = Scene::new() else { return };
        write_docs(&scene.stage, 500, PAD);
        let failure = Answer::fail_writes(Code::InvalidArgument, documents(failing));
        scene.layer.script(Method::BatchWrite, [failure.always()]);
        // A commit with any of them is refused, and its records go in smaller ones.
        let refused = |id| {
            Answer::refuse(Code::InvalidArgument)
                .about(&format!("docs/{id}"))
                .always()
        };
        scene.layer.script(Method::Commit, failing.map(refused));
        let job = scene.docs_in().set("/import/max_errors", json!(10));
        let report = scene.run(&job.set("/sink/config/writing", way.writing(json!({}))), 0);
        assert_eq!(report["rejected_count"], 3, "{}", told(&report));
        assert_eq!(report["collections"][0]["written_count"], 497);
        for rejected in report["rejected"].as_array().unwrap() {
            assert_eq!(rejected[1]["code"], "firestore.refused", "{rejected}");
        }
        let counts = scene.layer.counts();
        assert_eq!(counts.applied_below("docs"), (497, 1), "{way:?}");
        let (sent, times) = counts.sent_below("docs");
        let times_max = match way {
            Way::Once => SOUGHT_MAX,
            Way::Idempotent => 1,
        };
        assert_eq!(sent, 500);
        assert!(times <= times_max, "{times} times in vain: {way:?}");
        let there = scene.documents(&scene.project, "docs");
        assert_eq!(there.len(), 497);
        let is_gone = |id: &u64| !there.contains_key(&format!("docs/{id}"));
        assert!(failing.iter().all(is_gone));
    }
}

#[test]
fn f3_of_writes_that_fail_together_the_one_at_fault_is_found_and_the_others_are_made_once() {
    for way in WAYS {
        let Some(scene) = Scene::new() else { return };
        write_docs(&scene.stage, 500, PAD);
        scene.layer.script(
            Method::Commit,
            [Answer::refuse(Code::InvalidArgument).about("docs/77").always()],
        );
        let job = scene
            .docs_in()
            .set(
                "/sink/config/writing",
                way.writing(json!({ "request": "commit" })),
            )
            .set("/import/max_errors", json!(1));
        let report = scene.run(&job, 0);
        assert_eq!(report["rejected_count"], 1, "{}", report["rejected"]);
        let rejected = &report["rejected"][0][1];
        assert_eq!(rejected["code"], "firestore.refused", "{rejected}");
        assert_eq!(rejected["record"], "docs/77", "{rejected}");
        let counts = scene.layer.counts();
        assert_eq!(counts.applied_below("docs"), (499, 1), "{way:?}");
        // With the request that is refused as a whole: the halves of 500 records.
        let times_max = if way == Way::Once { SOUGHT_MAX } else { 10 };
        assert!(
            counts.sent("docs/77") <= times_max,
            "{} times: {way:?}",
            counts.sent("docs/77")
        );
    }
}
