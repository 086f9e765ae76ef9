//! Whether the file has lost its end, as far as SQLite itself would not say so.
//!
//! A file shorter than a page it takes for a new database, and the missing part of a last page for zeros. That whole
//! pages are missing it sees from the header (sqlite.org/fileformat2.html, 1.3).

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::create::with_ending;
use super::fault::Trouble;

/// The smallest page; a file is never shorter, since it is put in its place whole.
const PAGE_BYTES_MIN: u64 = 512;
/// How many octets of the header are read: the size of a page is in the last two.
const HEADER_BYTES: usize = 18;

/// Looks at the file at `path`.
///
/// # Errors
/// [`Trouble::Damaged`].
pub(super) fn look(path: &Path) -> Result<(), Trouble> {
    // With a log beside it, the file may be as a crash left it: SQLite mends it from there.
    let has_log = fs::metadata(with_ending(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let Ok((length, page_bytes)) = measure(path) else {
        // SQLite says it better.
        return Ok(());
    };
    if length < PAGE_BYTES_MIN {
        return Err(Trouble::Damaged("it is shorter than one page".to_owned()));
    }
    if !has_log && page_bytes >= PAGE_BYTES_MIN && !length.is_multiple_of(page_bytes) {
        return Err(Trouble::Damaged("its last page is not whole".to_owned()));
    }
    Ok(())
}

fn measure(path: &Path) -> std::io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    let page_bytes = match header.get(HEADER_BYTES - 2..) {
        // The greatest size does not fit in two octets.
        Some([0, 1]) => 65_536,
        Some([high, low]) => u64::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    Ok((file.metadata()?.len(), page_bytes))
}
