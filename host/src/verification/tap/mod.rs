//! Digests that are made while records are copied, so that a source is read once and its digests are known at each place.
//!
//! [`Taps`] belong to one copy; each partition gets a [`Tap`] for the thread that reads it, and another one for the thread
//! that transforms it. Nothing here fails a copy: what cannot be kept, or is no longer all that was read, is given up, and
//! the source is read again. Neighbours: [`crate::pipeline`] shows batches to taps, [`crate::phases`] takes what they have
//! made, `full` compares it.

mod copy_taps;
mod part;

pub(super) use copy_taps::is_same;
pub use copy_taps::{TAP_FOLDER, Tappable, Tapping, Taps};
pub use part::Tap;
