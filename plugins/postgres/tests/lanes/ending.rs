//! What a take-over does to transactions that are open: those of its lanes are ended, with all that they have written and
//! locked; all others go on.

use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::Committed;
use whimbrel_plugin_api::{ErrorKind, ErrorScope, Sink as _};

use crate::lanes_place::{
    IDS, OPEN, Place, begin, checkpoint, claim, each, held, lane, take_over, transact, write,
};
use crate::postgres::{PgBouncer, PoolMode, servers};

/// A session that has stopped with records in the table, or within a COPY, and the way that it goes.
fn replace_a_stopped_session(place: &Place, is_flushed: bool) {
    let mut stopped = place.prepared();
    let state = take_over(&mut stopped, &claim(&lane("pairs"))).unwrap();
    if is_flushed {
        begin(&mut stopped, &state.lane, &[1, 2]);
    } else {
        stopped.begin(&state.lane).unwrap();
        write(&mut stopped, &[1, 2]).unwrap();
    }
    place.wait_until(OPEN, &["1"]);
    let mut new = place.prepared();
    let now = take_over(&mut new, &claim(&state.lane)).unwrap();
    assert_eq!((now.epoch, now.seq), (state.epoch + 1, 0));
    assert_eq!(place.lines(OPEN), ["0"], "it has ended when the lane is granted");
    // The same records, which the old transaction had locked.
    assert_eq!(
        transact(&mut new, &[1, 3], &checkpoint(&now, "x", 2)),
        Committed::Committed { seq: 1 }
    );
    // The stopped session goes on.
    let written = write(&mut stopped, &[4]).and_then(|()| stopped.flush());
    match written.and_then(|_| stopped.commit(&checkpoint(&state, "y", 3))) {
        Ok(outcome) => assert_eq!(outcome, Committed::Unknown),
        Err(error) => assert_eq!(
            (error.kind, error.scope),
            (ErrorKind::Unavailable, ErrorScope::Session)
        ),
    }
    stopped.abort().unwrap();
    let error = take_over(&mut stopped, &held(&state)).unwrap_err();
    assert_eq!(
        (error.kind, error.code.as_str()),
        (ErrorKind::Integrity, "run.fenced")
    );
    assert_eq!(
        transact(&mut stopped, &[5], &checkpoint(&state, "y", 1)),
        Committed::Fenced
    );
    assert_eq!(place.lines(IDS), ["1", "3"]);
}

#[test]
fn a_stopped_session_blocks_nobody_and_leaves_nothing() {
    for is_flushed in [true, false] {
        each(|place| replace_a_stopped_session(place, is_flushed));
    }
}

#[test]
fn a_pooler_for_transactions_makes_no_difference() {
    for server in servers() {
        for is_flushed in [true, false] {
            let Some(pooler) = PgBouncer::in_front_of(server.endpoint(), PoolMode::Transaction) else {
                return;
            };
            let direct = Place::new(&server);
            replace_a_stopped_session(&direct.at_port(pooler.endpoint().port()), is_flushed);
        }
    }
}

#[test]
fn transactions_of_other_lanes_and_other_schemas_go_on() {
    each(|place| {
        let mut sink = place.prepared();
        let state = take_over(&mut sink, &claim(&lane("pairs"))).unwrap();
        begin(&mut sink, &state.lane, &[1]);
        let mut other = place.sink();
        assert_eq!(take_over(&mut other, &claim(&lane("others"))).unwrap().epoch, 1);
        let mut config = place.config.clone();
        config["state_schema"] = json!("elsewhere");
        let mut elsewhere = place.with(config).sink();
        assert_eq!(take_over(&mut elsewhere, &claim(&state.lane)).unwrap().epoch, 1);
        assert_eq!(
            sink.commit(&checkpoint(&state, "x", 1)).unwrap(),
            Committed::Committed { seq: 1 }
        );
    });
}

#[test]
fn a_claim_of_an_epoch_that_is_lost_ends_nobody() {
    each(|place| {
        let mut old = place.sink();
        let lost = take_over(&mut old, &claim(&lane("pairs"))).unwrap();
        let mut sink = place.prepared();
        let state = take_over(&mut sink, &claim(&lost.lane)).unwrap();
        begin(&mut sink, &state.lane, &[1]);
        assert_eq!(take_over(&mut old, &held(&lost)).unwrap_err().code, "run.fenced");
        assert_eq!(
            sink.commit(&checkpoint(&state, "x", 1)).unwrap(),
            Committed::Committed { seq: 1 }
        );
    });
}

#[test]
fn who_may_not_be_ended_is_named() {
    each(|place| {
        let mut stopped = place.prepared();
        let state = take_over(&mut stopped, &claim(&lane("pairs"))).unwrap();
        begin(&mut stopped, &state.lane, &[1]);
        place.execute("GRANT USAGE, CREATE ON SCHEMA whimbrel TO porter; GRANT SELECT, INSERT, UPDATE ON whimbrel.lane TO porter");
        let url = format!("{}?sslmode=disable", place.database.password_url());
        let mut porter = place.with(json!({ "url": url, "lock_timeout_ms": 200 })).sink();
        let error = take_over(&mut porter, &claim(&state.lane)).unwrap_err();
        let pid = place
            .lines(
                "SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND database = \
                 (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .concat();
        assert_eq!(
            (error.kind, error.code.as_str(), error.message.as_str()),
            (
                ErrorKind::Exists,
                "run.lane_held",
                format!(
                    "the server process {pid} of user `postgres` still writes this and cannot be fenced off"
                )
                .as_str()
            )
        );
        assert_eq!(
            error.help.unwrap(),
            format!(
                "end it with `SELECT pg_terminate_backend({pid})`, or let whimbrel do so: `GRANT pg_signal_backend TO \"porter\"`"
            )
        );
        // Nobody has lost anything by that.
        assert_eq!(
            stopped.commit(&checkpoint(&state, "x", 1)).unwrap(),
            Committed::Committed { seq: 1 }
        );
        let granted = take_over(&mut porter, &claim(&state.lane)).unwrap();
        assert_eq!((granted.epoch, granted.seq), (2, 1));
    });
}
