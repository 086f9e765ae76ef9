//! Whether the commit that leaves a rejected record out was made: only then the record is missing in the sink.
//!
//! A run keeps a refused record before that commit, so the last ones of a run that ended early may be those of one that was never made. A
//! run that goes on meets such records again, and they arrive or are in its own list then; sent from the older list they would be there
//! twice, or take the place of newer ones. Neighbour: [`crate::cli::refused_before`], the same for a run that goes on.

use std::collections::{BTreeMap, HashMap};

use whimbrel_plugin_api::Error;

use crate::cli::remembered::Remembered;
use crate::cli::resumable;
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
        for run in later {
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
        })
    }

    /// Why `record` is not to be sent, if that is so.
    pub(super) fn judge(&self, record: &Rejected) -> Result<(), String> {
        let lane = (record.collection.clone(), record.partition.clone());
        // What was left out of a stage is missing in it, whatever was committed.
        if record.seq == 0 {
            return Ok(());
        }
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
}

fn met_again(run: &RunId) -> String {
    format!("the commit that leaves it out was never made, and run `{run}` has met the record again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::remembered::fixtures;
    use crate::events::{Event, Phase};
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

    #[test]
    fn only_what_a_commit_has_left_out_that_was_made_is_missing_in_the_sink() {
        let (folder, ids) = fixtures::folder(&["a"]);
        let remembered = fixtures::open(&folder);
        let first = remembered.run(None).unwrap();
        tell(&remembered, &ids[0], &[committed("c", 4), committed("d", 2)]);
        // Its process is gone: whether the fifth commit was made, nobody here knows.
        assert_eq!(judged(&remembered, &ids[0], "c", &[0, 4, 5]), [true, true, false]);
        assert_eq!(judged(&remembered, &ids[0], "e", &[0, 1]), [true, false]);

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
}
