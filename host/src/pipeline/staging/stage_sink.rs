//! Fills a stage: the sink's calls, answered by Arrow IPC files.
//!
//! A file is complete, synced and named only when its partition is; what is cut short keeps the suffix `.partial` and is
//! never read. Several sessions write at once, each its own lanes.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_ipc::writer::StreamWriter;
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, Committed, ConflictPolicy, LaneId, PrepareReport, PrepareRequest, Receipt,
};
use whimbrel_plugin_api::{Batch, Collection, Cursor, Error, ErrorKind, Field, Result, Sink};

use super::manifest::{StageManifest, StagedCollection, StagedPartition, unwritable};
use crate::events::SnapshotsRead;

/// Octets that are gathered before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// A stage that is being filled. Cheap to clone; all sessions share it.
#[derive(Clone)]
pub struct Stage(Arc<State>);

struct State {
    folder: PathBuf,
    /// Collections by number, each with its partitions.
    filled: Mutex<Vec<StagedCollection>>,
}

impl Stage {
    /// Makes the folder anew for `collections`, each with the descriptors and labels of its partitions.
    ///
    /// # Errors
    /// `staging.unwritable`, `staging.disk_full`.
    pub fn create(folder: &Path, collections: Vec<(Collection, Vec<(Cursor, String)>)>) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let make = || -> std::io::Result<()> {
            if folder.exists() {
                std::fs::remove_dir_all(folder)?;
            }
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
        };
        make().map_err(|error| unwritable(folder, &error))?;
        let filled = collections
            .into_iter()
            .map(|(collection, partitions)| StagedCollection {
                collection,
                partitions: partitions
                    .into_iter()
                    .map(|(descriptor, label)| StagedPartition {
                        descriptor,
                        label,
                        file: None,
                        record_count: 0,
                        size_bytes: 0,
                    })
                    .collect(),
                filtered_count: 0,
                snapshots: SnapshotsRead::default(),
                rejected_count: 0,
            })
            .collect();
        Ok(Self(Arc::new(State {
            folder: folder.to_owned(),
            filled: Mutex::new(filled),
        })))
    }

    /// A session that writes to it.
    pub fn session(&self) -> StageSink {
        StageSink {
            stage: self.clone(),
            open: HashMap::new(),
            lane: None,
        }
    }

    /// Takes note of how many records of collection number `index` did not come as far as the stage.
    pub fn leave_out(&self, index: usize, filtered: u64, rejected: u64) {
        let mut filled = self.0.filled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(staged) = filled.get_mut(index) {
            (staged.filtered_count, staged.rejected_count) = (filtered, rejected);
        }
    }

    /// Takes note of the snapshots at which the source was read for collection number `index`.
    pub fn read_at(&self, index: usize, snapshots: SnapshotsRead) {
        let mut filled = self.0.filled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(staged) = filled.get_mut(index) {
            staged.snapshots = snapshots;
        }
    }

    /// Declares it complete.
    ///
    /// # Errors
    /// `staging.unwritable`, `staging.disk_full`.
    pub fn complete(&self, manifest: StageManifest) -> Result<StageManifest> {
        let collections = self
            .0
            .filled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        StageManifest {
            collections,
            ..manifest
        }
        .write(&self.0.folder)
    }

    fn position(&self, lane: &LaneId) -> Result<(usize, usize)> {
        let filled = self.0.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let find = || {
            let collection = filled
                .iter()
                .position(|staged| staged.collection.name == lane.collection)?;
            let partition = filled[collection]
                .partitions
                .iter()
                .position(|partition| partition.descriptor == lane.partition)?;
            Some((collection, partition))
        };
        find().ok_or_else(|| Error::internal("a stage does not know the partition that it is given"))
    }

    fn note(&self, (collection, partition): (usize, usize), file: Option<String>, records: u64, bytes: u64) {
        let mut filled = self.0.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let staged = &mut filled[collection].partitions[partition];
        staged.file = file;
        staged.record_count = records;
        staged.size_bytes = bytes;
    }
}

struct Filling {
    position: (usize, usize),
    name: String,
    file: Option<StreamWriter<BufWriter<File>>>,
    records: u64,
}

/// A session that fills a stage.
pub struct StageSink {
    stage: Stage,
    open: HashMap<LaneId, Filling>,
    lane: Option<LaneId>,
}

impl StageSink {
    fn folder(&self) -> &Path {
        &self.stage.0.folder
    }

    fn failed(&self, error: &arrow_schema::ArrowError) -> Error {
        match error {
            arrow_schema::ArrowError::IoError(_, cause) => unwritable(self.folder(), cause),
            other => Error::internal("records could not be staged").with_cause(other),
        }
    }

    fn finish(&mut self, lane: &LaneId) -> Result<()> {
        let Some(filling) = self.open.remove(lane) else {
            return Ok(());
        };
        let Some(mut writer) = filling.file else {
            self.stage.note(filling.position, None, 0, 0);
            return Ok(());
        };
        writer.finish().map_err(|error| self.failed(&error))?;
        let file = writer
            .into_inner()
            .map_err(|error| self.failed(&error))?
            .into_inner()
            .map_err(|error| unwritable(self.folder(), error.error()))?;
        let settle = || -> std::io::Result<u64> {
            file.sync_all()?;
            let bytes = file.metadata()?.len();
            std::fs::rename(self.partial(&filling.name), self.folder().join(&filling.name))?;
            Ok(bytes)
        };
        let bytes = settle().map_err(|error| unwritable(self.folder(), &error))?;
        self.stage
            .note(filling.position, Some(filling.name), filling.records, bytes);
        Ok(())
    }

    fn partial(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.partial"))
    }
}

impl Sink for StageSink {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    /// A file of a stage has one schema.
    fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport> {
        let is_new = |field: &&Field| request.old.index_of(&field.name).is_none();
        let names: Vec<String> = request
            .new
            .fields
            .iter()
            .filter(is_new)
            .map(|field| format!("`{}`", field.name))
            .collect();
        Err(Error::new(
            ErrorKind::Unsupported,
            "staging.new_field",
            format!(
                "fields of `{}` turned up after it was planned, which staged records have no room for: {}",
                request.collection,
                names.join(", ")
            ),
        )
        .with_help("let the job say `staging: memory`, or have the source look at all records beforehand"))
    }

    fn begin(&mut self, lane: &LaneId) -> Result<()> {
        if !self.open.contains_key(lane) {
            let position = self.stage.position(lane)?;
            let name = format!("{:05}-{:05}.arrow", position.0, position.1);
            let filling = Filling {
                position,
                name,
                file: None,
                records: 0,
            };
            self.open.insert(lane.clone(), filling);
        }
        self.lane = Some(lane.clone());
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &Batch, _: ConflictPolicy) -> Result<Receipt> {
        let Some(lane) = self.lane.clone() else {
            return Err(Error::internal("a stage was written before `begin`"));
        };
        let Some(mut filling) = self.open.remove(&lane) else {
            return Err(Error::internal("a stage was written before `begin`"));
        };
        if filling.file.is_none() {
            let file = File::create(self.partial(&filling.name))
                .map_err(|error| unwritable(self.folder(), &error))?;
            let writer = StreamWriter::try_new(
                BufWriter::with_capacity(BUFFER_BYTES, file),
                batch.records.schema_ref(),
            )
            .map_err(|error| self.failed(&error))?;
            filling.file = Some(writer);
        }
        let written = filling
            .file
            .as_mut()
            .map_or(Ok(()), |file| file.write(&batch.records));
        filling.records += batch.record_count() as u64;
        self.open.insert(lane, filling);
        written.map_err(|error| self.failed(&error))?;
        Ok(Receipt::all(batch.record_count() as u64))
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        if checkpoint.done {
            self.finish(&checkpoint.lane)?;
        }
        self.lane = None;
        Ok(Committed::Committed {
            seq: checkpoint.seq + 1,
        })
    }

    fn abort(&mut self) -> Result<()> {
        self.lane = None;
        Ok(())
    }
}
