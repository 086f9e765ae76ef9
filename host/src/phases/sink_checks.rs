//! What is looked at in the sink besides its records, while both sides are compared: its schema, how fast it is read by key, and
//! the references within it. Of collections that are verified at `basic` the schema alone.
//!
//! Neighbours: [`super::verification`] compares the records and asks this in between; [`crate::verification`] has the parts.

use std::io::Write as _;
use std::path::Path;

use whimbrel_plugin_api::{ErrorKind, Finding};

use super::sink_references::{self, SinkSearch};
use super::verification::{Scene, Verified};
use crate::config::VerificationLevel;
use crate::events::{
    Comparison, Event, Failure, Mismatch, MismatchKind, ReferenceResult, VerificationResult,
};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::plan::PlannedCollection;
use crate::verification::latency;
use crate::verification::schema_compliance::{self, Compliance};
use crate::workspace::open_private;

/// Differences that a result lists.
const MISMATCHES_SHOWN_MAX: usize = 50;

/// The checks of one verification.
pub struct SinkChecks<'a> {
    scene: &'a Scene<'a>,
    compliance: Compliance,
}

fn looks_at(planned: &PlannedCollection) -> bool {
    planned.verification != VerificationLevel::None
}

impl<'a> SinkChecks<'a> {
    /// Looks at the schema, before the records: what is wrong there may keep them from being read.
    ///
    /// # Errors
    /// Cancelling.
    pub fn begin(
        scene: &'a Scene<'a>,
        sink: &mut OpenedSink,
        reader: &mut OpenedSource,
    ) -> Result<Self, Failure> {
        let wanted: Vec<_> = scene
            .collections
            .iter()
            .enumerate()
            .filter(|(_, planned)| looks_at(planned))
            .map(|(index, planned)| (index, &planned.sink))
            .collect();
        Ok(Self {
            scene,
            compliance: schema_compliance::look(sink, reader, &wanted)?,
        })
    }

    /// Adds what is wrong with the schema to the comparison of collection number `index`, and how fast it is read by key.
    /// `file` is the name of its results file. A comparison that failed over such a schema is a difference.
    ///
    /// # Errors
    /// That of the comparison; cancelling.
    pub fn add_to(
        &mut self,
        index: usize,
        compared: Result<VerificationResult, Failure>,
        reader: &mut OpenedSource,
        file: &str,
    ) -> Result<VerificationResult, Failure> {
        let planned = &self.scene.collections[index];
        let mismatches = self.compliance.mismatches.remove(&index).unwrap_or_default();
        let mut result = match compared {
            Err(failure) if mismatches.is_empty() || failure.error.kind == ErrorKind::Cancelled => {
                return Err(failure);
            }
            Err(failure) => not_compared(planned, &failure),
            Ok(result) => {
                self.measure(planned, reader)?
                    .map_or(result.clone(), |latency| VerificationResult {
                        latency: Some(latency),
                        ..result
                    })
            }
        };
        if !mismatches.is_empty() {
            name_the_cause(&mut result);
        }
        let added = add(&mut result, mismatches);
        if !added.is_empty() && planned.verification == VerificationLevel::Comprehensive {
            self.list(&mut result, &added, file);
        }
        Ok(result)
    }

    fn measure(
        &mut self,
        planned: &PlannedCollection,
        reader: &mut OpenedSource,
    ) -> Result<Option<crate::events::ReadLatency>, Failure> {
        let scene = self.scene;
        if scene.is_of_sink_alone {
            return Ok(None);
        }
        let level = planned.verification;
        match latency::measure(reader, &planned.sink, &scene.sink_can, level, scene.stop) {
            Err(failure) if failure.error.kind == ErrorKind::Cancelled => Err(failure),
            Err(failure) => {
                let message = format!(
                    "records of the sink could not be read by key: {} (`{}`)",
                    failure.error.message, failure.error.code
                );
                self.compliance.findings.push(
                    Finding::warning("verification.latency_unmeasured", message)
                        .with_collection(&planned.sink.name),
                );
                Ok(None)
            }
            Ok(measured) => Ok(measured),
        }
    }

    /// Adds `mismatches` to the file that lists all of them.
    fn list(&self, result: &mut VerificationResult, mismatches: &[Mismatch], file: &str) {
        let name = result
            .mismatches_file
            .get_or_insert_with(|| file.to_owned())
            .clone();
        let path = self.scene.results_folder.join(name);
        if let Err(error) = append(&path, mismatches) {
            self.scene.emitter.emit(&Event::Log {
                plugin: "verification".to_owned(),
                level: "warn".to_owned(),
                message: format!("the list of differences lacks those of the schema: {error}"),
            });
        }
    }

    /// Looks at the references within the sink, and puts all together. If the records differ already, a search that fails is a
    /// hint.
    ///
    /// # Errors
    /// What the search brings.
    pub fn end(
        mut self,
        source: &mut OpenedSource,
        reader: &mut OpenedSource,
        results: Vec<VerificationResult>,
    ) -> Result<Verified, Failure> {
        let scene = self.scene;
        if scene.is_of_sink_alone {
            return Ok(Verified {
                results,
                findings: self.compliance.findings,
                ..Verified::default()
            });
        }
        let search = SinkSearch {
            collections: scene.collections,
            described: &self.compliance.described,
            billed: &self.compliance.billed,
            compared: &results,
            known: scene.known_references,
            is_wanted: scene.searches_orphans,
            transforms: scene.transforms,
            emitter: scene.emitter,
            stop: scene.stop,
        };
        let differs = results
            .iter()
            .any(|result| result.comparison == Comparison::Different);
        let sink_references: Vec<ReferenceResult> = match sink_references::run(&search, source, reader) {
            Err(failure) if differs && failure.error.kind != ErrorKind::Cancelled => {
                let message = format!(
                    "nobody looked for orphans in the sink: {} (`{}`)",
                    failure.error.message, failure.error.code
                );
                self.compliance
                    .findings
                    .push(Finding::warning("verification.references_unchecked", message));
                Vec::new()
            }
            searched => searched?,
        };
        Ok(Verified {
            results,
            sink_references,
            findings: self.compliance.findings,
        })
    }
}

/// The comparison of a collection whose records could not be read as they were planned.
fn not_compared(planned: &PlannedCollection, failure: &Failure) -> VerificationResult {
    let (source, sink) = (&planned.source.name, &planned.sink.name);
    let mut result = VerificationResult::begun(source, sink, planned.verification);
    let text = format!(
        "the records could not be compared: {} ({})",
        failure.error.message, failure.error.code
    );
    add(
        &mut result,
        vec![Mismatch {
            kind: MismatchKind::Schema,
            record: text,
            fields: Vec::new(),
            values: Vec::new(),
        }],
    );
    result
}

/// A collection that the sink has described is there: if reading it ended with something that was not found, that was a part
/// of it.
fn name_the_cause(result: &mut VerificationResult) {
    for mismatch in &mut result.mismatches {
        if mismatch.kind == MismatchKind::Schema && mismatch.record.starts_with("the sink has no collection")
        {
            "its records cannot be read as they were planned".clone_into(&mut mismatch.record);
        }
    }
}

/// Adds differences of the schema, before all others, but for fields that the comparison itself has missed. Answers those that
/// were added.
fn add(result: &mut VerificationResult, mismatches: Vec<Mismatch>) -> Vec<Mismatch> {
    let said: Vec<String> = result
        .mismatches
        .iter()
        .filter(|mismatch| mismatch.kind == MismatchKind::Schema)
        .flat_map(|mismatch| mismatch.fields.clone())
        .collect();
    let is_new = |mismatch: &Mismatch| {
        mismatch.fields.is_empty() || mismatch.fields.iter().any(|field| !said.contains(field))
    };
    let added: Vec<Mismatch> = mismatches.into_iter().filter(is_new).collect();
    if !added.is_empty() {
        result.comparison = Comparison::Different;
        result.mismatch_count += added.len() as u64;
        result.mismatches.splice(0..0, added.iter().cloned());
        result.mismatches.truncate(MISMATCHES_SHOWN_MAX);
    }
    added
}

fn append(path: &Path, mismatches: &[Mismatch]) -> std::io::Result<()> {
    let mut file = open_private(path, true)?;
    for mismatch in mismatches {
        let mut line = serde_json::to_vec(mismatch)?;
        line.push(b'\n');
        file.write_all(&line)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(record: &str, fields: &[&str]) -> Mismatch {
        Mismatch {
            kind: MismatchKind::Schema,
            record: record.to_owned(),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            values: Vec::new(),
        }
    }

    #[test]
    fn a_schema_that_differs_makes_the_collection_differ_and_comes_first() {
        let mut result = VerificationResult::begun("a", "b", VerificationLevel::Standard);
        result.mismatch_count = 50;
        result.mismatches = vec![
            Mismatch {
                kind: MismatchKind::Missing,
                ..schema("id=1", &[])
            };
            50
        ];
        result.mismatches[49] = schema("the sink lacks fields", &["note", "price"]);
        let added = add(
            &mut result,
            vec![
                schema("the sink lacks fields", &["note"]),
                schema("the sink has no key", &["id"]),
            ],
        );
        assert_eq!(added, [schema("the sink has no key", &["id"])]);
        assert_eq!(
            (result.comparison, result.mismatch_count, result.mismatches.len()),
            (Comparison::Different, 51, 50)
        );
        assert_eq!(result.mismatches[0], added[0]);
    }

    #[test]
    fn what_is_listed_later_is_added_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        append(&path, &[schema("x", &[])]).unwrap();
        append(&path, &[schema("y", &["f"])]).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"kind\":\"schema\",\"record\":\"x\"}\n{\"kind\":\"schema\",\"record\":\"y\",\"fields\":[\"f\"]}\n"
        );
    }
}
