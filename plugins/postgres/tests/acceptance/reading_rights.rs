//! What whoever connects may not read, what is hidden from them, and what happens when the connection goes.
//! Very large values too, and reads that wait when the host cancels.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::source::{CountRequest, QueryRequest};
use whimbrel_plugin_api::{Error, ErrorKind, FindingLevel, Item, ReadRequest, RecordStream, Source as _};

use crate::postgres::{PORTER, Server, Version};
use crate::reading_place::{Place, in_batches, places};

const TABLES: &str = "
CREATE TABLE open(id int PRIMARY KEY, ref int); CREATE TABLE closed(id int PRIMARY KEY); CREATE TABLE partly(id int PRIMARY KEY);
ALTER TABLE open ADD FOREIGN KEY (ref) REFERENCES partly; ALTER TABLE open ADD FOREIGN KEY (ref) REFERENCES closed(id);
INSERT INTO partly SELECT i FROM generate_series(1, 10) i; ALTER TABLE partly ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON partly USING (id <= 3); CREATE SCHEMA shut; CREATE TABLE shut.inside(id int);
";

#[test]
fn a_table_without_the_right_is_named_and_left_out() {
    for place in places(TABLES) {
        place
            .database
            .sql(&format!("GRANT SELECT ON open, partly, shut.inside TO {PORTER}"));
        let place = Place {
            config: json!({ "url": place.database.password_url() }),
            ..place
        };
        let findings = place.source().check().unwrap();
        let of = |name: &str| -> Vec<_> {
            let of = findings
                .iter()
                .filter(|finding| finding.collection.as_deref() == Some(name));
            of.map(|finding| (finding.level, finding.code.as_str(), finding.help.is_some()))
                .collect()
        };
        for name in ["closed", "shut.inside"] {
            assert_eq!(of(name), [(FindingLevel::Warning, "postgres.no_select", true)]);
        }
        assert_eq!(
            of("partly"),
            [(FindingLevel::Warning, "postgres.row_security", true)]
        );
        let found = place.collections();
        let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["open", "partly"]);
        // Rows of `partly` that are not seen are not guaranteed to be there for us.
        let references: Vec<_> = found[0]
            .references
            .iter()
            .map(|found| (found.collection.as_str(), found.is_enforced))
            .collect();
        assert_eq!(references, [("partly", false)]);
        assert!(found[1].hides_records && !found[0].hides_records);
        let error = place.read_with(&ReadRequest::all("closed")).unwrap_err();
        assert_eq!(
            (error.kind, error.code.as_str()),
            (ErrorKind::Permission, "postgres.no_select")
        );
        assert!(error.message.contains("closed") && error.help.is_some());
    }
}

#[test]
fn a_table_of_which_records_are_hidden_is_read_only_if_what_is_visible_is_wanted() {
    for place in places(TABLES) {
        place
            .database
            .sql(&format!("GRANT SELECT ON open, partly TO {PORTER}"));
        let url = place.database.password_url();
        let of_all = Place {
            config: json!({ "url": url }),
            ..place
        };
        let error = of_all.read_with(&ReadRequest::all("partly")).unwrap_err();
        assert_eq!(
            (error.kind, error.code.as_str()),
            (ErrorKind::Permission, "postgres.row_security")
        );
        assert!(error.help.unwrap().contains("visible_only"), "{}", error.message);
        let count = CountRequest {
            collection: "partly".to_owned(),
            snapshot: None,
        };
        assert_eq!(
            of_all.source().count(&count).unwrap_err().code,
            "postgres.row_security"
        );
        // What is asked in the server's own language is refused by the server.
        let rule = QueryRequest {
            statement: "SELECT id FROM partly".to_owned(),
            ..QueryRequest::default()
        };
        let asked = of_all
            .source()
            .query(&rule)
            .and_then(|mut stream| to_the_end(&mut *stream));
        assert_eq!(asked.unwrap_err().kind, ErrorKind::Permission);
        let visible = Place {
            config: json!({ "url": url, "row_security": "visible_only" }),
            ..of_all
        };
        assert_eq!(visible.read("partly").len(), 3);
        let mut stream = visible.source().query(&rule).unwrap();
        assert_eq!(to_the_end(&mut *stream).unwrap(), 3);
    }
}

const LARGE: &str = "
CREATE TABLE large(id int PRIMARY KEY, pad text); INSERT INTO large SELECT i, repeat('x', 1000) FROM generate_series(1, 40000) i;
CREATE TABLE huge(id int PRIMARY KEY, body text, octets bytea); INSERT INTO huge SELECT i, repeat('äb😀', 1500000), NULL FROM generate_series(1, 3) i;
INSERT INTO huge VALUES (4, 'small', decode(repeat('00ff', 5000000), 'hex'));
CREATE FUNCTION forever() RETURNS int LANGUAGE plpgsql AS 'BEGIN LOOP PERFORM pg_sleep(60); END LOOP; END';
CREATE VIEW slow AS SELECT forever() AS n;
";

fn to_the_end(stream: &mut dyn RecordStream) -> Result<usize, Error> {
    let mut count = 0;
    loop {
        match stream.next()? {
            Item::Batch(batch) => count += batch.record_count(),
            Item::End => return Ok(count),
            _ => {}
        }
    }
}

#[test]
fn values_of_megabytes_come_whole() {
    for place in places(LARGE) {
        let records = place.read("huge");
        assert_eq!(records.len(), 4);
        assert_eq!(records[2]["body"], Value::text("äb😀".repeat(1_500_000)));
        let octets: Vec<u8> = [0, 255].repeat(5_000_000);
        assert_eq!(records[3]["octets"], Value::Bytes(octets));
        let reading = place.read_with(&in_batches("huge", 100)).unwrap();
        let counts: Vec<usize> = reading.cursors.iter().map(|(count, _)| *count).collect();
        assert_eq!(counts, [1, 2, 3, 4], "each of them travels alone");
    }
}

#[test]
fn a_connection_that_is_cut_in_the_middle_is_unavailable() {
    for place in places(LARGE) {
        let mut stream = place.source().read(&in_batches("large", 100)).unwrap();
        assert!(matches!(stream.next().unwrap(), Item::Schema(_)));
        assert!(matches!(stream.next().unwrap(), Item::Batch(_)));
        place.database.sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'whimbrel'",
        );
        let error = to_the_end(&mut *stream).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    }
}

#[test]
fn a_server_that_dies_in_the_middle_is_unavailable() {
    let Some(mut server) = Server::own(Version::V15, &[]) else {
        return;
    };
    let place = Place::on(&server, LARGE);
    let mut stream = place.source().read(&in_batches("large", 100)).unwrap();
    assert!(matches!(stream.next().unwrap(), Item::Schema(_)));
    assert!(matches!(stream.next().unwrap(), Item::Batch(_)));
    server.kill();
    let error = to_the_end(&mut *stream).unwrap_err();
    assert_eq!(
        (error.kind, error.code.as_str()),
        (ErrorKind::Unavailable, "postgres.connection_lost")
    );
    server.start();
    assert_eq!(place.read("huge").len(), 4);
}

#[test]
fn a_read_that_says_nothing_ends_when_the_host_cancels() {
    for place in places(LARGE) {
        let mut source = place.source();
        let canceller = source.canceller();
        let mut stream = source.read(&ReadRequest::all("slow")).unwrap();
        assert!(matches!(stream.next().unwrap(), Item::Schema(_)));
        let waiting = std::thread::spawn(move || stream.next().map(drop));
        let is_waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                          AND application_name = 'whimbrel' AND wait_event = 'PgSleep'";
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while place.database.sql(is_waiting) != "1" {
            assert!(std::time::Instant::now() < deadline, "the read does not begin");
        }
        canceller.cancel();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind, ErrorKind::Cancelled);
    }
}
