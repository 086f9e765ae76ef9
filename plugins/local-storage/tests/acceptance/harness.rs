//! What the tests share: opening through the boundary, exports in temporary folders, reading to the end.
//! Not here: any expectation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use whimbrel_local_storage::WhimbrelPlugin;
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::records::{Record, Value, records};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::{
    Collection, CollectionsRequest, Cursor, Error, Finding, Item, ReadRequest, RejectedRecord, Source,
};

struct Nobody;

impl HostServices for Nobody {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

pub fn try_open(config: &Json) -> Result<Box<dyn Source>, Error> {
    Ok(Box::new(local::<WhimbrelPlugin>().open_source(
        config,
        Arc::new(Nobody),
        Validation::Full,
    )?))
}

/// An export file of its own with its config; removed when dropped.
pub struct Export {
    _folder: tempfile::TempDir,
    pub config: Json,
}

pub fn export(content: impl AsRef<[u8]>, config: Json) -> Export {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.json");
    std::fs::write(&path, content).unwrap();
    let mut config = config;
    config["path"] = json!(path);
    Export {
        _folder: folder,
        config,
    }
}

impl Export {
    pub fn open(&self) -> Box<dyn Source> {
        try_open(&self.config).unwrap()
    }

    pub fn everything(&self) -> BTreeMap<String, Read> {
        everything(&mut *self.open())
    }

    /// Why it cannot be read, with the name of the temporary folder removed from the place.
    pub fn error(&self) -> Error {
        let error = self.open().collections(&all()).unwrap_err();
        let folder = format!("{}/", self._folder.path().display());
        Error {
            place: error.place.map(|place| place.replace(&folder, "")),
            ..error
        }
    }

    pub fn findings(&self) -> Vec<Finding> {
        self.open().check().unwrap()
    }
}

/// All that a stream delivered.
pub struct Read {
    pub collection: Collection,
    pub records: Vec<Record>,
    pub rejected: Vec<RejectedRecord>,
}

pub fn all() -> CollectionsRequest {
    CollectionsRequest {
        names: Vec::new(),
        schemas: true,
    }
}

pub fn everything(source: &mut dyn Source) -> BTreeMap<String, Read> {
    let collections = source.collections(&all()).unwrap();
    let read = |collection: Collection| {
        let (records, rejected, _) = read(source, &ReadRequest::all(&collection.name));
        (
            collection.name.clone(),
            Read {
                collection,
                records,
                rejected,
            },
        )
    };
    collections.into_iter().map(read).collect()
}

/// Records, rejected records, and the cursor after each batch.
pub fn read(
    source: &mut dyn Source,
    request: &ReadRequest,
) -> (Vec<Record>, Vec<RejectedRecord>, Vec<Cursor>) {
    let mut stream = source.read(request).unwrap();
    let (mut all, mut rejected, mut cursors) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match stream.next().unwrap() {
            Item::Batch(batch) => {
                all.extend(records(&batch));
                cursors.push(batch.facts.cursor);
            }
            Item::Rejected(records) => rejected.extend(records),
            Item::End => return (all, rejected, cursors),
            _ => {}
        }
    }
}

/// Records as `field=value` lines, absent fields left out.
pub fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        let fields = record.iter().filter(|(_, value)| **value != Value::Absent);
        fields
            .map(|(field, value)| format!("{field}={value:?}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    records.iter().map(line).collect()
}

/// The announced fields as `name type`, `!` for those never null.
pub fn fields(collection: &Collection) -> Vec<String> {
    let required = |nullable: bool| if nullable { "" } else { "!" };
    let field = |field: &whimbrel_plugin_api::Field| {
        format!("{} {}{}", field.name, field.record_type, required(field.nullable))
    };
    collection.schema.fields.iter().map(field).collect()
}

pub fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/browser-to-turso")
        .join(name)
}
