//! Keys: pairs that sign and check, passwords, and everything that is no key.
//! The signatures are read by a crate that does not make them.

use super::*;
use crate::certificate::fixtures;

#[test]
fn a_signature_is_one_of_its_key_only() {
    let (key, public) = fixtures::key();
    let (_, other) = fixtures::key();
    let body = fixtures::certified();
    let file = key.sign(body.clone()).unwrap();
    let signature = file.signature.as_ref().unwrap();
    let state = |trusted| check(&file.certificate, signature, trusted);
    assert_eq!(state(Some(&public)), SignatureState::Trusted);
    assert_eq!(state(Some(&other)), SignatureState::OtherKey);
    assert_eq!(state(None), SignatureState::Unknown);
    let mut changed = body;
    changed.run.id.push('x');
    assert_eq!(check(&changed, signature, Some(&public)), SignatureState::Wrong);
}

#[test]
fn the_public_key_beside_a_signature_proves_nothing() {
    let (key, public) = fixtures::key();
    let (_, other) = fixtures::key();
    let mut file = key.sign(fixtures::certified()).unwrap();
    let signature = file.signature.as_mut().unwrap();
    // Whoever puts the trusted key beside a signature of another one gains nothing.
    signature.public_key = other.0.clone();
    assert_eq!(
        check(&file.certificate, signature, Some(&other)),
        SignatureState::Wrong
    );
    assert_eq!(
        check(&file.certificate, signature, Some(&public)),
        SignatureState::Wrong
    );
}

#[test]
fn a_password_protects_the_secret_key() {
    let pair = KeyPair::generate(Some("correct horse".to_owned())).unwrap();
    let read = |password: Option<&str>| SigningKey::read(&pair.secret, password.map(str::to_owned), "k");
    let key = read(Some("correct horse")).unwrap();
    let file = key.sign(fixtures::certified()).unwrap();
    let trusted = TrustedKey::read(&pair.public_key).unwrap();
    let state = check(&file.certificate, &file.signature.unwrap(), Some(&trusted));
    assert_eq!(state, SignatureState::Trusted);
    assert_eq!(read(Some("wrong")).unwrap_err().code, "certificate.key_password");
    assert_eq!(read(None).unwrap_err().code, "certificate.key_locked");
}

#[test]
fn a_password_does_no_harm_to_a_key_without_one() {
    let pair = KeyPair::generate(None).unwrap();
    SigningKey::read(&pair.secret, Some("unused".to_owned()), "k").unwrap();
}

#[test]
fn what_is_no_secret_key_is_refused_without_being_shown() {
    let pair = KeyPair::generate(None).unwrap();
    let torn = pair.secret[..pair.secret.len() - 20].to_owned();
    let (head, tail) = pair.secret.split_at(pair.secret.len() - 40);
    let damaged = format!("{head}{}", tail.replace(|_: char| true, "A"));
    for text in [
        "",
        "x",
        "one\ntwo",
        "untrusted comment: x\n!!!!",
        &pair.public,
        &torn,
        &damaged,
    ] {
        let error = SigningKey::read(text, Some("p".to_owned()), "signing.key").unwrap_err();
        assert_eq!(error.code, "certificate.key_bad", "{text:?}");
        assert!(error.message.contains("signing.key"), "{error}");
        let shown = format!("{error:?}");
        assert!(text.len() < 30 || !shown.contains(&text[30..]), "{shown}");
    }
    let key = SigningKey::read(&pair.secret, None, "k").unwrap();
    let secret = pair.secret.lines().nth(1).unwrap();
    assert!(!format!("{key:?}").contains(&secret[20..40]));
}

#[test]
fn a_public_key_is_given_alone_or_as_its_file() {
    let pair = KeyPair::generate(None).unwrap();
    let alone = TrustedKey::read(&pair.public_key).unwrap();
    assert_eq!(alone, TrustedKey::read(&pair.public).unwrap());
    assert_eq!(
        alone,
        TrustedKey::read(&format!("  {}\r\n", pair.public_key)).unwrap()
    );
    assert_eq!(alone.id(), pair.id);
    assert!(pair.public.contains(&pair.id), "{}", pair.public);
    for text in [
        "",
        "RWQ",
        "not/a/file.pub",
        &pair.secret,
        &pair.public_key[1..],
        "untrusted comment: x\n",
    ] {
        assert_eq!(
            TrustedKey::read(text).unwrap_err().code,
            "certificate.public_key",
            "{text:?}"
        );
    }
}

#[test]
fn a_signature_has_one_spelling() {
    let (key, public) = fixtures::key();
    let file = key.sign(fixtures::certified()).unwrap();
    let signature = file.signature.unwrap();
    let with = |minisign: String| SignatureSection {
        minisign,
        ..signature.clone()
    };
    let text = &signature.minisign;
    for other in [
        text.replacen("signature of", "Signature of", 1),
        text.replace('\n', "\r\n"),
        format!("{text}\n"),
        text.trim_end().to_owned(),
        text.replacen("of run", "of Run", 1),
    ] {
        let state = check(&file.certificate, &with(other.clone()), Some(&public));
        assert_eq!(state, SignatureState::Wrong, "{other}");
    }
}
