//! What the catalog says of tables of every kind, asked of real servers.
//! Each test has databases of its own in PostgreSQL 15 and 18.

use whimbrel_plugin_api::Services;

use super::{Identity, PgTypeKind, Table, TableKind, Wanted, load};
use crate::client::Client;
use crate::names::TableName;
use crate::servers as postgres;

const TABLES: &str = r#"
CREATE SCHEMA sales; CREATE SCHEMA "odd ""schema";
CREATE TYPE sales.mood AS ENUM ('sad', 'o''k', 'happy'); ALTER TYPE sales.mood ADD VALUE 'so-so' BEFORE 'happy';
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN price AS numeric(12, 2) CHECK (VALUE > 0);
CREATE DOMAIN list_price AS price NOT NULL DEFAULT 1;
CREATE TABLE parent(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text NOT NULL UNIQUE, region int,
  twice bigint GENERATED ALWAYS AS (id * 2) STORED, UNIQUE (region, code) INCLUDE (twice));
CREATE UNIQUE INDEX ON parent (lower(code)); CREATE UNIQUE INDEX ON parent (region) WHERE region > 0;
CREATE UNIQUE INDEX ON parent (code COLLATE "C", region);
CREATE TABLE "odd ""schema"."odd ""table"(
  "a ""b" serial, mood sales.mood DEFAULT 'sad', moods sales.mood[], money price, listed list_price, prices price[],
  grid int[][] NOT NULL, pair pair, span int4range, spans int4multirange, odd int2vector, letter "char", name name,
  short varchar(10)[], amount numeric(10, -2), fixed char(3), bits bit(5), zoned timestamp(3) with time zone,
  CONSTRAINT late UNIQUE ("a ""b") DEFERRABLE, parent_code text CONSTRAINT up REFERENCES parent(code) DEFERRABLE,
  CONSTRAINT unchecked_one CHECK (true));
ALTER TABLE "odd ""schema"."odd ""table" ADD COLUMN gone int; ALTER TABLE "odd ""schema"."odd ""table" DROP COLUMN gone;
ALTER TABLE "odd ""schema"."odd ""table" ADD COLUMN parent_id bigint;
ALTER TABLE "odd ""schema"."odd ""table" ADD CONSTRAINT unchecked FOREIGN KEY (parent_id) REFERENCES parent NOT VALID;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER on_write BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER is_off BEFORE INSERT ON parent FOR EACH ROW EXECUTE FUNCTION nothing();
ALTER TABLE parent DISABLE TRIGGER is_off;
CREATE TABLE parted(id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE parted_rest PARTITION OF parted DEFAULT PARTITION BY LIST (id);
CREATE TABLE parted_leaf PARTITION OF parted_rest DEFAULT;
CREATE TABLE points_in(id int, day date, FOREIGN KEY (id, day) REFERENCES parted);
CREATE TABLE base(id int); CREATE TABLE derived(extra int) INHERITS (base);
CREATE VIEW seen AS SELECT id FROM parent; CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one;
CREATE TABLE nothing(); CREATE TABLE secret(id int PRIMARY KEY); ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
INSERT INTO parted SELECT i, '2024-06-01'::date + i FROM generate_series(1, 500) i;
INSERT INTO base SELECT 1 FROM generate_series(1, 40);
ANALYZE parted; ANALYZE base;
GRANT USAGE ON SCHEMA sales TO CURRENT_USER;
"#;

fn tables(url: String, wanted: Wanted<'_>) -> Vec<Table> {
    let config = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
    let client = Client::new(config, Services::detached()).unwrap();
    client
        .block_on(async {
            let mut connection = client.connect().await?;
            let tables = load(&mut connection, wanted).await?;
            connection.close().await;
            Ok(tables)
        })
        .unwrap()
}

fn named<'t>(tables: &'t [Table], name: &str) -> &'t Table {
    tables
        .iter()
        .find(|table| table.name.name == name)
        .unwrap_or_else(|| panic!("no table `{name}`"))
}

#[test]
fn everything_that_a_table_says_of_itself_is_read() {
    for server in postgres::servers() {
        let database = server.database();
        database.sql(TABLES);
        let tables = tables(database.url(), Wanted::AllBut(&[]));
        let names: Vec<&str> = tables.iter().map(|table| table.name.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "odd \"table",
                "base",
                "derived",
                "kept",
                "nothing",
                "parent",
                "parted",
                "points_in",
                "secret",
                "seen"
            ]
        );
        let parent = named(&tables, "parent");
        assert_eq!(parent.primary_key, ["id"]);
        assert_eq!(
            parent.unique_keys,
            [vec!["id"], vec!["code"], vec!["region", "code"]]
        );
        assert_eq!(parent.triggers, ["on_write"]);
        assert_eq!(parent.columns[0].identity, Identity::Always);
        assert_eq!(
            parent.columns[0].sequence.as_deref(),
            Some("public.parent_id_seq")
        );
        assert!(parent.columns[3].is_generated && !parent.columns[3].has_default);
        assert!(
            parent.may_select
                && parent.may_insert
                && parent.may_update
                && parent.may_delete
                && parent.is_owner
        );
        assert!(
            !named(&tables, "secret").has_row_security,
            "a superuser passes it"
        );
        the_odd_table_is_read(named(&tables, "odd \"table"));
        let parted = named(&tables, "parted");
        assert_eq!(parted.kind, TableKind::Partitioned);
        assert_eq!(parted.record_estimate, Some(500));
        assert_eq!(parted.primary_key, ["id", "day"]);
        assert!(parted.size_bytes > 8_192 && !parted.has_children);
        let foreign_keys = &named(&tables, "points_in").foreign_keys;
        assert_eq!(foreign_keys.len(), 1, "{foreign_keys:?}");
        assert_eq!(foreign_keys[0].to_columns, ["id", "day"]);
        let base = named(&tables, "base");
        assert_eq!((base.record_estimate, base.has_children), (Some(40), true));
        assert_eq!(named(&tables, "seen").kind, TableKind::View);
        assert_eq!(named(&tables, "kept").kind, TableKind::MaterializedView);
        let nothing = named(&tables, "nothing");
        assert_eq!((nothing.columns.len(), nothing.record_estimate), (0, Some(0)));
    }
}

fn the_odd_table_is_read(odd: &Table) {
    let column = |name: &str| odd.column(name).unwrap_or_else(|| panic!("no column `{name}`"));
    let formatted = |name: &str| column(name).pg_type.formatted.as_str();
    assert_eq!(odd.name.schema, "odd \"schema");
    let serial = column("a \"b");
    assert!(serial.has_default && serial.is_not_null);
    assert_eq!(
        serial.sequence.as_deref(),
        Some(r#""odd ""schema"."odd ""table_a ""b_seq""#)
    );
    let PgTypeKind::Enum(labels) = &column("mood").pg_type.kind else {
        panic!("no enum")
    };
    assert_eq!(labels, &["sad", "o'k", "so-so", "happy"]);
    assert_eq!(formatted("mood"), "sales.mood");
    let PgTypeKind::Array(item) = &column("moods").pg_type.kind else {
        panic!("no array")
    };
    assert!(matches!(item.kind, PgTypeKind::Enum(_)));
    assert_eq!(formatted("moods"), "sales.mood[]");
    for name in ["money", "listed"] {
        let PgTypeKind::Domain(base) = &column(name).pg_type.kind else {
            panic!("no domain")
        };
        assert_eq!(
            (base.formatted.as_str(), &base.kind),
            ("numeric(12,2)", &PgTypeKind::Base)
        );
    }
    assert!(column("listed").is_not_null && column("listed").has_default);
    assert!(!column("money").is_not_null && !column("money").has_default);
    let PgTypeKind::Array(item) = &column("prices").pg_type.kind else {
        panic!("no array")
    };
    assert!(matches!(item.kind, PgTypeKind::Domain(_)));
    assert_eq!((formatted("grid"), column("grid").dimensions), ("integer[]", 2));
    assert!(column("grid").is_not_null);
    assert_eq!(column("pair").pg_type.kind, PgTypeKind::Composite);
    assert_eq!(formatted("pair"), "public.pair");
    assert_eq!(column("span").pg_type.kind, PgTypeKind::Range);
    assert_eq!(column("spans").pg_type.kind, PgTypeKind::Range);
    assert_eq!(column("odd").pg_type.kind, PgTypeKind::Base);
    assert_eq!(column("name").pg_type.kind, PgTypeKind::Base);
    assert_eq!(formatted("short"), "character varying(10)[]");
    assert_eq!(formatted("amount"), "numeric(10,-2)");
    assert_eq!(formatted("fixed"), "character(3)");
    assert_eq!(formatted("bits"), "bit(5)");
    assert_eq!(formatted("zoned"), "timestamp(3) with time zone");
    assert_eq!(odd.columns.last().unwrap().name, "parent_id");
    assert_eq!(odd.column("gone"), None);
    assert!(odd.unique_keys.is_empty(), "{:?}", odd.unique_keys);
    let [unchecked, up] = &odd.foreign_keys[..] else {
        panic!("two foreign keys")
    };
    assert_eq!(
        (up.name.as_str(), up.is_validated, up.is_deferrable),
        ("up", true, true)
    );
    assert_eq!(
        up.to,
        TableName {
            schema: "public".into(),
            name: "parent".into()
        }
    );
    assert_eq!(
        (
            unchecked.columns.clone(),
            unchecked.to_columns.clone(),
            unchecked.is_validated
        ),
        (vec!["parent_id".to_owned()], vec!["id".to_owned()], false)
    );
}

#[test]
fn tables_are_found_by_name_and_rights_are_those_of_whoever_asks() {
    for server in postgres::servers() {
        let database = server.database();
        database.sql(TABLES);
        database.sql(&format!(
            "GRANT SELECT ON secret, parent TO {porter}; CREATE POLICY few ON secret USING (id < 3);",
            porter = postgres::PORTER
        ));
        let name = |name: &str| TableName {
            schema: "public".to_owned(),
            name: name.to_owned(),
        };
        let wanted = [name("secret"), name("parted_a"), name("no such"), name("base")];
        let tables = tables(database.password_url(), Wanted::Tables(&wanted));
        let names: Vec<&str> = tables.iter().map(|table| table.name.name.as_str()).collect();
        assert_eq!(names, ["base", "parted_a", "secret"]);
        assert!(!tables[0].may_select && !tables[0].is_owner);
        assert!(tables[1].is_partition);
        let secret = &tables[2];
        assert!(secret.may_select && !secret.may_insert && secret.has_row_security);
    }
}
