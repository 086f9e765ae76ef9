//! Which records differ: the pairs of unequal buckets, side by side, in bounded memory.
//!
//! What fits is gathered in a `table` in one pass over the files, or in a few passes; more is divided into files of its own
//! (`spill`) by ranges of keys (`key_range`), and these again if need be, so that time stays about linear in the number of
//! records. Which records are alike is known by their digests alone. Neighbour: `full` reads the records at fault again.

use std::path::Path;

use whimbrel_plugin_api::Error;

use super::file::PairFile;
use super::key_range::{KeyRange, Wanted};
use super::spill::{Spill, SpillWriter};
use super::table::{Seen, SidePlace, Table};
use crate::verification::bucket::bucket_of;
use crate::verification::digest::Pair;
use crate::verification::left_out::LeftOut;
use crate::workspace::make_folder;

/// Passes over all files that cost less than dividing them.
const PASSES_MAX: u64 = 3;
/// Files into which something is divided at one time; each is open, with a buffer.
const FILES_MAX: u64 = 64;
/// Files into which something is divided that did not fit against expectation.
const FILES_MIN: u64 = 8;
/// The least that keeps writing from being slow, however little memory there is: 256 KiB for all files.
const BUFFER_BYTES_MIN: usize = 4 * 1024;
/// The most that helps to make writing faster.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Where a record is: in which file of its side, at which position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the file.
    pub file: usize,
    /// The position in it, from 0.
    pub position: u64,
}

/// In what way a record differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The sink lacks it.
    Missing,
    /// The source lacks it.
    Extra,
    /// Both have it, and it is not the same.
    Different,
    /// Both have it, so many times: without a key, or with one if the sink holds the key several times.
    Count {
        /// In the source.
        expected: u64,
        /// In the sink.
        found: u64,
    },
}

/// A record that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The digest of its key.
    pub key: u128,
    /// In what way.
    pub kind: DifferenceKind,
    /// Where the source has it; the last of several.
    pub source: Option<Place>,
    /// The digest of that record.
    pub source_record: Option<u128>,
    /// Where the sink has it; the last of several.
    pub sink: Option<Place>,
    /// How often the sink has it.
    pub sink_count: u64,
}

/// What counts as a difference.
pub struct Rules<'a> {
    /// Whether records are known by a key rather than as a whole.
    pub is_keyed: bool,
    /// Records that the sink has refused: not looked at on either side. Buckets that hold one are looked at.
    pub left_out: &'a LeftOut,
    /// Only a sample of the source was moved: what only the sink has is no difference.
    pub is_sample: bool,
    /// Octets that may be held in memory at one time, but for buffers of less than 1 MiB.
    pub memory_bytes_max: usize,
    /// A folder for what does not fit there.
    pub work_folder: &'a Path,
}

/// What was seen beside differences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records of the source with a key that another one of the source has too.
    pub duplicate_key_count: u64,
    /// Records of the source that were passed over, since the sink has refused them.
    pub left_out_count: u64,
}

/// Gives all differences between both sides to `each`, one for each key, by key; `unequal` are the buckets that differ, in
/// order. Of several records of the source with one key only the last one counts, as for a sink that overwrites; a sink
/// that holds the same ones as the source, all of them, is right as well.
///
/// # Errors
/// `verification.work_file`, `verification.work_torn`, and what `each` brings.
pub fn differences(
    source: &[PairFile],
    sink: &[PairFile],
    unequal: &[usize],
    rules: &Rules<'_>,
    each: &mut dyn FnMut(Difference) -> Result<(), Error>,
) -> Result<Tally, Error> {
    let files = source.iter().chain(sink);
    let record_count = files.map(PairFile::record_count).sum();
    let wanted = Wanted::new(
        unequal
            .iter()
            .copied()
            .chain(rules.left_out.keys().map(bucket_of)),
    );
    // A quarter is left for the buffers of files into which something is divided.
    let table_bytes = rules.memory_bytes_max - rules.memory_bytes_max / 4;
    let mut search = Search {
        source,
        sink,
        rules,
        record_count,
        table: Table::new(table_bytes, record_count),
        spill_count: 0,
        tally: Tally::default(),
        waiting: vec![Task {
            range: wanted.range(),
            from: None,
        }],
        wanted,
    };
    while let Some(task) = search.waiting.pop() {
        if !task.range.is_empty() {
            search.look_at(task, each)?;
        }
    }
    Ok(search.tally)
}

/// Keys that are to be looked at.
struct Task {
    range: KeyRange,
    /// Where their pairs are; none if they are in the files of both sides.
    from: Option<Spill>,
}

struct Search<'a> {
    source: &'a [PairFile],
    sink: &'a [PairFile],
    rules: &'a Rules<'a>,
    wanted: Wanted,
    /// Of both sides.
    record_count: u64,
    table: Table,
    spill_count: u64,
    tally: Tally,
    /// The last one is the next.
    waiting: Vec<Task>,
}

impl Search<'_> {
    fn look_at(
        &mut self,
        task: Task,
        each: &mut dyn FnMut(Difference) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Of files of its own it is tried, since what they hold may be the same key many times.
        if task.from.is_none() {
            let passes = self.expected(&task).div_ceil(self.table.entries_max() as u64);
            if passes > PASSES_MAX {
                return self.divide(task, passes + passes / 2);
            }
            if passes > 1 {
                let (parts, _) = task.range.divided(passes);
                let tasks = parts.into_iter().rev().map(|range| Task { range, from: None });
                self.waiting.extend(tasks);
                return Ok(());
            }
        }
        if !self.load(&task)? {
            let times = self.expected(&task) / self.table.entries_max() as u64;
            return self.divide(task, (times + times / 2).max(FILES_MIN));
        }
        drop(task);
        let (rules, tally) = (self.rules, &mut self.tally);
        self.table.by_key(&mut |source, sink| {
            let difference = match rules.is_keyed {
                true => keyed(source, sink, rules, tally),
                false => keyless(source, sink, rules, tally),
            };
            difference.map_or(Ok(()), &mut *each)
        })
    }

    /// About how many records of both sides are of the task. Digests are spread evenly.
    fn expected(&self, task: &Task) -> u64 {
        match &task.from {
            Some(spill) => spill.record_count(),
            None => task.range.share_of(self.record_count),
        }
    }

    /// Gathers what is known of the task's keys; false if that does not fit.
    fn load(&mut self, task: &Task) -> Result<bool, Error> {
        self.table.clear();
        let may_divide = !task.range.is_one();
        let mut fits = true;
        let table = &mut self.table;
        let mut add = |pair, place| {
            let seen = Seen::new(pair, place);
            if may_divide {
                fits = table.add(seen);
            } else {
                // Keys that have 63 bits in common: there are no more of them than of one key.
                table.add_anyway(seen);
            }
            Ok(fits)
        };
        match &task.from {
            Some(spill) => spill.scan(&mut add)?,
            None => scan(self.source, self.sink, &self.wanted, task.range, &mut add)?,
        }
        Ok(fits)
    }

    /// Divides the task among about `count` files.
    fn divide(&mut self, task: Task, count: u64) -> Result<(), Error> {
        make_folder(self.rules.work_folder)?;
        let (parts, size) = task.range.divided(count.min(FILES_MAX));
        let buffer_bytes = self.rules.memory_bytes_max / 4 / parts.len().max(1);
        let buffer_bytes = buffer_bytes.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
        let mut files = Vec::with_capacity(parts.len());
        for _ in &parts {
            let path = self
                .rules
                .work_folder
                .join(format!("divided-{}", self.spill_count));
            files.push(SpillWriter::create(&path, buffer_bytes)?);
            self.spill_count += 1;
        }
        let wanted = &self.wanted;
        let mut add = |pair: Pair, place| {
            if let Some(number) = wanted.number_of(pair.key) {
                files[((number - task.range.from) / size) as usize].add(pair, place)?;
            }
            Ok(true)
        };
        match &task.from {
            Some(spill) => spill.scan(&mut add)?,
            None => scan(self.source, self.sink, wanted, task.range, &mut add)?,
        }
        for (range, file) in parts.into_iter().zip(files).rev() {
            let from = Some(file.finish()?);
            self.waiting.push(Task { range, from });
        }
        Ok(())
    }
}

/// Gives the pairs of both sides whose keys are in `range` to `each`, until that says false.
fn scan(
    source: &[PairFile],
    sink: &[PairFile],
    wanted: &Wanted,
    range: KeyRange,
    each: &mut dyn FnMut(Pair, SidePlace) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut goes_on = true;
    for (is_sink, files) in [(false, source), (true, sink)] {
        for (file, pairs) in files.iter().enumerate() {
            if !goes_on {
                return Ok(());
            }
            pairs.scan_while(&mut |position, pair| {
                if wanted.number_of(pair.key).is_some_and(|number| range.has(number)) {
                    let place = SidePlace::new(is_sink, Place { file, position })
                        .ok_or_else(|| Error::internal("a side has more records than can be compared"))?;
                    goes_on = each(pair, place)?;
                }
                Ok(goes_on)
            })?;
        }
    }
    Ok(())
}

fn differing(kind: DifferenceKind, source: Option<&Seen>, sink: Option<&Seen>) -> Option<Difference> {
    let key = source.or(sink)?.key;
    Some(Difference {
        key,
        kind,
        source: source.map(|seen| seen.place.place()),
        source_record: source.map(|seen| seen.record),
        sink: sink.map(|seen| seen.place.place()),
        sink_count: sink.map_or(0, |seen| seen.count),
    })
}

/// What is wrong with the records of one key, if anything is.
fn keyed(
    source: Option<&Seen>,
    sink: Option<&Seen>,
    rules: &Rules<'_>,
    tally: &mut Tally,
) -> Option<Difference> {
    let key = source.or(sink)?.key;
    if rules.left_out.times(key) > 0 {
        tally.left_out_count += source.map_or(0, |seen| seen.count);
        return None;
    }
    tally.duplicate_key_count += source.map_or(0, |seen| seen.count - 1);
    let kind = match (source, sink) {
        (Some(_), None) => DifferenceKind::Missing,
        (None, Some(_)) if rules.is_sample => return None,
        (None, _) => DifferenceKind::Extra,
        (Some(theirs), Some(ours)) => {
            let is_same_set = theirs.count == ours.count && theirs.sum == ours.sum;
            match ours.count {
                _ if is_same_set => return None,
                1 if theirs.record == ours.record => return None,
                1 => DifferenceKind::Different,
                found => DifferenceKind::Count { expected: 1, found },
            }
        }
    };
    differing(kind, source, sink)
}

/// What is wrong with records that are alike, if anything is.
fn keyless(
    source: Option<&Seen>,
    sink: Option<&Seen>,
    rules: &Rules<'_>,
    tally: &mut Tally,
) -> Option<Difference> {
    let key = source.or(sink)?.key;
    let given = source.map_or(0, |seen| seen.count);
    // Those that are alike and were not refused are there, so nothing is taken from the sink's.
    let refused = rules.left_out.times(key).min(given);
    tally.left_out_count += refused;
    let (expected, found) = (given - refused, sink.map_or(0, |seen| seen.count));
    let kind = match (expected, found) {
        _ if expected == found || rules.is_sample && expected < found => return None,
        (0, _) => DifferenceKind::Extra,
        (_, 0) => DifferenceKind::Missing,
        (expected, found) => DifferenceKind::Count { expected, found },
    };
    differing(kind, source, sink)
}

#[cfg(test)]
mod tests;
