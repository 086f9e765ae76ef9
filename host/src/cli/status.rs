//! `whimbrel status [RUN]`: how far a run is, or how it ended.
//!
//! The state says who runs it and how it ended, the file of the run's folder how far it is. With `--watch` until it ends:
//! redrawn on a terminal, a line each second otherwise, and then the exit code is that of the run.

use std::io::IsTerminal as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use whimbrel_plugin_api::Error;

use super::output::{print, print_json, print_line};
use super::remembered::{PlaceArgs, Remembered, length_secs, moment};
use super::resumable;
use super::tasks::refuse;
use super::{Exit, Global};
use crate::report::PlainTable;
use crate::report::figures::{count, printable, rate, seconds};
use crate::state::{RunId, RunRecord, RunState};
use crate::status::{CollectionState, PausedStatus, RunStatus, Totals};

/// How often a watched run is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Collections that are shown; a screen has no room for more.
const COLLECTIONS_SHOWN_MAX: usize = 30;
/// Erases the lines that were drawn before.
const ERASE_BELOW: &str = "\u{1b}[J";

/// Which run.
#[derive(Args)]
pub struct StatusArgs {
    /// The run, or how its id begins; the newest one if none is named.
    pub run: Option<String>,
    /// Go on showing until it ends, and end with its exit code.
    #[arg(long)]
    pub watch: bool,
    /// Where it is.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What is known of a run now.
#[derive(Serialize)]
struct Seen {
    /// What the state says.
    run: RunRecord,
    /// What the run's folder says, if it says something.
    status: Option<RunStatus>,
    /// The newest run that goes on with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed_by: Option<RunId>,
    /// What goes on with it, if something can.
    #[serde(skip_serializing_if = "Option::is_none")]
    resume_command: Option<String>,
}

/// Shows it.
pub fn status(global: &Global, args: &StatusArgs) -> Exit {
    let remembered = match Remembered::open(&args.place) {
        Ok(remembered) => remembered,
        Err(error) => return refuse(global, "status", None, &[error]),
    };
    let shown = see(&remembered, args.run.as_deref()).and_then(|seen| {
        if args.watch {
            watch(global, &remembered, seen)
        } else {
            if global.json {
                print_json(&seen);
            } else {
                print(&text(&seen, Utc::now()));
            }
            Ok(Exit::Done)
        }
    });
    shown.unwrap_or_else(|error| refuse(global, "status", None, &[error]))
}

fn see(remembered: &Remembered, run: Option<&str>) -> Result<Seen, Error> {
    let run = remembered.run(run)?;
    let folder = remembered.workspace.run(run.id.as_str())?;
    // A run that was refused early, or a folder that was tidied away, has no such file.
    let status = RunStatus::read(&folder).ok();
    let resumed_by = resumable::next(remembered, &run)?;
    let can_be_resumed = run.can_be_resumed() && resumable::all(remembered)?.contains(&run.id);
    let resume_command = can_be_resumed.then(|| resumable::command(&remembered.workspace, &run.id));
    Ok(Seen {
        run,
        status,
        resumed_by,
        resume_command,
    })
}

fn watch(global: &Global, remembered: &Remembered, mut seen: Seen) -> Result<Exit, Error> {
    let redraws = !global.json && std::io::stdout().is_terminal();
    let mut drawn_lines = 0;
    loop {
        let has_ended = seen.run.state != RunState::Running;
        if global.json {
            print_line(&serde_json::to_value(&seen).unwrap_or_default());
        } else if redraws {
            let text = text(&seen, Utc::now());
            let back = if drawn_lines > 0 {
                format!("\u{1b}[{drawn_lines}A\r{ERASE_BELOW}")
            } else {
                String::new()
            };
            print(&format!("{back}{text}"));
            drawn_lines = text.lines().count();
        } else if has_ended {
            print(&text(&seen, Utc::now()));
        } else {
            print(&format!("{}\n", line(&seen, Utc::now())));
        }
        if has_ended {
            // A run that crashed has no code of its own.
            return Ok(seen.run.exit_code.map_or(Exit::Failed, Exit::of_number));
        }
        std::thread::sleep(WATCH_INTERVAL);
        let id = seen.run.id.to_string();
        seen = see(remembered, Some(&id))?;
    }
}

/// `20261121-045612-3f9a2c nightly: import, 12,000 of 50,000 records (24 %), 6,000/s, 6 s left`.
fn line(seen: &Seen, now: DateTime<Utc>) -> String {
    let run = &seen.run;
    let phase = seen.status.as_ref().and_then(|status| status.phase);
    let phase = phase.map_or_else(|| run.state.name().to_owned(), |phase| phase.name().to_owned());
    let phase = match paused(seen) {
        Some(paused) => format!("{phase}, paused: {}", printable(&paused.message)),
        None => phase,
    };
    let how_far = match &seen.status {
        Some(status) => progress(&status.totals),
        None => format!("{} records", count(run.counts.written_count)),
    };
    let length = length_secs(run, now).map_or_else(String::new, |length| format!(", {}", seconds(length)));
    format!(
        "{} {}: {phase}, {how_far}{length}",
        run.id,
        printable(&run.job.name)
    )
}

/// What a run that goes on waits for.
fn paused(seen: &Seen) -> Option<&PausedStatus> {
    let status = seen.status.as_ref()?;
    status
        .paused
        .as_ref()
        .filter(|_| seen.run.state == RunState::Running)
}

fn progress(totals: &Totals) -> String {
    let mut text = count(totals.written_count);
    if let Some(expected) = totals.expected_count {
        text.push_str(&format!(" of {}", count(expected)));
    }
    text.push_str(" records");
    if let Some(percent) = totals.progress_percent {
        text.push_str(&format!(" ({percent:.0} %)"));
    }
    if totals.written_per_sec > 0.0 {
        text.push_str(&format!(", {}", rate(totals.written_per_sec)));
    }
    if let Some(left) = totals.left_secs {
        text.push_str(&format!(", {} left", seconds(left)));
    }
    text
}

fn text(seen: &Seen, now: DateTime<Utc>) -> String {
    let run = &seen.run;
    let mut text = format!(
        "run {} of {}: {}\n",
        run.id,
        printable(&run.job.name),
        run.state.name()
    );
    let mut say = |name: &str, what: String| text.push_str(&format!("  {name:9} {what}\n"));
    say("command", format!("{}, mode {}", run.command, run.mode));
    match run.origin.resumes.as_deref() {
        None => {}
        Some("") => say("resumes", "what the sink has of an earlier run".to_owned()),
        Some(id) => say("resumes", printable(id)),
    }
    if let Some(next) = &seen.resumed_by {
        say("resumed", format!("by {next}"));
    }
    say("job file", printable(&run.job.path.display().to_string()));
    let by = printable(&run.started_by);
    say(
        "started",
        format!(
            "{} by {by}, process {} on {}",
            moment(run.started_at),
            run.holder.pid,
            printable(&run.holder.host)
        ),
    );
    match (run.state, run.ended_at) {
        (RunState::Running, _) => {}
        (_, Some(ended_at)) => {
            let code = run
                .exit_code
                .map_or_else(String::new, |code| format!(", exit code {code}"));
            say("ended", format!("{}{code}", moment(ended_at)));
        }
        (_, None) => say(
            "ended",
            format!(
                "nobody knows when; last sign of life {}",
                moment(run.heartbeat_at)
            ),
        ),
    }
    if let Some(length) = length_secs(run, now) {
        say("time", seconds(length));
    }
    if let Some(phase) = seen.status.as_ref().and_then(|status| status.phase) {
        say("phase", phase.name().to_owned());
    }
    if let Some(paused) = paused(seen) {
        say(
            "paused",
            format!(
                "since {}: {} [{}]",
                printable(&paused.since),
                printable(&paused.message),
                printable(&paused.code)
            ),
        );
        if let Some(help) = &paused.help {
            say("help", printable(help));
        }
    }
    say("records", records(seen));
    let plugins = run.plugins.iter().map(|plugin| {
        let (name, version) = (printable(&plugin.name), printable(&plugin.version));
        format!("{} {name} {version}", plugin.role.name())
    });
    let plugins: Vec<String> = plugins.collect();
    if !plugins.is_empty() {
        say("plugins", plugins.join(", "));
    }
    if let Some(failure) = &run.failure {
        say(
            "failure",
            format!("{} [{}]", printable(&failure.message), printable(&failure.code)),
        );
    }
    if run.counts.rejected_count > 0 {
        say("see", format!("`whimbrel rejected list {}`", run.id));
    }
    if let Some(command) = &seen.resume_command {
        say("next", format!("`{}` goes on with it", printable(command)));
    }
    if let Some(status) = &seen.status {
        text.push_str(&collections(status));
    }
    text
}

fn records(seen: &Seen) -> String {
    let mut counts = seen.run.counts;
    if let Some(status) = seen.status.as_ref().filter(|_| seen.run.ended_at.is_none()) {
        // Until the end is written down, the file is newer than the state.
        let totals = &status.totals;
        if seen.run.state == RunState::Running {
            return format!("{}; {} rejected", progress(totals), count(totals.rejected_count));
        }
        counts.read_count = totals.read_count;
        counts.written_count = totals.written_count;
        counts.rejected_count = totals.rejected_count;
    }
    format!(
        "{} read, {} written, {} left as they were, {} rejected",
        count(counts.read_count),
        count(counts.written_count),
        count(counts.skipped_count),
        count(counts.rejected_count)
    )
}

fn collections(status: &RunStatus) -> String {
    if status.collections.is_empty() {
        return String::new();
    }
    let header = [
        "COLLECTION",
        "INTO",
        "STATE",
        "EXPECTED",
        "READ",
        "WRITTEN",
        "REJECTED",
    ];
    let mut table = PlainTable::new(&header);
    for collection in status.collections.iter().take(COLLECTIONS_SHOWN_MAX) {
        let state = match collection.state {
            CollectionState::Waiting => "waiting",
            CollectionState::Copying => "copying",
            CollectionState::Complete => "complete",
            CollectionState::Incomplete => "incomplete",
            CollectionState::Failed => "failed",
        };
        table.row([
            printable(&collection.source),
            printable(&collection.sink),
            state.to_owned(),
            collection.expected_count.map_or_else(|| "?".to_owned(), count),
            count(collection.read_count),
            count(collection.written_count),
            count(collection.rejected_count),
        ]);
    }
    let more = status.collections.len().saturating_sub(COLLECTIONS_SHOWN_MAX);
    let more = if more > 0 {
        format!("and {more} more\n")
    } else {
        String::new()
    };
    format!("\n{}{more}", table.text(&[3, 4, 5, 6]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::remembered::fixtures;
    use crate::state::RunEnd;
    use chrono::TimeDelta;

    fn totals() -> Totals {
        Totals {
            expected_count: Some(50_000),
            read_count: 12_100,
            written_count: 12_000,
            rejected_count: 3,
            written_per_sec: 6_000.0,
            progress_percent: Some(24.0),
            left_secs: Some(6.333),
            ..Totals::default()
        }
    }

    fn quiet() -> Global {
        Global {
            plugin_dir: Vec::new(),
            json: true,
            json_lines: false,
        }
    }

    #[test]
    fn progress_says_done_total_rate_and_time_left() {
        assert_eq!(
            progress(&totals()),
            "12,000 of 50,000 records (24 %), 6,000/s, 6.33 s left"
        );
        assert_eq!(progress(&Totals::default()), "0 records");
    }

    #[test]
    fn a_run_that_goes_on_is_one_line_of_how_far_it_is() {
        let (folder, ids) = fixtures::folder(&["a"]);
        let mut seen = see(&fixtures::open(&folder), None).unwrap();
        seen.run.state = RunState::Running;
        seen.run.counts.written_count = 1234;
        let now = seen.run.started_at + TimeDelta::seconds(12);
        assert_eq!(
            line(&seen, now),
            format!("{} a: running, 1,234 records, 12.0 s", ids[0])
        );
    }

    #[test]
    fn a_run_whose_process_has_gone_is_shown_as_crashed_and_ends_the_watch() {
        let (folder, ids) = fixtures::folder(&["a"]);
        let remembered = fixtures::open(&folder);
        let seen = see(&remembered, None).unwrap();
        let text = text(&seen, Utc::now());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("run {} of a: crashed", ids[0]));
        assert_eq!(
            lines[4],
            "  ended     nobody knows when; last sign of life 2026-11-18 11:06:40 UTC"
        );
        assert_eq!(serde_json::to_value(&seen).unwrap()["run"]["state"], "crashed");
        assert_eq!(watch(&quiet(), &remembered, seen).unwrap(), Exit::Failed);
    }

    #[test]
    fn a_watch_ends_with_the_exit_code_of_the_run() {
        let (folder, ids) = fixtures::folder(&["a"]);
        let remembered = fixtures::open(&folder);
        let error = Error::config("a.b", "both \u{1b}[2Jsides differ");
        let end = RunEnd::new(RunState::Differences, 4, Some(&error));
        remembered.store().unwrap().end_run(&ids[0], &end).unwrap();
        let seen = see(&remembered, Some(ids[0].as_str())).unwrap();
        let text = text(&seen, Utc::now());
        assert!(text.contains(", exit code 4\n"), "{text}");
        assert!(
            text.contains("  failure   both \u{fffd}[2Jsides differ [a.b]\n"),
            "{text}"
        );
        assert_eq!(watch(&quiet(), &remembered, seen).unwrap(), Exit::Differences);
    }
}
