//! The source role, and the reading half of the sink: the collections of a database.
//!
//! What there is, is found out by `discovery` as of one instant, which snapshots keep to, so that what was found out and what is
//! read fit together. It is remembered in the object: reading and dividing look no second time. Streams are in `read`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use whimbrel_plugin_api::capability::{SourceCapabilities, TypeMapping};
use whimbrel_plugin_api::partition::PartitionsRequest;
use whimbrel_plugin_api::runtime::Runtime;
use whimbrel_plugin_api::source::{CountRequest, OpenSource, ReadRequest, RecordStream};
use whimbrel_plugin_api::{
    Batch, Collection, CollectionsRequest, Error, Finding, Partition, Result, Schema, Services, Source,
};

use crate::check;
use crate::client::Client;
use crate::config::FirestoreConfig;
use crate::discovery::{self, Discovered};
use crate::path::Pattern;
use crate::read::{self, DocumentStream, Fixed, Growth, Reader, Scope, Target};

/// A database that is read.
pub struct FirestoreSource {
    reader: Reader,
    services: Services,
    /// Whether somebody writes while this object lives, so that each look is as of the present.
    is_of_sink: bool,
    /// The instant of the last look.
    fixed: Option<Fixed>,
    found: HashMap<String, Found>,
    /// All collections there are, if that was looked for.
    names: Option<Vec<String>>,
}

/// A collection that was looked at.
#[derive(Clone)]
struct Found {
    discovered: Arc<Discovered>,
    growth: Growth,
    fixed: Fixed,
}

impl std::fmt::Debug for FirestoreSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FirestoreSource")
            .field(&self.reader.client)
            .finish()
    }
}

impl FirestoreSource {
    /// The reading half of a sink, over a client that is there.
    pub(crate) fn over(client: Client, config: FirestoreConfig, services: Services) -> Self {
        Self {
            is_of_sink: true,
            ..Self::new(client, config, services)
        }
    }

    fn new(client: Client, config: FirestoreConfig, services: Services) -> Self {
        Self {
            reader: Reader {
                client,
                config: Arc::new(config.in_pages()),
            },
            services,
            is_of_sink: false,
            fixed: None,
            found: HashMap::new(),
            names: None,
        }
    }

    /// The instant of the last look if it still stands for the present, else a new one; and the reads that it took.
    fn instant(&mut self) -> Result<(Fixed, u64)> {
        if let Some(fixed) = self
            .fixed
            .filter(|fixed| !self.is_of_sink && fixed.is_fresh(&self.reader.config, Instant::now()))
        {
            return Ok((fixed, 0));
        }
        // What a run has just written is read back as it is now.
        let kept_on = self.reader.config.point_in_time_recovery && !self.is_of_sink;
        let fixing = read::fix(&self.reader.client, &self.services, kept_on);
        let (fixed, reads) = Runtime::get()?.block_on(&self.services, fixing)?;
        self.fixed = Some(fixed);
        Ok((fixed, reads))
    }

    /// Looks at the database, and remembers what it finds.
    fn look(&mut self, request: &CollectionsRequest) -> Result<(Vec<Discovered>, u64)> {
        let (fixed, reads) = self.instant()?;
        let Reader { client, config } = &self.reader;
        let looking = discovery::discover(client, config, &self.services, request, fixed.at);
        let all = Runtime::get()?.block_on(&self.services, looking)?;
        if all.iter().any(|found| found.has_moved) {
            // That instant is over, so it is nothing to read at.
            self.fixed = None;
        }
        if request.names.is_empty() {
            self.names = Some(all.iter().map(|found| found.pattern.to_string()).collect());
        }
        // Schemas may come without having been asked for, where the look saw all fields anyway.
        for discovered in all.iter().filter(|found| !found.schema.fields.is_empty()) {
            let found = Found {
                discovered: Arc::new(discovered.clone()),
                growth: Growth::default(),
                fixed,
            };
            self.found.insert(discovered.pattern.to_string(), found);
        }
        Ok((all, reads))
    }

    /// What is known of a collection; it is looked at if nothing is.
    fn find(&mut self, name: &str) -> Result<Found> {
        if !self.found.contains_key(name) {
            self.look(&CollectionsRequest::named(name))?;
        }
        match self.found.get(name) {
            Some(found) => Ok(found.clone()),
            None => Err(self.no_collection(name)),
        }
    }

    fn no_collection(&self, name: &str) -> Error {
        let error = Error::no_collection(name);
        match self.names.as_deref() {
            // To find out what there is costs a read for each document, so it is said only if it is known.
            None => error,
            Some([]) => error.with_help("the database has no document at all"),
            Some(names) => error.with_help(format!("there are `{}`", names.join("`, `"))),
        }
    }

    /// What a request reads. A schema that the reader counts on is believed, and nothing is looked at.
    fn target(&mut self, request: &ReadRequest) -> Result<Target> {
        let pattern = Pattern::parse(&request.collection)?;
        let Some(expected) = &request.expected else {
            let found = self.find(&request.collection)?;
            return Ok(Target {
                pattern,
                schema: Arc::clone(&found.discovered.schema),
                key: found.discovered.key.clone(),
                fixed: self.fixed,
                growth: found.growth,
            });
        };
        let known = self.found.get(&request.collection);
        Ok(Target {
            key: known.map_or_else(|| pattern.key(), |found| found.discovered.key.clone()),
            pattern,
            schema: Arc::new(Schema::clone(expected)),
            fixed: self.fixed,
            growth: Growth::default(),
        })
    }

    /// The records of a nested collection as they were counted at the same instant, where its query cannot count them alone.
    fn known_count(&self, request: &CountRequest) -> Option<u64> {
        let found = self.found.get(&request.collection)?;
        let is_same = request.snapshot.as_deref() == Some(&read::to_token(found.fixed.at));
        let record_count = found.discovered.record_count;
        record_count.filter(|_| is_same && found.discovered.is_count_exact)
    }

    /// Whether counting what the query of a collection finds counts its documents.
    fn counts_alone(&self, pattern: &Pattern) -> bool {
        if pattern.parent().is_none() {
            return true;
        }
        let found = self.found.get(&pattern.to_string());
        found.is_some_and(|found| found.discovered.count_units > 0)
    }
}

impl OpenSource for FirestoreSource {
    type Config = FirestoreConfig;

    fn open(config: FirestoreConfig, services: Services) -> Result<Self> {
        let client = Runtime::get()?.block_on(&services, Client::open(&config, &services))?;
        Ok(Self::new(client, config, services))
    }

    fn capabilities() -> SourceCapabilities {
        SourceCapabilities {
            snapshot: true,
            partitions: true,
            resume: true,
            changes: false,
            lookup: true,
            query: false,
            streams_max: 0,
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        crate::value::type_table()
    }
}

impl Source for FirestoreSource {
    fn check(&mut self) -> Result<Vec<Finding>> {
        let Reader { client, config } = &self.reader;
        Runtime::get()?.block_on(&self.services, check::source(client, config, &self.services))
    }

    fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>> {
        let (found, instant_reads) = self.look(request)?;
        Ok(discovery::announce(&found, &self.reader.config, instant_reads))
    }

    fn open_snapshot(&mut self) -> Result<Option<String>> {
        let (fixed, _) = self.instant()?;
        Ok(Some(read::to_token(fixed.at)))
    }

    fn partitions(&mut self, request: &PartitionsRequest) -> Result<Vec<Partition>> {
        let pattern = Pattern::parse(&request.collection)?;
        let snapshot = request.snapshot.as_deref().map(read::from_token).transpose()?;
        let known = self.found.get(&request.collection);
        let known = known.map(|found| &*found.discovered);
        let dividing = read::divide(&self.reader.client, &pattern, known, request.wanted, snapshot);
        Runtime::get()?.block_on(&self.services, dividing)
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        let target = self.target(request)?;
        let stream = DocumentStream::scan(self.reader.clone(), self.services.clone(), target, request)?;
        Ok(Box::new(stream))
    }

    fn count(&mut self, request: &CountRequest) -> Result<Option<u64>> {
        let pattern = Pattern::parse(&request.collection)?;
        let snapshot = request.snapshot.as_deref().map(read::from_token).transpose()?;
        if !self.counts_alone(&pattern) {
            return Ok(self.known_count(request));
        }
        let scope = Scope::Collection(pattern);
        let Reader { client, config } = &self.reader;
        let counting = read::count_kept(client, config, &self.services, &scope, snapshot);
        Runtime::get()?.block_on(&self.services, counting).map(Some)
    }

    fn lookup(&mut self, request: &ReadRequest, keys: &Batch) -> Result<Box<dyn RecordStream>> {
        let mut target = self.target(request)?;
        let has_key = |key: &[String]| key.iter().all(|name| keys.schema.index_of(name).is_some());
        if !has_key(&target.key) && request.expected.is_some() {
            // Nothing is known of the collection but what the reader says: what it looks up by is the key.
            target.key = keys
                .schema
                .fields
                .iter()
                .map(|field| field.name.clone())
                .collect();
        }
        let (reader, services) = (self.reader.clone(), self.services.clone());
        let stream = DocumentStream::lookup(reader, services, target, request, keys)?;
        Ok(Box::new(stream))
    }
}
