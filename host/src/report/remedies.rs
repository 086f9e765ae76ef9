//! What removes a cause, by the phase in which it showed and by its kind, and what is in the sink after each phase.
//!
//! The whole table is here. A kind or a phase without advice does not compile. Neighbour: `next_steps`, which adds the commands.

use whimbrel_plugin_api::ErrorKind;

use crate::events::Phase;

/// What removes a cause of `kind` that showed in `phase`.
pub const fn remedy(phase: Phase, kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Config => of_config(phase),
        ErrorKind::Unauthenticated => {
            "renew the credentials that the job names; a token may have expired during the run"
        }
        ErrorKind::Permission => of_permission(phase),
        ErrorKind::NotFound => of_not_found(phase),
        ErrorKind::Exists => {
            "empty the target, name another one, or choose a conflict policy other than `fail`"
        }
        ErrorKind::Unavailable => match phase {
            Phase::PostMigration => {
                "look whether the system is up and the disk has room; then carry out the hook"
            }
            _ => "look whether the system is up, can be reached from here, and has room on its disk",
        },
        ErrorKind::Timeout => {
            "look for locks and load on the system; if it is only slow, raise `limits.call_timeout_secs`"
        }
        ErrorKind::RateLimited => {
            "wait, ask for a higher quota, or lower `limits.collections_parallel` and `limits.partitions_parallel`"
        }
        ErrorKind::Cancelled => "nothing is broken: the run was asked to end",
        ErrorKind::InvalidData => of_invalid_data(phase),
        ErrorKind::Integrity => of_integrity(phase),
        ErrorKind::Unsupported => {
            "choose another way in the job: the connector does not offer this one (`whimbrel plugin info` lists what it offers)"
        }
        ErrorKind::Internal => {
            "this is a defect: keep the folder of the run, and report it with `migration-log.json` and the plugin's version"
        }
    }
}

const fn of_config(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation | Phase::Verification => "correct the job at the place that the error names",
        Phase::Extraction => "correct the source's settings in the job",
        Phase::Transformation => "correct the settings of the transform that the error names",
        Phase::Import => "correct the sink's settings or the conflict policy in the job",
        Phase::PostMigration => "correct the hook's settings in the job",
    }
}

const fn of_permission(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation => "grant the account the right to what the error names",
        Phase::Extraction | Phase::Verification => "grant the account the right to read what the error names",
        Phase::Import => "grant the account the right to write what the error names",
        Phase::Transformation | Phase::PostMigration => {
            "grant the user of this host the right to what the error names"
        }
    }
}

const fn of_not_found(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation => "look whether what the error names is there, or take it out of the job",
        Phase::Extraction => "look up how the source spells the name, or take the collection out of the job",
        Phase::Transformation => "look whether the field or file that the transform names is there",
        Phase::Import | Phase::Verification => {
            "look whether somebody dropped or renamed the collection in the sink during the run"
        }
        Phase::PostMigration => "look whether the hook's command or file is there",
    }
}

const fn of_invalid_data(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation => "correct the input at the place that the error names",
        Phase::Extraction | Phase::Import => {
            "look at the rejected records; correct them in the source, convert them with a transform, or raise `import.max_errors`"
        }
        Phase::Transformation => {
            "look at the rejected records and change the transform so that it takes their values"
        }
        Phase::Verification => "look at the record that could not be read back, and at what its column holds",
        Phase::PostMigration => "correct the file that the hook was to change",
    }
}

const fn of_integrity(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation | Phase::Extraction => {
            "look for damage in what the error names: it contradicts itself; restore it or leave it out"
        }
        Phase::Transformation => "give each record one key: the transform made two the same, or lost a key",
        Phase::Import => {
            "look at the constraint that the error names, and whether another run or application writes the same target"
        }
        Phase::Verification => {
            "look at the differences listed: an application that still writes, a record changed by hand, or a lossy type"
        }
        Phase::PostMigration => "look at what the hook found to contradict itself",
    }
}

/// What is in the sink after `phase` failed, and how to go on.
pub const fn then(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation => "nothing was written; look again, then start the job",
        Phase::Extraction | Phase::Transformation | Phase::Import => {
            "what was committed stays in the sink, whole transactions only; resume the run after the repair"
        }
        Phase::Verification => "the records are in the sink; compare again, nothing need be copied",
        Phase::PostMigration => "the records are in the sink; carry out by hand what did not happen",
    }
}

/// What [`then`] says, after a task that cannot be gone on with.
pub const fn then_anew(phase: Phase) -> &'static str {
    match phase {
        Phase::Extraction | Phase::Transformation | Phase::Import => {
            "what was committed stays, whole transactions only; give the command again after the repair"
        }
        Phase::PreValidation | Phase::Verification | Phase::PostMigration => then(phase),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_phase_has_advice_for_each_kind() {
        let kinds: Vec<ErrorKind> = (1..=13).map(ErrorKind::from).collect();
        assert_eq!(
            kinds.iter().map(|kind| kind.name()).collect::<HashSet<_>>().len(),
            13
        );
        for phase in [
            Phase::PreValidation,
            Phase::Extraction,
            Phase::Transformation,
            Phase::Import,
            Phase::Verification,
            Phase::PostMigration,
        ] {
            let remedies: Vec<&str> = kinds.iter().map(|kind| remedy(phase, *kind)).collect();
            for text in remedies.iter().chain(&[then(phase)]) {
                assert!(text.len() > 20 && !text.ends_with('.'), "{text}");
            }
            let distinct: HashSet<&&str> = remedies.iter().collect();
            assert_eq!(
                distinct.len(),
                kinds.len(),
                "{phase:?}: one text serves two kinds"
            );
        }
    }
}
