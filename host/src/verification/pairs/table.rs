//! What is known of the records of both sides, key by key, in a bounded number of entries.
//!
//! Entries are gathered in any order; when there is no more room, those of one key and side are joined. Neighbours:
//! `difference` fills it and judges, `spill` takes what does not fit.

use super::difference::Place;
use crate::verification::digest::Pair;

/// Bits of a packed place that say where in the file.
const POSITION_BITS: u32 = 40;
/// Bits of a packed place that say which file.
const FILE_BITS: u32 = 23;

/// A side with a place on it; those of the source come first, then it goes by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SidePlace(u64);

impl SidePlace {
    /// `None` if there are more files or records than can be numbered: 8 million, and a million million in each.
    pub(super) fn new(is_sink: bool, place: Place) -> Option<Self> {
        let file = u64::try_from(place.file).ok()?;
        let fits = file < 1 << FILE_BITS && place.position < 1 << POSITION_BITS;
        let side = u64::from(is_sink) << (POSITION_BITS + FILE_BITS);
        fits.then_some(Self(side | file << POSITION_BITS | place.position))
    }

    pub(super) fn is_sink(self) -> bool {
        self.0 >> (POSITION_BITS + FILE_BITS) == 1
    }

    pub(super) fn place(self) -> Place {
        Place {
            file: (self.0 >> POSITION_BITS & ((1 << FILE_BITS) - 1)) as usize,
            position: self.0 & ((1 << POSITION_BITS) - 1),
        }
    }

    pub(super) fn to_octets(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    pub(super) fn from_octets(octets: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(octets))
    }
}

/// What is known of the records with one key on one side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) key: u128,
    /// The digest of the last one.
    pub(super) record: u128,
    /// The digests of all of them, added up.
    pub(super) sum: u128,
    pub(super) count: u64,
    /// Of the last one.
    pub(super) place: SidePlace,
}

impl Seen {
    pub(super) fn new(pair: Pair, place: SidePlace) -> Self {
        Self {
            key: pair.key,
            record: pair.record,
            sum: pair.record,
            count: 1,
            place,
        }
    }

    /// Adds what is known of a later place.
    fn join(&mut self, later: &Self) {
        self.record = later.record;
        self.sum = self.sum.wrapping_add(later.sum);
        self.count += later.count;
        self.place = later.place;
    }
}

/// Is given what the source and the sink have of one key; at least one of them has something.
pub(super) type OfKey<'a, E> = dyn FnMut(Option<&Seen>, Option<&Seen>) -> Result<(), E> + 'a;

/// See the module.
pub(super) struct Table {
    entries: Vec<Seen>,
    entries_max: usize,
    /// As much, or more where it has to be.
    room: usize,
}

impl Table {
    /// One of at most `bytes_max` octets, for no more than `record_count` records.
    pub(super) fn new(bytes_max: usize, record_count: u64) -> Self {
        // With fewer, dividing would never end.
        let entries_max = (bytes_max / size_of::<Seen>()).max(64);
        let wanted = usize::try_from(record_count).unwrap_or(usize::MAX);
        Self {
            // Memory that is reserved and not touched costs nothing.
            entries: Vec::with_capacity(entries_max.min(wanted)),
            entries_max,
            room: entries_max,
        }
    }

    pub(super) fn entries_max(&self) -> usize {
        self.entries_max
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.room = self.entries_max;
    }

    /// Adds an entry; false if there is no room for it.
    pub(super) fn add(&mut self, seen: Seen) -> bool {
        if self.entries.len() >= self.room {
            self.join();
            // So much room must be won that joining stays rare.
            if self.entries.len() > self.room - self.room / 4 {
                return false;
            }
        }
        self.entries.push(seen);
        true
    }

    /// Adds an entry whether there is room or not.
    pub(super) fn add_anyway(&mut self, seen: Seen) {
        if !self.add(seen) {
            self.room *= 2;
            self.entries.push(seen);
        }
    }

    /// Puts entries in order and joins those of one key and side.
    fn join(&mut self) {
        self.entries.sort_unstable_by_key(|seen| (seen.key, seen.place));
        self.entries.dedup_by(|later, first| {
            let is_alike = first.key == later.key && first.place.is_sink() == later.place.is_sink();
            if is_alike {
                first.join(later);
            }
            is_alike
        });
    }

    /// Gives what both sides have of each key to `each`, by key.
    pub(super) fn by_key<E>(&mut self, each: &mut OfKey<'_, E>) -> Result<(), E> {
        self.join();
        for of_key in self.entries.chunk_by(|a, b| a.key == b.key) {
            let of_side = |is_sink| of_key.iter().find(|seen| seen.place.is_sink() == is_sink);
            each(of_side(false), of_side(true))?;
        }
        Ok(())
    }
}
