//! Reads both sides to their ends, at the same time, and anew if the source turns out to have more fields than were planned.
//!
//! Neighbours: `reading` reads one side, `compare` goes on with what comes of it.

use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::path::Path;

use whimbrel_plugin_api::source::ReadRequest;
use whimbrel_plugin_api::{Error, ErrorKind, Schema};

use super::compare::FullSettings;
use super::outcome::extraction;
use super::reading::{SideDigests, SideRead, read};
use crate::control::Stop;
use crate::events::Failure;
use crate::loader::observe::OpenedSource;
use crate::verification::compare::{Comparable, Follow, requests};
use crate::verification::digest::Recipe;
use crate::workspace::{fault, make_folder};

/// Both sides, read to their ends.
pub(super) struct BothRead {
    pub(super) recipe: Recipe,
    pub(super) source_request: ReadRequest,
    pub(super) sink_request: ReadRequest,
    pub(super) source: SideDigests,
    /// Whether the source's digests were made while its records were copied.
    pub(super) is_tapped: bool,
    /// None if the sink lacks the collection.
    pub(super) sink: Option<SideDigests>,
}

/// What does not change while both sides are read.
pub(super) struct Reading<'a> {
    pub(super) both: &'a Comparable<'a>,
    pub(super) settings: &'a FullSettings<'a>,
    /// The instant of the source, if it offers one.
    pub(super) snapshot: Option<String>,
    pub(super) stop: &'a Stop,
    pub(super) progress: &'a (dyn Fn(u64) + Sync),
}

impl Reading<'_> {
    /// Reads both sides, but for a source whose digests were `tapped`. Goes on where an earlier comparison was killed.
    ///
    /// # Errors
    /// What a side brings, or a transform; `verification.work_file`.
    pub(super) fn read_both(
        &self,
        source: &mut OpenedSource,
        sink: &mut OpenedSource,
        tapped: Option<SideDigests>,
        follow: &mut Follow<'_>,
    ) -> Result<BothRead, Failure> {
        let tapped = tapped.filter(|tapped| tapped.new_fields.is_empty());
        let mut round = self.round(source, sink, tapped, &Recipe::of(self.both.sink), "")?;
        if !round.source.new_fields.is_empty() {
            let grown = follow(std::mem::take(&mut round.source.new_fields))?;
            // The folders of the first round stay until the end: after a kill it is they that say what is new.
            round = self.round(source, sink, None, &Recipe::of(&grown), "-grown")?;
        }
        Ok(round)
    }

    /// Reads both sides by `recipe`, into folders whose names end with `suffix`.
    fn round(
        &self,
        source: &mut OpenedSource,
        sink: &mut OpenedSource,
        tapped: Option<SideDigests>,
        recipe: &Recipe,
        suffix: &str,
    ) -> Result<BothRead, Failure> {
        let (mut source_request, mut sink_request) = requests(self.both);
        sink_request.expected = Some(lenient(recipe));
        source_request.snapshot.clone_from(&self.snapshot);
        let folder = |side: &str| self.settings.work_folder.join(format!("{side}{suffix}"));
        let (source_folder, sink_folder) = (folder("source"), folder("sink"));
        make_folder(&source_folder)?;
        make_folder(&sink_folder)?;
        let from = SideRead {
            request: source_request.clone(),
            recipe: recipe.clone(),
            transformed: Some((self.both.source, self.both.transforms, self.both.jobs)),
            extracted: extraction(self.both, recipe),
            partitions_parallel: self.settings.partitions_parallel,
            can: &self.settings.source_can,
            folder: &source_folder,
        };
        let into = SideRead {
            request: sink_request.clone(),
            recipe: recipe.clone(),
            transformed: None,
            extracted: None,
            partitions_parallel: self.settings.partitions_parallel,
            can: &self.settings.sink_can,
            folder: &sink_folder,
        };
        let is_tapped = tapped.is_some();
        let (theirs, ours) = self.at_once(source, sink, tapped, &from, &into)?;
        source_request.snapshot = None;
        Ok(BothRead {
            recipe: recipe.clone(),
            source_request,
            sink_request,
            source: theirs,
            is_tapped,
            sink: ours,
        })
    }

    /// Reads both at the same time. What one of them brings ends the other.
    fn at_once(
        &self,
        source: &mut OpenedSource,
        sink: &mut OpenedSource,
        tapped: Option<SideDigests>,
        from: &SideRead<'_>,
        into: &SideRead<'_>,
    ) -> Result<(SideDigests, Option<SideDigests>), Failure> {
        // Its own flag, since the end of one side is not yet that of the task.
        let halt = Stop::default();
        let told = |records: u64| {
            if self.stop.is_raised() {
                halt.ask();
            }
            (self.progress)(records);
        };
        let (theirs, ours) = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let outcome = read(sink, into, &halt, &told);
                if outcome.is_err() {
                    halt.ask();
                }
                outcome
            });
            let theirs = match tapped {
                Some(tapped) => Ok(tapped),
                None => read(source, from, &halt, &told),
            };
            if !theirs.as_ref().is_ok_and(|theirs| theirs.new_fields.is_empty()) {
                halt.ask();
            }
            (theirs, reading.join())
        });
        let ours = ours.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if self.stop.is_raised() {
            return Err(Error::cancelled().into());
        }
        match (theirs, ours) {
            (Ok(theirs), Ok(ours)) => Ok((theirs, Some(ours))),
            // The sink was not read to its end because that would have been in vain.
            (Ok(theirs), Err(failure)) if !theirs.new_fields.is_empty() && is_cancelled(&failure) => {
                Ok((theirs, None))
            }
            (theirs, Err(failure)) if is_missing(&failure) => {
                // How many records there are was perhaps not read to its end.
                Ok((theirs.unwrap_or_default(), None))
            }
            (Err(failure), Ok(_)) => Err(failure),
            (Err(failure), Err(other)) if is_cancelled(&failure) => Err(other),
            (Err(failure), Err(_)) | (Ok(_), Err(failure)) => Err(failure),
        }
    }
}

/// What the sink is read by: a field that is lacking is null, so that a record which has lost one is a record that differs, and
/// one that somebody has added is an extra one. A reader that insists on every field could name neither by its key. Keys stay
/// as they are: a record without one cannot be looked up.
pub(in crate::verification) fn lenient(recipe: &Recipe) -> Schema {
    let mut schema = recipe.schema.clone();
    for field in &mut schema.fields {
        field.nullable |= !recipe.key.contains(&field.name);
    }
    schema
}

/// Whether the system itself says that it has no such collection.
pub(super) fn is_missing(failure: &Failure) -> bool {
    failure.error.kind == ErrorKind::NotFound && failure.plugin.is_some()
}

fn is_cancelled(failure: &Failure) -> bool {
    failure.error.kind == ErrorKind::Cancelled
}

/// Removes a folder with all that is in it.
///
/// # Errors
/// `workspace.unwritable`.
pub(super) fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != IoErrorKind::NotFound => Err(fault(folder, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
