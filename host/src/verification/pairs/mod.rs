//! Pairs of digests on disk: 32 octets a record, in the order in which records were read, so that billed sources are read
//! once and memory does not grow with them.
//!
//! One file for each part that is read (`file`, `writer`), with a second one beside it that says where each batch begins and
//! at which cursor it can be read again (`index`). `difference` compares the files of both sides, `spill` is where it puts
//! what does not fit in memory. Neighbours: `digest` makes pairs, `full` writes and compares them.

mod difference;
mod fault;
mod file;
mod index;
mod key_range;
mod spill;
mod table;
mod writer;

pub use difference::{Difference, DifferenceKind, Place, Rules, Tally, differences};
pub(super) use fault::{fault, is_torn};
pub use file::{BatchPlace, PairFile};
pub use writer::{PairMark, PairWriter};
