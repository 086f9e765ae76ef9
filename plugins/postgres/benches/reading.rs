//! How many rows a second a table is read at, into Arrow batches, beside `psql` copying the same rows into nothing.
//!
//! `cargo bench -p whimbrel-postgres --bench reading -- postgres://postgres@127.0.0.1:5432/app events [streams]`. Each round
//! reads all of the table at a snapshot, in as many streams as parts are wanted; the best of three counts.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends here")]

use std::process::{Command, Stdio};
use std::time::Instant;

use whimbrel_plugin_api::{Item, OpenSource as _, PartitionsRequest, ReadRequest, Services, Source as _};
use whimbrel_postgres::{PostgresConfig, PostgresSource};

const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let [url, table, more @ ..] = &arguments[..] else {
        println!("name a URL and a table");
        return;
    };
    let wanted = more.first().map_or(1, |wanted| wanted.parse().unwrap());
    for order in ["", "ORDER BY 1"] {
        let copied = (0..ROUNDS)
            .map(|_| copy(url, table, order))
            .fold(f64::MAX, f64::min);
        println!("psql COPY (SELECT * FROM {table} {order}): {copied:.2} s");
    }
    let (rows, seconds) = (0..ROUNDS)
        .map(|_| read(url, table, wanted))
        .min_by(|left, right| left.1.total_cmp(&right.1))
        .unwrap();
    println!(
        "read: {rows} rows in {seconds:.2} s, {:.0} rows a second",
        rows as f64 / seconds
    );
}

fn copy(url: &str, table: &str, order: &str) -> f64 {
    let start = Instant::now();
    let statement = format!("COPY (SELECT * FROM {table} {order}) TO STDOUT (FORMAT binary)");
    let status = Command::new("psql")
        .args([url, "-qc", &statement])
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    start.elapsed().as_secs_f64()
}

fn read(url: &str, table: &str, wanted: u32) -> (usize, f64) {
    let config: PostgresConfig = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
    let start = Instant::now();
    let mut source = PostgresSource::open(config, Services::detached()).unwrap();
    let snapshot = source.open_snapshot().unwrap();
    let parts = source
        .partitions(&PartitionsRequest {
            collection: table.to_owned(),
            snapshot: snapshot.clone(),
            wanted,
        })
        .unwrap();
    let streams: Vec<_> = parts
        .into_iter()
        .map(|part| {
            let request = ReadRequest {
                partition: Some(part),
                snapshot: snapshot.clone(),
                ..ReadRequest::all(table)
            };
            let mut stream = source.read(&request).unwrap();
            std::thread::spawn(move || {
                let mut rows = 0;
                loop {
                    match stream.next().unwrap() {
                        Item::Batch(batch) => rows += batch.record_count(),
                        Item::End => return rows,
                        _ => {}
                    }
                }
            })
        })
        .collect();
    let rows = streams.into_iter().map(|stream| stream.join().unwrap()).sum();
    let seconds = start.elapsed().as_secs_f64();
    source.close_snapshot(&snapshot.unwrap()).unwrap();
    (rows, seconds)
}
