//! A made-up system of numbered records: in parts, with cursors, records that cannot be read, and faults by script.
//! Neighbour: the tests read it, break off, and go on.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use whimbrel_plugin_api::batch::Batch;
use whimbrel_plugin_api::capability::SourceCapabilities;
use whimbrel_plugin_api::collection::{Collection, CollectionsRequest};
use whimbrel_plugin_api::partition::{Partition, PartitionsRequest};
use whimbrel_plugin_api::source::{Item, ReadRequest, RecordStream, RejectedRecord};
use whimbrel_plugin_api::{Cursor, Error, Field, RecordType, Schema, Source};

use crate::events::Emitter;
use crate::loader::observe::{CallLog, OpenedSource};

/// Records between two cursors, read or not.
const BATCH: u64 = 10;

/// A call, its occurrence, and what it brings.
type Fault = (&'static str, u32, Error);

/// What the system is; what happens to it is shared by its copies.
#[derive(Clone)]
pub(super) struct World {
    pub(super) can: SourceCapabilities,
    /// Which records cannot be read.
    pub(super) unreadable_every: u64,
    /// Batches from one cursor to the next; those between have none.
    pub(super) cursor_every: u64,
    /// Streams that must have been open at the same time before one of them ends.
    pub(super) waits_for: usize,
    parts: Arc<Mutex<Vec<Range<u64>>>>,
    happening: Arc<Happening>,
}

#[derive(Default)]
struct Happening {
    faults: Vec<Fault>,
    calls: Mutex<HashMap<&'static str, u32>>,
    asked: Mutex<Vec<(String, u64)>>,
    /// Streams that are open, and the most that were.
    open: Mutex<(usize, usize)>,
    changed: Condvar,
}

pub(super) fn schema() -> Schema {
    Schema::new(vec![
        Field::required("id", RecordType::INT64),
        Field::new("score", RecordType::Float { bits: 64 }),
        Field::new("more", RecordType::Text),
    ])
}

pub(super) fn to_cursor(number: u64) -> Cursor {
    Cursor(number.to_be_bytes().to_vec())
}

fn number_of(cursor: &Cursor) -> Option<u64> {
    cursor.0.as_slice().try_into().ok().map(u64::from_be_bytes)
}

impl World {
    pub(super) fn new(parts: Vec<Range<u64>>) -> Self {
        Self {
            can: SourceCapabilities {
                partitions: true,
                resume: true,
                ..SourceCapabilities::default()
            },
            unreadable_every: 7,
            cursor_every: 1,
            waits_for: 1,
            parts: Arc::new(Mutex::new(parts)),
            happening: Arc::default(),
        }
    }

    /// The same system, to which nothing happens.
    pub(super) fn calm(&self) -> Self {
        self.failing(&[])
    }

    /// The same system, to which this happens.
    pub(super) fn failing(&self, faults: &[Fault]) -> Self {
        let happening = Happening {
            faults: faults.to_vec(),
            ..Happening::default()
        };
        Self {
            parts: Arc::new(Mutex::new(self.parts.lock().unwrap().clone())),
            happening: Arc::new(happening),
            ..self.clone()
        }
    }

    pub(super) fn can(&self) -> SourceCapabilities {
        self.can.clone()
    }

    pub(super) fn divide_anew(&self, parts: Vec<Range<u64>>) {
        *self.parts.lock().unwrap() = parts;
    }

    pub(super) fn opened(&self) -> OpenedSource {
        let log = CallLog::new(Emitter::new(Box::new(std::io::sink())), None);
        OpenedSource::of_host("numbers", Box::new(self.clone()), &log)
    }

    pub(super) fn take_asked(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.happening.asked.lock().unwrap())
    }

    pub(super) fn most_open(&self) -> usize {
        self.happening.open.lock().unwrap().1
    }

    fn play(&self, call: &'static str) -> Result<(), Error> {
        let mut calls = self.happening.calls.lock().unwrap();
        let count = calls.entry(call).or_default();
        *count += 1;
        let mut faults = self.happening.faults.iter();
        let due = faults.find(|fault| fault.0 == call && fault.1 == *count);
        due.map_or(Ok(()), |fault| Err(fault.2.clone()))
    }
}

impl Source for World {
    fn collections(&mut self, _: &CollectionsRequest) -> Result<Vec<Collection>, Error> {
        Ok(Vec::new())
    }

    fn partitions(&mut self, _: &PartitionsRequest) -> Result<Vec<Partition>, Error> {
        let parts = self.parts.lock().unwrap();
        let part = |range: &Range<u64>| Partition {
            descriptor: Cursor([range.start.to_be_bytes(), range.end.to_be_bytes()].concat()),
            label: format!("{}..{}", range.start, range.end),
            ..Partition::whole()
        };
        Ok(parts.iter().map(part).collect())
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>, Error> {
        self.play("read")?;
        let (label, range) = match &request.partition {
            Some(part) => {
                let (bounds, _) = part.descriptor.0.as_chunks::<8>();
                let bound = |number: usize| u64::from_be_bytes(bounds[number]);
                (part.label.clone(), bound(0)..bound(1))
            }
            None => (
                "all".to_owned(),
                0..self.parts.lock().unwrap().last().unwrap().end,
            ),
        };
        let from = number_of(&request.cursor);
        assert!(self.can.resume || from.is_none(), "it knows no cursors");
        let asked = (label, from.unwrap_or(0));
        self.happening.asked.lock().unwrap().push(asked);
        let next = from.unwrap_or(range.start);
        let mut open = self.happening.open.lock().unwrap();
        *open = (open.0 + 1, open.1.max(open.0 + 1));
        self.happening.changed.notify_all();
        drop(open);
        Ok(Box::new(Numbers {
            world: self.clone(),
            next,
            end: range
                .end
                .min(next.saturating_add(request.limit.unwrap_or(u64::MAX))),
            step: 0,
        }))
    }
}

struct Numbers {
    world: World,
    next: u64,
    end: u64,
    /// 0: the schema; then records that cannot be read and a batch in turns.
    step: u32,
}

impl Drop for Numbers {
    fn drop(&mut self) {
        self.world.happening.open.lock().unwrap().0 -= 1;
    }
}

impl Numbers {
    fn end(&self) -> Item {
        let mut open = self.world.happening.open.lock().unwrap();
        while open.1 < self.world.waits_for {
            open = self.world.happening.changed.wait(open).unwrap();
        }
        Item::End
    }
}

impl RecordStream for Numbers {
    fn next(&mut self) -> Result<Item, Error> {
        self.world.play("next")?;
        let schema = Arc::new(schema());
        self.step += 1;
        if self.step == 1 {
            return Ok(Item::Schema(schema));
        }
        let to = self.end.min(self.next + BATCH);
        if self.next >= to {
            return Ok(self.end());
        }
        let every = self.world.unreadable_every;
        let (unreadable, fine): (Vec<u64>, Vec<u64>) =
            (self.next..to).partition(|id| id % every == every - 1);
        if self.step.is_multiple_of(2) {
            let records = unreadable.into_iter().map(|id| RejectedRecord {
                record: id.to_string(),
                row: None,
                code: "a.bad".to_owned(),
                message: "bad".to_owned(),
                data: None,
            });
            return Ok(Item::Rejected(records.collect()));
        }
        let ids = fine.iter().map(|id| id.cast_signed());
        let scores = fine.iter().map(|id| match id % 5 {
            0 => f64::NAN,
            _ => *id as f64 / 8.0,
        });
        let texts = fine.iter().map(|id| format!("more of {id}"));
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from_iter_values(ids))),
            ("score", Arc::new(Float64Array::from_iter_values(scores))),
            ("more", Arc::new(StringArray::from_iter_values(texts))),
        ];
        let batch = Batch::new(
            schema,
            RecordBatch::try_from_iter_with_nullable(
                columns.map(|(name, column)| (name, column, name != "id")),
            )
            .map_err(Error::from)?,
        )?;
        self.next = to;
        // By its place, so that a stream that goes on has the same ones.
        let has_cursor = (to / BATCH).is_multiple_of(self.world.cursor_every);
        Ok(Item::Batch(match self.world.can.resume && has_cursor {
            true => batch.with_cursor(to_cursor(to)),
            false => batch,
        }))
    }
}
