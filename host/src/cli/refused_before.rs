//! The records that earlier runs of a copy have refused, for a run that goes on with it.
//!
//! A run keeps a refused record before the commit that leaves it out, so what it kept last may belong to a commit that was never
//! made. The next run that took the lane over has met such records again: of a run, those count that belong to commits which the
//! later runs have found made, and those that were left out of a stage which none of them has filled again. What the lane has reached by
//! now, the worker knows. Neighbour: `rejected`, where people see them.

use std::collections::{HashMap, HashSet};

use whimbrel_plugin_api::Error;

use crate::cli::stages_filled::StagesFilled;
use crate::events::RefusedBefore;
use crate::pipeline::NO_COMMIT;
use crate::state::{RejectedFilter, RejectedState, RunRecord, StateStore};

/// Records that are read at once.
const PAGE_RECORDS: u32 = 5_000;

/// Those of `chain`, the runs of the copy, the oldest first. A record that was sent again and taken is not among them.
///
/// # Errors
/// What is wrong with the state.
pub fn refused_before(store: &dyn StateStore, chain: &[RunRecord]) -> Result<Vec<RefusedBefore>, Error> {
    // By collection and partition, the fewest commits that any later run has found.
    let mut found: HashMap<(String, String), u64> = HashMap::new();
    // Collections that a later run has copied again from their start.
    let mut anew: HashSet<String> = HashSet::new();
    let mut later: Vec<StagesFilled> = Vec::new();
    let mut newest_first = Vec::new();
    for run in chain.iter().rev() {
        let mut of_run = Vec::new();
        let stages = StagesFilled::of(store, &run.id)?;
        let mut filter = RejectedFilter {
            limit: PAGE_RECORDS,
            ..RejectedFilter::default()
        };
        loop {
            let page = store.rejected(&run.id, &filter)?;
            let count = page.records.len();
            for record in page.records {
                filter.after = record.number;
                let lane = (record.collection, record.partition);
                let is_made =
                    found.get(&lane).is_none_or(|seq| record.seq <= *seq) && !anew.contains(&lane.0);
                let is_met_again = record.seq == NO_COMMIT
                    && stages.left_out(record.stage)
                    && later.iter().any(|run| run.meets_again(record.stage));
                if !is_made || is_met_again || record.state == RejectedState::Replayed {
                    continue;
                }
                let (collection, partition) = lane;
                of_run.push(RefusedBefore {
                    collection,
                    partition,
                    seq: record.seq,
                    record: record.record,
                    code: record.code,
                    message: record.message,
                    digest: record.digest,
                });
            }
            if count < PAGE_RECORDS as usize {
                break;
            }
        }
        newest_first.push(of_run);
        later.push(stages);
        anew.extend(store.begun_anew(&run.id)?);
        for lane in store.lanes_found(&run.id)? {
            let seq = found.entry((lane.collection, lane.partition)).or_insert(lane.seq);
            *seq = lane.seq.min(*seq);
        }
    }
    Ok(newest_first.into_iter().rev().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::remembered::fixtures;
    use crate::events::{Event, Phase, PhaseOutcome, PhaseReport};
    use crate::state::{Counts, EventRecord, News, Rejected, RejectedChange};
    use whimbrel_plugin_api::Cursor;

    fn rejected(number: u64, partition: &str, seq: u64) -> Rejected {
        Rejected {
            number,
            collection: "c".into(),
            record: format!("{partition} {seq} {number}"),
            code: "a.b".into(),
            message: "m".into(),
            data: None,
            edited: None,
            stage: Phase::Import,
            partition: partition.into(),
            seq,
            digest: Some("00".repeat(16)),
            at: chrono::Utc::now(),
            state: RejectedState::New,
        }
    }

    fn taken(number: u64, partition: &str, seq: u64) -> EventRecord {
        let event = Event::LaneTaken {
            collection: "c".into(),
            partition: partition.into(),
            seq,
            cursor: Cursor::start(),
            record_count: 0,
            done: false,
        };
        EventRecord {
            seq: number,
            at: chrono::Utc::now(),
            kind: "lane_taken".into(),
            body: serde_json::to_string(&event).unwrap(),
        }
    }

    #[test]
    fn what_was_kept_for_a_commit_that_later_runs_did_not_find_does_not_count() {
        let (folder, ids) = fixtures::folder(&["a", "b", "c"]);
        let remembered = fixtures::open(&folder);
        let store = remembered.store().unwrap();
        let tell = |run: usize, events: Vec<EventRecord>, rejected: Vec<Rejected>| {
            let news = News {
                events,
                rejected,
                counts: Counts::default(),
                plugins: Vec::new(),
                heartbeat_at: chrono::Utc::now(),
            };
            store.record(&ids[run], &news).unwrap();
        };
        // The first run dies before its commits 6 of `p` and 3 of `q`; the second makes them with other records.
        tell(
            0,
            Vec::new(),
            vec![
                rejected(1, "p", 5),
                rejected(2, "p", 6),
                rejected(3, "q", 2),
                rejected(4, "q", 3),
                rejected(5, "r", 9),
                rejected(6, "p", 1),
            ],
        );
        tell(
            1,
            vec![taken(1, "p", 5), taken(2, "q", 2)],
            vec![rejected(1, "p", 6), rejected(2, "p", 8), rejected(3, "q", 3)],
        );
        tell(
            2,
            vec![taken(1, "p", 7), taken(2, "q", 3)],
            vec![rejected(1, "p", 8)],
        );
        store
            .change_rejected(&ids[0], &[RejectedChange::Replayed { number: 6 }])
            .unwrap();
        let mut chain = remembered.runs(None, None, 10).unwrap();
        chain.sort_by(|a, b| a.id.cmp(&b.id));
        let counted: Vec<String> = refused_before(store, &chain)
            .unwrap()
            .into_iter()
            .map(|one| one.record)
            .collect();
        assert_eq!(counted, ["p 5 1", "q 2 3", "r 9 5", "p 6 1", "q 3 3", "p 8 1"]);
        let one = refused_before(store, &chain[..1]).unwrap();
        assert_eq!(one.len(), 5, "without later runs all may have been committed");
        assert_eq!(one[0].digest.as_deref(), Some("00".repeat(16).as_str()));
    }

    #[test]
    fn what_was_left_out_of_a_stage_counts_once_though_the_next_run_fills_it_again() {
        let (folder, ids) = fixtures::folder(&["a", "b", "c"]);
        let remembered = fixtures::open(&folder);
        let store = remembered.store().unwrap();
        let extraction = Phase::Extraction;
        // The first run dies while it extracts, the second while it imports, and the third goes on with what the second has extracted.
        let steps = [
            vec![Event::PhaseStarted { phase: extraction }],
            vec![
                Event::PhaseStarted { phase: extraction },
                ended(extraction),
                ended(Phase::Transformation),
                Event::PhaseStarted { phase: Phase::Import },
            ],
            vec![
                ended(extraction),
                ended(Phase::Transformation),
                Event::PhaseStarted { phase: Phase::Import },
            ],
        ];
        for (id, events) in ids.iter().zip(steps) {
            let record = Rejected {
                stage: extraction,
                digest: None,
                ..rejected(1, "p", NO_COMMIT)
            };
            let news = News {
                events: (1..).zip(&events).map(|(seq, event)| kept(seq, event)).collect(),
                // The third one meets none.
                rejected: if id == &ids[2] { Vec::new() } else { vec![record] },
                counts: Counts::default(),
                plugins: Vec::new(),
                heartbeat_at: chrono::Utc::now(),
            };
            store.record(id, &news).unwrap();
        }
        let mut chain = remembered.runs(None, None, 10).unwrap();
        chain.sort_by(|a, b| a.id.cmp(&b.id));
        for count in 1..=3 {
            assert_eq!(
                refused_before(store, &chain[..count]).unwrap().len(),
                1,
                "{count}"
            );
        }
    }

    fn ended(phase: Phase) -> Event {
        Event::PhaseEnded(PhaseReport {
            phase,
            outcome: PhaseOutcome::Done,
            seconds: 0.0,
            record_count: 0,
        })
    }

    fn kept(seq: u64, event: &Event) -> EventRecord {
        let body = serde_json::to_value(event).unwrap();
        EventRecord {
            seq,
            at: chrono::Utc::now(),
            kind: body["event"].as_str().unwrap().into(),
            body: body.to_string(),
        }
    }
}
