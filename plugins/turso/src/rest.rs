//! The json column `_whimbrel_rest`: an object of what columns of their own cannot hold.
//!
//! A field without a column is a member: its name with its value in the JSON form, but json and variant values as texts,
//! so that they survive to the letter. The member `$absent` lists the fields that the record does not have, of this
//! object and of the columns, which show null for them; names that begin with `$` get one more. No object at all is one
//! without members.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use whimbrel_plugin_api::arrow_array::ArrayRef;
use whimbrel_plugin_api::json_form::JsonEncoder;
use whimbrel_plugin_api::record_type::Field;
use whimbrel_plugin_api::{Error, Result};

use crate::encode::{Presence, without_raw_json};
use crate::error::RowFault;

/// The member that lists absent fields.
const ABSENT: &str = "$absent";

/// The members of one record, each with its value as JSON.
#[derive(Default)]
pub(crate) struct Members<'text>(BTreeMap<Cow<'text, str>, &'text RawValue>);

impl<'text> Members<'text> {
    /// Reads the object of one record; `None` if the text is no JSON object.
    pub(crate) fn read(text: &'text str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    /// The value of the field whose [`member_name`] is given; `None` for null and for fields that are not there.
    pub(crate) fn value(&self, member: &str) -> Option<&'text str> {
        let raw = self.0.get(member).map(|raw| raw.get());
        raw.filter(|raw| *raw != "null")
    }

    /// The fields that the record does not have; `None` if what stands there is no list of names.
    pub(crate) fn absent(&self) -> Option<Vec<Cow<'text, str>>> {
        match self.0.get(ABSENT) {
            None => Some(Vec::new()),
            Some(raw) => serde_json::from_str(raw.get()).ok(),
        }
    }
}

/// A field's name among the members.
pub(crate) fn member_name(field: &str) -> Cow<'_, str> {
    if field.starts_with('$') {
        Cow::Owned(format!("${field}"))
    } else {
        Cow::Borrowed(field)
    }
}

/// Writes the rest column of a batch.
pub(crate) struct RestEncoder {
    members: Vec<Member>,
    /// Fields whose absence is marked: place in the schema, name as a JSON string.
    may_be_absent: Vec<(usize, Vec<u8>)>,
}

struct Member {
    /// The name as a JSON string, and a colon.
    name: Vec<u8>,
    index: usize,
    values: JsonEncoder,
    column: ArrayRef,
}

impl RestEncoder {
    /// An encoder of the fields of `members`, which marks those of `may_be_absent`; `index` is the field's place in the
    /// schema.
    pub(crate) fn new<'field>(
        members: impl Iterator<Item = (usize, &'field Field, &'field ArrayRef)>,
        may_be_absent: impl Iterator<Item = (usize, &'field Field)>,
    ) -> Result<Self> {
        let members = members
            .map(|(index, field, column)| {
                let mut name = json_text(&member_name(&field.name))?;
                name.push(b':');
                Ok(Member {
                    name,
                    index,
                    values: JsonEncoder::new(&without_raw_json(&field.record_type), column)?,
                    column: column.clone(),
                })
            })
            .collect::<Result<_>>()?;
        let may_be_absent = may_be_absent.map(|(index, field)| Ok((index, json_text(&field.name)?)));
        Ok(Self {
            members,
            may_be_absent: may_be_absent.collect::<Result<_>>()?,
        })
    }

    /// Puts the object of `row` in place of `out`; leaves it empty if there is nothing but nulls to say.
    pub(crate) fn write(&self, row: usize, presence: &Presence, out: &mut Vec<u8>) -> Result<(), RowFault> {
        out.clear();
        let mut says_something = false;
        let present = |member: &&Member| presence.has(row, member.index);
        for member in self.members.iter().filter(present) {
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.extend_from_slice(&member.name);
            says_something |= !member.column.is_null(row);
            member
                .values
                .write(row, out)
                .map_err(|error| RowFault::new(error.code, error.message))?;
        }
        let is_absent = |(index, _): &&(usize, Vec<u8>)| !presence.has(row, *index);
        let mut absent = self.may_be_absent.iter().filter(is_absent).peekable();
        if absent.peek().is_some() {
            says_something = true;
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.extend_from_slice(b"\"$absent\":[");
            for (_, name) in absent {
                out.extend_from_slice(name);
                out.push(b',');
            }
            out.pop();
            out.push(b']');
        }
        if says_something {
            out.push(b'}');
        } else {
            out.clear();
        }
        Ok(())
    }
}

fn json_text(text: &str) -> Result<Vec<u8>> {
    serde_json::to_vec(text)
        .map_err(|error| Error::internal("a name could not be written").with_cause(&error))
}

/// What happens to the rest that is stored for a record when the record comes again.
pub(crate) struct Overlay<'names> {
    /// Members that go, even if the new object does not have them.
    pub(crate) replaced: &'names [String],
    /// Whether a field is no longer absent unless the new object says so.
    pub(crate) is_decided: &'names dyn Fn(&str) -> bool,
    /// Whether the new object's absent fields are so from now on.
    pub(crate) takes_absent: bool,
}

impl Overlay<'_> {
    /// The stored object with the new one on it, empty if there is nothing to say; all else stays to the letter. `None`
    /// if what is stored is not what this module writes.
    pub(crate) fn apply(&self, stored: &str, new: &[u8]) -> Option<String> {
        let new = str::from_utf8(new).ok()?;
        let mut members = Members::read(stored)?;
        let new = if new.is_empty() {
            Members::default()
        } else {
            Members::read(new)?
        };
        let mut absent = members.absent()?;
        absent.retain(|name| !(self.is_decided)(name));
        if self.takes_absent {
            absent.extend(new.absent()?);
        }
        members.0.retain(|name, _| {
            !self
                .replaced
                .iter()
                .any(|replaced| member_name(replaced) == *name)
        });
        members.0.extend(new.0);
        members.0.remove(ABSENT);
        let absent = match absent.is_empty() {
            true => None,
            false => Some(serde_json::value::to_raw_value(&absent).ok()?),
        };
        members
            .0
            .extend(absent.as_deref().map(|absent| (Cow::Borrowed(ABSENT), absent)));
        if members.0.is_empty() {
            return Some(String::new());
        }
        serde_json::to_string(&members.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(
        stored: &str,
        new: &str,
        replaced: &[&str],
        decided: &[&str],
        takes_absent: bool,
    ) -> Option<String> {
        let replaced: Vec<String> = replaced.iter().map(|name| (*name).to_owned()).collect();
        let overlay = Overlay {
            replaced: &replaced,
            is_decided: &|name| decided.contains(&name),
            takes_absent,
        };
        overlay.apply(stored, new.as_bytes())
    }

    #[test]
    fn merging_keeps_what_is_not_sent_to_the_letter() {
        let merged = overlay(
            r#"{"a":1.50,"b":{"x": 1}}"#,
            r#"{"b":null,"c":"\u00e9"}"#,
            &[],
            &[],
            false,
        )
        .unwrap();
        assert_eq!(merged, r#"{"a":1.50,"b":null,"c":"\u00e9"}"#);
        assert_eq!(
            overlay(r#"{"a":1,"b":2}"#, "", &["a"], &[], true).unwrap(),
            r#"{"b":2}"#
        );
        assert_eq!(overlay("[]", "{}", &[], &[], true), None);
        assert_eq!(overlay(r#"{"$absent":1}"#, "{}", &[], &[], true), None);
    }

    #[test]
    fn absent_fields_stay_so_until_they_come() {
        let stored = r#"{"$absent":["a","b"],"$$absent":7}"#;
        assert_eq!(
            overlay(stored, r#"{"$absent":["c"]}"#, &[], &["a"], false).unwrap(),
            r#"{"$$absent":7,"$absent":["b"]}"#
        );
        assert_eq!(
            overlay(
                stored,
                r#"{"$absent":["c"]}"#,
                &["$absent"],
                &["a", "b", "c"],
                true
            )
            .unwrap(),
            r#"{"$absent":["c"]}"#
        );
        assert_eq!(
            overlay(r#"{"$absent":["a"]}"#, "", &[], &["a"], false).unwrap(),
            ""
        );
    }

    #[test]
    fn a_field_called_like_the_list_is_no_list() {
        let members = Members::read(r#"{"$$absent":"x"}"#).unwrap();
        assert_eq!(members.absent().unwrap(), Vec::<String>::new());
        assert_eq!(members.value(&member_name("$absent")), Some("\"x\""));
    }
}
