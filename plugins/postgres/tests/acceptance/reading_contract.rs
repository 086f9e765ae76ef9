//! The suite of the source role.
//! Its tables are of every kind and key, some with records that must be rejected.

use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::{ExpectedCollection, Record, SourceCase, Value, source};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_postgres::WhimbrelPlugin;

use crate::reading_place::places;

const TABLES: &str = r#"
CREATE SCHEMA sales;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE users(id bigint PRIMARY KEY, name text NOT NULL, score float8, avatar bytea, mood mood, tags text[],
  born date, seen timestamptz, price numeric(12, 2), doc jsonb);
CREATE TABLE sales.orders("user" bigint REFERENCES users, code text, PRIMARY KEY (code, "user"));
CREATE TABLE log(line text, n int);
CREATE TABLE loose(id uuid UNIQUE, n numeric);
CREATE TABLE unique_only(a text COLLATE "C" NOT NULL, b numeric NOT NULL, at timestamp NOT NULL, UNIQUE (b, at, a));
CREATE TABLE parted(id int PRIMARY KEY, note text) PARTITION BY HASH (id);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE keyless_parted(id int, note text) PARTITION BY HASH (id);
CREATE TABLE keyless_0 PARTITION OF keyless_parted FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE base(id int PRIMARY KEY); CREATE TABLE derived(extra int) INHERITS (base);
CREATE TABLE empty(a int, b text); CREATE TABLE nothing();
CREATE VIEW seen AS SELECT id FROM users; CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one;
CREATE TABLE wrong(id int PRIMARY KEY, price numeric(5, 2), grid int[]);
INSERT INTO users SELECT i * 3, 'user ' || i, i / 4.0, decode(lpad(to_hex(i), 2, '0'), 'hex'),
  (ARRAY['sad', 'ok', 'happy', NULL])[1 + i % 4]::mood, ARRAY['t' || i, NULL], '2000-02-28'::date + i,
  '2024-01-01 00:00:00+00'::timestamptz + i * interval '1 day', i * 1.25, jsonb_build_object('n', i)
  FROM generate_series(1, 57) i;
INSERT INTO sales.orders SELECT id, 'c' || id FROM users WHERE id % 2 = 0;
INSERT INTO log SELECT name, id FROM users;
INSERT INTO loose SELECT md5(id::text)::uuid, id FROM users;
INSERT INTO loose VALUES (NULL, 1), (NULL, 'NaN');
INSERT INTO unique_only SELECT 'k' || i, i % 3 + 0.5, '2020-01-01'::timestamp + i * interval '1 us' FROM generate_series(1, 40) i;
INSERT INTO parted SELECT i, 'note ' || i FROM generate_series(1, 41) i;
INSERT INTO keyless_parted SELECT i, 'note ' || i FROM generate_series(1, 23) i;
INSERT INTO base SELECT i FROM generate_series(1, 5) i; INSERT INTO derived SELECT i, i FROM generate_series(1, 7) i;
INSERT INTO nothing SELECT FROM generate_series(1, 9);
INSERT INTO wrong SELECT i, i, ARRAY[i] FROM generate_series(1, 20) i;
CREATE SEQUENCE counter;
CREATE FUNCTION write_one() RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (''written'', 1) RETURNING n';
UPDATE wrong SET price = 'NaN' WHERE id IN (1, 7, 20); UPDATE wrong SET grid = ARRAY[[1, 2], [3, 4]] WHERE id IN (8, 9);
"#;

/// A record of `users`, as a statement selects it: of an answer the database tells no modifiers of types.
fn user(i: i64, mood: &str) -> Record {
    let price = i * 125;
    Record::from([
        ("id".to_owned(), Value::Int(i * 3)),
        ("name".to_owned(), Value::text(format!("user {i}"))),
        ("mood".to_owned(), Value::text(mood)),
        (
            "price".to_owned(),
            Value::text(format!("{}.{:02}", price / 100, price % 100)),
        ),
        (
            "tags".to_owned(),
            Value::List(vec![Value::text(format!("t{i}")), Value::Null]),
        ),
    ])
}

#[test]
fn source_keeps_its_contract() {
    for place in places(TABLES) {
        let decimal = RecordType::Decimal {
            precision: 12,
            scale: 2,
        };
        let mood = RecordType::Opaque {
            name: "public.mood".to_owned(),
        };
        let fields = vec![
            Field::required("id", RecordType::INT64),
            Field::required("name", RecordType::Text),
            Field::new("score", RecordType::FLOAT64),
            Field::new("avatar", RecordType::Bytes),
            Field::new("mood", mood),
            Field::new("tags", RecordType::list(RecordType::Text)),
            Field::new("born", RecordType::Date),
            Field::new("seen", RecordType::TimestampTz),
            Field::new("price", decimal),
            Field::new("doc", RecordType::Json),
        ];
        let no_key = Vec::<String>::new;
        let at = |url: String| json!({ "url": url });
        let endpoint = place.database.endpoint();
        let case = SourceCase::new(place.config.clone())
            .with(
                ExpectedCollection::new("users", 57)
                    .with_key(["id"])
                    .with_fields(fields),
            )
            .with(ExpectedCollection::new("sales.orders", 28).with_key(["code", "user"]))
            .with(ExpectedCollection::new("log", 57).with_key(no_key()))
            .with(ExpectedCollection::new("loose", 59).with_key(no_key()))
            .with(ExpectedCollection::new("unique_only", 40).with_key(["b", "at", "a"]))
            .with(ExpectedCollection::new("parted", 41).with_key(["id"]))
            .with(ExpectedCollection::new("keyless_parted", 23).with_key(no_key()))
            .with(ExpectedCollection::new("base", 5).with_key(["id"]))
            .with(ExpectedCollection::new("derived", 7).with_key(no_key()))
            .with(ExpectedCollection::new("empty", 0))
            .with(ExpectedCollection::new("nothing", 9).with_key(no_key()))
            .with(
                ExpectedCollection::new("wrong", 15)
                    .with_rejected(5)
                    .with_key(["id"]),
            )
            .with_query(
                "SELECT id, name, mood, price, tags FROM users WHERE id > 165 ORDER BY id -- the last two",
                ["id", "name", "mood", "price", "tags"],
                vec![user(56, "sad"), user(57, "ok")],
            )
            .with_query(
                "WITH big AS (SELECT id FROM users WHERE id > 1000) TABLE big;",
                ["id"],
                Vec::new(),
            )
            .with_query(
                "VALUES ('a;b)', $$;$$)",
                ["column1", "column2"],
                vec![Record::from([
                    ("column1".to_owned(), Value::text("a;b)")),
                    ("column2".to_owned(), Value::text(";")),
                ])],
            )
            .with_refused_statement("DELETE FROM users")
            .with_refused_statement("DELETE FROM users RETURNING id")
            .with_refused_statement("WITH gone AS (DELETE FROM users RETURNING id) SELECT * FROM gone")
            .with_refused_statement("SELECT 1; DELETE FROM users")
            .with_refused_statement(
                "SELECT 1) AS t; COMMIT; DELETE FROM users; BEGIN; SELECT * FROM (SELECT 1",
            )
            .with_refused_statement("SELECT nextval('counter')")
            .with_refused_statement("SELECT write_one()")
            .with_refused_statement("SELECT id INTO copied FROM users")
            .with_refused_statement("SELECT id FROM users FOR UPDATE")
            .with_refused_statement("SELECT id, id FROM users")
            .with_refused_statement("SELECT 1 / 0")
            .with_refused_statement("SELECT missing FROM users")
            .with_refused_statement("COPY users TO STDOUT")
            .with_bad_config(json!({ "url": "mysql://127.0.0.1/app" }))
            .with_unreachable(at(endpoint.url("no_such_database")))
            .with_unreachable(at(format!(
                "postgres://postgres@127.0.0.1:1/{}",
                place.database.name()
            )));
        source::run(local::<WhimbrelPlugin>(), case).assert();
    }
}
