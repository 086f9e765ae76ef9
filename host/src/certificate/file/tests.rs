//! The file: read as it was written, and refused with any octet changed.
//! Stored certificates of earlier programs must be readable for ever.

use super::*;
use crate::certificate::{CheckState, Demands, check, fixtures};

fn write(folder: &tempfile::TempDir, text: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.path().join(FILE_NAME);
    std::fs::write(&path, text).unwrap();
    path
}

fn seed() -> u64 {
    let given = std::env::var("WHIMBREL_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("WHIMBREL_SEED={seed}");
    seed
}

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        CertificateFile::unsigned(fixtures::certified()),
        fixtures::key().0.sign(fixtures::certified()).unwrap(),
        fixtures::hostile(),
    ] {
        assert_eq!(read(&write(&folder, file.to_text())).unwrap(), file);
    }
}

/// Whether a certificate of this text holds for somebody who trusts `demands`.
fn holds(text: &[u8], demands: &Demands) -> bool {
    let file = of_octets(text, Path::new(FILE_NAME));
    file.is_ok_and(|file| check(&file, demands).state() == CheckState::Held)
}

#[test]
fn a_changed_octet_anywhere_is_refused() {
    let (key, public) = fixtures::key();
    let mut body = fixtures::certified();
    body.collections.truncate(1);
    body.root = canonical::root(&body.collections).unwrap();
    let text = key.sign(body).unwrap().to_text().into_bytes();
    let demands = Demands {
        trusted: Some(public),
        requires_signature: true,
    };
    assert!(holds(&text, &demands));
    let mut random = fastrand::Rng::with_seed(seed());
    for place in 0..text.len() {
        let mut changed = text.clone();
        changed[place] ^= 1 << random.u8(..8);
        assert!(!holds(&changed, &demands), "octet {place}");
        let mut shorter = text.clone();
        shorter.remove(place);
        assert!(!holds(&shorter, &demands), "without octet {place}");
    }
    for place in [0, text.len() / 2, text.len()] {
        let mut longer = text.clone();
        longer.insert(place, b' ');
        assert!(!holds(&longer, &demands), "one more at {place}");
    }
}

#[test]
fn the_same_in_another_form_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = CertificateFile::unsigned(fixtures::certified());
    let text = file.to_text();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let twice = text.replacen("\"checksum\"", "\"checksum\": \"\",\n  \"checksum\"", 1);
    let more = text.replacen("\"checksum\"", "\"note\": 1,\n  \"checksum\"", 1);
    for other in [value.to_string(), text.replace('\n', "\r\n"), twice, more] {
        let error = read(&write(&folder, &other)).unwrap_err();
        assert_eq!(error.code, "certificate.altered", "{other}");
    }
}

#[test]
fn what_is_no_certificate_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    for text in ["", "x", "{}", "[]", "{\"certificate\":{\"format\":\"1\"}}"] {
        assert_eq!(
            read(&write(&folder, text)).unwrap_err().code,
            "certificate.not_one"
        );
    }
    assert_eq!(
        read(&write(&folder, [0xff_u8, 0xfe])).unwrap_err().code,
        "certificate.not_one"
    );
    assert_eq!(
        read(&folder.path().join("x")).unwrap_err().code,
        "certificate.file"
    );
    assert_eq!(read(folder.path()).unwrap_err().code, "certificate.file");
}

#[test]
fn a_newer_format_is_for_a_newer_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(
        &folder,
        "{\"certificate\": {\"format\": 4, \"new\": true}, \"proof\": 1}",
    );
    let error = read(&path).unwrap_err();
    assert_eq!(error.code, "certificate.newer_format");
    assert!(error.message.contains("has format 4"), "{error}");
}

#[test]
fn an_earlier_form_has_no_members_of_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let text = |format| {
        let mut body = fixtures::gone_on();
        body.format = format;
        CertificateFile::unsigned(body).to_text()
    };
    assert!(read(&write(&folder, text(2))).is_ok());
    for earlier in [0, 1] {
        let error = read(&write(&folder, text(earlier))).unwrap_err();
        assert_eq!(error.code, "certificate.altered");
    }
}

/// Made once by the program of its time; never made anew.
#[test]
fn stored_certificates_hold_for_ever() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/certificates");
    for (name, key) in [
        ("format-1.json", None),
        ("format-1-signed.json", Some("format-1.pub")),
    ] {
        let file = read(&folder.join(name)).unwrap();
        let key = key.map(|key| std::fs::read_to_string(folder.join(key)).unwrap());
        let demands = Demands {
            requires_signature: key.is_some(),
            trusted: key.map(|key| crate::certificate::TrustedKey::read(&key).unwrap()),
        };
        let checked = check(&file, &demands);
        assert_eq!(checked.integrity_only, demands.trusted.is_none(), "{name}");
        assert_ne!(checked.state(), CheckState::Failed, "{name}: {checked:?}");
    }
}
