//! Digests of what a source gives, before transforms and declared losses, made beside those that are compared.
//!
//! They are the same that a copy makes of what it reads ([`crate::verification::tap`]). If they could not be of all records of a
//! part, as when that is gone on with, there are none: the comparison does not need them.

use whimbrel_plugin_api::source::OTHER_FIELDS;
use whimbrel_plugin_api::{Batch, Error, Schema};

use crate::events::PartitionDigest;
use crate::verification::bucket::Buckets;
use crate::verification::digest::{Digester, Pair, Recipe};

/// Of all parts of a side.
#[derive(Debug)]
pub struct Extracted {
    /// All digests, added up.
    pub buckets: Buckets,
    /// The parts, in their order.
    pub partitions: Vec<PartitionDigest>,
}

/// Makes those of one part.
pub(super) struct Extracting {
    recipe: Recipe,
    digester: Digester,
    /// Of one batch; kept for its room.
    pairs: Vec<Pair>,
    pub(super) buckets: Buckets,
}

impl Extracting {
    pub(super) fn new(recipe: &Recipe) -> Self {
        Self {
            recipe: recipe.clone(),
            digester: Digester::new(recipe.clone()),
            pairs: Vec::new(),
            buckets: Buckets::default(),
        }
    }

    /// Whether digests are of whole records where these have the fields of `schema`.
    pub(super) fn knows(&self, schema: &Schema) -> bool {
        let mut fields = schema.fields.iter();
        fields.all(|field| self.recipe.schema.index_of(&field.name).is_some() || field.name == OTHER_FIELDS)
    }

    /// Adds the records of `batch`.
    ///
    /// # Errors
    /// `verification.bad_value`.
    pub(super) fn add(&mut self, batch: &Batch) -> Result<(), Error> {
        self.pairs.clear();
        self.digester.digest(batch, &mut self.pairs)?;
        for pair in &self.pairs {
            self.buckets.add(*pair);
        }
        Ok(())
    }
}
