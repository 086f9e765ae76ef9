//! Keeps panics on their side: each entry runs guarded, and a panic becomes an error with its message and place.
//!
//! Every library has its own copy of the standard library, so the hook that notes the place is set once per
//! library, when its module is made.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::{Error, ErrorKind, Result};

thread_local! {
    static GUARDED: RefCell<Guarded> = const { RefCell::new(Guarded { depth: 0, place: None }) };
}

struct Guarded {
    depth: usize,
    place: Option<String>,
}

/// Sets the hook that notes where a guarded call panicked, in place of printing it. Again: no effect.
pub(crate) fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let noted = GUARDED.try_with(|guarded| {
                let mut guarded = guarded.borrow_mut();
                guarded.place = info.location().map(ToString::to_string);
                guarded.depth > 0
            });
            if !noted.unwrap_or(false) {
                before(info);
            }
        }));
    });
}

/// Runs `body`; a panic becomes `plugin.panic` with its message and, as its place, file, line and column.
pub(crate) fn guard<R>(call: &str, body: impl FnOnce() -> Result<R>) -> Result<R> {
    GUARDED.with(|guarded| guarded.borrow_mut().depth += 1);
    let outcome = catch_unwind(AssertUnwindSafe(body));
    let place = GUARDED.with(|guarded| {
        let mut guarded = guarded.borrow_mut();
        guarded.depth -= 1;
        guarded.place.take()
    });
    outcome.unwrap_or_else(|payload| {
        let message = text_of(payload.as_ref()).to_owned();
        // Dropping a payload may itself panic; leaking it once is the safe choice.
        std::mem::forget(payload);
        let mut error = Error::new(
            ErrorKind::Internal,
            "plugin.panic",
            format!("the plugin panicked in `{call}`: {message}"),
        );
        error.place = place;
        Err(error)
    })
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_message_and_place() {
        install_hook();
        let error = guard("read", || -> Result<()> { panic!("no {}", "luck") }).unwrap_err();
        assert_eq!(error.code, "plugin.panic");
        assert_eq!(error.message, "the plugin panicked in `read`: no luck");
        assert!(error.place.unwrap().contains("panic.rs:"));
    }
}
