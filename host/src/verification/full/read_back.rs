//! Reads the sink alone, for what its records come to by now: to hold it against what was found out earlier, without the source.
//!
//! Nothing is compared here. Neighbours: `reading` reads, [`crate::certificate`] has what it is held against.

use std::time::Instant;

use super::both::{is_missing, lenient, remove};
use super::compare::FullSettings;
use super::listing::note;
use super::outcome::place;
use super::reading::{SideRead, read};
use crate::config::VerificationLevel;
use crate::control::Stop;
use crate::events::{CollectionDigests, Failure, MismatchKind, VerificationResult};
use crate::loader::observe::OpenedSource;
use crate::verification::compare::{Comparable, requests};
use crate::verification::digest::Recipe;

/// Reads a collection of the sink to its end. Of the result, only what is about the sink says anything: its numbers of records, its
/// digests, and what its schema lacks.
///
/// # Errors
/// What the sink brings, but for a collection that it lacks; `verification.work_file`, `workspace.unwritable`.
pub fn read_back(
    sink: &mut OpenedSource,
    both: &Comparable<'_>,
    settings: &FullSettings<'_>,
    stop: &Stop,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<VerificationResult, Failure> {
    let begun = Instant::now();
    let (source_name, sink_name) = (&both.source.name, &both.sink.name);
    let mut result = VerificationResult::begun(source_name, sink_name, VerificationLevel::Comprehensive);
    let recipe = Recipe::of(both.sink);
    let (_, mut request) = requests(both);
    request.expected = Some(lenient(&recipe));
    let what = SideRead {
        request,
        recipe: recipe.clone(),
        transformed: None,
        extracted: None,
        partitions_parallel: settings.partitions_parallel,
        can: &settings.sink_can,
        folder: &settings.work_folder.join("sink"),
    };
    let mut lacks = |text: String, fields: Vec<String>| {
        result.mismatch_count += 1;
        result.mismatches.push(note(MismatchKind::Schema, text, fields));
    };
    match read(sink, &what, stop, progress) {
        Err(failure) if is_missing(&failure) => {
            lacks(format!("the sink has no collection `{sink_name}`"), Vec::new());
        }
        outcome => {
            let read = outcome?;
            if !read.missing_fields.is_empty() {
                lacks("the sink lacks fields".to_owned(), read.missing_fields.clone());
            }
            result.sink_count = read.buckets.total().count;
            result.sink_unreadable_count = read.unreadable_count;
            let fields = recipe.schema.fields.iter().map(|field| field.name.clone());
            result.digests = Some(CollectionDigests {
                fields: fields.collect(),
                key: recipe.key,
                read_back: Some(place(&read)),
                ..CollectionDigests::default()
            });
        }
    }
    remove(settings.work_folder)?;
    result.conclude();
    result.seconds = begun.elapsed().as_secs_f64();
    Ok(result)
}
