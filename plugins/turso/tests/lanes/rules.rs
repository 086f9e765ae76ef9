//! The contract of lanes, for whatever keeps them: calls at random, of two sessions, against the rules of the plugin API.
//!
//! The seed is printed and can be given as `WHIMBREL_SEED`. Included by the tests of files and of servers.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::acceptance::records::batch;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneId, LaneState, PrepareRequest};
use whimbrel_plugin_api::{Batch, Collection, ConflictPolicy, Cursor, Error, Result, Sink as _};

/// Lane `number` of a job.
pub fn lane(number: usize) -> LaneId {
    LaneId {
        job: "job".to_owned(),
        source: "source".to_owned(),
        collection: "numbers".to_owned(),
        // The first one is as empty as that of a collection with one part.
        partition: Cursor(vec![b'0'; number]),
    }
}

/// A wish to go on, whoever began the lane.
pub fn claim(number: usize) -> LaneClaim {
    LaneClaim {
        lane: lane(number),
        ..LaneClaim::default()
    }
}

/// What follows `state`, with everything that a checkpoint has.
pub fn checkpoint(state: &LaneState, record_count: u64, done: bool) -> Checkpoint {
    let next = state.seq + 1;
    Checkpoint {
        lane: state.lane.clone(),
        epoch: state.epoch,
        seq: state.seq,
        cursor: Cursor(format!("\0 after {next} of {}", state.epoch).into_bytes()),
        done,
        record_count,
        extensions: [("totals".to_owned(), format!("\"{next}\""))].into(),
    }
}

/// `numbers`: one field, the key.
pub fn numbers() -> Collection {
    let fields = vec![Field::required("n", RecordType::INT64)];
    Collection::new("numbers", Schema::new(fields)).with_key(["n"])
}

/// Records of `numbers`.
pub fn some(numbers_in: impl Iterator<Item = i64>) -> Batch {
    let record = |n| Record::from([("n".to_owned(), Value::Int(n))]);
    let records: Vec<Record> = numbers_in.map(record).collect();
    batch(&Arc::new(numbers().schema), &records).unwrap()
}

/// Makes the table.
pub fn prepare(sink: &mut ForeignSink) {
    let request = PrepareRequest {
        collections: vec![numbers()],
        dry: false,
        ..PrepareRequest::default()
    };
    assert_eq!(sink.prepare(&request).unwrap().findings, []);
}

/// One transaction: records, if there are any, and the checkpoint. What fences off is the same as an answer of it.
pub fn commit(sink: &mut ForeignSink, records: Option<&Batch>, checkpoint: &Checkpoint) -> Result<Committed> {
    let outcome = (|| {
        sink.begin(&checkpoint.lane)?;
        if let Some(records) = records {
            let receipt = sink.write("numbers", records, ConflictPolicy::Fail)?;
            assert_eq!(receipt.rejected, []);
        }
        sink.commit(checkpoint)
    })();
    match outcome {
        Err(error) if error.code == Error::fenced().code => Ok(Committed::Fenced),
        outcome => outcome,
    }
}

/// A small generator of numbers: xorshift.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let given = std::env::var("WHIMBREL_SEED").ok();
        let seed = given.and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(()));
        println!("WHIMBREL_SEED={seed}");
        Self(seed.max(1))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// What should be there.
#[derive(Default)]
struct Wanted {
    lanes: BTreeMap<usize, LaneState>,
    records: Vec<i64>,
}

impl Wanted {
    fn take_over(&mut self, claims: &[(usize, LaneClaim)]) -> Result<Vec<LaneState>> {
        let mut lanes = self.lanes.clone();
        let mut states = Vec::new();
        for (number, claim) in claims {
            let state = LaneState::taken_over(lanes.get(number), claim)?;
            lanes.insert(*number, state.clone());
            states.push(state);
        }
        self.lanes = lanes;
        Ok(states)
    }
}

/// Keeps the rules over `steps` calls. `open` gives a new session; what is left in the table is returned, in order.
pub fn keeps_the_rules(steps: u64, open: &mut dyn FnMut() -> ForeignSink) -> Vec<i64> {
    const LANES: u64 = 3;
    let mut chance = Chance::new();
    let mut wanted = Wanted::default();
    let mut sessions = [open(), open()];
    // What each session believes to hold.
    let mut held: [BTreeMap<usize, LaneState>; 2] = Default::default();
    prepare(&mut sessions[0]);
    prepare(&mut sessions[1]);
    for step in 0..steps {
        let at = chance.below(2) as usize;
        if chance.below(10) == 0 {
            sessions[at] = open();
            prepare(&mut sessions[at]);
            continue;
        }
        if chance.below(3) == 0 {
            let claims: Vec<(usize, LaneClaim)> = (0..=chance.below(LANES))
                .map(|_| {
                    let number = chance.below(LANES) as usize;
                    let claim = LaneClaim {
                        begun_by: ["", "a", "b"][chance.below(3) as usize].to_owned(),
                        held: (chance.below(3) == 0)
                            .then(|| held[at].get(&number).map_or(7, |state| state.epoch)),
                        ..claim(number)
                    };
                    (number, claim)
                })
                .collect();
            let asked: Vec<LaneClaim> = claims.iter().map(|(_, claim)| claim.clone()).collect();
            let found = sessions[at].take_over(&asked).map_err(|error| error.code);
            let states = wanted.take_over(&claims);
            assert_eq!(found, states.clone().map_err(|error| error.code), "step {step}");
            for ((number, _), state) in claims.iter().zip(states.unwrap_or_default()) {
                held[at].insert(*number, state);
            }
            continue;
        }
        let number = chance.below(LANES) as usize;
        let Some(state) = held[at].get_mut(&number) else {
            continue;
        };
        let records: Vec<i64> = (0..chance.below(3)).map(|n| (step * 10 + n) as i64).collect();
        let mut next = checkpoint(state, records.len() as u64, chance.below(8) == 0);
        if chance.below(6) == 0 {
            next.seq = (next.seq + 1).saturating_sub(2 * chance.below(2));
        }
        let batch = some(records.iter().copied());
        let batch = (!records.is_empty()).then_some(&batch);
        let found = commit(&mut sessions[at], batch, &next).unwrap();
        match wanted.lanes[&number].committed(&next) {
            Some(then) => {
                assert_eq!(found, Committed::Committed { seq: then.seq }, "step {step}");
                *state = then.clone();
                wanted.lanes.insert(number, then);
                wanted.records.extend(records);
            }
            None => assert_eq!(found, Committed::Fenced, "step {step}"),
        }
    }
    for number in 0..LANES as usize {
        let then = wanted.take_over(&[(number, claim(number))]).unwrap();
        assert_eq!(open().take_over(&[claim(number)]).unwrap(), then);
    }
    wanted.records
}
