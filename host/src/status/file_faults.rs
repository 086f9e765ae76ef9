//! Tests of the files of a run when the process is killed, and when there is no room or no disk that answers.
//! The process under test is this test's own binary, started again with its part in a variable.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use whimbrel_plugin_api::Cursor;

use super::run_status::{KILLED, RUNNING};
use super::{RunCheckpoint, RunFiles, RunStatus};
use crate::events::{Event, Phase};
use crate::report::fixtures;
use crate::workspace::{DISK_FULL, RunFolder, Workspace};

/// The folder of the part, if this process plays one.
const PART_FOLDER: &str = "WHIMBREL_TEST_PART_FOLDER";
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn part_folder() -> Option<PathBuf> {
    std::env::var_os(PART_FOLDER).map(PathBuf::from)
}

fn workspace(folder: &Path) -> Workspace {
    Workspace::of_job(&folder.join("job.yaml"), None)
}

fn read_checkpoint(run: &RunFolder) -> RunCheckpoint {
    serde_json::from_slice(&std::fs::read(run.checkpoint()).unwrap()).unwrap()
}

/// Every line of the log but one that a kill has cut.
fn log_lines(run: &RunFolder, may_be_cut: bool) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.log()).unwrap();
    let mut lines: Vec<&str> = text.split('\n').collect();
    let rest = lines.pop().unwrap();
    assert!(may_be_cut || rest.is_empty(), "a cut line: {rest}");
    let lines: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], index as u64 + 1);
    }
    lines
}

fn committed(number: u64) -> Event {
    Event::Committed {
        collection: "Orders".into(),
        partition: "all".into(),
        seq: number,
        cursor: Cursor(number.to_be_bytes().to_vec()),
        record_count: 10,
        done: false,
    }
}

fn progress(number: u64) -> Event {
    Event::Progress {
        collection: "Orders".into(),
        read_count: number * 10,
        written_count: number * 10,
        rejected_count: 0,
        read_bytes: number * 1_000,
    }
}

/// The part of the process that is killed: says each number before it takes note of it.
#[test]
fn part_of_the_killed_process() {
    let Some(folder) = part_folder() else {
        return;
    };
    let mut files = RunFiles::create(&workspace(&folder), "r-1", Path::new("job.yaml")).unwrap();
    let mut out = std::io::stdout().lock();
    for number in 1_u64.. {
        writeln!(out, "took {number}").unwrap();
        out.flush().unwrap();
        files.observe(&committed(number)).unwrap();
        files.observe(&progress(number)).unwrap();
        // A phase that turns makes the next status urgent, so that kills meet writes.
        files
            .observe(&Event::PhaseStarted { phase: Phase::Import })
            .unwrap();
    }
}

#[test]
fn killed_at_any_moment_its_files_are_readable_and_true() {
    if part_folder().is_some() {
        return;
    }
    let seed = std::env::var("WHIMBREL_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()) ^ (Utc::now().timestamp_micros() as u64));
    println!("WHIMBREL_TEST_SEED={seed}");
    let mut draw = seed | 1;
    for _ in 0..25 {
        // xorshift: which line of the process is its last.
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        kill_after_lines(1 + draw % 3_000);
    }
}

fn kill_after_lines(wanted: u64) {
    let folder = tempfile::tempdir().unwrap();
    let before = Utc::now();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "status::file_faults::part_of_the_killed_process",
        ])
        .env(PART_FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let number_of = |line: String| {
        line.strip_prefix("took ")
            .and_then(|number| number.parse::<u64>().ok())
    };
    let mut taken = 0;
    while taken < wanted {
        taken = number_of(lines.next().unwrap().unwrap()).unwrap_or(taken);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let taken = lines
        .map_while(Result::ok)
        .filter_map(number_of)
        .last()
        .unwrap_or(taken);

    let run = workspace(folder.path()).latest_run().unwrap();
    assert!(!run.is_watched());
    let status = RunStatus::read(&run).unwrap();
    assert_eq!(status.state, KILLED);
    assert!(status.updated_at >= before - chrono::TimeDelta::seconds(1) && status.updated_at <= Utc::now());
    // True is: no more than had happened, and of one moment.
    let totals = &status.totals;
    assert!(
        totals.written_count <= taken * 10,
        "{} > {taken} x 10",
        totals.written_count
    );
    assert!(
        status
            .collections
            .iter()
            .all(|one| one.written_count == totals.written_count)
    );
    assert_eq!(totals.read_bytes, totals.read_count * 100);
    let checkpoint = read_checkpoint(&run);
    if let Some(lane) = checkpoint
        .collections
        .get("Orders")
        .map(|partitions| &partitions["all"])
    {
        assert!(lane.seq <= taken);
        assert_eq!(lane.cursor, Cursor(lane.seq.to_be_bytes().to_vec()));
        assert_eq!(lane.record_count, lane.seq * 10);
        assert_eq!(checkpoint.record_count, lane.record_count);
    }
    log_lines(&run, true);
    // What the killed run kept is let go by the next one.
    assert!(run.reserve().exists());
    let next = RunFiles::create(&workspace(folder.path()), "r-2", Path::new("job.yaml")).unwrap();
    assert!(!run.reserve().exists());
    assert!(next.folder().is_watched());
}

#[test]
fn a_status_and_a_sample_come_each_second_without_any_event() {
    let folder = tempfile::tempdir().unwrap();
    let files = RunFiles::create(&workspace(folder.path()), "r-1", Path::new("job.yaml")).unwrap();
    let read = || RunStatus::read(files.folder()).unwrap();
    let first = read();
    assert_eq!(first.state, RUNNING);
    let begun = Instant::now();
    let mut seen = vec![first.updated_at];
    while seen.len() < 5 {
        let now = read().updated_at;
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        assert!(begun.elapsed() < PATIENCE, "{seen:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let run = files.finish(&fixtures::done()).unwrap();
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.final_report()).unwrap()).unwrap();
    assert!(
        report["series"]["samples"].as_array().unwrap().len() >= 3,
        "{}",
        report["series"]
    );
}

#[test]
fn what_turns_is_written_at_once() {
    // A machine that is busy may take longer once, but not each time.
    let at_once = (0..20).any(|_| {
        let folder = tempfile::tempdir().unwrap();
        let mut files = RunFiles::create(&workspace(folder.path()), "r-1", Path::new("job.yaml")).unwrap();
        files
            .observe(&Event::PhaseStarted { phase: Phase::Import })
            .unwrap();
        let begun = Instant::now();
        loop {
            let status = RunStatus::read(files.folder()).unwrap();
            if status.phase == Some(Phase::Import) {
                return status.elapsed_secs < 0.5;
            }
            assert!(begun.elapsed() < PATIENCE);
            std::thread::park_timeout(Duration::from_millis(1));
        }
    });
    assert!(at_once);
}

#[test]
fn the_end_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = RunFiles::create(&workspace(folder.path()), "r-1", Path::new("job.yaml")).unwrap();
    files.observe(&committed(1)).unwrap();
    files.plugin_output("hello\u{7}");
    let mut report = fixtures::differences();
    files.complete(&mut report);
    let run = files.finish(&report).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(run.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "final-migration-report.json",
            "migration-checkpoint.json",
            "migration-executive-summary.md",
            "migration-log.json",
            "migration-status.json",
            "report.html",
            "verification-results",
        ]
    );
    assert_eq!(read_checkpoint(&run).record_count, 10);
    let status = RunStatus::read(&run).unwrap();
    assert_eq!(
        (status.state.as_str(), status.exit_code),
        ("differences", Some(4))
    );
    let verified: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.verification_results().join("users.json")).unwrap())
            .unwrap();
    assert_eq!(verified["mismatch_count"], 2);
    let lines = log_lines(&run, false);
    assert_eq!(lines.last().unwrap()["line"], "hello\u{fffd}");
    assert!(!run.is_watched());
}

/// A folder on a small disk of its own, in a user namespace, for the test called `part`; whether there can be one.
fn on_a_small_disk(part: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=4m tmpfs \"$1\" || exit 99\nexec \"$2\" --exact --nocapture \"$3\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .arg(format!("status::file_faults::{part}"))
        .env(PART_FOLDER, folder.path())
        .output();
    let why = match output {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("part played"), "the part was not played: {said}");
            return true;
        }
        Ok(output) if output.status.code() == Some(101) => panic!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let required = std::env::var("WHIMBREL_REQUIRE").unwrap_or_default();
    let is_required = required
        .split(',')
        .any(|name| name == "all" || name == "small_disk");
    assert!(
        !is_required,
        "WHIMBREL_REQUIRE={required}, but no small disk can be made: {why}"
    );
    eprintln!("NOT TESTED on a real full disk, only with /dev/full: no small disk can be made here: {why}");
    false
}

/// Takes all room of the disk but what is kept.
fn fill(folder: &Path) {
    let mut file = std::fs::File::create(folder.join("ballast")).unwrap();
    for size in [65_536, 4_096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

fn observe_until_fault(files: &mut RunFiles) -> whimbrel_plugin_api::Error {
    let begun = Instant::now();
    for number in 1_u64.. {
        if let Err(fault) = files.observe(&committed(number)) {
            return fault;
        }
        assert!(begun.elapsed() < PATIENCE, "the full disk was not noticed");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    unreachable!("numbers do not end")
}

#[test]
fn part_of_the_run_whose_disk_fills_up() {
    let Some(folder) = part_folder() else {
        return;
    };
    let mut files = RunFiles::create(&workspace(&folder), "r-1", Path::new("job.yaml")).unwrap();
    files
        .observe(&Event::PhaseStarted { phase: Phase::Import })
        .unwrap();
    fill(&folder);
    let fault = observe_until_fault(&mut files);
    assert_eq!(fault.code, DISK_FULL);
    assert_eq!(files.fault(), Some(&fault));
    // It is said once; notes are taken on.
    files.observe(&committed(1_000_000)).unwrap();
    let mut report = fixtures::failed();
    report.outcome = "cancelled";
    report.errors.clear();
    files.complete(&mut report);
    assert_eq!(report.outcome, "failed");
    let run = files.finish(&report).unwrap();
    ended_with_the_fault(&run);
    assert_eq!(read_checkpoint(&run).collections["Orders"]["all"].seq, 1_000_000);
    println!("part played");
}

fn ended_with_the_fault(run: &RunFolder) {
    let status = RunStatus::read(run).unwrap();
    assert_eq!(status.state, "failed");
    assert_eq!(status.errors[0].error.code, DISK_FULL);
    let text = std::fs::read(run.final_report()).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(report["errors"][0]["code"], DISK_FULL);
    assert_eq!(report["log_complete"], false);
    assert_eq!(report["collections"][0]["written_count"], 4_000);
    let steps = report["next_steps"].as_array().unwrap();
    let texts: Vec<&str> = steps.iter().filter_map(|step| step["text"].as_str()).collect();
    assert!(
        texts.iter().any(|text| text.contains("room on its disk")),
        "{texts:?}"
    );
    let page = std::fs::read_to_string(run.executive_summary()).unwrap();
    assert!(page.contains(DISK_FULL), "{page}");
    log_lines(run, false);
    assert!(!run.reserve().exists());
}

#[test]
fn part_of_the_run_whose_reports_have_no_room() {
    let Some(folder) = part_folder() else {
        return;
    };
    let files = RunFiles::create(&workspace(&folder), "r-1", Path::new("job.yaml")).unwrap();
    fill(&folder);
    // Room for nothing but the reserve, and a report that is greater than that.
    let mut report = fixtures::done();
    let one = report.summary.collections[0].clone();
    report.summary.collections = vec![one; 10_000];
    let fault = files.finish(&report).unwrap_err();
    assert_eq!(fault.code, DISK_FULL);
    let run = workspace(&folder).latest_run().unwrap();
    assert_eq!(RunStatus::read(&run).unwrap().state, "done");
    let text = std::fs::read(run.final_report()).unwrap();
    let short: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(short["outcome"], "done");
    assert_eq!(short["collections"].as_array().unwrap().len(), 100);
    println!("part played");
}

#[test]
fn a_disk_that_fills_up_costs_the_log_and_not_the_end() {
    if part_folder().is_none() {
        on_a_small_disk("part_of_the_run_whose_disk_fills_up");
    }
}

#[test]
fn a_disk_without_room_for_the_reports_gets_short_ones() {
    if part_folder().is_none() {
        on_a_small_disk("part_of_the_run_whose_reports_have_no_room");
    }
}

#[test]
fn a_run_does_not_begin_on_a_full_disk() {
    if let Some(folder) = part_folder() {
        fill(&folder);
        let fault = RunFiles::create(&workspace(&folder), "r-1", Path::new("job.yaml")).unwrap_err();
        assert_eq!(fault.code, DISK_FULL);
        println!("part played");
    } else {
        on_a_small_disk("a_run_does_not_begin_on_a_full_disk");
    }
}
