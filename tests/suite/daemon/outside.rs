//! What reaches a daemon from outside: signals of a terminal, another environment, a clock that is set, a program that is replaced.
//! Waits for what the daemon tells or writes down, never for time.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Signal, kill_process_group};
use serde_json::{Value, json};

use super::{HOUR_MS, START, Standing, each_hour, good_job, set_clock, settings};
use crate::program::{Stage, program};
use crate::running::{json_file, latest_run, wait_until};
use crate::scripted_job::{SOURCE_CALLS, calls, misbehave};

/// By how much a clock is wrong.
const YEARS_MS: u64 = 10 * 365 * 24 * HOUR_MS;
/// The library of the scripted source and sink.
const LIBRARY: &str = "libwhimbrel_scripted.so";

#[test]
fn an_interrupt_of_the_terminal_lets_runs_end_in_good_order() {
    let stage = good_job()
        .source("misbehave", misbehave("next", 1, 0, "hang"))
        .stage();
    let mut command = stage.command(&START);
    // As a terminal has it: whatever the daemon leaves in its group gets the signal as well.
    command.process_group(0);
    let mut standing = Standing::start_as(stage, &settings(&each_hour("first")), command);
    standing.an_hour_later();
    standing.daemon.until_named("fired");
    wait_until("the source hangs", || {
        !calls(&standing.stage, SOURCE_CALLS, "next").is_empty()
    });
    kill_process_group(standing.daemon.pid(), Signal::INT).unwrap();
    let end = standing.daemon.finish().expect(130);
    // Asked once, and by the daemon: 130 would be the signal of the terminal, and with the second one it would have been killed.
    assert_eq!(end.named("ended")[0]["exit_code"], 143);
    let report = json_file(&latest_run(&standing.stage, ".whimbrel").join("final-migration-report.json"));
    assert_eq!(report["outcome"], "cancelled", "{report}");
}

#[test]
fn the_daemon_alone_judges_its_files() {
    let stage = good_job().source("store", json!("${env:ONE_STORE}")).stage();
    let mut command = stage.command(&START);
    command.env("ONE_STORE", "source");
    let standing = Standing::start_as(stage, &settings(&each_hour("first")), command);
    // The variable is the daemon's, not that of whoever asks.
    let answer = standing.answer("reload").expect(0).json();
    assert_eq!(answer["daemon"]["look_count"], 2);

    // The other way round, it is as wrong the second time as the first.
    good_job()
        .source("store", json!("${env:OTHER_STORE}"))
        .write(&standing.stage);
    let ask = || {
        let arguments = ["--json", "daemon", "reload"];
        standing
            .stage
            .run_with(&arguments, &[("OTHER_STORE", "source")])
            .expect(2)
            .error()
    };
    let error = ask();
    assert!(
        error["message"].as_str().unwrap().contains("OTHER_STORE"),
        "{error}"
    );
    assert_eq!(ask(), error);
    let status = standing.answer("status").expect(0).json();
    assert_eq!(status["daemon"]["look_count"], 4);
    standing.answer("stop").expect(0);
    standing.daemon.finish().expect(143);
}

#[test]
fn t1_a_reload_is_answered_whatever_the_clock_says() {
    let standing = Standing::start(good_job().stage(), &each_hour("first"));
    let before = standing.answer("status").expect(0).json();
    set_clock(&standing.stage, -3_600_000);
    let after = standing.answer("reload").expect(0).json();
    let loaded = |answer: &Value| answer["daemon"]["loaded"].as_str().unwrap().to_owned();
    assert!(loaded(&after) < loaded(&before), "{after}");
    standing.answer("stop").expect(0);
    standing.daemon.finish().expect(143);
}

#[test]
fn t1_a_clock_that_was_wrong_by_years_keeps_no_schedule_silent_once_it_is_set_right() {
    let mut standing = Standing::start(good_job().stage(), &each_hour("first"));
    let next = standing.schedule()["next"].take();
    standing.ahead_ms += YEARS_MS;
    assert_eq!(standing.next_run(), ("first".to_owned(), 0));
    standing.ahead_ms -= YEARS_MS + HOUR_MS;
    set_clock(&standing.stage, standing.ahead_ms);
    wait_until("the daemon counts anew", || standing.schedule()["next"] == next);
    assert_eq!(standing.next_run(), ("first".to_owned(), 0));
    standing.answer("stop").expect(0);
    standing.daemon.finish().expect(143);
}

/// Puts a program into the place of `path` as an upgrade does: whole, at one moment.
fn replace(path: &Path, content: &str, mode: u32) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::set_permissions(&beside, PermissionsExt::from_mode(mode)).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

/// A program and its plugin that belong to this test alone.
fn installed(stage: &Stage) -> PathBuf {
    let folder = stage.path("installed");
    std::fs::create_dir(&folder).unwrap();
    let built = program();
    let own = folder.join("whimbrel");
    for (from, to) in [
        (built.with_file_name(LIBRARY), folder.join(LIBRARY)),
        (built, own.clone()),
    ] {
        // They are large, and a link is as good as a copy where one can be made.
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).unwrap();
        }
    }
    own
}

#[test]
fn a_daemon_whose_program_was_replaced_goes_on_with_the_new_one_or_its_own() {
    let stage = good_job().stage();
    let own = installed(&stage);
    let mut command = Command::new(&own);
    command
        .args(START)
        .current_dir(own.parent().unwrap().parent().unwrap())
        .stdin(Stdio::null())
        .env_remove("WHIMBREL_PLUGIN_PATH");
    let mut standing = Standing::start_as(stage, &settings(&each_hour("first")), command);
    assert_eq!(standing.schedule()["last"], Value::Null);
    assert_eq!(standing.next_run(), ("first".to_owned(), 0));

    // Nothing is there any more: neither the run nor its worker is found by name.
    std::fs::remove_file(&own).unwrap();
    assert_eq!(standing.next_run(), ("first".to_owned(), 0));
    let last = standing.schedule()["last"].take();
    assert_eq!(
        (&last["outcome"], &last["exit_code"]),
        (&json!("ended"), &json!(0))
    );

    replace(&own, "#!/bin/sh\necho the new program\nexit 4\n", 0o755);
    assert_eq!(standing.next_run(), ("first".to_owned(), 4));
    let fired = standing
        .daemon
        .events
        .iter()
        .rfind(|event| event["event"] == "fired")
        .unwrap();
    let said = std::fs::read_to_string(fired["log"].as_str().unwrap()).unwrap();
    assert_eq!(said, "the new program\n");
    assert_eq!(standing.schedule()["last"]["exit_code"], 4);
    let text = standing.stage.run(&["daemon", "status"]).expect(0).out;
    assert!(text.contains("exit code 4, "), "{text}");

    // One that cannot be started is no reason to run anything else, and it is seen without looking into the log.
    replace(&own, "", 0o644);
    standing.an_hour_later();
    standing.daemon.until_named("failed");
    let last = standing.schedule()["last"].take();
    assert_eq!(
        (&last["outcome"], &last["error"]["code"]),
        (&json!("failed"), &json!("schedule.not_started"))
    );
    let text = standing.stage.run(&["daemon", "status"]).expect(0).out;
    assert!(text.contains("[schedule.not_started]"), "{text}");
    standing.answer("stop").expect(0);
    standing.daemon.finish().expect(143);
}
