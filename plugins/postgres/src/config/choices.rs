//! The choices of the config that are one word each.
//! Neighbour: `config`, whose table in the README shows their doc comments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands between here and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooler {
    /// the check finds out.
    #[default]
    Auto,
    /// a pooler that keeps a connection to the server for each client.
    Session,
    /// a pooler that may use another connection to the server for each transaction.
    Transaction,
    /// nothing.
    None,
}

/// How JSON is stored in new columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JsonStorage {
    /// as `jsonb`, which can be indexed; the order of keys and the spelling of numbers are lost.
    #[default]
    Jsonb,
    /// as `json`, to the letter.
    Json,
}

/// How arrays are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arrays {
    /// as lists; a record whose array has several dimensions or does not begin at 1 is rejected.
    #[default]
    List,
    /// as texts of their own type, whatever their dimensions.
    Text,
}

/// How numbers with a fixed number of digits are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Numeric {
    /// `numeric(12,2)` as a decimal number; a record with a NaN is rejected.
    #[default]
    Decimal,
    /// all of them as numbers of any length, NaN among them.
    Text,
}

/// What becomes of texts with a NUL character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nul {
    /// their records are rejected.
    #[default]
    Reject,
    /// the character is removed.
    Remove,
}

/// What becomes of tables whose row-level security hides records from whoever connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowSecurity {
    /// reading them is refused.
    #[default]
    Refuse,
    /// the records that may be seen are all that there is to a copy; a repair removes nothing for the others.
    VisibleOnly,
}

/// What becomes of fields that a record does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Absent {
    /// they are listed in `_whimbrel_rest`, a column that new tables get for this if the source tells absent from null.
    #[default]
    Keep,
    /// they become null, and no table gets a column for it.
    Null,
}
