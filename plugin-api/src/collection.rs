//! A collection: a named set of records with one schema, as a source announces it.
//!
//! Neighbours: [`crate::source::Source::collections`] makes them, [`crate::sink::Sink::prepare`] receives them.

use serde::{Deserialize, Serialize};

use crate::capability::Loss;
use crate::record_type::Schema;

/// What a source says of one collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Collection {
    /// Its name, unique within the source, exactly as the source spells it.
    pub name: String,
    /// Its fields.
    pub schema: Schema,
    /// The fields that tell its records apart, in order; empty if there is no key.
    #[serde(default)]
    pub key: Vec<String>,
    /// The fields that point to records of other collections.
    #[serde(default)]
    pub references: Vec<Reference>,
    /// How much there is, as far as it is known without reading everything.
    #[serde(default)]
    pub estimate: Estimate,
    /// Fields that grow with each change, usable for incremental reading.
    #[serde(default)]
    pub cursor_fields: Vec<String>,
    /// What reading already loses, per field.
    #[serde(default)]
    pub losses: Vec<FieldLoss>,
    /// What reading it costs, where the system bills it; `None` where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Whether it may have records that are hidden from whoever reads it, as the row-level security of a database does: that a record
    /// was not delivered does not mean that it is not there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hides_records: bool,
    /// Whether its parts and cursors hold within one snapshot only, as the places of records in a file do: a read goes on at a cursor
    /// under the snapshot that gave it out and nowhere else, so that a later run cannot go on in the middle.
    #[serde(default, skip_serializing_if = "is_false")]
    pub within_snapshot: bool,
}

impl Collection {
    /// A collection without key, references or estimate.
    pub fn new(name: impl Into<String>, schema: Schema) -> Self {
        Self {
            name: name.into(),
            schema,
            key: Vec::new(),
            references: Vec::new(),
            estimate: Estimate::default(),
            cursor_fields: Vec::new(),
            losses: Vec::new(),
            cost: None,
            hides_records: false,
            within_snapshot: false,
        }
    }

    /// Names the key fields.
    #[must_use]
    pub fn with_key<S: Into<String>>(mut self, key: impl IntoIterator<Item = S>) -> Self {
        self.key = key.into_iter().map(Into::into).collect();
        self
    }

    /// States how many records there are.
    #[must_use]
    pub fn with_record_count(mut self, records: u64) -> Self {
        self.estimate.record_count = Some(records);
        self
    }
}

/// A field, or several together, whose values are keys of another collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The fields that point.
    pub fields: Vec<String>,
    /// The collection pointed to.
    pub collection: String,
    /// Its fields, in the order of `fields`; empty means its key.
    #[serde(default)]
    pub to_fields: Vec<String>,
    /// The source itself sees to it that every record pointed to is there, as a database does with a foreign key that it has
    /// checked. Of other references the host looks for records that point to nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_enforced: bool,
}

/// How much a collection holds; every number may be unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Records.
    #[serde(default)]
    pub record_count: Option<u64>,
    /// Octets as the source stores them.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Whether `record_count` was counted rather than guessed.
    #[serde(default)]
    pub exact: bool,
}

/// What a billed system charges for looking at a collection, counted in its own units. The host makes the price of a plan from it,
/// and multiplies by how often a run reads: what is tried again is not in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// What is billed, in the plural, such as `document reads`.
    pub unit: String,
    /// Its share of the units that the call of `collections` took which gives this answer: the shares of an answer add up to the
    /// whole. Asking again takes as many.
    pub description_units: u64,
    /// Units that reading all of it once takes.
    pub read_units: u64,
    /// Units that counting it takes; 0 if [`crate::Source::count`] will not count it.
    pub count_units: u64,
    /// US dollars for a million units.
    pub usd_per_million: f64,
    /// Units that the plugin's config allows one run to take; without a limit if absent. A run that would take more is refused before
    /// it begins.
    pub units_max: Option<u64>,
}

/// A declared loss of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldLoss {
    /// The field.
    pub field: String,
    /// What happens to its values.
    pub loss: Loss,
}

/// Which collections a source is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionsRequest {
    /// Only these names; empty means all. Names that do not exist are left out of the answer, also those that could not exist:
    /// a text of a job that looks like a pattern may be a name.
    #[serde(default)]
    pub names: Vec<String>,
    /// Whether schemas are wanted. Without it a source may answer with empty schemas, cheaply; a collection with fields counts as
    /// described, key, references and estimate included.
    #[serde(default = "yes")]
    pub schemas: bool,
}

impl CollectionsRequest {
    /// Asks for the collection called `name`, with its schema.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            names: vec![name.into()],
            schemas: true,
        }
    }

    /// Whether the collection called `name` is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}

impl Default for CollectionsRequest {
    /// All collections, with their schemas.
    fn default() -> Self {
        Self {
            names: Vec::new(),
            schemas: true,
        }
    }
}

const fn yes() -> bool {
    true
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_knows_of_no_cost_announces_none() {
        let older = r#"{ "name": "a", "schema": { "fields": [] }, "key": ["id"] }"#;
        let collection: Collection = serde_json::from_str(older).unwrap();
        assert_eq!((collection.key, collection.cost), (vec!["id".to_owned()], None));
    }

    #[test]
    fn parts_and_cursors_hold_for_ever_unless_it_is_said() {
        let older = r#"{ "name": "a", "schema": { "fields": [] } }"#;
        let mut collection: Collection = serde_json::from_str(older).unwrap();
        assert!(!collection.within_snapshot);
        assert!(!serde_json::to_string(&collection).unwrap().contains("within"));
        collection.within_snapshot = true;
        let text = serde_json::to_string(&collection).unwrap();
        assert_eq!(serde_json::from_str::<Collection>(&text).unwrap(), collection);
    }

    #[test]
    fn a_cost_travels_and_may_say_less_or_more_than_is_known() {
        let text =
            r#"{ "unit": "reads", "read_units": 3, "count_units": 1, "written_by_a_newer_one": true }"#;
        let cost: Cost = serde_json::from_str(text).unwrap();
        let wanted = Cost {
            unit: "reads".to_owned(),
            read_units: 3,
            count_units: 1,
            ..Cost::default()
        };
        assert_eq!(cost, wanted);
        let mut collection = Collection::new("a", Schema::default());
        assert!(!serde_json::to_string(&collection).unwrap().contains("cost"));
        collection.cost = Some(cost);
        let text = serde_json::to_string(&collection).unwrap();
        assert_eq!(serde_json::from_str::<Collection>(&text).unwrap(), collection);
    }
}
