//! The records at fault as the source has them now, changed by the transforms: looked up by their keys where that finds them, else
//! looked for among all. Neighbour: `healing`, which writes them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow_array::UInt64Array;
use arrow_select::take::take_record_batch;
use whimbrel_plugin_api::source::{Item, ReadRequest};
use whimbrel_plugin_api::{Batch, Error, Schema};

use super::Repair;
use crate::events::Failure;
use crate::loader::observe::{OpenedSource, OpenedStream};
use crate::phases::rewriting::Piece;
use crate::plan::PlannedCollection;
use crate::transform::Chain;
use crate::verification::digest::{Digester, Recipe};

/// How records are found in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By their keys; what is not found so is not there.
    Lookup,
    /// By their keys; what is not found so may be there under another one, since a transform or a loss changes it.
    LookupThenScan,
    /// Among all records.
    Scan,
}

/// The way for a collection.
pub(super) fn way(repair: &Repair<'_>, planned: &PlannedCollection) -> Way {
    let key = &planned.sink.key;
    let same_key: BTreeSet<&String> = planned.source.key.iter().collect();
    if !repair.source_can.lookup || same_key != key.iter().collect() {
        return Way::Scan;
    }
    let is_lossy = planned.sink.losses.iter().any(|loss| key.contains(&loss.field));
    let has_other_type = key.iter().any(|name| {
        let of = |schema: &Schema| {
            let at = schema.index_of(name)?;
            schema.fields.get(at).map(|field| field.record_type.clone())
        };
        of(&planned.source.schema) != of(&planned.sink.schema)
    });
    if planned.transforms.is_empty() && !is_lossy && !has_other_type {
        Way::Lookup
    } else {
        Way::LookupThenScan
    }
}

/// Records that are wanted, by the digests of their keys.
pub(super) struct Wanted<'a> {
    repair: &'a Repair<'a>,
    planned: &'a PlannedCollection,
    digester: Digester,
    numbers: HashMap<u128, u64>,
    /// Those that came.
    pub(super) found: BTreeSet<u64>,
    /// How many records the source could not deliver, or a transform refused: any of the wanted ones may be among them.
    pub(super) refused_count: u64,
}

impl<'a> Wanted<'a> {
    /// Those with `keys`, each with its number.
    ///
    /// # Errors
    /// `verification.bad_value`.
    pub(super) fn new(
        repair: &'a Repair<'a>,
        planned: &'a PlannedCollection,
        keys: &Batch,
        numbers: &[u64],
    ) -> Result<Self, Error> {
        let mut digester = Digester::new(Recipe::of(&planned.sink));
        let mut pairs = Vec::with_capacity(numbers.len());
        digester.digest(keys, &mut pairs)?;
        let by_digest = pairs.iter().map(|pair| pair.key).zip(numbers.iter().copied());
        Ok(Self {
            repair,
            planned,
            digester,
            numbers: by_digest.collect(),
            found: BTreeSet::new(),
            refused_count: 0,
        })
    }

    /// Looks them up by `keys`, which are named and typed as the source has them, and gives their rows to `each`.
    ///
    /// # Errors
    /// What the source, a transform or `each` brings.
    pub(super) fn look_up(
        &mut self,
        source: &mut OpenedSource,
        keys: &Batch,
        each: &mut dyn FnMut(Vec<Piece>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let stream = source.lookup(&ReadRequest::all(&self.planned.source.name), keys)?;
        self.pick(stream, each)
    }

    /// Looks for them among all records of the source and gives their rows to `each`.
    ///
    /// # Errors
    /// As [`Wanted::look_up`].
    pub(super) fn scan(
        &mut self,
        source: &mut OpenedSource,
        each: &mut dyn FnMut(Vec<Piece>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let request = ReadRequest {
            limit: self.planned.limit,
            ..ReadRequest::all(&self.planned.source.name)
        };
        let stream = source.read(&request)?;
        self.pick(stream, each)
    }

    fn pick(
        &mut self,
        mut stream: OpenedStream,
        each: &mut dyn FnMut(Vec<Piece>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut chain = Chain::open(self.repair.transforms, &self.planned.transforms)?;
        chain.plan(&self.planned.source)?;
        let mut pairs = Vec::new();
        loop {
            if self.repair.stop.is_raised() {
                return Err(Error::cancelled().into());
            }
            match stream.next_item()? {
                Item::Schema(schema) => drop(chain.grow(&schema)?),
                Item::Batch(batch) => {
                    let mut pieces = Vec::new();
                    let changed = chain.apply(batch)?;
                    self.refused_count += changed.rejected.len() as u64;
                    for batch in changed.batches {
                        pairs.clear();
                        self.digester.digest(&batch, &mut pairs)?;
                        let (mut rows, mut numbers) = (Vec::new(), Vec::new());
                        for (row, pair) in pairs.iter().enumerate() {
                            if let Some(number) = self.numbers.get(&pair.key) {
                                rows.push(row as u64);
                                numbers.push(*number);
                            }
                        }
                        self.found.extend(&numbers);
                        if !rows.is_empty() {
                            let batch = rows_of(&batch, rows)?;
                            pieces.push(Piece { numbers, batch });
                        }
                    }
                    if !pieces.is_empty() {
                        each(pieces)?;
                    }
                }
                Item::Rejected(records) => self.refused_count += records.len() as u64,
                Item::End => return Ok(()),
                _ => {}
            }
        }
    }
}

fn rows_of(batch: &Batch, rows: Vec<u64>) -> Result<Batch, Error> {
    let records = take_record_batch(&batch.records, &UInt64Array::from(rows)).map_err(|error| {
        Error::internal("rows of a batch could not be taken out of it").with_cause(&error)
    })?;
    Batch::new(Arc::clone(&batch.schema), records)
}
