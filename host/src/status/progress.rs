//! Progress on standard error: bars per collection on a terminal, at most one plain line a second otherwise.
//!
//! With `--json` nothing is shown on the way. Plugins' logs and output appear between, with their origin.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use whimbrel_plugin_api::FindingLevel;

use crate::events::{Event, Phase};

/// Plain lines come at most so often.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Bars that are shown at the same time; further collections are counted in the summary.
const BARS_MAX: usize = 12;

/// Shows progress.
pub struct Progress {
    mode: Mode,
    totals: HashMap<String, Option<u64>>,
    counts: HashMap<String, (u64, u64)>,
    started: Instant,
    title: String,
}

enum Mode {
    Bars {
        bars: MultiProgress,
        by_collection: HashMap<String, ProgressBar>,
    },
    Lines {
        last: Option<Instant>,
    },
    Quiet,
}

impl Progress {
    /// Progress of a task called `title`; `quiet` shows nothing.
    pub fn new(title: &str, quiet: bool) -> Self {
        let mode = if quiet {
            Mode::Quiet
        } else if std::io::stderr().is_terminal() {
            Mode::Bars {
                bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
                by_collection: HashMap::new(),
            }
        } else {
            Mode::Lines { last: None }
        };
        Self {
            mode,
            totals: HashMap::new(),
            counts: HashMap::new(),
            started: Instant::now(),
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
                self.show(collection, *written_count);
            }
            Event::PhaseStarted {
                phase: Phase::Verification,
            } => self.line("verifying"),
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

    fn line(&self, text: &str) {
        match &self.mode {
            Mode::Bars { bars, .. } => drop(bars.println(printable(text))),
            Mode::Lines { .. } => aside(&printable(text)),
            Mode::Quiet => {}
        }
    }

    fn show(&mut self, collection: &str, written: u64) {
        let total = self.totals.get(collection).copied().flatten();
        match &mut self.mode {
            Mode::Bars { bars, by_collection } => {
                if !by_collection.contains_key(collection) && by_collection.len() >= BARS_MAX {
                    return;
                }
                let bar = by_collection
                    .entry(collection.to_owned())
                    .or_insert_with(|| bars.add(bar(collection, total)));
                bar.set_position(written);
                if total.is_some_and(|total| written >= total) {
                    bar.finish();
                }
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

    /// `run: 12000 of 50000 records (24 %), 6000/s, 100.0 % accepted, 6 s left`.
    fn totals_line(&self) -> String {
        let written: u64 = self.counts.values().map(|(written, _)| written).sum();
        let rejected: u64 = self.counts.values().map(|(_, rejected)| rejected).sum();
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let rate = written as f64 / seconds;
        let known: Option<u64> = self.totals.values().copied().sum();
        let of = known
            .filter(|total| *total > 0)
            .map_or_else(String::new, |total| format!(" of {total}"));
        let share = known
            .filter(|total| *total > 0)
            .map_or_else(String::new, |total| {
                format!(" ({:.0} %)", written as f64 * 100.0 / total as f64)
            });
        let accepted = match written + rejected {
            0 => String::new(),
            seen => format!(", {:.1} % accepted", written as f64 * 100.0 / seen as f64),
        };
        let left = match known {
            Some(total) if written > 0 => {
                let left = total.saturating_sub(written + rejected) as f64 / rate;
                format!(", {left:.0} s left")
            }
            _ => String::new(),
        };
        format!(
            "{}: {written}{of} records{share}, {rate:.0}/s{accepted}{left}",
            self.title
        )
    }

    /// Ends the display.
    pub fn end(&mut self) {
        match &self.mode {
            Mode::Bars { bars, by_collection } => {
                by_collection.values().for_each(ProgressBar::abandon);
                drop(bars.clear());
            }
            Mode::Lines { last: Some(_) } => aside(&self.totals_line()),
            Mode::Lines { last: None } | Mode::Quiet => {}
        }
    }
}

fn bar(collection: &str, total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    let template = "{prefix:24!} [{bar:30}] {human_pos}/{human_len} {rate} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        write!(out, "{:.0}/s", state.per_sec()).unwrap_or_default();
    });
    bar.with_style(style.progress_chars("=> "))
        .with_prefix(printable(collection))
}

/// Names and output may hold control characters, which would steer the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

fn aside(text: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_done_total_rate_and_time_left() {
        let mut progress = Progress::new("run", true);
        progress.totals.insert("a".into(), Some(100));
        progress.counts.insert("a".into(), (25, 1));
        let line = progress.totals_line();
        assert!(line.starts_with("run: 25 of 100 records (25 %), "), "{line}");
        assert!(line.contains("/s, 96.2 % accepted, "), "{line}");
        progress.totals.insert("b".into(), None);
        assert!(progress.totals_line().starts_with("run: 25 records, "));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\n"), "a\u{fffd}[2J\u{fffd}");
    }
}
