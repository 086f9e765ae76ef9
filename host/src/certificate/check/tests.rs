//! Tampering with what was certified, with and without making the checksum again, and who is believed.
//! The made-up certificates are of `fixtures`; octets of files are changed in the tests of `file`.

use super::*;
use crate::certificate::fixtures;

/// The name and the message of the gravest check of a certificate that was tampered with by somebody who makes the
/// checksum again.
fn found(change: impl FnOnce(&mut Body)) -> String {
    let mut body = fixtures::certified();
    change(&mut body);
    let checked = fixtures::plainly(&CertificateFile::unsigned(body));
    let worst = checked.state();
    let check = checked.checks.iter().find(|check| check.state == worst).unwrap();
    format!("{}, {}: {}", check.name, check.state.word(), check.message)
}

#[test]
fn unsigned_is_integrity_only() {
    let file = CertificateFile::unsigned(fixtures::certified());
    let checked = fixtures::plainly(&file);
    assert!(checked.integrity_only);
    assert_eq!(checked.state(), CheckState::Open);
    assert!(checked.checks[1].message.contains("integrity only"));
    let demands = Demands {
        trusted: None,
        requires_signature: true,
    };
    assert_eq!(check(&file, &demands).state(), CheckState::Failed);
    // Whoever names a key expects a signature: that none is there may be the work of somebody who took it away.
    let demands = Demands {
        trusted: Some(fixtures::key().1),
        requires_signature: false,
    };
    assert_eq!(check(&file, &demands).state(), CheckState::Failed);
}

#[test]
fn signed_by_nobody_knows_whom_is_integrity_only() {
    let file = fixtures::key().0.sign(fixtures::certified()).unwrap();
    let checked = fixtures::plainly(&file);
    assert!(checked.integrity_only);
    assert_eq!(checked.state(), CheckState::Open);
    let demands = Demands {
        trusted: None,
        requires_signature: true,
    };
    assert_eq!(check(&file, &demands).state(), CheckState::Unchecked);
}

#[test]
fn a_signature_of_another_key_is_refused() {
    let (key, public) = fixtures::key();
    let (other, _) = fixtures::key();
    let demands = Demands {
        trusted: Some(public),
        requires_signature: false,
    };
    let mine = key.sign(fixtures::certified()).unwrap();
    assert_eq!(check(&mine, &demands).state(), CheckState::Held);
    let theirs = other.sign(fixtures::certified()).unwrap();
    assert_eq!(check(&theirs, &demands).state(), CheckState::Failed);
    // Their signature in the place of mine, with my key left beside it.
    let mut mixed = mine;
    mixed.signature.as_mut().unwrap().minisign = theirs.signature.unwrap().minisign;
    assert_eq!(check(&mixed, &demands).state(), CheckState::Failed);
    assert_eq!(fixtures::plainly(&mixed).state(), CheckState::Failed);
}

#[test]
fn swapped_digests_and_removed_sections_do_not_fit_a_signature() {
    let (key, public) = fixtures::key();
    let demands = Demands {
        trusted: Some(public),
        requires_signature: true,
    };
    let swap = |body: &mut Body| {
        let (one, two) = body.collections.split_at_mut(1);
        std::mem::swap(&mut one[0].digests, &mut two[0].digests);
    };
    let swap_places = |body: &mut Body| {
        let digests = &mut body.collections[0].digests;
        std::mem::swap(&mut digests.extracted, &mut digests.read_back);
    };
    let changes: [&dyn Fn(&mut Body); 7] = [
        &swap,
        &swap_places,
        &|body| drop(body.collections.pop()),
        &|body| body.rules.clear(),
        &|body| body.references.clear(),
        &|body| body.collections[0].digests.extracted = None,
        &|body| body.plugins.clear(),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut file = key.sign(fixtures::certified()).unwrap();
        change(&mut file.certificate);
        let checked = check(&file, &demands);
        assert_eq!(checked.state(), CheckState::Failed, "change {number}");
        assert!(checked.integrity_only, "change {number}");
        // With checksum and root made again.
        file.certificate.root = canonical::root(&file.certificate.collections).unwrap();
        file.checksum = canonical::checksum(&canonical::octets(&file.certificate));
        assert_eq!(
            check(&file, &demands).checks[1].state,
            CheckState::Failed,
            "change {number}"
        );
    }
}

#[test]
fn an_unsigned_one_must_agree_with_itself() {
    let root = "root, does not hold: the root is not the one of its collections";
    assert_eq!(found(|body| drop(body.collections.pop())), root);
    assert_eq!(found(|body| body.collections[0].source.push('x')), root);
    assert_eq!(found(|body| body.collections.swap(0, 1)), root);
    assert_eq!(
        found(|body| {
            let digests = &mut body.collections[0].digests;
            digests.read_back.as_mut().unwrap().partitions.pop();
        }),
        "digests, does not hold: the parts of `Orders`, read back, do not add up to their whole"
    );
    assert_eq!(
        found(|body| {
            let digests = &mut body.collections[1].digests;
            let parts = &mut digests.transformed.as_mut().unwrap().partitions;
            parts[0].sum = parts[1].sum.clone();
        }),
        "digests, does not hold: the parts of `users`, transformed, do not add up to their whole"
    );
    let verdict = "verdict, does not hold: the verdict is not the one of its sections";
    assert_eq!(found(|body| body.collections[0].mismatch_count = 1), verdict);
    assert_eq!(
        found(|body| body.collections[0].level = "basic".to_owned()),
        verdict
    );
    assert_eq!(found(|body| body.rules[0].state = "broken".to_owned()), verdict);
    assert_eq!(
        found(|body| {
            body.collections.clear();
            body.root = canonical::root(&body.collections).unwrap();
        }),
        verdict
    );
}

#[test]
fn a_digest_that_is_none_is_refused() {
    for bad in ["", "g", "0123456789ABCDEF0123456789ABCDEF", "é"] {
        let text = found(|body| {
            let place = body.collections[0].digests.read_back.as_mut().unwrap();
            place.root = bad.to_owned();
            place.sum = bad.to_owned();
        });
        assert!(text.starts_with("root, does not hold"), "{text}");
    }
}

#[test]
fn a_certificate_of_differences_is_sound_and_does_not_hold() {
    let text = found(|body| {
        body.verdict = Verdict::Different;
        body.collections[0].verdict = Verdict::Different;
        body.collections[0].mismatch_count = 3;
    });
    assert_eq!(text, "verdict, does not hold: it says: the sides differ");
    let text = found(|body| {
        body.verdict = Verdict::Undecided;
        body.collections[0].verdict = Verdict::Undecided;
        body.collections[0].changed_since_count = 3;
    });
    assert_eq!(
        text,
        "verdict, cannot be checked: it says: not all could be decided"
    );
}

#[test]
fn a_damaged_body_is_not_what_its_checksum_is_of() {
    let mut file = CertificateFile::unsigned(fixtures::certified());
    file.certificate.run.begun_at = "2026-11-21T08:00:01.000Z".to_owned();
    let checked = fixtures::plainly(&file);
    assert_eq!(checked.checks[0].state, CheckState::Failed);
}
