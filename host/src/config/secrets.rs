//! The secrets of a job, and taking them out of every text that leaves the host.
//!
//! A secret is looked for as it is and as programs write it: base64 (also in the middle of a longer text), encoded
//! for URLs, escaped for JSON. Not here: where secrets come from (`references.rs`, `plugin_config.rs`), and which
//! texts of a typed value cannot be changed (`secret_leaves.rs`).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::AhoCorasick;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use whimbrel_plugin_api::Error;

use super::{secret_forms, secret_leaves};

/// Shorter values are not looked for: they would be found in every other word.
pub const SECRET_CHARS_MIN: usize = 4;

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// The secrets of one job. Clones share them, so that one that turns up later is known to all.
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    values: BTreeSet<String>,
    forms: BTreeSet<String>,
    finder: Option<AhoCorasick>,
}

impl Secrets {
    /// Adds a secret, and the passwords and tokens in it if it is a URL, a JSON text or has several lines.
    /// Returns whether it is long enough to be looked for.
    pub fn add(&self, value: &str) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_long = value.chars().count() >= SECRET_CHARS_MIN;
        if is_long && known.values.insert(value.to_owned()) {
            for part in secret_forms::parts(value) {
                known.forms.extend(secret_forms::forms(&part));
            }
            // Only a set of patterns beyond what a process can hold fails; the texts are then refused whole.
            known.finder = AhoCorasick::new(&known.forms).ok();
        }
        is_long
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.read(|known| known.values.is_empty())
    }

    /// `text` with `***` in place of every secret.
    pub fn scrub<'text>(&self, text: &'text str) -> Cow<'text, str> {
        self.read(|known| {
            if known.forms.is_empty() {
                return Cow::Borrowed(text);
            }
            match &known.finder {
                Some(finder) => scrub(finder, text),
                None => Cow::Borrowed(MASK),
            }
        })
    }

    /// `error` without secrets in any of its texts.
    #[must_use]
    pub fn scrub_error(&self, mut error: Error) -> Error {
        let texts = [
            Some(&mut error.message),
            error.help.as_mut(),
            error.place.as_mut(),
        ];
        for text in texts.into_iter().flatten().chain(&mut error.causes) {
            if let Cow::Owned(clean) = self.scrub(text) {
                *text = clean;
            }
        }
        error
    }

    /// `value` without secrets in any of its texts. Numbers, keys, words of closed lists, names of collections, data of refused
    /// records and digests, and other texts that the type needs as they are stay, however much they look like a secret.
    #[must_use]
    pub fn scrub_all<T: Serialize + DeserializeOwned>(&self, value: T) -> T {
        secret_leaves::cleaned(value, &|text| self.scrub(text))
    }

    /// Takes the secrets out of every text in `value`; whether there was one.
    pub fn scrub_value(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => match self.scrub(text) {
                Cow::Owned(clean) => {
                    *text = clean;
                    true
                }
                Cow::Borrowed(_) => false,
            },
            Value::Array(items) => items
                .iter_mut()
                .fold(false, |found, item| self.scrub_value(item) | found),
            Value::Object(members) => members
                .values_mut()
                .fold(false, |found, member| self.scrub_value(member) | found),
            _ => false,
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How many there are, and nothing else.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.read(|known| known.values.len()))
    }
}

/// Occurrences may overlap, so all of them are found and put together before any is replaced.
fn scrub<'text>(finder: &AhoCorasick, text: &'text str) -> Cow<'text, str> {
    let mut spans: Vec<(usize, usize)> = finder
        .find_overlapping_iter(text)
        .map(|found| (found.start(), found.end()))
        .collect();
    if spans.is_empty() {
        return Cow::Borrowed(text);
    }
    spans.sort_unstable();
    let mut clean = String::with_capacity(text.len());
    let mut done = 0;
    let mut open: Option<(usize, usize)> = None;
    for (start, end) in spans.into_iter().chain([(text.len(), text.len())]) {
        match &mut open {
            Some((_, last)) if start < *last => *last = end.max(*last),
            _ => {
                if let Some((first, last)) = open {
                    clean.push_str(&text[done..first]);
                    clean.push_str(MASK);
                    done = last;
                }
                open = Some((start, end));
            }
        }
    }
    clean.push_str(&text[done..]);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        let secrets = Secrets::default();
        for value in values {
            secrets.add(value);
        }
        secrets
    }

    #[test]
    fn a_text_without_secrets_is_not_copied() {
        let secrets = secrets(&["hunter2hunter2"]);
        assert!(matches!(secrets.scrub("nothing in here"), Cow::Borrowed(_)));
        assert!(matches!(Secrets::default().scrub("hunter2"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_secret_is_found_in_every_form_that_programs_write() {
        let secret = "p\u{e4}ss/w\"o\\rd &+=\n?>1";
        let secrets = secrets(&[secret]);
        let json = serde_json::to_string(&json!({ "token": secret })).unwrap();
        let twice = serde_json::to_string(&json).unwrap();
        for (text, wanted) in [
            (format!("a{secret}b"), "a***b"),
            (json, "{\"token\":\"***\"}"),
            (twice, "\"{\\\"token\\\":\\\"***\\\"}\""),
            (format!("{secret:?}"), "\"***\""),
            ("u=p%C3%A4ss%2Fw%22o%5Crd%20%26%2B%3D%0A%3F%3E1&".into(), "u=***&"),
            ("u=p%c3%a4ss%2fw%22o%5crd%20%26%2b%3d%0a%3f%3e1&".into(), "u=***&"),
            ("u=p%C3%A4ss%2Fw%22o%5Crd+%26%2B%3D%0A%3F%3E1&".into(), "u=***&"),
            ("p\\u00e4ss/w\\\"o\\\\rd &+=\\n?>1".into(), "***"),
            ("p&auml;ss".into(), "p&auml;ss"),
        ] {
            assert_eq!(secrets.scrub(&text), wanted, "{text}");
        }
    }

    #[test]
    fn overlapping_secrets_leave_no_rest() {
        assert_eq!(secrets(&["abcdef", "defghi"]).scrub("xabcdefghiy"), "x***y");
        assert_eq!(secrets(&["abcd"]).scrub("abcdabcd-abcd"), "******-***");
    }

    #[test]
    fn the_parts_of_a_url_a_key_file_and_a_json_text_are_secrets_too() {
        let url = secrets(&["postgres://app:s3cr3t-p%40ss@db.example.com/x?authToken=tok-12345678&mode=ro"]);
        for (text, wanted) in [
            ("refused for s3cr3t-p%40ss", "refused for ***"),
            ("refused for s3cr3t-p@ss", "refused for ***"),
            ("token tok-12345678", "token ***"),
            ("db.example.com mode=ro", "db.example.com mode=ro"),
        ] {
            assert_eq!(url.scrub(text), wanted);
        }
        let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END PRIVATE KEY-----\n";
        let key = secrets(&[pem]);
        assert_eq!(key.scrub("line AQEFAASCBKcwggSjAgEAAoIB of it"), "line *** of it");
        assert_eq!(
            key.scrub("-----BEGIN PRIVATE KEY-----"),
            "-----BEGIN PRIVATE KEY-----"
        );
        let account =
            json!({ "type": "service_account", "private_key": pem, "private_key_id": "0123456789abcdef" });
        let account = secrets(&[&account.to_string()]);
        assert_eq!(
            account.scrub("service_account 0123456789abcdef"),
            "service_account ***"
        );
        assert_eq!(account.scrub("MIIEvQIBADANBgkqhkiG9w0B"), "***");
    }

    #[test]
    fn short_values_are_not_looked_for() {
        let secrets = Secrets::default();
        assert!(!secrets.add("abc"));
        assert!(secrets.add("abcd"));
        assert_eq!(secrets.scrub("abc abcd"), "abc ***");
        assert_eq!(format!("{secrets:?}"), "Secrets(1)");
    }

    #[test]
    fn texts_of_a_value_are_cleaned_and_numbers_and_clones_follow() {
        let first = Secrets::default();
        let clone = first.clone();
        first.add("54321");
        let value = json!({ "a": ["54321", { "b": "x54321" }], "54321": 54321 });
        assert_eq!(
            clone.scrub_all(value),
            json!({ "a": ["***", { "b": "x***" }], "54321": 54321 })
        );
        let error = Error::config("a.b", "54321")
            .with_help("54321")
            .with_place("54321");
        let error = clone.scrub_error(error.with_cause(&std::io::Error::other("54321")));
        assert!(!format!("{error:?}").contains("54321"));
    }

    proptest! {
        #[test]
        fn no_secret_survives_between_other_octets(
            secret in "[ -~]{6,40}",
            before in prop::collection::vec(any::<u8>(), 0..7),
            after in prop::collection::vec(any::<u8>(), 0..7),
        ) {
            let secrets = secrets(&[&secret]);
            let octets = [before.as_slice(), secret.as_bytes(), after.as_slice()].concat();
            for text in [BASE64_STANDARD.encode(&octets), BASE64_URL_SAFE_NO_PAD.encode(&octets)] {
                prop_assert!(secrets.scrub(&text).contains(MASK), "{text}");
            }
            let text = format!("{}{secret}{}", before.len(), after.len());
            prop_assert!(!secrets.scrub(&text).contains(&secret) || MASK.contains(&secret));
        }
    }
}
