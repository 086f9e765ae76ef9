//! Named places at which a test can have the program end as if the power had failed.
//!
//! `WHIMBREL_CRASH_AT=site:occurrence` kills the process that comes to the site for that time, with SIGKILL, so that nothing is flushed and
//! nothing is tidied up. With `WHIMBREL_CRASH_ALL=1` the process that started it is killed first. Without the variables a
//! site costs one look at a flag. [`SITES`] is the list that the tests go through: each site must be reached.

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

/// The site and the occurrence that are asked for.
static ASKED: OnceLock<Option<(String, u64)>> = OnceLock::new();
/// How often each site was come to.
static SEEN: OnceLock<Mutex<HashMap<&'static str, u64>>> = OnceLock::new();

/// Comes to `site`.
pub fn reach(site: &'static str) {
    debug_assert!(
        SITES.contains(&site) || VERIFICATION_SITES.contains(&site),
        "`{site}` is not in the list"
    );
    let Some((asked, occurrence)) = ASKED.get_or_init(asked) else {
        return;
    };
    if asked != site {
        return;
    }
    let mut seen = SEEN
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let count = seen.entry(site).or_default();
    *count += 1;
    if *count == *occurrence {
        end();
    }
}

fn asked() -> Option<(String, u64)> {
    let text = std::env::var("WHIMBREL_CRASH_AT").ok()?;
    let (site, occurrence) = text.rsplit_once(':').unwrap_or((&text, "1"));
    Some((site.to_owned(), occurrence.parse().unwrap_or(1)))
}

fn end() -> ! {
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
