//! Verification: reads both sides once more and compares them, collection by collection.
//!
//! The sink is read back over a session of its own, after the writing ones have ended.

use std::collections::BTreeMap;

use whimbrel_plugin_api::capability::Loss;
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{Collection, Field};

use crate::config::VerificationLevel;
use crate::control::Stop;
use crate::events::{Comparison, Emitter, Event, Failure, Phase, VerificationResult};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::plan::{PlannedCollection, take_losses};
use crate::transform::Transforms;
use crate::verification::{Comparable, LeftOut, compare};

/// Compares all collections, each at its own level and without its records in `left_out`, by its number. `counted` says how
/// many records of the source were just read, where that is known.
///
/// # Errors
/// The first comparison that could not be made.
#[expect(
    clippy::too_many_arguments,
    reason = "what both sides are, and what is known of them"
)]
pub fn run(
    collections: &[PlannedCollection],
    source: &mut OpenedSource,
    sink: &mut OpenedSink,
    transforms: &Transforms,
    left_out: &BTreeMap<usize, LeftOut>,
    counted: &BTreeMap<usize, u64>,
    emitter: &Emitter,
    stop: &Stop,
) -> Result<Vec<VerificationResult>, Failure> {
    let attempt = || -> Result<Vec<VerificationResult>, Failure> {
        let mut reader = sink.reader()?;
        let mut results = Vec::with_capacity(collections.len());
        let none = LeftOut::default();
        for (index, planned) in collections.iter().enumerate() {
            if planned.verification == VerificationLevel::None {
                continue;
            }
            let both = Comparable {
                source: &planned.source,
                sink: &planned.sink,
                transforms,
                jobs: &planned.transforms,
                sample: planned.limit,
                counted: counted.get(&index).copied(),
                left_out: left_out.get(&index).unwrap_or(&none),
            };
            let mut follow = |fields| with_new_fields(sink, &planned.sink, fields);
            let mut seen = 0;
            let mut progress = |records: u64| {
                seen += records;
                emitter.emit(&Event::VerificationProgress {
                    collection: planned.source.name.clone(),
                    record_count: seen,
                });
            };
            results.push(compare(
                source,
                &mut reader,
                &both,
                planned.verification,
                &mut follow,
                stop,
                &mut progress,
            )?);
        }
        Ok(results)
    };
    let mut attempt = attempt;
    attempt().map_err(|failure| failure.in_phase(Phase::Verification))
}

/// The collection with fields that turned up after it was planned, and with what the sink loses of them. Records that came
/// before such a field had a place are null in it, not absent.
fn with_new_fields(
    sink: &mut OpenedSink,
    planned: &Collection,
    fields: Vec<Field>,
) -> Result<Collection, Failure> {
    let mut grown = planned.clone();
    for field in fields {
        grown.losses.push(FieldLoss {
            field: field.name.clone(),
            loss: Loss::AbsentToNull,
        });
        grown.schema.fields.push(field);
    }
    let report = sink.prepare(&PrepareRequest {
        collections: vec![grown.clone()],
        dry: true,
    })?;
    for prepared in &report.collections {
        take_losses(&mut grown, prepared);
    }
    Ok(grown)
}

/// Whether nothing differs.
pub fn all_equal(results: &[VerificationResult]) -> bool {
    results
        .iter()
        .all(|result| result.comparison == Comparison::Equal)
}
