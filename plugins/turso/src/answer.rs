//! What a statement of somebody else's selects, page by page.
//!
//! The statement stands in brackets within one of ours, where the database takes nothing that writes. What its columns hold is
//! found by looking at all of their values, as in tables of which nothing is remembered (`catalog`). A file is read in one
//! transaction, so that nothing changes between two pages; a server is asked page by page. Neighbour: `read`, for tables.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use whimbrel_plugin_api::record_type::{Field, Schema};
use whimbrel_plugin_api::source::{BatchBounds, QueryRequest};
use whimbrel_plugin_api::{Error, ErrorKind, Item, RecordStream, Result, Services};

use crate::assembly::{Assembly, Reading};
use crate::catalog;
use crate::database::{Database, TOO_LARGE};
use crate::statement_text::{HELP, single_statement};
use crate::type_mapping::Affinity;

/// Records between two looks at whether the host has cancelled.
const CANCEL_EVERY: usize = 1_024;
const DOING: &str = "answer the statement";

/// A stream over what a statement selects.
pub(crate) struct AnswerStream {
    database: Box<dyn Database>,
    services: Services,
    /// The statement in brackets.
    from: String,
    reading: Reading,
    bounds: BatchBounds,
    /// Records that were read, the rejected among them.
    read_count: usize,
    pending: VecDeque<Item>,
    sequence: u64,
    is_done: bool,
}

impl AnswerStream {
    /// # Errors
    /// `turso.bad_query` if the text is no single statement that selects, as the database sees it.
    pub(crate) fn new(
        database: Box<dyn Database>,
        services: Services,
        request: &QueryRequest,
    ) -> Result<Self> {
        let statement = single_statement(&request.statement)?;
        // On a line of its own: the statement may end with a comment.
        let from = format!("({statement}\n)");
        database.hold_still()?;
        let columns = database
            .columns(DOING, &format!("SELECT * FROM {from} AS t LIMIT 0"))
            .map_err(of_statement)?;
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let classes = catalog::look_at(&*database, DOING, &from, &names).map_err(of_statement)?;
        let field = |(name, classes): (&&str, catalog::Classes)| {
            Field::new(*name, classes.record_type("", Affinity::None))
        };
        let schema = Schema::new(names.iter().zip(classes).map(field).collect());
        schema.validate()?;
        let reading = Reading::of_answer(schema);
        Ok(Self {
            pending: VecDeque::from([Item::Schema(Arc::clone(&reading.schema))]),
            database,
            services,
            from,
            reading,
            bounds: request.batch,
            read_count: 0,
            sequence: 0,
            is_done: false,
        })
    }

    /// Reads the next page.
    fn read_on(&mut self) -> Result<()> {
        loop {
            let capacity = self.bounds.records_max.max(1);
            let capacity = capacity.min(self.database.page_records_max().max(1));
            match self.page(capacity) {
                // Less is asked for now.
                Err(error) if error.code == TOO_LARGE && capacity > 1 => {}
                outcome => return outcome,
            }
        }
    }

    fn page(&mut self, capacity: usize) -> Result<()> {
        let Self {
            database,
            services,
            reading,
            read_count,
            ..
        } = self;
        let mut assembly = Assembly::new(reading, self.bounds, capacity)?;
        let mut misfits = Vec::new();
        let mut is_cut = false;
        let sql = format!(
            "SELECT * FROM {} AS t LIMIT {capacity} OFFSET {read_count}",
            self.from
        );
        database
            .query_each(DOING, &sql, &[Vec::new()], &mut |_, row| {
                if assembly.len().is_multiple_of(CANCEL_EVERY) {
                    services.check_cancelled()?;
                }
                match assembly.push(row)? {
                    None => {
                        is_cut = true;
                        return Ok(ControlFlow::Break(()));
                    }
                    Some(Some(field)) => misfits.push((*read_count + assembly.len(), field)),
                    Some(None) => {}
                }
                Ok(ControlFlow::Continue(()))
            })
            .map_err(of_statement)?;
        let taken = assembly.len();
        let rejected: Vec<_> = misfits
            .into_iter()
            .map(|(number, field)| assembly.rejected(format!("record number {number}"), field))
            .collect();
        let batch = assembly.finish()?;
        *read_count += taken;
        self.is_done = !is_cut && taken < capacity;
        if !rejected.is_empty() {
            self.pending.push_back(Item::Rejected(rejected));
        }
        if let Some(mut batch) = batch {
            batch.facts.sequence = self.sequence;
            self.sequence += 1;
            self.pending.push_back(Item::Batch(batch));
        }
        Ok(())
    }
}

impl RecordStream for AnswerStream {
    fn next(&mut self) -> Result<Item> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Ok(item);
            }
            if self.is_done {
                return Ok(Item::End);
            }
            self.services.check_cancelled()?;
            self.read_on()?;
        }
    }
}

/// A fault of a statement that comes from a person's hand: it is to be put right there.
fn of_statement(error: Error) -> Error {
    if error.kind != ErrorKind::Internal {
        return error;
    }
    let mut refused = Error::config(
        "turso.bad_query",
        "the database does not take the text as a statement that selects",
    )
    .with_help(HELP);
    refused.causes = error.causes;
    refused
}
