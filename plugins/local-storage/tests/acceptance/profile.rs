//! What the tests of profiles share: fixtures copied to temporary folders, what their pages said, and the comparison of
//! that with what is read.
//!
//! Pages tell UTF-16 units; text is taken apart here by rules of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use whimbrel_plugin_api::{Error, Finding};

use crate::browser::{Told, entry};
use crate::harness::{all, everything, try_open};
use crate::rebuild::{self, Storage};

pub type Units = Vec<u16>;

/// A copy of a fixture, or an empty folder, removed when dropped.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// `chromium` or `firefox`.
    pub fn of(browser: &str) -> Self {
        let folder = Self::empty();
        copy(&fixtures().join(browser).join("profile"), folder.path());
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Names and contents of all files.
    pub fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut content = BTreeMap::new();
        let mut folders = vec![self.path().to_owned()];
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
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// What the pages of a fixture said, by origin.
pub fn told(browser: &str) -> BTreeMap<String, Told> {
    let text = std::fs::read_to_string(fixtures().join(browser).join("told.json")).unwrap();
    let told: BTreeMap<String, Json> = serde_json::from_str(&text).unwrap();
    let of_origin = |(origin, told): (String, Json)| {
        let units = told["units"].as_array().unwrap();
        let told = Told {
            json: told["json"].as_str().unwrap().to_owned(),
            entries: units.iter().map(|line| entry(line.as_str().unwrap())).collect(),
        };
        (origin, told)
    };
    told.into_iter().map(of_origin).collect()
}

pub fn config(path: &Path) -> Json {
    json!({ "path": path })
}

pub fn error(config: &Json) -> Error {
    try_open(config).unwrap().collections(&all()).unwrap_err()
}

/// Runs the test `name` of this program once more, as a user who owns nothing, with this folder. `false` unless this is root,
/// whom no permission stops.
pub fn as_nobody(name: &str, folder: &Path) -> bool {
    let program = std::env::current_exe().unwrap();
    let run = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env(NOBODYS_FOLDER, folder)
        .output();
    match run {
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("setpriv: ") => false,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "as nobody: {said}");
            let found = String::from_utf8_lossy(&output.stdout);
            assert!(found.contains("1 passed"), "there is no test `{name}`: {found}");
            true
        }
        Err(_) => false,
    }
}

/// Names the folder to a test that runs as nobody.
pub const NOBODYS_FOLDER: &str = "WHIMBREL_TEST_NOBODYS_FOLDER";

pub fn findings(config: &Json) -> Vec<Finding> {
    try_open(config).unwrap().check().unwrap()
}

pub fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

/// All entries that a source delivers or rejects, the latter by origin and key.
pub type Rejected = BTreeMap<(String, Units), Units>;

/// Whether what is read is what the pages said: each entry is delivered, or rejected for a half of a surrogate pair with all
/// of its units in the report.
pub fn compare(config: &Json, told: &BTreeMap<String, Told>) -> Result<(), String> {
    let mut source = try_open(config).map_err(|error| error.message)?;
    source.collections(&all()).map_err(|error| error.message)?;
    let collections = everything(&mut *source);
    let mut rejected = Rejected::new();
    for record in collections.values().flat_map(|read| &read.rejected) {
        if record.code != "local_storage.lone_surrogate" {
            return Err(format!("{}: {}", record.record, record.code));
        }
        let (_, origin) = record.record.rsplit_once(" of ").ok_or("no origin is named")?;
        let mut strings = Strings(
            record
                .data
                .as_deref()
                .ok_or("a record is rejected without its data")?,
        );
        let (key, value) = (strings.next().unwrap(), strings.next().unwrap());
        rejected.insert((origin.to_owned(), key), value);
    }
    let mut storage = Storage::new();
    for (origin, told) in told {
        // What the page says in two ways is the same.
        let mut strings = Strings(&told.json);
        let mut by_json = BTreeMap::new();
        while let Some(key) = strings.next() {
            by_json.insert(key, strings.next().unwrap());
        }
        assert_eq!(by_json, told.entries, "the page of {origin} contradicts itself");
        for (key, value) in &told.entries {
            let has_half = is_lone(key) || is_lone(value) || holds_escaped_half(value);
            match rejected.remove(&(origin.clone(), key.clone())) {
                Some(found) if has_half && found == *value => {}
                Some(_) => return Err(format!("{origin}: an entry is rejected wrongly")),
                None if has_half => return Err(format!("{origin}: half of a surrogate pair is lost")),
                None => {
                    let text = |units: &Units| String::from_utf16(units).unwrap();
                    storage.insert((origin.clone(), text(key)), text(value));
                }
            }
        }
    }
    if !rejected.is_empty() {
        return Err(format!(
            "{} entries are rejected that the pages do not have",
            rejected.len()
        ));
    }
    rebuild::check(&storage, &collections).map_err(|error| error.to_string())
}

fn is_lone(units: &[u16]) -> bool {
    String::from_utf16(units).is_err()
}

/// An escape in JSON within a value; the pages write only this one.
fn holds_escaped_half(value: &[u16]) -> bool {
    String::from_utf16_lossy(value).contains("cut \\ud83d")
}

/// The strings that stand in JSON, one after the other, as UTF-16 units.
struct Strings<'a>(&'a str);

impl Iterator for Strings<'_> {
    type Item = Units;

    fn next(&mut self) -> Option<Units> {
        let mut rest = &self.0[self.0.find('"')? + 1..];
        let mut units = Units::new();
        loop {
            let character = rest.chars().next().unwrap();
            rest = &rest[character.len_utf8()..];
            match character {
                '"' => break,
                '\\' => {
                    let escape = rest.as_bytes()[0];
                    rest = &rest[1..];
                    units.push(match escape {
                        b'u' => {
                            let unit = u16::from_str_radix(&rest[..4], 16).unwrap();
                            rest = &rest[4..];
                            unit
                        }
                        b'n' => 10,
                        b'r' => 13,
                        b't' => 9,
                        b'b' => 8,
                        b'f' => 12,
                        other => u16::from(other),
                    });
                }
                _ => units.extend(character.encode_utf16(&mut [0; 2]).iter()),
            }
        }
        self.0 = rest;
        Some(units)
    }
}
