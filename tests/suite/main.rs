//! Tests of whimbrel as its users have it, and of the tree that it is built from.
//!
//! `cargo x test` builds the program and its plugins first and says in `WHIMBREL_BIN` where they are.
//! One binary for all of it: one link, and nextest runs each test in a process of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps fails where it stands, which is what it is for"
)]

mod boundary;
mod layout;
mod limits;
mod migration;
mod minimal_source;
mod program;
mod record_types;
mod zoo;
