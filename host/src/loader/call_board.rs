//! The calls that a worker is in, in memory that outlives it: what explains a crash, at the cost of two small writes a call.
//!
//! An event for each beginning and each end would wake the supervisor twice a call. A call has a slot while it goes on; its
//! number, 0 for none, comes first. Neighbours: `calls` writes, [`crate::supervisor`] makes the board and reads it.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::MemfdFlags;
use whimbrel_plugin_api::manifest::Role;

/// Octets of a slot: a number of 8, and three short names in lines.
const SLOT_BYTES: usize = 192;
/// Calls that can be on the board at the same time; each belongs to a thread.
const SLOTS: usize = 1_024;
/// Octets of the number.
const NUMBER_BYTES: usize = 8;

/// A call that stands on a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardCall {
    /// Tells calls apart; a later one has a higher number.
    pub call_id: u64,
    /// The plugin.
    pub plugin: String,
    /// The role.
    pub role: Role,
    /// The call.
    pub call: String,
}

/// The side that reads, and that keeps the board when the other one is gone.
pub struct BoardReader(File);

impl BoardReader {
    /// A new board without a call.
    ///
    /// # Errors
    /// What the system says.
    pub fn create() -> std::io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("calls", MemfdFlags::CLOEXEC)?);
        file.set_len((SLOT_BYTES * SLOTS) as u64)?;
        Ok(Self(file))
    }

    /// Where a child of this process finds it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// The calls that have begun and not returned.
    pub fn calls(&self) -> Vec<BoardCall> {
        let mut octets = vec![0; SLOT_BYTES * SLOTS];
        match self.0.read_exact_at(&mut octets, 0) {
            Ok(()) => octets.chunks_exact(SLOT_BYTES).filter_map(parse).collect(),
            // It is one's own memory; without it a crash is told without its call.
            Err(_) => Vec::new(),
        }
    }
}

fn parse(slot: &[u8]) -> Option<BoardCall> {
    let (number, names) = slot.split_first_chunk::<NUMBER_BYTES>()?;
    let call_id = u64::from_le_bytes(*number);
    let mut names = std::str::from_utf8(names).ok()?.split('\n');
    let role = names.next()?;
    let role = Role::ALL.into_iter().find(|known| known.name() == role)?;
    Some(BoardCall {
        call_id,
        role,
        plugin: names.next()?.to_owned(),
        call: names.next()?.to_owned(),
    })
    .filter(|_| call_id > 0)
}

/// The side that writes.
pub struct CallBoard {
    file: File,
    free: Mutex<Vec<usize>>,
}

impl CallBoard {
    /// The board at `path`.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            file: File::options().write(true).open(path)?,
            free: Mutex::new((0..SLOTS).rev().collect()),
        })
    }

    /// Puts a call onto the board; answers its slot, or none if there is no room for it.
    pub(super) fn begin(&self, call_id: u64, plugin: &str, role: Role, call: &str) -> Option<usize> {
        let mut slot = [0; SLOT_BYTES];
        let (number, mut names) = slot.split_at_mut(NUMBER_BYTES);
        number.copy_from_slice(&call_id.to_le_bytes());
        writeln!(names, "{role}\n{plugin}\n{call}").ok()?;
        let length = SLOT_BYTES - names.len();
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        let written = self
            .file
            .write_all_at(&slot[..length], (free * SLOT_BYTES) as u64);
        if written.is_err() {
            self.end(free);
            return None;
        }
        Some(free)
    }

    /// Takes the call in `slot` off the board.
    pub(super) fn end(&self, slot: usize) {
        let none = [0; NUMBER_BYTES];
        // A board that cannot be written makes a crash harder to explain and nothing else.
        drop(self.file.write_all_at(&none, (slot * SLOT_BYTES) as u64));
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_has_the_calls_that_go_on_and_no_others() {
        let reader = BoardReader::create().unwrap();
        let board = CallBoard::open(&reader.path()).unwrap();
        assert_eq!(reader.calls(), []);
        let write = board.begin(7, "heron", Role::Sink, "write").unwrap();
        let next = board
            .begin(8, "a rather long name", Role::Source, "next")
            .unwrap();
        let call = |call_id, plugin: &str, role, call: &str| BoardCall {
            call_id,
            plugin: plugin.to_owned(),
            role,
            call: call.to_owned(),
        };
        let seen = reader.calls();
        assert_eq!(seen.len(), 2);
        assert!(seen.contains(&call(7, "heron", Role::Sink, "write")));
        assert!(seen.contains(&call(8, "a rather long name", Role::Source, "next")));
        board.end(next);
        // A shorter name leaves nothing of the longer one that was there.
        let abort = board.begin(9, "h", Role::Sink, "abort").unwrap();
        board.end(write);
        assert_eq!(reader.calls(), [call(9, "h", Role::Sink, "abort")]);
        board.end(abort);
        drop(board);
        assert_eq!(reader.calls(), []);
    }

    #[test]
    fn a_call_that_finds_no_room_is_told_so() {
        let reader = BoardReader::create().unwrap();
        let board = CallBoard::open(&reader.path()).unwrap();
        assert_eq!(board.begin(1, &"x".repeat(SLOT_BYTES), Role::Sink, "write"), None);
        let slots: Vec<usize> = (1..=SLOTS as u64)
            .map(|call_id| board.begin(call_id, "p", Role::Source, "next").unwrap())
            .collect();
        assert_eq!(board.begin(9_999, "p", Role::Source, "next"), None);
        assert_eq!(reader.calls().len(), SLOTS);
        board.end(slots[0]);
        assert!(board.begin(9_999, "p", Role::Source, "next").is_some());
    }
}
