//! The README: its tables are those of the config, and its examples do what it says.
//! Each example is run: fields, records in and records out stand in the block behind it.

use std::fmt::Write as _;

use whimbrel_plugin_api::serde_json::{Value, json};
use whimbrel_plugin_api::{Collection, Field, RecordType, Schema, config, docs};
use whimbrel_reshape::config::{Cast, Dates, Filter, Flatten, Normalise, PathField, SetObject};
use whimbrel_reshape::{ReshapeConfig, Step, TypeText};

use crate::harness::try_run;
use crate::yaml;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_has_the_config_tables_of_the_schemas() {
    for (section, table) in [
        ("config", docs::config_table(&config::schema::<ReshapeConfig>())),
        ("cast", docs::config_table(&config::schema::<Cast>())),
        ("set", docs::config_table(&config::schema::<SetObject>())),
        ("flatten", docs::config_table(&config::schema::<Flatten>())),
        ("paths", docs::config_table(&config::schema::<PathField>())),
        ("normalise", docs::config_table(&config::schema::<Normalise>())),
        ("dates", docs::config_table(&config::schema::<Dates>())),
        ("filter", docs::config_table(&config::schema::<Filter>())),
    ] {
        let written = docs::section(README, section).unwrap_or_default();
        assert!(
            written.trim() == table.trim(),
            "put this between the marks `{section}`:\n{table}"
        );
    }
}

/// An example: a block of YAML, and behind it a block with fields, records that come in and records that come out.
struct Example<'r> {
    yaml: &'r str,
    story: &'r str,
}

fn examples() -> Vec<Example<'static>> {
    let mut examples = Vec::new();
    let mut rest = README;
    while let Some((_, after)) = rest.split_once("```yaml\n") {
        let (yaml, after) = after.split_once("```").unwrap();
        rest = after;
        if let Some(story) = after.trim_start().strip_prefix("```text\n") {
            let (story, after) = story.split_once("```").unwrap();
            examples.push(Example { yaml, story });
            rest = after;
        }
    }
    examples
}

fn field(text: &str) -> Field {
    let (name, record_type) = text.split_once(": ").unwrap();
    let TypeText(record_type): TypeText =
        whimbrel_plugin_api::serde_json::from_value(json!(record_type)).unwrap();
    Field::new(name, record_type)
}

/// The fields of a line `a: text, b: struct(c: text, d: int64)`.
fn fields(line: &str) -> Vec<Field> {
    let members = RecordType::Struct { fields: Vec::new() };
    let text = format!("all: struct({line})");
    match field(&text).record_type {
        RecordType::Struct { fields } => fields,
        _ => panic!("no {members}"),
    }
}

#[test]
fn the_examples_do_what_the_readme_says() {
    let examples = examples();
    let mut operations: Vec<String> = Vec::new();
    for Example { yaml, story } in &examples {
        let config = yaml::read(yaml);
        let steps = config["steps"].as_array().unwrap();
        operations.extend(
            steps
                .iter()
                .flat_map(|step| step.as_object().unwrap().keys().cloned()),
        );
        let lines = |label: &str| -> Vec<&str> {
            let labelled = story.lines().filter_map(|line| line.strip_prefix(label));
            labelled.map(str::trim).collect()
        };
        let key = lines("key ");
        let schema = Schema {
            presence: true,
            ..Schema::new(fields(lines("fields ")[0]))
        };
        let collection = Collection::new("example", schema).with_key(key);
        let outcome = try_run(&config["steps"], &collection, &lines("in ")).unwrap();
        let mut told = String::new();
        for line in story
            .lines()
            .filter(|line| !line.starts_with("out ") && !line.starts_with("rejected "))
        {
            writeln!(told, "{line}").unwrap();
        }
        for line in &outcome.lines {
            writeln!(told, "out       {line}").unwrap();
        }
        for record in &outcome.rejected {
            writeln!(told, "rejected  {}: {}", record.record, record.code).unwrap();
        }
        assert!(told == *story, "{yaml}\nthe story is:\n{told}");
    }
    let schema = config::schema::<Step>();
    let known = schema["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|form| &form["required"][0]);
    for operation in known.map(|name| name.as_str().unwrap()) {
        assert!(
            operations.iter().any(|found| found == operation),
            "no example of `{operation}`"
        );
    }
}

#[test]
fn the_readme_names_every_code() {
    let sources = [
        include_str!("../../src/checks.rs"),
        include_str!("../../src/constant.rs"),
        include_str!("../../src/judge.rs"),
        include_str!("../../src/plan.rs"),
        include_str!("../../src/reading.rs"),
        include_str!("../../src/zone.rs"),
    ];
    let mut codes: Vec<&str> = Vec::new();
    for source in sources {
        for (_, after) in source.match_indices("wrong(").map(|(at, _)| source.split_at(at)) {
            if let Some(code) = after[6..]
                .trim_start()
                .strip_prefix('"')
                .and_then(|rest| rest.split('"').next())
            {
                codes.push(code);
            }
        }
    }
    assert!(codes.len() > 20);
    for code in codes {
        assert!(
            README.contains(&format!("`reshape.{code}`")),
            "the README does not name `reshape.{code}`"
        );
    }
}

#[test]
fn a_whole_job_of_the_readme_is_a_config() {
    let text = docs::section(README, "job").unwrap();
    let yaml_text = text
        .trim()
        .strip_prefix("```yaml\n")
        .unwrap()
        .strip_suffix("```")
        .unwrap();
    let job: Value = yaml::read(yaml_text);
    let config = &job["config"];
    let schema = config::schema::<ReshapeConfig>();
    assert!(
        jsonschema::options().build(&schema).unwrap().is_valid(config),
        "{config}"
    );
}
