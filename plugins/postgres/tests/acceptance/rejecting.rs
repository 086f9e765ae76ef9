//! Records that the table does not take: each is named with its reason and its row, the others are stored, and to find them
//! stays affordable.

use std::collections::BTreeSet;

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::{Collection, ConflictPolicy};

use crate::postgres::PORTER;
use crate::writing_place::{each, int, keyed, record, text};

/// `t`: id (key), parent, name, n.
fn things() -> Collection {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::new("parent", RecordType::INT64),
        Field::new("name", RecordType::Text),
        Field::new("n", RecordType::INT64),
    ];
    keyed("t", fields)
}

fn thing(id: i64, parent: Option<i64>, name: Option<&str>, n: i64) -> Record {
    record([
        ("id", int(id)),
        ("parent", parent.map_or(Value::Null, int)),
        ("name", name.map_or(Value::Null, text)),
        ("n", int(n)),
    ])
}

const TABLES: &str = "CREATE TABLE parents(id bigint PRIMARY KEY); INSERT INTO parents VALUES (1);
    CREATE TABLE t(id bigint PRIMARY KEY, parent bigint REFERENCES parents, name text NOT NULL UNIQUE,
        n bigint CHECK (n > 0));";

/// Three writes; the fates of their records by number in the transaction.
fn mixed() -> ([Vec<Record>; 3], Vec<(u64, &'static str)>) {
    let writes = [
        vec![
            thing(1, Some(1), Some("a"), 1),
            thing(2, Some(1), None, 1),
            thing(3, None, Some("c\0"), 1),
            thing(4, Some(7), Some("d"), 1),
        ],
        vec![
            thing(5, None, Some("e"), 0),
            thing(6, None, Some("a"), 1),
            thing(7, None, Some("g"), 1),
        ],
        vec![
            thing(8, Some(8), Some("h"), 1),
            thing(9, Some(1), Some("i"), 1),
            thing(10, None, None, 0),
        ],
    ];
    let fates = vec![
        (1, "postgres.null_in_required"),
        (2, "postgres.nul_in_text"),
        (3, "postgres.foreign_key"),
        (4, "postgres.check_failed"),
        (5, "postgres.unique"),
        (7, "postgres.foreign_key"),
        (9, "postgres.null_in_required"),
    ];
    (writes, fates)
}

#[test]
fn records_at_fault_are_named_by_their_rows_over_several_writes() {
    each(|place| {
        for stored in ["", "INSERT INTO t VALUES (100, NULL, 'z', 1);"] {
            for policy in [
                ConflictPolicy::Overwrite,
                ConflictPolicy::Skip,
                ConflictPolicy::Fail,
            ] {
                place.execute(&format!("DROP TABLE IF EXISTS t, parents; {TABLES} {stored}"));
                let (writes, fates) = mixed();
                let fate = place.write(&things(), &writes, policy);
                assert_eq!(
                    (fate.accepted, fate.skipped, fate.codes()),
                    (3, 0, fates),
                    "{policy:?} {stored}"
                );
                assert_eq!(fate.rejected[&4].1, "5");
                let rows = place.lines("SELECT id, parent, name, n FROM t WHERE id < 100 ORDER BY id");
                assert_eq!(rows, ["1|1|a|1", "7|-|g|1", "9|1|i|1"], "{policy:?} {stored}");
            }
        }
    });
}

#[test]
fn what_triggers_refuse_or_drop_is_rejected() {
    each(|place| {
        for kind in ["BEFORE", "AFTER"] {
            place.execute(&format!(
                "DROP TABLE IF EXISTS t, parents; {TABLES}
                 CREATE OR REPLACE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
                   IF new.name = 'raise' THEN RAISE 'value %', new.name; END IF;
                   IF new.name = 'own' THEN RAISE 'no' USING ERRCODE = 'UE001'; END IF;
                   IF new.name LIKE 'drop%' THEN RETURN NULL; END IF;
                   RETURN new;
                 END$$;
                 CREATE TRIGGER judge {kind} INSERT ON t FOR EACH ROW EXECUTE FUNCTION judge()"
            ));
            let records = vec![
                thing(1, None, Some("a"), 1),
                thing(2, None, Some("raise"), 1),
                thing(3, None, Some("drop"), 1),
                thing(4, None, Some("own"), 1),
                thing(5, None, Some("b"), 1),
            ];
            let mut rejected = vec![(1, "postgres.trigger_refused"), (3, "postgres.trigger_refused")];
            let mut rows = vec!["1|a", "5|b"];
            match kind {
                "BEFORE" => rejected.insert(1, (2, "postgres.trigger_refused")),
                // What such a trigger answers is of no effect.
                _ => rows.insert(1, "3|drop"),
            }
            let fate = place.write(&things(), &[records], ConflictPolicy::Overwrite);
            assert_eq!(
                (fate.accepted, fate.codes()),
                (rows.len() as u64, rejected),
                "{kind}"
            );
            assert_eq!(place.lines("SELECT id, name FROM t ORDER BY id"), rows, "{kind}");
            // Nothing is raised if records are only dropped.
            let records = vec![thing(6, None, Some("drop too"), 1), thing(7, None, Some("c"), 1)];
            let fate = place.write(&things(), &[records], ConflictPolicy::Overwrite);
            let dropped = match kind {
                "BEFORE" => vec![(0, "postgres.trigger_refused")],
                _ => vec![],
            };
            assert_eq!(fate.codes(), dropped, "{kind}");
            assert_eq!(place.lines("SELECT id FROM t WHERE id = 7"), ["7"]);
        }
    });
}

/// Numbers of records at fault: `wanted` of `of`, spread by a generator with this seed.
fn spread(seed: u64, wanted: usize, of: u64) -> BTreeSet<u64> {
    let mut state = seed;
    let mut chosen = BTreeSet::new();
    while chosen.len() < wanted {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        chosen.insert((state >> 33) % of);
    }
    chosen
}

#[test]
fn one_record_in_a_hundred_at_fault_costs_a_bounded_number_of_attempts() {
    let seed = std::env::var("WHIMBREL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("WHIMBREL_SEED={seed}");
    let bad = spread(seed, 100, 10_000);
    each(|place| {
        // A sequence keeps its count whatever is undone.
        place.execute(&format!(
            "{TABLES} CREATE SEQUENCE attempts;
             CREATE FUNCTION count_attempt() RETURNS trigger LANGUAGE plpgsql AS
               $$BEGIN PERFORM nextval('attempts'); RETURN NULL; END$$;
             CREATE TRIGGER count_attempt BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION count_attempt()"
        ));
        let of = |number: u64| {
            let parent = bad.contains(&number).then_some(-1);
            thing(number.cast_signed(), parent, Some(&format!("n{number}")), 1)
        };
        let writes = [(0..5_000).map(of).collect(), (5_000..10_000).map(of).collect()];
        let fate = place.write(&things(), &writes, ConflictPolicy::Overwrite);
        let expected: Vec<_> = bad
            .iter()
            .map(|number| (*number, "postgres.foreign_key"))
            .collect();
        assert_eq!((fate.accepted, fate.codes()), (9_900, expected));
        let stored = "SELECT count(*), count(parent), sum(id) FROM t";
        let sum = (0..10_000_u64).sum::<u64>() - bad.iter().sum::<u64>();
        assert_eq!(place.lines(stored), [format!("9900|0|{sum}")]);
        // Four attempts on each of the four levels below the first 64 ranges, for each of them, and the first 85.
        let attempts: u64 = place.lines("SELECT last_value FROM attempts")[0].parse().unwrap();
        assert!((200..1_700).contains(&attempts), "{attempts} attempts");
    });
}

#[test]
fn a_table_that_refers_to_itself_takes_children_before_parents() {
    each(|place| {
        place.execute(
            "CREATE TABLE t(id bigint PRIMARY KEY, parent bigint REFERENCES t, name text NOT NULL, n bigint)",
        );
        // 1 -> 2 -> .. -> 9, one of nobody, and one that nothing but a refusal stands in the way of.
        let mut records: Vec<_> = (1..9).map(|id| thing(id, Some(id + 1), Some("a"), 1)).collect();
        records.extend([
            thing(20, Some(21), Some("orphan"), 1),
            thing(9, None, Some("root"), 1),
            thing(30, Some(31), Some("child of one refused"), 1),
            thing(31, None, None, 1),
        ]);
        let fate = place.write(&things(), &[records], ConflictPolicy::Overwrite);
        let rejected = vec![
            (8, "postgres.foreign_key"),
            (10, "postgres.foreign_key"),
            (11, "postgres.null_in_required"),
        ];
        assert_eq!((fate.accepted, fate.codes()), (9, rejected));
        assert_eq!(place.lines("SELECT count(*), sum(id) FROM t"), ["9|45"]);
    });
}

#[test]
fn constraints_that_are_looked_at_on_commit_are_looked_at_before() {
    each(|place| {
        place.execute(
            "CREATE TABLE parents(id bigint PRIMARY KEY); INSERT INTO parents VALUES (1);
             CREATE TABLE t(id bigint PRIMARY KEY, parent bigint REFERENCES parents DEFERRABLE INITIALLY DEFERRED,
               name text, n bigint)",
        );
        for records in [
            vec![
                thing(1, Some(1), None, 1),
                thing(2, Some(5), None, 1),
                thing(3, None, None, 1),
            ],
            vec![
                thing(4, Some(1), None, 1),
                thing(5, Some(5), None, 1),
                thing(6, None, None, 1),
            ],
        ] {
            let fate = place.write(&things(), &[records], ConflictPolicy::Overwrite);
            assert_eq!(
                (fate.accepted, fate.codes()),
                (2, vec![(1, "postgres.foreign_key")])
            );
        }
        assert_eq!(place.lines("SELECT id FROM t ORDER BY id"), ["1", "3", "4", "6"]);
    });
}

#[test]
fn a_duplicate_after_a_record_at_fault_takes_its_place() {
    each(|place| {
        place.execute(TABLES);
        let records = vec![
            thing(1, None, Some("first"), 0),
            thing(1, None, Some("second"), 1),
            thing(2, None, Some("kept"), 1),
            thing(2, None, Some("refused"), 0),
        ];
        let fate = place.write(&things(), &[records], ConflictPolicy::Fail);
        assert_eq!(
            (fate.accepted, fate.codes()),
            (
                2,
                vec![(0, "postgres.check_failed"), (3, "postgres.check_failed")]
            )
        );
        assert_eq!(
            place.lines("SELECT id, name FROM t ORDER BY id"),
            ["1|second", "2|kept"]
        );
    });
}

#[test]
fn names_like_statements_are_only_names() {
    each(|place| {
        let names = [
            "s",
            "t",
            "n",
            "excluded",
            "whimbrel_from",
            "a\"; DROP TABLE x",
            "O'Brien \\",
            "$$",
            "{{TRIAL}}",
            "ключ",
        ];
        let fields = names.iter().map(|name| Field::new(*name, RecordType::Text));
        let mut all = vec![Field::required("id", RecordType::INT64)];
        all.extend(fields);
        let collection = keyed("{{TABLE}} \"x\"; --", all);
        let collection = Collection {
            name: format!("\"{}\"", collection.name.replace('"', "\"\"")),
            ..collection
        };
        let of = |id: i64, value: &str| {
            let mut record: Record = names
                .iter()
                .map(|name| ((*name).to_owned(), text(value)))
                .collect();
            record.insert("id".to_owned(), int(id));
            record
        };
        place.write(
            &collection,
            &[vec![of(1, "a"), of(2, "b")]],
            ConflictPolicy::Overwrite,
        );
        let table = "\"{{TABLE}} \"\"x\"\"; --\"";
        place.execute(&format!("ALTER TABLE {table} ADD CHECK (s <> 'bad')"));
        let records = vec![of(2, "c"), of(3, "bad"), of(4, "d"), of(4, "e")];
        let fate = place.write(&collection, &[records], ConflictPolicy::Overwrite);
        assert_eq!(
            (fate.accepted, fate.codes()),
            (3, vec![(1, "postgres.check_failed")])
        );
        assert_eq!(
            place.lines(&format!("SELECT id, s, \"ключ\" FROM {table} ORDER BY id")),
            ["1|a|a", "2|c|c", "4|e|e"]
        );
    });
}

#[test]
fn row_level_security_rejects_the_records_that_it_does_not_let_in() {
    each(|place| {
        place.execute(&format!(
            "SET ROLE {PORTER}; CREATE TABLE t(id bigint PRIMARY KEY, parent bigint, name text, n bigint);
             ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE POLICY small ON t USING (true) WITH CHECK (id < 100)"
        ));
        let place = place.as_porter();
        let records = vec![
            thing(1, None, Some("a"), 1),
            thing(100, None, Some("b"), 1),
            thing(2, None, Some("c"), 1),
        ];
        let fate = place.write(&things(), &[records], ConflictPolicy::Overwrite);
        assert_eq!(
            (fate.accepted, fate.codes()),
            (2, vec![(1, "postgres.row_security")])
        );
        assert_eq!(place.lines("SELECT id FROM t ORDER BY id"), ["1", "2"]);
    });
}
