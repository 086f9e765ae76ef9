//! What happened in a run: one transaction takes all of a batch or nothing.
//! A number that is there already is left alone, so that a batch may be sent again.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};

use super::fault::Trouble;
use super::rejected::{collection_of, lane_of};
use super::runs::{count, json, only_if_running, stored};
use crate::state::moment::from_millis;
use crate::state::run::RunState;
use crate::state::run_id::RunId;
use crate::state::selection::{BEGUN_ANEW, LANE_TAKEN};
use crate::state::store::{EventRecord, News, RejectedState};

/// Writes down `news`.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    run: &RunId,
    news: &News,
) -> Result<(), Trouble> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let lives = sqlx::query(
        "UPDATE run SET heartbeat_at_ms = ?, read_count = ?, written_count = ?, skipped_count = ?, rejected_count = ?,
                        plugins = ?
         WHERE id = ? AND state = ?",
    )
    .bind(news.heartbeat_at.timestamp_millis())
    .bind(stored(news.counts.read_count))
    .bind(stored(news.counts.written_count))
    .bind(stored(news.counts.skipped_count))
    .bind(stored(news.counts.rejected_count))
    .bind(json(&news.plugins)?)
    .bind(run.as_str())
    .bind(RunState::Running.name())
    .execute(&mut *transaction)
    .await?;
    only_if_running(lives.rows_affected(), run)?;
    for event in &news.events {
        sqlx::query(
            "INSERT INTO event (run, seq, at_ms, kind, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(run.as_str())
        .bind(stored(event.seq))
        .bind(event.at.timestamp_millis())
        .bind(&event.kind)
        .bind(&event.body)
        .execute(&mut *transaction)
        .await?;
    }
    for event in news.events.iter().filter(|event| event.kind == LANE_TAKEN) {
        // What this run has refused for later commits of the lane does not count, since those were never made; it meets those
        // records again.
        let lane = lane_of(&event.body)?;
        sqlx::query(
            "DELETE FROM rejected_record WHERE run = ? AND collection = ? AND partition_label = ? AND seq > ?
             AND state = ?",
        )
        .bind(run.as_str())
        .bind(&lane.collection)
        .bind(&lane.partition)
        .bind(stored(lane.seq))
        .bind(RejectedState::New.name())
        .execute(&mut *transaction)
        .await?;
    }
    for event in news.events.iter().filter(|event| event.kind == BEGUN_ANEW) {
        sqlx::query("DELETE FROM rejected_record WHERE run = ? AND collection = ? AND state = ?")
            .bind(run.as_str())
            .bind(collection_of(&event.body)?)
            .bind(RejectedState::New.name())
            .execute(&mut *transaction)
            .await?;
    }
    for rejected in &news.rejected {
        sqlx::query(
            "INSERT INTO rejected_record (run, number, collection, record, code, message, data, at_ms, state, stage,
                                          partition_label, seq, digest)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(run.as_str())
        .bind(stored(rejected.number))
        .bind(&rejected.collection)
        .bind(&rejected.record)
        .bind(&rejected.code)
        .bind(&rejected.message)
        .bind(&rejected.data)
        .bind(rejected.at.timestamp_millis())
        .bind(rejected.state.name())
        .bind(rejected.stage.name())
        .bind(&rejected.partition)
        .bind(stored(rejected.seq))
        .bind(&rejected.digest)
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}

/// Events after `after`, in order.
pub(super) async fn events(
    connection: &mut SqliteConnection,
    run: &RunId,
    after: u64,
    limit: u32,
) -> Result<Vec<EventRecord>, Trouble> {
    let rows = sqlx::query(
        "SELECT seq, at_ms, kind, body FROM event WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(run.as_str())
    .bind(stored(after))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(EventRecord {
                seq: count(row, "seq")?,
                at: from_millis(row.try_get("at_ms")?),
                kind: row.try_get("kind")?,
                body: row.try_get("body")?,
            })
        })
        .collect()
}
