//! The daemon: runs the jobs of a settings file when they are due, each as a process of its own.
//!
//! `clock` says what is due, `firing` starts a run, `log_files` are where its output goes, `presence` is what other processes see of the daemon, `place` how they find it,
//! `daemon` is its loop, `event` what it tells. A crash of a run ends that run alone. Neighbour: [`crate::config`] reads the schedules.

mod clock;
mod daemon;
mod event;
mod firing;
mod log_files;
mod place;
mod presence;

pub use daemon::Daemon;
pub use event::DaemonEvent;
pub use place::{Living, daemon_running, find};
pub use presence::{LastOutcome, NextTime, Presence, Seen, seen};
