//! From what was seen of a collection to its schema and key.
//!
//! Fields out of the path come first, since they are the key; then those of the documents. What the sink remembers of a
//! collection wins where every value that was seen fits. Neighbours: `tally` (what was seen), `memory` (what is remembered).

use whimbrel_plugin_api::{Field, RecordType, Schema};

use super::tally::{FieldSeen, Tally};
use crate::memory::Remembered;
use crate::path::{PATH_FIELD, Pattern};

/// What a schema is made of.
#[derive(Clone, Copy)]
pub(super) struct Material<'call> {
    pub(super) pattern: &'call Pattern,
    pub(super) tally: &'call Tally,
    /// Whether every document was looked at.
    pub(super) is_complete: bool,
    pub(super) remembered: Option<&'call Remembered>,
    /// Whether records have their path as a field.
    pub(super) path_field: bool,
}

/// A schema and its key.
#[derive(Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) schema: Schema,
    pub(super) key: Vec<String>,
}

impl Material<'_> {
    pub(super) fn shape(self) -> Shape {
        let path_fields = self.path_fields();
        let own_key = self.remembered_key(&path_fields);
        let mut fields: Vec<Field> = Vec::new();
        let mut push = |field: Field| {
            if fields.iter().all(|earlier| earlier.name != field.name) {
                fields.push(field);
            }
        };
        self.leading(own_key.as_deref(), &path_fields)
            .into_iter()
            .for_each(|name| push(Field::required(name, RecordType::Text)));
        for field in self.remembered.iter().flat_map(|remembered| &remembered.fields) {
            if path_fields.contains(&field.name) {
                push(Field::required(field.name.clone(), RecordType::Text));
            } else if !is_reserved(&field.name) {
                push(self.remembered_field(field));
            }
        }
        let others = self.tally.fields().iter();
        others.for_each(|field| push(self.seen_field(field)));
        Shape {
            schema: Schema {
                version: 0,
                presence: self.presence(),
                fields,
            },
            key: own_key.unwrap_or_else(|| self.pattern.key()),
        }
    }

    /// Fields out of the path that stand in front. With a key of the records' own they stand where they stood, or nowhere.
    fn leading(&self, own_key: Option<&[String]>, path_fields: &[String]) -> Vec<String> {
        let remembered = self.remembered.filter(|_| own_key.is_some());
        let has_place = |name: &String| {
            remembered.is_some_and(|remembered| remembered.fields.iter().any(|field| field.name == *name))
        };
        let mut leading = match own_key {
            Some(key) => key
                .iter()
                .filter(|name| path_fields.contains(name))
                .cloned()
                .collect(),
            None => self.pattern.key(),
        };
        if self.path_field {
            leading.push(PATH_FIELD.to_owned());
        }
        leading.retain(|name| !has_place(name));
        leading
    }

    /// Fields that come out of the path of a document.
    fn path_fields(&self) -> Vec<String> {
        let mut fields = self.pattern.key();
        if !fields.iter().any(|field| field == PATH_FIELD) {
            fields.push(PATH_FIELD.to_owned());
        }
        fields
    }

    /// The key that is remembered, if what was seen bears it out: every document has it, and its id is made of it, since the
    /// ids are what tells documents apart. Of several key fields of a root collection, whose values are joined, the latter is
    /// believed.
    fn remembered_key(&self, path_fields: &[String]) -> Option<Vec<String>> {
        let remembered = self.remembered?;
        let key = &remembered.key;
        let is_joined = key.len() != self.pattern.key().len();
        let holds = |(position, name): (usize, &String)| {
            let field = remembered.fields.iter().find(|field| field.name == *name);
            let seen = field.and_then(|field| self.tally.field(name).map(|seen| (field, seen)));
            path_fields.contains(name)
                || seen.is_some_and(|(field, seen)| {
                    !self.tally.is_absent_somewhere(seen)
                        && !seen.seen.has_null()
                        && seen.seen.fits(&field.record_type)
                        && (is_joined || seen.may_be_id(position))
                })
        };
        (!key.is_empty() && key.iter().enumerate().all(holds)).then(|| key.clone())
    }

    /// A field as it is remembered, or as it is seen if it has become another one.
    fn remembered_field(&self, field: &Field) -> Field {
        let Some(seen) = self.tally.field(&field.name) else {
            // No document has it, which the presence column says; its values, if any come, are of this type.
            return Field::new(field.name.clone(), field.record_type.clone());
        };
        if !seen.seen.fits(&field.record_type) {
            return self.seen_field(seen);
        }
        Field {
            nullable: field.nullable || seen.seen.has_null() || self.tally.is_absent_somewhere(seen),
            ..field.clone()
        }
    }

    fn seen_field(&self, field: &FieldSeen) -> Field {
        Field {
            name: field.name.clone(),
            record_type: field.seen.record_type(),
            nullable: !self.is_complete || field.seen.has_null() || self.tally.is_absent_somewhere(field),
        }
    }

    /// Whether records may lack fields.
    fn presence(&self) -> bool {
        let tally = self.tally;
        let is_absent = |field: &FieldSeen| tally.is_absent_somewhere(field);
        let Some(remembered) = self.remembered else {
            return !self.is_complete || tally.fields().iter().any(is_absent);
        };
        let is_as_remembered = |field: &Field| {
            is_reserved(&field.name)
                || tally.field(&field.name).is_some_and(|seen| {
                    !tally.is_absent_somewhere(seen) && seen.seen.fits(&field.record_type)
                })
        };
        let is_known = |field: &FieldSeen| remembered.fields.iter().any(|known| known.name == field.name);
        let is_unseen = |field: &Field| !is_reserved(&field.name) && tally.field(&field.name).is_none();
        // Where a sample is as remembered, the rest is believed to be so too.
        let is_believed = self.is_complete
            || (remembered.fields.iter().all(is_as_remembered) && tally.fields().iter().all(is_known));
        remembered.presence
            || !is_believed
            || remembered.fields.iter().any(is_unseen)
            || tally.fields().iter().any(is_absent)
    }
}

/// Whether Firestore keeps the name to itself, so that no document has such a field.
fn is_reserved(name: &str) -> bool {
    name.len() >= 4 && name.starts_with("__") && name.ends_with("__")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use gcloud_sdk::google::firestore::v1::Value;
    use gcloud_sdk::google::firestore::v1::value::ValueType;

    use super::*;

    fn tally(documents: &[&[(&str, ValueType)]]) -> Tally {
        let mut tally = Tally::default();
        for (number, document) in (1..).zip(documents) {
            let fields: HashMap<String, Value> = document
                .iter()
                .map(|(name, value)| {
                    let value = Value {
                        value_type: Some(value.clone()),
                    };
                    ((*name).to_owned(), value)
                })
                .collect();
            tally.observe(&format!("c/{number}"), &fields).unwrap();
        }
        tally
    }

    fn text(text: &str) -> ValueType {
        ValueType::StringValue(text.to_owned())
    }

    fn integer(number: i64) -> ValueType {
        ValueType::IntegerValue(number)
    }

    fn remembered(fields: &[Field], key: &[&str], presence: bool) -> Remembered {
        Remembered {
            fields: fields.to_vec(),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            presence,
        }
    }

    /// The shape in one line: fields with `?` for nullable, key, and whether fields may be absent.
    fn shape(
        name: &str,
        tally: &Tally,
        is_complete: bool,
        remembered: Option<&Remembered>,
        path_field: bool,
    ) -> String {
        let pattern = Pattern::parse(name).unwrap();
        let shape = Material {
            pattern: &pattern,
            tally,
            is_complete,
            remembered,
            path_field,
        }
        .shape();
        shape.schema.validate().unwrap();
        let field = |field: &Field| {
            let null = if field.nullable { "?" } else { "" };
            format!("{} {}{null}", field.name, field.record_type)
        };
        let fields: Vec<String> = shape.schema.fields.iter().map(field).collect();
        let presence = if shape.schema.presence { " +presence" } else { "" };
        format!("{} [{}]{presence}", fields.join(", "), shape.key.join(", "))
    }

    #[test]
    fn the_ids_on_the_path_come_first() {
        let tally = tally(&[&[("a", integer(1))]]);
        assert_eq!(
            shape("users/*/orders", &tally, true, None, false),
            "__users_id__ text, __id__ text, a int64 [__users_id__, __id__]"
        );
        assert_eq!(
            shape("users", &tally, true, None, true),
            "__id__ text, __path__ text, a int64 [__id__]"
        );
        assert_eq!(
            shape("**/users", &tally, true, None, true),
            "__path__ text, a int64 [__path__]"
        );
    }

    #[test]
    fn what_was_not_looked_at_may_be_null_or_absent() {
        let tally = tally(&[&[("a", integer(1))]]);
        assert_eq!(
            shape("c", &tally, false, None, false),
            "__id__ text, a int64? [__id__] +presence"
        );
    }

    #[test]
    fn a_remembered_key_stands_for_the_ids_on_the_path() {
        let tally = tally(&[&[
            ("id", integer(1)),
            ("day", text("2024-02-29")),
            ("new", integer(1)),
        ]]);
        let fields = [
            Field::new("day", RecordType::Date),
            Field::required("id", RecordType::Int { bits: 32 }),
        ];
        let own = remembered(&fields, &["id"], false);
        assert_eq!(
            shape("c", &tally, true, Some(&own), false),
            "day date?, id int32, new int64 [id]"
        );
        assert_eq!(
            shape("c", &tally, true, Some(&own), true),
            "__path__ text, day date?, id int32, new int64 [id]"
        );
        // With the path's own fields among those remembered, they stand where they stood.
        let fields = [
            Field::new("day", RecordType::Date),
            Field::required("__id__", RecordType::Text),
            Field::required("__path__", RecordType::Text),
        ];
        let own = remembered(&fields, &["__id__"], true);
        assert_eq!(
            shape("c", &tally, true, Some(&own), true),
            "day date?, __id__ text, __path__ text, id int64, new int64 [__id__] +presence"
        );
    }

    #[test]
    fn a_key_that_does_not_hold_is_none() {
        let fields = [Field::required("id", RecordType::INT64)];
        let own = remembered(&fields, &["id"], false);
        let plain = "__id__ text, id int64? [__id__]";
        let null = tally(&[&[("id", integer(1))], &[("id", ValueType::NullValue(0))]]);
        assert_eq!(shape("c", &null, true, Some(&own), false), plain);
        let absent = tally(&[&[("id", integer(1))], &[]]);
        assert_eq!(
            shape("c", &absent, true, Some(&own), false),
            format!("{plain} +presence")
        );
        let other = tally(&[&[("id", text("a"))]]);
        assert_eq!(
            shape("c", &other, true, Some(&own), false),
            "__id__ text, id text [__id__]"
        );
        // Another document has the same key as its neighbour, under an id of its own.
        let twice = tally(&[&[("id", integer(1))], &[("id", integer(1))]]);
        assert_eq!(
            shape("c", &twice, true, Some(&own), false),
            "__id__ text, id int64 [__id__]"
        );
        // Fields of another path, which no document of this one can have.
        let fields = [
            Field::required("__users_id__", RecordType::Text),
            Field::new("a", RecordType::Date),
        ];
        let own = remembered(&fields, &["__users_id__"], false);
        assert_eq!(
            shape("c", &tally(&[&[("a", text("x"))]]), true, Some(&own), false),
            "__id__ text, a date? [__id__]"
        );
    }

    #[test]
    fn remembered_fields_that_no_document_has_stay() {
        let fields = [
            Field::required("day", RecordType::Date),
            Field::new("note", RecordType::Text),
        ];
        let own = remembered(&fields, &["__id__"], true);
        assert_eq!(
            shape("c", &tally(&[&[("note", text(""))]]), true, Some(&own), false),
            "__id__ text, day date?, note text? [__id__] +presence"
        );
        let own = remembered(&fields, &["__id__"], false);
        assert_eq!(
            shape("c", &tally(&[&[("note", text(""))]]), true, Some(&own), false),
            "__id__ text, day date?, note text? [__id__] +presence"
        );
    }

    #[test]
    fn a_sample_that_is_as_remembered_is_believed_and_no_other() {
        let fields = [
            Field::required("id", RecordType::INT64),
            Field::required("day", RecordType::Date),
        ];
        let own = remembered(&fields, &["id"], false);
        let fits = tally(&[&[("id", integer(1)), ("day", text("2024-02-29"))]]);
        assert_eq!(
            shape("c", &fits, false, Some(&own), false),
            "id int64, day date [id]"
        );
        let more = tally(&[&[("id", integer(1)), ("day", text("2024-02-29")), ("x", integer(1))]]);
        assert_eq!(
            shape("c", &more, false, Some(&own), false),
            "id int64, day date, x int64? [id] +presence"
        );
        let misfit = tally(&[&[("id", integer(1)), ("day", integer(1))]]);
        assert_eq!(
            shape("c", &misfit, false, Some(&own), false),
            "id int64, day int64? [id] +presence"
        );
    }
}
