//! What a sink bills for besides being written.
//!
//! Neighbours: [`super::Sink::prepare`] announces it; [`crate::collection::Cost`] is the same of a source.

use serde::{Deserialize, Serialize};

use super::ConflictPolicy;

/// What a billed system charges for what a run asks it about a collection besides writing it, counted in its own units. The host
/// makes the price of a plan from it and multiplies by how often a run asks: what is tried again is not in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkCost {
    /// What is billed, in the plural, such as `document reads`.
    pub unit: String,
    /// US dollars for a million units.
    pub usd_per_million: f64,
    /// Units that the plugin's config allows one run to take; without a limit if absent. A run that would take more is refused before
    /// it begins.
    pub units_max: Option<u64>,
    /// Units that a call of [`super::Sink::check`] takes, of the sink as a whole; the same for each of its collections.
    pub check_units: u64,
    /// Units that this call of [`super::Sink::prepare`] took for the collection. With `dry`, asking again takes as many.
    pub preparation_units: u64,
    /// Units that a call of [`super::Sink::prepare`] takes for it which is not `dry` and not `again`.
    pub room_units: u64,
    /// Units that reading back all that it holds now takes; `None` if nobody knows.
    pub held_units: Option<u64>,
    /// Units of reading one record back, all together or by its key.
    pub record_units: u64,
    /// Units that reading back nothing takes, where there is nothing.
    pub nothing_units: u64,
    /// How many records the sink's reader counts for one unit, begun ones included; 0 if it will not count them.
    pub counted_per_unit: u64,
    /// Units of looking at what a record would replace, under each of `look_policies`.
    pub look_units: u64,
    /// The conflict policies under which each record is looked at before it is written.
    pub look_policies: Vec<ConflictPolicy>,
    /// Units of taking a lane over, and of the first transaction in a lane that another session has taken over.
    pub lane_units: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{PrepareReport, PrepareRequest, PreparedCollection};

    #[test]
    fn a_plugin_that_knows_of_no_cost_announces_none() {
        let older =
            r#"{ "collections": [{ "name": "a", "existed": true, "record_count": 3, "fields": [] }] }"#;
        let report: PrepareReport = serde_json::from_str(older).unwrap();
        assert_eq!(report.collections[0].cost, None);
        assert!(!serde_json::to_string(&report).unwrap().contains("cost"));
    }

    #[test]
    fn a_cost_travels_and_may_say_less_or_more_than_is_known() {
        let text = r#"{ "unit": "reads", "record_units": 1, "look_policies": ["skip", "keep-newest"], "newer": true }"#;
        let cost: SinkCost = serde_json::from_str(text).unwrap();
        let wanted = SinkCost {
            unit: "reads".to_owned(),
            record_units: 1,
            look_policies: vec![ConflictPolicy::Skip, ConflictPolicy::KeepNewest],
            ..SinkCost::default()
        };
        assert_eq!(cost, wanted);
        let prepared = PreparedCollection {
            cost: Some(cost),
            ..PreparedCollection::default()
        };
        let text = serde_json::to_string(&prepared).unwrap();
        assert_eq!(
            serde_json::from_str::<PreparedCollection>(&text).unwrap(),
            prepared
        );
    }

    #[test]
    fn a_request_says_again_only_if_it_is_one() {
        let older: PrepareRequest = serde_json::from_str(r#"{ "collections": [], "dry": true }"#).unwrap();
        assert!(older.dry && !older.again);
        assert!(!serde_json::to_string(&older).unwrap().contains("again"));
        let again = PrepareRequest { again: true, ..older };
        let text = serde_json::to_string(&again).unwrap();
        assert_eq!(serde_json::from_str::<PrepareRequest>(&text).unwrap(), again);
    }
}
