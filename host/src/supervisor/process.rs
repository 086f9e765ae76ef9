//! A worker as a process: how it is started, what comes out of it, how its end is worded.
//! Neighbours: `supervise` and `notifying` each watch one, `worker` is what runs in it.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use whimbrel_plugin_api::{Error, ErrorKind};

use super::program::this_program;
use crate::certificate::PASSWORD_VARIABLE;
use crate::events::Event;

/// A worker that says nothing for so long is killed; it sends a heartbeat each second.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);
/// After its last event a worker has so long to end by itself.
pub(super) const EXIT_GRACE: Duration = Duration::from_secs(2);
/// Lines of plugin output that are kept to explain a crash.
pub(super) const OUTPUT_LINES_KEPT: usize = 20;
/// A longer line of plugin output is cut.
const OUTPUT_LINE_BYTES_MAX: u64 = 16 * 1024;
/// A longer event is not one of ours.
const EVENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How often a process is asked whether it has ended. There is no waiting with a deadline in the standard library.
const EXIT_LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Starts a worker of this very build, whose working folder is `folder`, with a pipe for each of its streams.
///
/// # Errors
/// `host.worker_start` if no process can be started.
pub(super) fn start(folder: &Path) -> Result<Child, Error> {
    this_program()
        .and_then(|program| worker(&program, folder).spawn())
        .map_err(|error| start_fault(&error))
}

fn worker(program: &Path, folder: &Path) -> Process {
    let mut process = Process::new(program);
    process
        .arg("worker")
        .current_dir(folder)
        // What opens the key that signs is for the supervisor alone: plugins could sign whatever they like with it.
        .env_remove(PASSWORD_VARIABLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A signal of the terminal reaches the supervisor alone, which decides.
        .process_group(0);
    process
}

/// The error for a worker that cannot be started or watched.
pub(super) fn start_fault(error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "host.worker_start",
        "the worker process could not be started",
    )
    .with_cause(error)
}

/// Tells of each signal by which a person ends the program: an interrupt, a wish to end, a terminal that has closed. The last one
/// is left alone where it was to be ignored from the start, as `nohup` wants it.
///
/// # Errors
/// `host.worker_start` if signals cannot be caught.
pub fn catch_signals(
    mut tell: impl FnMut(i32) -> bool + Send + 'static,
) -> Result<signal_hook::iterator::Handle, Error> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut caught = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        caught.push(SIGHUP);
    }
    let signals = signal_hook::iterator::Signals::new(caught);
    let mut signals = signals.map_err(|error| start_fault(&error))?;
    let handle = signals.handle();
    std::thread::spawn(move || {
        for signal in &mut signals {
            if !tell(signal) {
                return;
            }
        }
    });
    Ok(handle)
}

/// Whether this process ignores `signal`.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_in_mask(&status, signal)
}

/// `SigIgn` of proc(5) `status` is a number whose lowest bit stands for signal 1.
fn is_in_mask(status: &str, signal: i32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Reads events to their end, or until `tell` says that nobody listens.
pub(super) fn each_event(stdout: impl Read, mut tell: impl FnMut(Event) -> bool) {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(EVENT_BYTES_MAX).read_until(b'\n', &mut line);
        if !matches!(read, Ok(length) if length > 0) {
            return;
        }
        // A line cut by a crash is no event; what it would have said is covered by the crash itself.
        if let Ok(event) = serde_json::from_slice(&line)
            && !tell(event)
        {
            return;
        }
    }
}

/// Reads lines of plugin output to their end, or until `tell` says that nobody listens.
pub(super) fn each_line(stderr: impl Read, mut tell: impl FnMut(String) -> bool) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader
            .by_ref()
            .take(OUTPUT_LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(length) if length > 0) {
            return;
        }
        if !tell(String::from_utf8_lossy(&line).trim_end().to_owned()) {
            return;
        }
    }
}

/// Waits for the end of `child`, at most until `deadline`.
pub(super) fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::park_timeout(EXIT_LOOK_INTERVAL),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Ends `child` at once, if it has not ended by itself.
pub(super) fn kill(child: &mut Child) {
    // Both fail only if the process has ended already, which is what is wanted.
    drop(child.kill());
    drop(child.wait());
}

/// The code and the words for a worker that ended without a last event.
pub(super) fn how_it_ended(status: Option<ExitStatus>) -> (&'static str, String) {
    match status.map(|status| (status.signal(), status.code())) {
        Some((Some(signal), _)) => {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("unknown");
            ("plugin.crashed", format!("was ended by signal {signal} ({name})"))
        }
        Some((None, Some(code))) => (
            "plugin.exited",
            format!("ended with exit status {code} without finishing"),
        ),
        _ => ("plugin.crashed", "ended without finishing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_the_signing_key_is_not_for_plugins() {
        let process = worker(Path::new("whimbrel"), Path::new("."));
        let removed: Vec<_> = process.get_envs().filter(|(_, value)| value.is_none()).collect();
        assert_eq!(removed, [(PASSWORD_VARIABLE.as_ref(), None)]);
    }

    #[test]
    fn an_ignored_signal_is_read_from_the_mask() {
        let status =
            "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n";
        assert!(is_in_mask(status, signal_hook::consts::SIGHUP));
        assert!(!is_in_mask(status, signal_hook::consts::SIGINT));
        assert!(is_in_mask(status, signal_hook::consts::SIGPIPE));
        assert!(!is_in_mask("", signal_hook::consts::SIGHUP));
    }
}
