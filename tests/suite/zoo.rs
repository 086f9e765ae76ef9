//! The zoo of libraries that `cargo x zoo` builds: each is refused with its reason before its code runs, or works.
//!
//! How they are made stands in `tests/xtask/src/zoo.rs`.

use std::path::PathBuf;

use serde_json::Value;

use crate::program::{Stage, repository};

/// Members that are refused, and the code that says why.
const REFUSED: [(&str, &str); 19] = [
    ("constructor", "plugin.api_mismatch"),
    ("cut-in-tables", "plugin.truncated"),
    ("damaged-header", "plugin.abi_mismatch"),
    ("damaged-manifest", "plugin.bad_manifest"),
    ("elf-head", "plugin.truncated"),
    ("empty", "plugin.not_elf"),
    ("endless-manifest", "plugin.bad_manifest"),
    ("folder", "plugin.unreadable"),
    ("libz", "plugin.not_a_plugin"),
    ("missing-header", "plugin.not_a_plugin"),
    ("needs-newer-host", "plugin.host_too_old"),
    ("symlink", "plugin.symlink"),
    ("text", "plugin.not_elf"),
    ("truncated", "plugin.truncated"),
    ("world-writable", "plugin.world_writable"),
    ("wrong-machine", "plugin.wrong_machine"),
    ("wrong-major", "plugin.api_mismatch"),
    ("wrong-minor", "plugin.api_mismatch"),
    ("wrong-width", "plugin.wrong_machine"),
];

/// Members that work: built otherwise, or against another minor of the API or another Arrow.
const WORKING: [&str; 5] = ["debug", "newer", "older", "other-arrow", "release"];

/// The folder of the zoo: beside the profile's folder in the target folder.
fn zoo() -> PathBuf {
    let folder = std::env::var_os("WHIMBREL_ZOO")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let program = crate::program::program();
            program
                .parent()
                .and_then(|profile| profile.parent())
                .expect("a target folder")
                .join("zoo")
        });
    assert!(
        folder.is_dir(),
        "there is no zoo in `{}`: run `cargo x zoo`",
        folder.display()
    );
    folder
}

fn stage_with(members: impl IntoIterator<Item = &'static str>) -> Stage {
    let zoo = zoo();
    members
        .into_iter()
        .fold(Stage::new(), |stage, member| stage.with_plugins(zoo.join(member)))
}

fn job(source: &str, sink: &str) -> String {
    format!(
        "name: zoo\nsource: {{ plugin: {source}, config: {{ records: 1000, collections: [a, b] }} }}\n\
         sink: {{ plugin: {sink}, config: {{ committed_path: ./committed.ndjson }} }}\nverification: none\n"
    )
}

#[test]
fn p5_every_member_is_listed_with_its_reason_and_none_ends_the_list() {
    let everything = REFUSED.iter().map(|(member, _)| *member).chain(WORKING);
    let list = stage_with(everything)
        .run(&["plugin", "list", "--json"])
        .expect(0)
        .json();
    let rows = list["plugins"].as_array().expect("a list of plugins");
    let row = |member: &str| {
        let folder = format!("/zoo/{member}/");
        let row = rows
            .iter()
            .find(|row| row["path"].as_str().is_some_and(|path| path.contains(&folder)));
        row.unwrap_or_else(|| panic!("`{member}` is not listed: {list:#}"))
    };
    for (member, code) in REFUSED {
        assert_eq!(row(member)["code"], code, "{member}: {:#}", row(member));
        assert_eq!(row(member)["usable"], false, "{member}");
        assert!(
            row(member)["reason"]
                .as_str()
                .is_some_and(|reason| !reason.is_empty()),
            "{member}"
        );
    }
    for member in WORKING {
        assert_eq!(row(member)["usable"], true, "{member}: {:#}", row(member));
        assert_eq!(row(member)["name"], format!("scripted-{member}"));
    }
}

#[test]
fn p5_a_wrong_version_names_both_versions() {
    let list = stage_with(["wrong-major"])
        .run(&["plugin", "list", "--json"])
        .expect(0)
        .json();
    let row = list["plugins"]
        .as_array()
        .and_then(|rows| rows.iter().find(|row| row["code"] == "plugin.api_mismatch"));
    let reason = row
        .and_then(|row| row["reason"].as_str())
        .expect("a reason")
        .to_owned();
    assert!(
        reason.contains("plugin API 2.1.0") && reason.contains("this host speaks 0."),
        "{reason}"
    );
}

#[test]
fn p5_a_run_with_a_refused_member_fails_before_anything_is_written() {
    for (member, code) in REFUSED {
        // A library of the system has no name that a job could use.
        if member == "libz" {
            continue;
        }
        let stage = stage_with([member, "debug"]);
        stage.write("job.yaml", job("scripted-debug", member));
        let answer = stage.run(&["run", "job.yaml", "--json"]);
        assert_ne!(answer.code, 0, "{member}");
        assert_eq!(answer.error()["code"], code, "{member}: {}", answer.out);
        assert!(!stage.path("committed.ndjson").exists(), "{member}");
    }
}

#[test]
fn plugins_of_other_minors_profiles_and_arrows_work_together() {
    for (index, source) in WORKING.iter().enumerate() {
        let sink = WORKING[(index + 1) % WORKING.len()];
        let stage = stage_with(WORKING);
        stage.write(
            "job.yaml",
            job(&format!("scripted-{source}"), &format!("scripted-{sink}")),
        );
        stage.run(&["run", "job.yaml", "--json"]).expect(0);
        let lines = std::fs::read_to_string(stage.path("committed.ndjson")).expect("the sink's file");
        let mut ids: Vec<(String, i64)> = lines
            .lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).expect("a line of JSON");
                (
                    line["collection"].to_string(),
                    line["record"]["id"].as_i64().expect("an id"),
                )
            })
            .collect();
        ids.sort();
        let expected = ["\"a\"", "\"b\""]
            .iter()
            .flat_map(|name| (0..1000).map(|id| ((*name).to_owned(), id)));
        assert!(ids.into_iter().eq(expected), "{source} to {sink}");
    }
}

/// An older API has no `flush`. A plugin of it that defers nevertheless is told apart from one that judges at once.
#[test]
fn nothing_is_committed_that_an_older_plugin_has_not_judged() {
    let stage = stage_with(["debug", "older"]);
    let deferring = |sink: &str| {
        let job = job("scripted-debug", sink);
        job.replace("committed_path:", "defers: true, committed_path:")
    };
    stage.write("job.yaml", deferring("scripted-older"));
    let answer = stage.run(&["run", "job.yaml", "--json"]).expect(1);
    assert_eq!(answer.error()["code"], "plugin.wrong_receipt");
    // The checkpoint with which the run began has no record.
    let durable = std::fs::read_to_string(stage.path("committed.ndjson")).unwrap_or_default();
    assert_eq!(durable, "");
    stage.write("job.yaml", deferring("scripted-debug"));
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    let lines = std::fs::read_to_string(stage.path("committed.ndjson")).expect("the sink's file");
    assert_eq!(lines.lines().count(), 2_000);
}

#[test]
fn a_plugin_that_aborts_on_panic_does_not_compile() {
    let said =
        std::fs::read_to_string(zoo().join("panic-abort/compiler.txt")).expect("what the compiler said");
    assert!(said.contains("must be built with panic = \"unwind\""), "{said}");
}

#[test]
fn the_member_with_another_arrow_has_another_arrow() {
    let lock = |path: &str| std::fs::read_to_string(repository().join(path)).expect("a lock file");
    let version = |lock: &str| {
        let mut lines = lock.lines().skip_while(|line| *line != "name = \"arrow-array\"");
        lines.nth(1).expect("a version").to_owned()
    };
    let (ours, other) = (lock("Cargo.lock"), lock("tests/zoo/other-arrow/Cargo.lock"));
    let major = |version: String| version.split(['"', '.']).nth(1).map(str::to_owned);
    assert_ne!(major(version(&ours)), major(version(&other)));
    assert_eq!(
        other.matches("name = \"arrow-array\"").count(),
        1,
        "two versions of Arrow in one plugin"
    );
}

#[test]
fn the_crate_page_of_the_plugin_api_and_the_minimal_source_are_the_same_plugin() {
    let read =
        |path: &str| std::fs::read_to_string(repository().join(path)).expect("a file of the repository");
    let page: String = read("plugin-api/src/lib.rs")
        .lines()
        .skip_while(|line| *line != "//! ```")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| {
            format!(
                "{}\n",
                line.trim_start_matches("//!")
                    .strip_prefix(' ')
                    .unwrap_or_default()
            )
        })
        .collect();
    let example = read("examples/minimal-source/src/lib.rs");
    let code = example
        .split_once("\n\n")
        .map(|(_, code)| code)
        .expect("a head and code");
    assert_eq!(page.trim(), code.trim());
    assert!(
        page.lines().count() < 60,
        "the page promises a plugin of under 60 lines"
    );
}
