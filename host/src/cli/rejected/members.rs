//! The members of a JSON object as they are written, in their order: what is not changed stays octet for octet.
//!
//! A tree of values would round numbers and forget the order. Neighbour: `edit`, which changes members.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use whimbrel_plugin_api::Error;

/// See the module.
pub struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Those of `text`.
    ///
    /// # Errors
    /// `rejected.not_an_object` if it is no JSON object, or has a member twice.
    pub fn of(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| {
            let message = "the data is not one JSON object, each of whose members stands once";
            Error::invalid_data("rejected.not_an_object", message)
                .with_cause(&Error::invalid_data("json", place(&error)))
        })
    }

    /// Sets the member `name`, in its place or at the end.
    ///
    /// # Errors
    /// `rejected.bad_value` if `value` is no JSON.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let value: Box<RawValue> = serde_json::from_str(value).map_err(|error| {
            Error::config(
                "rejected.bad_value",
                format!("what `{name}` is set to is not JSON: {}", place(&error)),
            )
            .with_help(format!(
                "texts have quotes: `--set '{name}=\"text\"'`; a list is `[1, 2]`, nothing is `null`"
            ))
        })?;
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Takes the member `name` away; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(known, _)| known != name);
        self.0.len() < before
    }

    /// The object, on one line for what is written here.
    pub fn line(&self) -> String {
        self.joined("", ",", "")
    }

    /// The object with a line for each member.
    pub fn lines(&self) -> String {
        self.joined("\n  ", ",\n  ", "\n")
    }

    fn joined(&self, before: &str, between: &str, after: &str) -> String {
        let members: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| format!("{}:{}", serde_json::Value::from(name.as_str()), value.get()))
            .collect();
        if members.is_empty() {
            return "{}".to_owned();
        }
        format!("{{{before}{}{after}}}", members.join(between))
    }
}

/// Where an error of syntax is; what else it says may quote a value.
fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let (mut members, mut names) = (Vec::new(), std::collections::HashSet::new());
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom("a member stands twice"));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_is_written() {
        let text = "{\"id\": 12345678901234567890.10, \"a\":{\"z\":1e400,\"b\" : [ ]},\"\\u0041\\n\":\"\\ud83d\\ude00\"}";
        let mut members = Members::of(text).unwrap();
        members.set("a", " \"new\" ").unwrap();
        members.set("last", "null").unwrap();
        assert_eq!(
            members.line(),
            "{\"id\":12345678901234567890.10,\"a\":\"new\",\"A\\n\":\"\\ud83d\\ude00\",\"last\":null}"
        );
        assert!(members.remove("a") && !members.remove("a"));
        let again = Members::of(&members.lines()).unwrap();
        assert_eq!(again.line(), members.line());
        assert_eq!(Members::of("{ }").unwrap().lines(), "{}");
    }

    #[test]
    fn what_is_no_object_is_refused_without_its_values() {
        for text in [
            "",
            "7",
            "[1]",
            "{\"secret\":1",
            "{\"a\":1,\"a\":2}",
            "{\"a\":1} 2",
            "{\"a\":secret}",
        ] {
            let Err(error) = Members::of(text) else {
                panic!("{text} was taken");
            };
            assert_eq!(error.code, "rejected.not_an_object", "{text}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        let mut members = Members::of("{}").unwrap();
        let error = members.set("name", "secret").unwrap_err();
        assert_eq!(error.code, "rejected.bad_value");
        assert!(
            error.message.contains("`name`") && !error.message.contains("secret"),
            "{error}"
        );
    }
}
