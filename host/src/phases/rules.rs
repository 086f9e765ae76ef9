//! The rules of a job: what must hold of records before the first write, and after the last one.
//!
//! A rule is a statement that selects the records which break it, or a transform that judges records one by one. Each side is
//! opened for the rules alone, when one of them first asks for it. Neighbours: `pre_validation` takes what is found before as
//! blockers, [`crate::verification::judgement`] what is found after.

mod judging;
mod sides;

use std::borrow::Cow;

use whimbrel_plugin_api::capability::SourceCapabilities;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::source::{BatchBounds, Item, QueryRequest, ReadRequest};
use whimbrel_plugin_api::{Error, ErrorKind, Finding};

use crate::config::{Job, RuleJob, RuleSide, RuleWhen};
use crate::control::Stop;
use crate::events::{Failure, RuleMoment, RuleResult, RuleState};
use crate::loader::observe::{OpenedSource, OpenedStream, Opener};
use crate::plan::PlannedCollection;
use crate::transform::Transforms;
use judging::{Judge, Labels};
use sides::Sides;

/// Records that break a rule whose keys are kept.
const VIOLATIONS_SHOWN_MAX: usize = 20;
/// Keys that stand in a message.
const KEYS_IN_MESSAGE_MAX: usize = 3;

/// What rules are looked at with.
pub struct Scene<'a> {
    /// The job.
    pub job: &'a Job,
    /// Opens the source.
    pub source: &'a Opener,
    /// What it can do.
    pub source_can: &'a SourceCapabilities,
    /// Opens the sink.
    pub sink: &'a Opener,
    /// What it can do when it is read.
    pub sink_can: SourceCapabilities,
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// The planned collections.
    pub collections: &'a [PlannedCollection],
    /// Ends everything.
    pub stop: &'a Stop,
}

/// What was found before anything is written.
#[derive(Debug, Default)]
pub struct Before {
    /// The rules that were looked at.
    pub results: Vec<RuleResult>,
    /// What stands in the way, each a blocker.
    pub findings: Vec<Finding>,
}

/// Looks at the rules that hold before the first write, and sees whether the later ones can be looked at, as far as that is known
/// without records. When a copy is gone on with, the sink has records of its own already: its rules were looked at before.
///
/// # Errors
/// Cancelling.
pub fn before(scene: &Scene<'_>, resumes: bool) -> Result<Before, Failure> {
    let mut before = Before::default();
    let mut sides = Sides::default();
    for rule in &scene.job.rules {
        for moment in [RuleMoment::Before, RuleMoment::After] {
            let Some(side) = side_at(rule, moment) else {
                continue;
            };
            if let Err(finding) = can_be_looked_at(scene, rule, side) {
                before.findings.push(finding);
                continue;
            }
            if moment == RuleMoment::After || (resumes && side == RuleSide::Sink) {
                continue;
            }
            let result = look(scene, &mut sides, rule, side, moment)?;
            before.findings.extend(blocker(&result));
            before.results.push(result);
        }
    }
    // What is wrong with a rule at both moments is said once.
    before.findings.dedup_by(|later, earlier| later == earlier);
    Ok(before)
}

/// Looks at the rules that hold after the last write.
///
/// # Errors
/// Cancelling.
pub fn after(scene: &Scene<'_>) -> Result<Vec<RuleResult>, Failure> {
    let mut sides = Sides::default();
    let mut results = Vec::new();
    for rule in &scene.job.rules {
        if let Some(side) = side_at(rule, RuleMoment::After) {
            results.push(look(scene, &mut sides, rule, side, RuleMoment::After)?);
        }
    }
    Ok(results)
}

/// Whether any rule holds after the last write.
pub fn has_later_rules(job: &Job) -> bool {
    job.rules
        .iter()
        .any(|rule| side_at(rule, RuleMoment::After).is_some())
}

/// The side that a rule is about at a moment; `None` if it is not looked at then.
fn side_at(rule: &RuleJob, moment: RuleMoment) -> Option<RuleSide> {
    let (is_then, usual) = match moment {
        RuleMoment::Before => (rule.when != RuleWhen::After, RuleSide::Source),
        RuleMoment::After => (rule.when != RuleWhen::Before, RuleSide::Sink),
    };
    is_then.then(|| rule.side.unwrap_or(usual))
}

fn role_of(side: RuleSide) -> Role {
    match side {
        RuleSide::Source => Role::Source,
        RuleSide::Sink => Role::Sink,
    }
}

/// What keeps a rule from being looked at that no record has to be read for.
fn can_be_looked_at(scene: &Scene<'_>, rule: &RuleJob, side: RuleSide) -> Result<(), Finding> {
    let unusable =
        |what: String| Finding::blocker("rule.unusable", format!("the rule `{}` {what}", rule.name));
    if rule.sql.is_some() {
        let (opener, can) = match side {
            RuleSide::Source => (scene.source, scene.source_can),
            RuleSide::Sink => (scene.sink, &scene.sink_can),
        };
        if !can.query {
            let message = format!("is a statement, and the plugin `{}` answers none", opener.name());
            return Err(unusable(message)
                .with_help("name a `collection` and a `plugin` that judges its records, in place of `sql`"));
        }
        return Ok(());
    }
    let Some(planned) = planned(scene, rule) else {
        return Err(unusable(format!(
            "is about the collection `{}`, which the job does not move",
            rule.collection.as_deref().unwrap_or_default()
        ))
        .with_help("name one of the collections of the source that `whimbrel plan` lists"));
    };
    let tried = Judge::open(scene.transforms, rule).and_then(|mut judge| judge.try_out(planned, side));
    tried.map_err(|failure| {
        let mut finding = Finding::of_error(&failure.error);
        finding.message = format!(
            "the rule `{}` cannot be followed by the plugin `{}`: {}",
            rule.name,
            rule.plugin.as_deref().unwrap_or_default(),
            failure.error.message
        );
        finding
    })
}

fn planned<'a>(scene: &Scene<'a>, rule: &RuleJob) -> Option<&'a PlannedCollection> {
    let name = rule.collection.as_deref()?;
    scene
        .collections
        .iter()
        .find(|planned| planned.source.name == name)
}

/// Looks at one rule. What keeps it from being looked at is told by its result.
fn look(
    scene: &Scene<'_>,
    sides: &mut Sides,
    rule: &RuleJob,
    side: RuleSide,
    moment: RuleMoment,
) -> Result<RuleResult, Failure> {
    let mut result = RuleResult {
        name: rule.name.clone(),
        moment,
        role: Some(role_of(side)),
        collection: rule.collection.clone(),
        ..RuleResult::default()
    };
    let looked = sides.opened(scene, side).and_then(|opened| match &rule.sql {
        Some(statement) => select(scene, opened, statement, &mut result),
        None => judge(scene, opened, rule, side, &mut result),
    });
    if scene.stop.is_raised() {
        return Err(Error::cancelled().into());
    }
    match looked {
        Err(failure) if failure.error.kind == ErrorKind::Cancelled => return Err(failure),
        Err(failure) => {
            // What was opened may be of no more use after an error.
            sides.close(side);
            result.state = RuleState::Unchecked;
            result.reason = Some(reason(&failure));
        }
        Ok(()) if result.violation_count > 0 => result.state = RuleState::Broken,
        Ok(()) if result.reason.is_some() => result.state = RuleState::Unchecked,
        Ok(()) => result.state = RuleState::Held,
    }
    Ok(result)
}

/// Why a rule could not be looked at, in one line.
fn reason(failure: &Failure) -> String {
    let error = &failure.error;
    let cause = error.causes.first().map(|cause| format!(": {cause}"));
    format!("{}{} ({})", error.message, cause.unwrap_or_default(), error.code)
}

/// Each selected record breaks the rule; it is called by its first column.
fn select(
    scene: &Scene<'_>,
    opened: &mut OpenedSource,
    statement: &str,
    result: &mut RuleResult,
) -> Result<(), Failure> {
    let request = QueryRequest {
        statement: statement.to_owned(),
        batch: BatchBounds::default(),
    };
    let stream = opened.query(&request)?;
    for_each(scene, stream, |item| {
        match item {
            Item::Batch(batch) => {
                result.violation_count += batch.record_count() as u64;
                let first = batch.schema.fields.first().map(|field| field.name.clone());
                let labels = Labels::new(&batch, first.as_slice())?;
                let room = VIOLATIONS_SHOWN_MAX.saturating_sub(result.violations.len());
                let shown = 0..batch.record_count().min(room);
                result.violations.extend(shown.map(|row| labels.of(row)));
            }
            // It is selected, whether it can be shown or not.
            Item::Rejected(records) => {
                result.violation_count += records.len() as u64;
                let room = VIOLATIONS_SHOWN_MAX.saturating_sub(result.violations.len());
                let names = records.into_iter().map(|record| record.record);
                result.violations.extend(names.take(room));
            }
            _ => {}
        }
        Ok(())
    })
}

/// The transform judges each record of the collection.
fn judge(
    scene: &Scene<'_>,
    opened: &mut OpenedSource,
    rule: &RuleJob,
    side: RuleSide,
    result: &mut RuleResult,
) -> Result<(), Failure> {
    let Some(planned) = planned(scene, rule) else {
        let name = rule.collection.as_deref().unwrap_or_default();
        return Err(Error::no_collection(name).into());
    };
    let request = match side {
        RuleSide::Source => ReadRequest {
            limit: planned.limit,
            ..ReadRequest::all(&planned.source.name)
        },
        RuleSide::Sink => ReadRequest {
            expected: Some(planned.sink.schema.clone()),
            ..ReadRequest::all(&planned.sink.name)
        },
    };
    let key = match side {
        RuleSide::Source if !planned.source.key.is_empty() => &planned.source.key,
        // The job's own key, as far as the source calls its fields so.
        RuleSide::Source | RuleSide::Sink => &planned.sink.key,
    };
    let mut judge = Judge::open(scene.transforms, rule)?;
    let mut unreadable_count = 0;
    let mut record_count = 0;
    let stream = opened.read(&request)?;
    for_each(scene, stream, |item| {
        match item {
            Item::Batch(batch) => {
                record_count += batch.record_count() as u64;
                let broken = judge.broken(&batch)?;
                result.violation_count += broken.len() as u64;
                let room = VIOLATIONS_SHOWN_MAX.saturating_sub(result.violations.len());
                if room > 0 && !broken.is_empty() {
                    let labels = Labels::new(&batch, key)?;
                    let shown = broken.iter().take(room).map(|row| labels.of(*row));
                    result.violations.extend(shown);
                }
            }
            Item::Rejected(records) => unreadable_count += records.len() as u64,
            _ => {}
        }
        Ok(())
    })?;
    result.record_count = Some(record_count);
    // Records that the source cannot deliver are not moved either; those of the sink should be there.
    if unreadable_count > 0 && side == RuleSide::Sink {
        result.reason = Some(format!("{unreadable_count} records of the sink cannot be read"));
    }
    Ok(())
}

/// Hands each item over until the end.
fn for_each(
    scene: &Scene<'_>,
    mut stream: OpenedStream,
    mut take: impl FnMut(Item) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        if scene.stop.is_raised() {
            return Err(Error::cancelled().into());
        }
        match stream.next_item()? {
            Item::End => return Ok(()),
            item => take(item)?,
        }
    }
}

/// What keeps the run from beginning, if the rule does not hold.
fn blocker(result: &RuleResult) -> Option<Finding> {
    let RuleResult {
        name,
        violation_count,
        violations,
        ..
    } = result;
    match result.state {
        RuleState::Held => None,
        RuleState::Broken => {
            let plural = if *violation_count == 1 {
                "record breaks"
            } else {
                "records break"
            };
            let shown = violations
                .iter()
                .take(KEYS_IN_MESSAGE_MAX)
                .map(|key| format!("`{key}`"));
            let more = if *violation_count > KEYS_IN_MESSAGE_MAX as u64 {
                ", .."
            } else {
                ""
            };
            let message = format!(
                "{violation_count} {plural} the rule `{name}`: {}{more}",
                shown.collect::<Vec<_>>().join(", ")
            );
            Some(
                Finding::blocker("rule.broken", message)
                    .with_help("put the records right, or change the rule; nothing was written"),
            )
        }
        RuleState::Unchecked => {
            let reason = result
                .reason
                .as_deref()
                .map_or(Cow::from("for no known reason"), Cow::from);
            let message = format!("the rule `{name}` could not be looked at: {reason}");
            Some(
                Finding::blocker("rule.unchecked", message)
                    .with_help("put the rule right; nothing was written"),
            )
        }
    }
}
