//! Records a second through rename, cast, trim and filter, beside the same over a `serde_json` map per record.
//!
//! `cargo bench -p whimbrel-reshape -- 1000000`. Records have ten fields. Both sides begin and end with their own form of a
//! record in memory (Arrow columns, JSON maps), so that neither pays for reading or writing text; the map is what a
//! program without columns would use. One thread each. The plugin runs through the boundary, as in a run.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends here")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::json_form::RowDecoder;
use whimbrel_plugin_api::serde_json::{Map, Value, from_str, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::{Batch, Collection, Field, RecordType, Schema, Transform as _};
use whimbrel_reshape::WhimbrelPlugin;

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
    let text = |name: &str| Field::new(name, RecordType::Text);
    Schema::new(vec![
        Field::required("id", RecordType::INT64),
        text("full_name"),
        text("email"),
        text("status"),
        text("total"),
        text("count"),
        Field::new("score", RecordType::FLOAT64),
        Field::new("active", RecordType::Bool),
        text("city"),
        text("note"),
    ])
}

/// Splitmix64, so that every run has the same records.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn line(id: usize, state: &mut u64) -> String {
    let pick = random(state);
    // One in 10,000 totals does not convert.
    let total = if pick.is_multiple_of(10_000) {
        "n/a".to_owned()
    } else {
        format!("{}.{:02}", pick % 100_000, pick % 100)
    };
    format!(
        r#"{{"id":{id},"full_name":"  Ada Lovelace {}","email":"user{}@example.org ","status":"{}","total":"{total}","count":"{}","score":{}.5,"active":{},"city":"Zürich","note":"a note of some length, number {}"}}"#,
        pick % 1_000,
        pick % 1_000_000,
        ["paid", "open", "shipped", "void"][(pick % 4) as usize],
        pick % 500,
        pick % 100,
        pick.is_multiple_of(3),
        pick % 10_000_000,
    )
}

/// The same program over one record; false if it is rejected or filtered.
fn reshape_map(record: &mut Map<String, Value>) -> bool {
    for (old, new) in [("full_name", "name"), ("count", "item_count")] {
        if let Some(value) = record.remove(old) {
            record.insert(new.to_owned(), value);
        }
    }
    for name in ["name", "email"] {
        if let Some(Value::String(text)) = record.get_mut(name) {
            let trimmed = text.trim();
            if trimmed.len() < text.len() {
                *text = trimmed.to_owned();
            }
        }
    }
    let Some(count) = record
        .get("item_count")
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<i64>().ok())
    else {
        return false;
    };
    record.insert("item_count".to_owned(), count.into());
    // Cents, since a map has no decimals.
    let cents = record.get("total").and_then(Value::as_str).and_then(|text| {
        let (whole, fraction) = text.split_once('.')?;
        let whole: i64 = whole.parse().ok()?;
        (fraction.len() == 2).then_some(whole * 100 + fraction.parse::<i64>().ok()?)
    });
    let Some(cents) = cents else { return false };
    record.insert("total".to_owned(), cents.into());
    matches!(
        record.get("status").and_then(Value::as_str),
        Some("paid" | "shipped")
    )
}

fn told(name: &str, records: usize, time: Duration, kept: usize) {
    let rate = records as f64 / time.as_secs_f64();
    println!(
        "{name}: {:.3} s, {rate:.0} records/s, {kept} kept",
        time.as_secs_f64()
    );
}

fn main() {
    let record_count = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(1_000_000_usize);
    let collection = Collection::new("orders", schema()).with_key(["id"]);
    let config = json!({ "steps": [
        { "rename": { "full_name": "name", "count": "item_count" } },
        { "trim": ["name", "email"] },
        { "cast": { "field": "item_count", "to": "int64" } },
        { "cast": { "field": "total", "to": "decimal(12, 2)" } },
        { "filter": { "where": { "field": "status", "op": "in", "values": ["paid", "shipped"] } } },
    ] });
    let mut transform = local::<WhimbrelPlugin>()
        .open_transform(&config, Arc::new(Quiet), Validation::Cheap)
        .unwrap();
    transform.plan(&collection).unwrap();
    let schema = Arc::new(schema());
    let mut state = 20_240_601;
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    let (mut kept, mut kept_maps, mut rejected, mut filtered) = (0, 0, 0, 0);
    // Turn by turn, so that both meet the same moments of the machine.
    for from in (0..record_count).step_by(BATCH_RECORDS) {
        let to = record_count.min(from + BATCH_RECORDS);
        let lines: Vec<String> = (from..to).map(|id| line(id, &mut state)).collect();
        let mut decoder = RowDecoder::new(&schema, lines.len()).unwrap();
        lines.iter().for_each(|line| decoder.push_line(line).unwrap());
        let batch = Batch::new(Arc::clone(&schema), decoder.finish().unwrap()).unwrap();
        let start = Instant::now();
        let applied = transform.apply(&batch).unwrap();
        ours += start.elapsed();
        kept += applied.outputs[0].1.record_count();
        rejected += applied.rejected.len();
        filtered += applied.filtered;

        let mut maps: Vec<Map<String, Value>> = lines.iter().map(|line| from_str(line).unwrap()).collect();
        let start = Instant::now();
        maps.retain_mut(reshape_map);
        theirs += start.elapsed();
        kept_maps += maps.len();
    }
    assert_eq!(kept, kept_maps, "the two programs differ");
    told("reshape, through the boundary", record_count, ours, kept);
    told("a map per record", record_count, theirs, kept_maps);
    println!(
        "{rejected} rejected, {filtered} filtered; {:.2} times as fast as the maps",
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}
