//! What a lane's checkpoint says of the records up to its cursor, beside how many were written: counts, and at which snapshots of the
//! source they were read.
//!
//! So that a resumed run can tell of the whole copy and not of its own part alone.

use std::collections::BTreeMap;

use crate::events::SnapshotsRead;

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
/// The names of the snapshots, as a list in JSON.
const SNAPSHOTS: &str = "whimbrel.snapshots";

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

/// The snapshots that a checkpoint names; none if it names none, or in a form of another program.
pub fn lane_snapshots(extensions: &BTreeMap<String, String>) -> SnapshotsRead {
    let text = extensions.get(SNAPSHOTS);
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// The same as an extension of a checkpoint, if there are any.
pub fn snapshots_extension(read: &SnapshotsRead) -> Option<(String, String)> {
    let text = serde_json::to_string(read).ok()?;
    (!read.names().is_empty()).then(|| (SNAPSHOTS.to_owned(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_survive_a_checkpoint_and_nonsense_names_none() {
        let mut read = SnapshotsRead::default();
        assert_eq!(snapshots_extension(&read), None);
        read.note("2024-05-05T05:05:05Z");
        read.note("an \"other\" one");
        let mut extensions: BTreeMap<_, _> = snapshots_extension(&read).into_iter().collect();
        assert_eq!(lane_snapshots(&extensions), read);
        extensions.insert(SNAPSHOTS.to_owned(), "now".to_owned());
        assert_eq!(lane_snapshots(&extensions), SnapshotsRead::default());
    }

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
