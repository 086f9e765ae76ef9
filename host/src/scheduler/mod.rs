//! The daemon: runs the jobs of a settings file when they are due, each as a process of its own.
//!
//! `clock` says what is due, `firing` starts a run, `presence` is what other processes see of the daemon, `daemon` is its
//! loop. A crash of a run ends that run alone. Neighbour: [`crate::config`] reads the schedules.

mod clock;
mod daemon;
mod firing;
mod presence;

pub use daemon::{Daemon, DaemonEvent};
pub use presence::{NextTime, Presence, Seen, seen};
