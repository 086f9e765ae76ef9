//! Which reads of the source a run does, and what they cost where the source bills them.
//!
//! The only place that knows how often a collection is read at which level and with which options; what reads is elsewhere:
//! [`crate::phases`] and [`crate::verification`]. Pure. Retries, parts that turn out to be empty, fields that turn up on the way and
//! digests that a full disk costs (both make verification read again), and single records that differ are not in it.

use std::collections::BTreeMap;

use whimbrel_plugin_api::{Cost, Error};

use super::{PlannedCollection, Spent};
use crate::config::{Job, Staging, VerificationLevel};
use crate::events::{CollectionCost, CostEstimate, Phase};
use crate::verification::{BASIC_RECORDS, reads_first_records};

/// What decides which reads are done, besides the job.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunShape<'a> {
    /// Phases that are left out.
    pub skip_phases: &'a [Phase],
    /// Nothing is written.
    pub dry_run: bool,
    /// An earlier copy is gone on with.
    pub is_resumed: bool,
}

impl RunShape<'_> {
    pub(super) fn skips(&self, phase: Phase) -> bool {
        self.skip_phases.contains(&phase)
    }

    /// Whether records are moved at all.
    fn copies(&self) -> bool {
        !(self.skips(Phase::Extraction) && self.skips(Phase::Import))
    }

    pub(super) fn writes(&self) -> bool {
        self.copies() && !self.dry_run && !self.skips(Phase::Import)
    }

    /// Whether the source is read once, and everything else is done with what was kept of it.
    fn is_staged(&self, job: &Job) -> bool {
        job.staging == Staging::Disk && !self.dry_run && self.copies()
    }

    /// Whether digests of all records are made while these are copied, so that nothing need be read again to compare them.
    fn is_tapped(&self, job: &Job) -> bool {
        self.writes() && !self.skips(Phase::Extraction) && !self.is_staged(job) && !self.is_resumed
    }

    pub(super) fn verifies(&self, job: &Job) -> bool {
        !self.dry_run && !self.skips(Phase::Verification) && job.verification != VerificationLevel::None
    }
}

/// Units by collection of the source.
pub type Units = BTreeMap<String, u64>;

/// What a run takes, `spent` of it on descriptions and `searched` on the search for orphans, which a run does as well; `None`
/// if the source bills nothing. With `tried`, what a plan has read by way of trial, the numbers of the plan itself are in it.
pub fn estimate(
    job: &Job,
    shape: RunShape<'_>,
    planned: &[PlannedCollection],
    spent: &Spent,
    searched: &Units,
    tried: Option<&Units>,
) -> Option<CostEstimate> {
    let price = spent.price.as_ref()?;
    let of = |units: &Units, name: &str| units.get(name).copied().unwrap_or(0);
    let mut collections = Vec::with_capacity(planned.len());
    // A collection may be planned twice, into two of the sink; it is described and searched once.
    let mut described = Spent {
        units: spent.units.clone(),
        ..Spent::default()
    };
    let mut searched = searched.clone();
    let mut tried = tried.cloned();
    for one in planned {
        let name = &one.source.name;
        let description_units = described.units.remove(name).unwrap_or(0);
        let search_units = searched.remove(name).unwrap_or(0);
        let cost = one.source.cost.clone().unwrap_or_default();
        let copy_units = copy_units(job, shape, one, &cost);
        let verification_units = verification_units(job, shape, one, &cost);
        let run_units = [description_units, search_units, copy_units, verification_units]
            .into_iter()
            .fold(0, u64::saturating_add);
        let planned_units = tried.as_mut().map(|tried| {
            let tried_units = of(tried, name);
            tried.remove(name);
            description_units
                .saturating_add(search_units)
                .saturating_add(tried_units)
        });
        collections.push(CollectionCost {
            collection: name.clone(),
            planned_units,
            description_units,
            search_units,
            copy_units,
            verification_units,
            run_units,
            usd: price.usd(run_units),
        });
    }
    let other_units = described.units.values().copied().fold(0, u64::saturating_add);
    let sum = |of: &dyn Fn(&CollectionCost) -> u64| {
        collections.iter().map(of).fold(other_units, u64::saturating_add)
    };
    let run_units = sum(&|one| one.run_units);
    let planned_units = tried.map(|_| sum(&|one| one.planned_units.unwrap_or(0)));
    Some(CostEstimate {
        unit: price.unit.clone(),
        usd_per_million: price.usd_per_million,
        units_max: price.units_max,
        planned_units,
        planned_usd: planned_units.map(|units| price.usd(units)),
        run_units,
        usd: price.usd(run_units),
        other_units,
        collections,
    })
}

/// Why a run may not begin: it would take more than is allowed.
pub fn beyond(cost: &CostEstimate) -> Option<Error> {
    let max = cost.units_max.filter(|max| cost.run_units > *max)?;
    let (needed, unit) = (cost.run_units, &cost.unit);
    let message = format!("the run takes {needed} {unit}, and {max} are allowed");
    Some(Error::config("plan.over_quota", message).with_help(
        "copy fewer collections at once, verify at a lower level, or allow more in the source's quota",
    ))
}

/// Once, or once more for fields that are set in a second pass, which reads the source again unless it was staged.
fn copy_units(job: &Job, shape: RunShape<'_>, planned: &PlannedCollection, cost: &Cost) -> u64 {
    if !shape.copies() {
        return 0;
    }
    let has_second_pass = shape.writes() && !shape.is_staged(job) && !planned.held_back.is_empty();
    reading(planned, cost, planned.limit).saturating_mul(1 + u64::from(has_second_pass))
}

/// Nothing of the source if it was staged. A count and ten records at the level `basic`, unless transforms or a sample stand between
/// the number of records and what is counted, so that all are read for both. Else all is read once, and counted before that only if nobody knows how much
/// it is, so that a sample of the right size is taken. A source that does not count is read in place of it, unless its
/// description was a count.
fn verification_units(job: &Job, shape: RunShape<'_>, planned: &PlannedCollection, cost: &Cost) -> u64 {
    if !shape.verifies(job) || shape.is_staged(job) {
        return 0;
    }
    let reading = reading(planned, cost, planned.limit);
    let counting = match cost.count_units {
        0 if !planned.source.estimate.exact => reading,
        units => units,
    };
    let is_counted = planned.transforms.is_empty() && planned.limit.is_none();
    // A copy that has written all has counted it.
    let is_known = planned.limit.is_some() || planned.source.estimate.exact || shape.writes();
    let ten = match reads_first_records(&planned.source, &planned.sink) {
        true => self::reading(planned, cost, Some(BASIC_RECORDS)),
        false => 0,
    };
    // It is read to be counted.
    let counts_by_reading = cost.count_units == 0 && !planned.source.estimate.exact;
    match planned.verification {
        VerificationLevel::None => 0,
        VerificationLevel::Basic if is_counted && !counts_by_reading => counting.saturating_add(ten),
        VerificationLevel::Basic => reading,
        VerificationLevel::Comprehensive if shape.is_tapped(job) => 0,
        VerificationLevel::Comprehensive => reading,
        VerificationLevel::Standard if is_known => reading,
        VerificationLevel::Standard => reading.saturating_add(counting),
    }
}

/// Units of reading a collection once, or the first `limit` records of it.
pub fn reading(planned: &PlannedCollection, cost: &Cost, limit: Option<u64>) -> u64 {
    let Some(limit) = limit else {
        return cost.read_units;
    };
    match planned.source.estimate.record_count {
        Some(held) if held <= limit => cost.read_units,
        // Each record costs the same, rounded up.
        Some(held) => {
            let units = (u128::from(cost.read_units) * u128::from(limit)).div_ceil(u128::from(held));
            u64::try_from(units).unwrap_or(u64::MAX)
        }
        None => cost.read_units.min(limit),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use whimbrel_plugin_api::{Collection, ConflictPolicy, Schema};

    use super::*;
    use crate::config::TransformJob;

    const READ: u64 = 1_000;
    const COUNT: u64 = 2;

    fn job(text: &str) -> Job {
        let sides = r#""name": "j", "source": { "plugin": "a" }, "sink": { "plugin": "b" }"#;
        serde_json::from_str(&format!("{{ {sides}, {text} }}")).unwrap()
    }

    /// A collection of as many records as it takes units to read it.
    fn planned(name: &str, verification: VerificationLevel) -> PlannedCollection {
        let mut source = Collection::new(name, Schema::default())
            .with_key(["id"])
            .with_record_count(READ);
        source.estimate.exact = true;
        source.cost = Some(Cost {
            unit: "reads".to_owned(),
            description_units: READ,
            read_units: READ,
            count_units: COUNT,
            usd_per_million: 2.0,
            units_max: None,
        });
        PlannedCollection {
            sink: source.clone(),
            source,
            transforms: Arc::default(),
            policy: ConflictPolicy::Overwrite,
            verification,
            limit: None,
            waits_for: Vec::new(),
            held_back: Vec::new(),
            left_out: Vec::new(),
        }
    }

    fn standard() -> PlannedCollection {
        planned("a", VerificationLevel::Standard)
    }

    fn spent(units: &[(&str, u64)]) -> Spent {
        let mut spent = Spent::default();
        spent.add(&[standard().source]);
        spent.units = units
            .iter()
            .map(|(name, units)| ((*name).to_owned(), *units))
            .collect();
        spent
    }

    /// What copying and verifying `one` takes.
    fn units(job: &Job, shape: RunShape<'_>, one: PlannedCollection) -> (u64, u64) {
        let cost = estimate(job, shape, &[one], &spent(&[]), &Units::new(), None).unwrap();
        assert_eq!(cost.planned_units, None);
        (
            cost.collections[0].copy_units,
            cost.collections[0].verification_units,
        )
    }

    fn run() -> RunShape<'static> {
        RunShape::default()
    }

    #[test]
    fn a_level_of_verification_counts_or_reads() {
        use VerificationLevel::{Basic, None, Standard};
        let job = job(r#""verification": "basic""#);
        for (level, wanted) in [(None, 0), (Basic, COUNT + BASIC_RECORDS), (Standard, READ)] {
            assert_eq!(
                units(&job, run(), planned("a", level)),
                (READ, wanted),
                "{level:?}"
            );
        }
        let mut keyless = planned("a", Basic);
        keyless.sink.key.clear();
        assert_eq!(units(&job, run(), keyless), (READ, COUNT));
        // Among what is read are records of others.
        let mut shared = planned("a", Basic);
        shared.source.estimate.record_count = Some(READ / 2);
        assert_eq!(units(&job, run(), shared), (READ, COUNT));
        let nothing = self::job(r#""verification": "none""#);
        assert_eq!(units(&nothing, run(), standard()), (READ, 0));
    }

    #[test]
    fn a_comprehensive_run_reads_once_unless_it_goes_on_with_an_earlier_one() {
        use VerificationLevel::Comprehensive;
        let memory = job(r#""staging": "memory""#);
        let every_record = || {
            let mut one = planned("a", Comprehensive);
            one.source.estimate.exact = false;
            one
        };
        assert_eq!(units(&memory, run(), every_record()), (READ, 0));
        let resumed = RunShape {
            is_resumed: true,
            ..run()
        };
        assert_eq!(units(&memory, resumed, every_record()), (READ, READ));
        // What was staged is read again where it is staged.
        let staged = job(r#""staging": "disk""#);
        for shape in [run(), resumed] {
            assert_eq!(units(&staged, shape, every_record()), (READ, 0));
        }
        let mut sample = every_record();
        sample.limit = Some(10);
        assert_eq!(units(&memory, run(), sample.clone()), (10, 0));
        assert_eq!(units(&memory, resumed, sample), (10, 10));
        let mut circle = every_record();
        circle.held_back = vec!["up".to_owned()];
        assert_eq!(units(&memory, run(), circle), (2 * READ, 0));
        for (skip_phases, wanted) in [
            (&[Phase::Extraction, Phase::Import][..], (0, READ)),
            (&[Phase::Import], (READ, READ)),
            (&[Phase::Verification], (READ, 0)),
        ] {
            let shape = RunShape { skip_phases, ..run() };
            assert_eq!(units(&memory, shape, every_record()), wanted, "{skip_phases:?}");
        }
    }

    #[test]
    fn a_number_that_nobody_knows_is_counted_first_unless_a_copy_has_counted_it() {
        let job = job(r#""staging": "memory""#);
        let inexact = || {
            let mut one = standard();
            one.source.estimate.exact = false;
            one
        };
        assert_eq!(units(&job, run(), inexact()), (READ, READ));
        let verifies_only = RunShape {
            skip_phases: &[Phase::Extraction, Phase::Import],
            ..run()
        };
        assert_eq!(units(&job, verifies_only, inexact()), (0, READ + COUNT));
        assert_eq!(units(&job, verifies_only, standard()), (0, READ));
    }

    #[test]
    fn a_source_that_does_not_count_is_read_unless_its_description_was_a_count() {
        let job = job(r#""staging": "memory""#);
        for (exact, wanted) in [(true, BASIC_RECORDS), (false, READ)] {
            let mut one = planned("a", VerificationLevel::Basic);
            one.source.estimate.exact = exact;
            one.source.cost.as_mut().unwrap().count_units = 0;
            assert_eq!(units(&job, run(), one), (READ, wanted), "{exact}");
        }
    }

    #[test]
    fn transforms_and_samples_are_counted_by_reading() {
        let job = job(r#""mode": "test""#);
        let mut transformed = planned("a", VerificationLevel::Basic);
        transformed.transforms = Arc::from([TransformJob {
            plugin: "t".to_owned(),
            config: serde_json::Map::new(),
        }]);
        assert_eq!(units(&job, run(), transformed), (READ, READ));
        for (limit, level, wanted) in [
            (10, VerificationLevel::Basic, (10, 10)),
            (10, VerificationLevel::Standard, (10, 10)),
            (2_000, VerificationLevel::Standard, (READ, READ)),
        ] {
            let mut sample = planned("a", level);
            sample.limit = Some(limit);
            assert_eq!(units(&job, run(), sample), wanted, "{limit} {level:?}");
        }
    }

    #[test]
    fn a_sample_takes_its_share_of_the_units_rounded_up() {
        let mut one = standard();
        let cost = Cost {
            read_units: 10,
            ..one.source.cost.clone().unwrap()
        };
        assert_eq!(reading(&one, &cost, Some(150)), 2);
        one.source.estimate.record_count = None;
        assert_eq!(reading(&one, &cost, Some(150)), 10);
        assert_eq!(reading(&one, &cost, Some(3)), 3);
        one.source.estimate.record_count = Some(0);
        assert_eq!(reading(&one, &cost, Some(3)), 10);
    }

    #[test]
    fn phases_that_are_left_out_read_nothing() {
        let job = job(r#""staging": "memory""#);
        for (skip_phases, dry_run, wanted) in [
            (&[Phase::Verification][..], false, (READ, 0)),
            (&[][..], true, (READ, 0)),
            // What is read is thrown away.
            (&[Phase::Import][..], false, (READ, READ)),
            (
                &[Phase::Extraction, Phase::Import, Phase::Verification][..],
                false,
                (0, 0),
            ),
        ] {
            let shape = RunShape {
                skip_phases,
                dry_run,
                ..run()
            };
            assert_eq!(units(&job, shape, standard()), wanted, "{shape:?}");
        }
    }

    #[test]
    fn what_is_staged_is_read_once_for_everything() {
        let job = job(r#""staging": "disk""#);
        let mut circle = standard();
        circle.held_back = vec!["up".to_owned()];
        assert_eq!(units(&job, run(), circle.clone()), (READ, 0));
        let import_only = RunShape {
            skip_phases: &[Phase::Import],
            ..run()
        };
        assert_eq!(units(&job, import_only, circle.clone()), (READ, 0));
        let in_memory = self::job(r#""staging": "memory""#);
        assert_eq!(units(&in_memory, run(), circle.clone()), (2 * READ, READ));
        let dry_run = RunShape {
            dry_run: true,
            ..run()
        };
        assert_eq!(units(&in_memory, dry_run, circle), (READ, 0));
    }

    #[test]
    fn the_whole_is_the_sum_of_its_parts_and_of_what_is_not_copied() {
        let job = job(r#""verification": "basic""#);
        let collections = [
            planned("a", VerificationLevel::Standard),
            planned("b", VerificationLevel::Basic),
        ];
        let spent = spent(&[("a", 10), ("b", 20), ("c", 5)]);
        let searched = Units::from([("b".to_owned(), 7)]);
        let tried = Units::from([("a".to_owned(), 100)]);
        let cost = estimate(&job, run(), &collections, &spent, &searched, Some(&tried)).unwrap();
        let [a, b] = cost.collections.as_slice() else {
            panic!("{cost:?}")
        };
        assert_eq!((a.planned_units, a.run_units), (Some(110), 10 + 2 * READ));
        assert_eq!(
            (b.planned_units, b.run_units),
            (Some(27), 27 + READ + COUNT + BASIC_RECORDS)
        );
        assert_eq!(cost.other_units, 5);
        assert_eq!(cost.planned_units, Some(110 + 27 + 5));
        assert_eq!(cost.run_units, a.run_units + b.run_units + 5);
        assert_eq!(cost.usd, cost.run_units as f64 * 2.0 / 1e6);
        let free = estimate(&job, run(), &collections, &Spent::default(), &searched, None);
        assert_eq!(free, None);
    }
}
