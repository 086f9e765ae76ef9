//! What the boundary costs: a batch from a source through its table of functions, checked and imported.
//!
//! Prints microseconds a batch for several sizes and both depths of checking, beside handing over the same batch
//! without a boundary. Run with `cargo bench -p whimbrel-plugin-api --bench hop`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::{
    Batch, Collection, CollectionsRequest, Field, Item, OpenSource, ReadRequest, RecordStream, RecordType,
    Result, Schema, Services, Source,
};

/// Batches per measurement.
const BATCHES: u64 = 2_000;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Config {
    rows: usize,
}

struct Numbers {
    rows: usize,
}

struct Stream {
    batch: Batch,
    left: u64,
    told: bool,
}

impl OpenSource for Numbers {
    type Config = Config;

    fn open(config: Config, _: Services) -> Result<Self> {
        Ok(Self { rows: config.rows })
    }
}

impl Source for Numbers {
    fn collections(&mut self, _: &CollectionsRequest) -> Result<Vec<Collection>> {
        Ok(vec![Collection::new("numbers", (*schema()).clone())])
    }

    fn read(&mut self, _: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        Ok(Box::new(stream(self.rows)?))
    }
}

fn schema() -> Arc<Schema> {
    let mut fields = Vec::new();
    for index in 0..4 {
        fields.push(Field::required(format!("int_{index}"), RecordType::INT64));
        fields.push(Field::new(format!("float_{index}"), RecordType::FLOAT64));
    }
    fields.push(Field::new("text_0", RecordType::Text));
    fields.push(Field::new("text_1", RecordType::Text));
    Arc::new(Schema::new(fields))
}

fn stream(rows: usize) -> Result<Stream> {
    let mut columns: Vec<ArrayRef> = Vec::new();
    for _ in 0..4 {
        columns.push(Arc::new(Int64Array::from_iter_values(0..rows as i64)));
        columns.push(Arc::new(Float64Array::from_iter_values(
            (0..rows).map(|row| row as f64),
        )));
    }
    for _ in 0..2 {
        columns.push(Arc::new(StringArray::from_iter_values(
            (0..rows).map(|row| format!("record number {row}")),
        )));
    }
    let schema = schema();
    let batch = Batch::new(
        Arc::clone(&schema),
        RecordBatch::try_new(schema.to_arrow(), columns)?,
    )?;
    Ok(Stream {
        batch,
        left: BATCHES,
        told: false,
    })
}

impl RecordStream for Stream {
    fn next(&mut self) -> Result<Item> {
        if !self.told {
            self.told = true;
            return Ok(Item::Schema(schema()));
        }
        if self.left == 0 {
            return Ok(Item::End);
        }
        self.left -= 1;
        Ok(Item::Batch(self.batch.clone()))
    }
}

whimbrel_plugin_api::export_plugin!(name: "numbers", source: Numbers);

struct Host;

impl HostServices for Host {
    fn log(&self, _: LogLevel, _: &str) {}

    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}

    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

fn micros_per_batch(stream: &mut dyn RecordStream) -> Result<f64> {
    let begun = Instant::now();
    let mut batches = 0;
    loop {
        match black_box(stream.next()?) {
            Item::Batch(_) => batches += 1,
            Item::End => break,
            _ => {}
        }
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(batches))
}

fn main() -> Result<()> {
    println!("microseconds a batch of ten columns, mean of {BATCHES}");
    println!(
        "{:>8} {:>10} {:>12} {:>12}",
        "records", "no hop", "hop, cheap", "hop, full"
    );
    for rows in [1_usize, 1_024, 8_192] {
        let direct = micros_per_batch(&mut stream(rows)?)?;
        let mut through = Vec::new();
        for validation in [Validation::Cheap, Validation::Full] {
            let config = serde_json::json!({ "rows": rows });
            let mut source = local::<WhimbrelPlugin>().open_source(&config, Arc::new(Host), validation)?;
            through.push(micros_per_batch(
                &mut *source.read(&ReadRequest::all("numbers"))?,
            )?);
        }
        println!(
            "{rows:>8} {direct:>10.2} {:>12.2} {:>12.2}",
            through[0], through[1]
        );
    }
    Ok(())
}
