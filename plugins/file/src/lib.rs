//! The `file` plugin: a notifier that writes each notification as a line of a file.
//!
//! A line is appended under a lock and synced before the receipt is given, so that several processes may share the file
//! and a receipt survives a power cut. The README is for operators; the code is best read from [`notifier`] to `appender`.

mod appender;
pub mod config;
mod error;
mod findings;
mod line;
pub mod notifier;
mod rotation;
mod seen;

pub use config::NotifierConfig;
pub use notifier::FileNotifier;

whimbrel_plugin_api::export_plugin!(name: "file", notifier: FileNotifier);
