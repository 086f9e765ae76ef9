//! The records at fault of one collection, from the file in which a comparison has listed them: one JSON object a line, with the key's
//! values in the JSON form of their types. Neighbour: [`crate::verification::full`] writes the file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use whimbrel_plugin_api::json_form::RowDecoder;
use whimbrel_plugin_api::{Batch, Collection, Error, Schema};

use crate::events::MismatchKind;
use crate::workspace::fault;

/// A longer line is none of a comparison: a key is short, and values are cut.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How many records a comparison has listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listed {
    /// The sink lacks them.
    pub missing_count: u64,
    /// Only the sink has them.
    pub extra_count: u64,
    /// Both sides have them, and they differ, or the sink's cannot be read.
    pub other_count: u64,
}

impl Listed {
    /// How many a repair copies again; `missing_only` where the others are the sink's own affair.
    pub const fn to_copy(&self, missing_only: bool) -> u64 {
        match missing_only {
            true => self.missing_count,
            false => self.missing_count + self.other_count,
        }
    }
}

/// Counts what the file at `path` lists, without what is no record or was changed since.
///
/// # Errors
/// As of reading it: `workspace.unwritable`, `verification.bad_results`.
pub fn listed(path: &Path) -> Result<Listed, Error> {
    let mut at_fault = AtFault::at(path, &Collection::new("", Schema::default()))?;
    let mut listed = Listed::default();
    loop {
        let some = at_fault.next(COUNTED_AT_ONCE, |_| true)?;
        if some.is_empty() {
            return Ok(listed);
        }
        for fault in some {
            match fault.kind {
                MismatchKind::Missing => listed.missing_count += 1,
                MismatchKind::Extra => listed.extra_count += 1,
                MismatchKind::Schema | MismatchKind::ChangedSince => {}
                MismatchKind::Different | MismatchKind::Count | MismatchKind::Unreadable => {
                    listed.other_count += 1;
                }
            }
        }
    }
}

/// Records that are in memory while they are counted.
const COUNTED_AT_ONCE: usize = 1_000;

/// A record at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: MismatchKind,
    /// How a person finds it.
    pub(super) record: String,
    /// Its key, a JSON object; none if it is not known.
    pub(super) key: Option<String>,
}

/// The line that holds it. What else is in it is for people.
#[derive(Deserialize)]
struct Line {
    kind: MismatchKind,
    record: String,
    #[serde(default)]
    key: Option<Box<RawValue>>,
}

/// The file.
#[derive(Debug)]
pub(super) struct AtFault {
    path: PathBuf,
    file: BufReader<File>,
    /// The names of the key's fields.
    key: Vec<String>,
}

impl AtFault {
    /// The file at `path`, of `collection` as the sink has it.
    ///
    /// # Errors
    /// `workspace.unwritable` if it cannot be read.
    pub(super) fn at(path: &Path, collection: &Collection) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| fault(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::new(file),
            key: collection.key.clone(),
        })
    }

    /// Begins at the first one again.
    ///
    /// # Errors
    /// `workspace.unwritable`.
    pub(super) fn rewind(&mut self) -> Result<(), Error> {
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(|error| fault(&self.path, &error))?;
        Ok(())
    }

    /// Up to `max` further ones for which `is_wanted` holds; empty at the end.
    ///
    /// # Errors
    /// `workspace.unwritable`; `verification.bad_results` for a line that no comparison writes.
    pub(super) fn next(
        &mut self,
        max: usize,
        is_wanted: impl Fn(&Fault) -> bool,
    ) -> Result<Vec<Fault>, Error> {
        let mut faults = Vec::new();
        let mut line = Vec::new();
        while faults.len() < max {
            line.clear();
            let read = (&mut self.file)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(|error| fault(&self.path, &error))?;
            if read == 0 {
                break;
            }
            let parsed: Line = serde_json::from_slice(&line).map_err(|_| self.bad())?;
            let fault = Fault {
                kind: parsed.kind,
                record: parsed.record,
                key: parsed.key.map(|key| key.get().to_owned()),
            };
            if is_wanted(&fault) {
                faults.push(fault);
            }
        }
        Ok(faults)
    }

    /// The keys of `faults` as records of the key's fields, typed as `side` has them. Those whose key is none of the collection are
    /// not among them; the answer has the places of the others.
    ///
    /// # Errors
    /// What the key's schema refuses.
    pub(super) fn keys(&self, side: &Collection, faults: &[Fault]) -> Result<(Batch, Vec<usize>), Error> {
        let fields = self.key.iter().filter_map(|name| {
            let at = side.schema.index_of(name)?;
            side.schema.fields.get(at).cloned()
        });
        let schema = Arc::new(Schema::new(fields.collect()));
        let mut decoder = RowDecoder::new(&schema, faults.len())?;
        let mut places = Vec::with_capacity(faults.len());
        for (place, fault) in faults.iter().enumerate() {
            if let Some(key) = &fault.key
                && decoder.push_line(key).is_ok()
            {
                places.push(place);
            }
        }
        Ok((Batch::new(schema, decoder.finish()?)?, places))
    }

    fn bad(&self) -> Error {
        Error::invalid_data(
            "verification.bad_results",
            format!(
                "a line of `{}` is no difference of a comparison",
                self.path.display()
            ),
        )
        .with_help("compare again")
    }
}
