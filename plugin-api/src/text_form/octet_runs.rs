//! Runs of octets, one behind the other, as text and octet columns keep them.
//!
//! They can be cut back to an earlier length and become Arrow's offsets and data without copying the data.
//! Neighbours: `scalar_column` holds one per column of text or octets; the lists of [`crate::json_form`]
//! count their items alike.

use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};

/// Why a value was not taken. The column is then as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no value of the type.
    BadValue,
    /// The column's offsets cannot count further.
    TooLarge,
}

/// Octets reserved at most for the next batch after the last one; a single huge batch sets no standard.
const RESERVED_OCTETS_MAX: usize = 8 * 1024 * 1024;

/// Where runs of something end, counted from the start of the first.
#[derive(Debug)]
pub(crate) struct Ends(Vec<i32>);

/// Runs of octets.
#[derive(Debug)]
pub(crate) struct OctetRuns {
    ends: Ends,
    data: Vec<u8>,
}

impl Ends {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn last(&self) -> usize {
        // Ends are made from lengths, so they are never negative.
        self.0.last().map_or(0, |end| usize::try_from(*end).unwrap_or(0))
    }

    /// Ends a run at `end`, which is not below the last end.
    pub(crate) fn push(&mut self, end: usize) -> Result<(), Refusal> {
        self.0.push(i32::try_from(end).map_err(|_| Refusal::TooLarge)?);
        Ok(())
    }

    /// Adds an empty run.
    pub(crate) fn push_empty(&mut self) {
        self.0.push(self.0.last().copied().unwrap_or(0));
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }

    pub(crate) fn finish(&mut self) -> OffsetBuffer<i32> {
        let mut offsets = Vec::with_capacity(self.0.len() + 1);
        offsets.push(0);
        offsets.append(&mut self.0);
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }
}

impl OctetRuns {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            ends: Ends::new(capacity),
            data: Vec::new(),
        }
    }

    /// Adds the run that `append` puts behind the given octets; none if it gives up.
    pub(crate) fn push(&mut self, append: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Result<(), Refusal> {
        let before = self.data.len();
        let pushed = match append(&mut self.data) {
            None => Err(Refusal::BadValue),
            Some(()) => self.ends.push(self.data.len()),
        };
        if pushed.is_err() {
            self.data.truncate(before);
        }
        pushed
    }

    pub(crate) fn push_empty(&mut self) {
        self.ends.push_empty();
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.data.truncate(self.ends.last());
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + self.ends.bytes()
    }

    pub(crate) fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        (self.ends.finish(), Buffer::from(take(&mut self.data)))
    }
}

/// Takes the values and leaves an empty vector with room for about as many. What was reserved in vain is
/// given back, since whoever holds the array is charged for it.
pub(crate) fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let reserved = values.len().min(RESERVED_OCTETS_MAX / size_of::<T>().max(1));
    let mut taken = std::mem::replace(values, Vec::with_capacity(reserved));
    if taken.capacity() - taken.len() > taken.len() / 4 {
        taken.shrink_to_fit();
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_offsets_cannot_count_is_refused() {
        let mut ends = Ends::new(0);
        ends.push(i32::MAX as usize).unwrap();
        assert_eq!(ends.push(i32::MAX as usize + 1), Err(Refusal::TooLarge));
        ends.truncate(0);
        assert_eq!(ends.last(), 0);
    }

    #[test]
    fn what_was_reserved_in_vain_is_given_back() {
        let mut values = Vec::with_capacity(10_000);
        values.push(1_u8);
        assert!(take(&mut values).capacity() < 100);
        assert!(values.is_empty());
    }
}
