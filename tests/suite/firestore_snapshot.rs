//! A copy of Firestore whose instant is over before all is read: the run ends and says what to do, what it says works when it is typed,
//! and nothing claims afterwards that the copy is of one moment. The layer says in the service's place that an instant is too old.
//! Neighbours: `firestore_faults` has the scene, `resume_command` goes on with copies of other systems.

use std::path::PathBuf;

use gcloud_sdk::tonic::Code;
use serde_json::{Value, json};

use crate::firestore_faults::Scene;
use crate::grpc_layer::{Answer, Failure, Method, Rule};
use crate::postgres_job::{Job, report_of};
use crate::program::Stage;

/// Documents; one query brings them all.
const DOCUMENTS: u64 = 400;
/// Documents of a transaction, of which some are made before the run is killed.
const BATCH: u64 = 50;
/// What the service says of an instant that it no longer has.
const TOO_OLD: &str = "The requested 'read_time' is too old.";

/// For the calls of a run about `users`: the look at the collection is answered, and then the copy is told that its instant is over.
fn over_after_the_look() -> [Rule; 2] {
    let too_old = Failure::of(Code::FailedPrecondition).saying(TOO_OLD);
    [
        Answer::Forward.about("users"),
        Answer::refuse(too_old).about("users"),
    ]
}

/// A job that copies `users` in small transactions.
fn job(scene: &Scene, copy: &str) -> Job {
    scene
        .users_into(copy)
        .set("/source/config/page_documents_max", json!(1_000))
        .set("/import/batch_size", json!(BATCH))
        .set("/import/checkpoint_interval", json!(BATCH))
        .set("/import/checkpoint_interval_ms", json!(0))
        .set("/limits/batch_records", json!(BATCH))
        .set("/limits/partitions_parallel", json!(1))
        .set("/verification", json!("comprehensive"))
}

/// Begins the copy and kills it after a few transactions.
fn begin(scene: &Scene, job: &Job) {
    scene.fill_users(DOCUMENTS);
    job.write(&scene.stage);
    let killed = scene.stage.run_with(
        &["run", "job.yaml", "--json"],
        &[("WHIMBREL_CRASH_AT", "committed:4"), ("WHIMBREL_CRASH_ALL", "1")],
    );
    assert_ne!(killed.code, 0, "it was killed: {}", killed.err);
}

/// Gives user `number` another text, past the layer.
fn change(scene: &Scene, number: u64) {
    let fields = json!({ "n": { "integerValue": number.to_string() }, "text": { "stringValue": "changed" } });
    let path = format!("users/{number:05}");
    scene.emulator.put(&scene.project, &path, &fields.to_string());
}

/// The files called `name` in the folders of the runs, the newest first.
fn files(stage: &Stage, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(stage.path(".whimbrel/runs")).unwrap();
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path().join(name))
        .filter(|path| path.exists())
        .collect();
    files.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    files.reverse();
    files
}

/// `resume`, which is told that the instant is over.
#[track_caller]
fn resume(scene: &Scene, exit: i32) -> Value {
    scene.layer.script(Method::RunQuery, over_after_the_look());
    let report = report_of(scene.stage.run(&["resume", "--json"]), exit);
    scene.assert_played();
    report
}

/// The finding that the copy is of several snapshots, and these of `users`.
#[track_caller]
fn snapshots_of(report: &Value) -> Vec<Value> {
    let findings = report["findings"].as_array().unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding["code"] == "run.several_snapshots"),
        "{findings:?}"
    );
    report["collections"][0]["snapshots"].as_array().unwrap().clone()
}

#[test]
fn a_copy_whose_instant_is_over_is_gone_on_with_as_its_error_says_and_nothing_calls_it_one_moment() {
    let Some(scene) = Scene::new() else { return };
    let copy = scene.emulator.project("copy");
    let job = job(&scene, &copy);
    begin(&scene, &job);
    // Not copied yet, as its name comes last.
    change(&scene, DOCUMENTS - 1);

    let refused = resume(&scene, 1);
    let error = &refused["errors"][0];
    assert_eq!(error["code"], "firestore.snapshot_expired", "{refused}");
    let help = error["help"].as_str().unwrap();
    for typed in ["on_snapshot_expiry: continue", "whimbrel resume"] {
        assert!(help.contains(typed), "{help}");
    }
    // What decides which records there are still counts.
    let other = job.clone().set("/source/config/path_field", json!(true));
    other.write(&scene.stage);
    let changed = report_of(scene.stage.run(&["resume", "--json"]), 2);
    assert_eq!(changed["errors"][0]["code"], "resume.changed", "{changed}");

    let helped = job
        .set("/source/config/on_snapshot_expiry", json!("continue"))
        .set("/source/config/retries_max", json!(3));
    helped.write(&scene.stage);
    let report = resume(&scene, 0);
    assert_eq!(report["outcome"], "done", "{report}");
    assert_eq!(report["collections"][0]["written_count"], DOCUMENTS);
    assert!(scene.documents(&scene.project, "users") == scene.documents(&copy, "users"));
    let snapshots = snapshots_of(&report);
    assert_eq!(snapshots.len(), 2, "{snapshots:?}");
    assert!(snapshots[0].as_str() < snapshots[1].as_str(), "{snapshots:?}");

    let certificate = files(&scene.stage, "migration-certificate.json").remove(0);
    let file: Value = serde_json::from_slice(&std::fs::read(&certificate).unwrap()).unwrap();
    let body = &file["certificate"];
    assert_eq!((&body["format"], &body["verdict"]), (&json!(3), &json!("equal")));
    assert_eq!(
        body["collections"][0]["snapshots"],
        json!({ "copied": snapshots, "compared": [] })
    );
    let shown = scene
        .stage
        .run(&["certificate", "show", &certificate.display().to_string()])
        .expect(0);
    assert!(
        shown
            .out
            .contains("copied from what was read at 2 snapshots of the source"),
        "{}",
        shown.out
    );
    let summary = files(&scene.stage, "migration-executive-summary.md").remove(0);
    let summary = std::fs::read_to_string(summary).unwrap();
    assert!(summary.contains("## Read at several snapshots"), "{summary}");
}

#[test]
fn what_was_changed_between_two_instants_of_a_copy_is_found_to_differ() {
    let Some(scene) = Scene::new() else { return };
    let copy = scene.emulator.project("copy");
    let job = job(&scene, &copy).set("/source/config/on_snapshot_expiry", json!("continue"));
    begin(&scene, &job);
    // Copied already, as its name comes first.
    change(&scene, 0);
    let report = resume(&scene, 4);
    assert_eq!(report["outcome"], "differences", "{report}");
    assert_eq!(snapshots_of(&report).len(), 2);
    let result = &report["verification"][0];
    assert_eq!(result["mismatch_count"], 1, "{result}");
    assert_eq!(result["mismatches"][0]["record"], "__id__=00000", "{result}");
    let shown = scene.stage.run(&["verify", "job.yaml"]);
    assert_eq!(shown.code, 4, "{}", shown.out);
}

#[test]
fn a_single_run_that_loses_its_instant_certifies_what_it_has_read_as_of_several() {
    let Some(scene) = Scene::new() else { return };
    scene.fill_users(DOCUMENTS);
    let copy = scene.emulator.project("copy");
    // Several pages, of which the third one is told that the instant is over.
    let job = job(&scene, &copy)
        .set("/source/config/on_snapshot_expiry", json!("continue"))
        .set("/source/config/inference", json!({ "sample": 10 }))
        .set("/source/config/page_documents_max", json!(100));
    let [look, too_old] = over_after_the_look();
    scene.layer.script(
        Method::RunQuery,
        [look, Answer::Forward.about("users").times(2), too_old],
    );
    let report = scene.run(&job, 0);
    scene.assert_played();
    let snapshots = snapshots_of(&report);
    assert_eq!(snapshots.len(), 2, "{snapshots:?}");
    let certificate = files(&scene.stage, "migration-certificate.json").remove(0);
    let file: Value = serde_json::from_slice(&std::fs::read(&certificate).unwrap()).unwrap();
    // The digests of the source are those that the copy has made.
    assert_eq!(
        file["certificate"]["collections"][0]["snapshots"],
        json!({ "copied": snapshots, "compared": snapshots })
    );
    let page = files(&scene.stage, "final-migration-report.json").remove(0);
    let page: Value = serde_json::from_slice(&std::fs::read(page).unwrap()).unwrap();
    let verdict = page["verdict"].as_str().unwrap();
    assert!(
        verdict.contains("several snapshots, not as of one moment"),
        "{verdict}"
    );
}

#[test]
fn a_part_that_was_begun_keeps_its_instant_and_a_copy_of_one_instant_has_nothing_to_say() {
    let Some(scene) = Scene::new() else { return };
    let copy = scene.emulator.project("copy");
    let job = job(&scene, &copy);
    begin(&scene, &job);
    change(&scene, DOCUMENTS - 1);
    // The instant can still be read, so the change does not show, and the comparison with the present tells of it.
    let report = report_of(scene.stage.run(&["resume", "--json"]), 4);
    assert_eq!(report["collections"][0]["snapshots"], Value::Null);
    assert_eq!(report["verification"][0]["mismatch_count"], 1, "{report}");
    let copied = scene.documents(&copy, "users");
    let last = &copied[&format!("users/{:05}", DOCUMENTS - 1)];
    assert_ne!(last["text"]["stringValue"], "changed");
}
