//! Opening and reading through the boundary, for the checks of all suites.
//!
//! The source role and the reading half of a sink look the same from here: an [`Opened`] each.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::records::{Record, records};
use super::report::{Checked, Stop, ensure, fail};
use super::source::ExpectedCollection;
use crate::abi::object::Canceller;
use crate::abi::root_module::ForeignPlugin;
use crate::abi::{Validation, sink::ForeignSink};
use crate::batch::Batch;
use crate::capability::SourceCapabilities;
use crate::collection::{Collection, CollectionsRequest};
use crate::error::Result;
use crate::record_type::Schema;
use crate::services::{HostServices, LogLevel};
use crate::source::{Item, ReadRequest, RecordStream, RejectedRecord, Source};

/// A host that keeps nothing and grants everything.
pub(crate) struct QuietHost;

impl HostServices for QuietHost {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// Something to read from.
pub(crate) struct Opened {
    pub(crate) source: Box<dyn Source>,
    pub(crate) canceller: Canceller,
    /// The session whose reading half this is; dropped after it.
    _session: Option<ForeignSink>,
}

/// How a suite comes to something to read from.
#[derive(Clone)]
pub(crate) struct Reader {
    plugin: ForeignPlugin,
    config: serde_json::Value,
    of_sink: bool,
    pub(crate) capabilities: SourceCapabilities,
    pub(crate) expected: Vec<ExpectedCollection>,
}

impl Reader {
    /// The source role.
    pub(crate) fn source(
        plugin: ForeignPlugin,
        config: serde_json::Value,
        capabilities: SourceCapabilities,
        expected: Vec<ExpectedCollection>,
    ) -> Self {
        Self {
            plugin,
            config,
            of_sink: false,
            capabilities,
            expected,
        }
    }

    /// The reading half of a sink.
    pub(crate) fn sink(
        plugin: ForeignPlugin,
        config: serde_json::Value,
        expected: Vec<ExpectedCollection>,
    ) -> Self {
        // A sink declares nothing of its reading half; partitions are the same with one part.
        let of_reader = SourceCapabilities {
            partitions: true,
            ..SourceCapabilities::default()
        };
        Self {
            of_sink: true,
            ..Self::source(plugin, config, of_reader, expected)
        }
    }

    /// Opens it anew.
    pub(crate) fn open(&self) -> Result<Opened> {
        if self.of_sink {
            let mut session = self
                .plugin
                .open_sink(&self.config, Arc::new(QuietHost), Validation::Full)?;
            let (source, canceller) = (crate::Sink::reader(&mut session)?, session.canceller());
            return Ok(Opened {
                source,
                canceller,
                _session: Some(session),
            });
        }
        let source = self
            .plugin
            .open_source(&self.config, Arc::new(QuietHost), Validation::Full)?;
        let canceller = source.canceller();
        Ok(Opened {
            source: Box::new(source),
            canceller,
            _session: None,
        })
    }

    /// Everything that `request` gives, from a source opened for it.
    pub(crate) fn read(&self, request: &ReadRequest) -> Checked<Reading> {
        read_to_end(self.open()?.source.read(request)?)
    }

    /// What the source says of its collections.
    pub(crate) fn collections(&self) -> Checked<Vec<Collection>> {
        let all = CollectionsRequest {
            names: Vec::new(),
            schemas: true,
        };
        Ok(self.open()?.source.collections(&all)?)
    }

    /// Runs `body` for each expected collection; its name is put before a failure.
    pub(crate) fn each(&self, mut body: impl FnMut(&ExpectedCollection) -> Checked) -> Checked {
        for expected in &self.expected {
            body(expected).map_err(|stop| match stop {
                Stop::Fail(reason) => Stop::Fail(format!("`{}`: {reason}", expected.name)),
                skip @ Stop::Skip(_) => skip,
            })?;
        }
        Ok(())
    }
}

/// What a stream delivered.
#[derive(Default)]
pub(crate) struct Reading {
    /// The schema before the first batch.
    pub(crate) schema: Arc<Schema>,
    /// The batches.
    pub(crate) batches: Vec<Batch>,
    /// Records, and for each the number of the batch that it came in.
    pub(crate) records: Vec<(usize, Record)>,
    /// Records that the source could not deliver, each with the number of batches before it.
    pub(crate) rejected: Vec<(usize, RejectedRecord)>,
}

impl Reading {
    /// Records and rejected records that come after the first `batches` batches.
    pub(crate) fn after(&self, batches: usize) -> Counted {
        let records = self
            .records
            .iter()
            .filter(|(batch, _)| *batch >= batches)
            .map(|(_, record)| Line::Record(record.clone()));
        let rejected = self.rejected.iter().filter(|(before, _)| *before >= batches);
        let rejected =
            rejected.map(|(_, rejected)| Line::Rejected(rejected.code.clone(), rejected.record.clone()));
        count_lines(records.chain(rejected))
    }

    /// Everything.
    pub(crate) fn all(&self) -> Counted {
        self.after(0)
    }

    /// The records alone.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().map(|(_, record)| record)
    }
}

/// Something that a stream delivered.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    Record(Record),
    Rejected(String, String),
}

/// How often each thing was delivered; equal whatever the order.
pub(crate) type Counted = BTreeMap<Line, usize>;

fn count_lines(lines: impl Iterator<Item = Line>) -> Counted {
    let mut counts = Counted::new();
    for line in lines {
        *counts.entry(line).or_default() += 1;
    }
    counts
}

/// Records, counted.
pub(crate) fn counted<'r>(records: impl IntoIterator<Item = &'r Record>) -> Counted {
    count_lines(records.into_iter().cloned().map(Line::Record))
}

/// Reads a stream to its end, and holds it to the order of items.
pub(crate) fn read_to_end(mut stream: Box<dyn RecordStream>) -> Checked<Reading> {
    let mut reading = Reading::default();
    let Item::Schema(schema) = stream.next()? else {
        return fail("the first item of the stream is not a schema");
    };
    reading.schema = schema;
    loop {
        match stream.next()? {
            // Versions and shapes were compared by the foreign half already.
            Item::Schema(_)
            | Item::TransactionEnd { .. }
            | Item::Truncate { .. }
            | Item::Heartbeat { .. } => {}
            Item::Batch(batch) => {
                let number = reading.batches.len();
                ensure(batch.facts.sequence == number as u64, || {
                    format!(
                        "batch {number} names the sequence number {}",
                        batch.facts.sequence
                    )
                })?;
                reading
                    .records
                    .extend(records(&batch).into_iter().map(|record| (number, record)));
                reading.batches.push(batch);
            }
            Item::Rejected(rejected) => {
                let before = reading.batches.len();
                reading
                    .rejected
                    .extend(rejected.into_iter().map(|record| (before, record)));
            }
            Item::End => return Ok(reading),
        }
    }
}

/// Fails unless both hold the same, whatever the order; `what` names the second.
pub(crate) fn ensure_same(expected: &Counted, found: &Counted, what: &str) -> Checked {
    let total = |counts: &Counted| counts.values().sum::<usize>();
    let missing = |from: &Counted, other: &Counted| -> usize {
        from.iter()
            .map(|(line, count)| count.saturating_sub(other.get(line).copied().unwrap_or(0)))
            .sum()
    };
    ensure(expected == found, || {
        format!(
            "{what} gives {} records in place of {}: {} are missing, {} are too many",
            total(found),
            total(expected),
            missing(expected, found),
            missing(found, expected)
        )
    })
}
