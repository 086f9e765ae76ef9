//! The way of a batch from source streams to sink sessions: bounded, overlapping, counted.
//!
//! Readers (one thread per partition in flight) push into links, transformers stand between two links, writers (one
//! thread per sink session) take from them.
//! Nothing flows back but receipts. Neighbours: [`crate::orchestrator`] starts it and decides what its end means.

mod backoff;
pub mod breaker;
pub mod budget;
mod commit;
pub mod concurrency;
pub mod copy;
pub mod counters;
mod dispatch;
mod held_back;
pub mod link;
pub mod outcomes;
pub mod pause;
pub mod reader;
pub mod reconnect;
pub mod refused;
mod retries;
pub mod staging;
mod totals;
mod transaction;
mod transformer;
pub mod writer;

pub use commit::commit_meaning;
pub use copy::{CopyTask, copy};
pub use counters::Counters;
pub use held_back::HeldBack;
pub use outcomes::{NO_COMMIT, Outcomes, ReachedLane, Refusal};
pub use pause::is_passing;
pub use refused::Refused;
pub use retries::backoff;
pub use transaction::TransactionRules;
