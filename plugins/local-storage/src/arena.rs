//! Decoded text held once, and parts of it by position.
//!
//! Records are many and borrow from text that lives beside them, so they keep positions instead of slices.

/// A part of a text, in octets. 32 bits are enough: files are below 2 GiB, and decoding makes no text longer than
/// twice the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }

    pub fn size(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// Decoded text of all entries, end to end.
#[derive(Debug, Default)]
pub struct Arena(pub String);

impl Arena {
    pub fn add(&mut self, text: &str) -> Span {
        let start = self.0.len() as u32;
        self.0.push_str(text);
        Span {
            start,
            end: self.0.len() as u32,
        }
    }

    /// The span of `part`, which is a slice of this arena.
    pub fn span_of(&self, part: &str) -> Span {
        let start = part.as_ptr().addr() - self.0.as_ptr().addr();
        Span {
            start: start as u32,
            end: (start + part.len()) as u32,
        }
    }
}
