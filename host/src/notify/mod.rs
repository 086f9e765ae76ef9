//! Notifications made from events: what people are told of a run, how often, and who wants to hear it.
//!
//! Pure: events and the time go in, notifications come out, and wait in an outbox for answers; sending them is the
//! business of a worker, since it takes a plugin. Neighbours: [`crate::events`] (what is read), [`crate::config`] (the job's `notifiers`).

mod filter;
mod notices;
mod outbox;
mod pace;
mod wording;

pub use filter::Filter;
pub use notices::{Moment, Notices};
pub use outbox::{Leftovers, Outbox, Undelivered};
