//! Finds plugin libraries, reads what they say of themselves, checks them, and loads those that are fit.
//!
//! Only worker processes load; everything before that reads files. `library` is the only place in the host with
//! `unsafe`. Neighbours: [`crate::supervisor`] asks `registry` for a plugin by name, its worker asks `library`.

pub mod call_board;
mod calls;
pub mod inspect;
pub mod library;
pub mod observe;
mod opened;
pub mod registry;
pub mod search;

pub use registry::{FoundPlugin, Registry};
