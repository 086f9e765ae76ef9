//! What a repair replaces or removes is kept as the sink had it, also what cannot be read and what nobody has described.
//! Neighbour: `tests`, which has the repairs that are looked at.

use std::collections::BTreeMap;

use super::memory::Records;
use super::{Scene, line, with_extra};

#[test]
fn what_is_replaced_or_removed_is_kept_as_the_sink_had_it() {
    for looks_up in [true, false] {
        let source = Records::from([(1, None), (2, None), (3, None), (4, None), (5, None)]);
        // 3 is missing by now, but was put there again by somebody.
        let sink = Records::from([(1, None), (2, Some(1)), (3, Some(1)), (5, None), (8, Some(1))]);
        let mut scene = Scene::new(source, sink);
        scene.sink_looks_up = looks_up;
        let lines = line("different", 2)
            + &line("missing", 3)
            + &line("missing", 4)
            + &line("changed_since", 5)
            + &line("extra", 8);
        let kept = scene.kept(&lines);
        let expected = [2, 3, 8].map(|id| format!("{{\"id\":{id},\"parent\":1}}"));
        assert_eq!(kept, expected, "{looks_up}");
    }
    // What stays need not be kept.
    let (mut scene, lines) = with_extra(3);
    scene.source_unreadable_count = 1;
    assert_eq!(scene.kept(&lines), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_kept_as_the_sink_gives_it_or_not_touched() {
    for looks_up in [true, false] {
        let source: Records = (1..=9).map(|id| (id, None)).collect();
        let mut sink: Records = source.keys().map(|id| (*id, Some(1))).collect();
        sink.remove(&9);
        let mut scene = Scene::new(source, sink);
        scene.sink_looks_up = looks_up;
        let spoil = |id: i64, data: Option<&str>| (id, data.map(str::to_owned));
        scene.sink.0.lock().unwrap().spoilt = BTreeMap::from([
            spoil(2, Some("{\"id\":2,\"parent\":\"x\"}")),
            spoil(3, Some("no JSON")),
        ]);
        let lines =
            line("different", 1) + &line("unreadable", 2) + &line("unreadable", 3) + &line("missing", 9);
        let expected = [
            "{\"id\":1,\"parent\":1}",
            "{\"record\":\"x\",\"data\":\"no JSON\"}",
            "{\"record\":\"x\",\"data\":{\"id\":2,\"parent\":\"x\"}}",
        ];
        assert_eq!(scene.kept(&lines), expected, "{looks_up}");
        assert_eq!(scene.durable()[&2], None, "{looks_up}");
        // Nothing is given of these.
        let mut store = scene.sink.0.lock().unwrap();
        store.durable.extend([(4, Some(1)), (5, Some(1))]);
        store.spoilt = BTreeMap::from([spoil(4, None), spoil(5, None)]);
        drop(store);
        let lines = line("different", 6) + &line("unreadable", 4) + &line("extra", 5);
        let result = scene.listed(&lines);
        assert_eq!((result.copied_count, result.removed_count), (1, 0), "{result:?}");
        let left: Vec<&str> = result.left.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(left, ["id=4", "id=5"], "{looks_up}");
        assert!(result.left[0].1.contains("could not be kept"), "{result:?}");
        let stored = scene.durable();
        assert_eq!((stored[&4], stored[&5]), (Some(1), Some(1)), "{looks_up}");
    }
}

#[test]
fn fields_that_the_sink_does_not_describe_are_kept_too() {
    for is_described in [true, false] {
        let scene = Scene::new(Records::from([(2, None)]), Records::from([(2, Some(1))]));
        let mut store = scene.sink.0.lock().unwrap();
        store.has_more = true;
        store.is_undescribed = !is_described;
        drop(store);
        let whole = "{\"id\":2,\"parent\":1,\"mine\":\"a\"}";
        assert_eq!(scene.kept(&line("different", 2)), [whole], "{is_described}");
    }
}
