//! Transactions: whole or not at all, whatever ends them, and the session can go on afterwards; and values as they are stored.
//! Against both releases of the server, with the whole table compared.

use std::time::{Duration, Instant};

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId};
use whimbrel_plugin_api::{Collection, ConflictPolicy, ErrorKind, ErrorScope, Sink as _};

use crate::postgres::{PgBouncer, PoolMode, servers};
use crate::writing_place::{Place, batch_of, each, int, keyed, record, text, transact, written};

/// How long something that must happen may take.
const LIMIT: Duration = Duration::from_secs(30);

/// `pairs`: id (key), a.
fn pairs() -> Collection {
    keyed(
        "pairs",
        vec![
            Field::required("id", RecordType::INT64),
            Field::new("a", RecordType::Text),
        ],
    )
}

fn pair(id: i64, a: &str) -> Record {
    record([("id", int(id)), ("a", text(a))])
}

const ALL_PAIRS: &str = "SELECT id, a FROM pairs ORDER BY id";

/// Waits until a query answers this.
fn wait_until(place: &Place, query: &str, answer: &[&str]) {
    let start = Instant::now();
    while place.lines(query) != answer {
        assert!(
            start.elapsed() < LIMIT,
            "`{query}` answers {:?}",
            place.lines(query)
        );
        std::thread::yield_now();
    }
}

#[test]
fn an_aborted_transaction_leaves_nothing_and_the_session_goes_on() {
    each(|place| {
        for stored in ["", "INSERT INTO pairs VALUES (0, 'stored')"] {
            place.execute(&format!(
                "DROP TABLE IF EXISTS pairs; CREATE TABLE pairs(id bigint PRIMARY KEY, a text); {stored}"
            ));
            let mut sink = place.prepared(&[&pairs()]);
            sink.abort().unwrap();
            let one =
                |sink: &mut _| written(sink, &pairs(), &[vec![pair(1, "a")]], ConflictPolicy::Overwrite);
            // With nothing written, within a COPY, and after it.
            sink.begin(&LaneId::default()).unwrap();
            sink.abort().unwrap();
            sink.begin(&LaneId::default()).unwrap();
            sink.write(
                "pairs",
                &batch_of(&pairs(), &[pair(1, "a")]),
                ConflictPolicy::Overwrite,
            )
            .unwrap();
            sink.abort().unwrap();
            sink.begin(&LaneId::default()).unwrap();
            one(&mut sink);
            sink.abort().unwrap();
            assert_eq!(
                place.lines("SELECT id FROM pairs WHERE id > 0"),
                Vec::<String>::new()
            );
            sink.begin(&LaneId::default()).unwrap();
            assert_eq!(one(&mut sink).accepted, 1);
            assert_eq!(
                sink.commit(&Checkpoint::default()).unwrap(),
                Committed::Committed { seq: 1 }
            );
            assert_eq!(place.lines("SELECT id, a FROM pairs WHERE id > 0"), ["1|a"]);
        }
    });
}

#[test]
fn what_is_written_shows_with_the_commit_and_not_before() {
    each(|place| {
        let mut sink = place.prepared(&[&pairs()]);
        sink.begin(&LaneId::default()).unwrap();
        written(
            &mut sink,
            &pairs(),
            &[vec![pair(1, "a")]],
            ConflictPolicy::Overwrite,
        );
        assert_eq!(place.lines(ALL_PAIRS), Vec::<String>::new());
        let checkpoint = Checkpoint {
            seq: 41,
            ..Checkpoint::default()
        };
        assert_eq!(
            sink.commit(&checkpoint).unwrap(),
            Committed::Committed { seq: 42 }
        );
        assert_eq!(place.lines(ALL_PAIRS), ["1|a"]);
    });
}

#[test]
fn several_collections_go_in_one_transaction_in_turns() {
    each(|place| {
        let others = Collection {
            name: "others".to_owned(),
            ..pairs()
        };
        place.execute("CREATE TABLE others(id bigint PRIMARY KEY, a text CHECK (a <> 'bad')); INSERT INTO others VALUES (1, 'old')");
        let mut sink = place.prepared(&[&pairs(), &others]);
        sink.begin(&LaneId::default()).unwrap();
        let mut deferred = 0;
        for round in 0..3 {
            for collection in [&pairs(), &others] {
                let bad = if round == 1 { "bad" } else { "x" };
                let batch = batch_of(collection, &[pair(round * 2, "x"), pair(round * 2 + 1, bad)]);
                deferred += sink
                    .write(&collection.name, &batch, ConflictPolicy::Overwrite)
                    .unwrap()
                    .deferred;
            }
        }
        let receipt = sink.flush().unwrap();
        assert_eq!((deferred, receipt.accepted, receipt.rejected.len()), (12, 11, 1));
        // The fourth write of two records each, the second of them.
        let rejected = &receipt.rejected[0];
        assert_eq!(
            (rejected.row, rejected.record.as_str(), rejected.code.as_str()),
            (Some(7), "3", "postgres.check_failed")
        );
        sink.commit(&Checkpoint::default()).unwrap();
        let rows = |table: &str| place.lines(&format!("SELECT count(*), sum(id), min(a) FROM {table}"));
        assert_eq!(
            (rows("pairs"), rows("others")),
            (vec!["6|15|bad".to_owned()], vec!["5|12|x".to_owned()])
        );
    });
}

#[test]
fn a_batch_that_does_not_fit_the_table_leaves_the_transaction_as_it_was() {
    each(|place| {
        let mut sink = place.prepared(&[&pairs()]);
        sink.begin(&LaneId::default()).unwrap();
        sink.write(
            "pairs",
            &batch_of(&pairs(), &[pair(1, "a")]),
            ConflictPolicy::Overwrite,
        )
        .unwrap();
        let stranger = keyed(
            "pairs",
            vec![
                Field::required("id", RecordType::INT64),
                Field::new("b", RecordType::Bool),
            ],
        );
        let odd = batch_of(&stranger, &[record([("id", int(2)), ("b", Value::Bool(true))])]);
        let error = sink.write("pairs", &odd, ConflictPolicy::Overwrite).unwrap_err();
        assert_eq!(
            (error.scope, error.code.as_str()),
            (ErrorScope::Write, "postgres.unknown_field")
        );
        sink.write(
            "pairs",
            &batch_of(&pairs(), &[pair(3, "c")]),
            ConflictPolicy::Overwrite,
        )
        .unwrap();
        assert_eq!(sink.flush().unwrap().accepted, 2);
        sink.commit(&Checkpoint::default()).unwrap();
        assert_eq!(place.lines(ALL_PAIRS), ["1|a", "3|c"]);
    });
}

/// Ends all sessions but one's own.
const END_SESSIONS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid()";
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[test]
fn a_lost_connection_is_told_and_leaves_nothing_half_written() {
    each(|place| {
        for stored in ["", "INSERT INTO pairs VALUES (0, 'stored')"] {
            for cut in ["begin", "write", "flush"] {
                place.execute(&format!(
                    "DROP TABLE IF EXISTS pairs; CREATE TABLE pairs(id bigint PRIMARY KEY, a text); {stored}"
                ));
                let mut sink = place.prepared(&[&pairs()]);
                let end = || {
                    place.execute(END_SESSIONS);
                    wait_until(place, SESSIONS, &["0"]);
                };
                sink.begin(&LaneId::default()).unwrap();
                let mut outcome = Ok(());
                for step in ["begin", "write", "flush"] {
                    outcome = match step {
                        "begin" => Ok(()),
                        "write" => {
                            let batch = batch_of(&pairs(), &[pair(1, "a")]);
                            outcome.and_then(|()| {
                                sink.write("pairs", &batch, ConflictPolicy::Overwrite).map(drop)
                            })
                        }
                        _ => outcome.and_then(|()| sink.flush().map(drop)),
                    };
                    if step == cut {
                        end();
                    }
                }
                let ended = outcome.and_then(|()| sink.commit(&Checkpoint::default()));
                match cut {
                    // Nobody can know what came of a COMMIT without an answer.
                    "flush" => assert_eq!(ended.unwrap(), Committed::Unknown),
                    _ => {
                        let error = ended.unwrap_err();
                        assert_eq!(
                            (error.kind, error.scope),
                            (ErrorKind::Unavailable, ErrorScope::Session),
                            "{cut}: {error:?}"
                        );
                    }
                }
                sink.abort().unwrap();
                assert_eq!(
                    place.lines("SELECT id FROM pairs WHERE id > 0"),
                    Vec::<String>::new(),
                    "{cut}"
                );
                let fate = transact(
                    &mut sink,
                    &pairs(),
                    &[vec![pair(1, "a")]],
                    ConflictPolicy::Overwrite,
                );
                assert_eq!(
                    (fate.accepted, place.lines("SELECT id, a FROM pairs WHERE id > 0")),
                    (1, vec!["1|a".to_owned()])
                );
            }
        }
    });
}

/// Each transaction of a session may be with another server process, and nothing may be left behind in one.
#[test]
fn a_transaction_pooler_may_stand_in_between() {
    for server in servers() {
        let Some(pooler) = PgBouncer::in_front_of(server.endpoint(), PoolMode::Transaction) else {
            return;
        };
        let direct = Place::new(&server);
        direct.execute("CREATE TABLE pairs(id bigint PRIMARY KEY, a text CHECK (a <> 'bad'))");
        let url = format!(
            "{}?sslmode=disable",
            pooler.endpoint().url(direct.database.name())
        );
        let place = direct.at(&url);
        let mut sinks = [place.prepared(&[&pairs()]), place.prepared(&[&pairs()])];
        for round in 0..3 {
            for (index, sink) in sinks.iter_mut().enumerate() {
                let id = index as i64 * 10;
                let records = vec![pair(id, "old"), pair(id + round, "new"), pair(id + 9, "bad")];
                let fate = transact(sink, &pairs(), &[records], ConflictPolicy::Overwrite);
                assert_eq!(
                    (fate.accepted, fate.codes()),
                    (2, vec![(2, "postgres.check_failed")])
                );
            }
        }
        assert_eq!(
            place.lines(ALL_PAIRS),
            ["0|old", "1|new", "2|new", "10|old", "11|new", "12|new"]
        );
        place.write(&pairs(), &[vec![pair(0, "last")]], ConflictPolicy::Merge);
        assert_eq!(place.lines("SELECT a FROM pairs WHERE id = 0"), ["last"]);
    }
}

#[test]
fn a_connection_that_was_ended_between_two_transactions_is_opened_again() {
    each(|place| {
        let mut sink = place.prepared(&[&pairs()]);
        transact(
            &mut sink,
            &pairs(),
            &[vec![pair(1, "a")]],
            ConflictPolicy::Overwrite,
        );
        place.execute(END_SESSIONS);
        wait_until(place, SESSIONS, &["0"]);
        transact(
            &mut sink,
            &pairs(),
            &[vec![pair(2, "b")]],
            ConflictPolicy::Overwrite,
        );
        assert_eq!(place.lines(ALL_PAIRS), ["1|a", "2|b"]);
    });
}

#[test]
fn the_loser_of_a_deadlock_repeats_its_transaction() {
    each(|place| {
        place.execute(
            "CREATE TABLE pairs(id bigint PRIMARY KEY, a text); INSERT INTO pairs VALUES (1, '-'), (2, '-')",
        );
        let mut sinks = [place.prepared(&[&pairs()]), place.prepared(&[&pairs()])];
        let first = std::sync::Barrier::new(2);
        let outcomes = std::thread::scope(|scope| {
            let threads: Vec<_> = sinks
                .iter_mut()
                .zip([1, 2])
                .map(|(sink, id)| {
                    let first = &first;
                    scope.spawn(move || {
                        let mine = format!("by {id}");
                        let mut is_first_try = true;
                        let mut losses = 0;
                        loop {
                            sink.begin(&LaneId::default()).unwrap();
                            let mut write = |id: i64| {
                                let batch = batch_of(&pairs(), &[pair(id, &mine)]);
                                sink.write("pairs", &batch, ConflictPolicy::Overwrite)?;
                                sink.flush()
                            };
                            write(id).unwrap();
                            if std::mem::take(&mut is_first_try) {
                                first.wait();
                            }
                            match write(3 - id) {
                                Ok(receipt) => assert_eq!((receipt.accepted, receipt.rejected.len()), (1, 0)),
                                Err(error) => {
                                    assert_eq!(error.scope, ErrorScope::Transaction, "{error:?}");
                                    sink.abort().unwrap();
                                    losses += 1;
                                    continue;
                                }
                            }
                            assert_eq!(
                                sink.commit(&Checkpoint::default()).unwrap(),
                                Committed::Committed { seq: 1 }
                            );
                            return losses;
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum::<u32>()
        });
        assert_eq!(outcomes, 1, "one of the two loses, once");
        let rows = place.lines("SELECT count(*), count(DISTINCT a) FROM pairs");
        assert_eq!(rows, ["2|1"], "all is by the one who came last");
    });
}

#[test]
fn a_cancelled_flush_ends_on_the_server_too() {
    each(|place| {
        place.execute(
            "CREATE TABLE pairs(id bigint PRIMARY KEY, a text);
             CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(600); RETURN new; END$$;
             CREATE TRIGGER hang BEFORE INSERT ON pairs FOR EACH ROW EXECUTE FUNCTION hang()",
        );
        let mut sink = place.prepared(&[&pairs()]);
        sink.begin(&LaneId::default()).unwrap();
        sink.write(
            "pairs",
            &batch_of(&pairs(), &[pair(1, "a")]),
            ConflictPolicy::Overwrite,
        )
        .unwrap();
        let canceller = sink.canceller();
        let error = std::thread::scope(|scope| {
            let flush = scope.spawn(|| sink.flush().unwrap_err());
            wait_until(
                place,
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
                &["1"],
            );
            canceller.cancel();
            flush.join().unwrap()
        });
        assert_eq!(error.kind, ErrorKind::Cancelled);
        wait_until(
            place,
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
            &["0"],
        );
        assert_eq!(place.lines(ALL_PAIRS), Vec::<String>::new());
    });
}

#[test]
fn values_at_the_edges_are_stored_as_they_are() {
    each(|place| {
        let fields = vec![
            Field::required("id", RecordType::INT64),
            Field::new("f", RecordType::FLOAT64),
            Field::new("g", RecordType::Float { bits: 32 }),
            Field::new("t", RecordType::Text),
            Field::new("b", RecordType::Bytes),
            Field::new("d", RecordType::Date),
            Field::new("s", RecordType::TimestampTz),
            Field::new("n", RecordType::Numeric),
        ];
        let edges = keyed("edges", fields);
        let of = |id: i64, f: f64, t: Value, b: Value, d: i64, s: i64, n: &str| {
            record([
                ("id", int(id)),
                ("f", Value::float(f)),
                ("g", Value::float(f)),
                ("t", t),
                ("b", b),
                ("d", int(d)),
                ("s", int(s)),
                ("n", text(n)),
            ])
        };
        let large = "x".repeat(10_000_000);
        let records = || {
            vec![
                of(
                    i64::MAX,
                    f64::NAN,
                    text(""),
                    Value::Bytes(vec![]),
                    i64::from(i32::MAX),
                    i64::MAX,
                    "NaN",
                ),
                of(
                    i64::MIN,
                    f64::INFINITY,
                    Value::Null,
                    Value::Null,
                    i64::from(i32::MIN),
                    i64::MIN,
                    "-0.50",
                ),
                // 0001-01-01 and 9999-12-31T23:59:59.999999Z.
                of(
                    0,
                    -0.0,
                    text("\u{1F426}\u{FEFF}\"\\"),
                    Value::Bytes(vec![0, 255]),
                    -719_162,
                    253_402_300_799_999_999,
                    "123456789012345678901234567890.10",
                ),
                of(
                    1,
                    f64::NEG_INFINITY,
                    text(&large),
                    Value::Null,
                    2_932_896,
                    -1,
                    "0",
                ),
            ]
        };
        let query = "SELECT id, f, g, coalesce(length(t), -1), left(t, 9), b, d, extract(epoch FROM s), n FROM edges ORDER BY id";
        for stored in [false, true] {
            let fate = place.write(&edges, &[records()], ConflictPolicy::Overwrite);
            assert_eq!((fate.accepted, fate.codes()), (4, vec![]), "{stored}");
            assert_eq!(
                place.lines(query),
                [
                    "-9223372036854775808|Infinity|Infinity|-1|-|-|-infinity|-Infinity|-0.50",
                    "0|-0|-0|4|\u{1F426}\u{FEFF}\"\\|\\x00ff|0001-01-01|253402300799.999999|123456789012345678901234567890.10",
                    "1|-Infinity|-Infinity|10000000|xxxxxxxxx|-|9999-12-31|-0.000001|0",
                    "9223372036854775807|NaN|NaN|0||\\x|infinity|Infinity|NaN",
                ]
            );
        }
    });
}
