//! Progress on standard error: bars on a terminal, at most one plain line a second otherwise.
//!
//! A bar for all, and above it one for each collection that is being copied; a finished one makes room. With `--json`
//! nothing is shown on the way. Plugins' logs and output appear between, with their origin.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use whimbrel_plugin_api::FindingLevel;

use crate::events::{Event, Phase};
use crate::report::figures::{count, printable, rate, seconds};

/// Plain lines come at most so often.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Bars of collections that are shown at the same time; a terminal has some 24 lines.
const BARS_MAX: usize = 10;

/// The command that compares, heals and compares again.
const REPAIR: &str = "repair";
/// The command that sends rejected records again.
const REPLAY: &str = "replay";
/// Under this name rejected records are counted that are sent again, of whatever collection.
const SENT_AGAIN: &str = "rejected records";

/// Shows progress.
pub struct Progress {
    mode: Mode,
    totals: HashMap<String, Option<u64>>,
    counts: HashMap<String, (u64, u64)>,
    compared: HashMap<String, u64>,
    verifies: bool,
    /// Whether single records are written again or removed: how many it will be is not known, and that of all says nothing.
    rewrites: bool,
    started: Instant,
    /// When the search for orphans was shown last.
    searched: Instant,
    title: String,
}

enum Mode {
    Bars(Bars),
    Lines { last: Option<Instant> },
    Quiet,
}

/// The bars: one for all at the bottom, and those of collections that are neither waiting nor done.
struct Bars {
    all: MultiProgress,
    sum: ProgressBar,
    by_collection: HashMap<String, ProgressBar>,
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let sum = all.add(bar("all", None));
        Self {
            all,
            sum,
            by_collection: HashMap::new(),
        }
    }

    /// Shows a collection at `position` of `total`; one that is there makes room for another.
    fn show(&mut self, collection: &str, position: u64, total: Option<u64>) {
        if total.is_some_and(|total| position >= total) {
            if let Some(bar) = self.by_collection.remove(collection) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
            return;
        }
        if !self.by_collection.contains_key(collection) {
            if self.by_collection.len() >= BARS_MAX {
                return;
            }
            let bar = self.all.insert_before(&self.sum, bar(collection, total));
            self.by_collection.insert(collection.to_owned(), bar);
        }
        if let Some(bar) = self.by_collection.get(collection) {
            bar.set_position(position);
        }
    }

    fn sum(&self, position: u64, total: Option<u64>) {
        if let Some(total) = total
            && self.sum.length() != Some(total)
        {
            self.sum.set_length(total);
        }
        self.sum.set_position(position);
    }

    fn clear(&mut self) {
        for (_, bar) in self.by_collection.drain() {
            bar.finish_and_clear();
        }
        self.sum.finish_and_clear();
        // A terminal that has gone takes no bars away.
        drop(self.all.clear());
    }
}

impl Progress {
    /// Progress of a task called `title`; `quiet` shows nothing.
    pub fn new(title: &str, quiet: bool) -> Self {
        let mode = if quiet {
            Mode::Quiet
        } else if std::io::stderr().is_terminal() {
            Mode::Bars(Bars::new(ProgressDrawTarget::stderr()))
        } else {
            Mode::Lines { last: None }
        };
        Self {
            mode,
            totals: HashMap::new(),
            counts: HashMap::new(),
            compared: HashMap::new(),
            verifies: false,
            rewrites: false,
            started: Instant::now(),
            searched: Instant::now(),
            title: title.to_owned(),
        }
    }

    /// Takes note of an event.
    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::CollectionPlanned {
                source, record_count, ..
            } => {
                self.totals.insert(source.clone(), *record_count);
            }
            Event::Progress {
                collection,
                written_count,
                rejected_count,
                ..
            } => {
                self.counts
                    .insert(collection.clone(), (*written_count, *rejected_count));
                self.show(collection, *written_count + *rejected_count);
            }
            Event::Replayed { taken, refused, .. } => {
                let (taken, refused) = (taken.len() as u64, refused.len() as u64);
                let counts = self.counts.entry(SENT_AGAIN.to_owned()).or_default();
                counts.0 += taken;
                counts.1 += refused;
                let position = counts.0 + counts.1;
                self.show(SENT_AGAIN, position);
            }
            Event::VerificationProgress {
                collection,
                record_count,
            } => {
                // Each record is looked at on both sides; counting beforehand may have looked at some once more.
                let known = self.totals.get(collection).copied().flatten();
                let pairs = (*record_count / 2).min(known.unwrap_or(u64::MAX));
                self.compared.insert(collection.clone(), pairs);
                self.show(collection, pairs);
            }
            Event::OrphanSearch {
                collection,
                record_count,
            } => self.search(collection, *record_count),
            Event::PhaseStarted {
                phase: Phase::Verification,
            } => self.begin_verification(),
            Event::PhaseStarted { phase: Phase::Import } if is_rewriting(&self.title) => {
                self.begin_rewriting()
            }
            Event::Found { role, finding } if finding.level != FindingLevel::Blocker => {
                let whom = role.map_or_else(|| "plan".to_owned(), |role| role.name().to_owned());
                let level = if finding.level == FindingLevel::Info {
                    "info"
                } else {
                    "warning"
                };
                self.line(&format!(
                    "{level} ({whom}): {} [{}]",
                    finding.message, finding.code
                ));
            }
            Event::Retrying {
                collection,
                attempt,
                message,
                code,
                ..
            } => self.line(&format!(
                "{collection}: try {attempt} follows, since {message} [{code}]"
            )),
            Event::Paused {
                code, message, help, ..
            } => {
                let help = help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
                self.line(&format!(
                    "paused, the run goes on after a repair: {message}{help} [{code}]"
                ));
            }
            Event::WorkerRestarted {
                attempt,
                code,
                message,
                delay_ms,
            } => self.line(&format!(
                "restart {attempt} of the worker follows in {}, since {message} [{code}]",
                seconds(*delay_ms as f64 / 1_000.0)
            )),
            Event::Resumed { paused_ms } => {
                self.line(&format!("goes on after {}", seconds(*paused_ms as f64 / 1_000.0)));
            }
            Event::Log {
                plugin,
                level,
                message,
            } if level != "debug" => self.line(&format!("{level} ({plugin}): {message}")),
            _ => {}
        }
    }

    /// Shows a line that a plugin printed.
    pub fn plugin_output(&mut self, line: &str) {
        self.line(&format!("plugin output: {line}"));
    }

    /// A repair compares twice: what was compared before says nothing of the second time.
    fn begin_verification(&mut self) {
        self.verifies = true;
        self.rewrites = false;
        self.compared.clear();
        self.begin_anew("verifying");
    }

    fn begin_rewriting(&mut self) {
        self.verifies = false;
        self.rewrites = true;
        self.counts.clear();
        let what = match self.title.as_str() {
            REPAIR => "healing",
            _ => "sending again",
        };
        self.begin_anew(what);
    }

    fn begin_anew(&mut self, what: &'static str) {
        self.started = Instant::now();
        match &mut self.mode {
            Mode::Bars(bars) => {
                bars.clear();
                *bars = Bars::new(ProgressDrawTarget::stderr());
                bars.sum.set_prefix(what);
            }
            Mode::Lines { .. } => self.line(what),
            Mode::Quiet => {}
        }
    }

    fn line(&self, text: &str) {
        match &self.mode {
            Mode::Bars(bars) => drop(bars.all.println(printable(text))),
            Mode::Lines { .. } => aside(&printable(text)),
            Mode::Quiet => {}
        }
    }

    /// How far the search for orphans is in a collection.
    fn search(&mut self, collection: &str, position: u64) {
        let total = self.totals.get(collection).copied().flatten();
        match &mut self.mode {
            Mode::Bars(bars) => bars.show(collection, position, total),
            Mode::Lines { .. } => {
                // A short search needs no words.
                if self.searched.elapsed() >= LINE_INTERVAL {
                    self.searched = Instant::now();
                    aside(&format!(
                        "looking for orphans: {} records of {} looked at",
                        count(position),
                        printable(collection)
                    ));
                }
            }
            Mode::Quiet => {}
        }
    }

    fn show(&mut self, collection: &str, position: u64) {
        let total = self.totals.get(collection).copied().flatten();
        let total = total.filter(|_| !self.rewrites);
        let (done, known) = (self.done(), self.total());
        match &mut self.mode {
            Mode::Bars(bars) => {
                bars.show(collection, position, total);
                bars.sum(done, known);
            }
            Mode::Lines { last } => {
                if last.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
                    *last = Some(Instant::now());
                    aside(&self.totals_line());
                }
            }
            Mode::Quiet => {}
        }
    }

    /// Records that are done with, in the phase that goes on.
    fn done(&self) -> u64 {
        if self.verifies {
            return self.compared.values().sum();
        }
        self.counts
            .values()
            .map(|(written, rejected)| written + rejected)
            .sum()
    }

    /// Records expected, if known of every collection.
    fn total(&self) -> Option<u64> {
        if self.rewrites {
            return None;
        }
        let known: Option<u64> = self.totals.values().copied().sum();
        known.filter(|total| *total > 0)
    }

    /// `run: 12,000 of 50,000 records (24 %), 6,000/s, 100.0 % accepted, 6.3 s left`.
    fn totals_line(&self) -> String {
        let done = self.done();
        let written: u64 = self.counts.values().map(|(written, _)| written).sum();
        let elapsed = self.started.elapsed().as_secs_f64().max(0.001);
        let per_sec = done as f64 / elapsed;
        let known = self.total();
        let shown = if self.verifies { done } else { written };
        let of = known.map_or_else(String::new, |total| format!(" of {}", count(total)));
        let share = known.map_or_else(String::new, |total| {
            format!(" ({:.0} %)", (shown as f64 * 100.0 / total as f64).floor())
        });
        let accepted = match (self.verifies, done) {
            (false, 1..) if !self.rewrites => {
                format!(", {:.1} % accepted", written as f64 * 100.0 / done as f64)
            }
            _ => String::new(),
        };
        let left = match known {
            Some(total) if done > 0 && done < total => {
                format!(", {} left", seconds((total - done) as f64 / per_sec))
            }
            _ => String::new(),
        };
        let title = if self.verifies { "verified" } else { &self.title };
        format!(
            "{title}: {}{of} records{share}, {}{accepted}{left}",
            count(shown),
            rate(per_sec)
        )
    }

    /// Ends the display.
    pub fn end(&mut self) {
        match &mut self.mode {
            Mode::Bars(bars) => bars.clear(),
            Mode::Lines { last: Some(_) } => aside(&self.totals_line()),
            Mode::Lines { last: None } | Mode::Quiet => {}
        }
    }
}

fn is_rewriting(title: &str) -> bool {
    matches!(title, REPAIR | REPLAY)
}

fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    let template = "{prefix:24!} [{bar:30}] {human_pos}/{human_len} {rate} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        write!(out, "{}", rate(state.per_sec())).unwrap_or_default();
    });
    bar.with_style(style.progress_chars("=> "))
        .with_prefix(printable(name))
}

fn aside(text: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(name: &str, record_count: Option<u64>) -> Event {
        Event::CollectionPlanned {
            source: name.into(),
            sink: name.into(),
            record_count,
        }
    }

    fn written(name: &str, written_count: u64) -> Event {
        Event::Progress {
            collection: name.into(),
            read_count: written_count + 1,
            written_count,
            rejected_count: 1,
            read_bytes: 1,
        }
    }

    #[test]
    fn the_line_says_done_total_rate_and_time_left() {
        let mut progress = Progress::new("run", true);
        progress.observe(&planned("a", Some(1_000)));
        progress.observe(&written("a", 250));
        let line = progress.totals_line();
        assert!(line.starts_with("run: 250 of 1,000 records (25 %), "), "{line}");
        assert!(line.contains("/s, 99.6 % accepted, "), "{line}");
        assert!(line.ends_with(" left"), "{line}");
        progress.observe(&planned("b", None));
        assert!(progress.totals_line().starts_with("run: 250 records, "));
    }

    #[test]
    fn verification_is_counted_by_itself() {
        let mut progress = Progress::new("run", true);
        progress.observe(&planned("a", Some(400)));
        progress.observe(&written("a", 399));
        progress.observe(&Event::PhaseStarted {
            phase: Phase::Verification,
        });
        progress.observe(&Event::VerificationProgress {
            collection: "a".into(),
            record_count: 200,
        });
        let line = progress.totals_line();
        assert!(
            line.starts_with("verified: 100 of 400 records (25 %), "),
            "{line}"
        );
        assert!(!line.contains("accepted"), "{line}");
    }

    fn began(phase: Phase) -> Event {
        Event::PhaseStarted { phase }
    }

    fn compared(record_count: u64) -> Event {
        Event::VerificationProgress {
            collection: "a".into(),
            record_count,
        }
    }

    #[test]
    fn a_repair_is_counted_between_its_comparisons_and_the_second_one_begins_at_nothing() {
        let mut progress = Progress::new("repair", true);
        for event in [planned("a", Some(400)), began(Phase::Verification), compared(800)] {
            progress.observe(&event);
        }
        let line = progress.totals_line();
        assert!(line.starts_with("verified: 400 of 400 records (100 %)"), "{line}");
        progress.observe(&began(Phase::Import));
        progress.observe(&written("a", 30));
        let line = progress.totals_line();
        assert!(line.starts_with("repair: 30 records, "), "{line}");
        assert!(!line.contains("accepted") && !line.contains("left"), "{line}");
        progress.observe(&began(Phase::Verification));
        let line = progress.totals_line();
        assert!(line.starts_with("verified: 0 of 400 records (0 %)"), "{line}");
        progress.observe(&compared(200));
        let line = progress.totals_line();
        assert!(line.starts_with("verified: 100 of 400 records (25 %)"), "{line}");
    }

    #[test]
    fn records_that_are_sent_again_are_counted() {
        let mut progress = Progress::new("replay", true);
        progress.observe(&planned("a", Some(400)));
        progress.observe(&began(Phase::Import));
        for taken in [vec![1, 2, 3], vec![5]] {
            progress.observe(&Event::Replayed {
                taken,
                refused: Vec::new(),
                known: Default::default(),
            });
        }
        let line = progress.totals_line();
        assert!(line.starts_with("replay: 4 records, "), "{line}");
    }

    fn with_bars() -> Progress {
        let mut progress = Progress::new("run", true);
        progress.mode = Mode::Bars(Bars::new(ProgressDrawTarget::hidden()));
        progress
    }

    fn bars(progress: &Progress) -> &Bars {
        match &progress.mode {
            Mode::Bars(bars) => bars,
            Mode::Lines { .. } | Mode::Quiet => panic!("no bars"),
        }
    }

    #[test]
    fn a_finished_collection_makes_room_for_another() {
        let mut progress = with_bars();
        for number in 0..40 {
            progress.observe(&planned(&format!("c{number}"), Some(100)));
        }
        for number in 0..20 {
            progress.observe(&written(&format!("c{number}"), 50));
        }
        assert_eq!(bars(&progress).by_collection.len(), BARS_MAX);
        for number in 0..35 {
            progress.observe(&written(&format!("c{number}"), 99));
        }
        for number in 35..40 {
            progress.observe(&written(&format!("c{number}"), 49));
        }
        let shown = bars(&progress);
        let mut names: Vec<&str> = shown.by_collection.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["c35", "c36", "c37", "c38", "c39"]);
        assert_eq!(shown.sum.position(), 35 * 100 + 5 * 50);
        assert_eq!(shown.sum.length(), Some(4_000));
        progress.end();
        assert!(bars(&progress).by_collection.is_empty());
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let mut progress = with_bars();
        progress.observe(&written("a\u{1b}[2J", 1));
        let shown = bars(&progress);
        assert_eq!(shown.by_collection["a\u{1b}[2J"].prefix(), "a\u{fffd}[2J");
    }
}
