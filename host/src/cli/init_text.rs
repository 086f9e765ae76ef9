//! The text of a new job file: what must be filled in, and everything else as comments with its default.
//!
//! All of it comes from JSON Schemas: those of the two plugins, and that of the job. Neighbour: `init.rs`.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::config::Job;

/// Columns of a comment.
const COMMENT_COLUMNS: usize = 100;

/// The keys of a job that are written out rather than listed.
const WRITTEN: [&str; 10] = [
    "name",
    "source",
    "sink",
    "parameters",
    "collections",
    "include",
    "exclude",
    "transforms",
    "rules",
    "notifiers",
];

/// One side of the job.
pub struct Side {
    /// `source` or `sink`.
    pub role: &'static str,
    /// The plugin.
    pub plugin: String,
    /// What it is.
    pub description: String,
    /// The schema of its config.
    pub schema: Value,
}

/// The text of a job called `name`.
pub fn job_text(name: &str, source: &Side, sink: &Side) -> String {
    let mut text = String::from(
        "# A job of whimbrel: where records come from, where they go, and how carefully.\n\
         # Below the first examples, lines that begin with `# key:` show defaults. For editors that complete and check:\n\
         # `whimbrel schema > job.schema.json`, and a first line `# yaml-language-server: $schema=job.schema.json`.\n\
         # In any text, ${env:NAME} and ${file:PATH} stand for secrets that are kept elsewhere.\n\n",
    );
    line(&mut text, &format!("name: {}", scalar(&Value::from(name))));
    for side in [source, sink] {
        text.push('\n');
        comment(&mut text, 0, &side.description);
        line(&mut text, &format!("{}:", side.role));
        line(
            &mut text,
            &format!("  plugin: {}", scalar(&Value::from(side.plugin.as_str()))),
        );
        config(&mut text, &side.schema);
    }
    text.push_str(
        "\n# The collections to move. Left out: all that the source has, under their own names.\n\
         # collections:\n#   - { source: users, sink: people, key: [id], on_conflict: overwrite }\n\n\
         # Patterns of collections to move and to leave out: `*` stands for any characters, `?` for one.\n\
         # include: [\"user*\"]\n# exclude: [\"*_log\"]\n\n\
         # What changes the records on their way, in order.\n\
         # transforms:\n#   - { plugin: NAME, config: {} }\n\n\
         # What must hold of records: the statement selects those that break it.\n\
         # rules:\n#   - { name: no debts, when: both, sql: \"SELECT id FROM orders WHERE total < 0\" }\n\n\
         # Who is told.\n\
         # notifiers:\n#   - { plugin: NAME, config: {}, events: [started, completed, failed] }\n\n\
         # Values that differ from run to run: `--set user_id=42`, used as ${param:user_id}.\n\
         # parameters:\n#   user_id: { description: whose records are moved, pattern: \"[0-9]+\" }\n",
    );
    further_keys(&mut text);
    text
}

/// The config of a plugin: required keys with something to replace, the others as comments.
fn config(text: &mut String, schema: &Value) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut rows: Vec<(&String, &Value)> = properties.into_iter().flatten().collect();
    if rows.is_empty() {
        return;
    }
    // Those that must be filled in come first.
    rows.sort_by_key(|(key, _)| !required.contains(&key.as_str()));
    let head = if required.is_empty() {
        "  # config:"
    } else {
        "  config:"
    };
    line(text, head);
    for (key, property) in rows {
        let is_required = required.contains(&key.as_str());
        comment(text, 4, &about(schema, property));
        let value = if is_required {
            scalar(&placeholder(schema, key, property))
        } else {
            default_words(property)
        };
        let lead = if is_required { "    " } else { "    # " };
        line(text, format!("{lead}{}: {value}", yaml_key(key)).trim_end());
    }
}

/// What is said of a key: its description, and the variable or limit that can stand in for it.
fn about(root: &Value, property: &Value) -> String {
    let mut words = property
        .get("description")
        .or_else(|| resolved(root, property).get("description"))
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let names: Vec<&str> = match property.get("x-whimbrel-env") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !names.is_empty() {
        let gap = if words.is_empty() { "" } else { " " };
        words.push_str(&format!("{gap}Left out: variable {}.", names.join(" or ")));
    }
    if let Some(setting) = property.get("x-whimbrel-setting").and_then(Value::as_str) {
        let gap = if words.is_empty() { "" } else { " " };
        words.push_str(&format!("{gap}Left out: `{setting}` of the job, if it is set."));
    }
    words
}

fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str);
    target
        .and_then(|uri| root.pointer(uri.strip_prefix('#')?))
        .unwrap_or(schema)
}

/// Something of the right type, to be replaced.
fn placeholder(root: &Value, key: &str, property: &Value) -> Value {
    if let Some(default) = property.get("default") {
        return default.clone();
    }
    let schema = resolved(root, property);
    let word = schema
        .get("enum")
        .and_then(|words| words.get(0))
        .or_else(|| schema.pointer("/oneOf/0/const"))
        .or_else(|| schema.get("const"));
    if let Some(word) = word {
        return word.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| 0.into()),
        Some("boolean") => false.into(),
        Some("array") => Value::Array(Vec::new()),
        Some("object") => Value::Object(Map::new()),
        _ => format!("<{}>", key.replace(['$', '{', '}'], "")).into(),
    }
}

fn default_words(property: &Value) -> String {
    match property.get("default") {
        None | Some(Value::Null) => String::new(),
        Some(value) => scalar(value),
    }
}

/// The keys of a job that are not written out, as comments with their defaults.
fn further_keys(text: &mut String) {
    let schema = Job::schema();
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, property) in properties.into_iter().flatten() {
        if WRITTEN.contains(&key.as_str()) {
            continue;
        }
        text.push('\n');
        comment(text, 0, &about(&schema, property));
        let below = resolved(&schema, property)
            .get("properties")
            .and_then(Value::as_object);
        match below {
            Some(below) if !below.is_empty() => {
                line(text, &format!("# {key}:"));
                let defaults = property.get("default");
                for (name, inner) in below {
                    let default = inner
                        .get("default")
                        .or_else(|| defaults.and_then(|defaults| defaults.get(name)));
                    let value = default.map(scalar).unwrap_or_default();
                    let words = first_sentence(&about(&schema, inner));
                    let gap = if words.is_empty() { "" } else { "  # " };
                    line(text, format!("#   {name}: {value}{gap}{words}").trim_end());
                }
            }
            _ => line(text, format!("# {key}: {}", default_words(property)).trim_end()),
        }
    }
}

fn first_sentence(words: &str) -> String {
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = words.find(". ").unwrap_or(words.len());
    words[..end].trim_end_matches('.').to_owned()
}

/// A value on one line: JSON is YAML, and plain words need no quotes.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether YAML reads `text` without quotes as this text and nothing else.
fn is_plain(text: &str) -> bool {
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !words.contains(&text.to_lowercase().as_str())
}

fn yaml_key(key: &str) -> String {
    if is_plain(key) {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}

fn line(text: &mut String, content: &str) {
    // Writing to a string cannot fail.
    let _written: std::fmt::Result = writeln!(text, "{content}");
}

/// `words` as comments of at most [`COMMENT_COLUMNS`] columns.
fn comment(text: &mut String, indent: usize, words: &str) {
    let lead = format!("{}#", " ".repeat(indent));
    let mut row = lead.clone();
    for word in words.split_whitespace() {
        if row.len() > lead.len() && row.len() + 1 + word.len() > COMMENT_COLUMNS {
            line(text, &row);
            row.clone_from(&lead);
        }
        row.push(' ');
        row.extend(word.chars().filter(|c| !c.is_control()));
    }
    if row.len() > lead.len() {
        line(text, &row);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::config::check_job;

    fn side(role: &'static str, schema: Value) -> Side {
        Side {
            role,
            plugin: "true".to_owned(),
            description: "Reads files:\nof any # kind.".to_owned(),
            schema,
        }
    }

    fn schema() -> Value {
        json!({
            "properties": {
                "url": { "type": "string", "description": "Where it is. Or where it\nwas.", "x-whimbrel-env": "APP_URL" },
                "odd: key": { "type": "integer", "minimum": 3 },
                "level": { "$ref": "#/$defs/Level" },
                "wait": { "type": "boolean", "default": false },
                "names": { "type": "array", "items": { "type": "string" } },
                "word": { "type": "string", "default": "yes" },
            },
            "required": ["level", "names", "odd: key", "url"],
            "$defs": { "Level": { "description": "How loud.", "oneOf": [{ "const": "quiet" }, { "const": "loud" }] } },
        })
    }

    #[test]
    fn what_is_written_loads_whatever_the_plugins_say() {
        for schema in [schema(), json!({}), json!(true), json!({ "properties": {} })] {
            let text = job_text("my-job", &side("source", schema.clone()), &side("sink", schema));
            check_job(&text, Path::new("job.yaml")).unwrap();
        }
    }

    #[test]
    fn required_keys_have_a_value_of_their_type_and_others_are_comments() {
        let text = job_text("my-job", &side("source", schema()), &side("sink", json!({})));
        let source = text
            .split("source:\n")
            .nth(1)
            .unwrap()
            .split("\n\n")
            .next()
            .unwrap();
        let wanted = "  plugin: \"true\"\n  config:\n    # How loud.\n    level: quiet\n    names: []\n    \
                      \"odd: key\": 3\n    # Where it is. Or where it was. Left out: variable APP_URL.\n    \
                      url: \"<url>\"\n    # wait: false\n    # word: \"yes\"";
        assert_eq!(source, wanted, "{source}");
    }

    #[test]
    fn a_job_with_every_comment_taken_away_has_the_defaults() {
        let text = job_text("my-job", &side("source", json!({})), &side("sink", json!({})));
        // The keys that hold a mapping or a plain value; the examples hold names that are not there.
        let from = text.find("# hooks:").unwrap();
        let plain: String = text[from..]
            .lines()
            .filter(|line| line.starts_with("# ") && !line.trim_end().ends_with('.'))
            .filter(|line| line.contains(": ") || line.ends_with(':'))
            .map(|line| format!("{}\n", &line[2..]))
            .collect();
        let job = "name: a\nsource: { plugin: p }\nsink: { plugin: p }\n";
        for key in ["import", "limits", "rollback", "monitor"] {
            assert!(plain.contains(&format!("{key}:\n")), "{plain}");
        }
        check_job(&format!("{job}{plain}"), Path::new("job.yaml"))
            .unwrap_or_else(|errors| panic!("{}{plain}", crate::config::render(&errors)));
    }

    #[test]
    fn a_name_that_is_no_name_of_a_job_is_refused() {
        let text = job_text("a: b", &side("source", json!({})), &side("sink", json!({})));
        assert!(check_job(&text, Path::new("job.yaml")).is_err());
    }
}
