//! What `prepare` makes, what it finds in the way, and where hostile names go.
//! Nothing may be dropped silently.

use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{Collection, Loss, Sink as _};

use crate::preparing_place::{blockers, codes, each, prepare, relations, todos};

const TODOS: &str = "CREATE TABLE IF NOT EXISTS \"public\".\"todos\" (\n  \"id\" bigint NOT NULL,\n  \"title\" text NOT NULL,\n  \
                     \"done\" boolean,\n  PRIMARY KEY (\"id\")\n)";

#[test]
fn tables_are_plain_and_a_second_prepare_changes_nothing() {
    each(|place| {
        let report = prepare(place, &[todos()]);
        assert_eq!(
            (report.ddl, report.findings),
            (vec![TODOS.to_owned()], Vec::new())
        );
        let made = [
            "public||-|",
            "public|todos|r|id bigint NOT NULL, title text NOT NULL, done boolean",
            "public|todos_pkey|i|id bigint",
        ];
        assert_eq!(relations(place), made);
        place.execute("INSERT INTO todos VALUES (1, 'a', NULL)");
        let again = prepare(place, &[todos()]);
        assert_eq!((again.ddl, again.findings), (Vec::new(), Vec::new()));
        assert_eq!(again.collections[0].fields, report.collections[0].fields);
        assert_eq!(
            (again.collections[0].existed, again.collections[0].record_count),
            (true, Some(1))
        );
        assert_eq!(relations(place), made);
    });
}

#[test]
fn what_a_column_cannot_say_is_remembered_where_nobody_else_looks() {
    each(|place| {
        let mut collection = todos();
        collection.schema.presence = true;
        collection
            .schema
            .fields
            .push(Field::new("mixed", RecordType::Variant));
        let long = "n".repeat(64);
        collection.schema.fields.push(Field::new(&long, RecordType::Date));
        let report = prepare(place, std::slice::from_ref(&collection));
        assert_eq!(codes(&report.findings), ["postgres.field_in_rest"]);
        let message = &report.findings[0].message;
        assert!(
            message.contains(&format!("`{long}`")) && message.contains(&format!("`{}`", &long[..63])),
            "{message}"
        );
        assert_eq!(
            relations(place)[..4],
            [
                "public||-|",
                "public|todos|r|id bigint NOT NULL, title text NOT NULL, done boolean, mixed jsonb, _whimbrel_rest json",
                "public|todos_pkey|i|id bigint",
                "whimbrel||-|",
            ]
        );
        assert_eq!(
            place.lines("SELECT table_schema, table_name, field_name, position, column_name, record_type, is_nullable, may_be_absent \
                         FROM whimbrel.columns ORDER BY position"),
            [
                "public|todos|done|2|done|{\"type\":\"bool\"}|t|t".to_owned(),
                "public|todos|mixed|3|mixed|{\"type\":\"variant\"}|t|t".to_owned(),
                format!("public|todos|{long}|4|-|{{\"type\":\"date\"}}|t|t"),
            ]
        );
        assert_eq!(
            place.lines(
                "SELECT count(*) FROM (SELECT nspacl FROM pg_namespace WHERE nspname = 'whimbrel' UNION ALL \
                 SELECT relacl FROM pg_class WHERE relname = 'columns' AND relkind = 'r') x(acl), aclexplode(x.acl) a WHERE a.grantee = 0"
            ),
            ["0"],
            "the public has no rights"
        );
        assert!(prepare(place, &[collection]).ddl.is_empty());
    });
}

#[test]
fn a_table_that_is_made_anew_forgets_the_old_one() {
    each(|place| {
        let of = |record_type| {
            let fields = vec![
                Field::required("id", RecordType::INT64),
                Field::new("x", record_type),
            ];
            Collection::new("t", Schema::new(fields)).with_key(["id"])
        };
        prepare(place, &[of(RecordType::Variant)]);
        place.execute("DROP TABLE t");
        prepare(place, &[of(RecordType::Json)]);
        assert_eq!(
            place.lines("SELECT * FROM whimbrel.columns"),
            Vec::<String>::new()
        );
    });
}

#[test]
fn what_an_existing_table_cannot_take_is_a_blocker() {
    let cases = [
        (
            "CREATE TABLE todos(id bigint PRIMARY KEY, title text)",
            vec!["postgres.column_missing"],
        ),
        (
            "CREATE TABLE todos(id bigint PRIMARY KEY, title char(9), done bool)",
            vec!["postgres.column_narrower"],
        ),
        (
            "CREATE TABLE todos(id bigint PRIMARY KEY, title date, done bool)",
            vec!["postgres.column_type"],
        ),
        (
            "CREATE TABLE todos(id bigint, title text, done bool)",
            vec!["postgres.no_unique_key"],
        ),
        (
            "CREATE TABLE todos(id bigint, title text, done bool, PRIMARY KEY(id, title))",
            vec!["postgres.no_unique_key"],
        ),
        (
            "CREATE TABLE todos(id bigint UNIQUE DEFERRABLE, title text, done bool)",
            vec!["postgres.no_unique_key"],
        ),
        (
            "CREATE TABLE todos(id bigint PRIMARY KEY, title text, done bool, x int NOT NULL)",
            vec!["postgres.required_column"],
        ),
        (
            "CREATE TABLE todos(id bigint PRIMARY KEY, title text GENERATED ALWAYS AS ('x') STORED, done bool)",
            vec!["postgres.generated_column"],
        ),
        (
            "CREATE VIEW todos AS SELECT 1 AS id",
            vec!["postgres.not_a_table"],
        ),
        (
            "CREATE MATERIALIZED VIEW todos AS SELECT 1 AS id",
            vec!["postgres.not_a_table"],
        ),
        ("CREATE SEQUENCE todos", vec!["postgres.name_taken"]),
        ("CREATE TYPE todos AS ENUM ('a')", vec!["postgres.name_taken"]),
        (
            "CREATE TABLE t(a int); CREATE INDEX todos ON t(a)",
            vec!["postgres.name_taken"],
        ),
        (
            "CREATE TABLE todos(id bigint PRIMARY KEY, title text, done bool, x int NOT NULL DEFAULT 1)",
            vec![],
        ),
        (
            "CREATE TABLE todos(n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id bigint UNIQUE, title text, done bool)",
            vec![],
        ),
        (
            "CREATE TABLE todos(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, done bool)",
            vec![],
        ),
        (
            "CREATE TABLE todos(id numeric PRIMARY KEY, title text, done bool)",
            vec![],
        ),
        (
            "CREATE TABLE todos(id bigint PRIMARY KEY, title text, done bool) PARTITION BY HASH (id); \
             CREATE TABLE todos_0 PARTITION OF todos FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
            vec![],
        ),
    ];
    each(|place| {
        for (ddl, wanted) in &cases {
            place.execute(&format!(
                "DROP SCHEMA public CASCADE; CREATE SCHEMA public; {ddl}"
            ));
            let report = prepare(place, &[todos()]);
            assert_eq!(
                blockers(&report.findings).collect::<Vec<_>>(),
                *wanted,
                "{ddl}: {:?}",
                report.findings
            );
        }
    });
}

#[test]
fn a_suggested_statement_removes_what_it_was_suggested_for() {
    for ddl in [
        "CREATE TABLE todos(id bigint PRIMARY KEY, title text)",
        "CREATE TABLE todos(id integer PRIMARY KEY, title text, done bool)",
        "CREATE TABLE todos(id bigint, title text, done bool)",
    ] {
        each(|place| {
            place.execute(ddl);
            let report = prepare(place, &[todos()]);
            let help = report.findings[0].help.clone().unwrap();
            let statement = help.split('`').nth(1).unwrap();
            place.execute(statement);
            let findings = prepare(place, &[todos()]).findings;
            assert_eq!(findings, [], "{statement}");
        });
    }
}

#[test]
fn what_should_be_looked_at_is_a_warning() {
    each(|place| {
        place.execute(
            "CREATE TABLE todos(id bigint PRIMARY KEY, title varchar(20), done bool NOT NULL);
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER \"my trigger\" BEFORE INSERT ON todos FOR EACH ROW EXECUTE FUNCTION f()",
        );
        let report = prepare(place, &[todos()]);
        assert_eq!(blockers(&report.findings).count(), 0, "{:?}", report.findings);
        let mut codes = codes(&report.findings);
        codes.sort_unstable();
        assert_eq!(
            codes,
            [
                "postgres.column_narrower",
                "postgres.stricter_column",
                "postgres.triggers"
            ]
        );
        assert!(
            report
                .findings
                .iter()
                .any(|finding| finding.message.contains("\"my trigger\""))
        );
        assert_eq!(report.collections[0].required, ["done"]);
    });
}

#[test]
fn a_collection_without_key_needs_a_table_without_key() {
    each(|place| {
        let mut keyless = todos();
        keyless.key.clear();
        place.execute("CREATE TABLE todos(id bigint PRIMARY KEY, title text, done bool)");
        assert_eq!(
            codes(&prepare(place, std::slice::from_ref(&keyless)).findings),
            ["postgres.other_key"]
        );
        // A number that the table gives itself is no key of the collection.
        place.execute("DROP TABLE todos; CREATE TABLE todos(number serial PRIMARY KEY, id bigint, title text, done bool)");
        assert_eq!(codes(&prepare(place, &[keyless]).findings), Vec::<&str>::new());
    });
}

#[test]
fn foreign_keys_that_are_there_are_announced() {
    each(|place| {
        place.execute(
            "CREATE TABLE parents(id bigint PRIMARY KEY); CREATE TABLE others(id bigint PRIMARY KEY);
             CREATE TABLE children(id bigint PRIMARY KEY, parent bigint REFERENCES parents DEFERRABLE, other bigint REFERENCES others,
             me bigint);
             ALTER TABLE children ADD FOREIGN KEY (me) REFERENCES children NOT VALID",
        );
        let int = |name: &str| Field::new(name, RecordType::INT64);
        let children = Schema::new(vec![int("id"), int("parent"), int("other"), int("me")]);
        let collections = [
            Collection::new("children", children).with_key(["id"]),
            Collection::new("parents", Schema::new(vec![int("id")])).with_key(["id"]),
        ];
        let report = prepare(place, &collections);
        let enforced: Vec<_> = report.collections[0]
            .enforced
            .iter()
            .map(|of| {
                (
                    of.fields.join(","),
                    of.collection.as_str(),
                    of.to_fields.join(","),
                    of.is_enforced,
                )
            })
            .collect();
        assert_eq!(
            enforced,
            [
                ("me".to_owned(), "children", "id".to_owned(), false),
                ("parent".to_owned(), "parents", "id".to_owned(), true)
            ]
        );
        assert_eq!(report.collections[1].enforced, []);
    });
}

#[test]
fn hostile_names_are_quoted_and_collisions_named() {
    each(|place| {
        let of = |name: &str| Collection::new(name, todos().schema).with_key(["id"]);
        let names = [
            "x\"; DROP TABLE todos; --",
            "🦆",
            "select",
            "todos",
            "Todos",
            "\"a.b\"",
            " ",
        ];
        let collections: Vec<Collection> = names.iter().map(|name| of(name)).collect();
        let report = prepare(place, &collections);
        assert_eq!(report.findings, []);
        let mut tables = place.lines("SELECT tablename FROM pg_tables WHERE schemaname = 'public'");
        tables.sort();
        let mut wanted: Vec<&str> = names.iter().map(|name| name.trim_matches('"')).collect();
        wanted[0] = names[0];
        wanted.sort_unstable();
        assert_eq!(tables, wanted);

        let long = "t".repeat(64);
        for (names, code, both) in [
            (
                vec!["todos", "public.todos"],
                "postgres.same_table",
                ["`todos`", "`public.todos`"],
            ),
            (
                vec![long.as_str()],
                "postgres.name_too_long",
                [&long[..], &long[..63]],
            ),
            (vec!["a.b.c"], "postgres.bad_name", ["`a.b.c`"; 2]),
            (vec![".."], "postgres.bad_name", ["`..`"; 2]),
            (vec!["nul\0l"], "postgres.bad_name", ["`nul\u{2400}l`"; 2]),
        ] {
            let collections: Vec<Collection> = names.iter().map(|name| of(name)).collect();
            let findings = prepare(place, &collections).findings;
            assert_eq!(codes(&findings), [code]);
            assert!(
                both.iter().all(|name| findings[0].message.contains(name)),
                "{findings:?}"
            );
        }
    });
}

#[test]
fn fields_that_cannot_be_columns_go_into_the_rest_and_key_fields_are_refused() {
    each(|place| {
        let mut collection = todos();
        for name in ["", "xmin", "_whimbrel_rest"] {
            collection.schema.fields.push(Field::new(name, RecordType::Text));
        }
        let report = prepare(place, std::slice::from_ref(&collection));
        assert_eq!(codes(&report.findings), ["postgres.field_in_rest"; 3]);
        assert_eq!(
            place.lines("SELECT attname FROM pg_attribute WHERE attrelid = 'todos'::regclass AND attnum > 0"),
            ["id", "title", "done", "_whimbrel_rest"]
        );
        collection.name = "other".to_owned();
        collection.key = vec!["xmin".to_owned()];
        collection
            .schema
            .fields
            .push(Field::new("nul\0l", RecordType::Text));
        let findings = prepare(place, &[collection]).findings;
        assert_eq!(
            blockers(&findings).collect::<Vec<_>>(),
            ["postgres.bad_field_name", "postgres.bad_key_name"]
        );
    });
}

#[test]
fn a_missing_schema_is_made_only_if_that_is_wanted() {
    each(|place| {
        let mut collection = todos();
        collection.name = "sales.todos".to_owned();
        let mut strict = place.beside();
        strict.config["create_schemas"] = false.into();
        let findings = prepare(&strict, std::slice::from_ref(&collection)).findings;
        assert_eq!(codes(&findings), ["postgres.schema_missing"]);
        let report = prepare(place, &[collection]);
        assert_eq!(report.ddl[0], "CREATE SCHEMA IF NOT EXISTS \"sales\"");
        assert_eq!(
            place.lines("SELECT schemaname, tablename FROM pg_tables WHERE tablename = 'todos'"),
            ["sales|todos"]
        );
    });
}

#[test]
fn a_type_of_the_database_is_used_by_its_name() {
    each(|place| {
        place.execute("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE SCHEMA \"My Types\"; CREATE TYPE \"My Types\".\"E\" AS ENUM (); CREATE DOMAIN whole AS int");
        let opaque = |name: &str| RecordType::Opaque {
            name: name.to_owned(),
        };
        let names = [
            "inet",
            "mood",
            "public.mood",
            "\"My Types\".\"E\"",
            "bit(3)",
            "int4range[]",
            "whole",
            "inet); DROP TABLE x; --",
        ];
        let mut fields: Vec<Field> = (0..)
            .zip(names)
            .map(|(number, name)| Field::new(format!("f{number}"), opaque(name)))
            .collect();
        fields.insert(0, Field::required("id", RecordType::INT64));
        let collection = Collection::new("t", Schema::new(fields)).with_key(["id"]);
        let report = prepare(place, std::slice::from_ref(&collection));
        assert_eq!(codes(&report.findings), ["postgres.type_missing"; 2]);
        assert_eq!(
            relations(place)
                .into_iter()
                .find(|line| line.contains("|t|r|"))
                .unwrap(),
            "public|t|r|id bigint NOT NULL, f0 inet, f1 mood, f2 mood, f3 \"My Types\".\"E\", f4 bit(3), f5 int4range[], f6 text, f7 text"
        );
        let losses = |place: usize| report.collections[0].fields[place].losses.clone();
        assert_eq!((losses(1), losses(7)), (Vec::new(), vec![Loss::TypeNameDropped]));
    });
}

#[test]
fn many_fields_get_columns_up_to_a_limit_and_the_rest_goes_into_one() {
    each(|place| {
        let fields = (0..2_000)
            .map(|number| Field::new(format!("f{number}"), RecordType::Bool))
            .collect();
        let report = prepare(place, &[Collection::new("wide", Schema::new(fields))]);
        assert_eq!(codes(&report.findings), ["postgres.field_in_rest"; 410]);
        assert_eq!(
            place.lines("SELECT count(*) FROM pg_attribute WHERE attrelid = 'wide'::regclass AND attnum > 0"),
            ["1591"]
        );
        assert_eq!(place.lines("SELECT count(*) FROM whimbrel.columns"), ["410"]);
    });
}

#[test]
fn two_runs_at_once_make_a_table_once() {
    each(|place| {
        let mut collection = todos();
        collection
            .schema
            .fields
            .push(Field::new("mixed", RecordType::Variant));
        let collections = [
            collection,
            Collection::new("sales.more", todos().schema).with_key(["id"]),
        ];
        let request = PrepareRequest {
            collections: collections.to_vec(),
            dry: false,
            ..PrepareRequest::default()
        };
        let sinks: Vec<_> = (0..6).map(|_| place.sink()).collect();
        let start = std::sync::Barrier::new(sinks.len());
        std::thread::scope(|scope| {
            let run = |mut sink: whimbrel_plugin_api::abi::sink::ForeignSink| {
                let (start, request) = (&start, &request);
                scope.spawn(move || {
                    start.wait();
                    sink.prepare(request).unwrap()
                })
            };
            let runs: Vec<_> = sinks.into_iter().map(run).collect();
            for run in runs {
                assert_eq!(run.join().unwrap().findings, []);
            }
        });
        assert_eq!(
            place.lines("SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT LIKE 'pg\\_%' AND schemaname <> 'information_schema' ORDER BY 1, 2"),
            ["public|todos", "sales|more", "whimbrel|columns"]
        );
        assert_eq!(place.lines("SELECT field_name FROM whimbrel.columns"), ["mixed"]);
    });
}
