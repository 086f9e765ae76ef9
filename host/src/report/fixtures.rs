//! Reports of made-up runs, for the tests of everything that words them.
//! A small success, a failure, a crash, differences, and one with names that are meant to do harm.

use chrono::{DateTime, TimeDelta, Utc};
use whimbrel_plugin_api::capability::Loss;
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Error, ErrorKind, Finding};

use super::final_report::{FailedCollection, HookResult, PhaseSpan, RunFacts};
use super::series::{Sample, Series};
use super::{PluginUsed, TaskReport};
use crate::config::{Job, VerificationLevel};
use crate::events::{
    CHANGED_SINCE, CertificateNote, CollectionDigests, CollectionGuarantee, CollectionResult, Comparison,
    Failure, FieldValues, FoundBy, Guarantee, LossCount, Mismatch, MismatchKind, Orphan, Outcome, Phase,
    PhaseOutcome, PhaseReport, PlaceDigest, ReadLatency, ReferenceResult, ReferenceState, RepairResult,
    RuleResult, RuleState, RunSummary, VerificationResult,
};

/// A job.
pub fn job() -> Job {
    serde_json::from_value(serde_json::json!({
        "name": "shop",
        "source": { "plugin": "heron", "config": {} },
        "sink": { "plugin": "curlew", "config": {} },
    }))
    .unwrap()
}

fn plugins() -> Vec<PluginUsed> {
    [(Role::Source, "heron", "1.2.0"), (Role::Sink, "curlew", "0.9.1")]
        .map(|(role, name, version)| PluginUsed {
            role,
            name: name.to_owned(),
            version: version.to_owned(),
            lacks_lanes: false,
        })
        .to_vec()
}

/// A report of `outcome` without anything else.
pub fn bare(command: &str, outcome: &'static str) -> TaskReport {
    TaskReport {
        command: command.to_owned(),
        job: "shop".to_owned(),
        outcome,
        exit_code: 0,
        plugins: plugins(),
        errors: Vec::new(),
        keeps_stored: Vec::new(),
        summary: RunSummary::default(),
    }
}

fn collection(name: &str, read_count: u64, rejected_count: u64) -> CollectionResult {
    CollectionResult {
        source: name.to_owned(),
        sink: name.to_lowercase(),
        key: vec!["id".to_owned()],
        estimate: Some(read_count),
        read_count,
        written_count: read_count - rejected_count,
        rejected_count,
        read_bytes: read_count * 600,
        complete: true,
        ..CollectionResult::default()
    }
}

fn equal(name: &str, record_count: u64) -> VerificationResult {
    VerificationResult {
        source_count: record_count,
        sink_count: record_count,
        compared_count: record_count,
        every_record: true,
        seconds: 0.25,
        ..VerificationResult::begun(name, &name.to_lowercase(), VerificationLevel::Standard)
    }
}

fn phases(ends: [(Phase, PhaseOutcome, f64, u64); 6]) -> Vec<PhaseReport> {
    ends.map(|(phase, outcome, seconds, record_count)| PhaseReport {
        phase,
        outcome,
        seconds,
        record_count,
    })
    .to_vec()
}

/// A run that did all that it had to.
pub fn done() -> TaskReport {
    let mut report = bare("run", "done");
    let mut orders = collection("Orders", 12_000, 0);
    orders.losses = vec![FieldLoss {
        field: "price".to_owned(),
        loss: Loss::FloatFromDecimal,
    }];
    report.summary = RunSummary {
        phases: phases([
            (Phase::PreValidation, PhaseOutcome::Done, 0.3, 0),
            (Phase::Extraction, PhaseOutcome::Done, 4.0, 12_340),
            (Phase::Transformation, PhaseOutcome::Skipped, 0.0, 0),
            (Phase::Import, PhaseOutcome::Done, 4.0, 12_340),
            (Phase::Verification, PhaseOutcome::Done, 1.5, 12_340),
            (Phase::PostMigration, PhaseOutcome::Done, 0.0, 0),
        ]),
        collections: vec![orders, collection("users", 340, 0)],
        guarantees: vec![
            promise(
                "Orders",
                Guarantee::ExactlyOnce,
                "the sink keeps how far the copy is",
            ),
            promise("users", Guarantee::AtLeastOnce, "`append` knows no keys"),
        ],
        verification: vec![equal("Orders", 12_000), equal("users", 340)],
        memory_peak_bytes: 64 * 1024 * 1024,
        first_commit_ms: Some(41),
        findings: vec![FoundBy {
            role: Some(Role::Source),
            finding: Finding::warning("heron.slow", "the source answers slowly"),
        }],
        ..RunSummary::default()
    };
    report
}

fn promise(collection: &str, guarantee: Guarantee, reason: &str) -> CollectionGuarantee {
    CollectionGuarantee {
        collection: collection.to_owned(),
        guarantee,
        reason: reason.to_owned(),
    }
}

fn rejected(record: &str, data: Option<&str>) -> RejectedRecord {
    RejectedRecord {
        record: record.to_owned(),
        row: Some(3),
        code: "sink.not_null".to_owned(),
        message: "the field `email` may not be null".to_owned(),
        data: data.map(str::to_owned),
    }
}

/// How a worker ended that refused a record whose data is `planted`.
pub fn outcome_with_rejected_data(planted: &str) -> Outcome {
    Outcome::Failed {
        summary: RunSummary {
            rejected_count: 1,
            rejected: vec![("users".to_owned(), rejected("u-7", Some(planted)))],
            ..RunSummary::default()
        },
        failure: Error::invalid_data(
            "run.too_many_rejected",
            "more records were rejected than the job bears",
        )
        .into(),
    }
}

/// A run whose import failed.
pub fn failed() -> TaskReport {
    let mut report = done();
    report.outcome = "failed";
    report.exit_code = 1;
    report.summary.verification.clear();
    report.summary.phases = phases([
        (Phase::PreValidation, PhaseOutcome::Done, 0.3, 0),
        (Phase::Extraction, PhaseOutcome::Failed, 2.0, 5_000),
        (Phase::Transformation, PhaseOutcome::Failed, 0.0, 0),
        (Phase::Import, PhaseOutcome::Failed, 2.0, 4_000),
        (Phase::Verification, PhaseOutcome::Skipped, 0.0, 0),
        (Phase::PostMigration, PhaseOutcome::Skipped, 0.0, 0),
    ]);
    report.summary.phases.truncate(4);
    for collection in &mut report.summary.collections {
        collection.complete = false;
    }
    report.summary.collections[0].read_count = 5_000;
    report.summary.collections[0].written_count = 4_000;
    report.summary.collections[1] = CollectionResult {
        estimate: Some(340),
        rejected_count: 2,
        ..collection("users", 40, 2)
    };
    report.summary.rejected_count = 2;
    report.summary.rejected = ["u-7", "u-9"]
        .map(|record| ("users".to_owned(), rejected(record, None)))
        .to_vec();
    let error = Error::new(
        ErrorKind::Unavailable,
        "curlew.connection_lost",
        "the connection to `db.example.org:5432` was lost",
    )
    .with_help("look whether the server is up")
    .with_cause(&std::io::Error::other("connection reset by peer"));
    report.errors =
        vec![
            Failure::from(error)
                .in_phase(Phase::Import)
                .at_call("curlew", Role::Sink, "commit"),
        ];
    report
}

/// A run that is complete and whose sides differ.
pub fn differences() -> TaskReport {
    let mut report = done();
    report.outcome = "differences";
    report.exit_code = 4;
    report.summary.phases[4].outcome = PhaseOutcome::Failed;
    let result = &mut report.summary.verification[1];
    result.comparison = Comparison::Different;
    result.sink_count = 339;
    result.mismatch_count = 2;
    result.mismatches = vec![
        Mismatch {
            values: Vec::new(),
            kind: MismatchKind::Missing,
            record: "u-12".to_owned(),
            fields: Vec::new(),
        },
        Mismatch {
            values: Vec::new(),
            kind: MismatchKind::Different,
            record: "u-40".to_owned(),
            fields: vec!["email".to_owned(), "name".to_owned()],
        },
    ];
    report
}

fn digests(record_count: u64, root: &str) -> CollectionDigests {
    let place = |root: &str| {
        Some(PlaceDigest {
            record_count,
            root: root.repeat(8),
            ..PlaceDigest::default()
        })
    };
    CollectionDigests {
        fields: vec!["id".to_owned(), "price".to_owned()],
        key: vec!["id".to_owned()],
        extracted: place("89abcdef"),
        transformed: place(root),
        snapshots: crate::events::SnapshotsRead::default(),
        read_back: place(root),
    }
}

fn latency() -> ReadLatency {
    ReadLatency {
        sample_count: 200,
        p50_ms: 0.41,
        p95_ms: 1.2,
        p99_ms: 2.0,
    }
}

fn rule(name: &str, state: RuleState) -> RuleResult {
    RuleResult {
        name: name.to_owned(),
        role: Some(Role::Sink),
        collection: Some("users".to_owned()),
        state,
        ..RuleResult::default()
    }
}

/// A run of which every record was compared, with all that there is to say of it, and nothing differs.
pub fn proven() -> TaskReport {
    let mut report = done();
    for (result, root) in report
        .summary
        .verification
        .iter_mut()
        .zip(["01234567", "fedcba98"])
    {
        result.level = VerificationLevel::Comprehensive;
        result.digests = Some(digests(result.source_count, root));
        result.latency = Some(latency());
    }
    let orders = &mut report.summary.verification[0];
    orders.losses = vec![LossCount {
        field: "price".to_owned(),
        loss: Loss::FloatFromDecimal,
        record_count: 1_200,
    }];
    orders.equal_after_loss_count = 1_200;
    report.summary.rules = vec![rule("adults", RuleState::Held)];
    report.summary.sink_references = vec![ReferenceResult {
        sink_only_count: 0,
        ..lost("orders", 1)
    }];
    report.summary.repaired = vec![RepairResult {
        source: "users".to_owned(),
        sink: "users".to_owned(),
        copied_count: 3,
        removed_count: 1,
        left: Vec::new(),
    }];
    report.summary.certificate = Some(CertificateNote {
        file: Some("migration-certificate.json".to_owned()),
        is_signed: true,
        reason: None,
    });
    report
}

/// A reference within the sink of which `count` records have lost their parents.
fn lost(collection: &str, count: u64) -> ReferenceResult {
    ReferenceResult {
        collection: collection.to_owned(),
        fields: vec!["user".to_owned()],
        parent: "users".to_owned(),
        to_fields: vec!["id".to_owned()],
        state: ReferenceState::Searched,
        record_count: 12_000,
        orphan_count: count,
        missing_key_count: 1,
        missing_keys_counted: true,
        sink_only_count: count,
        orphans: vec![Orphan {
            record: "id=7".to_owned(),
            missing: "user=u-12".to_owned(),
        }],
        ..ReferenceResult::default()
    }
}

/// A run of which every record was compared and much differs, with values.
pub fn disproven() -> TaskReport {
    let mut report = proven();
    let differing = differences();
    report.outcome = differing.outcome;
    report.exit_code = differing.exit_code;
    report.summary.phases = differing.summary.phases;
    let users = &mut report.summary.verification[1];
    users.comparison = Comparison::Different;
    users.sink_count = 339;
    users.mismatch_count = 70;
    users.changed_since_count = 1;
    users
        .mismatches
        .clone_from(&differing.summary.verification[1].mismatches);
    users.mismatches[1].values = vec![FieldValues {
        field: "email".to_owned(),
        source: Some("a@b.example".to_owned()),
        sink: None,
    }];
    users.mismatches.push(Mismatch {
        kind: MismatchKind::ChangedSince,
        record: "u-77".to_owned(),
        fields: Vec::new(),
        values: Vec::new(),
    });
    users.mismatches_file = Some("users.ndjson".to_owned());
    report.summary.rules.extend([
        RuleResult {
            record_count: Some(340),
            violation_count: 2,
            violations: vec!["u-3".to_owned(), "u-5".to_owned()],
            ..rule("has an email", RuleState::Broken)
        },
        RuleResult {
            reason: Some("the sink takes no `query`".to_owned()),
            role: None,
            collection: None,
            ..rule("sums", RuleState::Unchecked)
        },
    ]);
    report.summary.sink_references = vec![lost("orders", 3)];
    report.summary.repaired[0].left = vec![("u-40".to_owned(), "the sink refuses it".to_owned())];
    report.summary.certificate = Some(CertificateNote {
        reason: Some("the sides differ".to_owned()),
        ..CertificateNote::default()
    });
    report
}

/// A run of which nothing is known to differ, and some records changed while it was compared.
pub fn changed_since() -> TaskReport {
    let mut report = done();
    report.outcome = "unverified";
    report.exit_code = 5;
    report.summary.phases[4].outcome = PhaseOutcome::Failed;
    report.summary.phases.truncate(5);
    let users = &mut report.summary.verification[1];
    users.comparison = Comparison::Undecided;
    users.changed_since_count = 2;
    users.mismatches = ["u-1", "u-2"]
        .map(|record| Mismatch {
            kind: MismatchKind::ChangedSince,
            record: record.to_owned(),
            fields: Vec::new(),
            values: Vec::new(),
        })
        .to_vec();
    let error = Error::new(
        ErrorKind::Integrity,
        CHANGED_SINCE,
        "2 records of `users` changed in the source while both sides were compared",
    );
    report.errors = vec![Failure::from(error).in_phase(Phase::Verification)];
    report
}

/// A run whose worker was lost.
pub fn crashed() -> TaskReport {
    let mut report = bare("run", "crashed");
    report.exit_code = 1;
    let error = Error::new(
        ErrorKind::Internal,
        "plugin.crashed",
        "the worker process was ended by signal 11 (SIGSEGV); running then: `write` of sink `curlew`",
    );
    report.errors = vec![Failure::from(error).at_call("curlew", Role::Sink, "write")];
    report.summary.phases = done().summary.phases[..4].to_vec();
    report
}

/// One report for each way that a task can end.
pub fn every_end() -> Vec<TaskReport> {
    let unverified = TaskReport {
        outcome: "unverified",
        errors: vec![
            Failure::from(Error::new(ErrorKind::Timeout, "curlew.slow", "no answer"))
                .in_phase(Phase::Verification),
        ],
        ..done()
    };
    let refused = TaskReport {
        errors: vec![Error::config("plan.no_key", "`users` has no key").into()],
        ..bare("run", "refused")
    };
    let not_verified = TaskReport {
        summary: RunSummary {
            verification: Vec::new(),
            ..done().summary
        },
        ..done()
    };
    vec![
        done(),
        not_verified,
        failed(),
        proven(),
        differences(),
        disproven(),
        changed_since(),
        unverified,
        refused,
        crashed(),
        bare("run", "cancelled"),
        bare("run", "failed"),
        bare("dry-run", "done"),
        bare("dry-run", "failed"),
        bare("check", "done"),
        bare("verify", "done"),
        bare("verify", "differences"),
    ]
}

/// Names that do harm where they are not escaped.
pub const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"' onmouseover='x' \"",
    "a|b`c``d\\",
    "line\nbreak\u{7}",
    "\u{202e}gpj.exe",
    "🦆 إوزة]](javascript:x)",
];

/// A run in which everything that comes from outside is hostile.
pub fn hostile() -> TaskReport {
    let mut report = failed();
    let template = report.summary.collections[0].clone();
    report.job = HOSTILE[0].to_owned();
    report.summary.collections = HOSTILE
        .map(|name| CollectionResult {
            source: name.to_owned(),
            sink: name.to_owned(),
            losses: vec![FieldLoss {
                field: name.to_owned(),
                loss: Loss::AbsentToNull,
            }],
            ..template.clone()
        })
        .to_vec();
    report.summary.rejected = HOSTILE
        .map(|name| {
            let mut record = rejected(name, None);
            record.message = name.to_owned();
            record.code = name.to_owned();
            (name.to_owned(), record)
        })
        .to_vec();
    report.summary.guarantees = HOSTILE
        .map(|name| promise(name, Guarantee::Idempotent, name))
        .to_vec();
    report.summary.references = HOSTILE
        .map(|name| ReferenceResult {
            collection: name.to_owned(),
            fields: vec![name.to_owned()],
            parent: name.to_owned(),
            to_fields: vec![name.to_owned()],
            state: ReferenceState::Searched,
            record_count: 2,
            orphan_count: 1,
            missing_key_count: 1,
            orphans: vec![Orphan {
                record: name.to_owned(),
                missing: name.to_owned(),
            }],
            ..ReferenceResult::default()
        })
        .to_vec();
    report.summary.orphans_file = Some(HOSTILE[1].to_owned());
    report.summary.verification = HOSTILE
        .map(|name| VerificationResult {
            source: name.to_owned(),
            sink: name.to_owned(),
            mismatches: vec![Mismatch {
                values: vec![FieldValues {
                    field: name.to_owned(),
                    source: Some(name.to_owned()),
                    sink: Some(name.to_owned()),
                }],
                kind: MismatchKind::Extra,
                record: name.to_owned(),
                fields: vec![name.to_owned()],
            }],
            mismatch_count: 3,
            changed_since_count: 1,
            mismatches_file: Some(name.to_owned()),
            comparison: Comparison::Different,
            losses: vec![LossCount {
                field: name.to_owned(),
                loss: Loss::NulRemoved,
                record_count: 1,
            }],
            equal_after_loss_count: 1,
            digests: Some(digests(1, name)),
            latency: Some(latency()),
            ..equal("x", 1)
        })
        .to_vec();
    hostile_checks(&mut report.summary);
    let error = &mut report.errors[0].error;
    error.message = HOSTILE.join(" ");
    error.help = Some(HOSTILE.join(" "));
    error.causes = HOSTILE.map(str::to_owned).to_vec();
    error.place = Some(HOSTILE[0].to_owned());
    report
}

fn hostile_checks(summary: &mut RunSummary) {
    summary.rules = HOSTILE
        .map(|name| RuleResult {
            collection: Some(name.to_owned()),
            reason: Some(name.to_owned()),
            violation_count: 1,
            violations: vec![name.to_owned()],
            ..rule(name, RuleState::Broken)
        })
        .to_vec();
    summary.rules[0].state = RuleState::Unchecked;
    summary.sink_references = HOSTILE
        .map(|name| ReferenceResult {
            fields: vec![name.to_owned()],
            parent: name.to_owned(),
            orphans: vec![Orphan {
                record: name.to_owned(),
                missing: name.to_owned(),
            }],
            ..lost(name, 2)
        })
        .to_vec();
    summary.repaired = HOSTILE
        .map(|name| RepairResult {
            source: name.to_owned(),
            left: vec![(name.to_owned(), name.to_owned())],
            ..RepairResult::default()
        })
        .to_vec();
    summary.certificate = Some(CertificateNote {
        file: Some(HOSTILE[0].to_owned()),
        is_signed: false,
        reason: Some(HOSTILE.join(" ")),
    });
}

fn start() -> DateTime<Utc> {
    "2026-11-21T08:00:00Z".parse().unwrap()
}

/// Facts that fit `report`, of a run of `elapsed_secs` seconds.
pub fn facts(report: &TaskReport, elapsed_secs: f64) -> RunFacts {
    let copied: u64 = report
        .summary
        .collections
        .iter()
        .map(|collection| collection.written_count)
        .sum();
    let mut series = Series::default();
    let steps = elapsed_secs.floor() as u64;
    for step in 0..=steps {
        let at_secs = step as f64;
        if series.is_due(at_secs) {
            // A rise, a dip in the middle and an end that is known: something to look at in a chart.
            let part = at_secs / elapsed_secs.max(1.0);
            let wave = (part * 12.0).sin() * 0.03;
            let count = (copied as f64 * (part + wave).clamp(0.0, 1.0)) as u64;
            series.add(Sample {
                at_secs,
                read_count: count,
                written_count: count - count / 50,
                rejected_count: (part * report.summary.rejected_count as f64) as u64,
                retry_count: (part * 4.0) as u64,
                read_bytes: count * 600,
                verified_count: (copied as f64 * (part * 4.0 - 3.0).max(0.0)) as u64,
                memory_bytes: 40 * 1024 * 1024 + (part * 2e7) as u64,
            });
        }
    }
    let mut began = 0.0;
    let timeline = report
        .summary
        .phases
        .iter()
        .map(|phase| {
            let span = PhaseSpan {
                phase: phase.phase,
                outcome: Some(phase.outcome),
                started_secs: began,
                seconds: phase.seconds,
                record_count: phase.record_count,
            };
            if !matches!(phase.phase, Phase::Extraction | Phase::Transformation) {
                began += phase.seconds;
            }
            span
        })
        .collect();
    RunFacts {
        run_id: "20261121T080000Z-k3".to_owned(),
        job_file: "jobs/shop.yaml".to_owned(),
        mode: "full".to_owned(),
        started_by: "ada@ferry".to_owned(),
        started_at: start(),
        ended_at: start() + TimeDelta::milliseconds((elapsed_secs * 1_000.0) as i64),
        elapsed_secs,
        timeline,
        series,
        retry_count: 4,
        failed_collections: Vec::new(),
        hooks: vec![HookResult {
            hook: "after_success[0]".to_owned(),
            ok: true,
            message: "ended with exit status 0".to_owned(),
        }],
        log_complete: true,
    }
}

/// Facts of a run in which a collection failed while others went on.
pub fn facts_with_failed_collection(report: &TaskReport) -> RunFacts {
    RunFacts {
        failed_collections: vec![FailedCollection {
            collection: "Orders".to_owned(),
            failure: report.errors[0].clone(),
        }],
        ..facts(report, 3.0)
    }
}
