//! Reads a stage: the source's calls, answered from Arrow IPC files.
//!
//! Collections and partitions are those of the system that was staged, with the same names and descriptors, so that what
//! comes after cannot tell the difference. The cursor is the number of batches that were read.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use whimbrel_plugin_api::collection::{Collection, CollectionsRequest};
use whimbrel_plugin_api::partition::{Partition, PartitionsRequest};
use whimbrel_plugin_api::source::{BatchStream, CountRequest, ReadRequest, RecordStream};
use whimbrel_plugin_api::{Batch, Cursor, Error, Result, Schema, Source};

use super::manifest::{StageManifest, StagedCollection, StagedPartition, unreadable};
use crate::pipeline::budget::held_bytes;

/// A complete stage, read as a source.
pub struct StageSource {
    folder: PathBuf,
    manifest: Arc<StageManifest>,
}

impl StageSource {
    /// The stage in `folder`.
    pub fn new(folder: &Path, manifest: Arc<StageManifest>) -> Self {
        Self {
            folder: folder.to_owned(),
            manifest,
        }
    }

    fn staged(&self, name: &str) -> Result<&StagedCollection> {
        self.manifest
            .collections
            .iter()
            .find(|staged| staged.collection.name == name)
            .ok_or_else(|| Error::no_collection(name))
    }
}

impl Source for StageSource {
    fn collections(&mut self, request: &CollectionsRequest) -> Result<Vec<Collection>> {
        Ok(self
            .manifest
            .collections
            .iter()
            .filter(|staged| request.wants(&staged.collection.name))
            .map(|staged| {
                let mut collection = staged.collection.clone();
                collection.estimate.record_count = Some(count(staged));
                collection.estimate.exact = true;
                // The source was billed when it was read, this is not.
                collection.cost = None;
                collection
            })
            .collect())
    }

    fn partitions(&mut self, request: &PartitionsRequest) -> Result<Vec<Partition>> {
        let staged = self.staged(&request.collection)?;
        Ok(staged
            .partitions
            .iter()
            .map(|partition| Partition {
                descriptor: partition.descriptor.clone(),
                label: partition.label.clone(),
                estimate: whimbrel_plugin_api::collection::Estimate {
                    record_count: Some(partition.record_count),
                    size_bytes: Some(partition.size_bytes),
                    exact: true,
                },
            })
            .collect())
    }

    fn count(&mut self, request: &CountRequest) -> Result<Option<u64>> {
        self.staged(&request.collection).map(|staged| Some(count(staged)))
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        let staged = self.staged(&request.collection)?;
        let wanted: Vec<StagedPartition> = staged
            .partitions
            .iter()
            .filter(|partition| {
                request
                    .partition
                    .as_ref()
                    .is_none_or(|wanted| wanted.descriptor == partition.descriptor)
            })
            .cloned()
            .collect();
        let schema = Arc::new(staged.collection.schema.clone());
        let batches = Batches {
            folder: self.folder.clone(),
            schema: Arc::clone(&schema),
            waiting: wanted.into_iter(),
            reader: None,
            read_count: 0,
            skip: position(&request.cursor),
            left: request.limit.unwrap_or(u64::MAX),
        };
        Ok(Box::new(BatchStream::new(schema, batches)))
    }
}

fn count(staged: &StagedCollection) -> u64 {
    staged
        .partitions
        .iter()
        .map(|partition| partition.record_count)
        .sum()
}

fn position(cursor: &Cursor) -> u64 {
    cursor.0.as_slice().try_into().map_or(0, u64::from_be_bytes)
}

struct Batches {
    folder: PathBuf,
    schema: Arc<Schema>,
    waiting: std::vec::IntoIter<StagedPartition>,
    reader: Option<(PathBuf, StreamReader<BufReader<File>>)>,
    read_count: u64,
    skip: u64,
    left: u64,
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            let records = match self.records()? {
                Ok(records) => records,
                Err(error) => return Some(Err(error)),
            };
            self.read_count += 1;
            if self.read_count <= self.skip {
                continue;
            }
            let length = (records.num_rows() as u64).min(self.left);
            self.left -= length;
            let batch = Batch::new(Arc::clone(&self.schema), records.slice(0, length as usize));
            let cursor = Cursor(self.read_count.to_be_bytes().to_vec());
            return Some(batch.map(|mut batch| {
                // All columns of a file's batch share one buffer; counting it for each would be many times too much.
                batch.facts.bytes = held_bytes(&batch.records);
                batch.with_cursor(cursor)
            }));
        }
        None
    }
}

impl Batches {
    fn records(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some((file, reader)) = &mut self.reader {
                match reader.next() {
                    Some(Ok(records)) => return Some(Ok(records)),
                    Some(Err(error)) => return Some(Err(unreadable(file, &error))),
                    None => self.reader = None,
                }
            }
            let partition = self.waiting.next()?;
            let Some(name) = partition.file else {
                continue;
            };
            let path = self.folder.join(name);
            let opened = File::open(&path)
                .map_err(|error| unreadable(&path, &error))
                .and_then(|file| {
                    StreamReader::try_new(BufReader::new(file), None)
                        .map_err(|error| unreadable(&path, &error))
                });
            match opened {
                Ok(reader) => self.reader = Some((path, reader)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
