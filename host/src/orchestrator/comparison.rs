//! What a comparison that is no part of a run compares: the collections that were asked for, without the records that runs have left
//! out. Neighbours: `look` and `repair` compare them.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_plugin_api::Error;

use super::context::TaskContext;
use super::ending::{Ended, list_planned};
use crate::config::VerificationLevel;
use crate::events::{Outcome, RefusedBefore};
use crate::pipeline::{Outcomes, ReachedLane};
use crate::plan::PlannedCollection;
use crate::verification::LeftOut;

/// The collections that are asked for by name, at the level `standard` where the job says `none` of them; else all that the job verifies.
pub(super) fn chosen(
    context: &mut TaskContext,
    mut planned: Vec<PlannedCollection>,
) -> Result<Vec<PlannedCollection>, Ended> {
    let names = &context.options.verify.collections;
    let known = |name: &String| planned.iter().any(|planned| planned.source.name == *name);
    let unknown: Vec<Error> = names
        .iter()
        .filter(|name| !known(name))
        .map(|name| unknown(name, &planned))
        .collect();
    if !unknown.is_empty() {
        return Err(refused(context, &planned, unknown));
    }
    if !names.is_empty() {
        planned.retain(|planned| names.contains(&planned.source.name));
        for planned in &mut planned {
            if planned.verification == VerificationLevel::None {
                planned.verification = VerificationLevel::Standard;
            }
        }
    }
    if planned
        .iter()
        .all(|planned| planned.verification == VerificationLevel::None)
    {
        let error = Error::config(
            "verification.nothing_to_compare",
            "the job verifies none of its collections",
        )
        .with_help("name some with `--collection`, or give them another `verification` in the job");
        return Err(refused(context, &planned, vec![error]));
    }
    Ok(planned)
}

fn unknown(name: &str, planned: &[PlannedCollection]) -> Error {
    let known: Vec<&str> = planned
        .iter()
        .map(|planned| planned.source.name.as_str())
        .take(NAMES_SHOWN_MAX)
        .collect();
    let more = match planned.len().saturating_sub(NAMES_SHOWN_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Error::config(
        "verification.unknown_collection",
        format!("the job copies no collection `{name}` of the source"),
    )
    .with_help(format!("it copies: {}{more}", known.join(", ")))
}

/// Names that an error lists.
const NAMES_SHOWN_MAX: usize = 20;

fn refused(context: &mut TaskContext, planned: &[PlannedCollection], errors: Vec<Error>) -> Ended {
    list_planned(&mut context.summary, planned);
    Box::new(Outcome::Refused {
        summary: std::mem::take(&mut context.summary),
        failures: errors.into_iter().map(Into::into).collect(),
    })
}

/// The records that runs have refused, by the number of their collection.
pub(super) fn left_out(context: &TaskContext, collections: &[PlannedCollection]) -> BTreeMap<usize, LeftOut> {
    let refused = &context.options.verify.refused;
    let outcomes = Outcomes::new(u64::MAX);
    for (index, planned) in collections.iter().enumerate() {
        let collection = planned.source.name.as_str();
        let of_collection: Vec<RefusedBefore> = refused
            .iter()
            .filter(|one| one.collection == collection)
            .cloned()
            .collect();
        let partitions: BTreeSet<&str> = of_collection.iter().map(|one| one.partition.as_str()).collect();
        for partition in partitions {
            let lane = ReachedLane {
                collection,
                partition,
                // Whoever names them has looked how far the lane is.
                seq: u64::MAX,
            };
            outcomes.restore_refused(index, &lane, &of_collection);
        }
    }
    outcomes.left_out()
}
