//! From a path to a [`LoadedJob`], or to the list of everything that is wrong with its files.
//!
//! Here are the files themselves; what is in them is put together by `resolution.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use whimbrel_plugin_api::{Error, Finding};

use super::job::Job;
use super::nearest::nearest;
use super::origin::Origin;
use super::overrides::Overrides;
use super::resolution::{Inputs, resolve};
use super::secret_forms;
use super::secrets::{MASK, Secrets};
use super::settings;
use super::spans::{SpanNode, Spans};
use super::variables::Variables;

/// Octets of a job file. The largest written by hand are a thousandth of it.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Neighbours of a missing file that are looked at for a similar name.
const NEIGHBOURS_MAX: usize = 1_000;

/// A job, and where it came from. It holds resolved secrets, so it is not to be stored: [`LoadedJob::shown`] is.
#[derive(Debug, Clone)]
pub struct LoadedJob {
    /// The job, with environments, parameters and references resolved.
    pub job: Job,
    /// The file, as it was named.
    pub path: PathBuf,
    /// The absolute folder of the file, where relative paths of the plugins' configs start.
    pub folder: PathBuf,
    /// The settings file, if there is one.
    pub settings: Option<PathBuf>,
    /// The absolute folder of the job's runs.
    pub working_dir: PathBuf,
    /// What the folder of the job's runs comes from.
    pub working_dir_origin: Origin,
    /// The values of the job's parameters.
    pub parameters: BTreeMap<String, String>,
    /// What must appear nowhere.
    pub secrets: Secrets,
    /// What somebody should look at.
    pub findings: Vec<Finding>,
    /// Where each value stands.
    pub spans: Spans,
}

impl LoadedJob {
    /// Where the value at `pointer`, such as `/source/plugin`, stands: for the place of an error.
    pub fn place(&self, pointer: &str) -> String {
        self.spans.place(pointer)
    }

    /// What the value at `pointer` comes from.
    pub fn origin(&self, pointer: &str) -> Origin {
        self.spans.origin(pointer)
    }

    /// Counts every text at and below `pointer` as a secret when the job is shown, where nobody knows which ones are.
    pub fn hide(&mut self, pointer: &str) {
        if let Some(node) = self.spans.root.find_mut(pointer) {
            node.hide();
        }
    }

    /// The parameters that stand in a value which is a secret, as far as that is known.
    pub fn secret_parameters(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        let job = serde_json::to_value(&self.job).unwrap_or_default();
        look_for_secrets(&job, &self.spans.root, &self.parameters, &mut names);
        names
    }

    /// The job with `***` or the written reference in place of each secret: what may be stored and printed.
    pub fn shown(&self) -> Value {
        let mut value = serde_json::to_value(&self.job).unwrap_or_default();
        mask(&mut value, &self.spans.root);
        self.secrets.scrub_value(&mut value);
        value
    }
}

fn look_for_secrets<'a>(
    value: &Value,
    span: &SpanNode,
    parameters: &'a BTreeMap<String, String>,
    found: &mut BTreeSet<&'a str>,
) {
    match (value, &span.written) {
        (Value::Object(members), _) => {
            let parts = members
                .iter()
                .filter_map(|(key, member)| Some((member, span.parts.get(key)?)));
            parts.for_each(|(member, part)| look_for_secrets(member, part, parameters, found));
        }
        (Value::Array(items), _) => {
            let parts = (0..).zip(items);
            let parts = parts
                .filter_map(|(index, item): (usize, _)| Some((item, span.parts.get(&index.to_string())?)));
            parts.for_each(|(item, part)| look_for_secrets(item, part, parameters, found));
        }
        (leaf, Some(written)) if span.is_secret => {
            let text = leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned);
            // Of a URL only password and token are secret, and a parameter may well name the database.
            let mut secrets = secret_forms::parts(&text);
            if text.contains("://") && secrets.len() > 1 {
                secrets.remove(&text);
            }
            let is_in = |value: &str| secrets.iter().any(|secret| secret.contains(value));
            let named = |name: &str| written.contains(&format!("${{param:{name}}}"));
            let secret = parameters
                .iter()
                .filter(|(name, value)| named(name) && is_in(value));
            found.extend(secret.map(|(name, _)| name.as_str()));
        }
        _ => {}
    }
}

fn mask(value: &mut Value, span: &SpanNode) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                if let Some(part) = span.parts.get(key) {
                    mask(member, part);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                if let Some(part) = span.parts.get(&index.to_string()) {
                    mask(item, part);
                }
            }
        }
        Value::Null => {}
        leaf if span.is_secret => {
            *leaf = Value::from(span.written.as_deref().unwrap_or(MASK));
        }
        _ => {}
    }
}

/// Reads the job file at `path`, lays it over the settings file, and variables and flags over both.
///
/// # Errors
/// Every fault of the files, in their order. Each has kind config, a code `config.*`, and a place: path, line and
/// column, the path alone if the fault is of the file as a whole, or the variable or flag.
pub fn load_job(path: &Path, overrides: &Overrides, variables: &Variables) -> Result<LoadedJob, Vec<Error>> {
    let octets = read_file(path, "job file").map_err(|error| vec![error])?;
    let settings = match settings::file(path, overrides, variables) {
        Some((settings, must_exist)) if must_exist || settings.exists() => {
            let octets = read_file(&settings, SETTINGS_KIND).map_err(|error| vec![error])?;
            Some((settings, octets))
        }
        _ => None,
    };
    resolve(&Inputs {
        path,
        octets: &octets,
        settings: settings
            .as_ref()
            .map(|(path, octets)| (path.as_path(), octets.as_slice())),
        overrides,
        variables,
    })
}

/// What is wrong with `text` as a job file called `path`, by itself.
///
/// # Errors
/// As [`load_job`].
pub fn check_job(text: &str, path: &Path) -> Result<(), Vec<Error>> {
    resolve(&Inputs {
        path,
        octets: text.as_bytes(),
        settings: None,
        overrides: &Overrides::default(),
        variables: &Variables::none(),
    })
    .map(|_| ())
}

/// A job from octets alone, as `job.yaml`.
#[cfg(test)]
pub(crate) fn parse(octets: &[u8]) -> Result<LoadedJob, Vec<Error>> {
    resolve(&Inputs {
        path: Path::new("job.yaml"),
        octets,
        settings: None,
        overrides: &Overrides::default(),
        variables: &Variables::none(),
    })
}

/// What a settings file is called in messages.
pub(super) const SETTINGS_KIND: &str = "settings file";

pub(super) fn read_file(path: &Path, kind: &str) -> Result<Vec<u8>, Error> {
    let name = path.display();
    let unreadable = |error: &std::io::Error| {
        Error::config(
            "config.file_unreadable",
            format!("{kind} `{name}` cannot be read"),
        )
        .with_help("check that it is a file and that its rights let you read it")
        .with_place(name.to_string())
        .with_cause(error)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(
                Error::config("config.file_missing", format!("{kind} `{name}` does not exist"))
                    .with_help(similar_file(path).unwrap_or_else(|| {
                        let such_as = match kind {
                            SETTINGS_KIND => settings::SETTINGS_FILE,
                            _ => "job.yaml",
                        };
                        format!("give the path of a file that is there, such as `{such_as}`")
                    }))
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
            format!("{kind} `{name}` is larger than {FILE_BYTES_MAX} bytes"),
        )
        .with_help("it holds settings; records belong in files that a source reads")
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
