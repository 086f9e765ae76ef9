//! Keeps the tables of `docs/configuration.md` equal to what the program does.
//!
//! After a change that is meant, `UPDATE_EXPECT=1 cargo test -p whimbrel config::documentation` writes them anew.

use std::path::Path;

use serde_json::Value;
use whimbrel_plugin_api::docs::{config_table, section};

use super::load::parse;
use super::variables::{Sets, VARIABLES};
use super::{Job, schema, settings};

/// The variables as a Markdown table: names, key, default, effect.
fn variable_table() -> String {
    let job_schema = Job::schema();
    let plain = parse(b"name: a\nsource: { plugin: p }\nsink: { plugin: p }\n").unwrap();
    let plain = serde_json::to_value(plain.job).unwrap();
    let mut text = String::from("| variable | sets | values | default | effect |\n|---|---|---|---|---|\n");
    for variable in &VARIABLES {
        let names: Vec<String> = variable.names.iter().map(|name| format!("`{name}`")).collect();
        let (sets, values, default) = match variable.sets {
            Sets::Value(pointer) => {
                let values = schema::at(&job_schema, pointer).unwrap();
                let default = plain.pointer(pointer).map(Value::to_string).unwrap();
                (path(pointer), schema::requirement(&job_schema, values), default)
            }
            Sets::Json(pointer) => (path(pointer), "a mapping in JSON".into(), "as the job".into()),
            Sets::Verification => ("verification".into(), "true or false".into(), "as the job".into()),
            Sets::WorkingDir => ("working_dir".into(), "a folder".into(), ".whimbrel".into()),
            Sets::Settings => (
                "the settings file".into(),
                "a file".into(),
                settings::SETTINGS_FILE.into(),
            ),
        };
        text.push_str(&format!(
            "| {} | `{sets}` | {values} | `{default}` | {} |\n",
            names.join(", "),
            variable.effect
        ));
    }
    text
}

fn path(pointer: &str) -> String {
    pointer[1..].replace('/', ".")
}

/// `document` with `content` in place of what stands in its section called `name`.
fn with_section(document: &str, name: &str, content: &str) -> String {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    assert!(section(document, name).is_some(), "{name}");
    let (before, rest) = document.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}\n{content}{end}{after}")
}

#[test]
fn the_tables_of_the_configuration_page_are_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let mut settings = settings::schema();
    // Its keys are those of a job, which have a table of their own.
    settings["properties"]["defaults"]["properties"] = serde_json::json!({});
    let mut wanted = with_section(&document, "settings", &config_table(&settings));
    wanted = with_section(&wanted, "variables", &variable_table());
    let schedule = serde_json::json!({ "$ref": "#/$defs/Schedule", "$defs": settings["$defs"] });
    wanted = with_section(&wanted, "schedule", &config_table(&schedule));
    let job = Job::schema();
    wanted = with_section(&wanted, "job", &config_table(&job));
    for (name, definition) in [
        ("parameter", "Parameter"),
        ("collection", "CollectionJob"),
        ("reference", "ReferenceJob"),
        ("transform", "TransformJob"),
        ("command_hook", "CommandHook"),
        ("env_file_hook", "EnvFileHook"),
        ("notifier", "NotifierJob"),
    ] {
        let part = serde_json::json!({ "$ref": format!("#/$defs/{definition}"), "$defs": job["$defs"] });
        wanted = with_section(&wanted, name, &config_table(&part));
    }
    expect_test::expect_file![path].assert_eq(&wanted);
}
