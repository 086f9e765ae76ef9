//! The files of a folder as collections, and how the octets of each are laid out.
//!
//! Names decide which files are read; the first octets decide compression and, where the name leaves it open, layout.
//! Neighbours: [`crate::framing`] cuts what is opened here, [`crate::schema_file`] is what may lie beside it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use whimbrel_plugin_api::{Error, ErrorKind, Finding, Result};

use crate::config::SourceFormat;
use crate::error::{io_error, read_error};
use crate::framing::{Framer, FramerParts, Layout};
use crate::load::Load;
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
    is_named_zstd: bool,
    /// The name says that a record is on each line.
    is_named_lines: bool,
    pub(crate) schema_file: Option<SchemaFile>,
    /// Its first so many octets count, since its writer has not finished.
    pub(crate) committed_bytes: Option<u64>,
}

/// What a folder, or a lone file, has to offer.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// By name of the collection.
    pub(crate) files: BTreeMap<String, DataFile>,
    /// Files that are not read, and names that two files share.
    pub(crate) findings: Vec<Finding>,
}

/// Looks at `path`, which is a folder or a file.
pub(crate) fn list(path: &Path) -> Result<Listing> {
    let facts = fs::metadata(path).map_err(|error| io_error("read", path, &error))?;
    let mut listing = Listing::default();
    if !facts.is_dir() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let fallback = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = data_stem(name).map_or_else(fallback, str::to_owned);
        listing.add(DataFile::open(path.to_owned(), name, &stem)?);
        return Ok(listing);
    }
    let load = Load::read(path)?;
    if let Some(load) = load.as_ref().filter(|load| load.is_finishing) {
        return Err(unfinished(path, load));
    }
    let mut others = 0_u64;
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| io_error("read", path, &error))? {
        entries.push(entry.map_err(|error| io_error("read", path, &error))?.path());
    }
    // Folders answer in any order; findings and errors must not depend on it.
    entries.sort();
    for entry in entries {
        let name = entry.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| !name.starts_with('.')) else {
            others += 1;
            continue;
        };
        match data_stem(name) {
            Some(stem) if entry.is_file() && !is_schema_file(&entry, name)? => {
                listing.add(DataFile::open(entry.clone(), name, stem)?);
            }
            Some(_) if entry.is_file() => {}
            _ => others += 1,
        }
    }
    if others > 0 {
        listing.findings.push(Finding::info(
            "files.not_read",
            format!("{others} other entries of `{}` are not read (files read: .ndjson, .jsonl, .json, each also .zst)", path.display()),
        ));
    }
    Ok(listing)
}

/// What a load that is under way has committed, and for everything else what is there.
pub(crate) fn list_with_load(path: &Path) -> Result<Listing> {
    let mut listing = list(path)?;
    for target in Load::read(path)?.into_iter().flat_map(|load| load.targets) {
        let partial = path.join(target.partial_name());
        let schema_file = SchemaFile::read(&path.join(target.partial_schema_name()))?;
        listing.files.insert(
            target.collection.clone(),
            DataFile {
                collection: target.collection.clone(),
                path: partial,
                is_named_zstd: target.is_zstd(),
                is_named_lines: target.is_lines(),
                schema_file,
                committed_bytes: Some(target.committed_bytes),
            },
        );
    }
    Ok(listing)
}

fn unfinished(path: &Path, load: &Load) -> Error {
    let names: Vec<String> = load.targets.iter().take(5).map(|target| format!("`{}`", target.collection)).collect();
    Error::new(
        ErrorKind::Integrity,
        "files.unfinished",
        format!(
            "a load into `{}` was cut off while its files got their final names (collections: {})",
            path.display(),
            names.join(", ")
        ),
    )
    .with_help("run the job that wrote into this folder again; it finishes the names first")
}

impl Listing {
    fn add(&mut self, file: DataFile) {
        if let Some(other) = self.files.get(&file.collection) {
            self.findings.push(
                Finding::blocker(
                    "files.collection_twice",
                    format!(
                        "two files hold the collection `{}`: `{}` and `{}`",
                        file.collection,
                        other.path.display(),
                        file.path.display()
                    ),
                )
                .with_help("move one of them away")
                .with_collection(&file.collection),
            );
            return;
        }
        self.files.insert(file.collection.clone(), file);
    }

    /// Refuses to go on where one name has two files.
    pub(crate) fn refuse_twice(&self) -> Result<()> {
        match self.findings.iter().find(|finding| finding.code == "files.collection_twice") {
            Some(finding) => {
                Err(Error::config(&finding.code, &finding.message).with_help(finding.help.clone().unwrap_or_default()))
            }
            None => Ok(()),
        }
    }
}

/// The name of a data file without its endings; `None` if it is no data file.
fn data_stem(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".zst").unwrap_or(name);
    [".ndjson", ".jsonl", ".json"].iter().find_map(|ending| name.strip_suffix(ending)).filter(|stem| !stem.is_empty())
}

/// Whether this is a schema file of ours, and not data that happen to be called so.
fn is_schema_file(path: &Path, name: &str) -> Result<bool> {
    Ok(name.ends_with(schema_file::SUFFIX) && SchemaFile::read(path)?.is_some())
}

/// Whether any data file of the collection with this stem is in `folder`; endings in lower case.
pub(crate) fn data_files(folder: &Path, stem: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for ending in [".ndjson", ".jsonl", ".json"] {
        for compression in ["", ".zst"] {
            let path = folder.join(format!("{stem}{ending}{compression}"));
            if path.is_file() {
                found.push(path);
            }
        }
    }
    found
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
    fn open(path: PathBuf, name: &str, stem: &str) -> Result<Self> {
        let schema_file = SchemaFile::read(&path.with_file_name(format!("{stem}{}", schema_file::SUFFIX)))?;
        let plain_name = name.strip_suffix(".zst").unwrap_or(name);
        Ok(Self {
            collection: schema_file.as_ref().map_or_else(|| stem.to_owned(), |file| file.collection.clone()),
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
        file.by_ref().take(4).read_to_end(&mut magic).map_err(|error| self.io_error(&error))?;
        let number = magic.first_chunk::<4>().map(|magic| u32::from_le_bytes(*magic));
        let is_zstd = number.is_some_and(|number| number == ZSTD_MAGIC || number & !15 == ZSTD_SKIPPABLE_MAGIC);
        if self.is_named_zstd && !is_zstd && !magic.is_empty() {
            return Err(Error::new(
                ErrorKind::Integrity,
                "files.not_zstd",
                format!("`{}` is named as compressed with zstd and is not", self.path.display()),
            )
            .with_help("take `.zst` off its name if it is plain, or make it again"));
        }
        Ok(is_zstd)
    }

    /// The octets of the file from `start` on, up to `end`, both before decompression.
    fn octets(&self, is_zstd: bool, start: u64, end: Option<u64>) -> Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path).map_err(|error| self.io_error(&error))?;
        file.seek(SeekFrom::Start(start)).map_err(|error| self.io_error(&error))?;
        let end = [end, self.committed_bytes].into_iter().flatten().min().unwrap_or(u64::MAX);
        let part = file.take(end.saturating_sub(start));
        if is_zstd {
            let decoder = zstd::stream::read::Decoder::new(part).map_err(|error| read_error(&self.path, true, &error))?;
            return Ok(Box::new(decoder));
        }
        Ok(Box::new(part))
    }

    /// Cuts the file into records from `start` on, an offset after decompression, up to `end`.
    pub(crate) fn framer(&self, form: Form, start: u64, end: Option<u64>, record_bytes_max: usize) -> Result<Framer> {
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
            let start = line_start_after(&mut file, target, size_bytes).map_err(|error| self.io_error(&error))?;
            if starts.last().is_some_and(|last| start > *last) && start < size_bytes {
                starts.push(start);
            }
        }
        starts.push(size_bytes);
        Ok(starts)
    }
}

/// The first start of a line at `target` or behind it.
fn line_start_after(file: &mut File, target: u64, size_bytes: u64) -> io::Result<u64> {
    let mut at = target.saturating_sub(1);
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
                let next = octets[end..].iter().find(|octet| !matches!(octet, b' ' | b'\t' | b'\r'));
                if has_break(end) || next == Some(&b'{') { Layout::Values } else { Layout::Lines }
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
    fn names_say_what_is_data() {
        for (name, stem) in [
            ("a.ndjson", Some("a")),
            ("a.b.jsonl.zst", Some("a.b")),
            ("a.json", Some("a")),
            ("a.zst", None),
            ("a.ndjson.partial", None),
            (".json", None),
            ("a.csv", None),
            ("a.schema.json~", None),
        ] {
            assert_eq!(data_stem(name), stem, "{name}");
        }
    }

    #[test]
    fn parts_begin_at_lines_and_hold_everything_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        let text: String = (0..500).map(|index| format!("{{\"a\":\"{}\"}}\n", "x".repeat(index * 7 % 61))).collect();
        fs::write(&path, &text).unwrap();
        let file = DataFile::open(path, "a.ndjson", "a").unwrap();
        for wanted in [1, 2, 3, 7, 100, 10_000] {
            let starts = file.line_starts(text.len() as u64, wanted).unwrap();
            assert_eq!((starts[0], *starts.last().unwrap()), (0, text.len() as u64));
            assert!(starts.windows(2).all(|pair| pair[0] < pair[1]), "{wanted}");
            assert!(starts[1..].iter().all(|start| text.as_bytes()[*start as usize - 1] == b'\n'), "{wanted}");
        }
        assert_eq!(file.line_starts(text.len() as u64, 100).unwrap().len(), 101);
    }
}
