//! A sink as it was certified, one that is not, and everything that keeps the two from being compared.
//! The source's side says nothing here, whatever became of it.

use super::*;
use crate::certificate::fixtures;

fn found(change: impl FnOnce(&mut RunSummary)) -> (CheckState, CheckState, String) {
    let mut summary = fixtures::report().summary;
    change(&mut summary);
    let against = against_sink(&fixtures::certified(), &summary);
    assert_eq!(against.collections.len(), 2);
    let first = &against.collections[0];
    (against.check().state, first.state, first.message.clone())
}

#[test]
fn an_unchanged_sink_is_as_certified_whatever_became_of_the_source() {
    let (all, _, message) = found(|summary| {
        let result = &mut summary.verification[0];
        result.mismatch_count = 7;
        result.source_count += 7;
        let digests = result.digests.as_mut().unwrap();
        digests.transformed = Some(fixtures::place(12_007, 99));
        digests.extracted = None;
        // Other parts with the same sums.
        digests.read_back.as_mut().unwrap().partitions.clear();
    });
    assert_eq!((all, message.as_str()), (CheckState::Held, "as certified"));
}

#[test]
fn a_changed_sink_is_not_as_certified() {
    let (all, first, message) = found(|summary| {
        let digests = summary.verification[0].digests.as_mut().unwrap();
        digests.read_back = Some(fixtures::place(12_000, 99));
        // That both sides are equal by now is another matter.
        digests.transformed = digests.read_back.clone();
    });
    assert_eq!((all, first), (CheckState::Failed, CheckState::Failed));
    assert_eq!(message, "its records are not those of the certificate");
    // Buckets that differ though the totals are the same.
    let (all, ..) = found(|summary| {
        let digests = summary.verification[0].digests.as_mut().unwrap();
        digests.read_back.as_mut().unwrap().root = "0".repeat(64);
    });
    assert_eq!(all, CheckState::Failed);
}

fn mismatch(kind: MismatchKind, record: &str, fields: &[&str]) -> Mismatch {
    Mismatch {
        kind,
        record: record.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        values: Vec::new(),
    }
}

#[test]
fn what_no_digest_shows_is_not_as_certified_either() {
    let (all, _, message) = found(|summary| summary.verification[0].sink_unreadable_count = 2);
    assert_eq!(
        (all, message.as_str()),
        (
            CheckState::Failed,
            "2 records cannot be read as what the certificate is of"
        )
    );
    let (all, _, message) = found(|summary| {
        let lacks = mismatch(MismatchKind::Schema, "the sink lacks fields", &["price", "at"]);
        summary.verification[0].mismatches = vec![lacks];
    });
    assert_eq!(
        (all, message.as_str()),
        (CheckState::Failed, "the sink lacks fields: `price`, `at`")
    );
    let (all, _, message) = found(|summary| {
        let result = &mut summary.verification[0];
        result.mismatches = vec![mismatch(
            MismatchKind::Schema,
            "the sink has no collection `orders`",
            &[],
        )];
        result.digests = None;
    });
    assert_eq!(
        (all, message.as_str()),
        (CheckState::Failed, "the sink has no collection `orders`")
    );
    // Records of the source that are missing in the sink say nothing of what was certified.
    let (all, ..) = found(|summary| {
        summary.verification[0].mismatches = vec![mismatch(MismatchKind::Missing, "id=1", &[])];
    });
    assert_eq!(all, CheckState::Held);
}

#[test]
fn what_cannot_be_compared_is_neither() {
    for (wanted, change) in [
        (
            "the job does not move it any more",
            (|summary| drop(summary.verification.remove(0))) as fn(&mut RunSummary),
        ),
        ("it was not read record by record", |summary| {
            summary.verification[0].digests = None;
        }),
        ("it was not read back", |summary| {
            summary.verification[0].digests.as_mut().unwrap().read_back = None;
        }),
        ("its records are made of other fields now", |summary| {
            summary.verification[0].digests.as_mut().unwrap().fields.pop();
        }),
        ("its records are made of other fields now", |summary| {
            summary.verification[0].digests.as_mut().unwrap().key.clear();
        }),
    ] {
        assert_eq!(
            found(change),
            (CheckState::Unchecked, CheckState::Unchecked, wanted.to_owned())
        );
    }
}
