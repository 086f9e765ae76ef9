//! Collections that are emptied, and nothing beside them.
//! Rings of foreign keys and cascades among them.

use whimbrel_plugin_api::sink::ClearRequest;
use whimbrel_plugin_api::{ErrorScope, Sink as _};

use crate::preparing_place::{Place, each, relations};

fn clear(place: &Place, names: &[&str]) -> Result<Vec<Option<u64>>, String> {
    let request = ClearRequest {
        collections: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let answer = place.sink().clear(&request);
    answer.map(|report| report.removed).map_err(|error| {
        assert_eq!(error.scope, ErrorScope::Write);
        error.code
    })
}

fn counts(place: &Place) -> Vec<String> {
    let tables = ["parents", "children", "others", "watching"];
    let count = |table: &&str| format!("(SELECT count(*) FROM {table})");
    place.lines(&format!(
        "SELECT {}",
        tables.iter().map(count).collect::<Vec<_>>().join(", ")
    ))
}

const TABLES: &str = "CREATE TABLE parents(id bigint PRIMARY KEY, first bigint);
    CREATE TABLE children(id bigserial PRIMARY KEY, parent bigint REFERENCES parents);
    CREATE TABLE others(id bigint PRIMARY KEY);
    CREATE TABLE watching(child bigint REFERENCES children ON DELETE CASCADE);
    INSERT INTO parents VALUES (1), (2); INSERT INTO children(parent) VALUES (1), (2), (NULL); INSERT INTO others VALUES (1)";

#[test]
fn exactly_the_named_tables_are_emptied() {
    each(|place| {
        place.execute(TABLES);
        let before = relations(place);
        assert_eq!(clear(place, &["children", "parents"]), Ok(vec![Some(3), Some(2)]));
        assert_eq!(counts(place), ["0|0|1|0"]);
        assert_eq!(
            clear(place, &["public.children", "parents"]),
            Ok(vec![Some(0), Some(0)])
        );
        assert_eq!(relations(place), before);
        assert_eq!(
            place.lines("SELECT nextval('children_id_seq')"),
            ["4"],
            "sequences go on"
        );
    });
}

#[test]
fn a_ring_of_foreign_keys_is_emptied_at_once() {
    each(|place| {
        place.execute(TABLES);
        place.execute(
            "ALTER TABLE parents ADD FOREIGN KEY (first) REFERENCES children ON DELETE RESTRICT; UPDATE parents SET first = id",
        );
        for order in [["children", "parents"], ["parents", "children"]] {
            place.execute("BEGIN; SAVEPOINT s; ROLLBACK TO s; COMMIT");
            let removed = clear(place, &order).unwrap();
            assert_eq!(counts(place), ["0|0|1|0"]);
            assert_eq!(removed.iter().flatten().sum::<u64>(), 5);
            place.execute(
                "INSERT INTO parents VALUES (1), (2); INSERT INTO children VALUES (1, 1), (2, 2), (3, NULL); UPDATE parents SET first = id",
            );
        }
    });
}

#[test]
fn nothing_is_emptied_if_anything_is_in_the_way() {
    each(|place| {
        place.execute(TABLES);
        place.execute("INSERT INTO watching VALUES (1); CREATE VIEW seen AS SELECT 1 AS id");
        let before = counts(place);
        for (names, code) in [
            (vec!["others", "nope"], "source.no_collection"),
            (vec!["others", "\"bad"], "source.no_collection"),
            (vec!["others", "seen"], "postgres.not_a_table"),
            (vec!["others", "children", "parents"], "postgres.would_cascade"),
        ] {
            assert_eq!(clear(place, &names), Err(code.to_owned()), "{names:?}");
            assert_eq!(counts(place), before);
        }
        // A foreign key of a table that is not named, which does not cascade.
        let request = ClearRequest {
            collections: vec!["others".to_owned(), "parents".to_owned()],
        };
        assert_eq!(
            place.sink().clear(&request).unwrap_err().kind,
            whimbrel_plugin_api::ErrorKind::Integrity
        );
        assert_eq!(counts(place), before);
        // With everything named nothing is beside.
        assert_eq!(
            clear(place, &["watching", "children", "parents"]),
            Ok(vec![Some(1), Some(3), Some(2)])
        );
    });
}

#[test]
fn a_trigger_that_keeps_records_is_not_passed_over() {
    each(|place| {
        place.execute(TABLES);
        place.execute(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER keep BEFORE DELETE ON others FOR EACH ROW EXECUTE FUNCTION keep()",
        );
        let before = counts(place);
        assert_eq!(
            clear(place, &["children", "others"]),
            Err("postgres.not_cleared".to_owned())
        );
        assert_eq!(counts(place), before);
    });
}

#[test]
fn partitions_go_along_and_tables_that_inherit_do_not() {
    each(|place| {
        place.execute(
            "CREATE TABLE parted(id bigint) PARTITION BY LIST (id); CREATE TABLE parted_1 PARTITION OF parted DEFAULT;
             CREATE TABLE base(id bigint); CREATE TABLE heir() INHERITS (base);
             INSERT INTO parted VALUES (1), (2); INSERT INTO base VALUES (1); INSERT INTO heir VALUES (2)",
        );
        assert_eq!(clear(place, &["parted", "base"]), Ok(vec![Some(2), Some(1)]));
        assert_eq!(
            place.lines("SELECT (SELECT count(*) FROM parted), (SELECT count(*) FROM base)"),
            ["0|1"]
        );
    });
}
