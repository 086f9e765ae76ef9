//! Whether a worker that was ended by a signal is started again, when, and with what task.
//!
//! Only a run is gone on with, only where the sink keeps how far it got, and only once its import had begun. Rules alone: `supervise`
//! starts processes and waits. Not here: how the new worker finds its place, which is told by the sink's lanes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use whimbrel_plugin_api::manifest::Role;

use super::protocol::{Task, TaskKind};
use super::supervise::Ended;
use crate::events::{Event, Failure, Outcome, Phase, RefusedBefore};

/// The pause before the first restart; each further one is twice as long. A system that has just come back has a moment to settle.
const DELAY_FIRST: Duration = Duration::from_secs(1);
/// No pause is longer: whoever watches the run should see it go on.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// A pause is longer or shorter by up to this part of it, so that runs that fell together do not rise together.
const DELAY_JITTER: f64 = 0.2;
/// A call that was running when so many workers crashed would crash the next one. Which one of several is to blame cannot be told.
const SAME_CALL_MAX: u32 = 3;
/// Signals that a process gets for what its own code does: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS. For others the
/// call that was running is not to blame.
const SIGNALS_OF_CRASHES: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

/// What is known of the workers of one task.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    max: u32,
    made: u32,
    has_lanes: bool,
    has_begun: bool,
    /// The calls that were running when workers crashed, each with how often.
    crashed_in: BTreeMap<String, u32>,
    /// What the workers until now have refused.
    refused: Vec<RefusedBefore>,
    /// How many commits of each partition were seen, by collection of the source and label.
    known_seqs: BTreeMap<String, BTreeMap<String, u64>>,
    /// Why the worker before this one was lost.
    lost: Option<Box<Failure>>,
}

/// A worker that is to be started.
#[derive(Debug)]
pub(super) struct Restart {
    /// Which one, from 1.
    pub(super) attempt: u32,
    /// The pause before it.
    pub(super) delay: Duration,
}

impl Restarts {
    /// For `task`, whose first worker is about to start.
    pub(super) fn of(task: &Task) -> Self {
        match &task.kind {
            TaskKind::Run { job, options } if !options.dry_run => {
                let resume = options.resume.clone().unwrap_or_default();
                Self {
                    max: job.limits.worker_restarts,
                    refused: resume.refused,
                    known_seqs: resume.known_seqs,
                    ..Self::default()
                }
            }
            _ => Self::default(),
        }
    }

    /// Takes note of an event of the worker.
    pub(super) fn observe(&mut self, event: &Event) {
        match event {
            Event::PluginLoaded {
                role: Role::Sink,
                description,
                ..
            } => self.has_lanes = description.sink.as_ref().is_some_and(|sink| sink.lanes),
            Event::PhaseStarted { phase: Phase::Import } => self.has_begun = true,
            Event::Committed {
                collection,
                partition,
                seq,
                ..
            } => {
                let of_collection = self.known_seqs.entry(collection.clone()).or_default();
                of_collection.insert(partition.clone(), *seq);
            }
            Event::LaneTaken {
                collection,
                partition,
                seq,
                ..
            } => self.refused.retain(|refused| {
                // What was left out of a commit that was never made is met again.
                refused.collection != *collection || refused.partition != *partition || refused.seq <= *seq
            }),
            Event::BegunAnew { collection } => {
                self.known_seqs.remove(collection);
                self.refused.retain(|refused| refused.collection != *collection);
            }
            Event::Rejected {
                collection,
                record,
                partition,
                seq,
                digest,
                ..
            } if self.max > 0 => self.refused.push(RefusedBefore {
                collection: collection.clone(),
                partition: partition.clone(),
                seq: *seq,
                record: record.record.clone(),
                code: record.code.clone(),
                message: record.message.clone(),
                digest: digest.clone(),
            }),
            _ => {}
        }
    }

    /// Whether another worker takes the place of one that was lost for `failure`, ended by the signal `died_of` while `calls` were running.
    pub(super) fn after(
        &mut self,
        failure: &Failure,
        died_of: Option<i32>,
        calls: BTreeSet<String>,
    ) -> Option<Restart> {
        let signal = died_of?;
        if SIGNALS_OF_CRASHES.contains(&signal) {
            for call in calls {
                *self.crashed_in.entry(call).or_default() += 1;
            }
        }
        let same_call = self.crashed_in.values().copied().max().unwrap_or(0);
        let may = self.made < self.max && self.has_lanes && self.has_begun;
        if !may || same_call >= SAME_CALL_MAX {
            return None;
        }
        self.made += 1;
        self.lost = Some(Box::new(failure.clone()));
        let doubled = DELAY_FIRST.saturating_mul(1_u32.checked_shl(self.made - 1).unwrap_or(u32::MAX));
        let jitter = 1.0 + DELAY_JITTER * (2.0 * fastrand::f64() - 1.0);
        Some(Restart {
            attempt: self.made,
            delay: doubled.min(DELAY_MAX).mul_f64(jitter),
        })
    }

    /// Whether this is a worker that was started again.
    pub(super) fn is_under_way(&self) -> bool {
        self.made > 0
    }

    /// The task of the next worker: to go on with the run of `task` where the sink says.
    pub(super) fn task(&self, task: &Task) -> Task {
        let mut task = task.clone();
        if let TaskKind::Run { options, .. } = &mut task.kind {
            // What this run has read and staged is as it was read.
            options.reads_anew = false;
            let run_id = options.run_id.clone();
            let resume = options.resume.get_or_insert_default();
            if resume.resumes.is_empty() {
                resume.resumes = run_id;
            }
            resume.refused.clone_from(&self.refused);
            resume.known_seqs.clone_from(&self.known_seqs);
        }
        task
    }

    /// Whether a worker that was started again says that there is nothing that it could go on with. Then the run has ended with the
    /// worker before it, which had come to nothing.
    pub(super) fn is_in_vain(&self, outcome: &Outcome) -> bool {
        self.reason_in_vain(outcome).is_some()
    }

    fn reason_in_vain<'a>(&self, outcome: &'a Outcome) -> Option<&'a Failure> {
        let failure = match outcome {
            Outcome::Refused { failures, .. } => failures.first(),
            Outcome::Failed { failure, .. } => Some(failure),
            _ => None,
        };
        failure.filter(|failure| self.is_under_way() && failure.error.code.starts_with("resume."))
    }

    /// How the task ended, given what the last worker said of it.
    pub(super) fn judge(&self, outcome: Box<Outcome>) -> Ended {
        match (self.reason_in_vain(&outcome), &self.lost) {
            (Some(reason), Some(lost)) => {
                let mut lost = lost.clone();
                lost.error.causes.push(format!(
                    "a new worker could not go on: {} [{}]",
                    reason.error.message, reason.error.code
                ));
                Ended::Lost(lost)
            }
            _ => Ended::Outcome(outcome),
        }
    }

    /// Why the last worker was lost, with how often it was tried.
    pub(super) fn last_words(&self, mut failure: Box<Failure>) -> Ended {
        if self.is_under_way() {
            let times = if self.made == 1 { "once" } else { "several times" };
            failure.error.causes.push(format!(
                "the worker had been started again {times}: {} of {} restarts",
                self.made, self.max
            ));
        }
        Ended::Lost(failure)
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::Cursor;

    use super::*;
    use crate::orchestrator::{ResumeOptions, RunOptions};
    use crate::report::fixtures;
    use whimbrel_plugin_api::Error;
    use whimbrel_plugin_api::capability::SinkCapabilities;
    use whimbrel_plugin_api::export::Description;
    use whimbrel_plugin_api::source::RejectedRecord;

    const SIGKILL: i32 = 9;
    const SIGSEGV: i32 = 11;

    fn task(worker_restarts: u32, options: RunOptions) -> Task {
        let mut job = fixtures::job();
        job.limits.worker_restarts = worker_restarts;
        Task {
            plugins: Vec::new(),
            kind: TaskKind::Run {
                job: Box::new(job),
                options,
            },
            call_timeout_secs: 1,
            holds_before_writing: false,
            call_board: None,
        }
    }

    fn loaded(lanes: bool) -> Event {
        let sink = SinkCapabilities {
            lanes,
            ..SinkCapabilities::default()
        };
        Event::PluginLoaded {
            role: Role::Sink,
            name: "s".into(),
            version: "1.0.0".into(),
            description: Box::new(Description {
                sink: Some(sink),
                ..Description::default()
            }),
        }
    }

    /// A run whose worker has come to its import, into a sink with lanes.
    fn begun(worker_restarts: u32) -> Restarts {
        let mut restarts = Restarts::of(&task(worker_restarts, RunOptions::default()));
        restarts.observe(&loaded(true));
        restarts.observe(&Event::PhaseStarted { phase: Phase::Import });
        restarts
    }

    fn failure(call: &str) -> Failure {
        Failure::from(Error::internal("x")).at_call("s", Role::Sink, call)
    }

    fn attempts(restarts: &mut Restarts, deaths: &[(&str, i32)]) -> Vec<Option<u32>> {
        let each = deaths.iter().map(|(call, signal)| {
            let calls = call.split(' ').map(str::to_owned).collect();
            let restart = restarts.after(&failure(call), Some(*signal), calls);
            restart.map(|restart| restart.attempt)
        });
        each.collect()
    }

    #[test]
    fn a_worker_that_is_killed_is_started_again_up_to_the_limit() {
        let killed = [("write", SIGKILL); 5];
        assert_eq!(
            attempts(&mut begun(3), &killed),
            [Some(1), Some(2), Some(3), None, None]
        );
        assert_eq!(attempts(&mut begun(0), &killed[..1]), [None]);
    }

    #[test]
    fn a_call_that_crashes_for_the_third_time_is_not_made_again() {
        let same = [("write", SIGSEGV); 3];
        assert_eq!(attempts(&mut begun(10), &same), [Some(1), Some(2), None]);
        let among_others = [
            ("next write", SIGSEGV),
            ("next", SIGSEGV),
            ("commit next", SIGSEGV),
        ];
        assert_eq!(attempts(&mut begun(10), &among_others), [Some(1), Some(2), None]);
        let different = [
            ("write", SIGSEGV),
            ("commit", SIGSEGV),
            ("write", SIGKILL),
            ("write", SIGSEGV),
            ("write", SIGSEGV),
        ];
        assert_eq!(
            attempts(&mut begun(10), &different),
            [Some(1), Some(2), Some(3), Some(4), None]
        );
    }

    #[test]
    fn nothing_is_gone_on_with_that_the_sink_does_not_know_of() {
        let killed = failure("write");
        let import = Event::PhaseStarted { phase: Phase::Import };
        for (lanes, has_begun) in [(false, true), (true, false)] {
            let mut restarts = Restarts::of(&task(3, RunOptions::default()));
            restarts.observe(&loaded(lanes));
            if has_begun {
                restarts.observe(&import);
            }
            assert!(
                restarts.after(&killed, Some(SIGKILL), BTreeSet::new()).is_none(),
                "{lanes} {has_begun}"
            );
        }
        assert!(
            begun(3).after(&killed, None, BTreeSet::new()).is_none(),
            "no signal ended it"
        );
        let dry = RunOptions {
            dry_run: true,
            ..RunOptions::default()
        };
        let mut restarts = Restarts::of(&task(3, dry));
        restarts.observe(&loaded(true));
        restarts.observe(&import);
        assert!(restarts.after(&killed, Some(SIGKILL), BTreeSet::new()).is_none());
    }

    #[test]
    fn pauses_grow_to_an_end() {
        let mut restarts = begun(8);
        for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] {
            let restart = restarts
                .after(&failure("write"), Some(SIGKILL), BTreeSet::new())
                .unwrap();
            let part = restart.delay.as_secs_f64() / seconds;
            assert!((0.79..1.21).contains(&part), "{seconds}: {part}");
        }
    }

    fn rejected(record: &str, partition: &str, seq: u64) -> Event {
        Event::Rejected {
            collection: "c".into(),
            record: RejectedRecord {
                record: record.into(),
                row: None,
                code: "a.b".into(),
                message: "m".into(),
                data: Some("value".into()),
            },
            stage: Phase::Import,
            partition: partition.into(),
            seq,
            digest: Some("0f".into()),
        }
    }

    #[test]
    fn the_next_worker_goes_on_with_the_run_and_with_what_was_refused() {
        let options = RunOptions {
            run_id: "r".into(),
            reads_anew: true,
            ..RunOptions::default()
        };
        let task = task(3, options);
        let mut restarts = Restarts::of(&task);
        restarts.observe(&rejected("1", "0..", 1));
        restarts.observe(&rejected("2", "0..", 2));
        restarts.observe(&rejected("3", "50..", 2));
        for seq in 1..=2 {
            restarts.observe(&Event::Committed {
                collection: "c".into(),
                partition: "50..".into(),
                seq,
                cursor: Cursor::start(),
                record_count: 1,
                done: false,
            });
        }
        restarts.observe(&Event::LaneTaken {
            collection: "c".into(),
            partition: "0..".into(),
            seq: 1,
            cursor: Cursor::start(),
            record_count: 0,
            done: false,
        });
        let TaskKind::Run { options, .. } = restarts.task(&task).kind else {
            panic!("another task");
        };
        assert!(!options.reads_anew);
        assert_eq!(options.run_id, "r");
        let resume = options.resume.unwrap();
        assert_eq!(resume.resumes, "r");
        let refused: Vec<&str> = resume.refused.iter().map(|one| one.record.as_str()).collect();
        assert_eq!(refused, ["1", "3"]);
        assert_eq!(resume.refused[0].digest.as_deref(), Some("0f"));
        assert_eq!(resume.known_seqs["c"], BTreeMap::from([("50..".to_owned(), 2)]));
    }

    #[test]
    fn a_resumed_run_is_resumed_as_it_was() {
        let resume = ResumeOptions {
            resumes: "first".into(),
            accepts_changes: true,
            refused: vec![RefusedBefore {
                record: "7".into(),
                ..RefusedBefore::default()
            }],
            ..ResumeOptions::default()
        };
        let options = RunOptions {
            run_id: "second".into(),
            resume: Some(resume.clone()),
            ..RunOptions::default()
        };
        let task = task(3, options);
        let TaskKind::Run { options, .. } = Restarts::of(&task).task(&task).kind else {
            panic!("another task");
        };
        assert_eq!(options.resume, Some(resume));
    }

    #[test]
    fn a_worker_with_nothing_to_go_on_with_leaves_the_first_loss() {
        let outcome = |code: &str| {
            Box::new(Outcome::Failed {
                summary: Default::default(),
                failure: Error::config(code, "nothing was begun").into(),
            })
        };
        let mut restarts = begun(3);
        assert!(
            !restarts.is_in_vain(&outcome("resume.nothing")),
            "the first worker"
        );
        assert!(
            restarts
                .after(&failure("commit"), Some(SIGKILL), BTreeSet::new())
                .is_some()
        );
        assert!(!restarts.is_in_vain(&outcome("sink.full")));
        assert!(matches!(restarts.judge(outcome("sink.full")), Ended::Outcome(_)));
        assert!(restarts.is_in_vain(&outcome("resume.nothing")));
        let Ended::Lost(lost) = restarts.judge(outcome("resume.nothing")) else {
            panic!("the loss is forgotten");
        };
        assert_eq!(lost.call.as_deref(), Some("commit"));
        assert!(
            lost.error.causes[0].contains("nothing was begun [resume.nothing]"),
            "{lost:?}"
        );
    }
}
