//! Records of one collection on their way into the sink, and keys of records that are to go, with what became of them.
//! Neighbour: [`crate::phases::rewriting`] has the transactions; `healing` and `removing` say what is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_plugin_api::{Batch, ConflictPolicy, Cursor, Error};

use super::{Repair, Told};
use crate::events::Failure;
use crate::loader::observe::OpenedSink;
use crate::phases::rewriting::{Deed, Judged, Mark, Piece, Rewriting, TRANSACTION_RECORDS_MAX};
use crate::plan::PlannedCollection;

/// The partition of the lanes of repairs.
pub(in crate::phases) const PARTITION: &[u8] = b"repair";

/// See the module.
pub(super) struct Sending<'a> {
    rewriting: Rewriting<'a>,
    run_id: &'a str,
    told: &'a Told<'a>,
    collection: &'a str,
    policy: ConflictPolicy,
    taken: u64,
    refused: BTreeMap<u64, (String, String)>,
}

impl<'a> Sending<'a> {
    /// Claims the lane of the collection; records are written by `policy`.
    ///
    /// # Errors
    /// What the sink brings.
    pub(super) fn begin(
        repair: &'a Repair<'a>,
        planned: &'a PlannedCollection,
        policy: ConflictPolicy,
        sink: &'a mut OpenedSink,
    ) -> Result<Self, Failure> {
        let (rewriting, _) = Rewriting::begin(repair.job, planned, PARTITION, repair.stop, sink)?;
        Ok(Self {
            rewriting,
            run_id: repair.run_id,
            told: &repair.told,
            collection: &planned.source.name,
            policy,
            taken: 0,
            refused: BTreeMap::new(),
        })
    }

    /// Writes records.
    ///
    /// # Errors
    /// What the sink brings that is not about single records; what was committed before stays so.
    pub(super) fn write(&mut self, pieces: &[Piece]) -> Result<(), Failure> {
        self.send(Deed::Write(self.policy), pieces)
    }

    /// Removes the records with `keys`.
    ///
    /// # Errors
    /// As [`Sending::write`].
    pub(super) fn remove(&mut self, numbers: Vec<u64>, keys: Batch) -> Result<(), Failure> {
        self.send(Deed::Remove, &[Piece { numbers, batch: keys }])
    }

    fn send(&mut self, deed: Deed, pieces: &[Piece]) -> Result<(), Failure> {
        let (taken, refused, run_id) = (&mut self.taken, &mut self.refused, self.run_id);
        let (told, collection) = (self.told, self.collection);
        let mark = |taken: &[u64]| Mark {
            cursor: Cursor(format!("{run_id}/{}", taken.len()).into_bytes()),
            extension: None,
        };
        let mut settle = |judged: Judged| {
            let is_taken = |number: &&u64| !judged.refused.contains_key(number);
            let taken_now = judged.taken.iter().filter(is_taken).count() as u64;
            *taken += taken_now;
            told.add(collection, taken_now);
            refused.extend(judged.refused);
            Ok(())
        };
        for some in in_transactions(pieces)? {
            self.rewriting.send(deed, &some, &mark, &mut settle)?;
        }
        Ok(())
    }

    /// How many records were taken, and the reasons why others were not, by their numbers.
    pub(super) fn end(self) -> (u64, BTreeMap<u64, (String, String)>) {
        (self.taken, self.refused)
    }
}

/// Pieces of no more records than a transaction takes.
fn in_transactions(pieces: &[Piece]) -> Result<Vec<Vec<Piece>>, Error> {
    let mut all = Vec::new();
    for piece in pieces {
        for first in (0..piece.numbers.len()).step_by(TRANSACTION_RECORDS_MAX) {
            let count = TRANSACTION_RECORDS_MAX.min(piece.numbers.len() - first);
            let batch = Batch::new(
                Arc::clone(&piece.batch.schema),
                piece.batch.records.slice(first, count),
            )?;
            all.push(vec![Piece {
                numbers: piece.numbers[first..first + count].to_vec(),
                batch,
            }]);
        }
    }
    Ok(all)
}
