//! What is said of collections that are written where they are read: a change in place, which is allowed, and not told apart from a slip.
//!
//! Copying one onto itself loses nothing that its transforms keep. Removing its records from the sink removes them from the source,
//! which nobody wants. Neighbours: [`crate::config::is_same_place`] finds it out, `validation` and `look` ask here.

use std::collections::HashSet;

use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::check::Finding;

use crate::plan::PlannedCollection;

/// What a plan and a run say of it.
pub(super) fn finding(collections: &[PlannedCollection]) -> Option<Finding> {
    let names = written_where_read(collections)?;
    let message =
        format!("source and sink are the same place: {names} would be written over while being read");
    Some(Finding::warning("plan.in_place", message).with_help(
        "for a change in place this is right; else name another place, or other collections with `sink:`",
    ))
}

/// Why the sink cannot be emptied.
pub(super) fn refusal(collections: &[PlannedCollection]) -> Option<Error> {
    let names = written_where_read(collections)?;
    let message =
        format!("source and sink are the same place: the records of {names} are those of the source");
    Some(Error::config("clear.in_place", message).with_help(
        "nothing was removed; name in the job what is to be emptied as the sink of another source",
    ))
}

/// The names of those that are written and that this one, or another collection of the job, is read from.
fn written_where_read(collections: &[PlannedCollection]) -> Option<String> {
    let read: HashSet<&str> = collections
        .iter()
        .map(|planned| planned.source.name.as_str())
        .collect();
    let names: Vec<String> = collections
        .iter()
        .filter(|planned| read.contains(planned.sink.name.as_str()))
        .map(|planned| format!("`{}`", planned.sink.name))
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}
