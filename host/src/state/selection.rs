//! Which events are kept, and in what form.
//!
//! Calls and heartbeats are for the supervisor alone; progress is thinned; a rejected record goes where its data may
//! be; after very many events of one run only the rare kinds are kept.

use std::collections::HashMap;
use std::mem::Discriminant;
use std::time::{Duration, Instant};

use serde_json::json;

use super::moment::now as now_utc;
use super::run::{Counts, PluginVersion};
use super::store::{LaneFound, Rejected, RejectedState};
use crate::events::Event;

/// Progress of one collection is kept at most so often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Of kinds that repeat, so many events of a run are kept: some 40 MB.
const REPEATED_EVENTS_MAX: u64 = 200_000;
/// How a serialised event begins.
const TAG: &str = "{\"event\":\"";

/// What is kept of an event.
#[derive(Debug, PartialEq)]
pub(super) enum Kept {
    /// Nothing.
    Nothing,
    /// The event.
    Event {
        /// The name of its kind.
        kind: String,
        /// As JSON.
        body: String,
    },
    /// A rejected record.
    Rejected(Box<Rejected>),
    /// The event, and that the lane was found so.
    Found {
        /// As JSON.
        body: String,
        /// The lane.
        lane: LaneFound,
    },
    /// The event, and that this collection is copied again from its start.
    Anew {
        /// As JSON.
        body: String,
        /// The collection, in the source.
        collection: String,
    },
}

/// The name of the event that says how a lane was found.
pub(super) const LANE_TAKEN: &str = "lane_taken";
/// The name of the event that says that a collection is copied again from its start.
pub(super) const BEGUN_ANEW: &str = "begun_anew";
/// The name of the event that says that a phase begins.
pub(super) const PHASE_STARTED: &str = "phase_started";
/// The name of the event that says that a phase has ended.
pub(super) const PHASE_ENDED: &str = "phase_ended";

/// Follows the events of one run.
pub(super) struct Selection {
    shown: HashMap<(Discriminant<Event>, String), Instant>,
    collections: HashMap<String, Counts>,
    ended: Option<Counts>,
    /// Of a replay, which is told in no other way.
    replayed: Option<Counts>,
    repeated_count: u64,
    repeated_max: u64,
    plugins: Vec<PluginVersion>,
}

impl Selection {
    pub(super) fn new() -> Self {
        Self {
            shown: HashMap::new(),
            collections: HashMap::new(),
            ended: None,
            replayed: None,
            repeated_count: 0,
            repeated_max: REPEATED_EVENTS_MAX,
            plugins: Vec::new(),
        }
    }

    /// Records until now. Of a replay those that were sent again, of a repair those that were copied again or removed.
    pub(super) fn counts(&self) -> Counts {
        self.replayed.or(self.ended).unwrap_or_else(|| {
            let mut sum = Counts::default();
            for counts in self.collections.values() {
                sum.read_count += counts.read_count;
                sum.written_count += counts.written_count;
                sum.rejected_count += counts.rejected_count;
            }
            sum
        })
    }

    /// The plugins until now.
    pub(super) fn plugins(&self) -> &[PluginVersion] {
        &self.plugins
    }

    /// What is kept of `event`, which came at `now`.
    pub(super) fn keep(&mut self, event: &Event, now: Instant) -> Kept {
        match event {
            Event::CallStarted { .. }
            | Event::CallEnded { .. }
            | Event::Heartbeat { .. }
            | Event::Barrier { .. } => return Kept::Nothing,
            Event::Rejected {
                collection,
                record,
                stage,
                partition,
                seq,
                digest,
            } => {
                let record = record.clone();
                return Kept::Rejected(Box::new(Rejected {
                    // Both are known where it is written down.
                    number: 0,
                    at: now_utc(),
                    collection: collection.clone(),
                    record: record.record,
                    code: record.code,
                    message: record.message,
                    data: record.data,
                    edited: None,
                    stage: *stage,
                    partition: partition.clone(),
                    seq: *seq,
                    digest: digest.clone(),
                    state: RejectedState::New,
                }));
            }
            Event::LaneTaken {
                collection,
                partition,
                seq,
                ..
            } => {
                let Ok(body) = serde_json::to_string(event) else {
                    return Kept::Nothing;
                };
                let lane = LaneFound {
                    collection: collection.clone(),
                    partition: partition.clone(),
                    seq: *seq,
                };
                return Kept::Found { body, lane };
            }
            Event::BegunAnew { collection } => {
                let Ok(body) = serde_json::to_string(event) else {
                    return Kept::Nothing;
                };
                return Kept::Anew {
                    body,
                    collection: collection.clone(),
                };
            }
            Event::PluginLoaded {
                role, name, version, ..
            } => {
                self.plugins.push(PluginVersion {
                    role: *role,
                    name: name.clone(),
                    version: version.clone(),
                });
                // Its description is as long as a manual.
                let body = json!({"event": "plugin_loaded", "role": role, "name": name, "version": version});
                return Kept::Event {
                    kind: "plugin_loaded".to_owned(),
                    body: body.to_string(),
                };
            }
            Event::Log { level, .. } if level == "debug" => return Kept::Nothing,
            Event::Progress { collection, .. } => {
                self.count(event);
                if !self.is_due(event, collection, now) {
                    return Kept::Nothing;
                }
            }
            Event::VerificationProgress { collection, .. } | Event::OrphanSearch { collection, .. }
                if !self.is_due(event, collection, now) =>
            {
                return Kept::Nothing;
            }
            Event::Health { .. } if !self.is_due(event, "", now) => return Kept::Nothing,
            Event::Replayed { taken, refused, .. } => {
                let counts = self.replayed.get_or_insert_default();
                counts.written_count += taken.len() as u64;
                counts.rejected_count += refused.len() as u64;
            }
            Event::Finished { outcome } => {
                let mut counts = Counts::of_summary(outcome.summary());
                let repaired = outcome.summary().repaired.iter();
                let healed = repaired.map(|one| one.copied_count + one.removed_count);
                counts.written_count += healed.sum::<u64>();
                self.ended = Some(counts);
            }
            _ => {}
        }
        self.keep_rare(event)
    }

    fn keep_rare(&mut self, event: &Event) -> Kept {
        if is_repeated(event) {
            self.repeated_count += 1;
            if self.repeated_count == self.repeated_max + 1 {
                return Kept::Event {
                    kind: "events_left_out".to_owned(),
                    body: json!({"event": "events_left_out", "after": self.repeated_max}).to_string(),
                };
            }
            if self.repeated_count > self.repeated_max {
                return Kept::Nothing;
            }
        }
        let Ok(body) = serde_json::to_string(event) else {
            return Kept::Nothing;
        };
        let kind = body.strip_prefix(TAG).and_then(|rest| rest.split('"').next());
        Kept::Event {
            kind: kind.unwrap_or_default().to_owned(),
            body,
        }
    }

    fn count(&mut self, event: &Event) {
        if let Event::Progress {
            collection,
            read_count,
            written_count,
            rejected_count,
            ..
        } = event
        {
            let counts = Counts {
                read_count: *read_count,
                written_count: *written_count,
                skipped_count: 0,
                rejected_count: *rejected_count,
            };
            self.collections.insert(collection.clone(), counts);
        }
    }

    fn is_due(&mut self, event: &Event, collection: &str, now: Instant) -> bool {
        let key = (std::mem::discriminant(event), collection.to_owned());
        let last = self.shown.get(&key);
        let is_due = last.is_none_or(|last| now.duration_since(*last) >= PROGRESS_INTERVAL);
        if is_due {
            self.shown.insert(key, now);
        }
        is_due
    }
}

/// Whether a run may have any number of these.
fn is_repeated(event: &Event) -> bool {
    matches!(
        event,
        Event::Progress { .. }
            | Event::VerificationProgress { .. }
            | Event::OrphanSearch { .. }
            | Event::Committed { .. }
            | Event::Replayed { .. }
            | Event::Retrying { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Health { .. }
            | Event::Delivered { .. }
            | Event::NotDelivered { .. }
            | Event::Log { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Outcome, Phase, RefusedAgain, RepairResult, RunSummary};
    use whimbrel_plugin_api::source::RejectedRecord;

    fn progress(collection: &str, read_count: u64) -> Event {
        Event::Progress {
            collection: collection.to_owned(),
            read_count,
            written_count: read_count / 2,
            rejected_count: 1,
            read_bytes: 0,
        }
    }

    fn kind(kept: Kept) -> Option<String> {
        match kept {
            Kept::Event { kind, .. } => Some(kind),
            _ => None,
        }
    }

    #[test]
    fn progress_is_kept_once_a_second_and_counted_always() {
        let mut selection = Selection::new();
        let start = Instant::now();
        assert_eq!(
            kind(selection.keep(&progress("a", 10), start)).unwrap(),
            "progress"
        );
        assert_eq!(
            kind(selection.keep(&progress("b", 100), start)).unwrap(),
            "progress"
        );
        assert_eq!(selection.keep(&progress("a", 20), start), Kept::Nothing);
        let later = start + PROGRESS_INTERVAL;
        assert_eq!(
            kind(selection.keep(&progress("a", 30), later)).unwrap(),
            "progress"
        );
        assert_eq!(selection.keep(&progress("a", 40), later), Kept::Nothing);
        let counts = selection.counts();
        assert_eq!(
            (counts.read_count, counts.written_count, counts.rejected_count),
            (140, 70, 2)
        );
    }

    #[test]
    fn records_of_repairs_and_replays_are_counted_while_they_go_on_and_afterwards() {
        let now = Instant::now();
        let mut selection = Selection::new();
        selection.keep(&progress("a", 600), now);
        assert_eq!(selection.counts().written_count, 300);
        let repaired = RepairResult {
            copied_count: 400,
            removed_count: 20,
            ..RepairResult::default()
        };
        let summary = RunSummary {
            repaired: vec![repaired],
            ..RunSummary::default()
        };
        let outcome = Box::new(Outcome::Done { summary });
        selection.keep(&Event::Finished { outcome }, now);
        assert_eq!(selection.counts().written_count, 420);

        let mut selection = Selection::new();
        for (taken, refused) in [(vec![1, 2], vec![]), (vec![4], vec![RefusedAgain::default()])] {
            let known = Default::default();
            selection.keep(
                &Event::Replayed {
                    taken,
                    refused,
                    known,
                },
                now,
            );
            let summary = RunSummary {
                rejected_count: 1,
                ..RunSummary::default()
            };
            // Each round of a replay ends as a task of its own.
            let outcome = Box::new(Outcome::Done { summary });
            selection.keep(&Event::Finished { outcome }, now);
        }
        let counts = selection.counts();
        assert_eq!((counts.written_count, counts.rejected_count), (3, 1));
    }

    #[test]
    fn calls_heartbeats_and_debug_lines_are_not_kept_and_rejected_records_go_elsewhere() {
        let mut selection = Selection::new();
        let now = Instant::now();
        let debug = Event::Log {
            plugin: "p".into(),
            level: "debug".into(),
            message: "m".into(),
        };
        for event in [
            Event::Heartbeat { memory_bytes: 0 },
            Event::CallEnded { call_id: 1 },
            Event::Barrier { number: 1 },
            debug,
        ] {
            assert_eq!(selection.keep(&event, now), Kept::Nothing);
        }
        let record = RejectedRecord {
            record: "1".into(),
            row: None,
            code: "a.b".into(),
            message: "m".into(),
            data: Some("{}".into()),
        };
        let rejected = Event::Rejected {
            collection: "c".into(),
            record,
            stage: Phase::Extraction,
            partition: "p".into(),
            seq: 3,
            digest: Some("0f".into()),
        };
        let Kept::Rejected(kept) = selection.keep(&rejected, now) else {
            panic!("it was not kept as a record");
        };
        assert_eq!(
            (kept.collection.as_str(), kept.partition.as_str(), kept.seq),
            ("c", "p", 3)
        );
        assert_eq!(
            (kept.stage, kept.digest.as_deref()),
            (Phase::Extraction, Some("0f"))
        );
        assert_eq!(kept.data.as_deref(), Some("{}"));
    }

    #[test]
    fn after_very_many_repeated_events_only_rare_ones_are_kept() {
        let mut selection = Selection::new();
        selection.repeated_max = 2;
        let now = Instant::now();
        let log = Event::Log {
            plugin: "p".into(),
            level: "info".into(),
            message: "m".into(),
        };
        let phase = Event::PhaseStarted { phase: Phase::Import };
        let kinds: Vec<_> = [&log, &log, &log, &log, &phase]
            .map(|event| kind(selection.keep(event, now)).unwrap_or_default())
            .into();
        assert_eq!(kinds, ["log", "log", "events_left_out", "", "phase_started"]);
    }
}
