//! Looks at records that differ a second time: what was changed in the source meanwhile is neither equal nor different.
//!
//! Everything is read as it is now, by key where the system can look records up, else all of it once for all that are
//! wanted. Neighbours: `finding` finds the keys, `suspect` says what both looks together mean.

use std::sync::Arc;

use arrow_select::concat::concat_batches;
use whimbrel_plugin_api::{Batch, Schema};

use super::access::{Access, Met, Wanted, is_no_way};
use super::finding::{Keys, Of, find_keys, take_keys};
use super::reading::SideDigests;
use super::seen::Eyes;
use super::suspect::Suspect;
use crate::events::Failure;

/// Keys that are looked up at once: many make one request, and none is too large for a statement.
const KEYS_MAX: usize = 500;

/// Both sides while records at fault are looked at.
pub(super) struct BothSides<'a> {
    pub(super) source: Access<'a>,
    pub(super) sink: Access<'a>,
    pub(super) source_digests: &'a SideDigests,
    pub(super) sink_digests: &'a SideDigests,
    pub(super) keys: Keys<'a>,
    /// Whether records are known by a key.
    pub(super) is_keyed: bool,
}

impl<'a> BothSides<'a> {
    /// Looks at `suspects` on both sides.
    ///
    /// # Errors
    /// What a side brings, or a transform; `verification.work_file`, `verification.bad_value`.
    pub(super) fn look_again(&mut self, suspects: &mut [Suspect]) -> Result<(), Failure> {
        let by_key = |access: &Access<'_>| self.is_keyed && access.looks_up();
        let (source_by_key, sink_by_key) = (by_key(&self.source), by_key(&self.sink));
        // What has to be read as a whole is read first: it says the keys by which the other side is looked at.
        if !source_by_key {
            self.scan(Of::Source, suspects, |_| true)?;
        }
        if !sink_by_key {
            self.scan(Of::Sink, suspects, |_| true)?;
        }
        if source_by_key || sink_by_key {
            find_keys(
                &mut self.source,
                self.source_digests,
                Of::Source,
                &self.keys,
                suspects,
            )?;
            find_keys(&mut self.sink, self.sink_digests, Of::Sink, &self.keys, suspects)?;
        }
        if source_by_key {
            self.by_key(Of::Source, suspects)?;
        }
        if sink_by_key {
            self.by_key(Of::Sink, suspects)?;
        }
        Ok(())
    }

    fn side(&mut self, of: Of) -> (&mut Access<'a>, &Keys<'a>) {
        let access = match of {
            Of::Source => &mut self.source,
            Of::Sink => &mut self.sink,
        };
        (access, &self.keys)
    }

    /// Reads all of a side for those that are `chosen`.
    fn scan(
        &mut self,
        of: Of,
        suspects: &mut [Suspect],
        chosen: impl Fn(&Suspect) -> bool,
    ) -> Result<(), Failure> {
        let mut wanted = Wanted::new();
        for (number, suspect) in suspects.iter_mut().enumerate() {
            if chosen(suspect) {
                // What an attempt to look it up has brought would count twice.
                *slot(suspect, of) = None;
                wanted.insert(suspect.difference.key, number);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let (access, keys) = self.side(of);
        let eyes = access.eyes;
        access.scan(&wanted, &mut |met| {
            note(&mut suspects[met.number], of, met, eyes, keys)
        })
    }

    /// Looks up those whose key is known, and reads all of the side if there are others.
    fn by_key(&mut self, of: Of, suspects: &mut [Suspect]) -> Result<(), Failure> {
        let mut groups: Vec<(Arc<Schema>, Vec<usize>)> = Vec::new();
        let mut has_others = false;
        for (number, suspect) in suspects.iter().enumerate() {
            let Some(key) = key(suspect, of) else {
                has_others = true;
                continue;
            };
            match groups.iter_mut().find(|(schema, _)| *schema == key.schema) {
                Some((_, numbers)) => numbers.push(number),
                None => groups.push((Arc::clone(&key.schema), vec![number])),
            }
        }
        for (_, numbers) in groups {
            for numbers in numbers.chunks(KEYS_MAX) {
                match self.look_up(of, suspects, numbers) {
                    // A system that does not know the key, or not here: then all of it is read.
                    Err(failure) if is_no_way(&failure) => return self.scan(of, suspects, |_| true),
                    other => other?,
                }
            }
        }
        if has_others {
            return self.scan(of, suspects, |suspect| key(suspect, of).is_none());
        }
        Ok(())
    }

    /// Looks up `numbers` of `suspects`, whose keys have one schema.
    fn look_up(&mut self, of: Of, suspects: &mut [Suspect], numbers: &[usize]) -> Result<(), Failure> {
        let keys: Vec<&Batch> = numbers
            .iter()
            .filter_map(|number| key(&suspects[*number], of))
            .collect();
        let Some(first) = keys.first() else {
            return Ok(());
        };
        let records = concat_batches(&first.records.schema(), keys.iter().map(|key| &key.records))
            .map_err(whimbrel_plugin_api::Error::from)?;
        let asked = Batch::new(Arc::clone(&first.schema), records)?;
        let wanted: Wanted = numbers
            .iter()
            .map(|number| (suspects[*number].difference.key, *number))
            .collect();
        let (access, keys) = self.side(of);
        let eyes = access.eyes;
        let rejected = access.look_up(&asked, &wanted, &mut |met| {
            note(&mut suspects[met.number], of, met, eyes, keys)
        })?;
        if rejected.is_empty() {
            return Ok(());
        }
        // Which one it was that cannot be delivered is known if it is the only one asked for.
        for number in numbers {
            let suspect = &mut suspects[*number];
            if slot(suspect, of).is_some() {
                continue;
            }
            if numbers.len() == 1 {
                suspect.is_unreadable = true;
                if of == Of::Sink {
                    suspect.sink_labels = rejected.iter().map(|record| record.record.clone()).collect();
                }
            } else {
                self.look_up(of, suspects, &[*number])?;
            }
        }
        Ok(())
    }
}

/// The values by which the side looks it up.
fn key(suspect: &Suspect, of: Of) -> Option<&Batch> {
    match of {
        Of::Source => suspect.source_key.as_ref(),
        Of::Sink => suspect.sink_key.as_ref(),
    }
}

/// What was seen of it on the side.
fn slot(suspect: &mut Suspect, of: Of) -> &mut Option<super::seen::Seen> {
    match of {
        Of::Source => &mut suspect.source_now,
        Of::Sink => &mut suspect.sink_now,
    }
}

fn note(
    suspect: &mut Suspect,
    of: Of,
    met: &Met<'_>,
    eyes: Eyes<'_>,
    keys: &Keys<'_>,
) -> Result<(), Failure> {
    let seen = eyes.see(met.batch, met.row, met.record)?;
    let first = match of {
        Of::Source => suspect.source_first,
        Of::Sink => None,
    };
    match slot(suspect, of) {
        Some(before) => before.join(seen, first),
        empty => *empty = Some(seen),
    }
    take_keys(suspect, of, met, keys)
}
