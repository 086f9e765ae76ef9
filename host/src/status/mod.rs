//! Readers of events that show how far a task is.

mod progress;

pub use progress::Progress;
