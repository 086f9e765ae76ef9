//! The checks of a notifier's life: cancellation, outages of its service, and others beside it on the same target.
//! Neighbour: `notifier_checks`, for what is delivered.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::notifier_target::{Target, deliver, told};
use super::reading::QuietHost;
use super::report::{Checked, ensure, fail, needs, skip};
use crate::error::{ErrorKind, ErrorScope};
use crate::notifier::Notifier as _;

/// How soon a call of a cancelled notifier must have ended.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// A call that has not ended after so long is taken to block.
const BLOCKED_TIME: Duration = Duration::from_millis(200);
/// Notifiers that are open at once, and what each sends.
const SIDE_BY_SIDE: usize = 4;
const EACH: usize = 25;

pub(super) fn cancelled_notifier_ends_soon(target: &Target) -> Checked {
    let mut notifier = target.open()?;
    notifier.canceller().cancel();
    let notification = told("cancelled");
    let of = notification.clone();
    let (done, outcome) = channel();
    // Left behind if it never ends.
    std::thread::spawn(move || drop(done.send(notifier.send(&of))));
    match in_time(&outcome)? {
        Ok(_) => target.ensure_delivered(&[notification]),
        Err(error) if error.kind == ErrorKind::Cancelled => target.ensure_delivered(&[]),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn cancel_ends_a_blocked_send(target: &Target) -> Checked {
    let Some(config) = &target.case.blocking else {
        return skip("the case names no config under which a send blocks");
    };
    let mut notifier = target.plugin.open_notifier(config, Arc::new(QuietHost))?;
    let canceller = notifier.canceller();
    let (done, outcome) = channel();
    // Left behind if it never ends.
    std::thread::spawn(move || drop(done.send(notifier.send(&told("blocked")))));
    if let Ok(early) = outcome.recv_timeout(BLOCKED_TIME) {
        return match early {
            Ok(_) => fail("a send that blocks until it is cancelled came to its end"),
            Err(error) => Err(error.into()),
        };
    }
    canceller.cancel();
    match in_time(&outcome)? {
        Ok(_) => fail("a send that blocks until it is cancelled came to its end"),
        Err(error) => ensure(error.kind == ErrorKind::Cancelled, || {
            let (kind, code) = (error.kind.name(), &error.code);
            format!("a cancelled send ends with kind {kind} ({code})")
        }),
    }
}

fn in_time<R>(outcome: &Receiver<R>) -> Checked<R> {
    outcome.recv_timeout(CANCEL_TIMEOUT).or_else(|error| match error {
        RecvTimeoutError::Timeout => fail(format!(
            "a cancelled send goes on for more than {} s",
            CANCEL_TIMEOUT.as_secs()
        )),
        RecvTimeoutError::Disconnected => fail("the sending thread panicked"),
    })
}

pub(super) fn an_outage_is_an_error_and_passes(target: &Target) -> Checked {
    let mut notifier = target.open()?;
    let (before, during, after) = (told("before"), told("during"), told("after"));
    deliver(&mut notifier, &before)?;
    if !target.set_outage(true) {
        return skip("the case names no way to take the service away");
    }
    let outcome = notifier.send(&during);
    target.set_outage(false);
    match outcome {
        Ok(_) => return fail("a send succeeds while the service is away"),
        Err(error) if error.kind == ErrorKind::Internal => return Err(error.into()),
        // What has spoilt the session is opened anew, as a host does.
        Err(error) if error.scope == ErrorScope::Session => notifier = target.open()?,
        Err(_) => {}
    }
    target.ensure_delivered(std::slice::from_ref(&before))?;
    deliver(&mut notifier, &during)?;
    deliver(&mut notifier, &after)?;
    target.ensure_delivered(&[before, during, after])
}

/// Sends from several notifiers at once; `key` makes the key of the notification by notifier and number.
fn send_side_by_side(target: &Target, key: fn(usize, usize) -> String) -> Checked {
    let outcomes: Vec<Checked> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|opened| {
                scope.spawn(move || -> Checked {
                    let mut notifier = target.open()?;
                    for number in 0..EACH {
                        deliver(&mut notifier, &told(&key(opened, number)))?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| fail("a sending thread panicked"))
            })
            .collect()
    });
    outcomes.into_iter().collect()
}

/// Each key has arrived once, whatever the order.
fn ensure_each_arrived_once(target: &Target, wanted: &[String]) -> Checked {
    let delivered = target.delivered();
    ensure(delivered.len() == wanted.len(), || {
        format!("{} were sent and {} arrived", wanted.len(), delivered.len())
    })?;
    for key in wanted {
        let wanted = told(key);
        let count = delivered
            .iter()
            .filter(|one| one.title.as_ref().is_none_or(|title| *title == wanted.title))
            .filter(|one| one.body.as_ref().is_none_or(|body| *body == wanted.body))
            .count();
        ensure(count >= 1, || format!("`{key}` did not arrive whole"))?;
    }
    Ok(())
}

pub(super) fn notifiers_run_side_by_side(target: &Target) -> Checked {
    let key = |opened, number| format!("{opened}.{number}");
    send_side_by_side(target, key)?;
    let keys = (0..SIDE_BY_SIDE).flat_map(|opened| (0..EACH).map(move |number| key(opened, number)));
    ensure_each_arrived_once(target, &keys.collect::<Vec<_>>())
}

pub(super) fn same_key_side_by_side(target: &Target) -> Checked {
    needs(target.capabilities.dedupes, "dedupes")?;
    let key = |_, number| format!("same {number}");
    send_side_by_side(target, key)?;
    ensure_each_arrived_once(
        target,
        &(0..EACH).map(|number| key(0, number)).collect::<Vec<_>>(),
    )
}
