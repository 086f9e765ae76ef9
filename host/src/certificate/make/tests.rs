//! What is certified, and what is not: nothing less than every record of every collection.
//! The body is golden, since its members are a promise.

use super::*;
use crate::certificate::{Demands, check, fixtures, read};
use crate::events::RuleState;
use expect_test::expect_file;

fn reason(change: impl FnOnce(&mut TaskReport)) -> String {
    let mut report = fixtures::report();
    change(&mut report);
    let libraries = fixtures::libraries();
    body(&report, &fixtures::facts(&libraries, None)).unwrap_err()
}

fn verdict(change: impl FnOnce(&mut TaskReport)) -> Verdict {
    let mut report = fixtures::report();
    change(&mut report);
    let libraries = fixtures::libraries();
    body(&report, &fixtures::facts(&libraries, None)).unwrap().verdict
}

#[test]
fn the_form_is_a_promise() {
    let text = CertificateFile::unsigned(fixtures::certified()).to_text();
    expect_file!["form.json"].assert_eq(&text);
}

#[test]
fn parts_are_numbered_since_their_names_may_hold_values_of_keys() {
    let text = CertificateFile::unsigned(fixtures::certified()).to_text();
    assert!(!text.contains("anna"), "{text}");
    let digests = &fixtures::certified().collections[0].digests;
    let parts = &digests.read_back.as_ref().unwrap().partitions;
    let names: Vec<&str> = parts.iter().map(|part| part.partition.as_str()).collect();
    assert_eq!(names, ["1 of 2", "2 of 2"]);
}

#[test]
fn a_comparison_that_was_gone_on_with_is_as_old_as_its_first_part() {
    let run = fixtures::gone_on().run;
    assert_eq!(run.begun_at, "2026-11-20T09:00:00.000Z");
    assert_eq!(run.verified_at, "2026-11-21T08:00:05.250Z");
    let earlier = run.gone_on_with.unwrap();
    assert_eq!(earlier.read_until, "2026-11-20T09:10:00.500Z");
    assert_eq!(earlier.gone_on_at, "2026-11-21T08:00:00.100Z");
}

#[test]
fn anything_less_than_all_records_certifies_nothing() {
    let level = |level| reason(|report| report.summary.verification[1].level = level);
    for less in [VerificationLevel::Basic, VerificationLevel::Standard] {
        assert_eq!(
            level(less),
            "not every record of `users` was compared: that takes the level `comprehensive`"
        );
    }
    assert_eq!(
        reason(|report| report.summary.verification[1].settled_count = 2),
        "2 records of `users` differed at first and no more a moment later: the sink was written to while it was compared, so compare again"
    );
    assert_eq!(
        reason(|report| drop(report.summary.verification.pop())),
        "`users` was not compared"
    );
    assert_eq!(
        reason(|report| report.summary.verification.clear()),
        "nothing was compared"
    );
    assert_eq!(
        reason(|report| report.summary.verification[0].digests = None),
        "there are no digests of `Orders`"
    );
    for outcome in ["unverified", "failed", "cancelled", "crashed", "refused"] {
        assert_eq!(
            reason(|report| report.outcome = outcome),
            "the comparison did not come to its end"
        );
    }
    let libraries = fixtures::libraries();
    let sample = Facts {
        is_sample: true,
        ..fixtures::facts(&libraries, None)
    };
    assert_eq!(
        body(&fixtures::report(), &sample).unwrap_err(),
        "mode `test` moves a sample"
    );
    assert_eq!(
        body(&fixtures::report(), &fixtures::facts(&libraries[..1], None)).unwrap_err(),
        "the file of plugin `curlew` is not known"
    );
}

#[test]
fn the_verdict_is_the_gravest_of_all() {
    assert_eq!(verdict(|_| ()), Verdict::Equal);
    let changed = |report: &mut TaskReport| report.summary.verification[1].changed_since_count = 1;
    assert_eq!(verdict(changed), Verdict::Undecided);
    assert_eq!(
        verdict(|report| {
            changed(report);
            report.outcome = "differences";
            report.summary.verification[0].mismatch_count = 1;
        }),
        Verdict::Different
    );
    assert_eq!(
        verdict(|report| report.summary.verification[0].comparison = Comparison::Different),
        Verdict::Different
    );
    assert_eq!(
        verdict(|report| report.summary.rules[0].state = RuleState::Broken),
        Verdict::Different
    );
    assert_eq!(
        verdict(|report| report.summary.rules[0].state = RuleState::Unchecked),
        Verdict::Undecided
    );
    // The task knows of something that differs and that no section names.
    assert_eq!(
        verdict(|report| report.outcome = "differences"),
        Verdict::Different
    );
}

#[test]
fn it_is_written_for_its_owner_and_holds() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = fixtures::key();
    let libraries = fixtures::libraries();
    let issued = write(
        folder.path(),
        &fixtures::report(),
        &fixtures::facts(&libraries, Some(&key)),
    )
    .unwrap();
    let path = folder.path().join(FILE_NAME);
    let file = read(&path).unwrap();
    assert_eq!(
        issued,
        Issued::Certificate {
            path: path.clone(),
            root: file.certificate.root.clone(),
            is_signed: true,
            verdict: Verdict::Equal,
        }
    );
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let demands = Demands {
        trusted: Some(public),
        requires_signature: true,
    };
    let checked = check(&file, &demands);
    assert!(!checked.integrity_only);
    assert_eq!(
        checked.state(),
        crate::certificate::CheckState::Held,
        "{checked:?}"
    );
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let libraries = fixtures::libraries();
    let facts = fixtures::facts(&libraries, None);
    let error = write(&folder.path().join("no"), &fixtures::report(), &facts).unwrap_err();
    assert!(error.code.starts_with("workspace."), "{error}");
}
