//! The figures of the built program, each beside a reference in the same run: one table.
//!
//! 500,000 nested documents (or `WHIMBREL_BENCH_DOCS`, an NDJSON file) into a libSQL file against `sqlite3 .import` of
//! the same as CSV; peak memory; time to the first durable record; `--help`. Run with `cargo x bench`.

#[path = "speed/documents.rs"]
mod documents;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Documents that are made where no file is given.
const DOCUMENTS: usize = 500_000;
/// Starts of `--help` of which the median counts.
const HELP_RUNS: usize = 21;

fn main() -> Outcome<()> {
    let program = program()?;
    let folder = tempfile::tempdir()?;
    let documents = folder.path().join("docs.ndjson");
    match std::env::var_os("WHIMBREL_BENCH_DOCS") {
        Some(given) => drop(std::fs::copy(given, &documents)?),
        None => documents::write(&documents, DOCUMENTS)?,
    }
    let csv = folder.path().join("docs.csv");
    let table = documents::to_csv(&documents, &csv)?;
    let size = std::fs::metadata(&documents)?.len() as f64 / 1e6;
    println!(
        "{} documents, {size:.0} MB of NDJSON, {} columns",
        table.records,
        table.columns.len()
    );

    let reference = import_csv(folder.path(), &csv, &table)?;
    let ours = migrate(&program, folder.path())?;
    let help = help(&program)?;
    println!("{:44} {:>10} {:>8} {:>8}", "work", "measured", "ratio", "goal");
    println!("{:44} {:>8.2} s", "sqlite3 .import of the same as CSV", reference);
    println!(
        "{:44} {:>8.2} s {:>7.2}x {:>8}",
        "NDJSON to a libSQL file, typed",
        ours.seconds,
        reference / ours.seconds,
        "1.0x"
    );
    println!(
        "{:44} {:>6.0} MiB {:>8} {:>8}",
        "peak memory of that run", ours.memory_mib, "", "128 MiB"
    );
    println!(
        "{:44} {:>7} ms {:>8} {:>8}",
        "start to first durable record, small job",
        first_record(&program)?,
        "",
        "300 ms"
    );
    println!(
        "{:44} {:>7.1} ms {:>8} {:>8}",
        "--help, median", help, "", "10 ms"
    );
    Ok(())
}

fn program() -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os("WHIMBREL_BIN") {
        return Ok(path.into());
    }
    let mut folder = std::env::current_exe()?;
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    Ok(folder.join("whimbrel"))
}

fn import_csv(folder: &Path, csv: &Path, table: &documents::Table) -> Outcome<f64> {
    let database = folder.join("reference.db");
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| format!("\"{column}\" {}", table.sql_type(column)))
        .collect();
    let create = format!(
        "PRAGMA journal_mode=WAL; CREATE TABLE docs ({}, PRIMARY KEY (id));",
        columns.join(", ")
    );
    let status = Command::new("sqlite3")
        .arg(&database)
        .arg(&create)
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err("sqlite3 could not make the reference table".into());
    }
    let begun = Instant::now();
    let status = Command::new("sqlite3")
        .arg(&database)
        .args([".mode csv", &format!(".import --skip 1 {} docs", csv.display())])
        .status()?;
    let seconds = begun.elapsed().as_secs_f64();
    if !status.success() {
        return Err("sqlite3 could not import the CSV".into());
    }
    Ok(seconds)
}

struct Migrated {
    seconds: f64,
    memory_mib: f64,
}

fn run_job(program: &Path, folder: &Path, job: &str) -> Outcome<(f64, serde_json::Value)> {
    let path = folder.join("job.yaml");
    std::fs::write(&path, job)?;
    let begun = Instant::now();
    let output = Command::new(program)
        .arg("run")
        .arg(&path)
        .arg("--json")
        .stdin(Stdio::null())
        .output()?;
    let seconds = begun.elapsed().as_secs_f64();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    if !output.status.success() {
        return Err(format!("the run failed: {}", report["errors"]).into());
    }
    Ok((seconds, report))
}

fn migrate(program: &Path, folder: &Path) -> Outcome<Migrated> {
    let (seconds, report) = run_job(
        program,
        folder,
        "name: bench\nsource: { plugin: files, config: { path: docs.ndjson } }\n\
         sink: { plugin: turso, config: { url: \"file:whimbrel.db\" } }\n\
         collections: [{ source: docs, key: [id] }]\nverification: none\n",
    )?;
    Ok(Migrated {
        seconds,
        memory_mib: report["memory_peak_bytes"].as_f64().unwrap_or_default() / (1024.0 * 1024.0),
    })
}

fn first_record(program: &Path) -> Outcome<u64> {
    let folder = tempfile::tempdir()?;
    documents::write(&folder.path().join("docs.ndjson"), 1_000)?;
    let (_, report) = run_job(
        program,
        folder.path(),
        "name: first\nsource: { plugin: files, config: { path: docs.ndjson } }\n\
         sink: { plugin: turso, config: { url: \"file:first.db\" } }\nverification: none\n",
    )?;
    report["first_commit_ms"]
        .as_u64()
        .ok_or_else(|| "no commit was announced".into())
}

fn help(program: &Path) -> Outcome<f64> {
    let mut times = Vec::with_capacity(HELP_RUNS);
    for _ in 0..HELP_RUNS {
        let begun = Instant::now();
        Command::new(program)
            .arg("--help")
            .stdout(Stdio::null())
            .status()?;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[HELP_RUNS / 2])
}
