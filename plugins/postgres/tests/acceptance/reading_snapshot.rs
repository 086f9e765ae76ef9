//! One instant for several reads, from several sources, whatever is written meanwhile.
//! Also through a pooler that gives a connection for a transaction only.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::source::CountRequest;
use whimbrel_plugin_api::{Batch, ErrorKind, Item, ReadRequest, Source as _};

use crate::postgres::{PgBouncer, PoolMode, servers};
use crate::reading_place::{Place, in_batches, partitions, places, read_from, values};

const TABLES: &str = "
CREATE TABLE accounts(id int PRIMARY KEY, amount int); INSERT INTO accounts SELECT i, 100 FROM generate_series(1, 1000) i;
CREATE TABLE log(n int); INSERT INTO log SELECT i FROM generate_series(1, 1000) i;
CREATE VIEW sums AS SELECT sum(amount) AS n FROM accounts;
";
const CHANGES: &str = "
UPDATE accounts SET amount = 0 WHERE id % 2 = 0; DELETE FROM accounts WHERE id < 100; INSERT INTO accounts VALUES (5000, 1);
DELETE FROM log WHERE n < 500; INSERT INTO log VALUES (-1); VACUUM accounts; VACUUM log;
";

fn at(snapshot: &str, name: &str) -> ReadRequest {
    ReadRequest {
        snapshot: Some(snapshot.to_owned()),
        ..ReadRequest::all(name)
    }
}

#[test]
fn what_is_written_after_the_snapshot_does_not_show() {
    for place in places(TABLES) {
        let before = [place.read("accounts"), place.read("log"), place.read("sums")];
        let mut source = place.source();
        let snapshot = source.open_snapshot().unwrap().unwrap();
        place.database.sql(CHANGES);
        for (name, before) in ["accounts", "log", "sums"].into_iter().zip(&before) {
            // From another source too, as another process would.
            for source in [&mut source, &mut place.source()] {
                let reading = read_from(source, &at(&snapshot, name)).unwrap();
                assert_eq!(&reading.records, before, "{name}");
            }
            assert_ne!(&place.read(name), before);
        }
        let count = |snapshot: Option<&str>| {
            let request = CountRequest {
                collection: "accounts".to_owned(),
                snapshot: snapshot.map(str::to_owned),
            };
            place.source().count(&request).unwrap()
        };
        assert_eq!((count(Some(&snapshot)), count(None)), (Some(1_000), Some(902)));
        let parts = partitions(&mut source, "log", 3, Some(&snapshot));
        assert_eq!(parts.len(), 1);
        source.close_snapshot(&snapshot).unwrap();
        let error = place.read_with(&at(&snapshot, "accounts")).unwrap_err();
        assert_eq!(
            (error.kind, error.code.as_str()),
            (ErrorKind::Unavailable, "postgres.snapshot_gone")
        );
        for made_up in ["x'; DROP TABLE log", "", "7FFFFFFF-00000001-1"] {
            assert_eq!(
                place.read_with(&at(made_up, "log")).unwrap_err().code,
                "postgres.snapshot_gone"
            );
        }
    }
}

#[test]
fn a_stream_goes_on_at_its_cursor_within_the_snapshot() {
    for place in places(TABLES) {
        let mut source = place.source();
        let snapshot = source.open_snapshot().unwrap().unwrap();
        for name in ["log", "sums", "accounts"] {
            let request = ReadRequest {
                snapshot: Some(snapshot.clone()),
                ..in_batches(name, 100)
            };
            let whole = read_from(&mut source, &request).unwrap();
            let (count, cursor) = whole.cursors[0].clone();
            let rest = ReadRequest { cursor, ..request };
            place
                .database
                .sql("UPDATE log SET n = n; UPDATE accounts SET amount = amount");
            let reading = read_from(&mut source, &rest).unwrap();
            assert_eq!(reading.records, whole.records[count..], "{name}");
            let elsewhere = ReadRequest {
                snapshot: None,
                ..rest
            };
            let outcome = read_from(&mut source, &elsewhere);
            match name {
                "accounts" => assert_eq!(outcome.unwrap().records.len(), 900),
                _ => assert_eq!(outcome.unwrap_err().code, "postgres.cursor_lost", "{name}"),
            }
        }
    }
}

#[test]
fn a_table_that_was_emptied_since_is_not_taken_for_empty() {
    for place in places(TABLES) {
        let mut source = place.source();
        let snapshot = source.open_snapshot().unwrap().unwrap();
        place
            .database
            .sql("TRUNCATE accounts; ALTER TABLE log ALTER n TYPE bigint; DROP VIEW sums");
        for name in ["accounts", "log"] {
            let error = read_from(&mut source, &at(&snapshot, name)).unwrap_err();
            assert_eq!(
                (error.kind, error.code.as_str()),
                (ErrorKind::Integrity, "postgres.table_rewritten")
            );
        }
        place.database.sql("DROP TABLE accounts");
        let error = read_from(&mut source, &at(&snapshot, "accounts")).unwrap_err();
        assert_eq!(error.code, "source.no_collection");
    }
}

#[test]
fn a_pooler_in_transaction_mode_may_stand_in_between() {
    for server in servers() {
        let place = Place::on(&server, TABLES);
        let Some(pooler) = PgBouncer::in_front_of(server.endpoint(), PoolMode::Transaction) else {
            return;
        };
        let pooled = Place::on(&server, "").with("url", pooler.endpoint().url(place.database.name()).into());
        let mut source = pooled.source();
        let snapshot = source.open_snapshot().unwrap().unwrap();
        let before = place.read("accounts");
        place.database.sql(CHANGES);
        let mut streams: Vec<_> = (0..3)
            .map(|_| source.read(&at(&snapshot, "accounts")).unwrap())
            .collect();
        for stream in &mut streams {
            let mut count = 0;
            loop {
                match stream.next().unwrap() {
                    Item::Batch(batch) => count += Batch::record_count(&batch),
                    Item::End => break,
                    _ => {}
                }
            }
            assert_eq!(count, before.len());
        }
        source.close_snapshot(&snapshot).unwrap();
        assert_eq!(values(&pooled.read("sums"), "n"), [Value::Int(45_001)]);
    }
}
