//! Connections that are cut around COMMIT: the answer is that nobody knows, and the lane says what happened.
//! Neighbours: `fencing` for commits that are answered, `ending` for take-overs in the middle of a transaction.

use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneState};
use whimbrel_plugin_api::{Cursor, Sink as _};

use crate::lanes_place::{IDS, OPEN, begin, checkpoint, claim, each, held, lane, take_over, transact, write};
use crate::proxy::{Direction, Effect, Proxy, When};

/// Connections of the plugin.
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'whimbrel'";

#[test]
fn s2_a_commit_whose_answer_is_lost_is_found_out_about() {
    for (cut, is_durable) in [(Direction::Up, false), (Direction::Down, true)] {
        each(|place| {
            let proxy = Proxy::to_port(place.database.endpoint().port());
            let mut sink = place.at_port(proxy.port()).prepared();
            let state = take_over(&mut sink, &claim(&lane("pairs"))).unwrap();
            begin(&mut sink, &state.lane, &[1, 2]);
            // Else the goodbye of an earlier connection might be what is cut.
            place.wait_until(SESSIONS, &["1"]);
            proxy.plan(When::Carried(cut, 0), Effect::Reset);
            let next = checkpoint(&state, "x", 2);
            assert_eq!(sink.commit(&next).unwrap(), Committed::Unknown);
            assert_eq!(proxy.fault_count(), 1);
            let kept = take_over(&mut sink, &held(&state)).unwrap();
            let wanted = match is_durable {
                true => state.committed(&next).unwrap(),
                false => state.clone(),
            };
            assert_eq!(
                kept,
                LaneState {
                    epoch: state.epoch + 1,
                    ..wanted
                }
            );
            let ids = match is_durable {
                true => vec!["1", "2"],
                false => Vec::new(),
            };
            assert_eq!(place.lines(IDS), ids);
            let next = checkpoint(&kept, "y", 1);
            assert_eq!(
                transact(&mut sink, &[3], &next),
                Committed::Committed { seq: kept.seq + 1 }
            );
        });
    }
}

#[test]
fn s2_a_session_that_finds_out_does_not_wait_for_its_own_lost_transaction() {
    each(|place| {
        let proxy = Proxy::to_port(place.database.endpoint().port());
        let mut sink = place.at_port(proxy.port()).prepared();
        let state = take_over(&mut sink, &claim(&lane("pairs"))).unwrap();
        begin(&mut sink, &state.lane, &[1]);
        place.wait_until(SESSIONS, &["1"]);
        // The server hears nothing more of the connection, not even that it has ended.
        proxy.plan(When::Carried(Direction::Up, 0), Effect::BlackHole);
        write(&mut sink, &[2]).unwrap();
        while proxy.fault_count() == 0 {
            std::thread::yield_now();
        }
        drop(sink);
        let mut sink = place.prepared();
        assert_eq!(place.lines(OPEN), ["1"]);
        let kept = take_over(&mut sink, &held(&state)).unwrap();
        assert_eq!((kept.epoch, kept.seq), (2, 0));
        assert_eq!(
            transact(&mut sink, &[1], &checkpoint(&kept, "x", 1)),
            Committed::Committed { seq: 1 }
        );
        assert_eq!(place.lines(IDS), ["1"]);
    });
}

#[test]
fn s2_a_lane_whose_granting_is_not_heard_is_granted_once() {
    each(|place| {
        let proxy = Proxy::to_port(place.database.endpoint().port());
        let mut sink = place.at_port(proxy.port()).sink();
        let state = take_over(&mut sink, &claim(&lane("pairs"))).unwrap();
        let next = Checkpoint {
            cursor: Cursor(vec![7; 100_000]),
            ..checkpoint(&state, "", 0)
        };
        // Over a connection that the faults below do not count.
        assert_eq!(
            transact(&mut place.sink(), &[], &next),
            Committed::Committed { seq: 1 }
        );
        let mut state = LaneState {
            seq: 1,
            cursor: next.cursor,
            ..state
        };
        let before = proxy.carried_bytes(Direction::Down);
        state = granted(&mut sink, &state);
        let answer = proxy.carried_bytes(Direction::Down) - before;
        // Before the first word of the answer to it, in the middle of it, and when the server has said all but the last of it.
        for at in [answer - 200_200, answer / 2, answer - 10] {
            proxy.plan(When::Carried(Direction::Down, at), Effect::Reset);
            state = granted(&mut sink, &state);
        }
        assert_eq!(proxy.fault_count(), 3);
        assert_eq!(place.lines("SELECT epoch, seq FROM whimbrel.lane"), ["5|1"]);
    });
}

/// Claims the lane anew, which is granted as its next epoch.
fn granted(sink: &mut whimbrel_plugin_api::abi::sink::ForeignSink, state: &LaneState) -> LaneState {
    let granted = take_over(sink, &held(state)).unwrap();
    assert_eq!(
        granted,
        LaneState {
            epoch: state.epoch + 1,
            ..state.clone()
        }
    );
    granted
}
