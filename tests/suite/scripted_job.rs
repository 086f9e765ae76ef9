//! Jobs from the scripted source to the scripted sink, put together key by key, and what both sides were asked to do.
//!
//! Each call of either side is a line of a file of calls, so that a test counts what a plugin saw and not what whimbrel
//! says. What the sink made durable is in a file as well. Not here: the program (`program.rs`), which runs the job.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::Stage;

/// What the sink made durable, one JSON line per record.
pub const COMMITTED: &str = "committed.ndjson";
/// The calls of the source.
pub const SOURCE_CALLS: &str = "source.calls";
/// The calls of the sink, and of its reading half.
pub const SINK_CALLS: &str = "sink.calls";

/// A job. JSON is YAML, so it is written as such.
#[derive(Clone)]
pub struct ScriptedJob(Value);

impl ScriptedJob {
    /// From 100 records of one collection into an empty sink.
    pub fn new() -> Self {
        Self(json!({
            "name": "scripted",
            "source": { "plugin": "scripted", "config": { "store": "source", "calls_path": SOURCE_CALLS } },
            "sink": {
                "plugin": "scripted",
                "config": { "store": "sink", "calls_path": SINK_CALLS, "committed_path": COMMITTED },
            },
        }))
    }

    /// Sets the value at `pointer`; mappings on the way are made.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut at = &mut self.0;
        for key in pointer.split('/').skip(1) {
            at = match at {
                Value::Array(items) => &mut items[key.parse::<usize>().expect("an index")],
                other => &mut other[key],
            };
        }
        *at = value;
        self
    }

    /// Sets a key of the source's config.
    pub fn source(self, key: &str, value: Value) -> Self {
        self.set(&format!("/source/config/{key}"), value)
    }

    /// Sets a key of the sink's config.
    pub fn sink(self, key: &str, value: Value) -> Self {
        self.set(&format!("/sink/config/{key}"), value)
    }

    /// Writes into a database file in place of the scripted sink.
    pub fn into_database(self, file: &str) -> Self {
        let sink = json!({ "plugin": "turso", "config": { "url": format!("file:{file}") } });
        self.set("/sink", sink)
    }

    /// Writes it as `job.yaml`.
    pub fn write(&self, stage: &Stage) {
        stage.write("job.yaml", self.0.to_string());
    }

    /// An empty folder with it.
    pub fn stage(&self) -> Stage {
        let stage = Stage::new();
        self.write(&stage);
        stage
    }
}

/// One way to misbehave, from occurrence `at` on, so many times; 0 is for ever.
pub fn misbehave(call: &str, at: u64, times: u64, how: &str) -> Value {
    json!([{ "call": call, "at": at, "times": times, "how": how }])
}

/// What each `call` in the file of calls was about; empty if there is no such file.
pub fn calls(stage: &Stage, file: &str, call: &str) -> Vec<Value> {
    lines(&stage.path(file))
        .into_iter()
        .filter(|line| line["call"] == call)
        .map(|mut line| line["about"].take())
        .collect()
}

/// The commits that the sink was asked for in lanes of records; the run's own lane, which is of no collection, has others.
pub fn data_commits(stage: &Stage) -> Vec<Value> {
    let mut commits = calls(stage, SINK_CALLS, "commit");
    commits.retain(|about| about["collection"] != "");
    commits
}

/// How many records of each collection the sink made durable, each counted once, by its collection.
///
/// # Panics
/// If a record was made durable twice.
pub fn committed(stage: &Stage) -> BTreeMap<String, usize> {
    let mut seen = std::collections::BTreeSet::new();
    let mut counts = BTreeMap::new();
    for line in lines(&stage.path(COMMITTED)) {
        let collection = line["collection"].as_str().expect("a name").to_owned();
        let id = line["record"]["id"].as_u64().expect("a number");
        assert!(
            seen.insert((collection.clone(), id)),
            "{collection} {id} is there twice"
        );
        *counts.entry(collection).or_default() += 1;
    }
    counts
}

/// The JSON lines of a file; none if it is not there. A last one without its end is still being written.
pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let parsed = whole.lines().map(|line| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()))
    });
    parsed.collect()
}
