//! Looks, before anything is written, for records that point to others that the source does not have.
//!
//! It reads the fields that point and the keys that they point to, as the sink would get them. Neighbours:
//! [`crate::verification::orphans`] does the looking, [`crate::plan`] knows the references.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use whimbrel_plugin_api::source::{Item, ReadRequest};
use whimbrel_plugin_api::{Batch, Error, Finding};

use crate::config::{Job, Mode, OrphanPolicy};
use crate::control::Stop;
use crate::events::{Emitter, Event, Failure, Orphan, ReferenceResult, ReferenceState};
use crate::loader::observe::OpenedSource;
use crate::plan::PlannedCollection;
use crate::plan::cost::{self, Units};
use crate::transform::{Chain, Transforms};
use crate::verification::orphans::{self, Found, Reading, Sought};
use crate::workspace::open_private;

/// Octets for the digests of keys that are held at one time: 2,097,152 keys, so that the memory of a run stays within its
/// bounds.
pub(super) const KEY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Why nobody looks where the job says not to.
pub(super) const NOT_WANTED: &str = "the job says not to";
/// Why nobody looks at a sample.
pub(super) const SAMPLE_ONLY: &str = "only a sample is moved";

/// What the search needs.
pub struct Search<'a> {
    /// The job.
    pub job: &'a Job,
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// Where events go.
    pub emitter: &'a Emitter,
    /// Ends everything.
    pub stop: &'a Stop,
    /// Where all orphans are listed, if they are to be.
    pub file: Option<&'a Path>,
}

/// What the search found.
#[derive(Debug, Default)]
pub struct Searched {
    /// Each reference between planned collections.
    pub references: Vec<ReferenceResult>,
    /// What a person should know.
    pub findings: Vec<Finding>,
    /// Whether the file has all orphans, and there are some.
    pub is_listed: bool,
    /// What the source bills for what was read, by collection.
    pub units: Units,
}

/// Looks at all references between `collections`, under one snapshot of the source, if it offers them.
///
/// # Errors
/// What the source or a transform brings.
pub fn run(
    search: &Search<'_>,
    collections: &[PlannedCollection],
    source: &mut OpenedSource,
) -> Result<Searched, Failure> {
    let mut searched = Searched::default();
    let mut sought = Vec::new();
    for (child, planned) in collections.iter().enumerate() {
        for reference in &planned.sink.references {
            let Some(parent) = collections
                .iter()
                .position(|parent| parent.sink.name == reference.collection)
            else {
                continue;
            };
            let mut result = ReferenceResult {
                collection: planned.source.name.clone(),
                fields: reference.fields.clone(),
                parent: collections[parent].source.name.clone(),
                to_fields: reference.to_fields.clone(),
                state: ReferenceState::Searched,
                ..ReferenceResult::default()
            };
            if reference.is_enforced && search.job.mode == Mode::Full {
                result.state = ReferenceState::Guaranteed;
            } else if let Some(reason) = why_not(search, planned, &collections[parent], &result) {
                result.state = ReferenceState::Skipped;
                result.reason = Some(reason);
            } else {
                let of = Sought {
                    child,
                    fields: reference.fields.clone(),
                    parent,
                    to_fields: reference.to_fields.clone(),
                };
                sought.push((searched.references.len(), of));
            }
            searched.references.push(result);
        }
    }
    if !sought.is_empty() {
        look(search, collections, source, &sought, &mut searched)?;
    }
    searched.findings = findings(search.job, &searched);
    Ok(searched)
}

/// Why a reference is not looked at, if it is not.
fn why_not(
    search: &Search<'_>,
    child: &PlannedCollection,
    parent: &PlannedCollection,
    result: &ReferenceResult,
) -> Option<String> {
    if search.job.import.on_orphan == OrphanPolicy::Skip {
        return Some(NOT_WANTED.to_owned());
    }
    if search.job.mode == Mode::Test {
        return Some(SAMPLE_ONLY.to_owned());
    }
    cannot_compare(child, parent, result)
}

/// Why the values of both ends of a reference cannot be the same, if they cannot.
pub(super) fn cannot_compare(
    child: &PlannedCollection,
    parent: &PlannedCollection,
    result: &ReferenceResult,
) -> Option<String> {
    let pairs = result.fields.iter().zip(&result.to_fields);
    for (field, to_field) in pairs {
        let type_of = |of: &PlannedCollection, name: &str| {
            let schema = &of.sink.schema;
            schema
                .index_of(name)
                .map(|at| schema.fields[at].record_type.clone())
        };
        let (Some(own), Some(theirs)) = (type_of(child, field), type_of(parent, to_field)) else {
            return Some("its fields do not come through the transforms".to_owned());
        };
        if !orphans::is_comparable(&own, &theirs) {
            return Some(format!("`{field}` is `{own}` and `{to_field}` is `{theirs}`"));
        }
    }
    None
}

fn look(
    search: &Search<'_>,
    collections: &[PlannedCollection],
    source: &mut OpenedSource,
    sought: &[(usize, Sought)],
    searched: &mut Searched,
) -> Result<(), Failure> {
    let snapshot = source.open_snapshot()?;
    let mut reading = SourceReading {
        transforms: search.transforms,
        emitter: search.emitter,
        stop: search.stop,
        collections,
        source,
        snapshot,
        units: Units::new(),
    };
    let mut list = Listing::new(search.file);
    let all: Vec<Sought> = sought.iter().map(|(_, of)| of.clone()).collect();
    let found = orphans::find(&all, KEY_BYTES_MAX, &mut reading, &mut |of, orphan| {
        list.add(collections, of, orphan);
    })?;
    searched.units = reading.units;
    match list.end() {
        Ok(is_listed) => searched.is_listed = is_listed,
        // Everything else is known, and the first ones are in the report.
        Err(error) => search.emitter.emit(&Event::Log {
            plugin: "references".to_owned(),
            level: "warn".to_owned(),
            message: format!("the list of orphans could not be written: {error}"),
        }),
    }
    for ((number, _), found) in sought.iter().zip(found) {
        take(&mut searched.references[*number], found);
    }
    Ok(())
}

/// Takes what was found into the result.
pub(super) fn take(result: &mut ReferenceResult, found: Found) {
    let Found {
        record_count,
        orphan_count,
        missing_key_count,
        missing_keys_uncounted,
        orphans,
    } = found;
    result.record_count = record_count;
    result.orphan_count = orphan_count;
    result.missing_key_count = missing_key_count;
    result.missing_keys_counted = !missing_keys_uncounted;
    result.orphans = orphans;
}

fn findings(job: &Job, searched: &Searched) -> Vec<Finding> {
    let mut findings = Vec::new();
    for result in &searched.references {
        let reference = format!(
            "`{}` of `{}` to `{}`",
            result.fields.join("`, `"),
            result.collection,
            result.parent
        );
        if result.orphan_count > 0 {
            let least = if result.missing_keys_counted {
                ""
            } else {
                "at least "
            };
            let message = format!(
                "the reference {reference}: {} of {} records point to {least}{} keys that the source does not have",
                result.orphan_count, result.record_count, result.missing_key_count
            );
            let finding = if job.import.on_orphan == OrphanPolicy::Fail {
                Finding::blocker("references.orphans", message).with_help(
                    "add what is missing or take these records out, or let `import.on_orphan` be `report`",
                )
            } else {
                Finding::warning("references.orphans", message).with_help(
                    "they are written as they are; a sink that enforces the reference rejects them",
                )
            };
            findings.push(finding.with_collection(&result.collection));
        } else if let Some(reason) = result.reason.as_ref().filter(|_| is_worth_telling(job)) {
            let message = format!("nobody looked for orphans of the reference {reference}: {reason}");
            findings
                .push(Finding::info("references.not_searched", message).with_collection(&result.collection));
        }
    }
    findings
}

/// What the job asks for itself needs no words.
fn is_worth_telling(job: &Job) -> bool {
    job.import.on_orphan != OrphanPolicy::Skip && job.mode != Mode::Test
}

/// Reads collections of the source as the sink would get them.
pub(super) struct SourceReading<'a> {
    pub(super) transforms: &'a Transforms,
    pub(super) emitter: &'a Emitter,
    pub(super) stop: &'a Stop,
    pub(super) collections: &'a [PlannedCollection],
    pub(super) source: &'a mut OpenedSource,
    pub(super) snapshot: Option<String>,
    /// What was billed so far.
    pub(super) units: Units,
}

impl SourceReading<'_> {
    /// Notes that `planned` was read, `limit` records of it or all.
    fn bill(&mut self, planned: &PlannedCollection, limit: Option<u64>) {
        if let Some(cost) = &planned.source.cost {
            let units = self.units.entry(planned.source.name.clone()).or_default();
            *units = units.saturating_add(cost::reading(planned, cost, limit));
        }
    }
}

impl Reading for SourceReading<'_> {
    fn read(
        &mut self,
        collection: usize,
        fields: &[String],
        each: &mut dyn FnMut(&Batch) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let planned = &self.collections[collection];
        let mut chain = None;
        let mut columns = fields.to_vec();
        if !planned.transforms.is_empty() {
            let mut opened = Chain::open(self.transforms, &planned.transforms)?;
            opened.plan(&planned.source)?;
            chain = Some(opened);
            // Transforms may look at any field.
            columns.clear();
        }
        let mut stream = self.source.read(&ReadRequest {
            columns,
            snapshot: self.snapshot.clone(),
            ..ReadRequest::all(&planned.source.name)
        })?;
        let mut record_count = 0;
        loop {
            if self.stop.is_raised() {
                return Err(Error::cancelled().into());
            }
            let batch = match stream.next_item()? {
                Item::Batch(batch) => batch,
                Item::Schema(schema) => {
                    if let Some(chain) = &mut chain {
                        chain.grow(&schema)?;
                    }
                    continue;
                }
                Item::End => {
                    self.bill(planned, None);
                    return Ok(());
                }
                _ => continue,
            };
            record_count += batch.record_count() as u64;
            let batches = match &mut chain {
                None => vec![batch],
                Some(chain) => chain.apply(batch)?.batches,
            };
            for batch in &batches {
                if !each(batch)? {
                    self.bill(planned, Some(record_count));
                    return Ok(());
                }
            }
            self.emitter.emit(&Event::OrphanSearch {
                collection: planned.source.name.clone(),
                record_count,
            });
        }
    }

    fn key(&self, collection: usize) -> &[String] {
        &self.collections[collection].sink.key
    }
}

/// The file of all orphans, one JSON object a line; made with the first one.
struct Listing<'a> {
    path: Option<&'a Path>,
    file: Option<BufWriter<File>>,
    failed: Option<std::io::Error>,
}

impl<'a> Listing<'a> {
    fn new(path: Option<&'a Path>) -> Self {
        Self {
            path,
            file: None,
            failed: None,
        }
    }

    fn add(&mut self, collections: &[PlannedCollection], of: &Sought, orphan: &Orphan) {
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = self.write(collections, of, orphan) {
            self.failed = Some(error);
        }
    }

    fn write(
        &mut self,
        collections: &[PlannedCollection],
        of: &Sought,
        orphan: &Orphan,
    ) -> std::io::Result<()> {
        let Some(path) = self.path else {
            return Ok(());
        };
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(open_private(path, false)?)),
        };
        let line = serde_json::json!({
            "collection": collections[of.child].source.name,
            "fields": of.fields,
            "parent": collections[of.parent].source.name,
            "record": orphan.record,
            "missing": orphan.missing,
        });
        writeln!(file, "{line}")
    }

    /// Whether the file was made.
    fn end(mut self) -> std::io::Result<bool> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match &mut self.file {
            None => Ok(false),
            Some(file) => file.flush().map(|()| true),
        }
    }
}
