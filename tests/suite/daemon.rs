//! The daemon: jobs that are run when they are due, files that are read again, runs that end without ending it. FAULTS K6, and of
//! H3, P2 and T1 what concerns it.
//!
//! The clock of the daemon is moved by a file; its events are waited for, never time.

mod finding;
mod outside;

use std::process::Command;
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::program::Stage;
use crate::running::Running;
use crate::scripted_job::{ScriptedJob, misbehave};

/// Schedules of these tests are due each hour, so that none is due by itself while a test runs.
const HOUR_MS: u64 = 3_600_000;

/// Starts a daemon in the foreground.
const START: [&str; 4] = ["--json", "daemon", "start", "--no-detach"];

/// A daemon in the foreground, with the clock that it goes by.
struct Standing {
    stage: Stage,
    daemon: Running,
    /// What its clock is ahead of the time of day.
    ahead_ms: u64,
}

impl Standing {
    /// Starts the daemon over `schedules`, lines of the settings file.
    fn start(stage: Stage, schedules: &str) -> Self {
        let command = stage.command(&START);
        Self::start_as(stage, &settings(schedules), command)
    }

    /// Starts the daemon by `command`, over a settings file with this content.
    fn start_as(stage: Stage, content: &str, mut command: Command) -> Self {
        stage.write("whimbrel.yaml", content);
        // Its clock begins a second after a full hour: the next one comes when the test moves it there, or in an hour.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_ms = u64::try_from(now.unwrap().as_millis()).unwrap();
        let ahead_ms = HOUR_MS - now_ms % HOUR_MS + 1_000;
        set_clock(&stage, ahead_ms);
        command.env("WHIMBREL_CLOCK_FILE", stage.path("clock"));
        let mut daemon = Running::spawn(command, stage.path("stderr.txt"));
        daemon.until_named("started");
        Self {
            stage,
            daemon,
            ahead_ms,
        }
    }

    /// Moves the clock an hour on.
    fn an_hour_later(&mut self) {
        self.ahead_ms += HOUR_MS;
        set_clock(&self.stage, self.ahead_ms);
    }

    /// The next run that is started, and how it ended.
    #[track_caller]
    fn next_run(&mut self) -> (String, i64) {
        self.an_hour_later();
        let is_begun = |event: &Value| event["event"] == "fired" || event["event"] == "failed";
        let fired = self.daemon.until(is_begun);
        assert_eq!(fired["event"], "fired", "{fired}");
        let ended = self.daemon.until_named("ended");
        assert_eq!(fired["schedule"], ended["schedule"]);
        let name = fired["schedule"].as_str().unwrap().to_owned();
        (name, ended["exit_code"].as_i64().unwrap())
    }

    /// The only schedule, as `daemon status` has it.
    #[track_caller]
    fn schedule(&self) -> Value {
        let mut status = self.answer("status").expect(0).json();
        status["daemon"]["schedules"][0].take()
    }

    fn hang_up(&self) {
        self.daemon.signal(Signal::HUP);
    }

    fn answer(&self, command: &str) -> crate::program::Answer {
        self.stage.run(&["--json", "daemon", command])
    }
}

/// A folder whose daemon in the background is ended with it.
struct Left(Stage);

impl Drop for Left {
    fn drop(&mut self) {
        // It has been ended already, as a rule.
        drop(self.0.run(&["daemon", "stop"]));
    }
}

/// Sets the clock of a daemon. The file is whole whenever it is looked at: an empty one would set the clock back.
fn set_clock(stage: &Stage, ahead_ms: impl ToString) {
    let beside = stage.write("clock.new", ahead_ms.to_string());
    std::fs::rename(beside, stage.path("clock")).unwrap();
}

fn settings(schedules: &str) -> String {
    format!("schedules:\n{schedules}")
}

/// A schedule that is due each hour.
fn each_hour(name: &str) -> String {
    format!("- {{ name: {name}, job: job.yaml, cron: '0 * * * *' }}\n")
}

fn good_job() -> ScriptedJob {
    ScriptedJob::new().source("records", json!(10))
}

fn codes(errors: &Value) -> Vec<&str> {
    let errors = errors.as_array().unwrap();
    errors
        .iter()
        .map(|error| error["code"].as_str().unwrap())
        .collect()
}

#[test]
fn k6_good_files_are_taken_over_whole_and_bad_ones_not_at_all() {
    let mut standing = Standing::start(good_job().stage(), &each_hour("first"));
    assert_eq!(standing.next_run(), ("first".to_owned(), 0));

    // One schedule of the new file is good; neither is taken over.
    let half_good = each_hour("second") + "- { name: third, job: nowhere.yaml, cron: 'soon' }\n";
    standing.stage.write("whimbrel.yaml", settings(&half_good));
    standing.hang_up();
    let kept = standing.daemon.until_named("kept");
    assert_eq!(
        codes(&kept["errors"]),
        ["config.file_missing", "schedule.bad_cron"]
    );
    assert!(
        kept["errors"][1]["place"]
            .as_str()
            .unwrap()
            .contains("whimbrel.yaml:3:"),
        "{kept}"
    );
    let status = standing.answer("status").expect(0).json();
    assert_eq!(
        codes(&status["daemon"]["faults"]),
        ["config.file_missing", "schedule.bad_cron"]
    );
    assert_eq!(standing.next_run(), ("first".to_owned(), 0));

    // A file that is no YAML at all, then a job that is wrong.
    standing.stage.write("whimbrel.yaml", "schedules: [");
    standing.hang_up();
    standing.daemon.until_named("kept");
    standing
        .stage
        .write("whimbrel.yaml", settings(&each_hour("second")));
    let job = std::fs::read(standing.stage.path("job.yaml")).unwrap();
    standing.stage.write("job.yaml", "name: x\nsauce: {}\n");
    standing.hang_up();
    standing.daemon.until_named("kept");

    standing.stage.write("job.yaml", job);
    standing.hang_up();
    assert_eq!(standing.daemon.until_named("reloaded")["schedule_count"], 1);
    let status = standing.answer("status").expect(0).json();
    assert_eq!(status["daemon"]["faults"], json!([]));
    assert_eq!(standing.next_run(), ("second".to_owned(), 0));

    standing.daemon.signal(Signal::TERM);
    let end = standing.daemon.finish().expect(143);
    let fired: Vec<&str> = end
        .named("fired")
        .into_iter()
        .map(|event| event["schedule"].as_str().unwrap())
        .collect();
    assert_eq!(fired, ["first", "first", "second"]);
}

#[test]
fn k6_the_command_that_reloads_says_what_is_wrong() {
    let standing = Standing::start(good_job().stage(), &each_hour("first"));
    standing.stage.write(
        "whimbrel.yaml",
        settings("- { name: a b, job: job.yaml, cron: '* * * * *' }\n"),
    );
    let refused = standing.answer("reload").expect(2);
    assert!(
        refused.error()["place"]
            .as_str()
            .unwrap()
            .contains("whimbrel.yaml:2:"),
        "{}",
        refused.out
    );
    standing.stage.write(
        "whimbrel.yaml",
        settings(&(each_hour("first") + &each_hour("second"))),
    );
    let reloaded = standing.answer("reload").expect(0).json();
    assert_eq!(reloaded["daemon"]["schedules"].as_array().unwrap().len(), 2);
    let stopped = standing.answer("stop").expect(0).json();
    assert_eq!(stopped["is_running"], false);
    standing.daemon.finish().expect(143);
}

#[test]
fn h3_a_second_daemon_of_a_folder_is_refused_and_names_the_first() {
    let standing = Standing::start(good_job().stage(), &each_hour("first"));
    let pid = standing.daemon.pid().as_raw_nonzero().to_string();
    for arguments in [&START[..], &["--json", "daemon", "start"]] {
        let error = standing.stage.run(arguments).expect(3).error();
        assert_eq!(error["code"], "schedule.daemon_running");
        assert!(error["message"].as_str().unwrap().contains(&pid), "{error}");
    }
    standing.answer("stop").expect(0);
    standing.daemon.finish().expect(143);
}

#[test]
fn p2_a_run_that_crashes_ends_alone() {
    let crashing = good_job().source("misbehave", misbehave("next", 1, 0, "abort"));
    let mut standing = Standing::start(crashing.stage(), &each_hour("first"));
    let (_, code) = standing.next_run();
    assert_ne!(code, 0);
    let (_, code) = standing.next_run();
    assert_ne!(code, 0);
    standing.answer("stop").expect(0);
    standing.daemon.finish().expect(143);
}

#[test]
fn a_run_that_goes_on_is_not_started_again_and_ends_in_good_order_with_the_daemon() {
    let hanging = good_job().source("misbehave", misbehave("next", 1, 0, "hang"));
    let mut standing = Standing::start(hanging.stage(), &each_hour("first"));
    standing.an_hour_later();
    standing.daemon.until_named("fired");
    standing.an_hour_later();
    standing.daemon.until_named("skipped");
    standing.answer("stop").expect(0);
    let end = standing.daemon.finish().expect(143);
    assert_eq!(end.named("stopping")[0]["running_count"], 1);
    assert_eq!(end.named("ended")[0]["exit_code"], 143);
    assert_eq!(end.named("fired").len(), 1);
}

#[test]
fn a_daemon_in_the_background_is_seen_and_ended_from_any_terminal() {
    let left = Left(good_job().stage());
    let stage = &left.0;
    stage.write("whimbrel.yaml", settings(&each_hour("first")));
    let started = stage.run(&["--json", "daemon", "start"]).expect(0).json();
    let schedule = &started["daemon"]["schedules"][0];
    assert_eq!(
        (&schedule["schedule"], &schedule["time_zone"]),
        (&json!("first"), &json!("UTC"))
    );
    assert!(schedule["next"].is_string());
    let text = stage.run(&["daemon", "status"]).expect(0);
    assert!(
        text.out.contains("first") && text.out.contains("0 * * * *"),
        "{}",
        text.out
    );
    stage.run(&["daemon", "stop"]).expect(0);
    let status = stage.run(&["--json", "daemon", "status"]).expect(0).json();
    assert_eq!(status["is_running"], false);
    let again = stage.run(&["--json", "daemon", "stop"]).expect(2);
    assert_eq!(again.error()["code"], "schedule.no_daemon");
}

#[test]
fn files_that_are_wrong_start_no_daemon() {
    let stage = good_job().stage();
    let missing = stage.run(&["--json", "daemon", "start"]).expect(2);
    assert_eq!(missing.error()["code"], "config.file_missing");
    stage.write(
        "whimbrel.yaml",
        settings("- { name: a, job: job.yaml, cron: '61 * * * *' }\n"),
    );
    let refused = stage.run(&["--json", "daemon", "start"]).expect(2);
    assert_eq!(refused.error()["code"], "schedule.bad_cron");
}
