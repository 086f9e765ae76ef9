//! The boundary itself: C structs, tables of functions, and both halves of each role.
//!
//! The only folder that names `abi_stable` or raw Arrow structs. For each role there is a producing half, which
//! wraps what an author wrote, and a foreign half, which implements the author's trait on the other side.
//! `ABI.md` is the description; this is its code. Nothing here does I/O.

#![expect(unsafe_code, reason = "the one folder of this crate in which pointers cross")]

pub mod arrow;
pub mod error;
pub mod notifier;
pub mod object;
pub mod panic;
pub mod root_module;
pub mod services;
pub mod sink;
pub mod source;
pub mod transform;
pub mod version;

pub use arrow::Validation;
pub use root_module::ForeignPlugin;
