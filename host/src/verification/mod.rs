//! Compares both sides: counts, and records by the digest of their canonical form.
//!
//! Order does not matter, both sides are streamed, and what is kept is bounded: every record of a collection up to
//! 10,000, a sample chosen by key above. Neighbours: [`crate::phases`] starts it, [`crate::report`] words its result.

pub mod canonical;
pub mod compare;
pub mod losses;
pub mod side;

pub use compare::{Comparable, compare};
