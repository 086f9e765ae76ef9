//! Tests of whimbrel as its users have it, and of the tree that it is built from.
//!
//! `cargo x test` builds the program and its plugins first and says in `WHIMBREL_BIN` where they are.
//! One binary for all of it: one link, and nextest runs each test in a process of its own.

mod layout;
mod migration;
mod program;
