//! Pre-validation: everything that can be found out without writing.
//!
//! Both plugins look at their systems, the source says what it has, the sink says what it would do.

use whimbrel_plugin_api::capability::SinkCapabilities;
use whimbrel_plugin_api::collection::CollectionsRequest;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{Error, ErrorKind, Finding};

use crate::config::Job;
use crate::events::{Emitter, Event, Failure};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::plan::{PlannedCollection, blockers, plan, settle};

/// What was found out.
#[derive(Debug, Default)]
pub struct Validated {
    /// The collections to copy, in order.
    pub collections: Vec<PlannedCollection>,
    /// Statements that the sink would run.
    pub ddl: Vec<String>,
    /// What stands in the way.
    pub blockers: Vec<Failure>,
}

/// Looks at both sides and makes the plan.
///
/// # Errors
/// What either plugin brings: then it could not be found out.
pub fn run(
    job: &Job,
    source: &mut OpenedSource,
    sink: &mut OpenedSink,
    capabilities: &SinkCapabilities,
    emitter: &Emitter,
) -> Result<Validated, Failure> {
    let mut validated = Validated::default();
    note(emitter, Some(Role::Source), &source.check()?, &mut validated);
    note(emitter, Some(Role::Sink), &sink.check()?, &mut validated);
    if !validated.blockers.is_empty() {
        return Ok(validated);
    }
    // All are asked for, even if rules name some: an error then says what there is.
    let available = source.collections(&CollectionsRequest {
        names: Vec::new(),
        schemas: true,
    })?;
    for collection in &available {
        collection.schema.validate().map_err(Failure::from)?;
    }
    match plan(job, available) {
        Ok(planned) => validated.collections = planned,
        Err(faults) => {
            validated.blockers.extend(faults.into_iter().map(Failure::from));
            return Ok(validated);
        }
    }
    let report = sink.prepare(&PrepareRequest {
        collections: validated
            .collections
            .iter()
            .map(|planned| planned.sink.clone())
            .collect(),
        dry: true,
    })?;
    validated.ddl.clone_from(&report.ddl);
    note(emitter, Some(Role::Sink), &report.findings, &mut validated);
    let findings = settle(&mut validated.collections, &report, capabilities);
    note(emitter, None, &findings, &mut validated);
    for planned in &validated.collections {
        emitter.emit(&Event::CollectionPlanned {
            source: planned.source.name.clone(),
            sink: planned.sink.name.clone(),
            record_count: planned.source.estimate.record_count,
        });
    }
    Ok(validated)
}

fn note(emitter: &Emitter, role: Option<Role>, findings: &[Finding], validated: &mut Validated) {
    for finding in findings {
        emitter.emit(&Event::Found {
            role,
            finding: finding.clone(),
        });
    }
    for blocker in blockers(findings) {
        let mut error = Error::new(ErrorKind::Config, &blocker.code, &blocker.message);
        error.help.clone_from(&blocker.help);
        let mut failure = Failure::from(error);
        failure.role = role;
        validated.blockers.push(failure);
    }
}
