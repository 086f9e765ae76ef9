//! One collection while it is healed: what is copied, what is removed, what stays as it is and why.
//! Neighbours: `at_fault` has the records, `in_source` reads them, [`crate::phases::rewriting`] writes them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use whimbrel_plugin_api::{Batch, ConflictPolicy, Cursor, Error};

use super::at_fault::{AtFault, Fault};
use super::in_source::{Wanted, Way, way};
use super::keeping::keep;
use super::{LEFT_SHOWN_MAX, Repair};
use crate::events::{Failure, MismatchKind, RepairResult};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::phases::rewriting::{Deed, Judged, Mark, Piece, Rewriting, TRANSACTION_RECORDS_MAX};
use crate::plan::PlannedCollection;

/// The partition of the lanes of repairs.
const PARTITION: &[u8] = b"repair";
/// Records that are looked for at once when all of the source has to be read for them; a few hundred octets each.
const SCAN_RECORDS_MAX: usize = 50_000;
/// Records that were refused and are tried again; of further ones the next repair takes care.
const AGAIN_RECORDS_MAX: usize = 10_000;

/// See the module.
pub(super) struct Healing<'a> {
    repair: &'a Repair<'a>,
    planned: &'a PlannedCollection,
    result: RepairResult,
    at_fault: Option<AtFault>,
    /// Why what only the sink has stays there, if it does.
    stays: Option<String>,
    /// The file that keeps what is replaced or removed.
    kept: PathBuf,
    /// Whether the file has been gone through, for what is copied and for what is removed.
    has_copied: bool,
    has_removed: bool,
    /// What was refused in the last round, with the reason.
    again: Vec<(Fault, String)>,
    /// How many more were.
    refused_count: u64,
}

impl<'a> Healing<'a> {
    /// Of a collection whose differences are in `at_fault`. See the fields.
    pub(super) fn of(
        repair: &'a Repair<'a>,
        planned: &'a PlannedCollection,
        result: RepairResult,
        at_fault: AtFault,
        stays: Option<String>,
        kept: PathBuf,
    ) -> Self {
        Self {
            at_fault: Some(at_fault),
            stays,
            kept,
            ..Self::of_none(repair, planned, result)
        }
    }

    /// Of a collection that cannot be healed, which `result` says.
    pub(super) fn of_none(
        repair: &'a Repair<'a>,
        planned: &'a PlannedCollection,
        result: RepairResult,
    ) -> Self {
        Self {
            repair,
            planned,
            result,
            at_fault: None,
            stays: None,
            kept: PathBuf::new(),
            has_copied: false,
            has_removed: false,
            again: Vec::new(),
            refused_count: 0,
        }
    }

    /// Records healed so far.
    pub(super) fn healed(&self) -> u64 {
        self.result.copied_count + self.result.removed_count
    }

    /// Whether some were refused that may be taken later.
    pub(super) fn has_left(&self) -> bool {
        !self.again.is_empty()
    }

    /// What was done.
    pub(super) fn end(mut self) -> RepairResult {
        for (fault, reason) in std::mem::take(&mut self.again) {
            self.leave(&fault.record, reason);
        }
        if self.refused_count > 0 {
            let what = format!("further records: {}", self.refused_count);
            self.leave(&what, "the sink refused them; repair again".to_owned());
        }
        self.result
    }

    /// Keeps what the sink has of the records that are to be replaced or removed.
    pub(super) fn keep(&mut self, sink: &mut OpenedSink) -> Result<(), Failure> {
        let removes = self.stays.is_none();
        match &mut self.at_fault {
            Some(at_fault) => keep(self.repair, self.planned, at_fault, removes, &self.kept, sink),
            None => Ok(()),
        }
    }

    /// Copies again what is missing or differs; in later rounds what was refused in the one before.
    pub(super) fn copy(&mut self, source: &mut OpenedSource, sink: &mut OpenedSink) -> Result<(), Failure> {
        let is_wanted = |fault: &Fault| fault.kind != MismatchKind::Extra;
        if self.has_copied {
            let (again, rest) = std::mem::take(&mut self.again)
                .into_iter()
                .partition(|(fault, _)| is_wanted(fault));
            self.again = rest;
            let again: Vec<(Fault, String)> = again;
            let faults: Vec<Fault> = again.into_iter().map(|(fault, _)| fault).collect();
            return self.copy_all(&faults, source, sink);
        }
        self.has_copied = true;
        let is_mismatch = |fault: &Fault| is_wanted(fault) && fault.kind != MismatchKind::ChangedSince;
        loop {
            let Some(at_fault) = &mut self.at_fault else {
                return Ok(());
            };
            let faults = at_fault.next(SCAN_RECORDS_MAX, is_mismatch)?;
            if faults.is_empty() || self.repair.stop.is_raised() {
                return Ok(());
            }
            self.copy_all(&faults, source, sink)?;
        }
    }

    fn copy_all(
        &mut self,
        faults: &[Fault],
        source: &mut OpenedSource,
        sink: &mut OpenedSink,
    ) -> Result<(), Failure> {
        if faults.is_empty() {
            return Ok(());
        }
        if !self.repair.sink_can.upsert {
            let name = self.planned.source.name.clone();
            self.leave(&name, "the sink replaces no records".to_owned());
            return Ok(());
        }
        let Some(at_fault) = self.at_fault.take() else {
            return Ok(());
        };
        let copied = self.copy_known(&at_fault, faults, source, sink);
        self.at_fault = Some(at_fault);
        copied
    }

    fn copy_known(
        &mut self,
        at_fault: &AtFault,
        faults: &[Fault],
        source: &mut OpenedSource,
        sink: &mut OpenedSink,
    ) -> Result<(), Failure> {
        let (repair, planned) = (self.repair, self.planned);
        let way = way(repair, planned);
        let mut sending = Sending::begin(repair, planned, sink)?;
        let mut not_found = Vec::new();
        if way == Way::Scan {
            not_found = (0..faults.len()).collect();
        } else {
            for first in (0..faults.len()).step_by(TRANSACTION_RECORDS_MAX) {
                let some = &faults[first..faults.len().min(first + TRANSACTION_RECORDS_MAX)];
                let (keys, places) = at_fault.keys(&planned.source, some)?;
                let (known, known_places) = at_fault.keys(&planned.sink, some)?;
                let numbers: Vec<u64> = known_places.iter().map(|at| (first + at) as u64).collect();
                let mut wanted = Wanted::new(repair, planned, &known, &numbers)?;
                if !places.is_empty() {
                    wanted.look_up(source, &keys, &mut |pieces| sending.write(&pieces))?;
                }
                let is_missing = |at: &usize| !wanted.found.contains(&(*at as u64));
                not_found.extend((first..first + some.len()).filter(is_missing));
            }
        }
        let mut gone = not_found;
        if way != Way::Lookup && !gone.is_empty() {
            let some: Vec<Fault> = gone.iter().map(|at| faults[*at].clone()).collect();
            let (keys, places) = at_fault.keys(&planned.sink, &some)?;
            let numbers: Vec<u64> = places.iter().map(|at| gone[*at] as u64).collect();
            let mut wanted = Wanted::new(repair, planned, &keys, &numbers)?;
            wanted.scan(source, &mut |pieces| sending.write(&pieces))?;
            gone.retain(|at| !wanted.found.contains(&(*at as u64)));
        }
        let (taken, refused) = sending.end();
        self.result.copied_count += taken;
        self.refuse(faults, refused);
        for at in gone {
            let fault = &faults[at];
            let why = match fault.key {
                Some(_) => "the source does not have it, or a transform refuses it",
                None => "its key is not known",
            };
            self.leave(&fault.record, why.to_owned());
        }
        Ok(())
    }

    /// Removes what only the sink has; in later rounds what was refused in the one before.
    pub(super) fn remove(&mut self, source: &mut OpenedSource, sink: &mut OpenedSink) -> Result<(), Failure> {
        let is_extra = |fault: &Fault| fault.kind == MismatchKind::Extra;
        let Some(mut at_fault) = self.at_fault.take() else {
            return Ok(());
        };
        let removed = if self.has_removed {
            let (again, rest) = std::mem::take(&mut self.again)
                .into_iter()
                .partition(|(fault, _)| is_extra(fault));
            self.again = rest;
            let again: Vec<(Fault, String)> = again;
            // The other way round: of records that refer to each other the last one can go first.
            let faults: Vec<Fault> = again.into_iter().rev().map(|(fault, _)| fault).collect();
            faults
                .chunks(TRANSACTION_RECORDS_MAX)
                .try_for_each(|some| self.remove_some(&at_fault, some, source, sink))
        } else {
            self.has_removed = true;
            self.remove_listed(&mut at_fault, source, sink)
        };
        self.at_fault = Some(at_fault);
        removed
    }

    fn remove_listed(
        &mut self,
        at_fault: &mut AtFault,
        source: &mut OpenedSource,
        sink: &mut OpenedSink,
    ) -> Result<(), Failure> {
        at_fault.rewind()?;
        let mut stays: u64 = 0;
        loop {
            let some = at_fault.next(TRANSACTION_RECORDS_MAX, |fault| fault.kind == MismatchKind::Extra)?;
            if some.is_empty() || self.repair.stop.is_raised() {
                break;
            }
            match self.stays {
                None => self.remove_some(at_fault, &some, source, sink)?,
                Some(_) => stays += some.len() as u64,
            }
        }
        if let Some(why) = self.stays.take().filter(|_| stays > 0) {
            let what = format!("records that only the sink has: {stays}");
            self.leave(&what, why);
        }
        Ok(())
    }

    fn remove_some(
        &mut self,
        at_fault: &AtFault,
        faults: &[Fault],
        source: &mut OpenedSource,
        sink: &mut OpenedSink,
    ) -> Result<(), Failure> {
        let (repair, planned) = (self.repair, self.planned);
        let (keys, places) = at_fault.keys(&planned.sink, faults)?;
        let mut numbers: Vec<u64> = places.iter().map(|at| *at as u64).collect();
        let mut gone_from: Vec<u64> = Vec::new();
        if way(repair, planned) == Way::Lookup && !places.is_empty() {
            // What was added to the source since it was compared is no longer the sink's alone.
            let (of_source, _) = at_fault.keys(&planned.source, faults)?;
            let mut wanted = Wanted::new(repair, planned, &keys, &numbers)?;
            wanted.look_up(source, &of_source, &mut |_| Ok(()))?;
            gone_from.extend(&wanted.found);
            if wanted.refused_count > 0 {
                let why = "the source cannot say by now whether it has it";
                faults
                    .iter()
                    .for_each(|fault| self.leave(&fault.record, why.to_owned()));
                return Ok(());
            }
        }
        let chosen: Vec<Fault> = faults
            .iter()
            .enumerate()
            .filter(|(at, fault)| fault.key.is_some() && !gone_from.contains(&(*at as u64)))
            .map(|(_, fault)| fault.clone())
            .collect();
        let (keys, places) = at_fault.keys(&planned.sink, &chosen)?;
        numbers = places.iter().map(|at| *at as u64).collect();
        if !numbers.is_empty() {
            let mut sending = Sending::begin(repair, planned, sink)?;
            sending.remove(numbers, keys)?;
            let (taken, refused) = sending.end();
            self.result.removed_count += taken;
            self.refuse(&chosen, refused);
        }
        for fault in faults.iter().filter(|fault| fault.key.is_none()) {
            self.leave(&fault.record, "its key is not known".to_owned());
        }
        Ok(())
    }

    fn refuse(&mut self, faults: &[Fault], refused: BTreeMap<u64, (String, String)>) {
        for (number, (code, message)) in refused {
            let Some(fault) = usize::try_from(number).ok().and_then(|at| faults.get(at)) else {
                continue;
            };
            if self.again.len() < AGAIN_RECORDS_MAX {
                self.again.push((fault.clone(), format!("{message} ({code})")));
            } else {
                self.refused_count += 1;
            }
        }
    }

    fn leave(&mut self, what: &str, why: String) {
        if self.result.left.len() < LEFT_SHOWN_MAX {
            self.result.left.push((what.to_owned(), why));
        }
    }
}

/// Records on their way to the sink.
struct Sending<'a> {
    rewriting: Rewriting<'a>,
    run_id: &'a str,
    taken: u64,
    refused: BTreeMap<u64, (String, String)>,
}

impl<'a> Sending<'a> {
    fn begin(
        repair: &'a Repair<'a>,
        planned: &'a PlannedCollection,
        sink: &'a mut OpenedSink,
    ) -> Result<Self, Failure> {
        let (rewriting, _) =
            Rewriting::begin(repair.job, repair.run_id, planned, PARTITION, repair.stop, sink)?;
        Ok(Self {
            rewriting,
            run_id: repair.run_id,
            taken: 0,
            refused: BTreeMap::new(),
        })
    }

    fn write(&mut self, pieces: &[Piece]) -> Result<(), Failure> {
        self.send(Deed::Write(ConflictPolicy::Overwrite), pieces)
    }

    fn remove(&mut self, numbers: Vec<u64>, keys: Batch) -> Result<(), Failure> {
        self.send(Deed::Remove, &[Piece { numbers, batch: keys }])
    }

    fn send(&mut self, deed: Deed, pieces: &[Piece]) -> Result<(), Failure> {
        let (taken, refused, run_id) = (&mut self.taken, &mut self.refused, self.run_id);
        let mark = |taken: &[u64]| Mark {
            cursor: Cursor(format!("{run_id}/{}", taken.len()).into_bytes()),
            extension: None,
        };
        let mut settle = |judged: Judged| {
            let is_taken = |number: &&u64| !judged.refused.contains_key(number);
            *taken += judged.taken.iter().filter(is_taken).count() as u64;
            refused.extend(judged.refused);
            Ok(())
        };
        for some in in_transactions(pieces)? {
            self.rewriting.send(deed, &some, &mark, &mut settle)?;
        }
        Ok(())
    }

    fn end(self) -> (u64, BTreeMap<u64, (String, String)>) {
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
                std::sync::Arc::clone(&piece.batch.schema),
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
