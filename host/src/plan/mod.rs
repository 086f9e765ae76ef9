//! From the job's rules and what the source has to the collections that a run copies.
//!
//! Pure: it asks nobody. Neighbours: [`crate::phases::pre_validation`] brings the facts and asks the sink afterwards.

use std::collections::HashMap;

use whimbrel_plugin_api::capability::SinkCapabilities;
use whimbrel_plugin_api::check::FindingLevel;
use whimbrel_plugin_api::sink::{PrepareReport, PreparedCollection};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Error, Finding};

use crate::config::{CollectionJob, Job};

/// One collection that is copied.
#[derive(Debug, Clone)]
pub struct PlannedCollection {
    /// As the source has it.
    pub source: Collection,
    /// As the sink is to hold it: its name, the job's key, all declared losses.
    pub sink: Collection,
    /// What happens to records that the sink has already.
    pub policy: ConflictPolicy,
}

/// Picks the collections and gives them their names and keys in the sink.
///
/// # Errors
/// `plan.collection_missing`, `plan.key_missing`, `plan.name_twice`, `plan.nothing_to_copy`; all that apply.
pub fn plan(job: &Job, available: Vec<Collection>) -> Result<Vec<PlannedCollection>, Vec<Error>> {
    let mut faults = Vec::new();
    let mut planned = Vec::new();
    match &job.collections {
        None => planned.extend(available.into_iter().map(|source| planned_whole(job, source))),
        Some(rules) => {
            let known = known_names(&available);
            let mut by_name: HashMap<String, Collection> = available
                .into_iter()
                .map(|collection| (collection.name.clone(), collection))
                .collect();
            for rule in rules {
                match by_name.remove(&rule.source) {
                    Some(source) => match planned_by_rule(job, source, rule) {
                        Ok(collection) => planned.push(collection),
                        Err(fault) => faults.push(fault),
                    },
                    None => faults.push(
                        Error::config(
                            "plan.collection_missing",
                            format!("the source has no collection `{}` (it has: {known})", rule.source),
                        )
                        .with_place(format!("collections: {}", rule.source)),
                    ),
                }
            }
        }
    }
    faults.extend(names_used_twice(&planned));
    if planned.is_empty() && faults.is_empty() {
        faults.push(Error::config(
            "plan.nothing_to_copy",
            "the source has no collections",
        ));
    }
    if faults.is_empty() {
        Ok(planned)
    } else {
        Err(faults)
    }
}

fn planned_whole(job: &Job, source: Collection) -> PlannedCollection {
    PlannedCollection {
        sink: in_sink(&source, &source.name, &source.key),
        policy: job.import.on_conflict,
        source,
    }
}

fn planned_by_rule(job: &Job, source: Collection, rule: &CollectionJob) -> Result<PlannedCollection, Error> {
    let key = rule.key.clone().unwrap_or_else(|| source.key.clone());
    if let Some(missing) = key.iter().find(|name| source.schema.index_of(name).is_none()) {
        let fields: Vec<&str> = source
            .schema
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .take(FIELDS_SHOWN_MAX)
            .collect();
        return Err(Error::config(
            "plan.key_missing",
            format!(
                "the key field `{missing}` is not a field of `{}` (fields: {})",
                source.name,
                fields.join(", ")
            ),
        ));
    }
    let name = rule.sink.clone().unwrap_or_else(|| source.name.clone());
    Ok(PlannedCollection {
        sink: in_sink(&source, &name, &key),
        policy: rule.on_conflict.unwrap_or(job.import.on_conflict),
        source,
    })
}

/// Names that an error lists.
const FIELDS_SHOWN_MAX: usize = 50;

fn in_sink(source: &Collection, name: &str, key: &[String]) -> Collection {
    let mut sink = source.clone();
    name.clone_into(&mut sink.name);
    sink.key = key.to_vec();
    for field in &mut sink.schema.fields {
        // A key without a value names no record.
        field.nullable &= !key.contains(&field.name);
    }
    sink
}

fn known_names(available: &[Collection]) -> String {
    let mut names: Vec<&str> = available
        .iter()
        .map(|collection| collection.name.as_str())
        .collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(FIELDS_SHOWN_MAX);
    names.truncate(FIELDS_SHOWN_MAX);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
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
/// empty target, and a policy must be one that the sink carries out.
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
            take_losses(collection, prepared);
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
        }
    }
    findings
}

/// The name of a policy in job files.
pub fn policy_name(policy: ConflictPolicy) -> String {
    serde_json::to_value(policy)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn take_losses(collection: &mut PlannedCollection, prepared: &PreparedCollection) {
    for field in &prepared.fields {
        for loss in &field.losses {
            let loss = whimbrel_plugin_api::collection::FieldLoss {
                field: field.name.clone(),
                loss: *loss,
            };
            if !collection.sink.losses.contains(&loss) {
                collection.sink.losses.push(loss);
            }
        }
    }
}

/// Those of `findings` that stop a run.
pub fn blockers(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings
        .iter()
        .filter(|finding| finding.level == FindingLevel::Blocker)
}
