//! The state in one SQLite file, `state.db`, for its owner only.
//!
//! Write-ahead log on a local disk, rollback journal on a file system of the network, which has no shared memory
//! between hosts. Every commit is synced. One connection with a small runtime of its own, since sqlx is async.

mod create;
mod durable;
mod fault;
mod length;
mod news;
mod rejected;
mod runs;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::runtime::{Builder, Runtime};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::guard::Refusal;
use super::process::Process;
use super::run::{NewRun, RunEnd, RunRecord};
use super::run_id::RunId;
use super::store::{
    Durable, EventRecord, LaneFound, News, PhaseStep, RejectedChange, RejectedFilter, RejectedPage,
    RunFilter, StateStore,
};
use fault::Trouble;

/// Another process may write for so long before `state.busy` is said.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The state in a SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    open: Mutex<Open>,
}

struct Open {
    runtime: Runtime,
    /// None only while the store is being dropped.
    connection: Option<SqliteConnection>,
}

impl SqliteStore {
    /// Opens the file at `path`, whose folder is there; makes it if it is not there.
    ///
    /// # Errors
    /// `state.damaged`, `state.foreign`, `state.newer`, `state.busy`, `workspace.disk_full`, `workspace.unwritable`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let runtime = runtime()?;
        if !path.exists() {
            runtime.block_on(create::create(path))?;
        }
        let connection = runtime.block_on(connect(path))?;
        let open = Open {
            runtime,
            connection: Some(connection),
        };
        Ok(Self {
            path: path.to_owned(),
            open: Mutex::new(open),
        })
    }

    /// Opens the file at `path`, if it is there.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_existing(path: &Path) -> Result<Option<Self>, Error> {
        if path.exists() {
            Self::open(path).map(Some)
        } else {
            Ok(None)
        }
    }

    fn call<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open { runtime, connection } = &mut *open;
        let Some(connection) = connection else {
            return Err(Error::internal("the state was used while it was closed"));
        };
        runtime
            .block_on(work(connection))
            .map_err(|trouble| trouble.into_error(&self.path))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = open.connection.take() {
            // What was written is durable; closing only tidies the log away.
            drop(open.runtime.block_on(connection.close()));
        }
    }
}

fn runtime() -> Result<Runtime, Error> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Error::new(
                ErrorKind::Unavailable,
                "state.thread",
                "the runtime of the state could not be started",
            )
            .with_cause(&error)
        })
}

async fn connect(path: &Path) -> Result<SqliteConnection, Error> {
    let connect = async || {
        length::look(path)?;
        let mut connection = options(path).connect().await?;
        schema::bring_up_to_date(&mut connection).await?;
        Ok(connection)
    };
    connect()
        .await
        .map_err(|trouble: Trouble| trouble.into_error(path))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

impl StateStore for SqliteStore {
    fn begin_run(&self, run: &NewRun) -> Result<(), Refusal> {
        match self.call(async |connection| runs::begin(connection, run).await)? {
            None => Ok(()),
            Some(holder) => Err(Refusal::AlreadyRunning(Box::new(holder))),
        }
    }

    fn note_worker(&self, run: &RunId, worker: &Process) -> Result<(), Error> {
        self.call(async |connection| runs::note_worker(connection, run, worker).await)
    }

    fn note_overrides(&self, run: &RunId, overrides: &str) -> Result<(), Error> {
        self.call(async |connection| runs::note_overrides(connection, run, overrides).await)
    }

    fn record(&self, run: &RunId, news: &News) -> Result<(), Error> {
        self.call(async |connection| news::record(connection, run, news).await)
    }

    fn end_run(&self, run: &RunId, end: &RunEnd) -> Result<(), Error> {
        self.call(async |connection| runs::end(connection, run, end).await)
    }

    fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, Error> {
        self.call(async |connection| runs::list(connection, filter).await)
    }

    fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRecord>, Error> {
        self.call(async |connection| news::events(connection, run, after, limit).await)
    }

    fn durable(&self, run: &RunId) -> Result<Vec<Durable>, Error> {
        self.call(async |connection| durable::of(connection, run).await)
    }

    fn rejected(&self, run: &RunId, filter: &RejectedFilter) -> Result<RejectedPage, Error> {
        self.call(async |connection| rejected::page(connection, run, filter).await)
    }

    fn change_rejected(&self, run: &RunId, changes: &[RejectedChange]) -> Result<u64, Error> {
        self.call(async |connection| rejected::change(connection, run, changes).await)
    }

    fn newest_with_rejected(&self) -> Result<Option<RunId>, Error> {
        self.call(async |connection| rejected::newest(connection).await)
    }

    fn lanes_found(&self, run: &RunId) -> Result<Vec<LaneFound>, Error> {
        self.call(async |connection| rejected::lanes_found(connection, run).await)
    }

    fn begun_anew(&self, run: &RunId) -> Result<Vec<String>, Error> {
        self.call(async |connection| rejected::begun_anew(connection, run).await)
    }

    fn phase_steps(&self, run: &RunId) -> Result<Vec<PhaseStep>, Error> {
        self.call(async |connection| rejected::phase_steps(connection, run).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Phase;
    use crate::state::fixtures::{Place, new_run};
    use crate::state::{Counts, Rejected, RejectedState};
    use crate::workspace;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Instant;

    fn error(path: &Path) -> Error {
        match SqliteStore::open(path) {
            Ok(_) => panic!("it was opened"),
            Err(error) => error,
        }
    }

    fn limit(limit: u32) -> RunFilter {
        RunFilter {
            limit,
            ..RunFilter::default()
        }
    }

    /// A closed store with one run and 200 rejected records of a kilobyte.
    fn filled(path: &Path) -> RunId {
        let store = SqliteStore::open(path).unwrap();
        let run = new_run("a");
        store.begin_run(&run).unwrap();
        let rejected = (1..=200).map(|number| Rejected {
            number,
            collection: "c".into(),
            record: number.to_string(),
            code: "a.b".into(),
            message: "m".into(),
            data: Some("x".repeat(1000)),
            edited: None,
            stage: Phase::Import,
            partition: "all".into(),
            seq: 1,
            digest: None,
            at: run.started_at,
            state: RejectedState::New,
        });
        let news = News {
            events: Vec::new(),
            rejected: rejected.collect(),
            counts: Counts::default(),
            plugins: Vec::new(),
            heartbeat_at: run.started_at,
        };
        store.record(&run.id, &news).unwrap();
        run.id
    }

    fn read_all(path: &Path, id: &RunId) -> Result<u64, Error> {
        let store = SqliteStore::open(path)?;
        store.runs(&limit(10))?;
        let filter = RejectedFilter {
            limit: 1000,
            with_data: true,
            ..RejectedFilter::default()
        };
        store.rejected(id, &filter).map(|page| page.records.len() as u64)
    }

    #[test]
    fn only_its_owner_may_read_it_and_nothing_is_left_beside_it() {
        let place = Place::new();
        let store = SqliteStore::open(&place.path()).unwrap();
        store.begin_run(&new_run("a")).unwrap();
        let folder = place.path().parent().unwrap().to_owned();
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o777,
                0o600,
                "{:?}",
                entry.path()
            );
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["state.db", "state.db-shm", "state.db-wal"]);
        drop(store);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_run_reads_back_as_it_was_written() {
        let place = Place::new();
        let store = SqliteStore::open(&place.path()).unwrap();
        let run = new_run("a");
        store.begin_run(&run).unwrap();
        let read = store.runs(&limit(1)).unwrap().remove(0);
        assert_eq!(
            (&read.id, &read.job, &read.holder),
            (&run.id, &run.job, &run.holder)
        );
        assert_eq!((read.started_at, read.ended_at), (run.started_at, None));
        assert_eq!((&read.folder, &read.started_by), (&run.folder, &run.started_by));
        let of_job = |job: &str| RunFilter {
            job: Some(job.to_owned()),
            ..limit(1)
        };
        assert_eq!(store.runs(&of_job("a")).unwrap().len(), 1);
        assert_eq!(store.runs(&of_job("b")).unwrap().len(), 0);
    }

    #[test]
    fn a_missing_file_is_not_made_for_reading() {
        let place = Place::new();
        assert!(SqliteStore::open_existing(&place.path()).unwrap().is_none());
        assert!(!place.path().exists());
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_and_left_as_it_is() {
        let place = Place::new();
        let path = place.path();
        let id = filled(&path);
        let whole = fs::read(&path).unwrap();
        assert_eq!(read_all(&path, &id).unwrap(), 200);
        for length in [
            0,
            1,
            50,
            99,
            100,
            511,
            512,
            4095,
            4096,
            8192,
            whole.len() / 2,
            whole.len() - 1,
        ] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = read_all(&path, &id).unwrap_err();
            assert_eq!(error.code, "state.damaged", "cut to {length}: {error:?}");
            assert!(error.help.is_some());
            assert_eq!(fs::read(&path).unwrap(), whole[..length], "cut to {length}");
        }
    }

    #[test]
    fn a_torn_page_is_refused_where_it_is_met() {
        let place = Place::new();
        let path = place.path();
        let id = filled(&path);
        let whole = fs::read(&path).unwrap();
        let mut met = 0;
        for page in 0..whole.len() / 4096 {
            let mut torn = whole.clone();
            torn[page * 4096..][..4096].fill(0);
            fs::write(&path, &torn).unwrap();
            match read_all(&path, &id) {
                // A page that these questions do not need: an index, a table without rows.
                Ok(count) => assert_eq!(count, 200, "page {page}"),
                Err(error) => {
                    assert_eq!(error.code, "state.damaged", "page {page}: {error:?}");
                    met += 1;
                }
            }
        }
        assert!(
            met >= whole.len() / 4096 / 2,
            "{met} of {} pages",
            whole.len() / 4096
        );
    }

    #[test]
    fn after_a_restart_of_the_host_the_whole_file_is_looked_at() {
        let place = Place::new();
        let path = place.path();
        let store = SqliteStore::open(&path).unwrap();
        let mut lost = new_run("a");
        lost.holder.boot = "earlier pid:[1]".into();
        lost.started_at -= chrono::TimeDelta::seconds(600);
        store.begin_run(&lost).unwrap();
        drop(store);
        let mut torn = fs::read(&path).unwrap();
        // The last page is the root of an index or of a table that a begin does not read.
        let last = torn.len() - 4096;
        torn[last..].fill(0);
        fs::write(&path, &torn).unwrap();
        let store = SqliteStore::open(&path).unwrap();
        let error = Error::from(store.begin_run(&new_run("a")).unwrap_err());
        assert_eq!(error.code, "state.damaged", "{error:?}");
        assert_eq!(store.runs(&limit(10)).unwrap().len(), 1, "nothing was changed");
    }

    #[test]
    fn a_newer_schema_is_refused_with_both_versions() {
        let place = Place::new();
        filled(&place.path());
        change(&place.path(), "PRAGMA user_version = 7");
        let error = error(&place.path());
        assert_eq!(error.code, "state.newer");
        assert!(
            error
                .message
                .contains("version 7, this program knows versions up to 3"),
            "{error}"
        );
    }

    #[test]
    fn a_database_of_something_else_is_refused() {
        let place = Place::new();
        filled(&place.path());
        change(&place.path(), "PRAGMA application_id = 1");
        assert_eq!(error(&place.path()).code, "state.foreign");
        fs::write(
            place.path(),
            "not a database, only a text that is longer than a header".repeat(100),
        )
        .unwrap();
        assert_eq!(error(&place.path()).code, "state.damaged");
    }

    fn change(path: &Path, statement: &'static str) {
        let runtime = runtime().unwrap();
        runtime.block_on(async {
            let mut connection = options(path).connect().await.unwrap();
            sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    #[test]
    fn a_full_disk_has_the_code_that_ends_a_run_in_good_order() {
        let place = Place::new();
        let store = SqliteStore::open(&place.path()).unwrap();
        store.begin_run(&new_run("a")).unwrap();
        // Stands for the disk: SQLite answers both with the same result code.
        let full = store.call(async |connection| {
            let pages = "PRAGMA max_page_count = 1";
            sqlx::raw_sql(pages).execute(&mut *connection).await?;
            let table = "CREATE TABLE more (x TEXT)";
            Ok(sqlx::raw_sql(table).execute(connection).await?)
        });
        assert_eq!(full.unwrap_err().code, workspace::DISK_FULL);
        store.begin_run(&new_run("b")).unwrap();
    }

    #[test]
    fn a_folder_that_may_not_be_written_is_named() {
        let missing = Place::new().path();
        let error = error(&missing);
        assert_eq!(error.code, "workspace.unwritable");
        assert!(error.message.contains("state.db"), "{error}");
    }

    #[test]
    fn opening_is_cheap() {
        let place = Place::new();
        let started = Instant::now();
        filled(&place.path());
        println!("made and filled in {:?}", started.elapsed());
        for _ in 0..5 {
            let started = Instant::now();
            let store = SqliteStore::open(&place.path()).unwrap();
            println!("opened in {:?}", started.elapsed());
            let started = Instant::now();
            store.runs(&limit(1)).unwrap();
            println!("first question answered in {:?}", started.elapsed());
        }
    }
}
