//! A part of a file as a stream of batches.
//!
//! Records are cut out, read straight into columns, and handed over in bounded batches, each with the place behind it as
//! cursor. A record that cannot be read is rejected with its place; a file that changes under the reader is an error.
//! Neighbours: [`crate::framing`], and [`crate::source`], which makes the streams.

use std::collections::VecDeque;
use std::sync::Arc;

use memchr::memmem::Finder;
use whimbrel_plugin_api::arrow_array::RecordBatch;
use whimbrel_plugin_api::json_form::{JsonDecoder, RowDecoder, UnknownKeys};
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{
    Batch, Cursor, Error, Item, RecordStream, RejectedRecord, Result, Schema, Services,
};

use crate::cursor::Mark;
use crate::error;
use crate::fit::{Fit, Misfit};
use crate::format::{DataFile, Form, Identity};
use crate::framing::{Frame, Framer, KEPT_BYTES_MAX, place_text};
use crate::growth::AllFields;
use crate::inference::{self, Shape};
use crate::scan::{self, Fault, NESTING_MAX, ScanError};
use crate::survey::Survey;

/// Rejected records handed over at once; with their kept data at most 1 MiB.
const REJECTED_MAX: usize = 256;

/// What a stream is made of.
pub(crate) struct StreamParts {
    pub(crate) services: Services,
    pub(crate) file: DataFile,
    pub(crate) form: Form,
    pub(crate) identity: Identity,
    /// Offset of the first octet, after decompression.
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
    /// Set when `start` is behind a value of a file of values: whether that is an array.
    pub(crate) behind_value: Option<bool>,
    pub(crate) record_bytes_max: usize,
    pub(crate) schema: Arc<Schema>,
    pub(crate) shape: Shape,
    /// Whether members that the schema lacks were left out on purpose.
    pub(crate) is_projected: bool,
    /// Whether the types were inferred; then what the decoder accepts must be what the inference counted.
    pub(crate) is_inferred: bool,
    /// Types that rest on a sample, to be held against each record.
    pub(crate) fit: Option<Fit>,
    /// Where fields are found out that the sample lacks; none if only some fields are asked for.
    pub(crate) all_fields: Option<Arc<AllFields>>,
    pub(crate) fields_max: usize,
    pub(crate) bounds: BatchBounds,
    pub(crate) limit: Option<u64>,
}

/// A part of a file, being read.
pub(crate) struct FileStream {
    parts: StreamParts,
    framer: Framer,
    decoder: Decoder,
    /// A record that did not fit into the last batch.
    pending: Option<Frame>,
    size: Size,
    rejected: Vec<RejectedRecord>,
    ready: VecDeque<Item>,
    /// Behind the last record that is in a batch or rejected.
    done: u64,
    sequence: u64,
    left: u64,
    is_begun: bool,
    /// The record that waits has a field for which there is no column yet.
    is_growing: bool,
    lines_before: Option<u64>,
    /// Of `\u`.
    escapes: Finder<'static>,
}

enum Decoder {
    Rows(RowDecoder),
    /// Records go as they are into the one column.
    Single(JsonDecoder, Arc<Schema>),
}

impl Decoder {
    fn push(&mut self, text: &str) -> Result<()> {
        match self {
            Self::Rows(rows) => rows.push_line(text),
            Self::Single(column, _) => column.push_raw(text),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Single(column, _) => column.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.bytes(),
            Self::Single(column, _) => column.bytes(),
        }
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        match self {
            Self::Rows(rows) => rows.finish(),
            Self::Single(column, schema) => {
                Ok(RecordBatch::try_new(schema.to_arrow(), vec![column.finish()?])?)
            }
        }
    }
}

/// How large the batch under way is. To ask the decoder costs a look at each column, so it is asked now and then, and
/// after each record only when the batch is nearly full.
#[derive(Default)]
struct Size {
    asked_bytes: usize,
    /// Octets of text since then; columns take about as much.
    text_bytes: usize,
    records: usize,
}

/// Records between two questions.
const ASK_EVERY: usize = 64;

impl Size {
    /// The size with one more record of `length` octets of text.
    fn after(&mut self, length: usize, bytes_max: usize, decoder: &Decoder) -> usize {
        self.records += 1;
        if self.records >= ASK_EVERY || self.asked_bytes + self.text_bytes > bytes_max - bytes_max / 4 {
            *self = Self {
                asked_bytes: decoder.bytes(),
                ..Self::default()
            };
        }
        self.text_bytes += length;
        self.asked_bytes + self.text_bytes
    }
}

/// What became of a record.
enum Taken {
    /// It is in the batch or among the rejected.
    Done,
    /// It has a field that the sample lacks, and is to be taken again when there is a column for it.
    Waits,
}

impl StreamParts {
    fn decoder(&self) -> Result<Decoder> {
        let capacity = self
            .bounds
            .records_max
            .min(whimbrel_plugin_api::batch::BATCH_RECORDS_MAX);
        Ok(match (self.shape, self.schema.fields.as_slice()) {
            (Shape::Value | Shape::Document, [field]) if !self.schema.presence => Decoder::Single(
                JsonDecoder::new(&field.record_type, capacity)?,
                Arc::clone(&self.schema),
            ),
            _ => {
                let unknown_keys = if self.is_projected {
                    UnknownKeys::Ignore
                } else {
                    UnknownKeys::Fail
                };
                Decoder::Rows(RowDecoder::new(&self.schema, capacity)?.with_unknown_keys(unknown_keys))
            }
        })
    }

    fn survey(&self) -> Survey<'_> {
        Survey {
            file: &self.file,
            form: self.form,
            size_bytes: self.identity.size_bytes,
            record_bytes_max: self.record_bytes_max,
            fields_max: self.fields_max,
            services: &self.services,
        }
    }
}

impl FileStream {
    pub(crate) fn new(parts: StreamParts) -> Result<Self> {
        let mut framer = parts
            .file
            .framer(parts.form, parts.start, parts.end, parts.record_bytes_max)?;
        if let Some(is_array) = parts.behind_value {
            framer = framer.behind_value(is_array);
        }
        Ok(Self {
            framer,
            decoder: parts.decoder()?,
            pending: None,
            size: Size::default(),
            rejected: Vec::new(),
            ready: VecDeque::new(),
            done: parts.start,
            sequence: 0,
            left: parts.limit.unwrap_or(u64::MAX),
            is_begun: false,
            is_growing: false,
            lines_before: (parts.start == 0).then_some(0),
            escapes: Finder::new(b"\\u"),
            parts,
        })
    }

    /// Reads until there is something to hand over.
    fn fill(&mut self) -> Result<()> {
        self.parts.services.check_cancelled()?;
        if self.is_growing {
            return self.grow();
        }
        let BatchBounds {
            records_max,
            bytes_max,
        } = self.parts.bounds;
        let mut is_at_end = false;
        while self.decoder.len() < records_max.max(1) && self.rejected.len() < REJECTED_MAX {
            if self.left == 0 {
                is_at_end = true;
                break;
            }
            let frame = match self.pending.take() {
                Some(frame) => frame,
                None => match self.framer.next()? {
                    Some(frame) => frame,
                    None => {
                        is_at_end = true;
                        break;
                    }
                },
            };
            // A record that is larger than a batch travels alone.
            let length = self.framer.octets(&frame).len();
            if self.decoder.len() > 0 && self.size.after(length, bytes_max, &self.decoder) > bytes_max {
                self.pending = Some(frame);
                break;
            }
            match self.take(&frame)? {
                Taken::Done => self.done = self.framer.place().offset,
                Taken::Waits => {
                    self.pending = Some(frame);
                    self.is_growing = true;
                    break;
                }
            }
        }
        let has_rejected = !self.rejected.is_empty();
        if has_rejected {
            self.ready
                .push_back(Item::Rejected(std::mem::take(&mut self.rejected)));
        }
        if self.decoder.len() > 0 {
            let mut batch = Batch::new(Arc::clone(&self.parts.schema), self.decoder.finish()?)?;
            self.size = Size::default();
            batch.facts.sequence = self.sequence;
            self.sequence += 1;
            self.ready
                .push_back(Item::Batch(batch.with_cursor(self.cursor())));
        } else if has_rejected {
            self.ready.push_back(Item::Heartbeat {
                cursor: self.cursor(),
            });
        }
        if is_at_end {
            if self.parts.file.identity()? != self.parts.identity {
                return Err(error::changed(&self.parts.file.path));
            }
            self.ready.push_back(Item::End);
        }
        Ok(())
    }

    /// Makes columns for all fields of the file, now that a record has one that the sample lacks.
    fn grow(&mut self) -> Result<()> {
        self.is_growing = false;
        let Some(all_fields) = self.parts.all_fields.take() else {
            return Ok(());
        };
        let grown = match all_fields.after(&self.parts.schema, self.parts.survey(), self.parts.identity) {
            Ok(grown) => grown,
            Err(error) => return Err(self.at_pending(error)),
        };
        if grown.fields.len() > self.parts.schema.fields.len() {
            let grown = Arc::new(grown);
            self.parts.schema = Arc::clone(&grown);
            self.parts.fit = Some(Fit::new(Arc::clone(&grown), self.parts.shape));
            self.decoder = self.parts.decoder()?;
            self.ready.push_back(Item::Schema(grown));
        }
        Ok(())
    }

    fn cursor(&self) -> Cursor {
        let is_array = self.framer.is_array();
        let identity = self.parts.identity;
        Mark {
            identity,
            is_array,
            offset: self.done,
        }
        .encode()
    }

    /// Takes a record into the batch or among the rejected.
    fn take(&mut self, frame: &Frame) -> Result<Taken> {
        if frame.is_overlong {
            let longest = self.parts.record_bytes_max;
            let message = format!("a record is longer than the {longest} octets of `line_bytes_max`");
            return self.reject(frame, 0, "files.line_too_long", message);
        }
        let octets = self.framer.octets(frame);
        let text = match simdutf8::compat::from_utf8(octets) {
            Ok(text) => text,
            Err(error) => {
                let fault = ScanError {
                    at: error.valid_up_to(),
                    fault: Fault::NotUtf8,
                };
                return self.reject_fault(frame, fault);
            }
        };
        if self.parts.is_inferred
            && needs_scan(octets, &self.escapes)
            && let Err(fault) = scan::record(octets, |_, _, _| {})
        {
            return self.reject_fault(frame, fault);
        }
        if let Some(fit) = &mut self.parts.fit
            && let Some(misfit) = fit.misfit(octets)
        {
            return match misfit {
                Misfit::NewField(_) if self.parts.all_fields.is_some() => Ok(Taken::Waits),
                // The file was looked through, but for records that are rejected.
                Misfit::NewField(_) if inference::has_member_twice(octets) => self.reject_twice(frame),
                misfit => Err(self.at(frame, misfit.into_error())),
            };
        }
        match self.decoder.push(text) {
            Ok(()) => {
                self.left -= 1;
                Ok(Taken::Done)
            }
            Err(error) => self.reject_refused(frame, error),
        }
    }

    /// The decoder refused the record: finds out why, in terms of the file.
    fn reject_refused(&mut self, frame: &Frame, error: Error) -> Result<Taken> {
        if error.code == "json_form.too_large" {
            return Err(error);
        }
        match scan::record(self.framer.octets(frame), |_, _, _| {}) {
            Err(fault) => self.reject_fault(frame, fault),
            Ok(_) if error.code == "json_form.key_twice" => {
                self.reject(frame, 0, "files.duplicate_member", error.message)
            }
            // No type was fixed for a name that only such records have.
            Ok(_)
                if error.code == "json_form.unknown_key"
                    && inference::has_member_twice(self.framer.octets(frame)) =>
            {
                self.reject_twice(frame)
            }
            Ok(_) => self.reject(frame, 0, &error.code, error.message),
        }
    }

    fn reject_twice(&mut self, frame: &Frame) -> Result<Taken> {
        let message = "a record has a member twice".to_owned();
        self.reject(frame, 0, "files.duplicate_member", message)
    }

    fn reject_fault(&mut self, frame: &Frame, fault: ScanError) -> Result<Taken> {
        let (code, message) = fault.fault.described();
        self.reject(frame, fault.at, code, message)
    }

    fn reject(&mut self, frame: &Frame, at: usize, code: &str, message: String) -> Result<Taken> {
        let record = self.place(frame, at)?;
        let octets = self.framer.octets(frame);
        let kept = &octets[..octets.len().min(KEPT_BYTES_MAX)];
        self.rejected.push(RejectedRecord {
            record,
            row: None,
            code: code.to_owned(),
            message,
            data: Some(String::from_utf8_lossy(kept).into_owned()),
        });
        Ok(Taken::Done)
    }

    /// File, line and column of the octet `at` of a record.
    fn place(&mut self, frame: &Frame, at: usize) -> Result<String> {
        let lines_before = match self.lines_before {
            Some(lines) => lines,
            None => *self
                .lines_before
                .insert(self.parts.file.lines_before(self.parts.form, self.parts.start)?),
        };
        let octets = self.framer.octets(frame);
        let before = &octets[..at.min(octets.len())];
        let lines = memchr::memchr_iter(b'\n', before).count() as u64;
        let column = match memchr::memrchr(b'\n', before) {
            Some(last) => (before.len() - last - 1) as u64,
            None => frame.place.column + before.len() as u64,
        };
        Ok(place_text(
            &self.parts.file.path,
            lines_before + frame.place.lines_before + lines + 1,
            column + 1,
        ))
    }

    /// An error with the place of the record that brought it.
    fn at(&mut self, frame: &Frame, error: Error) -> Error {
        match self.place(frame, 0) {
            Ok(place) => error.with_place(place),
            Err(_) => error,
        }
    }

    fn at_pending(&mut self, error: Error) -> Error {
        match self.pending.take() {
            Some(frame) => self.at(&frame, error),
            None => error,
        }
    }
}

/// Whether a record may have one of the faults that the decoder does not look for: depth below json columns, and
/// lone surrogates in texts that became json.
fn needs_scan(octets: &[u8], escapes: &Finder<'_>) -> bool {
    // `[` and `{` differ in this bit only. The compiler makes vectors of this loop.
    let openings = octets.iter().filter(|octet| **octet & 0xDF == b'[').count();
    openings > NESTING_MAX as usize || escapes.find(octets).is_some()
}

impl RecordStream for FileStream {
    fn next(&mut self) -> Result<Item> {
        if !self.is_begun {
            self.is_begun = true;
            return Ok(Item::Schema(Arc::clone(&self.parts.schema)));
        }
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            self.fill()?;
        }
    }
}
