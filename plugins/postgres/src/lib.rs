//! PostgreSQL databases, Supabase among them, as source and sink.
//!
//! `config` says where the database is, `client` opens connections to it, and `connection` is what one can do: text
//! queries, COPY out, COPY in. `catalog` reads what tables there are, `type_mapping` how each record type is stored, and
//! `codec` turns Arrow columns into rows of binary COPY and back. `source` reads over `read`; `sink` makes room with
//! `prepare`, fills tables with `write`, ends a load with `constraints` and empties with `clear`; `memory` and `rest` keep
//! what columns cannot, `lanes` what is durable. `names` is the one place that quotes, `error` the one that reads SQLSTATEs.

mod address;
mod announce;
mod catalog;
mod check;
mod clear;
mod client;
mod codec;
mod config;
mod connection;
mod constraints;
mod error;
mod lanes;
mod memory;
mod names;
mod prepare;
mod read;
mod rest;
#[cfg(test)]
#[path = "../../../tests/harness/postgres.rs"]
mod servers;
mod sink;
mod source;
mod statement_text;
mod supabase;
mod target;
mod tls;
mod type_mapping;
mod write;

pub use config::PostgresConfig;
pub use sink::PostgresSink;
pub use source::PostgresSource;
pub use type_mapping::type_table;

whimbrel_plugin_api::export_plugin!(name: "postgres", source: PostgresSource, sink: PostgresSink);
