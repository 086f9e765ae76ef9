//! What the sink has of the records that a repair is about to replace or remove, kept in a file: one JSON object a line, all of its
//! fields, also those that the job does not know. The file is for its owner alone, and durable before the first record is changed.
//!
//! The sink is read as it describes itself and not as the job has planned it, so that a record comes with fields which nobody has
//! described. Neighbours: `at_fault` has the keys, `healing` changes the records, but for those that could not be kept.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use whimbrel_plugin_api::collection::CollectionsRequest;
use whimbrel_plugin_api::json_form::{JsonNull, RowEncoder};
use whimbrel_plugin_api::source::{Item, ReadRequest, RejectedRecord};
use whimbrel_plugin_api::{Batch, Collection, Error, ErrorKind, Schema};

use super::Repair;
use super::at_fault::{AtFault, Fault};
use crate::events::Failure;
use crate::loader::observe::{OpenedSink, OpenedSource, OpenedStream};
use crate::plan::PlannedCollection;
use crate::verification::digest::{Digester, Pair, Recipe};
use crate::workspace::{fault, make_folder, open_private};

/// Keys that are looked up at once: many make one request, and none is too large for a statement.
const LOOKUP_KEYS_MAX: usize = 500;
/// Keys that are looked for at once when all of the sink has to be read for them; a few hundred octets each.
const SCAN_KEYS_MAX: usize = 50_000;

/// Keeps the sink's records of those at fault for which `is_touched` holds in the file at `path`. Answers those of which the sink
/// may have a record that it does not give away.
///
/// # Errors
/// What the sink brings; `workspace.unwritable`, `workspace.disk_full`. Nothing was changed then.
pub(super) fn keep(
    repair: &Repair<'_>,
    planned: &PlannedCollection,
    at_fault: &mut AtFault,
    is_touched: &dyn Fn(&Fault) -> bool,
    path: &Path,
    sink: &mut OpenedSink,
) -> Result<Vec<Fault>, Failure> {
    let is_lossy = planned
        .sink
        .losses
        .iter()
        .any(|loss| planned.sink.key.contains(&loss.field));
    let looks_up = repair.sink_reads.lookup && !is_lossy;
    let keys_max = if looks_up { LOOKUP_KEYS_MAX } else { SCAN_KEYS_MAX };
    let mut keeping: Option<Keeping<'_>> = None;
    loop {
        let faults = at_fault.next(keys_max, is_touched)?;
        if faults.is_empty() || repair.stop.is_raised() {
            break;
        }
        let (keys, places) = at_fault.keys(&planned.sink, &faults)?;
        let known: Vec<&Fault> = places.iter().map(|place| &faults[*place]).collect();
        let keeping = match &mut keeping {
            Some(keeping) => keeping,
            None => keeping.insert(Keeping::begin(repair, planned, path, sink)?),
        };
        keeping.take(&keys, &known, looks_up)?;
    }
    at_fault.rewind()?;
    match keeping {
        Some(keeping) => Ok(keeping.end()?),
        None => Ok(Vec::new()),
    }
}

/// The file, and the sink as it is read for it.
struct Keeping<'a> {
    repair: &'a Repair<'a>,
    path: &'a Path,
    file: BufWriter<File>,
    reader: OpenedSource,
    request: ReadRequest,
    digester: Digester,
    /// Whether what all of the sink rejects is in the file.
    has_scanned: bool,
    lost: Vec<Fault>,
}

/// What a stream has brought.
#[derive(Default)]
struct Brought {
    /// Places of the keys that came.
    places: HashSet<usize>,
    /// Records that cannot be read, nor be had as the sink stores them.
    lost_count: u64,
    /// Whether it was asked for by key; else it was all that the sink has.
    was_looked_up: bool,
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
        let described = described(&mut reader, planned)?;
        let is_own_key = described.as_ref().is_some_and(|found| has_key_of(planned, found));
        let key = &planned.sink.key;
        let of_key = |name: &String| key.contains(name);
        let mut recipe = Recipe::of(&planned.sink);
        recipe.schema.fields.retain(|field| of_key(&field.name));
        recipe.losses.retain(|loss| of_key(&loss.field));
        Ok(Self {
            repair,
            path,
            file: BufWriter::new(file),
            reader,
            request: ReadRequest {
                expected: (!is_own_key).then(|| all_fields(planned, described)),
                ..ReadRequest::all(&planned.sink.name)
            },
            digester: Digester::new(recipe),
            has_scanned: false,
            lost: Vec::new(),
        })
    }

    /// Writes the records of `faults`, whose keys are `keys`.
    fn take(&mut self, keys: &Batch, faults: &[&Fault], looks_up: bool) -> Result<(), Failure> {
        self.learn_fields(keys, looks_up)?;
        let brought = self.drain(keys, looks_up, true)?;
        if brought.lost_count == 0 {
            return Ok(());
        }
        for (place, fault) in faults.iter().enumerate() {
            if brought.places.contains(&place) {
                continue;
            }
            let is_lost = if brought.was_looked_up && faults.len() > 1 {
                // Which one it was is known if it is the only one asked for.
                let alone = Batch::new(Arc::clone(&keys.schema), keys.records.slice(place, 1))?;
                self.drain(&alone, true, false)?.lost_count > 0
            } else {
                true
            };
            if is_lost {
                self.lost.push((*fault).clone());
            }
        }
        Ok(())
    }

    /// Looks `keys` up, or reads all of the sink; and says which of both it is.
    fn stream(&mut self, keys: &Batch, looks_up: bool) -> Result<(OpenedStream, bool), Failure> {
        if looks_up {
            match self.reader.lookup(&self.request, keys) {
                Ok(stream) => return Ok((stream, true)),
                // A system that does not know the key, or not here: then all of it is read.
                Err(failure) if is_no_way(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok((self.reader.read(&self.request)?, false))
    }

    /// Fields that nobody has described turn up where the sink is not told what to expect; with them it is asked again.
    fn learn_fields(&mut self, keys: &Batch, looks_up: bool) -> Result<(), Failure> {
        let Some(mut expected) = self.request.expected.take() else {
            return Ok(());
        };
        let (mut stream, _) = self.stream(keys, looks_up)?;
        loop {
            if self.repair.stop.is_raised() {
                return Err(Error::cancelled().into());
            }
            match stream.next_item()? {
                Item::Schema(schema) => add_fields(&mut expected, &schema),
                Item::End => break,
                _ => {}
            }
        }
        self.request.expected = Some(expected);
        Ok(())
    }

    /// Writes the sink's records whose key is one of `keys`. Of those that cannot be read what the sink gives of them, unless that
    /// is there already.
    fn drain(&mut self, keys: &Batch, looks_up: bool, writes_rejected: bool) -> Result<Brought, Failure> {
        let mut pairs: Vec<Pair> = Vec::new();
        self.digester.digest(keys, &mut pairs)?;
        let places = pairs.iter().enumerate();
        let wanted: HashMap<u128, usize> = places.map(|(place, pair)| (pair.key, place)).collect();
        let (mut stream, was_looked_up) = self.stream(keys, looks_up)?;
        let writes_rejected = writes_rejected && (was_looked_up || !self.has_scanned);
        self.has_scanned |= !was_looked_up;
        let (mut line, mut brought) = (Vec::new(), Brought::default());
        brought.was_looked_up = was_looked_up;
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
                        if let Some(place) = wanted.get(&pair.key) {
                            brought.places.insert(*place);
                            line.clear();
                            encoder.write_line(row, &mut line)?;
                            self.write(&mut line)?;
                        }
                    }
                }
                Item::Rejected(records) => {
                    for record in &records {
                        match as_stored(record)? {
                            None => brought.lost_count += 1,
                            Some(mut line) if writes_rejected => self.write(&mut line)?,
                            Some(_) => {}
                        }
                    }
                }
                Item::End => return Ok(brought),
                _ => {}
            }
        }
    }

    fn write(&mut self, line: &mut Vec<u8>) -> Result<(), Error> {
        line.push(b'\n');
        let written = self.file.write_all(line);
        written.map_err(|error| fault(self.path, &error))
    }

    fn end(mut self) -> Result<Vec<Fault>, Error> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| fault(self.path, &error))?;
        Ok(self.lost)
    }
}

/// A record that cannot be read, as the sink gives it; none if it does not.
fn as_stored(rejected: &RejectedRecord) -> Result<Option<Vec<u8>>, Error> {
    #[derive(Serialize)]
    struct Line<'a> {
        record: &'a str,
        data: &'a RawValue,
    }
    let Some(data) = &rejected.data else {
        return Ok(None);
    };
    let no_form = |error: serde_json::Error| Error::internal("a record has no JSON form").with_cause(&error);
    // One that is no JSON is kept as a text.
    let is_line = !data.contains('\n') && serde_json::from_str::<&RawValue>(data).is_ok();
    let data = match is_line {
        true => RawValue::from_string(data.clone()),
        false => serde_json::value::to_raw_value(data),
    };
    let line = Line {
        record: &rejected.record,
        data: &data.map_err(no_form)?,
    };
    serde_json::to_vec(&line).map(Some).map_err(no_form)
}

/// The collection as the sink describes it.
fn described(reader: &mut OpenedSource, planned: &PlannedCollection) -> Result<Option<Collection>, Failure> {
    let described = reader.collections(&CollectionsRequest {
        names: vec![planned.sink.name.clone()],
        schemas: true,
    })?;
    Ok(described.into_iter().find(|one| one.name == planned.sink.name))
}

/// Whether the key's values are in the sink what they are in the plan, so that records are known by them.
fn has_key_of(planned: &PlannedCollection, found: &Collection) -> bool {
    let of = |schema: &Schema, name: &str| {
        let at = schema.index_of(name)?;
        schema.fields.get(at).map(|field| field.record_type.clone())
    };
    planned.sink.key.iter().all(|name| {
        let there = of(&found.schema, name);
        there.is_some() && there == of(&planned.sink.schema, name)
    })
}

/// The planned fields, and those that the sink has beside them: a record that is removed takes them along.
fn all_fields(planned: &PlannedCollection, described: Option<Collection>) -> Schema {
    let mut schema = planned.sink.schema.clone();
    if let Some(found) = described {
        add_fields(&mut schema, &found.schema);
    }
    schema
}

fn add_fields(schema: &mut Schema, others: &Schema) {
    for field in &others.fields {
        if schema.index_of(&field.name).is_none() {
            schema.fields.push(field.clone());
        }
    }
}

/// Whether the sink cannot look records up by these keys.
fn is_no_way(failure: &Failure) -> bool {
    matches!(
        failure.error.kind,
        ErrorKind::Unsupported | ErrorKind::InvalidData | ErrorKind::Integrity
    )
}
