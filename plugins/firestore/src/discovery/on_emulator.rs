//! Discovery on the emulator, from the inside: what no collection says of itself beyond the plugin, such as bounds, orphans and reads.
//!
//! Each test has a project of its own. `names` is about which collections there are, `shapes` about their fields, `samples` about what is
//! not read whole. What the program is told is tested from outside (`tests/discovery.rs`).

mod names;
mod samples;
mod shapes;

use gcloud_sdk::prost_types::Timestamp;
use serde_json::{Value as Json, json};
use whimbrel_plugin_api::runtime::Runtime;
use whimbrel_plugin_api::{CollectionsRequest, Field, Result, Services};

use super::{Discovered, discover};
use crate::client::Client;
use crate::config::FirestoreConfig;
use crate::emulator::Emulator;
use crate::memory::Remembered;

/// Writes of one commit.
const WRITES_MAX: usize = 500;

struct Bench {
    emulator: Emulator,
    project: String,
    config: FirestoreConfig,
    services: Services,
    client: Client,
}

impl Bench {
    fn new() -> Option<Self> {
        Self::with(json!({}))
    }

    /// A new project, and a client with these settings.
    fn with(mut settings: Json) -> Option<Self> {
        let emulator = Emulator::shared()?;
        let project = emulator.project("discovery");
        settings["project"] = json!(project);
        settings["host"] = json!(emulator.host());
        let config: FirestoreConfig = serde_json::from_value(settings).unwrap();
        let services = Services::detached();
        let client = Runtime::get()
            .unwrap()
            .block_on(&services, Client::open(&config, &services))
            .unwrap();
        Some(Self {
            emulator,
            project,
            config,
            services,
            client,
        })
    }

    /// Writes documents, all with the same fields.
    fn put_all(&self, paths: impl IntoIterator<Item = String>, fields: &Json) -> Timestamp {
        let root = self.client.root();
        let writes: Vec<Json> = paths
            .into_iter()
            .map(|path| json!({ "update": { "name": root.document(&path), "fields": fields } }))
            .collect();
        let mut time = String::new();
        for some in writes.chunks(WRITES_MAX) {
            let answer = self.emulator.commit(&self.project, &json!(some).to_string());
            let answer: Json = serde_json::from_str(&answer).unwrap();
            time = answer["commitTime"].as_str().unwrap().to_owned();
        }
        time.parse().unwrap()
    }

    fn put(&self, path: &str, fields: Json) -> Timestamp {
        self.put_all([path.to_owned()], &fields)
    }

    fn ask(&self, names: &[&str], schemas: bool, read_time: Timestamp) -> Result<Vec<Discovered>> {
        let request = CollectionsRequest {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            schemas,
        };
        let asked = discover(&self.client, &self.config, &self.services, &request, read_time);
        Runtime::get()?.block_on(&self.services, asked)
    }

    fn all(&self, read_time: Timestamp) -> Vec<Discovered> {
        self.ask(&[], true, read_time).unwrap()
    }

    fn named(&self, name: &str, read_time: Timestamp) -> Discovered {
        self.ask(&[name], true, read_time).unwrap().remove(0)
    }

    fn run<T>(&self, future: impl Future<Output = Result<T>>) -> T {
        Runtime::get().unwrap().block_on(&self.services, future).unwrap()
    }

    /// What the emulator itself counts in a root collection, or with `everywhere` in all of that id.
    fn count(&self, id: &str, everywhere: bool, read_time: Timestamp) -> u64 {
        let query = json!({ "from": [{ "collectionId": id, "allDescendants": everywhere }] });
        self.emulator
            .count(&self.project, &query.to_string(), Some(&read_time.to_string()))
    }
}

fn integer(number: i64) -> Json {
    json!({ "integerValue": number.to_string() })
}

fn text(text: &str) -> Json {
    json!({ "stringValue": text })
}

fn names(found: &[Discovered]) -> Vec<String> {
    found.iter().map(|found| found.pattern.to_string()).collect()
}

fn fields(found: &Discovered) -> Vec<String> {
    let described = |field: &Field| {
        let null = if field.nullable { "?" } else { "" };
        format!("{}: {}{null}", field.name, field.record_type)
    };
    found.schema.fields.iter().map(described).collect()
}

/// Whether every document was looked at.
fn is_complete(found: &Discovered) -> bool {
    found.size_bytes.is_some()
}

fn remembered(fields: Vec<Field>, key: &[&str]) -> Remembered {
    Remembered {
        fields,
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        presence: false,
    }
}
