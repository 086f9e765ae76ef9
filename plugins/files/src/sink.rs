//! The sink role: a data file and a schema file per collection in a folder.
//!
//! Everything is written under names that end in `.partial`; a commit makes it durable for all collections at once, and
//! `finalize` gives the final names. Before that nothing unfinished has the name of a finished file.
//! Neighbours: `writer` (one data file), `load` (what is committed), `source` (reading back).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, ClearReport, ClearRequest, Committed, LaneId, PrepareReport, PrepareRequest,
};
use whimbrel_plugin_api::{
    Atomicity, Batch, ConflictPolicy, Error, ErrorKind, ErrorScope, Field, Finding, LogLevel, OpenSink,
    Receipt, Result, Schema, Services, Sink, SinkCapabilities, Source, TypeMapping,
};

use crate::config::{SinkConfig, SourceConfig};
use crate::error::io_error;
use crate::load::Load;
use crate::schema_file::SchemaFile;
use crate::source::FilesSource;
use crate::type_mapping;
use crate::writer::Writer;

/// What can be done about a collection that is there already.
pub(crate) const EXISTS_HELP: &str = "write into an empty folder, or set `existing: replace`";

/// Files that are written.
pub struct FilesSink {
    pub(crate) config: SinkConfig,
    pub(crate) services: Services,
    /// As it is on disk; read when first needed.
    pub(crate) load: Option<Load>,
    pub(crate) writers: HashMap<String, Writer>,
    pub(crate) is_in_transaction: bool,
}

impl OpenSink for FilesSink {
    type Config = SinkConfig;

    fn open(config: SinkConfig, services: Services) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            services,
            load: None,
            writers: HashMap::new(),
            is_in_transaction: false,
        })
    }

    fn capabilities() -> SinkCapabilities {
        SinkCapabilities {
            atomicity: Atomicity::Append,
            policies: vec![ConflictPolicy::Append],
            sessions_max: 1,
            read_back: true,
            presence: true,
            ..SinkCapabilities::default()
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        type_mapping::type_mappings()
    }
}

impl FilesSink {
    pub(crate) fn folder(&self) -> &Path {
        &self.config.path
    }

    fn load(&mut self) -> Result<&mut Load> {
        if self.load.is_none() {
            self.load = Load::read(&self.config.path)?;
        }
        self.load.as_mut().ok_or_else(not_prepared)
    }

    /// The open file of a collection, with the schema that it is written with.
    fn writer(&mut self, collection: &str) -> Result<&mut Writer> {
        if !self.writers.contains_key(collection) {
            let folder = self.config.path.clone();
            let load = self.load()?;
            if load.refused.iter().any(|refused| refused == collection) {
                let message = format!("`{}` holds records of `{collection}` already", folder.display());
                return Err(Error::new(ErrorKind::Exists, "files.exists", message).with_help(EXISTS_HELP));
            }
            let target = load
                .targets
                .iter()
                .find(|target| target.collection == collection)
                .ok_or_else(not_prepared)?;
            let content =
                SchemaFile::read(&folder.join(target.partial_schema_name()))?.ok_or_else(not_prepared)?;
            let target = target.clone();
            let writer = Writer::open(&folder, &target, content.schema, self.config.level)?;
            self.writers.insert(collection.to_owned(), writer);
        }
        self.writers.get_mut(collection).ok_or_else(not_prepared)
    }

    /// Cuts every file back to what is committed. The files are opened anew if that fails.
    fn cut_back(&mut self) -> Result<()> {
        self.is_in_transaction = false;
        let outcome = self
            .writers
            .values_mut()
            .map(Writer::abort)
            .fold(Ok(()), Result::and);
        if outcome.is_err() {
            self.writers.clear();
        }
        outcome
    }

    /// The transaction is gone: nothing of it stays, and the error says so.
    fn lose_transaction(&mut self, error: Error) -> Error {
        match self.cut_back() {
            Ok(()) => error.with_scope(ErrorScope::Transaction),
            Err(second) => error.with_scope(ErrorScope::Session).with_cause(&second),
        }
    }

    /// Makes the data of all collections durable, then says so in one step.
    fn commit_all(&mut self) -> Result<()> {
        let mut lengths = BTreeMap::new();
        for (name, writer) in self.writers.iter_mut().filter(|(_, writer)| writer.is_touched) {
            lengths.insert(name.clone(), writer.sync()?);
        }
        let folder = self.config.path.clone();
        let load = self.load()?;
        let mut next = load.clone();
        for target in &mut next.targets {
            if let Some((bytes, records)) = lengths.get(&target.collection) {
                target.committed_bytes = *bytes;
                target.record_count = *records;
            }
        }
        next.has_commits = true;
        if next != *load {
            next.write(&folder)?;
            *load = next;
        }
        for (name, (bytes, _)) in lengths {
            if let Some(writer) = self.writers.get_mut(&name) {
                writer.committed(bytes);
            }
        }
        Ok(())
    }
}

/// Whether a file of the schema `ours` can hold records of `theirs`: those that came before it grew lack fields. Whether
/// each has what is required is seen when it is written.
fn holds(ours: &Schema, theirs: &Schema) -> bool {
    let has_place = |field: &Field| {
        let found = ours.index_of(&field.name);
        found.is_some_and(|index| ours.fields[index].record_type == field.record_type)
    };
    let is_there = |field: &Field| theirs.index_of(&field.name).is_some();
    theirs.fields.iter().all(has_place)
        && ours.fields.iter().all(|field| field.nullable || is_there(field))
        && (ours.presence || !theirs.presence)
}

fn not_prepared() -> Error {
    Error::internal("`write` came for a collection that was not prepared")
}

fn no_transaction() -> Error {
    Error::internal("a call needs a transaction, and none is open").with_scope(ErrorScope::Write)
}

impl Sink for FilesSink {
    fn check(&mut self) -> Result<Vec<Finding>> {
        // The folder, or the nearest one above it in which it can be made.
        let exists = |path: &&Path| path.as_os_str().is_empty() || path.exists();
        let nearest = self.folder().ancestors().find(exists).unwrap_or(Path::new(""));
        let nearest = if nearest.as_os_str().is_empty() {
            Path::new(".")
        } else {
            nearest
        };
        if !nearest.is_dir() {
            let message = format!("`{}` is a file, `path` must be a folder", nearest.display());
            return Ok(vec![Finding::blocker("files.not_a_folder", message)]);
        }
        let rights = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        if let Err(error) = rustix::fs::access(nearest, rights) {
            let error = io_error("write into", nearest, &error.into());
            return Ok(vec![Finding::of_error(&error)]);
        }
        Ok(Vec::new())
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<PrepareReport> {
        self.prepare_all(request)
    }

    /// Adds fields that may be null; records written before simply lack them.
    fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport> {
        let (old, new) = (&request.old, &request.new);
        let is_kept = old.fields.iter().all(|field| new.fields.contains(field));
        let are_added_nullable = new
            .fields
            .iter()
            .all(|field| field.nullable || old.fields.contains(field));
        if !is_kept || !are_added_nullable || (old.presence && !new.presence) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "files.alter",
                format!(
                    "the schema of `{}` can only grow by fields that may be null",
                    request.collection
                ),
            )
            .with_help("run the job anew, so that the file is written with the new schema from the start")
            .with_scope(ErrorScope::Write));
        }
        new.validate()?;
        let folder = self.config.path.clone();
        self.writer(&request.collection)?.schema = new.clone();
        let load = self.load()?;
        let target = load
            .targets
            .iter()
            .find(|target| target.collection == request.collection);
        let path = folder.join(target.ok_or_else(not_prepared)?.partial_schema_name());
        let mut content = SchemaFile::read(&path)?.ok_or_else(not_prepared)?;
        content.schema = new.clone();
        content.write_unsynced(&path)?;
        Ok(PrepareReport::default())
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        if self.is_in_transaction {
            return Err(
                Error::internal("`begin` came while a transaction is open").with_scope(ErrorScope::Write)
            );
        }
        self.load()?;
        self.is_in_transaction = true;
        Ok(())
    }

    fn write(&mut self, collection: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt> {
        self.services.check_cancelled()?;
        if !self.is_in_transaction {
            return Err(no_transaction());
        }
        if policy != ConflictPolicy::Append {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "files.policy",
                "files are only appended to: no record is looked up by its key (policies: append)",
            )
            .with_scope(ErrorScope::Write));
        }
        let writer = self
            .writer(collection)
            .map_err(|error| error.with_scope(ErrorScope::Write))?;
        if !holds(&writer.schema, &batch.schema) {
            return Err(Error::internal(format!(
                "a batch of `{collection}` has another schema than was prepared"
            ))
            .with_scope(ErrorScope::Write));
        }
        match writer.write(batch) {
            Ok(rejected) => Ok(Receipt {
                accepted: batch.record_count() as u64 - rejected.len() as u64,
                rejected,
                ..Receipt::default()
            }),
            Err(error) => Err(self.lose_transaction(error)),
        }
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        if !self.is_in_transaction {
            return Err(no_transaction());
        }
        match self.commit_all() {
            Ok(()) => {
                self.is_in_transaction = false;
                Ok(Committed::Committed {
                    seq: checkpoint.seq + 1,
                })
            }
            Err(error) => {
                // Whether the record of the load was replaced is read from the disk again.
                self.load = None;
                self.writers.clear();
                self.is_in_transaction = false;
                Err(error.with_scope(ErrorScope::Session))
            }
        }
    }

    fn abort(&mut self) -> Result<()> {
        if self.is_in_transaction {
            self.cut_back()
        } else {
            Ok(())
        }
    }

    fn finalize(&mut self) -> Result<()> {
        if self.is_in_transaction {
            return Err(Error::internal("`finalize` came while a transaction is open"));
        }
        let folder = self.config.path.clone();
        self.load = Load::read(&folder)?;
        let Some(mut load) = self.load.take() else {
            return Ok(());
        };
        self.writers.clear();
        for target in &load.targets {
            let schema_path = folder.join(target.partial_schema_name());
            let mut content = SchemaFile::read(&schema_path)?.ok_or_else(not_prepared)?;
            content.record_count = target.record_count;
            content.size_bytes =
                Writer::open(&folder, target, content.schema.clone(), self.config.level)?.end()?;
            content.write(&schema_path)?;
        }
        load.is_finishing = true;
        load.write(&folder)?;
        load.finish(&folder)
    }

    fn clear(&mut self, request: &ClearRequest) -> Result<ClearReport> {
        self.clear_all(request)
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        let config = SourceConfig::new(&self.config.path);
        Ok(Box::new(FilesSource::reading_back(config, self.services.clone())))
    }
}

impl Drop for FilesSink {
    fn drop(&mut self) {
        if self.is_in_transaction
            && let Err(error) = self.cut_back()
        {
            self.services.log(
                LogLevel::Warn,
                format!("an open transaction could not be cut back: {error}"),
            );
        }
    }
}
