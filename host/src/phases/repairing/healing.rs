//! One collection while it is healed: what is copied, what stays as it is and why.
//! Neighbours: `at_fault` has the records, `in_source` reads them, `sending` writes them, `removing` has what goes.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use whimbrel_plugin_api::ConflictPolicy;

use super::at_fault::{AtFault, Fault};
use super::in_source::{Wanted, Way, way};
use super::keeping::keep;
use super::sending::Sending;
use super::{LEFT_SHOWN_MAX, Repair};
use crate::events::{Failure, MismatchKind, RepairResult};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::phases::rewriting::TRANSACTION_RECORDS_MAX;
use crate::plan::PlannedCollection;

/// Records that are looked for at once when all of the source has to be read for them; a few hundred octets each.
pub(super) const SCAN_RECORDS_MAX: usize = 50_000;
/// Records that were refused and are tried again; of further ones the next repair takes care.
const AGAIN_RECORDS_MAX: usize = 10_000;

/// See the module.
pub(super) struct Healing<'a> {
    pub(super) repair: &'a Repair<'a>,
    pub(super) planned: &'a PlannedCollection,
    pub(super) result: RepairResult,
    pub(super) at_fault: Option<AtFault>,
    /// What happens to a record that the sink has.
    pub(super) policy: ConflictPolicy,
    /// Whether records that the sink has, and that differ, are its own affair.
    copies_missing_only: bool,
    /// Why what only the sink has stays there, if it does.
    pub(super) stays: Option<String>,
    /// The file that keeps what is replaced or removed.
    kept: PathBuf,
    /// The keys of records that could not be kept, and so are not touched.
    unkept: HashSet<String>,
    /// Whether the file has been gone through, for what is copied and for what is removed.
    has_copied: bool,
    pub(super) has_removed: bool,
    /// What was refused in the last round, with the reason.
    again: Vec<(Fault, String)>,
    /// How many more were.
    refused_count: u64,
}

/// How the records of a collection are healed. See the fields of [`Healing`].
pub(super) struct Care {
    pub(super) policy: ConflictPolicy,
    pub(super) copies_missing_only: bool,
    pub(super) stays: Option<String>,
    pub(super) kept: PathBuf,
}

impl<'a> Healing<'a> {
    /// Of a collection whose differences are in `at_fault`.
    pub(super) fn of(
        repair: &'a Repair<'a>,
        planned: &'a PlannedCollection,
        result: RepairResult,
        at_fault: AtFault,
        care: Care,
    ) -> Self {
        Self {
            at_fault: Some(at_fault),
            policy: care.policy,
            copies_missing_only: care.copies_missing_only,
            stays: care.stays,
            kept: care.kept,
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
            policy: ConflictPolicy::Overwrite,
            copies_missing_only: false,
            stays: None,
            kept: PathBuf::new(),
            unkept: HashSet::new(),
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

    /// Keeps what the sink has of the records that are to be replaced or removed. What cannot be kept is not touched.
    pub(super) fn keep(&mut self, sink: &mut OpenedSink) -> Result<(), Failure> {
        let Some(mut at_fault) = self.at_fault.take() else {
            return Ok(());
        };
        let removes = self.stays.is_none();
        let is_touched = |fault: &Fault| match fault.kind {
            MismatchKind::Extra => removes && fault.key.is_some(),
            _ => self.is_copied(fault) && fault.key.is_some(),
        };
        let lost = keep(
            self.repair,
            self.planned,
            &mut at_fault,
            &is_touched,
            &self.kept,
            sink,
        );
        self.at_fault = Some(at_fault);
        for fault in lost? {
            let why = "the sink's record cannot be read as it is stored, so it could not be kept: correct or remove it there, and \
                       repair again";
            self.leave(&fault.record, why.to_owned());
            self.unkept.extend(fault.key);
        }
        Ok(())
    }

    /// Whether the sink's record, if there is one, is kept.
    pub(super) fn is_kept(&self, fault: &Fault) -> bool {
        fault.key.as_ref().is_none_or(|key| !self.unkept.contains(key))
    }

    /// Whether the record is to be copied again.
    fn is_copied(&self, fault: &Fault) -> bool {
        match fault.kind {
            MismatchKind::Extra | MismatchKind::ChangedSince | MismatchKind::Schema => false,
            MismatchKind::Missing => true,
            _ => !self.copies_missing_only,
        }
    }

    /// Copies again what is missing or differs; in later rounds what was refused in the one before.
    pub(super) fn copy(&mut self, source: &mut OpenedSource, sink: &mut OpenedSink) -> Result<(), Failure> {
        if self.has_copied {
            let faults = self.take_again(|fault| fault.kind != MismatchKind::Extra);
            return self.copy_all(&faults, source, sink);
        }
        self.has_copied = true;
        loop {
            let Some(mut at_fault) = self.at_fault.take() else {
                return Ok(());
            };
            let is_wanted = |fault: &Fault| self.is_copied(fault) && self.is_kept(fault);
            let faults = at_fault.next(SCAN_RECORDS_MAX, is_wanted);
            self.at_fault = Some(at_fault);
            let faults = faults?;
            if faults.is_empty() || self.repair.stop.is_raised() {
                return Ok(());
            }
            self.copy_all(&faults, source, sink)?;
        }
    }

    /// Takes out what was refused in the last round and `is_wanted`.
    pub(super) fn take_again(&mut self, is_wanted: impl Fn(&Fault) -> bool) -> Vec<Fault> {
        let (again, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.again)
            .into_iter()
            .partition(|(fault, _)| is_wanted(fault));
        self.again = rest;
        again.into_iter().map(|(fault, _)| fault).collect()
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
        let mut sending = Sending::begin(self.repair, self.planned, self.policy, sink)?;
        let sent = self.send(at_fault, faults, source, &mut sending);
        // What is durable counts, also if the rest could not be sent.
        let (taken, refused) = sending.end();
        self.result.copied_count += taken;
        self.refuse(faults, refused);
        for at in sent? {
            let fault = &faults[at];
            let why = match fault.key {
                Some(_) => "the source does not have it, or a transform refuses it",
                None => "its key is not known",
            };
            self.leave(&fault.record, why.to_owned());
        }
        Ok(())
    }

    /// Reads `faults` from the source and sends them; answers the places of those that it does not have.
    fn send(
        &self,
        at_fault: &AtFault,
        faults: &[Fault],
        source: &mut OpenedSource,
        sending: &mut Sending<'_>,
    ) -> Result<Vec<usize>, Failure> {
        let (repair, planned) = (self.repair, self.planned);
        let way = way(repair, planned);
        let mut gone = Vec::new();
        if way == Way::Scan {
            gone = (0..faults.len()).collect();
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
                gone.extend((first..first + some.len()).filter(is_missing));
            }
        }
        if way != Way::Lookup && !gone.is_empty() {
            let some: Vec<Fault> = gone.iter().map(|at| faults[*at].clone()).collect();
            let (keys, places) = at_fault.keys(&planned.sink, &some)?;
            let numbers: Vec<u64> = places.iter().map(|at| gone[*at] as u64).collect();
            let mut wanted = Wanted::new(repair, planned, &keys, &numbers)?;
            wanted.scan(source, &mut |pieces| sending.write(&pieces))?;
            gone.retain(|at| !wanted.found.contains(&(*at as u64)));
        }
        Ok(gone)
    }

    pub(super) fn refuse(&mut self, faults: &[Fault], refused: BTreeMap<u64, (String, String)>) {
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

    pub(super) fn leave(&mut self, what: &str, why: String) {
        if self.result.left.len() < LEFT_SHOWN_MAX {
            self.result.left.push((what.to_owned(), why));
        }
    }
}
