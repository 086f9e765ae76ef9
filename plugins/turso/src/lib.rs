//! libSQL database files, as source and sink.
//!
//! `sink` prepares tables (`prepare`) and fills them (`write`, over `encode`); `source` lists them (`schema`) and reads
//! them (`read`, over `decode`). `type_mapping` says how each record type is stored, `column_memory` keeps what a table
//! cannot say of itself. `client` opens connections; `names` is the one place that quotes. Only local files:
//! remote databases are refused by `config`.

mod assembly;
mod catalog;
mod client;
mod column_memory;
mod compare;
mod config;
mod decode;
mod encode;
mod error;
mod names;
mod position;
mod prepare;
mod query;
mod read;
mod rest;
mod schema;
mod sink;
mod source;
mod type_mapping;
mod write;
mod write_plan;

pub use config::{Synchronous, TursoConfig};
pub use sink::TursoSink;
pub use source::TursoSource;
pub use type_mapping::type_table;

whimbrel_plugin_api::export_plugin!(name: "turso", source: TursoSource, sink: TursoSink);
