//! PostgreSQL to PostgreSQL, to a libSQL file, from NDJSON, and merging, each beside the database's own tools.
//!
//! Both databases are on one server: a new one, or the one of `WHIMBREL_BENCH_POSTGRES` (a URL that may create databases).
//! `WHIMBREL_BENCH_ROWS` rows (5,000,000) are copied, a fifth of them into the file and under the merge. Checksums of both sides
//! are computed by the databases and must be equal.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::measured::{Program, Row};
use crate::server::{Server, Version};
use crate::{DOCUMENTS, Outcome, documents, libsql};

/// Rows that are copied unless told otherwise.
const ROWS: u64 = 5_000_000;
/// One of so many rows is changed before the merge, and as many tenths are new.
const CHANGED_EVERY: u64 = 20;

const CREATE: &str = "CREATE TABLE events (id bigint PRIMARY KEY, uid uuid NOT NULL, updated_at timestamptz NOT NULL, \
     title text NOT NULL, amount numeric(12,2) NOT NULL, active boolean NOT NULL, payload jsonb NOT NULL, qty integer)";
const CHECKSUM: &str = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM events t";

/// One database, reached with psql.
pub struct Database {
    pub url: String,
}

impl Database {
    fn psql(&self, statements: &[&str]) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1"]).arg(&self.url);
        for statement in statements {
            psql.args(["-c", statement]);
        }
        psql
    }

    pub fn run(&self, statements: &[&str]) -> Outcome<String> {
        let output = self.psql(statements).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            return Err(format!("psql: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Seconds that psql takes to send the rows of a query through a pipe into psql here.
    fn piped(&self, from: &Self, copy_out: &str, statements: &[&str]) -> Outcome<f64> {
        let begun = Instant::now();
        let mut reader = from
            .psql(&[copy_out])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipe = reader.stdout.take().ok_or("psql has no output")?;
        let status = self.psql(statements).stdin(pipe).stdout(Stdio::null()).status()?;
        if !status.success() || !reader.wait()?.success() {
            return Err("the pipe of two psql failed".into());
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Fills `events`: the given SQL for psql with `first` and `last`, or rows of the same shape.
    pub fn fill(&self, rows: u64) -> Outcome<()> {
        if let Some(script) = std::env::var_os("WHIMBREL_BENCH_EVENTS") {
            let status = self
                .psql(&[])
                .args(["-v", "first=1", "-v", &format!("last={rows}"), "-f"])
                .arg(script)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()?;
            return if status.success() {
                Ok(())
            } else {
                Err("the script for the rows failed".into())
            };
        }
        self.run(&[CREATE, &insert(1, rows, ""), "VACUUM ANALYZE events"])
            .map(drop)
    }
}

/// Deterministic rows: every value is a hash of the id and of `salt`.
fn insert(first: u64, last: u64, salt: &str) -> String {
    format!(
        "INSERT INTO events SELECT i, md5(i || 'uid{salt}')::uuid, \
         timestamptz '2020-01-01 00:00:00Z' + ((h & 4503599627370495) % 126144000000000) * interval '1 microsecond', \
         (ARRAY['order','naïve','Zürich','東京','said \"hi\"','O''Brien','back\\slash','😀','a,b','São Paulo'])[1 + (h & 7)] \
         || ' ' || md5(i || 't') || ' #' || (h & 1048575), ((h & 2147483647) - 500000000)::numeric / 100, (h & 3) > 0, \
         jsonb_build_object('sku', left(md5(i || 's'), 10), 'n', h & 9223372036854775807, 'price', (h & 1048575)::numeric / 1000, \
         'tags', jsonb_build_array('red', 't' || (h & 63)), 'addr', jsonb_build_object('city', 'Łódź', 'zip', (h & 65535)::text)), \
         CASE WHEN (h & 15) < 5 THEN NULL ELSE (h & 2147483647)::int - 1000000000 END \
         FROM generate_series({first}, {last}) i, LATERAL (SELECT hashint8extended(i, 7) AS h) x"
    )
}

struct Bench<'a> {
    program: &'a Program,
    source: Database,
    sink: Database,
    rows: u64,
    table: Vec<Row>,
}

/// How many rows are asked for.
pub fn rows_wanted() -> Outcome<u64> {
    Ok(match std::env::var("WHIMBREL_BENCH_ROWS") {
        Ok(rows) => rows.parse()?,
        Err(_) => ROWS,
    })
}

/// Two empty databases of one server, and the server if it is our own; it ends when that is dropped.
pub fn both_databases() -> Outcome<(Option<Server>, Database, Database)> {
    let given = std::env::var("WHIMBREL_BENCH_POSTGRES").ok();
    let own = match &given {
        Some(_) => None,
        None => Some(
            Server::own(Version::V18, &[("max_wal_size", "4GB"), ("fsync", "on")])
                .ok_or("there is no PostgreSQL 18")?,
        ),
    };
    let admin = Database {
        url: given
            .or_else(|| own.as_ref().map(|server| server.endpoint().url("postgres")))
            .ok_or("no server")?,
    };
    for name in ["whimbrel_bench_a", "whimbrel_bench_b"] {
        admin.run(&[
            &format!("DROP DATABASE IF EXISTS {name}"),
            &format!("CREATE DATABASE {name}"),
        ])?;
    }
    let database = |name: &str| Database {
        url: in_database(&admin.url, name),
    };
    println!("PostgreSQL {}", admin.run(&["SHOW server_version"])?);
    Ok((own, database("whimbrel_bench_a"), database("whimbrel_bench_b")))
}

/// The lines of the table.
pub fn measure(program: &Program) -> Outcome<Vec<Row>> {
    let rows = rows_wanted()?;
    let (_server, source, sink) = both_databases()?;
    let mut bench = Bench {
        program,
        source,
        sink,
        rows,
        table: Vec::new(),
    };
    println!("{rows} rows\n");
    bench.source.fill(rows)?;
    bench.copy()?;
    bench.merge()?;
    bench.fill_file()?;
    bench.documents()?;
    Ok(bench.table)
}

/// The same server's database `name`.
fn in_database(url: &str, name: &str) -> String {
    let (before, _) = url.rsplit_once('/').unwrap_or((url, ""));
    format!("{before}/{name}")
}

impl Bench<'_> {
    fn job(&self, source: &str, sink: &str, rest: &str) -> String {
        format!("name: bench\nsource: {source}\nsink: {sink}\n{rest}\nverification: none\n")
    }

    fn connector(database: &Database) -> String {
        format!("{{ plugin: postgres, config: {{ url: \"{}\" }} }}", database.url)
    }

    fn copy(&mut self) -> Outcome<()> {
        let wanted = self.source.run(&[CHECKSUM])?;
        self.sink.run(&[CREATE])?;
        let reference = self.sink.piped(
            &self.source,
            "COPY events TO STDOUT (FORMAT binary)",
            &["COPY events FROM STDIN (FORMAT binary)"],
        )?;
        self.sink.run(&["DROP TABLE events", "CHECKPOINT"])?;
        let folder = tempfile::tempdir()?;
        let job = |rest: &str| {
            let (source, sink) = (Self::connector(&self.source), Self::connector(&self.sink));
            self.job(
                &source,
                &sink,
                &format!("collections: [{{ source: events }}]{rest}"),
            )
        };
        let bare = self
            .program
            .run(folder.path(), &job("\nimport: { checkpoints: false }"))?;
        self.sink.run(&["DROP TABLE events", "CHECKPOINT"])?;
        let ours = self.program.run(folder.path(), &job(""))?;
        if self.sink.run(&[CHECKSUM])? != wanted {
            return Err("the copy is not what it was copied from".into());
        }
        self.table.push(Row::reference(
            format!(
                "`psql COPY (binary) \\| psql COPY`, {} rows with a primary key",
                self.rows
            ),
            reference,
        ));
        self.table.push(Row::ratio(
            "PostgreSQL to PostgreSQL",
            ours.seconds,
            reference,
            "0.9x",
        ));
        self.table.push(Row::memory("peak memory of that run", &ours));
        self.table.push(Row::ratio(
            "the same beside a run without checkpoints",
            ours.seconds,
            bare.seconds,
            "0.95x",
        ));
        self.half(folder.path())
    }

    /// Half of the rows, to see whether the memory depends on their number.
    fn half(&mut self, folder: &Path) -> Outcome<()> {
        self.source.run(&[&format!(
            "CREATE TABLE half AS SELECT * FROM events WHERE id <= {}; ALTER TABLE half ADD PRIMARY KEY (id); ANALYZE half",
            self.rows / 2
        )])?;
        let job = self.job(
            &Self::connector(&self.source),
            &Self::connector(&self.sink),
            "collections: [{ source: half }]",
        );
        let ours = self.program.run(folder, &job)?;
        self.source.run(&["DROP TABLE half"])?;
        self.sink.run(&["DROP TABLE half", "CHECKPOINT"])?;
        self.table
            .push(Row::memory("peak memory with half of the rows", &ours));
        Ok(())
    }

    fn merge(&mut self) -> Outcome<()> {
        let stored = self.rows / 5;
        let (changed, new) = (stored / CHANGED_EVERY, stored / CHANGED_EVERY / 10);
        self.sink.run(&[
            &format!("DELETE FROM events WHERE id > {stored}"),
            "VACUUM FULL events",
        ])?;
        self.source.run(&[
            "CREATE TABLE changes (LIKE events INCLUDING ALL)",
            &insert(1, changed, "changed")
                .replace("INTO events", "INTO changes")
                .replacen("SELECT i,", &format!("SELECT i * {CHANGED_EVERY},"), 1),
            &insert(stored + 1, stored + new, "new").replace("INTO events", "INTO changes"),
            "ANALYZE changes",
        ])?;
        self.sink.run(&["CREATE TABLE kept AS SELECT * FROM events"])?;
        let columns = "uid updated_at title amount active payload qty";
        let set: Vec<String> = columns
            .split(' ')
            .map(|column| format!("{column} = EXCLUDED.{column}"))
            .collect();
        let insert = format!(
            "INSERT INTO events SELECT * FROM stage ON CONFLICT (id) DO UPDATE SET {}",
            set.join(", ")
        );
        let reference = self.sink.piped(
            &self.source,
            "COPY changes TO STDOUT (FORMAT binary)",
            &[
                "BEGIN",
                "CREATE TEMP TABLE stage (LIKE events) ON COMMIT DROP",
                "COPY stage FROM STDIN (FORMAT binary)",
                &insert,
                "COMMIT",
            ],
        )?;
        let wanted = self.sink.run(&[CHECKSUM])?;
        self.sink.run(&[
            "TRUNCATE events",
            "INSERT INTO events SELECT * FROM kept ORDER BY id",
            "VACUUM ANALYZE events",
            "CHECKPOINT",
        ])?;
        let folder = tempfile::tempdir()?;
        let job = self.job(
            &Self::connector(&self.source),
            &Self::connector(&self.sink),
            "collections: [{ source: changes, sink: events }]",
        );
        let ours = self.program.run(folder.path(), &job)?;
        if self.sink.run(&[CHECKSUM])? != wanted {
            return Err("the merge is not what was merged by hand".into());
        }
        self.table.push(Row::reference(
            format!(
                "`COPY` to a temporary table and `INSERT ON CONFLICT`, {} rows into {stored}",
                changed + new
            ),
            reference,
        ));
        self.table.push(Row::ratio(
            "merge by policy `overwrite`",
            ours.seconds,
            reference,
            "0.8x",
        ));
        self.table.push(Row::memory("peak memory of that run", &ours));
        self.source.run(&["DROP TABLE changes"])?;
        self.sink
            .run(&["DROP TABLE events, kept", "CHECKPOINT"])
            .map(drop)
    }

    fn fill_file(&mut self) -> Outcome<()> {
        let rows = self.rows / 5;
        self.source.run(&[
            &format!("DELETE FROM events WHERE id > {rows}"),
            "VACUUM FULL events",
            "ANALYZE events",
            "CHECKPOINT",
        ])?;
        let folder = tempfile::tempdir()?;
        let csv = folder.path().join("events.csv");
        std::fs::write(&csv, self.source.run(&["COPY events TO STDOUT (FORMAT csv)"])?)?;
        let create = "CREATE TABLE events (id INTEGER PRIMARY KEY, uid TEXT NOT NULL, updated_at TEXT NOT NULL, title TEXT NOT NULL, \
             amount TEXT NOT NULL, active INTEGER NOT NULL, payload TEXT NOT NULL, qty INTEGER);";
        let reference = libsql::import(&folder.path().join("reference.db"), create, &csv, "events", 0)?;
        let job = self.job(
            &Self::connector(&self.source),
            "{ plugin: turso, config: { url: \"file:whimbrel.db\" } }",
            "collections: [{ source: events }]",
        );
        let ours = self.program.run(folder.path(), &job)?;
        let wanted = self.source.run(&[
            "SELECT count(*), sum(id), sum(qty), sum(length(title)), sum((amount * 100)::bigint), count(*) FILTER (WHERE active) FROM events",
        ])?;
        let output = Command::new("sqlite3")
            .arg(folder.path().join("whimbrel.db"))
            .arg(
                "SELECT count(*), sum(id), sum(qty), sum(length(title)), sum(CAST(round(amount * 100) AS INTEGER)), sum(active) FROM events",
            )
            .output()?;
        if String::from_utf8(output.stdout)?.trim() != wanted {
            return Err("the file does not hold what the table holds".into());
        }
        self.table.push(Row::reference(
            format!("`sqlite3 .import` of {rows} rows as CSV"),
            reference,
        ));
        self.table.push(Row::ratio(
            "PostgreSQL to a libSQL file",
            ours.seconds,
            reference,
            "1.0x",
        ));
        self.table.push(Row::memory("peak memory of that run", &ours));
        Ok(())
    }

    fn documents(&mut self) -> Outcome<()> {
        let folder = tempfile::tempdir()?;
        let (path, csv) = (folder.path().join("docs.ndjson"), folder.path().join("docs.csv"));
        documents::provide(&path, DOCUMENTS)?;
        let table = documents::to_csv(&path, &csv)?;
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| format!("\"{column}\" {}", table.postgres_type(column)))
            .collect();
        self.sink.run(&[&format!(
            "CREATE TABLE docs ({}, PRIMARY KEY (id))",
            columns.join(", ")
        )])?;
        let begun = Instant::now();
        self.sink.run(&[&format!(
            "\\copy docs FROM '{}' (FORMAT csv, HEADER)",
            csv.display()
        )])?;
        let reference = begun.elapsed().as_secs_f64();
        self.sink.run(&["DROP TABLE docs", "CHECKPOINT"])?;
        let job = self.job(
            "{ plugin: files, config: { path: docs.ndjson } }",
            &Self::connector(&self.sink),
            "collections: [{ source: docs, key: [id] }]",
        );
        let ours = self.program.run(folder.path(), &job)?;
        let count = self.sink.run(&["SELECT count(*) FROM docs"])?;
        if count != table.records.to_string() || ours.written != table.records {
            return Err(format!("{count} documents arrived of {}", table.records).into());
        }
        self.table.push(Row::reference(
            format!("`COPY` of {} documents as prepared CSV", table.records),
            reference,
        ));
        self.table.push(Row::ratio(
            "NDJSON to typed columns and jsonb",
            ours.seconds,
            reference,
            "0.8x",
        ));
        self.table.push(Row::memory("peak memory of that run", &ours));
        Ok(())
    }
}
