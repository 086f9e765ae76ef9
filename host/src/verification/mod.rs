//! Compares both sides: counts, and records by the digest of their canonical form.
//!
//! Order does not matter, both sides are streamed, and what is kept is bounded: ten records at the level `basic`, every record of a
//! collection up to 10,000 at `standard`, a sample chosen by key above. `orphans` looks at references before a run. Neighbours: [`crate::phases`]
//! starts it, [`crate::report`] words its result.

mod basic;
pub mod bucket;
pub mod canonical;
pub mod compare;
pub mod digest;
pub mod full;
pub mod judgement;
mod key_set;
pub mod latency;
pub mod left_out;
pub mod losses;
pub mod orphans;
pub mod pairs;
pub mod schema_compliance;
pub mod side;
pub mod tap;

pub use basic::{BASIC_RECORDS, reads_first_records};
pub use compare::{Comparable, compare};
pub use left_out::LeftOut;
