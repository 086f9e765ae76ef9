//! Which process writes a file, told apart from a later one that got the same number.
//!
//! A number means something only within one start of one kernel and one namespace of processes. From elsewhere nothing can be
//! said of it. On systems without `/proc` the number and the host's name must do. Neighbour: `local` asks before it takes over.

use std::fmt;
use std::fs;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A process, wherever and whenever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The name of its host.
    host: String,
    /// The start of the kernel and the namespace in which `pid` counts; empty where the system does not say.
    boot: String,
    /// Its number.
    pid: u32,
    /// When it was started, in ticks since the kernel was.
    started_ticks: u64,
}

impl Process {
    /// This one.
    pub(crate) fn this() -> Self {
        let pid = std::process::id();
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot: boot(),
            pid,
            started_ticks: look(pid).map_or(0, |look| look.started_ticks),
        }
    }

    /// As text, from which [`Self::of_text`] makes it again.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None` for a text that names no process.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether it is another process than `this` and lives where `this` can see it.
    pub(crate) fn lives_beside(&self, this: &Self) -> bool {
        if self == this || self.boot != this.boot || (self.boot.is_empty() && self.host != this.host) {
            return false;
        }
        if self.boot.is_empty() {
            return self.pid != this.pid && exists(self.pid);
        }
        match look(self.pid) {
            Some(look) => look.started_ticks == self.started_ticks && look.is_alive,
            // It may be there and hidden.
            None => exists(self.pid),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on `{}`", self.pid, self.host)
    }
}

fn boot() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let (kernel, namespace) = (kernel.trim(), namespace.to_string_lossy());
    if kernel.is_empty() || namespace.is_empty() {
        return String::new();
    }
    format!("{kernel} {namespace}")
}

fn exists(pid: u32) -> bool {
    let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // One that may not be asked is there.
    number.is_some_and(|pid| matches!(rustix::process::test_kill_process(pid), Ok(()) | Err(Errno::PERM)))
}

struct Look {
    started_ticks: u64,
    is_alive: bool,
}

fn look(pid: u32) -> Option<Look> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 3 and 22 of proc(5) `stat`; field 2 is in parentheses and may hold anything, parentheses and spaces too.
fn parse_stat(stat: &str) -> Option<Look> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    Some(Look {
        started_ticks: fields.nth(18)?.parse().ok()?,
        // A zombie has ended; only its parent has not asked yet.
        is_alive: !matches!(state, "Z" | "X" | "x"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn of_pid(pid: u32) -> Process {
        Process {
            pid,
            started_ticks: look(pid).unwrap().started_ticks,
            ..Process::this()
        }
    }

    #[test]
    fn another_process_lives_until_it_ends_and_this_one_is_no_other() {
        let this = Process::this();
        assert!(!this.lives_beside(&this));
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let other = of_pid(child.id());
        assert!(other.lives_beside(&this));
        assert_eq!(Process::of_text(&other.to_text()), Some(other.clone()));
        let reused = Process {
            started_ticks: other.started_ticks + 1,
            ..other.clone()
        };
        assert!(!reused.lives_beside(&this), "the number was given again");
        for elsewhere in ["", "other pid:[1]"] {
            let elsewhere = Process {
                boot: elsewhere.to_owned(),
                ..other.clone()
            };
            assert!(!elsewhere.lives_beside(&this), "{elsewhere:?}");
        }
        child.kill().unwrap();
        // It has ended, though nobody has asked for its status.
        while other.lives_beside(&this) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!other.lives_beside(&this));
    }

    #[test]
    fn without_proc_the_number_and_the_host_must_do() {
        let this = Process {
            boot: String::new(),
            started_ticks: 0,
            ..Process::this()
        };
        // The parent of a test lives as long as the test.
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        let parent = Process {
            pid: parent.try_into().unwrap(),
            ..this.clone()
        };
        assert!(parent.lives_beside(&this));
        let elsewhere = Process {
            host: "elsewhere".to_owned(),
            ..parent.clone()
        };
        assert!(!elsewhere.lives_beside(&this));
        let nobody = Process {
            pid: u32::MAX,
            ..parent
        };
        assert!(!nobody.lives_beside(&this));
    }

    #[test]
    fn texts_of_others_name_no_process() {
        for text in ["", "{}", "4711", "nonsense"] {
            assert_eq!(Process::of_text(text), None);
        }
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9\n";
        let look = parse_stat(stat).unwrap();
        assert_eq!((look.started_ticks, look.is_alive), (4711, true));
        assert!(!parse_stat(&stat.replace(" S ", " Z ")).unwrap().is_alive);
        assert!(parse_stat("7 (a").is_none());
    }
}
