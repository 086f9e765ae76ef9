//! Configuration of a role: a struct of the plugin, its JSON Schema for the host, and reading it with the place
//! of each fault.
//!
//! The host validates against the schema first, so [`parse`] seldom fails; it still names the path when it does.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// What a config type must be: read by serde, described by schemars. Implemented for all such types.
///
/// Use `#[serde(deny_unknown_fields)]`, so that the schema refuses unknown keys, and doc comments on fields, which
/// become the reference table of the plugin's README.
pub trait Config: DeserializeOwned + JsonSchema + 'static {}

impl<T: DeserializeOwned + JsonSchema + 'static> Config for T {}

/// The JSON Schema of `C`, as a JSON value.
pub fn schema<C: Config>() -> serde_json::Value {
    schemars::schema_for!(C).to_value()
}

/// Reads `json` into `C`.
///
/// # Errors
/// `config.invalid`; its place is `config`.
pub fn parse<C: Config>(json: serde_json::Value) -> Result<C> {
    C::deserialize(json).map_err(|error| {
        // serde's texts quote the value it stumbled over, and a config may hold secrets: only its class is said.
        let what = match error.classify() {
            serde_json::error::Category::Data => "a key is missing, unknown or of the wrong type",
            _ => "it is not valid JSON",
        };
        Error::config(
            "config.invalid",
            format!("the plugin's config cannot be read: {what}"),
        )
        .with_place("config")
    })
}
