//! Reads one part of a side into its file, from its start or from where an earlier reading was ended.
//!
//! A mark is made right behind a batch with a cursor and nowhere else, so that what was noted until then comes before it and
//! nothing of that comes again. Neighbour: `reading` runs parts side by side.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Instant;

use whimbrel_plugin_api::source::{Item, OTHER_FIELDS, ReadRequest, RejectedRecord};
use whimbrel_plugin_api::{Batch, Cursor, Error, ErrorKind, Schema};

use super::extracted::Extracting;
use super::{Shared, SideRead, add_losses};
use crate::events::{Failure, PartitionDigest};
use crate::loader::observe::OpenedStream;
use crate::transform::Chain;
use crate::verification::bucket::Buckets;
use crate::verification::digest::{Digester, Pair};
use crate::verification::full::progress::PartProgress;
use crate::verification::pairs::{PairFile, PairWriter, is_torn};

/// Labels of records that could not be read that are kept for a part; the others are counted.
const UNREADABLE_MAX: usize = 1_000;

/// A part that was read to its end.
pub(super) struct PartRead {
    pub(super) file: PairFile,
    pub(super) digest: PartitionDigest,
    /// The same of what the system gave, if that was made of all of it.
    pub(super) extracted: Option<PartitionDigest>,
    pub(super) part: PartProgress,
}

/// Why a part could not be read.
pub(super) enum Trouble {
    /// What an earlier reading has left is of no use; everything is read anew.
    Outdated(Failure),
    /// Anything else.
    Failed(Failure),
}

impl Trouble {
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Outdated(failure) | Self::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Reads the part called `number` from where `begun` has ended; answers also the digests of it, and those of what the system gave.
pub(super) fn read(
    shared: &Shared<'_, '_>,
    number: usize,
    begun: PartProgress,
) -> Result<(PartRead, Buckets, Option<Buckets>), Trouble> {
    let is_gone_on_with = begun.mark.batch_count > 0 || begun.is_done || !begun.cursor.is_start();
    let mut reading = Reading::begin(shared, number, begun)?;
    if !reading.part.is_done {
        let mut stream = match reading.open() {
            Ok(stream) => stream,
            Err(failure) if is_gone_on_with => return Err(refused(failure)),
            Err(failure) => return Err(failure.into()),
        };
        reading.read_all(&mut stream, is_gone_on_with)?;
        reading.end()?;
    }
    let Reading {
        writer,
        buckets,
        extracting,
        part,
        ..
    } = reading;
    let path = path_of(shared.what, number);
    writer.close()?;
    let digest = buckets.total().of_partition(&part.partition.label);
    let file = PairFile::open(&path)?;
    let extracted = extracting.map(|extracting| extracting.buckets);
    let read = PartRead {
        file,
        digest,
        extracted: extracted
            .as_ref()
            .map(|buckets| buckets.total().of_partition(&part.partition.label)),
        part,
    };
    Ok((read, buckets, extracted))
}

/// The system does not go on where an earlier reading has ended: for now, or because it no longer can.
fn refused(failure: Failure) -> Trouble {
    let kind = failure.error.kind;
    match kind.is_transient() || kind == ErrorKind::Cancelled {
        true => Trouble::Failed(failure),
        false => Trouble::Outdated(failure),
    }
}

fn path_of(what: &SideRead<'_>, number: usize) -> PathBuf {
    what.folder.join(format!("part-{number}.pairs"))
}

struct Reading<'a, 's> {
    shared: &'a Shared<'a, 's>,
    number: usize,
    writer: PairWriter,
    buckets: Buckets,
    digester: Digester,
    /// None if it is not wanted, or would not be of all records of the part.
    extracting: Option<Extracting>,
    chain: Option<Chain>,
    /// As of now, but for its mark and its losses, which are those of the last mark.
    part: PartProgress,
    /// Where the next batch begins, if the system can go on there.
    cursor: Option<Cursor>,
    /// Losses of an earlier reading, up to its mark.
    kept: PartProgress,
    /// Of one batch.
    pairs: Vec<Pair>,
    records_since_mark: u64,
    marked_at: Instant,
}

impl<'a, 's> Reading<'a, 's> {
    fn begin(shared: &'a Shared<'a, 's>, number: usize, begun: PartProgress) -> Result<Self, Trouble> {
        let what = shared.what;
        let path = path_of(what, number);
        let mut buckets = Buckets::default();
        let can_go_on = begun.is_done || may_mark(what) && !begun.cursor.is_start();
        let (writer, part) = if can_go_on {
            let resumed = PairWriter::resume_with(&path, begun.mark, &mut |pair| buckets.add(pair));
            let writer = resumed.map_err(|error| match is_torn(&error) {
                true => Trouble::Outdated(error.into()),
                false => Trouble::Failed(error.into()),
            })?;
            (shared.progress)(begun.mark.record_count);
            (writer, begun)
        } else {
            (PairWriter::create(&path)?, PartProgress::begun(begun.partition))
        };
        let mut reading = Self {
            shared,
            number,
            writer,
            buckets,
            digester: Digester::new(what.recipe.clone()),
            extracting: match can_go_on {
                true => None,
                false => what.extracted.as_ref().map(Extracting::new),
            },
            chain: None,
            cursor: what.can.resume.then(|| part.cursor.clone()),
            kept: part.clone(),
            part,
            pairs: Vec::new(),
            records_since_mark: 0,
            marked_at: Instant::now(),
        };
        if !reading.part.is_done {
            reading.chain = reading.chain()?;
        }
        Ok(reading)
    }

    /// What records are sent through, if there is anything.
    fn chain(&self) -> Result<Option<Chain>, Failure> {
        match self.shared.what.transformed {
            Some((collection, transforms, jobs)) if !jobs.is_empty() => {
                let mut chain = Chain::open(transforms, jobs)?.from_cursor(self.part.cursor.clone());
                chain.plan(collection)?;
                Ok(Some(chain))
            }
            _ => Ok(None),
        }
    }

    fn open(&self) -> Result<OpenedStream, Failure> {
        let partition = &self.part.partition;
        let request = ReadRequest {
            // What is not divided is asked for as a whole.
            partition: (!partition.descriptor.is_start()).then(|| partition.clone()),
            cursor: self.part.cursor.clone(),
            ..self.shared.what.request.clone()
        };
        let mut side = self.shared.side.lock().unwrap_or_else(PoisonError::into_inner);
        side.read(&request)
    }

    /// Takes all of the stream. What goes wrong before the first of its records is the place's fault where a stream
    /// `is_gone_on_with`.
    fn read_all(&mut self, stream: &mut OpenedStream, is_gone_on_with: bool) -> Result<(), Trouble> {
        let mut has_records = false;
        loop {
            if self.shared.is_raised() {
                return Err(Error::cancelled().into());
            }
            let item = stream
                .next_item()
                .map_err(|failure| match is_gone_on_with && !has_records {
                    true => refused(failure),
                    false => Trouble::Failed(failure),
                })?;
            match item {
                Item::Schema(schema) => self.meet(&schema)?,
                Item::Batch(batch) => {
                    has_records = true;
                    self.take(batch)?;
                }
                Item::Rejected(records) => self.note_unreadable(records),
                Item::End => return Ok(()),
                Item::Heartbeat { .. } | Item::TransactionEnd { .. } | Item::Truncate { .. } => {}
            }
        }
    }

    /// Notes what the recipe does not know of, and what it does in vain.
    fn meet(&mut self, schema: &Schema) -> Result<(), Failure> {
        if self
            .extracting
            .as_ref()
            .is_some_and(|making| !making.knows(schema))
        {
            self.extracting = None;
        }
        let recipe = &self.shared.what.recipe.schema;
        let grown = match &mut self.chain {
            // What transforms make of it was planned, unless it has grown since.
            Some(chain) => Some(chain.grow(schema)?.schema),
            None => {
                let fields = recipe.fields.iter();
                let missing = fields.filter(|field| schema.index_of(&field.name).is_none());
                self.part.missing_fields = Some(missing.map(|field| field.name.clone()).collect());
                None
            }
        };
        for field in &grown.as_ref().unwrap_or(schema).fields {
            let is_known = recipe.index_of(&field.name).is_some() || field.name == OTHER_FIELDS;
            let is_noted = self.part.new_fields.iter().any(|known| known.name == field.name);
            if !is_known && !is_noted {
                self.part.new_fields.push(field.clone());
            }
        }
        Ok(())
    }

    fn take(&mut self, batch: Batch) -> Result<(), Failure> {
        let record_count = batch.record_count() as u64;
        (self.shared.progress)(record_count);
        let before = self.cursor.take();
        let after = batch.facts.cursor.clone();
        if let Some(snapshot) = &batch.facts.snapshot {
            self.part.snapshots.note(snapshot);
        }
        self.pairs.clear();
        // A value that has no digest as it came may be one that a transform takes out.
        if self
            .extracting
            .as_mut()
            .is_some_and(|making| making.add(&batch).is_err())
        {
            self.extracting = None;
        }
        match &mut self.chain {
            None => self.digester.digest(&batch, &mut self.pairs)?,
            // Records that a transform rejects or leaves out are not in the sink, and the run has listed them.
            Some(chain) => {
                let changed = chain.apply(batch)?;
                self.part.refused_count += changed.rejected.len() as u64;
                for batch in changed.batches {
                    self.digester.digest(&batch, &mut self.pairs)?;
                }
            }
        }
        for pair in &self.pairs {
            self.buckets.add(*pair);
        }
        self.writer.append(before.as_ref(), &self.pairs)?;
        self.records_since_mark += record_count;
        if self.shared.what.can.resume && !after.is_start() {
            self.part.cursor.clone_from(&after);
            self.cursor = Some(after);
            if may_mark(self.shared.what) && self.is_due() {
                self.mark()?;
            }
        }
        Ok(())
    }

    fn note_unreadable(&mut self, records: Vec<RejectedRecord>) {
        self.part.unreadable_count += records.len() as u64;
        let room = UNREADABLE_MAX.saturating_sub(self.part.unreadable.len());
        let labels = records.into_iter().map(|record| record.record);
        self.part.unreadable.extend(labels.take(room));
    }

    fn is_due(&self) -> bool {
        let every = self.shared.mark_every;
        self.records_since_mark >= every.record_count || self.marked_at.elapsed() >= every.time
    }

    /// Makes durable how far the part is.
    fn mark(&mut self) -> Result<(), Error> {
        self.take_losses();
        self.part.mark = self.writer.sync()?;
        self.shared.keeper.mark(self.number, &self.part)?;
        self.records_since_mark = 0;
        self.marked_at = Instant::now();
        Ok(())
    }

    /// The losses of this reading and of the earlier one.
    fn take_losses(&mut self) {
        let (losses, lossy_record_count) = self.digester.altered();
        self.part.losses.clone_from(&self.kept.losses);
        add_losses(&mut self.part.losses, losses);
        self.part.lossy_record_count = self.kept.lossy_record_count + lossy_record_count;
    }

    /// Nothing is left of the part.
    fn end(&mut self) -> Result<(), Error> {
        self.part.is_done = true;
        let is_small = self.writer.written().record_count < self.shared.mark_every.part_records_min;
        if is_small && !self.is_due() {
            self.take_losses();
            return Ok(());
        }
        self.mark()
    }
}

/// Whether a part can be gone on with in mid-part. Of a limited reading it is not known how much of the limit is left.
fn may_mark(what: &SideRead<'_>) -> bool {
    what.can.resume && what.request.limit.is_none()
}
