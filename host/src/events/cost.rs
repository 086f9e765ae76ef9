//! What reading a billed source costs, and asking a billed sink: of a plan, and of a run.
//! Not here: how it is worked out (`plan::cost`) and worded (`report`).

use serde::{Deserialize, Serialize};

/// What a run takes of a source that bills its reading. What retries take besides is in none of the numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CostEstimate {
    /// What is billed, in the plural, such as `document reads`.
    pub unit: String,
    /// US dollars for a million units.
    pub usd_per_million: f64,
    /// Units that a run may take; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units_max: Option<u64>,
    /// Units that the plan itself has taken; none in the report of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_units: Option<u64>,
    /// What these cost, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_usd: Option<f64>,
    /// Units that the run takes, from its start to its end.
    pub run_units: u64,
    /// What these cost, in US dollars.
    pub usd: f64,
    /// Of the run's units, those for describing collections that are not copied.
    pub other_units: u64,
    /// The collections, in the order of the plan.
    pub collections: Vec<CollectionCost>,
}

/// What a run takes of one collection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectionCost {
    /// In the source.
    pub collection: String,
    /// Units that the plan itself has taken; none in the report of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_units: Option<u64>,
    /// Units that finding out its fields takes.
    pub description_units: u64,
    /// Units that the search for records that point to nothing takes.
    pub search_units: u64,
    /// Units that the copy takes.
    pub copy_units: u64,
    /// Units that the verification takes.
    pub verification_units: u64,
    /// All of these together.
    pub run_units: u64,
    /// What they cost, in US dollars.
    pub usd: f64,
}

/// What a run takes of a sink that bills what it is asked: what is there, what a record would replace, what was written. Writing
/// itself is not in it, nor what retries take.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkCostEstimate {
    /// What is billed, in the plural, such as `document reads`.
    pub unit: String,
    /// US dollars for a million units.
    pub usd_per_million: f64,
    /// Units that a run may take; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units_max: Option<u64>,
    /// Units that the plan itself has taken; none in the report of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_units: Option<u64>,
    /// What these cost, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_usd: Option<f64>,
    /// Units that the run takes, from its start to its end.
    pub run_units: u64,
    /// What these cost, in US dollars.
    pub usd: f64,
    /// Whether that is the least that it takes, since nobody knows how many records the sink will hold.
    pub is_at_least: bool,
    /// Of the run's units, those for the check of the sink and for the run's own lane.
    pub other_units: u64,
    /// The collections, in the order of the plan.
    pub collections: Vec<SinkCollectionCost>,
}

/// What a run takes of one collection of the sink.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkCollectionCost {
    /// In the sink.
    pub collection: String,
    /// Units that the plan itself has taken; none in the report of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_units: Option<u64>,
    /// Units that looking at what is there before the copy takes, rules that hold before it included, and making room.
    pub preparation_units: u64,
    /// Units that the copy takes: its lanes, and what records would replace.
    pub copy_units: u64,
    /// Units that reading back takes: the verification, and rules that hold after the copy.
    pub verification_units: u64,
    /// All of these together.
    pub run_units: u64,
    /// What they cost, in US dollars.
    pub usd: f64,
    /// Whether that is the least that it takes.
    pub is_at_least: bool,
}
