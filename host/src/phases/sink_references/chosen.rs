//! Which references of the sink are looked at, and of which the comparison with the source says enough.
//! Not here: the looking itself, in [`super`].

use std::collections::BTreeMap;

use super::super::references::{NOT_WANTED, SAMPLE_ONLY, cannot_compare};
use super::SinkSearch;
use crate::config::VerificationLevel;
use crate::events::{Comparison, ReferenceResult, ReferenceState};
use crate::plan::PlannedCollection;
use crate::verification::compare::EVERY_RECORD_MAX;
use crate::verification::orphans::{self, Sought};

/// Why a reference was not looked at in the sink, of which the numbers are those of the source.
const AS_IN_SOURCE: &str = "as the source had it before the copy; the sink itself was not searched";

/// How often the search reads each collection of the sink, by its name there, if all records turn out to be equal. `known` is what
/// was found of the references in the source.
pub fn readings(
    collections: &[PlannedCollection],
    is_wanted: bool,
    known: &[ReferenceResult],
) -> BTreeMap<String, u64> {
    let (_, mut sought) = references(collections, is_wanted, &|_| false);
    let compares_all = |number: usize| {
        let planned = &collections[number];
        let count = planned.expected_count();
        match planned.verification {
            VerificationLevel::Comprehensive => true,
            VerificationLevel::Standard => count.is_some_and(|count| count <= EVERY_RECORD_MAX),
            VerificationLevel::Basic | VerificationLevel::None => false,
        }
    };
    sought.retain(|(_, of)| {
        let is_known = told_of_source(collections, known, of).is_some();
        !(is_known && compares_all(of.child) && compares_all(of.parent))
    });
    let sought: Vec<Sought> = sought.into_iter().map(|(_, of)| of).collect();
    let by_number = orphans::readings(&sought).into_iter();
    by_number
        .map(|(number, times)| (collections[number].sink.name.clone(), times))
        .collect()
}

/// All references between collections that are verified at `standard` or above, and those of them that are to be looked at, each with its
/// place among them.
pub(super) fn references(
    collections: &[PlannedCollection],
    is_wanted: bool,
    is_enforced: &dyn Fn(&ReferenceResult) -> bool,
) -> (Vec<ReferenceResult>, Vec<(usize, Sought)>) {
    let mut results = Vec::new();
    let mut sought = Vec::new();
    for (child, planned) in collections.iter().enumerate() {
        if matches!(
            planned.verification,
            VerificationLevel::None | VerificationLevel::Basic
        ) {
            continue;
        }
        for reference in &planned.sink.references {
            let is_parent = |parent: &PlannedCollection| parent.sink.name == reference.collection;
            let Some(parent) = collections.iter().position(is_parent) else {
                continue;
            };
            let mut result = ReferenceResult {
                collection: planned.sink.name.clone(),
                fields: reference.fields.clone(),
                parent: reference.collection.clone(),
                to_fields: reference.to_fields.clone(),
                state: ReferenceState::Searched,
                ..ReferenceResult::default()
            };
            if is_enforced(&result) {
                result.state = ReferenceState::Guaranteed;
            } else if let Some(reason) = why_not(is_wanted, planned, &collections[parent], &result) {
                result.state = ReferenceState::Skipped;
                result.reason = Some(reason);
            } else {
                let of = Sought {
                    child,
                    fields: reference.fields.clone(),
                    parent,
                    to_fields: reference.to_fields.clone(),
                };
                sought.push((results.len(), of));
            }
            results.push(result);
        }
    }
    (results, sought)
}

/// What was found of the reference in the source, in the names of the sink, if the sink need not be searched for it: each record of
/// both collections is there and equal. Only where the sink bills what is read; elsewhere it is looked at itself.
///
/// It is no search of the sink and says so. The source was searched at another time than it was copied and compared: what it has
/// removed in between may be missing in both sides alike.
pub(super) fn taken_over(search: &SinkSearch<'_>, of: &Sought) -> Option<ReferenceResult> {
    let known = equal_to_source(search, of)?;
    Some(ReferenceResult {
        collection: search.collections[of.child].sink.name.clone(),
        parent: search.collections[of.parent].sink.name.clone(),
        state: ReferenceState::Skipped,
        reason: Some(AS_IN_SOURCE.to_owned()),
        ..known.clone()
    })
}

fn equal_to_source<'a>(search: &SinkSearch<'a>, of: &Sought) -> Option<&'a ReferenceResult> {
    let is_equal = |number: usize| {
        let name = &search.collections[number].sink.name;
        let result = search.compared.iter().find(|result| result.sink == *name);
        search.billed.contains(name)
            && result.is_some_and(|result| {
                result.comparison == Comparison::Equal
                    && result.every_record
                    && result.left_out_count == 0
                    && result.sink_count == result.source_count
            })
    };
    let known = told_of_source(search.collections, search.known, of)?;
    (is_equal(of.child) && is_equal(of.parent)).then_some(known)
}

/// What was found of the reference in the source, if its records were looked at there and nothing that the sink loses can change
/// which of them point to nothing.
fn told_of_source<'a>(
    collections: &[PlannedCollection],
    known: &'a [ReferenceResult],
    of: &Sought,
) -> Option<&'a ReferenceResult> {
    let is_lossy = |number: usize, fields: &[String]| {
        let losses = &collections[number].sink.losses;
        losses.iter().any(|loss| fields.contains(&loss.field))
    };
    let is_looked_at = |known: &&ReferenceResult| known.state != ReferenceState::Skipped;
    in_source(collections, known, of)
        .filter(is_looked_at)
        .filter(|_| !is_lossy(of.child, &of.fields) && !is_lossy(of.parent, &of.to_fields))
}

/// What was found of this reference in the source.
pub(super) fn in_source<'a>(
    collections: &[PlannedCollection],
    known: &'a [ReferenceResult],
    of: &Sought,
) -> Option<&'a ReferenceResult> {
    let (child, parent) = (&collections[of.child], &collections[of.parent]);
    known.iter().find(|known| {
        known.collection == child.source.name
            && known.parent == parent.source.name
            && known.fields == of.fields
            && known.to_fields == of.to_fields
    })
}

fn why_not(
    is_wanted: bool,
    child: &PlannedCollection,
    parent: &PlannedCollection,
    result: &ReferenceResult,
) -> Option<String> {
    if !is_wanted {
        return Some(NOT_WANTED.to_owned());
    }
    if child.limit.is_some() || parent.limit.is_some() {
        return Some(SAMPLE_ONLY.to_owned());
    }
    cannot_compare(child, parent, result)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use whimbrel_plugin_api::capability::Loss;
    use whimbrel_plugin_api::collection::{FieldLoss, Reference};
    use whimbrel_plugin_api::{Collection, ConflictPolicy, Field, RecordType, Schema};

    use super::*;
    use crate::control::Stop;
    use crate::events::{Emitter, Orphan, VerificationResult};
    use crate::transform::Transforms;

    fn planned(name: &str, parent: Option<&str>) -> PlannedCollection {
        let fields = ["id", "up"].map(|name| Field::new(name, RecordType::Text));
        let mut source = Collection::new(name, Schema::new(fields.into()))
            .with_key(["id"])
            .with_record_count(100);
        source.references = parent
            .map(|parent| Reference {
                fields: vec!["up".to_owned()],
                collection: parent.to_owned(),
                to_fields: vec!["id".to_owned()],
                is_enforced: false,
            })
            .into_iter()
            .collect();
        PlannedCollection {
            sink: source.clone(),
            source,
            transforms: Arc::default(),
            policy: ConflictPolicy::Overwrite,
            verification: VerificationLevel::Standard,
            limit: None,
            waits_for: Vec::new(),
            held_back: Vec::new(),
            left_out: Vec::new(),
        }
    }

    fn tree() -> [PlannedCollection; 3] {
        [
            planned("a", None),
            planned("b", Some("a")),
            planned("c", Some("b")),
        ]
    }

    fn known(collections: &[PlannedCollection], state: ReferenceState) -> Vec<ReferenceResult> {
        let (results, _) = references(collections, true, &|_| false);
        let with_state = |result| ReferenceResult { state, ..result };
        results.into_iter().map(with_state).collect()
    }

    fn times(readings: &BTreeMap<String, u64>) -> [u64; 3] {
        ["a", "b", "c"].map(|name| readings.get(name).copied().unwrap_or(0))
    }

    #[test]
    fn what_was_looked_at_in_the_source_is_not_read_again_if_all_records_are_compared() {
        let tree = tree();
        assert_eq!(times(&readings(&tree, true, &[])), [1, 2, 1]);
        assert_eq!(times(&readings(&tree, false, &[])), [0, 0, 0]);
        for (state, wanted) in [
            (ReferenceState::Searched, [0, 0, 0]),
            (ReferenceState::Guaranteed, [0, 0, 0]),
            (ReferenceState::Skipped, [1, 2, 1]),
        ] {
            let known = known(&tree, state);
            assert_eq!(times(&readings(&tree, true, &known)), wanted, "{state:?}");
        }
    }

    #[test]
    fn a_sample_a_lower_level_and_a_loss_on_the_way_leave_it_to_the_search() {
        let known = known(&tree(), ReferenceState::Searched);
        let mut large = tree();
        large[2].source.estimate.record_count = Some(EVERY_RECORD_MAX + 1);
        assert_eq!(times(&readings(&large, true, &known)), [0, 1, 1]);
        large[2].verification = VerificationLevel::Comprehensive;
        assert_eq!(times(&readings(&large, true, &known)), [0, 0, 0]);
        let mut lossy = tree();
        lossy[0].sink.losses = vec![FieldLoss {
            field: "id".to_owned(),
            loss: Loss::AbsentToNull,
        }];
        assert_eq!(times(&readings(&lossy, true, &known)), [1, 1, 0]);
        let mut lower = tree();
        lower[2].verification = VerificationLevel::Basic;
        assert_eq!(times(&readings(&lower, true, &[])), [1, 1, 0]);
        lower[1].limit = Some(10);
        assert_eq!(times(&readings(&lower, true, &[])), [0, 0, 0]);
    }

    /// What is taken over of the reference from `b` to `a` if its collections compare as `compared`.
    fn taken_of_b(known: &ReferenceResult, compared: &[VerificationResult]) -> Option<ReferenceResult> {
        let mut tree = tree();
        for planned in &mut tree {
            planned.sink.name = format!("{}_copy", planned.source.name);
        }
        let search = SinkSearch {
            collections: &tree,
            described: &BTreeMap::new(),
            billed: &BTreeSet::from(["a_copy".to_owned(), "b_copy".to_owned()]),
            compared,
            known: std::slice::from_ref(known),
            is_wanted: true,
            transforms: &Transforms::default(),
            emitter: &Emitter::new(Box::new(std::io::sink())),
            stop: &Stop::default(),
        };
        let of = Sought {
            child: 1,
            fields: vec!["up".to_owned()],
            parent: 0,
            to_fields: vec!["id".to_owned()],
        };
        taken_over(&search, &of)
    }

    #[test]
    fn what_is_taken_over_from_the_source_is_called_no_search_of_the_sink() {
        let equal = |name: &str| VerificationResult {
            comparison: Comparison::Equal,
            every_record: true,
            source_count: 100,
            sink_count: 100,
            ..VerificationResult::begun(name, &format!("{name}_copy"), VerificationLevel::Standard)
        };
        for state in [ReferenceState::Searched, ReferenceState::Guaranteed] {
            let known = ReferenceResult {
                record_count: 100,
                orphan_count: 1,
                orphans: vec![Orphan::default()],
                ..known(&tree(), state).remove(0)
            };
            let taken = taken_of_b(&known, &[equal("a"), equal("b")]).unwrap();
            assert_eq!(
                taken,
                ReferenceResult {
                    collection: "b_copy".to_owned(),
                    parent: "a_copy".to_owned(),
                    state: ReferenceState::Skipped,
                    reason: Some(AS_IN_SOURCE.to_owned()),
                    ..known.clone()
                }
            );
            let mut differing = equal("a");
            differing.comparison = Comparison::Different;
            assert_eq!(taken_of_b(&known, &[differing, equal("b")]), None);
            assert_eq!(taken_of_b(&known, &[equal("b")]), None);
        }
    }
}
