//! The `json` column `_whimbrel_rest`: an object of what columns of their own cannot hold.
//!
//! A field without a column is a member: its name with its value in the JSON form, but json and variant values as texts,
//! so that they survive to the letter. The member `$absent` lists the fields that the record does not have, of this
//! object and of the columns, which show null for them; names that begin with `$` get one more. Null is an object without
//! members. The type is `json` and not `jsonb`, since the latter would write numbers and NUL characters otherwise.

use std::borrow::Cow;
use std::collections::BTreeMap;

use arrow_array::{Array, ArrayRef};
use serde_json::value::RawValue;
use whimbrel_plugin_api::arrow_array;
use whimbrel_plugin_api::json_form::JsonEncoder;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::{Error, Result};

use crate::codec::RowFault;

/// The column's name.
pub(crate) const REST_COLUMN: &str = "_whimbrel_rest";
/// The member that lists absent fields.
const ABSENT: &str = "$absent";

/// The members of one record, each with its value as JSON.
#[derive(Debug, Default)]
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
        let Some(raw) = self.0.get(ABSENT) else {
            return Some(Vec::new());
        };
        serde_json::from_str(raw.get()).ok()
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

/// The type as which a member's value is written and read: json and variant values inside of it are texts.
pub(crate) fn member_type(record_type: &RecordType) -> RecordType {
    match record_type {
        RecordType::Json | RecordType::Variant => RecordType::Text,
        RecordType::List { item } => RecordType::list(member_type(item)),
        RecordType::Struct { fields } => {
            let member = |field: &Field| Field {
                record_type: member_type(&field.record_type),
                ..field.clone()
            };
            RecordType::Struct {
                fields: fields.iter().map(member).collect(),
            }
        }
        other => other.clone(),
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
    /// An encoder of the fields of `members`, which marks those of `may_be_absent`; the number beside a field is its place
    /// in the schema.
    pub(crate) fn new<'field>(
        members: impl Iterator<Item = (usize, &'field Field, &'field ArrayRef)>,
        may_be_absent: impl Iterator<Item = (usize, &'field Field)>,
    ) -> Result<Self> {
        let member = |(index, field, column): (usize, &Field, &ArrayRef)| {
            let mut name = json_string(&member_name(&field.name))?;
            name.push(b':');
            Ok(Member {
                name,
                index,
                values: JsonEncoder::new(&member_type(&field.record_type), column)?,
                column: column.clone(),
            })
        };
        let marked = |(index, field): (usize, &Field)| Ok((index, json_string(&field.name)?));
        Ok(Self {
            members: members.map(member).collect::<Result<_>>()?,
            may_be_absent: may_be_absent.map(marked).collect::<Result<_>>()?,
        })
    }

    /// Puts the object of `row` in place of what is in `out`; leaves it empty if there is nothing but nulls to say, which
    /// is a null in the column. `has` says whether the record has the field at a place of the schema.
    ///
    /// # Errors
    /// The fault of a value without a JSON form; its `column` is the field's place in the schema.
    pub(crate) fn write(
        &self,
        row: usize,
        has: impl Fn(usize) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<(), RowFault> {
        out.clear();
        let mut says_something = false;
        for member in self.members.iter().filter(|member| has(member.index)) {
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.extend_from_slice(&member.name);
            says_something |= !member.column.is_null(row);
            member.values.write(row, out).map_err(|error| RowFault {
                column: member.index,
                code: "postgres.no_json_form",
                message: error.message,
            })?;
        }
        let mut absent = self
            .may_be_absent
            .iter()
            .filter(|(index, _)| !has(*index))
            .peekable();
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

fn json_string(text: &str) -> Result<Vec<u8>> {
    serde_json::to_vec(text)
        .map_err(|error| Error::internal("a name could not be written").with_cause(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::StringArray;

    use super::*;

    #[test]
    fn objects_are_read_as_they_were_written() {
        let fields = [
            Field::new("$absent", RecordType::Text),
            Field::new("doc", RecordType::Json),
            Field::new("far", RecordType::INT64),
        ];
        let texts: [ArrayRef; 2] = [
            Arc::new(StringArray::from(vec![Some("a\0b"), None, None])),
            Arc::new(StringArray::from(vec![Some(r#"{"n": 1.50}"#), None, None])),
        ];
        let members = fields.iter().zip(&texts).enumerate();
        let members = members.map(|(index, (field, column))| (index, field, column));
        let encoder = RestEncoder::new(members, std::iter::once((2, &fields[2]))).unwrap();
        let mut out = Vec::new();
        encoder.write(0, |index| index < 2, &mut out).unwrap();
        let text = String::from_utf8(out.clone()).unwrap();
        assert_eq!(
            text,
            r#"{"$$absent":"a\u0000b","doc":"{\"n\": 1.50}","$absent":["far"]}"#
        );
        let found = Members::read(&text).unwrap();
        assert_eq!(found.absent().unwrap(), ["far"]);
        assert_eq!(found.value(&member_name("$absent")), Some(r#""a\u0000b""#));
        assert_eq!(member_type(&fields[1].record_type), RecordType::Text);
        // Nothing but nulls is nothing to say.
        encoder.write(1, |_| true, &mut out).unwrap();
        assert!(out.is_empty());
    }
}
