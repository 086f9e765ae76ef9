//! Making a folder ready to be written: what is there, what stands in the way, and a fresh start for the rest.
//!
//! Nothing is changed if anything stands in the way. The rest of the sink is in [`crate::sink`].

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use whimbrel_plugin_api::sink::{PrepareReport, PrepareRequest, PreparedCollection, PreparedField};
use whimbrel_plugin_api::{Collection, Field, Finding, FindingLevel, LogLevel, Result};

use crate::config::{Existing, SourceConfig};
use crate::error::io_error;
use crate::file_name;
use crate::listing;
use crate::load::{Load, Target};
use crate::schema_file::SchemaFile;
use crate::sink::{EXISTS_HELP, FilesSink};
use crate::type_mapping;
use crate::writer::Writer;

impl FilesSink {
    /// What [`whimbrel_plugin_api::Sink::prepare`] does.
    pub(crate) fn prepare_all(&mut self, request: &PrepareRequest) -> Result<PrepareReport> {
        let mut report = PrepareReport::default();
        if self.folder().exists() && !self.folder().is_dir() {
            let message = format!("`{}` is a file, `path` must be a folder", self.folder().display());
            report
                .findings
                .push(Finding::blocker("files.not_a_folder", message));
            return Ok(report);
        }
        if let Some(earlier) = Load::read(self.folder())?.filter(|load| load.is_finishing) {
            report.ddl.push(format!(
                "finish the names of {} collections of an earlier run",
                earlier.targets.len()
            ));
            if request.dry {
                report.findings.push(Finding::info(
                    "files.unfinished",
                    "an earlier run has to be finished first",
                ));
            } else {
                earlier.finish(self.folder())?;
            }
        }
        if !self.folder().exists() {
            report
                .ddl
                .push(format!("make folder `{}`", self.folder().display()));
        }
        let targets: Vec<Target> = request
            .collections
            .iter()
            .map(|collection| self.target(collection))
            .collect();
        let mut stems: HashMap<String, &str> = HashMap::new();
        let mut refused = Vec::new();
        for (collection, target) in request.collections.iter().zip(&targets) {
            collection.schema.validate()?;
            if let Some(other) = stems.insert(target.stem.to_lowercase(), &collection.name) {
                report
                    .findings
                    .push(same_name(&collection.name, other, "of this run"));
            }
            if !self.prepare_one(collection, target, &mut report)? {
                refused.push(collection.name.clone());
            }
        }
        let is_blocked = report.findings.iter().any(|it| it.level == FindingLevel::Blocker);
        if !request.dry && !is_blocked {
            self.make_ready(request, targets, refused)?;
        }
        Ok(report)
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

    /// What is there of a collection, and what will be done; whether it may be written.
    fn prepare_one(
        &self,
        collection: &Collection,
        target: &Target,
        report: &mut PrepareReport,
    ) -> Result<bool> {
        let files = listing::data_files(self.folder(), &target.stem);
        let schema_path = self.folder().join(target.schema_name());
        let content = SchemaFile::read(&schema_path)?;
        if let Some(content) = content
            .as_ref()
            .filter(|content| content.collection != collection.name)
        {
            report
                .findings
                .push(same_name(&collection.name, &content.collection, "there already"));
        } else if content.is_none() && schema_path.exists() {
            let message = format!(
                "`{}` is in the way: it is no schema file of whimbrel",
                schema_path.display()
            );
            report.findings.push(
                Finding::blocker("files.foreign_schema_file", message)
                    .with_help("move it away, or write into another folder")
                    .with_collection(&collection.name),
            );
        }
        let record_count = match (&content, files.as_slice()) {
            (_, []) => None,
            (Some(content), [file])
                if file
                    .metadata()
                    .is_ok_and(|facts| facts.len() == content.size_bytes) =>
            {
                Some(content.record_count)
            }
            (_, files) => self.is_empty(files)?.then_some(0),
        };
        let existed = !files.is_empty();
        let holds_records = existed && record_count != Some(0);
        let is_replaced = holds_records && self.config.existing == Existing::Replace;
        let verb = if existed { "replace" } else { "write" };
        for name in [target.data_name(), target.schema_name()] {
            report
                .ddl
                .push(format!("{verb} file `{}`", self.folder().join(name).display()));
        }
        if holds_records {
            let count = record_count.map_or("records".to_owned(), |count| format!("{count} records"));
            let held = format!(
                "`{}` holds {count} of `{}` already",
                self.folder().display(),
                collection.name
            );
            // A host refuses this by what it is told below; `write` refuses it again.
            let finding = if is_replaced {
                Finding::info("files.replaced", format!("{held}, which are replaced in the end"))
            } else {
                Finding::warning("files.exists", format!("{held}, and files are not appended to"))
                    .with_help(EXISTS_HELP)
            };
            report.findings.push(finding.with_collection(&collection.name));
        }
        let field = |field: &Field| PreparedField {
            name: field.name.clone(),
            stored_name: field.name.clone(),
            stored_as: type_mapping::stored_as(&field.record_type).to_owned(),
            losses: type_mapping::losses(field),
        };
        report.collections.push(PreparedCollection {
            name: collection.name.clone(),
            existed,
            // What is replaced as a whole is in nobody's way: the load begins with an empty file.
            record_count: if is_replaced { Some(0) } else { record_count },
            fields: collection.schema.fields.iter().map(field).collect(),
            ..PreparedCollection::default()
        });
        Ok(!holds_records || is_replaced)
    }

    /// Whether none of the files holds a record.
    fn is_empty(&self, files: &[PathBuf]) -> Result<bool> {
        for path in files {
            let config = SourceConfig::new(path);
            for file in listing::list(path)?.files.values() {
                let mut framer = file.framer(file.form(config.format)?, 0, None, config.line_bytes_max)?;
                if framer.next()?.is_some() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Makes the folder ready for the targets and forgets what an earlier run left unfinished.
    fn make_ready(
        &mut self,
        request: &PrepareRequest,
        targets: Vec<Target>,
        refused: Vec<String>,
    ) -> Result<()> {
        let folder = self.config.path.clone();
        fs::create_dir_all(&folder).map_err(|error| io_error("make the folder", &folder, &error))?;
        self.writers.clear();
        self.is_in_transaction = false;
        if let Some(earlier) = Load::read(&folder)? {
            let count: u64 = earlier.targets.iter().map(|target| target.record_count).sum();
            self.services.log(
                LogLevel::Info,
                format!("{count} records of a load that did not end are written anew"),
            );
            earlier.discard(&folder)?;
        }
        let mut load = Load::new(Vec::new());
        for (collection, target) in request.collections.iter().zip(targets) {
            if refused.contains(&collection.name) {
                continue;
            }
            SchemaFile::new(collection).write_unsynced(&folder.join(target.partial_schema_name()))?;
            // Opening cuts off what a partial file holds that no record of a load speaks of.
            Writer::open(&folder, &target, collection.schema.clone(), self.config.level)?;
            load.targets.push(target);
        }
        load.refused = refused;
        load.write(&folder)?;
        self.load = Some(load);
        Ok(())
    }
}

fn same_name(name: &str, other: &str, where_: &str) -> Finding {
    Finding::blocker(
        "files.name_collision",
        format!("the collections `{name}` and `{other}` ({where_}) would have the same file where case does not count"),
    )
    .with_help("give one of them another name in the job")
    .with_collection(name)
}
