//! What was seen of the fields of a collection's documents.
//!
//! A [`Tally`] looks at documents one by one, in the order of their names, and keeps a few octets per field, none per document.
//! Fields stand in the order in which they were first seen, those of one document by name, since the service gives the fields
//! of a document in no order; so the outcome depends on nothing but the documents. Neighbours: `value::kinds` (one field),
//! `shape` (from here to a schema).

use std::collections::HashMap;

use gcloud_sdk::google::firestore::v1::Value;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::record_type::PRESENCE_COLUMN;

use crate::path::Pattern;
use crate::value::Seen;

/// Fields of one collection that are told apart: far above what people design, and what a batch can still hold as columns. More
/// of them are the entries of a dictionary, which belong into a map.
pub(super) const FIELDS_MAX: usize = 1_500;

/// What was seen of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldSeen {
    pub(super) name: String,
    pub(super) seen: Seen,
    /// Documents that have it, be it as null.
    pub(super) record_count: u64,
    /// A bit for each document on the way, the outermost first: whether its id was always the value.
    same_ids: u64,
    /// Whether all values were texts and integers, whose text is known here.
    is_comparable: bool,
}

/// What was seen of the documents of a collection.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    fields: Vec<FieldSeen>,
    positions: HashMap<String, usize>,
    record_count: u64,
}

/// Why the documents of a collection are no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// They have more than [`FIELDS_MAX`] fields between them.
    TooManyFields,
    /// One of them has a field that is called like the presence column.
    ReservedName,
}

impl Refusal {
    /// As an error of the collection called `pattern`.
    pub(super) fn into_error(self, pattern: &Pattern) -> Error {
        match self {
            Self::TooManyFields => Error::invalid_data(
                "firestore.too_many_fields",
                format!("the documents of `{pattern}` have more than {FIELDS_MAX} fields between them"),
            )
            .with_help("name the other collections in the job; entries of a dictionary belong into a map field"),
            Self::ReservedName => Error::invalid_data(
                "firestore.reserved_field",
                format!(
                    "a document of `{pattern}` has the field `{PRESENCE_COLUMN}`, a name that batches keep for \
                     themselves"
                ),
            )
            .with_help("rename the field, or name the other collections in the job"),
        }
    }
}

impl Tally {
    /// Looks at the document at `path`. Returns the octets of field names that are new.
    ///
    /// # Errors
    /// The document has a field that no column can be made of; what was seen is then of no use.
    pub(super) fn observe(&mut self, path: &str, fields: &HashMap<String, Value>) -> Result<usize, Refusal> {
        self.record_count += 1;
        let ids: Vec<&str> = path.split('/').skip(1).step_by(2).collect();
        let mut new: Vec<(&String, &Value)> = Vec::new();
        for (name, value) in fields {
            match self.positions.get(name) {
                Some(position) => self.fields[*position].add(value, &ids),
                None => new.push((name, value)),
            }
        }
        if new.is_empty() {
            return Ok(0);
        }
        new.sort_unstable_by_key(|(name, _)| *name);
        let mut bytes = 0;
        for (name, value) in new {
            if name == PRESENCE_COLUMN {
                return Err(Refusal::ReservedName);
            }
            if self.fields.len() == FIELDS_MAX {
                return Err(Refusal::TooManyFields);
            }
            let mut field = FieldSeen {
                name: name.clone(),
                seen: Seen::default(),
                record_count: 0,
                same_ids: u64::MAX,
                is_comparable: true,
            };
            field.add(value, &ids);
            self.positions.insert(name.clone(), self.fields.len());
            self.fields.push(field);
            bytes += name.len();
        }
        Ok(bytes)
    }

    /// The fields, in the order in which they were first seen.
    pub(super) fn fields(&self) -> &[FieldSeen] {
        &self.fields
    }

    /// What was seen of the field called `name`.
    pub(super) fn field(&self, name: &str) -> Option<&FieldSeen> {
        self.positions.get(name).map(|position| &self.fields[*position])
    }

    /// Whether a document lacks `field`.
    pub(super) fn is_absent_somewhere(&self, field: &FieldSeen) -> bool {
        field.record_count < self.record_count
    }
}

impl FieldSeen {
    /// Whether its values may be what the ids of the documents at `position` on the way were made of. What has no plain text
    /// may always.
    pub(super) fn may_be_id(&self, position: usize) -> bool {
        !self.is_comparable || self.same_ids & bit(position) != 0
    }

    fn add(&mut self, value: &Value, ids: &[&str]) {
        self.seen.add(value);
        self.record_count += 1;
        if !self.is_comparable || self.same_ids == 0 {
            return;
        }
        let same = match &value.value_type {
            Some(ValueType::StringValue(text)) => positions(ids, text),
            Some(ValueType::IntegerValue(number)) => positions(ids, &number.to_string()),
            _ => {
                self.is_comparable = false;
                return;
            }
        };
        self.same_ids &= same;
    }
}

/// The positions at which `ids` have `text`.
fn positions(ids: &[&str], text: &str) -> u64 {
    let same = ids.iter().enumerate().filter(|(_, id)| **id == text);
    same.fold(0, |positions, (position, _)| positions | bit(position))
}

/// The service takes paths of 100 collections, half as many documents.
const fn bit(position: usize) -> u64 {
    1_u64.unbounded_shl(position as u32)
}

#[cfg(test)]
mod tests {
    use gcloud_sdk::google::firestore::v1::value::ValueType;

    use super::*;

    fn document(names: &[&str]) -> HashMap<String, Value> {
        let value = |number| Value {
            value_type: Some(ValueType::IntegerValue(number)),
        };
        (0..)
            .zip(names)
            .map(|(number, name)| ((*name).to_owned(), value(number)))
            .collect()
    }

    #[test]
    fn fields_stand_in_the_order_of_first_sight_and_by_name_within_a_document() {
        for _ in 0..20 {
            let mut tally = Tally::default();
            assert_eq!(tally.observe("c/1", &document(&["zeta", "b", "a"])), Ok(6));
            assert_eq!(tally.observe("c/1", &document(&[])), Ok(0));
            assert_eq!(tally.observe("c/1", &document(&["a", "n", "ä", "b", "A"])), Ok(4));
            let names: Vec<_> = tally.fields().iter().map(|field| field.name.as_str()).collect();
            assert_eq!(names, ["a", "b", "zeta", "A", "n", "ä"]);
            let counts: Vec<_> = tally.fields().iter().map(|field| field.record_count).collect();
            assert_eq!(counts, [2, 2, 1, 1, 1, 1]);
            assert_eq!(tally.record_count, 3);
            assert!(
                tally
                    .fields()
                    .iter()
                    .all(|field| tally.is_absent_somewhere(field))
            );
        }
    }

    #[test]
    fn a_dictionary_at_the_top_is_refused_with_the_collections_name() {
        let names: Vec<String> = (0..FIELDS_MAX).map(|number| format!("f{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut tally = Tally::default();
        tally.observe("c/1", &document(&names)).unwrap();
        assert_eq!(tally.observe("c/1", &document(&["f1"])), Ok(0));
        let refusal = tally.observe("c/1", &document(&["one more"])).unwrap_err();
        let error = refusal.into_error(&Pattern::parse("users/*/visits").unwrap());
        assert_eq!(error.code, "firestore.too_many_fields");
        assert!(error.message.contains("`users/*/visits`"), "{error}");
    }

    #[test]
    fn the_name_of_the_presence_column_is_refused() {
        assert_eq!(
            Tally::default().observe("c/1", &document(&["a", "__presence"])),
            Err(Refusal::ReservedName)
        );
    }

    #[test]
    fn values_that_are_the_ids_are_told_from_others() {
        let mut tally = Tally::default();
        let value = |value_type| Value {
            value_type: Some(value_type),
        };
        let document = |user: &str, number: i64, at: ValueType| {
            HashMap::from([
                ("user".to_owned(), value(ValueType::StringValue(user.to_owned()))),
                ("number".to_owned(), value(ValueType::IntegerValue(number))),
                ("at".to_owned(), value(at)),
            ])
        };
        let may_be = |tally: &Tally, name: &str| -> Vec<bool> {
            (0..2)
                .map(|position| tally.field(name).unwrap().may_be_id(position))
                .collect()
        };
        let first = document("7", 7, ValueType::BooleanValue(true));
        tally.observe("users/7/orders/7", &first).unwrap();
        assert_eq!(may_be(&tally, "user"), [true, true]);
        let second = document("8", -1, ValueType::IntegerValue(0));
        tally.observe("users/8/orders/-1", &second).unwrap();
        assert_eq!(may_be(&tally, "user"), [true, false]);
        assert_eq!(may_be(&tally, "number"), [false, true]);
        assert_eq!(may_be(&tally, "at"), [true, true]);
        let third = document("8", 1, ValueType::IntegerValue(0));
        tally.observe("users/8/orders/01", &third).unwrap();
        assert_eq!(may_be(&tally, "number"), [false, false]);
    }
}
