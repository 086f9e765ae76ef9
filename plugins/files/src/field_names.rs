//! The names of the fields of a collection, and where a name in a record belongs.
//!
//! This is asked for each member of each record, so the usual case is one comparison. Neighbours: [`crate::inference`] and
//! [`crate::fit`].

use std::collections::HashMap;

/// Names of fields with their positions. Records mostly have the same members in the same order, so it guesses the
/// next one before it looks it up.
#[derive(Debug, Default)]
pub(crate) struct FieldNames {
    names: Vec<Box<str>>,
    index: HashMap<Box<str>, usize>,
    /// Per field the one that followed it in the last record.
    followers: Vec<usize>,
}

impl FieldNames {
    /// The position of a name as written in the file; `None` if it is new. Then `spelled` has its text.
    #[inline]
    pub(crate) fn find(
        &self,
        guess: usize,
        name: &[u8],
        is_escaped: bool,
        spelled: &mut String,
    ) -> Option<usize> {
        if !is_escaped
            && self
                .names
                .get(guess)
                .is_some_and(|known| known.as_bytes() == name)
        {
            return Some(guess);
        }
        spelled.clear();
        // The scanner and the check for UTF-8 have accepted both forms.
        let text = std::str::from_utf8(name).unwrap_or_default();
        if is_escaped {
            *spelled = serde_json::from_str(&format!("\"{text}\"")).unwrap_or_default();
        } else {
            spelled.push_str(text);
        }
        self.index.get(spelled.as_str()).copied()
    }

    /// Adds a name that is not there; its position.
    pub(crate) fn push(&mut self, name: &str) -> usize {
        let position = self.names.len();
        self.names.push(name.into());
        self.index.insert(name.into(), position);
        self.followers.push(position + 1);
        position
    }

    /// Forgets all from the position `length` on.
    pub(crate) fn truncate(&mut self, length: usize) {
        for name in self.names.drain(length..) {
            self.index.remove(&name);
        }
        self.followers.truncate(length);
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// The position of a name as it is spelled.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// The field that followed this one in the last record; a good guess.
    pub(crate) fn follower(&self, position: usize) -> usize {
        self.followers[position]
    }

    /// Notes which field followed.
    pub(crate) fn follow(&mut self, position: usize, follower: usize) {
        self.followers[position] = follower;
    }
}
