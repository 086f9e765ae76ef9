//! The source role: what is in a folder or file, and streams of it.
//!
//! What was found out about a file is kept as long as the file stays the same, so that it is looked through once. The
//! sink's reading half is the same source over its folder, with the files of the load under way in view.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use whimbrel_plugin_api::collection::Estimate;
use whimbrel_plugin_api::source::CountRequest;
use whimbrel_plugin_api::{
    Collection, CollectionsRequest, Error, Finding, OpenSource, Partition, PartitionsRequest, ReadRequest,
    RecordStream, Result, Schema, Services, Source, SourceCapabilities, TypeMapping,
};

use crate::config::SourceConfig;
use crate::cursor::{Mark, Part};
use crate::error;
use crate::fit::Fit;
use crate::format::{DataFile, Identity};
use crate::framing::Layout;
use crate::inference::{Inferred, Shape};
use crate::listing::{self, Listing};
use crate::look::Known;
use crate::stream::{FileStream, StreamParts};
use crate::type_mapping;

/// Octets of a part at least: below that, opening a file and another session cost more than they bring.
const PARTITION_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Files that are read.
pub struct FilesSource {
    pub(crate) config: SourceConfig,
    pub(crate) services: Services,
    /// Whether the committed part of a load under way is read, as the sink's reading half does.
    sees_load: bool,
    pub(crate) known: HashMap<PathBuf, Known>,
}

impl OpenSource for FilesSource {
    type Config = SourceConfig;

    fn open(config: SourceConfig, services: Services) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            services,
            sees_load: false,
            known: HashMap::new(),
        })
    }

    fn capabilities() -> SourceCapabilities {
        SourceCapabilities {
            partitions: true,
            resume: true,
            ..SourceCapabilities::default()
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        type_mapping::type_mappings()
    }
}

impl FilesSource {
    /// The reading half of the sink over the folder in `config`.
    pub(crate) fn reading_back(config: SourceConfig, services: Services) -> Self {
        Self {
            config,
            services,
            sees_load: true,
            known: HashMap::new(),
        }
    }

    fn listing(&self) -> Result<Listing> {
        if self.sees_load {
            listing::list_with_load(&self.config.path)
        } else {
            listing::list(&self.config.path)
        }
    }

    fn file(&self, collection: &str) -> Result<DataFile> {
        let mut listing = self.listing()?;
        listing.refuse_twice()?;
        listing
            .files
            .remove(collection)
            .ok_or_else(|| error::no_collection(collection, &self.config.path))
    }

    /// Compares a file as it is with how it was when it was listed, and when each of `promised` was given out.
    fn refuse_changed(&self, file: &DataFile, promised: impl IntoIterator<Item = Identity>) -> Result<()> {
        let identity = file.identity()?;
        let listed = self.known.get(&file.path).map(|known| known.identity);
        if promised
            .into_iter()
            .chain(listed)
            .any(|promised| promised != identity)
        {
            return Err(error::changed(&file.path));
        }
        Ok(())
    }

    fn collection(&mut self, file: &DataFile) -> Result<Collection> {
        let known = self.look(file)?;
        let mut collection = Collection::new(&file.collection, Schema::clone(&known.schema));
        let content = file.schema_file.as_ref();
        collection.references = content
            .map(|content| content.references.clone())
            .unwrap_or_default();
        collection.key = match self.config.key.get(&file.collection) {
            Some(key) => key.clone(),
            None => content.map(|content| content.key.clone()).unwrap_or_default(),
        };
        if let Some(field) = collection
            .key
            .iter()
            .find(|field| collection.schema.index_of(field).is_none())
        {
            return Err(Error::config(
                "files.key_field_missing",
                format!(
                    "the key of `{}` names the field `{field}`, which no record has",
                    file.collection
                ),
            )
            .with_place(format!("config.key.{}", file.collection))
            .with_help("name fields that stand at the top of the records"));
        }
        collection.estimate = Estimate {
            size_bytes: Some(known.identity.size_bytes),
            ..match (&known.inferred, content) {
                (Some(inferred), _) if inferred.is_complete => Estimate {
                    record_count: Some(inferred.looked_at()),
                    exact: true,
                    ..Estimate::default()
                },
                // Not exact: what a file says of itself proves nothing.
                (None, Some(content)) if content.size_bytes == known.identity.size_bytes => Estimate {
                    record_count: Some(content.record_count),
                    ..Estimate::default()
                },
                _ => Estimate::default(),
            }
        };
        Ok(collection)
    }
}

impl Source for FilesSource {
    fn check(&mut self) -> Result<Vec<Finding>> {
        let listing = match self.listing() {
            Ok(listing) => listing,
            // What a person can repair is an answer, not a failure of the check.
            Err(error) => return Ok(vec![Finding::of_error(&error)]),
        };
        let mut findings = listing.findings;
        if listing.files.is_empty() {
            let message = format!("`{}` holds no file to read", self.config.path.display());
            findings.push(Finding::warning("files.nothing", message));
        }
        for name in self
            .config
            .key
            .keys()
            .filter(|name| !listing.files.contains_key(*name))
        {
            let message = format!("`key` names the collection `{name}`, which is not there");
            findings.push(Finding::blocker("files.no_collection", message).with_collection(name));
        }
        self.check_files(&listing.files, &mut findings)?;
        Ok(findings)
    }

    fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>> {
        let listing = self.listing()?;
        listing.refuse_twice()?;
        let mut collections = Vec::new();
        for file in listing
            .files
            .values()
            .filter(|file| request.wants(&file.collection))
        {
            if request.schemas {
                collections.push(self.collection(file)?);
            } else {
                let mut collection = Collection::new(&file.collection, Schema::default());
                collection.estimate.size_bytes = Some(file.identity()?.size_bytes);
                collections.push(collection);
            }
        }
        Ok(collections)
    }

    fn partitions(&mut self, request: &PartitionsRequest) -> Result<Vec<Partition>> {
        let file = self.file(&request.collection)?;
        self.refuse_changed(&file, [file.identity()?])?;
        let known = self.look(&file)?;
        let size_bytes = known.identity.size_bytes;
        let wanted = if known.form.is_divisible() {
            (size_bytes / PARTITION_BYTES_MIN).clamp(1, u64::from(request.wanted.max(1)))
        } else {
            1
        };
        let starts = if wanted > 1 {
            file.line_starts(size_bytes, wanted)?
        } else {
            vec![0, size_bytes]
        };
        let is_whole = starts.len() == 2;
        let shape = known
            .inferred
            .as_ref()
            .map_or(Shape::Columns, |inferred| inferred.shape);
        let is_sample = known
            .inferred
            .as_ref()
            .is_some_and(|inferred| !inferred.is_complete);
        let partition = |pair: &[u64]| {
            let (start, end) = (pair[0], pair[1]);
            Partition {
                descriptor: Part {
                    identity: known.identity,
                    shape,
                    is_sample,
                    start,
                    end,
                }
                .encode(),
                label: if is_whole {
                    "all".to_owned()
                } else {
                    format!("octets {start}..{end}")
                },
                estimate: Estimate {
                    size_bytes: Some(end - start),
                    record_count: known
                        .inferred
                        .as_ref()
                        .filter(|_| is_whole && !is_sample)
                        .map(Inferred::looked_at),
                    exact: is_whole && !is_sample && known.inferred.is_some(),
                },
            }
        };
        Ok(starts.windows(2).map(partition).collect())
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        if request.predicate.is_some() {
            return Err(Error::unsupported("read with a predicate"));
        }
        let file = self.file(&request.collection)?;
        let identity = file.identity()?;
        let decoded = request
            .partition
            .as_ref()
            .map(|partition| &partition.descriptor)
            .filter(|it| !it.is_start());
        let part = decoded.map(Part::decode).transpose()?;
        let mark = if request.cursor.is_start() {
            None
        } else {
            Some(Mark::decode(&request.cursor)?)
        };
        let promised = [
            part.map(|part| part.identity),
            mark.map(|mark| mark.identity),
            Some(identity),
        ];
        self.refuse_changed(&file, promised.into_iter().flatten())?;
        let shape = match (&part, &request.expected, &file.schema_file) {
            (_, Some(_), Some(_)) => Some(Shape::Columns),
            (Some(part), Some(_), None) if !part.is_sample => Some(part.shape),
            _ => None,
        };
        // What is expected and how it lies there is known: nothing has to be looked through.
        let (form, shape, full, sampled) = match (shape, &request.expected) {
            (Some(shape), Some(expected)) => (
                file.form(self.config.format)?,
                shape,
                Arc::new(expected.clone()),
                None,
            ),
            _ => {
                let known = self.look(&file)?;
                let inferred = known.inferred.as_ref();
                let shape = inferred.map_or(Shape::Columns, |inferred| inferred.shape);
                let is_sample = inferred.is_some_and(|inferred| !inferred.is_complete);
                let full = request
                    .expected
                    .as_ref()
                    .map_or(known.schema, |expected| Arc::new(expected.clone()));
                (known.form, shape, full, is_sample.then_some(known.all_fields))
            }
        };
        let schema = projected(&full, &request.columns)?;
        // Who asks for some fields only does not ask for new ones.
        let is_chosen = !request.columns.is_empty();
        let is_projected = schema.fields.len() < full.fields.len() || (is_chosen && sampled.is_some());
        let fit = sampled
            .is_some()
            .then(|| Fit::new(full, shape).ignoring_new_fields(is_chosen));
        let (start, end) = part.map_or((0, None), |part| {
            (part.start, form.is_divisible().then_some(part.end))
        });
        let stream = FileStream::new(StreamParts {
            services: self.services.clone(),
            identity,
            form,
            start: mark.map_or(start, |mark| mark.offset),
            end,
            behind_value: mark
                .filter(|mark| form.layout == Layout::Values && mark.offset > 0)
                .map(|mark| mark.is_array),
            record_bytes_max: self.config.line_bytes_max,
            is_projected,
            is_inferred: file.schema_file.is_none(),
            schema,
            shape,
            fit,
            all_fields: sampled.filter(|_| !is_chosen),
            fields_max: self.config.fields_max,
            bounds: request.batch,
            limit: request.limit,
            file,
        })?;
        Ok(Box::new(stream))
    }

    fn count(&mut self, request: &CountRequest) -> Result<Option<u64>> {
        let file = self.file(&request.collection)?;
        let identity = file.identity()?;
        let known = self
            .known
            .get(&file.path)
            .filter(|known| known.identity == identity);
        let inferred = known
            .and_then(|known| known.inferred.as_ref())
            .filter(|inferred| inferred.is_complete);
        Ok(inferred.map(Inferred::looked_at))
    }
}

/// The schema with only `columns`, in their order; all of it if there are none.
fn projected(full: &Arc<Schema>, columns: &[String]) -> Result<Arc<Schema>> {
    if columns.is_empty() {
        return Ok(Arc::clone(full));
    }
    let field = |name: &String| {
        full.fields
            .iter()
            .find(|field| field.name == *name)
            .cloned()
            .ok_or_else(|| {
                let mut names: Vec<String> = full
                    .fields
                    .iter()
                    .take(20)
                    .map(|field| format!("`{}`", field.name))
                    .collect();
                if full.fields.len() > names.len() {
                    names.push("...".to_owned());
                }
                Error::not_found(
                    "files.no_field",
                    format!("there is no field `{name}` (fields: {})", names.join(", ")),
                )
            })
    };
    let fields = columns.iter().map(field).collect::<Result<_>>()?;
    let schema = Schema {
        version: full.version,
        fields,
        presence: full.presence,
    };
    schema.validate()?;
    Ok(Arc::new(schema))
}
