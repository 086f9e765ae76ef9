//! The sink role: a data file and a schema file per collection in a folder.
//!
//! Everything is written under names that end in `.partial`; a commit makes it durable for all collections at once, and
//! `finalize` gives the final names. Before that nothing unfinished has the name of a finished file.
//! Neighbours: [`crate::writer`] (one data file), [`crate::load`] (what is committed), [`crate::source`] (reading back).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, Committed, LaneId, PrepareReport, PrepareRequest, PreparedCollection, PreparedField,
};
use whimbrel_plugin_api::{
    Atomicity, Batch, Collection, ConflictPolicy, Error, ErrorKind, ErrorScope, Finding, LogLevel, OpenSink, Receipt,
    Result, Schema, Services, Sink, SinkCapabilities, Source, TypeMapping,
};

use crate::config::{Existing, SinkConfig, SourceConfig};
use crate::error::io_error;
use crate::file_name;
use crate::format;
use crate::load::{Load, Target};
use crate::schema_file::SchemaFile;
use crate::source::FilesSource;
use crate::type_mapping;
use crate::writer::Writer;

/// Files that are written.
pub struct FilesSink {
    config: SinkConfig,
    services: Services,
    /// As it is on disk; read when first needed.
    load: Option<Load>,
    writers: HashMap<String, Writer>,
    is_in_transaction: bool,
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
    fn folder(&self) -> &Path {
        &self.config.path
    }

    fn load(&mut self) -> Result<&mut Load> {
        if self.load.is_none() {
            self.load = Load::read(&self.config.path)?;
        }
        self.load.as_mut().ok_or_else(not_prepared)
    }

    fn target(&self, collection: &Collection) -> Target {
        Target {
            collection: collection.name.clone(),
            stem: file_name::stem(&collection.name),
            format: self.config.format,
            compression: self.config.compression,
            committed_bytes: 0,
            record_count: 0,
        }
    }

    /// What is there of a collection, and what will be done.
    fn prepare_one(&self, collection: &Collection, target: &Target, report: &mut PrepareReport) -> Result<()> {
        let files = format::data_files(self.folder(), &target.stem);
        let schema_path = self.folder().join(target.schema_name());
        let content = SchemaFile::read(&schema_path)?;
        if let Some(content) = content.as_ref().filter(|content| content.collection != collection.name) {
            report.findings.push(same_name(&collection.name, &content.collection, "there already"));
        } else if content.is_none() && schema_path.exists() {
            let message = format!("`{}` is in the way: it is no schema file of whimbrel", schema_path.display());
            report.findings.push(
                Finding::blocker("files.foreign_schema_file", message)
                    .with_help("move it away, or write into another folder")
                    .with_collection(&collection.name),
            );
        }
        let record_count = match (&content, files.as_slice()) {
            (_, []) => None,
            (Some(content), [file]) if file.metadata().is_ok_and(|facts| facts.len() == content.size_bytes) => {
                Some(content.record_count)
            }
            (_, files) => self.is_empty(files)?.then_some(0),
        };
        let existed = !files.is_empty();
        let is_replaced = existed && record_count != Some(0) && self.config.existing == Existing::Replace;
        if is_replaced {
            let message = format!("what `{}` holds of `{}` is replaced in the end", self.folder().display(), collection.name);
            report.findings.push(Finding::info("files.replaced", message).with_collection(&collection.name));
        }
        let verb = if existed { "replace" } else { "write" };
        for name in [target.data_name(), target.schema_name()] {
            report.ddl.push(format!("{verb} file `{}`", self.folder().join(name).display()));
        }
        if existed && record_count != Some(0) && self.config.existing == Existing::Refuse {
            let count = record_count.map_or("records".to_owned(), |count| format!("{count} records"));
            let message = format!("`{}` holds {count} of `{}` already", self.folder().display(), collection.name);
            report.findings.push(
                Finding::blocker("files.exists", message)
                    .with_help("write into an empty folder, or set `existing: replace`")
                    .with_collection(&collection.name),
            );
        }
        let field = |field: &whimbrel_plugin_api::Field| PreparedField {
            name: field.name.clone(),
            stored_name: field.name.clone(),
            stored_as: type_mapping::stored_as(&field.record_type).to_owned(),
            losses: Vec::new(),
        };
        report.collections.push(PreparedCollection {
            name: collection.name.clone(),
            existed,
            // The load begins with an empty file all the same.
            record_count: if is_replaced { Some(0) } else { record_count },
            fields: collection.schema.fields.iter().map(field).collect(),
        });
        Ok(())
    }

    /// Whether none of the files holds a record.
    fn is_empty(&self, files: &[PathBuf]) -> Result<bool> {
        for path in files {
            let config = SourceConfig::new(path);
            for file in format::list(path)?.files.values() {
                let mut framer = file.framer(file.form(config.format)?, 0, None, config.line_bytes_max)?;
                if framer.next()?.is_some() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Makes the folder ready for the targets and forgets what an earlier run left unfinished.
    fn make_ready(&mut self, request: &PrepareRequest, targets: Vec<Target>) -> Result<()> {
        let folder = self.config.path.clone();
        fs::create_dir_all(&folder).map_err(|error| io_error("make the folder", &folder, &error))?;
        self.writers.clear();
        self.is_in_transaction = false;
        if let Some(earlier) = Load::read(&folder)? {
            let count: u64 = earlier.targets.iter().map(|target| target.record_count).sum();
            self.services.log(LogLevel::Info, format!("{count} records of a load that did not end are written anew"));
            earlier.discard(&folder)?;
        }
        for (collection, target) in request.collections.iter().zip(&targets) {
            SchemaFile::new(collection).write(&folder.join(target.partial_schema_name()))?;
            // Octets of a partial file that no record of a load speaks of.
            Writer::open(&folder, target, collection.schema.clone(), self.config.level)?;
        }
        let load = Load::new(targets);
        load.write(&folder)?;
        self.load = Some(load);
        Ok(())
    }

    /// The open file of a collection, with the schema that it is written with.
    fn writer(&mut self, collection: &str) -> Result<&mut Writer> {
        if !self.writers.contains_key(collection) {
            let folder = self.config.path.clone();
            let load = self.load()?;
            let target = load.targets.iter().find(|target| target.collection == collection).ok_or_else(not_prepared)?;
            let content = SchemaFile::read(&folder.join(target.partial_schema_name()))?.ok_or_else(not_prepared)?;
            let target = target.clone();
            let writer = Writer::open(&folder, &target, content.schema, self.config.level)?;
            self.writers.insert(collection.to_owned(), writer);
        }
        self.writers.get_mut(collection).ok_or_else(not_prepared)
    }

    /// Cuts every file back to what is committed. The files are opened anew if that fails.
    fn cut_back(&mut self) -> Result<()> {
        self.is_in_transaction = false;
        let outcome = self.writers.values_mut().map(Writer::abort).fold(Ok(()), Result::and);
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
        for (name, writer) in &mut self.writers {
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
        if next != *load {
            next.write(&folder)?;
            *load = next;
        }
        for (name, writer) in &mut self.writers {
            writer.committed(lengths[name].0);
        }
        Ok(())
    }
}

fn not_prepared() -> Error {
    Error::internal("`write` came for a collection that was not prepared")
}

fn no_transaction() -> Error {
    Error::internal("a call needs a transaction, and none is open").with_scope(ErrorScope::Write)
}

fn same_name(name: &str, other: &str, where_: &str) -> Finding {
    Finding::blocker(
        "files.name_collision",
        format!("the collections `{name}` and `{other}` ({where_}) would have the same file where case does not count"),
    )
    .with_help("give one of them another name in the job")
    .with_collection(name)
}

impl Sink for FilesSink {
    fn check(&mut self) -> Result<Vec<Finding>> {
        // The folder, or the nearest one above it in which it can be made.
        let exists = |path: &&Path| path.as_os_str().is_empty() || path.exists();
        let nearest = self.folder().ancestors().find(exists).unwrap_or(Path::new(""));
        let nearest = if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest };
        if !nearest.is_dir() {
            let message = format!("`{}` is a file, `path` must be a folder", nearest.display());
            return Ok(vec![Finding::blocker("files.not_a_folder", message)]);
        }
        let rights = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        if let Err(error) = rustix::fs::access(nearest, rights) {
            let error = io_error("write into", nearest, &error.into());
            return Ok(vec![Finding::blocker(error.code, error.message).with_help(error.help.unwrap_or_default())]);
        }
        Ok(Vec::new())
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<PrepareReport> {
        let mut report = PrepareReport::default();
        if self.folder().exists() && !self.folder().is_dir() {
            let message = format!("`{}` is a file, `path` must be a folder", self.folder().display());
            report.findings.push(Finding::blocker("files.not_a_folder", message));
            return Ok(report);
        }
        if let Some(earlier) = Load::read(self.folder())?.filter(|load| load.is_finishing) {
            report.ddl.push(format!("finish the names of {} collections of an earlier run", earlier.targets.len()));
            if request.dry {
                report.findings.push(Finding::info("files.unfinished", "an earlier run has to be finished first"));
            } else {
                earlier.finish(self.folder())?;
            }
        }
        if !self.folder().exists() {
            report.ddl.push(format!("make folder `{}`", self.folder().display()));
        }
        let targets: Vec<Target> = request.collections.iter().map(|collection| self.target(collection)).collect();
        let mut stems: HashMap<String, &str> = HashMap::new();
        for (collection, target) in request.collections.iter().zip(&targets) {
            collection.schema.validate()?;
            if let Some(other) = stems.insert(target.stem.to_lowercase(), &collection.name) {
                report.findings.push(same_name(&collection.name, other, "of this run"));
            }
            self.prepare_one(collection, target, &mut report)?;
        }
        let is_blocked = report.findings.iter().any(|it| it.level == whimbrel_plugin_api::FindingLevel::Blocker);
        if !request.dry && !is_blocked {
            self.make_ready(request, targets)?;
        }
        Ok(report)
    }

    /// Adds fields that may be null; records written before simply lack them.
    fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport> {
        let (old, new) = (&request.old, &request.new);
        let is_kept = old.fields.iter().all(|field| new.fields.contains(field));
        let are_added_nullable = new.fields.iter().all(|field| field.nullable || old.fields.contains(field));
        if !is_kept || !are_added_nullable || (old.presence && !new.presence) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "files.alter",
                format!("the schema of `{}` can only grow by fields that may be null", request.collection),
            )
            .with_help("run the job anew, so that the file is written with the new schema from the start")
            .with_scope(ErrorScope::Write));
        }
        new.validate()?;
        let folder = self.config.path.clone();
        self.writer(&request.collection)?.schema = new.clone();
        let load = self.load()?;
        let target = load.targets.iter().find(|target| target.collection == request.collection);
        let path = folder.join(target.ok_or_else(not_prepared)?.partial_schema_name());
        let mut content = SchemaFile::read(&path)?.ok_or_else(not_prepared)?;
        content.schema = new.clone();
        content.write(&path)?;
        Ok(PrepareReport::default())
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        if self.is_in_transaction {
            return Err(Error::internal("`begin` came while a transaction is open").with_scope(ErrorScope::Write));
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
        let writer = self.writer(collection).map_err(|error| error.with_scope(ErrorScope::Write))?;
        let same = |one: &Schema, other: &Schema| one.fields == other.fields && one.presence == other.presence;
        if !same(&writer.schema, &batch.schema) {
            return Err(Error::internal(format!("a batch of `{collection}` has another schema than was prepared"))
                .with_scope(ErrorScope::Write));
        }
        match writer.write(batch) {
            Ok(rejected) => Ok(Receipt {
                accepted: batch.record_count() as u64 - rejected.len() as u64,
                skipped: 0,
                rejected,
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
        if self.is_in_transaction { self.cut_back() } else { Ok(()) }
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
            content.size_bytes = Writer::open(&folder, target, content.schema.clone(), self.config.level)?.end()?;
            content.write(&schema_path)?;
        }
        load.is_finishing = true;
        load.write(&folder)?;
        load.finish(&folder)
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        let config = SourceConfig::new(&self.config.path);
        Ok(Box::new(FilesSource::reading_back(config, self.services.clone())))
    }
}

impl Drop for FilesSink {
    fn drop(&mut self) {
        if self.is_in_transaction && let Err(error) = self.cut_back() {
            self.services.log(LogLevel::Warn, format!("an open transaction could not be cut back: {error}"));
        }
    }
}
