//! Looks for secrets in octets: as they are, and as programs write them. Made here and not by whimbrel, so that both do not
//! overlook the same.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::program::Answer;

/// Something that came out, with its name. Each octet is one letter, so that nothing is lost where it is no UTF-8.
pub struct Output {
    /// Where it is from.
    pub place: String,
    /// What it is.
    pub text: String,
}

impl Output {
    /// `octets` from `place`.
    pub fn new(place: impl Into<String>, octets: &[u8]) -> Self {
        Self {
            place: place.into(),
            text: letters(octets),
        }
    }
}

fn letters(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}

/// Where in `outputs` one of `secrets`, which have names, is, and in which form.
pub fn search<'s>(secrets: impl Iterator<Item = (&'s str, &'s str)>, outputs: &[Output]) -> Option<String> {
    for (name, secret) in secrets {
        for (form, octets) in forms(secret) {
            let form_text = letters(&octets);
            for Output { place, text } in outputs {
                if let Some(at) = text.find(&form_text) {
                    let before: String = text[..at].chars().rev().take(80).collect();
                    let before: String = before.chars().rev().collect();
                    return Some(format!("`{name}` as {form} is in {place}, after: {before}"));
                }
            }
        }
    }
    None
}

/// Every file below `folder`, or that file itself: its path, which may tell something, too, and its octets.
pub fn files(folder: &Path) -> Vec<Output> {
    let mut found = Vec::new();
    if let Ok(octets) = std::fs::read(folder) {
        found.push(Output::new(folder.display().to_string(), &octets));
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path: PathBuf = entry.path();
            found.push(Output::new(
                "the name of a file",
                path.as_os_str().as_encoded_bytes(),
            ));
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(octets) = std::fs::read(&path) {
                found.push(Output::new(path.display().to_string(), &octets));
            }
        }
    }
    found
}

/// What a command has printed.
pub fn printed(command: &str, answer: &Answer) -> [Output; 2] {
    [
        Output::new(format!("standard output of {command}"), answer.out.as_bytes()),
        Output::new(format!("standard error of {command}"), answer.err.as_bytes()),
    ]
}

/// Every form in which a secret is looked for.
fn forms(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("it is", secret.as_bytes().to_vec()),
        ("percent-encoded text", percent(secret).into_bytes()),
        (
            "percent-encoded text in small letters",
            small_percent(secret).into_bytes(),
        ),
    ];
    let quoted = Value::from(secret).to_string();
    forms.push(("JSON", quoted.trim_matches('"').as_bytes().to_vec()));
    forms.push((
        "JSON within JSON",
        Value::from(quoted.trim_matches('"'))
            .to_string()
            .trim_matches('"')
            .as_bytes()
            .to_vec(),
    ));
    // In the middle of a longer text there are three ways to fall into groups of three octets. Those groups that the
    // neighbours have a part in are left out.
    for before in 0..3 {
        let shifted = [&b"xxx"[..before], secret.as_bytes()].concat();
        let whole = &shifted[..shifted.len() / 3 * 3];
        let encoded = base64(whole);
        let from = if before == 0 { 0 } else { 4 };
        let inner = &encoded[from..];
        forms.push(("base64", inner.as_bytes().to_vec()));
        forms.push((
            "base64 for URLs",
            inner.replace('+', "-").replace('/', "_").into_bytes(),
        ));
    }
    forms
}

/// Source: RFC 4648, section 4.
pub fn base64(octets: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in octets.chunks(3) {
        let number = group
            .iter()
            .fold(0, |number, octet| number << 8 | u32::from(*octet))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let sign = SIGNS[(number >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= group.len() { sign } else { '=' });
        }
    }
    text
}

/// Source: RFC 3986, section 2.1; what is not unreserved is encoded.
pub fn percent(text: &str) -> String {
    text.bytes()
        .map(|octet| match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                (octet as char).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// The same with small digits, as some programs write it.
fn small_percent(text: &str) -> String {
    let mut parts = percent(text).split('%').map(str::to_owned).collect::<Vec<_>>();
    for part in parts.iter_mut().skip(1) {
        let digits = part[..2].to_lowercase();
        part.replace_range(..2, &digits);
    }
    parts.join("%")
}

#[test]
fn the_search_finds_each_form_and_nothing_else() {
    assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
    assert_eq!(percent("a/\u{fc}"), "a%2F%C3%BC");
    let secret = "plant.x-Zq7\"\\/+\u{fc}&=%";
    let is_found = |text: &[u8]| search([("x", secret)].into_iter(), &[Output::new("here", text)]).is_some();
    for before in 0..3 {
        let text = base64(format!("{}{secret} and more", "-".repeat(before)).as_bytes());
        assert!(is_found(text.as_bytes()), "with {before} octets before it");
    }
    assert!(is_found(format!("a {secret} b").as_bytes()));
    assert!(is_found(&[&[0xff, 0xc3][..], secret.as_bytes(), &[0]].concat()));
    assert!(is_found(percent(secret).as_bytes()));
    assert_eq!(small_percent("A/\u{fc}"), "A%2f%c3%bc");
    assert!(is_found(Value::from(secret).to_string().as_bytes()));
    assert!(!is_found(b"plant.x and plant.y"));
}
