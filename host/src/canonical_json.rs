//! The one text that a JSON value has, for digests and signatures: no blanks, the members of each object in the order of the
//! octets of their names.
//!
//! Numbers with a fraction are written as `serde_json` writes them; what is digested here has none.

use std::collections::BTreeMap;

use serde_json::Value;

/// The text of `value`.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&str, &Value> = members
                .iter()
                .map(|(name, member)| (name.as_str(), member))
                .collect();
            text.push('{');
            for (index, (name, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name).to_string());
                text.push(':');
                write(member, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        leaf => text.push_str(&leaf.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_members_does_not_show() {
        let text = canonical_json(&json!({ "b": [1, { "z": null, "y": "\u{2028}\"" }], "a": true, "": {} }));
        assert_eq!(
            text,
            "{\"\":{},\"a\":true,\"b\":[1,{\"y\":\"\u{2028}\\\"\",\"z\":null}]}"
        );
    }
}
