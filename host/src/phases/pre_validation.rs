//! Pre-validation: everything that can be found out without writing.
//!
//! Both plugins look at their systems, the source says what it has, transforms what they make of it, the sink what it
//! would do. Nothing is changed on either side.

use std::collections::BTreeSet;
use std::path::Path;

use whimbrel_plugin_api::capability::SinkCapabilities;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{Collection, Error, ErrorKind, Finding};

use super::asking;
use crate::config::{Job, Staging, TransformJob};
use crate::events::{Emitter, Event, Failure, FoundBy, ReferenceResult, RuleResult};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::plan::cost::Units;
use crate::plan::guarantee::settle_duplicates;
use crate::plan::sink_cost::{self, SinkCosts};
use crate::plan::{PlannedCollection, Spent, blockers, plan, settle, settle_order};
use crate::transform::{Chain, Transforms};

/// A staged run needs room for this many times what the source holds: as read, and as transformed.
const STAGED_COPIES: u64 = 2;

/// What was found out.
#[derive(Debug, Default)]
pub struct Validated {
    /// The collections to copy, in order.
    pub collections: Vec<PlannedCollection>,
    /// Statements that the sink would run.
    pub ddl: Vec<String>,
    /// Everything that either side or the host had to say.
    pub findings: Vec<FoundBy>,
    /// What stands in the way.
    pub blockers: Vec<Failure>,
    /// The references between the collections, if they were looked at.
    pub references: Vec<ReferenceResult>,
    /// The rules that were looked at.
    pub rules: Vec<RuleResult>,
    /// Whether the file of orphans was written.
    pub orphans_listed: bool,
    /// What the source bills for its descriptions.
    pub spent: Spent,
    /// What it bills for the search among the references.
    pub searched: Units,
    /// What the sink bills, by its name of the collection; empty if it bills nothing.
    pub sink_costs: SinkCosts,
}

/// What is looked at, and how.
pub struct Look<'a> {
    /// The job.
    pub job: &'a Job,
    /// What the sink can do.
    pub sink_capabilities: &'a SinkCapabilities,
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// Where events go.
    pub emitter: &'a Emitter,
    /// Whether plugins check their systems, beyond what planning itself asks of them.
    pub checks: bool,
    /// Where staged records would be kept.
    pub staging_folder: &'a Path,
    /// Whether the copy of an earlier run is gone on with: what the sink holds is its own.
    pub resumes: bool,
    /// Only these collections, by their names in the source, are written; none if all are.
    pub only: Option<BTreeSet<String>>,
}

/// Looks at both sides and makes the plan.
///
/// # Errors
/// What either plugin brings: then it could not be found out.
pub fn run(look: &Look<'_>, source: &mut OpenedSource, sink: &mut OpenedSink) -> Result<Validated, Failure> {
    let mut validated = Validated::default();
    let emitter = look.emitter;
    if look.checks {
        note(
            look.job,
            emitter,
            Some(Role::Source),
            &source.check()?,
            &mut validated,
        );
        note(
            look.job,
            emitter,
            Some(Role::Sink),
            &sink.check()?,
            &mut validated,
        );
        if !validated.blockers.is_empty() {
            return Ok(validated);
        }
    }
    let offer = asking::ask(look.job, source)?;
    validated.spent = offer.spent.clone();
    let mut shape = |collection: &Collection, jobs: &[TransformJob]| {
        Chain::open(look.transforms, jobs).and_then(|mut chain| chain.plan(collection))
    };
    match plan(look.job, offer, &mut shape) {
        Ok(planned) => validated.collections = planned,
        Err(faults) => {
            validated.blockers.extend(faults);
            return Ok(validated);
        }
    }
    if let Some(only) = &look.only {
        // What is not written now stands in nobody's way.
        let planned = &mut validated.collections;
        planned.retain(|planned| only.contains(&planned.source.name));
    }
    if !validated.collections.is_empty() {
        ask_sink(look, sink, &mut validated)?;
    }
    for planned in &validated.collections {
        emitter.emit(&Event::CollectionPlanned {
            source: planned.source.name.clone(),
            sink: planned.sink.name.clone(),
            record_count: planned.expected_count(),
        });
    }
    Ok(validated)
}

/// What the sink would do for the planned collections, and what that means for the plan.
fn ask_sink(look: &Look<'_>, sink: &mut OpenedSink, validated: &mut Validated) -> Result<(), Failure> {
    let (job, emitter) = (look.job, look.emitter);
    let mut report = sink.prepare(&PrepareRequest {
        collections: validated
            .collections
            .iter()
            .map(|planned| planned.sink.clone())
            .collect(),
        dry: true,
        again: false,
    })?;
    validated.sink_costs = sink_cost::announced(&report);
    validated.ddl.clone_from(&report.ddl);
    note(job, emitter, Some(Role::Sink), &report.findings, validated);
    if look.resumes && look.sink_capabilities.lanes {
        // When the copy began, it was judged by what was there before it.
        for prepared in &mut report.collections {
            prepared.record_count = Some(0);
        }
    }
    let mut findings = settle(&mut validated.collections, &report, look.sink_capabilities);
    settle_duplicates(
        &mut validated.collections,
        &report,
        look.sink_capabilities,
        job.import.allow_duplicates,
        &mut findings,
    );
    findings.extend(settle_order(
        &mut validated.collections,
        &report,
        look.sink_capabilities,
    ));
    if look.checks && job.staging == Staging::Disk {
        findings.extend(room_for_staging(&validated.collections, look.staging_folder));
    }
    note(job, emitter, None, &findings, validated);
    Ok(())
}

/// What stands in the way of staging: too little room for two copies of what the source holds.
fn room_for_staging(collections: &[PlannedCollection], folder: &Path) -> Option<Finding> {
    let held: u64 = collections
        .iter()
        .map(|planned| planned.source.estimate.size_bytes.unwrap_or(0))
        .sum();
    // The folder need not exist yet; what contains it does.
    let place = folder.ancestors().find(|place| place.exists())?;
    let facts = rustix::fs::statvfs(place).ok()?;
    let free = facts.f_bavail * facts.f_frsize;
    let wanted = held.saturating_mul(STAGED_COPIES);
    (wanted > free).then(|| {
        Finding::blocker(
            "plan.disk_space",
            format!(
                "staging needs about {wanted} octets in `{}` and {free} are free",
                place.display()
            ),
        )
        .with_help("make room, choose another folder with `--working-dir`, or use `staging: memory`")
    })
}

/// Announces and keeps findings of `role`, or of the host itself.
pub fn note(
    job: &Job,
    emitter: &Emitter,
    role: Option<Role>,
    findings: &[Finding],
    validated: &mut Validated,
) {
    for finding in findings {
        emitter.emit(&Event::Found {
            role,
            finding: finding.clone(),
        });
        validated.findings.push(FoundBy {
            role,
            finding: finding.clone(),
        });
    }
    for blocker in blockers(findings) {
        let kind = blocker.kind.unwrap_or(ErrorKind::Config);
        let mut error = Error::new(kind, &blocker.code, &blocker.message);
        error.help.clone_from(&blocker.help);
        error.place.clone_from(&blocker.place);
        let mut failure = Failure::from(error);
        failure.role = role;
        failure.plugin = match role {
            Some(Role::Source) => Some(job.source.plugin.clone()),
            Some(Role::Sink) => Some(job.sink.plugin.clone()),
            _ => None,
        };
        validated.blockers.push(failure);
    }
}
