//! What a run is said to take of a sink, at each level, under each policy, and with what is known of its records.
//! Not here: what is billed in truth, which is counted between the program and an emulator (`firestore_cost` of the suite).

use std::sync::Arc;

use whimbrel_plugin_api::{Collection, ConflictPolicy, Schema};

use super::*;

/// Records of a collection of the source.
const COPIED: u64 = 5_000;
/// What counting them takes.
const COUNT: u64 = 5;
/// What making room and looking at what is there take.
const PREPARED: u64 = 3 + 2;
/// Two lanes, of which the second one is claimed over one session and used over another.
const LANES: u64 = 3;

fn job(text: &str) -> Job {
    let sides = r#""name": "j", "source": { "plugin": "a" }, "sink": { "plugin": "b" }"#;
    serde_json::from_str(&format!("{{ {sides}, {text} }}")).unwrap()
}

fn planned(verification: VerificationLevel) -> PlannedCollection {
    let source = Collection::new("a", Schema::default())
        .with_record_count(COPIED)
        .with_key(["id"]);
    PlannedCollection {
        sink: Collection {
            name: "into_a".to_owned(),
            ..source.clone()
        },
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

fn cost() -> SinkCost {
    SinkCost {
        unit: "reads".to_owned(),
        usd_per_million: 2.0,
        units_max: None,
        check_units: 4,
        preparation_units: 3,
        room_units: 2,
        held_units: Some(0),
        record_units: 1,
        nothing_units: 1,
        counted_per_unit: 1_000,
        look_units: 1,
        look_policies: vec![ConflictPolicy::Skip, ConflictPolicy::KeepNewest],
        lane_units: 1,
    }
}

/// What a run of `one` takes of a sink that has announced `cost`.
fn of(job: &Job, shape: RunShape<'_>, one: PlannedCollection, cost: SinkCost) -> SinkCostEstimate {
    let costs = SinkCosts::from([("into_a".to_owned(), cost)]);
    let asked = Asked {
        costs: &costs,
        looks_up: true,
        parts_max: 2,
        searched: &BTreeMap::new(),
        is_plan: false,
    };
    estimate(job, shape, &[one], &asked).unwrap()
}

fn run() -> RunShape<'static> {
    RunShape::default()
}

fn standard_job() -> Job {
    job(r#""verification": "standard""#)
}

#[test]
fn each_level_reads_back_what_it_compares() {
    use VerificationLevel::{Basic, Comprehensive, None, Standard};
    let measured = |keys: u64| COPIED + 2 * keys;
    for (level, wanted) in [
        (None, 0),
        (Basic, COUNT + BASIC_RECORDS),
        (Standard, measured(20)),
        (Comprehensive, measured(200)),
    ] {
        let estimate = of(&standard_job(), run(), planned(level), cost());
        let one = &estimate.collections[0];
        assert_eq!(one.collection, "into_a");
        assert_eq!(
            (one.preparation_units, one.copy_units),
            (PREPARED, LANES),
            "{level:?}"
        );
        assert_eq!(one.verification_units, wanted, "{level:?}");
        assert_eq!(one.run_units, PREPARED + LANES + wanted);
        // The check, and the run's own lane.
        assert_eq!(
            (estimate.other_units, estimate.run_units),
            (4 + 2, one.run_units + 4 + 2)
        );
        assert_eq!(estimate.usd, estimate.run_units as f64 * 2.0 / 1e6);
        assert!(!estimate.is_at_least, "{level:?}");
        assert_eq!(
            (estimate.planned_units, one.planned_units),
            (Option::None, Option::None)
        );
    }
    let nothing = job(r#""verification": "none""#);
    let estimate = of(&nothing, run(), planned(Standard), cost());
    assert_eq!(estimate.collections[0].verification_units, 0);
}

#[test]
fn a_policy_that_looks_takes_a_unit_for_each_record() {
    use ConflictPolicy::{KeepNewest, Merge, Overwrite, Skip};
    for (policy, looks) in [(Skip, COPIED), (KeepNewest, COPIED), (Overwrite, 0), (Merge, 0)] {
        let mut one = planned(VerificationLevel::None);
        one.policy = policy;
        let estimate = of(&standard_job(), run(), one, cost());
        assert_eq!(estimate.collections[0].copy_units, LANES + looks, "{policy:?}");
    }
    let mut sample = planned(VerificationLevel::None);
    (sample.policy, sample.limit) = (Skip, Some(70));
    let estimate = of(&standard_job(), run(), sample, cost());
    // It is one part, and one lane.
    assert_eq!(estimate.collections[0].copy_units, 1 + 70);
}

#[test]
fn records_that_are_there_are_taken_for_some_of_those_copied() {
    for (held, wanted, is_at_least) in [
        (Some(0), COPIED, false),
        (Some(2_000), COPIED, true),
        (Some(9_000), 9_000, true),
        (None, COPIED, true),
    ] {
        let known = SinkCost {
            held_units: held,
            ..cost()
        };
        let estimate = of(
            &standard_job(),
            run(),
            planned(VerificationLevel::Standard),
            known.clone(),
        );
        let one = &estimate.collections[0];
        assert_eq!(one.verification_units, wanted + 40, "{held:?}");
        assert_eq!(
            (one.is_at_least, estimate.is_at_least),
            (is_at_least, is_at_least),
            "{held:?}"
        );
        // Where nothing is read back, it does not matter what is there.
        let unread = of(&standard_job(), run(), planned(VerificationLevel::None), known);
        assert!(!unread.is_at_least, "{held:?}");
    }
    let mut unknown = planned(VerificationLevel::Standard);
    unknown.source.estimate.record_count = None;
    let estimate = of(&standard_job(), run(), unknown.clone(), cost());
    assert_eq!(estimate.collections[0].verification_units, 1 + 1);
    assert!(estimate.is_at_least);
    (unknown.verification, unknown.policy) = (VerificationLevel::None, ConflictPolicy::Skip);
    assert!(of(&standard_job(), run(), unknown, cost()).is_at_least);
}

#[test]
fn a_sink_that_does_not_count_is_read_and_one_that_does_not_look_up_is_not_asked_for_keys() {
    let uncounted = SinkCost {
        counted_per_unit: 0,
        ..cost()
    };
    let estimate = of(
        &standard_job(),
        run(),
        planned(VerificationLevel::Basic),
        uncounted,
    );
    assert_eq!(estimate.collections[0].verification_units, COPIED + BASIC_RECORDS);
    let costs = SinkCosts::from([("into_a".to_owned(), cost())]);
    let asked = Asked {
        costs: &costs,
        looks_up: false,
        parts_max: 1,
        searched: &BTreeMap::from([("into_a".to_owned(), 2)]),
        is_plan: true,
    };
    let one = [planned(VerificationLevel::Standard)];
    let estimate = super::estimate(&standard_job(), run(), &one, &asked).unwrap();
    // Read once to be compared, twice for its references.
    assert_eq!(estimate.collections[0].verification_units, 3 * COPIED);
    assert_eq!(estimate.collections[0].copy_units, 1);
    assert_eq!(estimate.planned_units, Some(4 + 3));
    let mut keyless = planned(VerificationLevel::Standard);
    keyless.sink.key.clear();
    let estimate = of(&standard_job(), run(), keyless, cost());
    assert_eq!(estimate.collections[0].verification_units, COPIED);
}

#[test]
fn phases_that_are_left_out_ask_for_nothing() {
    for (skip_phases, dry_run, wanted) in [
        (&[Phase::Verification][..], false, (PREPARED, LANES, 0)),
        (&[][..], true, (3, 0, 0)),
        // What is there is compared: nothing but an empty answer, and another one for its keys.
        (&[Phase::Import], false, (3, 0, 1 + 1)),
        (&[Phase::Extraction, Phase::Import], false, (3, 0, 1 + 1)),
    ] {
        let shape = RunShape {
            skip_phases,
            dry_run,
            ..run()
        };
        let estimate = of(
            &standard_job(),
            shape,
            planned(VerificationLevel::Standard),
            cost(),
        );
        let one = &estimate.collections[0];
        let units = (one.preparation_units, one.copy_units, one.verification_units);
        assert_eq!(units, wanted, "{shape:?}");
    }
}

#[test]
fn a_second_pass_has_lanes_of_its_own() {
    let mut circle = planned(VerificationLevel::None);
    circle.held_back = vec!["up".to_owned()];
    let estimate = of(&standard_job(), run(), circle, cost());
    assert_eq!(estimate.collections[0].copy_units, 2 * 4 - 1);
}

#[test]
fn rules_that_transforms_judge_read_it_at_their_moments() {
    let rules = |when: &str, side: &str| {
        job(&format!(
            r#""verification": "none",
               "rules": [{{ "name": "r", "collection": "a", "plugin": "t", "when": "{when}" {side} }}]"#
        ))
    };
    let units = |job: &Job| {
        let held = SinkCost {
            held_units: Some(7),
            ..cost()
        };
        let estimate = of(job, run(), planned(VerificationLevel::None), held);
        let one = &estimate.collections[0];
        (one.preparation_units - PREPARED, one.verification_units)
    };
    assert_eq!(units(&rules("after", "")), (0, COPIED));
    assert_eq!(units(&rules("both", "")), (0, COPIED));
    assert_eq!(units(&rules("both", r#", "side": "sink""#)), (7, COPIED));
    assert_eq!(units(&rules("both", r#", "side": "source""#)), (0, 0));
}

#[test]
fn a_sink_that_bills_nothing_has_no_estimate_and_one_that_allows_less_is_refused() {
    let asked = Asked {
        costs: &SinkCosts::new(),
        looks_up: true,
        parts_max: 2,
        searched: &BTreeMap::new(),
        is_plan: true,
    };
    let one = [planned(VerificationLevel::Standard)];
    assert_eq!(estimate(&standard_job(), run(), &one, &asked), None);
    let needed = 4 + 2 + PREPARED + LANES + COPIED + 40;
    for (max, is_refused) in [(needed, false), (needed - 1, true)] {
        let limited = SinkCost {
            units_max: Some(max),
            ..cost()
        };
        let estimate = of(
            &standard_job(),
            run(),
            planned(VerificationLevel::Standard),
            limited,
        );
        let error = beyond(&estimate);
        assert_eq!(error.is_some(), is_refused, "{max}");
        if let Some(error) = error {
            assert_eq!(error.code, "plan.over_quota");
            assert!(error.message.contains("of the sink"), "{}", error.message);
        }
    }
}
