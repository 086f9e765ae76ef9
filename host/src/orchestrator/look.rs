//! The tasks that copy nothing: check, plan, verify, stats, clear. Straight lines over what `run` has in common with them.
//! Only `clear` changes anything, and only in the sink.

use std::time::Instant;

use whimbrel_plugin_api::source::{CountRequest, Item, ReadRequest};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::comparison;
use super::context::TaskContext;
use super::ending::{Ended, failed, list_planned, with_memory};
use super::in_place;
use super::run::verify_phase;
use super::validation::{Depth, Ready, validate, validate_for_verification};
use crate::config::VerificationLevel;
use crate::events::{ClearedCollection, CollectionStats, Failure, MeasuredRate, Outcome};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::phases::clearing::{self, Clearing};
use crate::plan::cost::{self, Units};
use crate::plan::{PlannedCollection, clearing_order};
use crate::transform::Chain;

/// Records that a trial reads at most.
const TRIAL_RECORDS_MAX: u64 = 5_000;
/// Seconds that a trial lasts at most.
const TRIAL_SECONDS_MAX: f64 = 1.0;

/// Only looks: both plugins, both systems, the plan.
pub fn check(mut context: TaskContext) -> Outcome {
    let outcome = match validate(&mut context, None, Depth::Systems) {
        Ok(Ready { collections, .. }) => {
            list_planned(&mut context.summary, &collections);
            done(context)
        }
        Err(outcome) => *outcome,
    };
    with_memory(outcome)
}

/// As [`check`], and reads a little of the largest collection to measure how fast that is.
pub fn plan(mut context: TaskContext) -> Outcome {
    let attempt = validate(&mut context, None, Depth::Plan).and_then(|ready| {
        let Ready {
            mut source,
            collections,
            taken,
            ..
        } = ready;
        list_planned(&mut context.summary, &collections);
        let largest = collections
            .iter()
            .max_by_key(|planned| planned.source.estimate.record_count.unwrap_or(0));
        let Some(largest) = largest else {
            return Ok(());
        };
        match try_out(&context, &mut source, largest) {
            Err(failure) => Err(failed(&mut context, failure)),
            Ok(rate) => {
                let tried = billed(largest, &rate);
                context.summary.cost = taken.estimate(&context, &collections, Some(&tried));
                context.summary.rate = Some(rate);
                Ok(())
            }
        }
    });
    with_memory(match attempt {
        Ok(()) => done(context),
        Err(outcome) => *outcome,
    })
}

/// Compares, at the job's level or `standard` if the job says `none`; repairs, if that is asked for.
pub fn verify(mut context: TaskContext) -> Outcome {
    if context.options.verify.before_repair_folder.is_some() {
        return super::repair::repair(context);
    }
    if context.job.verification == VerificationLevel::None {
        context.job.verification = VerificationLevel::Standard;
    }
    let attempt = validate_for_verification(&mut context).and_then(|(mut source, planned)| {
        let collections = comparison::chosen(&mut context, planned)?;
        list_planned(&mut context.summary, &collections);
        let left_out = comparison::left_out(&context, &collections);
        verify_phase(&mut context, &mut source, &collections, &left_out, None)
    });
    match attempt {
        Ok(outcome) | Err(outcome) => with_memory(*outcome),
    }
}

/// Counts the records of both sides.
pub fn stats(mut context: TaskContext) -> Outcome {
    let attempt = validate_for_verification(&mut context).and_then(|(mut source, collections)| {
        list_planned(&mut context.summary, &collections);
        match count_both(&context, &mut source, &collections) {
            Ok(stats) => {
                context.summary.stats = stats;
                Ok(())
            }
            Err(failure) => Err(failed(&mut context, failure)),
        }
    });
    with_memory(match attempt {
        Ok(()) => done(context),
        Err(outcome) => *outcome,
    })
}

/// Removes the records of the planned collections from the sink, those that refer to others first.
pub fn clear(mut context: TaskContext) -> Outcome {
    let attempt = validate_for_verification(&mut context).and_then(|(_, collections)| {
        let refusal = in_place::refusal(&collections).filter(|_| context.is_in_place);
        if let Some(error) = refusal {
            return Err(not_begun(&mut context, error.into()));
        }
        let opened = context.plugins.sink.open_sink(&context.job.sink.config);
        let mut sink = opened
            .and_then(|mut sink| clearing::look(&mut sink).map(|()| sink))
            .map_err(|failure| not_begun(&mut context, failure))?;
        match clear_all(&context, &collections, &mut sink) {
            Ok(cleared) => {
                context.summary.cleared = cleared;
                Ok(())
            }
            Err(failure) => Err(failed(&mut context, failure)),
        }
    });
    with_memory(match attempt {
        Ok(()) => done(context),
        Err(outcome) => *outcome,
    })
}

fn not_begun(context: &mut TaskContext, failure: Failure) -> Ended {
    Box::new(Outcome::Refused {
        summary: std::mem::take(&mut context.summary),
        failures: vec![failure],
    })
}

fn done(context: TaskContext) -> Outcome {
    Outcome::Done {
        summary: context.summary,
    }
}

/// Reads and transforms the beginning of a collection, with a clock.
fn try_out(
    context: &TaskContext,
    source: &mut OpenedSource,
    planned: &PlannedCollection,
) -> Result<MeasuredRate, Failure> {
    let mut chain = Chain::open(&context.plugins.transforms, &planned.transforms)?;
    chain.plan(&planned.source)?;
    let mut stream = source.read(&ReadRequest {
        limit: Some(TRIAL_RECORDS_MAX),
        ..ReadRequest::all(&planned.source.name)
    })?;
    let begun = Instant::now();
    let mut rate = MeasuredRate {
        collection: planned.source.name.clone(),
        record_count: 0,
        size_bytes: 0,
        seconds: 0.0,
    };
    while begun.elapsed().as_secs_f64() < TRIAL_SECONDS_MAX && !context.stop.is_raised() {
        match stream.next_item()? {
            Item::Batch(batch) => {
                rate.record_count += batch.record_count() as u64;
                rate.size_bytes += batch.facts.bytes;
                chain.apply(batch)?;
            }
            Item::End => break,
            _ => {}
        }
    }
    rate.seconds = begun.elapsed().as_secs_f64();
    Ok(rate)
}

/// What the source bills for a trial.
fn billed(planned: &PlannedCollection, rate: &MeasuredRate) -> Units {
    let cost = planned.source.cost.iter();
    cost.map(|cost| {
        let units = cost::reading(planned, cost, Some(rate.record_count));
        (planned.source.name.clone(), units)
    })
    .collect()
}

fn count_both(
    context: &TaskContext,
    source: &mut OpenedSource,
    collections: &[PlannedCollection],
) -> Result<Vec<CollectionStats>, Failure> {
    let mut sink = context.plugins.sink.open_sink(&context.job.sink.config)?;
    let mut reader = sink.reader()?;
    let mut stats = Vec::with_capacity(collections.len());
    for planned in collections {
        let source_count = count(context, source, &planned.source.name)?;
        let sink_count = match count(context, &mut reader, &planned.sink.name) {
            Ok(count) => Some(count),
            Err(failure) if failure.error.kind == ErrorKind::NotFound => None,
            Err(failure) => return Err(failure),
        };
        stats.push(CollectionStats {
            source: planned.source.name.clone(),
            sink: planned.sink.name.clone(),
            source_count: Some(source_count),
            sink_count,
            in_step: sink_count == Some(source_count),
        });
    }
    Ok(stats)
}

/// The number of records, counted by the system if it can, else by reading.
fn count(context: &TaskContext, side: &mut OpenedSource, collection: &str) -> Result<u64, Failure> {
    let asked = CountRequest {
        collection: collection.to_owned(),
        snapshot: None,
    };
    if let Some(count) = side.count(&asked)? {
        return Ok(count);
    }
    let mut stream = side.read(&ReadRequest::all(collection))?;
    let mut count = 0;
    loop {
        if context.stop.is_raised() {
            return Err(Error::cancelled().into());
        }
        match stream.next_item()? {
            Item::Batch(batch) => count += batch.record_count() as u64,
            Item::End => return Ok(count),
            _ => {}
        }
    }
}

fn clear_all(
    context: &TaskContext,
    collections: &[PlannedCollection],
    sink: &mut OpenedSink,
) -> Result<Vec<ClearedCollection>, Failure> {
    let names = clearing_order(collections);
    let clearing = Clearing {
        job: &context.job,
        run_id: &context.options.run_id,
        keeps_lanes: context.plugins.sink_capabilities.lanes,
    };
    let report = clearing::run(&clearing, collections, names.clone(), sink)?;
    let mut removed = report.removed.into_iter();
    Ok(names
        .into_iter()
        .map(|collection| ClearedCollection {
            collection,
            removed_count: removed.next().flatten(),
        })
        .collect())
}
