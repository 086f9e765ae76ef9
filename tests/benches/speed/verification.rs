//! Two PostgreSQL tables compared record by record, beside `reladiff` and beside MD5 buckets in SQL.
//!
//! `WHIMBREL_BENCH_ROWS` rows (5,000,000) in two databases of one server; first alike, then with 25 records changed in one of them, which
//! must be found, and nothing else. `reladiff` is `WHIMBREL_RELADIFF` or the one on the path (`pip install reladiff psycopg2-binary`);
//! without it its lines are left out.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Outcome;
use crate::measured::{Program, Row, Run};
use crate::postgres::{Database, both_databases, rows_wanted};

/// Records that differ.
const DIFFERENT: u64 = 25;
/// Columns besides the key.
const COLUMNS: [&str; 7] = ["uid", "updated_at", "title", "amount", "active", "payload", "qty"];
/// Count and sum of digests by bucket, as people write it by hand.
const BUCKETS: &str = "SELECT id % 4096, count(*), sum(('x' || left(md5(t::text), 16))::bit(64)::bigint::numeric) \
     FROM events t GROUP BY 1 ORDER BY 1";

/// The lines of the table.
pub fn measure(program: &Program) -> Outcome<Vec<Row>> {
    let rows = rows_wanted()?;
    let (_server, source, sink) = both_databases()?;
    println!("{rows} rows to be compared\n");
    source.fill(rows)?;
    sink.fill(rows)?;
    let folder = tempfile::tempdir()?;
    let connector =
        |database: &Database| format!("{{ plugin: postgres, config: {{ url: \"{}\" }} }}", database.url);
    std::fs::write(
        folder.path().join("job.yaml"),
        format!(
            "name: bench\nsource: {}\nsink: {}\ncollections: [{{ source: events }}]\n",
            connector(&source),
            connector(&sink)
        ),
    )?;
    let reladiff = reladiff();
    let mut table = Vec::new();
    let begun = Instant::now();
    if source.run(&[BUCKETS])? != sink.run(&[BUCKETS])? {
        return Err("the tables are not alike".into());
    }
    table.push(Row::reference(
        format!("MD5 buckets in SQL, {rows} rows on either side"),
        begun.elapsed().as_secs_f64(),
    ));
    for (word, different) in [("alike", 0), ("25 records differ", DIFFERENT)] {
        if different > 0 {
            change(&sink, rows)?;
        }
        let reference = match &reladiff {
            Some(reladiff) => Some(diffed(reladiff, &source, &sink, different)?),
            None => None,
        };
        let ours = compared(program, &folder.path().join("job.yaml"), rows, different)?;
        let work = format!("`verify --verification-level comprehensive`, {word}");
        match reference {
            Some(reference) => {
                table.push(Row::reference(format!("`reladiff`, {word}"), reference));
                table.push(Row::ratio(work, ours.seconds, reference, "1x"));
            }
            None => table.push(Row::reference(work, ours.seconds)),
        }
        let rate = 2.0 * rows as f64 / ours.seconds;
        println!("{word}: {rate:.0} records/s read and compared, both sides together");
        table.push(Row::memory_with_goal("peak memory of that", &ours, "256 MiB"));
    }
    Ok(table)
}

/// The ids of the records that are changed.
fn changed_ids(rows: u64) -> Vec<u64> {
    (1..=DIFFERENT)
        .map(|number| number * rows / (DIFFERENT + 1))
        .collect()
}

fn change(sink: &Database, rows: u64) -> Outcome<()> {
    let ids: Vec<String> = changed_ids(rows).iter().map(u64::to_string).collect();
    sink.run(&[&format!(
        "UPDATE events SET amount = amount + 1 WHERE id IN ({})",
        ids.join(",")
    )])
    .map(drop)
}

/// One comparison by the program, whose findings must be right.
fn compared(program: &Program, job: &std::path::Path, rows: u64, different: u64) -> Outcome<Run> {
    let begun = Instant::now();
    let output = Command::new(&program.path)
        .arg("verify")
        .arg(job)
        .args(["--verification-level", "comprehensive", "--anew", "--json"])
        .stdin(Stdio::null())
        .output()?;
    let seconds = begun.elapsed().as_secs_f64();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let result = &report["verification"][0];
    let mut found: Vec<u64> = result["mismatches"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|mismatch| mismatch["record"].as_str()?.strip_prefix("id=")?.parse().ok())
        .collect();
    found.sort_unstable();
    let wanted = if different == 0 {
        Vec::new()
    } else {
        changed_ids(rows)
    };
    if found != wanted || result["mismatch_count"] != different || result["compared_count"] != rows {
        return Err(format!("not what was to be found: {report:#}").into());
    }
    Ok(Run {
        seconds,
        memory_mib: report["memory_peak_bytes"].as_f64().unwrap_or_default() / (1024.0 * 1024.0),
        first_commit_ms: None,
        written: 0,
    })
}

/// The program to compare with, if it is there.
fn reladiff() -> Option<PathBuf> {
    let path = std::env::var_os("WHIMBREL_RELADIFF").map_or_else(|| PathBuf::from("reladiff"), PathBuf::from);
    let version = Command::new(&path)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match version {
        Ok(status) if status.success() => Some(path),
        _ => {
            println!("`reladiff` is not there, so nothing is compared with it");
            None
        }
    }
}

/// Seconds that `reladiff` takes.
fn diffed(reladiff: &PathBuf, source: &Database, sink: &Database, different: u64) -> Outcome<f64> {
    let mut command = Command::new(reladiff);
    // It knows the other one of the two schemes only, and ends with 0 whatever it says.
    let url = |database: &Database| database.url.replacen("postgres://", "postgresql://", 1);
    command
        .arg(url(source))
        .arg("events")
        .arg(url(sink))
        .arg("events");
    command.args(["-k", "id", "-j", "2"]);
    for column in COLUMNS {
        command.args(["-c", column]);
    }
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let seconds = begun.elapsed().as_secs_f64();
    if !output.status.success() || String::from_utf8_lossy(&output.stderr).contains("ERROR") {
        return Err(format!("reladiff: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let lines = String::from_utf8(output.stdout)?.lines().count() as u64;
    // It prints a line for each side and column of a record that differs.
    let is_right = match different {
        0 => lines == 0,
        different => lines > 0 && lines.is_multiple_of(2 * different),
    };
    if !is_right {
        return Err(format!("reladiff printed {lines} lines for {different} records").into());
    }
    Ok(seconds)
}
