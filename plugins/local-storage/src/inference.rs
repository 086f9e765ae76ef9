//! The type of each field, from all records of a collection: nothing is sampled and nothing is guessed.
//!
//! A type is chosen only if every value comes back from it as it was: numbers are not rounded, -0 stays apart from 0,
//! and kinds that do not widen into one another become `variant`. A field that some records lack is told by the
//! presence column. Which records there are is decided before (`grouping`).

use std::collections::HashMap;

use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::{Field, Loss, RecordType, Result, Schema, Services};

use crate::grouping::{Body, Group, Id, Record, Slot};
use crate::json_text;
use crate::names;
use crate::numbers::Numbers;

/// How often the host is asked whether to go on, in records.
const CANCEL_CHECK_RECORDS: usize = 4_096;

/// Where the values of a column come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Origin,
    Key,
    Id,
    /// A member of records that are objects.
    Member,
    /// Records that are JSON but no object.
    Value,
    /// Records that are no JSON.
    ValueText,
}

/// The columns of a collection.
#[derive(Debug)]
pub struct Layout {
    pub schema: Schema,
    /// For each field of the schema, where its values come from.
    pub contents: Vec<Content>,
    /// Column of each member name.
    pub members: HashMap<String, usize>,
    pub key: Vec<String>,
    pub losses: Vec<FieldLoss>,
}

/// What was seen of one field.
#[derive(Debug, Clone, Default)]
struct Seen {
    present: usize,
    nulls: usize,
    bools: usize,
    texts: usize,
    nested: usize,
    numbers: Numbers,
    replaced: bool,
}

/// Finds the columns of `group`. Records that cannot be spread over columns (a member stands twice, more names than
/// `fields_max`) become JSON kept as one value.
pub fn infer(
    group: &mut Group,
    arena: &str,
    has_origins: bool,
    fields_max: usize,
    services: &Services,
) -> Result<Layout> {
    let mut survey = Survey::default();
    for (index, slot) in group.slots.iter_mut().enumerate() {
        if index.is_multiple_of(CANCEL_CHECK_RECORDS) {
            services.check_cancelled()?;
        }
        if let Slot::Record(record) = slot {
            survey.look_at(record, arena);
            if survey.members.len() > fields_max {
                return infer_whole(group, arena, has_origins, services);
            }
        }
    }
    Ok(if group.exact_name == names::VALUES {
        survey.values_layout(has_origins)
    } else {
        survey.layout(has_origins)
    })
}

/// As [`infer`], with every object kept as one value.
fn infer_whole(group: &mut Group, arena: &str, has_origins: bool, services: &Services) -> Result<Layout> {
    for slot in &mut group.slots {
        if let Slot::Record(Record { body, .. }) = slot
            && let Body::Object(span) = *body
        {
            *body = Body::Json(span);
        }
    }
    infer(group, arena, has_origins, usize::MAX, services)
}

#[derive(Default)]
struct Survey {
    records: usize,
    key_replaced: bool,
    id_replaced: bool,
    names: Vec<String>,
    members: HashMap<String, usize>,
    seen: Vec<Seen>,
    value: Seen,
    value_text: Seen,
}

impl Survey {
    fn look_at(&mut self, record: &mut Record, arena: &str) {
        self.records += 1;
        self.key_replaced |= record.key_replaced;
        self.id_replaced |= matches!(record.id, Id::Text { replaced: true, .. });
        if let Body::Object(span) = record.body {
            match json_text::distinct_members(span.of(arena)) {
                Some(members) => {
                    for (name, value) in members {
                        self.look_at_member(&name, value);
                    }
                }
                // Two members of one name: spread over columns, one of them would be lost.
                None => record.body = Body::Json(span),
            }
        }
        match record.body {
            Body::Object(_) => {}
            Body::Json(span) => self.value.look_at(span.of(arena)),
            Body::Text { replaced, .. } => {
                self.value_text.present += 1;
                self.value_text.texts += 1;
                self.value_text.replaced |= replaced;
            }
        }
    }

    fn look_at_member(&mut self, name: &json_text::Text<'_>, value: &str) {
        let index = match self.members.get(name.text.as_ref()) {
            Some(index) => *index,
            None => {
                let index = self.names.len();
                self.names.push(name.text.to_string());
                self.members.insert(name.text.to_string(), index);
                self.seen.push(Seen::default());
                index
            }
        };
        self.seen[index].look_at(value);
        self.seen[index].replaced |= name.replaced;
    }

    fn layout(mut self, has_origins: bool) -> Layout {
        let mut layout = Layout::begin(has_origins, self.key_replaced);
        layout.structural(names::ID, Content::Id, self.id_replaced);
        layout.key.push(names::ID.to_owned());
        if !self.members.contains_key("id") {
            layout.structural("id", Content::Id, self.id_replaced);
        }
        let mut is_complete = true;
        let mut add = |layout: &mut Layout, name: String, seen: &Seen, content: Content| {
            is_complete &= seen.present == self.records;
            // Jobs name `id` as a key, and a key is never null.
            let is_key = name == "id" && seen.present == self.records && seen.nulls == 0;
            let field = if is_key {
                Field::required(name, seen.record_type())
            } else {
                Field::new(name, seen.record_type())
            };
            layout.add(field, content, seen.replaced);
        };
        for ((member, name), seen) in self
            .names
            .iter()
            .zip(names::field_names(&self.names))
            .zip(&self.seen)
        {
            self.members.insert(member.clone(), layout.contents.len());
            add(&mut layout, name, seen, Content::Member);
        }
        for (name, seen, content) in [
            (names::VALUE, &self.value, Content::Value),
            (names::VALUE_TEXT, &self.value_text, Content::ValueText),
        ] {
            if seen.present > 0 {
                add(&mut layout, name.to_owned(), seen, content);
            }
        }
        layout.schema.presence = !is_complete;
        layout.members = self.members;
        layout
    }

    /// The columns of `_values`, which are the same for every export.
    fn values_layout(self, has_origins: bool) -> Layout {
        let mut layout = Layout::begin(has_origins, self.key_replaced);
        layout.add(
            Field::new(names::VALUES_JSON, RecordType::Json),
            Content::Value,
            self.value.replaced,
        );
        layout.add(
            Field::new(names::VALUES_TEXT, RecordType::Text),
            Content::ValueText,
            self.value_text.replaced,
        );
        layout
    }
}

impl Layout {
    /// The fields that every collection has, which are also its key.
    fn begin(has_origins: bool, key_replaced: bool) -> Self {
        let mut layout = Self {
            schema: Schema::default(),
            contents: Vec::new(),
            members: HashMap::new(),
            key: Vec::new(),
            losses: Vec::new(),
        };
        if has_origins {
            layout.structural(names::ORIGIN, Content::Origin, key_replaced);
            layout.key.push(names::ORIGIN.to_owned());
        }
        layout.structural(names::KEY, Content::Key, key_replaced);
        layout.key.push(names::KEY.to_owned());
        layout
    }

    fn structural(&mut self, name: &str, content: Content, replaced: bool) {
        self.add(Field::required(name, RecordType::Text), content, replaced);
    }

    fn add(&mut self, field: Field, content: Content, replaced: bool) {
        if replaced {
            self.losses.push(FieldLoss {
                field: field.name.clone(),
                loss: Loss::LoneSurrogateReplaced,
            });
        }
        self.schema.fields.push(field);
        self.contents.push(content);
    }
}

impl Seen {
    fn look_at(&mut self, raw: &str) {
        self.present += 1;
        match raw.as_bytes().first() {
            Some(b'n') => self.nulls += 1,
            Some(b't' | b'f') => self.bools += 1,
            Some(b'"') => self.texts += 1,
            Some(b'{' | b'[') => self.nested += 1,
            _ => self.numbers.look_at(raw),
        }
        self.replaced |= json_text::has_lone_half(raw);
    }

    fn record_type(&self) -> RecordType {
        let kinds = [self.bools, self.texts, self.nested, self.numbers.count];
        match kinds.map(|count| count > 0) {
            // Only nulls: text is what every sink can widen from.
            [false, false, false, false] | [false, true, false, false] => RecordType::Text,
            [true, false, false, false] => RecordType::Bool,
            [false, false, true, false] => RecordType::Json,
            [false, false, false, true] => self.numbers.record_type(),
            _ => RecordType::Variant,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_of(values: &[&str]) -> String {
        let mut seen = Seen::default();
        values.iter().for_each(|raw| seen.look_at(raw));
        seen.record_type().to_string()
    }

    #[test]
    fn the_narrowest_type_that_keeps_every_value_is_chosen() {
        for (values, expected) in [
            (&["null"][..], "text"),
            (&["true", "null", "false"], "bool"),
            (
                &["1", "null", "-9223372036854775808", "9223372036854775807"],
                "int64",
            ),
            (&["9223372036854775808"], "decimal(20, 0)"),
            (&["-1", "18446744073709551615"], "decimal(20, 0)"),
            (&["18446744073709551616"], "numeric"),
            (&["-9223372036854775809"], "numeric"),
            (&["0", "-0"], "float64"),
            (&["-0.0e7", "9007199254740992"], "float64"),
            (&["-0", "9007199254740993"], "variant"),
            (&["-0", "0.1000000000000000055"], "variant"),
            (&["1", "1.5"], "float64"),
            (&["9007199254740992", "0.5"], "float64"),
            (&["9007199254740993", "0.5"], "numeric"),
            (&["-9007199254740993", "1.0"], "numeric"),
            (
                &[
                    "0.1",
                    "1E+2",
                    "1e21",
                    "5e-324",
                    "2.2250738585072014e-308",
                    "-1.7976931348623157e308",
                ],
                "float64",
            ),
            (&["0.30000000000000004", "1.50", "0.0", "0e99"], "float64"),
            (&["123456789.123456789"], "numeric"),
            (&["1e400"], "numeric"),
            (&["1e-400"], "numeric"),
            (&["-1e-400"], "numeric"),
            (&["1e99999999999999999999"], "numeric"),
            (&["\"a\"", "null"], "text"),
            (&["[1]", "{}", "null"], "json"),
            (&["1", "\"1\""], "variant"),
            (&["true", "1"], "variant"),
            (&["\"a\"", "[]"], "variant"),
        ] {
            assert_eq!(type_of(values), expected, "{values:?}");
        }
    }
}
