//! Firestore documents into files and back, written in both ways, beside plain loops with Google's own client for Node.js.
//!
//! All of it speaks to one emulator of its own on this machine, which shares the processors with whoever asks it, so the figures
//! are bounds from below. `WHIMBREL_BENCH_FIRESTORE_DOCS` documents (50,000) of 600 octets, and 200 of 900 KB for the memory.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::emulator::Emulator;
use crate::measured::{Program, Row, Run};
use crate::{Outcome, documents};

/// Documents that are read and written unless told otherwise.
const DOCUMENTS: usize = 50_000;
/// Documents that both clients write first, so that neither pays for the emulator's own start.
const WARM_UP: usize = 5_000;
/// The large documents, and the octets of each: near the limit of 1 MiB.
const LARGE_DOCUMENTS: usize = 200;
const LARGE_BYTES: usize = 900_000;
const MEMORY_GOAL: &str = "256 MiB";
/// The ways to write, by `writing.guarantee`; the usual one is first.
const GUARANTEES: [&str; 2] = ["exactly_once", "idempotent"];

struct Bench<'a> {
    program: &'a Program,
    emulator: Emulator,
    folder: PathBuf,
}

/// The lines of the table.
pub fn measure(program: &Program) -> Outcome<Vec<Row>> {
    let count = match std::env::var("WHIMBREL_BENCH_FIRESTORE_DOCS") {
        Ok(count) => count.parse()?,
        Err(_) => DOCUMENTS,
    };
    let folder = tempfile::tempdir()?;
    let bench = Bench {
        program,
        emulator: Emulator::own().ok_or("there is no emulator")?,
        folder: folder.path().to_owned(),
    };
    documents::write(&bench.folder.join("warm.ndjson"), WARM_UP)?;
    bench.loop_of("write", "warm-up", "warm")?;
    for guarantee in GUARANTEES {
        bench.write_documents(&format!("warm-up-{guarantee}"), "warm", guarantee)?;
    }
    documents::write(&bench.folder.join("docs.ndjson"), count)?;
    let mut rows = Vec::new();
    let their_write = bench.loop_of("write", "theirs", "docs")?;
    let mut our_writes = Vec::new();
    for guarantee in GUARANTEES {
        let written = bench.write_documents(&format!("ours-{guarantee}"), "docs", guarantee)?;
        our_writes.push((guarantee, written));
    }
    let their_read = bench.loop_of("read", "theirs", "docs")?;
    let (sampled, sampled_cpu) = bench.read_documents("theirs", "docs", "{ sample: 1000 }")?;
    let (full, full_cpu) = bench.read_documents("theirs", "docs", "full")?;
    let rate = |seconds: f64| format!("{:.0} documents/s", count as f64 / seconds);
    rows.push(Row::reference(
        format!(
            "Node client, batches of 500, {count} documents: {}",
            rate(their_write)
        ),
        their_write,
    ));
    for (guarantee, (run, cpu)) in our_writes {
        rows.push(Row::ratio(
            format!("NDJSON to Firestore, `{guarantee}`: {}", rate(run.seconds)),
            run.seconds,
            their_write,
            "2.0x",
        ));
        rows.push(processor(
            &format!("our processor time, 100,000 documents written, `{guarantee}`"),
            cpu,
            count,
        ));
    }
    rows.push(Row::reference(
        format!(
            "Node client, pages of 1,000, {count} documents: {}",
            rate(their_read)
        ),
        their_read,
    ));
    rows.push(Row::ratio(
        format!(
            "Firestore to NDJSON, types from 1,000 documents: {}",
            rate(sampled.seconds)
        ),
        sampled.seconds,
        their_read,
        "1.5x",
    ));
    rows.push(processor(
        "our processor time, 100,000 documents read",
        sampled_cpu,
        count,
    ));
    rows.push(Row::ratio(
        format!(
            "the same, types from all documents, which reads twice: {}",
            rate(full.seconds)
        ),
        full.seconds,
        their_read,
        "",
    ));
    rows.push(processor(
        "our processor time, 100,000 documents read twice",
        full_cpu,
        count,
    ));
    rows.extend(bench.large()?);
    Ok(rows)
}

fn processor(work: &str, seconds: f64, count: usize) -> Row {
    Row::reference(work, seconds * 100_000.0 / count as f64)
}

impl Bench<'_> {
    /// Seconds that a plain loop takes.
    fn loop_of(&self, work: &str, project: &str, file: &str) -> Outcome<f64> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/speed/firestore_loop.mjs");
        let path = match work {
            "read" => self.folder.join(format!("{file}-read.ndjson")),
            _ => self.folder.join(format!("{file}.ndjson")),
        };
        let node = std::env::var_os("WHIMBREL_NODE").unwrap_or_else(|| "node".into());
        let begun = Instant::now();
        let output = Command::new(node)
            .arg(script)
            .args([work, project, file])
            .arg(path)
            .env("FIRESTORE_EMULATOR_HOST", self.emulator.host())
            .env("METADATA_SERVER_DETECTION", "none")
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            return Err(format!("the loop failed: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    fn run(&self, job: &str) -> Outcome<(Run, f64)> {
        let before = children_seconds()?;
        let run = self.program.run(&self.folder, job)?;
        Ok((run, children_seconds()? - before))
    }

    fn write_documents(&self, project: &str, file: &str, guarantee: &str) -> Outcome<(Run, f64)> {
        // No project's name has this sign.
        let project = project.replace('_', "-");
        self.run(&format!(
            "name: write-{project}\nsource: {{ plugin: files, config: {{ path: {file}.ndjson }} }}\n\
             sink: {{ plugin: firestore, config: {{ host: \"{}\", project: {project}, writing: {{ guarantee: {guarantee} }} }} }}\n\
             collections: [{{ source: {file}, key: [id] }}]\nverification: none\n",
            self.emulator.host()
        ))
    }

    fn read_documents(&self, project: &str, file: &str, inference: &str) -> Outcome<(Run, f64)> {
        let copy = self.folder.join("copy");
        if copy.exists() {
            std::fs::remove_dir_all(&copy)?;
        }
        self.run(&format!(
            "name: read-{project}\nsource: {{ plugin: firestore, config: {{ host: \"{}\", project: {project}, inference: {inference} }} }}\n\
             sink: {{ plugin: files, config: {{ path: copy }} }}\n\
             collections: [{{ source: {file} }}]\nverification: none\n",
            self.emulator.host()
        ))
    }

    /// What is held in memory with documents near their limit.
    fn large(&self) -> Outcome<Vec<Row>> {
        let mut out = std::io::BufWriter::new(std::fs::File::create(self.folder.join("large.ndjson"))?);
        for index in 0..LARGE_DOCUMENTS {
            let text = format!("{index:06} ").repeat(LARGE_BYTES / 7);
            writeln!(out, "{{\"id\":\"d{index:04}\",\"text\":\"{text}\"}}")?;
        }
        out.flush()?;
        drop(out);
        let row = |work: &str, run: &Run| {
            Row::memory_with_goal(
                format!("{work}, {LARGE_DOCUMENTS} documents of 900 KB"),
                run,
                MEMORY_GOAL,
            )
        };
        let mut rows = Vec::new();
        for guarantee in GUARANTEES {
            let (written, _) = self.write_documents(&format!("large-{guarantee}"), "large", guarantee)?;
            rows.push(row(&format!("peak memory of writing, `{guarantee}`"), &written));
        }
        let (read, _) = self.read_documents("large-idempotent", "large", "full")?;
        rows.push(row("peak memory of reading", &read));
        Ok(rows)
    }
}

/// Processor seconds of all processes that were started from here and have ended, with theirs.
fn children_seconds() -> Outcome<f64> {
    // Fields 16 and 17 of proc_pid_stat(5); what is before `) ` may hold anything. A tick is 10 ms on Linux.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat
        .rsplit_once(") ")
        .ok_or("the kernel's figures have an unexpected form")?
        .1;
    let ticks: u64 = rest
        .split(' ')
        .skip(13)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<_, _>>()?;
    Ok(ticks as f64 / 100.0)
}
