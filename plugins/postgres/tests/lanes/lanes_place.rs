//! What the tests of lanes share: a database, sessions through the boundary, claims, and transactions with a few records.
//! Not here: any expectation but that of what is said to succeed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::acceptance::records::batch;
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneId, LaneState, PrepareRequest};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Cursor, Result, Sink as _};
use whimbrel_postgres::WhimbrelPlugin;

use crate::postgres::{Database, Server, servers};

/// How long something that must happen may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The numbers of the records that are there.
pub const IDS: &str = "SELECT id FROM pairs ORDER BY id";
/// Transactions that are open in the database, but one's own.
pub const OPEN: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";

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
    pub database: Rc<Database>,
    pub config: Json,
}

/// Runs a test in a new database of each server, as its superuser.
pub fn each(test: impl Fn(&Place)) {
    for server in servers() {
        test(&Place::new(&server));
    }
}

impl Place {
    pub fn new(server: &Server) -> Self {
        let database = Rc::new(server.database());
        let config = json!({ "url": format!("{}?sslmode=disable", database.url()) });
        Self { database, config }
    }

    /// The same database by another way.
    pub fn with(&self, config: Json) -> Self {
        Self {
            database: Rc::clone(&self.database),
            config,
        }
    }

    /// The same database by another port.
    pub fn at_port(&self, port: u16) -> Self {
        let url = self.database.endpoint().at_port(port).url(self.database.name());
        self.with(json!({ "url": format!("{url}?sslmode=disable") }))
    }

    pub fn execute(&self, sql: &str) {
        self.database.sql(sql);
    }

    /// What a query answers, a line a row with `|` between its columns; null is `-`.
    pub fn lines(&self, query: &str) -> Vec<String> {
        let rows = self.database.rows(query).into_iter();
        rows.map(|row| row.join("|").replace("\\N", "-")).collect()
    }

    /// Waits until a query answers this.
    pub fn wait_until(&self, query: &str, answer: &[&str]) {
        let start = Instant::now();
        while self.lines(query) != answer {
            assert!(
                start.elapsed() < LIMIT,
                "`{query}` answers {:?}",
                self.lines(query)
            );
            std::thread::yield_now();
        }
    }

    pub fn sink(&self) -> ForeignSink {
        open(&self.config)
    }

    /// A session that may write `pairs`.
    pub fn prepared(&self) -> ForeignSink {
        let mut sink = self.sink();
        assert_eq!(sink.prepare(&request()).unwrap().findings, []);
        sink
    }
}

pub fn open(config: &Json) -> ForeignSink {
    local::<WhimbrelPlugin>()
        .open_sink(config, Arc::new(Quiet), Validation::Full)
        .unwrap()
}

/// The wish for `pairs`.
pub fn request() -> PrepareRequest {
    PrepareRequest {
        collections: vec![pairs()],
        dry: false,
        ..PrepareRequest::default()
    }
}

/// `pairs`: id (key), a.
fn pairs() -> Collection {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::new("a", RecordType::Text),
    ];
    Collection::new("pairs", Schema::new(fields)).with_key(["id"])
}

/// A lane of the collection `name`.
pub fn lane(name: &str) -> LaneId {
    LaneId {
        job: "job".to_owned(),
        source: "source".to_owned(),
        collection: name.to_owned(),
        partition: Cursor(vec![0, 1, 255]),
    }
}

/// A claim of the lane, whoever began it.
pub fn claim(lane: &LaneId) -> LaneClaim {
    LaneClaim {
        lane: lane.clone(),
        ..LaneClaim::default()
    }
}

/// The claim that finds out about a commit in this state.
pub fn held(state: &LaneState) -> LaneClaim {
    LaneClaim {
        held: Some(state.epoch),
        begun_by: state.begun_by.clone(),
        ..claim(&state.lane)
    }
}

/// Takes one lane over.
pub fn take_over(sink: &mut ForeignSink, claim: &LaneClaim) -> Result<LaneState> {
    let mut states = sink.take_over(std::slice::from_ref(claim))?;
    assert_eq!(states.len(), 1);
    Ok(states.remove(0))
}

/// The checkpoint after `state` that ends at `cursor`.
pub fn checkpoint(state: &LaneState, cursor: &str, record_count: u64) -> Checkpoint {
    Checkpoint {
        lane: state.lane.clone(),
        epoch: state.epoch,
        seq: state.seq,
        cursor: Cursor(cursor.as_bytes().to_vec()),
        record_count,
        ..Checkpoint::default()
    }
}

/// Writes records of these numbers into the open transaction, to be judged later.
pub fn write(sink: &mut ForeignSink, ids: &[i64]) -> Result<()> {
    let record = |id: &i64| {
        let values = [("id", Value::Int(*id)), ("a", Value::text("a"))];
        values
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
    };
    let records: Vec<_> = ids.iter().map(record).collect();
    let batch = batch(&Arc::new(pairs().schema), &records).unwrap();
    sink.write("pairs", &batch, ConflictPolicy::Overwrite).map(drop)
}

/// Begins, writes records of these numbers, and has them judged.
pub fn begin(sink: &mut ForeignSink, lane: &LaneId, ids: &[i64]) {
    sink.begin(lane).unwrap();
    if !ids.is_empty() {
        write(sink, ids).unwrap();
        assert_eq!(sink.flush().unwrap().accepted, ids.len() as u64);
    }
}

/// A whole transaction.
pub fn transact(sink: &mut ForeignSink, ids: &[i64], checkpoint: &Checkpoint) -> Committed {
    begin(sink, &checkpoint.lane, ids);
    sink.commit(checkpoint).unwrap()
}
