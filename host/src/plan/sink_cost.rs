//! What a run asks of the sink besides writing, and what that costs where the sink bills it.
//!
//! As [`super::cost`] for the source, this is the only place that knows how often: what asks is in [`crate::phases`] and
//! [`crate::verification`]. Pure. How many records the sink will hold is the larger one of what it holds and of what is copied: if its records are
//! others than those copied, reading back takes more, and so the numbers are the least that can be. Transforms that leave out or
//! add records, fields that turn up on the way, retries and records that differ are not in it.

use std::collections::BTreeMap;

use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::sink::{PrepareReport, SinkCost};

use super::cost::RunShape;
use super::{PlannedCollection, Price};
use crate::config::{Job, RuleSide, RuleWhen, VerificationLevel};
use crate::events::{Phase, SinkCollectionCost, SinkCostEstimate};
use crate::verification::{BASIC_RECORDS, latency};

/// What the sink has announced, by its name of the collection.
pub type SinkCosts = BTreeMap<String, SinkCost>;

/// What decides what is asked of the sink, besides the job and the shape of the run.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What the sink has announced.
    pub costs: &'a SinkCosts,
    /// Whether its reader looks records up by key.
    pub looks_up: bool,
    /// Parts that the source divides a collection into, at most.
    pub parts_max: u64,
    /// How often the search for orphans reads each collection back, by its name in the sink.
    pub searched: &'a BTreeMap<String, u64>,
    /// Whether it is a plan that asks, so that what it has taken itself is told.
    pub is_plan: bool,
}

/// What a preparation has announced.
pub fn announced(report: &PrepareReport) -> SinkCosts {
    let prepared = report.collections.iter();
    prepared
        .filter_map(|one| Some((one.name.clone(), one.cost.clone()?)))
        .collect()
}

/// What a run takes of the sink; `None` if that bills nothing.
pub fn estimate(
    job: &Job,
    shape: RunShape<'_>,
    planned: &[PlannedCollection],
    asked: &Asked<'_>,
) -> Option<SinkCostEstimate> {
    let first = asked.costs.values().next()?;
    let price = Price {
        unit: first.unit.clone(),
        usd_per_million: first.usd_per_million,
        units_max: first.units_max,
    };
    let mut collections = Vec::with_capacity(planned.len());
    for one in planned {
        let Some(cost) = asked.costs.get(&one.sink.name) else {
            continue;
        };
        let of_one = OfOne {
            job,
            shape,
            planned: one,
            cost,
            asked,
            is_first: collections.is_empty(),
        };
        collections.push(of_one.units(&price));
    }
    let check_units = match shape.skips(Phase::PreValidation) {
        true => 0,
        false => first.check_units,
    };
    // The run's own lane is looked at, and then held.
    let lane_units = if shape.writes() { 2 * first.lane_units } else { 0 };
    let other_units = check_units.saturating_add(lane_units);
    let run_units = collections
        .iter()
        .map(|one| one.run_units)
        .fold(other_units, u64::saturating_add);
    let planned_units = asked.is_plan.then(|| {
        let units = collections.iter().filter_map(|one| one.planned_units);
        units.fold(check_units, u64::saturating_add)
    });
    Some(SinkCostEstimate {
        planned_usd: planned_units.map(|units| price.usd(units)),
        planned_units,
        run_units,
        usd: price.usd(run_units),
        is_at_least: collections.iter().any(|one| one.is_at_least),
        other_units,
        collections,
        units_max: price.units_max,
        usd_per_million: price.usd_per_million,
        unit: price.unit,
    })
}

/// Why a run may not begin: it would take more of the sink than is allowed.
pub fn beyond(cost: &SinkCostEstimate) -> Option<Error> {
    let max = cost.units_max.filter(|max| cost.run_units > *max)?;
    let (needed, unit) = (cost.run_units, &cost.unit);
    let message = format!("the run takes {needed} {unit} of the sink, and {max} are allowed");
    Some(Error::config("plan.over_quota", message).with_help(
        "copy fewer collections at once, verify at a lower level, or allow more in the sink's quota",
    ))
}

/// One collection.
struct OfOne<'a> {
    job: &'a Job,
    shape: RunShape<'a>,
    planned: &'a PlannedCollection,
    cost: &'a SinkCost,
    asked: &'a Asked<'a>,
    /// Whether it is the first of the run, whose first lane is that of the session which claims them all.
    is_first: bool,
}

impl OfOne<'_> {
    fn units(&self, price: &Price) -> SinkCollectionCost {
        let before = self
            .rules(RuleWhen::Before)
            .saturating_mul(self.held().max(self.cost.nothing_units));
        let looked_units = self.cost.preparation_units.saturating_add(before);
        let room_units = if self.shape.writes() {
            self.cost.room_units
        } else {
            0
        };
        let preparation_units = looked_units.saturating_add(room_units);
        let copy_units = self.copy_units();
        let verification_units = self.verification_units();
        let run_units = [preparation_units, copy_units, verification_units]
            .into_iter()
            .fold(0, u64::saturating_add);
        SinkCollectionCost {
            collection: self.planned.sink.name.clone(),
            planned_units: self.asked.is_plan.then_some(looked_units),
            preparation_units,
            copy_units,
            verification_units,
            run_units,
            usd: price.usd(run_units),
            is_at_least: self.is_at_least(),
        }
    }

    /// Units of reading back what is there before the run, as far as that is known.
    fn held(&self) -> u64 {
        self.cost.held_units.unwrap_or(0)
    }

    /// Records that are written, as far as that is known.
    fn copied_count(&self) -> u64 {
        let count = self.planned.expected_count().unwrap_or(0);
        if self.shape.writes() { count } else { 0 }
    }

    /// Units of reading back all of it once, after the run.
    fn reading(&self) -> u64 {
        let copied = self.copied_count().saturating_mul(self.cost.record_units);
        self.held().max(copied).max(self.cost.nothing_units)
    }

    /// Records that will be there, as far as reading tells.
    fn after_count(&self) -> u64 {
        let copied = self.copied_count();
        copied.max(self.held().checked_div(self.cost.record_units).unwrap_or(0))
    }

    fn looks(&self) -> bool {
        self.cost.look_policies.contains(&self.planned.policy)
    }

    /// Whether the number of records is not known on which the units depend.
    fn is_at_least(&self) -> bool {
        let writes = self.shape.writes();
        let is_unknown = writes && self.planned.expected_count().is_none();
        let reads_back = self.verification_units() > 0;
        // Nobody knows how many of them are the same ones.
        let may_differ = writes && self.held() > 0 && self.copied_count() > 0;
        let reads_before = reads_back || self.rules(RuleWhen::Before) > 0;
        (is_unknown && (reads_back || self.looks()))
            || (reads_before && self.cost.held_units.is_none())
            || (reads_back && may_differ)
    }

    /// The lanes, and one look at what each record would replace where the policy wants to know.
    fn copy_units(&self) -> u64 {
        if !self.shape.writes() {
            return 0;
        }
        let is_whole = self.planned.limit.is_none();
        let parts = if is_whole { self.asked.parts_max.max(1) } else { 1 };
        let passes = 1 + u64::from(!self.planned.held_back.is_empty());
        // They are claimed over one session and used over another.
        let lanes = (2 * parts * passes).saturating_sub(u64::from(self.is_first));
        let looks = if self.looks() { self.copied_count() } else { 0 };
        let looked = looks.saturating_mul(self.cost.look_units);
        lanes.saturating_mul(self.cost.lane_units).saturating_add(looked)
    }

    fn verification_units(&self) -> u64 {
        if self.shape.dry_run || self.shape.skips(Phase::Verification) {
            return 0;
        }
        let rules = self.rules(RuleWhen::After).saturating_mul(self.reading());
        if !self.shape.verifies(self.job) {
            return rules;
        }
        let level = self.planned.verification;
        let compared = match level {
            VerificationLevel::None => 0,
            VerificationLevel::Basic => self.counting().saturating_add(self.looking_up(BASIC_RECORDS)),
            VerificationLevel::Standard | VerificationLevel::Comprehensive => self.reading(),
        };
        let searched = self.asked.searched.get(&self.planned.sink.name).copied();
        let searched = searched.unwrap_or(0).saturating_mul(self.reading());
        [
            rules,
            compared,
            searched,
            self.measuring(latency::looked_up_max(level)),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// A count of all that is there; where the sink does not count, it is read.
    fn counting(&self) -> u64 {
        match self.cost.counted_per_unit {
            0 => self.reading(),
            per_unit => self.after_count().div_ceil(per_unit).max(1),
        }
    }

    /// So many records, or all if there are fewer, by their keys.
    fn looking_up(&self, count: u64) -> u64 {
        if !self.asked.looks_up || self.planned.sink.key.is_empty() {
            return 0;
        }
        let count = self.after_count().min(count);
        count.saturating_mul(self.cost.record_units)
    }

    /// The keys of so many records are read, to look these up with a clock.
    fn measuring(&self, count: u64) -> u64 {
        match self.looking_up(count) {
            0 if count > 0 && self.asked.looks_up && !self.planned.sink.key.is_empty() => {
                self.cost.nothing_units
            }
            units => 2 * units,
        }
    }

    /// How many rules are judged by reading it at a moment.
    fn rules(&self, moment: RuleWhen) -> u64 {
        let is_of_sink = |rule: &&crate::config::RuleJob| {
            let usual = match moment {
                RuleWhen::Before => RuleSide::Source,
                _ => RuleSide::Sink,
            };
            let is_then = match moment {
                RuleWhen::Before => rule.when != RuleWhen::After && !self.shape.is_resumed,
                _ => rule.when != RuleWhen::Before,
            };
            let is_own = rule.collection.as_ref() == Some(&self.planned.source.name);
            is_then && is_own && rule.sql.is_none() && rule.side.unwrap_or(usual) == RuleSide::Sink
        };
        self.job.rules.iter().filter(is_of_sink).count() as u64
    }
}

#[cfg(test)]
mod tests;
