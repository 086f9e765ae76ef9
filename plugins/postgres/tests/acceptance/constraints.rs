//! What follows the load: foreign keys, also where records point nowhere, sequences and statistics.
//! The catalog is compared, not what the sink says of it.

use whimbrel_plugin_api::collection::Reference;
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::{Collection, Finding, Sink as _};

use crate::preparing_place::{Place, codes, each};

fn ints(name: &str, fields: &[&str]) -> Collection {
    let fields = fields
        .iter()
        .map(|name| Field::new(*name, RecordType::INT64))
        .collect();
    Collection::new(name, Schema::new(fields)).with_key(["id"])
}

fn pointing(mut collection: Collection, fields: &[&str], to: &str, to_fields: &[&str]) -> Collection {
    collection.references.push(Reference {
        fields: fields.iter().map(|name| (*name).to_owned()).collect(),
        collection: to.to_owned(),
        to_fields: to_fields.iter().map(|name| (*name).to_owned()).collect(),
        is_enforced: false,
    });
    collection
}

/// Prepares, stores by hand, and ends the run.
fn run(place: &Place, collections: &[Collection], sql: &str) -> Vec<Finding> {
    let mut sink = place.prepared(collections);
    place.execute(sql);
    let findings = sink.add_constraints().unwrap();
    sink.finalize().unwrap();
    findings
}

fn foreign_keys(place: &Place) -> Vec<String> {
    place.lines(
        "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' ORDER BY 1, 2",
    )
}

#[test]
fn references_become_foreign_keys_once() {
    each(|place| {
        let children = pointing(
            ints("children", &["id", "parent", "me"]),
            &["parent"],
            "parents",
            &[],
        );
        let children = pointing(children, &["me"], "children", &["id"]);
        // One that is not part of the run.
        let children = pointing(children, &["me"], "elsewhere", &["id"]);
        let collections = [children, ints("parents", &["id", "first"])];
        let stored = "INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1, 1, 1), (2, NULL, 1)";
        let findings = run(place, &collections, stored);
        assert_eq!(codes(&findings), ["postgres.reference_without_index"; 2]);
        assert_eq!(
            findings[0].help.as_deref(),
            Some("`CREATE INDEX ON \"public\".\"children\" (\"parent\")`")
        );
        assert_eq!(findings[0].collection.as_deref(), Some("children"));
        let keys = [
            "children|children_me_fkey|FOREIGN KEY (me) REFERENCES children(id)",
            "children|children_parent_fkey|FOREIGN KEY (parent) REFERENCES parents(id)",
        ];
        assert_eq!(foreign_keys(place), keys);
        assert_eq!(
            run(place, &collections, ""),
            [],
            "the second time nothing is left to do"
        );
        assert_eq!(foreign_keys(place), keys);
        let analyzed = "SELECT relname FROM pg_class WHERE relname IN ('children', 'parents') AND reltuples > 0 ORDER BY 1";
        assert_eq!(place.lines(analyzed), ["children", "parents"]);
    });
}

#[test]
fn records_that_point_nowhere_are_counted_and_can_be_listed() {
    each(|place| {
        let collections = [
            pointing(ints("children", &["id", "parent"]), &["parent"], "parents", &[]),
            ints("parents", &["id"]),
        ];
        place.execute(
            "CREATE TABLE children(id bigint PRIMARY KEY, parent bigint); CREATE INDEX ON children(parent)",
        );
        let stored =
            "INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1, 1), (2, NULL), (3, 7), (4, 8)";
        let findings = run(place, &collections, stored);
        assert_eq!(codes(&findings), ["postgres.orphans"]);
        assert!(
            findings[0].message.starts_with("2 records of "),
            "{}",
            findings[0].message
        );
        let help = findings[0].help.clone().unwrap();
        let mut statements = help.split('`').skip(1).step_by(2);
        assert_eq!(
            place.lines(&format!("{} ORDER BY id", statements.next().unwrap())),
            ["3|7", "4|8"]
        );
        let key = "children|children_parent_fkey|FOREIGN KEY (parent) REFERENCES parents(id)";
        assert_eq!(foreign_keys(place), [format!("{key} NOT VALID")]);
        // The next run tries again.
        assert_eq!(codes(&run(place, &collections, "")), ["postgres.orphans"]);
        assert_eq!(run(place, &collections, "DELETE FROM children WHERE id > 2"), []);
        assert_eq!(foreign_keys(place), [key]);
        place.execute(statements.next().unwrap());
    });
}

#[test]
fn references_that_cannot_be_foreign_keys_are_said() {
    each(|place| {
        let children = pointing(
            ints("children", &["id", "parent", "far"]),
            &["parent"],
            "parents",
            &["other"],
        );
        let mut children = pointing(children, &["far", "parent"], "parents", &["id"]);
        children.references.push(Reference {
            fields: vec!["parent".to_owned()],
            collection: "texts".to_owned(),
            to_fields: Vec::new(),
            is_enforced: true,
        });
        let texts = Schema::new(vec![Field::required("id", RecordType::Text)]);
        let collections = [
            children,
            ints("parents", &["id", "other"]),
            Collection::new("texts", texts).with_key(["id"]),
        ];
        let findings = run(place, &collections, "");
        assert_eq!(codes(&findings), ["postgres.reference_without_key"; 3]);
        assert_eq!(foreign_keys(place), Vec::<String>::new());
    });
}

#[test]
fn keys_of_partitioned_tables_and_long_names_are_made() {
    each(|place| {
        place.execute(
            "CREATE TABLE parted(id bigint PRIMARY KEY, parent bigint) PARTITION BY HASH (id);
             CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        );
        let long = "p".repeat(60);
        let collections = [
            pointing(ints("parted", &["id", "parent"]), &["parent"], "parents", &[]),
            pointing(ints("children", &["id", &long]), &[&long], "parents", &[]),
            ints("parents", &["id"]),
        ];
        let findings = run(place, &collections, "");
        assert_eq!(codes(&findings), ["postgres.reference_without_index"; 2]);
        let names = place.lines("SELECT conname, octet_length(conname) FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1");
        assert_eq!(names.len(), 2);
        assert!(
            names[0].starts_with("children_ppp") && names[0].ends_with("_fkey|63"),
            "{names:?}"
        );
        assert_eq!(names[1], "parted_parent_fkey|18");
        // Records that point nowhere: no key at all, since there it cannot wait.
        place.execute(
            "ALTER TABLE parted DROP CONSTRAINT parted_parent_fkey; INSERT INTO parted VALUES (1, 99)",
        );
        let findings = run(place, &collections, "");
        assert_eq!(codes(&findings), ["postgres.orphans"]);
        assert!(findings[0].message.starts_with("1 records of "));
    });
}

#[test]
fn sequences_are_advanced_and_never_taken_back() {
    each(|place| {
        place.execute(
            "CREATE TABLE a(id bigserial PRIMARY KEY); CREATE TABLE b(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
             CREATE TABLE c(id bigserial PRIMARY KEY); CREATE TABLE d(id bigserial PRIMARY KEY);
             CREATE TABLE \"e e\"(id bigserial PRIMARY KEY); CREATE SEQUENCE down INCREMENT -1;
             CREATE TABLE f(id bigint PRIMARY KEY DEFAULT nextval('down')); ALTER SEQUENCE down OWNED BY f.id;
             SELECT setval('c_id_seq', 100)",
        );
        let collections: Vec<Collection> = ["a", "b", "c", "d", "e e", "f"]
            .iter()
            .map(|name| ints(name, &["id"]))
            .collect();
        let stored = "INSERT INTO a VALUES (7); INSERT INTO b OVERRIDING SYSTEM VALUE VALUES (1); INSERT INTO c VALUES (50);
                      INSERT INTO \"e e\" VALUES (9), (3), (-4); INSERT INTO f VALUES (5)";
        assert_eq!(run(place, &collections, stored), []);
        assert_eq!(
            place.lines(
                "SELECT nextval('a_id_seq'), nextval(pg_get_serial_sequence('b', 'id')), nextval('c_id_seq'), nextval('d_id_seq'), \
                 nextval('\"e e_id_seq\"'), nextval('down')"
            ),
            ["8|2|101|1|10|-1"]
        );
    });
}
