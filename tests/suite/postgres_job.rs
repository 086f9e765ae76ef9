//! Jobs from files into PostgreSQL and back, put together key by key, and what a database holds, told by psql.
//!
//! Not here: the servers (`harness/postgres.rs`) and what is spoiled (`postgres_refusals.rs`, `postgres_faults.rs`).

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::postgres::Database;
use crate::program::{Answer, Stage};
use crate::running::End;

/// A side of a job: a database by its URL.
pub fn database(url: &str) -> Value {
    json!({ "plugin": "postgres", "config": { "url": url } })
}

/// A side of a job: a file, or as a sink a folder of files.
pub fn files(path: &str) -> Value {
    json!({ "plugin": "files", "config": { "path": path } })
}

/// A job. JSON is YAML, so it is written as such.
#[derive(Clone)]
pub struct Job(Value);

impl Job {
    /// From `source` into `sink`.
    pub fn new(source: Value, sink: Value) -> Self {
        Self(json!({ "name": "postgres-test", "source": source, "sink": sink }))
    }

    /// From `docs.ndjson`, whose key is `id`, into the table `docs` of a database.
    pub fn docs_into(url: &str) -> Self {
        Self::new(files("docs.ndjson"), database(url))
            .set("/collections", json!([{ "source": "docs", "key": ["id"] }]))
    }

    /// From the files of [`write_parts`] into tables of their names, one after the other: each of them is a transaction.
    pub fn parts_into(url: &str) -> Self {
        let collections: Vec<Value> = part_names()
            .map(|name| json!({ "source": name, "key": ["id"] }))
            .collect();
        Self::new(files("in"), database(url))
            .set("/collections", json!(collections))
            .set("/limits/collections_parallel", json!(1))
            .set("/import/retry_delay_ms", json!(10))
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

    /// Writes it as `job.yaml`.
    pub fn write(&self, stage: &Stage) {
        stage.write("job.yaml", self.0.to_string());
    }
}

/// All errors of a report: code, message and, in brackets, the help.
pub fn told(report: &Value) -> String {
    let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let line = |error: &Value| {
        let (code, message, help) = (text(error, "code"), text(error, "message"), text(error, "help"));
        format!("{code}: {message} ({help})\n")
    };
    report["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(line)
        .collect()
}

/// The errors, and where there are none what else is wrong.
fn trouble(report: &Value) -> String {
    match told(report) {
        text if text.is_empty() => format!("{} {}", report["verification"], report["rejected"]),
        text => text,
    }
}

/// The report of a command, which must have ended with `exit`.
#[track_caller]
pub fn report_of(answer: Answer, exit: i32) -> Value {
    let report = answer.json();
    assert_eq!(answer.code, exit, "exit code\n{}{}", trouble(&report), answer.err);
    report
}

/// A run must have ended with `exit`.
#[track_caller]
pub fn ended(end: End, exit: i32) -> End {
    assert_eq!(end.code, exit, "exit code\n{}{}", trouble(end.report()), end.err);
    end
}

/// How many files [`write_parts`] makes.
pub const PARTS: u64 = 8;
/// Records in each of them, of a thousand octets each.
pub const PART_RECORDS: u64 = 1_000;

/// The names of the collections of [`Job::parts_into`], in the order of their files.
fn part_names() -> impl Iterator<Item = String> {
    (0..PARTS).map(|part| format!("part{part}"))
}

/// Writes the files of [`Job::parts_into`].
pub fn write_parts(stage: &Stage) {
    std::fs::create_dir(stage.path("in")).expect("a folder in a temporary folder");
    for name in part_names() {
        stage.write(&format!("in/{name}.ndjson"), documents(PART_RECORDS, 1_000));
    }
}

/// How many of the parts have arrived.
///
/// # Panics
/// If one is there in part or twice, or if the report, once there is one, says anything else.
#[track_caller]
pub fn whole_parts(there: &Database, report: Option<&Value>) -> u64 {
    let mut whole = 0;
    for name in part_names() {
        let sums = format!(
            "SELECT count(*), count(DISTINCT id), coalesce(sum(id), 0), sum(length(pad)) FROM {name}"
        );
        let found = there.try_sql(&sums).unwrap_or_else(|_| "0|0|0|".to_owned());
        let is_whole = found != "0|0|0|";
        if is_whole {
            let ids = PART_RECORDS * (PART_RECORDS - 1) / 2;
            assert_eq!(
                found,
                format!("{PART_RECORDS}|{PART_RECORDS}|{ids}|{}", PART_RECORDS * 1_000),
                "{name}"
            );
            whole += 1;
        }
        let Some(report) = report else { continue };
        let said = report["collections"].as_array().into_iter().flatten();
        let said: u64 = said
            .filter(|collection| collection["source"] == name.as_str())
            .filter_map(|collection| collection["written_count"].as_u64())
            .sum();
        assert_eq!(
            said,
            if is_whole { PART_RECORDS } else { 0 },
            "what is said to be written of {name} is there"
        );
    }
    whole
}

/// Writes `docs.ndjson` with `count` records of about `size` octets, whose texts no compression makes small.
pub fn write_docs(stage: &Stage, count: u64, size: usize) {
    stage.write("docs.ndjson", documents(count, size));
}

fn documents(count: u64, size: usize) -> String {
    let mut text = String::new();
    for id in 0..count {
        writeln!(
            text,
            r#"{{"id":{id},"name":"name {id}","n":{id}.5,"pad":"{}"}}"#,
            noise(id, size)
        )
        .expect("a text can be written to");
    }
    text
}

/// Letters and digits that differ from record to record. Source: SplitMix64, Steele, Lea and Flood 2014.
pub fn noise(seed: u64, size: usize) -> String {
    let mut state = seed;
    let mut text = String::with_capacity(size + 16);
    while text.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        write!(text, "{:016x}", mixed ^ (mixed >> 31)).expect("a text can be written to");
    }
    text.truncate(size);
    text
}

/// Everything in a database that is not the server's own: each relation, schema and type, and how many rows each table has.
/// Two equal answers mean that nothing was written between them.
pub fn content(database: &Database) -> String {
    let names = database.sql(
        "SELECT n.nspname, c.relname, c.relkind, c.xmin FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1, 2; \
         SELECT nspname, xmin FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' ORDER BY 1; \
         SELECT rolname FROM pg_roles ORDER BY 1",
    );
    let rows = database.sql(
        "SELECT table_schema, table_name, (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) || '':'' || \
         coalesce(sum(hashtext(t::text)), 0) AS n FROM %I.%I t', table_schema, table_name), false, true, '')))[1] \
         FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', \
         'information_schema') ORDER BY 1, 2",
    );
    format!("{names}\n{rows}")
}

/// How many rows a table has, and over how many different values of `id`.
pub fn count(database: &Database, table: &str) -> (u64, u64) {
    let text = database.sql(&format!("SELECT count(*), count(DISTINCT id) FROM {table}"));
    let (rows, ids) = text.split_once('|').expect("two columns");
    (rows.parse().expect("a count"), ids.parse().expect("a count"))
}

/// How many rows a table has; none if it is not there.
pub fn row_count(database: &Database, table: &str) -> u64 {
    let counted = database.try_sql(&format!("SELECT count(*) FROM {table}"));
    counted.map_or(0, |text| text.parse().expect("a count"))
}
