//! Named places at which a test can have the program end as if the power had failed, or stand still.
//!
//! `WHIMBREL_CRASH_AT=site:occurrence` kills the process that comes to the site for that time, with SIGKILL, so that nothing is flushed and
//! nothing is tidied up. With `WHIMBREL_CRASH_ALL=1` the process that started it is killed first. `WHIMBREL_STOP_AT` stops the process
//! there with SIGSTOP, until somebody lets it go on. Without the variables a site costs one look at a flag. [`SITES`] is the list that
//! the tests go through: each site must be reached.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Every site, in the order of a run.
pub const SITES: [&str; 19] = [
    "validated",
    "prepared",
    "run_lane_claimed",
    "manifest_committed",
    "lanes_claimed",
    "begun",
    "written",
    "flushed",
    "refused_kept",
    "commit_sent",
    "committed",
    "state_saved",
    "partition_done",
    "copied",
    "constraints_added",
    "run_lane_done",
    "finalized",
    "verified",
    "tidied_up",
];

/// The sites of a comprehensive comparison, which not every run comes to.
pub const VERIFICATION_SITES: [&str; 1] = ["verification_marked"];

/// The sites of `clear`, in their order.
pub const CLEARING_SITES: [&str; 3] = ["run_lane_held", "lanes_emptied", "cleared"];

/// What is asked for.
static ASKED: OnceLock<Option<Asked>> = OnceLock::new();
/// How often each site was come to.
static SEEN: OnceLock<Mutex<HashMap<&'static str, u64>>> = OnceLock::new();

/// A site, an occurrence of it, and what happens there.
struct Asked {
    site: String,
    occurrence: u64,
    happens: fn(),
}

/// Comes to `site`.
pub fn reach(site: &'static str) {
    debug_assert!(
        [&SITES[..], &VERIFICATION_SITES, &CLEARING_SITES]
            .iter()
            .any(|sites| sites.contains(&site)),
        "`{site}` is not in the list"
    );
    let Some(asked) = ASKED.get_or_init(asked) else {
        return;
    };
    if asked.site != site {
        return;
    }
    let mut seen = SEEN
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let count = seen.entry(site).or_default();
    *count += 1;
    if *count == asked.occurrence {
        (asked.happens)();
    }
}

fn asked() -> Option<Asked> {
    let given = |name: &str, happens: fn()| Some((std::env::var(name).ok()?, happens));
    let (text, happens) = given("WHIMBREL_CRASH_AT", end).or_else(|| given("WHIMBREL_STOP_AT", stop))?;
    let (site, occurrence) = text.rsplit_once(':').unwrap_or((&text, "1"));
    Some(Asked {
        site: site.to_owned(),
        occurrence: occurrence.parse().unwrap_or(1),
        happens,
    })
}

fn stop() {
    use rustix::process::{Signal, getpid, kill_process};
    let stopped = kill_process(getpid(), Signal::STOP);
    debug_assert!(stopped.is_ok(), "{stopped:?}");
}

fn end() {
    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, getppid, kill_process};
    if std::env::var_os("WHIMBREL_CRASH_ALL").is_some()
        && let Some(parent) = getppid()
    {
        // One that is gone already is as good as killed.
        let killed = kill_process(parent, Signal::KILL);
        debug_assert!(matches!(killed, Ok(()) | Err(Errno::SRCH)), "{killed:?}");
    }
    let killed = kill_process(getpid(), Signal::KILL);
    debug_assert!(killed.is_ok(), "{killed:?}");
    // A signal to oneself is delivered before the call returns; should it not be, nothing may go on all the same.
    std::process::abort()
}
