//! Post-migration: what is left to say after a run.
//!
//! Staged records are removed by the orchestrator, which knows how the run ended; the memory peak is read here, last.

use std::io::Read as _;

/// Peak resident memory of this process in octets; 0 if the system does not say.
///
/// Source: `VmHWM` of `/proc/self/status`, in KiB.
pub fn memory_peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// Resident memory of this process in octets; 0 if the system does not say.
///
/// Source: `VmRSS` of `/proc/self/status`, in KiB.
pub fn memory_bytes() -> u64 {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> u64 {
    let mut text = String::new();
    let read = std::fs::File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut text));
    if read.is_err() {
        return 0;
    }
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
