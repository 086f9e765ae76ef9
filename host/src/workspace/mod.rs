//! The working folder: every path in one place, files that are whole at every moment, room kept for the end.
//!
//! Holds no knowledge of what the files say: [`crate::status`] and [`crate::report`] make their content.

mod fault;
mod file_names;
mod folders;
mod reserve;
mod whole_file;

pub use fault::{DISK_FULL, UNWRITABLE, fault, is_disk_full};
pub use file_names::file_names;
pub use folders::{CERTIFICATE_FILE, RunFolder, VerificationFolder, Workspace, make_folder};
pub use reserve::Reserve;
pub use whole_file::{is_locked, lock, look_for_lock, open_private, write_all_whole, write_whole};
