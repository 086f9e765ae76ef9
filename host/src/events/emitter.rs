//! The writing end of the event stream: one line per event, whole, in order, from any thread.
//! The reading end is the supervisor.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use super::Event;

/// Writes events. Cheap to clone.
#[derive(Clone)]
pub struct Emitter(Arc<Mutex<Box<dyn Write + Send>>>);

impl Emitter {
    /// Writes to `out`, a line per event.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Mutex::new(out)))
    }

    /// Writes one event.
    ///
    /// A reader that is gone is not an error here: the worker learns of it from its standard input.
    pub fn emit(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else {
            return;
        };
        line.push(b'\n');
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if out.write_all(&line).is_ok() {
            drop(out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_several_threads_stay_whole() {
        let shared = Shared::default();
        let emitter = Emitter::new(Box::new(shared.clone()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|call_id| emitter.emit(&Event::CallEnded { call_id })));
            }
        });
        let text = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 200);
        for line in text.lines() {
            serde_json::from_str::<Event>(line).unwrap();
        }
    }
}
