//! Looks at a certificate again, without either system: whether it is whole, agrees with itself, and who vouches for it.
//!
//! Whoever makes a certificate can make its checksum and root as well: only a signature of a key that the reader trusts
//! says that nobody else has written it. Without one the answer is "integrity only".

use serde::Serialize;

use super::body::{Body, CollectionSection, PlaceSection, Verdict};
use super::canonical;
use super::file::CertificateFile;
use super::key::{self, SignatureState, TrustedKey};

/// The check of what the certificate itself says.
pub const VERDICT: &str = "verdict";

/// What whoever checks asks for.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    /// The key whose signature counts. A certificate without one is refused if a key is named.
    pub trusted: Option<TrustedKey>,
    /// Whether a certificate without a signature is refused.
    pub requires_signature: bool,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// As it must be.
    Held,
    /// Nobody can say, and nobody has asked for it.
    Open,
    /// Nobody can say, and it is needed.
    Unchecked,
    /// Not as it must be.
    Failed,
}

impl CheckState {
    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Held => "holds",
            Self::Open => "open",
            Self::Unchecked => "cannot be checked",
            Self::Failed => "does not hold",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it ended.
    pub state: CheckState,
    /// What was found, in one sentence.
    pub message: String,
}

impl Check {
    /// One.
    pub fn new(name: &'static str, state: CheckState, message: impl Into<String>) -> Self {
        Self {
            name,
            state,
            message: message.into(),
        }
    }
}

/// What came of all checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The checks, in order.
    pub checks: Vec<Check>,
    /// Whether no trusted key vouches for it, so that only damage would be noticed.
    pub integrity_only: bool,
}

impl Checked {
    /// The gravest.
    pub fn state(&self) -> CheckState {
        let states = self.checks.iter().map(|check| check.state);
        states.max().unwrap_or(CheckState::Unchecked)
    }
}

/// Checks a certificate by itself.
pub fn check(file: &CertificateFile, demands: &Demands) -> Checked {
    let body = &file.certificate;
    let (signature, is_trusted) = signature(file, demands);
    let checks = vec![
        checksum(file),
        signature,
        root(body),
        digests(body),
        verdict(body),
    ];
    Checked {
        checks,
        integrity_only: !is_trusted,
    }
}

fn held_or(is_held: bool, name: &'static str, held: &str, failed: &str) -> Check {
    if is_held {
        Check::new(name, CheckState::Held, held)
    } else {
        Check::new(name, CheckState::Failed, failed)
    }
}

fn checksum(file: &CertificateFile) -> Check {
    held_or(
        file.checksum == canonical::checksum(&canonical::octets(&file.certificate)),
        "checksum",
        "the content is as it was written",
        "the content is not what the checksum is of",
    )
}

/// And whether a trusted key has signed.
fn signature(file: &CertificateFile, demands: &Demands) -> (Check, bool) {
    let new = |state, message: String| Check::new("signature", state, message);
    let Some(signature) = &file.signature else {
        let check = match (&demands.trusted, demands.requires_signature) {
            (Some(key), _) => new(
                CheckState::Failed,
                format!(
                    "it is not signed, and a signature of key {} is asked for",
                    key.id()
                ),
            ),
            (None, true) => new(CheckState::Failed, "it is not signed".to_owned()),
            (None, false) => new(
                CheckState::Open,
                "it is not signed: integrity only, anybody could have written it".to_owned(),
            ),
        };
        return (check, false);
    };
    let id = key::id_of(&signature.public_key).unwrap_or_default();
    let check = match key::check(&file.certificate, signature, demands.trusted.as_ref()) {
        SignatureState::Trusted => new(CheckState::Held, format!("signed by the trusted key {id}")),
        SignatureState::Unknown => new(
            if demands.requires_signature {
                CheckState::Unchecked
            } else {
                CheckState::Open
            },
            format!(
                "signed by key {id}, of which nobody has said that it is trusted: integrity only; name the key that you \
                 trust by `--public-key`"
            ),
        ),
        SignatureState::OtherKey => new(
            CheckState::Failed,
            format!("signed by key {id}, which is not the trusted one"),
        ),
        SignatureState::Wrong => new(
            CheckState::Failed,
            "its signature is none of this content".to_owned(),
        ),
    };
    let is_trusted = check.state == CheckState::Held;
    (check, is_trusted)
}

fn root(body: &Body) -> Check {
    held_or(
        canonical::root(&body.collections).as_deref() == Some(body.root.as_str()),
        "root",
        "the root is the one of its collections",
        "the root is not the one of its collections",
    )
}

fn digests(body: &Body) -> Check {
    for collection in &body.collections {
        for (name, place) in collection.digests.named() {
            if place.is_some_and(|place| !adds_up(place)) {
                let message = format!(
                    "the parts of `{}`, {name}, do not add up to their whole",
                    collection.source
                );
                return Check::new("digests", CheckState::Failed, message);
            }
        }
    }
    Check::new("digests", CheckState::Held, "the parts add up to their wholes")
}

/// Whether the sums of the parts are those of the place; a place that was not divided has none.
fn adds_up(place: &PlaceSection) -> bool {
    let (Some(sum), Some(xor)) = (canonical::bits_128(&place.sum), canonical::bits_128(&place.xor)) else {
        return false;
    };
    if place.partitions.is_empty() {
        return true;
    }
    let mut total = (0_u64, 0_u128, 0_u128);
    for part in &place.partitions {
        let (Some(part_sum), Some(part_xor)) =
            (canonical::bits_128(&part.sum), canonical::bits_128(&part.xor))
        else {
            return false;
        };
        total.0 = total.0.saturating_add(part.record_count);
        total.1 = total.1.wrapping_add(part_sum);
        total.2 ^= part_xor;
    }
    total == (place.record_count, sum, xor)
}

fn verdict(body: &Body) -> Check {
    let new = |state, message: String| Check::new(VERDICT, state, message);
    let is_consistent =
        body.verdict >= body.verdict_of_sections() && body.collections.iter().all(agrees_with_itself);
    if !is_consistent || body.collections.is_empty() {
        return new(
            CheckState::Failed,
            "the verdict is not the one of its sections".to_owned(),
        );
    }
    let state = match body.verdict {
        Verdict::Equal => CheckState::Held,
        Verdict::Undecided => CheckState::Unchecked,
        Verdict::Different => CheckState::Failed,
    };
    new(state, format!("it says: {}", body.verdict.words()))
}

fn agrees_with_itself(collection: &CollectionSection) -> bool {
    collection.verdict >= collection.verdict_of_counts()
        && collection.level == "comprehensive"
        && collection.digests.read_back.is_some()
}

#[cfg(test)]
mod tests;
