//! The transforms of a job as the host runs them, on the way of records and when both sides are compared.
//!
//! Neighbours: [`crate::loader`] opens them, [`crate::pipeline`] and [`crate::verification`] send batches through.

mod chain;

pub use chain::{Chain, Changed, Transforms};
