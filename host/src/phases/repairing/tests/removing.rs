//! Records that only the sink has are removed, unless something speaks for it that the source does not show all that it has.
//! Neighbour: `tests`, which has the repairs that are looked at.

use whimbrel_plugin_api::capability::Loss;
use whimbrel_plugin_api::collection::FieldLoss;

use super::memory::Records;
use super::{Scene, line, with_extra};

/// That nothing is removed by a repair, and the reason that is given.
fn stays(scene: &Scene, lines: &str) -> String {
    let before = scene.durable();
    let result = scene.listed(lines);
    assert_eq!(result.removed_count, 0, "{result:?}");
    assert_eq!(scene.durable(), before);
    assert_eq!(result.left.len(), 1, "{result:?}");
    let (what, why) = result.left[0].clone();
    let count = lines.lines().count();
    assert_eq!(what, format!("records that only the sink has: {count}"));
    why
}

#[test]
fn what_a_source_cannot_deliver_is_not_removed_from_the_sink() {
    let (mut scene, lines) = with_extra(3);
    scene.source_unreadable_count = 2;
    scene.removes_most = true;
    let why = stays(&scene, &lines);
    assert!(
        why.starts_with("the source has 2 records that cannot be read"),
        "{why}"
    );
    scene.source_unreadable_count = 0;
    assert_eq!(scene.listed(&lines).removed_count, 3);
}

#[test]
fn a_source_without_records_empties_no_sink_unless_that_is_wanted() {
    let (mut scene, lines) = with_extra(3);
    scene.source.0.lock().unwrap().0.clear();
    let why = stays(&scene, &lines);
    assert!(
        why.contains("no records") && why.contains("`--remove-most`"),
        "{why}"
    );
    scene.removes_most = true;
    assert_eq!(scene.listed(&lines).removed_count, 3);
}

#[test]
fn most_of_a_collection_is_not_removed_unless_that_is_wanted() {
    // 30 of 60 are half of them.
    let (scene, lines) = with_extra(30);
    assert_eq!(scene.listed(&lines).removed_count, 30);
    let (mut scene, lines) = with_extra(31);
    let why = stays(&scene, &lines);
    assert!(
        why.contains("more than half of the 61 records") && why.contains("`--remove-most`"),
        "{why}"
    );
    scene.removes_most = true;
    assert_eq!(scene.listed(&lines).removed_count, 31);
    // Of few records nothing is said.
    let few = Scene::new(
        Records::from([(1, None)]),
        (1..=11).map(|id| (id, None)).collect(),
    );
    let lines: String = (2..=11).map(|id| line("extra", id)).collect();
    assert_eq!(few.listed(&lines).removed_count, 10);
}

/// In each of the three ways in which records are found in the source.
fn in_each_way(scene: &mut Scene, each: &mut dyn FnMut(&Scene)) {
    each(scene);
    scene.planned.sink.losses.push(FieldLoss {
        field: "id".into(),
        loss: Loss::AbsentToNull,
    });
    each(scene);
    scene.able.0.lookup = false;
    each(scene);
}

#[test]
fn a_source_that_cannot_say_by_now_what_it_has_removes_nothing() {
    let (mut scene, lines) = with_extra(3);
    scene.source.0.lock().unwrap().1.rejects = true;
    in_each_way(&mut scene, &mut |scene| {
        let result = scene.listed(&lines);
        assert_eq!((result.removed_count, result.left.len()), (0, 3), "{result:?}");
        assert!(result.left[0].1.contains("cannot say by now"), "{result:?}");
    });
}

#[test]
fn what_was_added_to_the_source_meanwhile_stays_in_the_sink_however_it_is_found() {
    let (mut scene, lines) = with_extra(3);
    scene.source.0.lock().unwrap().0.insert(101, None);
    in_each_way(&mut scene, &mut |scene| {
        let extra = [(100, None), (101, None), (102, None)];
        scene.sink.0.lock().unwrap().durable.extend(extra);
        let result = scene.listed(&lines);
        assert_eq!((result.removed_count, result.left.len()), (2, 0), "{result:?}");
        assert!(scene.durable().contains_key(&101), "{:?}", scene.durable());
    });
}

#[test]
fn what_a_source_may_hide_is_not_removed_from_the_sink() {
    let (mut scene, lines) = with_extra(3);
    scene.planned.source.hides_records = true;
    scene.removes_most = true;
    let why = stays(&scene, &lines);
    assert!(why.contains("the source hides records"), "{why}");
}
