//! Counts from 0: the smallest useful source, and all of its code.
//!
//! The same file stands on the page of `whimbrel-plugin-api`; a test keeps the two alike.

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::{Int64Array, RecordBatch};
use whimbrel_plugin_api::serde::Deserialize;
use whimbrel_plugin_api::source::BatchStream;
use whimbrel_plugin_api::{
    Batch, Collection, CollectionsRequest, Error, Field, OpenSource, ReadRequest, RecordStream, RecordType,
    Result, Schema, Services, Source, export_plugin, schemars,
};

/// What a job writes below `config`.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(crate = "whimbrel_plugin_api::serde", deny_unknown_fields)]
#[schemars(crate = "whimbrel_plugin_api::schemars")]
struct NumbersConfig {
    /// How many records there are.
    records: u32,
}

/// Counts from 0.
struct Numbers(NumbersConfig);

impl OpenSource for Numbers {
    type Config = NumbersConfig;

    fn open(config: NumbersConfig, _: Services) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Source for Numbers {
    fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>> {
        let schema = Schema::new(vec![Field::required("n", RecordType::INT64)]);
        let numbers = Collection::new("numbers", schema).with_key(["n"]);
        Ok(Vec::from_iter(request.wants("numbers").then_some(numbers)))
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        let found = self
            .collections(&CollectionsRequest::named(&request.collection))?
            .pop();
        let numbers = found.ok_or_else(|| Error::no_collection(&request.collection))?;
        let schema = Arc::new(numbers.schema.select(&request.columns)?);
        let end = request.limit.unwrap_or(u64::MAX).min(self.0.records.into()) as i64;
        let step = request.batch.records_max;
        let batches = (0..end).step_by(step).map({
            let schema = Arc::clone(&schema);
            move |from| {
                let column = Int64Array::from_iter_values(from..end.min(from + step as i64));
                let records = RecordBatch::try_new(schema.to_arrow(), vec![Arc::new(column)])?;
                Batch::new(Arc::clone(&schema), records)
            }
        });
        Ok(Box::new(BatchStream::new(schema, batches)))
    }
}

export_plugin!(name: "numbers", source: Numbers);
