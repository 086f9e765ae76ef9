//! The four sinks, each with a note of every write that it carries out.
//!
//! A trigger notes insertions and updates in SQL; for Firestore the layer before it counts what was applied.

use std::process::Command;

use serde_json::{Value, json};

use super::{COLLECTIONS, RECORDS, stage_for};
use crate::firestore::Emulator;
use crate::grpc_layer::Layer;
use crate::postgres::{self, Server, Version};
use crate::postgres_job::{database, report_of};
use crate::program::Stage;
use crate::sqld::{Sqld, tools};

/// A sink that can be emptied, written and asked.
pub trait Target {
    /// The sink's side of a job.
    fn side(&self) -> Value;

    /// Empties it; what it knows of earlier runs stays.
    fn reset(&mut self);

    /// Each record is there and was written once.
    fn assert_written_once(&self, when: &str);
}

/// A database of PostgreSQL.
pub struct Postgres {
    database: postgres::Database,
    _server: Server,
}

impl Postgres {
    /// `None` where there is no server, which is said.
    pub fn new() -> Option<Self> {
        let server = Server::shared(Version::V15)?;
        let database = server.database();
        let tables: String = COLLECTIONS
            .iter()
            .map(|name| {
                format!(
                    "CREATE TABLE {name} (id bigint PRIMARY KEY, name text, pad text);
                     CREATE TRIGGER note AFTER INSERT OR UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION note();"
                )
            })
            .collect();
        database.sql(&format!(
            "CREATE TABLE noted (of text, id bigint);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN INSERT INTO noted VALUES (TG_TABLE_NAME, NEW.id); RETURN NEW; END';
             {tables}"
        ));
        Some(Self {
            database,
            _server: server,
        })
    }

    /// From now on it refuses each record whose number ends with `07`.
    pub fn refuse_poison(&self) {
        for name in COLLECTIONS {
            self.database
                .sql(&format!("ALTER TABLE {name} ADD CHECK (id % 100 <> 7)"));
        }
    }

    /// Each record but those numbers is there and was written once.
    pub fn assert_written_once_but(&self, left_out: &[u64], when: &str) {
        let count = RECORDS - left_out.len() as u64;
        let sum = RECORDS * (RECORDS - 1) / 2 - left_out.iter().sum::<u64>();
        for name in COLLECTIONS {
            let counting = "SELECT count(*), count(DISTINCT id), sum(id) FROM";
            let wanted = format!("{count}|{count}|{sum}");
            let there = self.database.sql(&format!("{counting} {name}"));
            assert_eq!(there, wanted, "{when}: records of {name}");
            let noted = format!("{counting} noted WHERE of = '{name}'");
            assert_eq!(self.database.sql(&noted), wanted, "{when}: writes of {name}");
        }
    }
}

impl Target for Postgres {
    fn side(&self) -> Value {
        database(&self.database.url())
    }

    fn reset(&mut self) {
        self.database
            .sql(&format!("TRUNCATE noted, {}", COLLECTIONS.join(", ")));
    }

    fn assert_written_once(&self, when: &str) {
        self.assert_written_once_but(&[], when);
    }
}

/// The statements that make SQLite note each write of a table.
fn noting(name: &str) -> Vec<String> {
    let on = |event: &str| {
        format!(
            "CREATE TRIGGER note_{name}_{event} AFTER {event} ON {name} BEGIN INSERT INTO noted VALUES ('{name}', NEW.id); END"
        )
    };
    vec![on("INSERT"), on("UPDATE")]
}

/// How many records there are, how many different ones, and the same of the writes of them.
fn counting(name: &str) -> String {
    format!(
        "SELECT (SELECT count(*) || '|' || count(DISTINCT id) FROM {name}) || '|' || \
         (SELECT count(*) || '|' || count(DISTINCT id) FROM noted WHERE of = '{name}')"
    )
}

fn wanted() -> String {
    format!("{RECORDS}|{RECORDS}|{RECORDS}|{RECORDS}")
}

/// The statements that empty everything.
fn emptying() -> Vec<String> {
    let mut statements: Vec<String> = COLLECTIONS
        .iter()
        .map(|name| format!("DELETE FROM {name}"))
        .collect();
    statements.push("DELETE FROM noted".to_owned());
    statements
}

/// Has the sink make its tables by a run of its own, then sees to it that writes are noted.
fn begin_to_note(target: &dyn Target, mut carry_out: impl FnMut(&[String])) {
    let stage = stage_for(target);
    report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
    let mut statements = vec!["CREATE TABLE noted (of TEXT, id INTEGER)".to_owned()];
    statements.extend(COLLECTIONS.iter().flat_map(|name| noting(name)));
    carry_out(&statements);
}

/// A libSQL file.
pub struct LibsqlFile {
    stage: Stage,
}

impl LibsqlFile {
    /// An empty one.
    pub fn new() -> Self {
        let target = Self { stage: Stage::new() };
        begin_to_note(&target, |statements| {
            target.sql(statements);
        });
        target
    }

    /// Carries statements out by Python's own SQLite, each a transaction; answers the cells of the last one.
    fn sql(&self, statements: &[String]) -> String {
        let script = "import sqlite3,sys\n\
                      c=sqlite3.connect(sys.argv[1],isolation_level=None,timeout=30)\n\
                      assert c.execute('PRAGMA quick_check').fetchall()==[('ok',)]\n\
                      for s in sys.argv[2:]:\n r=c.execute(s).fetchall()\n\
                      print('|'.join(str(x) for x in r[0]) if r else '')";
        let output = Command::new("python3")
            .args(["-c", script])
            .arg(self.stage.path("app.db"))
            .args(statements)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Target for LibsqlFile {
    fn side(&self) -> Value {
        let url = format!("file:{}", self.stage.path("app.db").display());
        json!({ "plugin": "turso", "config": { "url": url } })
    }

    fn reset(&mut self) {
        self.sql(&emptying());
    }

    fn assert_written_once(&self, when: &str) {
        for name in COLLECTIONS {
            assert_eq!(self.sql(&[counting(name)]), wanted(), "{when}: {name}");
        }
    }
}

/// A libSQL server of its own.
pub struct LibsqlServer {
    server: Sqld,
}

impl LibsqlServer {
    /// `None` where there is no such server, which is said.
    pub fn new() -> Option<Self> {
        let target = Self {
            server: Sqld::start(&tools()?),
        };
        begin_to_note(&target, |statements| target.sql(statements));
        Some(target)
    }

    fn sql(&self, statements: &[String]) {
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        let answer = self.server.sql(&statements);
        assert!(!answer.contains("\"type\":\"error\""), "{answer}");
    }
}

impl Target for LibsqlServer {
    fn side(&self) -> Value {
        json!({ "plugin": "turso", "config": { "url": self.server.url() } })
    }

    fn reset(&mut self) {
        self.sql(&emptying());
    }

    fn assert_written_once(&self, when: &str) {
        for name in COLLECTIONS {
            let answer = self.server.sql(&[&counting(name)]);
            assert!(
                answer.contains(&format!("\"{}\"", wanted())),
                "{when}: {name}: {answer}"
            );
        }
    }
}

/// A project of the Firestore emulator, behind the layer that counts.
pub struct ThroughLayer {
    emulator: Emulator,
    layer: Layer,
    project: String,
}

impl ThroughLayer {
    /// `None` where there is no emulator, which is said.
    pub fn new() -> Option<Self> {
        let emulator = Emulator::shared()?;
        Some(Self {
            layer: Layer::before(emulator.host()),
            project: emulator.project("once"),
            emulator,
        })
    }
}

impl Target for ThroughLayer {
    fn side(&self) -> Value {
        let config = json!({ "project": self.project, "host": self.layer.host() });
        json!({ "plugin": "firestore", "config": config })
    }

    fn reset(&mut self) {
        // Deleted documents stay in the emulator's memory, so a new project is as cheap.
        self.project = self.emulator.project("once");
        self.layer.reset_counts();
    }

    fn assert_written_once(&self, when: &str) {
        let counts = self.layer.counts();
        for name in COLLECTIONS {
            let there = self.emulator.count_group(&self.project, name, None);
            assert_eq!(there, RECORDS, "{when}: documents of {name}");
            let applied = counts.applied_below(name);
            assert_eq!(applied, (RECORDS as usize, 1), "{when}: writes of {name}");
        }
    }
}
