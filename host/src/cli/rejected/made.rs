//! Whether the commit that leaves a rejected record out was made: only then the record is missing in the sink.
//!
//! A run keeps a refused record before that commit, so the last ones of a run that ended early may be those of one that was never made. A
//! run that goes on meets such records again, and they arrive or are in its own list then; sent from the older list they would be there
//! twice, or take the place of newer ones. Neighbour: [`crate::cli::refused_before`], the same for a run that goes on.

use std::collections::{BTreeMap, HashMap};

use whimbrel_plugin_api::Error;

use crate::cli::remembered::Remembered;
use crate::cli::resumable;
use crate::cli::stages_filled::StagesFilled;
use crate::pipeline::NO_COMMIT;
use crate::state::{Rejected, RunId, RunRecord, RunState};

/// The code of records that are not sent for this.
pub(super) const NOT_COMMITTED: &str = "rejected.not_committed";

/// What is known of the commits of a run that has refused records.
pub(super) struct Made {
    run: RunId,
    /// Whether it came to its end, or is none that ends early.
    is_whole: bool,
    /// The commits that were seen until it ended, by collection and partition.
    seen: BTreeMap<String, BTreeMap<String, u64>>,
    /// The fewest commits that a later run has found, by collection and partition, and which run.
    found: HashMap<(String, String), (u64, RunId)>,
    /// Collections that a later run has copied again from their start.
    anew: HashMap<String, RunId>,
    /// What it has done with the stages of the job.
    stages: StagesFilled,
    /// The same of later runs.
    later: Vec<(RunId, StagesFilled)>,
}

impl Made {
    /// Of `run`, with what the runs say that go on with it.
    ///
    /// # Errors
    /// What is wrong with the state.
    pub(super) fn of(remembered: &Remembered, run: &RunRecord) -> Result<Self, Error> {
        let store = remembered.store()?;
        let chain = match run.is_copy() {
            true => resumable::chain(remembered, run)?,
            false => Vec::new(),
        };
        let end = chain.iter().position(|of| of.id == run.id).map_or(0, |at| at + 1);
        let (until, later) = chain.split_at(end);
        let mut found: HashMap<(String, String), (u64, RunId)> = HashMap::new();
        let mut anew = HashMap::new();
        let mut stages_later = Vec::new();
        for run in later {
            stages_later.push((run.id.clone(), StagesFilled::of(store, &run.id)?));
            for lane in store.lanes_found(&run.id)? {
                let fewest = found
                    .entry((lane.collection, lane.partition))
                    .or_insert_with(|| (lane.seq, run.id.clone()));
                if lane.seq < fewest.0 {
                    *fewest = (lane.seq, run.id.clone());
                }
            }
            for collection in store.begun_anew(&run.id)? {
                anew.entry(collection).or_insert_with(|| run.id.clone());
            }
        }
        let ended_well = matches!(
            run.state,
            RunState::Done | RunState::Differences | RunState::Unverified
        );
        Ok(Self {
            run: run.id.clone(),
            is_whole: ended_well || !run.is_copy(),
            seen: resumable::durable(store, &remembered.workspace, until)?.seqs(),
            found,
            anew,
            stages: StagesFilled::of(store, &run.id)?,
            later: stages_later,
        })
    }

    /// Why `record` is not to be sent, if that is so.
    pub(super) fn judge(&self, record: &Rejected) -> Result<(), String> {
        if record.seq == NO_COMMIT {
            return self.judge_stage(record);
        }
        let lane = (record.collection.clone(), record.partition.clone());
        if let Some(run) = self.anew.get(&record.collection) {
            return Err(met_again(run));
        }
        match self.found.get(&lane) {
            Some((seq, run)) if *seq < record.seq => return Err(met_again(run)),
            Some(_) => return Ok(()),
            None => {}
        }
        let seen = self.seen.get(&lane.0).and_then(|of| of.get(&lane.1));
        if self.is_whole || seen.is_some_and(|seen| *seen >= record.seq) {
            return Ok(());
        }
        Err(format!(
            "run `{}` ended before the commit that leaves it out was seen to be made; resume it first, which meets the record again or \
             finds the commit",
            self.run
        ))
    }

    /// What was left out of a stage is missing in it, whatever was committed, as long as that stage is the one that is copied from.
    fn judge_stage(&self, record: &Rejected) -> Result<(), String> {
        if !self.stages.left_out(record.stage) {
            return Ok(());
        }
        let mut later = self.later.iter();
        if let Some((run, _)) = later.find(|(_, stages)| stages.meets_again(record.stage)) {
            return Err(format!(
                "the stage that it was left out of never became whole or was lost, and run `{run}` has met the record again"
            ));
        }
        let mut stages = std::iter::once(&self.stages).chain(self.later.iter().map(|(_, stages)| stages));
        if self.is_whole || stages.any(|stages| stages.is_past(record.stage)) {
            return Ok(());
        }
        Err(format!(
            "run `{}` ended before the stage that it was left out of was seen to be whole; resume it first, which meets the record again \
             or finds the stage",
            self.run
        ))
    }
}

fn met_again(run: &RunId) -> String {
    format!("the commit that leaves it out was never made, and run `{run}` has met the record again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::remembered::fixtures;
    use crate::events::{Event, Phase, PhaseOutcome, PhaseReport};
    use crate::state::{Counts, EventRecord, JobSeen, NewRun, News, RejectedState, RunEnd, RunOrigin};
    use chrono::TimeDelta;
    use whimbrel_plugin_api::Cursor;

    fn rejected(collection: &str, seq: u64) -> Rejected {
        Rejected {
            number: seq,
            collection: collection.into(),
            record: "r".into(),
            code: "a.b".into(),
            message: "m".into(),
            data: None,
            edited: None,
            stage: Phase::Import,
            partition: "all".into(),
            seq,
            digest: None,
            at: chrono::Utc::now(),
            state: RejectedState::New,
        }
    }

    fn tell(remembered: &Remembered, run: &RunId, events: &[(&str, Event)]) {
        let kept = (1..).zip(events).map(|(seq, (kind, event))| EventRecord {
            seq,
            at: chrono::Utc::now(),
            kind: (*kind).into(),
            body: serde_json::to_string(event).unwrap(),
        });
        let news = News {
            events: kept.collect(),
            rejected: Vec::new(),
            counts: Counts::default(),
            plugins: Vec::new(),
            heartbeat_at: chrono::Utc::now(),
        };
        remembered.store().unwrap().record(run, &news).unwrap();
    }

    fn committed(collection: &str, seq: u64) -> (&'static str, Event) {
        let event = Event::Committed {
            collection: collection.into(),
            partition: "all".into(),
            seq,
            cursor: Cursor::start(),
            record_count: 1,
            done: false,
        };
        ("committed", event)
    }

    fn found(collection: &str, seq: u64) -> (&'static str, Event) {
        let event = Event::LaneTaken {
            collection: collection.into(),
            partition: "all".into(),
            seq,
            cursor: Cursor::start(),
            record_count: 1,
            done: false,
        };
        ("lane_taken", event)
    }

    /// For each of `seqs` whether a record of that commit may be sent.
    fn judged(remembered: &Remembered, run: &RunId, collection: &str, seqs: &[u64]) -> Vec<bool> {
        let run = remembered.run(Some(run.as_str())).unwrap();
        let made = Made::of(remembered, &run).unwrap();
        let judge = |seq: &u64| made.judge(&rejected(collection, *seq)).is_ok();
        seqs.iter().map(judge).collect()
    }

    /// Begins a run that goes on with `first`.
    fn goes_on(remembered: &Remembered, first: &RunRecord) -> RunId {
        let started_at = first.started_at + TimeDelta::hours(1);
        let second = RunId::at(started_at, 0xdef);
        let run = NewRun {
            started_at,
            holder: first.holder.clone(),
            origin: RunOrigin {
                resumes: Some(first.id.to_string()),
                begun_by: Some(first.chain().to_owned()),
            },
            ..NewRun::of_this_process(
                second.clone(),
                JobSeen { ..first.job.clone() },
                "resume",
                "full",
                "/f".into(),
                true,
            )
        };
        remembered.store().unwrap().begin_run(&run).unwrap();
        second
    }

    #[test]
    fn only_what_a_commit_has_left_out_that_was_made_is_missing_in_the_sink() {
        let (folder, ids) = fixtures::folder(&["a"]);
        let remembered = fixtures::open(&folder);
        let first = remembered.run(None).unwrap();
        tell(&remembered, &ids[0], &[committed("c", 4), committed("d", 2)]);
        // Its process is gone: whether the fifth commit was made, nobody here knows.
        assert_eq!(judged(&remembered, &ids[0], "c", &[0, 4, 5]), [true, true, false]);
        assert_eq!(judged(&remembered, &ids[0], "e", &[0, 1]), [true, false]);

        let second = goes_on(&remembered, &first);
        let anew = Event::BegunAnew {
            collection: "d".into(),
        };
        tell(
            &remembered,
            &second,
            &[("begun_anew", anew), found("c", 5), found("d", 0)],
        );
        // The next run has found the fifth commit, and none after it; of `d` it has met all records again.
        assert_eq!(judged(&remembered, &ids[0], "c", &[4, 5, 6]), [true, true, false]);
        assert_eq!(judged(&remembered, &ids[0], "d", &[0, 1]), [true, false]);
        let end = RunEnd::new(RunState::Done, 0, None);
        remembered.store().unwrap().end_run(&second, &end).unwrap();
        assert_eq!(judged(&remembered, &second, "c", &[6, 7]), [true, true]);
        assert_eq!(judged(&remembered, &ids[0], "c", &[6]), [false]);
    }

    fn step(phase: Phase, is_end: bool) -> (&'static str, Event) {
        let ended = PhaseReport {
            phase,
            outcome: PhaseOutcome::Done,
            seconds: 0.0,
            record_count: 0,
        };
        match is_end {
            true => ("phase_ended", Event::PhaseEnded(ended)),
            false => ("phase_started", Event::PhaseStarted { phase }),
        }
    }

    /// Why a record that was left out in each of two phases, on the way into a stage, is not sent: it is met again, or to be resumed.
    fn of_stages(remembered: &Remembered, run: &RunId) -> [&'static str; 2] {
        let run = remembered.run(Some(run.as_str())).unwrap();
        let made = Made::of(remembered, &run).unwrap();
        [Phase::Extraction, Phase::Transformation].map(|stage| {
            let record = Rejected {
                stage,
                ..rejected("c", 0)
            };
            match made.judge(&record) {
                Ok(()) => "sent",
                Err(why) if why.contains("resume it first") => "resume",
                Err(why) if why.contains("has met the record again") => "met again",
                Err(_) => "?",
            }
        })
    }

    #[test]
    fn what_was_left_out_of_a_stage_is_sent_only_if_that_stage_is_the_one_that_was_copied_from() {
        let (extraction, transformation) = (Phase::Extraction, Phase::Transformation);
        let extracted = || vec![step(extraction, false), step(extraction, true)];
        let transforms = || [extracted(), vec![step(transformation, false)]].concat();
        let imports = || {
            [
                transforms(),
                vec![step(transformation, true), step(Phase::Import, false)],
            ]
            .concat()
        };
        let reuses = || vec![step(extraction, true), step(transformation, false)];
        // The events of a run, those of the next one if there is one, and what becomes of the two records.
        let cases = [
            (vec![step(extraction, false)], None, ["resume", "resume"]),
            (extracted(), None, ["resume", "resume"]),
            (transforms(), None, ["sent", "resume"]),
            (imports(), None, ["sent", "sent"]),
            (
                vec![step(extraction, false)],
                Some(Vec::new()),
                ["resume", "resume"],
            ),
            (
                vec![step(extraction, false)],
                Some(extracted()),
                ["met again", "met again"],
            ),
            (extracted(), Some(reuses()), ["sent", "met again"]),
            (imports(), Some(vec![step(extraction, true)]), ["sent", "sent"]),
        ];
        for (index, (events, next, expected)) in cases.into_iter().enumerate() {
            let (folder, ids) = fixtures::folder(&["a"]);
            let remembered = fixtures::open(&folder);
            tell(&remembered, &ids[0], &events);
            if let Some(next) = next {
                let second = goes_on(&remembered, &remembered.run(None).unwrap());
                tell(&remembered, &second, &next);
            }
            assert_eq!(of_stages(&remembered, &ids[0]), expected, "{index}");
        }
    }
}
