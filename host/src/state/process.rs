//! Which process holds a run, told apart from a later one that got the same number.
//!
//! A number means something only within one start of one kernel and one process namespace: containers of a host share
//! the kernel and not the numbers. From elsewhere nothing can be said.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The users that the system itself knows.
const USERS_FILE: &str = "/etc/passwd";

/// A process, wherever and whenever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The name of its host.
    pub host: String,
    /// The start of the kernel and the namespace in which `pid` counts.
    pub boot: String,
    /// Its number.
    pub pid: u32,
    /// When it was started, in ticks since the kernel was.
    pub started_ticks: u64,
}

/// Whether a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It does.
    Alive,
    /// It does not.
    Dead,
    /// It was started where this process cannot look.
    Unknown,
}

impl Process {
    /// This one.
    pub fn this() -> Self {
        Self::of(std::process::id())
    }

    /// The one that has the number `pid` here and now.
    pub fn of(pid: u32) -> Self {
        Self {
            host: host(),
            boot: boot(),
            pid,
            started_ticks: look(pid).map_or(0, |look| look.started_ticks),
        }
    }

    /// Whether it lives.
    pub fn liveness(&self) -> Liveness {
        if self.boot.is_empty() || self.boot != boot() {
            return Liveness::Unknown;
        }
        match look(self.pid) {
            Some(look) if look.started_ticks == self.started_ticks && look.is_alive => Liveness::Alive,
            _ => Liveness::Dead,
        }
    }

    /// Sends `signal` to this very process; whether it was there to get it. One that got its number later is left alone, since the
    /// kernel is told which process is meant before its start is compared.
    ///
    /// # Errors
    /// What the kernel says, such as that this user may not.
    pub fn signal(&self, signal: Signal) -> Result<bool, Errno> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(false);
        };
        let sent = pidfd_open(pid, PidfdFlags::empty()).and_then(|process| match self.liveness() {
            Liveness::Alive => pidfd_send_signal(process, signal),
            Liveness::Dead | Liveness::Unknown => Err(Errno::SRCH),
        });
        match sent {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Whether it was started by another start of this host's kernel, or on another host.
    pub(super) fn is_of_another_boot(&self) -> bool {
        let kernel = |boot: &str| boot.split(' ').next().map(str::to_owned);
        kernel(&self.boot) != kernel(&boot())
    }
}

/// The user and the host: `ann@mail`.
pub fn started_by() -> String {
    format!("{}@{}", user(), host())
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The name of the user whose rights this process has; from the environment only if the system does not say.
fn user() -> String {
    let id = rustix::process::getuid().as_raw();
    let users = fs::read_to_string(USERS_FILE).unwrap_or_default();
    name_of(id, &users)
        .or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| format!("uid-{id}"))
}

fn name_of(id: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, number) = (parts.next()?, parts.nth(1)?);
        (number.parse() == Ok(id)).then(|| name.to_owned())
    })
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

struct Look {
    started_ticks: u64,
    is_alive: bool,
}

fn look(pid: u32) -> Option<Look> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 3, 20 and 22 of proc(5) `stat`; field 2 is in parentheses and may hold anything, parentheses and spaces too.
fn parse_stat(stat: &str) -> Option<Look> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    Some(Look {
        started_ticks: fields.nth(1)?.parse().ok()?,
        // A zombie has ended, and only its parent has not asked yet; unless that is its first thread alone, while others still
        // have its files open.
        is_alive: match state {
            "Z" => threads > 1,
            "X" | "x" => false,
            _ => true,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::Sleeper;

    #[test]
    fn a_process_lives_until_it_ends_even_if_nobody_asked_for_its_status() {
        assert_eq!(Process::this().liveness(), Liveness::Alive);
        let mut child = Sleeper::start();
        let process = child.process();
        assert_eq!(process.liveness(), Liveness::Alive);
        let other_start = Process {
            started_ticks: process.started_ticks + 1,
            ..process.clone()
        };
        assert_eq!(
            other_start.liveness(),
            Liveness::Dead,
            "the number was given again"
        );
        child.kill();
        while process.liveness() == Liveness::Alive {
            std::thread::yield_now();
        }
        drop(child);
        assert_eq!(process.liveness(), Liveness::Dead);
    }

    #[test]
    fn a_signal_reaches_the_process_that_was_meant_and_no_later_one() {
        let child = Sleeper::start();
        let process = child.process();
        let earlier = Process {
            started_ticks: process.started_ticks - 1,
            ..process.clone()
        };
        let elsewhere = Process {
            boot: "other pid:[1]".to_owned(),
            ..process.clone()
        };
        for other in [earlier, elsewhere] {
            assert_eq!(other.signal(Signal::KILL), Ok(false), "{other:?}");
        }
        assert_eq!(process.liveness(), Liveness::Alive);
        assert_eq!(process.signal(Signal::KILL), Ok(true));
        while process.liveness() == Liveness::Alive {
            std::thread::yield_now();
        }
        assert_eq!(process.signal(Signal::KILL), Ok(false), "it has ended");
        let first = Process { pid: 1, ..process };
        assert_eq!(
            first.signal(Signal::KILL),
            Ok(false),
            "the first of all processes"
        );
    }

    #[test]
    fn of_another_kernel_or_namespace_nothing_is_said() {
        let this = Process::this();
        let elsewhere = |boot: &str| Process {
            boot: boot.to_owned(),
            ..this.clone()
        };
        assert_eq!(elsewhere("").liveness(), Liveness::Unknown);
        assert_eq!(elsewhere("other pid:[1]").liveness(), Liveness::Unknown);
        assert!(elsewhere("other pid:[1]").is_of_another_boot());
        assert!(!this.is_of_another_boot());
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9\n";
        let look = parse_stat(stat).unwrap();
        assert_eq!((look.started_ticks, look.is_alive), (4711, true));
        let zombie = stat.replace(" S ", " Z ");
        assert!(!parse_stat(&zombie).unwrap().is_alive);
        let other_threads = zombie.replace(" 20 0 1 ", " 20 0 3 ");
        assert!(parse_stat(&other_threads).unwrap().is_alive);
        assert!(parse_stat("7 (a").is_none());
        assert!(parse_stat("7 (a) S 1").is_none());
    }

    #[test]
    fn users_are_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbroken\n";
        assert_eq!(name_of(1000, users).as_deref(), Some("ann"));
        assert_eq!(name_of(7, users), None);
        let who = started_by();
        assert!(
            who.contains('@') && !who.starts_with('@') && !who.ends_with('@'),
            "{who}"
        );
    }
}
