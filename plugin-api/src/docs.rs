//! Reference text made from data: the table of config keys that stands in a plugin's README.
//!
//! A plugin's own test calls [`config_table`] and compares it with [`section`] of its README, so the two cannot drift
//! apart. What is read is the JSON Schema of [`crate::config::schema`]; doc comments are its descriptions. Not
//! here: validation (the host).

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// How deep nested configs are followed; a schema that contains itself ends here.
const DEPTH_MAX: usize = 8;

/// The config keys of `schema` as a Markdown table: key, type, default, meaning. Required keys come first, then by
/// name; members of nested configs stand under dotted keys. Ends with a line break.
///
/// schemars can show a default only if the key's type is also `serde::Serialize`.
pub fn config_table(schema: &Value) -> String {
    let mut rows = Vec::new();
    collect(schema, schema, "", 0, &mut rows);
    let mut text = String::from("| key | type | default | meaning |\n|---|---|---|---|\n");
    for row in rows {
        let cells = [row.key, row.kind, row.default, row.meaning].map(|cell| cell.replace('|', "\\|"));
        writeln!(text, "| {} |", cells.join(" | ")).expect("writing to a string does not fail");
    }
    text
}

/// The text between `<!-- NAME:begin -->` and `<!-- NAME:end -->` of `document`, without the line breaks around it.
pub fn section<'text>(document: &'text str, name: &str) -> Option<&'text str> {
    let (_, rest) = document.split_once(&format!("<!-- {name}:begin -->"))?;
    let (inside, _) = rest.split_once(&format!("<!-- {name}:end -->"))?;
    Some(inside.trim_matches('\n'))
}

struct Row {
    key: String,
    kind: String,
    default: String,
    meaning: String,
}

fn collect(root: &Value, schema: &Value, prefix: &str, depth: usize, rows: &mut Vec<Row>) {
    let schema = resolve(root, schema);
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let (mut first, rest): (Vec<_>, Vec<_>) = properties
        .iter()
        .partition(|(name, _)| required.contains(&name.as_str()));
    first.extend(rest);
    for (name, property) in first {
        let key = format!("{prefix}{name}");
        let target = without_null(root, property);
        rows.push(Row {
            key: format!("`{key}`"),
            kind: kind(root, target),
            default: default(property, required.contains(&name.as_str())),
            meaning: meaning(root, property, target),
        });
        if depth < DEPTH_MAX {
            collect(root, target, &format!("{key}."), depth + 1, rows);
        }
    }
}

/// Follows a `$ref` into the schema's own definitions.
fn resolve<'schema>(root: &'schema Value, schema: &'schema Value) -> &'schema Value {
    let reference = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| path.strip_prefix('#'));
    reference.and_then(|path| root.pointer(path)).unwrap_or(schema)
}

/// What an optional property holds when it is not null.
fn without_null<'schema>(root: &'schema Value, schema: &'schema Value) -> &'schema Value {
    let is_null = |choice: &&Value| choice.get("type").and_then(Value::as_str) == Some("null");
    match schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([first, second]) if is_null(&second) => resolve(root, first),
        _ => resolve(root, schema),
    }
}

fn kind(root: &Value, schema: &Value) -> String {
    let schema = without_null(root, schema);
    if let Some(values) = allowed_values(schema) {
        return values
            .iter()
            .map(|(value, _)| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(choices) = ["oneOf", "anyOf"]
        .iter()
        .find_map(|word| schema.get(*word))
        .and_then(Value::as_array)
    {
        let mut kinds: Vec<String> = choices.iter().map(|choice| kind(root, choice)).collect();
        // Several forms of one kind read as that kind.
        kinds.dedup();
        return kinds.join(" or ");
    }
    let names: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect(),
        _ => vec!["any"],
    };
    let name = names
        .iter()
        .map(
            |name| match (*name, schema.get("items"), schema.get("additionalProperties")) {
                ("array", Some(items), _) => format!("list of {}", kind(root, items)),
                ("object", _, Some(Value::Object(values))) if !schema_has_properties(schema) => {
                    format!("map of {}", kind(root, &Value::Object(values.clone())))
                }
                ("string", ..) => "text".to_owned(),
                (name, ..) => name.to_owned(),
            },
        )
        .collect::<Vec<_>>()
        .join(" or ");
    match bounds(schema) {
        Some(bounds) => format!("{name}, {bounds}"),
        None => name,
    }
}

fn schema_has_properties(schema: &Value) -> bool {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .is_some_and(|members| !members.is_empty())
}

fn bounds(schema: &Value) -> Option<String> {
    let bound = |word| {
        schema
            .get(word)
            .and_then(Value::as_f64)
            .map(|value| value.to_string())
    };
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        // Every unsigned integer has the minimum 0: nothing worth telling.
        (Some(least), None) if least != "0" => Some(format!("at least {least}")),
        (None, Some(most)) => Some(format!("at most {most}")),
        _ => None,
    }
}

/// The texts of an enum with their descriptions, from either form that schemars writes.
fn allowed_values(schema: &Value) -> Option<Vec<(String, Option<&str>)>> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Some(
            values
                .iter()
                .filter(|value| !value.is_null())
                .map(|value| (plain(value), None))
                .collect(),
        );
    }
    if let Some(value) = schema.get("const") {
        return Some(vec![(plain(value), description(schema))]);
    }
    let choices = schema.get("oneOf").and_then(Value::as_array)?;
    let nested: Option<Vec<_>> = choices.iter().map(allowed_values).collect();
    nested.map(|nested| nested.into_iter().flatten().collect())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn description(schema: &Value) -> Option<&str> {
    schema.get("description").and_then(Value::as_str)
}

fn default(property: &Value, is_required: bool) -> String {
    let empty = |members: &Map<String, Value>| members.is_empty();
    match property.get("default") {
        _ if is_required => "required".to_owned(),
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::Object(members)) if !empty(members) => "see below".to_owned(),
        Some(value) => format!("`{}`", plain(value)),
    }
}

fn meaning(root: &Value, property: &Value, target: &Value) -> String {
    let own = description(property)
        .or_else(|| description(target))
        .unwrap_or_default();
    let mut text = own.split_whitespace().collect::<Vec<_>>().join(" ");
    for (value, about) in allowed_values(resolve(root, target)).unwrap_or_default() {
        if let Some(about) = about {
            let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
            write!(text, " `{value}`: {about}").expect("writing to a string does not fail");
        }
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;

    /// How loud.
    #[derive(Deserialize, Serialize, JsonSchema, Default)]
    #[serde(rename_all = "snake_case")]
    enum Level {
        /// Nothing is said.
        #[default]
        Quiet,
        /// Everything is said.
        Loud,
    }

    #[derive(Deserialize, Serialize, JsonSchema, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        /// Attempts in all.
        #[schemars(range(min = 1, max = 9))]
        attempts: u32,
    }

    #[derive(Deserialize, Serialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        /// The file; `a|b` are
        /// both fine.
        path: String,
        /// How loud it is.
        #[serde(default)]
        level: Level,
        /// One or none.
        maybe: Option<Level>,
        /// Names.
        #[serde(default)]
        names: Vec<String>,
        /// Sizes by name.
        #[serde(default)]
        sizes: BTreeMap<String, u64>,
        /// When to try again.
        #[serde(default)]
        retry: Inner,
    }

    #[test]
    fn every_shape_of_key_has_its_row() {
        let table = config_table(&crate::config::schema::<Sample>());
        let expected = "\
| key | type | default | meaning |
|---|---|---|---|
| `path` | text | required | The file; `a\\|b` are both fine. |
| `level` | `quiet`, `loud` | `quiet` | How loud it is. `quiet`: Nothing is said. `loud`: Everything is said. |
| `maybe` | `quiet`, `loud` | none | One or none. `quiet`: Nothing is said. `loud`: Everything is said. |
| `names` | list of text | `[]` | Names. |
| `retry` | object | see below | When to try again. |
| `retry.attempts` | integer, 1 to 9 | `0` | Attempts in all. |
| `sizes` | map of integer | `{}` | Sizes by name. |
";
        assert!(table == expected, "{table}");
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let schema = serde_json::json!({
            "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
            "properties": {"first": {"$ref": "#/$defs/Node"}}
        });
        assert_eq!(config_table(&schema).lines().count(), 2 + 1 + DEPTH_MAX);
    }

    #[test]
    fn a_section_is_what_stands_between_its_marks() {
        let document = "a\n<!-- config:begin -->\n| x |\n<!-- config:end -->\nb\n";
        assert_eq!(section(document, "config"), Some("| x |"));
        assert_eq!(section(document, "losses"), None);
    }
}
