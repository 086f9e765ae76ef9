//! In which forms a secret may turn up in a text, and which parts of it are secrets by themselves.
//!
//! Neighbour: `secrets.rs` looks for all of them at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use super::secrets::SECRET_CHARS_MIN;

/// A line of a key file, or a text of a JSON secret, is a secret by itself from this length on.
const PART_CHARS_MIN: usize = 12;

/// A base64 text this short would be found by chance.
const BASE64_CHARS_MIN: usize = 5;

/// Secrets above this size, such as key files, are looked for in fewer forms: each form costs memory for each octet.
const ALL_FORMS_BYTES_MAX: usize = 4 * 1024;

/// Texts of service accounts that everybody may know, although they are long.
const PUBLIC_KEYS: [&str; 7] = [
    "auth_provider_x509_cert_url",
    "auth_uri",
    "client_x509_cert_url",
    "project_id",
    "token_uri",
    "type",
    "universe_domain",
];

/// Punctuation that one encoder for URLs or the other leaves as it is.
const LEFT_BY_ENCODERS: [&str; 5] = ["", "-_.~", "-_.!~*'()", "*-._", "-_.!~*'();/?:@&=+$,#"];

/// `secret` itself, and what in it is a secret by itself: passwords and tokens of a URL, lines, texts of JSON.
pub(crate) fn parts(secret: &str) -> BTreeSet<String> {
    let mut parts = BTreeSet::from([secret.to_owned()]);
    lines(secret, &mut parts);
    url_parts(secret, &mut parts);
    if let Ok(json @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(secret) {
        json_texts(&json, &mut parts);
    }
    parts
}

fn lines(text: &str, parts: &mut BTreeSet<String>) {
    let trimmed = text.trim();
    if !trimmed.contains('\n') {
        return;
    }
    parts.insert(trimmed.to_owned());
    for line in trimmed.lines().map(str::trim) {
        // `-----BEGIN PRIVATE KEY-----` says nothing.
        if line.chars().count() >= PART_CHARS_MIN && !line.starts_with("-----") {
            parts.insert(line.to_owned());
        }
    }
}

fn json_texts(value: &Value, parts: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.chars().count() >= PART_CHARS_MIN => {
            parts.insert(text.clone());
            lines(text, parts);
        }
        Value::Array(items) => items.iter().for_each(|item| json_texts(item, parts)),
        Value::Object(members) => members
            .iter()
            .filter(|(key, _)| !PUBLIC_KEYS.contains(&key.as_str()))
            .for_each(|(_, member)| json_texts(member, parts)),
        _ => {}
    }
}

/// The password of a URL, and the values of its parameters that are as long as a token; each also decoded.
fn url_parts(text: &str, parts: &mut BTreeSet<String>) {
    let Some((_, rest)) = text.split_once("://") else {
        return;
    };
    let mut add = |part: &str| {
        for part in [part.to_owned(), percent_decoded(part)] {
            if part.chars().count() >= SECRET_CHARS_MIN {
                parts.insert(part);
            }
        }
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A password with a bare `/` or `?` is not a valid URL, but people write it.
    for authority in [authority, rest] {
        if let Some((user, _)) = authority.rsplit_once('@')
            && let Some((_, password)) = user.split_once(':')
        {
            add(password);
            break;
        }
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    for value in query
        .split(['&', '#'])
        .filter_map(|pair| pair.split_once('='))
        .map(|(_, value)| value)
    {
        if value.chars().count() >= PART_CHARS_MIN {
            add(value);
        }
    }
}

fn percent_decoded(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| (*digit as char).to_digit(16));
        match (octet, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits are one octet.
                octets.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                octets.push(octet);
                rest = after;
            }
        }
    }
    String::from_utf8(octets).unwrap_or_else(|_| text.to_owned())
}

/// The forms in which programs write `secret`, itself among them.
pub(crate) fn forms(secret: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([secret.to_owned()]);
    let json = json_escaped(secret);
    base64(secret.as_bytes(), &mut forms);
    if secret.len() <= ALL_FORMS_BYTES_MAX {
        forms.insert(json_escaped(&json));
        forms.insert(json.replace('/', "\\/"));
        forms.insert(ascii_json(&json));
        forms.insert(without_quotes(&format!("{secret:?}")));
        for left in LEFT_BY_ENCODERS {
            let encoded = percent_encoded(secret, left);
            forms.insert(encoded.replace("%20", "+"));
            forms.insert(lower_case_escapes(&encoded));
            forms.insert(lower_case_escapes(&encoded).replace("%20", "+"));
            forms.insert(encoded);
        }
    }
    forms.insert(json);
    forms
}

fn json_escaped(text: &str) -> String {
    without_quotes(&Value::from(text).to_string())
}

fn without_quotes(text: &str) -> String {
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
        .to_owned()
}

/// As programs write JSON that keep to ASCII.
fn ascii_json(escaped: &str) -> String {
    let mut text = String::with_capacity(escaped.len());
    for c in escaped.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _written: std::fmt::Result = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

fn percent_encoded(text: &str, left: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || left.as_bytes().contains(&octet) {
            encoded.push(octet as char);
        } else {
            let _written: std::fmt::Result = write!(encoded, "%{octet:02X}");
        }
    }
    encoded
}

/// `%C3` as `%c3`; what is not an escape keeps its case.
fn lower_case_escapes(encoded: &str) -> String {
    let mut left = 0_u8;
    encoded
        .chars()
        .map(|c| {
            left = if c == '%' { 3 } else { left };
            let is_escape = left > 0;
            left = left.saturating_sub(1);
            if is_escape { c.to_ascii_lowercase() } else { c }
        })
        .collect()
}

/// What is the same in the base64 of every text that holds `octets`: for each of the three ways in which they can fall
/// on its groups of three, the characters that depend on nothing else.
fn base64(octets: &[u8], forms: &mut BTreeSet<String>) {
    for before in 0..3_usize {
        let shifted = [&[0; 2][..before], octets].concat();
        // Six bits a character; one that also holds bits of a neighbour is left out.
        let first = (before * 8).div_ceil(6);
        let last = shifted.len() * 8 / 6;
        for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
            let text = engine.encode(&shifted);
            if let Some(own) = text.get(first..last)
                && own.len() >= BASE64_CHARS_MIN
            {
                forms.insert(own.to_owned());
            }
        }
    }
}
