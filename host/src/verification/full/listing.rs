//! Lists all differences of a collection in a file of the results folder, one JSON object a line.
//!
//! The file is made with the first one, for its owner alone: it holds keys, and values if somebody has asked for them. The
//! first ones are kept for the report as well. Neighbour: `compare` says what is listed.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind as IoErrorKind, Write as _};
use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;
use whimbrel_plugin_api::json_form::RowEncoder;
use whimbrel_plugin_api::{Batch, Error};

use crate::events::{Mismatch, MismatchKind, VerificationResult};
use crate::workspace::{fault, make_folder, open_private};

/// Differences that a result shows. The file has all of them.
const MISMATCHES_SHOWN_MAX: usize = 50;

/// The list of one collection.
pub(super) struct Listing<'a> {
    path: &'a Path,
    file: Option<BufWriter<File>>,
    shown: Vec<Mismatch>,
    /// Records that were changed meanwhile; shown where differences leave room.
    changed: Vec<Mismatch>,
    mismatch_count: u64,
    changed_since_count: u64,
}

impl<'a> Listing<'a> {
    /// An empty list at `path`. What an earlier comparison has left there is gone.
    ///
    /// # Errors
    /// `workspace.unwritable`.
    pub(super) fn new(path: &'a Path) -> Result<Self, Error> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != IoErrorKind::NotFound => return Err(fault(path, &error)),
            Ok(()) | Err(_) => {}
        }
        Ok(Self {
            path,
            file: None,
            shown: Vec::new(),
            changed: Vec::new(),
            mismatch_count: 0,
            changed_since_count: 0,
        })
    }

    /// Adds one. `key` holds the values of the record's key, if they are known: one row.
    ///
    /// # Errors
    /// `workspace.unwritable`, `workspace.disk_full`; `internal` for a key that is none of its type.
    pub(super) fn add(&mut self, mismatch: Mismatch, key: Option<&Batch>) -> Result<(), Error> {
        let mut line = serde_json::to_vec(&Line {
            mismatch: &mismatch,
            key: key.map(key_json).transpose()?,
        })
        .map_err(|error| no_form(&error))?;
        line.push(b'\n');
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(create(self.path)?),
        };
        file.write_all(&line).map_err(|error| fault(self.path, &error))?;
        let shown = if mismatch.kind == MismatchKind::ChangedSince {
            self.changed_since_count += 1;
            &mut self.changed
        } else {
            self.mismatch_count += 1;
            &mut self.shown
        };
        if shown.len() < MISMATCHES_SHOWN_MAX {
            shown.push(mismatch);
        }
        Ok(())
    }

    /// Ends the list and says in `result` what is in it.
    ///
    /// # Errors
    /// `workspace.unwritable`, `workspace.disk_full`.
    pub(super) fn end(mut self, result: &mut VerificationResult) -> Result<(), Error> {
        if let Some(mut file) = self.file.take() {
            file.flush().map_err(|error| fault(self.path, &error))?;
            let name = self.path.file_name().unwrap_or_default();
            result.mismatches_file = Some(name.to_string_lossy().into_owned());
        }
        let room = MISMATCHES_SHOWN_MAX - self.shown.len();
        self.changed.truncate(room);
        result.mismatches = self.shown;
        result.mismatches.append(&mut self.changed);
        result.mismatch_count = self.mismatch_count;
        result.changed_since_count = self.changed_since_count;
        result.conclude();
        Ok(())
    }
}

/// A difference of this kind, without values.
pub(super) fn note(kind: MismatchKind, record: String, fields: Vec<String>) -> Mismatch {
    Mismatch {
        kind,
        record,
        fields,
        values: Vec::new(),
    }
}

/// A line of the file: what a report shows, and the key in the JSON form of its types, by which the record can be found.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    mismatch: &'a Mismatch,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Box<RawValue>>,
}

fn key_json(key: &Batch) -> Result<Box<RawValue>, Error> {
    let mut line = Vec::new();
    RowEncoder::new(&key.schema, &key.records)?.write_line(0, &mut line)?;
    let text = String::from_utf8(line).map_err(|error| no_form(&error))?;
    RawValue::from_string(text.trim_end().to_owned()).map_err(|error| no_form(&error))
}

fn no_form(cause: &dyn std::error::Error) -> Error {
    Error::internal("a difference has no JSON form").with_cause(cause)
}

fn create(path: &Path) -> Result<BufWriter<File>, Error> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let file = open_private(path, false).map_err(|error| fault(path, &error))?;
    Ok(BufWriter::new(file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use whimbrel_plugin_api::{Field, RecordType, Schema};

    use super::*;
    use crate::config::VerificationLevel;
    use crate::events::Comparison;
    use crate::events::FieldValues;

    fn mismatch(kind: MismatchKind, record: String) -> Mismatch {
        Mismatch {
            kind,
            record,
            fields: vec!["a".to_owned()],
            values: vec![FieldValues {
                field: "a".to_owned(),
                source: Some("two\nlines".to_owned()),
                sink: None,
            }],
        }
    }

    fn key(id: i64) -> Batch {
        let schema = Arc::new(Schema::new(vec![Field::required("id", RecordType::INT64)]));
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![id]));
        let records = RecordBatch::try_new(schema.to_arrow(), vec![ids]).unwrap();
        Batch::new(schema, records).unwrap()
    }

    fn ended(listing: Listing<'_>) -> VerificationResult {
        let mut result = VerificationResult::begun("a", "b", VerificationLevel::Comprehensive);
        listing.end(&mut result).unwrap();
        result
    }

    #[test]
    fn all_are_listed_for_the_owner_alone_and_the_first_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results").join("a.ndjson");
        let mut listing = Listing::new(&path).unwrap();
        for number in 0..30 {
            let record = format!("id={number}");
            listing
                .add(mismatch(MismatchKind::ChangedSince, record), None)
                .unwrap();
        }
        for number in 30..70 {
            listing
                .add(
                    mismatch(MismatchKind::Different, format!("id={number}")),
                    Some(&key(number)),
                )
                .unwrap();
        }
        let result = ended(listing);
        assert_eq!(
            (result.mismatch_count, result.changed_since_count),
            (40, 30),
            "what was changed meanwhile is no difference"
        );
        assert_eq!(result.comparison, Comparison::Different);
        assert_eq!(result.mismatches.len(), MISMATCHES_SHOWN_MAX);
        assert_eq!(result.mismatches[0].record, "id=30");
        assert_eq!(result.mismatches[40].record, "id=0");
        assert_eq!(result.mismatches_file.as_deref(), Some("a.ndjson"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let text = fs::read_to_string(&path).unwrap();
        let listed: Vec<Mismatch> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(listed.len(), 70);
        let line: serde_json::Value = serde_json::from_str(text.lines().nth(30).unwrap()).unwrap();
        assert_eq!(line["key"], serde_json::json!({ "id": 30 }));
        assert_eq!(listed[69], mismatch(MismatchKind::Different, "id=69".to_owned()));
    }

    #[test]
    fn without_differences_there_is_no_file_not_even_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        fs::write(&path, "of an earlier comparison").unwrap();
        let result = ended(Listing::new(&path).unwrap());
        assert!(!path.exists());
        assert_eq!(
            (result.comparison, result.mismatches_file),
            (Comparison::Equal, None)
        );
    }
}
