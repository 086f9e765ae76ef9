//! What is looked at and done before collections are written, and how they are emptied.
//! Not here: what becomes of single records.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::{AlterRequest, ClearRequest, LaneId, PrepareRequest, SinkCost};
use whimbrel_plugin_api::{Collection, ConflictPolicy, FindingLevel, Sink as _};

use crate::grpc_layer::{Answer, Method};
use crate::writing_place::{Place, batch_of, each, int, keyed, record, text, transact};

/// Where the record types of `things` are remembered.
const MEMORY: &str = "_whimbrel/of:things";

fn things(record_type: RecordType) -> Collection {
    let fields = vec![
        Field::required("__id__", RecordType::Text),
        Field::new("a", record_type),
    ];
    keyed("things", fields)
}

#[test]
fn a_dry_look_says_what_is_there_and_changes_nothing() {
    each(|place| {
        place.put(&[("things/1", json!({})), ("users/ann/orders/1", json!({}))]);
        let nested = Collection::new(
            "users/*/orders",
            Schema::new(
                ["__users_id__", "__id__"]
                    .map(|name| Field::required(name, RecordType::Text))
                    .into(),
            ),
        )
        .with_key(["__users_id__", "__id__"]);
        let mut users = things(RecordType::Text);
        users.name = "users".to_owned();
        let collections = [things(RecordType::Date), users, nested];
        let report = place.prepare(&collections, true);
        assert_eq!(place.prepare(&collections, true), report);
        let seen: Vec<_> = report
            .collections
            .iter()
            .map(|prepared| (prepared.name.as_str(), prepared.existed, prepared.record_count))
            .collect();
        // Below a missing document there are orders, but it is no user.
        assert_eq!(
            seen,
            [
                ("things", true, Some(1)),
                ("users", false, Some(0)),
                ("users/*/orders", true, None)
            ]
        );
        let stored: Vec<_> = report.collections[0]
            .fields
            .iter()
            .map(|field| field.stored_as.as_str())
            .collect();
        assert_eq!(stored, ["part of the document's path", "string, 2024-12-31"]);
        assert_eq!(report.ddl.len(), 1);
        let codes: Vec<_> = report
            .findings
            .iter()
            .map(|finding| (finding.level, finding.code.as_str()))
            .collect();
        // The host names the guarantee by it.
        let lowered = [(FindingLevel::Info, "firestore.idempotent")];
        match place.writing["guarantee"] == "idempotent" {
            true => assert_eq!(codes, lowered),
            false => assert_eq!(codes, []),
        }
        assert!(place.documents("_whimbrel").is_empty());
        assert_eq!(place.layer.counts().write_requests.len(), 0);
    });
}

#[test]
fn what_preparing_takes_is_said_and_a_session_that_comes_again_takes_nothing() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    let paths: Vec<String> = (0..1_200).map(|number| format!("things/{number:04}")).collect();
    for some in paths.chunks(300) {
        let documents: Vec<_> = some.iter().map(|path| (path.as_str(), json!({}))).collect();
        place.put(&documents);
    }
    let mut users = things(RecordType::Text);
    users.name = "users".to_owned();
    let collections = [things(RecordType::Date), users];
    let taken = |dry: bool, again: bool| {
        place.layer.reset_counts();
        let request = PrepareRequest {
            collections: collections.to_vec(),
            dry,
            again,
        };
        let report = place.sink().prepare(&request).unwrap();
        let costs = report.collections.into_iter().map(|one| one.cost.unwrap());
        let costs: Vec<SinkCost> = costs.collect();
        let said: u64 = costs.iter().map(|cost| cost.preparation_units).sum();
        assert_eq!(place.layer.counts().reads(), said, "{dry} {again}");
        costs
    };
    let dry = taken(true, false);
    // A document is looked for, all are counted, and what is remembered is looked at.
    assert_eq!(
        (dry[0].preparation_units, dry[1].preparation_units),
        (1 + 2 + 1, 1 + 1)
    );
    assert_eq!((dry[0].room_units, dry[1].room_units), (2, 2));
    assert_eq!((dry[0].held_units, dry[1].held_units), (Some(1_200), Some(0)));
    assert_eq!(dry[0].unit, "document reads");
    assert_eq!((dry[0].record_units, dry[0].counted_per_unit), (1, 1_000));
    use ConflictPolicy::{Fail, KeepNewest, KeepOldest, Skip};
    assert_eq!(dry[0].look_policies, [Skip, Fail, KeepNewest, KeepOldest]);
    let made = taken(false, false);
    assert_eq!((made[0].preparation_units, made[0].held_units), (2, None));
    assert!(place.fields(MEMORY).is_some());
    place.layer.reset_counts();
    for dry in [false, true] {
        let again = taken(dry, true);
        assert_eq!(again[0].preparation_units + again[1].preparation_units, 0);
    }
    assert_eq!(place.layer.counts().write_requests.len(), 0);
    assert!(place.fields(MEMORY).is_some());
}

#[test]
fn types_that_firestore_lacks_are_remembered_while_they_are_needed() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    let remembered = || {
        place
            .fields(MEMORY)
            .map(|fields| fields["remembered"].to_string())
    };
    place.prepare(&[things(RecordType::Text)], false);
    assert_eq!(remembered(), None);
    place.prepare(&[things(RecordType::Date)], false);
    assert!(remembered().unwrap().contains("date"));
    // Nothing changes, so nothing is written.
    place.layer.reset_counts();
    assert!(place.prepare(&[things(RecordType::Date)], false).ddl.is_empty());
    assert_eq!(place.layer.counts().write_requests.len(), 0);
    // Documents that are there may still have the field.
    place.put(&[("things/1", json!({ "a": { "stringValue": "2024-12-31" } }))]);
    let mut other = things(RecordType::Text);
    other.schema.fields[1].name = "b".to_owned();
    place.prepare(std::slice::from_ref(&other), false);
    let both = remembered().unwrap();
    assert!(both.contains("date") && both.contains(r#"\"b\""#), "{both}");
    place.emulator.delete(&place.project, "things/1");
    place.prepare(std::slice::from_ref(&other), false);
    assert_eq!(remembered(), None);
    // A key that is not the path alone.
    let mut keyed_by_a = things(RecordType::Text);
    keyed_by_a.key = vec!["a".to_owned()];
    keyed_by_a.schema.fields.remove(0);
    place.prepare(&[keyed_by_a], false);
    assert!(remembered().is_some());

    let place = Place {
        writing: json!({ "keep_types": false }),
        ..place
    };
    place.prepare(&[things(RecordType::Date)], false);
    assert_eq!(place.fields(MEMORY), None);
}

#[test]
fn what_cannot_be_written_is_a_blocker_and_nothing_is_done() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    let mut no_key = things(RecordType::Date);
    no_key.key.clear();
    no_key.schema.fields.remove(0);
    let mut nested = things(RecordType::Date);
    nested.name = "users/*/things".to_owned();
    let mut reserved = things(RecordType::Date);
    reserved.schema.fields[1].name = "__a__".to_owned();
    let lists = things(RecordType::list(RecordType::list(RecordType::Text)));
    let mut named = things(RecordType::Date);
    named.name = "a/b".to_owned();
    for (collection, code) in [
        (no_key, "firestore.no_key"),
        (nested, "firestore.key_does_not_fit"),
        (reserved, "firestore.bad_field_name"),
        (lists, "firestore.array_in_array"),
        (named, "firestore.bad_collection"),
    ] {
        let report = place.prepare(&[things(RecordType::Date), collection.clone()], false);
        let [finding] = &report.findings[..] else {
            panic!("{:?}", report.findings);
        };
        assert_eq!(
            (finding.level, finding.code.as_str()),
            (FindingLevel::Blocker, code)
        );
        assert_eq!(finding.collection.as_deref(), Some(collection.name.as_str()));
        assert!(finding.help.is_some() && report.collections.len() == 2);
    }
    assert!(place.documents("_whimbrel").is_empty());
}

#[test]
fn a_schema_that_changes_in_mid_run_is_followed() {
    each(|place| {
        let old = things(RecordType::INT64);
        let mut new = old.clone();
        new.schema.version = 1;
        new.schema.fields[1].record_type = RecordType::Variant;
        new.schema.fields.push(Field::new("b", RecordType::Date));
        let mut sink = place.prepared(&[&old]);
        let first = record([("__id__", text("1")), ("a", int(1))]);
        let second = record([("__id__", text("2")), ("a", text("\"x\"")), ("b", Value::Int(0))]);
        let batch = batch_of(&new, std::slice::from_ref(&second));
        sink.begin(&LaneId::default()).unwrap();
        let error = sink
            .write("things", &batch, ConflictPolicy::Overwrite)
            .unwrap_err();
        assert_eq!(error.code, "firestore.changed_field");
        sink.abort().unwrap();
        for overflow in [false, true] {
            let request = AlterRequest {
                collection: "things".to_owned(),
                old: old.schema.clone(),
                new: new.schema.clone(),
                overflow,
            };
            assert!(sink.alter(&request).unwrap().findings.is_empty());
        }
        let fate = transact(&mut sink, &new, &[vec![second]], ConflictPolicy::Overwrite);
        assert_eq!(fate.accepted, 1);
        let fate = transact(&mut sink, &old, &[vec![first]], ConflictPolicy::Overwrite);
        assert_eq!(fate.accepted, 1);
        assert_eq!(
            place.fields("things/1").unwrap(),
            json!({ "a": { "integerValue": "1" } })
        );
        let two = json!({ "a": { "stringValue": "x" }, "b": { "stringValue": "1970-01-01" } });
        assert_eq!(place.fields("things/2").unwrap(), two);
        let remembered = place.fields(MEMORY).unwrap()["remembered"].to_string();
        assert!(remembered.contains("date"), "{remembered}");
    });
}

#[test]
fn a_collection_is_emptied_and_what_is_below_it_stays() {
    each(|place| {
        let Place {
            emulator, project, ..
        } = place;
        emulator.clear(project);
        place.prepare(&[things(RecordType::Date)], false);
        assert!(place.fields(MEMORY).is_some());
        let paths: Vec<String> = (0..600).map(|number| format!("things/{number:03}")).collect();
        for some in paths.chunks(300) {
            let documents: Vec<_> = some.iter().map(|path| (path.as_str(), json!({}))).collect();
            place.put(&documents);
        }
        place.put(&[
            ("things/001/parts/1", json!({})),
            ("others/1", json!({})),
            ("others/1/things/1", json!({})),
        ]);
        place.layer.reset_counts();
        let method = match place.writing["request"].as_str() {
            Some("commit") => Method::Commit,
            _ => Method::BatchWrite,
        };
        place.layer.script(
            method,
            [Answer::refuse(gcloud_sdk::tonic::Code::Unavailable).times(1)],
        );
        let clear = |collections: &[&str]| {
            let collections = collections.iter().map(|name| (*name).to_owned()).collect();
            place.sink().clear(&ClearRequest { collections })
        };
        assert_eq!(clear(&["things", "none"]).unwrap().removed, [Some(600), Some(0)]);
        let left = place.documents("things");
        assert_eq!(left.keys().collect::<Vec<_>>(), ["others/1/things/1"]);
        assert_eq!(
            place.documents("parts").len() + place.documents("others").len(),
            2
        );
        assert_eq!(place.fields(MEMORY), None);
        assert_eq!(clear(&["a/b"]).unwrap_err().code, "firestore.bad_collection");
        assert_eq!(clear(&["others/*/things"]).unwrap().removed, [Some(1)]);
        assert!(place.fields("others/1").is_some());
    });
}
