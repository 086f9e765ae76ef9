//! What only the sink has is removed from it, unless the source has it by now: it is asked once more before the first record goes.
//! Neighbours: `healing` has what is copied, `in_source` asks the source, `sending` removes.

use std::collections::BTreeSet;

use super::at_fault::{AtFault, Fault};
use super::healing::{Healing, SCAN_RECORDS_MAX};
use super::in_source::{Wanted, Way, way};
use super::sending::Sending;
use crate::events::{Failure, MismatchKind};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::phases::rewriting::TRANSACTION_RECORDS_MAX;

impl Healing<'_> {
    /// Removes what only the sink has; in later rounds what was refused in the one before.
    pub(super) fn remove(&mut self, source: &mut OpenedSource, sink: &mut OpenedSink) -> Result<(), Failure> {
        let Some(mut at_fault) = self.at_fault.take() else {
            return Ok(());
        };
        let removed = if self.has_removed {
            let mut faults = self.take_again(|fault| fault.kind == MismatchKind::Extra);
            // The other way round: of records that refer to each other the last one can go first.
            faults.reverse();
            self.remove_some(&at_fault, &faults, source, sink)
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
            let is_extra = |fault: &Fault| fault.kind == MismatchKind::Extra && self.is_kept(fault);
            let some = at_fault.next(SCAN_RECORDS_MAX, is_extra)?;
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
        let chosen = self.only_in_sink(at_fault, faults, source)?;
        for some in chosen.chunks(TRANSACTION_RECORDS_MAX) {
            let (keys, places) = at_fault.keys(&planned.sink, some)?;
            let numbers: Vec<u64> = places.iter().map(|at| *at as u64).collect();
            let mut sending = Sending::begin(repair, planned, self.policy, sink)?;
            let sent = sending.remove(numbers, keys);
            let (taken, refused) = sending.end();
            self.result.removed_count += taken;
            self.refuse(some, refused);
            sent?;
        }
        Ok(())
    }

    /// Those of `faults` that the source still does not have. What was added to it since it was compared is no longer the sink's
    /// alone, under whatever key a transform finds it.
    fn only_in_sink(
        &mut self,
        at_fault: &AtFault,
        faults: &[Fault],
        source: &mut OpenedSource,
    ) -> Result<Vec<Fault>, Failure> {
        let (repair, planned) = (self.repair, self.planned);
        let way = way(repair, planned);
        let (_, places) = at_fault.keys(&planned.sink, faults)?;
        let known: BTreeSet<usize> = places.iter().copied().collect();
        for (at, fault) in faults.iter().enumerate() {
            if !known.contains(&at) {
                self.leave(&fault.record, "its key is not known".to_owned());
            }
        }
        let mut left: Vec<Fault> = places.iter().map(|at| faults[*at].clone()).collect();
        if way != Way::Scan {
            let mut not_found = Vec::new();
            for some in left.chunks(TRANSACTION_RECORDS_MAX) {
                let (of_source, places) = at_fault.keys(&planned.source, some)?;
                let mut wanted = wanted_of(self, at_fault, some)?;
                if !places.is_empty() {
                    wanted.look_up(source, &of_source, &mut |_| Ok(()))?;
                }
                let (found, is_sure) = (wanted.found, wanted.refused_count == 0);
                not_found.extend(self.sure_ones(some, &found, is_sure));
            }
            left = not_found;
        }
        if way != Way::Lookup && !left.is_empty() {
            let mut wanted = wanted_of(self, at_fault, &left)?;
            wanted.scan(source, &mut |_| Ok(()))?;
            let (found, is_sure) = (wanted.found, wanted.refused_count == 0);
            left = self.sure_ones(&left, &found, is_sure);
        }
        Ok(left)
    }

    /// Those of `faults` that are certainly not among what the source has. The others were `found` there and are not touched, or
    /// may be among what it could not deliver, which is said.
    fn sure_ones(&mut self, faults: &[Fault], found: &BTreeSet<u64>, is_sure: bool) -> Vec<Fault> {
        let mut sure = Vec::new();
        for (at, fault) in faults.iter().enumerate() {
            if found.contains(&(at as u64)) {
                continue;
            }
            if is_sure {
                sure.push(fault.clone());
            } else {
                let why = "the source cannot say by now whether it has it";
                self.leave(&fault.record, why.to_owned());
            }
        }
        sure
    }
}

/// `faults` as they are looked for in the source, each by its place among them. Their keys are known.
fn wanted_of<'a>(healing: &Healing<'a>, at_fault: &AtFault, faults: &[Fault]) -> Result<Wanted<'a>, Failure> {
    let (keys, places) = at_fault.keys(&healing.planned.sink, faults)?;
    let numbers: Vec<u64> = places.iter().map(|at| *at as u64).collect();
    Ok(Wanted::new(healing.repair, healing.planned, &keys, &numbers)?)
}
