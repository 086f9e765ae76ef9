//! A plugin's part of the job, once the plugin has said what it takes: completed from its variables, its secrets
//! found, and compared with its schema.
//!
//! The faults look like those of the job itself and name the line in the job file. Neighbour: `validate.rs`.
//!
//! A property of a plugin's schema may carry `"x-whimbrel-env"`, a name or a list of names of variables that stand in
//! for it where the job leaves it out, and `"x-whimbrel-path": true` if it is a path, which then starts at the folder
//! where whimbrel was started. With `"x-whimbrel-setting": "limits.quota_safety"` a limit of the job stands in for it, if
//! anybody has set that one.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Map, Value};
use whimbrel_plugin_api::{Error, ErrorKind, Finding};

use super::coercion::{coerce, mark_secrets};
use super::fault::{into_errors, quoted_path};
use super::load::LoadedJob;
use super::origin::{Layer, Origin};
use super::schema::{expanded, typed, types_of};
use super::spans::{SpanNode, join};
use super::validate::Comparison;
use super::variables::Variables;

/// Names of variables that stand in for a property.
const VARIABLE_MARK: &str = "x-whimbrel-env";

/// Says of such a property that it is a path.
const PATH_MARK: &str = "x-whimbrel-path";

/// Names the limit of the job that stands in for a property.
const SETTING_MARK: &str = "x-whimbrel-setting";

/// How such a name begins. Other parts of a job are nobody's business: they may hold secrets of another plugin.
const SETTING_PREFIX: &str = "limits.";

/// Mappings inside each other that are filled from variables.
const DEPTH_MAX: usize = 16;

/// A field that a variable has filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The field, as a pointer into the config.
    pub pointer: String,
    /// The variable.
    pub name: String,
}

impl Filled {
    /// What the field comes from.
    pub fn origin(&self) -> Origin {
        Origin::PluginVariable {
            name: self.name.clone(),
        }
    }
}

/// Completes the config at `pointer` (such as `/source/config`) by what the plugin's schema says, and lists its faults;
/// empty if it fits.
///
/// Fields that the config leaves out are filled from the variables and limits that the schema names. Texts that were one reference
/// become numbers where numbers are wanted. Fields that the schema marks as secret become known to `loaded.secrets`; one
/// that stands in a file in clear is a finding.
pub fn complete(schema: &Value, loaded: &mut LoadedJob, pointer: &str, variables: &Variables) -> Vec<Error> {
    let mut document = match serde_json::to_value(&loaded.job) {
        Ok(document) => document,
        Err(error) => return vec![unwritable(&error)],
    };
    if let Some(Value::Object(config)) = document.pointer_mut(pointer) {
        for filled in fill_from_environment(schema, config, variables) {
            let layer = loaded.spans.layer_of(Layer::PluginVariable(filled.name.clone()));
            let place = format!("{pointer}{}", filled.pointer);
            *loaded.spans.root.at_mut(&place, layer) = SpanNode::of_layer(layer);
        }
    }
    fill_from_settings(schema, loaded, &mut document, pointer);
    if let (Some(config), Some(span)) = (document.pointer_mut(pointer), loaded.spans.root.find_mut(pointer)) {
        coerce(schema, config, span);
        let mut in_clear = false;
        mark_secrets(schema, config, span, &mut |text, span| {
            loaded.secrets.add(text);
            let is_file = matches!(
                loaded.spans.layers.get(usize::from(span.layer)),
                Some(Layer::File(_))
            );
            in_clear |= is_file && span.written.is_none();
        });
        if in_clear {
            let path = quoted_path(pointer, &document, "the job");
            loaded.findings.push(
                Finding::warning("config.literal_secret", format!("{path} holds a secret in clear"))
                    .with_help("write `${env:NAME}` or `${file:PATH}` in its place"),
            );
        }
    }
    match serde_json::from_value(document) {
        Ok(job) => loaded.job = job,
        Err(error) => return vec![unwritable(&error)],
    }
    let secrets = loaded.secrets.clone();
    validate(schema, loaded, pointer)
        .into_iter()
        .map(|error| secrets.scrub_error(error))
        .collect()
}

/// The texts of serde may hold values.
fn unwritable(_: &serde_json::Error) -> Error {
    Error::internal("the job cannot be written as JSON")
}

/// Fills the fields of `config` that it leaves out and for which `schema` names a variable that is set. Returns which.
///
/// Mappings that `config` has are filled too; none is made. A text that is not of the type that is wanted stays a text,
/// which the validation then refuses.
pub fn fill_from_environment(
    schema: &Value,
    config: &mut Map<String, Value>,
    variables: &Variables,
) -> Vec<Filled> {
    let mut filled = Vec::new();
    fill(schema, schema, config, "", variables, DEPTH_MAX, &mut filled);
    filled
}

fn fill(
    root: &Value,
    schema: &Value,
    config: &mut Map<String, Value>,
    pointer: &str,
    variables: &Variables,
    depth: usize,
    filled: &mut Vec<Filled>,
) {
    let properties = expanded(root, schema)
        .into_iter()
        .filter_map(|schema| schema.get("properties")?.as_object())
        .flatten();
    for (key, property) in properties {
        let pointer = join(pointer, key);
        match config.get_mut(key) {
            Some(Value::Object(members)) if depth > 0 => {
                fill(root, property, members, &pointer, variables, depth - 1, filled);
            }
            Some(_) => {}
            None => {
                let schemas = expanded(root, property);
                if let Some((name, text)) = variable_of(&schemas, variables) {
                    let is_path = schemas
                        .iter()
                        .any(|schema| schema.get(PATH_MARK) == Some(&Value::Bool(true)));
                    let text = if is_path {
                        absolute(text)
                    } else {
                        text.to_string_lossy().into_owned()
                    };
                    let value = typed(&types_of(&schemas), &text).unwrap_or_else(|| Value::from(text));
                    config.insert(key.clone(), value);
                    let name = name.to_owned();
                    filled.push(Filled { pointer, name });
                }
            }
        }
    }
}

/// Fills the fields at `pointer` of `document` that are left out and for which `schema` names a limit of the job that is set;
/// they come from what that one comes from.
fn fill_from_settings(schema: &Value, loaded: &mut LoadedJob, document: &mut Value, pointer: &str) {
    let mut wanted = Vec::new();
    if let Some(Value::Object(config)) = document.pointer(pointer) {
        settings_wanted(schema, schema, config, pointer, DEPTH_MAX, &mut wanted);
    }
    for (mapping, key, setting) in wanted {
        let set = loaded.spans.node(&setting).cloned();
        let (Some(node), Some(value)) = (set, document.pointer(&setting).cloned()) else {
            continue;
        };
        if let Some(Value::Object(members)) = document.pointer_mut(&mapping) {
            let layer = node.layer;
            *loaded.spans.root.at_mut(&join(&mapping, &key), layer) = node;
            members.insert(key, value);
        }
    }
}

/// The fields that `config` leaves out and for which the schema names a limit: the pointer of their mapping, their key, and the
/// pointer of the limit. None of a mapping that `config` does not have.
fn settings_wanted(
    root: &Value,
    schema: &Value,
    config: &Map<String, Value>,
    pointer: &str,
    depth: usize,
    wanted: &mut Vec<(String, String, String)>,
) {
    let properties = expanded(root, schema)
        .into_iter()
        .filter_map(|schema| schema.get("properties")?.as_object())
        .flatten();
    for (key, property) in properties {
        match config.get(key) {
            Some(Value::Object(members)) if depth > 0 => {
                let pointer = join(pointer, key);
                settings_wanted(root, property, members, &pointer, depth - 1, wanted);
            }
            Some(_) => {}
            None => {
                let marks = expanded(root, property);
                let named = marks.iter().find_map(|schema| schema.get(SETTING_MARK)?.as_str());
                if let Some(name) = named.and_then(|name| name.strip_prefix(SETTING_PREFIX)) {
                    wanted.push((pointer.to_owned(), key.clone(), join("/limits", name)));
                }
            }
        }
    }
}

/// The first variable that the schemas name and that is set.
fn variable_of<'a>(schemas: &[&'a Value], variables: &'a Variables) -> Option<(&'a str, &'a OsStr)> {
    schemas
        .iter()
        .filter_map(|schema| schema.get(VARIABLE_MARK))
        .flat_map(|mark| match mark {
            Value::Array(names) => names.iter().collect::<Vec<_>>(),
            name => vec![name],
        })
        .filter_map(Value::as_str)
        .find_map(|name| Some((name, variables.filled(name)?)))
}

fn absolute(path: &OsStr) -> String {
    let path = Path::new(path);
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    full.to_string_lossy().into_owned()
}

/// Every fault of the config at `pointer` (such as `/source/config`) against the plugin's JSON Schema; empty if it
/// fits. A config that the job leaves out counts as `{}`.
///
/// The codes are those of [`super::load_job`]; `config.plugin_schema` says that the plugin's schema itself is not
/// usable, which is the plugin's fault. No value of the config appears in a message.
pub fn validate(schema: &Value, loaded: &LoadedJob, pointer: &str) -> Vec<Error> {
    let document = match serde_json::to_value(&loaded.job) {
        Ok(document) => document,
        Err(error) => return vec![unwritable(&error)],
    };
    let comparison = Comparison {
        schema,
        document: &document,
        base: pointer,
        spans: &loaded.spans,
        whole: "the job",
    };
    match comparison.faults() {
        Ok(faults) => into_errors(faults, &loaded.spans),
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
            .with_place(
                loaded
                    .spans
                    .say(loaded.spans.layer(pointer), loaded.spans.key(pointer)),
            )
            .with_cause(&error),
        ],
    }
}

#[cfg(test)]
mod tests {
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
        parse(format!("{HEAD}{config}").as_bytes()).unwrap()
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
        let loaded = parse(b"name: demo\nsink: { plugin: b }\nsource: { plugin: a }\n").unwrap();
        let schema = schemars::schema_for!(Config).to_value();
        let errors = validate(&schema, &loaded, "/source/config");
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].code, "config.missing_key");
        assert_eq!(errors[0].place.as_deref(), Some("job.yaml:3:1"));
        assert_eq!(errors[0].help.as_deref(), Some("`url`: where the database is"));
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
