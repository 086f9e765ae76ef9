//! Rejected records, read back a page at a time.
//! Their data is read only if it is asked for.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::fault::Trouble;
use super::runs::{count, stored, unknown};
use crate::state::moment::from_millis;
use crate::state::run_id::RunId;
use crate::state::store::{Rejected, RejectedFilter, RejectedPage, RejectedState};

/// A page of them, and how many there are.
pub(super) async fn page(
    connection: &mut SqliteConnection,
    run: &RunId,
    filter: &RejectedFilter,
) -> Result<RejectedPage, Trouble> {
    // One transaction, so that the count and the page tell of the same moment.
    let mut transaction = connection.begin().await?;
    let total = sqlx::query(
        "SELECT count(*) AS total FROM rejected_record WHERE run = ?1 AND (?2 IS NULL OR collection = ?2)",
    )
    .bind(run.as_str())
    .bind(&filter.collection)
    .fetch_one(&mut *transaction)
    .await?;
    let rows = sqlx::query(
        "SELECT number, collection, record, code, message, iif(?5, data, NULL) AS data, at_ms, state
         FROM rejected_record
         WHERE run = ?1 AND (?2 IS NULL OR collection = ?2) AND number > ?3
         ORDER BY number LIMIT ?4",
    )
    .bind(run.as_str())
    .bind(&filter.collection)
    .bind(stored(filter.after))
    .bind(filter.limit)
    .bind(filter.with_data)
    .fetch_all(&mut *transaction)
    .await?;
    transaction.rollback().await?;
    Ok(RejectedPage {
        total: count(&total, "total")?,
        records: rows.iter().map(of_row).collect::<Result<_, Trouble>>()?,
    })
}

fn of_row(row: &SqliteRow) -> Result<Rejected, Trouble> {
    let state: String = row.try_get("state")?;
    Ok(Rejected {
        number: count(row, "number")?,
        collection: row.try_get("collection")?,
        record: row.try_get("record")?,
        code: row.try_get("code")?,
        message: row.try_get("message")?,
        data: row.try_get("data")?,
        at: from_millis(row.try_get("at_ms")?),
        state: RejectedState::of_name(&state).ok_or_else(|| unknown("rejected_record", "state"))?,
    })
}
