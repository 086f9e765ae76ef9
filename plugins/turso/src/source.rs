//! The source role, and the reading half of the sink: the tables of a database as collections.
//!
//! Each stream has a connection of its own, so that it lives on without the source and several run side by side; look-ups share
//! one.
//! What there is to read is found by `catalog`; streams are in `read`.

use std::collections::HashMap;
use std::sync::Arc;

use whimbrel_plugin_api::collection::Estimate;
use whimbrel_plugin_api::record_type::Schema;
use whimbrel_plugin_api::source::{CountRequest, QueryRequest};
use whimbrel_plugin_api::{
    Batch, Collection, CollectionsRequest, Error, Finding, OpenSource, ReadRequest, RecordStream, Result,
    Services, Source, SourceCapabilities, TypeMapping,
};

use crate::answer::AnswerStream;
use crate::assembly::Reading;
use crate::catalog::{self, Stored};
use crate::client;
use crate::config::{Location, TursoConfig};
use crate::database::{self, Database, Shared};
use crate::encode::Encoder;
use crate::names::{collection_name, quote};
use crate::read::TableStream;
use crate::schema;
use crate::sink::finding;
use crate::type_mapping::type_mappings;

/// A libSQL database that is read.
pub struct TursoSource {
    config: TursoConfig,
    location: Location,
    services: Services,
    database: Option<Box<dyn Database>>,
    /// Asked by all look-ups. A stream of its own is not worth it for one record.
    looked_up: Option<Arc<Shared>>,
    /// What was found by looking at all values of a table, by collection.
    found: HashMap<String, Stored>,
}

impl OpenSource for TursoSource {
    type Config = TursoConfig;

    fn open(config: TursoConfig, services: Services) -> Result<Self> {
        Self::new(config, services)
    }

    fn capabilities() -> SourceCapabilities {
        SourceCapabilities {
            snapshot: false,
            partitions: false,
            resume: true,
            changes: false,
            lookup: true,
            query: true,
            streams_max: 0,
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        type_mappings()
    }
}

impl TursoSource {
    /// A source that opens its database when it is first asked for something.
    pub(crate) fn new(config: TursoConfig, services: Services) -> Result<Self> {
        Ok(Self {
            location: client::locate(&config)?,
            config,
            services,
            database: None,
            looked_up: None,
            found: HashMap::new(),
        })
    }

    fn connect(&self) -> Result<Box<dyn Database>> {
        client::reader(&self.config, &self.location, &self.services)
    }

    fn database(&mut self) -> Result<&dyn Database> {
        if self.database.is_none() {
            self.database = Some(self.connect()?);
        }
        self.database
            .as_deref()
            .ok_or_else(|| Error::internal("the connection is gone"))
    }

    /// The database that look-ups ask, a new one after it has failed.
    fn shared(&mut self) -> Result<Arc<Shared>> {
        if let Some(shared) = self.looked_up.as_ref().filter(|shared| !shared.has_failed()) {
            return Ok(Arc::clone(shared));
        }
        let shared = Shared::new(self.connect()?);
        self.looked_up = Some(Arc::clone(&shared));
        Ok(shared)
    }

    /// What is stored of a collection; the types of `expected` are believed.
    fn stored(&mut self, collection: &str, expected: Option<&Schema>) -> Result<Stored> {
        if expected.is_none()
            && let Some(found) = self.found.get(collection)
        {
            return Ok(found.clone());
        }
        let prefix = self.config.table_prefix.clone();
        let database = self.database()?;
        let stored = match catalog::table_of(database, &prefix, collection)? {
            Some(table) => catalog::describe(database, &table, expected)?,
            None => None,
        };
        let stored = stored.ok_or_else(|| Error::no_collection(collection))?;
        if expected.is_none() {
            self.found.insert(collection.to_owned(), stored.clone());
        }
        Ok(stored)
    }

    fn reading(&mut self, request: &ReadRequest) -> Result<(Stored, Reading)> {
        if request
            .partition
            .as_ref()
            .is_some_and(|partition| !partition.descriptor.is_start())
        {
            return Err(Error::invalid_data(
                "turso.bad_partition",
                "the partition is not one of this plugin",
            ));
        }
        if request.snapshot.is_some() {
            return Err(Error::unsupported("read at a snapshot"));
        }
        let stored = self.stored(&request.collection, request.expected.as_ref())?;
        let mut schema = match &request.expected {
            Some(expected) => expected.select(&request.columns)?,
            None => stored.schema().select(&request.columns)?,
        };
        // Only a rest column that was written so tells what is absent from what is null.
        schema.presence &= stored.has_absent();
        let reading = Reading::new(&stored, schema, request.predicate.as_ref())?;
        Ok((stored, reading))
    }
}

impl Source for TursoSource {
    fn check(&mut self) -> Result<Vec<Finding>> {
        let outcome = self.connect().and_then(|database| {
            let sql = "SELECT count(*) FROM sqlite_master";
            database::count(&*database, "read the database", sql, &[])
        });
        Ok(outcome.err().map(finding).into_iter().collect())
    }

    fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>> {
        self.found.clear();
        let prefix = self.config.table_prefix.clone();
        let mut collections = Vec::new();
        for (name, table) in catalog::collections(self.database()?, &prefix)? {
            if !request.wants(&name) {
                continue;
            }
            self.services.check_cancelled()?;
            let mut collection = Collection::new(&name, Schema::default());
            if request.schemas {
                let stored = self.stored(&name, None)?;
                collection.schema = stored.schema();
                let database = self.database()?;
                collection.references = schema::references(database, &table)?;
                for reference in &mut collection.references {
                    rename(&mut reference.fields, &stored);
                }
                let count = format!("SELECT count(*) FROM {}", quote(&table));
                let record_count = database::count(database, "count the records of a table", &count, &[])?;
                collection.estimate = Estimate {
                    record_count: Some(record_count),
                    size_bytes: None,
                    exact: true,
                };
                collection.key = stored.key;
            }
            collections.push(collection);
        }
        self.resolve_references(&mut collections, &prefix)?;
        Ok(collections)
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        let (_, reading) = self.reading(request)?;
        let stream = TableStream::scan(
            self.connect()?,
            self.services.clone(),
            reading,
            request.batch,
            &request.cursor,
            request.limit,
        )?;
        Ok(Box::new(stream))
    }

    fn count(&mut self, request: &CountRequest) -> Result<Option<u64>> {
        let prefix = self.config.table_prefix.clone();
        let database = self.database()?;
        let table = catalog::table_of(database, &prefix, &request.collection)?
            .ok_or_else(|| Error::no_collection(&request.collection))?;
        let count = format!("SELECT count(*) FROM {}", quote(&table));
        database::count(database, "count the records of a table", &count, &[]).map(Some)
    }

    fn lookup(&mut self, request: &ReadRequest, keys: &Batch) -> Result<Box<dyn RecordStream>> {
        let (stored, reading) = self.reading(request)?;
        if stored.key.is_empty() {
            return Err(Error::unsupported("lookup in a table without a key"));
        }
        let mut encoders = Vec::with_capacity(stored.key.len());
        for name in &stored.key {
            let index = keys.schema.index_of(name).ok_or_else(|| {
                Error::invalid_data(
                    "turso.bad_keys",
                    format!("the keys to look up lack the field `{name}`"),
                )
            })?;
            encoders.push(Encoder::new(
                &keys.schema.fields[index].record_type,
                keys.records.column(index),
            )?);
        }
        let count = keys.record_count();
        Ok(Box::new(TableStream::lookup(
            Box::new(self.shared()?),
            self.services.clone(),
            reading,
            request.batch,
            encoders,
            count,
        )))
    }

    fn query(&mut self, request: &QueryRequest) -> Result<Box<dyn RecordStream>> {
        let (database, services) = (self.connect()?, self.services.clone());
        Ok(Box::new(AnswerStream::new(database, services, request)?))
    }
}

impl TursoSource {
    /// Turns the tables and columns that foreign keys name into collections and fields. References to tables that are no
    /// collections are dropped.
    fn resolve_references(&mut self, collections: &mut [Collection], prefix: &str) -> Result<()> {
        for collection in collections {
            let mut resolved = Vec::new();
            for mut reference in std::mem::take(&mut collection.references) {
                let database = self.database()?;
                let holder = schema::holder_of(database, &reference.collection)?;
                let Some((table, _)) = holder.filter(|(_, kind)| kind == "table") else {
                    continue;
                };
                let Some(name) = collection_name(prefix, &table).map(str::to_owned) else {
                    continue;
                };
                if !reference.to_fields.is_empty()
                    && let Ok(target) = self.stored(&name, None)
                {
                    rename(&mut reference.to_fields, &target);
                }
                reference.collection = name;
                resolved.push(reference);
            }
            collection.references = resolved;
        }
        Ok(())
    }
}

/// Names of columns become names of fields.
fn rename(names: &mut [String], stored: &Stored) {
    for name in names {
        if let Some(field) = stored
            .fields
            .iter()
            .find(|field| crate::names::same(&field.column, name))
        {
            name.clone_from(&field.field.name);
        }
    }
}
