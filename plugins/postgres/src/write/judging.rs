//! What became of the records that were deferred: ends the COPY, brings staged records into the table, and takes apart what the server refused.
//!
//! A COPY straight into the table that fails is undone, and its records go the merge way, in the same transaction.

use std::sync::Arc;

use whimbrel_plugin_api::{Error, Receipt, Result};

use super::layout::Layout;
use super::pieces::OUTCOME;
use super::rejected::{Labels, Reason, UNIQUE};
use super::rows::Way;
use super::statement::{ALL, STAGE};
use super::{Load, Part, Writer};
use crate::connection::{Connection, Row};
use crate::error::Fault;

/// A load whose COPY has ended.
struct Ended {
    layout: Arc<Layout>,
    parts: Vec<Part>,
    /// The rows that the COPY stored.
    outcome: Result<u64, Fault>,
}

/// What became of the records of the staging table.
#[derive(Default)]
struct Merged {
    /// Rows that the statements stored.
    stored: u64,
    /// Records at fault by their numbers.
    refused: Vec<(u64, Reason)>,
}

impl Writer {
    /// Judges the records of the load under way, if there is one.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some(load) = self.open.as_mut().and_then(|open| open.load.take()) else {
            return Ok(());
        };
        let outcome = self.judge(load);
        if outcome.is_err() {
            // Whatever the way out was, nothing may be added to what is left of it.
            self.open = None;
        }
        outcome
    }

    fn judge(&mut self, load: Load) -> Result<()> {
        let judged = match load.way {
            Way::Direct => self.copied(load)?,
            Way::Staged => self.staged(load, None)?,
        };
        if let Some(open) = &mut self.open {
            open.judged.accepted += judged.accepted;
            open.judged.skipped += judged.skipped;
            open.judged.rejected.extend(judged.rejected);
        }
        Ok(())
    }

    /// Ends a COPY straight into the table.
    fn copied(&mut self, load: Load) -> Result<Receipt> {
        let row_count = load.row_count;
        let Ended {
            layout,
            parts,
            outcome,
        } = self.finish(load)?;
        let mut suspect = None;
        match outcome {
            Ok(stored) if stored == row_count => return Ok(Receipt::all(row_count)),
            // A trigger has dropped some.
            Ok(_) => {}
            Err(fault) if !layout.takes_apart(&fault) => return Err(self.end_by(fault)),
            Err(fault) if fault.sqlstate.as_deref() == Some(UNIQUE) => {
                self.merged.insert(layout.target.table.clone());
            }
            Err(fault) => suspect = fault.copy_row.and_then(|row| number_of(&parts, row)),
        }
        self.start_by(layout, Way::Staged, "ROLLBACK TO SAVEPOINT whimbrel_load;")?;
        let mut load = self
            .open
            .as_mut()
            .and_then(|open| open.load.take())
            .ok_or_else(super::no_transaction)?;
        for part in parts {
            // The same records are left out as the first time.
            load.send(&self.client, &part, &mut Receipt::default())?;
            load.parts.push(part);
        }
        self.staged(load, suspect)
    }

    /// Ends the COPY into the staging table and brings its records into the table. `suspect` is the number of a record that
    /// they will not go in with as a whole.
    fn staged(&mut self, load: Load, suspect: Option<u64>) -> Result<Receipt> {
        let row_count = load.row_count;
        let Ended {
            layout,
            parts,
            outcome,
        } = self.finish(load)?;
        outcome.map_err(|fault| self.end_by(fault))?;
        let merging = Arc::clone(&layout);
        let merged = self
            .on(async |connection| merge(connection, &merging, row_count, suspect).await)?
            .map_err(|fault| self.end_by(fault))?;
        let accepted = row_count.saturating_sub(merged.refused.len() as u64);
        let skipped = match layout.leaves_out() {
            true => accepted.saturating_sub(merged.stored),
            false => 0,
        };
        Ok(Receipt {
            accepted,
            skipped,
            rejected: rejected(&layout, &parts, &merged.refused),
            ..Receipt::default()
        })
    }

    /// Ends the COPY of `load`.
    fn finish(&mut self, mut load: Load) -> Result<Ended> {
        load.ship(&self.client)?;
        let (connection, outcome) = load.pump.finish(&self.client)?;
        self.connection = Some(connection).filter(|connection| !connection.is_spoilt());
        Ok(Ended {
            layout: load.layout,
            parts: load.parts,
            outcome,
        })
    }
}

/// Brings the records of the staging table into the table, and drops it.
async fn merge(
    connection: &mut Connection,
    layout: &Layout,
    row_count: u64,
    suspect: Option<u64>,
) -> Result<Merged, Fault> {
    if row_count == 0 {
        connection.run(&format!("DROP TABLE {STAGE}")).await?;
        return Ok(Merged::default());
    }
    // Of two records with one key, a statement that changes fields would take either.
    let has_twins = layout.is_masked() && !connection.rows(&layout.twins_query("")).await?.is_empty();
    let mut pieces = layout.pieces_statements(suspect);
    if !has_twins && suspect.is_none() {
        match connection.run(&layout.whole_statements()).await {
            Ok(stored) if stored == row_count || layout.wanted_query(ALL).is_none() => {
                connection
                    .run(&format!("RELEASE SAVEPOINT whimbrel_merge; DROP TABLE {STAGE}"))
                    .await?;
                return Ok(Merged {
                    stored,
                    refused: Vec::new(),
                });
            }
            Err(fault) if !layout.takes_apart(&fault) => return Err(fault),
            _ => pieces.insert_str(
                0,
                "ROLLBACK TO SAVEPOINT whimbrel_merge; RELEASE SAVEPOINT whimbrel_merge;",
            ),
        }
    }
    connection.run(&pieces).await?;
    let found = connection
        .rows(&format!(
            "SELECT n, state, name, col FROM {OUTCOME} ORDER BY n; DROP TABLE {STAGE}, {OUTCOME}"
        ))
        .await?;
    merged(found)
}

/// The number of the record that was the `row`th to be sent; of one near it if some before it were not sent.
fn number_of(parts: &[Part], row: u64) -> Option<u64> {
    let mut sent = 0;
    let part = parts.iter().find(|part| {
        sent += part.sent;
        row < sent
    })?;
    Some(part.first + (row + part.sent - sent))
}

fn merged(found: Vec<Row>) -> Result<Merged, Fault> {
    let mut merged = Merged::default();
    for row in found {
        let mut values = row.into_iter();
        let number = values.next().flatten();
        let mut text = || values.next().flatten().unwrap_or_default();
        let reason = Reason {
            state: text(),
            constraint: text(),
            column: text(),
        };
        match number {
            Some(number) => merged.refused.push((parsed(&number)?, reason)),
            None => merged.stored = parsed(&reason.state)?,
        }
    }
    Ok(merged)
}

fn parsed(number: &str) -> Result<u64, Fault> {
    number
        .parse()
        .map_err(|error| Fault::of_error(Error::internal("the database counted wrongly").with_cause(&error)))
}

/// Names the records at fault; `refused` is in the order of their numbers.
fn rejected(
    layout: &Layout,
    parts: &[Part],
    refused: &[(u64, Reason)],
) -> Vec<whimbrel_plugin_api::source::RejectedRecord> {
    let mut rejected = Vec::with_capacity(refused.len());
    let mut labels: Option<(usize, Labels)> = None;
    for (number, reason) in refused {
        let Some(index) = parts.partition_point(|part| part.first <= *number).checked_sub(1) else {
            continue;
        };
        if labels.as_ref().is_none_or(|(of, _)| *of != index) {
            labels = Some((index, Labels::new(layout, &parts[index].batch)));
        }
        if let Some((_, labels)) = &labels {
            let row = usize::try_from(*number - parts[index].first).unwrap_or(usize::MAX);
            rejected.push(labels.refused(row, *number, reason));
        }
    }
    rejected
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::Batch;
    use whimbrel_plugin_api::arrow_array::RecordBatch;
    use whimbrel_plugin_api::record_type::Schema;

    use super::*;

    #[test]
    fn rows_that_were_sent_have_their_numbers_in_the_transaction() {
        let schema = Arc::new(Schema::default());
        let batch = Batch::new(Arc::clone(&schema), RecordBatch::new_empty(schema.to_arrow())).unwrap();
        // Of ten records, then five, then four; the second part lost two on the way, the third all.
        let parts = [(0, 10), (10, 3), (15, 0), (19, 4)].map(|(first, sent)| Part {
            batch: batch.clone(),
            first,
            sent,
        });
        let number = |row| number_of(&parts, row);
        assert_eq!((number(0), number(9)), (Some(0), Some(9)));
        assert_eq!((number(10), number(12)), (Some(10), Some(12)));
        assert_eq!((number(13), number(16), number(17)), (Some(19), Some(22), None));
    }
}
