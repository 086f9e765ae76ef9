//! Starts a worker process, watches it, and turns whatever becomes of it into one outcome.
//!
//! The supervisor loads no plugin. A task succeeded only if the worker's last event says so; a crash is reported with
//! its signal and the calls that had begun. Neighbours: [`crate::cli`] starts it, [`crate::orchestrator`] is what the
//! worker runs.

mod calls;
mod notify_process;
mod notify_worker;
mod notifying;
mod process;
mod program;
mod protocol;
mod restart;
mod supervise;
mod worker;
mod worker_process;

pub use notifying::{Messenger, NOTIFICATION_DRAIN, NotifySettings};
pub use process::catch_signals;
pub use program::this_program;
pub use protocol::{Command, PluginFile, Task, TaskKind};
pub use supervise::{Ended, Observer, Supervised, supervise};
pub use worker::worker_main;
