//! The plugin `local-storage`: reads a browser's `localStorage`, from JSON exports and from profiles of Chromium and Firefox.
//!
//! `export_file` reads the four forms of export, and `profile` makes one of a browser's files. `grouping` turns keys into
//! collections (`refusal` says which entries are not delivered), `inference` with `numbers` finds the type of each field,
//! `stream` builds the batches, and `source` joins them. `json_text`, `arena` and `names` are their tools.
//! What it reads and by which rules stands in the README.

mod arena;
pub mod config;
mod error;
mod export_file;
mod grouping;
mod inference;
mod json_text;
mod names;
mod numbers;
mod profile;
mod refusal;
pub mod source;
mod stream;

pub use config::LocalStorageConfig;
pub use source::LocalStorage;

whimbrel_plugin_api::export_plugin!(name: "local-storage", source: LocalStorage);
