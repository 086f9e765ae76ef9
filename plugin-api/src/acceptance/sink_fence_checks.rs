//! The checks of a sink's fences: who may commit to a lane, and who may no longer.
//!
//! Neighbours: `sink_lane_checks`, whose list of lanes these checks use; `sink` (the list of checks).

use super::report::{Checked, ensure, fail, needs, skip};
use super::sink_lane_checks::{Lanes, claim, holds, write_people};
use super::sink_target::{Target, batch_for, checkpoint, crowd, lane, people, write_all, write_only};
use crate::abi::sink::ForeignSink;
use crate::error::ErrorKind;
use crate::sink::{Checkpoint, Committed, LaneId, LaneState, Sink as _};

pub(super) fn stale_checkpoints_are_fenced(target: &Target) -> Checked {
    needs(target.capabilities.lanes, "lanes")?;
    let mut lanes = Lanes::default();
    let people = people("people");
    let batch = batch_for(&people, &crowd(9)[3..])?;
    let (mut session, _) = target.prepared(std::slice::from_ref(&people))?;
    let state = lanes.take_one(&mut session, claim(&lane(), "run 1", None))?;
    write_people(target, &mut session, &mut lanes, &state, 0..3)?;
    for (epochs, seqs) in [(0, -1), (0, 1), (-1, 0), (1, 0), (1, -1)] {
        let now = lanes.known.get(&lane()).cloned().unwrap_or_default();
        session.begin(&now.lane)?;
        write_all(&mut session, &[("people", &batch)], target.policy())?;
        let stale = Checkpoint {
            epoch: now.epoch.saturating_add_signed(epochs),
            seq: now.seq.saturating_add_signed(seqs),
            ..checkpoint(&now, 6)
        };
        lanes.commit(&mut session, &stale)?;
        // Who is fenced off may be of no more use.
        drop(session);
        holds(target, 3)?;
        session = target.prepared(std::slice::from_ref(&people))?.0;
        lanes.look(&mut session, &lane())?;
    }
    // A lane that nobody has claimed is nobody's.
    let unclaimed = LaneId {
        collection: "unclaimed".to_owned(),
        ..lane()
    };
    let outcome = session
        .begin(&unclaimed)
        .and_then(|()| session.write("people", &batch, target.policy()))
        .and_then(|_| session.flush());
    match outcome {
        Ok(_) => lanes.commit(&mut session, &checkpoint(&LaneState::unknown(unclaimed), 6))?,
        Err(error) if error.kind == ErrorKind::Integrity => {}
        Err(error) => return Err(error.into()),
    }
    drop(session);
    holds(target, 3)
}

pub(super) fn another_session_commits_what_one_has_claimed(target: &Target) -> Checked {
    needs(target.capabilities.lanes, "lanes")?;
    needs(target.capabilities.sessions_max != 1, "sessions_max: more than 1")?;
    let mut lanes = Lanes::default();
    let (mut first, _) = target.prepared(&[people("people")])?;
    let other = LaneId {
        collection: "other".to_owned(),
        ..lane()
    };
    let both = [claim(&lane(), "run 1", None), claim(&other, "run 1", None)];
    let states = lanes.take_over(&mut first, &both)?;
    let (mut second, _) = target.prepared(&[people("people")])?;
    write_people(target, &mut second, &mut lanes, &states[1], 0..3)?;
    write_people(target, &mut first, &mut lanes, &states[0], 3..6)?;
    // A session looks after a lane of its own, and the others go on.
    lanes.look(&mut second, &other)?;
    write_people(target, &mut first, &mut lanes, &states[0], 6..9)?;
    write_people(target, &mut second, &mut lanes, &states[1], 9..12)?;
    drop((first, second));
    holds(target, 12)
}

/// What a session does that was replaced; `Ok` if nothing of it counts.
fn goes_on_in_vain(target: &Target, old: &mut ForeignSink, lanes: &mut Lanes, state: &LaneState) -> Checked {
    let batch = batch_for(&people("people"), &crowd(3))?;
    let outcome = old
        .begin(&state.lane)
        .and_then(|()| old.write("people", &batch, target.policy()))
        .and_then(|_| old.flush());
    match outcome {
        Ok(_) => lanes.commit(old, &checkpoint(state, 3)),
        Err(error) if error.kind == ErrorKind::Integrity => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn replaced_session_is_fenced(target: &Target) -> Checked {
    needs(target.capabilities.lanes, "lanes")?;
    let mut lanes = Lanes::default();
    let (mut old, _) = target.prepared(&[people("people")])?;
    let state = lanes.take_one(&mut old, claim(&lane(), "run 1", None))?;
    let mut new = target.open()?;
    lanes.take_one(&mut new, claim(&lane(), "run 1", None))?;
    goes_on_in_vain(target, &mut old, &mut lanes, &state)?;
    drop(old);
    lanes.look(&mut new, &lane())?;
    drop(new);
    holds(target, 0)
}

pub(super) fn open_transaction_of_a_replaced_session_is_lost(target: &Target) -> Checked {
    needs(target.capabilities.lanes, "lanes")?;
    let mut lanes = Lanes::default();
    let (mut old, _) = target.prepared(&[people("people")])?;
    let state = lanes.take_one(&mut old, claim(&lane(), "run 1", None))?;
    let batch = batch_for(&people("people"), &crowd(3))?;
    old.begin(&state.lane)?;
    write_only(&mut old, &[("people", &batch)], target.policy())?;
    let mut new = target.open()?;
    match new.take_over(&[claim(&lane(), "run 1", None)]) {
        Ok(found) => {
            let expected = LaneState::taken_over(Some(&state), &claim(&lane(), "run 1", None))?;
            ensure(found == [expected.clone()], || {
                "the lane that is taken over is not as it was".to_owned()
            })?;
            lanes.known.insert(lane(), expected);
        }
        // It lives, and its system knows no fence: the caller is told in time, and the holder goes on.
        Err(error) if error.code == "run.lane_held" || error.kind.is_transient() => {
            drop(new);
            old.flush()?;
            lanes.commit(&mut old, &checkpoint(&state, 3))?;
            drop(old);
            holds(target, 3)?;
            return skip("an open transaction cannot be taken over; it is named as the holder");
        }
        Err(error) => return Err(error.into()),
    }
    // Its connection may have been ended.
    let outcome = old.flush().and_then(|_| old.commit(&checkpoint(&state, 3)));
    if let Ok(other @ (Committed::Committed { .. } | Committed::Unknown)) = outcome {
        return fail(format!("what was open answers {other:?}"));
    }
    drop(old);
    lanes.look(&mut new, &lane())?;
    drop(new);
    holds(target, 0)
}
