//! Cuts a file into records without holding more than one of them: by lines, or by values of an array.
//!
//! What a record says is not looked at here ([`crate::scan`] and the decoder do), only where it ends. Memory is the
//! longest record that is allowed plus one read. Neighbour: [`crate::format`], which opens the octets.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::{Error, Result};

use crate::error;
use crate::scan;

/// Octets asked for in one read. Stays within the second-level cache, which measured faster than 1 MiB.
const READ_BYTES: usize = 256 * 1024;
/// Octets of a rejected record that are kept for the store of rejected records.
pub(crate) const KEPT_BYTES_MAX: usize = 4 * 1024;
/// The byte order mark in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How records lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One on each line.
    Lines,
    /// The elements of an array, or values one after the other.
    Values,
}

/// A record that was cut out; its octets are good until the next call of [`Framer::next`].
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    range: Range<usize>,
    /// Where it begins.
    pub(crate) place: Place,
    /// Whether it is longer than allowed; then only its beginning was kept.
    pub(crate) is_overlong: bool,
}

/// A place in the octets of a file, after decompression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// From the start of the file.
    pub(crate) offset: u64,
    /// Line breaks before it, from where the reading began.
    pub(crate) lines_before: u64,
    /// Octets before it on its line.
    pub(crate) column: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// Behind `[`.
    ArrayStart,
    /// Behind an element.
    ArrayRest,
    /// Behind `]`.
    Tail,
    /// In a file of values one after the other.
    Sequence,
}

/// Cuts one run of octets into records.
pub(crate) struct Framer {
    input: Box<dyn Read + Send>,
    path: PathBuf,
    is_zstd: bool,
    layout: Layout,
    state: State,
    /// Whether an array may end without `]`, since its writer has not finished.
    is_open_ended: bool,
    record_bytes_max: usize,
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    is_at_end: bool,
    /// The place of `buffer[start]`.
    place: Place,
    head: Vec<u8>,
}

/// What a framer is made of.
pub(crate) struct FramerParts {
    pub(crate) input: Box<dyn Read + Send>,
    pub(crate) path: PathBuf,
    pub(crate) is_zstd: bool,
    pub(crate) layout: Layout,
    pub(crate) is_open_ended: bool,
    pub(crate) record_bytes_max: usize,
    /// Where `input` begins.
    pub(crate) offset: u64,
}

impl Framer {
    /// Begins where `parts.input` begins. An offset other than 0 in an array is behind one of its elements.
    pub(crate) fn new(parts: FramerParts) -> Self {
        Self {
            input: parts.input,
            path: parts.path,
            is_zstd: parts.is_zstd,
            layout: parts.layout,
            state: State::Start,
            is_open_ended: parts.is_open_ended,
            record_bytes_max: parts.record_bytes_max,
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            is_at_end: false,
            place: Place {
                offset: parts.offset,
                ..Place::default()
            },
            head: Vec::new(),
        }
    }

    /// Goes on behind a value that was cut out in an earlier reading, of an array or of a sequence.
    #[must_use]
    pub(crate) fn behind_value(mut self, is_array: bool) -> Self {
        self.state = if is_array {
            State::ArrayRest
        } else {
            State::Sequence
        };
        self
    }

    /// Whether the records are elements of an array. Known once one was cut out.
    pub(crate) fn is_array(&self) -> bool {
        matches!(self.state, State::ArrayStart | State::ArrayRest | State::Tail)
    }

    /// Where the next record is looked for.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The octets of `frame`, the one that `next` returned last.
    pub(crate) fn octets(&self, frame: &Frame) -> &[u8] {
        if frame.is_overlong {
            &self.head
        } else {
            &self.buffer[frame.range.clone()]
        }
    }

    /// The next record, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        if self.place.offset == 0 && self.state == State::Start {
            self.skip_byte_order_mark()?;
        }
        match self.layout {
            Layout::Lines => self.next_line(),
            Layout::Values => self.next_value(),
        }
    }

    fn next_line(&mut self) -> Result<Option<Frame>> {
        let mut searched = self.start;
        loop {
            let found =
                memchr::memchr(b'\n', &self.buffer[searched..self.filled]).map(|index| searched + index);
            let end = match found {
                Some(end) => end,
                None if self.is_at_end && self.start == self.filled => return Ok(None),
                None if self.is_at_end => self.filled,
                None if self.filled - self.start > self.record_bytes_max => {
                    return self.skip_long_line().map(Some);
                }
                None => {
                    let done = self.filled - self.start;
                    self.fill()?;
                    searched = self.start + done;
                    continue;
                }
            };
            let range = trimmed(&self.buffer, self.start..end);
            let place = Place {
                column: (range.start - self.start) as u64,
                ..self.place
            };
            let consumed = end - self.start + usize::from(found.is_some());
            self.start += consumed;
            self.place.offset += consumed as u64;
            self.place.lines_before += u64::from(found.is_some());
            searched = self.start;
            if range.is_empty() {
                continue;
            }
            let is_overlong = range.len() > self.record_bytes_max;
            if is_overlong {
                self.keep_head(range.clone());
            }
            return Ok(Some(Frame {
                range,
                place,
                is_overlong,
            }));
        }
    }

    /// Reads over a line that is longer than allowed, keeping its beginning.
    fn skip_long_line(&mut self) -> Result<Frame> {
        let place = self.place;
        self.head.clear();
        loop {
            let octets = &self.buffer[self.start..self.filled];
            let found = memchr::memchr(b'\n', octets);
            let consumed = found.map_or(octets.len(), |index| index + 1);
            let kept = found
                .unwrap_or(octets.len())
                .min(KEPT_BYTES_MAX - self.head.len());
            self.head.extend_from_slice(&octets[..kept]);
            self.start += consumed;
            self.place.offset += consumed as u64;
            if found.is_some() || self.is_at_end {
                self.place.lines_before += u64::from(found.is_some());
                return Ok(Frame {
                    range: 0..0,
                    place,
                    is_overlong: true,
                });
            }
            self.fill()?;
        }
    }

    fn keep_head(&mut self, range: Range<usize>) {
        self.head.clear();
        self.head
            .extend_from_slice(&self.buffer[range.start..range.end.min(range.start + KEPT_BYTES_MAX)]);
    }

    fn next_value(&mut self) -> Result<Option<Frame>> {
        if self.state == State::Start {
            self.state = match self.peek()? {
                Some(b'[') => {
                    self.consume(1);
                    State::ArrayStart
                }
                _ => State::Sequence,
            };
        }
        let next = self.peek()?;
        match (self.state, next) {
            (State::Sequence | State::Tail, None) => return Ok(None),
            (State::ArrayStart | State::ArrayRest, None) if self.is_open_ended => return Ok(None),
            (State::ArrayStart | State::ArrayRest, None) => return Err(self.broken("the array does not end")),
            (State::ArrayStart | State::ArrayRest, Some(b']')) => {
                self.consume(1);
                self.state = State::Tail;
                return match self.peek()? {
                    None => Ok(None),
                    Some(_) => Err(self.broken("there is more after the end of the array")),
                };
            }
            (State::Tail, Some(_)) => return Err(self.broken("there is more after the end of the array")),
            (State::ArrayRest, Some(b',')) => {
                self.consume(1);
                if matches!(self.peek()?, None | Some(b']' | b',')) {
                    return Err(self.broken("an element is missing after `,`"));
                }
            }
            (State::ArrayRest, Some(_)) => return Err(self.broken("`,` or `]` is missing between elements")),
            (State::ArrayStart, Some(b',')) => return Err(self.broken("an element is missing before `,`")),
            (State::ArrayStart | State::Sequence | State::Start, _) => {}
        }
        if self.state == State::ArrayStart {
            self.state = State::ArrayRest;
        }
        self.value().map(Some)
    }

    /// Cuts out the value that begins at `start`.
    fn value(&mut self) -> Result<Frame> {
        loop {
            let octets = &self.buffer[self.start..self.filled];
            // A value that ends with what was read may go on: a number, a word.
            let end = scan::value_end(octets).filter(|end| *end < octets.len() || self.is_at_end);
            match end {
                Some(0) => return Err(self.broken("a value is missing")),
                Some(length) => {
                    let frame = Frame {
                        range: self.start..self.start + length,
                        place: self.place,
                        is_overlong: length > self.record_bytes_max,
                    };
                    if frame.is_overlong {
                        self.keep_head(frame.range.clone());
                    }
                    self.consume(length);
                    return Ok(frame);
                }
                None if self.is_at_end => return Err(self.broken("the file ends in the middle of a value")),
                None if octets.len() > self.record_bytes_max => {
                    return Err(self.broken(&format!(
                        "a record is longer than the {} octets of `line_bytes_max`, so that its end cannot be told",
                        self.record_bytes_max
                    )));
                }
                None => self.fill()?,
            }
        }
    }

    /// The next octet that is not white space, not consumed.
    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            let octets = &self.buffer[self.start..self.filled];
            let space = scan::skip_space(octets, 0);
            let octet = octets.get(space).copied();
            self.consume(space);
            if octet.is_some() || self.is_at_end {
                return Ok(octet);
            }
            self.fill()?;
        }
    }

    fn consume(&mut self, length: usize) {
        let octets = &self.buffer[self.start..self.start + length];
        match memchr::memrchr(b'\n', octets) {
            Some(last) => {
                self.place.lines_before += memchr::memchr_iter(b'\n', octets).count() as u64;
                self.place.column = (length - last - 1) as u64;
            }
            None => self.place.column += length as u64,
        }
        self.start += length;
        self.place.offset += length as u64;
    }

    fn skip_byte_order_mark(&mut self) -> Result<()> {
        while self.filled - self.start < BYTE_ORDER_MARK.len() && !self.is_at_end {
            self.fill()?;
        }
        if self.buffer[self.start..self.filled].starts_with(BYTE_ORDER_MARK) {
            self.start += BYTE_ORDER_MARK.len();
            self.place.offset += BYTE_ORDER_MARK.len() as u64;
        }
        Ok(())
    }

    /// Reads more behind what is there; moves that to the front, and makes room for more if it fills the buffer.
    fn fill(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.filled < READ_BYTES / 2 {
            let length = (self.buffer.len() * 2).max(READ_BYTES);
            self.buffer.resize(length, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.filled..]) {
                Ok(count) => {
                    self.is_at_end = count == 0;
                    self.filled += count;
                    return Ok(());
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error::read_error(&self.path, self.is_zstd, &error)),
            }
        }
    }

    fn broken(&self, what: &str) -> Error {
        Error::invalid_data("files.malformed_file", format!("`{}` is not a list of JSON values: {what}", name(&self.path)))
            .with_place(place_text(&self.path, self.place.lines_before + 1, self.place.column + 1))
            .with_help(
                "repair the file at this place; a file with one record on each line can be read with `format: ndjson`, \
                 which rejects single lines",
            )
    }
}

/// The file's own name, for messages.
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// A place as people and editors write it; line and column count from 1, columns in octets.
pub(crate) fn place_text(path: &Path, line: u64, column: u64) -> String {
    format!("{}:{line}:{column}", name(path))
}

/// `range` without white space at both ends.
fn trimmed(octets: &[u8], range: Range<usize>) -> Range<usize> {
    let mut end = range.end;
    while end > range.start && matches!(octets[end - 1], b'\r' | b' ' | b'\t') {
        end -= 1;
    }
    let mut start = range.start;
    while start < end && matches!(octets[start], b' ' | b'\t' | b'\r') {
        start += 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a few octets at a time, so that every record is cut somewhere.
    struct Trickle(Vec<u8>, usize, usize);

    impl Read for Trickle {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            let count = self.2.min(self.0.len() - self.1).min(room.len());
            room[..count].copy_from_slice(&self.0[self.1..self.1 + count]);
            self.1 += count;
            Ok(count)
        }
    }

    fn framer(text: &[u8], layout: Layout, step: usize) -> Framer {
        Framer::new(FramerParts {
            input: Box::new(Trickle(text.to_vec(), 0, step)),
            path: "a.json".into(),
            is_zstd: false,
            layout,
            is_open_ended: false,
            record_bytes_max: 1024,
            offset: 0,
        })
    }

    fn cut(text: &[u8], layout: Layout, step: usize) -> Result<Vec<(String, u64, u64, u64)>> {
        let mut framer = framer(text, layout, step);
        let mut records = Vec::new();
        while let Some(frame) = framer.next()? {
            let octets = String::from_utf8_lossy(framer.octets(&frame)).into_owned();
            records.push((
                octets,
                frame.place.lines_before + 1,
                frame.place.column + 1,
                frame.place.offset,
            ));
        }
        Ok(records)
    }

    fn same_at_every_step(text: &[u8], layout: Layout) -> Vec<String> {
        let whole = cut(text, layout, usize::MAX).unwrap();
        for step in 1..text.len().clamp(2, 40) {
            assert_eq!(cut(text, layout, step).unwrap(), whole, "{step}");
        }
        whole
            .into_iter()
            .map(|(text, line, column, _)| format!("{line}:{column} {text}"))
            .collect()
    }

    #[test]
    fn lines_are_cut_with_their_places() {
        let text = b"\xEF\xBB\xBF{\"a\":1}\r\n\n  {\"a\":2} \n\r\n[3]\n4";
        assert_eq!(
            same_at_every_step(text, Layout::Lines),
            ["1:1 {\"a\":1}", "3:3 {\"a\":2}", "5:1 [3]", "6:1 4"]
        );
        assert!(same_at_every_step(b"", Layout::Lines).is_empty());
        assert!(same_at_every_step(b"\xEF\xBB\xBF\n\n", Layout::Lines).is_empty());
    }

    #[test]
    fn elements_are_cut_with_their_places() {
        let text = b"\xEF\xBB\xBF [\n{\"a\":\"]},\\\"\"} ,\n  [1,[2]], -12.5 ,null,\"x\"]\n";
        assert_eq!(
            same_at_every_step(text, Layout::Values),
            [
                "2:1 {\"a\":\"]},\\\"\"}",
                "3:3 [1,[2]]",
                "3:12 -12.5",
                "3:19 null",
                "3:24 \"x\""
            ]
        );
        assert!(same_at_every_step(b"[ ]", Layout::Values).is_empty());
        assert!(same_at_every_step(b" \n", Layout::Values).is_empty());
        assert_eq!(
            same_at_every_step(b"{\n}{}\n12 34", Layout::Values),
            ["1:1 {\n}", "2:2 {}", "3:1 12", "3:4 34"]
        );
    }

    #[test]
    fn an_array_that_is_no_array_is_an_error_with_its_place() {
        for (text, place) in [
            ("[1", "a.json:1:3"),
            ("[1,", "a.json:1:4"),
            ("[1,]", "a.json:1:4"),
            ("[,1]", "a.json:1:2"),
            ("[1\n2]", "a.json:2:1"),
            ("[1] 2", "a.json:1:5"),
            ("[{\"a\":1", "a.json:1:2"),
            ("[\"a", "a.json:1:2"),
            ("]", "a.json:1:1"),
            ("[1}", "a.json:1:3"),
        ] {
            for step in 1..text.len() + 1 {
                let error = cut(text.as_bytes(), Layout::Values, step).unwrap_err();
                assert_eq!(
                    (error.code.as_str(), error.place.as_deref()),
                    ("files.malformed_file", Some(place)),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn an_array_that_is_still_being_written_may_end_anywhere_between_elements() {
        for text in ["", "[", "[\n", "[\n{}", "[\n{},\n[]"] {
            let mut framer = framer(text.as_bytes(), Layout::Values, 1);
            framer.is_open_ended = true;
            while framer.next().unwrap().is_some() {}
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_read_over_and_its_beginning_kept() {
        let text = format!("1\n{}\n2\n{}", "x".repeat(900_000), "y".repeat(5_000));
        for step in [1_000, 300_000, usize::MAX] {
            let records = cut(text.as_bytes(), Layout::Lines, step).unwrap();
            let lengths: Vec<_> = records
                .iter()
                .map(|(text, line, ..)| (text.len(), *line))
                .collect();
            assert_eq!(
                lengths,
                [(1, 1), (KEPT_BYTES_MAX, 2), (1, 3), (KEPT_BYTES_MAX, 4)],
                "{step}"
            );
        }
    }
}
