//! What is missing or differs is read from the source again and written: how, in which order, by which policy, and what is left.
//! Neighbour: `tests`, which has the repairs that are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use whimbrel_plugin_api::ConflictPolicy;

use super::super::Agreed;
use super::super::at_fault::AtFault;
use super::memory::Records;
use super::{Scene, line, planned, with_extra};
use crate::events::{Event, Mismatch, MismatchKind};

/// 3,000 records, each with its predecessor as parent; a hundred are missing, a hundred differ, and a chain of ten is extra.
fn damaged() -> (Records, Records, String) {
    let source: Records = (1..=3_000).map(|id| (id, (id > 1).then_some(id - 1))).collect();
    let mut sink = source.clone();
    let mut lines = String::new();
    for number in 0..100 {
        let (missing, different) = (3_000 - number * 7, 5 + number * 11);
        sink.remove(&missing);
        lines.push_str(&line("missing", missing));
        sink.insert(different, None);
        lines.push_str(&line("different", different));
    }
    for id in 5_000..5_010 {
        sink.insert(id, Some(if id == 5_000 { 1 } else { id - 1 }));
        lines.push_str(&line("extra", id));
    }
    lines.push_str(&line("changed_since", 2));
    (source, sink, lines)
}

#[test]
fn what_is_missing_or_differs_is_copied_and_what_only_the_sink_has_is_removed() {
    for lookup in [true, false] {
        let (source, sink, lines) = damaged();
        let mut scene = Scene::new(source.clone(), sink);
        scene.able.0.lookup = lookup;
        let result = scene.listed(&lines);
        assert_eq!(
            (result.copied_count, result.removed_count),
            (200, 10),
            "{result:?}"
        );
        assert!(result.left.is_empty(), "{:?}", result.left);
        assert_eq!(scene.durable(), source);
        let asked = &scene.source.0.lock().unwrap().1;
        assert_eq!(asked.scans == 0, lookup);
        assert_eq!(asked.lookups > 0, lookup);
    }
}

#[test]
fn each_transaction_is_told_with_what_was_healed_until_then() {
    let (source, sink, lines) = damaged();
    let scene = Scene::new(source, sink);
    scene.listed(&lines);
    let told = String::from_utf8(scene.told.0.lock().unwrap().clone()).unwrap();
    let sums: Vec<u64> = told
        .lines()
        .map(|line| match serde_json::from_str(line).unwrap() {
            Event::Progress {
                collection,
                written_count,
                ..
            } if collection == "c" => written_count,
            other => panic!("{other:?}"),
        })
        .collect();
    let commits = scene.sink.0.lock().unwrap().commits;
    assert_eq!(
        (sums.len() as u64, sums.last()),
        (commits, Some(&210)),
        "{sums:?}"
    );
    assert!(sums.is_sorted(), "{sums:?}");
}

#[test]
fn records_that_refer_to_later_ones_are_tried_again() {
    // Each is listed before its parent.
    let source: Records = (1..=4).map(|id| (id, (id < 4).then_some(id + 1))).collect();
    let scene = Scene::new(source.clone(), Records::new());
    let lines: String = (1..=4).map(|id| line("missing", id)).collect();
    let result = scene.listed(&lines);
    assert_eq!((result.copied_count, result.left.len()), (4, 0), "{result:?}");
    assert_eq!(scene.durable(), source);
}

#[test]
fn what_the_source_has_now_counts() {
    // 1 was removed from the source since, 2 was added to it.
    let scene = Scene::new(
        Records::from([(2, None)]),
        Records::from([(1, Some(7)), (2, None)]),
    );
    let result = scene.listed(&(line("different", 1) + &line("extra", 2)));
    assert_eq!((result.copied_count, result.removed_count), (0, 0));
    let left: Vec<&str> = result.left.iter().map(|(record, _)| record.as_str()).collect();
    assert_eq!(left, ["id=1"]);
    assert_eq!(scene.durable().len(), 2);
}

#[test]
fn what_cannot_be_healed_is_said() {
    let orphan = Records::from([(1, Some(9))]);
    let scene = Scene::new(orphan, Records::from([(5, None)]));
    let lines = line("missing", 1)
        + "{\"kind\":\"unreadable\",\"record\":\"id=3\"}\n"
        + "{\"kind\":\"missing\",\"record\":\"id=4\",\"key\":{\"id\":\"four\"}}\n";
    let left = scene.listed(&lines).left;
    let left: BTreeMap<&str, &str> = left
        .iter()
        .map(|(what, why)| (what.as_str(), why.as_str()))
        .collect();
    assert_eq!(left["id=1"], "its parent is not there (a.orphan)");
    assert_eq!(left["id=3"], "its key is not known");
    assert!(left["id=4"].contains("the source does not have it"), "{left:?}");

    let mut scene = scene;
    scene.able.1.remove = false;
    let left = scene.listed(&line("extra", 5)).left;
    assert_eq!(left.len(), 1);
    assert!(
        left[0].0.ends_with(": 1") && left[0].1.contains("removes no single records"),
        "{left:?}"
    );
    scene.able.1.upsert = false;
    let left = scene.listed(&line("missing", 1)).left;
    assert!(left[0].1.contains("replaces no records"), "{left:?}");

    scene.planned.sink.key.clear();
    let left = scene.listed(&line("missing", 1)).left;
    assert!(left[0].1.contains("no key"), "{left:?}");
    let nowhere = Path::new("nowhere");
    scene.planned = planned();
    let left = scene.repair(nowhere, &scene.found(None)).left;
    assert!(left[0].1.contains("not listed"), "{left:?}");
    assert_eq!(scene.durable(), Records::from([(5, None)]), "nothing was written");
    assert_eq!(scene.sink.0.lock().unwrap().commits, 0);
}

#[test]
fn a_list_that_no_comparison_wrote_is_refused_without_its_content() {
    let scene = Scene::new(Records::new(), Records::new());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.ndjson"), "{\"kind\":\"secret\"\n").unwrap();
    let collection = &scene.planned.sink;
    let mut at_fault = AtFault::at(&folder.path().join("c.ndjson"), collection).unwrap();
    let error = at_fault.next(10, |_| true).unwrap_err();
    assert_eq!(error.code, "verification.bad_results");
    assert!(!error.message.contains("secret"), "{}", error.message);
}

#[test]
fn records_are_healed_by_the_policy_of_the_job() {
    for (policy, written_by, healed) in [
        ("overwrite", "overwrite", (2, 1)),
        ("fail", "overwrite", (2, 1)),
        ("merge", "merge", (2, 1)),
        ("skip", "skip", (1, 0)),
        ("keep-newest", "skip", (1, 0)),
        ("keep-oldest", "skip", (1, 0)),
    ] {
        let source: Records = (1..=30).map(|id| (id, None)).collect();
        let mut sink = source.clone();
        sink.remove(&1);
        sink.insert(2, Some(3));
        sink.insert(99, None);
        let mut scene = Scene::new(source, sink);
        scene.on_conflict = policy;
        let lines = line("missing", 1) + &line("different", 2) + &line("extra", 99);
        let result = scene.listed(&lines);
        let counts = (result.copied_count, result.removed_count);
        assert_eq!(counts, healed, "{policy}: {result:?}");
        let used = scene.sink.0.lock().unwrap().policies.clone();
        assert_eq!(used, BTreeSet::from([written_by]), "{policy}");
        let keeps = healed == (1, 0);
        assert_eq!(scene.durable()[&2], keeps.then_some(3), "{policy}");
        assert_eq!(scene.durable().contains_key(&99), keeps, "{policy}");
        let left: Vec<&str> = result.left.iter().map(|(what, _)| what.as_str()).collect();
        let expected: &[&str] = match keeps {
            true => &["records that differ: 1", "records that only the sink has: 1"],
            false => &[],
        };
        assert_eq!(left, expected, "{policy}");
        let names_it = |(_, why): &(String, String)| why.contains(&format!("`on_conflict: {policy}`"));
        assert!(result.left.iter().all(names_it), "{result:?}");
    }
    // A sink without such a policy gets what is missing all the same.
    let mut scene = Scene::new(Records::from([(1, None)]), Records::new());
    scene.on_conflict = "skip";
    scene.able.1.policies = vec![ConflictPolicy::Overwrite];
    assert_eq!(scene.listed(&line("missing", 1)).copied_count, 1);
}

#[test]
fn no_more_is_done_than_was_agreed_to() {
    let agreed = |copied_count, removed_count| {
        let agreed = Agreed {
            copied_count,
            removed_count,
        };
        Some(BTreeMap::from([("c".to_owned(), agreed)]))
    };
    let repaired = |agreed| {
        let (mut scene, lines) = with_extra(3);
        scene.sink.0.lock().unwrap().durable.remove(&1);
        scene.agreed = agreed;
        scene.listed(&(lines + &line("missing", 1)))
    };
    let result = repaired(agreed(1, 3));
    assert_eq!((result.copied_count, result.removed_count), (1, 3), "{result:?}");
    let result = repaired(agreed(1, 2));
    assert_eq!((result.copied_count, result.removed_count), (1, 0), "{result:?}");
    let why = &result.left[0].1;
    assert!(why.contains("3 would be removed, and 2 were agreed to"), "{why}");
    for none in [agreed(0, 3), Some(BTreeMap::new())] {
        let result = repaired(none);
        assert_eq!((result.copied_count, result.removed_count), (0, 0), "{result:?}");
        assert!(result.left[0].1.contains("0 were agreed to"), "{result:?}");
    }
}

#[test]
fn a_repair_that_ends_in_the_middle_says_what_it_has_done() {
    let source: Records = (1..=1_200).map(|id| (id, None)).collect();
    let lines: String = source.keys().map(|id| line("missing", *id)).collect();
    let scene = Scene::new(source, Records::new());
    scene.sink.0.lock().unwrap().fails_at = Some(2);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.ndjson"), lines).unwrap();
    let repaired = scene.repaired(folder.path(), &scene.found(Some("c.ndjson")));
    assert_eq!(repaired.failure.unwrap().error.code, "a.closed");
    assert_eq!(repaired.results[0].copied_count, 1_000);
    assert_eq!(scene.durable().len(), 1_000);
}

#[test]
fn a_sink_without_the_collection_and_one_that_holds_it_otherwise_are_told_apart() {
    let scene = Scene::new(Records::from([(1, None)]), Records::new());
    let mut found = scene.found(None);
    let mismatch = |record: &str, fields: &[&str]| Mismatch {
        kind: MismatchKind::Schema,
        record: record.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        values: Vec::new(),
    };
    found.mismatches = vec![mismatch("the sink has no collection `c`", &[])];
    let left = scene.repair(Path::new("nowhere"), &found).left;
    assert!(
        left[0].1.contains("`whimbrel run` makes and fills it"),
        "{left:?}"
    );
    found.mismatches = vec![mismatch("the sink lacks fields", &["a", "b"])];
    let left = scene.repair(Path::new("nowhere"), &found).left;
    let expected = ("c".to_owned(), "the sink lacks fields: `a`, `b`".to_owned());
    assert_eq!(left, [expected]);
}
