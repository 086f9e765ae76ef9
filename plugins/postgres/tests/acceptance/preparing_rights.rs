//! What `prepare` says to somebody who may do little: each lack with the statement that mends it, and nothing changed.
//! The users of these tests are made for them.

use whimbrel_plugin_api::Collection;
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};

use crate::preparing_place::{Guest, blockers, codes, each, prepare, relations, todos};

#[test]
fn rights_that_are_missing_are_named_with_the_statement_that_gives_them() {
    each(|place| {
        place.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC");
        let guest = Guest::new(place);
        let before = relations(place);
        // One grant after the other, each as suggested.
        let mut suggested = Vec::new();
        for _ in 0..5 {
            let report = guest.prepare(&[todos()]);
            let Some(finding) = report.findings.first() else {
                break;
            };
            assert_eq!(finding.code, "postgres.right_missing");
            assert_eq!(relations(place), before);
            let statement = finding
                .help
                .as_ref()
                .unwrap()
                .split('`')
                .nth(1)
                .unwrap()
                .to_owned();
            place.execute(&statement);
            suggested.push(statement.replace(&guest.name, "GUEST"));
        }
        assert_eq!(
            suggested,
            ["GRANT USAGE, CREATE ON SCHEMA \"public\" TO \"GUEST\""]
        );
        assert!(
            relations(place)
                .iter()
                .any(|line| line.starts_with("public|todos|r|"))
        );
        assert!(
            !relations(place).iter().any(|line| line.starts_with("whimbrel|")),
            "nothing needed to be remembered"
        );
    });
}

#[test]
fn an_existing_table_needs_rights_of_its_own() {
    each(|place| {
        let guest = Guest::new(place);
        place.execute("CREATE TABLE todos(id bigint PRIMARY KEY, title text, done bool)");
        let report = guest.prepare(&[todos()]);
        assert_eq!(codes(&report.findings), ["postgres.right_missing"]);
        assert_eq!(
            report.findings[0]
                .help
                .as_deref()
                .unwrap()
                .replace(&guest.name, "GUEST"),
            "`GRANT INSERT, SELECT, UPDATE ON \"public\".\"todos\" TO \"GUEST\"`"
        );
        assert_eq!(report.collections[0].record_count, None);
        guest.execute("GRANT INSERT, SELECT, UPDATE ON todos TO GUEST");
        assert_eq!(guest.prepare(&[todos()]).findings, []);
        // Somebody else's table with row-level security.
        guest.execute(
            "ALTER TABLE todos ENABLE ROW LEVEL SECURITY; INSERT INTO todos VALUES (1, 'hidden', NULL)",
        );
        let report = guest.prepare(&[todos()]);
        assert_eq!(codes(&report.findings), ["postgres.row_security"]);
        assert_eq!(
            report.collections[0].record_count, None,
            "records that cannot be seen are not said to be none"
        );
    });
}

#[test]
fn without_the_right_to_make_a_schema_only_what_must_be_remembered_is_in_the_way() {
    each(|place| {
        let guest = Guest::new(place);
        guest.execute("GRANT USAGE, CREATE ON SCHEMA public TO GUEST");
        let mut collection = todos();
        collection
            .schema
            .fields
            .push(Field::new("small", RecordType::Int { bits: 8 }));
        let report = guest.prepare(std::slice::from_ref(&collection));
        assert_eq!(codes(&report.findings), ["postgres.types_not_remembered"]);
        assert_eq!(blockers(&report.findings).count(), 0);
        assert_eq!(
            report.findings[0]
                .help
                .as_deref()
                .unwrap()
                .replace(&guest.name, "GUEST"),
            "`CREATE SCHEMA \"whimbrel\" AUTHORIZATION \"GUEST\"`, or name another schema in `state_schema`"
        );
        let sparse = Collection {
            schema: Schema {
                presence: true,
                ..collection.schema.clone()
            },
            name: "sparse".to_owned(),
            ..collection.clone()
        };
        let report = guest.prepare(std::slice::from_ref(&sparse));
        assert_eq!(
            blockers(&report.findings).collect::<Vec<_>>(),
            ["postgres.types_not_remembered"]
        );
        assert!(!relations(place).iter().any(|line| line.contains("sparse")));
        guest.execute("CREATE SCHEMA whimbrel AUTHORIZATION GUEST");
        assert_eq!(guest.prepare(&[collection, sparse]).findings, []);
        assert_eq!(
            place.lines("SELECT table_name, field_name FROM whimbrel.columns ORDER BY 1, 2"),
            ["sparse|done", "sparse|small", "todos|small"]
        );
    });
}

#[test]
fn a_missing_schema_and_temporary_tables_are_asked_for() {
    each(|place| {
        let guest = Guest::new(place);
        let mut collection = todos();
        collection.name = "sales.todos".to_owned();
        let report = guest.prepare(&[collection]);
        assert_eq!(codes(&report.findings), ["postgres.schema_missing"]);
        assert!(
            report.findings[0]
                .help
                .as_ref()
                .unwrap()
                .contains("GRANT CREATE ON DATABASE")
        );
        place.execute(&format!(
            "REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC; CREATE TABLE todos(id bigint PRIMARY KEY, title text, done bool); \
             INSERT INTO todos VALUES (1, 'a', NULL)",
            place.database.name()
        ));
        guest.execute("GRANT INSERT, SELECT, UPDATE ON todos TO GUEST");
        let report = guest.prepare(&[todos()]);
        assert_eq!(codes(&report.findings), ["postgres.no_temporary_tables"]);
    });
}

#[test]
fn a_database_that_takes_no_changes_is_a_blocker() {
    each(|place| {
        let guest = Guest::new(place);
        guest.execute("GRANT USAGE, CREATE ON SCHEMA public TO GUEST; ALTER ROLE GUEST SET default_transaction_read_only = on");
        assert_eq!(codes(&guest.prepare(&[todos()]).findings), ["postgres.read_only"]);
    });
}

#[test]
fn a_new_table_that_an_api_would_show_is_a_warning() {
    each(|place| {
        // As Supabase does; the roles belong to the whole server and may be there from another test.
        drop(place.database.try_sql("CREATE ROLE anon"));
        place.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO anon; GRANT USAGE ON SCHEMA public TO anon");
        let report = prepare(place, &[todos()]);
        assert_eq!(codes(&report.findings), ["postgres.exposed_table"]);
        let help = report.findings[0].help.as_ref().unwrap();
        place.execute(help.split('`').nth(1).unwrap());
        assert_eq!(codes(&prepare(place, &[todos()]).findings), Vec::<&str>::new());
    });
}
