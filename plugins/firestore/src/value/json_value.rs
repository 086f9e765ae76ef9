//! From JSON, plain or with tagged objects, to values.
//!
//! Each level of the text is taken apart into slices, so that numbers keep their digits and nesting is bounded by a count rather
//! than by the stack. Neighbour: `variant` writes what is read here, and has the rule.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{ArrayValue, MapValue, Value};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::path::Root;

use super::cell::{geopoint, null, value, vector};
use super::document_id::{is_reserved, stored_name};
use super::instant;
use super::numbers::{self, Number};
use super::unfit::Unfit;
use super::variant::{BYTES, FLOAT64, GEOPOINT, Json, OBJECT, REFERENCE, TAG, TAGGED, TIMESTAMP_TZ, VECTOR};

/// Levels of objects and arrays that are followed. A document has at most 20, which `write::limits` counts; this bounds the
/// stack.
const DEPTH_MAX: usize = 100;

/// The value that a JSON text stands for.
pub(super) fn read_json(text: &str, json: Json, root: &Root, scratch: &mut String) -> Result<Value, Unfit> {
    // Once for the whole text, so that everything below is known to be JSON.
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| Unfit::JSON)?;
    Reader { json, root, scratch }.value(raw.get(), 0)
}

struct Reader<'r> {
    json: Json,
    root: &'r Root,
    scratch: &'r mut String,
}

impl Reader<'_> {
    fn value(&mut self, raw: &str, depth: usize) -> Result<Value, Unfit> {
        match raw.as_bytes().first() {
            Some(b'n') => Ok(null()),
            Some(first @ (b't' | b'f')) => Ok(value(ValueType::BooleanValue(*first == b't'))),
            Some(b'"') => Ok(value(ValueType::StringValue(string(raw)?.into_owned()))),
            Some(b'[') => self.array(raw, depth + 1),
            Some(b'{') => self.object(raw, depth + 1),
            _ => match numbers::of_json(raw, self.scratch) {
                Some(Number::Integer(number)) => Ok(value(ValueType::IntegerValue(number))),
                Some(Number::Double(number)) => Ok(value(ValueType::DoubleValue(number))),
                None => Err(Unfit::NUMBER),
            },
        }
    }

    fn array(&mut self, raw: &str, depth: usize) -> Result<Value, Unfit> {
        let items = items(raw, depth)?;
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let item = self.value(item.get(), depth)?;
            if matches!(item.value_type, Some(ValueType::ArrayValue(_))) {
                return Err(Unfit::ARRAY_IN_ARRAY);
            }
            values.push(item);
        }
        Ok(value(ValueType::ArrayValue(ArrayValue { values })))
    }

    fn object(&mut self, raw: &str, depth: usize) -> Result<Value, Unfit> {
        let members = members(raw, depth)?;
        if self.json == Json::Tagged
            && let Some((name, inner)) = tag_of(&members)
            && let Some(tagged) = self.tagged(&name, inner, depth)?
        {
            return Ok(tagged);
        }
        self.map(members, depth)
    }

    fn map(&mut self, members: Vec<Named<'_>>, depth: usize) -> Result<Value, Unfit> {
        let mut fields = HashMap::with_capacity(members.len());
        for Named(name, raw) in members {
            if name.is_empty() || is_reserved(&name) {
                return Err(Unfit::MEMBER_NAME);
            }
            let member = self.value(raw.get(), depth)?;
            let is_twice = fields.insert(name.into_owned(), member).is_some();
            // In JSON as such the last one counts, as its declared loss says.
            if is_twice && self.json == Json::Tagged {
                return Err(Unfit::MEMBER_TWICE);
            }
        }
        Ok(value(ValueType::MapValue(MapValue { fields })))
    }

    /// The value in a tagged object; `None` if the name is of no type that is known here.
    fn tagged(&mut self, name: &str, raw: &str, depth: usize) -> Result<Option<Value>, Unfit> {
        let text = || match string(raw) {
            Ok(text) if raw.starts_with('"') => Ok(text),
            _ => Err(Unfit::TAG),
        };
        Ok(Some(match name {
            FLOAT64 => value(ValueType::DoubleValue(self.double(raw)?)),
            TIMESTAMP_TZ => {
                let timestamp = instant::parse(&text()?).ok_or(Unfit::TAG)?;
                value(ValueType::TimestampValue(timestamp))
            }
            BYTES => {
                let octets = BASE64.decode(text()?.as_bytes()).map_err(|_| Unfit::TAG)?;
                value(ValueType::BytesValue(octets))
            }
            REFERENCE => {
                let name = stored_name(&text()?, self.root)?.ok_or(Unfit::TAG)?;
                value(ValueType::ReferenceValue(name))
            }
            GEOPOINT => self.geopoint(raw, depth)?,
            VECTOR => {
                if !raw.starts_with('[') {
                    return Err(Unfit::TAG);
                }
                let items = items(raw, depth)?;
                let numbers: Result<Vec<f64>, Unfit> =
                    items.into_iter().map(|item| self.double(item.get())).collect();
                let numbers = numbers?;
                if numbers.is_empty() {
                    return Err(Unfit::EMPTY_VECTOR);
                }
                vector(numbers)
            }
            OBJECT => {
                if !raw.starts_with('{') {
                    return Err(Unfit::TAG);
                }
                self.map(members(raw, depth)?, depth)?
            }
            _ => return Ok(None),
        }))
    }

    fn geopoint(&mut self, raw: &str, depth: usize) -> Result<Value, Unfit> {
        if !raw.starts_with('{') {
            return Err(Unfit::TAG);
        }
        let members = members(raw, depth)?;
        let part = |name| {
            let found = members.iter().find(|Named(member, _)| member == name);
            found.map(|Named(_, raw)| raw.get())
        };
        match (part("lat"), part("lng")) {
            (Some(lat), Some(lng)) if members.len() == 2 => {
                let (lat, lng) = (self.double(lat)?, self.double(lng)?);
                let is_negative_zero = |number: f64| number == 0.0 && number.is_sign_negative();
                // Nothing is declared to be lost of a variant.
                if is_negative_zero(lat) || is_negative_zero(lng) {
                    return Err(Unfit::GEOPOINT_ZERO);
                }
                geopoint(lat, lng)
            }
            _ => Err(Unfit::TAG),
        }
    }

    /// A double that stands as a number or as the text form of one.
    fn double(&mut self, raw: &str) -> Result<f64, Unfit> {
        if raw.starts_with('"') {
            return numbers::parse_float_text(&string(raw)?).ok_or(Unfit::TAG);
        }
        if !raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Err(Unfit::TAG);
        }
        match numbers::of_json(raw, self.scratch) {
            Some(Number::Double(number)) => Ok(number),
            Some(Number::Integer(number)) if number as f64 as i64 == number && number != i64::MAX => {
                Ok(number as f64)
            }
            _ => Err(Unfit::NUMBER),
        }
    }
}

/// A member of an object: its name, and its value as a slice of the text.
struct Named<'n>(Cow<'n, str>, &'n RawValue);

/// A name, borrowed from the text unless something in it was escaped.
#[derive(Deserialize)]
struct Name<'n>(#[serde(borrow)] Cow<'n, str>);

/// The name of the type and the value, if these two and no others are the members.
fn tag_of<'de>(members: &[Named<'de>]) -> Option<(Cow<'de, str>, &'de str)> {
    let (Named(first, first_raw), Named(second, second_raw)) = match members {
        [first, second] => (first, second),
        _ => return None,
    };
    let (name, raw) = match (&**first, &**second) {
        (TAG, TAGGED) => (first_raw, second_raw),
        (TAGGED, TAG) => (second_raw, first_raw),
        _ => return None,
    };
    let name = name.get().starts_with('"').then(|| string(name.get()).ok())??;
    Some((name, raw.get()))
}

/// The text of a JSON string, or of whatever else `raw` is.
fn string(raw: &str) -> Result<Cow<'_, str>, Unfit> {
    match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        // The text as a whole is JSON; what its parser passed over is whether surrogates have their partners.
        _ => serde_json::from_str(raw)
            .map(Cow::Owned)
            .map_err(|_| Unfit::LONE_SURROGATE),
    }
}

fn items(raw: &str, depth: usize) -> Result<Vec<&RawValue>, Unfit> {
    if depth > DEPTH_MAX {
        return Err(Unfit::TOO_DEEP);
    }
    serde_json::from_str(raw).map_err(|_| Unfit::JSON)
}

fn members(raw: &str, depth: usize) -> Result<Vec<Named<'_>>, Unfit> {
    if depth > DEPTH_MAX {
        return Err(Unfit::TOO_DEEP);
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    // Names are the only texts that are looked into here.
    deserializer
        .deserialize_map(Members)
        .map_err(|_| Unfit::LONE_SURROGATE)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Named<'de>>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            members.push(Named(name, value));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::variant::{json_text, put_json};

    fn root() -> Root {
        Root::new("p", "d")
    }

    fn read(text: &str, json: Json) -> Result<Value, Unfit> {
        read_json(text, json, &root(), &mut String::new())
    }

    fn written(value: &Value, json: Json) -> String {
        let mut out = Vec::new();
        put_json(value, json, &root(), &mut String::new(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn variants_come_back_to_the_letter() {
        for text in [
            "1",
            "-9223372036854775808",
            "1.5",
            "10.0",
            "0.0",
            "0.000001",
            "999999999999999.9",
            "true",
            "\"a\\n\\u0000\"",
            "[1,\"a\",null]",
            "{\"a\":{\"b\":[]},\"z\":[{\"a\":[{}]}]}",
            r#"{"$type":"float64","value":"NaN"}"#,
            r#"{"$type":"float64","value":"-Infinity"}"#,
            r#"{"$type":"float64","value":"-0"}"#,
            r#"{"$type":"float64","value":"1e300"}"#,
            r#"{"$type":"float64","value":"1000000000000000"}"#,
            r#"{"$type":"float64","value":"9e-7"}"#,
            r#"{"$type":"timestamp_tz","value":"2024-12-31T23:59:59.999999Z"}"#,
            r#"{"$type":"timestamp_tz","value":"2024-12-31T23:59:59.999999999Z"}"#,
            r#"{"$type":"bytes","value":"AP8="}"#,
            r#"{"$type":"bytes","value":""}"#,
            r#"{"$type":"geopoint","value":{"lat":48.2,"lng":"1e-7"}}"#,
            r#"{"$type":"reference","value":"users/ann"}"#,
            r#"{"$type":"reference","value":"projects/q/databases/d/documents/users/ann"}"#,
            r#"{"$type":"vector","value":[1.0,-2.5,"NaN","-0"]}"#,
            r#"{"$type":"object","value":{"$type":"bytes","value":"AP8="}}"#,
            r#"{"$type":"object","value":{"$type":{"$type":"object","value":{"$type":null}}}}"#,
            r#"[{"$type":"object","value":{"$type":1,"a":{"$type":"bytes","value":""}}}]"#,
        ] {
            let value = read(text, Json::Tagged).unwrap_or_else(|unfit| panic!("{text}: {unfit:?}"));
            assert_eq!(written(&value, Json::Tagged), text);
        }
    }

    #[test]
    fn variants_of_others_are_read_in_any_order_and_spelling() {
        for (text, again) in [
            (" { \"b\" : 1 , \"a\" : 2 } ", "{\"a\":2,\"b\":1}"),
            ("1e2", "100.0"),
            ("1.50", "1.5"),
            ("1e300", r#"{"$type":"float64","value":"1e300"}"#),
            ("-0.0", r#"{"$type":"float64","value":"-0"}"#),
            (
                r#"{"value":"AP8=","$type":"bytes"}"#,
                r#"{"$type":"bytes","value":"AP8="}"#,
            ),
            (
                r#"{"\u0024type":"bytes","value":""}"#,
                r#"{"$type":"bytes","value":""}"#,
            ),
            (
                r#"{"$type":"timestamp_tz","value":"2024-12-31T23:59:59+01:00"}"#,
                r#"{"$type":"timestamp_tz","value":"2024-12-31T22:59:59.000000Z"}"#,
            ),
            (
                r#"{"$type":"geopoint","value":{"lng":1,"lat":-2}}"#,
                r#"{"$type":"geopoint","value":{"lat":-2.0,"lng":1.0}}"#,
            ),
            (
                r#"{"$type":"vector","value":[1]}"#,
                r#"{"$type":"vector","value":[1.0]}"#,
            ),
            (r#"{"$type":"float64","value":1.5}"#, "1.5"),
            (
                r#"{"$type":"decimal","value":"1.50"}"#,
                r#"{"$type":"object","value":{"$type":"decimal","value":"1.50"}}"#,
            ),
            (
                r#"{"$type":"bytes","value":"","more":1}"#,
                r#"{"$type":"object","value":{"$type":"bytes","more":1,"value":""}}"#,
            ),
            (
                r#"{"$type":1,"value":""}"#,
                r#"{"$type":"object","value":{"$type":1,"value":""}}"#,
            ),
        ] {
            let value = read(text, Json::Tagged).unwrap_or_else(|unfit| panic!("{text}: {unfit:?}"));
            assert_eq!(written(&value, Json::Tagged), again, "{text}");
            assert_eq!(read(again, Json::Tagged), Ok(value));
        }
    }

    #[test]
    fn json_as_such_has_no_tags() {
        let text = r#"{"$type":"bytes","value":"AP8="}"#;
        assert_eq!(written(&read(text, Json::Plain).unwrap(), Json::Plain), text);
        let twice = read(r#"{"a":1,"a":2}"#, Json::Plain).unwrap();
        assert_eq!(written(&twice, Json::Plain), "{\"a\":2}");
        assert_eq!(read(r#"{"a":1,"a":2}"#, Json::Tagged), Err(Unfit::MEMBER_TWICE));
        for number in ["1e300", "0.1", "-0.0", "5e-324"] {
            assert_eq!(written(&read(number, Json::Plain).unwrap(), Json::Plain), number);
        }
        let bytes = value(ValueType::BytesValue(vec![0]));
        let nan = value(ValueType::DoubleValue(f64::NAN));
        for value in [bytes, nan, Value::default()] {
            assert!(put_json(&value, Json::Plain, &root(), &mut String::new(), &mut Vec::new()).is_none());
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (text, unfit) in [
            ("", Unfit::JSON),
            ("{", Unfit::JSON),
            ("1 2", Unfit::JSON),
            ("NaN", Unfit::JSON),
            ("01", Unfit::JSON),
            ("12345678901234567890123", Unfit::NUMBER),
            ("[{\"a\":1e400}]", Unfit::NUMBER),
            ("[[]]", Unfit::ARRAY_IN_ARRAY),
            ("{\"a\":[1,[2]]}", Unfit::ARRAY_IN_ARRAY),
            ("{\"\":1}", Unfit::MEMBER_NAME),
            ("[{\"__a__\":1}]", Unfit::MEMBER_NAME),
            (r#""\ud800""#, Unfit::LONE_SURROGATE),
            (r#"{"\ud800":1}"#, Unfit::LONE_SURROGATE),
            (r#"{"$type":"float64","value":"inf"}"#, Unfit::TAG),
            (r#"{"$type":"timestamp_tz","value":"infinity"}"#, Unfit::TAG),
            (r#"{"$type":"timestamp_tz","value":0}"#, Unfit::TAG),
            (r#"{"$type":"bytes","value":"?"}"#, Unfit::TAG),
            (r#"{"$type":"geopoint","value":{"lat":1.0}}"#, Unfit::TAG),
            (
                r#"{"$type":"geopoint","value":{"lat":91.0,"lng":0.0}}"#,
                Unfit::GEOPOINT,
            ),
            (
                r#"{"$type":"geopoint","value":{"lat":"-0","lng":0.0}}"#,
                Unfit::GEOPOINT_ZERO,
            ),
            (r#"{"$type":"reference","value":"users"}"#, Unfit::TAG),
            (
                r#"{"$type":"reference","value":"projects/p/databases/d/documents/users/ann"}"#,
                Unfit::OWN_REFERENCE,
            ),
            (r#"{"$type":"vector","value":[]}"#, Unfit::EMPTY_VECTOR),
            (r#"{"$type":"vector","value":[null]}"#, Unfit::TAG),
            (r#"{"$type":"vector","value":{}}"#, Unfit::TAG),
            (r#"{"$type":"object","value":[]}"#, Unfit::TAG),
        ] {
            assert_eq!(read(text, Json::Tagged), Err(unfit), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_before_the_stack_is() {
        let maps = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        assert!(read(&maps(DEPTH_MAX), Json::Tagged).is_ok());
        assert_eq!(read(&maps(DEPTH_MAX + 1), Json::Tagged), Err(Unfit::TOO_DEEP));
        assert_eq!(read(&maps(3_000), Json::Plain), Err(Unfit::TOO_DEEP));
        let tags = "{\"$type\":\"object\",\"value\":{\"$type\":".repeat(1_500) + "1" + &"}}".repeat(1_500);
        assert_eq!(read(&tags, Json::Tagged), Err(Unfit::TOO_DEEP));
        let arrays = "[".repeat(3_000) + &"]".repeat(3_000);
        assert_eq!(read(&arrays, Json::Tagged), Err(Unfit::TOO_DEEP));
    }

    #[test]
    fn a_document_is_one_text_whatever_the_order_of_its_fields() {
        for _ in 0..20 {
            let names: Vec<String> = (0..40).map(|index| format!("f{index:02}")).collect();
            let fields: HashMap<String, Value> = names
                .iter()
                .map(|name| (name.clone(), value(ValueType::BooleanValue(true))))
                .collect();
            let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":true")).collect();
            let expected = format!("{{{}}}", members.join(","));
            assert_eq!(json_text(&fields, &root()), expected);
            let map = value(ValueType::MapValue(MapValue { fields }));
            assert_eq!(written(&map, Json::Tagged), expected);
        }
        let odd = HashMap::from([("a".to_owned(), Value::default()), ("b".to_owned(), null())]);
        assert_eq!(
            json_text(&odd, &root()),
            r#"{"a":{"$type":"unknown","value":null},"b":null}"#
        );
        assert_eq!(json_text(&HashMap::new(), &root()), "{}");
    }
}
