//! Random exports, read through the boundary and put together again by rules of their own: the key of every entry is
//! found, and its value means what it meant.
//!
//! Nothing of the plugin's own code is used here besides the plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proptest::prelude::*;
use serde::Deserializer as _;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use whimbrel_plugin_api::acceptance::records::{Record, Value};

use crate::harness::{Read, export};

/// (origin, key) to value.
pub type Storage = BTreeMap<(String, String), String>;

const HOSTILE: &[&str] = &[
    "",
    " ",
    ":",
    "/",
    "::",
    "a",
    "A",
    "a:",
    ":a",
    "a:1",
    "A:1",
    "a/1",
    "a:1:2",
    "a//1",
    "a:/x",
    "a://x",
    "b:1",
    "b:2",
    "_values",
    "_Values",
    "_values:1",
    "_key",
    "_id",
    "_id_",
    "id",
    "ID",
    "_value",
    "_value_",
    "_value_text",
    "_origin",
    "__presence",
    "value_json",
    "https://example.org/p?q=1",
    "\"; DROP TABLE x;--",
    "sqlite_master",
    "_whimbrel_rest",
    "cafe\u{301}",
    "caf\u{e9}",
    "鳥:1",
    "🐦:1",
    "line\nbreak",
    "\0",
    "\u{FFFD}",
    "origins",
    "cookies",
    "__proto__",
    "length",
    "null",
    "1",
    "\\",
    "\\u0041",
];

const SCALARS: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "1",
    "-1",
    "42",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "123456789012345678901234567890",
    "1.0",
    "1.50",
    "0.1",
    "0.30000000000000004",
    "1E+2",
    "1e21",
    "1e-7",
    "5e-324",
    "1e400",
    "1e-400",
    "-1e-400",
    "123456789.123456789",
    "\"\"",
    "\"x\"",
    "\"1\"",
    "\"null\"",
    "\"\\u0000\"",
    "\"\\ud83d\\udc26\"",
    "\"caf\\u00e9\\n\"",
    "[]",
    "{}",
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "on",
    "dark",
    "007",
    "NaN",
    "{",
    "[1,",
    "{'a':1}",
    "{\"a\":1}{\"b\":2}",
    "[1,2,]",
    "undefined",
    "\u{FEFF}1",
];

fn name() -> impl Strategy<Value = String> {
    prop_oneof![3 => prop::sample::select(HOSTILE).prop_map(str::to_owned), 1 => "[ab]{1,2}[:/][a-c0-9]{0,2}", 1 => any::<String>()]
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// JSON text, with white space and repeated members now and then.
fn json_text() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        4 => prop::sample::select(SCALARS).prop_map(str::to_owned),
        1 => any::<String>().prop_map(|text| quoted(&text)),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => (-1e9..1e9_f64).prop_map(|number| number.to_string()),
    ];
    scalar.prop_recursive(3, 24, 5, |inner| {
        let pair = (name(), inner.clone()).prop_map(|(name, value)| format!("{} : {value}", quoted(&name)));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|elements| format!("[{}]", elements.join(" ,"))),
            prop::collection::vec(pair, 0..5).prop_map(|members| format!(" {{{}}}", members.join(","))),
        ]
    })
}

fn storage() -> impl Strategy<Value = Storage> {
    let value = prop_oneof![
        8 => json_text(),
        2 => prop::sample::select(TEXTS).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let origin = prop::sample::select(&["http://a", "http://b", ""][..]).prop_map(str::to_owned);
    prop::collection::btree_map((origin, name()), value, 0..24)
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Flat,
    PerOrigin,
    Pairs,
    NamedPairs,
    StorageState,
}

const FORMS: [Form; 5] = [
    Form::Flat,
    Form::PerOrigin,
    Form::Pairs,
    Form::NamedPairs,
    Form::StorageState,
];

impl Form {
    fn has_origins(self) -> bool {
        matches!(self, Self::PerOrigin | Self::StorageState)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::PerOrigin => "per-origin",
            Self::Pairs | Self::NamedPairs => "pairs",
            Self::StorageState => "storage-state",
        }
    }

    fn write(self, storage: &Storage) -> String {
        let entries = storage.iter().map(|((_, key), value)| (key, value));
        let origins: BTreeSet<&String> = storage.keys().map(|(origin, _)| origin).collect();
        let of = |wanted: &str| {
            storage
                .iter()
                .filter(move |((origin, _), _)| origin == wanted)
                .collect::<Vec<_>>()
        };
        match self {
            Self::Flat => json!(entries.collect::<BTreeMap<_, _>>()).to_string(),
            Self::Pairs => json!(entries.collect::<Vec<_>>()).to_string(),
            Self::NamedPairs => json!(
                entries
                    .map(|(key, value)| json!({"key": key, "value": value}))
                    .collect::<Vec<_>>()
            )
            .to_string(),
            Self::PerOrigin => {
                let object = |origin: &String| {
                    let keys: BTreeMap<_, _> = of(origin)
                        .into_iter()
                        .map(|((_, key), value)| (key, value))
                        .collect();
                    format!("{}:{}", quoted(origin), json!(keys))
                };
                format!(
                    "{{{}}}",
                    origins.into_iter().map(object).collect::<Vec<_>>().join(",\n")
                )
            }
            Self::StorageState => {
                let state = |origin: &String| {
                    let pair = |((_, key), value): (&(String, String), &String)| json!({"name": key, "value": value});
                    json!({"origin": origin, "localStorage": of(origin).into_iter().map(pair).collect::<Vec<_>>()})
                };
                json!({"cookies": [], "origins": origins.into_iter().map(state).collect::<Vec<_>>()})
                    .to_string()
            }
        }
    }
}

/// The members of an object in order, repeated ones too; `None` if `text` is no object.
fn members(text: &str) -> Option<Vec<(String, Box<RawValue>)>> {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(String, Box<RawValue>)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(member) = map.next_entry()? {
                all.push(member);
            }
            Ok(all)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let all = deserializer.deserialize_map(Members).ok()?;
    deserializer.end().ok()?;
    Some(all)
}

fn elements(text: &str) -> Option<Vec<Box<RawValue>>> {
    serde_json::from_str(text).ok()
}

fn has_record_key(key: &str) -> bool {
    let Some(at) = key.find([':', '/']) else {
        return false;
    };
    let (prefix, rest) = (&key[..at], &key[at + 1..]);
    (1..=64).contains(&prefix.chars().count())
        && !prefix.starts_with('_')
        && prefix
            .chars()
            .all(|character| character.is_alphanumeric() || "_-.".contains(character))
        && !rest.is_empty()
        && !rest.starts_with("//")
}

/// What each record of an entry must hold, by id, as JSON text; `None` as text means that it is no JSON.
fn expected(key: &str, value: &str) -> BTreeMap<String, String> {
    let whole = |id: &str| BTreeMap::from([(id.to_owned(), value.to_owned())]);
    if has_record_key(key) {
        return whole(&key[key.find([':', '/']).unwrap() + 1..]);
    }
    if let Some(elements) = elements(value) {
        return elements
            .iter()
            .enumerate()
            .map(|(index, raw)| (index.to_string(), raw.get().to_owned()))
            .collect();
    }
    let members = members(value).expect("a collection is made of records, a list or an object");
    members
        .into_iter()
        .map(|(name, raw)| (name, raw.get().to_owned()))
        .collect()
}

/// Sign, digits and power of ten of a JSON number, equal for equal numbers; zero keeps its sign.
fn number(text: &str) -> (bool, String, i128) {
    let (negative, text) = (text.starts_with('-'), text.trim_start_matches('-'));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}").trim_start_matches('0').to_owned();
    let mut power = exponent.parse::<i128>().unwrap() - fraction.len() as i128;
    while digits.ends_with('0') {
        digits.pop();
        power += 1;
    }
    if digits.is_empty() {
        (negative, digits, 0)
    } else {
        (negative, digits, power)
    }
}

fn same(raw: &str, value: &Value, record_type: &str) -> bool {
    let raw = raw.trim();
    match (value, record_type) {
        (Value::Null, _) => raw == "null",
        (Value::Bool(value), "bool") => raw == value.to_string(),
        (Value::Int(value), "int64") => raw == value.to_string(),
        (Value::Decimal(value), "decimal(20, 0)") => raw == value.to_string(),
        (Value::Float(bits), "float64") => number(raw) == number(&format!("{:e}", f64::from_bits(*bits))),
        (Value::Text(text), "numeric") => {
            raw != "null" && number(raw) == number(text) && (number(raw) != number("-0"))
        }
        (Value::Text(text), "text") => serde_json::from_str::<String>(raw).is_ok_and(|raw| raw == *text),
        (Value::Text(text), "json" | "variant") => raw == text,
        _ => false,
    }
}

/// The field in which a member stands: its own name, with `_` added if that is one of the source's own.
fn field_of(member: &str, all: &BTreeSet<String>) -> String {
    let own = ["_origin", "_key", "_id", "_value", "_value_text", "__presence"];
    if !own.contains(&member) {
        return member.to_owned();
    }
    let free = |name: &String| !all.contains(name) && !own.contains(&name.as_str());
    (1..)
        .map(|count| format!("{member}{}", "_".repeat(count)))
        .find(free)
        .unwrap()
}

fn text(record: &Record, field: &str) -> String {
    match record.get(field) {
        Some(Value::Text(text)) => text.clone(),
        _ => String::new(),
    }
}

/// Whether the collections hold these entries and no others. Rejected records are not looked at.
pub fn check(storage: &Storage, collections: &BTreeMap<String, Read>) -> Result<(), TestCaseError> {
    let mut missing = storage.clone();
    let lower: BTreeSet<String> = collections.keys().map(|name| name.to_lowercase()).collect();
    prop_assert_eq!(lower.len(), collections.len(), "names are distinct without case");
    for (name, read) in collections {
        let identity = |record: &Record| (text(record, "_origin"), text(record, "_key"));
        let original = |record: &Record| storage.get(&identity(record)).cloned();
        if name == "_values" {
            for record in &read.records {
                let value = original(record);
                let (json, plain) = (&record["value_json"], &record["value_text"]);
                let (given, is_json) = match (json, plain) {
                    (Value::Text(json), Value::Null) => (json, true),
                    (Value::Null, Value::Text(plain)) => (plain, false),
                    _ => return Err(TestCaseError::fail("exactly one of the two is set")),
                };
                prop_assert_eq!(Some(given), value.as_ref());
                // A null in a column of JSON could not be told from no value, so it is kept as text.
                let is_other_json = serde_json::from_str::<Json>(given).map_or_else(
                    |_| serde_json::from_str::<&RawValue>(given).is_ok(),
                    |json| !json.is_null(),
                );
                prop_assert_eq!(is_json, is_other_json);
                prop_assert!(missing.remove(&identity(record)).is_some(), "a key is found once");
            }
            continue;
        }
        let types: BTreeMap<&str, String> = read
            .collection
            .schema
            .fields
            .iter()
            .map(|field| (field.name.as_str(), field.record_type.to_string()))
            .collect();
        // What each record must hold, then which member names the collection has in all.
        let mut wanted = Vec::new();
        for record in &read.records {
            let Some(value) = original(record) else {
                return Err(TestCaseError::fail("a key is not in the export"));
            };
            let mut parts = expected(&text(record, "_key"), &value);
            let Some(part) = parts.remove(&text(record, "_id")) else {
                return Err(TestCaseError::fail("an id is made up"));
            };
            wanted.push(part);
        }
        let spread = |record: &Record| !present(record, "_value") && !present(record, "_value_text");
        let all: BTreeSet<String> = read
            .records
            .iter()
            .zip(&wanted)
            .filter(|(record, _)| spread(record))
            .flat_map(|(_, part)| members(part).unwrap_or_default())
            .map(|(member, _)| member)
            .collect();
        let has_own_id = all.contains("id");
        let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for (record, part) in read.records.iter().zip(&wanted) {
            prop_assert!(
                found
                    .entry(identity(record))
                    .or_default()
                    .insert(text(record, "_id")),
                "an id stands once"
            );
            if !has_own_id {
                prop_assert_eq!(&record["id"], &record["_id"]);
            }
            let mut left: BTreeSet<&str> = record
                .iter()
                .filter(|(_, value)| **value != Value::Absent)
                .map(|(field, _)| field.as_str())
                .collect();
            left.retain(|field| {
                !["_origin", "_key", "_id"].contains(field) && (has_own_id || *field != "id")
            });
            if present(record, "_value_text") {
                prop_assert_eq!(&text(record, "_value_text"), part);
                prop_assert!(serde_json::from_str::<&RawValue>(part).is_err());
                left.remove("_value_text");
            } else if present(record, "_value") {
                prop_assert!(
                    same(part, &record["_value"], &types["_value"]),
                    "{part} is {:?}",
                    record["_value"]
                );
                left.remove("_value");
            } else {
                let Some(members) = members(part) else {
                    return Err(TestCaseError::fail("a value is lost"));
                };
                for (member, raw) in members {
                    let field = field_of(&member, &all);
                    prop_assert!(
                        left.remove(field.as_str()),
                        "the member {member:?} is lost, or stood twice"
                    );
                    prop_assert!(
                        same(raw.get(), &record[&field], &types[field.as_str()]),
                        "{raw} is {:?}",
                        record[&field]
                    );
                }
            }
            prop_assert!(left.is_empty(), "{left:?} were not there");
        }
        for (identity, ids) in found {
            let Some(value) = missing.remove(&identity) else {
                return Err(TestCaseError::fail("a key is in two collections"));
            };
            let expected: BTreeSet<String> = expected(&identity.1, &value).into_keys().collect();
            prop_assert_eq!(ids, expected);
        }
    }
    prop_assert!(missing.is_empty(), "keys are lost: {:?}", missing.keys());
    Ok(())
}

fn present(record: &Record, field: &str) -> bool {
    record.get(field).is_some_and(|value| *value != Value::Absent)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_key_and_value_of_a_random_export_is_found_again(storage in storage(), form in prop::sample::select(&FORMS[..]), auto in any::<bool>()) {
        // Forms without origins hold one.
        let storage: Storage = if form.has_origins() {
            storage
        } else {
            storage.into_iter().map(|((_, key), value)| ((String::new(), key), value)).collect()
        };
        let config = if auto { json!({}) } else { json!({"format": form.name()}) };
        let file = export(form.write(&storage), config);
        let collections = file.everything();
        prop_assert!(collections.values().all(|read| read.rejected.is_empty()));
        check(&storage, &collections)?;
    }
}
