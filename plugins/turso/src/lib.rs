//! libSQL databases, files and servers, as source and sink.
//!
//! `sink` prepares tables (`prepare`) and fills them (`record_values`, over `encode`); `source` lists them (`catalog`) and
//! reads them (`read`, over `decode`; statements of others: `answer`). `type_mapping` says how each record type is stored, `column_memory` keeps what a
//! table cannot say of itself, `rest` what columns cannot hold. `location` tells a file (`local`, `write`) from a server
//! (`remote`); both are a `database` that is asked and a `session` that writes, opened by `client`. `lane` is what is durable
//! of a copy, `held_lanes` what a session knows of that, `process` who it is that writes a file. `names` is the one place that quotes.

mod answer;
mod assembly;
mod catalog;
mod client;
mod column_memory;
mod compare;
mod config;
mod database;
mod decode;
mod encode;
mod error;
mod held_lanes;
mod lane;
mod local;
mod location;
mod names;
mod place;
mod position;
mod prepare;
mod process;
mod query;
mod read;
mod record_values;
mod remote;
mod removal;
mod rest;
mod schema;
mod session;
mod sink;
mod source;
mod statement_text;
mod type_mapping;
mod write;
mod write_plan;

pub use config::{Absent, AuthToken, Synchronous, Tls, TursoConfig};
pub use sink::TursoSink;
pub use source::TursoSource;
pub use type_mapping::type_table;

whimbrel_plugin_api::export_plugin!(name: "turso", source: TursoSource, sink: TursoSink);
