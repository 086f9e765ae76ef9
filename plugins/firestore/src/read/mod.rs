//! Reading documents: pages by name at one instant, divided, resumed, and as streams of batches.
//!
//! `scan` gives documents one after another whatever happens to connections; its task is `fetch`; `query` makes the requests.
//! `lookup` gets documents by key. `stream` makes batches of either, its `course`; `target` is what it reads, `growth` finds the
//! fields that turn up late, `position` is where it goes on. `partition` divides, `snapshot` is the instant.

mod course;
mod fetch;
mod growth;
mod lookup;
mod partition;
mod position;
mod query;
mod scan;
mod snapshot;
mod stream;
mod target;

pub(crate) use growth::Growth;
pub(crate) use partition::divide;
pub(crate) use query::{count_kept, field_path};
pub(crate) use scan::{Documents, Scan, Scope};
pub(crate) use snapshot::{Fixed, fix, from_token, is_gone_on_after, to_token};
pub(crate) use stream::DocumentStream;
pub(crate) use target::{Reader, Target};
