//! One side of a collection as it is read again: by the place of a batch, by keys, or as a whole; its records go through the
//! transforms again.
//!
//! Not here: which records are wanted (`finding`, `second_look`), nor the first reading (`reading`).

use std::collections::HashMap;

use whimbrel_plugin_api::capability::SourceCapabilities;
use whimbrel_plugin_api::source::{Item, ReadRequest};
use whimbrel_plugin_api::{Batch, Collection, Error, ErrorKind, RejectedRecord};

use super::seen::Eyes;
use crate::config::TransformJob;
use crate::control::Stop;
use crate::events::Failure;
use crate::loader::observe::{OpenedSource, OpenedStream};
use crate::transform::{Chain, Transforms};

/// Records that are wanted: by the digest of their key, the number under which each is kept.
pub(super) type Wanted = HashMap<u128, usize>;

/// One side.
pub(super) struct Access<'a> {
    pub(super) opened: &'a mut OpenedSource,
    /// What is asked of the system, but for part, cursor and snapshot.
    pub(super) request: ReadRequest,
    /// The instant of the first look, if that is still open.
    pub(super) snapshot: Option<String>,
    pub(super) can: &'a SourceCapabilities,
    /// The collection as the system has it, with the transforms that its records go through.
    pub(super) transformed: Option<(&'a Collection, &'a Transforms, &'a [TransformJob])>,
    /// The fields by which the system looks records up.
    pub(super) key: Vec<String>,
    pub(super) eyes: Eyes<'a>,
    pub(super) stop: &'a Stop,
}

/// A wanted record that was met.
pub(super) struct Met<'a> {
    /// The number under which it is kept.
    pub(super) number: usize,
    /// The record as the system has it, with its row, where that is known.
    pub(super) raw: Option<(&'a Batch, usize)>,
    /// The batch with the record as it is compared.
    pub(super) batch: &'a Batch,
    /// Its row there.
    pub(super) row: usize,
    /// The digest of the whole record.
    pub(super) record: u128,
}

/// Takes a record that was met.
pub(super) type Take<'t> = dyn FnMut(&Met<'_>) -> Result<(), Failure> + 't;

/// Takes a batch as the system has it, with the transforms that it has to go through.
pub(super) type EachBatch<'e> = dyn FnMut(&mut Option<Chain>, &Batch) -> Result<Next, Failure> + 'e;

/// What goes on after a batch.
pub(super) enum Next {
    /// The next one.
    GoesOn,
    /// There is enough.
    Enough,
}

impl Access<'_> {
    /// Whether records are changed on their way.
    pub(super) fn is_transformed(&self) -> bool {
        self.transformed.is_some_and(|(_, _, jobs)| !jobs.is_empty())
    }

    /// Whether records can be looked up by key.
    pub(super) fn looks_up(&self) -> bool {
        self.can.lookup && !self.key.is_empty()
    }

    /// Reads all of `request` and gives each batch with the chain to `each`; answers what the system could not deliver.
    ///
    /// # Errors
    /// What the system, a transform or `each` brings.
    pub(super) fn read(
        &mut self,
        request: &ReadRequest,
        each: &mut EachBatch<'_>,
    ) -> Result<Vec<RejectedRecord>, Failure> {
        let stream = self.opened.read(request)?;
        self.drain(stream, each)
    }

    /// Looks up `keys`, and gives each of `wanted` that is there to `take`; answers what the system could not deliver.
    ///
    /// # Errors
    /// As [`Access::read`].
    pub(super) fn look_up(
        &mut self,
        keys: &Batch,
        wanted: &Wanted,
        take: &mut Take<'_>,
    ) -> Result<Vec<RejectedRecord>, Failure> {
        let request = self.fresh();
        let stream = self.opened.lookup(&request, keys)?;
        let eyes = self.eyes;
        self.drain(stream, &mut |chain, batch| {
            meet(eyes, chain, batch, wanted, Raw::IsOfNoUse, take)?;
            Ok(Next::GoesOn)
        })
    }

    /// Reads the whole collection as it is now, and gives each of `wanted` that is there to `take`.
    ///
    /// # Errors
    /// As [`Access::read`].
    pub(super) fn scan(&mut self, wanted: &Wanted, take: &mut Take<'_>) -> Result<(), Failure> {
        let request = self.fresh();
        let eyes = self.eyes;
        self.read(&request, &mut |chain, batch| {
            meet(eyes, chain, batch, wanted, Raw::IsOfNoUse, take)?;
            Ok(Next::GoesOn)
        })?;
        Ok(())
    }

    /// What is asked for the state of now.
    fn fresh(&self) -> ReadRequest {
        ReadRequest {
            snapshot: None,
            ..self.request.clone()
        }
    }

    fn drain(
        &mut self,
        mut stream: OpenedStream,
        each: &mut EachBatch<'_>,
    ) -> Result<Vec<RejectedRecord>, Failure> {
        let mut chain = self.chain()?;
        let mut rejected = Vec::new();
        loop {
            if self.stop.is_raised() {
                return Err(Error::cancelled().into());
            }
            match stream.next_item()? {
                Item::Schema(schema) => {
                    if let Some(chain) = &mut chain {
                        chain.grow(&schema)?;
                    }
                }
                Item::Batch(batch) => {
                    if let Next::Enough = each(&mut chain, &batch)? {
                        return Ok(rejected);
                    }
                }
                Item::Rejected(records) => rejected.extend(records),
                Item::End => return Ok(rejected),
                Item::Heartbeat { .. } | Item::TransactionEnd { .. } | Item::Truncate { .. } => {}
            }
        }
    }

    fn chain(&self) -> Result<Option<Chain>, Failure> {
        let Some((collection, transforms, jobs)) = self.transformed.filter(|(_, _, jobs)| !jobs.is_empty())
        else {
            return Ok(None);
        };
        let mut chain = Chain::open(transforms, jobs)?;
        chain.plan(collection)?;
        Ok(Some(chain))
    }
}

/// Whether a way to read cannot be gone, so that another one has to be tried: the system does not offer it, does not know
/// the key, or the place means nothing any more.
pub(in crate::verification) fn is_no_way(failure: &Failure) -> bool {
    matches!(
        failure.error.kind,
        ErrorKind::Unsupported | ErrorKind::InvalidData | ErrorKind::Integrity
    )
}

/// Whether it matters of which record of the system a transformed one was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Raw {
    /// It does not.
    IsOfNoUse,
    /// It does: the record holds the key by which the system looks it up.
    IsWanted,
}

/// Gives those of `wanted` that are in `batch` to `take`; answers how many records came out of the transforms.
///
/// # Errors
/// What a transform or `take` brings; `verification.bad_value`.
pub(super) fn meet(
    eyes: Eyes<'_>,
    chain: &mut Option<Chain>,
    batch: &Batch,
    wanted: &Wanted,
    raw: Raw,
    take: &mut Take<'_>,
) -> Result<u64, Failure> {
    let Some(chain) = chain else {
        for (row, pair) in eyes.pairs(batch)?.into_iter().enumerate() {
            if let Some(number) = wanted.get(&pair.key) {
                take(&Met {
                    number: *number,
                    raw: Some((batch, row)),
                    batch,
                    row,
                    record: pair.record,
                })?;
            }
        }
        return Ok(batch.record_count() as u64);
    };
    meet_transformed(eyes, chain, batch, wanted, raw, take)
}

/// Transforms may leave records out, reorder them or make several of one. Where it matters what a wanted record was made of,
/// the batch is halved until only one is left.
fn meet_transformed(
    eyes: Eyes<'_>,
    chain: &mut Chain,
    batch: &Batch,
    wanted: &Wanted,
    raw: Raw,
    take: &mut Take<'_>,
) -> Result<u64, Failure> {
    let count = batch.record_count();
    // So that it is known what a record was made of, it is made alone.
    let is_divided = raw == Raw::IsWanted && count > 1;
    let made = chain.apply(batch.clone())?.batches;
    let mut made_count = 0;
    let mut is_met = false;
    for made in &made {
        made_count += made.record_count() as u64;
        for (row, pair) in eyes.pairs(made)?.into_iter().enumerate() {
            let Some(number) = wanted.get(&pair.key) else {
                continue;
            };
            is_met = true;
            if !is_divided {
                take(&Met {
                    number: *number,
                    raw: (raw == Raw::IsWanted).then_some((batch, 0)),
                    batch: made,
                    row,
                    record: pair.record,
                })?;
            }
        }
    }
    if is_met && is_divided {
        let middle = count / 2;
        for (from, length) in [(0, middle), (middle, count - middle)] {
            let half = Batch {
                records: batch.records.slice(from, length),
                ..batch.clone()
            };
            meet_transformed(eyes, chain, &half, wanted, raw, take)?;
        }
    }
    Ok(made_count)
}
