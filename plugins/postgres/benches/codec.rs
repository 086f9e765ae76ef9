//! How many rows a second become binary COPY and come back from there, beside a plain copy of the same octets.
//!
//! `cargo bench -p whimbrel-postgres --bench codec -- 1000000`. Rows have the shape of a table of events: bigint, uuid,
//! timestamptz, unicode text, numeric(12,2), boolean, jsonb of about 150 octets, and an int that is often null. One core,
//! no server; the best of several rounds counts.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the codec is included by path, since nobody outside of the plugin may use it, and with it what only its tests need"
)]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends here")]

#[path = "../src/codec/mod.rs"]
mod codec;
// For the tests of the codec, which Cargo compiles here too.
#[cfg(test)]
#[path = "../../../tests/harness/postgres.rs"]
mod servers;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::{RowDecoder, RowEncoder, Wire, WireColumn};
use whimbrel_plugin_api::arrow_array::{
    Array as _, ArrayRef, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Int32Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
};
use whimbrel_plugin_api::record_type::RecordType;

/// Rows per batch, as sources make them.
const BATCH_ROWS: usize = 8_192;
const ROUNDS: usize = 9;

/// Splitmix64, so that every run has the same rows.
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

fn columns() -> Vec<WireColumn> {
    let decimal = RecordType::Decimal {
        precision: 12,
        scale: 2,
    };
    [
        ("id", RecordType::INT64, Wire::Int8),
        ("uid", RecordType::Uuid, Wire::Uuid),
        ("updated_at", RecordType::TimestampTz, Wire::TimestampTz),
        ("title", RecordType::Text, Wire::Text),
        ("amount", decimal, Wire::Numeric),
        ("active", RecordType::Bool, Wire::Bool),
        ("payload", RecordType::Json, Wire::Jsonb),
        ("qty", RecordType::Int { bits: 32 }, Wire::Int4),
    ]
    .into_iter()
    .map(|(name, record_type, wire)| WireColumn {
        name: name.to_owned(),
        record_type,
        wire,
        removes_nul: false,
    })
    .collect()
}

fn title(random: &mut Random) -> String {
    const WORDS: [&str; 8] = [
        "order",
        "naïve",
        "Zürich",
        "东京",
        "Ελλάδα",
        "said \"hi\"",
        "emoji 😀",
        "refund",
    ];
    let mut word = || WORDS[random.below(8) as usize];
    let (first, second, third) = (word(), word(), word());
    format!("{first} {second} {third} #{}", random.below(1_000_000_000))
}

fn payload(random: &mut Random) -> String {
    format!(
        "{{\"n\": {}, \"ok\": true, \"sku\": \"{:010x}\", \"addr\": {{\"zip\": \"{:05}\", \"city\": \"Łódź\"}}, \
         \"tags\": [\"blå\", \"t{}\"], \"price\": {}.{:03}}}",
        random.below(9_000_000_000_000_000_000),
        random.below(1 << 40),
        random.below(99_999),
        random.below(100),
        random.below(1_000),
        random.below(1_000)
    )
}

fn batch(random: &mut Random, from: usize, rows: usize) -> Vec<ArrayRef> {
    let uuids: Vec<[u8; 16]> = (0..rows)
        .map(|_| (u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes())
        .collect();
    let times = (0..rows).map(|_| 1_672_531_200_000_000 + random.below(63_072_000_000_000) as i64);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let titles: Vec<String> = (0..rows).map(|_| title(random)).collect();
    let amounts = (0..rows).map(|_| i128::from(random.below(2_000_000_000)) - 500_000_000);
    let amounts = Decimal128Array::from_iter_values(amounts).with_precision_and_scale(12, 2);
    let active: Vec<bool> = (0..rows).map(|_| random.below(3) > 0).collect();
    let payloads: Vec<String> = (0..rows).map(|_| payload(random)).collect();
    let quantities = (0..rows).map(|_| (random.below(10) >= 3).then(|| random.next() as i32));
    vec![
        Arc::new(Int64Array::from_iter_values(
            (from..from + rows).map(|id| id as i64),
        )),
        Arc::new(FixedSizeBinaryArray::try_from_iter(uuids.into_iter()).unwrap()),
        Arc::new(times),
        Arc::new(StringArray::from(titles)),
        Arc::new(amounts.unwrap()),
        Arc::new(BooleanArray::from(active)),
        Arc::new(StringArray::from(payloads)),
        Arc::new(quantities.collect::<Int32Array>()),
    ]
}

/// All rows of all batches, and where each ends.
fn encode(columns: &[WireColumn], batches: &[Vec<ArrayRef>], out: &mut Vec<u8>, ends: &mut Vec<usize>) {
    out.clear();
    ends.clear();
    for arrays in batches {
        let encoder = RowEncoder::new(columns, arrays).unwrap();
        for row in 0..arrays[0].len() {
            encoder.write(row, out).unwrap();
            ends.push(out.len());
        }
    }
}

fn decode(decoder: &mut RowDecoder, octets: &[u8], ends: &[usize], mut take: impl FnMut(Vec<ArrayRef>)) {
    let mut start = 0;
    for end in ends {
        decoder.push(&octets[start..*end]).unwrap().unwrap();
        start = *end;
        if decoder.row_count() == BATCH_ROWS {
            take(decoder.finish().unwrap());
        }
    }
    take(decoder.finish().unwrap());
}

/// The shortest of several rounds.
fn best(mut work: impl FnMut()) -> Duration {
    let round = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

fn main() {
    let given = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let row_count: usize = given.unwrap_or(500_000);
    let columns = columns();
    let mut random = Random(20_240_601);
    let starts = (0..row_count).step_by(BATCH_ROWS);
    let batches: Vec<Vec<ArrayRef>> = starts
        .map(|from| batch(&mut random, from, BATCH_ROWS.min(row_count - from)))
        .collect();
    let (mut octets, mut ends) = (Vec::new(), Vec::new());
    encode(&columns, &batches, &mut octets, &mut ends);
    let mut decoder = RowDecoder::new(&columns).unwrap();
    let mut back = Vec::new();
    decode(&mut decoder, &octets, &ends, |arrays| back.push(arrays));
    back.retain(|arrays| !arrays[0].is_empty());
    assert!(back == batches, "what was read is not what was written");
    drop(back);

    let mut copy = vec![0; octets.len()];
    let copied = best(|| black_box(&mut copy).copy_from_slice(black_box(&octets)));
    drop(copy);
    let written = octets.clone();
    let encoded = best(|| encode(&columns, black_box(&batches), &mut octets, &mut ends));
    assert!(octets == written);
    let decoded = best(|| decode(&mut decoder, &octets, &ends, |arrays| drop(black_box(arrays))));
    println!(
        "{row_count} rows, {} octets a row, best of {ROUNDS} rounds",
        octets.len() / row_count.max(1)
    );
    for (name, time) in [("encode", encoded), ("decode", decoded), ("memcpy", copied)] {
        println!(
            "{name}: {:>6.2} million rows/s, {:>6.0} MB/s",
            row_count as f64 / time.as_secs_f64() / 1e6,
            octets.len() as f64 / time.as_secs_f64() / 1e6
        );
    }
}
