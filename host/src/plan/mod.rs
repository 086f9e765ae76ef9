//! From the job's rules and what the source has to the collections that a run copies.
//!
//! Pure: it asks nobody. Neighbours: [`crate::phases::pre_validation`] brings the facts and asks the sink afterwards.

pub mod cost;
pub mod guarantee;
mod offer;
mod order;
mod references;
pub mod sink_cost;

pub use offer::{Offer, Price, Spent, Wanted, chosen, has_open_patterns, rules, wanted};
pub use order::{arrange, clearing_order, second_pass_policy, settle_order};

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use whimbrel_plugin_api::capability::SinkCapabilities;
use whimbrel_plugin_api::check::FindingLevel;
use whimbrel_plugin_api::sink::{PrepareReport, PreparedCollection};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Error, Finding};

use crate::config::{CollectionJob, Job, Mode, Patterns, TransformJob, VerificationLevel};
use crate::events::Failure;
use references::Available;

/// One collection that is copied.
#[derive(Debug, Clone)]
pub struct PlannedCollection {
    /// As the source has it.
    pub source: Collection,
    /// What changes its records on the way, in order.
    pub transforms: Arc<[TransformJob]>,
    /// As the sink is to hold it: transformed, with its name there, the job's key, and all declared losses.
    pub sink: Collection,
    /// What happens to records that the sink has already.
    pub policy: ConflictPolicy,
    /// How it is verified.
    pub verification: VerificationLevel,
    /// At most so many records are moved.
    pub limit: Option<u64>,
    /// The collections of the sink that must be complete before this one is begun.
    pub waits_for: Vec<String>,
    /// Fields that are null in the sink until a second pass sets them, since they close a circle of references.
    pub held_back: Vec<String>,
    /// Collections that it refers to and that are not copied.
    pub left_out: Vec<String>,
}

impl PlannedCollection {
    /// Records of the source that will be read, if that is known.
    pub fn expected_count(&self) -> Option<u64> {
        let held = self.source.estimate.record_count;
        match self.limit {
            Some(limit) => Some(held.map_or(limit, |held| held.min(limit))),
            None => held,
        }
    }
}

/// Says what comes out of transforms for a collection.
pub type Shape<'a> = dyn FnMut(&Collection, &[TransformJob]) -> Result<Collection, Failure> + 'a;

/// Picks the collections from what the source offers, asks `shape` what their transforms make of them, gives them their names, keys and references in
/// the sink, and puts parents before children.
///
/// # Errors
/// `plan.collection_missing`, `plan.key_missing`, `plan.version_missing`, `plan.reference_..`, `plan.name_twice`,
/// `plan.nothing_to_copy`, and what `shape` brings; all that apply.
pub fn plan(job: &Job, offer: Offer, shape: &mut Shape<'_>) -> Result<Vec<PlannedCollection>, Vec<Failure>> {
    let mut faults: Vec<Failure> = Vec::new();
    let mut planned = Vec::new();
    let patterns = Patterns::new(&job.include, &job.exclude);
    let known = offer.known();
    let all: Vec<CollectionJob>;
    let rules = match &job.collections {
        Some(rules) => rules,
        None => {
            let names = offer.collections.iter().map(|collection| &collection.name);
            all = names.map(|name| CollectionJob::whole(name)).collect();
            &all
        }
    };
    let available = Available::new(offer, rules, &known);
    for (number, rule) in rules.iter().enumerate() {
        if !patterns.matches(&rule.source) {
            continue;
        }
        let attempt = match available.copied(&rule.source) {
            Some(source) => {
                let mut source = source.clone();
                let place = format!("collections[{number}]");
                references::declare(&mut source, rule, &place, &available)
                    .and_then(|()| plan_one(job, source, rule, shape))
            }
            None => Err(missing(&rule.source, &known).into()),
        };
        match attempt {
            Ok(collection) => planned.push(collection),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty()
        && let Err(fault) = references::carry_over(&mut planned, shape)
    {
        faults.push(fault);
    }
    faults.extend(names_used_twice(&planned).into_iter().map(Failure::from));
    if planned.is_empty() && faults.is_empty() {
        faults.push(nothing_to_copy(job, &known).into());
    }
    if faults.is_empty() {
        arrange(&mut planned);
        Ok(planned)
    } else {
        Err(faults)
    }
}

fn missing(name: &str, known: &str) -> Error {
    Error::config(
        "plan.collection_missing",
        format!("the source has no collection `{name}` (it has: {known})"),
    )
    .with_place(format!("collections: {name}"))
}

fn nothing_to_copy(job: &Job, known: &str) -> Error {
    if known == NO_NAMES || (job.include.is_empty() && job.exclude.is_empty()) {
        Error::config("plan.nothing_to_copy", "the source has no collections")
    } else {
        Error::config(
            "plan.nothing_to_copy",
            format!("`include` and `exclude` leave no collection (the source has: {known})"),
        )
    }
}

fn plan_one(
    job: &Job,
    source: Collection,
    rule: &CollectionJob,
    shape: &mut Shape<'_>,
) -> Result<PlannedCollection, Failure> {
    let transforms: Arc<[TransformJob]> = job.transforms.iter().chain(&rule.transforms).cloned().collect();
    let shaped = if transforms.is_empty() {
        source.clone()
    } else {
        shape(&source, &transforms)?
    };
    let key = rule.key.clone().unwrap_or_else(|| shaped.key.clone());
    if let Some(field) = key.iter().find(|name| shaped.schema.index_of(name).is_none()) {
        return Err(key_missing(field, &shaped).into());
    }
    let name = rule.sink.clone().unwrap_or_else(|| shaped.name.clone());
    let mut sink = in_sink(&shaped, &name, &key);
    if let Some(version) = &rule.version {
        if shaped.schema.index_of(version).is_none() {
            return Err(version_missing(version, &shaped).into());
        }
        sink.cursor_fields = vec![version.clone()];
    }
    Ok(PlannedCollection {
        sink,
        policy: rule.on_conflict.unwrap_or(job.import.on_conflict),
        verification: rule.verification.unwrap_or(job.verification),
        limit: (job.mode == Mode::Test).then_some(job.sample_records),
        waits_for: Vec::new(),
        held_back: Vec::new(),
        left_out: Vec::new(),
        transforms,
        source,
    })
}

fn key_missing(field: &str, collection: &Collection) -> Error {
    Error::config(
        "plan.key_missing",
        format!(
            "the key field `{field}` is not a field of `{}` (fields: {})",
            collection.name,
            field_names(collection)
        ),
    )
}

fn version_missing(field: &str, collection: &Collection) -> Error {
    Error::config(
        "plan.version_missing",
        format!(
            "the version field `{field}` is not a field of `{}` (fields: {})",
            collection.name,
            field_names(collection)
        ),
    )
}

/// The fields of a collection as an error lists them.
fn field_names(collection: &Collection) -> String {
    let fields: Vec<&str> = collection
        .schema
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .take(FIELDS_SHOWN_MAX)
        .collect();
    fields.join(", ")
}

/// What stands in the place of names if there are none.
const NO_NAMES: &str = "none";
/// Names that an error lists.
const FIELDS_SHOWN_MAX: usize = 50;

fn in_sink(source: &Collection, name: &str, key: &[String]) -> Collection {
    let mut sink = source.clone();
    name.clone_into(&mut sink.name);
    // What the source bills or hides is nothing to the sink.
    sink.cost = None;
    sink.hides_records = false;
    sink.within_snapshot = false;
    sink.key = key.to_vec();
    for field in &mut sink.schema.fields {
        // A key without a value names no record.
        field.nullable &= !key.contains(&field.name);
    }
    sink
}

fn known_names<'a>(available: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = available.into_iter().collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(FIELDS_SHOWN_MAX);
    names.truncate(FIELDS_SHOWN_MAX);
    match (names.is_empty(), more) {
        (true, _) => NO_NAMES.to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

fn names_used_twice(planned: &[PlannedCollection]) -> Vec<Error> {
    let mut by_sink: HashMap<&str, &str> = HashMap::new();
    let mut faults = Vec::new();
    for collection in planned {
        if let Some(earlier) = by_sink.insert(&collection.sink.name, &collection.source.name) {
            faults.push(Error::config(
                "plan.name_twice",
                format!(
                    "`{earlier}` and `{}` would both be written to `{}`",
                    collection.source.name, collection.sink.name
                ),
            ));
        }
    }
    faults
}

/// Takes the sink's answer into the plan: losses, and policies that fit what is there.
///
/// Returns what stands in the way besides the sink's own findings: a collection without a key is only copied into an
/// empty target, and a policy must be one that the sink carries out, with a version field if it asks for one.
pub fn settle(
    planned: &mut [PlannedCollection],
    report: &PrepareReport,
    sink: &SinkCapabilities,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for collection in planned {
        let prepared = report
            .collections
            .iter()
            .find(|prepared| prepared.name == collection.sink.name);
        if let Some(prepared) = prepared {
            take_losses(&mut collection.sink, prepared);
        }
        let held = prepared.map_or(Some(0), |prepared| {
            if prepared.existed {
                prepared.record_count
            } else {
                Some(0)
            }
        });
        let is_empty = held == Some(0);
        let name = &collection.sink.name;
        if collection.sink.key.is_empty() {
            if !is_empty {
                let held = held.map_or_else(|| "some".to_owned(), |count| count.to_string());
                findings.push(
                    Finding::blocker(
                        "plan.no_key",
                        format!("`{name}` has no key and already holds {held} records: a second copy would double them"),
                    )
                    .with_help("name a key in the job (`key: [..]`), or empty the target")
                    .with_collection(name),
                );
            }
            collection.policy = ConflictPolicy::Append;
        } else if !sink.policies.contains(&collection.policy) {
            if is_empty && sink.policies.contains(&ConflictPolicy::Append) {
                collection.policy = ConflictPolicy::Append;
            } else {
                let offered: Vec<String> = sink.policies.iter().map(|policy| policy_name(*policy)).collect();
                findings.push(
                    Finding::blocker(
                        "plan.policy_unsupported",
                        format!(
                            "the sink cannot `{}` records of `{name}`, which is not empty (it can: {})",
                            policy_name(collection.policy),
                            offered.join(", ")
                        ),
                    )
                    .with_help("choose another `on_conflict`, or empty the target")
                    .with_collection(name),
                );
            }
        } else if needs_version(collection.policy) && collection.sink.cursor_fields.len() != 1 {
            findings.push(no_version(collection));
        }
        findings.extend(collection.left_out.iter().map(|parent| {
            let message = format!("`{name}` refers to `{parent}`, which this job does not copy");
            Finding::info("plan.reference_left_out", message).with_collection(name)
        }));
    }
    findings
}

fn needs_version(policy: ConflictPolicy) -> bool {
    matches!(policy, ConflictPolicy::KeepNewest | ConflictPolicy::KeepOldest)
}

fn no_version(collection: &PlannedCollection) -> Finding {
    let announced = match collection.sink.cursor_fields.as_slice() {
        [] => "the source announces none".to_owned(),
        several => format!("the source announces several: {}", several.join(", ")),
    };
    let name = &collection.sink.name;
    Finding::blocker(
        "plan.no_version",
        format!(
            "`{}` needs a field of `{name}` that tells which of two records is newer, and {announced}",
            policy_name(collection.policy)
        ),
    )
    .with_help("name it in the job: `version: FIELD`")
    .with_collection(name)
}

/// The name of a policy in job files.
pub fn policy_name(policy: ConflictPolicy) -> String {
    serde_json::to_value(policy)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Takes what the sink loses of a collection's fields into the collection as the sink is to hold it.
pub fn take_losses(collection: &mut Collection, prepared: &PreparedCollection) {
    for field in &prepared.fields {
        for loss in &field.losses {
            let loss = whimbrel_plugin_api::collection::FieldLoss {
                field: field.name.clone(),
                loss: *loss,
            };
            if !collection.losses.contains(&loss) {
                collection.losses.push(loss);
            }
        }
    }
}

/// The digest of everything in `job` that decides what is read from the source, which has this name and version; `config` is what its
/// config says of that ([`crate::config::lasting`]).
pub fn made_from(job: &Job, config: &Map<String, Value>, source_version: &str) -> String {
    let names: Option<Vec<&str>> = job
        .collections
        .as_ref()
        .map(|rules| rules.iter().map(|rule| rule.source.as_str()).collect());
    let limit = (job.mode == Mode::Test).then_some(job.sample_records);
    let facts = serde_json::json!([source_version, config, names, job.include, job.exclude, limit]);
    blake3::hash(facts.to_string().as_bytes()).to_hex().to_string()
}

/// Those of `findings` that stop a run.
pub fn blockers(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings
        .iter()
        .filter(|finding| finding.level == FindingLevel::Blocker)
}
