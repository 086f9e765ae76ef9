//! Clearings of a made-up sink that keeps lanes by the rules of the plugin API and notes what it is asked to do.
//! It has a copy of two collections, one of which is gone over twice; the job of the clearing has the other one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::json;
use whimbrel_plugin_api::sink::{
    Checkpoint, Committed, LaneClaim, LaneId, LaneState, PrepareReport, PrepareRequest, Receipt,
};
use whimbrel_plugin_api::{
    Batch, Collection, ConflictPolicy, Error, Field, Partition, RecordType, Result, Schema, Sink,
};

use super::*;
use crate::checkpoint::ManifestCollection;
use crate::config::VerificationLevel;
use crate::events::Emitter;
use crate::loader::observe::CallLog;

#[derive(Default)]
struct Store {
    lanes: HashMap<LaneId, LaneState>,
    calls: Vec<String>,
    /// Another run takes the lane of the run before the second claim.
    is_contended: bool,
    cannot: bool,
}

#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Store>>);

impl Sink for Noting {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Err(Error::internal("nothing is made for a clearing"))
    }

    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        let mut store = self.0.lock().unwrap();
        store.calls.push("take_over".to_owned());
        let is_second = store.calls.iter().filter(|call| *call == "take_over").count() == 2;
        if store.is_contended && is_second {
            let run = store.lanes.get_mut(&run_lane("j", "p")).unwrap();
            run.epoch += 1;
        }
        let granted = claims
            .iter()
            .map(|claim| LaneState::taken_over(store.lanes.get(&claim.lane), claim))
            .collect::<Result<Vec<_>>>()?;
        let named = granted.iter().map(|state| (state.lane.clone(), state.clone()));
        store.lanes.extend(named);
        Ok(granted)
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        Err(Error::unsupported("begin"))
    }

    fn write(&mut self, _: &str, _: &Batch, _: ConflictPolicy) -> Result<Receipt> {
        Err(Error::unsupported("write"))
    }

    fn commit(&mut self, _: &Checkpoint) -> Result<Committed> {
        Err(Error::unsupported("commit"))
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }

    fn finalize(&mut self) -> Result<()> {
        self.0.lock().unwrap().calls.push("finalize".to_owned());
        Ok(())
    }

    fn clear(&mut self, request: &ClearRequest) -> Result<ClearReport> {
        let mut store = self.0.lock().unwrap();
        if store.cannot {
            return Err(Error::unsupported("clear"));
        }
        store
            .calls
            .push(format!("clear {}", request.collections.join(" ")));
        Ok(ClearReport {
            removed: vec![Some(7); request.collections.len()],
        })
    }
}

fn job() -> Job {
    let job = json!({ "name": "j", "source": { "plugin": "p" }, "sink": { "plugin": "p" } });
    serde_json::from_value(job).unwrap()
}

fn planned() -> PlannedCollection {
    let collection = Collection::new("c", Schema::new(vec![Field::required("id", RecordType::INT64)]));
    PlannedCollection {
        source: collection.clone(),
        transforms: Arc::from([]),
        sink: collection,
        policy: ConflictPolicy::Fail,
        verification: VerificationLevel::None,
        limit: None,
        waits_for: Vec::new(),
        held_back: Vec::new(),
        left_out: Vec::new(),
    }
}

fn partition(descriptor: &[u8]) -> Partition {
    Partition {
        descriptor: Cursor(descriptor.to_vec()),
        ..Partition::whole()
    }
}

fn lane(collection: &str, partition: &[u8]) -> LaneId {
    LaneId {
        job: "j".to_owned(),
        source: "p".to_owned(),
        collection: collection.to_owned(),
        partition: Cursor(partition.to_vec()),
    }
}

/// The lanes of the copy and those of a replay, as `copier` has left them.
fn left() -> Vec<LaneId> {
    vec![
        lane("c", b"1"),
        lane("c", b"2"),
        lane("c", b"replay"),
        lane("d", b"1"),
        lane("d", b"1/second-pass"),
    ]
}

/// A sink with a copy, the manifest of which is `cursor`.
fn sink(cursor: Cursor) -> Noting {
    let sink = Noting::default();
    let state = |lane: LaneId, cursor: Cursor| LaneState {
        begun_by: "copier".to_owned(),
        epoch: 4,
        seq: 9,
        cursor,
        done: true,
        ..LaneState::unknown(lane)
    };
    {
        let mut store = sink.0.lock().unwrap();
        let run = run_lane("j", "p");
        store.lanes.insert(run.clone(), state(run, cursor));
        for lane in left() {
            store
                .lanes
                .insert(lane.clone(), state(lane, Cursor(b"here".to_vec())));
        }
    }
    sink
}

fn manifest() -> Cursor {
    let of = |source: &str, partitions: &[&[u8]], has_second_pass| ManifestCollection {
        source: source.to_owned(),
        partitions: partitions
            .iter()
            .map(|descriptor| partition(descriptor))
            .collect(),
        has_second_pass,
        ..ManifestCollection::default()
    };
    let manifest = Manifest {
        run_id: "copier".to_owned(),
        collections: vec![of("c", &[b"1", b"2"], false), of("d", &[b"1"], true)],
        ..Manifest::default()
    };
    manifest.to_cursor().unwrap()
}

fn clear(sink: &Noting, keeps_lanes: bool) -> Result<ClearReport, Failure> {
    let calls = CallLog::new(Emitter::new(Box::new(std::io::sink())), None);
    let mut opened = OpenedSink::of_host("noting", Box::new(sink.clone()), &calls);
    let clearing = Clearing {
        job: &job(),
        run_id: "clearing",
        keeps_lanes,
    };
    look(&mut opened)?;
    run(&clearing, &[planned()], vec!["c".to_owned()], &mut opened)
}

fn calls(sink: &Noting) -> Vec<String> {
    sink.0.lock().unwrap().calls.clone()
}

#[test]
fn all_lanes_of_the_job_begin_anew_before_the_first_record_goes() {
    let sink = sink(manifest());
    assert_eq!(clear(&sink, true).unwrap().removed, [Some(7)]);
    assert_eq!(
        calls(&sink),
        ["clear ", "take_over", "take_over", "clear c", "finalize"]
    );
    let store = sink.0.lock().unwrap();
    let mut wanted = left();
    wanted.extend([
        run_lane("j", "p"),
        lane("c", b"repair"),
        lane("d", b"repair"),
        lane("d", b"replay"),
    ]);
    assert_eq!(store.lanes.len(), wanted.len(), "{:?}", store.lanes.keys());
    for lane in wanted {
        let state = &store.lanes[&lane];
        assert_eq!(state.begun_by, "clearing", "{lane:?}");
        assert!(
            state.seq == 0 && state.cursor.is_start() && !state.done,
            "{state:?}"
        );
        assert!(state.epoch >= 5 || state.epoch == 1, "{state:?}");
    }
}

#[test]
fn what_cannot_be_read_of_a_copy_does_not_keep_its_sink_from_being_cleared() {
    let sink = sink(Cursor(b"damaged".to_vec()));
    clear(&sink, true).unwrap();
    let store = sink.0.lock().unwrap();
    let run = &store.lanes[&run_lane("j", "p")];
    assert!(run.cursor.is_start() && run.begun_by == "clearing", "{run:?}");
}

#[test]
fn nothing_goes_if_another_run_takes_the_lanes_meanwhile_or_the_sink_cannot_be_cleared() {
    let contended = sink(manifest());
    contended.0.lock().unwrap().is_contended = true;
    assert_eq!(clear(&contended, true).unwrap_err().error.code, "run.fenced");
    assert_eq!(calls(&contended), ["clear ", "take_over", "take_over"]);
    let unable = sink(manifest());
    unable.0.lock().unwrap().cannot = true;
    assert_eq!(
        clear(&unable, true).unwrap_err().error.kind,
        whimbrel_plugin_api::ErrorKind::Unsupported
    );
    let store = unable.0.lock().unwrap();
    assert!(store.calls.is_empty());
    assert!(
        store.lanes.values().all(|state| state.seq == 9),
        "the copy still stands"
    );
}

#[test]
fn a_sink_without_lanes_is_asked_for_none() {
    let sink = sink(manifest());
    clear(&sink, false).unwrap();
    assert_eq!(calls(&sink), ["clear ", "clear c"]);
}
