//! Digests of records a second: 1,000,000 records of ten columns, held in memory, by one thread and by two.
//!
//! `cargo x bench --bench digests`. The records are made deterministically before the clock starts, so that it is
//! the encoding, the hash and the buckets that are measured. Goal: 1,000,000 records a second on two cores. Not here: how
//! fast systems are read (`speed`).

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use whimbrel::verification::bucket::Buckets;
use whimbrel::verification::digest::{Digester, Recipe};
use whimbrel_plugin_api::batch::BATCH_RECORDS_MAX;
use whimbrel_plugin_api::{Batch, Field, RecordType, Schema};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Records in all.
const RECORDS: usize = 1_000_000;
/// Times that each figure is measured; the best one counts, since all else on the machine can only slow it down.
const RUNS: usize = 5;
/// 2024-01-01, in microseconds since 1970.
const FIRST_INSTANT_MICROS: i64 = 1_704_067_200_000_000;

fn main() -> Outcome<()> {
    let recipe = recipe();
    let schema = Arc::new(recipe.schema.clone());
    let mut batches = Vec::new();
    for first in (0..RECORDS).step_by(BATCH_RECORDS_MAX) {
        let behind = (first + BATCH_RECORDS_MAX).min(RECORDS);
        batches.push(batch(&schema, first as i64..behind as i64)?);
    }
    println!("| digests of {RECORDS} records of ten columns | seconds | records a second |\n|---|---|---|");
    let mut expected = None;
    for thread_count in [1, 2] {
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            let begun = Instant::now();
            let buckets = black_box(digest(&recipe, &batches, thread_count)?);
            best = best.min(begun.elapsed().as_secs_f64());
            let root = buckets.root();
            if *expected.get_or_insert(root) != root || buckets.total().count != RECORDS as u64 {
                return Err("the digests of two runs differ".into());
            }
        }
        println!(
            "| {thread_count} thread(s) | {best:.3} | {:.0} |",
            RECORDS as f64 / best
        );
    }
    Ok(())
}

/// All batches, divided among threads as the parts of a collection are.
fn digest(recipe: &Recipe, batches: &[Batch], thread_count: usize) -> Outcome<Buckets> {
    let part = |part: &[Batch]| -> Outcome<Buckets> {
        let mut digester = Digester::new(recipe.clone());
        let (mut buckets, mut pairs) = (Buckets::default(), Vec::new());
        for batch in part {
            pairs.clear();
            digester.digest(batch, &mut pairs)?;
            for pair in &pairs {
                buckets.add(*pair);
            }
        }
        Ok(buckets)
    };
    std::thread::scope(|scope| {
        let parts = batches.chunks(batches.len().div_ceil(thread_count));
        let threads: Vec<_> = parts.map(|batches| scope.spawn(move || part(batches))).collect();
        let mut all = Buckets::default();
        for thread in threads {
            all.merge(&thread.join().map_err(|_| "a thread has panicked")??);
        }
        Ok(all)
    })
}

fn recipe() -> Recipe {
    let schema = Schema::new(vec![
        Field::required("id", RecordType::INT64),
        Field::new("quantity", RecordType::Int { bits: 32 }),
        Field::new("serial", RecordType::INT64),
        Field::new(
            "price",
            RecordType::Decimal {
                precision: 12,
                scale: 2,
            },
        ),
        Field::new("name", RecordType::Text),
        Field::new("comment", RecordType::Text),
        Field::new("at", RecordType::TimestampTz),
        Field::new("is_open", RecordType::Bool),
        Field::new("token", RecordType::Uuid),
        Field::new("score", RecordType::FLOAT64),
    ]);
    Recipe {
        schema,
        key: vec!["id".to_owned()],
        losses: Vec::new(),
    }
}

fn batch(schema: &Arc<Schema>, ids: std::ops::Range<i64>) -> Outcome<Batch> {
    // A step of splitmix64: numbers that look random and are the same in every run.
    let mixed = |id: i64| {
        let mut mixed = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 31
    };
    let ids = || ids.clone();
    let prices = Decimal128Array::from_iter_values(ids().map(|id| i128::from(mixed(id) % 1_000_000)));
    let tokens = ids().map(|id| (u128::from(mixed(id)) << 64 | u128::from(mixed(!id))).to_be_bytes());
    let comment = |id: i64| match id % 7 {
        0 => None,
        kind => Some(format!(
            "order {id} is \u{2714} {}",
            "as usual ".repeat(kind as usize % 4)
        )),
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids())),
        Arc::new(Int32Array::from_iter_values(
            ids().map(|id| (mixed(id) % 1_000) as i32),
        )),
        Arc::new(Int64Array::from_iter_values(ids().map(|id| mixed(id) as i64))),
        Arc::new(prices.with_precision_and_scale(12, 2)?),
        Arc::new(StringArray::from_iter_values(
            ids().map(|id| format!("person number {id}")),
        )),
        Arc::new(ids().map(comment).collect::<StringArray>()),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(
                ids().map(|id| FIRST_INSTANT_MICROS + id * 1_000_003),
            )
            .with_timezone("UTC"),
        ),
        Arc::new(ids().map(|id| Some(mixed(id) & 1 == 1)).collect::<BooleanArray>()),
        Arc::new(FixedSizeBinaryArray::try_from_iter(tokens)?),
        Arc::new(Float64Array::from_iter_values(
            ids().map(|id| mixed(id) as f64 / 1e3),
        )),
    ];
    Ok(Batch::new(
        Arc::clone(schema),
        RecordBatch::try_new(schema.to_arrow(), columns)?,
    )?)
}
