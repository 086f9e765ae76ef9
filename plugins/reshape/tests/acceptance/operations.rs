//! Each operation over records that are null, absent, empty or odd.
//! Casts have a file of their own, `casts.rs`.

use proptest::prelude::*;
use whimbrel_plugin_api::acceptance::{TransformCase, transform};
use whimbrel_plugin_api::serde_json::{Value, json};
use whimbrel_plugin_api::{Collection, Field, RecordType, Schema};

use crate::harness::{batches_of, plugin, run, run_with_presence};

fn texts(names: &[&str]) -> Vec<Field> {
    names
        .iter()
        .map(|name| Field::new(*name, RecordType::Text))
        .collect()
}

#[test]
fn names_may_be_swapped() {
    let steps = json!([{ "rename": { "a": "b", "b": "a" } }]);
    let outcome = run_with_presence(
        &steps,
        texts(&["a", "b", "c.d"]),
        &[r#"{"a":"1"}"#, r#"{"b":null,"c.d":"2"}"#],
    );
    assert_eq!(outcome.fields(), "b: text?, a: text?, c.d: text?");
    assert_eq!(outcome.lines, [r#"{"b":"1"}"#, r#"{"a":null,"c.d":"2"}"#]);
}

#[test]
fn selected_fields_come_in_the_order_asked_for() {
    let steps = json!([{ "select": ["c", "a"] }]);
    let outcome = run_with_presence(
        &steps,
        texts(&["a", "b", "c"]),
        &[r#"{"a":"1","b":"2"}"#, r#"{"c":"3"}"#],
    );
    assert_eq!(outcome.lines, [r#"{"a":"1"}"#, r#"{"c":"3"}"#]);
    let steps = json!([{ "drop": ["b"] }]);
    let outcome = run(
        &steps,
        texts(&["a", "b", "c"]),
        &[r#"{"a":"1","b":"2","c":null}"#],
    );
    assert_eq!(outcome.lines, [r#"{"a":"1","c":null}"#]);
}

#[test]
fn presence_is_kept_beyond_eight_fields() {
    let names: Vec<String> = (0..20).map(|number| format!("f{number}")).collect();
    let fields = names
        .iter()
        .map(|name| Field::new(name, RecordType::Text))
        .collect();
    let order: Vec<&str> = names.iter().rev().map(String::as_str).collect();
    let outcome = run_with_presence(
        &json!([{ "select": order }]),
        fields,
        &[r#"{"f0":"a","f8":null,"f19":"z"}"#, "{}"],
    );
    assert_eq!(outcome.lines, [r#"{"f19":"z","f8":null,"f0":"a"}"#, "{}"]);
}

#[test]
fn set_gives_constants_and_copies_of_what_was_there() {
    let fields = vec![
        Field::new("n", RecordType::Int { bits: 16 }),
        Field::new("t", RecordType::Text),
    ];
    let steps = json!([{ "set": {
        "n": 7,
        "old_n": { "from": "n" },
        "t": { "from": "n" },
        "flag": true,
        "ratio": 0.5,
        "price": { "value": "1.5", "type": "decimal(5, 2)" },
        "day": { "value": "2024-02-29", "type": "date" },
        "nothing": { "type": "uuid" },
        "tags": { "value": ["a"], "type": "list(text)" }
    } }]);
    let outcome = run_with_presence(&steps, fields, &[r#"{"n":1,"t":"x"}"#, r#"{"n":null}"#, "{}"]);
    assert_eq!(
        outcome.fields(),
        "n: int16, t: int16?, day: date, flag: bool, nothing: uuid?, old_n: int16?, price: decimal(5, 2), ratio: float64, \
         tags: list(text)"
    );
    let rest = r#""day":"2024-02-29","flag":true,"nothing":null"#;
    let last = r#""price":"1.50","ratio":0.5,"tags":["a"]"#;
    assert_eq!(
        outcome.lines,
        [
            format!(r#"{{"n":7,"t":1,{rest},"old_n":1,{last}}}"#),
            format!(r#"{{"n":7,"t":null,{rest},"old_n":null,{last}}}"#),
            format!(r#"{{"n":7,{rest},{last}}}"#),
        ]
    );
}

#[test]
fn default_fills_null_and_absent_and_nothing_else() {
    let fields = vec![
        Field::new("t", RecordType::Text),
        Field::new("d", RecordType::Date),
        Field::new("j", RecordType::Json),
    ];
    let steps = json!([{ "default": { "t": "none", "d": "1970-01-01", "j": { "a": [] } } }]);
    let lines = [
        r#"{"t":null,"d":"2024-01-01","j":null}"#,
        r#"{"t":"","j":1}"#,
        "{}",
    ];
    let outcome = run_with_presence(&steps, fields.clone(), &lines);
    assert_eq!(outcome.fields(), "t: text, d: date, j: json");
    assert_eq!(
        outcome.lines,
        [
            r#"{"t":"none","d":"2024-01-01","j":{"a":[]}}"#,
            r#"{"t":"","d":"1970-01-01","j":1}"#,
            r#"{"t":"none","d":"1970-01-01","j":{"a":[]}}"#,
        ]
    );
    assert_eq!(run(&steps, fields, &lines).lines, outcome.lines);
}

fn address() -> Vec<Field> {
    let geo = RecordType::Struct {
        fields: vec![
            Field::required("lat", RecordType::FLOAT64),
            Field::new("at", RecordType::Geopoint),
        ],
    };
    let address = RecordType::Struct {
        fields: vec![Field::new("city", RecordType::Text), Field::new("geo", geo)],
    };
    vec![
        Field::new("a", RecordType::Text),
        Field::new("address", address),
        Field::new("z", RecordType::Text),
    ]
}

#[test]
fn structs_are_flattened_to_the_depth_asked_for() {
    let lines = [
        r#"{"a":"1","address":{"city":"B","geo":{"lat":1.5,"at":{"lat":2.0,"lng":3.0}}},"z":"2"}"#,
        r#"{"a":"1","address":{"city":null,"geo":{"lat":1.5,"at":null}}}"#,
        r#"{"address":{"city":"B","geo":null}}"#,
        r#"{"address":null}"#,
        r#"{"z":"2"}"#,
    ];
    let outcome = run_with_presence(&json!([{ "flatten": { "field": "address" } }]), address(), &lines);
    assert_eq!(
        outcome.fields(),
        "a: text?, address_city: text?, address_geo_lat: float64?, address_geo_at_lat: float64?, address_geo_at_lng: \
         float64?, z: text?"
    );
    assert_eq!(
        outcome.lines,
        [
            r#"{"a":"1","address_city":"B","address_geo_lat":1.5,"address_geo_at_lat":2.0,"address_geo_at_lng":3.0,"z":"2"}"#,
            r#"{"a":"1","address_city":null,"address_geo_lat":1.5,"address_geo_at_lat":null,"address_geo_at_lng":null}"#,
            r#"{"address_city":"B","address_geo_lat":null,"address_geo_at_lat":null,"address_geo_at_lng":null}"#,
            r#"{"address_city":null,"address_geo_lat":null,"address_geo_at_lat":null,"address_geo_at_lng":null}"#,
            r#"{"z":"2"}"#,
        ]
    );
    let steps = json!([{ "flatten": { "field": "address", "depth": 1, "prefix": "", "keep": true } }]);
    let outcome = run(&steps, address(), &lines[..1]);
    assert!(
        outcome.fields().starts_with("a: text?, address: struct("),
        "{}",
        outcome.fields()
    );
    assert!(
        outcome
            .fields()
            .contains(", city: text?, geo: struct(lat: float64, at: geopoint)?, z")
    );
}

#[test]
fn parts_of_json_become_fields() {
    let fields = || vec![Field::new("j", RecordType::Json)];
    let steps = |on_failure: &str| {
        json!([{ "flatten": { "field": "j", "prefix": "j.", "on_failure": on_failure, "paths": [
            { "path": "/a/0", "to": "first", "type": "decimal(20, 1)" },
            { "path": "/b~1c", "to": "b/c", "type": "text" },
        ] } }])
    };
    let lines = [
        r#"{"j":{"a":[1234567890123456789.5],"b/c":"x"}}"#,
        r#"{"j":{"a":["1.0"],"b/c":null}}"#,
        r#"{"j":{"a":[]}}"#,
        r#"{"j":null}"#,
        "{}",
        r#"{"j":{"a":[0.25],"b/c":1}}"#,
    ];
    let outcome = run_with_presence(&steps("reject"), fields(), &lines);
    assert_eq!(
        outcome.fields(),
        "j: json?, j.first: decimal(20, 1)?, j.b/c: text?"
    );
    assert_eq!(
        outcome.lines,
        [
            r#"{"j":{"a":[1234567890123456789.5],"b/c":"x"},"j.first":"1234567890123456789.5","j.b/c":"x"}"#,
            r#"{"j":{"a":["1.0"],"b/c":null},"j.first":"1.0","j.b/c":null}"#,
            r#"{"j":{"a":[]}}"#,
            r#"{"j":null}"#,
            "{}",
        ]
    );
    assert_eq!(outcome.codes(), [(5, "reshape.part_not_convertible")]);
    assert!(
        outcome.rejected[0].message.contains("`/a/0`"),
        "{}",
        outcome.rejected[0].message
    );
    let outcome = run(&steps("null"), fields(), &lines[5..]);
    assert_eq!(
        outcome.lines,
        [r#"{"j":{"a":[0.25],"b/c":1},"j.first":null,"j.b/c":null}"#]
    );
}

#[test]
fn dates_in_several_formats_become_one() {
    let steps = |zone: Value, to: &str| json!([{ "dates": { "fields": ["d"], "formats": ["%Y-%m-%d", "%d.%m.%Y", "unix_ms"], "to": to, "zone": zone } }]);
    let lines = [
        r#"{"d":"2024-02-29"}"#,
        r#"{"d":"29.02.2024"}"#,
        r#"{"d":"1709164800000"}"#,
        r#"{"d":null}"#,
        r#"{"d":"yesterday"}"#,
        r#"{"d":"30.02.2024"}"#,
        r#"{"d":"1709164800001"}"#,
        r#"{"d":""}"#,
    ];
    let outcome = run(&steps(json!("UTC"), "date"), texts(&["d"]), &lines);
    assert_eq!(outcome.fields(), "d: date?");
    let day = r#"{"d":"2024-02-29"}"#;
    assert_eq!(outcome.lines, [day, day, day, r#"{"d":null}"#]);
    let code = "reshape.date_not_recognised";
    assert_eq!(outcome.codes(), [(4, code), (5, code), (6, code), (7, code)]);
    let outcome = run(
        &steps(json!("Europe/Berlin"), "timestamp_tz"),
        texts(&["d"]),
        &lines[..3],
    );
    assert_eq!(
        outcome.lines,
        [
            r#"{"d":"2024-02-28T23:00:00.000000Z"}"#,
            r#"{"d":"2024-02-28T23:00:00.000000Z"}"#,
            r#"{"d":"2024-02-29T00:00:00.000000Z"}"#,
        ]
    );
}

/// Whether each of `lines` passes `condition`.
fn passes(condition: &Value, fields: Vec<Field>, lines: &[&str]) -> Vec<bool> {
    let outcome = run_with_presence(&json!([{ "filter": { "where": condition } }]), fields, lines);
    assert_eq!(outcome.filtered as usize, lines.len() - outcome.lines.len());
    lines
        .iter()
        .map(|line| outcome.lines.iter().any(|kept| kept == line))
        .collect()
}

#[test]
fn conditions_have_three_outcomes() {
    let fields = || {
        vec![
            Field::new("n", RecordType::INT64),
            Field::new("t", RecordType::Text),
            Field::new("f", RecordType::FLOAT64),
            Field::new("d", RecordType::Date),
        ]
    };
    let lines = [
        r#"{"n":1,"t":"paid","f":0.0,"d":"2024-02-29"}"#,
        r#"{"n":2,"t":"PAID","f":-0.0,"d":"2024-03-01"}"#,
        r#"{"n":null,"t":null,"f":"NaN"}"#,
        "{}",
    ];
    let leaf = |field: &str, op: &str, value: Value| json!({ "field": field, "op": op, "value": value });
    for (condition, expected) in [
        (leaf("n", "equals", json!(1)), [true, false, false, false]),
        (leaf("n", "not_equals", json!(1)), [false, true, false, false]),
        (leaf("n", "at_least", json!(2)), [false, true, false, false]),
        (leaf("n", "less", json!(2)), [true, false, false, false]),
        (leaf("n", "at_most", json!(2)), [true, true, false, false]),
        (leaf("n", "greater", json!(2)), [false, false, false, false]),
        (
            leaf("t", "matches", json!("(?i)^paid$")),
            [true, true, false, false],
        ),
        (leaf("t", "less", json!("a")), [false, true, false, false]),
        (leaf("f", "equals", json!(0.0)), [true, true, false, false]),
        (leaf("f", "greater", json!(1e300)), [false, false, true, false]),
        (
            leaf("d", "at_least", json!("2024-03-01")),
            [false, true, false, false],
        ),
        (
            json!({ "field": "n", "op": "in", "values": [2, 3] }),
            [false, true, false, false],
        ),
        (
            json!({ "field": "n", "op": "not_in", "values": [2, 3] }),
            [true, false, false, false],
        ),
        (
            json!({ "field": "n", "op": "is_null" }),
            [false, false, true, false],
        ),
        (
            json!({ "field": "n", "op": "not_null" }),
            [true, true, false, false],
        ),
        (
            json!({ "field": "n", "op": "present" }),
            [true, true, true, false],
        ),
        (
            json!({ "field": "n", "op": "absent" }),
            [false, false, false, true],
        ),
        (
            json!({ "not": leaf("n", "equals", json!(1)) }),
            [false, true, false, false],
        ),
        (
            json!({ "any": [leaf("n", "equals", json!(1)), { "field": "n", "op": "absent" }] }),
            [true, false, false, true],
        ),
        (
            json!({ "not": { "all": [leaf("n", "equals", json!(1)), { "field": "t", "op": "present" }] } }),
            [false, true, false, true],
        ),
    ] {
        assert_eq!(passes(&condition, fields(), &lines), expected, "{condition}");
    }
}

#[test]
fn a_rule_judges_what_comes_in() {
    use std::sync::Arc;
    use whimbrel_plugin_api::Transform as _;
    use whimbrel_plugin_api::abi::Validation;
    use whimbrel_plugin_api::arrow_array::BooleanArray;

    let schema = Schema::new(vec![Field::new("n", RecordType::INT64)]);
    let batch = batches_of(&schema, &[&[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":null}"#]]).remove(0);
    let config =
        json!({ "steps": [{ "drop": ["n"] }], "rule": { "field": "n", "op": "equals", "value": 1 } });
    let host = Arc::new(crate::harness::Listening::default());
    let mut transform = plugin().open_transform(&config, host, Validation::Full).unwrap();
    let judged = transform.rule(&batch).unwrap();
    assert_eq!(judged, BooleanArray::from(vec![Some(true), Some(false), None]));
    let host = Arc::new(crate::harness::Listening::default());
    let mut transform = plugin()
        .open_transform(&json!({}), host, Validation::Full)
        .unwrap();
    let error = transform.rule(&batch).unwrap_err();
    assert_eq!(error.code, "reshape.no_rule");
    assert_eq!(error.place.as_deref(), Some("config.rule"));
}

#[test]
fn a_rejected_record_is_named_and_whole() {
    let schema = Schema::new(vec![
        Field::required("id", RecordType::INT64),
        Field::required("day", RecordType::Date),
        Field::new("secret", RecordType::Text),
    ]);
    let collection = Collection::new("c", schema).with_key(["id", "day"]);
    let steps = json!([
        { "filter": { "where": { "field": "id", "op": "greater", "value": 1 } } },
        { "rename": { "id": "number" } },
        { "cast": { "field": "secret", "to": "int64" } },
        { "cast": { "field": "number", "to": "int8" } },
    ]);
    let lines = [
        r#"{"id":1,"day":"2024-01-01","secret":"dropped"}"#,
        r#"{"id":2,"day":"2024-01-02","secret":"hunter2"}"#,
        r#"{"id":300,"day":"2024-01-03","secret":"4"}"#,
        r#"{"id":301,"day":"2024-01-04","secret":"both"}"#,
        r#"{"id":5,"day":"2024-01-05","secret":"5"}"#,
    ];
    let outcome = crate::harness::try_run(&steps, &collection, &lines).unwrap();
    assert_eq!(outcome.filtered, 1);
    assert_eq!(outcome.lines, [r#"{"number":5,"day":"2024-01-05","secret":5}"#]);
    let found: Vec<_> = outcome
        .rejected
        .iter()
        .map(|record| {
            assert!(!record.message.contains("hunter2"));
            (record.row, record.record.as_str(), record.data.as_deref())
        })
        .collect();
    assert_eq!(
        found,
        [
            (Some(1), "2, 2024-01-02", Some(lines[1])),
            (Some(2), "300, 2024-01-03", Some(lines[2])),
            (Some(3), "301, 2024-01-04", Some(lines[3])),
        ]
    );
    assert_eq!(
        outcome.rejected[0].message,
        "the field `secret` of type `text` does not convert to `int64` (config.steps[2].cast)"
    );
    assert_eq!(
        outcome.rejected[1].message,
        "the field `number` of type `int64` does not convert to `int8` (config.steps[3].cast)"
    );
}

#[test]
fn an_edge_value_of_every_type_passes_through_untouched() {
    for case in whimbrel_plugin_api::acceptance::values::edge_cases() {
        let collection = Collection::new(case.name(), (*case.schema()).clone()).with_key(["id"]);
        let steps = json!({ "steps": [
            { "set": { "copy": { "from": "value" } } },
            { "rename": { "value": "v" } },
            { "filter": { "where": { "field": "id", "op": "at_least", "value": 1 } } },
            { "select": ["copy", "id", "v"] },
            { "rename": { "v": "value" } },
        ] });
        let expected = case.records().into_iter().skip(1).map(|mut record| {
            record.insert("copy".to_owned(), record["value"].clone());
            record
        });
        let case = TransformCase::new(steps, collection.clone(), vec![case.batch().unwrap()])
            .expecting(collection.name.clone(), expected.collect());
        transform::run(plugin(), case).assert();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn select_and_rename_keep_the_data(
        rows in proptest::collection::vec(proptest::collection::vec(proptest::option::of(any::<Option<String>>()), 6), 0..20),
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        kept in 1_usize..=6,
    ) {
        let line = |row: &[Option<Option<String>>], names: &dyn Fn(usize) -> String, fields: &[usize]| {
            let members = fields.iter().filter_map(|field| {
                let value = row[*field].as_ref()?;
                Some(format!("{}:{}", json!(names(*field)), json!(value)))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        };
        let all: Vec<usize> = (0..6).collect();
        let old = |field: usize| format!("f{field}");
        let new = |field: usize| format!("f{}", (field + 1) % 6);
        let lines: Vec<String> = rows.iter().map(|row| line(row, &old, &all)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let fields = all.iter().map(|field| Field::new(old(*field), RecordType::Text)).collect();
        let selected: Vec<String> = order[..kept].iter().map(|field| old(*field)).collect();
        let renamed: Value = selected.iter().zip(&order).map(|(name, field)| (name.clone(), json!(new(*field)))).collect::<whimbrel_plugin_api::serde_json::Map<_, _>>().into();
        let outcome = run_with_presence(&json!([{ "select": selected }, { "rename": renamed }]), fields, &lines);
        let expected: Vec<String> = rows.iter().map(|row| line(row, &new, &order[..kept])).collect();
        prop_assert_eq!(outcome.lines, expected);
    }
}
