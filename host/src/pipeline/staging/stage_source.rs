//! Reads a stage: the source's calls, answered from Arrow IPC files.
//!
//! Collections and partitions are those of the system that was staged, with the same names and descriptors, so that what
//! comes after cannot tell the difference. The cursor is the number of batches that were read, with a mark of the stage: batches
//! of another one end elsewhere, so its cursors and its partitions are refused.

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

use super::manifest::{StageManifest, StagedCollection, StagedPartition, other_stage, unreadable};
use crate::pipeline::budget::held_bytes;

/// Octets by which a cursor names its stage.
const MARK_BYTES: usize = 16;
/// Octets of the number of batches.
const NUMBER_BYTES: usize = 8;

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

    /// The partitions that `request` asks for.
    fn wanted(&self, staged: &StagedCollection, request: &ReadRequest) -> Result<Vec<StagedPartition>> {
        let Some(wanted) = &request.partition else {
            return Ok(staged.partitions.clone());
        };
        let found = staged
            .partitions
            .iter()
            .find(|partition| partition.descriptor == wanted.descriptor)
            .cloned();
        let part = || other_stage(&request.collection, &format!("the partition `{}`", wanted.label));
        found.map(|partition| vec![partition]).ok_or_else(part)
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
                collection.estimate.record_count = Some(staged.record_count());
                collection.estimate.exact = true;
                // The source was billed when it was read, this is not.
                collection.cost = None;
                // Its batches stay where they are.
                collection.within_snapshot = false;
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
        self.staged(&request.collection)
            .map(|staged| Some(staged.record_count()))
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        let staged = self.staged(&request.collection)?;
        let wanted = self.wanted(staged, request)?;
        let mark = mark_of(&self.manifest.id);
        let skip = position(&request.cursor, mark)
            .ok_or_else(|| other_stage(&request.collection, "the cursor of a partition"))?;
        let schema = Arc::new(staged.collection.schema.clone());
        let batches = Batches {
            folder: self.folder.clone(),
            schema: Arc::clone(&schema),
            waiting: wanted.into_iter(),
            reader: None,
            mark,
            read_count: 0,
            skip,
            left: request.limit.unwrap_or(u64::MAX),
        };
        Ok(Box::new(BatchStream::new(schema, batches)))
    }
}

/// By what cursors name the stage called `id`.
fn mark_of(id: &str) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..MARK_BYTES]);
    mark
}

fn cursor_after(batches: u64, mark: [u8; MARK_BYTES]) -> Cursor {
    Cursor([&mark[..], &batches.to_be_bytes()].concat())
}

/// The number of batches before `cursor`; none if it is no cursor of this stage.
fn position(cursor: &Cursor, mark: [u8; MARK_BYTES]) -> Option<u64> {
    if cursor.is_start() {
        return Some(0);
    }
    let number = cursor.0.strip_prefix(&mark)?;
    let number: [u8; NUMBER_BYTES] = number.try_into().ok()?;
    Some(u64::from_be_bytes(number))
}

struct Batches {
    folder: PathBuf,
    schema: Arc<Schema>,
    waiting: std::vec::IntoIter<StagedPartition>,
    reader: Option<(PathBuf, StreamReader<BufReader<File>>)>,
    mark: [u8; MARK_BYTES],
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
            let cursor = cursor_after(self.read_count, self.mark);
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

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    use whimbrel_plugin_api::sink::{Checkpoint, ConflictPolicy, LaneId};
    use whimbrel_plugin_api::source::Item;
    use whimbrel_plugin_api::{ErrorKind, Field, RecordType, Sink as _};

    use super::*;
    use crate::pipeline::staging::Stage;

    const PARTITION: &[u8] = b"first half";

    fn collection() -> Collection {
        Collection::new(
            "people",
            Schema::new(vec![Field::required("id", RecordType::INT64)]),
        )
    }

    fn partition(descriptor: &[u8]) -> Partition {
        Partition {
            descriptor: Cursor(descriptor.to_vec()),
            label: "of a test".to_owned(),
            estimate: Default::default(),
        }
    }

    /// A stage of one partition with the numbers up to `end`, in batches of `size`.
    fn stage(folder: &Path, end: i64, size: i64) -> StageSource {
        let parts = vec![(Cursor(PARTITION.to_vec()), "first half".to_owned())];
        let stage = Stage::create(folder, vec![(collection(), parts)]).unwrap();
        let mut session = stage.session();
        let lane = LaneId {
            collection: "people".to_owned(),
            partition: Cursor(PARTITION.to_vec()),
            ..LaneId::default()
        };
        session.begin(&lane).unwrap();
        let schema = Arc::new(collection().schema);
        for first in (0..end).step_by(size as usize) {
            let column = Arc::new(Int64Array::from_iter_values(first..end.min(first + size)));
            let records = RecordBatch::try_new(schema.to_arrow(), vec![column]).unwrap();
            let batch = Batch::new(Arc::clone(&schema), records).unwrap();
            session
                .write("people", &batch, ConflictPolicy::Overwrite)
                .unwrap();
        }
        let checkpoint = Checkpoint {
            lane,
            done: true,
            ..Checkpoint::default()
        };
        session.commit(&checkpoint).unwrap();
        let manifest = StageManifest {
            id: StageManifest::new_id("run"),
            ..StageManifest::default()
        };
        let manifest = stage.complete(manifest).unwrap();
        assert_eq!(StageManifest::read(folder), Some(manifest.clone()));
        StageSource::new(folder, Arc::new(manifest))
    }

    fn request(descriptor: &[u8], cursor: Cursor) -> ReadRequest {
        ReadRequest {
            partition: Some(partition(descriptor)),
            cursor,
            ..ReadRequest::all("people")
        }
    }

    /// The numbers of each batch, and the cursor after it.
    fn read(source: &mut StageSource, cursor: Cursor) -> Vec<(Vec<i64>, Cursor)> {
        let mut stream = source.read(&request(PARTITION, cursor)).unwrap();
        let mut batches = Vec::new();
        loop {
            match stream.next().unwrap() {
                Item::Batch(batch) => {
                    let ids = batch.records.column(0).as_primitive::<Int64Type>();
                    batches.push((ids.values().to_vec(), batch.facts.cursor.clone()));
                }
                Item::End => return batches,
                _ => {}
            }
        }
    }

    fn refused(source: &mut StageSource, descriptor: &[u8], cursor: &Cursor) {
        let error = source.read(&request(descriptor, cursor.clone())).err().unwrap();
        assert_eq!(
            (error.code.as_ref(), error.kind),
            ("staging.other_stage", ErrorKind::Integrity)
        );
        assert!(
            error.message.contains("`people`") && error.help.is_some(),
            "{error}"
        );
    }

    #[test]
    fn reading_goes_on_after_each_batch_of_the_same_stage_and_of_no_other() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut source = stage(folder.path(), 10, 4);
        let all = read(&mut source, Cursor::start());
        assert_eq!(
            all.iter().map(|(ids, _)| ids.clone()).collect::<Vec<_>>(),
            [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]
        );
        // The same records in batches of another size: after two of them one would go on elsewhere.
        let mut another = stage(other.path(), 10, 3);
        for (number, (_, cursor)) in all.iter().enumerate() {
            assert_eq!(read(&mut source, cursor.clone()), all[number + 1..]);
            refused(&mut another, PARTITION, cursor);
        }
        // A stage that was made from the same in the same batches is another one as well.
        let mut alike = stage(other.path(), 10, 4);
        refused(&mut alike, PARTITION, &all[0].1);
    }

    #[test]
    fn a_cursor_of_another_source_is_no_beginning_and_an_unknown_partition_is_not_empty() {
        let folder = tempfile::tempdir().unwrap();
        let mut source = stage(folder.path(), 10, 4);
        let own = read(&mut source, Cursor::start()).remove(0).1;
        let longer = [&own.0[..], &[0]].concat();
        for octets in [&b"id 17"[..], &1_u64.to_be_bytes(), &own.0[1..], &longer] {
            refused(&mut source, PARTITION, &Cursor(octets.to_vec()));
        }
        refused(&mut source, b"second half", &Cursor::start());
    }
}
