//! What `prepare` makes, what it finds in the way, and where hostile names go.
//! Nothing may be dropped silently.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{Collection, ConflictPolicy, Error, FindingLevel, Sink as _, Source as _};

use crate::harness::{File, record, sorted, todo, todos};

#[test]
fn tables_are_plain_and_say_what_is_required() {
    let file = File::new();
    let report = file.prepare(&[todos()]);
    let ddl = "CREATE TABLE \"todos\" (\n  \"id\" INTEGER NOT NULL,\n  \"title\" TEXT NOT NULL,\n  \"done\" INTEGER,\n  PRIMARY KEY (\"id\")\n)";
    assert_eq!(report.ddl[1], ddl);
    assert_eq!(
        file.one::<String>("SELECT sql FROM sqlite_master WHERE name = 'todos'"),
        ddl
    );
    assert_eq!(file.one::<String>("PRAGMA journal_mode"), "wal");
    // The integer key is the row number itself: no second index.
    assert_eq!(
        file.one::<i64>("SELECT count(*) FROM sqlite_master WHERE type = 'index' AND tbl_name = 'todos'"),
        0
    );
}

#[test]
fn a_second_prepare_changes_nothing() {
    let file = File::new();
    file.write(&todos(), &[todo(1, "a")], ConflictPolicy::Overwrite);
    let before = file.one::<i64>("PRAGMA schema_version");
    let report = file.prepare(&[todos()]);
    assert!(report.ddl.is_empty(), "{:?}", report.ddl);
    assert_eq!(
        (report.collections[0].existed, report.collections[0].record_count),
        (true, Some(1))
    );
    assert_eq!(file.one::<i64>("PRAGMA schema_version"), before);
}

#[test]
fn dry_makes_no_file() {
    let file = File::new();
    let request = PrepareRequest {
        collections: vec![todos()],
        dry: true,
        ..PrepareRequest::default()
    };
    assert_eq!(file.sink().prepare(&request).unwrap().ddl.len(), 2);
    assert!(file.sink().check().unwrap().is_empty());
    assert!(!file.path.exists());
}

#[test]
fn what_an_existing_table_cannot_take_is_a_blocker() {
    for (ddl, wanted) in [
        (
            "CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT)",
            vec!["turso.column_missing"],
        ),
        (
            "CREATE TABLE todos(id INTEGER PRIMARY KEY, title NUMERIC, done INT)",
            vec!["turso.narrower_type"],
        ),
        (
            "CREATE TABLE todos(id TEXT PRIMARY KEY, title TEXT, done INT)",
            vec!["turso.narrower_type"],
        ),
        (
            "CREATE TABLE todos(id INTEGER, title TEXT, done INT)",
            vec!["turso.other_key"],
        ),
        (
            "CREATE TABLE todos(id INTEGER, title TEXT, done INT, PRIMARY KEY(id, title))",
            vec!["turso.other_key"],
        ),
        (
            "CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT, done INT, x NOT NULL)",
            vec!["turso.required_column"],
        ),
        (
            "CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT AS ('x'), done INT)",
            vec!["turso.generated_column"],
        ),
        ("CREATE VIEW todos AS SELECT 1 AS id", vec!["turso.name_taken"]),
        (
            "CREATE TABLE t(a); CREATE INDEX TODOS ON t(a)",
            vec!["turso.name_taken"],
        ),
        (
            "CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT, done INT, x NOT NULL DEFAULT 1)",
            vec![],
        ),
        (
            "CREATE TABLE TODOS(ID INT NOT NULL UNIQUE, Title VARCHAR(9), DONE)",
            vec![],
        ),
        (
            "CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT, done INT) STRICT",
            vec![],
        ),
        (
            "CREATE TABLE todos(id INTEGER PRIMARY KEY, title ANY, done TEXT) STRICT",
            vec!["turso.narrower_type"],
        ),
        (
            "CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT, done INT) WITHOUT ROWID",
            vec![],
        ),
    ] {
        let file = File::new();
        file.execute(ddl);
        assert_eq!(file.blockers(&todos()), wanted, "{ddl}");
        if wanted.is_empty() {
            let records = [todo(1, "a"), todo(-5, "b")];
            assert_eq!(
                file.write(&todos(), &records, ConflictPolicy::Overwrite).accepted,
                2,
                "{ddl}"
            );
            let mut found = file.read("todos");
            found.iter_mut().for_each(|record| drop(record.remove("x")));
            assert_eq!(sorted(found), sorted(records.to_vec()), "{ddl}");
        }
    }
}

#[test]
fn a_collection_without_key_needs_a_table_without_key() {
    let mut keyless = todos();
    keyless.key.clear();
    let file = File::new();
    file.execute("CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT, done INT)");
    assert_eq!(file.blockers(&keyless), ["turso.other_key"]);
    // A number that the table gives itself is no key of the collection.
    let file = File::new();
    file.execute("CREATE TABLE todos(number INTEGER PRIMARY KEY, id INT, title TEXT, done INT)");
    assert!(file.blockers(&keyless).is_empty());
    assert_eq!(
        file.write(&keyless, &[todo(7, "a"), todo(7, "a")], ConflictPolicy::Append)
            .accepted,
        2
    );
    assert_eq!(file.one::<i64>("SELECT count(DISTINCT number) FROM todos"), 2);
}

#[test]
fn remembered_types_may_widen_but_not_change() {
    let of = |record_type| {
        let fields = vec![
            Field::required("id", RecordType::INT64),
            Field::new("value", record_type),
        ];
        Collection::new("t", Schema::new(fields)).with_key(["id"])
    };
    let decimal = |precision, scale| RecordType::Decimal { precision, scale };
    for (old, new, is_fine) in [
        (RecordType::Int { bits: 8 }, RecordType::INT64, true),
        (RecordType::INT64, RecordType::Int { bits: 8 }, false),
        (RecordType::INT64, RecordType::Bool, false),
        (decimal(5, 2), decimal(9, 2), true),
        (decimal(5, 2), decimal(9, 3), false),
        (decimal(5, 2), RecordType::Numeric, true),
        (RecordType::Uuid, RecordType::Text, true),
        (RecordType::Text, RecordType::Uuid, false),
        (RecordType::Text, RecordType::Variant, false),
    ] {
        let file = File::new();
        file.write(&of(old.clone()), &[], ConflictPolicy::Overwrite);
        assert!(
            file.blockers(&of(new.clone())).is_empty(),
            "an empty table may change: {old} to {new}"
        );
        let file = File::new();
        let row = [record([("id", Value::Int(1)), ("value", Value::Null)])];
        file.write(&of(old.clone()), &row, ConflictPolicy::Overwrite);
        let wanted: &[&str] = if is_fine { &[] } else { &["turso.type_changed"] };
        assert_eq!(file.blockers(&of(new.clone())), wanted, "{old} to {new}");
    }
}

#[test]
fn a_table_that_was_dropped_is_forgotten() {
    let file = File::new();
    file.write(&todos(), &[todo(1, "a")], ConflictPolicy::Overwrite);
    file.execute("DROP TABLE todos; CREATE TABLE todos(id TEXT PRIMARY KEY, other REAL)");
    let names: Vec<String> = file.collections()[0]
        .schema
        .fields
        .iter()
        .map(|field| format!("{} {}", field.name, field.record_type))
        .collect();
    assert_eq!(names, ["id text", "other float64"]);
}

#[test]
fn collections_that_would_share_a_table_are_refused_with_both_names() {
    let file = File::new();
    let mut twin = todos();
    twin.name = "ToDos".to_owned();
    let findings = file.prepare(&[todos(), twin]).findings;
    assert_eq!(findings[0].code, "turso.same_table");
    assert!(findings[0].message.contains("`todos`") && findings[0].message.contains("`ToDos`"));
    assert!(!file.path.exists(), "nothing is made while there is a blocker");
    // Other letters are apart.
    let [mut small, mut large] = [todos(), todos()];
    (small.name, large.name) = ("é".to_owned(), "É".to_owned());
    assert!(file.prepare(&[small, large]).findings.is_empty());
}

#[test]
fn reserved_and_hostile_collection_names_are_stored_and_read_back() {
    let file = File::new();
    let long = "x".repeat(200);
    for name in [
        "sqlite_stat1",
        "SQLITE_x",
        "_whimbrel_columns",
        "\"; DROP TABLE todos;--",
        "",
        "🦆",
        "select",
        "a'b",
        &long,
        "%",
        "_",
    ] {
        let mut collection = todos();
        collection.name = name.to_owned();
        let report = file.prepare(std::slice::from_ref(&collection));
        assert!(
            report
                .findings
                .iter()
                .all(|finding| finding.level == FindingLevel::Info),
            "{name}: {:?}",
            report.findings
        );
        let is_renamed = report
            .findings
            .iter()
            .any(|finding| finding.code == "turso.stored_name");
        assert_eq!(
            is_renamed,
            name.to_lowercase().starts_with("sqlite_") || name.starts_with("_whimbrel_"),
            "{name}"
        );
        file.write(&collection, &[todo(1, name)], ConflictPolicy::Overwrite);
        assert_eq!(file.read(name), [todo(1, name)], "{name}");
    }
    let mut nul = todos();
    nul.name = "a\0b".to_owned();
    assert_eq!(file.blockers(&nul), ["turso.bad_name"]);
    assert_eq!(file.collections().len(), 11);
}

/// Fields that columns cannot hold beside each other, and others that only look dangerous.
fn hostile() -> (Collection, whimbrel_plugin_api::acceptance::Record) {
    let names = [
        "id",
        "ID",
        "a\0b",
        "",
        "_whimbrel_rest",
        "select",
        "x\"; DROP TABLE t;--",
        "🦆",
        "rowid",
        "oid",
        "_rowid_",
        "é",
        "É",
        "twin",
        "Twin",
        "tWin",
    ];
    let mut fields: Vec<Field> = names
        .iter()
        .map(|name| Field::new(*name, RecordType::Text))
        .collect();
    fields[0].nullable = false;
    let record = names
        .iter()
        .map(|name| ((*name).to_owned(), Value::text(format!("value of {name}"))))
        .collect();
    (Collection::new("t", Schema::new(fields)).with_key(["id"]), record)
}

#[test]
fn fields_that_no_column_can_hold_go_into_the_rest_column_and_come_back() {
    let (collection, record) = hostile();
    let file = File::new();
    file.write(
        &collection,
        std::slice::from_ref(&record),
        ConflictPolicy::Overwrite,
    );
    let mut rest: Vec<String> = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(
        &file.one::<String>("SELECT \"_whimbrel_rest\" FROM t"),
    )
    .unwrap()
    .into_iter()
    .map(|(name, _)| name)
    .collect();
    rest.sort();
    assert_eq!(rest, ["ID", "Twin", "_rowid_", "_whimbrel_rest", "a\0b", "tWin"]);
    assert_eq!(file.read("t"), *std::slice::from_ref(&record));
    let collections = file.collections();
    assert_eq!(
        (&collections[0].schema, &collections[0].key),
        (&collection.schema, &collection.key)
    );

    // A second run that names them in another order puts each where it was.
    let mut reversed = collection;
    reversed.schema.fields.reverse();
    file.write(
        &reversed,
        std::slice::from_ref(&record),
        ConflictPolicy::Overwrite,
    );
    assert_eq!(file.read("t"), [record]);
}

#[test]
fn no_rest_column_where_none_is_needed() {
    let file = File::new();
    file.prepare(&[todos()]);
    assert_eq!(
        file.one::<i64>("SELECT count(*) FROM pragma_table_info('todos') WHERE name LIKE '%rest'"),
        0
    );
}

#[test]
fn more_fields_than_columns_go_into_the_rest_column() {
    for (count, in_rest) in [(1_998, 0), (1_999, 0), (2_000, 2), (2_500, 502)] {
        let mut fields: Vec<Field> = (0..count)
            .map(|index| Field::new(format!("f{index}"), RecordType::INT64))
            .collect();
        fields[count - 1].nullable = false;
        let collection = Collection::new("wide", Schema::new(fields)).with_key([format!("f{}", count - 1)]);
        let record = (0..count)
            .map(|index| (format!("f{index}"), Value::Int(index as i64)))
            .collect();
        let file = File::new();
        file.write(
            &collection,
            std::slice::from_ref(&record),
            ConflictPolicy::Overwrite,
        );
        let found =
            file.one::<i64>("SELECT count(*) FROM _whimbrel_columns WHERE column_name = '_whimbrel_rest'");
        assert_eq!(found, in_rest, "{count} fields");
        assert_eq!(file.read("wide"), [record], "{count} fields");
    }
}

#[test]
fn keys_that_cannot_be_columns_are_refused() {
    let keyed = |names: &[&str]| {
        let fields = names
            .iter()
            .map(|name| Field::required(*name, RecordType::Text))
            .collect();
        Collection::new("t", Schema::new(fields)).with_key(names.iter().copied())
    };
    assert_eq!(File::new().blockers(&keyed(&["a", "A"])), ["turso.bad_key_name"]);
    assert_eq!(File::new().blockers(&keyed(&["a\0"])), ["turso.bad_key_name"]);
    assert_eq!(
        File::new().blockers(&keyed(&["_whimbrel_rest"])),
        ["turso.bad_key_name"]
    );
    let missing = keyed(&["a"]).with_key(["b"]);
    assert_eq!(File::new().blockers(&missing), ["turso.key_missing"]);
}

#[test]
fn a_collection_without_fields_keeps_its_records() {
    let file = File::new();
    let collection = Collection::new("t", Schema::default());
    file.write(&collection, &[record([]), record([])], ConflictPolicy::Append);
    assert_eq!(file.read("t").len(), 2);
}

#[test]
fn a_prefix_stands_before_tables_and_not_before_collections() {
    let file = File::new().with("table_prefix", "app_");
    file.write(&todos(), &[todo(1, "a")], ConflictPolicy::Overwrite);
    file.execute("CREATE TABLE other(a)");
    assert_eq!(file.one::<i64>("SELECT count(*) FROM app_todos"), 1);
    let collections = file.collections();
    assert_eq!(
        collections
            .iter()
            .map(|found| found.name.as_str())
            .collect::<Vec<_>>(),
        ["todos"]
    );
    assert_eq!(file.read("todos"), [todo(1, "a")]);
    let error: Error = file.source().count(&Default::default()).unwrap_err();
    assert_eq!(error.code, "source.no_collection");
}
