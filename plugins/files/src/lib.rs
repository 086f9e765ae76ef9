//! The `files` plugin: NDJSON and JSON array files, plain and zstd, as source and sink.
//!
//! A folder is a system and each file in it a collection; a lone file is a system of one collection. What JSON cannot
//! say stands in a schema file beside the data, so that everything written is read back exactly; files that came
//! without one have their types inferred. The README is for operators, the modules for readers of the code:
//! [`config`], and then in the order of a record's way [`source`] and [`sink`].

mod clear;
pub mod config;
mod cursor;
mod error;
mod field_names;
mod file_name;
mod fit;
mod format;
mod framing;
mod growth;
mod inference;
mod kinds;
mod listing;
mod load;
mod look;
mod number;
mod prepare;
mod scan;
mod schema_file;
pub mod sink;
pub mod source;
mod stream;
mod survey;
mod type_mapping;
mod writer;

pub use config::{SinkConfig, SourceConfig};
pub use sink::FilesSink;
pub use source::FilesSource;

whimbrel_plugin_api::export_plugin!(name: "files", source: FilesSource, sink: FilesSink);
