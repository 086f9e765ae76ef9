//! What the tests of both roles share: opening through the boundary, reading to the end, writing a whole load.
//! Not here: any expectation.

use std::path::Path;
use std::sync::{Arc, Mutex};

use whimbrel_files::WhimbrelPlugin;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::abi::source::ForeignSource;
use whimbrel_plugin_api::abi::{ForeignPlugin, Validation};
use whimbrel_plugin_api::acceptance::Record;
use whimbrel_plugin_api::acceptance::records::{batch, records};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::services::HostServices;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId, PrepareReport, PrepareRequest};
use whimbrel_plugin_api::{
    Batch, Collection, CollectionsRequest, ConflictPolicy, Cursor, Item, LogLevel, ReadRequest, RecordStream,
    RejectedRecord, Result, Schema, Sink as _, Source,
};

/// A host that keeps the log.
#[derive(Default)]
pub struct Host(pub Mutex<Vec<String>>);

impl HostServices for Host {
    fn log(&self, level: LogLevel, message: &str) {
        self.0.lock().unwrap().push(format!("{level:?} {message}"));
    }
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

pub fn plugin() -> ForeignPlugin {
    local::<WhimbrelPlugin>()
}

pub fn open_source(config: &Json) -> Result<ForeignSource> {
    plugin().open_source(config, Arc::new(Host::default()), Validation::Full)
}

pub fn source(path: &Path) -> ForeignSource {
    open_source(&json!({ "path": path })).unwrap()
}

pub fn open_sink(config: &Json) -> Result<ForeignSink> {
    plugin().open_sink(config, Arc::new(Host::default()), Validation::Full)
}

pub fn collection(source: &mut dyn Source, name: &str) -> Collection {
    let mut found = source.collections(&CollectionsRequest::named(name)).unwrap();
    assert_eq!(found.len(), 1, "{name}");
    found.remove(0)
}

/// All that a stream delivers.
#[derive(Debug, Default)]
pub struct Reading {
    pub schema: Arc<Schema>,
    pub batches: Vec<Batch>,
    pub rejected: Vec<RejectedRecord>,
    pub heartbeats: Vec<Cursor>,
}

impl Reading {
    pub fn records(&self) -> Vec<Record> {
        self.batches.iter().flat_map(records).collect()
    }

    /// Place and code of each rejected record.
    pub fn rejections(&self) -> Vec<(&str, &str)> {
        self.rejected
            .iter()
            .map(|rejected| (rejected.record.as_str(), rejected.code.as_str()))
            .collect()
    }

    /// `name: type` of each field, with `?` if it may be null.
    pub fn types(&self) -> Vec<String> {
        let text = |field: &whimbrel_plugin_api::Field| {
            format!(
                "{}: {}{}",
                field.name,
                field.record_type,
                if field.nullable { "?" } else { "" }
            )
        };
        self.schema.fields.iter().map(text).collect()
    }
}

pub fn to_end(stream: &mut dyn RecordStream) -> Result<Reading> {
    let mut reading = Reading::default();
    loop {
        match stream.next()? {
            Item::Schema(schema) => reading.schema = schema,
            Item::Batch(batch) => reading.batches.push(batch),
            Item::Rejected(rejected) => reading.rejected.extend(rejected),
            Item::Heartbeat { cursor } => reading.heartbeats.push(cursor),
            Item::End => return Ok(reading),
            item => panic!("no file has this: {item:?}"),
        }
    }
}

pub fn read(source: &mut dyn Source, name: &str) -> Result<Reading> {
    to_end(&mut *source.read(&ReadRequest::all(name))?)
}

/// Writes `text` to a file in a new folder and reads it through the boundary.
pub fn read_text(file: &str, text: impl AsRef<[u8]>) -> Result<Reading> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    std::fs::write(&path, text).unwrap();
    let mut source = source(&path);
    let name = source.collections(&CollectionsRequest::default())?.remove(0).name;
    read(&mut source, &name)
}

pub fn prepare(sink: &mut ForeignSink, collections: &[Collection]) -> PrepareReport {
    let request = PrepareRequest {
        collections: collections.to_vec(),
        dry: false,
        ..PrepareRequest::default()
    };
    sink.prepare(&request).unwrap()
}

pub fn begin(sink: &mut ForeignSink) {
    sink.begin(&LaneId::default()).unwrap();
}

pub fn write(sink: &mut ForeignSink, collection: &str, batch: &Batch) -> u64 {
    sink.write(collection, batch, ConflictPolicy::Append)
        .unwrap()
        .accepted
}

pub fn commit(sink: &mut ForeignSink) {
    assert_eq!(
        sink.commit(&Checkpoint::default()).unwrap(),
        Committed::Committed { seq: 1 }
    );
}

/// A whole load of one collection.
pub fn load(config: &Json, collection: &Collection, batches: &[Batch]) {
    let mut sink = open_sink(config).unwrap();
    prepare(&mut sink, std::slice::from_ref(collection));
    for one in batches {
        begin(&mut sink);
        write(&mut sink, &collection.name, one);
        commit(&mut sink);
    }
    sink.finalize().unwrap();
}

pub fn batch_of(schema: &Schema, records: &[Record]) -> Batch {
    batch(&Arc::new(schema.clone()), records).unwrap()
}

/// The names in a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
