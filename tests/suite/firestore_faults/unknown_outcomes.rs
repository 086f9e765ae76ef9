//! F2: requests that fail, or whose outcome nobody knows, and streams that are cut. Each record is there once all the same.
//! Neighbours: `single_writes` for requests that are carried out in part, `silence` for those that never end.

use gcloud_sdk::tonic::Code;
use serde_json::json;

use super::{DOCUMENTS, PAD, Scene, Way, planned};
use crate::grpc_layer::{Answer, End, Method, Rule};
use crate::postgres_job::write_docs;

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
    for (way, request, policy) in [
        (Way::Idempotent, "batch_write", "overwrite"),
        (Way::Idempotent, "batch_write", "skip"),
        (Way::Idempotent, "batch_write", "fail"),
        (Way::Idempotent, "commit", "merge"),
        (Way::Idempotent, "commit", "fail"),
        (Way::Once, "batch_write", "overwrite"),
        (Way::Once, "batch_write", "merge"),
        (Way::Once, "batch_write", "skip"),
        (Way::Once, "batch_write", "fail"),
    ] {
        let Some(scene) = Scene::new() else { return };
        let method = match request {
            "commit" => Method::Commit,
            _ => way.method(),
        };
        write_docs(&scene.stage, 1_500, PAD);
        let rules = passing().into_iter().map(|rule| rule.about("docs"));
        scene.layer.script(method, rules);
        let writing = way.writing(json!({ "request": request, "writes_max": 50 }));
        let job = scene.docs_in().set("/import/on_conflict", json!(policy));
        let report = scene.run(&job.set("/sink/config/writing", writing), 0);
        scene.assert_docs(&report, 1_500);
        scene.assert_played();
        // Guarded requests are carried out once, also those that would do no harm again.
        if way == Way::Once || policy == "skip" || policy == "fail" {
            assert_eq!(
                scene.layer.counts().applied_below("docs"),
                (1_500, 1),
                "{way:?} {request} {policy}"
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
