//! The comprehensive comparison: every field of every record of one collection, in bounded memory, gone on with after a
//! kill.
//!
//! Both sides are read part by part into files of digests (`both`, `reading`, with `progress` on disk), unlike buckets are
//! looked at record by record (`super::pairs`), the keys of records at fault are read again (`finding`), the records are
//! looked at once more in case they were just being changed (`looking`, `second_look`, `suspect`), and listed (`listing`). Neighbour:
//! [`crate::phases::verification`] starts it.

mod access;
mod both;
mod compare;
mod finding;
mod listing;
mod looking;
mod outcome;
mod progress;
mod read_back;
mod reading;
mod second_look;
mod seen;
mod suspect;
#[cfg(test)]
mod tests;

pub(super) use access::is_no_way;
pub(super) use both::lenient;
pub use compare::{FullSettings, Tapped, compare};
pub use read_back::read_back;
pub use reading::{SideDigests, SideRead};
pub(super) use seen::key_of;
