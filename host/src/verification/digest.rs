//! Digests of records: of its key, and of the whole record, each 128 bits of a keyed BLAKE3 over the canonical form.
//!
//! `docs/digest.md` is the specification. Neighbours: `canonical` writes the form of one value, `bucket` adds digests up,
//! `pairs` keeps them on disk. `rows` joins the columns of a batch with a recipe.

mod rows;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use std::sync::Arc;

use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::{Batch, Collection, Error, Schema};

use super::losses::Touched;
use crate::events::LossCount;
use rows::Columns;

pub(super) use rows::{Plan, Rows, Work};

/// How records become digests.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The fields, in the order in which they are encoded.
    pub schema: Schema,
    /// The names of the key's fields; empty if a record is known by all of its fields.
    pub key: Vec<String>,
    /// What the mappings lose. Applied to both sides, so that what is lost makes no difference.
    pub losses: Vec<FieldLoss>,
}

impl Recipe {
    /// Of a collection as it is, or as it is to be in the sink.
    pub fn of(collection: &Collection) -> Self {
        Self {
            schema: collection.schema.clone(),
            key: collection.key.clone(),
            losses: collection.losses.clone(),
        }
    }

    /// The same without losses.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.losses.clear();
        self
    }
}

/// The digests of one record, as numbers whose octets are in big-endian order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// Of its key; of the whole record if there is no key.
    pub key: u128,
    /// Of the whole record.
    pub record: u128,
}

/// Makes digests of batches. One for each thread that reads.
pub struct Digester {
    recipe: Recipe,
    plan: Plan,
    work: Work,
    /// Where the columns of the last batch were: the next one has most often the same schema.
    columns: Option<(Arc<Schema>, Columns)>,
    /// For each field, how many records each loss has changed.
    touched: Vec<[u64; Touched::BITS]>,
    touched_record_count: u64,
}

impl Digester {
    /// By `recipe`.
    pub fn new(recipe: Recipe) -> Self {
        let plan = Plan::new(&recipe.schema, &recipe.key, &recipe.losses);
        Self {
            touched: vec![[0; Touched::BITS]; recipe.schema.fields.len()],
            recipe,
            plan,
            work: Work::default(),
            columns: None,
            touched_record_count: 0,
        }
    }

    /// Appends the digests of all records of `batch` to `out`, in their order.
    ///
    /// # Errors
    /// `verification.bad_value` for a value that is none of its type.
    pub fn digest(&mut self, batch: &Batch, out: &mut Vec<Pair>) -> Result<(), Error> {
        let known = self.columns.take();
        let known = known.filter(|(schema, _)| Arc::ptr_eq(schema, &batch.schema));
        let (_, columns) = self.columns.insert(
            known.unwrap_or_else(|| (Arc::clone(&batch.schema), self.plan.columns_of(&batch.schema))),
        );
        let rows = Rows::with_columns(&self.plan, columns, batch);
        out.reserve(batch.record_count());
        for row in 0..batch.record_count() {
            out.push(rows.pair(row, &mut self.work)?);
            if self.work.touched.is_empty() {
                continue;
            }
            self.touched_record_count += 1;
            for (field, touched) in &self.work.touched {
                for position in touched.positions() {
                    self.touched[*field][position] += 1;
                }
            }
        }
        Ok(())
    }

    /// How many of the records so far had a value that a declared loss changes, by field and loss; and how many records had at
    /// least one.
    pub fn altered(&self) -> (Vec<LossCount>, u64) {
        let mut counts: Vec<LossCount> = Vec::new();
        for declared in &self.recipe.losses {
            let Some(field) = self.recipe.schema.index_of(&declared.field) else {
                continue;
            };
            let record_count = Touched::position(declared.loss, self.plan.losses(field))
                .map_or(0, |position| self.touched[field][position]);
            // The same loss may be declared by reading and by writing.
            let is_known = counts
                .iter()
                .any(|known| known.field == declared.field && known.loss == declared.loss);
            if record_count > 0 && !is_known {
                counts.push(LossCount {
                    field: declared.field.clone(),
                    loss: declared.loss,
                    record_count,
                });
            }
        }
        (counts, self.touched_record_count)
    }
}

/// Digests of single fields, by which two records are told apart: for records that are known to differ.
pub struct FieldDigests {
    rows: Rows,
    work: Work,
}

impl FieldDigests {
    /// For the records of `batch`.
    pub fn new(recipe: &Recipe, batch: &Batch) -> Self {
        let plan = Plan::new(&recipe.schema, &recipe.key, &recipe.losses);
        Self {
            rows: Rows::new(&plan, batch),
            work: Work::default(),
        }
    }

    /// One digest for each field of the recipe, in its order, of the record in `row`. A field that the batch lacks is absent.
    ///
    /// # Errors
    /// `verification.bad_value` for a value that is none of its type.
    pub fn of(&mut self, row: usize) -> Result<Vec<u128>, Error> {
        self.rows.fields(row, &mut self.work)
    }

    /// The fields that the record in `row` has and the recipe lacks, as far as that was asked for.
    pub fn others(&self, row: usize) -> Vec<String> {
        self.rows.others(row)
    }
}
