//! What a source finds out about its files before it reads them, and what it tells of that.
//!
//! A file is looked through once as long as it stays the same. The rest of the source is in [`crate::source`].

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_plugin_api::{Finding, LogLevel, Result, Schema};

use crate::config::Inference;
use crate::error;
use crate::format::{DataFile, Form, Identity};
use crate::growth::AllFields;
use crate::inference::{Fallback, Inferred};
use crate::source::FilesSource;
use crate::survey::Survey;

/// Records that `check` looks at in each file without a schema file.
const CHECKED_RECORDS: u64 = 2_000;
/// Files that `check` looks into.
const CHECKED_FILES_MAX: usize = 1_000;

/// What was found out about a file.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) identity: Identity,
    pub(crate) form: Form,
    /// Absent if a schema file says it all.
    pub(crate) inferred: Option<Inferred>,
    pub(crate) schema: Arc<Schema>,
    /// All of its fields, if a record has one that the sample lacks.
    pub(crate) all_fields: Arc<AllFields>,
}

impl FilesSource {
    fn survey<'call>(&'call self, file: &'call DataFile, form: Form, identity: Identity) -> Survey<'call> {
        Survey {
            file,
            form,
            size_bytes: identity.size_bytes,
            record_bytes_max: self.config.line_bytes_max,
            fields_max: self.config.fields_max,
            services: &self.services,
        }
    }

    /// Fields and types of a file, looked up only if it is not known or not the same any more.
    pub(crate) fn look(&mut self, file: &DataFile) -> Result<Known> {
        let identity = file.identity()?;
        if let Some(known) = self
            .known
            .get(&file.path)
            .filter(|known| known.identity == identity)
        {
            return Ok(known.clone());
        }
        let form = file.form(self.config.format)?;
        let (inferred, schema) = match &file.schema_file {
            Some(content) => (None, Arc::new(content.schema.clone())),
            None => {
                let survey = self.survey(file, form, identity);
                let inferred = match self.config.inference {
                    Inference::Full => survey.full()?,
                    Inference::Sample(record_count) => survey.sample(record_count)?,
                };
                self.tell(file, &inferred);
                let schema = Arc::clone(&inferred.schema);
                (Some(inferred), schema)
            }
        };
        if file.identity()? != identity {
            return Err(error::changed(&file.path));
        }
        let known = Known {
            identity,
            form,
            inferred,
            schema,
            all_fields: Arc::default(),
        };
        self.known.insert(file.path.clone(), known.clone());
        Ok(known)
    }
    /// Puts into the log what a person should know of an inference.
    fn tell(&self, file: &DataFile, inferred: &Inferred) {
        if let Some(fallback) = inferred.fallback {
            self.services
                .log(LogLevel::Warn, fallback_message(file, fallback));
        }
        if inferred.rejected_count > 0 {
            let count = inferred.rejected_count;
            self.services.log(
                LogLevel::Warn,
                format!("{count} records of `{}` will be rejected", file.collection),
            );
        }
    }

    /// Looks at the beginning of each file for what makes a difference to the run.
    pub(crate) fn check_files(
        &mut self,
        files: &BTreeMap<String, DataFile>,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        for file in files.values().take(CHECKED_FILES_MAX) {
            self.services.check_cancelled()?;
            let identity = file.identity()?;
            if let Some(content) = &file.schema_file {
                if content.size_bytes != identity.size_bytes && file.committed_bytes.is_none() {
                    let message = format!(
                        "`{}` is not as it was when its schema file was written",
                        file.path.display()
                    );
                    let help = "records that do not have the types of the schema file will be rejected";
                    findings.push(
                        Finding::warning("files.edited", message)
                            .with_help(help)
                            .with_collection(&file.collection),
                    );
                }
                continue;
            }
            let form = file.form(self.config.format)?;
            let inferred = match self
                .known
                .get(&file.path)
                .and_then(|known| known.inferred.clone())
            {
                Some(inferred) => inferred,
                None => self.survey(file, form, identity).sample(CHECKED_RECORDS)?,
            };
            if let Some(fallback) = inferred.fallback {
                findings.push(
                    Finding::warning("files.document", fallback_message(file, fallback))
                        .with_help("raise `fields_max`, or take the documents apart with a transform")
                        .with_collection(&file.collection),
                );
            }
        }
        Ok(())
    }
}

fn fallback_message(file: &DataFile, fallback: Fallback) -> String {
    let why = match fallback {
        Fallback::TooManyFields(fields_max) => {
            format!("its records have more than {fields_max} fields between them")
        }
        Fallback::ReservedName => "a record has the reserved field `__presence`".to_owned(),
    };
    format!(
        "`{}` is read as one json field `document`: {why}",
        file.collection
    )
}
