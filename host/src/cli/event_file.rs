//! The events of a task in a file, one JSON object a line, readable while the task goes on.
//!
//! A file that can no longer be written is said once and does not end the task.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::Error;

use super::output::print_aside;
use crate::events::Event;

/// Where events go; nowhere if no file was named.
pub struct EventFile(Option<(PathBuf, File)>);

impl EventFile {
    /// Makes the file anew.
    ///
    /// # Errors
    /// `cli.events_file` if it cannot be made.
    pub fn create(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        let file = File::create(path).map_err(|error| {
            Error::config(
                "cli.events_file",
                format!("the file `{}` for events cannot be made", path.display()),
            )
            .with_help("name a file in a folder that is there and that you may write")
            .with_cause(&error)
        })?;
        Ok(Self(Some((path.to_owned(), file))))
    }

    /// Adds one event. Calls and heartbeats are left out: they are for the supervisor.
    pub fn add(&mut self, event: &Event) {
        if matches!(
            event,
            Event::CallStarted { .. } | Event::CallEnded { .. } | Event::Heartbeat
        ) {
            return;
        }
        let Some((path, file)) = &mut self.0 else {
            return;
        };
        let written = serde_json::to_vec(event)
            .map_err(std::io::Error::other)
            .and_then(|mut line| {
                line.push(b'\n');
                file.write_all(&line)
            });
        if let Err(error) = written {
            print_aside(&format!(
                "events are no longer written to `{}`: {error}\n",
                path.display()
            ));
            self.0 = None;
        }
    }
}
