//! Looks through a file for the fields and types of its records, before it is read.
//!
//! Plain files with a record on each line are divided among threads; what they saw is joined in the order of the file, so
//! the outcome does not depend on their number. Neighbours: [`crate::inference`] (what is seen), [`crate::source`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use whimbrel_plugin_api::{Error, Result, Services};

use crate::format::{DataFile, Form};
use crate::inference::{Inferred, Tally};

/// Octets from which a file is worth another thread.
const PART_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// Threads at most; the disk is the limit before that.
const THREADS_MAX: usize = 8;
/// Records between two looks at the canceller.
const CHECK_EVERY: u64 = 1_024;
/// Octets between two lines of progress.
const PROGRESS_EVERY: u64 = 64 * 1024 * 1024;

/// What does not change while a file is looked through.
#[derive(Clone, Copy)]
pub(crate) struct Survey<'call> {
    pub(crate) file: &'call DataFile,
    pub(crate) form: Form,
    pub(crate) size_bytes: u64,
    pub(crate) record_bytes_max: usize,
    pub(crate) fields_max: usize,
    pub(crate) services: &'call Services,
}

impl Survey<'_> {
    /// Looks at every record and fixes the types.
    pub(crate) fn full(self) -> Result<Inferred> {
        self.tally().map(|tally| tally.resolve(true))
    }

    /// Looks at every record.
    pub(crate) fn tally(self) -> Result<Tally> {
        let threads = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(THREADS_MAX) as u64;
        let parts = if self.form.is_divisible() {
            (self.size_bytes / PART_BYTES_MIN).clamp(1, threads)
        } else {
            1
        };
        self.in_parts(parts)
    }

    fn in_parts(self, parts: u64) -> Result<Tally> {
        let done = AtomicU64::new(0);
        if parts <= 1 {
            return self.part(0, None, &done);
        }
        let starts = self.file.line_starts(self.size_bytes, parts)?;
        let tallies = thread::scope(|scope| {
            let part = |pair: &[u64]| {
                let (start, end) = (pair[0], pair[1]);
                let done = &done;
                scope.spawn(move || self.part(start, Some(end), done))
            };
            let running: Vec<_> = starts.windows(2).map(part).collect();
            running
                .into_iter()
                .map(|part| {
                    part.join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect::<Result<Vec<Tally>>>()
        })?;
        let joined = tallies.into_iter().reduce(|mut joined, later| {
            joined.merge(&later);
            joined
        });
        joined.ok_or_else(|| Error::internal("a file was divided into no parts"))
    }

    fn part(self, start: u64, end: Option<u64>, done: &AtomicU64) -> Result<Tally> {
        let mut framer = self.file.framer(self.form, start, end, self.record_bytes_max)?;
        let mut tally = Tally::new(self.fields_max);
        let mut looked_at = 0_u64;
        let mut told = start;
        while let Some(frame) = framer.next()? {
            if frame.is_overlong {
                tally.reject();
            } else {
                tally.observe(framer.octets(&frame));
            }
            looked_at += 1;
            if looked_at.is_multiple_of(CHECK_EVERY) {
                self.services.check_cancelled()?;
                let at = framer.place().offset;
                if at - told >= PROGRESS_EVERY {
                    let sum = done.fetch_add(at - told, Ordering::Relaxed) + at - told;
                    told = at;
                    let total = (!self.form.is_zstd).then_some(self.size_bytes);
                    self.services.progress(
                        &format!("octets of `{}` looked at", self.file.collection),
                        sum,
                        total,
                    );
                }
            }
        }
        Ok(tally)
    }

    /// Looks at the first `record_count` records that can be read.
    pub(crate) fn sample(self, record_count: u64) -> Result<Inferred> {
        let mut framer = self.file.framer(self.form, 0, None, self.record_bytes_max)?;
        let mut tally = Tally::new(self.fields_max);
        let mut is_complete = false;
        while tally.record_count() < record_count {
            let Some(frame) = framer.next()? else {
                is_complete = true;
                break;
            };
            if frame.is_overlong {
                tally.reject();
            } else {
                tally.observe(framer.octets(&frame));
            }
        }
        Ok(tally.resolve(is_complete))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::config::SourceFormat;
    use crate::listing;

    #[test]
    fn any_number_of_parts_sees_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        let mut text = String::new();
        for index in 0..2_000 {
            let extra = if index % 97 == 5 {
                format!(",\"x{}\":[]", index % 5)
            } else {
                String::new()
            };
            let broken = if index % 501 == 7 { "{" } else { "" };
            writeln!(
                text,
                "{broken}{{\"id\":{index},\"v\":{}{extra}}}",
                if index == 1_999 { "\"x\"" } else { "1.5" }
            )
            .unwrap();
        }
        std::fs::write(&path, &text).unwrap();
        let listing = listing::list(&path).unwrap();
        let file = &listing.files["a"];
        let services = Services::detached();
        let survey = Survey {
            file,
            form: file.form(SourceFormat::Auto).unwrap(),
            size_bytes: text.len() as u64,
            record_bytes_max: 1_024,
            fields_max: 100,
            services: &services,
        };
        let whole = survey.in_parts(1).unwrap().resolve(true);
        assert_eq!((whole.record_count, whole.rejected_count), (1_996, 4));
        for parts in [2, 3, 8, 50] {
            let joined = survey.in_parts(parts).unwrap().resolve(true);
            assert_eq!(joined.schema, whole.schema, "{parts}");
            assert_eq!(
                (joined.record_count, joined.rejected_count),
                (1_996, 4),
                "{parts}"
            );
        }
    }

    #[test]
    fn a_raised_canceller_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        std::fs::write(&path, "{}\n".repeat(3_000)).unwrap();
        let listing = listing::list(&path).unwrap();
        let services = Services::detached();
        services.cancel_token().cancel();
        let survey = Survey {
            file: &listing.files["a"],
            form: listing.files["a"].form(SourceFormat::Auto).unwrap(),
            size_bytes: 9_000,
            record_bytes_max: 1_024,
            fields_max: 100,
            services: &services,
        };
        assert_eq!(survey.full().unwrap_err().code, "plugin.cancelled");
    }
}
