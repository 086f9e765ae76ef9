//! What the tests of preparing share: answers of `prepare`, what the catalog then holds, and users with few rights.
//! Not here: any expectation.

use std::sync::Arc;

use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::acceptance::Record;
use whimbrel_plugin_api::acceptance::records::batch;
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId, PrepareReport, PrepareRequest};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Finding, FindingLevel, Sink as _};
use whimbrel_postgres::WhimbrelPlugin;

use crate::postgres::{Database, servers};

struct Quiet;

impl HostServices for Quiet {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// A database that goes with the test.
pub struct Place {
    pub database: Database,
    pub config: Json,
}

/// Runs a test in a new database of each server, as its superuser.
pub fn each(test: impl Fn(&Place)) {
    for server in servers() {
        test(&Place::new(server.database()));
    }
}

impl Place {
    fn new(database: Database) -> Self {
        let config = json!({ "url": format!("{}?sslmode=disable", database.url()) });
        Self { database, config }
    }

    /// Another new database on the same server.
    pub fn beside(&self) -> Self {
        Self::new(self.database.endpoint().database())
    }

    pub fn execute(&self, sql: &str) {
        self.database.sql(sql);
    }

    /// What a query answers, a line a row with `|` between its columns; null is `-`.
    pub fn lines(&self, query: &str) -> Vec<String> {
        let rows = self.database.rows(query).into_iter();
        rows.map(|row| row.join("|").replace("\\N", "-")).collect()
    }

    pub fn sink(&self) -> ForeignSink {
        open(&self.config)
    }

    /// A session that may write the collections.
    pub fn prepared(&self, collections: &[Collection]) -> ForeignSink {
        let mut sink = self.sink();
        let request = PrepareRequest {
            collections: collections.to_vec(),
            dry: false,
            ..PrepareRequest::default()
        };
        let findings = sink.prepare(&request).unwrap().findings;
        assert_eq!(blockers(&findings).collect::<Vec<_>>(), Vec::<&str>::new());
        sink
    }
}

fn open(config: &Json) -> ForeignSink {
    local::<WhimbrelPlugin>()
        .open_sink(config, Arc::new(Quiet), Validation::Full)
        .unwrap()
}

/// One transaction with these records, all of which are taken.
pub fn write(sink: &mut ForeignSink, collection: &Collection, records: &[Record]) {
    let batch = batch(&Arc::new(collection.schema.clone()), records).unwrap();
    sink.begin(&LaneId::default()).unwrap();
    let written = sink
        .write(&collection.name, &batch, ConflictPolicy::Overwrite)
        .unwrap();
    let flushed = sink.flush().unwrap();
    assert_eq!(written.accepted + flushed.accepted, records.len() as u64);
    assert_eq!(
        sink.commit(&Checkpoint::default()).unwrap(),
        Committed::Committed { seq: 1 }
    );
}

/// `todos`: id (key), title, done.
pub fn todos() -> Collection {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::required("title", RecordType::Text),
        Field::new("done", RecordType::Bool),
    ];
    Collection::new("todos", Schema::new(fields)).with_key(["id"])
}

/// What `prepare` answers; the same with and without `dry`, which changes nothing.
pub fn prepare(place: &Place, collections: &[Collection]) -> PrepareReport {
    let request = |dry| PrepareRequest {
        collections: collections.to_vec(),
        dry,
        ..PrepareRequest::default()
    };
    let before = relations(place);
    let dry = place.sink().prepare(&request(true)).unwrap();
    assert_eq!(relations(place), before, "`dry` changes something");
    let wet = place.sink().prepare(&request(false)).unwrap();
    assert_eq!(dry, wet, "with and without `dry`");
    if blockers(&wet.findings).next().is_some() {
        assert_eq!(relations(place), before, "a blocked `prepare` changes something");
    }
    for finding in wet
        .findings
        .iter()
        .filter(|finding| finding.level != FindingLevel::Info)
    {
        assert!(
            finding.help.is_some() && finding.collection.is_some(),
            "{finding:?}"
        );
    }
    wet
}

pub fn blockers(findings: &[Finding]) -> impl Iterator<Item = &str> {
    let blockers = findings
        .iter()
        .filter(|finding| finding.level == FindingLevel::Blocker);
    blockers.map(|finding| finding.code.as_str())
}

/// Codes of all findings.
pub fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

/// Everything that was made, with its columns: one line each.
pub fn relations(place: &Place) -> Vec<String> {
    place.lines(
        "SELECT n.nspname, c.relname, c.relkind, (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) \
         || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY a.attnum) FROM pg_attribute a \
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
         UNION ALL SELECT nspname, '', '-', '' FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' \
         ORDER BY 1, 2",
    )
}

/// A user with no right but to connect, who goes with the test.
pub struct Guest<'place> {
    place: &'place Place,
    pub name: String,
}

impl<'place> Guest<'place> {
    pub fn new(place: &'place Place) -> Self {
        let name = format!("guest_{}", place.database.name());
        place.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'feather'"));
        Self { place, name }
    }

    /// Carries out statements with the user's name for `GUEST`.
    pub fn execute(&self, sql: &str) {
        self.place.execute(&sql.replace("GUEST", &self.name));
    }

    /// A session of the user.
    pub fn sink(&self) -> ForeignSink {
        let (port, database) = (self.place.database.endpoint().port(), self.place.database.name());
        let url = format!(
            "postgres://{}:feather@127.0.0.1:{port}/{database}?sslmode=disable",
            self.name
        );
        open(&json!({ "url": url }))
    }

    pub fn prepare(&self, collections: &[Collection]) -> PrepareReport {
        let request = PrepareRequest {
            collections: collections.to_vec(),
            dry: false,
            ..PrepareRequest::default()
        };
        self.sink().prepare(&request).unwrap()
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        drop(
            self.place
                .database
                .try_sql(&format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.name)),
        );
    }
}
