//! The lines of `migration-log.json`: each an object with `seq`, `at`, `level` and what happened.
//!
//! Left out: heartbeats and calls (they are for the supervisor), the long description of a plugin (`whimbrel plugin
//! info` prints it), and the data of rejected records (it belongs to their store).

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use whimbrel_plugin_api::FindingLevel;

use crate::events::{Event, Outcome};
use crate::report::figures::printable;

/// Characters of a line that a plugin printed; the rest is cut.
const OUTPUT_CHARS_MAX: usize = 4_000;

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    at: DateTime<Utc>,
    level: &'a str,
    #[serde(flatten)]
    what: Map<String, Value>,
}

/// The line for an event, with its end; none if the log has no such events.
pub fn event_line(seq: u64, at: DateTime<Utc>, event: &Event) -> Option<Vec<u8>> {
    if matches!(
        event,
        Event::Heartbeat { .. } | Event::CallStarted { .. } | Event::CallEnded { .. }
    ) {
        return None;
    }
    let mut what = match serde_json::to_value(event) {
        Ok(Value::Object(what)) => what,
        _ => return None,
    };
    what.remove("level");
    // The line has a `seq` of its own.
    if let Some(seq) = what.remove("seq") {
        what.insert("commit_seq".to_owned(), seq);
    }
    if matches!(event, Event::PluginLoaded { .. }) {
        what.remove("description");
    }
    for value in what.values_mut() {
        clean(value);
    }
    let level = level(event);
    line(seq, at, level, what)
}

/// The line for something that a plugin printed.
pub fn output_line(seq: u64, at: DateTime<Utc>, text: &str) -> Option<Vec<u8>> {
    let cut: String = text.chars().take(OUTPUT_CHARS_MAX).collect();
    let mut what = Map::new();
    what.insert("event".to_owned(), "plugin_output".into());
    what.insert("line".to_owned(), printable(&cut).into());
    line(seq, at, "info", what)
}

/// The line that says how many lines a slow disk has cost.
pub fn left_out_line(seq: u64, at: DateTime<Utc>, count: u64) -> Option<Vec<u8>> {
    let mut what = Map::new();
    what.insert("event".to_owned(), "lines_left_out".into());
    what.insert("count".to_owned(), count.into());
    line(seq, at, "warn", what)
}

fn line(seq: u64, at: DateTime<Utc>, level: &str, what: Map<String, Value>) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line { seq, at, level, what }).ok()?;
    line.push(b'\n');
    Some(line)
}

/// Takes the data out of every rejected record, wherever an event holds one, and what steers a terminal out of texts.
fn clean(value: &mut Value) {
    match value {
        Value::Object(members) => {
            // This is what makes an object a rejected record; see `plugin_api::source::RejectedRecord`.
            if ["record", "code", "message"]
                .iter()
                .all(|name| members.contains_key(*name))
            {
                members.remove("data");
            }
            members.values_mut().for_each(clean);
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::String(text) => {
            let shown = printable(text);
            if shown != *text {
                *text = shown;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn level(event: &Event) -> &str {
    match event {
        Event::Log { level, .. } => match level.as_str() {
            "error" | "warn" | "debug" => level,
            _ => "info",
        },
        Event::Found { finding, .. } => match finding.level {
            FindingLevel::Info => "info",
            FindingLevel::Warning => "warn",
            FindingLevel::Blocker => "error",
        },
        Event::Rejected { .. }
        | Event::Retrying { .. }
        | Event::WorkerRestarted { .. }
        | Event::Paused { .. }
        | Event::NotDelivered { .. }
        | Event::HookEnded { ok: false, .. } => "warn",
        Event::CollectionFailed { .. } => "error",
        Event::Progress { .. }
        | Event::VerificationProgress { .. }
        | Event::OrphanSearch { .. }
        | Event::Committed { .. }
        | Event::Health { .. } => "debug",
        Event::Finished { outcome } => match **outcome {
            Outcome::Done { .. } => "info",
            Outcome::Cancelled { .. } | Outcome::Unverified { .. } => "warn",
            Outcome::Differences { .. } | Outcome::Refused { .. } | Outcome::Failed { .. } => "error",
        },
        _ => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{CollectionResult, Phase, RunSummary};
    use expect_test::expect;
    use whimbrel_plugin_api::source::RejectedRecord;
    use whimbrel_plugin_api::{Cursor, Error};

    fn at() -> DateTime<Utc> {
        "2026-11-21T08:00:00.250Z".parse().unwrap()
    }

    fn shown(event: &Event) -> String {
        String::from_utf8(event_line(7, at(), event).unwrap()).unwrap()
    }

    fn rejected() -> RejectedRecord {
        RejectedRecord {
            record: "u-7".into(),
            row: Some(1),
            code: "sink.not_null".into(),
            message: "`email` may not be null".into(),
            data: Some("planted-value".into()),
        }
    }

    #[test]
    fn lines_have_a_stable_form() {
        let lines: String = [
            Event::PhaseStarted { phase: Phase::Import },
            Event::Committed {
                collection: "users".into(),
                partition: "all".into(),
                seq: 3,
                cursor: Cursor(vec![1, 255]),
                record_count: 500,
                done: false,
            },
            Event::Log {
                plugin: "curlew".into(),
                level: "warn".into(),
                message: "slow\u{1b}[2J".into(),
            },
            Event::Rejected {
                collection: "users".into(),
                record: rejected(),
                stage: Phase::Import,
                partition: String::new(),
                seq: 0,
                digest: None,
            },
        ]
        .iter()
        .map(shown)
        .collect();
        let output = output_line(8, at(), "segment \u{9b}x").unwrap();
        expect![[r#"
            {"seq":7,"at":"2026-11-21T08:00:00.250Z","level":"info","event":"phase_started","phase":"import"}
            {"seq":7,"at":"2026-11-21T08:00:00.250Z","level":"debug","collection":"users","commit_seq":3,"cursor":"01ff","done":false,"event":"committed","partition":"all","record_count":500}
            {"seq":7,"at":"2026-11-21T08:00:00.250Z","level":"warn","event":"log","message":"slow�[2J","plugin":"curlew"}
            {"seq":7,"at":"2026-11-21T08:00:00.250Z","level":"warn","collection":"users","event":"rejected","record":{"code":"sink.not_null","message":"`email` may not be null","record":"u-7","row":1},"stage":"import"}
            {"seq":8,"at":"2026-11-21T08:00:00.250Z","level":"info","event":"plugin_output","line":"segment �x"}
        "#]].assert_eq(&(lines + &String::from_utf8(output).unwrap()));
    }

    #[test]
    fn no_line_holds_data_of_a_rejected_record() {
        let outcome = Outcome::Failed {
            summary: RunSummary {
                rejected: vec![("users".into(), rejected())],
                collections: vec![CollectionResult::default()],
                ..RunSummary::default()
            },
            failure: Error::config("a.b", "x").into(),
        };
        for event in [
            Event::Rejected {
                collection: "users".into(),
                record: rejected(),
                stage: Phase::Import,
                partition: String::new(),
                seq: 0,
                digest: None,
            },
            Event::Finished {
                outcome: Box::new(outcome),
            },
        ] {
            let line = shown(&event);
            assert!(line.contains("sink.not_null"), "{line}");
            assert!(!line.contains("planted-value"), "{line}");
        }
    }

    #[test]
    fn heartbeats_and_calls_are_left_out() {
        for event in [
            Event::Heartbeat { memory_bytes: 0 },
            Event::CallEnded { call_id: 1 },
        ] {
            assert_eq!(event_line(1, at(), &event), None);
        }
    }

    #[test]
    fn a_long_output_is_cut() {
        let line = output_line(1, at(), &"x".repeat(100_000)).unwrap();
        assert!(line.len() < 5_000);
    }
}
