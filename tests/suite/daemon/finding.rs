//! How the daemon of a settings file is found: by a mark that does not depend on what the file says, so that a file has one daemon.
//! Not here: what a daemon does once it is found (`daemon.rs`).

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::json;

use super::{START, Standing, each_hour, good_job, settings};

/// Settings whose runs and daemon are in the folder `name`.
fn in_folder(name: &str) -> String {
    format!("working_dir: {name}\n{}", settings(&each_hour("first")))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_daemon_is_found_by_its_settings_file_whatever_that_says_by_now() {
    let stage = good_job().stage();
    let command = stage.command(&START);
    let standing = Standing::start_as(stage, &in_folder("w"), command);
    let stage = &standing.stage;
    let pid = standing.daemon.pid().as_raw_nonzero();
    let is_seen = || {
        let status = standing.answer("status").expect(0).json();
        assert_eq!(status["daemon"]["process"]["pid"], pid.get(), "{status}");
        assert_eq!(status["working_dir"], json!(stage.path("w")));
    };
    for broken in [
        in_folder("w") + "nonsense: 1\n",
        "schedules: [".to_owned(),
        "- working_dir: w\n".to_owned(),
    ] {
        stage.write("whimbrel.yaml", broken);
        is_seen();
        let error = standing.answer("reload").expect(2).error();
        assert!(error["code"].as_str().unwrap().starts_with("config."), "{error}");
    }
    std::fs::remove_file(stage.path("whimbrel.yaml")).unwrap();
    is_seen();

    // What is in order and names another folder starts no second daemon of the same schedules.
    stage.write("whimbrel.yaml", in_folder("elsewhere"));
    is_seen();
    let error = standing.answer("reload").expect(2).error();
    assert_eq!(error["code"], "schedule.moved");
    for arguments in [&START[..], &["--json", "daemon", "start"]] {
        let error = stage.run(arguments).expect(3).error();
        assert_eq!(error["code"], "schedule.daemon_running");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&pid.to_string()), "{message}");
    }
    assert!(!stage.path("elsewhere/daemon.json").exists());
    standing.answer("stop").expect(0);
    let status = standing.answer("status").expect(0).json();
    assert_eq!(status, json!({ "command": "daemon status", "is_running": false }));
    standing.daemon.finish().expect(143);
}

#[test]
fn a_daemon_is_found_where_nothing_can_be_written_beside_its_settings() {
    let stage = good_job().stage();
    // A file where the folder would be keeps everybody from writing into it, root too.
    stage.write(".whimbrel", "");
    let state = stage.path("state").display().to_string();
    let mut command = stage.command(&START);
    command.env("XDG_STATE_HOME", &state);
    let standing = Standing::start_as(stage, &in_folder("w"), command);
    let answer = |command: &str| {
        let arguments = ["--json", "daemon", command];
        standing.stage.run_with(&arguments, &[("XDG_STATE_HOME", &state)])
    };
    standing.stage.write("whimbrel.yaml", in_folder("elsewhere"));
    assert_eq!(answer("status").expect(0).json()["is_running"], true);
    assert_eq!(
        answer("start").expect(3).error()["code"],
        "schedule.daemon_running"
    );
    answer("stop").expect(0);
    standing.daemon.finish().expect(143);
}

#[test]
fn what_cannot_be_looked_at_is_not_said_to_be_nobody() {
    let stage = good_job().stage();
    stage.write("whimbrel.yaml", in_folder("w"));
    std::fs::create_dir(stage.path(".whimbrel")).unwrap();
    // A link to itself cannot be opened, whoever asks.
    let mark = stage.path(".whimbrel/daemon-of-whimbrel.yaml");
    symlink(&mark, &mark).unwrap();
    for command in ["status", "stop", "reload", "start"] {
        let error = stage.run(&["--json", "daemon", command]).expect(3).error();
        assert_eq!(error["code"], "schedule.hidden", "{command}");
    }
    let error = stage.run(&START).expect(3).error();
    assert_eq!(error["code"], "schedule.hidden");
    std::fs::remove_file(&mark).unwrap();
    let status = stage.run(&["--json", "daemon", "status"]).expect(0).json();
    assert_eq!(status["is_running"], false);
}

#[test]
fn the_folders_of_a_daemon_are_for_its_owner_and_no_repository() {
    let stage = good_job().stage();
    let command = stage.command(&START);
    let standing = Standing::start_as(stage, &in_folder("w"), command);
    for folder in ["w", ".whimbrel"] {
        let path = standing.stage.path(folder);
        assert_eq!(mode(&path), 0o700, "{folder}");
        assert_eq!(std::fs::read_to_string(path.join(".gitignore")).unwrap(), "*\n");
    }
    standing.answer("stop").expect(0);
    standing.daemon.finish().expect(143);
}
