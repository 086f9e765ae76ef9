//! The way of a batch from source streams to sink sessions: bounded, overlapping, counted.
//!
//! Readers (one thread per partition in flight) push into links, transformers stand between two links, writers (one
//! thread per sink session) take from them.
//! Nothing flows back but receipts. Neighbours: [`crate::orchestrator`] starts it and decides what its end means.

pub mod budget;
pub mod copy;
pub mod counters;
mod dispatch;
mod held_back;
pub mod link;
pub mod outcomes;
pub mod pause;
pub mod reader;
mod retries;
pub mod staging;
mod totals;
mod transaction;
mod transformer;
pub mod writer;

pub use copy::{CopyTask, copy};
pub use counters::Counters;
pub use held_back::HeldBack;
pub use outcomes::Outcomes;
pub use transaction::TransactionRules;
