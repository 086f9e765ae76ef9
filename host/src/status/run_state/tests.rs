//! Runs as their events tell of them, folded event by event, and the forms of what is written of them.
//!
//! Neighbour: `run_state`, whose tests these are.

use super::*;
use crate::events::{Failure, PhaseOutcome};
use crate::report::fixtures;
use expect_test::expect;
use whimbrel_plugin_api::{Cursor, Error, ErrorKind};

fn at(elapsed_secs: f64) -> Moment {
    let start: DateTime<Utc> = "2026-11-21T08:00:00Z".parse().unwrap();
    Moment {
        at: start + chrono::TimeDelta::milliseconds((elapsed_secs * 1_000.0) as i64),
        elapsed_secs,
    }
}

fn planned(name: &str, record_count: Option<u64>) -> Event {
    Event::CollectionPlanned {
        source: name.into(),
        sink: name.to_lowercase(),
        record_count,
    }
}

fn progress(name: &str, written_count: u64) -> Event {
    Event::Progress {
        collection: name.into(),
        read_count: written_count + 100,
        written_count,
        rejected_count: 1,
        read_bytes: written_count * 600,
    }
}

fn committed(partition: &str, seq: u64, done: bool) -> Event {
    Event::Committed {
        collection: "Orders".into(),
        partition: partition.into(),
        seq,
        cursor: Cursor(vec![0, seq as u8]),
        record_count: 1_000,
        done,
    }
}

/// A run in the middle of its import.
fn underway() -> RunState {
    let mut state = RunState::new("20261121T080000Z-k3", Path::new("jobs/shop.yaml"), 4711, at(0.0));
    let events = [
        (
            0.0,
            Event::Started {
                run_id: "20261121T080000Z-k3".into(),
                command: "run".into(),
                job: "shop".into(),
                mode: "full".into(),
                started_by: "ada@ferry".into(),
            },
        ),
        (
            0.01,
            Event::PhaseStarted {
                phase: Phase::PreValidation,
            },
        ),
        (0.2, planned("Orders", Some(12_000))),
        (0.2, planned("users", Some(340))),
        (
            0.31,
            Event::PhaseEnded(PhaseReport {
                phase: Phase::PreValidation,
                outcome: PhaseOutcome::Done,
                seconds: 0.3,
                record_count: 0,
            }),
        ),
        (
            0.32,
            Event::PhaseStarted {
                phase: Phase::Extraction,
            },
        ),
        (0.32, Event::PhaseStarted { phase: Phase::Import }),
        (1.0, progress("Orders", 1_000)),
        (1.0, committed("all", 1, false)),
        (1.5, committed("all", 2, false)),
        (
            1.6,
            Event::Retrying {
                role: None,
                collection: "Orders".into(),
                attempt: 2,
                delay_ms: 100,
                code: "curlew.busy".into(),
                message: "the sink is busy".into(),
            },
        ),
        (
            2.0,
            Event::Health {
                memory_bytes: 50_000_000,
                waiting_bytes: 1,
            },
        ),
        (2.0, progress("Orders", 2_000)),
    ];
    for (seconds, event) in events {
        state.observe(&event, at(seconds));
        state.tick(at(seconds));
    }
    state
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

#[test]
fn the_status_has_a_stable_form() {
    expect![[r#"
        {
          "format": 1,
          "run_id": "20261121T080000Z-k3",
          "command": "run",
          "job": "shop",
          "job_file": "jobs/shop.yaml",
          "mode": "full",
          "started_by": "ada@ferry",
          "state": "running",
          "pid": 4711,
          "started_at": "2026-11-21T08:00:00Z",
          "updated_at": "2026-11-21T08:00:02.250Z",
          "ended_at": null,
          "elapsed_secs": 2.25,
          "phase": "import",
          "phases": [
            {
              "phase": "pre_validation",
              "outcome": "done",
              "started_secs": 0.01,
              "seconds": 0.3,
              "record_count": 0
            },
            {
              "phase": "extraction",
              "outcome": null,
              "started_secs": 0.32,
              "seconds": 1.93,
              "record_count": 0
            },
            {
              "phase": "import",
              "outcome": null,
              "started_secs": 0.32,
              "seconds": 1.93,
              "record_count": 0
            }
          ],
          "totals": {
            "expected_count": 12340,
            "read_count": 2100,
            "written_count": 2000,
            "rejected_count": 1,
            "read_bytes": 1200000,
            "verified_count": 0,
            "written_per_sec": 500.0,
            "progress_percent": 16.2,
            "success_percent": 99.9,
            "left_secs": 21.0
          },
          "collections": [
            {
              "source": "Orders",
              "sink": "orders",
              "state": "copying",
              "expected_count": 12000,
              "read_count": 2100,
              "written_count": 2000,
              "rejected_count": 1,
              "read_bytes": 1200000,
              "verified_count": 0,
              "comparison": null
            },
            {
              "source": "users",
              "sink": "users",
              "state": "waiting",
              "expected_count": 340,
              "read_count": 0,
              "written_count": 0,
              "rejected_count": 0,
              "read_bytes": 0,
              "verified_count": 0,
              "comparison": null
            }
          ],
          "retry_count": 1,
          "last_retry": {
            "collection": "Orders",
            "attempt": 2,
            "code": "curlew.busy",
            "message": "the sink is busy",
            "at": "2026-11-21T08:00:01.600Z"
          },
          "paused": null,
          "memory_bytes": 50000000,
          "errors": [],
          "exit_code": null
        }
    "#]]
    .assert_eq(&json(&underway().status(at(2.25))));
}

#[test]
fn the_checkpoint_has_a_stable_form() {
    let mut state = underway();
    state.observe(&committed("k >= 5", 1, true), at(2.5));
    expect![[r#"
        {
          "format": 2,
          "note": "for people: the sink keeps the checkpoint that a resumed run uses",
          "run_id": "20261121T080000Z-k3",
          "job": "shop",
          "updated_at": "2026-11-21T08:00:02.750Z",
          "record_count": 3000,
          "collections": {
            "Orders": {
              "all": {
                "seq": 2,
                "cursor": "0002",
                "record_count": 2000,
                "done": false,
                "committed_at": "2026-11-21T08:00:01.500Z"
              },
              "k >= 5": {
                "seq": 1,
                "cursor": "0001",
                "record_count": 1000,
                "done": true,
                "committed_at": "2026-11-21T08:00:02.500Z"
              }
            }
          }
        }
    "#]]
    .assert_eq(&json(&state.checkpoint(at(2.75))));
}

#[test]
fn a_status_can_be_read_again() {
    let status = underway().status(at(2.25));
    assert_eq!(serde_json::from_str::<RunStatus>(&json(&status)).unwrap(), status);
    let checkpoint = underway().checkpoint(at(2.25));
    assert_eq!(
        serde_json::from_str::<RunCheckpoint>(&json(&checkpoint)).unwrap(),
        checkpoint
    );
}

#[test]
fn what_turns_is_told_at_once() {
    let mut state = underway();
    let failure = Failure::from(Error::new(ErrorKind::Timeout, "a.b", "x"));
    for (event, urgency) in [
        (progress("users", 3), Urgency::Soon),
        (Event::Heartbeat { memory_bytes: 0 }, Urgency::Soon),
        (
            Event::PhaseStarted {
                phase: Phase::Verification,
            },
            Urgency::AtOnce,
        ),
        (
            Event::CollectionFailed {
                collection: "users".into(),
                failure: Box::new(failure),
            },
            Urgency::AtOnce,
        ),
    ] {
        assert_eq!(state.observe(&event, at(3.0)), urgency, "{event:?}");
    }
    let status = state.status(at(3.0));
    assert_eq!(status.phase, Some(Phase::Verification));
    assert_eq!(status.collections[1].state, CollectionState::Failed);
    assert_eq!(status.errors.len(), 1);
}

#[test]
fn a_lost_worker_leaves_what_was_seen_of_it() {
    let mut state = underway();
    let mut report = fixtures::bare("run", "crashed");
    report.errors = fixtures::crashed().errors;
    report.exit_code = 1;
    state.complete(&mut report, at(3.0));
    state.end(&report, at(3.0));
    let written: Vec<u64> = report
        .summary
        .collections
        .iter()
        .map(|collection| collection.written_count)
        .collect();
    assert_eq!(written, [2_000, 0]);
    assert_eq!(report.summary.rejected_count, 1);
    assert_eq!(report.summary.memory_peak_bytes, 50_000_000);
    let phases: Vec<_> = report
        .summary
        .phases
        .iter()
        .map(|phase| (phase.phase, phase.outcome))
        .collect();
    assert_eq!(
        phases,
        [
            (Phase::PreValidation, PhaseOutcome::Done),
            (Phase::Extraction, PhaseOutcome::Failed),
            (Phase::Import, PhaseOutcome::Failed),
        ]
    );
    let status = state.status(at(9.0));
    assert_eq!((status.state.as_str(), status.exit_code), ("crashed", Some(1)));
    assert_eq!(status.collections[0].state, CollectionState::Incomplete);
    assert_eq!(status.updated_at, at(3.0).at, "an end is not moved by looking");
    let next = crate::report::failed_phases(&report);
    assert_eq!(next[0].phase, Phase::Import);
}

#[test]
fn the_workers_last_counts_are_taken_over() {
    let mut state = underway();
    let done = fixtures::done();
    state.finished(&done.summary);
    let mut report = done.clone();
    state.complete(&mut report, at(6.0));
    assert_eq!(report, done, "a worker that spoke is not corrected");
    state.end(&report, at(6.0));
    let status = state.status(at(6.0));
    assert_eq!(status.totals.written_count, 12_340);
    assert_eq!(status.totals.progress_percent, Some(100.0));
    assert!(
        status
            .collections
            .iter()
            .all(|collection| collection.state == CollectionState::Complete)
    );
}

#[test]
fn the_final_report_has_a_stable_form_and_no_member_twice() {
    let mut state = underway();
    let failed = fixtures::failed();
    state.finished(&failed.summary);
    state.end(&failed, at(3.0));
    let mut report = crate::report::FinalReport::new(state.facts(true), &failed);
    report.whimbrel_version = "VERSION";
    let text = json(&report);
    expect![[r#"
        {
          "format": 1,
          "whimbrel_version": "VERSION",
          "verdict": "shop: failed; what was committed stays",
          "run_id": "20261121T080000Z-k3",
          "job_file": "jobs/shop.yaml",
          "mode": "full",
          "started_by": "ada@ferry",
          "started_at": "2026-11-21T08:00:00Z",
          "ended_at": "2026-11-21T08:00:03Z",
          "elapsed_secs": 3.0,
          "timeline": [
            {
              "phase": "pre_validation",
              "outcome": "done",
              "started_secs": 0.01,
              "seconds": 0.3,
              "record_count": 0
            },
            {
              "phase": "extraction",
              "outcome": null,
              "started_secs": 0.32,
              "seconds": 2.68,
              "record_count": 0
            },
            {
              "phase": "import",
              "outcome": null,
              "started_secs": 0.32,
              "seconds": 2.68,
              "record_count": 0
            }
          ],
          "series": {
            "interval_secs": 1.0,
            "samples": [
              {
                "at_secs": 0.0,
                "read_count": 0,
                "written_count": 0,
                "rejected_count": 0,
                "retry_count": 0,
                "read_bytes": 0,
                "verified_count": 0,
                "memory_bytes": 0
              },
              {
                "at_secs": 1.0,
                "read_count": 1100,
                "written_count": 1000,
                "rejected_count": 1,
                "retry_count": 0,
                "read_bytes": 600000,
                "verified_count": 0,
                "memory_bytes": 0
              },
              {
                "at_secs": 2.0,
                "read_count": 1100,
                "written_count": 1000,
                "rejected_count": 1,
                "retry_count": 1,
                "read_bytes": 600000,
                "verified_count": 0,
                "memory_bytes": 50000000
              },
              {
                "at_secs": 3.0,
                "read_count": 5040,
                "written_count": 4038,
                "rejected_count": 2,
                "retry_count": 1,
                "read_bytes": 7224000,
                "verified_count": 0,
                "memory_bytes": 50000000
              }
            ],
            "rates": [
              {
                "at_secs": 1.0,
                "read_per_sec": 1100.0,
                "written_per_sec": 1000.0,
                "read_bytes_per_sec": 600000.0,
                "verified_per_sec": 0.0,
                "rejected_count": 1,
                "retry_count": 0
              },
              {
                "at_secs": 2.0,
                "read_per_sec": 0.0,
                "written_per_sec": 0.0,
                "read_bytes_per_sec": 0.0,
                "verified_per_sec": 0.0,
                "rejected_count": 0,
                "retry_count": 1
              },
              {
                "at_secs": 3.0,
                "read_per_sec": 3940.0,
                "written_per_sec": 3038.0,
                "read_bytes_per_sec": 6624000.0,
                "verified_per_sec": 0.0,
                "rejected_count": 1,
                "retry_count": 0
              }
            ]
          },
          "retry_count": 1,
          "failed_collections": [],
          "hooks": [],
          "log_complete": true,
          "command": "run",
          "job": "shop",
          "outcome": "failed",
          "exit_code": 1,
          "plugins": [
            {
              "role": "source",
              "name": "heron",
              "version": "1.2.0"
            },
            {
              "role": "sink",
              "name": "curlew",
              "version": "0.9.1"
            }
          ],
          "errors": [
            {
              "kind": 6,
              "code": "curlew.connection_lost",
              "message": "the connection to `db.example.org:5432` was lost",
              "help": "look whether the server is up",
              "scope": "session",
              "severity": "medium",
              "causes": [
                "connection reset by peer"
              ],
              "plugin": "curlew",
              "role": "sink",
              "call": "commit",
              "phase": "import"
            }
          ],
          "phases": [
            {
              "phase": "pre_validation",
              "outcome": "done",
              "seconds": 0.3,
              "record_count": 0
            },
            {
              "phase": "extraction",
              "outcome": "failed",
              "seconds": 2.0,
              "record_count": 5000
            },
            {
              "phase": "transformation",
              "outcome": "failed",
              "seconds": 0.0,
              "record_count": 0
            },
            {
              "phase": "import",
              "outcome": "failed",
              "seconds": 2.0,
              "record_count": 4000
            }
          ],
          "collections": [
            {
              "source": "Orders",
              "sink": "orders",
              "key": [
                "id"
              ],
              "estimate": 12000,
              "estimate_bytes": null,
              "read_count": 5000,
              "written_count": 4000,
              "skipped_count": 0,
              "transformed_count": 0,
              "filtered_count": 0,
              "rejected_count": 0,
              "read_bytes": 7200000,
              "complete": false,
              "losses": [
                {
                  "field": "price",
                  "loss": {
                    "loss": "float_from_decimal"
                  }
                }
              ]
            },
            {
              "source": "users",
              "sink": "users",
              "key": [
                "id"
              ],
              "estimate": 340,
              "estimate_bytes": null,
              "read_count": 40,
              "written_count": 38,
              "skipped_count": 0,
              "transformed_count": 0,
              "filtered_count": 0,
              "rejected_count": 2,
              "read_bytes": 24000,
              "complete": true,
              "losses": []
            }
          ],
          "rejected_count": 2,
          "rejected": [
            [
              "users",
              {
                "record": "u-7",
                "row": 3,
                "code": "sink.not_null",
                "message": "the field `email` may not be null"
              }
            ],
            [
              "users",
              {
                "record": "u-9",
                "row": 3,
                "code": "sink.not_null",
                "message": "the field `email` may not be null"
              }
            ]
          ],
          "verification": [],
          "references": [],
          "guarantees": [
            {
              "collection": "Orders",
              "guarantee": "exactly_once",
              "reason": "the sink keeps how far the copy is"
            },
            {
              "collection": "users",
              "guarantee": "at_least_once",
              "reason": "`append` knows no keys"
            }
          ],
          "ddl": [],
          "memory_peak_bytes": 67108864,
          "first_commit_ms": 41,
          "findings": [
            {
              "role": "source",
              "level": "warning",
              "code": "heron.slow",
              "message": "the source answers slowly"
            }
          ],
          "staged": null,
          "rate": null,
          "stats": [],
          "cleared": [],
          "failed_phases": [
            {
              "phase": "import",
              "kind": "unavailable",
              "code": "curlew.connection_lost",
              "remedy": "look whether the system is up, can be reached from here, and has room on its disk",
              "then": "what was committed stays in the sink, whole transactions only; resume the run after the repair"
            }
          ],
          "next_steps": [
            {
              "text": "once the cause is removed, go on with the run where the sink has it",
              "command": "whimbrel resume 20261121T080000Z-k3 --job jobs/shop.yaml"
            },
            {
              "text": "look at the rejected records, which are kept with their reasons",
              "command": "whimbrel rejected list 20261121T080000Z-k3"
            },
            {
              "text": "import: look whether the system is up, can be reached from here, and has room on its disk; then go on with the run",
              "command": "whimbrel resume 20261121T080000Z-k3 --job jobs/shop.yaml"
            }
          ]
        }
    "#]].assert_eq(&text);
    let mut members: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("  \""))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let count = members.len();
    members.sort_unstable();
    members.dedup();
    assert_eq!(members.len(), count);
}
