//! What a job wants of records that the sink has already, by collection, once the collections are planned.
//! Neighbours: `job` has the rules, `import` what holds where a rule says nothing.

use whimbrel_plugin_api::ConflictPolicy;

use super::{CollectionJob, Job};

impl Job {
    /// What happens to records of `source` whose key the collection `sink` already has. A sink's name may come from a transform:
    /// where several rules without a name for it copy the same collection, the one that leaves most as it is stands for them.
    pub fn policy_of(&self, source: &str, sink: &str) -> ConflictPolicy {
        let of_source = || {
            let rules = self.collections.iter().flatten();
            rules.filter(|rule| rule.source == source)
        };
        let policy = |rule: &CollectionJob| rule.conflict_policy(&self.import);
        let named = of_source().find(|rule| rule.sink.as_deref() == Some(sink));
        let unnamed = || of_source().filter(|rule| rule.sink.is_none()).map(policy);
        named
            .map(policy)
            .or_else(|| unnamed().max_by_key(|policy| caution(*policy)))
            .unwrap_or(self.import.on_conflict)
    }
}

/// Whether a record that the sink has may rightly differ from the source's under `policy`.
pub const fn keeps_stored(policy: ConflictPolicy) -> bool {
    matches!(
        policy,
        ConflictPolicy::Skip | ConflictPolicy::KeepNewest | ConflictPolicy::KeepOldest
    )
}

const fn caution(policy: ConflictPolicy) -> u8 {
    match policy {
        policy if keeps_stored(policy) => 2,
        ConflictPolicy::Merge => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rule_of_a_collection_goes_before_the_job_and_the_most_careful_one_before_others() {
        let job: Job = serde_json::from_value(json!({
            "name": "j", "source": { "plugin": "p" }, "sink": { "plugin": "p" },
            "import": { "on_conflict": "merge" },
            "collections": [
                { "source": "a", "on_conflict": "skip" },
                { "source": "b", "sink": "c", "on_conflict": "keep-newest" },
                { "source": "b", "on_conflict": "overwrite" },
                { "source": "b", "on_conflict": "keep-oldest" },
                { "source": "d" },
            ],
        }))
        .unwrap();
        for (source, sink, expected) in [
            ("a", "a", ConflictPolicy::Skip),
            ("b", "c", ConflictPolicy::KeepNewest),
            ("b", "b", ConflictPolicy::KeepOldest),
            ("d", "renamed", ConflictPolicy::Merge),
            ("nowhere", "nowhere", ConflictPolicy::Merge),
        ] {
            assert_eq!(job.policy_of(source, sink), expected, "{source} {sink}");
        }
        assert!(keeps_stored(ConflictPolicy::Skip) && !keeps_stored(ConflictPolicy::Merge));
    }
}
