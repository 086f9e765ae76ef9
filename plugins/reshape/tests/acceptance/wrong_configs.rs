//! Every wrong config, with the text that a person gets: place, message, help and code.
//! `wrong_configs.jsonl` has the configs, `wrong_configs.txt` what is said of each; `UPDATE_EXPECT=1` writes the latter.

use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::expect_file;
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::serde_json::{Value, from_str};
use whimbrel_plugin_api::{Collection, Error, ErrorKind, Field, RecordType, Schema, Transform as _, config};
use whimbrel_reshape::ReshapeConfig;

use crate::harness::{Listening, plugin};

/// One config a line.
const CONFIGS: &str = include_str!("wrong_configs.jsonl");

fn collection() -> Collection {
    let address = RecordType::Struct {
        fields: vec![Field::new("city", RecordType::Text)],
    };
    let schema = Schema::new(vec![
        Field::required("id", RecordType::INT64),
        Field::new("name", RecordType::Text),
        Field::new("total", RecordType::FLOAT64),
        Field::new("at", RecordType::TimestampTz),
        Field::new("address", address),
        Field::new("more", RecordType::Json),
        Field::new("address_city", RecordType::Text),
    ]);
    Collection::new("people", schema).with_key(["id"])
}

fn refused(config: &Value) -> (&'static str, Error) {
    let host = Arc::new(Listening::default());
    match plugin().open_transform(config, host, Validation::Full) {
        Err(error) => ("open", error),
        Ok(mut transform) => match transform.plan(&collection()) {
            Err(error) => ("plan", error),
            Ok(_) => panic!("it is not refused: {config}"),
        },
    }
}

#[test]
fn each_wrong_config_has_its_text() {
    let mut text = String::new();
    let schema = config::schema::<ReshapeConfig>();
    let validator = jsonschema::options().build(&schema).unwrap();
    for line in CONFIGS.lines().filter(|line| !line.is_empty()) {
        let config: Value = from_str(line).unwrap();
        let (when, error) = refused(&config);
        assert_eq!(error.kind, ErrorKind::Config, "{line}");
        let by_schema = if validator.is_valid(&config) {
            ""
        } else {
            ", and by the schema"
        };
        writeln!(text, "{line}\n  refused by {when}{by_schema}: {}", error.message).unwrap();
        writeln!(text, "  --> {}", error.place.as_deref().unwrap_or("?")).unwrap();
        if let Some(help) = &error.help {
            writeln!(text, "  help: {help}").unwrap();
        }
        writeln!(text, "  code: {}\n", error.code).unwrap();
    }
    expect_file!["wrong_configs.txt"].assert_eq(&text);
}

#[test]
fn config_values_of_the_wrong_kind_are_not_repeated() {
    let config: Value = from_str(r#"{"steps":[{"trim":"s3cret"},{"select":[{"a":"s3cret"}]}]}"#).unwrap();
    let (_, error) = refused(&config);
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
}
