//! Staged runs: an import that fails and is repeated does not read the source again, nothing half read is taken for whole, and a
//! copy is gone on with from the records that it began with or not at all. What was read is counted by the source itself.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::program::{Answer, Stage};
use crate::running::{Running, is_alive, wait_until};
use crate::scripted_job::{SINK_CALLS, SOURCE_CALLS, ScriptedJob, calls, committed, lines, misbehave};

/// Two collections of 300 records each, staged on disk.
fn staged() -> ScriptedJob {
    ScriptedJob::new()
        .set("/staging", json!("disk"))
        .set("/limits/batch_records", json!(50))
        .source("collections", json!(["a", "b"]))
        .source("records", json!(300))
}

/// The same with a sink that fails once it has taken some of it.
fn failing() -> ScriptedJob {
    staged().sink("misbehave", misbehave("write", 4, 0, "error"))
}

fn run(stage: &Stage, arguments: &[&str]) -> Answer {
    stage.run(&[&["run", "job.yaml", "--json"], arguments].concat())
}

/// Streams of the source that were opened: two collections in two parts are four.
fn reads(stage: &Stage) -> usize {
    calls(stage, SOURCE_CALLS, "read").len()
}

/// Whether what was extracted is there and complete.
fn is_staged(stage: &Stage) -> bool {
    stage
        .path(".whimbrel/staging/scripted/extracted/stage.json")
        .exists()
}

/// How the phases ended, in their order; those that were not reached are left out.
fn outcomes(report: &Value) -> Vec<&str> {
    let phases = report["phases"].as_array().unwrap();
    let names = [
        "pre_validation",
        "extraction",
        "transformation",
        "import",
        "verification",
        "post_migration",
    ];
    for (phase, name) in phases.iter().zip(names) {
        assert_eq!(phase["phase"], name, "{phases:?}");
    }
    phases
        .iter()
        .map(|phase| phase["outcome"].as_str().unwrap())
        .collect()
}

#[track_caller]
fn assert_arrived(stage: &Stage, each: usize) {
    let counts: Vec<_> = committed(stage).into_iter().collect();
    assert_eq!(counts, [("a".to_owned(), each), ("b".to_owned(), each)]);
}

#[test]
fn the_phases_of_a_staged_run_follow_each_other_and_its_files_go_with_its_success() {
    let stage = staged().stage();
    let end = Running::start(&stage, &[]).finish().expect(0);
    assert_arrived(&stage, 300);
    let told: Vec<String> = end
        .events
        .iter()
        .filter(|event| event["event"] == "phase_started" || event["event"] == "phase_ended")
        .map(|event| {
            format!(
                "{} {}",
                event["phase"].as_str().unwrap(),
                event["event"].as_str().unwrap()
            )
        })
        .collect();
    let wanted = [
        "pre_validation phase_started",
        "pre_validation phase_ended",
        "extraction phase_started",
        "extraction phase_ended",
        "transformation phase_ended",
        "import phase_started",
        "import phase_ended",
        "verification phase_started",
        "verification phase_ended",
        "post_migration phase_started",
        "post_migration phase_ended",
    ];
    assert_eq!(told, wanted);
    // The sink is compared with what was read, so the source is not asked again.
    assert_eq!(reads(&stage), 4);
    assert!(!stage.path(".whimbrel/staging/scripted").exists());
}

#[test]
fn an_import_that_failed_is_repeated_without_the_source() {
    let stage = failing().stage();
    let report = run(&stage, &[]).expect(1).json();
    assert_eq!(outcomes(&report), ["done", "done", "skipped", "failed"]);
    assert!(is_staged(&stage));
    assert_eq!(reads(&stage), 4);
    let asked = lines(&stage.path(SOURCE_CALLS));

    std::fs::remove_file(stage.path("committed.ndjson")).unwrap_or_default();
    staged().write(&stage);
    let report = run(&stage, &[]).expect(0).json();
    assert_eq!(
        outcomes(&report),
        ["done", "skipped", "skipped", "done", "done", "done"]
    );
    assert_eq!(report["staged"]["reused"], true);
    assert_eq!(report["staged"]["record_count"], 600);
    assert_arrived(&stage, 300);
    // The source was not even opened, which may cost money by itself.
    assert_eq!(lines(&stage.path(SOURCE_CALLS)), asked);
    assert!(!is_staged(&stage));
}

#[test]
fn a_job_that_wants_something_else_or_a_person_who_asks_for_it_has_the_source_read_again() {
    let only_a = |job: ScriptedJob| job.set("/include", json!(["a"]));
    let fewer = |job: ScriptedJob| job.source("records", json!(200));
    let sample = |job: ScriptedJob| job.set("/mode", json!("test")).set("/sample_records", json!(10));
    let same = |job: ScriptedJob| job;
    type Change = fn(ScriptedJob) -> ScriptedJob;
    type Case<'a> = (Change, &'a [&'a str], usize, &'a [(&'a str, usize)]);
    let cases: [Case<'_>; 4] = [
        (only_a, &[], 2, &[("a", 300)]),
        (fewer, &[], 4, &[("a", 200), ("b", 200)]),
        // A sample is taken of each collection as a whole.
        (sample, &[], 2, &[("a", 10), ("b", 10)]),
        (same, &["--read-anew"], 4, &[("a", 300), ("b", 300)]),
    ];
    let stage = failing().stage();
    run(&stage, &[]).expect(1);
    let failed = stage.path(".whimbrel/staging/scripted");
    for (change, arguments, read, arrived) in cases {
        assert!(failed.join("extracted/stage.json").exists());
        std::fs::remove_file(stage.path(SOURCE_CALLS)).unwrap();
        std::fs::remove_file(stage.path("committed.ndjson")).unwrap_or_default();
        change(staged()).write(&stage);
        let report = run(&stage, arguments).expect(0).json();
        assert_eq!(report["staged"]["reused"], false, "{arguments:?}");
        assert_eq!(reads(&stage), read);
        let arrived: Vec<_> = arrived
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        assert_eq!(committed(&stage).into_iter().collect::<Vec<_>>(), arrived);
        failing().write(&stage);
        run(&stage, &[]).expect(1);
    }
}

#[test]
fn transforms_are_made_anew_from_what_was_read() {
    let reshape = |below: u64| {
        let steps = json!([
            { "filter": { "where": { "field": "id", "op": "less", "value": below } } },
            { "cast": { "field": "name", "to": "int64" } },
            { "rename": { "score": "points" } },
        ]);
        json!([{ "plugin": "reshape", "config": { "steps": steps } }])
    };
    let stage = failing().set("/transforms", reshape(250)).stage();
    let report = run(&stage, &[]).expect(1).json();
    assert_eq!(outcomes(&report), ["done", "done", "done", "failed"]);
    std::fs::remove_file(stage.path("committed.ndjson")).unwrap_or_default();
    // Another transform: the records are those that were read, and what is written is as it says.
    staged().set("/transforms", reshape(100)).write(&stage);
    let report = run(&stage, &[]).expect(0).json();
    assert_eq!(
        outcomes(&report),
        ["done", "skipped", "done", "done", "done", "done"]
    );
    assert_eq!(reads(&stage), 4);
    assert_arrived(&stage, 100);
    let collection = &report["collections"][0];
    assert_eq!(
        (
            &collection["read_count"],
            &collection["transformed_count"],
            &collection["filtered_count"]
        ),
        (&json!(300), &json!(100), &json!(200))
    );
    let records = lines(&stage.path("committed.ndjson"));
    let seventh = records.iter().find(|line| line["record"]["id"] == 7).unwrap();
    assert_eq!(seventh["record"], json!({ "id": 7, "name": 7, "points": 0.875 }));
}

#[test]
fn k1_what_a_killed_extraction_has_left_is_not_taken_for_whole() {
    let stage = staged()
        .source("misbehave", misbehave("next", 9, 0, "hang"))
        .stage();
    let mut running = Running::start(&stage, &[]);
    // Each of the first streams has given its schema and some batches, and waits.
    running.until(|_| calls(&stage, SOURCE_CALLS, "next").len() >= 9);
    let worker = running.worker();
    running.kill();
    wait_until("the worker ends with its supervisor", || !is_alive(worker));
    assert!(
        stage.path(".whimbrel/staging/scripted/extracted").exists(),
        "it had begun"
    );
    assert!(!is_staged(&stage));

    std::fs::remove_file(stage.path(SOURCE_CALLS)).unwrap();
    staged().write(&stage);
    let nothing = run(&stage, &["--skip-phases", "extraction"]).expect(2);
    assert_eq!(nothing.error()["code"], "run.nothing_staged");
    let report = run(&stage, &[]).expect(0).json();
    assert_eq!(report["staged"]["reused"], false);
    assert_eq!(reads(&stage), 4);
    assert_arrived(&stage, 300);
}

#[test]
fn an_extraction_that_fails_or_is_ended_leaves_nothing_that_is_taken_for_whole() {
    let stage = staged()
        .source("misbehave", misbehave("next", 9, 1, "error"))
        .stage();
    let report = run(&stage, &[]).expect(1).json();
    assert_eq!(outcomes(&report), ["done", "failed"]);
    assert!(!is_staged(&stage));

    let stage = staged()
        .source("misbehave", misbehave("next", 9, 0, "hang"))
        .stage();
    let mut running = Running::start(&stage, &[]);
    running.until(|_| calls(&stage, SOURCE_CALLS, "next").len() >= 9);
    running.signal(Signal::TERM);
    let end = running.finish().expect(143);
    assert_eq!(end.report()["outcome"], "cancelled");
    assert!(!is_staged(&stage));
    assert!(calls(&stage, SINK_CALLS, "begin").is_empty(), "the import began");
}

#[test]
fn a_stage_whose_files_were_touched_is_read_anew() {
    let stage = failing().stage();
    run(&stage, &[]).expect(1);
    let folder = stage.path(".whimbrel/staging/scripted/extracted");
    let file = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "arrow"))
        .unwrap();
    let octets = std::fs::read(&file).unwrap();
    std::fs::write(&file, &octets[..octets.len() - 100]).unwrap();
    std::fs::remove_file(stage.path("committed.ndjson")).unwrap_or_default();
    staged().write(&stage);
    let report = run(&stage, &[]).expect(0).json();
    assert_eq!(report["staged"]["reused"], false);
    assert_arrived(&stage, 300);
}

#[test]
fn phases_can_be_left_out_one_by_one() {
    let stage = staged().stage();
    // First only read, then only write.
    let report = run(&stage, &["--skip-phases", "import,verification"])
        .expect(0)
        .json();
    assert_eq!(
        outcomes(&report),
        ["done", "done", "skipped", "skipped", "skipped", "done"]
    );
    assert!(is_staged(&stage));
    assert!(calls(&stage, SINK_CALLS, "begin").is_empty());
    let report = run(&stage, &["--skip-phases", "extraction,post-migration"])
        .expect(0)
        .json();
    assert_eq!(
        outcomes(&report),
        ["done", "skipped", "skipped", "done", "done", "skipped"]
    );
    assert_arrived(&stage, 300);
    assert_eq!(reads(&stage), 4);
    assert!(is_staged(&stage), "tidying up was left out");

    let report = run(&stage, &["--skip-phases", "pre_validation"]).expect(0).json();
    assert_eq!(
        outcomes(&report)[..2],
        ["done", "skipped"],
        "planning is not left out"
    );
    assert_eq!(calls(&stage, SOURCE_CALLS, "check").len(), 1, "of the first run");
    assert!(!is_staged(&stage));

    for staging in ["disk", "memory"] {
        let refused = run(&stage, &["--skip-phases", "extraction", "--staging", staging]).expect(2);
        assert_eq!(refused.error()["code"], "run.nothing_staged", "{staging}");
        assert!(
            refused.error()["help"]
                .as_str()
                .unwrap()
                .contains("--staging disk")
        );
    }
    assert_eq!(reads(&stage), 4);
    let unknown = stage
        .run(&["run", "job.yaml", "--skip-phases", "loading"])
        .expect(2);
    assert!(unknown.err.contains("post_migration"), "{}", unknown.err);
}

/// Records of the source of [`cut_off`].
const RECORDS: u64 = 100;

/// A staged copy whose sink makes thirty of the records durable, ten at a time, and fails at the next.
fn cut_off() -> ScriptedJob {
    went_on().sink("misbehave", misbehave("write", 4, 0, "error"))
}

/// The same with nothing wrong.
fn went_on() -> ScriptedJob {
    let import =
        json!({ "batch_size": 10, "checkpoint_interval": 10, "checkpoint_interval_ms": 0, "max_retries": 0 });
    ScriptedJob::new()
        .set("/staging", json!("disk"))
        .set("/verification", json!("none"))
        .set("/import", import)
        .set(
            "/limits",
            json!({ "batch_records": 10, "partitions_parallel": 1 }),
        )
        .source("records", json!(RECORDS))
        .sink("lanes_path", json!("lanes.ndjson"))
}

/// `job` from a file of records, of which the source knows no more than what is in it.
fn from_file(job: ScriptedJob) -> ScriptedJob {
    let source = json!({ "plugin": "files", "config": { "path": "people.ndjson" } });
    let collections = json!([{ "source": "people", "key": ["id"] }]);
    job.set("/source", source).set("/collections", collections)
}

fn write_people(stage: &Stage, from: u64) {
    let line = |id: u64| format!("{{\"id\":{id},\"name\":\"n {id}\"}}\n");
    stage.write("people.ndjson", (from..RECORDS).map(line).collect::<String>());
}

fn resume(stage: &Stage, arguments: &[&str]) -> Answer {
    stage.run(&[&["resume", "--json"], arguments].concat())
}

#[track_caller]
fn refused(answer: Answer, code: &str) -> Value {
    let answer = answer.expect(2);
    let error = answer.error();
    assert_eq!(error["code"], code, "{error}");
    assert!(
        error["help"].as_str().unwrap().contains("whimbrel run"),
        "{error}"
    );
    error
}

/// The ids of the records that are durable in the sink, however often each was written.
fn ids(stage: &Stage) -> Vec<u64> {
    let lines = lines(&stage.path("committed.ndjson"));
    let ids = lines.iter().map(|line| line["record"]["id"].as_u64().unwrap());
    let ids: std::collections::BTreeSet<u64> = ids.collect();
    ids.into_iter().collect()
}

#[test]
fn a_copy_that_was_cut_off_goes_on_where_its_stage_says() {
    let stage = cut_off().stage();
    run(&stage, &[]).expect(1);
    assert_eq!(ids(&stage).len(), 30);
    let asked = lines(&stage.path(SOURCE_CALLS));
    went_on().write(&stage);
    let report = resume(&stage, &[]).expect(0).json();
    assert_eq!(report["staged"]["reused"], true);
    assert_eq!(committed(&stage).into_values().sum::<usize>(), 100);
    assert_eq!(report["collections"][0]["written_count"], RECORDS);
    assert_eq!(
        lines(&stage.path(SOURCE_CALLS)),
        asked,
        "the source was not asked again"
    );
}

#[test]
fn a_copy_is_not_gone_on_with_from_records_that_were_staged_anew() {
    // The first of them are gone from the source by then, so that each batch ends with another record.
    type Loss = fn(&Stage);
    let lost: Loss = |stage| std::fs::remove_dir_all(stage.path(".whimbrel/staging")).unwrap();
    let cut: Loss = |stage| {
        let folder = stage.path(".whimbrel/staging/scripted/extracted");
        std::fs::write(folder.join("00000-00000.arrow"), b"cut").unwrap();
    };
    for loss in [lost, cut] {
        let stage = Stage::new();
        from_file(cut_off()).write(&stage);
        write_people(&stage, 0);
        run(&stage, &[]).expect(1);
        assert_eq!(ids(&stage).len(), 30);
        loss(&stage);
        write_people(&stage, 20);
        from_file(went_on()).write(&stage);
        for arguments in [&[][..], &["--accept-changes"]] {
            refused(resume(&stage, arguments), "resume.other_stage");
            assert_eq!(ids(&stage).len(), 30);
        }
        // What was read for the refused run serves the next one.
        let report = run(&stage, &[]).expect(0).json();
        assert_eq!(report["staged"]["reused"], true);
        assert_eq!(ids(&stage), (0..RECORDS).collect::<Vec<_>>());
    }
}

#[test]
fn a_host_without_the_stage_refuses_to_go_on_with_the_copy() {
    let stage = cut_off().stage();
    run(&stage, &[]).expect(1);
    went_on().write(&stage);
    // As on another host: only the sink knows of the run.
    std::fs::remove_dir_all(stage.path(".whimbrel")).unwrap();
    refused(run(&stage, &["--resume"]), "resume.other_stage");
    assert_eq!(ids(&stage).len(), 30);
    run(&stage, &[]).expect(0);
    assert_eq!(ids(&stage), (0..RECORDS).collect::<Vec<_>>());
}

#[test]
fn a_change_that_would_have_the_source_read_anew_leaves_the_stage_for_when_it_is_undone() {
    let stage = cut_off().stage();
    run(&stage, &[]).expect(1);
    let asked = calls(&stage, SOURCE_CALLS, "read");
    went_on().source("records", json!(RECORDS + 10)).write(&stage);
    for arguments in [&[][..], &["--accept-changes"]] {
        refused(resume(&stage, arguments), "resume.other_stage");
    }
    // What the plugin's schema leaves open to change decides nothing about the records.
    went_on().source("slow_ms", json!(7)).write(&stage);
    resume(&stage, &[]).expect(0);
    assert_eq!(committed(&stage).into_values().sum::<usize>(), 100);
    assert_eq!(calls(&stage, SOURCE_CALLS, "read"), asked);
}

#[test]
fn cursors_of_the_source_and_of_a_stage_are_not_taken_for_each_other() {
    for (first, then) in [("memory", "disk"), ("disk", "memory")] {
        let stage = cut_off().set("/staging", json!(first)).stage();
        run(&stage, &[]).expect(1);
        assert_eq!(ids(&stage).len(), 30);
        went_on().set("/staging", json!(then)).write(&stage);
        for arguments in [&[][..], &["--accept-changes"]] {
            let error = refused(resume(&stage, arguments), "resume.other_stage");
            assert!(error["help"].as_str().unwrap().contains("`staging`"), "{error}");
        }
        went_on().set("/staging", json!(first)).write(&stage);
        resume(&stage, &[]).expect(0);
        assert_eq!(committed(&stage).into_values().sum::<usize>(), 100, "{first}");
    }
}

#[test]
fn a_copy_goes_on_with_what_transforms_had_made_and_counts_it_once() {
    let reshape = |below: u64| {
        let steps = json!([
            { "filter": { "where": { "field": "id", "op": "less", "value": below } } },
            { "cast": { "field": "name", "to": "int64" } },
        ]);
        json!([{ "plugin": "reshape", "config": { "steps": steps } }])
    };
    let changed = |job: ScriptedJob, below: u64| {
        from_file(job)
            .set("/transforms", reshape(below))
            .set("/verification", json!("standard"))
            .set("/import/max_errors", json!(10))
    };
    let stage = Stage::new();
    // The second line cannot be read, and the name of the third is no number.
    let line = |id: u64| match id {
        1 => "{\"id\":1,\"na\n".to_owned(),
        2 => "{\"id\":2,\"name\":\"two\"}\n".to_owned(),
        id => format!("{{\"id\":{id},\"name\":\"{id}\"}}\n"),
    };
    stage.write("people.ndjson", (0..RECORDS).map(line).collect::<String>());
    changed(cut_off(), 90).write(&stage);
    run(&stage, &[]).expect(1);
    assert!(!ids(&stage).is_empty());

    // Other transforms make other batches, so there is no going on, whatever is accepted.
    changed(went_on(), 80).write(&stage);
    refused(resume(&stage, &["--accept-changes"]), "resume.other_stage");
    assert!(is_staged(&stage));
    std::fs::remove_dir_all(stage.path(".whimbrel")).unwrap();
    std::fs::remove_file(stage.path("committed.ndjson")).unwrap();
    std::fs::remove_file(stage.path("lanes.ndjson")).unwrap();

    changed(cut_off(), 90).write(&stage);
    run(&stage, &[]).expect(1);
    changed(went_on(), 90).write(&stage);
    let report = resume(&stage, &[]).expect(0).json();
    assert_eq!(
        outcomes(&report),
        ["done", "skipped", "skipped", "done", "done", "done"]
    );
    assert_eq!(report["rejected_count"], 2, "{report}");
    let collection = &report["collections"][0];
    let counts = [
        "read_count",
        "transformed_count",
        "filtered_count",
        "written_count",
        "rejected_count",
    ];
    assert_eq!(
        counts.map(|of| collection[of].as_u64().unwrap()),
        [99, 88, 10, 88, 2],
        "{report}"
    );
    assert_eq!(committed(&stage).into_values().sum::<usize>(), 88);
    let listed = stage.run(&["rejected", "list", "--json"]).expect(0).json();
    assert_eq!(listed["records"].as_array().unwrap().len(), 2, "{listed}");
}
