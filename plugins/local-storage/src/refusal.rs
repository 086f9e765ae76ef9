//! Entries that are not delivered as a whole: keys that stand twice, and text that is not valid Unicode.
//!
//! Single records of an entry can be refused too, for the second reason (`grouping`).

use std::collections::HashMap;

use crate::config::{LocalStorageConfig, LoneSurrogates};
use crate::export_file::Export;

/// Why an entry as a whole is not delivered.
#[derive(Clone, Copy)]
pub enum Refusal {
    KeyTwice,
    LoneSurrogate,
    LoneSurrogateTwice,
}

impl Refusal {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::KeyTwice => KEY_TWICE,
            Self::LoneSurrogate | Self::LoneSurrogateTwice => LONE_SURROGATE,
        }
    }

    /// The reason, for a person.
    pub fn message(self) -> &'static str {
        match self {
            Self::KeyTwice => "the key stands earlier in the file; the earlier entry is kept",
            Self::LoneSurrogate => "the entry holds half of a surrogate pair",
            Self::LoneSurrogateTwice => {
                "with half of a surrogate pair replaced, the key is that of another entry"
            }
        }
    }
}

/// Code of entries whose key is there already.
pub const KEY_TWICE: &str = "local_storage.key_twice";
/// Code of entries and records that are not valid Unicode.
pub const LONE_SURROGATE: &str = "local_storage.lone_surrogate";

/// The entries that are not delivered, by index.
pub fn refusals(export: &Export, config: &LocalStorageConfig) -> HashMap<usize, Refusal> {
    let mut refused = HashMap::new();
    let mut seen: HashMap<(Option<u32>, &str), bool> = HashMap::with_capacity(export.entries.len());
    for (index, entry) in export.entries.iter().enumerate() {
        let is_lone = entry.key_replaced || entry.value_replaced;
        if is_lone && config.lone_surrogates == LoneSurrogates::Reject {
            refused.insert(index, Refusal::LoneSurrogate);
            continue;
        }
        let identity = (entry.origin, entry.key.of(&export.arena.0));
        match seen.get(&identity) {
            Some(replaced) if *replaced || entry.key_replaced => {
                refused.insert(index, Refusal::LoneSurrogateTwice);
            }
            Some(_) => {
                refused.insert(index, Refusal::KeyTwice);
            }
            None => {
                seen.insert(identity, entry.key_replaced);
            }
        }
    }
    refused
}
