//! The figures of the built program, each beside a reference in the same run: one table.
//!
//! `cargo x bench --bench speed` runs all of it. A word behind `--` runs a part: `documents` (NDJSON into a libSQL file),
//! `start`, `postgres`, `verification` or `firestore` (see the files in `speed`; they need what `cargo x services` installs). Inputs are made
//! deterministically; `WHIMBREL_BENCH_DOCS` (NDJSON) and `WHIMBREL_BENCH_EVENTS` (SQL for psql) name others.

#[path = "speed/documents.rs"]
mod documents;
#[path = "../harness/firestore.rs"]
mod emulator;
#[path = "speed/firestore.rs"]
mod firestore;
#[path = "speed/libsql.rs"]
mod libsql;
#[path = "speed/measured.rs"]
mod measured;
#[path = "speed/postgres.rs"]
mod postgres;
#[path = "../harness/postgres.rs"]
mod server;
#[path = "speed/verification.rs"]
mod verification;

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::Instant;

use measured::{Program, Row};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Documents that are made where no file is given.
const DOCUMENTS: usize = 500_000;
/// Starts of `--help` of which the median counts.
const HELP_RUNS: usize = 21;

fn main() -> Outcome<()> {
    let program = Program::find()?;
    // Cargo adds `--bench`; what is left are parts.
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let mut rows = Vec::new();
    if wants("documents") {
        rows.extend(libsql::documents(&program)?);
    }
    if wants("postgres") {
        rows.extend(postgres::measure(&program)?);
    }
    if wants("verification") {
        rows.extend(verification::measure(&program)?);
    }
    if wants("firestore") {
        rows.extend(firestore::measure(&program)?);
    }
    if wants("start") {
        rows.push(Row::duration(
            "start to first durable record, small job",
            first_record(&program)?,
            "300 ms",
        ));
        rows.push(Row::duration("--help, median", help(&program)?, "10 ms"));
    }
    measured::print(&rows);
    Ok(())
}

/// Milliseconds from the start of the program to the first commit of a small job.
fn first_record(program: &Program) -> Outcome<f64> {
    let folder = tempfile::tempdir()?;
    documents::write(&folder.path().join("docs.ndjson"), 1_000)?;
    let run = program.run(
        folder.path(),
        "name: first\nsource: { plugin: files, config: { path: docs.ndjson } }\n\
         sink: { plugin: turso, config: { url: \"file:first.db\" } }\nverification: none\n",
    )?;
    run.first_commit_ms
        .ok_or_else(|| "no commit was announced".into())
}

fn help(program: &Program) -> Outcome<f64> {
    let mut times = Vec::with_capacity(HELP_RUNS);
    for _ in 0..HELP_RUNS {
        let begun = Instant::now();
        Command::new(&program.path)
            .arg("--help")
            .stdout(Stdio::null())
            .status()?;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[HELP_RUNS / 2])
}
