//! Values and names that are meant to break a copy of Firestore: exact, rejected or refused, never silent. FAULTS D5, D6.
//!
//! The emulator says over REST, type by type, what is there. Neighbour: `firestore_job`, whose input has all types.

use serde_json::{Value, json};

use crate::firestore::document_name;
use crate::firestore_faults::Scene;
use crate::postgres_job::{Job, files, report_of};

/// Fields at their edges, each as the service writes it.
fn edges() -> Value {
    json!({
        "largest": { "integerValue": "9223372036854775807" },
        "smallest": { "integerValue": "-9223372036854775808" },
        "beyond_doubles": { "integerValue": "9007199254740993" },
        "nan": { "doubleValue": "NaN" },
        "infinity": { "doubleValue": "Infinity" },
        "minus_infinity": { "doubleValue": "-Infinity" },
        "minus_zero": { "doubleValue": "-0.0" },
        "whole": { "doubleValue": 10 },
        "denormal": { "doubleValue": 5e-324 },
        "nul": { "stringValue": "a\u{0}b" },
        "empty": { "stringValue": "" },
        "null": { "nullValue": null },
        "text": { "stringValue": "\u{1f600} \u{202e} \u{feff} e\u{301} \n\t\"\\" },
        "first": { "timestampValue": "0001-01-01T00:00:00Z" },
        "last": { "timestampValue": "9999-12-31T23:59:59.999999Z" },
        "before": { "timestampValue": "1969-12-31T23:59:59.999999Z" },
        "octets": { "bytesValue": "AP8=" },
        "no_octets": { "bytesValue": "" },
        "point": { "geoPointValue": { "latitude": -90, "longitude": 180 } },
        "map": { "mapValue": { "fields": {
            "$type": { "stringValue": "float64" },
            "value": { "doubleValue": "NaN" },
            "a.b": { "mapValue": {} },
            "`": { "arrayValue": {} },
        } } },
        "array": { "arrayValue": { "values": [
            { "nullValue": null }, { "doubleValue": 1 }, { "integerValue": "1" }, { "stringValue": "1" },
            { "mapValue": { "fields": { "inner": { "arrayValue": { "values": [{ "doubleValue": "-0.0" }] } } } } },
        ] } },
    })
}

/// Ids and names that mean something elsewhere.
const NAMES: [&str; 12] = [
    "select",
    "\"; DROP TABLE x;--",
    "'--",
    "\u{1f600}",
    "\u{dc}n\u{ef}code e\u{301}",
    "Twin",
    "TWIN",
    "with space",
    "%2F %s $1 {}",
    "a.b[0]`c\\",
    "*",
    "~!@#$^&()_+",
];

#[test]
fn d5_hostile_values_are_copied_exactly_whether_their_fields_are_mixed_or_not() {
    let Some(scene) = Scene::new() else { return };
    let edges = edges();
    let fields: Vec<(&String, &Value)> = edges.as_object().unwrap().iter().collect();
    // One document with all of them, and one each in a field that they share, so that its type is mixed.
    let mut writes = vec![json!({ "update": {
        "name": document_name(&scene.project, "users/all"), "fields": edges,
    } })];
    for (name, value) in &fields {
        writes.push(json!({ "update": {
            "name": document_name(&scene.project, &format!("mixed/{name}")), "fields": { "v": value },
        } }));
    }
    scene.emulator.commit(&scene.project, &json!(writes).to_string());
    scene.emulator.put(
        &scene.project,
        "mixed/absent",
        r#"{"other":{"booleanValue":true}}"#,
    );
    let copy = scene.emulator.project("copy");
    let job = Job::new(scene.side(), scene.direct(&copy));
    let report = scene.run(&job, 0);
    assert_eq!(report["rejected_count"], 0, "{}", report["rejected"]);
    for result in report["verification"].as_array().unwrap() {
        assert_eq!(result["comparison"], "equal", "{result}");
    }
    for collection in ["users", "mixed"] {
        let original = scene.documents(&scene.project, collection);
        let there = scene.documents(&copy, collection);
        for (path, fields) in &original {
            assert_eq!(there.get(path), Some(fields), "{path}");
        }
        assert_eq!(there.len(), original.len());
    }
}

#[test]
fn d5_a_reference_into_the_database_that_is_written_is_rejected_and_others_are_copied() {
    let Some(scene) = Scene::new() else { return };
    let copy = scene.emulator.project("copy");
    // To nobody, and to what Datastore has numbered.
    let own = document_name(&scene.project, "users/nobody/numbers/__id7__");
    let elsewhere = "projects/another-one/databases/(default)/documents/users/ann";
    let into_copy = document_name(&copy, "users/ann");
    let reference = |name: &str| json!({ "referenceValue": name });
    let many = |name: &str| json!({ "arrayValue": { "values": [reference(&own), reference(name)] } });
    let map = |name: &str| json!({ "mapValue": { "fields": { "to": reference(name) } } });
    for (path, fields) in [
        (
            "users/own",
            json!({ "one": reference(&own), "many": many(&own), "map": map(&own) }),
        ),
        (
            "users/elsewhere",
            json!({ "one": reference(elsewhere), "many": many(elsewhere), "map": map(elsewhere) }),
        ),
        ("users/one", json!({ "one": reference(&into_copy) })),
        ("users/many", json!({ "many": many(&into_copy) })),
        ("users/map", json!({ "map": map(&into_copy) })),
    ] {
        scene.emulator.put(&scene.project, path, &fields.to_string());
    }
    let job = Job::new(scene.side(), scene.direct(&copy)).set("/import/max_errors", json!(3));
    let report = scene.run(&job, 0);
    let mut rejected: Vec<String> = report["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| {
            assert_eq!(pair[1]["code"], "firestore.bad_value");
            format!("{} {}", pair[1]["record"], pair[1]["message"])
        })
        .collect();
    rejected.sort();
    assert_eq!(rejected.len(), 3, "{rejected:?}");
    for (line, field) in rejected.iter().zip(["many", "map", "one"]) {
        assert!(
            line.starts_with(&format!("\"users/{field}\""))
                && line.contains(&format!("`{field}` holds a reference")),
            "{line}"
        );
    }
    assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
    let there = scene.documents(&copy, "users");
    let paths: Vec<&str> = there.keys().map(String::as_str).collect();
    assert_eq!(paths, ["users/elsewhere", "users/own"]);
    assert_eq!(
        there["users/own"]["one"],
        reference(&document_name(&copy, "users/nobody/numbers/__id7__"))
    );
    assert_eq!(there["users/elsewhere"]["one"], reference(elsewhere));
}

#[test]
fn d5_values_of_files_arrive_exactly_or_are_rejected_and_come_back() {
    let Some(scene) = Scene::new() else { return };
    let lines = [
        r#"{"id":1,"t":"","i":9223372036854775807,"f":-0.0,"j":{"n":9007199254740993,"k":[null,{"a":[]}]}}"#,
        r#"{"id":2,"t":null,"i":-9223372036854775808,"f":5e-324,"j":{}}"#,
        r#"{"id":3,"t":"a\u0000b","i":0,"f":1.7976931348623157e308,"j":{"a":"\\u0000 no NUL"}}"#,
        r#"{"id":4,"i":1,"f":0.1,"j":{"z":1,"a":2,"z2":1.5,"big":1e300}}"#,
        r#"{"id":5,"t":"\ud800","i":1,"f":0.5,"j":{}}"#,
    ];
    scene
        .stage
        .write("docs.ndjson", format!("{}\n", lines.join("\n")));
    let job = scene.docs_in().set("/import/max_errors", json!(1));
    let report = scene.run(&job, 0);
    assert_eq!(report["rejected_count"], 1, "{report}");
    assert_eq!(report["rejected"][0][1]["code"], "files.lone_surrogate");
    let there = scene.documents(&scene.project, "docs");
    assert_eq!(there.len(), 4);
    assert_eq!(
        there["docs/1"]["i"],
        json!({ "integerValue": "9223372036854775807" })
    );
    assert_eq!(
        there["docs/1"]["j"]["mapValue"]["fields"]["n"],
        json!({ "integerValue": "9007199254740993" })
    );
    assert_eq!(there["docs/2"]["t"], json!({ "nullValue": null }));
    assert_eq!(there["docs/3"]["t"], json!({ "stringValue": "a\u{0}b" }));
    assert_eq!(there["docs/4"].get("t"), None, "absent is not null");
    Job::new(scene.side(), files("out"))
        .set("/collections", json!([{ "source": "docs" }]))
        .write(&scene.stage);
    let report = report_of(scene.stage.run(&["run", "job.yaml", "--json"]), 0);
    assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
    let back = std::fs::read_to_string(scene.stage.path("out/docs.ndjson")).unwrap();
    let mut back: Vec<Value> = back
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    back.sort_by_key(|record| record["id"].as_u64());
    for (record, line) in back.iter_mut().zip(lines) {
        record.as_object_mut().unwrap().remove("__id__");
        assert_eq!(*record, serde_json::from_str::<Value>(line).unwrap());
    }
    assert_eq!(back.len(), 4);
}

#[test]
fn d6_hostile_names_of_collections_documents_and_fields_are_copied_exactly() {
    let Some(scene) = Scene::new() else { return };
    let mut writes = Vec::new();
    let long = "l".repeat(1_400);
    for collection in NAMES.iter().copied().chain(["users"]) {
        let fields: serde_json::Map<String, Value> = NAMES
            .iter()
            .chain([&long.as_str()])
            .map(|name| ((*name).to_owned(), json!({ "stringValue": name })))
            .collect();
        // A number that Datastore gave is an id, too.
        for id in NAMES.iter().chain([&long.as_str(), &"__id7__"]) {
            let path = format!("{collection}/{id}");
            let name = document_name(&scene.project, &path);
            writes.push(json!({ "update": { "name": name, "fields": fields } }));
        }
        // Below a document that is not there.
        let name = document_name(&scene.project, &format!("{collection}/none/{collection}/1"));
        writes.push(json!({ "update": { "name": name } }));
    }
    scene.emulator.commit(&scene.project, &json!(writes).to_string());
    let copy = scene.emulator.project("copy");
    let report = scene.run(&Job::new(scene.side(), scene.direct(&copy)), 0);
    assert_eq!(report["rejected_count"], 0, "{}", report["rejected"]);
    for collection in NAMES.iter().copied().chain(["users"]) {
        let original = scene.documents(&scene.project, collection);
        assert_eq!(original.len(), NAMES.len() + 3);
        assert!(scene.documents(&copy, collection) == original, "{collection}");
    }
}

#[test]
fn d6_names_that_differ_in_case_alone_are_told_apart_where_a_sink_does_not() {
    let Some(scene) = Scene::new() else { return };
    for path in ["users/1", "Users/1", "users/a", "users/A"] {
        let fields = json!({
            "Twin": { "integerValue": "1" },
            "TWIN": { "integerValue": "2" },
            "path": { "stringValue": path },
        });
        scene.emulator.put(&scene.project, path, &fields.to_string());
    }
    let tables = json!({ "plugin": "turso", "config": { "url": "file:copy.db" } });
    let job = Job::new(scene.side(), tables.clone());
    job.write(&scene.stage);
    let answer = scene.stage.run(&["run", "job.yaml", "--json"]);
    let report = answer.json();
    assert_eq!(answer.code, 2, "{report}");
    let text = report["errors"].to_string();
    assert!(text.contains("`users`") && text.contains("`Users`"), "{text}");
    // With names of their own, all of it arrives and comes back.
    let names = [("users", "users"), ("Users", "users_two")];
    let there = names.map(|(pattern, table)| json!({ "source": pattern, "sink": table }));
    let report = scene.run(&job.set("/collections", json!(there)), 0);
    assert_eq!(report["rejected_count"], 0, "{report}");
    let copy = scene.emulator.project("copy");
    let back = names.map(|(pattern, table)| json!({ "source": table, "sink": pattern }));
    let job = Job::new(tables, scene.direct(&copy)).set("/collections", json!(back));
    scene.run(&job, 0);
    for collection in ["users", "Users"] {
        assert_eq!(
            scene.documents(&copy, collection),
            scene.documents(&scene.project, collection)
        );
    }
}
