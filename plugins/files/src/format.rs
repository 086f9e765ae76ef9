//! One data file: how its octets are laid out, and opening it anywhere.
//!
//! The first octets decide compression and, where the name leaves it open, layout. Neighbours: [`crate::listing`] finds the
//! files, [`crate::framing`] cuts what is opened here into records.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use whimbrel_plugin_api::{Error, ErrorKind, Result};

use crate::config::SourceFormat;
use crate::error::{io_error, read_error};
use crate::framing::{Framer, FramerParts, Layout};
use crate::scan::{self, Fault, ScanError};
use crate::schema_file::{self, SchemaFile};

/// Octets that are looked into for the layout; a first record longer than that lies on one line or on several all
/// the same.
const SNIFFED_BYTES: u64 = 1024 * 1024;
/// First octets of a zstd frame, little endian.
const ZSTD_MAGIC: u32 = 0xFD2F_B528;
/// First octets of a frame that zstd skips, apart from the lowest four bits.
const ZSTD_SKIPPABLE_MAGIC: u32 = 0x184D_2A50;

/// A data file and what belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct DataFile {
    pub(crate) collection: String,
    pub(crate) path: PathBuf,
    /// The name says that it is compressed.
    pub(crate) is_named_zstd: bool,
    /// The name says that a record is on each line.
    pub(crate) is_named_lines: bool,
    pub(crate) schema_file: Option<SchemaFile>,
    /// Its first so many octets count, since its writer has not finished.
    pub(crate) committed_bytes: Option<u64>,
}

/// What tells a file from its later self.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) size_bytes: u64,
    /// Time of the last change in nanoseconds since 1970.
    pub(crate) changed_ns: u64,
}

/// How the octets of a file are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) is_zstd: bool,
    pub(crate) layout: Layout,
}

impl Form {
    /// Whether any line start is a good place to begin.
    pub(crate) fn is_divisible(self) -> bool {
        !self.is_zstd && self.layout == Layout::Lines
    }
}

impl DataFile {
    pub(crate) fn open(path: PathBuf, name: &str, stem: &str) -> Result<Self> {
        let schema_file = SchemaFile::read(&path.with_file_name(format!("{stem}{}", schema_file::SUFFIX)))?;
        let plain_name = name.strip_suffix(".zst").unwrap_or(name);
        Ok(Self {
            collection: schema_file
                .as_ref()
                .map_or_else(|| stem.to_owned(), |file| file.collection.clone()),
            is_named_zstd: plain_name.len() < name.len(),
            is_named_lines: plain_name.ends_with(".ndjson") || plain_name.ends_with(".jsonl"),
            path,
            schema_file,
            committed_bytes: None,
        })
    }

    fn io_error(&self, error: &io::Error) -> Error {
        io_error("read", &self.path, error)
    }

    pub(crate) fn identity(&self) -> Result<Identity> {
        let facts = fs::metadata(&self.path).map_err(|error| self.io_error(&error))?;
        let changed = facts.modified().map_err(|error| self.io_error(&error))?;
        let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
        match self.committed_bytes {
            // What is behind the committed octets grows while they are read.
            Some(size_bytes) => Ok(Identity {
                size_bytes,
                changed_ns: 0,
            }),
            None => Ok(Identity {
                size_bytes: facts.len(),
                changed_ns: since.as_nanos() as u64,
            }),
        }
    }

    /// Looks into the file for what its name leaves open.
    pub(crate) fn form(&self, format: SourceFormat) -> Result<Form> {
        let is_zstd = self.is_zstd()?;
        let layout = match format {
            SourceFormat::Ndjson => Layout::Lines,
            SourceFormat::Json => Layout::Values,
            SourceFormat::Auto if self.is_named_lines => Layout::Lines,
            SourceFormat::Auto => {
                let mut octets = Vec::new();
                self.octets(is_zstd, 0, None)?
                    .take(SNIFFED_BYTES)
                    .read_to_end(&mut octets)
                    .map_err(|error| read_error(&self.path, is_zstd, &error))?;
                sniff(&octets)
            }
        };
        Ok(Form { is_zstd, layout })
    }

    fn is_zstd(&self) -> Result<bool> {
        let mut magic = Vec::new();
        let mut file = File::open(&self.path).map_err(|error| self.io_error(&error))?;
        let counts = self.committed_bytes.unwrap_or(u64::MAX).min(4);
        file.by_ref()
            .take(counts)
            .read_to_end(&mut magic)
            .map_err(|error| self.io_error(&error))?;
        let number = magic.first_chunk::<4>().map(|magic| u32::from_le_bytes(*magic));
        let is_zstd =
            number.is_some_and(|number| number == ZSTD_MAGIC || number & !15 == ZSTD_SKIPPABLE_MAGIC);
        if self.is_named_zstd && !is_zstd && !magic.is_empty() {
            return Err(Error::new(
                ErrorKind::Integrity,
                "files.not_zstd",
                format!(
                    "`{}` is named as compressed with zstd and is not",
                    self.path.display()
                ),
            )
            .with_help("take `.zst` off its name if it is plain, or make it again"));
        }
        Ok(is_zstd)
    }

    /// The octets of the file from `start` on, up to `end`, both before decompression.
    fn octets(&self, is_zstd: bool, start: u64, end: Option<u64>) -> Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path).map_err(|error| self.io_error(&error))?;
        file.seek(SeekFrom::Start(start))
            .map_err(|error| self.io_error(&error))?;
        let end = [end, self.committed_bytes]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX);
        let part = file.take(end.saturating_sub(start));
        if is_zstd {
            let decoder = zstd::stream::read::Decoder::new(part)
                .map_err(|error| read_error(&self.path, true, &error))?;
            return Ok(Box::new(decoder));
        }
        Ok(Box::new(part))
    }

    /// Cuts the file into records from `start` on, an offset after decompression, up to `end`.
    pub(crate) fn framer(
        &self,
        form: Form,
        start: u64,
        end: Option<u64>,
        record_bytes_max: usize,
    ) -> Result<Framer> {
        let input = if form.is_zstd {
            let mut input = self.octets(true, 0, None)?;
            let skipped = io::copy(&mut input.by_ref().take(start), &mut io::sink())
                .map_err(|error| read_error(&self.path, true, &error))?;
            if skipped < start {
                return Err(crate::error::changed(&self.path));
            }
            input
        } else {
            self.octets(false, start, end)?
        };
        Ok(Framer::new(FramerParts {
            input,
            path: self.path.clone(),
            is_zstd: form.is_zstd,
            layout: form.layout,
            is_open_ended: self.committed_bytes.is_some(),
            record_bytes_max,
            offset: start,
        }))
    }

    /// Line breaks among the first `offset` octets after decompression.
    pub(crate) fn lines_before(&self, form: Form, offset: u64) -> Result<u64> {
        let mut input = self.octets(form.is_zstd, 0, None)?.take(offset);
        let mut buffer = vec![0; 256 * 1024];
        let mut count = 0;
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return Ok(count),
                Ok(length) => count += memchr::memchr_iter(b'\n', &buffer[..length]).count() as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(&self.path, form.is_zstd, &error)),
            }
        }
    }

    /// Offsets of `wanted` parts of about the same size, each at the start of a line; the last is the end.
    pub(crate) fn line_starts(&self, size_bytes: u64, wanted: u64) -> Result<Vec<u64>> {
        let mut file = File::open(&self.path).map_err(|error| self.io_error(&error))?;
        let mut starts = vec![0];
        for part in 1..wanted {
            // Products of sizes and small counts stay far below 2^64.
            let target = size_bytes / wanted * part;
            let start =
                line_start_after(&mut file, target, size_bytes).map_err(|error| self.io_error(&error))?;
            if starts.last().is_some_and(|last| start > *last) && start < size_bytes {
                starts.push(start);
            }
        }
        starts.push(size_bytes);
        Ok(starts)
    }
}

/// The first start of a line behind `target`.
fn line_start_after(file: &mut File, target: u64, size_bytes: u64) -> io::Result<u64> {
    let mut at = target;
    file.seek(SeekFrom::Start(at))?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(size_bytes);
        }
        if let Some(index) = memchr::memchr(b'\n', &buffer[..length]) {
            return Ok(at + index as u64 + 1);
        }
        at += length as u64;
    }
}

/// The layout of a file that begins with `octets`: values if it begins with `[`, or if the first object goes over
/// several lines or another follows it on its line; else lines.
fn sniff(octets: &[u8]) -> Layout {
    let octets = octets.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(octets);
    let start = scan::skip_space(octets, 0);
    let has_break = |end: usize| octets[start..end].contains(&b'\n');
    match octets.get(start) {
        Some(b'[') => Layout::Values,
        Some(b'{') => match scan::skip_value(octets, start) {
            Ok(end) => {
                let next = octets[end..]
                    .iter()
                    .find(|octet| !matches!(octet, b' ' | b'\t' | b'\r'));
                if has_break(end) || next == Some(&b'{') {
                    Layout::Values
                } else {
                    Layout::Lines
                }
            }
            Err(ScanError {
                fault: Fault::Incomplete,
                ..
            }) if has_break(octets.len()) => Layout::Values,
            Err(ScanError { at, .. }) if has_break(at.min(octets.len())) => Layout::Values,
            Err(_) => Layout::Lines,
        },
        _ => Layout::Lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_seen_from_the_first_octets() {
        for (text, layout) in [
            ("", Layout::Lines),
            ("\u{feff}[{}]", Layout::Values),
            (" \n[\n]", Layout::Values),
            ("{\"a\":1}", Layout::Lines),
            ("{\"a\":1}\r\n{\"a\":2}\n", Layout::Lines),
            ("{\n \"a\": 1\n}\n", Layout::Values),
            ("{\"a\":1} {\"a\":2}", Layout::Values),
            ("{\"a\":1}x\n", Layout::Lines),
            ("{\"a\":\n", Layout::Values),
            ("{\"a\":1", Layout::Lines),
            ("{\"a\":\"x\n{\"a\":2}\n", Layout::Lines),
            ("1\n2\n", Layout::Lines),
        ] {
            assert_eq!(sniff(text.as_bytes()), layout, "{text:?}");
        }
    }

    #[test]
    fn parts_begin_at_lines_and_hold_everything_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        let text: String = (0..500)
            .map(|index| format!("{{\"a\":\"{}\"}}\n", "x".repeat(index * 7 % 61)))
            .collect();
        fs::write(&path, &text).unwrap();
        let file = DataFile::open(path, "a.ndjson", "a").unwrap();
        for wanted in [1, 2, 3, 7, 100, 10_000] {
            let starts = file.line_starts(text.len() as u64, wanted).unwrap();
            assert_eq!((starts[0], *starts.last().unwrap()), (0, text.len() as u64));
            assert!(starts.windows(2).all(|pair| pair[0] < pair[1]), "{wanted}");
            assert!(
                starts[1..]
                    .iter()
                    .all(|start| text.as_bytes()[*start as usize - 1] == b'\n'),
                "{wanted}"
            );
        }
        assert_eq!(file.line_starts(text.len() as u64, 100).unwrap().len(), 101);
    }
}
