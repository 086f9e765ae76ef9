//! The data file of one collection while it is written: octets behind the committed length, until a commit.
//!
//! Compressed files get one zstd frame per commit, so that they can be cut back to any committed length. Neighbours:
//! [`crate::sink`] (who decides), [`crate::load`] (where the committed length is kept).

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::arrow_array::Array as _;
use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::json_form::{JsonNull, RowEncoder};
use whimbrel_plugin_api::{Batch, Error, ErrorKind, RejectedRecord, Result, Schema};

use crate::error::io_error;
use crate::load::Target;

/// Octets that are collected before they are given to the operating system.
const WRITE_BYTES: usize = 256 * 1024;

/// An open data file.
pub(crate) struct Writer {
    path: PathBuf,
    file: File,
    level: i32,
    is_zstd: bool,
    is_lines: bool,
    /// The frame that is being written.
    encoder: Option<zstd::stream::write::Encoder<'static, File>>,
    buffer: Vec<u8>,
    pub(crate) schema: Schema,
    committed_bytes: u64,
    committed_records: u64,
    record_count: u64,
    /// Whether there is something to commit.
    pub(crate) is_touched: bool,
}

impl Writer {
    /// Opens the partial file of `target` and cuts it back to what is committed.
    pub(crate) fn open(folder: &Path, target: &Target, schema: Schema, level: i32) -> Result<Self> {
        let path = folder.join(target.partial_name());
        let open = || {
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .open(&path)?;
            let length = file.metadata()?.len();
            if length > target.committed_bytes {
                file.set_len(target.committed_bytes)?;
            }
            if length >= target.committed_bytes {
                file.seek(SeekFrom::Start(target.committed_bytes))?;
            }
            Ok((file, length))
        };
        let (file, length) = open().map_err(|error| io_error("write", &path, &error))?;
        if length < target.committed_bytes {
            return Err(Error::new(
                ErrorKind::Integrity,
                "files.load_damaged",
                format!(
                    "`{}` has {length} octets, of which {} were committed",
                    path.display(),
                    target.committed_bytes
                ),
            )
            .with_help("run the job again from the start"));
        }
        Ok(Self {
            path,
            file,
            level,
            is_zstd: target.is_zstd(),
            is_lines: target.is_lines(),
            encoder: None,
            buffer: Vec::with_capacity(WRITE_BYTES * 2),
            schema,
            committed_bytes: target.committed_bytes,
            committed_records: target.record_count,
            record_count: target.record_count,
            is_touched: false,
        })
    }

    /// Adds the records of a batch; those that JSON cannot hold are handed back.
    pub(crate) fn write(&mut self, batch: &Batch) -> Result<Vec<RejectedRecord>> {
        let (schema, required) = self.required(&batch.schema);
        // A declared loss, see `type_mapping`.
        let rows = RowEncoder::new(&schema, &batch.records)?.with_json_null(JsonNull::AsNull);
        let masks = schema
            .presence
            .then(|| batch.records.column(schema.fields.len()).as_binary::<i32>());
        let lacks = |row: usize, index: usize| {
            let is_absent = masks.is_some_and(|masks| masks.value(row)[index / 8] >> (index % 8) & 1 == 0);
            is_absent || batch.records.column(index).is_null(row)
        };
        let lacking = |row: usize| required.iter().find(|index| lacks(row, **index));
        let mut rejected = Vec::new();
        self.is_touched = true;
        for row in 0..rows.len() {
            let before = self.buffer.len();
            if !self.is_lines {
                self.buffer
                    .extend_from_slice(if self.record_count == 0 { b"[\n" } else { b",\n" });
            }
            let written = match lacking(row) {
                None => rows.write_line(row, &mut self.buffer),
                Some(index) => Err(without_value(&schema.fields[*index].name)),
            };
            if let Err(error) = written {
                self.buffer.truncate(before);
                rejected.push(RejectedRecord {
                    record: format!("row {row}"),
                    row: Some(row as u64),
                    code: error.code,
                    message: error.message,
                    data: None,
                });
                continue;
            }
            if self.is_lines {
                self.buffer.push(b'\n');
            }
            self.record_count += 1;
            if self.buffer.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(rejected)
    }

    /// The schema of a batch with what the file requires, and the places of the fields that it must not lack.
    fn required(&self, theirs: &Schema) -> (Schema, Vec<usize>) {
        let mut schema = theirs.clone();
        let mut required = Vec::new();
        for (index, field) in schema.fields.iter_mut().enumerate() {
            let ours = self.schema.index_of(&field.name);
            if ours.is_some_and(|index| !self.schema.fields[index].nullable) {
                field.nullable = false;
                required.push(index);
            }
        }
        (schema, required)
    }

    /// Gives what was collected to the operating system.
    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let outcome = match (self.is_zstd, &mut self.encoder) {
            (false, _) => self.file.write_all(&self.buffer),
            (true, Some(encoder)) => encoder.write_all(&self.buffer),
            (true, None) => self.begin_frame().and_then(|mut encoder| {
                encoder.write_all(&self.buffer)?;
                self.encoder = Some(encoder);
                Ok(())
            }),
        };
        outcome.map_err(|error| io_error("write", &self.path, &error))?;
        self.buffer.clear();
        Ok(())
    }

    fn begin_frame(&self) -> io::Result<zstd::stream::write::Encoder<'static, File>> {
        // The clone shares its position with `file`.
        let mut encoder = zstd::stream::write::Encoder::new(self.file.try_clone()?, self.level)?;
        encoder.include_checksum(true)?;
        Ok(encoder)
    }

    /// Makes everything durable; how long the file is now, and how many records it has.
    pub(crate) fn sync(&mut self) -> Result<(u64, u64)> {
        self.flush()?;
        let sync = |writer: &mut Self| {
            if let Some(encoder) = writer.encoder.take() {
                encoder.finish()?;
            }
            // Length and content; times do not matter.
            writer.file.sync_data()?;
            writer.file.stream_position()
        };
        let length = sync(self).map_err(|error| io_error("write", &self.path, &error))?;
        Ok((length, self.record_count))
    }

    /// Takes note that the outcome of the last `sync` is what counts.
    pub(crate) fn committed(&mut self, bytes: u64) {
        self.committed_bytes = bytes;
        self.committed_records = self.record_count;
        self.is_touched = false;
    }

    /// Cuts back to what is committed.
    pub(crate) fn abort(&mut self) -> Result<()> {
        // Dropped without an end: the half-written frame is cut off below.
        drop(self.encoder.take());
        self.buffer.clear();
        self.record_count = self.committed_records;
        self.is_touched = false;
        let mut cut = || {
            if self.file.metadata()?.len() > self.committed_bytes {
                self.file.set_len(self.committed_bytes)?;
            }
            self.file.seek(SeekFrom::Start(self.committed_bytes)).map(drop)
        };
        cut().map_err(|error| io_error("cut back", &self.path, &error))
    }

    /// Writes what stands behind the last record, durably; the length of the finished file.
    pub(crate) fn end(&mut self) -> Result<u64> {
        if !self.is_lines {
            self.buffer
                .extend_from_slice(if self.record_count == 0 { b"[]\n" } else { b"\n]\n" });
        } else if self.is_zstd && self.committed_bytes == 0 {
            // An empty frame, since an empty file is not a zstd file.
            self.encoder = Some(
                self.begin_frame()
                    .map_err(|error| io_error("write", &self.path, &error))?,
            );
        }
        self.sync().map(|(length, _)| length)
    }
}

/// What is wrong with a record without a value in its key, or in another field that is required.
fn without_value(field: &str) -> Error {
    Error::invalid_data(
        "files.no_value",
        format!("the field `{field}` is required, and the record has no value there"),
    )
}
