//! The plugin as a host sees it, and records as lines of JSON.
//! Each run asserts that every record comes out, is rejected or is counted as filtered.

use std::sync::Arc;

use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::{ForeignPlugin, local};
use whimbrel_plugin_api::json_form::{JsonNull, RowDecoder, RowEncoder};
use whimbrel_plugin_api::serde_json::{Value, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::transform::Plan;
use whimbrel_plugin_api::{Batch, Collection, Error, Field, RejectedRecord, Schema, Transform as _};

pub fn plugin() -> ForeignPlugin {
    local::<whimbrel_reshape::WhimbrelPlugin>()
}

/// Keeps what is logged.
#[derive(Default)]
pub struct Listening(std::sync::Mutex<Vec<String>>);

impl Listening {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl HostServices for Listening {
    fn log(&self, _: LogLevel, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// What came out.
#[derive(Debug)]
pub struct Outcome {
    pub plan: Plan,
    pub lines: Vec<String>,
    pub rejected: Vec<RejectedRecord>,
    pub filtered: u64,
}

impl Outcome {
    /// The fields that come out, as `name: type`, with `?` where null may be.
    pub fn fields(&self) -> String {
        let fields = self.plan.outputs[0].schema.fields.iter().map(|field| {
            let mark = if field.nullable { "?" } else { "" };
            format!("{}: {}{mark}", field.name, field.record_type)
        });
        fields.collect::<Vec<_>>().join(", ")
    }

    /// Row and code of each rejected record.
    pub fn codes(&self) -> Vec<(u64, &str)> {
        let codes = self.rejected.iter();
        codes
            .map(|record| (record.row.unwrap(), record.code.as_str()))
            .collect()
    }
}

pub fn batches_of(schema: &Schema, lines: &[&[&str]]) -> Vec<Batch> {
    let schema = Arc::new(schema.clone());
    let batch = |lines: &&[&str]| {
        let mut decoder = RowDecoder::new(&schema, lines.len()).unwrap();
        lines.iter().for_each(|line| decoder.push_line(line).unwrap());
        Batch::new(Arc::clone(&schema), decoder.finish().unwrap()).unwrap()
    };
    lines.iter().map(batch).collect()
}

pub fn lines_of(batch: &Batch) -> Vec<String> {
    let encoder = RowEncoder::new(&batch.schema, &batch.records).unwrap();
    let encoder = encoder.with_json_null(JsonNull::AsNull);
    let line = |row| {
        let mut line = Vec::new();
        encoder.write_line(row, &mut line).unwrap();
        String::from_utf8(line).unwrap()
    };
    (0..batch.record_count()).map(line).collect()
}

/// Runs `steps` over one batch of `lines`.
pub fn try_run(steps: &Value, collection: &Collection, lines: &[&str]) -> Result<Outcome, Error> {
    let config = json!({ "steps": steps });
    let mut transform = plugin().open_transform(&config, Arc::new(Listening::default()), Validation::Full)?;
    let plan = transform.plan(collection)?;
    let batch = batches_of(&collection.schema, &[lines]).remove(0);
    let applied = transform.apply(&batch)?;
    assert_eq!(applied.outputs.len(), 1);
    let (name, output) = &applied.outputs[0];
    assert_eq!(*name, collection.name);
    assert_eq!(*output.schema, plan.outputs[0].schema);
    let sum = output.record_count() + applied.rejected.len() + applied.filtered as usize;
    assert_eq!(sum, lines.len(), "a record is not accounted for");
    Ok(Outcome {
        lines: lines_of(output),
        plan,
        rejected: applied.rejected,
        filtered: applied.filtered,
    })
}

/// As [`try_run`] for a collection `c` without a key.
pub fn run(steps: &Value, fields: Vec<Field>, lines: &[&str]) -> Outcome {
    try_run(steps, &Collection::new("c", Schema::new(fields)), lines).unwrap()
}

/// As [`run`], and absent fields are told from null ones.
pub fn run_with_presence(steps: &Value, fields: Vec<Field>, lines: &[&str]) -> Outcome {
    let schema = Schema {
        presence: true,
        ..Schema::new(fields)
    };
    try_run(steps, &Collection::new("c", schema), lines).unwrap()
}
