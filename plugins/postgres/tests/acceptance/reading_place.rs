//! What the tests of reading share: a database of their own, sources through the boundary, and what they give.
//! Not here: any expectation.

use std::sync::Arc;

use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::source::ForeignSource;
use whimbrel_plugin_api::acceptance::records::records;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::{
    Collection, CollectionsRequest, Cursor, Item, Partition, PartitionsRequest, ReadRequest, RejectedRecord,
    Result, Source,
};
use whimbrel_postgres::WhimbrelPlugin;

use crate::postgres::{Database, Server, servers};

pub struct Quiet;

impl HostServices for Quiet {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// A database that goes with the test.
pub struct Place {
    pub database: Database,
    pub config: Json,
}

/// A place on each server, with `tables` in it.
pub fn places(tables: &str) -> Vec<Place> {
    servers().iter().map(|server| Place::on(server, tables)).collect()
}

impl Place {
    pub fn on(server: &Server, tables: &str) -> Self {
        let database = server.database();
        database.sql(tables);
        Self {
            config: json!({ "url": database.url() }),
            database,
        }
    }

    pub fn with(mut self, key: &str, value: Json) -> Self {
        self.config[key] = value;
        self
    }

    pub fn source(&self) -> ForeignSource {
        local::<WhimbrelPlugin>()
            .open_source(&self.config, Arc::new(Quiet), Validation::Full)
            .unwrap()
    }

    pub fn collections(&self) -> Vec<Collection> {
        self.source().collections(&CollectionsRequest::default()).unwrap()
    }

    pub fn collection(&self, name: &str) -> Collection {
        let mut found = self
            .source()
            .collections(&CollectionsRequest::named(name))
            .unwrap();
        assert_eq!(found.len(), 1, "collections called `{name}`");
        found.remove(0)
    }

    /// All records of a collection, in the order in which they come; none is rejected.
    pub fn read(&self, collection: &str) -> Vec<Record> {
        let reading = read_from(&mut self.source(), &ReadRequest::all(collection)).unwrap();
        assert_eq!(reading.rejected, []);
        reading.records
    }

    pub fn read_with(&self, request: &ReadRequest) -> Result<Reading> {
        read_from(&mut self.source(), request)
    }

    pub fn partitions(&self, collection: &str, wanted: u32, snapshot: Option<&str>) -> Vec<Partition> {
        partitions(&mut self.source(), collection, wanted, snapshot)
    }
}

pub fn partitions(
    source: &mut dyn Source,
    collection: &str,
    wanted: u32,
    snapshot: Option<&str>,
) -> Vec<Partition> {
    let request = PartitionsRequest {
        collection: collection.to_owned(),
        snapshot: snapshot.map(str::to_owned),
        wanted,
    };
    source.partitions(&request).unwrap()
}

/// What a stream gave.
#[derive(Debug, Default)]
pub struct Reading {
    pub records: Vec<Record>,
    pub rejected: Vec<RejectedRecord>,
    /// Of each batch, how many records came with it or before it, and where to go on behind it.
    pub cursors: Vec<(usize, Cursor)>,
}

pub fn read_from(source: &mut dyn Source, request: &ReadRequest) -> Result<Reading> {
    let mut stream = source.read(request)?;
    let mut reading = Reading::default();
    loop {
        match stream.next()? {
            Item::Batch(batch) => {
                reading.records.extend(records(&batch));
                reading.cursors.push((reading.records.len(), batch.facts.cursor));
            }
            Item::Rejected(more) => reading.rejected.extend(more),
            Item::End => return Ok(reading),
            _ => {}
        }
    }
}

/// Batches of at most `records` records.
pub fn in_batches(collection: &str, records: usize) -> ReadRequest {
    let mut request = ReadRequest::all(collection);
    request.batch.records_max = records;
    request
}

pub fn record<const N: usize>(values: [(&str, Value); N]) -> Record {
    values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The values of one field.
pub fn values(records: &[Record], field: &str) -> Vec<Value> {
    records.iter().map(|record| record[field].clone()).collect()
}
