//! The suites that every connector runs, on both roles.
//! Against both releases of the server.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::{SinkCase, sink};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_postgres::WhimbrelPlugin;

use crate::postgres::{Database, Server, Version};

/// A schema for each target of a suite, in one database: databases take a second each.
struct Targets {
    database: Database,
    known: Mutex<BTreeSet<String>>,
}

impl Targets {
    fn config(&self, name: &str) -> Json {
        let schema = format!("of_{name}");
        if self.known.lock().unwrap().insert(schema.clone()) {
            self.database.sql(&format!("CREATE SCHEMA \"{schema}\""));
        }
        json!({
            "url": format!("{}?sslmode=disable", self.database.url()),
            "schema": schema,
            "schemas": [schema],
            "state_schema": format!("state_{name}"),
            "create_schemas": false,
        })
    }
}

fn sink_case(server: &Server) -> SinkCase {
    let nowhere = server.endpoint().url("no_such_database");
    let targets = Arc::new(Targets {
        database: server.database(),
        known: Mutex::default(),
    });
    let long = "a_name_of_seventy_octets_which_is_longer_than_some_systems_allow_at_all";
    SinkCase::new(move |name| targets.config(name))
        .with_bad_config(json!({ "url": "http://db.example.org" }))
        .with_bad_config(json!({ "url": "" }))
        .with_unreachable(json!({ "url": format!("{nowhere}?sslmode=disable") }))
        .with_unreachable(json!({ "url": "postgres://nobody@127.0.0.1:1/none?sslmode=disable" }))
        // `schema.table`, and nothing else, is what a dot stands for.
        .with_refused_name("a.b")
        .with_refused_name("..")
        .with_refused_name(long)
        .with_rejected_value("text", "nul")
        .with_rejected_value("json", "nul")
        .with_rejected_value("json", "lone surrogate")
        .with_rejected_value("opaque(inet)", "empty")
}

#[test]
fn sink_keeps_its_contract_on_the_oldest_release() {
    if let Some(server) = Server::shared(Version::V15) {
        sink::run(local::<WhimbrelPlugin>(), sink_case(&server)).assert();
    }
}

#[test]
fn sink_keeps_its_contract_on_the_newest_release() {
    if let Some(server) = Server::shared(Version::V18) {
        sink::run(local::<WhimbrelPlugin>(), sink_case(&server)).assert();
    }
}
