//! Parts of JSON, found by their pointer (RFC 6901) without building a tree, as columns of their own types.
//! Only the way to the part is looked at; numbers and texts within it keep their spelling until they get their type.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef};
use whimbrel_plugin_api::arrow_buffer::BooleanBuffer;
use whimbrel_plugin_api::{RecordType, Result};

use crate::cast::{decode_slice, new_decoder, untagged};

/// Where a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(Arc<[String]>);

/// A column of parts.
pub(crate) struct Extracted {
    pub(crate) array: ArrayRef,
    /// Which records have the part.
    pub(crate) found: BooleanBuffer,
    /// Rows whose part is not of its type, or whose JSON cannot be read.
    pub(crate) failed: Vec<usize>,
}

impl Pointer {
    /// Reads a pointer; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Arc::from([])));
        }
        let segments = text.strip_prefix('/')?.split('/').map(|segment| {
            // A tilde stands before 0 or 1 only.
            let is_escaped_well = segment
                .match_indices('~')
                .all(|(at, _)| matches!(segment.as_bytes().get(at + 1), Some(b'0' | b'1')));
            is_escaped_well.then(|| segment.replace("~1", "/").replace("~0", "~"))
        });
        segments
            .collect::<Option<Vec<_>>>()
            .map(|segments| Self(segments.into()))
    }

    /// The slice of `json` at this place: `Ok(None)` if there is nothing, `Err` if the JSON cannot be read.
    fn find<'j>(&self, json: &'j str) -> Result<Option<&'j str>, serde_json::Error> {
        let mut slice = json;
        for segment in self.0.iter() {
            let mut deserializer = serde_json::Deserializer::from_str(slice);
            let found = deserializer.deserialize_any(Step(segment))?;
            match found {
                Some(found) => slice = found.get(),
                None => return Ok(None),
            }
        }
        Ok(Some(slice))
    }

    /// The parts of a json column, or with `is_variant` of a variant one, as `record_type`.
    pub(crate) fn extract(
        &self,
        array: &ArrayRef,
        is_variant: bool,
        record_type: &RecordType,
    ) -> Result<Extracted> {
        let texts = array.as_string::<i32>();
        let mut decoder = new_decoder(record_type, texts.len())?;
        let mut failed = Vec::new();
        let mut found = vec![false; texts.len()];
        for (row, is_found) in found.iter_mut().enumerate() {
            let part = if texts.is_null(row) {
                Ok(None)
            } else {
                self.find(texts.value(row))
            };
            match part {
                Ok(Some(slice)) => {
                    *is_found = true;
                    let slice = if is_variant { untagged(slice) } else { slice };
                    if !decode_slice(&mut decoder, slice)? {
                        failed.push(row);
                    }
                }
                Ok(None) => decoder.push_null(),
                Err(_) => {
                    decoder.push_null();
                    failed.push(row);
                }
            }
        }
        Ok(Extracted {
            array: decoder.finish()?,
            found: BooleanBuffer::from(found),
            failed,
        })
    }
}

/// One segment of a pointer, looked for in whatever value comes.
struct Step<'s>(&'s str);

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_wanted) = map.next_key_seed(KeyIs(self.0))? {
            // Of a key that stands twice the last counts, as in JavaScript.
            if is_wanted {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let is_index =
            self.0 == "0" || !self.0.starts_with('0') && self.0.bytes().all(|octet| octet.is_ascii_digit());
        let wanted = self.0.parse::<usize>().ok().filter(|_| is_index);
        let mut found = None;
        let mut index = 0;
        loop {
            if Some(index) == wanted {
                found = list.next_element::<&RawValue>()?;
                if found.is_none() {
                    return Ok(None);
                }
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            index += 1;
        }
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a key is the wanted one, without keeping it.
struct KeyIs<'s>(&'s str);

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<bool, E> {
        Err(E::custom("a key is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_as_the_rfc_says() {
        let json = r#"{"foo":["bar",{"x":1}],"":0,"a/b":1,"m~n":8,"n":null,"d":1,"d":2,"ü\n":"é"}"#;
        for (pointer, found) in [
            ("", Some(json)),
            ("/foo", Some(r#"["bar",{"x":1}]"#)),
            ("/foo/0", Some(r#""bar""#)),
            ("/foo/1/x", Some("1")),
            ("/foo/2", None),
            ("/foo/00", None),
            ("/foo/-", None),
            ("/foo/99999999999999999999", None),
            ("/", Some("0")),
            ("/a~1b", Some("1")),
            ("/m~0n", Some("8")),
            ("/n", Some("null")),
            ("/n/x", None),
            ("/d", Some("2")),
            ("/d/x", None),
            ("/ü\n", Some("\"é\"")),
            ("/missing/x", None),
        ] {
            let pointer = Pointer::parse(pointer).unwrap();
            assert_eq!(pointer.find(json).unwrap(), found, "{pointer:?}");
        }
        for bad in ["foo", "/a~", "/a~2", "~0"] {
            assert_eq!(Pointer::parse(bad), None);
        }
        Pointer::parse("/a").unwrap().find("{\"a\":1").unwrap_err();
    }
}
