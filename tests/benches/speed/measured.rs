//! Runs the built program for a benchmark, and prints what was measured as one table.
//! Not here: what is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Outcome;

/// The built program.
pub struct Program {
    pub path: PathBuf,
}

/// One run of it.
pub struct Run {
    pub seconds: f64,
    pub memory_mib: f64,
    pub first_commit_ms: Option<f64>,
    pub written: u64,
}

impl Program {
    /// The one that `WHIMBREL_BIN` names, or the one beside the benchmark.
    pub fn find() -> Outcome<Self> {
        if let Some(path) = std::env::var_os("WHIMBREL_BIN") {
            return Ok(Self { path: path.into() });
        }
        let mut folder = std::env::current_exe()?;
        folder.pop();
        if folder.ends_with("deps") {
            folder.pop();
        }
        Ok(Self {
            path: folder.join("whimbrel"),
        })
    }

    /// Runs a job in `folder`; the time is that of the whole process.
    pub fn run(&self, folder: &Path, job: &str) -> Outcome<Run> {
        let path = folder.join("job.yaml");
        std::fs::write(&path, job)?;
        let begun = Instant::now();
        let output = Command::new(&self.path)
            .arg("run")
            .arg(&path)
            .arg("--json")
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()?;
        let seconds = begun.elapsed().as_secs_f64();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        if !output.status.success() {
            return Err(format!("the run failed: {}", report["errors"]).into());
        }
        let written = report["collections"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|collection| collection["written_count"].as_u64())
            .sum();
        Ok(Run {
            seconds,
            memory_mib: report["memory_peak_bytes"].as_f64().unwrap_or_default() / (1024.0 * 1024.0),
            first_commit_ms: report["first_commit_ms"].as_f64(),
            written,
        })
    }
}

/// A line of the table.
pub struct Row {
    work: String,
    measured: String,
    ratio: String,
    goal: &'static str,
}

impl Row {
    /// What others take for the work of the next rows.
    pub fn reference(work: impl Into<String>, seconds: f64) -> Self {
        Self {
            work: work.into(),
            measured: format!("{seconds:.2} s"),
            ratio: String::new(),
            goal: "",
        }
    }

    /// Our own time beside a reference's.
    pub fn ratio(work: impl Into<String>, seconds: f64, reference: f64, goal: &'static str) -> Self {
        Self {
            ratio: format!("{:.2}x", reference / seconds),
            goal,
            ..Self::reference(work, seconds)
        }
    }

    /// The most memory that a run took.
    pub fn memory(work: impl Into<String>, run: &Run) -> Self {
        Self::memory_with_goal(work, run, "128 MiB")
    }

    /// The same, where the goal is another one.
    pub fn memory_with_goal(work: impl Into<String>, run: &Run, goal: &'static str) -> Self {
        Self {
            work: work.into(),
            measured: format!("{:.0} MiB", run.memory_mib),
            ratio: String::new(),
            goal,
        }
    }

    /// Milliseconds.
    pub fn duration(work: impl Into<String>, milliseconds: f64, goal: &'static str) -> Self {
        Self {
            work: work.into(),
            measured: format!("{milliseconds:.1} ms"),
            ratio: String::new(),
            goal,
        }
    }
}

/// Prints the table in the form of the documents.
pub fn print(rows: &[Row]) {
    println!("| work | measured | ratio | goal |\n|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {} | {} |",
            row.work, row.measured, row.ratio, row.goal
        );
    }
}
