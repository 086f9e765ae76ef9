//! Runs of octets or items, one behind the other, as columns of texts, octets and lists keep them.
//!
//! They can be cut back to an earlier length and become Arrow's offsets and data without a copy of the data. Neighbour: `column`.

use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};

/// Where runs of something end, counted from the start of the first.
#[derive(Debug, Default)]
pub(super) struct Ends(Vec<i32>);

/// Runs of octets, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Runs {
    ends: Ends,
    data: Vec<u8>,
}

/// A column would pass the 2^31 octets or items that its offsets can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Octets reserved at most for the next batch after the last one; a single huge batch sets no standard.
const RESERVED_OCTETS_MAX: usize = 8 * 1024 * 1024;

impl Ends {
    pub(super) fn last(&self) -> usize {
        // Ends are made from lengths, so they are never negative.
        self.0.last().map_or(0, |end| usize::try_from(*end).unwrap_or(0))
    }

    /// Ends a run at `end`, which is not below the last end.
    pub(super) fn push(&mut self, end: usize) -> Result<(), TooLarge> {
        self.0.push(i32::try_from(end).map_err(|_| TooLarge)?);
        Ok(())
    }

    /// Adds an empty run.
    pub(super) fn push_empty(&mut self) {
        self.0.push(self.0.last().copied().unwrap_or(0));
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len() * 4
    }

    pub(super) fn finish(&mut self) -> OffsetBuffer<i32> {
        let mut offsets = Vec::with_capacity(self.0.len() + 1);
        offsets.push(0);
        offsets.append(&mut self.0);
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }
}

impl Runs {
    /// Adds a run.
    pub(super) fn push(&mut self, octets: &[u8]) -> Result<(), TooLarge> {
        self.data.extend_from_slice(octets);
        self.end()
    }

    /// The octets, for a run that is put behind them and then ended.
    pub(super) const fn open(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// Ends the run that was put behind the octets.
    pub(super) fn end(&mut self) -> Result<(), TooLarge> {
        self.ends.push(self.data.len())
    }

    /// Adds an empty run.
    pub(super) fn push_empty(&mut self) {
        self.ends.push_empty();
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.ends.bytes()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.data.truncate(self.ends.last());
    }

    pub(super) fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        (self.ends.finish(), Buffer::from(take(&mut self.data)))
    }
}

/// Takes the values and leaves an empty vector with room for about as many. What was reserved in vain is given back, since
/// whoever holds the array is charged for it.
pub(super) fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let reserved = values.len().min(RESERVED_OCTETS_MAX / size_of::<T>().max(1));
    let mut taken = std::mem::replace(values, Vec::with_capacity(reserved));
    if taken.capacity() - taken.len() > taken.len() / 4 {
        taken.shrink_to_fit();
    }
    taken
}
