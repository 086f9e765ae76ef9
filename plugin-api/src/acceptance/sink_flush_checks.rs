//! The checks of a sink that defers: what it takes without a judgement is judged when it is flushed, and only then.
//!
//! A sink that judges every write at once passes the first of them and skips the others. Neighbours: `sink_checks`
//! (transactions), `sink` (the list of checks), `sink_target` (how they write).

use super::report::{Checked, ensure, fail, skip};
use super::sink_target::{
    Target, batch_for, commit, crowd, holds_rules, lane, people, person, take_over, write_all, write_only,
};
use crate::sink::{ConflictPolicy, Receipt, Sink as _};

fn row(index: usize) -> String {
    format!("first record {index}")
}

fn is_empty(receipt: &Receipt) -> Checked {
    ensure(
        receipt.accepted == 0 && receipt.skipped == 0 && receipt.rejected.is_empty() && receipt.deferred == 0,
        || "the receipt of a flush with nothing to judge is not empty".to_owned(),
    )
}

fn deferred(receipts: &[Receipt]) -> u64 {
    receipts.iter().map(|receipt| receipt.deferred).sum()
}

pub(super) fn flush_without_deferred_records_is_harmless(target: &Target) -> Checked {
    let people = people("people");
    let records = crowd(6);
    let (mut session, report) = target.prepared(std::slice::from_ref(&people))?;
    let mut state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    is_empty(&session.flush()?)?;
    for half in [&records[..3], &records[3..]] {
        let batch = batch_for(&people, half)?;
        write_all(&mut session, &[("people", &batch)], target.policy())?;
        is_empty(&session.flush()?)?;
    }
    state.seq = commit(&mut session, &state, 6)?;
    // And in a transaction without any record.
    session.begin(&state.lane)?;
    is_empty(&session.flush()?)?;
    commit(&mut session, &state, 0)?;
    session.finalize()?;
    drop(session);
    target.reads_back()?;
    target.compare(&people, &report, &records, &target.read(&people, &report)?, row)
}

/// Two writes in which some records are there already: with the policy `fail` these are rejected, by their rows in both.
pub(super) fn deferred_records_are_judged_by_flush(target: &Target) -> Checked {
    let people = people("people");
    let declared = &target.capabilities.policies;
    let (policy, rejected): (_, &[u64]) = if declared.contains(&ConflictPolicy::Fail) {
        (ConflictPolicy::Fail, &[1, 3])
    } else {
        (target.policy(), &[])
    };
    let stored = crowd(10);
    if !rejected.is_empty() {
        let batch = batch_for(&people, &stored)?;
        target.write(
            std::slice::from_ref(&people),
            &[("people", &batch)],
            target.policy(),
        )?;
    }
    let again = |id| if rejected.is_empty() { 20 + id } else { id };
    let first = [
        person(10, "new", 1),
        person(again(3), "again", 1),
        person(11, "new", 1),
    ];
    let second = [person(again(4), "again", 1), person(12, "new", 1)];
    let (first_batch, second_batch) = (batch_for(&people, &first)?, batch_for(&people, &second)?);
    let (mut session, report) = target.prepared(std::slice::from_ref(&people))?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    let written = write_only(
        &mut session,
        &[("people", &first_batch), ("people", &second_batch)],
        policy,
    )?;
    if deferred(&written) == 0 {
        session.abort()?;
        return skip("the sink judges each record when it is written");
    }
    let judged = session.flush()?;
    holds_rules(&judged, 5)?;
    is_empty(&session.flush()?)?;
    let mut rows: Vec<u64> = judged.rejected.iter().filter_map(|record| record.row).collect();
    rows.sort_unstable();
    // Some of them may have been judged at once, with rows of their own write.
    let early: usize = written.iter().map(|receipt| receipt.rejected.len()).sum();
    ensure(
        rows.len() + early == rejected.len() && rows.iter().all(|row| rejected.contains(row)),
        || format!("the rows {rows:?} are rejected in place of {rejected:?}"),
    )?;
    commit(&mut session, &state, 5 - rejected.len() as u64)?;
    session.finalize()?;
    drop(session);
    target.reads_back()?;
    let all = first.into_iter().chain(second).enumerate();
    let kept = all.filter(|(row, _)| !rejected.contains(&(*row as u64)));
    let mut expected: Vec<_> = kept.map(|(_, record)| record).collect();
    if !rejected.is_empty() {
        expected.extend(stored);
    }
    target.compare(&people, &report, &expected, &target.read(&people, &report)?, row)
}

/// Records that are still deferred are undone as those that were judged, and a new transaction knows nothing of them.
pub(super) fn deferred_records_can_be_taken_back(target: &Target) -> Checked {
    target.takes_back()?;
    let people = people("people");
    let (dropped, kept) = (
        batch_for(&people, &crowd(10))?,
        batch_for(&people, &[person(3, "kept", 1)])?,
    );
    let (mut session, report) = target.prepared(std::slice::from_ref(&people))?;
    let state = take_over(&mut session, &lane())?;
    session.begin(&state.lane)?;
    let written = write_only(&mut session, &[("people", &dropped)], target.policy())?;
    session.abort()?;
    if deferred(&written) == 0 {
        return skip("the sink judges each record when it is written");
    }
    target.holds_nothing(&people)?;
    session.begin(&state.lane)?;
    let receipts = write_all(&mut session, &[("people", &kept)], target.policy())?;
    if receipts[0].accepted != 1 {
        return fail("of one record after an abort, one is not accepted");
    }
    commit(&mut session, &state, 1)?;
    session.finalize()?;
    drop(session);
    target.compare(
        &people,
        &report,
        &[person(3, "kept", 1)],
        &target.read(&people, &report)?,
        row,
    )
}
