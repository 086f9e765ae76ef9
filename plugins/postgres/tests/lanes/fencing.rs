//! What a commit leaves behind: the records and the checkpoint, or neither. Also for hosts that take nothing over.
//! Neighbours: `granting` for who gets a lane, `losing_answers` for commits without an answer.

use std::collections::BTreeMap;

use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneState};
use whimbrel_plugin_api::{Cursor, ErrorScope, Sink as _};

use crate::lanes_place::{IDS, begin, checkpoint, claim, each, held, lane, request, take_over, transact};

const NOTHING: [&str; 0] = [];

#[test]
fn a_commit_of_an_older_epoch_leaves_no_record() {
    each(|place| {
        let mut old = place.prepared();
        let state = take_over(&mut old, &claim(&lane("pairs"))).unwrap();
        assert_eq!(
            transact(&mut old, &[1], &checkpoint(&state, "one", 1)),
            Committed::Committed { seq: 1 }
        );
        let state = LaneState { seq: 1, ..state };
        let now = take_over(&mut place.sink(), &claim(&state.lane)).unwrap();
        assert_eq!(
            (now.epoch, now.seq, now.cursor.clone()),
            (2, 1, Cursor(b"one".to_vec()))
        );
        for epoch in [0, 1, 3, u64::MAX] {
            let stale = Checkpoint {
                epoch,
                ..checkpoint(&state, "two", 1)
            };
            assert_eq!(transact(&mut old, &[2], &stale), Committed::Fenced, "{epoch}");
            assert_eq!(place.lines(IDS), ["1"]);
        }
        // Nothing of that has moved the lane, and the session is of use to whoever has it.
        assert_eq!(
            transact(&mut old, &[3], &checkpoint(&now, "three", 1)),
            Committed::Committed { seq: 2 }
        );
        assert_eq!(place.lines(IDS), ["1", "3"]);
    });
}

#[test]
fn a_commit_with_another_number_leaves_no_record() {
    each(|place| {
        let mut sink = place.prepared();
        let mut state = take_over(&mut sink, &claim(&lane("pairs"))).unwrap();
        for id in [1, 2] {
            let next = checkpoint(&state, "x", 1);
            state = state.committed(&next).unwrap();
            assert_eq!(
                transact(&mut sink, &[id], &next),
                Committed::Committed { seq: state.seq }
            );
        }
        for seq in [0, 1, 3, u64::MAX] {
            let other = Checkpoint {
                seq,
                ..checkpoint(&state, "y", 1)
            };
            assert_eq!(transact(&mut sink, &[9], &other), Committed::Fenced, "{seq}");
        }
        assert_eq!(place.lines(IDS), ["1", "2"]);
        let kept = take_over(&mut sink, &held(&state)).unwrap();
        assert_eq!(kept, LaneState { epoch: 2, ..state });
    });
}

#[test]
fn a_checkpoint_is_durable_without_records_and_whatever_its_size() {
    each(|place| {
        let mut sink = place.sink();
        let state = take_over(&mut sink, &claim(&lane("pairs"))).unwrap();
        let large: Vec<u8> = (0..=255).cycle().take(2 * 1024 * 1024).collect();
        let next = Checkpoint {
            cursor: Cursor(large),
            done: true,
            extensions: BTreeMap::from([("digest".to_owned(), "d".repeat(100_000))]),
            ..checkpoint(&state, "", 7)
        };
        assert_eq!(transact(&mut sink, &[], &next), Committed::Committed { seq: 1 });
        drop(sink);
        let wanted = LaneState {
            epoch: 2,
            ..state.committed(&next).unwrap()
        };
        assert_eq!(take_over(&mut place.sink(), &held(&state)).unwrap(), wanted);
    });
}

#[test]
fn a_transaction_that_is_undone_leaves_the_lane_as_it_was() {
    each(|place| {
        let mut sink = place.prepared();
        let state = take_over(&mut sink, &claim(&lane("pairs"))).unwrap();
        begin(&mut sink, &state.lane, &[1]);
        sink.abort().unwrap();
        begin(&mut sink, &state.lane, &[2]);
        assert_eq!(
            sink.take_over(&[held(&state)]).unwrap_err().scope,
            ErrorScope::Write
        );
        assert_eq!(
            sink.commit(&checkpoint(&state, "x", 1)).unwrap(),
            Committed::Committed { seq: 1 }
        );
        assert_eq!(place.lines(IDS), ["2"]);
    });
}

#[test]
fn a_host_that_takes_nothing_over_writes_unless_somebody_else_has() {
    each(|place| {
        let mut old = place.prepared();
        let unknown = LaneState {
            seq: 41,
            ..LaneState::unknown(lane("pairs"))
        };
        let next = checkpoint(&unknown, "x", 1);
        assert_eq!(transact(&mut old, &[1], &next), Committed::Committed { seq: 42 });
        assert_eq!(
            place.lines("SELECT 1 FROM pg_namespace WHERE nspname = 'whimbrel'"),
            NOTHING
        );
        let other = take_over(&mut place.sink(), &claim(&lane("others"))).unwrap();
        assert_eq!(transact(&mut old, &[2], &next), Committed::Committed { seq: 42 });
        let porter =
            place.with(json!({ "url": format!("{}?sslmode=disable", place.database.password_url()) }));
        place.execute("GRANT ALL ON pairs TO porter");
        let mut stranger = porter.prepared();
        assert_eq!(
            transact(&mut stranger, &[3], &next),
            Committed::Committed { seq: 42 }
        );
        let of_other = Checkpoint {
            lane: other.lane,
            ..next
        };
        assert_eq!(transact(&mut old, &[4], &of_other), Committed::Fenced);
        assert_eq!(place.lines(IDS), ["1", "2", "3"]);
    });
}

#[test]
fn what_a_trigger_raises_at_the_end_is_no_fence() {
    each(|place| {
        place.execute(
            "CREATE TABLE pairs(id bigint PRIMARY KEY, a text); CREATE TABLE later(id bigint);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
               $$BEGIN INSERT INTO later VALUES (new.id); RETURN NULL; END$$;
             CREATE FUNCTION divide() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM 1 / (new.id - 1); RETURN NULL; END$$;
             CREATE TRIGGER note AFTER INSERT ON pairs FOR EACH ROW EXECUTE FUNCTION note();
             CREATE CONSTRAINT TRIGGER divide AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION divide()",
        );
        let mut sink = place.sink();
        // Which says that there are triggers.
        sink.prepare(&request()).unwrap();
        let state = take_over(&mut sink, &claim(&lane("pairs"))).unwrap();
        let next = checkpoint(&state, "x", 1);
        begin(&mut sink, &state.lane, &[1]);
        let error = sink.commit(&next).unwrap_err();
        assert_eq!(
            (error.scope, error.code.as_str()),
            (ErrorScope::Transaction, "postgres.invalid_value")
        );
        assert_eq!(place.lines(IDS), NOTHING);
        assert_eq!(transact(&mut sink, &[2], &next), Committed::Committed { seq: 1 });
    });
}
