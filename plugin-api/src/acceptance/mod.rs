//! Suites that every connector's own tests run: [`source`], [`sink`], [`transform`] and [`notifier`]. Feature `acceptance`.
//!
//! A suite opens the plugin through the boundary, as a host does, and compares what it does with what it declares. Each
//! check has a name and passes, fails, or is skipped with the reason; what is skipped is a documented lack:
//!
//! ```ignore
//! let plugin = whimbrel_plugin_api::abi::root_module::local::<my_plugin::WhimbrelPlugin>();
//! let report = acceptance::source::run(plugin, SourceCase::new(config).expecting("todos", 3));
//! report.assert();
//! ```
//!
//! Neighbours: [`crate::abi`] (the boundary), [`values`] (what is written), [`losses`] (what may differ).

pub mod losses;
pub mod notifier;
mod notifier_checks;
mod notifier_life_checks;
mod notifier_target;
mod query_checks;
mod reading;
mod reading_checks;
pub mod records;
pub mod report;
pub mod sink;
mod sink_checks;
mod sink_fence_checks;
mod sink_flush_checks;
mod sink_lane_checks;
mod sink_remove_checks;
mod sink_target;
mod sink_value_checks;
pub mod source;
mod stream_checks;
pub mod transform;
pub mod values;

pub use notifier::{Delivered, NotifierCase};
pub use records::{Record, Value};
pub use report::{Check, Outcome, Report};
pub use sink::SinkCase;
pub use source::{ExpectedCollection, ExpectedQuery, SourceCase};
pub use transform::TransformCase;
