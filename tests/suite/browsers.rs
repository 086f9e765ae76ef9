//! A real Chromium's profile and Firefox's, moved by the built program: what arrives is what the pages said of themselves.
//!
//! The database is read by npm `@libsql/client`, and keys and values are put together again by `libsql_pages.mjs`, so nothing
//! here believes whimbrel. Not here: how profiles are read, which the plugin's own tests show.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::browser::{chromium, fill, wait_for};
use crate::migration::sql;
use crate::program::{Answer, Stage, repository};
use crate::sqld::{Tools, tools};

/// Chromium writes five seconds after the page does, and later if it had much to write.
pub const WRITE_LIMIT: Duration = Duration::from_secs(90);
/// Entries of the set `first` that hold half of a surrogate pair, which are no Unicode.
pub const WITHHELD: u64 = 9;

/// For each origin `JSON.stringify(localStorage)` of its page.
pub type Pages = BTreeMap<String, String>;

/// Every entry is rejected that is no Unicode, so some may be.
pub fn job(profile: &Path, sink: &Value) -> String {
    json!({
        "name": "browser",
        "source": { "plugin": "local-storage", "config": { "path": profile } },
        "sink": sink,
        // Entries that are no Unicode are many among the few of these pages.
        "import": { "max_errors": 20, "breaker": { "rate": 1.0 } },
    })
    .to_string()
}

/// Holds a database against the pages: differences, or `same` with the numbers of keys, of rows and of entries that are no
/// Unicode.
pub fn compare(stage: &Stage, tools: &Tools, url: &str, token: &str, pages: &Pages) -> String {
    let told = stage.write("told.json", serde_json::to_vec(pages).unwrap());
    let script = include_str!("../harness/libsql_pages.mjs");
    let said = tools.script(script, url, token, &[told.to_str().unwrap()]);
    std::fs::remove_file(told).unwrap();
    said.trim().to_owned()
}

/// Numbers after `same`.
#[track_caller]
pub fn same(said: &str) -> [u64; 3] {
    let numbers = said.strip_prefix("same ").unwrap_or_else(|| panic!("{said}"));
    let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// A run that is done, with everything verified and this many entries rejected because they are no Unicode.
#[track_caller]
pub fn assert_verified(answer: Answer, rejected: u64) -> Value {
    let report = answer.expect(0).json();
    assert_eq!(report["outcome"], "done");
    assert_eq!(report["rejected_count"], rejected, "{}", report["rejected"]);
    for rejected in report["rejected"].as_array().unwrap() {
        assert_eq!(rejected[1]["code"], "local_storage.lone_surrogate", "{rejected}");
    }
    let results = report["verification"].as_array().unwrap();
    assert_eq!(results.len(), report["collections"].as_array().unwrap().len());
    for result in results {
        assert_eq!(result["comparison"], "equal", "{result}");
        assert_eq!(result["every_record"], true, "{result}");
    }
    report
}

fn database(file: &str) -> Value {
    json!({ "plugin": "turso", "config": { "url": format!("file:{file}") } })
}

fn url(stage: &Stage, file: &str) -> String {
    format!("file:{}", stage.path(file).display())
}

/// Names and contents of all files.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut content = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                content.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    content
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_live_chromium_arrives_as_its_pages_say_while_it_runs_and_afterwards() {
    let (Some(program), Some(tools)) = (chromium(), tools()) else {
        return;
    };
    let stage = Stage::new();
    let profile = stage.path("profile");
    let filled = fill(&program, &profile, "first");
    let pages: Pages = filled
        .told
        .iter()
        .map(|(origin, told)| (origin.clone(), told.json.clone()))
        .collect();
    // Two origins, and a frame of a third; the pages themselves no longer know the key that they deleted.
    assert_eq!(pages.len(), 3);
    assert!(!pages[&filled.origins[0]].contains(r#""deleted":"#));
    stage.write("job.yaml", job(&profile, &database("live.db")));
    wait_for("all of it to be on the disk", WRITE_LIMIT, || {
        for file in ["live.db", "live.db-wal", "live.db-shm"] {
            drop(std::fs::remove_file(stage.path(file)));
        }
        let answer = stage.run(&["run", "job.yaml", "--json"]);
        answer.code == 0 && compare(&stage, &tools, &url(&stage, "live.db"), "", &pages).starts_with("same ")
    });
    filled.browser.stop();

    let before = content(&profile);
    stage.write("job.yaml", job(&profile, &database("closed.db")));
    assert_verified(stage.run(&["run", "job.yaml", "--json"]), WITHHELD);
    let said = compare(&stage, &tools, &url(&stage, "closed.db"), "", &pages);
    let [keys, rows, withheld] = same(&said);
    // 1,000 items are left of 1,500, and the second origin has 42 entries.
    assert!(keys > 1_060 && rows > keys, "{said}");
    assert_eq!(withheld, WITHHELD);
    assert_eq!(
        sql(
            &stage.path("closed.db"),
            "SELECT count(*) FROM _values WHERE _key IN ('deleted', 'item:3')"
        ),
        "[(0,)]"
    );
    assert!(content(&profile) == before, "the profile was written to");
}

#[test]
fn a_firefox_profile_arrives_as_its_pages_said() {
    let Some(tools) = tools() else { return };
    let stage = Stage::new();
    let profile = stage.path("profile");
    let fixture = repository().join("plugins/local-storage/tests/fixtures/firefox");
    copy(&fixture.join("profile"), &profile);
    let text = std::fs::read(fixture.join("told.json")).unwrap();
    let told: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap();
    let mut pages: Pages = told
        .iter()
        .map(|(origin, told)| (origin.clone(), told["json"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(pages.len(), 3);
    // Firefox itself writes this key, half of a pair before another character, as if both were a pair.
    for page in pages.values_mut() {
        *page = page.replace("\\udc26:1", "\u{1983A}1");
    }
    let before = content(&profile);
    stage.write("job.yaml", job(&profile, &database("app.db")));
    assert_verified(stage.run(&["run", "job.yaml", "--json"]), WITHHELD - 1);
    let said = compare(&stage, &tools, &url(&stage, "app.db"), "", &pages);
    let [keys, _, withheld] = same(&said);
    assert!(keys > 80, "{said}");
    assert_eq!(withheld, WITHHELD - 1);
    assert!(content(&profile) == before, "the profile was written to");

    // The comparison sees a value, a key that is gone, one too many, and text that ends at a NUL.
    let row = "WHERE rowid = (SELECT rowid FROM note ORDER BY rowid LIMIT 1 OFFSET 7)";
    let changes = [
        (format!("UPDATE note SET at = at + 1 {row}"), "another value of"),
        (format!("DELETE FROM note {row}"), "missing: "),
        (format!("UPDATE note SET _key = 'note:999' {row}"), "no page has"),
        (
            "UPDATE _values SET value_text = 'a' WHERE _key = 'nul'".to_owned(),
            "another value of",
        ),
    ];
    for (statement, difference) in changes {
        std::fs::copy(stage.path("app.db"), stage.path("changed.db")).unwrap();
        sql(&stage.path("changed.db"), &statement);
        let said = compare(&stage, &tools, &url(&stage, "changed.db"), "", &pages);
        assert!(said.contains(difference), "{statement}: {said}");
    }
}
