//! What a statement of somebody else's selects: its columns, found without running it, and its faults in words.
//!
//! It is run in a transaction that only reads, within a statement of ours. Neighbours: `statement_text` makes sure that it is
//! one, `stream` carries it out.

use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope};

use crate::connection::Connection;
use crate::error::Fault;

/// What the database says to a statement that writes in a transaction which only reads.
const READ_ONLY: &str = "25006";

/// Names and numbers of the types of the columns that `statement` selects.
pub(crate) async fn announced(
    connection: &mut Connection,
    statement: &str,
) -> Result<Vec<(String, u32)>, Fault> {
    // Texts are read as `statement_text` reads them.
    connection
        .run("SET LOCAL standard_conforming_strings = on")
        .await?;
    // One row of nulls, which the database gives without a look at what the statement selects.
    let sql = format!("SELECT t.* FROM (VALUES (1)) AS one(row) LEFT JOIN ({statement}\n) AS t ON false");
    connection.columns(&sql).await
}

/// A fault of a statement that comes from a person's hand: it is to be put right there.
pub(crate) fn of_statement(fault: Fault) -> Error {
    let Some(sqlstate) = fault.sqlstate.as_deref() else {
        return fault.error;
    };
    let (code, message) = match sqlstate {
        READ_ONLY => (
            "postgres.query_writes",
            "the statement would write, and is allowed to read only",
        ),
        // Names, grammar, values, and what the database does not support there.
        _ if ["0A", "21", "22", "2F", "34", "38", "39", "42", "P0"]
            .iter()
            .any(|class| sqlstate.starts_with(class) && sqlstate != "42501") =>
        {
            (
                "postgres.bad_query",
                "the database does not take the text as a statement that selects",
            )
        }
        _ => return fault.error,
    };
    let mut error = Error::new(ErrorKind::Config, code, message).with_scope(ErrorScope::Transaction);
    error.causes = fault.error.causes;
    error
}
