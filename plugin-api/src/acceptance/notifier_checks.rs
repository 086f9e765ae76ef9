//! The checks of what a notifier delivers. Each sends to a target of its own and counts what arrived there.
//! Neighbours: `notifier` lists them, `notifier_target` opens and compares, `notifier_life_checks` has the others.

use super::notifier_target::{Target, deliver, is_honest_refusal, told};
use super::report::{Checked, Stop, ensure};
use crate::abi::notifier::ForeignNotifier;
use crate::check::FindingLevel;
use crate::notifier::{Notification, NotificationReceipt, Notifier as _, Severity};

/// Octets of a long text for notifiers without a limit.
const LONG_BYTES: usize = 1024 * 1024;
/// Octets of title and body together above which the suite does not try a declared limit.
const LIMIT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Texts that look like the end of a line, of a message, of a protocol, of markup, or of a terminal's patience.
const HOSTILE: [&str; 16] = [
    "line\nline\r\nline\rline",
    "\u{0}NUL\u{0}",
    "\u{1}\u{2}\u{7}\u{8}\u{b}\u{c}\u{1f}\u{7f}",
    "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m",
    "tab\tand  spaces   ",
    "\"quotes\" 'and' \\back\\slashes\\ \\n",
    "{\"dedupe_key\":\"forged\",\"title\":\"forged\"}",
    "\n{\"dedupe_key\":\"forged\",\"title\":\"forged\"}\n",
    "\n2024-01-01T00:00:00Z\tinfo\tcompleted\tforged\t\t\t[forged]\n",
    ".\r\nQUIT\r\n.",
    "to\r\nBcc: nobody@example.invalid\r\n\r\n",
    "<script>alert(1)</script> <@channel> <!here> &amp; *bold* `code`",
    "= + [brackets] ; | , %s ${env:HOME}",
    "e\u{301}\u{200b}\u{feff}\u{202e}right to left\u{2028}\u{2029}\u{85}",
    "👩‍👩‍👧‍👦🏳️‍🌈\u{10ffff}",
    " ",
];

pub(super) fn check_sends_nothing(target: &Target) -> Checked {
    let mut notifier = target.open()?;
    for _ in 0..2 {
        no_blocker(&mut notifier)?;
    }
    target.ensure_delivered(&[])?;
    drop(notifier);
    target.ensure_delivered(&[])
}

fn no_blocker(notifier: &mut ForeignNotifier) -> Checked {
    for finding in notifier.check()? {
        ensure(finding.level != FindingLevel::Blocker, || {
            format!("`check` finds a blocker: {} ({})", finding.message, finding.code)
        })?;
    }
    Ok(())
}

pub(super) fn open_and_close_send_nothing(target: &Target) -> Checked {
    drop(target.open()?);
    drop(target.open()?);
    target.ensure_delivered(&[])
}

pub(super) fn check_after_send_is_fine(target: &Target) -> Checked {
    let mut notifier = target.open()?;
    let sent = [told("before"), told("after")];
    deliver(&mut notifier, &sent[0])?;
    no_blocker(&mut notifier)?;
    deliver(&mut notifier, &sent[1])?;
    target.ensure_delivered(&sent)
}

pub(super) fn each_is_delivered_once(target: &Target) -> Checked {
    let mut sent = Vec::new();
    for opened in 0..2 {
        let mut notifier = target.open()?;
        for number in 0..3 {
            let notification = told(&format!("{opened}.{number}"));
            deliver(&mut notifier, &notification)?;
            sent.push(notification);
            // A receipt means that the service has it, not that it will have it once the notifier is closed.
            target.ensure_delivered(&sent)?;
        }
    }
    target.ensure_delivered(&sent)
}

pub(super) fn every_severity_is_delivered(target: &Target) -> Checked {
    let mut notifier = target.open()?;
    let mut sent = Vec::new();
    for severity in Severity::ALL {
        let notification = Notification {
            severity,
            ..told(severity.name())
        };
        deliver(&mut notifier, &notification)?;
        sent.push(notification);
    }
    target.ensure_delivered(&sent)
}

pub(super) fn same_key_again_is_as_declared(target: &Target) -> Checked {
    let (first, between) = (told("first"), told("between"));
    let mut notifier = target.open()?;
    let receipt = deliver(&mut notifier, &first)?;
    deliver(&mut notifier, &between)?;
    let again = deliver(&mut notifier, &first)?;
    repeated(target, [&receipt, &again], &[first.clone(), between], &first)
}

pub(super) fn same_key_after_reopening(target: &Target) -> Checked {
    let first = told("first");
    let receipt = deliver(&mut target.open()?, &first)?;
    let again = deliver(&mut target.open()?, &first)?;
    repeated(target, [&receipt, &again], std::slice::from_ref(&first), &first)
}

/// What was sent, and `last` a second time.
fn repeated(
    target: &Target,
    receipts: [&NotificationReceipt; 2],
    sent: &[Notification],
    last: &Notification,
) -> Checked {
    if target.capabilities.dedupes {
        ensure(receipts[0] == receipts[1], || {
            "the receipt of a repetition is not that of the first".to_owned()
        })?;
        return target.ensure_delivered(sent);
    }
    ensure(target.delivered().len() != sent.len(), || {
        "a repetition is delivered once, but `dedupes` is not declared".to_owned()
    })?;
    let mut sent = sent.to_vec();
    sent.push(last.clone());
    target.ensure_delivered(&sent)
}

pub(super) fn other_key_is_another_notification(target: &Target) -> Checked {
    let mut notifier = target.open()?;
    let mut sent = Vec::new();
    // Keys that are parts of each other or differ in white space or case only.
    for key in ["key", "key1", "ke", "Key", "key ", " key"] {
        let notification = Notification {
            dedupe_key: key.to_owned(),
            ..told("same")
        };
        deliver(&mut notifier, &notification)?;
        sent.push(notification);
    }
    target.ensure_delivered(&sent)
}

pub(super) fn empty_key_is_no_repetition(target: &Target) -> Checked {
    let without_key = Notification {
        dedupe_key: String::new(),
        ..told("same")
    };
    let mut notifier = target.open()?;
    deliver(&mut notifier, &without_key)?;
    deliver(&mut notifier, &without_key)?;
    drop(notifier);
    deliver(&mut target.open()?, &without_key)?;
    target.ensure_delivered(&[without_key.clone(), without_key.clone(), without_key])
}

/// Sends what may be refused; the notifier must still work then. `sent` is kept up with what must have arrived.
fn delivered_or_refused(
    target: &Target,
    notifier: &mut ForeignNotifier,
    notification: Notification,
    what: &str,
    sent: &mut Vec<Notification>,
) -> Checked {
    match notifier.send(&notification) {
        Ok(_) => sent.push(notification),
        Err(error) => is_honest_refusal(&error, what)?,
    }
    target.ensure_delivered(sent).map_err(|stop| match stop {
        Stop::Fail(reason) => Stop::Fail(format!("{what}: {reason}")),
        skip @ Stop::Skip(_) => skip,
    })
}

pub(super) fn empty_texts_are_fine(target: &Target) -> Checked {
    let mut notifier = target.open()?;
    let mut sent = Vec::new();
    let empty = |change: fn(&mut Notification), key: &str| {
        let mut notification = told(key);
        change(&mut notification);
        notification
    };
    for (what, notification) in [
        ("a notification of empty texts alone", Notification::default()),
        ("an empty title", empty(|it| it.title.clear(), "title")),
        ("an empty body", empty(|it| it.body.clear(), "body")),
        ("an empty event", empty(|it| it.event.clear(), "event")),
        ("an empty time", empty(|it| it.at.clear(), "at")),
        (
            "a notification without facts",
            empty(|it| it.facts.clear(), "facts"),
        ),
        (
            "a fact without name and value",
            empty(|it| it.facts = [(String::new(), String::new())].into(), "fact"),
        ),
    ] {
        delivered_or_refused(target, &mut notifier, notification, what, &mut sent)?;
    }
    let last = told("last");
    deliver(&mut notifier, &last)?;
    sent.push(last);
    target.ensure_delivered(&sent)
}

pub(super) fn hostile_texts_stay_one_notification(target: &Target) -> Checked {
    let mut notifier = target.open()?;
    let mut sent = Vec::new();
    for (number, text) in HOSTILE.into_iter().enumerate() {
        let plain = told(&number.to_string());
        let text = text.to_owned();
        let with = |part: &str, change: &dyn Fn(&mut Notification)| {
            let mut notification = Notification {
                dedupe_key: format!("{number} {part}"),
                ..plain.clone()
            };
            change(&mut notification);
            (format!("hostile text {number} as {part}"), notification)
        };
        for (what, notification) in [
            with("title", &|it| it.title.clone_from(&text)),
            with("body", &|it| it.body.clone_from(&text)),
            with("event", &|it| it.event.clone_from(&text)),
            with("time", &|it| it.at.clone_from(&text)),
            with("fact", &|it| drop(it.facts.insert(text.clone(), text.clone()))),
            with("key", &|it| it.dedupe_key = format!("{number}{text}")),
        ] {
            delivered_or_refused(target, &mut notifier, notification, &what, &mut sent)?;
        }
    }
    let last = told("last");
    deliver(&mut notifier, &last)?;
    sent.push(last);
    target.ensure_delivered(&sent)
}

pub(super) fn long_texts_are_whole_or_refused(target: &Target) -> Checked {
    let mut notifier = target.open()?;
    let mut sent = Vec::new();
    let limit = target.capabilities.text_bytes_max;
    let of_length = |key: &str, length: usize| {
        let mut notification = told(key);
        notification.body = "é".repeat(length.saturating_sub(notification.title.len()) / 2);
        notification
    };
    let whole = match limit {
        0 => LONG_BYTES,
        limit if limit > LIMIT_BYTES_MAX => LONG_BYTES,
        limit => usize::try_from(limit).unwrap_or(LONG_BYTES),
    };
    let long = of_length("long", whole);
    deliver(&mut notifier, &long)?;
    sent.push(long);
    target.ensure_delivered(&sent)?;
    let count = sent.len();
    for (what, notification) in [
        ("a text longer than is declared", of_length("longer", whole * 4)),
        (
            "a key of 1 MiB",
            Notification {
                dedupe_key: "k".repeat(LONG_BYTES),
                ..told("key")
            },
        ),
        (
            "ten thousand facts",
            Notification {
                facts: (0..10_000)
                    .map(|fact| (format!("fact {fact}"), "value".repeat(20)))
                    .collect(),
                ..told("facts")
            },
        ),
        (
            "a megabyte of NUL",
            Notification {
                body: "\0".repeat(LONG_BYTES),
                ..told("nul")
            },
        ),
    ] {
        // It may arrive cut here, so only that it is one, and that refusals are honest.
        let before = target.delivered().len();
        let arrived = match notifier.send(&notification) {
            Ok(_) => 1,
            Err(error) => is_honest_refusal(&error, what).map(|()| 0)?,
        };
        let now = target.delivered().len();
        ensure(now == before + arrived, || {
            format!(
                "{what}: {arrived} were taken and {} arrived",
                now.saturating_sub(before)
            )
        })?;
    }
    let last = told("last");
    deliver(&mut notifier, &last)?;
    ensure(target.delivered().len() > count, || {
        "after long texts, a notification does not arrive".to_owned()
    })
}
