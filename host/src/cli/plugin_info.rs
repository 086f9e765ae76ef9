//! `whimbrel plugin info NAME`: what a plugin is, what it can do, and how it is configured.
//!
//! The manifest is read from the file; schema and capabilities come from a call, made in a short-lived worker.

use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::export::Description;
use whimbrel_plugin_api::manifest::{Manifest, Role};

use super::output::{print, print_aside, print_json};
use super::{Exit, Global, tasks};
use crate::config::Job;
use crate::config::render;
use crate::events::{Event, Failure, Outcome};
use crate::supervisor::{Ended, Observer, PluginFile, Task, TaskKind, supervise};

/// A description may take so long; it does no I/O.
const DESCRIBE_TIMEOUT_SECS: u64 = 10;

#[derive(Serialize)]
struct InfoJson<'a> {
    path: String,
    sha256: String,
    manifest: &'a Manifest,
    roles: &'a [(Role, Description)],
}

/// Says what the plugin called `name` is.
pub fn info(global: &Global, name: &str) -> Exit {
    let registry = tasks::registry(global);
    let described = registry
        .find(name, None)
        .map_err(Failure::from)
        .and_then(|(path, manifest)| {
            let sha256 = sha256(path).map_err(Failure::from)?;
            Ok((path, manifest, sha256, describe(path, manifest)?))
        });
    match described {
        Ok((path, manifest, sha256, roles)) => {
            if global.json {
                print_json(&InfoJson {
                    path: path.display().to_string(),
                    sha256,
                    manifest,
                    roles: &roles,
                });
            } else {
                print(&text(path, manifest, &sha256, &roles));
            }
            Exit::Done
        }
        Err(failure) => {
            if global.json {
                print_json(&failure);
            } else {
                print_aside(&render(&[failure.error]));
            }
            Exit::Config
        }
    }
}

fn sha256(path: &Path) -> Result<String, Error> {
    let octets = std::fs::read(path).map_err(|error| {
        Error::not_found("plugin.unreadable", "the library cannot be read").with_cause(&error)
    })?;
    Ok(Sha256::digest(&octets)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect())
}

/// What libraries say of themselves.
pub struct Described {
    /// [`Event::PluginLoaded`] of each.
    pub events: Vec<Event>,
    /// The signal that came meanwhile.
    pub signal: Option<i32>,
}

struct Collector(Vec<Event>);

impl Observer for Collector {
    fn loaded(&mut self, events: &[Event]) -> Result<Option<Box<Job>>, Vec<Error>> {
        self.0 = events.to_vec();
        Ok(None)
    }

    fn observe(&mut self, _: &Event) -> Result<(), Error> {
        Ok(())
    }

    fn plugin_output(&mut self, _: &str) {}
}

/// What each role of a library says of itself, asked in a worker of its own.
///
/// # Errors
/// Why it cannot be loaded, or how the worker ended.
pub fn describe(path: &Path, manifest: &Manifest) -> Result<Vec<(Role, Description)>, Failure> {
    let roles = manifest.roles.iter().map(|role| PluginFile {
        role: *role,
        name: manifest.name.clone(),
        path: path.to_owned(),
    });
    let described = describe_files(roles.collect())?;
    Ok(described
        .events
        .into_iter()
        .filter_map(|event| match event {
            Event::PluginLoaded {
                role, description, ..
            } => Some((role, *description)),
            _ => None,
        })
        .collect())
}

/// What libraries say of themselves in the roles for which they are named, asked in a worker of its own.
///
/// # Errors
/// Why one cannot be loaded, or how the worker ended.
pub fn describe_files(plugins: Vec<PluginFile>) -> Result<Described, Failure> {
    let task = Task {
        plugins,
        kind: TaskKind::Describe,
        call_timeout_secs: DESCRIBE_TIMEOUT_SECS,
        holds_before_writing: false,
        call_board: None,
    };
    let mut collector = Collector(Vec::new());
    let supervised = supervise(&task, Path::new("/"), &mut collector).map_err(Failure::from)?;
    match supervised.ended {
        Ended::Outcome(outcome) => match *outcome {
            Outcome::Failed { failure, .. } | Outcome::Unverified { failure, .. } => Err(failure),
            _ => Ok(Described {
                events: collector.0,
                signal: supervised.signal,
            }),
        },
        Ended::Lost(failure) => Err(*failure),
        Ended::Config(mut faults) => Err(faults
            .pop()
            .unwrap_or_else(|| Error::internal("a description was refused without a reason"))
            .into()),
    }
}

fn text(path: &Path, manifest: &Manifest, sha256: &str, roles: &[(Role, Description)]) -> String {
    let mut text = format!(
        "{} {}\n{}\n\nfile:     {}\nsha256:   {sha256}\napi:      {}\nlicence:  {}\n",
        manifest.name,
        manifest.version,
        manifest.description,
        path.display(),
        manifest.api_version,
        manifest.licence
    );
    for (role, description) in roles {
        text.push_str(&format!("\n## {role}\n\n"));
        if let Some(source) = &description.source {
            text.push_str(&capabilities(source));
        }
        if let Some(sink) = &description.sink {
            text.push_str(&capabilities(sink));
        }
        if let Some(notifier) = &description.notifier {
            text.push_str(&capabilities(notifier));
        }
        text.push_str(&whimbrel_plugin_api::docs::config_table(
            &description.config_schema,
        ));
    }
    text
}

/// The capabilities as `name: value` lines, from their serialised form, so that a new one is shown without a change.
fn capabilities<T: Serialize>(capabilities: &T) -> String {
    let Ok(serde_json::Value::Object(members)) = serde_json::to_value(capabilities) else {
        return String::new();
    };
    let mut text = String::new();
    for (name, value) in members {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    text
}
