//! Enough YAML to read the README's examples: block and flow collections, plain and quoted scalars.
//! No anchors, tags or second documents: the host's own reader is stricter, and no plugin may use it.

use granit_parser::{Event, Parser, ScalarStyle};
use whimbrel_plugin_api::serde_json::{Map, Value};

pub fn read(text: &str) -> Value {
    let mut open: Vec<(Value, Option<String>)> = Vec::new();
    let mut root = Value::Null;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.unwrap();
        let value = match event {
            Event::MappingStart(..) => {
                open.push((Value::Object(Map::new()), None));
                continue;
            }
            Event::SequenceStart(..) => {
                open.push((Value::Array(Vec::new()), None));
                continue;
            }
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::MappingEnd | Event::SequenceEnd => open.pop().unwrap().0,
            _ => continue,
        };
        match open.last_mut() {
            None => root = value,
            Some((Value::Array(items), _)) => items.push(value),
            Some((Value::Object(members), key)) => match key.take() {
                None => {
                    let name = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    *key = Some(name);
                }
                Some(key) => {
                    members.insert(key, value);
                }
            },
            Some(_) => unreachable!("only collections are opened"),
        }
    }
    root
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if !matches!(style, ScalarStyle::Plain) {
        return text.into();
    }
    match text {
        "true" => true.into(),
        "false" => false.into(),
        "null" | "~" | "" => Value::Null,
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => text.into(),
        },
    }
}
