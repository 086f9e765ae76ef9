//! Google Cloud Firestore as source and sink.
//!
//! `config` says which database and how it is treated, `client` speaks to it, with deadlines, bounded retries and a pace.
//! `path` knows the names of documents and the patterns that name collections. `value` turns documents into Arrow columns and
//! back. `discovery` finds collections, their fields and types; `source` reads over `read`; `sink` fills over `write`.
//! `memory` keeps what documents cannot say of themselves, `error` reads the statuses of the service.

mod check;
mod client;
mod config;
mod cost;
mod discovery;
#[cfg(test)]
#[path = "../../../tests/harness/firestore.rs"]
mod emulator;
mod error;
mod memory;
mod path;
mod read;
mod sink;
mod source;
mod value;
mod write;

pub use config::FirestoreConfig;
pub use sink::FirestoreSink;
pub use source::FirestoreSource;
pub use value::type_table;

whimbrel_plugin_api::export_plugin!(name: "firestore", source: FirestoreSource, sink: FirestoreSink);
