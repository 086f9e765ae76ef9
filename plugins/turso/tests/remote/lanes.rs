//! Lanes on a server: the rules, writers that were stopped and replaced, and answers that are lost.
//! What is stored is asked of the server's plain JSON interface and of npm `@libsql/client`.

use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::serde_json::Value as Json;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneState};
use whimbrel_plugin_api::{ConflictPolicy, Error, Sink as _};

use crate::harness::{Host, config, open_sink};
use crate::proxy::{Fate, Proxy, delayed};
use crate::rules::{checkpoint, claim, commit, keeps_the_rules, lane, prepare, some};
use crate::sqld::{Sqld, tools};
use crate::tcp_proxy::{Direction, Effect, Proxy as TcpProxy, When};

/// How long a request that was let go may take to arrive.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

/// The column `n` of the answer to one question, in the order of the answer.
fn ask(server: &Sqld, sql: &str) -> Vec<i64> {
    let answer: Json = whimbrel_plugin_api::serde_json::from_str(&server.sql(&[sql])).unwrap();
    let rows = answer["results"][0]["response"]["result"]["rows"].as_array();
    let number = |row: &Json| row[0]["value"].as_str().unwrap().parse().unwrap();
    rows.unwrap_or_else(|| panic!("{answer}"))
        .iter()
        .map(number)
        .collect()
}

fn stored(server: &Sqld) -> Vec<i64> {
    ask(server, "SELECT n FROM numbers ORDER BY n")
}

fn epochs(server: &Sqld) -> Vec<i64> {
    ask(server, "SELECT epoch FROM _whimbrel_lane ORDER BY partition")
}

/// A session that has lane 0, and what it has of it.
fn holder(server: &Sqld, url: &str) -> (ForeignSink, Arc<Host>, LaneState) {
    let (mut sink, host) = open_sink(&config(server, url));
    prepare(&mut sink);
    let mut states = sink.take_over(&[claim(0)]).unwrap();
    (sink, host, states.remove(0))
}

fn begun(sink: &mut ForeignSink, records: std::ops::Range<i64>) {
    sink.begin(&lane(0)).unwrap();
    let receipt = sink
        .write("numbers", &some(records), ConflictPolicy::Fail)
        .unwrap();
    assert_eq!(receipt.rejected, []);
}

#[test]
fn claims_and_commits_keep_the_rules() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with_tokens(&tools);
    let config = config(&server, &server.url());
    let wanted = keeps_the_rules(120, &mut || open_sink(&config).0);
    assert_eq!(stored(&server), wanted);
}

#[test]
fn s8_a_stopped_writer_whose_transaction_is_stolen_commits_nothing_after_a_take_over() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    // It goes on with a commit, or with another batch.
    for (number, goes_on_writing) in [(0, false), (1, true)] {
        let (mut old, host, state) = holder(&server, &server.url());
        begun(&mut old, 0..700);
        // The server makes the next one wait for five seconds, then takes the transaction away from the first.
        let (mut new, _, next) = holder(&server, &server.url());
        assert_eq!((next.epoch, next.seq), (state.epoch + 1, number));
        // The same records: those of the first, written once more, would be refused.
        let outcome = commit(&mut new, Some(&some(0..700)), &checkpoint(&next, 700, false));
        assert_eq!(outcome.unwrap(), Committed::Committed { seq: number + 1 });
        if goes_on_writing {
            let error = old.write("numbers", &some(700..710), ConflictPolicy::Fail);
            assert_eq!(error.unwrap_err().code, Error::fenced().code);
        } else {
            let outcome = old.commit(&checkpoint(&state, 700, false));
            assert_eq!(outcome.unwrap(), Committed::Fenced);
        }
        assert_eq!(host.retry_count(), 1, "{:?}", host.warnings());
        assert_eq!(stored(&server), (0..700).collect::<Vec<i64>>());
        assert_eq!(epochs(&server), [next.epoch as i64]);
        server.sql(&["DELETE FROM numbers"]);
    }
}

#[test]
fn who_never_claimed_the_lane_itself_is_fenced_off_by_the_commit() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let (_, _, first) = holder(&server, &server.url());
    let (_, _, state) = holder(&server, &server.url());
    let (mut other, _) = open_sink(&config(&server, &server.url()));
    prepare(&mut other);
    let stale = [
        (first.epoch, state.seq),
        (state.epoch, 1),
        (state.epoch + 1, state.seq),
    ];
    for (epoch, seq) in stale {
        let next = Checkpoint {
            epoch,
            seq,
            ..checkpoint(&state, 10, false)
        };
        for records in [None, Some(&some(0..10))] {
            let outcome = commit(&mut other, records, &next).unwrap();
            assert_eq!(outcome, Committed::Fenced, "{epoch} {seq}");
        }
    }
    assert_eq!(stored(&server), [0_i64; 0]);
    let outcome = commit(&mut other, Some(&some(0..10)), &checkpoint(&state, 10, false));
    assert_eq!(outcome.unwrap(), Committed::Committed { seq: 1 });
    assert_eq!(stored(&server).len(), 10);
}

#[test]
fn s2_a_commit_that_is_cut_off_before_or_after_the_server_got_it_is_made_once() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let proxy = TcpProxy::to(server.address());
    let (mut sink, host, mut state) = holder(&server, &format!("http://{}", proxy.address()));
    let ways = [Direction::Up, Direction::Down];
    for (number, (direction, has_records)) in ways
        .into_iter()
        .flat_map(|way| [(way, true), (way, false)])
        .enumerate()
    {
        let records = number as i64 * 10..number as i64 * 10 + 10;
        sink.begin(&lane(0)).unwrap();
        if has_records {
            sink.write("numbers", &some(records), ConflictPolicy::Fail)
                .unwrap();
        }
        // The request itself, or the first octet of its answer.
        proxy.plan(When::Carried(direction, 0), Effect::Reset);
        let next = checkpoint(&state, 10, false);
        let outcome = sink.commit(&next).unwrap();
        assert_eq!(outcome, Committed::Committed { seq: state.seq + 1 });
        state = state.committed(&next).unwrap();
        assert_eq!(proxy.fault_count(), number as u64 + 1);
    }
    assert_eq!(host.retry_count(), 2, "{:?}", host.warnings());
    assert_eq!(stored(&server), (0..10).chain(20..30).collect::<Vec<i64>>());
    let claim = LaneClaim {
        held: Some(1),
        ..claim(0)
    };
    let found = sink.take_over(&[claim]).unwrap().remove(0);
    assert_eq!(found, LaneState { epoch: 2, ..state });
}

/// A rule that begins to count when it is told to, so that what comes before does not matter.
fn armed(mut rule: impl FnMut(usize) -> Fate + Send + 'static) -> (Arc<Mutex<bool>>, crate::proxy::Rule) {
    let is_armed = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&is_armed);
    let mut count = 0;
    let rule = move |_| match *seen.lock().unwrap() {
        true => {
            count += 1;
            rule(count - 1)
        }
        false => Fate::Pass,
    };
    (is_armed, Box::new(rule))
}

#[test]
fn s2_a_commit_that_nobody_tells_of_is_told_by_the_next_claim() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    for is_done in [true, false] {
        server.sql(&["DELETE FROM numbers", "DELETE FROM _whimbrel_lane"]);
        // The commit; the question about it; the claim; the next commit, which is lost and then sent again.
        let (is_armed, rule) = armed(move |number| match (number, is_done) {
            (0, true) => Fate::LoseAnswer,
            (0, false) | (3, _) => Fate::LoseRequest,
            (1, _) => Fate::Answer(403),
            _ => Fate::Pass,
        });
        let proxy = Proxy::start(server.address(), "COMMIT", rule);
        let (mut sink, host, state) = holder(&server, &proxy.url());
        begun(&mut sink, 0..10);
        *is_armed.lock().unwrap() = true;
        let next = checkpoint(&state, 10, false);
        assert_eq!(sink.commit(&next).unwrap(), Committed::Unknown);
        let again = LaneClaim {
            held: Some(state.epoch),
            ..claim(0)
        };
        let found = sink.take_over(&[again]).unwrap().remove(0);
        let before = match is_done {
            true => state.committed(&next).unwrap(),
            false => state.clone(),
        };
        assert_eq!(found, LaneState { epoch: 2, ..before });
        let next = checkpoint(&found, 10, false);
        let outcome = commit(&mut sink, Some(&some(10..20)), &next).unwrap();
        assert_eq!(outcome, Committed::Committed { seq: found.seq + 1 });
        assert_eq!(host.retry_count(), 1, "{:?}", host.warnings());
        let wanted: Vec<i64> = (if is_done { 0 } else { 10 }..20).collect();
        assert_eq!(stored(&server), wanted);
    }
}

/// A proxy that holds back the first commit from when it is armed on, and leaves the question about it unanswered.
fn holding_back(server: &Sqld) -> (Proxy, Arc<Mutex<bool>>, Sender<()>, Receiver<()>) {
    let (fate, go, arrived) = delayed();
    let mut fate = Some(fate);
    let (is_armed, rule) = armed(move |number| match number {
        0 => fate.take().unwrap_or(Fate::Pass),
        1 => Fate::Answer(403),
        _ => Fate::Pass,
    });
    let proxy = Proxy::start(server.address(), "COMMIT", rule);
    (proxy, is_armed, go, arrived)
}

#[test]
fn s2_a_commit_that_arrives_after_a_take_over_changes_nothing() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let (proxy, is_armed, go, arrived) = holding_back(&server);
    let (mut old, _, state) = holder(&server, &proxy.url());
    begun(&mut old, 0..10);
    *is_armed.lock().unwrap() = true;
    let next = checkpoint(&state, 10, false);
    assert_eq!(old.commit(&next).unwrap(), Committed::Unknown);
    let (mut new, _, now) = holder(&server, &server.url());
    assert_eq!((now.epoch, now.seq), (2, 0));
    go.send(()).unwrap();
    arrived.recv_timeout(ARRIVAL_LIMIT).unwrap();
    assert_eq!(stored(&server), [0_i64; 0]);
    let outcome = commit(&mut new, Some(&some(0..10)), &checkpoint(&now, 10, false));
    assert_eq!(outcome.unwrap(), Committed::Committed { seq: 1 });
    let again = LaneClaim {
        held: Some(state.epoch),
        ..claim(0)
    };
    assert_eq!(old.take_over(&[again]).unwrap_err().code, Error::fenced().code);
}

#[test]
fn a_take_over_whose_answer_is_lost_ends_with_the_epoch_that_is_stored() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    for fate in [|| Fate::LoseAnswer, || Fate::LoseRequest] {
        for text in [
            "COMMIT",
            "CREATE TABLE IF NOT EXISTS \"_whimbrel_lane\"",
            "INSERT OR REPLACE",
        ] {
            let (is_armed, rule) = armed(move |number| match number {
                0 => fate(),
                _ => Fate::Pass,
            });
            let proxy = Proxy::start(server.address(), text, rule);
            let (mut sink, _, state) = holder(&server, &proxy.url());
            *is_armed.lock().unwrap() = true;
            let again = LaneClaim {
                held: Some(state.epoch),
                ..claim(0)
            };
            let found = sink.take_over(&[again]).unwrap();
            assert_eq!(epochs(&server), [found[0].epoch as i64], "{text}");
            assert!(found[0].epoch > state.epoch);
        }
    }
}

#[test]
fn a_take_over_that_nobody_tells_of_is_found_out_by_the_next_claim() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    for is_done in [true, false] {
        let (is_armed, rule) = armed(move |number| match (number, is_done) {
            (0, true) => Fate::LoseAnswer,
            (0, false) => Fate::LoseRequest,
            (1 | 2, _) => Fate::Answer(403),
            _ => Fate::Pass,
        });
        let proxy = Proxy::start(server.address(), "COMMIT", rule);
        let (mut sink, _, state) = holder(&server, &proxy.url());
        *is_armed.lock().unwrap() = true;
        let again = LaneClaim {
            held: Some(state.epoch),
            ..claim(0)
        };
        for _ in 0..2 {
            let error = sink.take_over(std::slice::from_ref(&again)).unwrap_err();
            assert_eq!(error.code, "turso.take_over_unknown");
            assert!(error.kind.is_transient());
        }
        let found = sink.take_over(std::slice::from_ref(&again)).unwrap();
        assert_eq!(epochs(&server), [found[0].epoch as i64]);
        let outcome = commit(&mut sink, None, &checkpoint(&found[0], 0, false)).unwrap();
        assert_eq!(
            outcome,
            Committed::Committed {
                seq: found[0].seq + 1
            }
        );
    }
}

#[test]
fn three_hundred_lanes_are_three_requests_and_all_or_none() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let (mut sink, _, _) = holder(&server, &server.url());
    let counted = Proxy::start(server.address(), "_whimbrel_guard", Box::new(|_| Fate::Pass));
    let (mut counting, _, _) = holder(&server, &counted.url());
    let mut claims: Vec<LaneClaim> = (0..300).map(claim).collect();
    let before = counted.seen();
    let states = counting.take_over(&claims).unwrap();
    assert_eq!(counted.seen() - before, 3);
    assert_eq!(states.len(), 300);
    assert!(
        states
            .iter()
            .zip(&claims)
            .all(|(state, claim)| state.lane == claim.lane)
    );
    let wanted: Vec<i64> = std::iter::once(3).chain(std::iter::repeat_n(1, 299)).collect();
    assert_eq!(epochs(&server), wanted);
    // The last one is not granted: none is.
    claims[299].held = Some(7);
    assert_eq!(sink.take_over(&claims).unwrap_err().code, Error::fenced().code);
    assert_eq!(epochs(&server), wanted);
    // More than a request has room for, with cursors to write back.
    claims[299].held = None;
    let large = Checkpoint {
        cursor: whimbrel_plugin_api::Cursor(vec![7; 3 * 1024 * 1024]),
        ..checkpoint(&states[5], 0, false)
    };
    let outcome = commit(&mut counting, None, &large).unwrap();
    assert_eq!(outcome, Committed::Committed { seq: 1 });
    let states = sink.take_over(&claims).unwrap();
    assert_eq!((states[5].seq, &states[5].cursor), (1, &large.cursor));
}

#[test]
fn a_commit_without_records_is_durable_and_needs_no_earlier_request() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let (mut sink, _, state) = holder(&server, &server.url());
    let next = checkpoint(&state, 0, true);
    let outcome = commit(&mut sink, None, &next).unwrap();
    assert_eq!(outcome, Committed::Committed { seq: 1 });
    // Another writer takes a transaction in which nothing was stored: it is begun anew.
    let state = state.committed(&next).unwrap();
    sink.begin(&lane(0)).unwrap();
    let outcome = commit(
        &mut open_sink(&config(&server, &server.url())).0,
        None,
        &Checkpoint::default(),
    );
    assert_eq!(outcome.unwrap(), Committed::Committed { seq: 1 });
    server.sql(&["INSERT INTO numbers VALUES (1)"]);
    let receipt = sink.write("numbers", &some(1..2), ConflictPolicy::Fail).unwrap();
    assert_eq!(receipt.rejected.len(), 1);
    server.sql(&["DELETE FROM numbers"]);
    let next = checkpoint(&state, 0, false);
    assert_eq!(sink.commit(&next).unwrap(), Committed::Committed { seq: 2 });
    let (_, _, found) = holder(&server, &server.url());
    assert_eq!(
        found,
        LaneState {
            epoch: 2,
            ..state.committed(&next).unwrap()
        }
    );
}

#[test]
fn the_row_of_a_session_goes_with_it_though_its_last_checkpoint_comes_after_the_end() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let (mut sink, _, state) = holder(&server, &server.url());
    commit(&mut sink, Some(&some(0..1)), &checkpoint(&state, 1, false)).unwrap();
    sink.finalize().unwrap();
    let next = Checkpoint {
        seq: 1,
        ..checkpoint(&state, 0, true)
    };
    assert_eq!(
        commit(&mut sink, None, &next).unwrap(),
        Committed::Committed { seq: 2 }
    );
    drop(sink);
    assert_eq!(ask(&server, "SELECT count(*) FROM _whimbrel_guard"), [0]);
    assert_eq!(ask(&server, "SELECT seq FROM _whimbrel_lane WHERE done"), [2]);
}
