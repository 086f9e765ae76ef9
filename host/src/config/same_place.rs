//! Whether both sides of a job are one and the same place, so that what is removed from the sink is removed from the source.
//!
//! A plugin's schema marks the properties that say where its system is (`"x-whimbrel-place": true`); one that marks none is
//! never called the same, nor is one whose config lacks a property without which nobody can say (`"x-whimbrel-place": "needed"`). Logins count where a URL has them, passwords do not. Neighbour: `system.rs`, which takes them out.

use serde_json::{Map, Value};

use super::schema::expanded;
use super::system::system_named;

/// Marks a property of a plugin's schema by which its system is found.
const PLACE_MARK: &str = "x-whimbrel-place";
/// The mark of a property that only the plugin knows where the config leaves it out.
const NEEDED: &str = "needed";

/// A side of a job: the plugin, the schema of its config in that role, and its config, complete and resolved.
pub struct Side<'a> {
    /// The plugin.
    pub plugin: &'a str,
    /// The schema of its config.
    pub schema: &'a Value,
    /// The config.
    pub config: &'a Map<String, Value>,
}

/// Whether both sides are found in the same way.
pub fn is_same_place(source: &Side<'_>, sink: &Side<'_>) -> bool {
    let (from, to) = (place_of(source), place_of(sink));
    source.plugin == sink.plugin && !from.is_empty() && from == to
}

/// What the config, or the schema's default, says in marked properties; what says nothing is left out.
fn place_of(side: &Side<'_>) -> Map<String, Value> {
    let mut place = Map::new();
    for schema in expanded(side.schema, side.schema) {
        for (name, property) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let is_needed = match property.get(PLACE_MARK) {
                Some(Value::Bool(true)) => false,
                Some(Value::String(mark)) if mark == NEEDED => true,
                _ => continue,
            };
            let said = side.config.get(name).or_else(|| property.get("default"));
            match said.filter(|said| !said.is_null()) {
                Some(said) => drop(place.insert(name.clone(), said.clone())),
                None if is_needed => return Map::new(),
                None => {}
            }
        }
    }
    match system_named(side.schema, &place) {
        Value::Object(named) => named,
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_same(source: Value, sink: Value) -> bool {
        let schema = json!({ "properties": {
            "url": { "x-whimbrel-place": true, "writeOnly": true },
            "database": { "x-whimbrel-place": true, "default": "usual" },
            "host": { "x-whimbrel-place": true, "default": null },
            "retries": { "default": 5 },
        } });
        let (Value::Object(source), Value::Object(sink)) = (source, sink) else {
            panic!("a config is a mapping");
        };
        let side = |config| Side {
            plugin: "p",
            schema: &schema,
            config,
        };
        is_same_place(&side(&source), &side(&sink))
    }

    #[test]
    fn what_is_found_in_the_same_way_is_the_same_place_however_it_is_read() {
        assert!(is_same(
            json!({ "url": "a://u:pw@h/d", "retries": 1 }),
            json!({ "url": "a://u:other@h/d", "database": "usual", "host": null }),
        ));
        for other in [
            json!({ "url": "a://u:pw@g/d" }),
            json!({ "url": "a://u:pw@h/d", "database": "another" }),
            json!({ "url": "a://u:pw@h/d", "host": "h" }),
        ] {
            assert!(
                !is_same(json!({ "url": "a://u:pw@h/d" }), other.clone()),
                "{other}"
            );
        }
    }

    #[test]
    fn plugins_that_do_not_say_where_they_are_are_never_the_same_place() {
        let (schema, config) = (json!({ "properties": { "url": {} } }), Map::new());
        let side = |plugin| Side {
            plugin,
            schema: &schema,
            config: &config,
        };
        assert!(!is_same_place(&side("p"), &side("p")));
        let marked = json!({ "properties": { "url": { "x-whimbrel-place": true, "default": "u" } } });
        let side = |plugin| Side {
            plugin,
            schema: &marked,
            config: &config,
        };
        assert!(is_same_place(&side("p"), &side("p")));
        assert!(!is_same_place(&side("p"), &side("q")));
        let needed = json!({ "properties": {
            "url": { "x-whimbrel-place": true, "default": "u" },
            "project": { "x-whimbrel-place": "needed" },
        } });
        let of = |config| Side {
            plugin: "p",
            schema: &needed,
            config,
        };
        assert!(!is_same_place(&of(&config), &of(&config)));
        let named = Map::from_iter([("project".to_owned(), json!("a"))]);
        assert!(is_same_place(&of(&named), &of(&named)));
    }
}
