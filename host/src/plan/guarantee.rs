//! What a copy promises of each collection if it is interrupted and gone on with: once, once in effect, or at least once.
//!
//! From what source and sink say of themselves and from the job's rules; a sink that is set up to promise less than it can says so by
//! a finding. Also refused here: what would add records twice without anybody having agreed. Pure, as all of the plan.

use whimbrel_plugin_api::capability::{Atomicity, SinkCapabilities, SourceCapabilities};
use whimbrel_plugin_api::check::FindingLevel;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::sink::PrepareReport;
use whimbrel_plugin_api::{ConflictPolicy, Finding};

use super::{PlannedCollection, policy_name};
use crate::events::{CollectionGuarantee, FoundBy, Guarantee};

/// How the code of a sink's finding ends that says: it is set up to write without keeping how far the copy is, although it could.
const IDEMPOTENT_SUFFIX: &str = ".idempotent";

/// What both sides can do.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// The source.
    pub source: &'a SourceCapabilities,
    /// The sink.
    pub sink: &'a SinkCapabilities,
    /// Whether the sink is written from a stage, in the middle of which a run goes on whatever the source can do.
    pub is_staged: bool,
}

/// What is promised of each collection, in the order of the plan. `findings` are those made before the run.
pub fn guarantees(
    planned: &[PlannedCollection],
    sides: Sides<'_>,
    findings: &[FoundBy],
) -> Vec<CollectionGuarantee> {
    let one = |planned: &PlannedCollection| {
        let (guarantee, reason) = guarantee(planned, sides, is_lowered(planned, findings));
        CollectionGuarantee {
            collection: planned.source.name.clone(),
            guarantee,
            reason,
        }
    };
    planned.iter().map(one).collect()
}

/// Whether the sink has said that it is set up to promise less.
fn is_lowered(planned: &PlannedCollection, findings: &[FoundBy]) -> bool {
    findings.iter().any(|found| {
        let finding = &found.finding;
        let is_about = finding
            .collection
            .as_ref()
            .is_none_or(|name| *name == planned.sink.name);
        found.role == Some(Role::Sink) && is_about && finding.code.ends_with(IDEMPOTENT_SUFFIX)
    })
}

fn guarantee(planned: &PlannedCollection, sides: Sides<'_>, is_lowered: bool) -> (Guarantee, String) {
    let Sides {
        source,
        sink,
        is_staged,
    } = sides;
    let is_atomic = matches!(sink.atomicity, Atomicity::Transactional | Atomicity::Conditional);
    let keeps_lanes = sink.lanes && is_atomic && !is_lowered;
    let holds_within_snapshot = planned.source.within_snapshot && !is_staged;
    if keeps_lanes && (source.resume || is_staged) && !holds_within_snapshot {
        let reason = "the sink keeps how far the copy is together with the records, so an interrupted run goes on \
                      exactly there";
        return (Guarantee::ExactlyOnce, reason.to_owned());
    }
    if keeps_lanes && holds_within_snapshot && !can_repeat(planned, sink) {
        let reason = "the source reads it within one snapshot only, so an interrupted run is refused for it rather than to write \
                      records twice, until it was emptied in the target";
        return (Guarantee::AtMostOnce, reason.to_owned());
    }
    let why = if keeps_lanes && holds_within_snapshot {
        "the source reads it within one snapshot only, so a resumed run copies it again from its start"
    } else if keeps_lanes {
        "the source cannot go on in the middle of a partition"
    } else if is_lowered {
        "the sink is set up not to keep how far the copy is together with the records"
    } else if sink.atomicity == Atomicity::Append {
        "the sink only appends"
    } else {
        "the sink does not keep how far the copy is together with the records"
    };
    let again = "after an interruption records may be written again";
    let name = policy_name(planned.policy);
    if planned.sink.key.is_empty() {
        let reason = format!("{why}, and the collection has no key: {again} and be there twice");
        return (Guarantee::AtLeastOnce, reason);
    }
    let can_replace = sink.upsert || sink.atomicity == Atomicity::Idempotent;
    match planned.policy {
        ConflictPolicy::Append => {
            let reason = format!("{why}, and `{name}` knows no keys: {again} and be there twice");
            (Guarantee::AtLeastOnce, reason)
        }
        ConflictPolicy::Fail => {
            let reason = format!("{why}: {again}, and `{name}` lists them as rejected then");
            (Guarantee::AtLeastOnce, reason)
        }
        _ if can_replace => {
            let reason = format!("{why}: {again}, which changes nothing, since `{name}` goes by their key");
            (Guarantee::Idempotent, reason)
        }
        _ => {
            let reason = format!("{why}, and it replaces no records: {again} and be there twice");
            (Guarantee::AtLeastOnce, reason)
        }
    }
}

/// Whether all records of a collection may be written over those that are there of it already, and none is there twice then, nor
/// refused for it.
pub fn can_repeat(planned: &PlannedCollection, sink: &SinkCapabilities) -> bool {
    let goes_by_key = !matches!(planned.policy, ConflictPolicy::Append | ConflictPolicy::Fail);
    !planned.sink.key.is_empty() && goes_by_key && sink.upsert && sink.policies.contains(&planned.policy)
}

/// Judges collections whose target holds records already in a sink that can only add further ones: nobody could tell whether they
/// are those of an earlier run that was interrupted. Such a collection is refused, or if the job `allows` it is added to with a
/// warning. `findings` are those of [`super::settle`], which is asked first; of such a collection, those that are settled by the
/// job's consent are taken out.
pub fn settle_duplicates(
    planned: &mut [PlannedCollection],
    report: &PrepareReport,
    sink: &SinkCapabilities,
    allows: bool,
    findings: &mut Vec<Finding>,
) {
    if sink.atomicity != Atomicity::Append || sink.lanes {
        return;
    }
    for collection in planned {
        let name = collection.sink.name.clone();
        let prepared = report.collections.iter().find(|prepared| prepared.name == name);
        let Some(prepared) = prepared.filter(|prepared| prepared.existed && prepared.record_count != Some(0))
        else {
            continue;
        };
        let held = prepared
            .record_count
            .map_or_else(|| "some".to_owned(), |count| count.to_string());
        if allows && sink.policies.contains(&ConflictPolicy::Append) {
            let is_settled = |finding: &Finding| {
                finding.collection.as_ref() == Some(&name)
                    && ["plan.no_key", "plan.policy_unsupported"].contains(&finding.code.as_str())
            };
            findings.retain(|finding| !is_settled(finding));
            collection.policy = ConflictPolicy::Append;
            let message = format!(
                "records are added to the {held} that `{name}` holds, also those that are there already"
            );
            findings.push(Finding::warning("plan.duplicates", message).with_collection(&name));
        } else if !is_refused(findings, &name) {
            let message = format!(
                "`{name}` already holds {held} records and the sink only appends: those of an interrupted run would be there twice"
            );
            let finding = Finding::blocker("plan.duplicates", message)
                .with_help("empty the target, or agree to it with `--allow-duplicates`");
            findings.push(finding.with_collection(&name));
        }
    }
}

fn is_refused(findings: &[Finding], collection: &str) -> bool {
    findings.iter().any(|finding| {
        finding.level == FindingLevel::Blocker && finding.collection.as_deref() == Some(collection)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VerificationLevel;
    use whimbrel_plugin_api::sink::PreparedCollection;
    use whimbrel_plugin_api::{Collection, Field, RecordType, Schema};

    fn planned(name: &str, key: &[&str], policy: ConflictPolicy) -> PlannedCollection {
        let schema = Schema::new(vec![Field::new("id", RecordType::INT64)]);
        let collection = Collection::new(name, schema).with_key(key.iter().copied());
        PlannedCollection {
            sink: collection.clone(),
            source: collection,
            transforms: [].into(),
            policy,
            verification: VerificationLevel::Standard,
            limit: None,
            waits_for: Vec::new(),
            held_back: Vec::new(),
            left_out: Vec::new(),
        }
    }

    fn sink(atomicity: Atomicity, lanes: bool, upsert: bool) -> SinkCapabilities {
        SinkCapabilities {
            atomicity,
            lanes,
            upsert,
            policies: vec![ConflictPolicy::Append],
            ..SinkCapabilities::default()
        }
    }

    fn source(resume: bool) -> SourceCapabilities {
        SourceCapabilities {
            resume,
            ..SourceCapabilities::default()
        }
    }

    fn promised(
        key: &[&str],
        policy: ConflictPolicy,
        resume: bool,
        sink: &SinkCapabilities,
        finding: Option<Finding>,
    ) -> (Guarantee, String) {
        let findings: Vec<FoundBy> = finding
            .into_iter()
            .map(|finding| FoundBy {
                role: Some(Role::Sink),
                finding,
            })
            .collect();
        let source = source(resume);
        let sides = Sides {
            source: &source,
            sink,
            is_staged: false,
        };
        let mut all = guarantees(&[planned("a", key, policy)], sides, &findings);
        let one = all.remove(0);
        assert_eq!(one.collection, "a");
        (one.guarantee, one.reason)
    }

    #[test]
    fn the_guarantee_follows_from_both_sides_and_the_rules_of_the_collection() {
        use Atomicity::{Append, Conditional, Idempotent, Transactional};
        use ConflictPolicy::{Append as AppendPolicy, Fail, KeepNewest, Merge, Overwrite, Skip};
        use Guarantee::{AtLeastOnce, ExactlyOnce};
        let id: &[&str] = &["id"];
        for (atomicity, lanes, upsert, resume, key, policy, wanted) in [
            (Transactional, true, true, true, id, Overwrite, ExactlyOnce),
            (Conditional, true, true, true, id, Overwrite, ExactlyOnce),
            // With lanes neither key nor policy matter.
            (Transactional, true, true, true, &[], AppendPolicy, ExactlyOnce),
            (Transactional, true, true, true, id, Fail, ExactlyOnce),
            (Transactional, true, true, false, id, Merge, Guarantee::Idempotent),
            (Transactional, true, true, false, &[], AppendPolicy, AtLeastOnce),
            (Transactional, true, true, false, id, Fail, AtLeastOnce),
            (
                Transactional,
                false,
                true,
                true,
                id,
                KeepNewest,
                Guarantee::Idempotent,
            ),
            (
                Idempotent,
                false,
                false,
                true,
                id,
                Overwrite,
                Guarantee::Idempotent,
            ),
            // Lanes that are not written together with the records promise nothing.
            (Idempotent, true, false, true, id, Skip, Guarantee::Idempotent),
            (Idempotent, false, true, true, &[], Overwrite, AtLeastOnce),
            (Append, true, false, true, id, Overwrite, AtLeastOnce),
            (Append, false, false, true, id, AppendPolicy, AtLeastOnce),
            (Append, false, false, true, &[], AppendPolicy, AtLeastOnce),
            (Append, false, true, true, id, Overwrite, Guarantee::Idempotent),
        ] {
            let (guarantee, reason) = promised(key, policy, resume, &sink(atomicity, lanes, upsert), None);
            assert_eq!(
                guarantee, wanted,
                "{atomicity:?} {lanes} {upsert} {resume} {key:?} {policy:?}"
            );
            assert!(reason.len() > 30 && !reason.ends_with('.'), "{reason}");
        }
    }

    #[test]
    fn reasons_name_what_stands_in_the_way() {
        let append = sink(Atomicity::Append, false, false);
        let (_, reason) = promised(&["id"], ConflictPolicy::Append, true, &append, None);
        assert_eq!(
            reason,
            "the sink only appends, and `append` knows no keys: after an interruption records may be written again and be there \
             twice"
        );
        let whole = sink(Atomicity::Transactional, true, true);
        let (_, reason) = promised(&["id"], ConflictPolicy::Skip, false, &whole, None);
        assert!(reason.starts_with("the source cannot go on"), "{reason}");
    }

    #[test]
    fn what_is_read_within_one_snapshot_is_copied_again_by_key_or_at_most_once() {
        use ConflictPolicy::{Append, Fail, Overwrite, Skip};
        let sink = SinkCapabilities {
            policies: vec![Append, Fail, Overwrite, Skip],
            ..sink(Atomicity::Transactional, true, true)
        };
        let source = source(true);
        let promised = |key: &[&str], policy, is_staged| {
            let mut planned = planned("log", key, policy);
            planned.source.within_snapshot = true;
            let sides = Sides {
                source: &source,
                sink: &sink,
                is_staged,
            };
            let mut both = guarantees(&[planned, self::planned("a", &["id"], Overwrite)], sides, &[]);
            assert_eq!(
                both.pop().unwrap().guarantee,
                Guarantee::ExactlyOnce,
                "the other one"
            );
            let one = both.pop().unwrap();
            assert!(one.guarantee == Guarantee::ExactlyOnce || one.reason.contains("one snapshot"));
            one.guarantee
        };
        for policy in [Overwrite, Skip] {
            assert_eq!(promised(&["id"], policy, false), Guarantee::Idempotent);
        }
        for policy in [Append, Fail] {
            assert_eq!(promised(&["id"], policy, false), Guarantee::AtMostOnce);
        }
        assert_eq!(promised(&[], Append, false), Guarantee::AtMostOnce);
        // The records of a stage are there again, in the same order.
        assert_eq!(promised(&[], Append, true), Guarantee::ExactlyOnce);
    }

    #[test]
    fn a_sink_says_that_it_is_set_up_to_promise_less() {
        let whole = sink(Atomicity::Conditional, true, true);
        let finding = |code: &str| Finding::warning(code, "no guard");
        let one =
            |finding: Finding| promised(&["id"], ConflictPolicy::Overwrite, true, &whole, Some(finding)).0;
        assert_eq!(one(finding("ibis.idempotent")), Guarantee::Idempotent);
        assert_eq!(
            one(finding("ibis.idempotent").with_collection("a")),
            Guarantee::Idempotent
        );
        assert_eq!(
            one(finding("ibis.idempotent").with_collection("b")),
            Guarantee::ExactlyOnce
        );
        assert_eq!(one(finding("ibis.idempotent_not")), Guarantee::ExactlyOnce);
    }

    fn report(existed: bool, record_count: Option<u64>) -> PrepareReport {
        PrepareReport {
            collections: vec![PreparedCollection {
                name: "a".to_owned(),
                existed,
                record_count,
                ..PreparedCollection::default()
            }],
            ..PrepareReport::default()
        }
    }

    /// The codes that are found for a collection, by both, and its policy in the end.
    fn settled(
        collection: PlannedCollection,
        report: &PrepareReport,
        sink: &SinkCapabilities,
        allows: bool,
    ) -> (Vec<String>, ConflictPolicy) {
        let mut planned = [collection];
        let mut findings = super::super::settle(&mut planned, report, sink);
        settle_duplicates(&mut planned, report, sink, allows, &mut findings);
        let codes = findings
            .iter()
            .map(|finding| format!("{:?} {}", finding.level, finding.code));
        (codes.collect(), planned[0].policy)
    }

    #[test]
    fn a_sink_that_only_appends_gets_no_second_copy_unasked() {
        use ConflictPolicy::{Append, Overwrite};
        let append = sink(Atomicity::Append, false, false);
        let codes = |key: &[&str], policy, existed, held, allows| {
            settled(planned("a", key, policy), &report(existed, held), &append, allows)
        };
        // First runs, into what is empty or not there.
        for (existed, held) in [(false, None), (true, Some(0))] {
            for key in [&["id"] as &[&str], &[]] {
                assert_eq!(codes(key, Overwrite, existed, held, false), (vec![], Append));
            }
        }
        let refused = |code: &str| vec![format!("Blocker {code}")];
        assert_eq!(
            codes(&["id"], Append, true, Some(3), false).0,
            refused("plan.duplicates")
        );
        assert_eq!(
            codes(&["id"], Append, true, None, false).0,
            refused("plan.duplicates")
        );
        assert_eq!(
            codes(&["id"], Overwrite, true, Some(3), false).0,
            refused("plan.policy_unsupported")
        );
        assert_eq!(codes(&[], Append, true, Some(3), false).0, refused("plan.no_key"));
        // With consent all of them go on.
        let warned = vec!["Warning plan.duplicates".to_owned()];
        for key in [&["id"] as &[&str], &[]] {
            for policy in [Append, Overwrite] {
                assert_eq!(codes(key, policy, true, Some(3), true), (warned.clone(), Append));
            }
        }
    }

    #[test]
    fn consent_to_duplicates_means_nothing_to_a_sink_that_needs_none() {
        let whole = SinkCapabilities {
            policies: vec![ConflictPolicy::Append, ConflictPolicy::Overwrite],
            ..sink(Atomicity::Transactional, true, true)
        };
        let one =
            |key: &[&str], policy| settled(planned("a", key, policy), &report(true, Some(3)), &whole, true);
        assert_eq!(
            one(&["id"], ConflictPolicy::Append),
            (vec![], ConflictPolicy::Append)
        );
        assert_eq!(one(&[], ConflictPolicy::Append).0, ["Blocker plan.no_key"]);
    }
}
