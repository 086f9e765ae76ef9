//! From rows of Arrow columns to documents.
//!
//! An [`Encoder`] looks at a batch once: which columns are fields, which make the path, which names Firestore refuses. After
//! that a row costs its values. Neighbours: `cell` makes the values, `document_id` judges ids; `write::limits` looks at the whole
//! document.

use std::collections::HashMap;

use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, BinaryArray};
use gcloud_sdk::google::firestore::v1::Value;
use whimbrel_plugin_api::record_type::PRESENCE_COLUMN;
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{Batch, Error, Result};

use crate::error::RowFault;
use crate::path::{PATH_FIELD, Pattern, Root};

use super::cell::Cell;
use super::document_id::{id_fault, id_part, is_document_path, is_reserved};

/// Where the records of a collection go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    /// The collection.
    pub(crate) pattern: Pattern,
    /// The key fields, in order: parents first. As many as the pattern has documents on its way, its own included; one more or
    /// fewer only for a root collection, whose id is then made of all of them.
    pub(crate) key: Vec<String>,
}

/// Makes documents of the rows of one batch.
#[derive(Debug)]
pub(crate) struct Encoder {
    root: Root,
    pattern: Pattern,
    key: Vec<KeyPart>,
    columns: Vec<Column>,
    presence: Option<BinaryArray>,
}

/// A key field, which is a part of the path.
#[derive(Debug)]
struct KeyPart {
    name: String,
    values: TextEncoder,
}

/// A field of the documents.
#[derive(Debug)]
struct Column {
    /// Its place in the schema.
    index: usize,
    name: String,
    cell: Cell,
    kept: Kept,
}

/// How a field is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// In the document.
    InDocument,
    /// In the document's path, if it is the same; else nowhere.
    AsPath,
    /// Nowhere: Firestore does not take its name.
    Refused,
}

impl Encoder {
    /// Looks at the batch once. Key fields whose names Firestore keeps to itself (`__id__`) are in the path alone, and so is
    /// [`PATH_FIELD`]; other key fields are fields of the document as well.
    ///
    /// # Errors
    /// `text_form.nested_type` if a key field is of a type that has no text form; `plugin.internal` if the key is not one for
    /// the pattern, or the batch is not as its schema says.
    pub(crate) fn new(batch: &Batch, place: &Place, root: &Root) -> Result<Self> {
        let is_of_pattern = match &place.pattern {
            Pattern::Nested(ids) => place.key.len() == ids.len() || (ids.len() == 1 && !place.key.is_empty()),
            Pattern::Group(_) => place.key.len() == 1,
        };
        if !is_of_pattern {
            return Err(Error::internal(format!(
                "a key of {} fields names no document of `{}`",
                place.key.len(),
                place.pattern
            )));
        }
        let fields = || batch.schema.fields.iter().zip(batch.records.columns());
        let key = place.key.iter().map(|name| {
            let (field, array) = fields()
                .find(|(field, _)| field.name == *name)
                .ok_or_else(|| Error::internal(format!("a batch has no key field `{name}`")))?;
            Ok(KeyPart {
                name: name.clone(),
                values: TextEncoder::new(&field.record_type, array)?,
            })
        });
        let key = key.collect::<Result<_>>()?;
        let mut columns = Vec::with_capacity(batch.schema.fields.len());
        for (index, (field, array)) in fields().enumerate() {
            let is_reserved = is_reserved(&field.name);
            if is_reserved && place.key.contains(&field.name) {
                continue;
            }
            columns.push(Column {
                index,
                name: field.name.clone(),
                cell: Cell::new(&field.record_type, array)?,
                kept: match field.name.as_str() {
                    PATH_FIELD => Kept::AsPath,
                    name if is_reserved || name.is_empty() => Kept::Refused,
                    _ => Kept::InDocument,
                },
            });
        }
        Ok(Self {
            root: root.clone(),
            pattern: place.pattern.clone(),
            key,
            columns,
            presence: presence_of(batch)?,
        })
    }

    /// The path of the document of `row`.
    ///
    /// # Errors
    /// `firestore.key_null`, `firestore.bad_id` for an id that Firestore does not take.
    pub(crate) fn path(&self, row: usize) -> Result<String, RowFault> {
        let mut path = String::new();
        let Pattern::Nested(ids) = &self.pattern else {
            return self.group_path(row);
        };
        if ids.len() != self.key.len() {
            path.push_str(&ids[0]);
            path.push('/');
            self.joined_id(row, &mut path)?;
            return Ok(path);
        }
        for (id, part) in ids.iter().zip(&self.key) {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(id);
            path.push('/');
            let start = path.len();
            part.write(row, &mut path)?;
            if let Some(why) = id_fault(&path[start..]) {
                return Err(bad_id(&format!("the key field `{}`", part.name), why));
            }
        }
        Ok(path)
    }

    /// The fields of the document of `row`; those that the record does not have are left out.
    ///
    /// # Errors
    /// `firestore.bad_value`, `firestore.array_in_array`, `firestore.bad_field_name`, `firestore.too_deep` for what Firestore
    /// has no value for; not the limits, which `write::limits` knows.
    pub(crate) fn fields(&self, row: usize) -> Result<HashMap<String, Value>, RowFault> {
        let mask = self.presence.as_ref().map(|presence| presence.value(row));
        let mut fields = HashMap::with_capacity(self.columns.len());
        for column in &self.columns {
            if mask.is_some_and(|mask| mask[column.index / 8] >> (column.index % 8) & 1 == 0) {
                continue;
            }
            match column.kept {
                Kept::InDocument => {
                    let value = column.cell.value(row, &self.root);
                    let value = value.map_err(|unfit| unfit.of(&column.name))?;
                    fields.insert(column.name.clone(), value);
                }
                Kept::AsPath if column.cell.is_text(row, &self.path(row)?) => {}
                Kept::AsPath => {
                    return Err(RowFault::new(
                        "firestore.bad_field_name",
                        format!("the field `{PATH_FIELD}` is not the path of the record's document"),
                    ));
                }
                Kept::Refused => {
                    return Err(RowFault::new(
                        "firestore.bad_field_name",
                        format!(
                            "the field `{}` has a name that is empty or reserved (`__..__`)",
                            column.name
                        ),
                    ));
                }
            }
        }
        Ok(fields)
    }

    /// The id of a root collection's document whose key has several fields.
    fn joined_id(&self, row: usize, path: &mut String) -> Result<(), RowFault> {
        let start = path.len();
        let mut text = String::new();
        for (index, part) in self.key.iter().enumerate() {
            if index > 0 {
                path.push(':');
            }
            text.clear();
            part.write(row, &mut text)?;
            path.push_str(&id_part(&text));
        }
        id_fault(&path[start..]).map_or(Ok(()), |why| {
            Err(bad_id("the id that is made of the key fields", why))
        })
    }

    /// The path of a document of a group, which is its key.
    fn group_path(&self, row: usize) -> Result<String, RowFault> {
        let mut path = String::new();
        for part in &self.key {
            part.write(row, &mut path)?;
        }
        if is_document_path(&path) && self.pattern.contains(&path) {
            Ok(path)
        } else {
            Err(bad_id(
                "the key",
                &format!("is not the path of a document of `{}`", self.pattern),
            ))
        }
    }
}

impl KeyPart {
    fn write(&self, row: usize, out: &mut String) -> Result<(), RowFault> {
        if self.values.is_null(row) {
            return Err(RowFault::new(
                "firestore.key_null",
                format!("the key field `{}` is null", self.name),
            ));
        }
        self.values.write(row, out);
        Ok(())
    }
}

fn bad_id(what: &str, why: &str) -> RowFault {
    RowFault::new(
        "firestore.bad_id",
        format!("{what} {why}, which no document id may be"),
    )
}

/// The presence masks, each long enough for all fields.
fn presence_of(batch: &Batch) -> Result<Option<BinaryArray>> {
    if !batch.schema.presence {
        return Ok(None);
    }
    let width = batch.schema.fields.len().div_ceil(8);
    let masks: Option<&ArrayRef> = batch.records.columns().last();
    match masks.and_then(|masks| masks.as_binary_opt::<i32>()) {
        Some(masks) if masks.offsets().lengths().all(|len| len >= width) => Ok(Some(masks.clone())),
        _ => Err(Error::internal(format!(
            "the column `{PRESENCE_COLUMN}` is not a binary column with masks of {width} octets"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gcloud_sdk::google::firestore::v1::value::ValueType;
    use std::sync::Arc;
    use whimbrel_plugin_api::acceptance::records::batch;
    use whimbrel_plugin_api::acceptance::{Record, Value as Plain};
    use whimbrel_plugin_api::{Field, RecordType, Schema};

    fn place(pattern: &str, key: &[&str]) -> Place {
        Place {
            pattern: Pattern::parse(pattern).unwrap(),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn encoder(pattern: &str, key: &[&str], fields: Vec<(Field, Plain)>) -> Encoder {
        encoder_of(pattern, key, fields, false)
    }

    fn encoder_of(pattern: &str, key: &[&str], fields: Vec<(Field, Plain)>, presence: bool) -> Encoder {
        let row: Record = fields
            .iter()
            .map(|(field, value)| (field.name.clone(), value.clone()))
            .collect();
        let mut schema = Schema::new(fields.into_iter().map(|(field, _)| field).collect());
        schema.presence = presence;
        let batch = batch(&Arc::new(schema), &[row]).unwrap();
        Encoder::new(&batch, &place(pattern, key), &Root::new("p", "d")).unwrap()
    }

    fn texts(fields: &[(&str, &str)]) -> Vec<(Field, Plain)> {
        fields
            .iter()
            .map(|(name, value)| (Field::new(*name, RecordType::Text), Plain::text(*value)))
            .collect()
    }

    fn names(encoder: &Encoder) -> Vec<String> {
        let mut names: Vec<String> = encoder.fields(0).unwrap().into_keys().collect();
        names.sort();
        names
    }

    #[test]
    fn keys_become_paths() {
        let fields = texts(&[("__users_id__", "ann"), ("__id__", "7"), ("total", "x")]);
        let nested = encoder("users/*/orders", &["__users_id__", "__id__"], fields.clone());
        assert_eq!(nested.path(0).unwrap(), "users/ann/orders/7");
        assert_eq!(names(&nested), ["total"]);
        let joined = encoder("orders", &["__users_id__", "__id__"], fields);
        assert_eq!(joined.path(0).unwrap(), "orders/ann:7");
        assert_eq!(names(&joined), ["total"]);
        let own = encoder("todos", &["a"], texts(&[("a", "x:y%z")]));
        assert_eq!(own.path(0).unwrap(), "todos/x:y%z");
        assert_eq!(names(&own), ["a"]);
        let parts = encoder("todos", &["a", "b"], texts(&[("b", ""), ("a", "x:y/%z")]));
        assert_eq!(parts.path(0).unwrap(), "todos/x%3Ay%2F%25z:");
        let group = encoder(
            "**/orders",
            &["__path__"],
            texts(&[("__path__", "users/ann/orders/7")]),
        );
        assert_eq!(group.path(0).unwrap(), "users/ann/orders/7");
        assert!(names(&group).is_empty());
        let day = Field::new("day", RecordType::Date);
        assert_eq!(
            encoder("days", &["day"], vec![(day, Plain::Int(0))])
                .path(0)
                .unwrap(),
            "days/1970-01-01"
        );
    }

    #[test]
    fn keys_that_are_no_ids_are_faults_that_name_the_field() {
        for (id, why) in [
            ("", "is empty"),
            (".", "is `.` or `..`"),
            ("..", "is `.` or `..`"),
            ("a/b", "contains `/`"),
            ("__a__", "is reserved (`__..__`)"),
            (&"x".repeat(1_501), "is longer than 1,500 octets"),
        ] {
            let fault = encoder("todos", &["a"], texts(&[("a", id)])).path(0).unwrap_err();
            assert_eq!(fault.code, "firestore.bad_id");
            assert_eq!(
                fault.message,
                format!("the key field `a` {why}, which no document id may be")
            );
            let parent = texts(&[("a", id), ("b", "x")]);
            let fault = encoder("x/*/y", &["a", "b"], parent).path(0).unwrap_err();
            assert_eq!(fault.code, "firestore.bad_id", "{id}");
        }
        for path in [
            "orders",
            "orders/1/x",
            "users/ann",
            "users//orders/1",
            "users/../orders/1",
        ] {
            let fault = encoder("**/orders", &["__path__"], texts(&[("__path__", path)])).path(0);
            assert_eq!(fault.unwrap_err().code, "firestore.bad_id", "{path}");
        }
        let long = "x".repeat(800);
        let fault = encoder("todos", &["a", "b"], texts(&[("a", &long), ("b", &long)])).path(0);
        assert_eq!(fault.unwrap_err().code, "firestore.bad_id");
        for key in [&["a"][..], &["a", "b"]] {
            let mut fields = texts(&[("a", ""), ("b", "x")]);
            fields[0].1 = Plain::Null;
            let fault = encoder("todos", key, fields).path(0).unwrap_err();
            assert_eq!(
                fault,
                RowFault::new("firestore.key_null", "the key field `a` is null")
            );
        }
    }

    #[test]
    fn a_key_that_names_no_document_is_refused() {
        let fields = texts(&[("a", "x"), ("b", "y"), ("c", "z")]);
        let schema = Schema::new(fields.iter().map(|(field, _)| field.clone()).collect());
        let row = fields
            .into_iter()
            .map(|(field, value)| (field.name, value))
            .collect();
        let batch = batch(&Arc::new(schema), &[row]).unwrap();
        for (pattern, key) in [
            ("x/*/y", &["a"][..]),
            ("x/*/y", &["a", "b", "c"]),
            ("**/x", &["a", "b"]),
            ("x", &[]),
            ("x", &["missing"]),
        ] {
            let error = Encoder::new(&batch, &place(pattern, key), &Root::new("p", "d")).unwrap_err();
            assert_eq!(error.code, "plugin.internal", "{pattern}");
        }
    }

    #[test]
    fn absent_fields_are_left_out_and_null_ones_are_null() {
        let field = |name: &str| Field::new(name, RecordType::Text);
        let fields = vec![
            (field("id"), Plain::text("1")),
            (field("absent"), Plain::Absent),
            (field("null"), Plain::Null),
        ];
        let fields = encoder_of("c", &["id"], fields, true).fields(0).unwrap();
        assert_eq!(fields.len(), 2);
        assert_eq!(fields["null"].value_type, Some(ValueType::NullValue(0)));
    }

    #[test]
    fn names_that_firestore_refuses_are_faults() {
        for name in ["", "__a__", "____", "__id__"] {
            let encoder = encoder("c", &["id"], texts(&[("id", "1"), (name, "x")]));
            assert_eq!(
                encoder.fields(0).unwrap_err().code,
                "firestore.bad_field_name",
                "{name}"
            );
            let absent = vec![
                (Field::new("id", RecordType::Text), Plain::text("1")),
                (Field::new(name, RecordType::Text), Plain::Absent),
            ];
            assert_eq!(names(&encoder_of("c", &["id"], absent, true)), ["id"]);
        }
        let member = RecordType::Struct {
            fields: vec![Field::new("__a__", RecordType::Text)],
        };
        let value = Plain::Struct(vec![Plain::Null]);
        let fields = vec![
            (Field::new("id", RecordType::Text), Plain::text("1")),
            (Field::new("map", member), value),
        ];
        assert_eq!(
            encoder("c", &["id"], fields).fields(0).unwrap_err().code,
            "firestore.bad_field_name"
        );
        // The path of the record itself says nothing new; that of another place would be lost.
        let own = encoder("c", &["id"], texts(&[("id", "1"), ("__path__", "c/1")]));
        assert_eq!(names(&own), ["id"]);
        let other = encoder("c", &["id"], texts(&[("id", "1"), ("__path__", "d/1")]));
        assert_eq!(other.fields(0).unwrap_err().code, "firestore.bad_field_name");
    }

    #[test]
    fn what_has_no_value_is_a_fault_without_the_value() {
        let nested = RecordType::list(RecordType::list(RecordType::INT64));
        let list = |items: Vec<Plain>| Plain::List(items);
        let point = |lat, lng| Plain::Struct(vec![Plain::float(lat), Plain::float(lng)]);
        for (record_type, value, code) in [
            (
                nested.clone(),
                list(vec![list(vec![])]),
                "firestore.array_in_array",
            ),
            (
                RecordType::list(RecordType::Json),
                list(vec![Plain::text("[]")]),
                "firestore.array_in_array",
            ),
            (RecordType::Geopoint, point(90.1, 0.0), "firestore.bad_value"),
            (RecordType::Geopoint, point(0.0, -180.1), "firestore.bad_value"),
            (RecordType::Geopoint, point(f64::NAN, 0.0), "firestore.bad_value"),
            (RecordType::Json, Plain::text("{"), "firestore.bad_value"),
        ] {
            let fields = vec![
                (Field::new("id", RecordType::Text), Plain::text("1")),
                (Field::new("field", record_type.clone()), value),
            ];
            let fault = encoder("c", &["id"], fields).fields(0).unwrap_err();
            assert_eq!(fault.code, code, "{record_type}");
            assert!(
                fault.message.starts_with("the field `field` holds "),
                "{}",
                fault.message
            );
        }
        // A list of lists that has none is an array of nulls.
        let fields = vec![
            (Field::new("id", RecordType::Text), Plain::text("1")),
            (Field::new("field", nested), list(vec![Plain::Null])),
        ];
        assert!(encoder("c", &["id"], fields).fields(0).is_ok());
    }
}
