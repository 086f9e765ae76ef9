//! Waits until everything that was said so far is durable in the state, before a commit that relies on it.
//!
//! The worker announces a number, the supervisor writes down what it has seen until then and answers with the same number. The
//! number is drawn and announced in one step, so that an answer covers all smaller ones. Not here: what is written down, which is
//! the state's. Neighbours: [`crate::events`] carries the number, [`crate::control`] ends the waiting.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use whimbrel_plugin_api::{Error, ErrorKind};

use crate::control::{Cause, Stop};
use crate::events::{Emitter, Event};

/// How often somebody who waits looks whether the run ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The worker's half. Cheap to clone; the default one has nobody to wait for and lets everybody pass.
#[derive(Clone, Default)]
pub struct Barrier(Option<Arc<Shared>>);

#[derive(Default)]
struct Shared {
    announced: Mutex<u64>,
    answers: Mutex<Answers>,
    changed: Condvar,
}

#[derive(Default)]
struct Answers {
    passed: u64,
    failure: Option<Error>,
}

impl Barrier {
    /// One whose answers come by [`Barrier::passed`], [`Barrier::refuse`] and [`Barrier::close`].
    pub fn answered() -> Self {
        Self(Some(Arc::default()))
    }

    /// Waits until all events that this thread has emitted before are durable. A wish to end in good order does not end the waiting:
    /// what is open is still committed then.
    ///
    /// # Errors
    /// What kept the state from being written (`state.*`), `run.supervisor_gone`, or `run.cancelled` if the run has failed.
    pub fn pass(&self, emitter: &Emitter, stop: &Stop) -> Result<(), Error> {
        let Some(shared) = &self.0 else {
            return Ok(());
        };
        let number = {
            let mut announced = shared.announced.lock().unwrap_or_else(PoisonError::into_inner);
            *announced += 1;
            emitter.emit(&Event::Barrier { number: *announced });
            *announced
        };
        let mut answers = shared.answers();
        loop {
            if answers.passed >= number {
                return Ok(());
            }
            if let Some(failure) = &answers.failure {
                return Err(failure.clone());
            }
            if matches!(stop.cause(), Some(Cause::Failed(_))) {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    "run.cancelled",
                    "the run has failed elsewhere, so nothing more is committed",
                ));
            }
            (answers, _) = shared
                .changed
                .wait_timeout(answers, LOOK_INTERVAL)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// All that was said before number `number` is durable.
    pub fn passed(&self, number: u64) {
        self.answer(|answers| answers.passed = answers.passed.max(number));
    }

    /// Nothing more becomes durable, because of `error`.
    pub fn refuse(&self, error: Error) {
        self.answer(|answers| {
            answers.failure.get_or_insert(error);
        });
    }

    /// Nobody is there to answer any more.
    pub fn close(&self) {
        self.refuse(Error::new(
            ErrorKind::Unavailable,
            "run.supervisor_gone",
            "the process that keeps the state of the run has gone, so nothing more is committed that relies on it",
        ));
    }

    fn answer(&self, change: impl FnOnce(&mut Answers)) {
        if let Some(shared) = &self.0 {
            change(&mut shared.answers());
            shared.changed.notify_all();
        }
    }
}

impl Shared {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Hands over every event as it is emitted.
    struct Told(Sender<Event>);

    impl Write for Told {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            drop(self.0.send(serde_json::from_slice(octets).unwrap()));
            Ok(octets.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn emitter() -> (Emitter, Receiver<Event>) {
        let (sender, receiver) = channel();
        (Emitter::new(Box::new(Told(sender))), receiver)
    }

    #[test]
    fn it_opens_once_its_own_number_is_answered_and_not_before() {
        let (emitter, told) = emitter();
        let (barrier, stop) = (Barrier::answered(), Stop::default());
        let (done, ended) = channel();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| done.send(barrier.pass(&emitter, &stop)).unwrap());
            }
            for number in 1..=2 {
                assert_eq!(told.recv().unwrap(), Event::Barrier { number });
            }
            assert!(ended.try_recv().is_err());
            barrier.passed(1);
            assert_eq!(ended.recv().unwrap(), Ok(()));
            assert!(ended.try_recv().is_err());
            barrier.passed(2);
            assert_eq!(ended.recv().unwrap(), Ok(()));
        });
    }

    #[test]
    fn an_end_in_good_order_still_waits_and_a_failure_does_not() {
        let (emitter, told) = emitter();
        let (barrier, stop) = (Barrier::answered(), Stop::default());
        stop.ask();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| barrier.pass(&emitter, &stop));
            assert_eq!(told.recv().unwrap(), Event::Barrier { number: 1 });
            barrier.passed(1);
            assert_eq!(waits.join().unwrap(), Ok(()));
        });
        let failed = Stop::default();
        failed.fail(Error::internal("x").into());
        assert_eq!(barrier.pass(&emitter, &failed).unwrap_err().code, "run.cancelled");
    }

    #[test]
    fn what_keeps_the_state_from_being_written_is_said_to_all_who_come() {
        let (emitter, _told) = emitter();
        let barrier = Barrier::answered();
        barrier.refuse(Error::config("state.io", "x"));
        barrier.close();
        for _ in 0..2 {
            let error = barrier.pass(&emitter, &Stop::default()).unwrap_err();
            assert_eq!(error.code, "state.io");
        }
        let gone = Barrier::answered();
        gone.close();
        let error = gone.pass(&emitter, &Stop::default()).unwrap_err();
        assert_eq!(error.code, "run.supervisor_gone");
        assert_eq!(Barrier::default().pass(&emitter, &Stop::default()), Ok(()));
    }
}
