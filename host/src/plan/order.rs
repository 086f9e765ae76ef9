//! The order of the planned collections: parents before children, and which of them must wait for others.
//!
//! Every reference sorts; only one that the sink holds writes to makes its child wait. A circle of such references is cut
//! open: some fields are written null at first and set in a second pass.

use std::collections::{BTreeSet, HashMap};

use whimbrel_plugin_api::capability::SinkCapabilities;
use whimbrel_plugin_api::sink::{PrepareReport, PreparedCollection};
use whimbrel_plugin_api::{ConflictPolicy, Finding};

use super::PlannedCollection;

/// Sorts so that collections come after those that they refer to, and otherwise stay as they were. In a circle one of it
/// goes first.
pub fn arrange(planned: &mut Vec<PlannedCollection>) {
    let parents = parents(planned);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); planned.len()];
    for (child, parents) in parents.iter().enumerate() {
        for parent in parents {
            children[*parent].push(child);
        }
    }
    let mut open: Vec<usize> = parents.iter().map(BTreeSet::len).collect();
    let mut left: BTreeSet<usize> = (0..planned.len()).collect();
    let mut ready: BTreeSet<usize> = left.iter().copied().filter(|at| open[*at] == 0).collect();
    let mut order = Vec::with_capacity(planned.len());
    while let Some(first) = left.first().copied() {
        let next = ready
            .pop_first()
            .unwrap_or_else(|| one_of_a_circle(first, &parents, &left));
        left.remove(&next);
        order.push(next);
        for child in &children[next] {
            open[*child] -= 1;
            if open[*child] == 0 && left.contains(child) {
                ready.insert(*child);
            }
        }
    }
    let mut by_number: Vec<Option<PlannedCollection>> = planned.drain(..).map(Some).collect();
    planned.extend(order.into_iter().filter_map(|number| by_number[number].take()));
}

/// The parents of each collection among the others.
fn parents(planned: &[PlannedCollection]) -> Vec<BTreeSet<usize>> {
    let numbers = numbers(planned);
    planned
        .iter()
        .enumerate()
        .map(|(child, collection)| {
            // Where a circle was cut nothing has to come before.
            let references = collection.sink.references.iter().filter(|reference| {
                let mut fields = reference.fields.iter();
                !fields.any(|field| collection.held_back.contains(field))
            });
            references
                .map(|reference| reference.collection.as_str())
                .chain(collection.waits_for.iter().map(String::as_str))
                .filter_map(|name| numbers.get(name).copied())
                .filter(|parent| *parent != child)
                .collect()
        })
        .collect()
}

fn numbers(planned: &[PlannedCollection]) -> HashMap<&str, usize> {
    let names = planned.iter().map(|collection| collection.sink.name.as_str());
    names.zip(0..).collect()
}

/// All that are left wait for one another: from `first` on to its parents leads into a circle.
fn one_of_a_circle(first: usize, parents: &[BTreeSet<usize>], left: &BTreeSet<usize>) -> usize {
    let (mut at, mut seen) = (first, BTreeSet::new());
    while seen.insert(at) {
        match parents[at].iter().find(|parent| left.contains(parent)) {
            Some(parent) => at = *parent,
            None => break,
        }
    }
    at
}

/// A reference that the sink holds every write to.
struct Edge {
    child: usize,
    parent: usize,
    /// Its fields that may be null for a while.
    fields: Vec<String>,
    /// What the reference is called in messages.
    text: String,
}

/// Takes from the sink's answer which references it enforces: what must wait for what, and which fields of circles are set
/// in a second pass. Returns what stands in the way of that.
pub fn settle_order(
    planned: &mut Vec<PlannedCollection>,
    report: &PrepareReport,
    sink: &SinkCapabilities,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let edges = edges(planned, report);
    let mut kept: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); planned.len()];
    let (firm, loose): (Vec<&Edge>, Vec<&Edge>) = edges.iter().partition(|edge| edge.fields.is_empty());
    for edge in firm {
        if leads_to(&kept, edge.parent, edge.child) {
            let name = &planned[edge.child].sink.name;
            findings.push(
                Finding::blocker(
                    "plan.cycle_not_null",
                    format!("{} closes a circle of references, and none of its fields may be null", edge.text),
                )
                .with_help("let one of the columns be null, or drop the constraint for the load and add it again afterwards")
                .with_collection(name),
            );
        } else {
            kept[edge.child].insert(edge.parent);
        }
    }
    if findings.is_empty() {
        for edge in loose {
            if leads_to(&kept, edge.parent, edge.child) {
                let held_back = &mut planned[edge.child].held_back;
                held_back.extend(edge.fields.iter().cloned());
                held_back.sort_unstable();
                held_back.dedup();
            } else {
                kept[edge.child].insert(edge.parent);
            }
        }
    }
    let names: Vec<String> = planned
        .iter()
        .map(|collection| collection.sink.name.clone())
        .collect();
    for (collection, parents) in planned.iter_mut().zip(&kept) {
        collection.waits_for = parents.iter().map(|parent| names[*parent].clone()).collect();
    }
    for collection in planned
        .iter()
        .filter(|collection| !collection.held_back.is_empty())
    {
        findings.extend(second_pass(
            collection,
            prepared(report, &collection.sink.name),
            sink,
        ));
    }
    arrange(planned);
    findings
}

fn prepared<'a>(report: &'a PrepareReport, name: &str) -> Option<&'a PreparedCollection> {
    report.collections.iter().find(|prepared| prepared.name == name)
}

/// The enforced references between planned collections; those of large collections first, so that circles are cut where
/// fewer records are written twice.
fn edges(planned: &[PlannedCollection], report: &PrepareReport) -> Vec<Edge> {
    let numbers = numbers(planned);
    let mut edges = Vec::new();
    for (child, collection) in planned.iter().enumerate() {
        let Some(prepared) = prepared(report, &collection.sink.name) else {
            continue;
        };
        let may_be_null = |field: &&String| {
            let schema = &collection.sink.schema;
            schema
                .index_of(field)
                .is_some_and(|at| schema.fields[at].nullable)
                && !prepared.required.contains(field)
                && !collection.sink.key.contains(field)
        };
        for reference in &prepared.enforced {
            let Some(parent) = numbers.get(reference.collection.as_str()) else {
                continue;
            };
            edges.push(Edge {
                child,
                parent: *parent,
                fields: reference.fields.iter().filter(may_be_null).cloned().collect(),
                text: format!(
                    "the reference `{}` of `{}` to `{}`",
                    reference.fields.join("`, `"),
                    collection.sink.name,
                    reference.collection
                ),
            });
        }
    }
    let size = |edge: &Edge| {
        planned[edge.child]
            .source
            .estimate
            .record_count
            .unwrap_or(u64::MAX)
    };
    edges.sort_by_key(|edge| std::cmp::Reverse(size(edge)));
    edges
}

/// Whether one comes to `to` when one goes from `from` to what it waits for, and so on.
fn leads_to(waits_for: &[BTreeSet<usize>], from: usize, to: usize) -> bool {
    let (mut waiting, mut seen) = (vec![from], BTreeSet::new());
    while let Some(at) = waiting.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) {
            waiting.extend(&waits_for[at]);
        }
    }
    false
}

/// What keeps a second pass from setting fields of `collection`.
fn second_pass(
    collection: &PlannedCollection,
    prepared: Option<&PreparedCollection>,
    sink: &SinkCapabilities,
) -> Option<Finding> {
    let name = &collection.sink.name;
    let fields = collection.held_back.join("`, `");
    let is_empty = prepared.is_none_or(|prepared| !prepared.existed || prepared.record_count == Some(0));
    let policy = collection.policy;
    let (message, help) = if collection.sink.key.is_empty() {
        (
            format!(
                "`{fields}` of `{name}` close a circle of references and must be set in a second pass, which needs a key"
            ),
            "name a key in the job (`key: [..]`), or drop the constraint for the load",
        )
    } else if second_pass_policy(sink).is_none() {
        (
            format!(
                "`{fields}` of `{name}` close a circle of references, and the sink cannot write a record a second time"
            ),
            "drop the constraint for the load and add it again afterwards",
        )
    } else if !is_empty && !matches!(policy, ConflictPolicy::Overwrite | ConflictPolicy::Merge) {
        (
            format!(
                "`{fields}` of `{name}` close a circle of references and must be set in a second pass, which `{}` does not allow in a collection that is not empty",
                super::policy_name(policy)
            ),
            "use `overwrite` or `merge`, empty the target, or drop the constraint for the load",
        )
    } else {
        return None;
    };
    Some(
        Finding::blocker("plan.cycle_policy", message)
            .with_help(help)
            .with_collection(name),
    )
}

/// How records are written a second time, if the sink can do that.
pub fn second_pass_policy(sink: &SinkCapabilities) -> Option<ConflictPolicy> {
    [ConflictPolicy::Merge, ConflictPolicy::Overwrite]
        .into_iter()
        .find(|policy| sink.policies.contains(policy))
}

/// The collections in the sink, those that refer to others before these; in a cycle as they come.
pub fn clearing_order(collections: &[PlannedCollection]) -> Vec<String> {
    let mut left: Vec<&PlannedCollection> = collections.iter().collect();
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let is_referred_to = |candidate: &PlannedCollection| {
            left.iter().any(|other| {
                other.sink.name != candidate.sink.name
                    && other
                        .sink
                        .references
                        .iter()
                        .map(|reference| &reference.collection)
                        .chain(&other.waits_for)
                        .any(|name| *name == candidate.sink.name)
            })
        };
        let next = left
            .iter()
            .position(|candidate| !is_referred_to(candidate))
            .unwrap_or(0);
        ordered.push(left.remove(next).sink.name.clone());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::collection::Reference;
    use whimbrel_plugin_api::{Collection, Field, RecordType, Schema};

    use super::*;
    use crate::config::VerificationLevel;

    /// `a -> b, c` as text: a collection with a nullable field for each that it refers to, `!` for one that is required.
    fn planned(texts: &[&str]) -> Vec<PlannedCollection> {
        let one = |text: &&str| {
            let (name, parents) = text.split_once(" -> ").unwrap_or((text, ""));
            let mut fields = vec![Field::required("id", RecordType::INT64)];
            let mut references = Vec::new();
            for parent in parents.split(", ").filter(|parent| !parent.is_empty()) {
                let to = parent.trim_end_matches('!');
                let field = format!("to_{to}");
                fields.push(match parent.ends_with('!') {
                    true => Field::required(&field, RecordType::INT64),
                    false => Field::new(&field, RecordType::INT64),
                });
                references.push(Reference {
                    fields: vec![field],
                    collection: to.to_owned(),
                    to_fields: vec!["id".to_owned()],
                    is_enforced: false,
                });
            }
            let mut collection = Collection::new(name, Schema::new(fields)).with_key(["id"]);
            collection.references = references;
            PlannedCollection {
                sink: collection.clone(),
                source: collection,
                transforms: [].into(),
                policy: ConflictPolicy::Overwrite,
                verification: VerificationLevel::Standard,
                limit: None,
                waits_for: Vec::new(),
                held_back: Vec::new(),
                left_out: Vec::new(),
            }
        };
        texts.iter().map(one).collect()
    }

    fn names(planned: &[PlannedCollection]) -> String {
        let names: Vec<&str> = planned.iter().map(|planned| planned.sink.name.as_str()).collect();
        names.join(" ")
    }

    fn sorted(texts: &[&str]) -> String {
        let mut planned = planned(texts);
        arrange(&mut planned);
        names(&planned)
    }

    /// A sink that enforces everything; its collections hold `record_count` records.
    fn report(planned: &[PlannedCollection], record_count: u64) -> PrepareReport {
        let prepared = |planned: &PlannedCollection| PreparedCollection {
            name: planned.sink.name.clone(),
            existed: true,
            record_count: Some(record_count),
            enforced: planned.sink.references.clone(),
            ..PreparedCollection::default()
        };
        PrepareReport {
            collections: planned.iter().map(prepared).collect(),
            ..PrepareReport::default()
        }
    }

    fn sink() -> SinkCapabilities {
        SinkCapabilities {
            policies: vec![
                ConflictPolicy::Skip,
                ConflictPolicy::Merge,
                ConflictPolicy::Overwrite,
            ],
            ..SinkCapabilities::default()
        }
    }

    fn codes(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.code.as_str()).collect()
    }

    #[test]
    fn parents_come_before_children_and_others_stay_as_they_were() {
        assert_eq!(sorted(&["z", "a", "m"]), "z a m");
        assert_eq!(
            sorted(&["flights -> planes, airports", "weather", "airports", "planes"]),
            "weather airports planes flights"
        );
        assert_eq!(sorted(&["c -> b", "b -> a", "a -> a"]), "a b c");
        // A child of a circle comes after it.
        assert_eq!(sorted(&["c -> b", "a -> b", "b -> a"]), "b c a");
        assert_eq!(sorted(&["c -> a, b", "a -> b", "b -> a"]), "a b c");
        assert_eq!(sorted(&["x -> gone"]), "x");
    }

    #[test]
    fn ten_thousand_collections_are_sorted_in_a_chain() {
        let texts: Vec<String> = (0..10_000)
            .map(|number| format!("c{number} -> c{}", number + 1))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut planned = planned(&texts);
        arrange(&mut planned);
        let first: Vec<&str> = planned
            .iter()
            .take(2)
            .map(|planned| planned.sink.name.as_str())
            .collect();
        assert_eq!(first, ["c9999", "c9998"]);
    }

    #[test]
    fn a_circle_is_cut_where_it_may_be_null_and_at_no_more_places_than_needed() {
        let mut circle = planned(&["a -> b!", "b -> c, a", "c -> a!", "d -> a, d!, b"]);
        // `d` refers to itself, and none of that may be null.
        let report_of = report(&circle, 0);
        let findings = settle_order(&mut circle, &report_of, &sink());
        assert_eq!(codes(&findings), ["plan.cycle_not_null"]);
        assert!(
            findings[0].message.contains("`to_d` of `d` to `d`"),
            "{}",
            findings[0].message
        );

        let mut circle = planned(&["a -> b!", "b -> c, a", "c -> a!", "d -> a, d, b"]);
        let report_of = report(&circle, 0);
        let findings = settle_order(&mut circle, &report_of, &sink());
        assert!(findings.is_empty(), "{findings:?}");
        let of = |name: &str| circle.iter().find(|planned| planned.sink.name == name).unwrap();
        assert_eq!(of("b").held_back, ["to_a", "to_c"]);
        assert_eq!(of("d").held_back, ["to_d"]);
        assert!(of("a").held_back.is_empty() && of("c").held_back.is_empty());
        assert_eq!(
            (of("a").waits_for.join(" "), of("c").waits_for.join(" ")),
            ("b".into(), "a".into())
        );
        assert!(of("b").waits_for.is_empty());
        assert_eq!(of("d").waits_for, ["a", "b"]);
        assert_eq!(circle.last().unwrap().sink.name, "d");
    }

    #[test]
    fn what_waits_never_waits_for_itself() {
        // Every graph of four collections with up to two references each, some required, from a seed.
        for seed in 0..2_000_u64 {
            let mut random = fastrand::Rng::with_seed(seed);
            let names = ["a", "b", "c", "d"];
            let texts: Vec<String> = names
                .iter()
                .map(|name| {
                    let mut parents: Vec<String> = names
                        .iter()
                        .filter_map(|parent| match random.u8(..12) {
                            0 => Some(format!("{parent}!")),
                            1..4 => Some((*parent).to_owned()),
                            _ => None,
                        })
                        .collect();
                    random.shuffle(&mut parents);
                    format!("{name} -> {}", parents.join(", "))
                })
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut all = planned(&texts);
            let report_of = report(&all, 0);
            if !settle_order(&mut all, &report_of, &sink()).is_empty() {
                continue;
            }
            let mut complete: Vec<&str> = Vec::new();
            for collection in &all {
                // In the order of the plan everything that is waited for is complete.
                let waits = &collection.waits_for;
                assert!(
                    waits.iter().all(|name| complete.contains(&name.as_str())),
                    "seed {seed}: {texts:?}"
                );
                for reference in &collection.sink.references {
                    let is_held = reference
                        .fields
                        .iter()
                        .all(|field| collection.held_back.contains(field));
                    assert!(
                        is_held || waits.contains(&reference.collection),
                        "seed {seed}: {texts:?}"
                    );
                }
                complete.push(&collection.sink.name);
            }
        }
    }

    #[test]
    fn a_second_pass_needs_a_key_a_sink_that_can_and_a_policy_that_allows_it() {
        let settled = |policy, record_count, key: &[&str], sink: &SinkCapabilities| {
            let mut own = planned(&["a -> a"]);
            own[0].policy = policy;
            own[0].sink.key = key.iter().map(|field| (*field).to_owned()).collect();
            let report_of = report(&own, record_count);
            let findings = settle_order(&mut own, &report_of, sink);
            codes(&findings).join(" ")
        };
        let refused = "plan.cycle_policy";
        assert_eq!(settled(ConflictPolicy::Overwrite, 5, &["id"], &sink()), "");
        assert_eq!(settled(ConflictPolicy::Merge, 5, &["id"], &sink()), "");
        assert_eq!(settled(ConflictPolicy::Skip, 0, &["id"], &sink()), "");
        assert_eq!(settled(ConflictPolicy::Skip, 5, &["id"], &sink()), refused);
        assert_eq!(settled(ConflictPolicy::KeepNewest, 5, &["id"], &sink()), refused);
        assert_eq!(settled(ConflictPolicy::Append, 0, &[], &sink()), refused);
        let append = SinkCapabilities {
            policies: vec![ConflictPolicy::Append],
            ..SinkCapabilities::default()
        };
        assert_eq!(settled(ConflictPolicy::Overwrite, 0, &["id"], &append), refused);
    }

    #[test]
    fn a_column_that_the_sink_requires_does_not_cut_a_circle() {
        let mut own = planned(&["a -> a"]);
        let mut report_of = report(&own, 0);
        report_of.collections[0].required = vec!["to_a".to_owned()];
        let findings = settle_order(&mut own, &report_of, &sink());
        assert_eq!(codes(&findings), ["plan.cycle_not_null"]);
        assert!(own[0].held_back.is_empty());
    }

    #[test]
    fn children_are_cleared_before_their_parents() {
        let all = planned(&["a", "b -> a", "c -> b"]);
        assert_eq!(clearing_order(&all), ["c", "b", "a"]);
    }
}
