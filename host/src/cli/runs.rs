//! `whimbrel runs`: the runs of a working folder, the newest first.
//! What one of them did is told by `status`.

use chrono::{DateTime, Utc};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use whimbrel_plugin_api::Error;

use super::output::{print, print_json};
use super::remembered::{PlaceArgs, Remembered, length_secs, moment};
use super::resumable;
use super::tasks::refuse;
use super::{Exit, Global};
use crate::report::PlainTable;
use crate::report::figures::{count, printable, seconds};
use crate::state::{RunRecord, RunState};

/// Which runs.
#[derive(Args)]
pub struct RunsArgs {
    /// Of this job only.
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "RUNS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// In this state only.
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(RunState::ALL.map(RunState::name)))]
    pub state: Option<String>,
    /// Where they are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

#[derive(Serialize)]
struct RunsJson {
    runs: Vec<Listed>,
}

/// A run of the list.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    run: RunRecord,
    /// What goes on with it, if something can.
    #[serde(skip_serializing_if = "Option::is_none")]
    resume_command: Option<String>,
}

/// Lists runs.
pub fn runs(global: &Global, args: &RunsArgs) -> Exit {
    match list(args) {
        Ok((place, runs)) => {
            if global.json {
                print_json(&RunsJson { runs });
            } else if runs.is_empty() {
                print(&format!("no such run is known in {place}\n"));
            } else {
                print(&text(&runs, Utc::now()));
            }
            Exit::Done
        }
        Err(error) => refuse(global, "runs", None, &[error]),
    }
}

fn list(args: &RunsArgs) -> Result<(String, Vec<Listed>), Error> {
    let remembered = Remembered::open(&args.place)?;
    let state = args.state.as_deref().and_then(RunState::of_name);
    let runs = listed(
        &remembered,
        remembered.runs(args.job.as_deref(), state, args.limit)?,
    )?;
    Ok((remembered.workspace.root().display().to_string(), runs))
}

fn listed(remembered: &Remembered, runs: Vec<RunRecord>) -> Result<Vec<Listed>, Error> {
    let resumable = resumable::all(remembered)?;
    let listed = runs.into_iter().map(|run| Listed {
        resume_command: resumable
            .contains(&run.id)
            .then(|| resumable::command(&remembered.workspace, &run.id)),
        run,
    });
    Ok(listed.collect())
}

fn text(runs: &[Listed], now: DateTime<Utc>) -> String {
    let header = [
        "RUN", "JOB", "COMMAND", "STATE", "STARTED", "TIME", "WRITTEN", "REJECTED", "BY", "RESUMES",
    ];
    let mut table = PlainTable::new(&header);
    for Listed { run, .. } in runs {
        table.row([
            run.id.to_string(),
            printable(&run.job.name),
            run.command.clone(),
            run.state.name().to_owned(),
            moment(run.started_at),
            length_secs(run, now).map_or_else(|| "?".to_owned(), seconds),
            count(run.counts.written_count),
            count(run.counts.rejected_count),
            printable(&run.started_by),
            resumes(run),
        ]);
    }
    let commands: Vec<&String> = runs
        .iter()
        .filter_map(|listed| listed.resume_command.as_ref())
        .collect();
    let hints: String = commands
        .iter()
        .map(|command| format!("can be resumed: `{}`\n", printable(command)))
        .collect();
    let gap = if hints.is_empty() { "" } else { "\n" };
    format!("{}{gap}{hints}", table.text(&[5, 6, 7]))
}

/// The run that `run` goes on with.
fn resumes(run: &RunRecord) -> String {
    match run.origin.resumes.as_deref() {
        None => "-".to_owned(),
        Some("") => "what the sink has".to_owned(),
        Some(id) => printable(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::remembered::fixtures;
    use crate::state::RunEnd;
    use chrono::TimeDelta;

    #[test]
    fn each_run_is_a_line() {
        let (folder, ids) = fixtures::folder(&["nightly", "hourly\u{1b}[2J"]);
        let remembered = fixtures::open(&folder);
        let runs = remembered.runs(None, None, 10).unwrap();
        let ended_at = runs[1].started_at + TimeDelta::milliseconds(12_340);
        let end = RunEnd {
            ended_at,
            ..RunEnd::new(RunState::Done, 0, None)
        };
        remembered.store().unwrap().end_run(&ids[0], &end).unwrap();
        let text = text(
            &listed(&remembered, remembered.runs(None, None, 10).unwrap()).unwrap(),
            Utc::now(),
        );
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "RUN JOB COMMAND STATE STARTED TIME WRITTEN REJECTED BY RESUMES".to_owned(),
                format!(
                    "{} hourly\u{fffd}[2J run crashed 2026-11-19 11:06:40 UTC ? 0 0 ann@mail -",
                    ids[1]
                ),
                format!(
                    "{} nightly run done 2026-11-18 11:06:40 UTC 12.3 s 0 0 ann@mail -",
                    ids[0]
                ),
                String::new(),
                format!(
                    "can be resumed: `whimbrel resume {} --working-dir {}`",
                    ids[1],
                    folder.path().display()
                ),
            ]
        );
    }
}
