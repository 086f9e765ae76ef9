//! Single records that are removed by their keys, and nothing beside them: what foreign keys would delete or change along.
//! Not here: what every sink has to do when it removes (the checks of the plugin API).

use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId};
use whimbrel_plugin_api::{Collection, ErrorKind, ErrorScope, Sink as _};

use crate::postgres::PORTER;
use crate::writing_place::{Place, batch_of, each, int, keyed, record};

fn parents() -> Collection {
    keyed("parents", vec![Field::required("id", RecordType::INT64)])
}

fn remove(sink: &mut ForeignSink, ids: &[i64]) -> Result<u64, String> {
    let keys: Vec<_> = ids.iter().map(|id| record([("id", int(*id))])).collect();
    sink.begin(&LaneId::default()).unwrap();
    match sink.remove("parents", &batch_of(&parents(), &keys)) {
        Ok(count) => {
            let committed = sink.commit(&Checkpoint::default()).unwrap();
            assert_eq!(committed, Committed::Committed { seq: 1 });
            Ok(count)
        }
        Err(error) => {
            sink.abort().unwrap();
            assert_eq!(
                (error.kind, error.scope),
                (ErrorKind::Integrity, ErrorScope::Write)
            );
            assert!(error.help.is_some(), "{error:?}");
            Err(format!("{}: {}", error.code, error.message))
        }
    }
}

const REFUSED: &str = "postgres.remove_cascades: records of \"public\".\"children\" point to it by (\"parent\") and would be \
                       deleted or changed along";

fn state(place: &Place) -> Vec<String> {
    place.lines(
        "SELECT 'p', id, NULL FROM parents UNION ALL SELECT 'c', id, parent FROM children ORDER BY 1, 2",
    )
}

#[test]
fn a_record_that_others_would_follow_stays_and_the_others_go() {
    for action in ["CASCADE", "SET NULL", "SET DEFAULT"] {
        each(|place| {
            place.execute(&format!(
                "CREATE TABLE parents(id bigint PRIMARY KEY);
                 CREATE TABLE children(id bigint PRIMARY KEY, parent bigint DEFAULT 1 REFERENCES parents ON DELETE {action});
                 INSERT INTO parents SELECT generate_series(1, 5); INSERT INTO children VALUES (1, 2), (2, NULL), (3, 5)"
            ));
            let before = state(place);
            let mut sink = place.prepared(&[&parents()]);
            for ids in [&[2_i64, 3, 4][..], &[5], &[2, 9]] {
                assert_eq!(remove(&mut sink, ids), Err(REFUSED.to_owned()), "{action}");
                assert_eq!(state(place), before, "{action}");
            }
            assert_eq!(remove(&mut sink, &[3, 4, 9]), Ok(2), "{action}");
            place.execute("DELETE FROM children WHERE id = 1");
            assert_eq!(remove(&mut sink, &[2]), Ok(1), "{action}");
            assert_eq!(state(place), ["c|2|-", "c|3|5", "p|1|-", "p|5|-"], "{action}");
        });
    }
}

#[test]
fn records_that_point_to_each_other_go_together() {
    each(|place| {
        place.execute(
            "CREATE TABLE parents(id bigint PRIMARY KEY, up bigint REFERENCES parents ON DELETE CASCADE);
             INSERT INTO parents VALUES (1, 1), (2, NULL), (3, 2), (4, 3)",
        );
        let mut sink = place.prepared(&[&parents()]);
        assert!(remove(&mut sink, &[2, 3]).is_err(), "4 points to 3");
        assert_eq!(place.lines("SELECT count(*) FROM parents"), ["4"]);
        assert_eq!(remove(&mut sink, &[1, 2, 3, 4]), Ok(4));
    });
}

#[test]
fn keys_of_other_columns_and_of_parts_of_tables_are_seen() {
    each(|place| {
        place.execute(
            "CREATE TABLE parents(id bigint PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF parents FOR VALUES FROM (0) TO (10);
             CREATE TABLE high PARTITION OF parents FOR VALUES FROM (10) TO (20);
             CREATE TABLE children(id bigint PRIMARY KEY, parent bigint REFERENCES parents ON DELETE CASCADE) PARTITION BY RANGE (id);
             CREATE TABLE all_children PARTITION OF children DEFAULT;
             CREATE TABLE of_high(it bigint REFERENCES high ON DELETE SET NULL);
             INSERT INTO parents VALUES (1), (2), (11), (12);
             INSERT INTO children VALUES (1, 1); INSERT INTO of_high VALUES (11)",
        );
        let mut sink = place.prepared(&[&parents()]);
        assert_eq!(remove(&mut sink, &[1, 2]), Err(REFUSED.to_owned()));
        let refused = remove(&mut sink, &[11]).unwrap_err();
        assert!(refused.contains("\"of_high\""), "{refused}");
        assert_eq!(remove(&mut sink, &[2, 12]), Ok(2));
        assert_eq!(place.lines("SELECT it FROM of_high"), ["11"]);
        assert_eq!(place.lines("SELECT count(*) FROM children"), ["1"]);
    });
    each(|place| {
        place.execute(
            "CREATE TABLE parents(id bigint PRIMARY KEY, a int, b text, UNIQUE (a, b));
             CREATE TABLE children(x text, y int, FOREIGN KEY (y, x) REFERENCES parents (a, b) ON DELETE CASCADE);
             INSERT INTO parents VALUES (1, 1, 'x'), (2, 1, 'y'), (3, NULL, NULL);
             INSERT INTO children VALUES ('y', 1), (NULL, 1)",
        );
        let mut sink = place.prepared(&[&parents()]);
        let refused = remove(&mut sink, &[2]).unwrap_err();
        assert!(refused.contains("by (\"y\", \"x\")"), "{refused}");
        assert_eq!(remove(&mut sink, &[1, 3]), Ok(2));
        assert_eq!(place.lines("SELECT count(*) FROM children"), ["2"]);
    });
}

#[test]
fn what_cannot_be_seen_may_follow() {
    each(|place| {
        let porter = place.as_porter();
        place.execute(&format!(
            "CREATE SCHEMA hidden; CREATE TABLE parents(id bigint PRIMARY KEY); INSERT INTO parents VALUES (1), (2);
             CREATE TABLE hidden.children(parent bigint REFERENCES parents ON DELETE CASCADE); INSERT INTO hidden.children VALUES (1);
             ALTER TABLE parents OWNER TO {PORTER}"
        ));
        let mut sink = porter.prepared(&[&parents()]);
        let refused = remove(&mut sink, &[1]).unwrap_err();
        assert!(refused.contains("cannot be seen here"), "{refused}");
        assert_eq!(place.lines("SELECT count(*) FROM hidden.children"), ["1"]);
    });
}
