//! What a job has done before and after a run: programs started, variables written into a file.
//!
//! Hooks run in the supervising process, in the folder of the job file, one after the other. A program gets no shell and
//! no input; what it prints is kept, shortened, for the log. Neighbour: `tasks` decides which hooks run when.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use whimbrel_plugin_api::{Error, ErrorKind};

use super::env_file;
use crate::certificate::PASSWORD_VARIABLE;
use crate::config::{CommandHook, Hook};

/// Octets of a program's output that are kept.
const OUTPUT_BYTES_MAX: u64 = 16 * 1024;
/// How often a program is asked whether it has ended; the standard library cannot wait with a deadline.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What hooks may know of the run.
#[derive(Debug, Clone, Default)]
pub struct HookFacts {
    /// Names and values of the variables that programs find.
    pub variables: Vec<(&'static str, String)>,
}

/// What became of a hook.
#[derive(Debug)]
pub struct HookResult {
    /// What it was, without its values.
    pub name: String,
    /// What it printed.
    pub output: String,
    /// Whether it did what it should.
    pub outcome: Result<(), Error>,
}

/// Runs one hook in `folder`.
pub fn run(hook: &Hook, folder: &Path, facts: &HookFacts) -> HookResult {
    match hook {
        Hook::Command(command) => run_command(command, folder, facts),
        Hook::EnvFile(file) => HookResult {
            name: format!("env_file {}", file.path.display()),
            output: String::new(),
            outcome: env_file::write(&folder.join(&file.path), &file.set),
        },
    }
}

fn run_command(hook: &CommandHook, folder: &Path, facts: &HookFacts) -> HookResult {
    let program = hook.run.first().cloned().unwrap_or_default();
    let name = format!("command {program}");
    let failed = |code: &str, message: String| {
        Error::new(ErrorKind::Unavailable, code, message)
            .with_help("the job's `hooks` name it; relative paths start at the folder of the job file")
    };
    let started = Command::new(&program)
        .args(hook.run.iter().skip(1))
        .current_dir(folder)
        // What opens the key that signs is for this program alone.
        .env_remove(PASSWORD_VARIABLE)
        .envs(facts.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its children go with it when its time is up.
        .process_group(0)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            let error = failed(
                "hook.not_started",
                format!("the hook `{program}` could not be started"),
            )
            .with_cause(&error);
            return HookResult {
                name,
                output: String::new(),
                outcome: Err(error),
            };
        }
    };
    let timeout = Duration::from_secs(hook.timeout_secs.into());
    let (status, output) = wait(&mut child, timeout);
    let outcome = match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(
            "hook.failed",
            format!("the hook `{program}` ended with {status}"),
        )),
        None => Err(failed(
            "hook.timeout",
            format!(
                "the hook `{program}` did not end within {} s and was killed",
                hook.timeout_secs
            ),
        )),
    };
    HookResult {
        name,
        output,
        outcome,
    }
}

/// Waits for the end of `child`, or ends it with all of its group; also what it printed.
fn wait(child: &mut Child, timeout: Duration) -> (Option<ExitStatus>, String) {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (sender, receiver) = crossbeam_channel::unbounded();
    for pipe in [
        out.map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>),
        err.map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>),
    ]
    .into_iter()
    .flatten()
    {
        let sender = sender.clone();
        // A grandchild may hold the pipe open for ever; then this thread ends with the program.
        std::thread::spawn(move || {
            let mut pipe = pipe;
            let mut kept = Vec::new();
            drop(pipe.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut kept));
            drop(sender.send(kept));
            drop(std::io::copy(&mut pipe, &mut std::io::sink()));
        });
    }
    drop(sender);
    let until = Instant::now() + timeout;
    let mut status = None;
    while status.is_none() && Instant::now() < until {
        match child.try_wait() {
            Ok(Some(ended)) => status = Some(ended),
            Ok(None) => std::thread::park_timeout(LOOK_INTERVAL),
            Err(_) => break,
        }
    }
    if status.is_none() {
        if let Some(group) = i32::try_from(child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            // It fails only if all of them have ended.
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap_or_default();
        }
        drop(child.wait());
    }
    let mut output = String::new();
    while let Ok(kept) = receiver.recv_timeout(Duration::from_millis(100)) {
        output.push_str(&String::from_utf8_lossy(&kept));
    }
    (status, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(run: &[&str], timeout_secs: u32) -> HookResult {
        let hook = Hook::Command(CommandHook {
            run: run.iter().map(|word| (*word).to_owned()).collect(),
            timeout_secs,
        });
        let facts = HookFacts {
            variables: vec![("WHIMBREL_RUN_ID", "r-1".to_owned())],
        };
        super::run(&hook, &std::env::temp_dir(), &facts)
    }

    #[test]
    fn a_program_finds_the_run_and_is_judged_by_its_status() {
        let done = command(&["sh", "-c", "echo $WHIMBREL_RUN_ID"], 60);
        assert_eq!(done.output, "r-1\n");
        done.outcome.unwrap();
        let failed = command(&["sh", "-c", "echo no >&2; exit 3"], 60);
        assert_eq!(failed.output, "no\n");
        let error = failed.outcome.unwrap_err();
        assert_eq!(error.code, "hook.failed");
        assert!(error.message.contains("exit status: 3"), "{}", error.message);
        let missing = command(&["./no-such-program"], 60).outcome.unwrap_err();
        assert_eq!(missing.code, "hook.not_started");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let hung = command(&["sh", "-c", "cat /dev/zero > /dev/null & wait"], 1);
        assert_eq!(hung.outcome.unwrap_err().code, "hook.timeout");
    }

    #[test]
    fn no_shell_reads_the_arguments() {
        let done = command(&["echo", "$HOME; ls"], 60);
        assert_eq!(done.output, "$HOME; ls\n");
    }
}
