//! NDJSON into a libSQL file, against `sqlite3 .import` of the same as CSV.
//! Also the import by itself, which the tables of PostgreSQL are measured against.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::measured::{Program, Row};
use crate::{DOCUMENTS, Outcome, documents};

/// The lines of the table.
pub fn documents(program: &Program) -> Outcome<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("docs.ndjson");
    documents::provide(&path, DOCUMENTS)?;
    let csv = folder.path().join("docs.csv");
    let table = documents::to_csv(&path, &csv)?;
    let size = std::fs::metadata(&path)?.len() as f64 / 1e6;
    println!(
        "{} documents, {size:.0} MB of NDJSON, {} columns\n",
        table.records,
        table.columns.len()
    );
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| format!("\"{column}\" {}", table.sql_type(column)))
        .collect();
    let create = format!("CREATE TABLE docs ({}, PRIMARY KEY (id));", columns.join(", "));
    let reference = import(&folder.path().join("reference.db"), &create, &csv, "docs", 1)?;
    let ours = program.run(
        folder.path(),
        "name: bench\nsource: { plugin: files, config: { path: docs.ndjson } }\n\
         sink: { plugin: turso, config: { url: \"file:whimbrel.db\" } }\n\
         collections: [{ source: docs, key: [id] }]\nverification: none\n",
    )?;
    Ok(vec![
        Row::reference("`sqlite3 .import` of the documents as CSV", reference),
        Row::ratio("NDJSON to a libSQL file, typed", ours.seconds, reference, "1.0x"),
        Row::memory("peak memory of that run", &ours),
    ])
}

/// Seconds that `sqlite3 .import` takes for `csv`, of which `skip` lines are a heading.
pub fn import(database: &Path, create: &str, csv: &Path, table: &str, skip: usize) -> Outcome<f64> {
    let status = Command::new("sqlite3")
        .arg(database)
        .arg(format!("PRAGMA journal_mode=WAL; {create}"))
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err("sqlite3 could not make the reference table".into());
    }
    let begun = Instant::now();
    let status = Command::new("sqlite3")
        .arg(database)
        .args([
            ".mode csv",
            &format!(".import --skip {skip} {} {table}", csv.display()),
        ])
        .status()?;
    if !status.success() {
        return Err("sqlite3 could not import the CSV".into());
    }
    Ok(begun.elapsed().as_secs_f64())
}
