//! The tables, as a list of steps from nothing to today. A step that was released is never changed.
//!
//! The file says itself what it is: `application_id` that it is ours, `user_version` how many steps it has seen.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Executor as _};

use super::fault::Trouble;

/// `whim` in ASCII.
const APPLICATION_ID: i64 = 0x7768_696d;

/// The steps in order; the version of a file is how many of them it has seen.
const STEPS: [&str; 3] = [
    include_str!("migrations/0001_runs.sql"),
    include_str!("migrations/0002_resume.sql"),
    include_str!("migrations/0003_rejected.sql"),
];

/// The newest version.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// Marks an empty file as ours.
pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<(), Trouble> {
    pragma(connection, "application_id", APPLICATION_ID).await
}

/// Takes the steps that the file has not seen.
pub(super) async fn bring_up_to_date(connection: &mut SqliteConnection) -> Result<(), Trouble> {
    if is_current(connection).await? {
        return Ok(());
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // Another process may have been faster.
    let seen = version(&mut transaction).await?;
    for (number, step) in (1..).zip(STEPS) {
        if number > seen {
            transaction.execute(step).await?;
            pragma(&mut transaction, "user_version", number).await?;
        }
    }
    Ok(transaction.commit().await?)
}

async fn is_current(connection: &mut SqliteConnection) -> Result<bool, Trouble> {
    let id: i64 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut *connection)
        .await?;
    let found = version(connection).await?;
    if id != APPLICATION_ID {
        return Err(Trouble::Foreign);
    }
    if found > VERSION {
        return Err(Trouble::Newer {
            found,
            known: VERSION,
        });
    }
    Ok(found == VERSION)
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, Trouble> {
    Ok(sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(connection)
        .await?)
}

async fn pragma(connection: &mut SqliteConnection, name: &str, value: i64) -> Result<(), Trouble> {
    // A pragma takes no parameters; both parts are our own.
    let statement = sqlx::AssertSqlSafe(format!("PRAGMA {name} = {value}"));
    connection.execute(sqlx::raw_sql(statement)).await?;
    Ok(())
}

/// Reads the whole file for torn pages; for a few megabytes this takes tens of milliseconds.
pub(super) async fn look_for_damage(connection: &mut SqliteConnection) -> Result<(), Trouble> {
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await?;
    if found == "ok" {
        Ok(())
    } else {
        Err(Trouble::Damaged(found))
    }
}
