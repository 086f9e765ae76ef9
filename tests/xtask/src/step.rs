//! Runs one step of a command: says what it does, runs it, says how long it took.
//!
//! All of it goes to standard error, like what cargo prints, so that the lines keep their order.

use std::fmt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// The result of a step or of a whole command.
pub type Outcome<T> = Result<T, Failure>;

/// Why a command stops, and the exit code that it ends with.
#[derive(Debug)]
pub struct Failure {
    message: String,
    pub exit_code: u8,
}

impl Failure {
    /// A failure of the command itself: exit code 1.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            exit_code: 1,
        }
    }

    /// A file or folder that could not be read, written and so on.
    pub fn io(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot {verb} `{}`: {error}", path.display()))
    }

    fn status(title: &str, status: ExitStatus) -> Failure {
        Failure {
            message: format!("failed to {title}: {status}"),
            exit_code: exit_code(status),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// The steps of one command and their times.
pub struct Steps {
    started: Instant,
    done: Vec<(String, Duration)>,
}

impl Default for Steps {
    fn default() -> Steps {
        Steps {
            started: Instant::now(),
            done: Vec::new(),
        }
    }
}

impl Steps {
    /// Runs a program with the terminal as its own. An exit status other than 0 is a failure.
    pub fn run(&mut self, title: &str, command: &mut Command) -> Outcome<()> {
        self.work(title, || {
            let status = command.status().map_err(|error| cannot_start(command, &error))?;
            if status.success() {
                Ok(())
            } else {
                Err(Failure::status(title, status))
            }
        })
    }

    /// Runs a program as the last step: nothing is printed after what it prints.
    pub fn run_last(&mut self, title: &str, command: &mut Command) -> Outcome<()> {
        eprintln!("==> {title}");
        let started = Instant::now();
        let status = command.status().map_err(|error| cannot_start(command, &error))?;
        self.done.push((title.to_owned(), started.elapsed()));
        if status.success() {
            Ok(())
        } else {
            Err(Failure::status(title, status))
        }
    }

    /// Does work that is not one program.
    pub fn work<T>(&mut self, title: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        eprintln!("==> {title}");
        let started = Instant::now();
        let value = work()?;
        let taken = started.elapsed();
        eprintln!("    {:.1} s", taken.as_secs_f64());
        self.done.push((title.to_owned(), taken));
        Ok(value)
    }

    /// Does two lots of steps at the same time: a compiler that is busy with one large crate leaves processors to the other lot.
    /// Both come to their end; of two failures the first lot's is the outcome.
    pub fn side_by_side<A, B: Send>(
        &mut self,
        first: impl FnOnce(&mut Steps) -> Outcome<A>,
        second: impl FnOnce(&mut Steps) -> Outcome<B> + Send,
    ) -> Outcome<(A, B)> {
        let mut others = Steps::default();
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(|| second(&mut others));
            let first = first(self);
            let second = second.join();
            (
                first,
                second.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        });
        self.done.append(&mut others.done);
        Ok((first?, second?))
    }

    /// The times so far, one line a step, and the time in all, which is less than their sum where some were taken at the same time.
    pub fn table(&self) -> String {
        let total = self.started.elapsed();
        let mut table = String::new();
        for (title, taken) in &self.done {
            table.push_str(&format!("{:>8.1} s  {title}\n", taken.as_secs_f64()));
        }
        table.push_str(&format!("{:>8.1} s  in all\n", total.as_secs_f64()));
        table
    }
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Failure {
    Failure::new(format!(
        "cannot start `{}`: {error}",
        command.get_program().to_string_lossy()
    ))
}

/// A program's exit code, or 128 + n for one that signal n ended, as shells say it.
fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_of_a_failed_step_is_the_programs_own() {
        let failure = Steps::default()
            .run("fail", Command::new("sh").args(["-c", "exit 4"]))
            .unwrap_err();
        assert_eq!(failure.exit_code, 4);
        let failure = Steps::default()
            .run("die", Command::new("sh").args(["-c", "kill -9 $$"]))
            .unwrap_err();
        assert_eq!(failure.exit_code, 137);
    }

    #[test]
    fn table_lists_finished_steps_only() {
        let mut steps = Steps::default();
        steps.work("first", || Ok(())).unwrap();
        steps
            .work("second", || Err::<(), _>(Failure::new("no")))
            .unwrap_err();
        let table = steps.table();
        assert!(table.contains("first") && !table.contains("second"), "{table}");
        assert!(table.ends_with("in all\n"), "{table}");
    }

    #[test]
    fn two_lots_both_end_and_either_failure_is_the_outcome() {
        let mut steps = Steps::default();
        let answers = steps.side_by_side(
            |steps| steps.work("first", || Ok(1)),
            |steps| steps.work("second", || Ok("two")),
        );
        assert_eq!(answers.unwrap(), (1, "two"));
        let fail = |steps: &mut Steps| steps.work("third", || Err::<(), _>(Failure::new("no")));
        let succeed = |steps: &mut Steps| steps.work("fourth", || Ok(()));
        assert!(steps.side_by_side(fail, succeed).is_err());
        assert!(steps.side_by_side(succeed, fail).is_err());
        let table = steps.table();
        let listed = ["first", "second", "fourth"].map(|title| table.matches(title).count());
        assert_eq!(listed, [1, 1, 2], "{table}");
        assert!(!table.contains("third"), "{table}");
    }
}
