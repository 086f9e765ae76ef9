//! What the tests of discovery share: a project behind a layer that counts, a source over it, and a host that listens.
//! Not here: any expectation.

use std::sync::{Arc, Mutex};

use whimbrel_firestore::WhimbrelPlugin;
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::source::ForeignSource;
use whimbrel_plugin_api::collection::Collection;
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::{CollectionsRequest, Source as _};

use crate::emulator::{Emulator, document_name};
use crate::grpc_layer::Layer;

/// Writes of one commit.
const WRITES_MAX: usize = 500;

/// A host that keeps what it is told.
#[derive(Default)]
pub struct Listener {
    pub progress: Mutex<Vec<(String, u64, Option<u64>)>>,
}

impl HostServices for Listener {
    fn log(&self, _: LogLevel, _: &str) {}

    fn progress(&self, what: &str, done: u64, total: Option<u64>) {
        self.progress.lock().unwrap().push((what.to_owned(), done, total));
    }

    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// A project of its own. Its layer ends before the emulator is let go.
pub struct Place {
    pub layer: Layer,
    pub emulator: Emulator,
    pub project: String,
}

impl Place {
    pub fn new() -> Option<Self> {
        let emulator = Emulator::shared()?;
        Some(Self {
            layer: Layer::before(emulator.host()),
            project: emulator.project("discovery"),
            emulator,
        })
    }

    /// A source with these settings, told to nobody.
    pub fn source(&self, settings: Json) -> ForeignSource {
        self.source_for(settings, Arc::new(Listener::default()))
    }

    pub fn source_for(&self, mut settings: Json, host: Arc<Listener>) -> ForeignSource {
        settings["project"] = json!(self.project);
        settings["host"] = json!(self.layer.host());
        local::<WhimbrelPlugin>()
            .open_source(&settings, host, Validation::Full)
            .unwrap()
    }

    /// Writes documents without asking whimbrel or the layer.
    pub fn put_all(&self, paths: impl IntoIterator<Item = String>, fields: &Json) {
        let writes: Vec<Json> = paths
            .into_iter()
            .map(
                |path| json!({ "update": { "name": document_name(&self.project, &path), "fields": fields } }),
            )
            .collect();
        for some in writes.chunks(WRITES_MAX) {
            self.emulator.commit(&self.project, &json!(some).to_string());
        }
    }
}

/// All collections, with schemas.
pub fn all(source: &mut ForeignSource) -> Vec<Collection> {
    source.collections(&CollectionsRequest::default()).unwrap()
}

/// These collections, with schemas.
pub fn named(source: &mut ForeignSource, names: &[&str]) -> Vec<Collection> {
    let request = CollectionsRequest {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        schemas: true,
    };
    source.collections(&request).unwrap()
}

/// Names in the order of the answer.
pub fn names(collections: &[Collection]) -> Vec<&str> {
    collections
        .iter()
        .map(|collection| collection.name.as_str())
        .collect()
}

/// Document reads that the answer says it took.
pub fn description_units(collections: &[Collection]) -> u64 {
    let units = |collection: &Collection| collection.cost.as_ref().unwrap().description_units;
    collections.iter().map(units).sum()
}
