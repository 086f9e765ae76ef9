//! What a lane's checkpoint says of the records up to its cursor, beside how many were written.
//!
//! So that a resumed run can tell of the whole copy and not of its own part alone.

use std::collections::BTreeMap;

/// Records of a partition from its start on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Read from the source.
    pub read: u64,
    /// Left out on purpose by transforms.
    pub filtered: u64,
    /// Written, but left as they were by policy.
    pub skipped: u64,
    /// Refused by source, transforms or sink.
    pub rejected: u64,
}

const READ: &str = "whimbrel.read";
const FILTERED: &str = "whimbrel.filtered";
const SKIPPED: &str = "whimbrel.skipped";
const REJECTED: &str = "whimbrel.rejected";

impl LaneCounts {
    /// Those of a checkpoint; what it does not say is 0.
    pub fn of(extensions: &BTreeMap<String, String>) -> Self {
        let of = |name: &str| {
            let text = extensions.get(name).map(String::as_str).unwrap_or_default();
            // What another program left there counts as nothing: the figures are for people.
            text.parse().unwrap_or(0)
        };
        Self {
            read: of(READ),
            filtered: of(FILTERED),
            skipped: of(SKIPPED),
            rejected: of(REJECTED),
        }
    }

    /// As the extensions of a checkpoint.
    pub fn to_extensions(self) -> BTreeMap<String, String> {
        let all = [
            (READ, self.read),
            (FILTERED, self.filtered),
            (SKIPPED, self.skipped),
            (REJECTED, self.rejected),
        ];
        let said = all.into_iter().filter(|(_, count)| *count > 0);
        said.map(|(name, count)| (name.to_owned(), count.to_string()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_a_checkpoint_and_nonsense_counts_as_nothing() {
        let counts = LaneCounts {
            read: 7,
            filtered: 0,
            skipped: 2,
            rejected: u64::MAX,
        };
        let mut extensions = counts.to_extensions();
        assert_eq!(extensions.len(), 3);
        assert_eq!(LaneCounts::of(&extensions), counts);
        extensions.insert(READ.to_owned(), "many".to_owned());
        assert_eq!(LaneCounts::of(&extensions).read, 0);
    }
}
