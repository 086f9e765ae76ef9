//! From the events of one task to the notifications of it, each with a key of its own.
//!
//! The same events at the same times give the same notifications with the same keys, so what is told again after a crash
//! can be recognised. Neighbours: `pace` (how often), `wording` (in which words).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::notifier::{Notification, Severity};

use super::pace::{ErrorPace, ProgressPace};
use super::wording::{self, Ending, ROLLBACK};
use crate::config::ToldEvent;
use crate::events::{Event, Failure};

/// Notifications of errors in one run; the report has them all.
const ERRORS_MAX: u64 = 50;

/// Pauses of one run that are told; one that comes and goes is told often enough by then.
const PAUSES_MAX: u64 = 50;

/// When an event was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the clock on the wall.
    pub at: DateTime<Utc>,
    /// Since the task began, by a clock that nobody sets.
    pub elapsed: Duration,
}

/// Makes the notifications of one task.
pub struct Notices {
    report: Option<String>,
    run: Option<Run>,
    is_over: bool,
    numbers: HashMap<ToldEvent, u64>,
    progress: ProgressPace,
    rejected: Rejections,
    retry_count: u64,
    retries: ErrorPace,
}

struct Run {
    run_id: String,
    command: String,
    job: String,
    mode: String,
    started_by: String,
}

/// Rejected records are seen as such and in the counters of progress, in either order and perhaps not all of them as such.
#[derive(Default)]
struct Rejections {
    seen: u64,
    counted: HashMap<String, u64>,
    pace: ErrorPace,
}

impl Rejections {
    fn count(&self) -> u64 {
        self.counted.values().sum::<u64>().max(self.seen)
    }
}

impl Notices {
    /// Of a task whose report will be at `report`.
    pub fn new(report: Option<String>) -> Self {
        Self {
            report,
            run: None,
            is_over: false,
            numbers: HashMap::new(),
            progress: ProgressPace::default(),
            rejected: Rejections::default(),
            retry_count: 0,
            retries: ErrorPace::default(),
        }
    }

    /// Takes note of an event; gives what people can be told of it. Nothing is told before [`Event::Started`], whose names
    /// stand in every notification, and nothing after the end.
    pub fn observe(&mut self, event: &Event, now: Moment) -> Vec<Notification> {
        match event {
            Event::Started {
                run_id,
                command,
                job,
                mode,
                started_by,
            } if self.run.is_none() => {
                self.run = Some(Run {
                    run_id: run_id.clone(),
                    command: command.clone(),
                    job: job.clone(),
                    mode: mode.clone(),
                    started_by: started_by.clone(),
                });
                self.started(now).into_iter().collect()
            }
            _ if self.is_over => Vec::new(),
            Event::Progress {
                collection,
                written_count,
                rejected_count,
                ..
            } => {
                self.rejected.counted.insert(collection.clone(), *rejected_count);
                let errors = self.rejected(collection, None, now);
                let done = written_count.saturating_add(*rejected_count);
                errors
                    .into_iter()
                    .chain(self.progressed(collection, done, now))
                    .collect()
            }
            event => self.observe_one(event, now).into_iter().collect(),
        }
    }

    fn observe_one(&mut self, event: &Event, now: Moment) -> Option<Notification> {
        match event {
            Event::PhaseStarted { phase } => {
                let name = phase.name();
                let told = self.tell(
                    ToldEvent::PhaseChanged,
                    Severity::Info,
                    &format!("{name} begins"),
                    now,
                )?;
                Some(with_fact(told, "phase", name))
            }
            Event::CollectionPlanned {
                source, record_count, ..
            } => {
                self.progress.plan(source, *record_count);
                None
            }
            Event::Rejected {
                collection, record, ..
            } => {
                self.rejected.seen += 1;
                self.rejected(collection, Some(&record.code), now)
            }
            Event::Retrying { .. } | Event::CollectionFailed { .. } | Event::HookEnded { ok: false, .. } => {
                self.error_added(event, now)
            }
            Event::Paused { .. } | Event::Resumed { .. } => self.waited(event, now),
            Event::Finished { outcome } => {
                let command = self.run.as_ref()?.command.clone();
                self.end(wording::ending(&command, outcome), now)
            }
            _ => None,
        }
    }

    /// The task ended without its last event: the worker was lost, or the job was refused before it began.
    pub fn lost(&mut self, failures: &[Failure], now: Moment) -> Vec<Notification> {
        let command = self
            .run
            .as_ref()
            .filter(|_| !self.is_over)
            .map(|run| run.command.clone());
        let told = command.and_then(|command| self.end(wording::failed(&command, failures), now));
        told.into_iter().collect()
    }

    fn started(&mut self, now: Moment) -> Option<Notification> {
        let command = &self.run.as_ref()?.command;
        let (event, title) = match command.as_str() {
            ROLLBACK => (ToldEvent::RollbackStarted, "rollback started".to_owned()),
            command => (ToldEvent::Started, format!("{command} started")),
        };
        self.tell(event, Severity::Info, &title, now)
    }

    fn progressed(&mut self, collection: &str, done: u64, now: Moment) -> Option<Notification> {
        let far = self.progress.note(collection, done, now.elapsed)?;
        let title = match (far.percent(), far.total) {
            (Some(percent), Some(total)) => format!("{percent} %, {} of {total} records", far.done),
            _ => format!("{} records", far.done),
        };
        let told = self.tell(ToldEvent::Progress, Severity::Info, &title, now)?;
        Some(with_fact(told, "records_done", &far.done.to_string()))
    }

    fn rejected(&mut self, collection: &str, code: Option<&str>, now: Moment) -> Option<Notification> {
        let count = self.rejected.count();
        if !self.rejected.pace.is_due(count) {
            return None;
        }
        let title = match count {
            1 => format!("a record of {collection} was rejected"),
            _ => format!("{count} records were rejected, the last of {collection}"),
        };
        let mut told = self.tell_error(Severity::Warning, &title, now)?;
        told.body = code
            .map(|code| format!("the last with the code {code}"))
            .unwrap_or_default();
        Some(with_fact(told, "records_rejected", &count.to_string()))
    }

    fn error_added(&mut self, event: &Event, now: Moment) -> Option<Notification> {
        let (severity, title, text) = match event {
            Event::Retrying {
                role,
                collection,
                code,
                message,
                ..
            } => {
                self.retry_count += 1;
                let count = self.retry_count;
                if !self.retries.is_due(count) {
                    return None;
                }
                let title = match (count, role) {
                    (_, Some(Role::Source)) => format!("{collection} is read on after a failure"),
                    (1, _) => format!("a transaction of {collection} is tried again"),
                    _ => format!("{count} transactions were tried again, the last of {collection}"),
                };
                (Severity::Warning, title, format!("{message}\n  code: {code}"))
            }
            Event::CollectionFailed { collection, failure } => (
                Severity::Error,
                format!("{collection} failed, the other collections go on"),
                wording::failure_text(failure),
            ),
            Event::HookEnded { hook, message, .. } => (
                Severity::Warning,
                format!("the hook {hook} failed"),
                message.clone(),
            ),
            _ => return None,
        };
        let mut told = self.tell_error(severity, &title, now)?;
        told.body = wording::body(text);
        Some(told)
    }

    /// Somebody has to repair something, or has done so.
    fn waited(&mut self, event: &Event, now: Moment) -> Option<Notification> {
        let told = self.numbers.get(&ToldEvent::Paused).copied().unwrap_or(0);
        match event {
            Event::Paused {
                code, message, help, ..
            } if told < PAUSES_MAX => {
                let title = "paused until somebody repairs it";
                let mut told = self.tell(ToldEvent::Paused, Severity::Warning, title, now)?;
                let help = help
                    .as_ref()
                    .map_or_else(String::new, |help| format!("\n  help: {help}"));
                told.body = wording::body(format!("{message}{help}\n  code: {code}"));
                Some(told)
            }
            Event::Resumed { paused_ms } if told < PAUSES_MAX => {
                let title = format!("goes on after {:.0} s", *paused_ms as f64 / 1_000.0);
                self.tell(ToldEvent::Resumed, Severity::Info, &title, now)
            }
            _ => None,
        }
    }

    fn tell_error(&mut self, severity: Severity, title: &str, now: Moment) -> Option<Notification> {
        let told = self.numbers.get(&ToldEvent::ErrorAdded).copied().unwrap_or(0);
        if told >= ERRORS_MAX {
            return None;
        }
        let mut notification = self.tell(ToldEvent::ErrorAdded, severity, title, now)?;
        if told + 1 == ERRORS_MAX {
            notification.title = wording::title(&format!(
                "{} (further errors are in the report)",
                notification.title
            ));
        }
        Some(notification)
    }

    fn end(&mut self, ending: Ending, now: Moment) -> Option<Notification> {
        self.is_over = true;
        let mut told = self.tell(ending.event, ending.severity, &ending.title, now)?;
        told.body = wording::body(ending.body);
        told.facts.extend(ending.facts);
        let seconds = format!("{:.1}", now.elapsed.as_secs_f64());
        told.facts.insert("duration_secs".to_owned(), seconds);
        if let Some(report) = &self.report {
            told.facts.insert("report".to_owned(), report.clone());
        }
        Some(told)
    }

    /// A notification with what all of them have.
    fn tell(
        &mut self,
        event: ToldEvent,
        severity: Severity,
        title: &str,
        now: Moment,
    ) -> Option<Notification> {
        let run = self.run.as_ref()?;
        let number = self.numbers.entry(event).or_default();
        *number += 1;
        let facts = [
            ("job", &run.job),
            ("mode", &run.mode),
            ("run", &run.run_id),
            ("started_by", &run.started_by),
        ];
        Some(Notification {
            dedupe_key: format!("{}/{}/{number}", run.run_id, event.name()),
            event: event.name().to_owned(),
            severity,
            title: wording::title(&format!("{}: {title}", run.job)),
            body: String::new(),
            facts: facts
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect::<BTreeMap<_, _>>(),
            at: now.at.to_rfc3339_opts(SecondsFormat::Millis, true),
        })
    }
}

fn with_fact(mut notification: Notification, name: &str, value: &str) -> Notification {
    notification.facts.insert(name.to_owned(), value.to_owned());
    notification
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::Error;
    use whimbrel_plugin_api::source::RejectedRecord;

    use super::*;
    use crate::events::{CollectionResult, Outcome, Phase, RunSummary};

    fn second(second: u64) -> Moment {
        let start = DateTime::from_timestamp(1_709_251_200, 0).unwrap();
        Moment {
            at: start + Duration::from_secs(second),
            elapsed: Duration::from_secs(second),
        }
    }

    fn started(command: &str) -> Event {
        Event::Started {
            run_id: "run-7".to_owned(),
            command: command.to_owned(),
            job: "orders".to_owned(),
            mode: "full".to_owned(),
            started_by: "somebody@host".to_owned(),
        }
    }

    fn planned(collection: &str, record_count: u64) -> Event {
        Event::CollectionPlanned {
            source: collection.to_owned(),
            sink: collection.to_owned(),
            record_count: Some(record_count),
        }
    }

    fn progress(collection: &str, written_count: u64, rejected_count: u64) -> Event {
        Event::Progress {
            collection: collection.to_owned(),
            read_count: written_count + rejected_count,
            written_count,
            rejected_count,
            read_bytes: 0,
        }
    }

    fn rejected() -> Event {
        let record = RejectedRecord {
            code: "files.not_utf8".to_owned(),
            message: "planted value".to_owned(),
            record: "planted value".to_owned(),
            row: None,
            data: Some("planted value".to_owned()),
        };
        Event::Rejected {
            collection: "a".to_owned(),
            record,
            stage: Phase::Import,
            partition: String::new(),
            seq: 0,
            digest: None,
        }
    }

    fn failure() -> Failure {
        Failure::from(Error::config("a.b", "`x` is wrong").with_help("mend it")).in_phase(Phase::Import)
    }

    fn summary(rejected_count: u64) -> RunSummary {
        RunSummary {
            collections: vec![CollectionResult {
                source: "a".to_owned(),
                read_count: 12,
                written_count: 12 - rejected_count,
                rejected_count,
                complete: true,
                ..CollectionResult::default()
            }],
            rejected_count,
            ..RunSummary::default()
        }
    }

    fn finished(outcome: Outcome) -> Event {
        Event::Finished {
            outcome: Box::new(outcome),
        }
    }

    /// Event and severity of each, and its title.
    fn told(notices: &mut Notices, events: &[Event]) -> Vec<(String, Severity, String)> {
        let all = events.iter().flat_map(|event| notices.observe(event, second(60)));
        all.map(|one| (one.event, one.severity, one.title)).collect()
    }

    fn begun(command: &str) -> Notices {
        let mut notices = Notices::new(Some("reports/final.json".to_owned()));
        assert_eq!(notices.observe(&started(command), second(0)).len(), 1);
        notices
    }

    #[test]
    fn a_whole_run_is_told_with_keys_facts_and_times() {
        let mut notices = Notices::new(Some("reports/final.json".to_owned()));
        let mut all = Vec::new();
        for (at, event) in [
            (0, started("run")),
            (0, Event::PhaseStarted { phase: Phase::Import }),
            (1, planned("a", 12)),
            (2, Event::Heartbeat { memory_bytes: 0 }),
            (31, progress("a", 6, 0)),
            (40, rejected()),
            (41, progress("a", 6, 1)),
            (62, finished(Outcome::Done { summary: summary(1) })),
        ] {
            all.extend(notices.observe(&event, second(at)));
        }
        let keys: Vec<&str> = all.iter().map(|one| one.dedupe_key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "run-7/started/1",
                "run-7/phase_changed/1",
                "run-7/progress/1",
                "run-7/error_added/1",
                "run-7/completed/1"
            ]
        );
        let titles: Vec<&str> = all.iter().map(|one| one.title.as_str()).collect();
        assert_eq!(
            titles,
            [
                "orders: run started",
                "orders: import begins",
                "orders: 50 %, 6 of 12 records",
                "orders: a record of a was rejected",
                "orders: run completed with rejected records"
            ]
        );
        let last = all.pop().unwrap();
        assert_eq!(last.severity, Severity::Warning);
        assert_eq!(last.at, "2024-03-01T00:01:02.000Z");
        assert_eq!(last.body, "a: 11 written, 1 rejected");
        let facts: Vec<(&str, &str)> = last
            .facts
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(
            facts,
            [
                ("collections", "1"),
                ("duration_secs", "62.0"),
                ("job", "orders"),
                ("mode", "full"),
                ("records_read", "12"),
                ("records_rejected", "1"),
                ("records_written", "11"),
                ("report", "reports/final.json"),
                ("run", "run-7"),
                ("started_by", "somebody@host"),
            ]
        );
        // Record values are in no notification.
        assert!(!format!("{all:?}{last:?}").contains("planted"));
    }

    #[test]
    fn each_end_has_its_event_and_severity() {
        let summary = || summary(0);
        for (outcome, event, severity, title) in [
            (
                Outcome::Done { summary: summary() },
                "completed",
                Severity::Info,
                "completed",
            ),
            (
                Outcome::Differences { summary: summary() },
                "failed",
                Severity::Error,
                "both sides differ",
            ),
            (
                Outcome::Unverified {
                    summary: summary(),
                    failure: failure(),
                },
                "failed",
                Severity::Warning,
                "complete, but could not be verified",
            ),
            (
                Outcome::Refused {
                    summary: summary(),
                    failures: vec![failure(), failure()],
                },
                "failed",
                Severity::Error,
                "refused",
            ),
            (
                Outcome::Failed {
                    summary: summary(),
                    failure: failure(),
                },
                "failed",
                Severity::Error,
                "failed",
            ),
            (
                Outcome::Cancelled { summary: summary() },
                "failed",
                Severity::Warning,
                "cancelled",
            ),
        ] {
            let end = finished(outcome);
            let found = told(&mut begun("run"), std::slice::from_ref(&end));
            assert_eq!(
                found,
                [(event.to_owned(), severity, format!("orders: run {title}"))]
            );
            let [(rollback, severity, _)] = &told(&mut begun("rollback"), &[end])[..] else {
                panic!("{title}: not one notification");
            };
            match event {
                "completed" => assert_eq!(
                    (rollback.as_str(), *severity),
                    ("rollback_completed", Severity::Info)
                ),
                _ => assert_eq!((rollback.as_str(), *severity), ("failed", Severity::Critical)),
            }
        }
    }

    #[test]
    fn a_failure_is_told_with_its_place_help_and_code() {
        let end = finished(Outcome::Failed {
            summary: RunSummary::default(),
            failure: failure(),
        });
        let told = begun("run").observe(&end, second(1)).remove(0);
        assert_eq!(
            told.body,
            "`x` is wrong\n  phase: import\n  help: mend it\n  code: a.b"
        );
        let lost = begun("run").lost(&[failure()], second(1)).remove(0);
        assert_eq!(
            (lost.event, lost.severity, lost.body),
            (told.event, Severity::Error, told.body)
        );
    }

    #[test]
    fn nothing_is_told_before_the_beginning_and_after_the_end() {
        let mut notices = Notices::new(None);
        let end = || finished(Outcome::Done { summary: summary(0) });
        assert!(told(&mut notices, &[rejected(), end()]).is_empty());
        assert!(notices.lost(&[failure()], second(1)).is_empty());
        let mut notices = begun("run");
        assert_eq!(
            told(&mut notices, &[end(), end(), rejected(), started("run")]).len(),
            1
        );
        assert!(notices.lost(&[failure()], second(1)).is_empty());
        let mut notices = begun("rollback");
        assert_eq!(
            notices.lost(&[failure()], second(1))[0].severity,
            Severity::Critical
        );
        assert!(told(&mut notices, &[end()]).is_empty());
    }

    #[test]
    fn a_million_rejected_records_are_few_notifications() {
        let mut notices = begun("run");
        let mut all = Vec::new();
        for count in 1..=1_000_000 {
            all.extend(notices.observe(&rejected(), second(1)));
            if count % 1_000 == 0 {
                all.extend(notices.observe(&progress("a", 0, count), second(1)));
            }
        }
        assert_eq!(all.len(), 7);
        assert_eq!(
            all[6].title,
            "orders: 1000000 records were rejected, the last of a"
        );
        // Counted in progress alone, they are told as well.
        let all = told(&mut begun("run"), &[progress("a", 0, 3), progress("b", 0, 30)]);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].2, "orders: 33 records were rejected, the last of b");
    }

    #[test]
    fn errors_are_told_up_to_a_limit_and_the_last_says_so() {
        let failed = Event::CollectionFailed {
            collection: "a".to_owned(),
            failure: Box::new(failure()),
        };
        let hook = Event::HookEnded {
            hook: "after".to_owned(),
            ok: false,
            message: "exit 1".to_owned(),
        };
        let all = told(
            &mut begun("run"),
            &vec![failed; 40]
                .into_iter()
                .chain(vec![hook; 40])
                .collect::<Vec<_>>(),
        );
        assert_eq!(all.len(), ERRORS_MAX as usize);
        assert_eq!(all[0].1, Severity::Error);
        let last = all.last().unwrap();
        assert_eq!(last.1, Severity::Warning);
        assert!(
            last.2.ends_with("(further errors are in the report)"),
            "{}",
            last.2
        );
    }

    #[test]
    fn each_pause_is_told_once_with_what_to_do() {
        let paused = Event::Paused {
            role: None,
            code: "x.full".to_owned(),
            message: "the disk is full".to_owned(),
            help: Some("make room".to_owned()),
            since: "2026-11-21T08:00:00Z".to_owned(),
        };
        let mut notices = begun("run");
        let all = notices.observe(&paused, second(1));
        assert_eq!(
            (all[0].severity, &*all[0].title, &*all[0].body),
            (
                Severity::Warning,
                "orders: paused until somebody repairs it",
                "the disk is full\n  help: make room\n  code: x.full"
            )
        );
        let resumed = Event::Resumed { paused_ms: 61_200 };
        assert_eq!(
            told(&mut notices, std::slice::from_ref(&resumed)),
            [(
                "resumed".to_owned(),
                Severity::Info,
                "orders: goes on after 61 s".to_owned()
            )]
        );
        assert_eq!(
            told(&mut notices, &vec![paused; 100]).len(),
            PAUSES_MAX as usize - 1
        );
        assert!(told(&mut notices, &[resumed]).is_empty());
    }

    #[test]
    fn transactions_that_are_tried_again_are_told_now_and_then() {
        let retrying = Event::Retrying {
            role: None,
            collection: "a".to_owned(),
            attempt: 2,
            delay_ms: 1,
            code: "x.busy".to_owned(),
            message: "the database is busy".to_owned(),
        };
        assert_eq!(told(&mut begun("run"), &vec![retrying; 250]).len(), 3);
    }
}
