//! A part of a collection as a stream of batches.
//!
//! Documents are fetched ahead by a task of their own and decoded here, on the host's thread, so that both overlap. A document
//! that does not fit its columns is rejected with its path; one with a field that was not seen before makes the schema grow.
//! Neighbours: `scan` and `lookup`, where documents come from; `growth`.

use std::collections::VecDeque;
use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::Document;
use gcloud_sdk::prost::Message as _;
use gcloud_sdk::prost_types::Timestamp;
use whimbrel_plugin_api::runtime::Runtime;
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{
    Batch, Cursor, Item, ReadRequest, RecordStream, RejectedRecord, Result, Schema, Services,
};

use crate::error::RowFault;
use crate::path::Pattern;
use crate::value::{self, Decoder, Misfit};

use super::course::Course;
use super::growth::{Grower, Growth};
use super::lookup::{self, Lookup};
use super::partition::Range;
use super::position::Position;
use super::scan::{Documents, Scan, Scope};
use super::snapshot::{self, AsOf};
use super::target::{Reader, Target, as_of, delivered, wanted_fields};

/// Rejected records that are handed over at once; with their data they are as large as the documents.
const REJECTED_MAX: usize = 256;
/// Octets of rejected records that are handed over at once.
const REJECTED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Documents between two questions after the size of the batch, each of which is a look at every column.
const ASK_EVERY: usize = 64;

/// A part of a collection, being read.
pub(crate) struct DocumentStream {
    reader: Reader,
    services: Services,
    runtime: &'static Runtime,
    pattern: Pattern,
    schema: Arc<Schema>,
    decoder: Decoder,
    /// Where fields are found that the schema lacks; none if only some fields are asked for.
    growth: Option<Growth>,
    course: Course,
    bounds: BatchBounds,
    /// Records that may still be delivered.
    left: Option<u64>,
    /// A document that did not fit into the last batch.
    pending: Option<(String, Document)>,
    /// As of when the documents of the batch under way were read: a batch has one instant.
    batch_time: Option<Timestamp>,
    /// The field for which there is no column yet.
    new_field: Option<String>,
    size: Size,
    rejected: Vec<RejectedRecord>,
    rejected_bytes: usize,
    /// The last document that is in a batch or rejected.
    last: Option<String>,
    ready: VecDeque<Item>,
    sequence: u64,
    is_begun: bool,
}

impl DocumentStream {
    /// Starts to read what `request` asks for.
    ///
    /// # Errors
    /// `firestore.bad_cursor`, `firestore.bad_partition`, `firestore.bad_snapshot`, `firestore.bad_key_range`,
    /// `schema.no_field` and `plugin.unsupported` for what cannot be asked for.
    pub(crate) fn scan(
        reader: Reader,
        services: Services,
        target: Target,
        request: &ReadRequest,
    ) -> Result<Self> {
        let position = Position::from_cursor(&request.cursor)?;
        let mut range = Range::of(request.partition.as_ref())?;
        if let Some(predicate) = &request.predicate {
            range = range.and(Range::matching(predicate, &target.pattern, &target.key)?);
        }
        let asked = request
            .snapshot
            .as_deref()
            .map(snapshot::from_token)
            .transpose()?;
        // A cursor goes on with what it began with.
        let read_time = position
            .as_ref()
            .and_then(|position| position.read_time)
            .or(asked);
        let as_of = as_of(&reader.config, target.fixed, read_time);
        let schema = delivered(&target.schema, request)?;
        let limit = if range.is_empty() { Some(0) } else { request.limit };
        let scan = Scan {
            scope: Scope::Collection(target.pattern.clone()),
            from: range.from,
            to: range.to,
            after: position.map(|position| position.after),
            fields: wanted_fields(&schema, &target.pattern, request),
            limit,
            read_time: None,
            page_documents_max: reader.config.page_documents_max,
        };
        let runtime = Runtime::get()?;
        let documents = runtime.block_on(&services, async {
            Ok(Documents::open_as_of(
                &reader.client,
                scan.clone(),
                &services,
                as_of.clone(),
            ))
        })?;
        let course = Course::scan(documents, scan, as_of);
        let mut stream = Self::new(reader, services, target, request, schema, course)?;
        stream.left = limit;
        Ok(stream)
    }

    /// Starts to look up the records with the given keys.
    ///
    /// # Errors
    /// As [`Self::scan`], and `firestore.bad_keys` for keys of another form.
    pub(crate) fn lookup(
        reader: Reader,
        services: Services,
        target: Target,
        request: &ReadRequest,
        keys: &Batch,
    ) -> Result<Self> {
        let read_time = request
            .snapshot
            .as_deref()
            .map(snapshot::from_token)
            .transpose()?;
        let schema = delivered(&target.schema, request)?;
        let paths = lookup::paths(&reader.client, &target.pattern, &target.key, keys)?;
        let fields = wanted_fields(&schema, &target.pattern, request);
        // Without a snapshot each request sees the present.
        let as_of = match read_time {
            Some(_) => as_of(&reader.config, target.fixed, read_time),
            None => AsOf::given(None),
        };
        let client = reader.client.clone();
        let lookup = Lookup::new(client, paths, fields.as_deref(), as_of, services.clone());
        let course = Course::lookup(lookup);
        Self::new(reader, services, target, request, schema, course)
    }

    fn new(
        reader: Reader,
        services: Services,
        target: Target,
        request: &ReadRequest,
        schema: Arc<Schema>,
        course: Course,
    ) -> Result<Self> {
        let is_partial = !request.columns.is_empty() || request.expected.is_some();
        Ok(Self {
            decoder: Decoder::new(&schema, &target.pattern, reader.client.root(), is_partial)?,
            reader,
            services,
            runtime: Runtime::get()?,
            pattern: target.pattern,
            schema,
            growth: (!is_partial).then_some(target.growth),
            course,
            bounds: request.batch,
            left: None,
            pending: None,
            batch_time: None,
            new_field: None,
            size: Size::default(),
            rejected: Vec::new(),
            rejected_bytes: 0,
            last: None,
            ready: VecDeque::new(),
            sequence: 0,
            is_begun: false,
        })
    }

    /// Reads until there is something to hand over.
    async fn fill(&mut self) -> Result<()> {
        if let Some(field) = self.new_field.take() {
            self.grow(&field).await?;
        }
        let is_at_end = self.read_batch().await?;
        self.hand_over()?;
        if is_at_end {
            self.ready.push_back(Item::End);
        }
        Ok(())
    }

    /// Reads documents until a batch is full, or a field has no column yet; answers whether there are no more.
    async fn read_batch(&mut self) -> Result<bool> {
        while self.decoder.len() < self.bounds.records_max.max(1)
            && self.rejected.len() < REJECTED_MAX
            && self.rejected_bytes < REJECTED_BYTES_MAX
        {
            let next = match self.pending.take() {
                Some(document) => Some(document),
                None => self.next_document().await?,
            };
            let Some((path, document)) = next else {
                return Ok(true);
            };
            // A record that is larger than a batch travels alone, and what is read as of another instant travels apart.
            let bytes = document.encoded_len() + path.len();
            let read_time = self.course.read_time();
            let is_begun = self.decoder.len() > 0 || !self.rejected.is_empty();
            let is_apart = is_begun && read_time != self.batch_time;
            let is_full =
                self.decoder.len() > 0 && self.size.with(bytes, &self.decoder) > self.bounds.bytes_max;
            if is_apart || is_full {
                self.pending = Some((path, document));
                break;
            }
            self.batch_time = read_time;
            match self.decoder.push(&path, &document.fields) {
                Ok(()) => {
                    self.size.add(bytes);
                    if let Some(left) = &mut self.left {
                        *left -= 1;
                    }
                }
                Err(Misfit::NewField(field)) if self.growth.is_some() => {
                    self.pending = Some((path, document));
                    self.new_field = Some(field);
                    break;
                }
                Err(Misfit::NewField(field)) => {
                    let fault = RowFault::new(
                        "firestore.new_field",
                        format!(
                            "the document has the field `{field}`, which no look at the collection finds"
                        ),
                    );
                    self.reject(&path, &document, fault);
                }
                Err(Misfit::Value(fault)) => self.reject(&path, &document, fault),
            }
            self.last = Some(path);
        }
        Ok(false)
    }

    async fn next_document(&mut self) -> Result<Option<(String, Document)>> {
        loop {
            if let Some(next) = self.course.next().await? {
                return Ok(Some(next));
            }
            // Rejected records do not count towards a limit, so others are fetched in their place.
            let is_wanting = self.left.is_some_and(|left| left > 0);
            let goes_on = is_wanting
                && self.course.go_on(
                    &self.reader.client,
                    &self.services,
                    self.last.as_deref(),
                    self.left,
                );
            if !goes_on {
                return Ok(None);
            }
        }
    }

    /// Makes columns for all fields of the collection, now that a document has one that was not seen before.
    async fn grow(&mut self, field: &str) -> Result<()> {
        let Some(growth) = &self.growth else {
            return Ok(());
        };
        let grower = Grower {
            client: &self.reader.client,
            config: &self.reader.config,
            services: &self.services,
            pattern: &self.pattern,
            read_time: self.course.read_time(),
        };
        match growth.after(&self.schema, field, grower).await? {
            Some(grown) => {
                self.schema = Arc::new(grown);
                let root = self.reader.client.root();
                self.decoder = Decoder::new(&self.schema, &self.pattern, root, false)?;
                self.ready.push_back(Item::Schema(Arc::clone(&self.schema)));
            }
            // Nobody else finds it: the document is gone by now, or is read as of another instant.
            None => self.growth = None,
        }
        Ok(())
    }

    fn reject(&mut self, path: &str, document: &Document, fault: RowFault) {
        let data = value::json_text(&document.fields, self.reader.client.root());
        self.rejected_bytes += data.len();
        self.rejected.push(RejectedRecord {
            record: path.to_owned(),
            row: None,
            code: fault.code.to_owned(),
            message: fault.message,
            data: Some(data),
        });
    }

    fn hand_over(&mut self) -> Result<()> {
        let has_rejected = !self.rejected.is_empty();
        if has_rejected {
            self.rejected_bytes = 0;
            self.ready
                .push_back(Item::Rejected(std::mem::take(&mut self.rejected)));
        }
        if self.decoder.len() > 0 {
            let mut batch = Batch::new(Arc::clone(&self.schema), self.decoder.finish()?)?;
            self.size = Size::default();
            batch.facts.sequence = self.sequence;
            batch.facts.snapshot = self.batch_time.map(snapshot::to_token);
            self.sequence += 1;
            let batch = batch.with_cursor(self.cursor()?);
            self.ready.push_back(Item::Batch(batch));
        } else if has_rejected && self.course.is_scan() {
            let cursor = self.cursor()?;
            self.ready.push_back(Item::Heartbeat { cursor });
        }
        Ok(())
    }

    /// Where to go on; the start for a lookup, which is asked for anew.
    fn cursor(&self) -> Result<Cursor> {
        match self.last.as_ref().filter(|_| self.course.is_scan()) {
            Some(last) => Position {
                after: last.clone(),
                read_time: self.batch_time,
            }
            .to_cursor(),
            None => Ok(Cursor::start()),
        }
    }
}

impl RecordStream for DocumentStream {
    fn next(&mut self) -> Result<Item> {
        if !std::mem::replace(&mut self.is_begun, true) {
            return Ok(Item::Schema(Arc::clone(&self.schema)));
        }
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            let (runtime, services) = (self.runtime, self.services.clone());
            runtime.block_on(&services, self.fill())?;
        }
    }
}

/// How large the batch under way is, about.
#[derive(Debug, Default)]
struct Size {
    asked_bytes: usize,
    /// Octets of documents since then; columns take about as much.
    more_bytes: usize,
    documents: usize,
}

impl Size {
    /// The size with a further document of so many octets.
    fn with(&mut self, bytes: usize, decoder: &Decoder) -> usize {
        // What was not asked for is an estimate, so it may not become most of the answer.
        if self.documents >= ASK_EVERY || self.more_bytes > self.asked_bytes {
            *self = Self {
                asked_bytes: decoder.bytes(),
                ..Self::default()
            };
        }
        self.asked_bytes + self.more_bytes + bytes
    }

    fn add(&mut self, bytes: usize) {
        self.more_bytes += bytes;
        self.documents += 1;
    }
}
