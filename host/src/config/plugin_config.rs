//! Compares a plugin's part of the job with the schema that the plugin hands over at run time.
//!
//! The faults look like those of the job itself and name the line in the job file. Neighbour: `validate.rs`.

use serde_json::Value;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::fault::into_errors;
use super::load::LoadedJob;
use super::validate::Comparison;

/// Every fault of the config at `pointer` (such as `/source/config`) against the plugin's JSON Schema; empty if it
/// fits. A config that the job leaves out counts as `{}`.
///
/// The codes are those of [`super::load_job`]; `config.plugin_schema` says that the plugin's schema itself is not
/// usable, which is the plugin's fault. No value of the config appears in a message.
pub fn validate(schema: &Value, loaded: &LoadedJob, pointer: &str) -> Vec<Error> {
    let document = match serde_json::to_value(&loaded.job) {
        Ok(document) => document,
        Err(error) => return vec![Error::internal("the job cannot be written as JSON").with_cause(&error)],
    };
    let comparison = Comparison {
        schema,
        document: &document,
        base: pointer,
        spans: &loaded.spans,
    };
    match comparison.faults() {
        Ok(faults) => into_errors(faults, &loaded.path),
        Err(error) => vec![
            Error::new(
                ErrorKind::Internal,
                "config.plugin_schema",
                format!(
                    "the plugin's config schema for `{}` is not usable",
                    pointer.trim_start_matches('/').replace('/', ".")
                ),
            )
            .with_help("tell the author of the plugin")
            .with_place(format!("{}:{}", loaded.path.display(), loaded.spans.key(pointer)))
            .with_cause(&error),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::config::load::parse;
    use crate::config::render;

    /// A config as an author of a plugin writes it.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Config {
        /// Where the database is. A second sentence.
        #[schemars(length(min = 1))]
        url: String,
        /// Whether to wait.
        #[serde(default)]
        wait: bool,
        #[serde(default)]
        #[schemars(range(min = 1, max = 10))]
        retries: u32,
        #[serde(default)]
        ratio: Option<f64>,
        /// A word of small letters.
        #[serde(default)]
        #[schemars(regex(pattern = "^[a-z]+$"))]
        prefix: Option<String>,
        #[serde(default)]
        journal: Journal,
        #[serde(default)]
        tables: Option<Vec<Table>>,
        #[serde(default)]
        auth: Option<Auth>,
        #[serde(default)]
        tls: Option<Tls>,
        #[serde(default)]
        pick: Option<Pick>,
    }

    #[derive(Deserialize, JsonSchema, Default)]
    #[serde(rename_all = "snake_case")]
    enum Journal {
        #[default]
        Wal,
        Memory,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Table {
        name: String,
        #[serde(default)]
        strict: bool,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Auth {
        Token { token: String },
        Password { user: String, password: String },
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Tls {
        Off,
        File { path: String },
        Pinned(Vec<String>),
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Pick {
        One(String),
        Many(Vec<String>),
        Range { from: i64, to: i64 },
    }

    const HEAD: &str = "name: demo\nsink: { plugin: b }\nsource:\n  plugin: a\n  config:\n";

    fn loaded(config: &str) -> LoadedJob {
        let (job, spans) = parse(format!("{HEAD}{config}").as_bytes()).unwrap();
        LoadedJob {
            job,
            spans,
            path: "job.yaml".into(),
            folder: PathBuf::from("."),
        }
    }

    fn faults(config: &str) -> String {
        let schema = schemars::schema_for!(Config).to_value();
        let errors = validate(&schema, &loaded(config), "/source/config");
        for error in &errors {
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        render(&errors)
    }

    #[test]
    fn a_config_that_fits_has_no_faults() {
        let config = "    url: file:app.db\n    retries: 3\n    tables: [{ name: a }]\n    auth: { kind: token, token: hunter2 }\n    tls: off\n    pick: [a]\n    ratio: 1\n";
        assert_eq!(faults(config), "");
        assert_eq!(
            faults("    url: x\n    tls: { file: { path: x } }\n    pick: { from: 1, to: 2 }\n"),
            ""
        );
    }

    #[test]
    fn every_plain_fault_is_said_with_its_place_and_what_is_valid() {
        let text = faults(
            "    usr: hunter2\n    wait: yes\n    retries: 11\n    ratio: hunter2\n    prefix: HUNTER2\n    journal: wall\n    tables:\n      - { name: 1 }\n      - { nam: hunter2 }\n      - { strict: true, hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2: 1 }\n",
        );
        expect_test::expect![[r#"
            missing key `url` in `source.config` (required keys: url)
              --> job.yaml:5:3
              help: `url`: where the database is
              code: config.missing_key

            unknown key `usr` in `source.config` (known keys: auth, journal, pick, prefix, ratio, retries, tables, tls, url, wait)
              --> job.yaml:6:5
              code: config.unknown_key

            `source.config.wait` must be true or false, not text
              --> job.yaml:7:11
              help: write true or false without quotes; yes, no, on and off are text in YAML 1.2
              code: config.wrong_type

            `source.config.retries` must be from 1 to 10
              --> job.yaml:8:14
              code: config.bad_value

            `source.config.ratio` must be a number, not text
              --> job.yaml:9:12
              help: write digits, without quotes, units and separators
              code: config.wrong_type

            `source.config.prefix` must match `^[a-z]+$`
              --> job.yaml:10:13
              help: a word of small letters
              code: config.bad_value

            `source.config.journal` must be one of wal, memory
              --> job.yaml:11:14
              help: did you mean `wal`?
              code: config.bad_value

            `source.config.tables[0].name` must be text, not a whole number
              --> job.yaml:13:17
              help: put it in quotes
              code: config.wrong_type

            unknown key `nam` in `source.config.tables[1]` (known keys: name, strict)
              --> job.yaml:14:11
              help: did you mean `name`?
              code: config.unknown_key

            missing key `name` in `source.config.tables[2]` (required keys: name)
              --> job.yaml:15:9
              code: config.missing_key

            unknown key of 70 characters (not shown) in `source.config.tables[2]` (known keys: name, strict)
              --> job.yaml:15:25
              code: config.unknown_key
        "#]].assert_eq(&text);
    }

    #[test]
    fn of_several_forms_the_one_that_was_meant_is_judged() {
        for (config, expected) in [
            (
                "auth: { kind: tokn, token: hunter2 }",
                expect_test::expect![[r#"
                `source.config.auth.kind` must be one of token, password
                  --> job.yaml:7:19
                  help: did you mean `token`?
                  code: config.bad_value
            "#]],
            ),
            (
                "auth: { kind: password, password: hunter2, usr: x }",
                expect_test::expect![[r#"
                unknown key `usr` in `source.config.auth` (known keys: kind, password, user)
                  --> job.yaml:7:48
                  help: did you mean `user`?
                  code: config.unknown_key
            "#]],
            ),
            (
                "auth: { token: hunter2 }",
                expect_test::expect![[r#"
                missing key `kind` in `source.config.auth`
                  --> job.yaml:7:5
                  help: valid values of `kind`: token, password
                  code: config.missing_key
            "#]],
            ),
            (
                "auth: hunter2",
                expect_test::expect![[r#"
                `source.config.auth` must be a mapping, not text
                  --> job.yaml:7:11
                  help: write `{ key: ... }`, or one `key: value` a line, indented
                  code: config.wrong_type
            "#]],
            ),
            (
                "tls: hunter2",
                expect_test::expect![[r#"
                    `source.config.tls` must be `off`
                      --> job.yaml:7:10
                      help: valid forms: `off`; a mapping with `file`; a mapping with `pinned`
                      code: config.bad_value
                "#]],
            ),
            (
                "tls: { file: { path: 1 } }",
                expect_test::expect![[r#"
                `source.config.tls.file.path` must be text, not a whole number
                  --> job.yaml:7:26
                  help: put it in quotes
                  code: config.wrong_type
            "#]],
            ),
            (
                "tls: { fil: { path: hunter2 } }",
                expect_test::expect![[r#"
                unknown key `fil` in `source.config.tls` (known keys: file, pinned)
                  --> job.yaml:7:12
                  help: did you mean `file`?
                  code: config.unknown_key
            "#]],
            ),
            (
                "pick: 5",
                expect_test::expect![[r#"
                `source.config.pick` must be text or a list or a mapping, not a whole number
                  --> job.yaml:7:11
                  help: write a list: `[one, two]`
                  code: config.wrong_type
            "#]],
            ),
            (
                "pick: [a, 5]",
                expect_test::expect![[r#"
                `source.config.pick[1]` must be text, not a whole number
                  --> job.yaml:7:15
                  help: put it in quotes
                  code: config.wrong_type
            "#]],
            ),
            (
                "pick: { from: 1 }",
                expect_test::expect![[r#"
                missing key `to` in `source.config.pick` (required keys: from, to)
                  --> job.yaml:7:5
                  code: config.missing_key
            "#]],
            ),
            (
                "tables: { name: a }",
                expect_test::expect![[r#"
                `source.config.tables` must be a list, not a mapping
                  --> job.yaml:7:13
                  help: write a list: `[one, two]`
                  code: config.wrong_type
            "#]],
            ),
        ] {
            expected.assert_eq(&faults(&format!("    url: x\n    {config}\n")));
        }
    }

    #[test]
    fn a_config_that_is_left_out_is_placed_at_its_connector() {
        let (job, spans) = parse(b"name: demo\nsink: { plugin: b }\nsource: { plugin: a }\n").unwrap();
        let loaded = LoadedJob {
            job,
            spans,
            path: Path::new("job.yaml").into(),
            folder: PathBuf::from("."),
        };
        let schema = schemars::schema_for!(Config).to_value();
        let errors = validate(&schema, &loaded, "/source/config");
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].code, "config.missing_key");
        assert_eq!(errors[0].place.as_deref(), Some("job.yaml:3:1"));
        assert_eq!(errors[0].help.as_deref(), Some("`url`: where the database is"));
    }

    #[test]
    fn a_job_that_went_through_a_pipe_is_judged_alike() {
        let loaded = loaded("    url: ''\n    x: 1\n");
        let text = serde_json::to_string(&loaded).unwrap();
        let schema = schemars::schema_for!(Config).to_value();
        let there = validate(&schema, &serde_json::from_str(&text).unwrap(), "/source/config");
        assert_eq!(there.len(), 2);
        assert_eq!(there, validate(&schema, &loaded, "/source/config"));
    }

    #[test]
    fn other_rules_of_json_schema_are_said_without_values() {
        let schema = json!({
            "type": "object",
            "properties": {
                "a": { "const": "only" },
                "b": { "type": ["string", "integer"] },
                "c": { "exclusiveMinimum": 0, "multipleOf": 5 },
                "d": { "maxLength": 3 },
                "e": { "type": "array", "maxItems": 1, "uniqueItems": true, "contains": { "const": 9 } },
                "f": { "not": { "type": "string" } },
                "g": false,
                "h": { "propertyNames": { "pattern": "^[a-z]+$" } },
                "i": { "oneOf": [{ "required": ["x"] }, { "required": ["y"] }] },
                "j": { "allOf": [{ "properties": { "p": {} } }], "properties": { "q": {} }, "unevaluatedProperties": false },
                "k": { "enum": [1, true, null, "word"] },
                "l": { "minProperties": 2 },
                "m": { "type": "string", "enum": ["x", "y"] },
            },
            "dependentRequired": { "a": ["z"] },
        });
        let config = "a: hunter2, b: [], c: -3, d: hunter2, e: [hunter2, hunter2], f: hunter2, g: hunter2, h: { Hunter2: 1 }, i: { x: 1, y: 2 }, j: { r: 1 }, k: hunter2, l: {}, m: 5";
        let errors = validate(
            &schema,
            &loaded(&format!("    {{ {config} }}\n")),
            "/source/config",
        );
        assert!(!format!("{errors:?}").contains("hunter2"));
        expect_test::expect![[r#"
            missing key `z` in `source.config`
              --> job.yaml:5:3
              code: config.missing_key

            `source.config.a` must be `only`
              --> job.yaml:6:10
              code: config.bad_value

            `source.config.b` must be text or a whole number, not a list
              --> job.yaml:6:22
              code: config.wrong_type

            `source.config.c` must be a multiple of 5
              --> job.yaml:6:29
              code: config.bad_value

            `source.config.c` must be above 0
              --> job.yaml:6:29
              code: config.bad_value

            `source.config.d` must have at most 3 characters
              --> job.yaml:6:36
              code: config.bad_value

            `source.config.e` breaks the rule `contains` of its schema
              --> job.yaml:6:48
              code: config.bad_value

            `source.config.e` holds the same item twice
              --> job.yaml:6:48
              code: config.bad_value

            `source.config.e` must have at most 1 items
              --> job.yaml:6:48
              code: config.bad_value

            `source.config.f` breaks the rule `not` of its schema
              --> job.yaml:6:71
              code: config.bad_value

            `source.config.g` is not allowed here
              --> job.yaml:6:83
              code: config.bad_value

            `source.config.h` has a key that does not match `^[a-z]+$`
              --> job.yaml:6:95
              code: config.bad_value

            `source.config.i` fits several forms, of which one must be chosen
              --> job.yaml:6:114
              help: valid forms: a mapping with `x`; a mapping with `y`
              code: config.bad_value

            unknown key `r` in `source.config.j` (known keys: p, q)
              --> job.yaml:6:135
              code: config.unknown_key

            `source.config.k` must be one of 1, true, word
              --> job.yaml:6:146
              code: config.bad_value

            `source.config.l` must have at least 2 keys
              --> job.yaml:6:158
              code: config.bad_value

            `source.config.m` must be one of x, y
              --> job.yaml:6:165
              code: config.bad_value
        "#]]
        .assert_eq(&render(&errors));
    }

    #[test]
    fn a_schema_that_is_no_schema_is_the_plugins_fault() {
        let loaded = loaded("    url: x\n");
        for schema in [
            json!({ "type": "strin" }),
            json!({ "properties": 5 }),
            json!({ "$ref": "#/nowhere" }),
            json!({ "$ref": "https://example.com/schema.json" }),
            json!({ "$ref": "file:///etc/hostname" }),
            json!({ "properties": { "url": { "pattern": "(" } } }),
            json!("text"),
        ] {
            let errors = validate(&schema, &loaded, "/source/config");
            assert_eq!(errors.len(), 1, "{schema}");
            assert_eq!(errors[0].code, "config.plugin_schema", "{schema}");
            assert_eq!(errors[0].kind, ErrorKind::Internal);
            assert_eq!(errors[0].place.as_deref(), Some("job.yaml:5:3"));
        }
        assert_eq!(validate(&json!({ "$ref": "#" }), &loaded, "/source/config"), []);
        assert_eq!(validate(&json!(true), &loaded, "/source/config"), []);
    }

    #[test]
    fn a_pattern_that_backtracks_for_ever_is_given_up() {
        let schema = json!({ "properties": { "url": { "pattern": "^(a+)+(?=b)$" } } });
        let loaded = loaded(&format!("    url: {}\n", "a".repeat(5_000)));
        let errors = validate(&schema, &loaded, "/source/config");
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].code, "config.bad_value");
    }
}
