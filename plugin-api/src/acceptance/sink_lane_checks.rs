//! The checks of a sink's lanes: what is durable in them, and who may claim them.
//!
//! The rules are [`LaneState::taken_over`] and [`LaneState::committed`]: each check does to the sink and to a list of its own the
//! same, and compares every answer. Neighbours: `sink` (the list of checks), `sink_fence_checks` (who may commit), `sink_target`.

use std::collections::{BTreeMap, HashMap};

use super::report::{Checked, ensure, fail, needs};
use super::sink_target::{Target, batch_for, checkpoint, crowd, lane, people, write_all};
use crate::abi::sink::ForeignSink;
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind};
use crate::sink::{Checkpoint, Committed, LaneClaim, LaneId, LaneState, Sink as _};

/// Octets of a descriptor that is too long for an index of most systems: a range of long keys.
const LONG_DESCRIPTOR_BYTES: usize = 4_000;
/// Octets of a cursor as long as the list of a large copy's parts.
const LONG_CURSOR_BYTES: usize = 200_000;
/// Lanes of one large claim: as many as a job of some tables has.
const MANY_LANES: u32 = 120;

/// The lanes as they have to be.
#[derive(Default)]
pub(super) struct Lanes {
    pub(super) known: HashMap<LaneId, LaneState>,
}

pub(super) fn claim(lane: &LaneId, begun_by: &str, held: Option<u64>) -> LaneClaim {
    LaneClaim {
        lane: lane.clone(),
        begun_by: begun_by.to_owned(),
        held,
    }
}

impl Lanes {
    /// Claims lanes, and compares what the sink answers with the rules.
    pub(super) fn take_over(
        &mut self,
        session: &mut ForeignSink,
        claims: &[LaneClaim],
    ) -> Checked<Vec<LaneState>> {
        let expected = claims
            .iter()
            .map(|claim| LaneState::taken_over(self.known.get(&claim.lane), claim))
            .collect::<Result<Vec<_>, Error>>();
        match (session.take_over(claims), expected) {
            (Ok(found), Ok(expected)) => {
                if let Some((found, expected)) = found.iter().zip(&expected).find(|(a, b)| a != b) {
                    return fail(format!(
                        "a lane is {} in place of {}",
                        said(found),
                        said(expected)
                    ));
                }
                ensure(found.len() == expected.len(), || {
                    format!("{} claims have {} answers", expected.len(), found.len())
                })?;
                for state in &expected {
                    self.known.insert(state.lane.clone(), state.clone());
                }
                Ok(expected)
            }
            (Err(error), Err(_)) if error.code == "run.fenced" && error.kind == ErrorKind::Integrity => {
                Ok(Vec::new())
            }
            (Err(error), Err(_)) => fail(format!(
                "a claim of a lane that is not held is refused as `{}` and not as `run.fenced`",
                error.code
            )),
            (Ok(_), Err(_)) => fail("a lane is granted by an epoch that it does not have"),
            (Err(error), Ok(_)) => Err(error.into()),
        }
    }

    /// Claims one lane.
    pub(super) fn take_one(&mut self, session: &mut ForeignSink, claim: LaneClaim) -> Checked<LaneState> {
        match self.take_over(session, &[claim])?.pop() {
            Some(state) => Ok(state),
            None => fail("the lane is not granted"),
        }
    }

    /// Claims the lane anew and so finds out whether it is as it has to be: nobody may have raised its epoch since.
    pub(super) fn look(&mut self, session: &mut ForeignSink, lane: &LaneId) -> Checked {
        let epoch = self.known.get(lane).map_or(0, |state| state.epoch);
        self.take_one(session, claim(lane, "", Some(epoch))).map(drop)
    }

    /// Ends the open transaction, and compares what the sink answers with the rules.
    pub(super) fn commit(&mut self, session: &mut ForeignSink, checkpoint: &Checkpoint) -> Checked {
        let stored = self.known.get(&checkpoint.lane);
        let expected = stored.and_then(|stored| stored.committed(checkpoint));
        let found = session.commit(checkpoint);
        match (found, expected) {
            (Ok(Committed::Committed { seq }), Some(expected)) if seq == expected.seq => {
                self.known.insert(expected.lane.clone(), expected);
                Ok(())
            }
            (Ok(Committed::Fenced), None) => Ok(()),
            (Ok(found), Some(expected)) => {
                fail(format!("commit {} of the lane answers {found:?}", expected.seq))
            }
            (Ok(found), None) => fail(format!("a stale checkpoint is answered by {found:?}")),
            (Err(error), None) if error.code == "run.fenced" => Ok(()),
            (Err(error), _) => Err(error.into()),
        }
    }
}

fn said(state: &LaneState) -> String {
    let LaneState {
        begun_by,
        epoch,
        seq,
        done,
        record_count,
        ..
    } = state;
    format!(
        "{:?} (begun by `{begun_by}`, epoch {epoch}, seq {seq}, done {done}, {record_count} records, cursor of {} octets, \
         extensions {:?})",
        state.lane.collection,
        state.cursor.0.len(),
        state.extensions
    )
}

/// Writes people into an open transaction of the lane and commits them.
pub(super) fn write_people(
    target: &Target,
    session: &mut ForeignSink,
    lanes: &mut Lanes,
    state: &LaneState,
    ids: std::ops::Range<i64>,
) -> Checked {
    let people = people("people");
    let records = &crowd(ids.end)[ids.start as usize..];
    let batch = batch_for(&people, records)?;
    session.begin(&state.lane)?;
    write_all(session, &[("people", &batch)], target.policy())?;
    let now = lanes.known.get(&state.lane).cloned().unwrap_or_default();
    lanes.commit(session, &checkpoint(&now, records.len() as u64))
}

/// Whether the sink holds as many people.
pub(super) fn holds(target: &Target, count: usize) -> Checked {
    if target.reads_back().is_err() {
        return Ok(());
    }
    let people = people("people");
    let (_session, report) = target.prepared(std::slice::from_ref(&people))?;
    let found = target.read(&people, &report)?.len();
    ensure(found == count, || {
        format!("{found} records are there, not {count}")
    })
}

pub(super) fn lanes_are_kept(target: &Target) -> Checked {
    needs(target.capabilities.lanes, "lanes")?;
    let mut lanes = Lanes::default();
    let (mut session, _) = target.prepared(&[people("people")])?;
    let state = lanes.take_one(&mut session, claim(&lane(), "run 1", None))?;
    write_people(target, &mut session, &mut lanes, &state, 0..3)?;
    // The last one is complete, and what the host wants to find again may be of any kind.
    session.begin(&state.lane)?;
    let batch = batch_for(&people("people"), &crowd(6)[3..])?;
    write_all(&mut session, &[("people", &batch)], target.policy())?;
    let now = lanes.known.get(&state.lane).cloned().unwrap_or_default();
    let last = Checkpoint {
        done: true,
        cursor: Cursor((0..LONG_CURSOR_BYTES).map(|octet| (octet % 251) as u8).collect()),
        extensions: BTreeMap::from([
            ("digest.total".to_owned(), "00ff".to_owned()),
            ("quote's \"name\"".to_owned(), "line\nbreak, \u{1f426}".to_owned()),
            ("empty".to_owned(), String::new()),
        ]),
        ..checkpoint(&now, 3)
    };
    lanes.commit(&mut session, &last)?;
    drop(session);
    let mut session = target.open()?;
    lanes.take_one(&mut session, claim(&lane(), "run 1", None))?;
    lanes.take_one(&mut session, claim(&lane(), "", None))?;
    drop(session);
    if target.reads_back().is_ok() {
        let found = target.reader(Vec::new()).collections()?;
        let names: Vec<&str> = found.iter().map(|collection| collection.name.as_str()).collect();
        ensure(names == ["people"], || {
            format!("beside the lanes, {names:?} can be read and not `people` alone")
        })?;
    }
    holds(target, 6)
}

pub(super) fn lane_of_another_run_starts_anew(target: &Target) -> Checked {
    needs(target.capabilities.lanes, "lanes")?;
    let mut lanes = Lanes::default();
    let (mut session, _) = target.prepared(&[people("people")])?;
    let state = lanes.take_one(&mut session, claim(&lane(), "run 1", None))?;
    write_people(target, &mut session, &mut lanes, &state, 0..3)?;
    // Also while it is held.
    let epoch = state.epoch;
    let state = lanes.take_one(&mut session, claim(&lane(), "run 2", Some(epoch)))?;
    write_people(target, &mut session, &mut lanes, &state, 3..6)?;
    drop(session);
    let (mut session, _) = target.prepared(&[people("people")])?;
    // Whose it is, nobody says: it stays that of the second run.
    lanes.take_one(&mut session, claim(&lane(), "", None))?;
    lanes.take_one(&mut session, claim(&lane(), "run 2", None))?;
    let state = lanes.take_one(&mut session, claim(&lane(), "run 1", None))?;
    write_people(target, &mut session, &mut lanes, &state, 6..9)?;
    drop(session);
    holds(target, 9)
}

pub(super) fn commit_without_writes_moves_the_lane(target: &Target) -> Checked {
    needs(target.capabilities.lanes, "lanes")?;
    let mut lanes = Lanes::default();
    let (mut session, _) = target.prepared(&[people("people")])?;
    let state = lanes.take_one(&mut session, claim(&lane(), "run 1", None))?;
    write_people(target, &mut session, &mut lanes, &state, 0..3)?;
    for (cursor, done) in [("here", false), ("", false), ("there", true), ("there", true)] {
        let now = lanes.known.get(&state.lane).cloned().unwrap_or_default();
        session.begin(&state.lane)?;
        let empty = Checkpoint {
            cursor: Cursor(cursor.into()),
            done,
            extensions: BTreeMap::from([("at".to_owned(), cursor.to_owned())]),
            ..checkpoint(&now, 0)
        };
        lanes.commit(&mut session, &empty)?;
        lanes.look(&mut session, &state.lane)?;
    }
    drop(session);
    holds(target, 3)
}

pub(super) fn lanes_are_claimed_together_or_not_at_all(target: &Target) -> Checked {
    needs(target.capabilities.lanes, "lanes")?;
    let mut lanes = Lanes::default();
    let (mut session, _) = target.prepared(&[people("people")])?;
    let other = LaneId {
        collection: "other".to_owned(),
        ..lane()
    };
    let new = LaneId {
        collection: "new".to_owned(),
        ..lane()
    };
    let both = [claim(&lane(), "run 1", None), claim(&other, "run 1", None)];
    let states = lanes.take_over(&mut session, &both)?;
    write_people(target, &mut session, &mut lanes, &states[1], 0..3)?;
    lanes.look(&mut session, &lane())?;
    let epoch = lanes.known.get(&lane()).map_or(0, |state| state.epoch);
    for wrong in [0, epoch - 1, epoch + 1, u64::from(u32::MAX)] {
        let stale = claim(&lane(), "run 1", Some(wrong));
        lanes.take_over(&mut session, std::slice::from_ref(&stale))?;
        // A lane that would start anew, one that is not there yet: they stay as they are, before it and behind.
        let others = [claim(&other, "run 2", None), claim(&new, "run 1", None)];
        lanes.take_over(
            &mut session,
            &[&others[..], std::slice::from_ref(&stale)].concat(),
        )?;
        lanes.take_over(&mut session, &[&[stale], &others[..]].concat())?;
        // A refused claim may spoil the session.
        drop(session);
        session = target.prepared(&[people("people")])?.0;
    }
    lanes.take_over(&mut session, &[claim(&new, "run 1", Some(7))])?;
    drop(session);
    let mut session = target.open()?;
    lanes.look(&mut session, &lane())?;
    lanes.look(&mut session, &other)?;
    lanes.take_one(&mut session, claim(&new, "run 1", None))?;
    drop(session);
    holds(target, 3)
}

/// Lanes whose names are easily taken for one another, or hard to store.
fn odd_lanes() -> Vec<LaneId> {
    let named = |job: &str, source: &str, collection: &str, partition: &[u8]| LaneId {
        job: job.to_owned(),
        source: source.to_owned(),
        collection: collection.to_owned(),
        partition: Cursor(partition.to_vec()),
    };
    // What does not repeat itself cannot be made short by compressing it.
    let mut random = 7_u32;
    let mut octet = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    };
    let long: Vec<u8> = (0..LONG_DESCRIPTOR_BYTES).map(|_| octet()).collect();
    let mut long_twin = long.clone();
    if let Some(last) = long_twin.last_mut() {
        *last ^= 1;
    }
    vec![
        named("job", "source", "people", b""),
        named("job", "source", "people", b"\0"),
        named("job", "source", "people", b"\0\xff\n'\""),
        named("job", "source", "people", b"00ff"),
        named("job", "source", "people", &[0x00, 0xff]),
        named("job", "source", "people", &long),
        named("job", "source", "people", &long_twin),
        named("job", "source", "People", b""),
        named("job", "source", "", b""),
        named("job", "sourcepeople", "", b""),
        named("jobsource", "", "people", b""),
        named("job", "other", "people", b""),
        named("other", "source", "people", b""),
        named("job/source", "people", "", b""),
        named("job", "source/people", "", b""),
        named("__job__", ".", "..", b"."),
        named(
            "it's \"x\"; DROP TABLE lanes; --",
            "%_\\",
            "\u{1f426} \u{e9} e\u{301}",
            b"%",
        ),
        named(
            "it's \"x\"; DROP TABLE lanes; --",
            "%_\\",
            "\u{1f426} e\u{301} \u{e9}",
            b"%",
        ),
        named(&"j".repeat(300), &"s".repeat(300), &"c".repeat(2_000), b""),
    ]
}

pub(super) fn lanes_are_kept_apart(target: &Target) -> Checked {
    needs(target.capabilities.lanes, "lanes")?;
    let mut lanes = Lanes::default();
    let (mut session, _) = target.prepared(&[people("people")])?;
    let mut names = odd_lanes();
    names.extend((0..MANY_LANES).map(|number| LaneId {
        partition: Cursor(number.to_be_bytes().to_vec()),
        ..lane()
    }));
    let claims: Vec<_> = names.iter().map(|name| claim(name, "run 1", None)).collect();
    lanes.take_over(&mut session, &claims)?;
    // As many commits as tell a lane from those beside it.
    let odd_count = odd_lanes().len();
    for (number, name) in names.iter().enumerate().take(odd_count) {
        let now = lanes.known.get(name).cloned().unwrap_or_default();
        session.begin(name)?;
        let own = Checkpoint {
            cursor: Cursor(format!("cursor of {number}").into_bytes()),
            ..checkpoint(&now, 0)
        };
        lanes.commit(&mut session, &own)?;
    }
    drop(session);
    let mut session = target.open()?;
    // Each answer has the place of its claim.
    let claims: Vec<_> = names.iter().rev().map(|name| claim(name, "", None)).collect();
    lanes.take_over(&mut session, &claims)?;
    // Nobody claims nothing.
    lanes.take_over(&mut session, &[]).map(drop)
}
