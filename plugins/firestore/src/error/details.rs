//! What a status carries beside its text: how long to wait, which quota is spent, why a right is missing.
//!
//! The details are Google's `google.rpc` messages; what cannot be decoded is as if it were not there.

use std::time::Duration;

use gcloud_sdk::google::rpc;
use gcloud_sdk::prost::Message;
use gcloud_sdk::tonic::Status;

/// How long the service asks to wait.
pub(super) fn retry_after(status: &Status) -> Option<Duration> {
    let info: rpc::RetryInfo = detail(status, "google.rpc.RetryInfo")?;
    // A negative time is no time.
    Duration::try_from(info.retry_delay?).ok()
}

/// The reason in one word, such as `SERVICE_DISABLED`.
pub(super) fn reason(status: &Status) -> Option<String> {
    let info: rpc::ErrorInfo = detail(status, "google.rpc.ErrorInfo")?;
    Some(info.reason)
}

/// Whether what is spent is a quota of the day: slowing down does not help.
pub(super) fn is_spent_for_the_day(status: &Status) -> bool {
    let of_info = detail::<rpc::ErrorInfo>(status, "google.rpc.ErrorInfo")
        .into_iter()
        .flat_map(|info| info.metadata.into_values());
    let of_failure = detail::<rpc::QuotaFailure>(status, "google.rpc.QuotaFailure")
        .into_iter()
        .flat_map(|failure| failure.violations)
        .flat_map(|violation| [violation.quota_id, violation.description, violation.subject]);
    std::iter::once(status.message().to_owned())
        .chain(of_info)
        .chain(of_failure)
        .any(|text| {
            // A quota's unit is `1/d/{project}`, its name `..PerDayPerProject`, a text about it says "per day" or "daily".
            let text = text.to_lowercase().replace([' ', '_', '-'], "");
            text.contains("perday") || text.contains("daily") || text.starts_with("1/d/")
        })
}

/// The first web address in a text of the service.
pub(super) fn address(text: &str) -> Option<&str> {
    let from = &text[text.find("https://")?..];
    let end = from.find(|letter: char| letter.is_whitespace() || "\"'<>".contains(letter));
    Some(&from[..end.unwrap_or(from.len())])
}

/// The text with `..` in place of what stands in quotes, which may be a value.
pub(super) fn without_quoted(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut letters = text.chars();
    let mut before = ' ';
    while let Some(letter) = letters.next() {
        kept.push(letter);
        // An apostrophe within a word begins nothing.
        let begins = matches!(letter, '"' | '`') || (letter == '\'' && !before.is_alphanumeric());
        if begins {
            kept.push_str("..");
            // A quote that is never closed hides the rest.
            if letters.any(|other| other == letter) {
                kept.push(letter);
            }
        }
        before = letter;
    }
    kept
}

fn detail<M: Message + Default>(status: &Status, name: &str) -> Option<M> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    let found = details
        .iter()
        .find(|detail| detail.type_url.rsplit('/').next() == Some(name))?;
    M::decode(found.value.as_slice()).ok()
}
