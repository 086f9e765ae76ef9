//! The contract between the whimbrel host and its plugins, and all that a plugin's author needs.
//!
//! whimbrel moves records from a **source** to a **sink**, through **transforms**, and tells **notifiers** how it went.
//! Each of these roles is played by a plugin: a shared library that the host finds by name and loads at run time. A plugin
//! depends on this crate and on nothing else of whimbrel; the crates whose types both must share ([`arrow_array`],
//! [`serde`], [`schemars`], ...) are re-exported here. `ABI.md` beside this crate is the contract in full.
//!
//! # A whole plugin
//!
//! With `crate-type = ["cdylib"]` and this crate as its only dependency, this file is a plugin. Built in release mode and
//! copied to a folder of plugins as `libwhimbrel_numbers.so`, it serves `source: { plugin: numbers, config: { records: 5 } }`.
//! `examples/minimal-source` is the same as a project.
//!
//! ```
//! use std::sync::Arc;
//!
//! use whimbrel_plugin_api::arrow_array::{Int64Array, RecordBatch};
//! use whimbrel_plugin_api::serde::Deserialize;
//! use whimbrel_plugin_api::source::BatchStream;
//! use whimbrel_plugin_api::{
//!     Batch, Collection, CollectionsRequest, Error, Field, OpenSource, ReadRequest, RecordStream, RecordType,
//!     Result, Schema, Services, Source, export_plugin, schemars,
//! };
//!
//! /// What a job writes below `config`.
//! #[derive(Deserialize, schemars::JsonSchema)]
//! #[serde(crate = "whimbrel_plugin_api::serde", deny_unknown_fields)]
//! #[schemars(crate = "whimbrel_plugin_api::schemars")]
//! struct NumbersConfig {
//!     /// How many records there are.
//!     records: u32,
//! }
//!
//! /// Counts from 0.
//! struct Numbers(NumbersConfig);
//!
//! impl OpenSource for Numbers {
//!     type Config = NumbersConfig;
//!
//!     fn open(config: NumbersConfig, _: Services) -> Result<Self> {
//!         Ok(Self(config))
//!     }
//! }
//!
//! impl Source for Numbers {
//!     fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>> {
//!         let schema = Schema::new(vec![Field::required("n", RecordType::INT64)]);
//!         let numbers = Collection::new("numbers", schema).with_key(["n"]);
//!         Ok(Vec::from_iter(request.wants("numbers").then_some(numbers)))
//!     }
//!
//!     fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
//!         let found = self
//!             .collections(&CollectionsRequest::named(&request.collection))?
//!             .pop();
//!         let numbers = found.ok_or_else(|| Error::no_collection(&request.collection))?;
//!         let schema = Arc::new(numbers.schema.select(&request.columns)?);
//!         let end = request.limit.unwrap_or(u64::MAX).min(self.0.records.into()) as i64;
//!         let step = request.batch.records_max;
//!         let batches = (0..end).step_by(step).map({
//!             let schema = Arc::clone(&schema);
//!             move |from| {
//!                 let column = Int64Array::from_iter_values(from..end.min(from + step as i64));
//!                 let records = RecordBatch::try_new(schema.to_arrow(), vec![Arc::new(column)])?;
//!                 Batch::new(Arc::clone(&schema), records)
//!             }
//!         });
//!         Ok(Box::new(BatchStream::new(schema, batches)))
//!     }
//! }
//!
//! export_plugin!(name: "numbers", source: Numbers);
//! ```
//!
//! # The roles
//!
//! | role | opened by | then |
//! |---|---|---|
//! | source | [`OpenSource`] | [`Source`], whose `read` gives a [`RecordStream`] of [`Item`]s |
//! | sink | [`OpenSink`] | [`Sink`]; `write` is accepted, `commit` is durable |
//! | transform | [`OpenTransform`] | [`Transform`] |
//! | notifier | [`OpenNotifier`] | [`Notifier`] |
//!
//! Few methods are required; the others say in their defaults that the plugin does not offer them. What a plugin offers it
//! declares as data ([`SourceCapabilities`], [`SinkCapabilities`], [`TypeMapping`]), and the suites of feature `acceptance`
//! test what it declares.
//!
//! # What the host promises
//!
//! - The config was checked against the JSON Schema of the config type before `open` is called.
//! - One object (an opened source, a stream, a session of a sink, ...) is called by one thread at a time, and calls never
//!   overlap. A stream lives on without its source and may be called at the same time as it.
//! - Whatever was opened is closed by dropping it, also after an error. Nothing is called after [`Item::End`] or an error
//!   of a stream, and after an error of scope [`ErrorScope::Session`] an object is only closed.
//! - A batch may be written twice, after a failure; a batch is never written under a schema that it does not follow.
//! - A library is never unloaded, and plugins that were built with other versions of Arrow work side by side.
//!
//! # Threads, waiting and the end
//!
//! Calls block. A plugin with an async client takes the feature `tokio`, which gives it a runtime of its own and a `block_on`
//! that ends when the host cancels. Everything else that takes long asks [`Services::check_cancelled`] between its steps.
//! A call that does not end on its own within the host's deadline is ended with its process.
//!
//! Whatever a plugin would print belongs in [`Services::log`]; what it prints all the same is taken for its log.
//!
//! # Errors
//!
//! Every call returns [`Result`]. An [`Error`] has a kind, from which the host derives whether to try again, a stable code,
//! a message for a person without record values and secrets, and a scope that says how much it has spoilt. A panic is a defect
//! but no disaster: it becomes an error with its message and place, and the object answers nothing from then on.
//! That needs unwinding, so [`export_plugin!`] refuses to compile with `panic = "abort"`.

pub mod abi;
#[cfg(feature = "acceptance")]
pub mod acceptance;
pub mod batch;
pub mod capability;
pub mod check;
pub mod collection;
pub mod config;
pub mod cursor;
pub mod docs;
pub mod error;
mod error_form;
pub mod export;
pub mod json_form;
pub mod manifest;
pub mod notifier;
pub mod partition;
pub mod record_type;
#[cfg(feature = "tokio")]
pub mod runtime;
pub mod services;
pub mod sink;
pub mod source;
pub mod text_form;
pub mod transform;

pub use batch::{Batch, BatchFacts};
pub use capability::{
    Atomicity, Loss, NotifierCapabilities, SinkCapabilities, SourceCapabilities, TypeMapping,
};
pub use check::{Finding, FindingLevel};
pub use collection::{Collection, CollectionsRequest, Cost};
pub use cursor::Cursor;
pub use error::{Error, ErrorKind, ErrorScope, ErrorSeverity, Result};
pub use notifier::{Notification, NotificationReceipt, Notifier, OpenNotifier, Severity};
pub use partition::{Partition, PartitionsRequest};
pub use record_type::{Field, RecordType, Schema};
pub use services::{CancelToken, LogLevel, Services};
pub use sink::{ConflictPolicy, OpenSink, Receipt, Sink};
pub use source::{Item, OpenSource, ReadRequest, RecordStream, RejectedRecord, Source};
pub use transform::{OpenTransform, Transform};

pub use {arrow_array, arrow_buffer, arrow_schema, arrow_select, schemars, serde, serde_json};
