//! What the sink has of the records that a repair is about to replace or remove, kept in a file: one JSON object a line, all of its
//! fields, also those that the job does not know. The file is for its owner alone, and durable before the first record is changed.
//!
//! Neighbours: `at_fault` has the keys, `healing` changes the records.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use whimbrel_plugin_api::collection::CollectionsRequest;
use whimbrel_plugin_api::json_form::{JsonNull, RowEncoder};
use whimbrel_plugin_api::source::{Item, ReadRequest};
use whimbrel_plugin_api::{Batch, Error, ErrorKind, Schema};

use super::Repair;
use super::at_fault::{AtFault, Fault};
use crate::events::{Failure, MismatchKind};
use crate::loader::observe::{OpenedSink, OpenedSource, OpenedStream};
use crate::plan::PlannedCollection;
use crate::verification::digest::{Digester, Pair, Recipe};
use crate::workspace::{fault, make_folder, open_private};

/// Keys that are looked up at once: many make one request, and none is too large for a statement.
const LOOKUP_KEYS_MAX: usize = 500;
/// Keys that are looked for at once when all of the sink has to be read for them; a few hundred octets each.
const SCAN_KEYS_MAX: usize = 50_000;

/// Keeps the sink's records at fault of a collection in the file at `path`; those that only the sink has if it `removes` them.
///
/// # Errors
/// What the sink brings; `workspace.unwritable`, `workspace.disk_full`. Nothing was changed then.
pub(super) fn keep(
    repair: &Repair<'_>,
    planned: &PlannedCollection,
    at_fault: &mut AtFault,
    removes: bool,
    path: &Path,
    sink: &mut OpenedSink,
) -> Result<(), Failure> {
    let is_lossy = planned
        .sink
        .losses
        .iter()
        .any(|loss| planned.sink.key.contains(&loss.field));
    let looks_up = repair.sink_reads.lookup && !is_lossy;
    let keys_max = if looks_up { LOOKUP_KEYS_MAX } else { SCAN_KEYS_MAX };
    let is_touched = |fault: &Fault| match fault.kind {
        MismatchKind::ChangedSince => false,
        MismatchKind::Extra => removes && fault.key.is_some(),
        _ => fault.key.is_some(),
    };
    let mut keeping: Option<Keeping<'_>> = None;
    loop {
        let faults = at_fault.next(keys_max, is_touched)?;
        if faults.is_empty() || repair.stop.is_raised() {
            break;
        }
        let (keys, _) = at_fault.keys(&planned.sink, &faults)?;
        let keeping = match &mut keeping {
            Some(keeping) => keeping,
            None => keeping.insert(Keeping::begin(repair, planned, path, sink)?),
        };
        keeping.take(&keys, looks_up)?;
    }
    if let Some(keeping) = keeping {
        keeping.end()?;
    }
    Ok(at_fault.rewind()?)
}

/// The file, and the sink as it is read for it.
struct Keeping<'a> {
    repair: &'a Repair<'a>,
    path: &'a Path,
    file: BufWriter<File>,
    reader: OpenedSource,
    request: ReadRequest,
    digester: Digester,
}

impl<'a> Keeping<'a> {
    fn begin(
        repair: &'a Repair<'a>,
        planned: &PlannedCollection,
        path: &'a Path,
        sink: &mut OpenedSink,
    ) -> Result<Self, Failure> {
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let file = open_private(path, false).map_err(|error| fault(path, &error))?;
        let mut reader = sink.reader()?;
        let expected = all_fields(&mut reader, planned)?;
        Ok(Self {
            repair,
            path,
            file: BufWriter::new(file),
            reader,
            request: ReadRequest {
                expected: Some(expected),
                ..ReadRequest::all(&planned.sink.name)
            },
            digester: Digester::new(Recipe::of(&planned.sink)),
        })
    }

    /// Writes the records with `keys`.
    fn take(&mut self, keys: &Batch, looks_up: bool) -> Result<(), Failure> {
        let mut pairs: Vec<Pair> = Vec::new();
        self.digester.digest(keys, &mut pairs)?;
        let wanted: HashSet<u128> = pairs.iter().map(|pair| pair.key).collect();
        if looks_up {
            match self.reader.lookup(&self.request, keys) {
                Ok(stream) => return self.drain(stream, &wanted),
                // A system that does not know the key, or not here: then all of it is read.
                Err(failure) if is_no_way(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
        let stream = self.reader.read(&self.request)?;
        self.drain(stream, &wanted)
    }

    fn drain(&mut self, mut stream: OpenedStream, wanted: &HashSet<u128>) -> Result<(), Failure> {
        let (mut pairs, mut line): (Vec<Pair>, Vec<u8>) = (Vec::new(), Vec::new());
        loop {
            if self.repair.stop.is_raised() {
                return Err(Error::cancelled().into());
            }
            match stream.next_item()? {
                Item::Batch(batch) => {
                    pairs.clear();
                    self.digester.digest(&batch, &mut pairs)?;
                    let encoder =
                        RowEncoder::new(&batch.schema, &batch.records)?.with_json_null(JsonNull::AsNull);
                    for (row, pair) in pairs.iter().enumerate() {
                        if wanted.contains(&pair.key) {
                            line.clear();
                            encoder.write_line(row, &mut line)?;
                            line.push(b'\n');
                            self.file
                                .write_all(&line)
                                .map_err(|error| fault(self.path, &error))?;
                        }
                    }
                }
                Item::End => return Ok(()),
                // What cannot be read cannot be kept either; the list of differences names it.
                _ => {}
            }
        }
    }

    fn end(mut self) -> Result<(), Error> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| fault(self.path, &error))
    }
}

/// The planned fields, and those that the sink has beside them: a record that is removed takes them along.
fn all_fields(reader: &mut OpenedSource, planned: &PlannedCollection) -> Result<Schema, Failure> {
    let mut schema = planned.sink.schema.clone();
    let described = reader.collections(&CollectionsRequest {
        names: vec![planned.sink.name.clone()],
        schemas: true,
    })?;
    let found = described.into_iter().find(|one| one.name == planned.sink.name);
    for field in found.into_iter().flat_map(|found| found.schema.fields) {
        if schema.index_of(&field.name).is_none() {
            schema.fields.push(field);
        }
    }
    Ok(schema)
}

/// Whether the sink cannot look records up by these keys.
fn is_no_way(failure: &Failure) -> bool {
    matches!(
        failure.error.kind,
        ErrorKind::Unsupported | ErrorKind::InvalidData | ErrorKind::Integrity
    )
}
