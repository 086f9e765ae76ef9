//! The JSON Schemas of job and settings files as editors read them, before references are resolved.
//!
//! What validates a resolved job (`job.rs`, `settings.rs`) wants a number where a file may say `${param:size}`; here both
//! fit. Neighbour: `whimbrel schema`, which prints them.

use serde_json::{Map, Value, json};

use super::job::Job;
use super::settings;

/// The keywords that hold schemas by name.
const NAMED: [&str; 2] = ["properties", "$defs"];

/// The schema of a job file.
pub fn job_file_schema() -> Value {
    let mut schema = with_references(Job::schema(), "job");
    if let Some(Value::Object(connector)) = schema.pointer_mut("/$defs/Connector") {
        connector.remove("required");
        connector.insert(
            "oneOf".to_owned(),
            json!([{ "required": ["plugin"] }, { "required": ["environment"] }]),
        );
    }
    schema
}

/// The schema of a settings file.
pub fn settings_file_schema() -> Value {
    with_references(settings::schema(), "settings")
}

fn with_references(mut schema: Value, name: &str) -> Value {
    // What a parameter is given is checked as it stands.
    let parameter = schema.pointer("/$defs/Parameter").cloned();
    allow(&mut schema);
    if let (Some(parameter), Some(place)) = (parameter, schema.pointer_mut("/$defs/Parameter")) {
        *place = parameter;
    }
    // A URN: the schema is printed by the program, and no address has to answer.
    schema["$id"] = format!("urn:whimbrel:schema:{name}:1").into();
    schema
}

/// Lets a reference stand wherever a number, a switch, a word of a list or a text of a form is wanted.
fn allow(schema: &mut Value) {
    let Value::Object(members) = schema else {
        return;
    };
    for keyword in NAMED {
        if let Some(Value::Object(schemas)) = members.get_mut(keyword) {
            schemas.values_mut().for_each(allow);
        }
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(below) = members.get_mut(keyword) {
            allow(below);
        }
    }
    if is_leaf(members) {
        let mut outer = Map::new();
        for keyword in ["description", "default", "title"] {
            if let Some(value) = members.remove(keyword) {
                outer.insert(keyword.to_owned(), value);
            }
        }
        let own = Value::Object(std::mem::take(members));
        let reference = json!({ "type": "string", "pattern": r"\$\{(env|file|param):" });
        outer.insert("anyOf".to_owned(), json!([own, reference]));
        *members = outer;
    } else if let Some(Value::Array(forms)) = members.get_mut("oneOf") {
        forms.iter_mut().for_each(allow);
    }
}

fn is_leaf(schema: &Map<String, Value>) -> bool {
    let kind = schema.get("type").and_then(Value::as_str);
    let is_words = schema
        .get("oneOf")
        .and_then(Value::as_array)
        .is_some_and(|forms| forms.iter().all(|form| form.get("const").is_some()));
    is_words
        || schema.contains_key("enum")
        || matches!(kind, Some("integer" | "number" | "boolean"))
        || (kind == Some("string") && schema.contains_key("pattern"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(schema: &Value, yaml: &str) -> Vec<String> {
        let value = crate::config::yaml::read(yaml).value.unwrap();
        let validator = jsonschema::validator_for(schema).unwrap();
        validator
            .iter_errors(&value)
            .map(|error| error.instance_path().to_string())
            .collect()
    }

    #[test]
    fn files_are_judged_as_they_are_written() {
        let schema = job_file_schema();
        let whole = include_str!("../../../tests/fixtures/good-jobs/whole.yaml");
        assert_eq!(faults(&schema, whole), [] as [&str; 0]);
        let good = "name: a\nsource: { environment: staging }\nsink: { plugin: \"${param:p}\" }\nmode: \"${param:m}\"\n\
                    collections: [{ source: a, verification: \"${param:v}\" }]\nimport: { batch_size: \"${env:N}\" }\n";
        assert_eq!(faults(&schema, good), [] as [&str; 0]);
        let wrong = "name: a\nsource: { environment: staging, plugin: p }\nsink: {}\nmode: fast\nimport: { batch_size: x }\n";
        let mut found = faults(&schema, wrong);
        found.sort();
        assert_eq!(found, ["/import/batch_size", "/mode", "/sink", "/source"]);
    }

    #[test]
    fn settings_are_judged_too() {
        let schema = settings_file_schema();
        let good = "environments: { a: { plugin: p, config: { b: 1 } } }\ndefaults: { limits: { memory_mb: 64 } }\nworking_dir: x\n";
        assert_eq!(faults(&schema, good), [] as [&str; 0]);
        assert_eq!(faults(&schema, "defaults: { name: x }\n"), ["/defaults"]);
    }

    #[test]
    fn both_have_an_id() {
        assert_eq!(job_file_schema()["$id"], "urn:whimbrel:schema:job:1");
        assert_eq!(settings_file_schema()["$id"], "urn:whimbrel:schema:settings:1");
    }
}
