//! A run that goes on while its test looks at it: its events as they come, its process, and its end.
//!
//! Events are read from standard output, so a test waits for what happens and never for time to pass. A run that its test
//! leaves behind is killed.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::Stage;

/// A condition that does not come true within this time never will, also beside other tests. The runner would end a test a little later,
/// and not say what it waited for.
const WAIT_MAX: Duration = Duration::from_secs(110);
/// How often a condition is looked at that nobody announces.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// A run that goes on.
pub struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    errors: PathBuf,
    /// All events so far.
    pub events: Vec<Value>,
}

/// How a run has ended.
pub struct End {
    /// The exit code; negative for a signal.
    pub code: i32,
    /// All its events, the report last.
    pub events: Vec<Value>,
    /// Standard error.
    pub err: String,
}

impl End {
    /// The report.
    pub fn report(&self) -> &Value {
        let last = self.events.last().expect("there are events");
        assert_eq!(last["event"], "report", "{last}\n{}", self.err);
        &last["report"]
    }

    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{:?}\n{}", self.events.last(), self.err);
        self
    }

    /// The events called `name`.
    pub fn named(&self, name: &str) -> Vec<&Value> {
        self.events
            .iter()
            .filter(|event| event["event"] == name)
            .collect()
    }
}

impl Running {
    /// Starts `whimbrel run job.yaml --events json` with further arguments.
    pub fn start(stage: &Stage, arguments: &[&str]) -> Self {
        Self::start_with(stage, arguments, &[])
    }

    /// As [`Running::start`], with variables.
    pub fn start_with(stage: &Stage, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let all = [&["run", "job.yaml", "--events", "json"], arguments].concat();
        let mut command = stage.command(&all);
        command.envs(variables.iter().copied());
        Self::spawn(command, stage.path("stderr.txt"))
    }

    /// Starts `command`, which prints events; its standard error goes to the file `errors`.
    pub fn spawn(mut command: Command, errors: PathBuf) -> Self {
        let file = std::fs::File::create(&errors).expect("a file in a temporary folder");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .expect("the program starts");
        let out = child.stdout.take().expect("it was piped");
        Self {
            child,
            lines: BufReader::new(out).lines(),
            errors,
            events: Vec::new(),
        }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its child, which has loaded the plugins.
    pub fn worker(&self) -> Pid {
        let mut found = None;
        wait_until("the worker is there", || {
            found = children(self.pid()).first().copied();
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Its worker, once that stands still at the site that `WHIMBREL_STOP_AT` names.
    pub fn stopped_worker(&self) -> Pid {
        let mut found = None;
        wait_until("the worker has stopped", || {
            found = children(self.pid())
                .into_iter()
                .find(|pid| state(*pid) == Some('T'));
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Reads on to the next event for which `wanted` holds.
    #[track_caller]
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        while let Some(event) = self.next() {
            if wanted(&event) {
                return event;
            }
        }
        let err = std::fs::read_to_string(&self.errors).unwrap_or_default();
        panic!("the run ended before: {:?}\n{err}", self.events.last());
    }

    /// Reads on to the next event for which `wanted` holds, or to the end; whether there was one.
    pub fn seek(&mut self, wanted: impl Fn(&Value) -> bool) -> bool {
        while let Some(event) = self.next() {
            if wanted(&event) {
                return true;
            }
        }
        false
    }

    /// Reads on to the next event called `name`.
    #[track_caller]
    pub fn until_named(&mut self, name: &str) -> Value {
        self.until(|event| event["event"] == name)
    }

    fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.expect("standard output is UTF-8");
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.events.push(event.clone());
        Some(event)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is our child, so it can be signalled");
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Kills it and collects its status; nobody is told.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("it is our child");
    }

    /// Reads on to its end.
    pub fn finish(mut self) -> End {
        while self.next().is_some() {}
        let status = self.child.wait().expect("it is our child");
        End {
            code: status.code().unwrap_or(-1),
            events: std::mem::take(&mut self.events),
            err: std::fs::read_to_string(&self.errors).unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The children of a process.
pub fn children(of: Pid) -> Vec<Pid> {
    let of = of.as_raw_nonzero();
    let listed = std::fs::read_dir(format!("/proc/{of}/task"))
        .into_iter()
        .flatten()
        .flatten();
    listed
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|text| Pid::from_raw(text.parse().ok()?))
        .collect()
}

/// Whether a process is there and has not ended.
pub fn is_alive(pid: Pid) -> bool {
    // One that has ended and waits to be collected is `Z`.
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// The letter for the state of a process that is there.
fn state(pid: Pid) -> Option<char> {
    // `pid (name) S ...`
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let (_, rest) = status.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// Waits until `is_so`, of which nobody tells.
///
/// # Panics
/// If it takes too long.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !is_so() {
        assert!(
            Instant::now() < deadline,
            "waited {} s in vain: {what}",
            WAIT_MAX.as_secs()
        );
        std::thread::park_timeout(LOOK_INTERVAL);
    }
}

/// Runs a test with each of `cases` at the same time: one that mostly waits need not wait for the others.
pub fn side_by_side<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let test = &test;
        for case in cases {
            scope.spawn(move || test(case));
        }
    });
}

/// The folder of the newest run in the working folder `name`.
pub fn latest_run(stage: &Stage, name: &str) -> PathBuf {
    let working = stage.path(name);
    let target = std::fs::read_link(working.join("latest")).expect("there was a run");
    working.join(target)
}

/// A JSON file that must be there and whole.
#[track_caller]
pub fn json_file(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
