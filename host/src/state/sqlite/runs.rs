//! Runs: begun, ended, listed.
//! Whether a holder lives is looked at inside the transaction that would take its place.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::fault::Trouble;
use super::schema;
use crate::state::moment::from_millis;
use crate::state::process::Process;
use crate::state::run::{
    Counts, FirstFailure, Hold, JobSeen, NewRun, RunEnd, RunOrigin, RunRecord, RunState,
};
use crate::state::run_id::RunId;
use crate::state::store::RunFilter;

/// Lets `run` begin, or returns who holds its job.
pub(super) async fn begin(
    connection: &mut SqliteConnection,
    run: &NewRun,
) -> Result<Option<RunRecord>, Trouble> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    if run.is_exclusive {
        for earlier in running(&mut transaction, &run.job.name).await? {
            match earlier.hold(run.started_at) {
                Hold::Kept => return Ok(Some(earlier)),
                Hold::Stale if !run.takes_over => return Ok(Some(earlier)),
                Hold::Stale => {
                    replace(&mut transaction, &earlier, run).await?;
                    continue;
                }
                Hold::Free => {}
            }
            if earlier.holder.is_of_another_boot() {
                // The host went down with it, and a disk may lose or tear what was on its way.
                schema::look_for_damage(&mut transaction).await?;
            }
            sqlx::query("UPDATE run SET state = ? WHERE id = ?")
                .bind(RunState::Crashed.name())
                .bind(earlier.id.as_str())
                .execute(&mut *transaction)
                .await?;
        }
    }
    note_job(&mut transaction, run).await?;
    sqlx::query(
        "INSERT INTO run (id, job, job_path, job_sha256, command, mode, is_exclusive, state, started_at_ms,
                          heartbeat_at_ms, started_by, holder, folder, resumes, begun_by, overrides)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(run.id.as_str())
    .bind(&run.job.name)
    .bind(run.job.path.to_string_lossy())
    .bind(&run.job.sha256)
    .bind(&run.command)
    .bind(&run.mode)
    .bind(run.is_exclusive)
    .bind(RunState::Running.name())
    .bind(run.started_at.timestamp_millis())
    .bind(run.started_at.timestamp_millis())
    .bind(&run.started_by)
    .bind(json(&run.holder)?)
    .bind(run.folder.to_string_lossy())
    .bind(&run.origin.resumes)
    .bind(&run.origin.begun_by)
    .bind(&run.overrides)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(None)
}

/// Ends a run whose process lives and says nothing. Should it wake up, its next word finds that it has been replaced.
async fn replace(connection: &mut SqliteConnection, earlier: &RunRecord, by: &NewRun) -> Result<(), Trouble> {
    let silent_secs = earlier.silence(by.started_at).num_seconds();
    sqlx::query("UPDATE run SET state = ?, failure_code = ?, failure_message = ? WHERE id = ?")
        .bind(RunState::Crashed.name())
        .bind("run.fenced")
        .bind(format!(
            "run `{}` has taken its place after {silent_secs} s without a sign of life",
            by.id
        ))
        .bind(earlier.id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

async fn running(connection: &mut SqliteConnection, job: &str) -> Result<Vec<RunRecord>, Trouble> {
    let rows =
        sqlx::query("SELECT * FROM run WHERE job = ? AND state = ? AND is_exclusive ORDER BY started_at_ms")
            .bind(job)
            .bind(RunState::Running.name())
            .fetch_all(connection)
            .await?;
    rows.iter().map(of_row).collect()
}

async fn note_job(connection: &mut SqliteConnection, run: &NewRun) -> Result<(), Trouble> {
    let seen = run.started_at.timestamp_millis();
    sqlx::query(
        "INSERT INTO job (name, path, sha256, first_seen_ms, last_seen_ms) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE
         SET path = excluded.path, sha256 = excluded.sha256, last_seen_ms = excluded.last_seen_ms",
    )
    .bind(&run.job.name)
    .bind(run.job.path.to_string_lossy())
    .bind(&run.job.sha256)
    .bind(seen)
    .bind(seen)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes the process that works for the holder.
pub(super) async fn note_worker(
    connection: &mut SqliteConnection,
    run: &RunId,
    worker: &Process,
) -> Result<(), Trouble> {
    let noted = sqlx::query("UPDATE run SET worker = ? WHERE id = ? AND state = ?")
        .bind(json(worker)?)
        .bind(run.as_str())
        .bind(RunState::Running.name())
        .execute(connection)
        .await?;
    only_if_running(noted.rows_affected(), run)
}

/// Notes what the command line laid over the job.
pub(super) async fn note_overrides(
    connection: &mut SqliteConnection,
    run: &RunId,
    overrides: &str,
) -> Result<(), Trouble> {
    let noted = sqlx::query("UPDATE run SET overrides = ? WHERE id = ? AND state = ?")
        .bind(overrides)
        .bind(run.as_str())
        .bind(RunState::Running.name())
        .execute(connection)
        .await?;
    only_if_running(noted.rows_affected(), run)
}

/// What changes no row found the run taken from this process.
pub(super) fn only_if_running(rows: u64, run: &RunId) -> Result<(), Trouble> {
    if rows == 1 {
        Ok(())
    } else {
        Err(Trouble::Fenced(run.clone()))
    }
}

/// Ends a run.
pub(super) async fn end(connection: &mut SqliteConnection, run: &RunId, end: &RunEnd) -> Result<(), Trouble> {
    let ended = sqlx::query(
        "UPDATE run SET state = ?, exit_code = ?, ended_at_ms = ?, failure_code = ?, failure_message = ?
         WHERE id = ? AND state = ?",
    )
    .bind(end.state.name())
    .bind(i64::from(end.exit_code))
    .bind(end.ended_at.timestamp_millis())
    .bind(end.failure.as_ref().map(|failure| &failure.code))
    .bind(end.failure.as_ref().map(|failure| &failure.message))
    .bind(run.as_str())
    .bind(RunState::Running.name())
    .execute(&mut *connection)
    .await?;
    if ended.rows_affected() == 1 {
        return Ok(());
    }
    // A run that others took for lost has no time of its end.
    let ended_before = sqlx::query("SELECT 1 FROM run WHERE id = ? AND ended_at_ms IS NOT NULL")
        .bind(run.as_str())
        .fetch_optional(connection)
        .await?;
    only_if_running(u64::from(ended_before.is_some()), run)
}

/// Runs, the newest first.
pub(super) async fn list(
    connection: &mut SqliteConnection,
    filter: &RunFilter,
) -> Result<Vec<RunRecord>, Trouble> {
    let rows = sqlx::query(
        "SELECT * FROM run
         WHERE (?1 IS NULL OR job = ?1) AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR substr(id, 1, length(?3)) = ?3)
           AND (?4 IS NULL OR id = ?4 OR begun_by = ?4)
         ORDER BY started_at_ms DESC, id DESC LIMIT ?5",
    )
    .bind(&filter.job)
    .bind(filter.state.map(RunState::name))
    .bind(&filter.prefix)
    .bind(&filter.chain)
    .bind(filter.limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(of_row).collect()
}

fn of_row(row: &SqliteRow) -> Result<RunRecord, Trouble> {
    let id = text(row, "id")?;
    let failure = match (row.try_get("failure_code")?, row.try_get("failure_message")?) {
        (Some(code), Some(message)) => Some(FirstFailure { code, message }),
        _ => None,
    };
    let worker: Option<String> = row.try_get("worker")?;
    Ok(RunRecord {
        id: RunId::parse(&id).map_err(|_| unknown("run", "id"))?,
        job: JobSeen {
            name: text(row, "job")?,
            path: text(row, "job_path")?.into(),
            sha256: text(row, "job_sha256")?,
        },
        command: text(row, "command")?,
        mode: text(row, "mode")?,
        state: RunState::of_name(&text(row, "state")?).ok_or_else(|| unknown("run", "state"))?,
        exit_code: match row.try_get::<Option<i64>, _>("exit_code")? {
            Some(code) => Some(u8::try_from(code).map_err(|_| unknown("run", "exit_code"))?),
            None => None,
        },
        started_at: from_millis(row.try_get("started_at_ms")?),
        ended_at: row.try_get::<Option<i64>, _>("ended_at_ms")?.map(from_millis),
        heartbeat_at: from_millis(row.try_get("heartbeat_at_ms")?),
        started_by: text(row, "started_by")?,
        holder: of_json(&text(row, "holder")?, "holder")?,
        worker: match worker {
            Some(worker) => Some(of_json(&worker, "worker")?),
            None => None,
        },
        folder: text(row, "folder")?.into(),
        is_exclusive: row.try_get("is_exclusive")?,
        origin: RunOrigin {
            resumes: row.try_get("resumes")?,
            begun_by: row.try_get("begun_by")?,
        },
        overrides: text(row, "overrides")?,
        counts: Counts {
            read_count: count(row, "read_count")?,
            written_count: count(row, "written_count")?,
            skipped_count: count(row, "skipped_count")?,
            rejected_count: count(row, "rejected_count")?,
        },
        failure,
        plugins: of_json(&text(row, "plugins")?, "plugins")?,
    })
}

fn text(row: &SqliteRow, column: &str) -> Result<String, Trouble> {
    Ok(row.try_get(column)?)
}

/// A count, which is never negative in a file of ours.
pub(super) fn count(row: &SqliteRow, column: &str) -> Result<u64, Trouble> {
    let count: i64 = row.try_get(column)?;
    u64::try_from(count).map_err(|_| unknown("a count", column))
}

/// SQLite has no greater number; no count gets there.
pub(super) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A value that this program never writes.
pub(super) fn unknown(table: &str, column: &str) -> Trouble {
    Trouble::Damaged(format!(
        "column `{column}` of {table} has a value that was never written there"
    ))
}

/// A column that holds JSON.
pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String, Trouble> {
    serde_json::to_string(value).map_err(|error| Trouble::Sql(sqlx::Error::Encode(Box::new(error))))
}

fn of_json<T: serde::de::DeserializeOwned>(text: &str, column: &str) -> Result<T, Trouble> {
    serde_json::from_str(text).map_err(|_| unknown("run", column))
}
