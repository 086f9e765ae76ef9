//! Reads the records at fault again at the place of their batch, for the values of their keys: digests say nothing of them.
//!
//! A record that is not found at its place, or whose place cannot be gone to, is left as it is: then the second look reads
//! the whole side. Neighbours: [`crate::verification::pairs`] knows the places, `second_look` looks the keys up.

use std::collections::BTreeMap;

use whimbrel_plugin_api::source::ReadRequest;
use whimbrel_plugin_api::{Cursor, Partition};

use super::access::{Access, Met, Next, Raw, Wanted, is_no_way, meet};
use super::reading::SideDigests;
use super::seen::key_of;
use super::suspect::Suspect;
use crate::events::Failure;
use crate::verification::pairs::Place;

/// Which side a record is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// The source.
    Source,
    /// The sink.
    Sink,
}

/// By which fields both sides look records up.
pub(super) struct Keys<'a> {
    pub(super) source: &'a [String],
    pub(super) sink: &'a [String],
    /// Whether a record of the sink has the values by which the source looks it up, and the other way round.
    pub(super) are_same: bool,
}

/// A batch that is read again.
struct Group {
    cursor: Cursor,
    record_count: u64,
    wanted: Wanted,
}

/// Finds the keys of those of `suspects` that have a place on the side `of` and no key yet.
///
/// # Errors
/// What the side brings, or a transform; `verification.work_file`.
pub(super) fn find_keys(
    access: &mut Access<'_>,
    digests: &SideDigests,
    of: Of,
    keys: &Keys<'_>,
    suspects: &mut [Suspect],
) -> Result<(), Failure> {
    for ((file, _), mut group) in groups(digests, of, suspects)? {
        let Some(partition) = digests.parts.get(file) else {
            continue;
        };
        match read_group(access, partition, &mut group, of, keys, suspects) {
            Err(failure) if is_no_way(&failure) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The batches that hold wanted records, by file and position.
fn groups(
    digests: &SideDigests,
    of: Of,
    suspects: &[Suspect],
) -> Result<BTreeMap<(usize, u64), Group>, Failure> {
    let mut groups: BTreeMap<(usize, u64), Group> = BTreeMap::new();
    for (number, suspect) in suspects.iter().enumerate() {
        let place: Option<Place> = match of {
            Of::Source => suspect.difference.source,
            Of::Sink => suspect.difference.sink,
        };
        let has_key = suspect.source_key.is_some() || suspect.sink_key.is_some();
        let Some(place) = place.filter(|_| !has_key) else {
            continue;
        };
        let Some(file) = digests.files.get(place.file) else {
            continue;
        };
        let batch = file.batch_of(place.position)?;
        let Some(cursor) = batch.cursor else {
            continue;
        };
        let group = groups.entry((place.file, batch.first)).or_insert_with(|| Group {
            cursor,
            record_count: batch.record_count,
            wanted: Wanted::new(),
        });
        group.wanted.insert(suspect.difference.key, number);
    }
    Ok(groups)
}

fn read_group(
    access: &mut Access<'_>,
    partition: &Partition,
    group: &mut Group,
    of: Of,
    keys: &Keys<'_>,
    suspects: &mut [Suspect],
) -> Result<(), Failure> {
    let is_transformed = access.is_transformed();
    let request = ReadRequest {
        partition: Some(partition.clone()),
        cursor: group.cursor.clone(),
        snapshot: access.snapshot.clone(),
        // How many records of the system a batch was made of is only known where nothing changes them.
        limit: (!is_transformed).then_some(group.record_count),
        ..access.request.clone()
    };
    let eyes = access.eyes;
    let mut left = group.record_count;
    access.read(&request, &mut |chain, batch| {
        let count = meet(
            eyes,
            chain,
            batch,
            &group.wanted,
            Raw::IsWanted,
            &mut |met: &Met<'_>| {
                let suspect = &mut suspects[met.number];
                suspect.label = Some(eyes.label(met.batch, met.row)?);
                take_keys(suspect, of, met, keys)
            },
        )?;
        left = left.saturating_sub(count);
        Ok(if left == 0 { Next::Enough } else { Next::GoesOn })
    })?;
    Ok(())
}

/// Keeps the values by which both sides look the record up.
pub(super) fn take_keys(
    suspect: &mut Suspect,
    of: Of,
    met: &Met<'_>,
    keys: &Keys<'_>,
) -> Result<(), Failure> {
    if suspect.sink_key.is_none() {
        suspect.sink_key = key_of(met.batch, met.row, keys.sink)?;
    }
    if let Some((raw, row)) = met.raw
        && suspect.source_key.is_none()
        && (of == Of::Source || keys.are_same)
    {
        suspect.source_key = key_of(raw, row, keys.source)?;
    }
    Ok(())
}
