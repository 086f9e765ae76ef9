//! From all that a verification has found to how it ended: the one place that decides between equal, different and unsure.
//!
//! Neighbours: the orchestrator asks, `cli::exit_code` and [`crate::report`] say what it means.

use whimbrel_plugin_api::{Error, ErrorKind, ErrorSeverity};

use crate::events::{CHANGED_SINCE, Comparison, ReferenceResult, RuleResult, RuleState, VerificationResult};

/// The code of an end at which records of the source could not be compared.
pub const SOURCE_UNREADABLE: &str = "verification.source_unreadable";
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
/// is broken. Records that were changed meanwhile, records of the source that could not be read though no copy has left them out, and
/// rules that could not be looked at, make that unsure, not different.
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
    let unread = Unsure::of(results, |result| result.source_unchecked_count);
    let changed = Unsure::of(results, |result| result.changed_since_count);
    let unchecked = rules.iter().find(|rule| rule.state == RuleState::Unchecked);
    match (unread, changed, unchecked) {
        (None, None, None) => Judgement::Equal,
        // To compare again does not help against it, so it is said first.
        (Some(unread), _, _) => Judgement::Unsure(source_unreadable(&unread)),
        (None, Some(changed), _) => Judgement::Unsure(changed_since(&changed)),
        (None, None, Some(rule)) => Judgement::Unsure(not_looked_at(rule)),
    }
}

/// Records of which it cannot be said whether they are equal: how many, and of what.
struct Unsure<'a> {
    record_count: u64,
    first: &'a VerificationResult,
    collection_count: usize,
}

impl<'a> Unsure<'a> {
    /// Those that `count` says of each collection; none if there are none.
    fn of(results: &'a [VerificationResult], count: fn(&VerificationResult) -> u64) -> Option<Self> {
        let unsure: Vec<&VerificationResult> = results.iter().filter(|result| count(result) > 0).collect();
        Some(Self {
            record_count: unsure.iter().map(|result| count(result)).sum(),
            first: unsure.first()?,
            collection_count: unsure.len(),
        })
    }

    /// Such as "3 records of `b` and 1 other collection".
    fn words(&self) -> String {
        let others = match self.collection_count - 1 {
            0 => String::new(),
            1 => " and 1 other collection".to_owned(),
            others => format!(" and {others} other collections"),
        };
        let plural = if self.record_count == 1 { "" } else { "s" };
        format!(
            "{} record{plural} of `{}`{others}",
            self.record_count, self.first.source
        )
    }
}

fn source_unreadable(unread: &Unsure<'_>) -> Error {
    let message = format!(
        "{} could not be read from the source, or a transform refused them, and no copy is known to have left them out: nobody can \
         say whether the sink is right",
        unread.words()
    );
    Error::new(ErrorKind::Integrity, SOURCE_UNREADABLE, message)
        .with_severity(ErrorSeverity::High)
        .with_help("put them right in the source, or copy again: `whimbrel rejected list` then says what is wrong with each")
}

fn not_looked_at(rule: &RuleResult) -> Error {
    let reason = rule.reason.as_deref().unwrap_or("for no known reason");
    let message = format!("the rule `{}` could not be looked at: {reason}", rule.name);
    Error::new(ErrorKind::Integrity, RULE_UNCHECKED, message)
        .with_severity(ErrorSeverity::High)
        .with_help("put the rule right, and look again with `whimbrel verify`")
}

fn changed_since(changed: &Unsure<'_>) -> Error {
    Error::new(
        ErrorKind::Integrity,
        CHANGED_SINCE,
        format!(
            "{} changed in the source while both sides were compared: they are neither equal nor different",
            changed.words()
        ),
    )
    .with_severity(ErrorSeverity::Medium)
    .with_help("compare again when nobody writes to the source, or copy what has changed and compare then")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VerificationLevel;

    fn result(name: &str, mismatch_count: u64, changed_since_count: u64) -> VerificationResult {
        let mut result = VerificationResult {
            mismatch_count,
            changed_since_count,
            ..VerificationResult::begun(name, name, VerificationLevel::Comprehensive)
        };
        result.conclude();
        result
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
    fn what_the_source_cannot_deliver_makes_it_unsure_unless_a_copy_has_left_it_out() {
        let with = |unreadable, explained| {
            let mut result = result("a", 0, 0);
            result.note_source_unreadable(unreadable, explained);
            result
        };
        assert_eq!(judge(&[with(3, 3), with(0, 5)], &[], &[]), Judgement::Equal);
        let Judgement::Unsure(error) = judge(&[with(3, 1), with(3, 3), result("b", 0, 7)], &[], &[]) else {
            panic!("it is not known");
        };
        assert_eq!(error.code, SOURCE_UNREADABLE);
        assert!(
            error.message.starts_with("2 records of `a` could not be read"),
            "{}",
            error.message
        );
        let differs = [with(3, 0), result("b", 1, 0)];
        assert_eq!(judge(&differs, &[], &[]), Judgement::Different);
    }

    #[test]
    fn a_collection_says_of_itself_what_the_task_says_that_has_compared_it_alone() {
        for (mismatch_count, changed_since_count, unchecked_count, wanted) in [
            (0, 0, 0, Comparison::Equal),
            (0, 1, 0, Comparison::Undecided),
            (0, 0, 1, Comparison::Undecided),
            (1, 1, 1, Comparison::Different),
        ] {
            let mut result = result("a", mismatch_count, changed_since_count);
            result.source_unchecked_count = unchecked_count;
            result.conclude();
            assert_eq!(result.comparison, wanted);
            let judged = match judge(&[result], &[], &[]) {
                Judgement::Equal => Comparison::Equal,
                Judgement::Different => Comparison::Different,
                Judgement::Unsure(_) => Comparison::Undecided,
            };
            assert_eq!(judged, wanted);
        }
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
