//! A plugin that does what a script in its config says, for tests of the host: source, sink and transform.
//!
//! Without a script it keeps the contract whole, and the acceptance suites say so. With one, it panics, fails, hangs, lies
//! or takes the process down at the named occurrence of the named call. Its records live in memory.

pub mod config;
mod script;
mod sink;
mod source;
mod store;
mod transform;

pub use config::{Call, How, Misbehaviour, ScriptedConfig};
pub use sink::ScriptedSink;
pub use source::ScriptedSource;
pub use transform::ScriptedTransform;

whimbrel_plugin_api::export_plugin!(
    name: "scripted",
    source: ScriptedSource,
    sink: ScriptedSink,
    transform: ScriptedTransform,
);
