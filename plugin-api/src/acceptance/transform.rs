//! The suite of the transform role: what every transform's tests run. See the [module page](super) for how.
//!
//! Not here: whether what comes out is useful; only that it follows the plan and accounts for every record.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value as Json;

use super::reading::{Counted, QuietHost, counted, ensure_same};
use super::records::{Record, records};
use super::report::{Checked, Report, ensure, fail, skip};
use super::source::{describes_config_and_types, refuses};
use crate::abi::Validation;
use crate::abi::root_module::ForeignPlugin;
use crate::abi::transform::ForeignTransform;
use crate::batch::Batch;
use crate::collection::Collection;
use crate::error::ErrorKind;
use crate::manifest::Role;
use crate::record_type::{Field, RecordType};
use crate::transform::{Applied, Plan, Transform as _, output_schema};

/// A transform with a collection that it can change.
#[derive(Debug, Clone)]
pub struct TransformCase {
    /// The config under which it is opened.
    pub config: Json,
    /// The collection that comes in.
    pub collection: Collection,
    /// Batches of it, with records of every kind that the transform tells apart.
    pub batches: Vec<Batch>,
    /// What comes out of all batches, by collection, if the test cares.
    pub expected: Option<Vec<(String, Vec<Record>)>>,
    /// Whether each record comes out once, is rejected or is counted as filtered; false for transforms that multiply.
    pub keeps_count: bool,
    /// Configs that must be refused with kind config, over and above those that the suite makes up.
    pub bad_configs: Vec<Json>,
}

impl TransformCase {
    /// A transform opened with `config`, for `batches` of `collection`; each record comes out once.
    pub fn new(config: Json, collection: Collection, batches: Vec<Batch>) -> Self {
        Self {
            config,
            collection,
            batches,
            expected: None,
            keeps_count: true,
            bad_configs: Vec::new(),
        }
    }

    /// Sets [`Self::expected`] for one more collection.
    #[must_use]
    pub fn expecting(mut self, collection: impl Into<String>, records: Vec<Record>) -> Self {
        self.expected
            .get_or_insert_default()
            .push((collection.into(), records));
        self
    }

    /// Clears [`Self::keeps_count`].
    #[must_use]
    pub fn changing_count(mut self) -> Self {
        self.keeps_count = false;
        self
    }

    /// Adds to [`Self::bad_configs`].
    #[must_use]
    pub fn with_bad_config(mut self, config: Json) -> Self {
        self.bad_configs.push(config);
        self
    }
}

struct Subject {
    plugin: ForeignPlugin,
    case: TransformCase,
}

impl Subject {
    fn planned(&self) -> Checked<(ForeignTransform, Plan)> {
        let mut transform =
            self.plugin
                .open_transform(&self.case.config, Arc::new(QuietHost), Validation::Full)?;
        let plan = transform.plan(&self.case.collection)?;
        Ok((transform, plan))
    }
}

type TransformCheck = fn(&Subject) -> Checked;

const TRANSFORM_CHECKS: [(&str, TransformCheck); 8] = [
    ("describes_itself", describes_itself),
    ("plan_is_stable", plan_is_stable),
    ("empty_batch_is_fine", empty_batch_is_fine),
    ("outputs_follow_the_plan", outputs_follow_the_plan),
    ("every_record_is_accounted_for", every_record_is_accounted_for),
    (
        "records_do_not_depend_on_their_batch",
        records_do_not_depend_on_their_batch,
    ),
    ("changed_schema_is_planned_again", changed_schema_is_planned_again),
    ("rule_judges_each_record", rule_judges_each_record),
];

/// Runs every check of the transform role.
pub fn run(plugin: ForeignPlugin, case: TransformCase) -> Report {
    let mut report = Report::default();
    let subject = Arc::new(Subject { plugin, case });
    for (name, check) in TRANSFORM_CHECKS {
        let subject = Arc::clone(&subject);
        report.run(name, move || check(&subject));
    }
    report.run("bad_config_is_refused", move || {
        refuses(&subject.case.config, &subject.case.bad_configs, |config| {
            plugin
                .open_transform(config, Arc::new(QuietHost), Validation::Full)
                .map(drop)
        })
    });
    report
}

fn describes_itself(subject: &Subject) -> Checked {
    describes_config_and_types(&subject.plugin.describe(Role::Transform)?)
}

fn plan_is_stable(subject: &Subject) -> Checked {
    let (mut transform, plan) = subject.planned()?;
    ensure(transform.plan(&subject.case.collection)? == plan, || {
        "planned twice, the plans differ".to_owned()
    })?;
    let (_other, again) = subject.planned()?;
    ensure(again == plan, || "opened twice, the plans differ".to_owned())?;
    let mut names = BTreeSet::new();
    for output in &plan.outputs {
        output.schema.validate()?;
        ensure(names.insert(&output.name), || {
            format!("the plan names `{}` twice", output.name)
        })?;
        let lost = output
            .key
            .iter()
            .find(|key| output.schema.index_of(key).is_none());
        ensure(lost.is_none(), || {
            format!("the key of `{}` names a field that it does not have", output.name)
        })?;
    }
    Ok(())
}

fn empty_batch_is_fine(subject: &Subject) -> Checked {
    let Some(first) = subject.case.batches.first() else {
        return skip("the case has no batches");
    };
    let (mut transform, plan) = subject.planned()?;
    let mut empty = first.clone();
    empty.records = first.records.slice(0, 0);
    let applied = transform.apply(&empty)?;
    follows(&plan, &applied)?;
    let made: usize = applied
        .outputs
        .iter()
        .map(|(_, batch)| batch.record_count())
        .sum();
    ensure(made == 0 && applied.rejected.is_empty(), || {
        "an empty batch gives records".to_owned()
    })
}

fn follows(plan: &Plan, applied: &Applied) -> Checked {
    for (name, batch) in &applied.outputs {
        match output_schema(plan, name) {
            None => return fail(format!("an output names `{name}`, which is not in the plan")),
            Some(schema) => ensure(schema == batch.schema, || {
                format!("an output of `{name}` has another schema than its plan")
            })?,
        }
    }
    Ok(())
}

fn outputs_follow_the_plan(subject: &Subject) -> Checked {
    let (mut transform, plan) = subject.planned()?;
    let mut made: Vec<(String, Vec<Record>)> = Vec::new();
    for batch in &subject.case.batches {
        let applied = transform.apply(batch)?;
        follows(&plan, &applied)?;
        for (name, batch) in applied.outputs {
            match made.iter_mut().find(|(known, _)| *known == name) {
                Some((_, all)) => all.extend(records(&batch)),
                None => made.push((name, records(&batch))),
            }
        }
    }
    for (name, wanted) in subject.case.expected.iter().flatten() {
        let found = made
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, records)| records.as_slice());
        ensure_same(
            &counted(wanted),
            &counted(found.unwrap_or_default()),
            &format!("the output `{name}`"),
        )?;
    }
    Ok(())
}

fn every_record_is_accounted_for(subject: &Subject) -> Checked {
    let (mut transform, _) = subject.planned()?;
    for batch in &subject.case.batches {
        let applied = transform.apply(batch)?;
        let rows: BTreeSet<u64> = applied
            .rejected
            .iter()
            .filter_map(|rejected| rejected.row)
            .collect();
        let given = batch.record_count();
        ensure(rows.len() == applied.rejected.len(), || {
            "a rejected record has no row, or one twice".to_owned()
        })?;
        ensure(rows.last().is_none_or(|row| *row < given as u64), || {
            "a rejected row is beyond the batch".to_owned()
        })?;
        let made: usize = applied
            .outputs
            .iter()
            .map(|(_, batch)| batch.record_count())
            .sum();
        let (filtered, rejected) = (applied.filtered, rows.len());
        let sum = made as u64 + rejected as u64 + filtered;
        ensure(!subject.case.keeps_count || sum == given as u64, || {
            format!("of {given} records, {made} come out, {rejected} are rejected and {filtered} filtered")
        })?;
    }
    if subject.case.keeps_count {
        Ok(())
    } else {
        skip("the transform drops or multiplies records")
    }
}

/// What all batches give, by collection, with the number of rejected records.
fn outcome(transform: &mut ForeignTransform, batches: &[Batch]) -> Checked<(Vec<(String, Counted)>, usize)> {
    let (mut rejected, mut made) = (0, std::collections::BTreeMap::<String, Vec<Record>>::new());
    for batch in batches {
        let applied = transform.apply(batch)?;
        rejected += applied.rejected.len();
        for (name, batch) in applied.outputs {
            made.entry(name).or_default().extend(records(&batch));
        }
    }
    made.retain(|_, records| !records.is_empty());
    Ok((
        made.into_iter()
            .map(|(name, records)| (name, counted(&records)))
            .collect(),
        rejected,
    ))
}

fn records_do_not_depend_on_their_batch(subject: &Subject) -> Checked {
    let whole = outcome(&mut subject.planned()?.0, &subject.case.batches)?;
    let (mut transform, _) = subject.planned()?;
    let mut single = Vec::new();
    for batch in &subject.case.batches {
        for row in 0..batch.record_count() {
            let mut one = batch.clone();
            one.records = batch.records.slice(row, 1);
            single.push(one);
        }
    }
    let apart = outcome(&mut transform, &single)?;
    ensure(whole == apart, || {
        "one by one, the records come out otherwise than together".to_owned()
    })?;
    let again = outcome(&mut transform, &subject.case.batches)?;
    ensure(whole == again, || {
        "applied again by the same object, the outcome differs".to_owned()
    })
}

fn changed_schema_is_planned_again(subject: &Subject) -> Checked {
    let (mut transform, before) = subject.planned()?;
    let mut changed = subject.case.collection.clone();
    changed.schema.version += 1;
    changed
        .schema
        .fields
        .push(Field::new("field_that_came_later", RecordType::Text));
    transform.plan(&changed)?;
    ensure(transform.plan(&subject.case.collection)? == before, || {
        "planned with a changed schema and back, the plan differs".to_owned()
    })?;
    outcome(&mut transform, &subject.case.batches).map(drop)
}

fn rule_judges_each_record(subject: &Subject) -> Checked {
    let (mut transform, _) = subject.planned()?;
    for batch in &subject.case.batches {
        // That there is one judgement per record is compared by the foreign half already.
        match transform.rule(batch) {
            Err(error) if error.kind == ErrorKind::Unsupported => {
                return skip("the plugin does not offer `rule`");
            }
            outcome => drop(outcome?),
        }
    }
    Ok(())
}
