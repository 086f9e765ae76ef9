//! The events of a task as they happen, one JSON object a line: in a file, or on standard output in place of the report.
//!
//! Each line carries its number and its time. A file that can no longer be written is said once and does not end the
//! task.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use chrono::{SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use whimbrel_plugin_api::Error;

use super::JobArgs;
use super::output::print_aside;
use crate::events::Event;

/// Where events go; nowhere if nobody asked for them.
#[derive(Default)]
pub struct EventOutput {
    file: Option<(PathBuf, File)>,
    is_on_stdout: bool,
    count: u64,
}

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    at: String,
    event: &'a Value,
    #[serde(flatten)]
    more: &'a Map<String, Value>,
}

impl EventOutput {
    /// As the arguments ask. A file is made anew.
    ///
    /// # Errors
    /// `cli.events_file` if it cannot be made.
    pub fn create(args: &JobArgs) -> Result<Self, Error> {
        let file = match &args.events_file {
            None => None,
            Some(path) => {
                let file = File::create(path).map_err(|error| {
                    Error::config(
                        "cli.events_file",
                        format!("the file `{}` for events cannot be made", path.display()),
                    )
                    .with_help("name a file in a folder that is there and that you may write")
                    .with_cause(&error)
                })?;
                Some((path.clone(), file))
            }
        };
        Ok(Self {
            file,
            is_on_stdout: args.events.is_some(),
            count: 0,
        })
    }

    /// Whether standard output belongs to the events.
    pub fn is_on_stdout(&self) -> bool {
        self.is_on_stdout
    }

    /// Adds one event. Calls and heartbeats are left out: they are for the supervisor.
    pub fn add(&mut self, event: &Event) {
        let is_inner = matches!(
            event,
            Event::CallStarted { .. }
                | Event::CallEnded { .. }
                | Event::Heartbeat { .. }
                | Event::Barrier { .. }
        );
        if is_inner || (self.file.is_none() && !self.is_on_stdout) {
            return;
        }
        self.count += 1;
        // What was in a rejected record is for the store alone.
        let mut without_data = None;
        if let Event::Rejected { record, .. } = event
            && record.data.is_some()
        {
            let mut event = event.clone();
            if let Event::Rejected { record, .. } = &mut event {
                record.data = None;
            }
            without_data = Some(event);
        }
        let Ok(Value::Object(mut more)) = serde_json::to_value(without_data.as_ref().unwrap_or(event)) else {
            return;
        };
        // The line has a `seq` of its own, as in the log.
        if let Some(seq) = more.remove("seq") {
            more.insert("commit_seq".to_owned(), seq);
        }
        let event = more.remove("event").unwrap_or_default();
        let line = Line {
            seq: self.count,
            at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            event: &event,
            more: &more,
        };
        let Ok(mut text) = serde_json::to_vec(&line) else {
            return;
        };
        text.push(b'\n');
        if let Some((path, file)) = &mut self.file
            && let Err(error) = file.write_all(&text)
        {
            print_aside(&format!(
                "events are no longer written to `{}`: {error}\n",
                path.display()
            ));
            self.file = None;
        }
        if self.is_on_stdout {
            let mut out = std::io::stdout().lock();
            // A reader that has gone does not end the task.
            if out.write_all(&text).and_then(|()| out.flush()).is_err() {
                self.is_on_stdout = false;
            }
        }
    }
}
