//! Readers of events that show how far a task is.
//! They never steer.

mod progress;

pub use progress::Progress;
