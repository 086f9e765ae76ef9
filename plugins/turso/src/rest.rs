//! The json column `_whimbrel_rest`: an object of the fields that columns of their own cannot hold.
//!
//! Each member is the field's name with its value in the JSON form, but json and variant values as texts, so that they
//! survive to the letter. A field that a record does not have is left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use whimbrel_plugin_api::arrow_array::ArrayRef;
use whimbrel_plugin_api::json_form::JsonEncoder;
use whimbrel_plugin_api::record_type::Field;
use whimbrel_plugin_api::{Error, Result};

use crate::encode::{Presence, without_raw_json};
use crate::error::RowFault;

/// The members of one record, each with its value as JSON.
pub(crate) type Members<'text> = BTreeMap<Cow<'text, str>, &'text RawValue>;

/// Writes the rest column of a batch.
pub(crate) struct RestEncoder {
    members: Vec<Member>,
}

struct Member {
    /// The name as a JSON string, and a colon.
    name: Vec<u8>,
    index: usize,
    values: JsonEncoder,
    column: ArrayRef,
}

impl RestEncoder {
    /// An encoder of the given fields; `index` is the field's place in the schema.
    pub(crate) fn new<'field>(
        fields: impl Iterator<Item = (usize, &'field Field, &'field ArrayRef)>,
    ) -> Result<Self> {
        let members = fields
            .map(|(index, field, column)| {
                let mut name = serde_json::to_vec(&field.name)
                    .map_err(|error| Error::internal("a name could not be written").with_cause(&error))?;
                name.push(b':');
                Ok(Member {
                    name,
                    index,
                    values: JsonEncoder::new(&without_raw_json(&field.record_type), column)?,
                    column: column.clone(),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { members })
    }

    /// Puts the object of `row` in place of `out`; leaves it empty if the record has nothing but nulls there.
    pub(crate) fn write(&self, row: usize, presence: &Presence, out: &mut Vec<u8>) -> Result<(), RowFault> {
        out.clear();
        let mut has_value = false;
        for member in self
            .members
            .iter()
            .filter(|member| presence.has(row, member.index))
        {
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.extend_from_slice(&member.name);
            has_value |= !member.column.is_null(row);
            member
                .values
                .write(row, out)
                .map_err(|error| RowFault::new(error.code, error.message))?;
        }
        if has_value {
            out.push(b'}');
        } else {
            out.clear();
        }
        Ok(())
    }
}

/// Reads the object of one record; `None` if the text is no JSON object.
pub(crate) fn read(text: &str) -> Option<Members<'_>> {
    serde_json::from_str(text).ok()
}

/// `stored` without the members called `replaced`, and with those of `new`; the rest of it stays to the letter.
pub(crate) fn overlay(stored: &str, new: &[u8], replaced: &[String]) -> Option<String> {
    let new = str::from_utf8(new).ok()?;
    let mut members = read(stored)?;
    members.retain(|name, _| !replaced.iter().any(|replaced| replaced == name));
    if !new.is_empty() {
        members.extend(read(new)?);
    }
    serde_json::to_string(&members).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_what_is_not_sent_to_the_letter() {
        let merged = overlay(r#"{"a":1.50,"b":{"x": 1}}"#, br#"{"b":null,"c":"\u00e9"}"#, &[]).unwrap();
        let members = read(&merged).unwrap();
        assert_eq!(members["a"].get(), "1.50");
        assert_eq!(members["b"].get(), "null");
        assert_eq!(members["c"].get(), r#""\u00e9""#);
        assert_eq!(
            overlay(r#"{"a":1,"b":2}"#, b"", &["a".to_owned()]).unwrap(),
            r#"{"b":2}"#
        );
        assert_eq!(overlay("[]", b"{}", &[]), None);
    }
}
