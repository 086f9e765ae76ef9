//! How long it takes to put records into a new file and to read them back, against `sqlite3 .import` of the same as CSV.
//!
//! And how long the same takes with a libSQL server on this machine, if `WHIMBREL_SQLD` and its companions say where it is
//! (`cargo x services` writes them to `services.env` in the target folder).
//!
//! `cargo bench -p whimbrel-turso -- 500000`. Records have 15 fields and about 600 octets: texts, timestamps, nested
//! values, and a random text as the key. Only calls of the plugin are timed, not the making of the batches.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends here")]

#[path = "../../../tests/harness/sqld.rs"]
mod sqld;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::json_form::RowDecoder;
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::sink::{Checkpoint, LaneId, PrepareRequest};
use whimbrel_plugin_api::{Batch, Collection, ConflictPolicy, Item, ReadRequest, Sink as _};
use whimbrel_turso::WhimbrelPlugin;

/// Records per batch, as sources make them.
const BATCH_RECORDS: usize = 8_192;

struct Quiet;

impl HostServices for Quiet {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

fn schema() -> Schema {
    let text = || RecordType::Text;
    let float = || RecordType::FLOAT64;
    let structure = |fields: Vec<Field>| RecordType::Struct { fields };
    let geo = structure(vec![Field::new("lat", float()), Field::new("lng", float())]);
    let address = structure(vec![
        Field::new("street", text()),
        Field::new("geo", geo),
        Field::new("zip", text()),
    ]);
    let item = structure(vec![
        Field::new("sku", text()),
        Field::new("qty", RecordType::INT64),
        Field::new("price", float()),
    ]);
    Schema::new(vec![
        Field::required("id", text()),
        Field::new("seq", RecordType::INT64),
        Field::new("createTime", RecordType::TimestampTz),
        Field::new("updateTime", RecordType::TimestampTz),
        Field::new("name", text()),
        Field::new("email", text()),
        Field::new("active", RecordType::Bool),
        Field::new("balance", float()),
        Field::new("big", RecordType::INT64),
        Field::new("address", address),
        Field::new("tags", RecordType::list(text())),
        Field::new("items", RecordType::list(item)),
        Field::new("score", RecordType::Variant),
        Field::new("prefs", RecordType::Json),
        Field::new("lastOrder", RecordType::Json),
    ])
}

/// Splitmix64, so that every run has the same records.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn line(random: &mut Random, seq: usize, out: &mut String) {
    const WORDS: [&str; 8] = [
        "order",
        "naïve",
        "Zürich",
        "東京",
        "Ελλάδα",
        "said \\\"hi\\\"",
        "😀",
        "refund",
    ];
    let word = |random: &mut Random| WORDS[random.below(8) as usize];
    let time = |random: &mut Random| {
        let (day, second, micros) = (1 + random.below(28), random.below(60), random.below(1_000_000));
        format!(
            "2023-{:02}-{day:02}T12:{:02}:{second:02}.{micros:06}Z",
            1 + random.below(12),
            random.below(60)
        )
    };
    let (id, high) = (random.next(), random.below(1 << 16));
    let (created, updated) = (time(random), time(random));
    let (first, second, street) = (word(random), word(random), word(random));
    let cents = |number: u64| format!("{}.{:02}", number / 100, number % 100);
    out.clear();
    write!(
        out,
        "{{\"id\":\"{high:04x}{id:016x}\",\"seq\":{seq},\"createTime\":\"{created}\",\"updateTime\":\"{updated}\",\
         \"name\":\"{first} {second}\",\"email\":\"user{}@example.org\",\"active\":{},\"balance\":{},\"big\":{},\
         \"address\":{{\"street\":\"{street}\",\"geo\":{{\"lat\":{},\"lng\":-{}}},\"zip\":\"{:05}\"}},\"tags\":[\"{}\",\"{}\"],\
         \"items\":[{{\"sku\":\"{:08x}\",\"qty\":{},\"price\":{}}},{{\"sku\":\"{:08x}\",\"qty\":1,\"price\":9.5}}],\
         \"score\":{},\"prefs\":{{\"theme\":\"dark\",\"langs\":[\"en\",\"日本語\"],\"k{}\":true}},\
         \"lastOrder\":{{\"at\":\"{updated}\",\"total\":{},\"note\":null}}}}",
        random.below(10_000_000),
        random.below(10) < 7,
        cents(random.below(100_000_000)),
        random.below(1 << 62),
        cents(random.below(9_000)),
        cents(random.below(18_000)),
        random.below(100_000),
        word(random),
        word(random),
        random.below(1 << 32),
        1 + random.below(9),
        cents(random.below(50_000)),
        random.below(1 << 32),
        random.below(100),
        seq % 40,
        cents(random.below(90_000)),
    )
    .unwrap();
}

/// Calls `take` with batches of `record_count` records in all.
fn batches(record_count: usize, mut take: impl FnMut(&Batch)) {
    let schema = Arc::new(schema());
    let mut random = Random(20_240_601);
    let mut text = String::new();
    for from in (0..record_count).step_by(BATCH_RECORDS) {
        let mut decoder = RowDecoder::new(&schema, BATCH_RECORDS).unwrap();
        for seq in from..record_count.min(from + BATCH_RECORDS) {
            line(&mut random, seq, &mut text);
            decoder.push_line(&text).unwrap();
        }
        take(&Batch::new(Arc::clone(&schema), decoder.finish().unwrap()).unwrap());
    }
}

struct Measured {
    write: Duration,
    finalize: Duration,
    read: Duration,
}

impl Measured {
    fn print(&self, name: &str, record_count: usize) {
        let rate = |time: Duration| record_count as f64 / time.as_secs_f64();
        println!(
            "{name}: write {:.2} s ({:.0} records/s), finalize {:.2} s, read back {:.2} s ({:.0} records/s)",
            self.write.as_secs_f64(),
            rate(self.write),
            self.finalize.as_secs_f64(),
            self.read.as_secs_f64(),
            rate(self.read),
        );
    }
}

fn measure(url: &str, record_count: usize, policy: ConflictPolicy, batches_per_commit: usize) -> Measured {
    let config = json!({ "url": url });
    let mut sink = local::<WhimbrelPlugin>()
        .open_sink(&config, Arc::new(Quiet), Validation::Cheap)
        .unwrap();
    let collection = Collection::new("docs", schema()).with_key(["id"]);
    let request = PrepareRequest {
        collections: vec![collection],
        dry: false,
        ..PrepareRequest::default()
    };
    sink.prepare(&request).unwrap();
    let mut write = Duration::ZERO;
    let mut number = 0;
    batches(record_count, |batch| {
        let start = Instant::now();
        if number % batches_per_commit == 0 {
            sink.begin(&LaneId::default()).unwrap();
        }
        let receipt = sink.write("docs", batch, policy).unwrap();
        assert!(receipt.rejected.is_empty());
        number += 1;
        if receipt.commit_due {
            number = number.next_multiple_of(batches_per_commit);
        }
        if number % batches_per_commit == 0 || batch.record_count() < BATCH_RECORDS {
            sink.commit(&Checkpoint::default()).unwrap();
        }
        write += start.elapsed();
    });
    let start = Instant::now();
    sink.finalize().unwrap();
    let finalize = start.elapsed();
    let start = Instant::now();
    let mut found = 0;
    let request = ReadRequest {
        expected: Some(schema()),
        ..ReadRequest::all("docs")
    };
    let mut stream = sink.reader().unwrap().read(&request).unwrap();
    loop {
        match stream.next().unwrap() {
            Item::Batch(batch) => found += batch.record_count(),
            Item::End => break,
            _ => {}
        }
    }
    assert_eq!(found, record_count);
    Measured {
        write,
        finalize,
        read: start.elapsed(),
    }
}

/// The stored table as CSV, as the program would export it.
fn write_csv(database: &Path, csv: &Path) {
    let connection = rusqlite::Connection::open(database).unwrap();
    let mut out = std::io::BufWriter::new(std::fs::File::create(csv).unwrap());
    let mut statement = connection.prepare("SELECT * FROM docs").unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        for column in 0..columns {
            let separator = if column == 0 { "" } else { "," };
            match row.get_ref(column).unwrap() {
                ValueRef::Text(text) => {
                    write!(
                        out,
                        "{separator}\"{}\"",
                        String::from_utf8_lossy(text).replace('"', "\"\"")
                    )
                    .unwrap();
                }
                ValueRef::Integer(number) => write!(out, "{separator}{number}").unwrap(),
                ValueRef::Real(number) => write!(out, "{separator}{number}").unwrap(),
                _ => write!(out, "{separator}").unwrap(),
            }
        }
        writeln!(out).unwrap();
    }
    out.flush().unwrap();
}

/// Seconds that the program takes; `None` if it is not there.
fn sqlite3_import(csv: &Path, into: &Path, ddl: &str) -> Option<Duration> {
    let start = Instant::now();
    let import = format!(".import {} docs", csv.display());
    let status = Command::new("sqlite3")
        .arg(into)
        .args([ddl, ".mode csv", &import])
        .status()
        .ok()?;
    assert!(status.success());
    Some(start.elapsed())
}

fn main() {
    let record_count = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(500_000);
    let folder = tempfile::tempdir().unwrap();
    let mut last = None;
    for (name, policy, batches_per_commit) in [
        ("overwrite, a commit per batch", ConflictPolicy::Overwrite, 1),
        ("append, a commit per batch", ConflictPolicy::Append, 1),
        ("overwrite, a commit per 8 batches", ConflictPolicy::Overwrite, 8),
    ] {
        let path = folder.path().join(format!("{policy:?}-{batches_per_commit}.db"));
        let measured = measure(path.to_str().unwrap(), record_count, policy, batches_per_commit);
        measured.print(name, record_count);
        last = Some((path, measured.write + measured.finalize));
    }
    if let Some(tools) = sqld::tools() {
        let server = sqld::Sqld::start(&tools);
        measure(&server.url(), record_count, ConflictPolicy::Overwrite, 1)
            .print("server, overwrite, a commit per batch", record_count);
    }
    let Some((database, ours)) = last else { return };
    let csv = folder.path().join("docs.csv");
    write_csv(&database, &csv);
    let ddl: String = rusqlite::Connection::open(&database)
        .unwrap()
        .query_row("SELECT sql FROM sqlite_master WHERE name = 'docs'", [], |row| {
            row.get(0)
        })
        .unwrap();
    match sqlite3_import(&csv, &folder.path().join("import.db"), &ddl) {
        Some(theirs) => println!(
            "sqlite3 .import of the same as CSV: {:.2} s; ratio of its time to the last of ours: {:.2}",
            theirs.as_secs_f64(),
            theirs.as_secs_f64() / ours.as_secs_f64()
        ),
        None => println!("sqlite3 is not installed: nothing to compare with"),
    }
}
