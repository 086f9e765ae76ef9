//! The schedules of a settings file: which job runs when.
//!
//! All of them are good, with their jobs, or none is taken. Not here: who runs them ([`crate::scheduler`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use serde::Deserialize;
use whimbrel_plugin_api::Error;

use super::fault::into_errors;
use super::layers::Tree;
use super::load::{SETTINGS_KIND, load_job, read_file};
use super::nearest::nearest;
use super::origin::Layer;
use super::overrides::Overrides;
use super::references::Resolver;
use super::resolution::{folder_of_file, settings_alone, settings_readable};
use super::secrets::Secrets;
use super::spans::Spans;
use super::variables::Variables;

/// The folder of the daemon, beside the settings file, unless something else is said.
const WORKING_DIR: &str = ".whimbrel";

/// Days for which the output of scheduled runs is kept, unless something else is said.
const LOG_DAYS: u32 = 90;

/// When a job is run.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// The job file, an absolute path.
    pub job: PathBuf,
    /// The pattern as it is written.
    pub pattern: String,
    /// The time zone of the pattern.
    pub zone: Tz,
    cron: Cron,
}

impl Schedule {
    /// The first time after `time` at which the job is due; `None` if there is none, as in a year that is over.
    pub fn after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = self
            .cron
            .find_next_occurrence(&time.with_timezone(&self.zone), false);
        next.ok().map(|next| next.with_timezone(&Utc))
    }
}

/// What a settings file says of schedules.
#[derive(Debug, Clone)]
pub struct Schedules {
    /// The settings file, an absolute path.
    pub settings: PathBuf,
    /// The folder of the daemon, an absolute path.
    pub working_dir: PathBuf,
    /// Days for which the output of runs is kept.
    pub log_days: u32,
    /// The schedules, in their order.
    pub list: Vec<Schedule>,
}

#[derive(Deserialize)]
struct Written {
    name: String,
    job: PathBuf,
    cron: String,
    #[serde(default)]
    time_zone: Option<String>,
}

/// Reads the schedules of the settings file at `path`, and every job that they name.
///
/// # Errors
/// Every fault of the settings, the schedules and their jobs; kind config, with a place.
pub fn load_schedules(path: &Path, variables: &Variables) -> Result<Schedules, Vec<Error>> {
    let octets = read_file(path, SETTINGS_KIND).map_err(|error| vec![error])?;
    let (value, spans) = settings_alone(path, &octets)?;
    let folder = folder_of_file(path);
    let written = value
        .get("schedules")
        .cloned()
        .unwrap_or_else(|| Vec::<()>::new().into());
    let written: Vec<Written> = serde_json::from_value(written).map_err(|error| {
        let fault = Error::config("config.bad_value", "the schedules hold a value that does not fit");
        vec![fault.with_place(spans.place("/schedules")).with_cause(&error)]
    })?;
    let overrides = Overrides {
        settings: Some(path.to_owned()),
        ..Overrides::default()
    };
    let log_days = value.get("log_days").and_then(serde_json::Value::as_u64);
    let settings = Tree {
        value,
        span: spans.root.clone(),
    };
    let mut faults = Vec::new();
    let working_dir = working_dir(path, &settings, variables).unwrap_or_else(|wrong| {
        faults.extend(wrong);
        PathBuf::new()
    });
    let mut list: Vec<Schedule> = Vec::new();
    let mut jobs: BTreeMap<PathBuf, ()> = BTreeMap::new();
    for (index, one) in written.into_iter().enumerate() {
        let at = |key: &str| spans.place(&format!("/schedules/{index}/{key}"));
        if list.iter().any(|known| known.name == one.name) {
            let fault = format!("there are two schedules called `{}`", one.name);
            faults.push(Error::config("config.duplicate", fault).with_place(at("name")));
        }
        let job = folder.join(&one.job);
        if jobs.insert(job.clone(), ()).is_none()
            && let Err(of_job) = load_job(&job, &overrides, variables)
        {
            faults.extend(of_job);
        }
        match read(&one, &spans, index) {
            Ok((cron, zone)) => list.push(Schedule {
                name: one.name,
                job,
                pattern: one.cron,
                zone,
                cron,
            }),
            Err(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Schedules {
        settings: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        working_dir,
        log_days: log_days
            .and_then(|days| u32::try_from(days).ok())
            .unwrap_or(LOG_DAYS),
        list,
    })
}

/// The folder of the daemon of the settings file at `path` by what that file says now, whatever else is wrong with it.
///
/// # Errors
/// `config.file_missing`, `config.file_unreadable`, what keeps the file from being read as YAML, and a reference in `working_dir` to what is
/// not there.
pub fn daemon_folder(path: &Path, variables: &Variables) -> Result<PathBuf, Vec<Error>> {
    let octets = read_file(path, SETTINGS_KIND).map_err(|error| vec![error])?;
    match settings_readable(path, &octets)? {
        Some(tree) => working_dir(path, &tree, variables),
        None => Ok(folder_of_file(path).join(WORKING_DIR)),
    }
}

/// The folder that the settings name, where a reference stands for what it refers to, as for a run.
fn working_dir(path: &Path, settings: &Tree, variables: &Variables) -> Result<PathBuf, Vec<Error>> {
    let folder = folder_of_file(path);
    let Some(mut named) = settings.part("/working_dir") else {
        return Ok(folder.join(WORKING_DIR));
    };
    // The first layer is that of a job file, which is not there.
    let folders = [folder.clone(), folder.clone()];
    let secrets = Secrets::default();
    let mut resolver = Resolver {
        parameters: None,
        variables,
        folders: &folders,
        secrets: &secrets,
        used: BTreeSet::new(),
        unresolved: BTreeSet::new(),
        faults: Vec::new(),
        findings: Vec::new(),
    };
    resolver.resolve(&mut named, "/working_dir", "working_dir");
    if !resolver.faults.is_empty() {
        let mut spans = Spans::new(settings.span.clone());
        spans.layers = [path, path].map(|path| Layer::File(path.to_owned())).to_vec();
        return Err(into_errors(resolver.faults, &spans));
    }
    Ok(folder.join(named.value.as_str().unwrap_or(WORKING_DIR)))
}

fn read(written: &Written, spans: &Spans, index: usize) -> Result<(Cron, Tz), Error> {
    let at = |key: &str| spans.place(&format!("/schedules/{index}/{key}"));
    let cron = Cron::from_str(&written.cron).map_err(|error| {
        Error::config(
            "schedule.bad_cron",
            format!("`{}` is no time pattern: {error}", written.cron),
        )
        .with_help(
            "minute, hour, day of the month, month, day of the week: `30 2 * * 1-5` is 02:30 on weekdays",
        )
        .with_place(at("cron"))
    })?;
    // From a time that no clock can be set to, so that a year that has gone by is a time that came: only the calendar decides.
    if cron.find_next_occurrence(&DateTime::UNIX_EPOCH, true).is_err() {
        let text = format!("`{}` never comes: no year has such a day", written.cron);
        return Err(Error::config("schedule.never", text)
            .with_help("compare its day of the month with its month: `0 2 28 2 *` is 28 February, 02:00")
            .with_place(at("cron")));
    }
    let Some(name) = &written.time_zone else {
        return Ok((cron, Tz::UTC));
    };
    let zone = Tz::from_str(name).map_err(|_| {
        let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        let meant = nearest(name, known).map_or_else(
            || "use a name of the tz database, such as `Europe/Berlin`".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        Error::config("schedule.bad_time_zone", format!("`{name}` is no time zone"))
            .with_help(meant)
            .with_place(at("time_zone"))
    })?;
    Ok((cron, zone))
}

#[cfg(test)]
mod tests;
