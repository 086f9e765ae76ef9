//! From a path to a [`Job`], or to the list of everything that is wrong with the file.
//!
//! The steps: octets, text (`yaml.rs`), content against the schema (`validate.rs`), content against the rules
//! (`rules.rs`), [`Job`]. A step runs whenever the one before left something to look at.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use whimbrel_plugin_api::Error;

use super::fault::{Fault, into_errors};
use super::job::Job;
use super::nearest::nearest;
use super::rules;
use super::spans::{Place, Spans};
use super::validate::Comparison;
use super::yaml::{self, Document};

/// Octets of a job file. The largest written by hand are a thousandth of it.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Neighbours of a missing file that are looked at for a similar name.
const NEIGHBOURS_MAX: usize = 1_000;

/// A job, and where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadedJob {
    /// The job.
    pub job: Job,
    /// The file, as it was named.
    pub path: PathBuf,
    /// The absolute folder of the file, where relative paths of the plugins' configs start.
    pub folder: PathBuf,
    /// Where each value stands in the file.
    pub spans: Spans,
}

/// Reads the job file at `path`.
///
/// # Errors
/// Every fault of the file, in the order of the file. Each has kind config, a code `config.*`, and a place: path,
/// line and column, or the path alone if the fault is of the file as a whole.
pub fn load_job(path: &Path) -> Result<LoadedJob, Vec<Error>> {
    let octets = read_file(path).map_err(|error| vec![error])?;
    let (job, spans) = parse(&octets).map_err(|faults| into_errors(faults, path))?;
    let folder = std::path::absolute(path)
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned))
        .unwrap_or_else(|| PathBuf::from("."));
    Ok(LoadedJob {
        job,
        path: path.to_owned(),
        folder,
        spans,
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let name = path.display();
    let unreadable = |error: &std::io::Error| {
        Error::config(
            "config.file_unreadable",
            format!("job file `{name}` cannot be read"),
        )
        .with_help("check that it is a file and that its rights let you read it")
        .with_place(name.to_string())
        .with_cause(error)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(
                Error::config("config.file_missing", format!("job file `{name}` does not exist"))
                    .with_help(
                        similar_file(path)
                            .unwrap_or_else(|| "give the path of a job file, such as `job.yaml`".into()),
                    )
                    .with_place(name.to_string()),
            );
        }
        Err(error) => return Err(unreadable(&error)),
    };
    let mut octets = Vec::new();
    // One more than allowed, which also ends the reading of devices and pipes.
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut octets)
        .map_err(|error| unreadable(&error))?;
    if octets.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::config(
            "config.too_large",
            format!("job file `{name}` is larger than {FILE_BYTES_MAX} bytes"),
        )
        .with_help("a job file holds settings; records belong in files that a source reads")
        .with_place(name.to_string()));
    }
    Ok(octets)
}

fn similar_file(path: &Path) -> Option<String> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .take(NEIGHBOURS_MAX)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml") || name.ends_with(".yml"))
        .collect();
    let meant = nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    Some(format!(
        "did you mean `{}`?",
        path.with_file_name(meant).display()
    ))
}

/// Reads a job from octets.
pub(crate) fn parse(octets: &[u8]) -> Result<(Job, Spans), Vec<Fault>> {
    let text = std::str::from_utf8(octets).map_err(|error| vec![not_utf8(octets, error.valid_up_to())])?;
    let Document {
        value,
        spans,
        mut faults,
    } = yaml::read(text);
    let Some(value) = value else {
        if faults.is_empty() {
            faults.push(empty());
        }
        return Err(faults);
    };
    if value.is_null() && faults.is_empty() {
        return Err(vec![empty()]);
    }
    let schema = Job::schema();
    let comparison = Comparison {
        schema: &schema,
        document: &value,
        base: "",
        spans: &spans,
    };
    match comparison.faults() {
        Ok(found) => faults.extend(found),
        Err(_) => faults.push(Fault::new(
            Place::START,
            "config.schema",
            "the schema of jobs is not valid",
        )),
    }
    rules::apply(&value, &spans, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    to_job(value).map(|job| (job, spans)).map_err(|fault| vec![fault])
}

/// The schema has been satisfied; should it allow more than the type holds, this still ends with an error.
fn to_job(value: Value) -> Result<Job, Fault> {
    serde_json::from_value(value).map_err(|_| {
        Fault::new(
            Place::START,
            "config.bad_value",
            "the job holds a value that does not fit",
        )
        .with_help("compare it with the job's schema")
    })
}

fn empty() -> Fault {
    Fault::new(
        Place::START,
        "config.missing_key",
        "the job file is empty (required keys: name, sink, source)",
    )
    .with_help("begin with `name: my-job`")
}

fn not_utf8(octets: &[u8], valid: usize) -> Fault {
    let before = String::from_utf8_lossy(&octets[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let help = if octets.starts_with(&[0xff, 0xfe]) || octets.starts_with(&[0xfe, 0xff]) {
        "the file looks like UTF-16; save it as UTF-8"
    } else {
        "save it as UTF-8"
    };
    Fault::new(
        Place { line, column },
        "config.not_utf8",
        "the job file is not UTF-8 text",
    )
    .with_help(help)
}
