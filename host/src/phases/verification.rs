//! Verification: reads both sides once more and compares them, collection by collection.
//!
//! The sink is read back over a session of its own, after the writing ones have ended.

use crate::config::VerificationLevel;
use crate::control::Stop;
use crate::events::{Comparison, Emitter, Event, Failure, Phase, VerificationResult};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::plan::PlannedCollection;
use crate::verification::{Comparable, compare};

/// Compares all collections at `level`.
///
/// # Errors
/// The first comparison that could not be made.
pub fn run(
    collections: &[PlannedCollection],
    source: &mut OpenedSource,
    sink: &mut OpenedSink,
    level: VerificationLevel,
    emitter: &Emitter,
    stop: &Stop,
) -> Result<Vec<VerificationResult>, Failure> {
    let attempt = || -> Result<Vec<VerificationResult>, Failure> {
        let mut reader = sink.reader()?;
        let mut results = Vec::with_capacity(collections.len());
        for planned in collections {
            let both = Comparable {
                source: &planned.source,
                sink: &planned.sink,
            };
            let mut seen = 0;
            let mut progress = |records: u64| {
                seen += records;
                emitter.emit(&Event::VerificationProgress {
                    collection: planned.source.name.clone(),
                    record_count: seen,
                });
            };
            results.push(compare(source, &mut reader, &both, level, stop, &mut progress)?);
        }
        Ok(results)
    };
    let mut attempt = attempt;
    attempt().map_err(|failure| failure.in_phase(Phase::Verification))
}

/// Whether nothing differs.
pub fn all_equal(results: &[VerificationResult]) -> bool {
    results
        .iter()
        .all(|result| result.comparison == Comparison::Equal)
}
