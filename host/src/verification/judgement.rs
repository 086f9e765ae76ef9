//! From all that a verification has found to how it ended: the one place that decides between equal, different and unsure.
//!
//! Neighbours: the orchestrator asks, `cli::exit_code` and [`crate::report`] say what it means.

use whimbrel_plugin_api::{Error, ErrorKind};

use crate::events::{CHANGED_SINCE, Comparison, ReferenceResult, RuleResult, RuleState, VerificationResult};

/// The code of an end at which a rule could not be looked at.
pub const RULE_UNCHECKED: &str = "rule.unchecked";

/// How a verification ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// Nothing differs.
    Equal,
    /// Something does.
    Different,
    /// Nothing is known to differ, but of some records it cannot be said, for this reason.
    Unsure(Error),
}

/// Both sides are equal if no record and no schema differs, no record of the sink has lost its parent on the way, and no rule
/// is broken. Records that were changed meanwhile, and rules that could not be looked at, make that unsure, not different.
pub fn judge(
    results: &[VerificationResult],
    sink_references: &[ReferenceResult],
    rules: &[RuleResult],
) -> Judgement {
    let differs =
        |result: &VerificationResult| result.comparison == Comparison::Different || result.mismatch_count > 0;
    if results.iter().any(differs)
        || sink_references
            .iter()
            .any(|reference| reference.sink_only_count > 0)
        || rules.iter().any(|rule| rule.state == RuleState::Broken)
    {
        return Judgement::Different;
    }
    let changed: Vec<&VerificationResult> = results
        .iter()
        .filter(|result| result.changed_since_count > 0)
        .collect();
    let unchecked = rules.iter().find(|rule| rule.state == RuleState::Unchecked);
    match (changed.first(), unchecked) {
        (None, None) => Judgement::Equal,
        (Some(first), _) => Judgement::Unsure(changed_since(first, &changed)),
        (None, Some(rule)) => Judgement::Unsure(not_looked_at(rule)),
    }
}

fn not_looked_at(rule: &RuleResult) -> Error {
    let reason = rule.reason.as_deref().unwrap_or("for no known reason");
    let message = format!("the rule `{}` could not be looked at: {reason}", rule.name);
    Error::new(ErrorKind::Integrity, RULE_UNCHECKED, message)
        .with_help("put the rule right, and look again with `whimbrel verify`")
}

fn changed_since(first: &VerificationResult, changed: &[&VerificationResult]) -> Error {
    let records: u64 = changed.iter().map(|result| result.changed_since_count).sum();
    let others = match changed.len() - 1 {
        0 => String::new(),
        1 => " and 1 other collection".to_owned(),
        others => format!(" and {others} other collections"),
    };
    let plural = if records == 1 { "" } else { "s" };
    Error::new(
        ErrorKind::Integrity,
        CHANGED_SINCE,
        format!(
            "{records} record{plural} of `{}`{others} changed in the source while both sides were compared: they are neither \
             equal nor different",
            first.source
        ),
    )
    .with_help("compare again when nobody writes to the source, or copy what has changed and compare then")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VerificationLevel;

    fn result(name: &str, mismatch_count: u64, changed_since_count: u64) -> VerificationResult {
        VerificationResult {
            mismatch_count,
            changed_since_count,
            comparison: match mismatch_count {
                0 => Comparison::Equal,
                _ => Comparison::Different,
            },
            ..VerificationResult::begun(name, name, VerificationLevel::Comprehensive)
        }
    }

    fn reference(orphan_count: u64, sink_only_count: u64) -> ReferenceResult {
        ReferenceResult {
            orphan_count,
            sink_only_count,
            ..ReferenceResult::default()
        }
    }

    fn rule(state: RuleState) -> RuleResult {
        RuleResult {
            state,
            ..RuleResult::default()
        }
    }

    #[test]
    fn only_what_the_source_does_not_have_makes_both_sides_different() {
        let equal = result("a", 0, 0);
        let held = rule(RuleState::Held);
        assert_eq!(judge(&[], &[], &[]), Judgement::Equal);
        assert_eq!(
            judge(
                std::slice::from_ref(&equal),
                &[reference(7, 0)],
                std::slice::from_ref(&held)
            ),
            Judgement::Equal
        );
        for (results, references, rules) in [
            (vec![equal.clone(), result("b", 1, 0)], vec![], vec![]),
            (vec![equal.clone()], vec![reference(7, 1)], vec![]),
            (vec![equal.clone()], vec![], vec![held, rule(RuleState::Broken)]),
            (vec![equal, result("b", 1, 3)], vec![], vec![]),
        ] {
            assert_eq!(judge(&results, &references, &rules), Judgement::Different);
        }
    }

    #[test]
    fn a_rule_that_nobody_could_look_at_makes_it_unsure() {
        let unchecked = RuleResult {
            name: "totals".to_owned(),
            reason: Some("no such table".to_owned()),
            ..RuleResult::default()
        };
        let equal = [result("a", 0, 0)];
        let Judgement::Unsure(error) = judge(&equal, &[], &[rule(RuleState::Held), unchecked.clone()]) else {
            panic!("it is not known");
        };
        assert_eq!(error.code, RULE_UNCHECKED);
        assert!(error.message.contains("`totals`") && error.message.contains("no such table"));
        let broken = [unchecked, rule(RuleState::Broken)];
        assert_eq!(judge(&equal, &[], &broken), Judgement::Different);
    }

    #[test]
    fn what_changed_meanwhile_is_neither_equal_nor_different() {
        let Judgement::Unsure(error) = judge(
            &[result("a", 0, 0), result("b", 0, 2), result("c", 0, 1)],
            &[],
            &[],
        ) else {
            panic!("it is not known");
        };
        assert_eq!(error.code, CHANGED_SINCE);
        assert!(
            error
                .message
                .starts_with("3 records of `b` and 1 other collection changed"),
            "{}",
            error.message
        );
    }
}
