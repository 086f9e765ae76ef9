//! What every opened object has in common: an owner's handle, one call at a time, poisoning, and a canceller.
//!
//! An object is used by one thread at a time; its canceller may be used from any thread, at any time, also after the
//! object was closed.

use std::sync::{Arc, Mutex, TryLockError};

use abi_stable::StableAbi;

use super::panic::guard;
use crate::error::{Error, ErrorKind, Result};
use crate::services::CancelToken;

/// A pointer that only its maker understands.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy)]
pub struct Handle(*mut ());

// SAFETY: a handle points to a `Cell` or a `CancelToken`, both of which are `Send` and `Sync`.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// Gives `value` away.
    pub(crate) fn own<T>(value: T) -> Self {
        Self(Box::into_raw(Box::new(value)).cast())
    }

    /// Lends the value.
    ///
    /// # Safety
    /// The handle was made by `own::<T>` in this library and was not taken back.
    pub(crate) unsafe fn lend<'call, T>(self) -> &'call T {
        // SAFETY: the caller promises the type and that the value is alive.
        unsafe { &*self.0.cast::<T>() }
    }

    /// Takes the value back.
    ///
    /// # Safety
    /// As for `lend`, and the handle is not used again.
    pub(crate) unsafe fn take<T>(self) -> T {
        // SAFETY: the caller promises the type and sole ownership.
        *unsafe { Box::from_raw(self.0.cast::<T>()) }
    }
}

/// An author's object with what guards it.
pub(crate) struct Cell<T: ?Sized> {
    cancel: CancelToken,
    object: Mutex<Box<T>>,
}

impl<T: ?Sized> Cell<T> {
    pub(crate) fn new(object: Box<T>, cancel: CancelToken) -> Self {
        Self {
            cancel,
            object: Mutex::new(object),
        }
    }

    pub(crate) fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// Runs one call: refused while another runs (`plugin.overlapping_calls`) and after a panic (`plugin.poisoned`).
    /// A cancelled object may still be called, so that a sink can undo what is open.
    pub(crate) fn call<R>(&self, name: &str, body: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        guard(name, || {
            let mut object = match self.object.try_lock() {
                Ok(object) => object,
                Err(TryLockError::Poisoned(_)) => {
                    return Err(Error::new(
                        ErrorKind::Internal,
                        "plugin.poisoned",
                        format!("`{name}` was refused, since an earlier call of this object panicked"),
                    ));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        ErrorKind::Internal,
                        "plugin.overlapping_calls",
                        format!("`{name}` was called while another call of this object runs"),
                    ));
                }
            };
            body(&mut object)
        })
    }
}

/// Ends the calls of one object from another thread.
#[repr(C)]
#[derive(StableAbi)]
pub struct CancelObject {
    handle: Handle,
    cancel: extern "C" fn(Handle),
    release: extern "C" fn(Handle),
}

extern "C" fn cancel_raise(handle: Handle) {
    // SAFETY: made by `CancelObject::new` of this library, released once by `Drop`.
    let token: &Arc<CancelToken> = unsafe { handle.lend() };
    // A waker that panics must not unwind into the host; there is nobody to tell.
    drop(guard("cancel", || {
        token.cancel();
        Ok(())
    }));
}

extern "C" fn cancel_release(handle: Handle) {
    // SAFETY: `Drop` calls this once.
    drop(unsafe { handle.take::<Arc<CancelToken>>() });
}

impl CancelObject {
    pub(crate) fn new(token: CancelToken) -> Self {
        Self {
            handle: Handle::own(Arc::new(token)),
            cancel: cancel_raise,
            release: cancel_release,
        }
    }
}

impl Drop for CancelObject {
    fn drop(&mut self) {
        (self.release)(self.handle);
    }
}

/// The host's end of a [`CancelObject`]; cheap to clone.
#[derive(Clone)]
pub struct Canceller(Arc<CancelObject>);

impl Canceller {
    pub(crate) fn new(object: CancelObject) -> Self {
        Self(Arc::new(object))
    }

    /// Asks the running call, and every later one, to end with `plugin.cancelled`.
    pub fn cancel(&self) {
        (self.0.cancel)(self.0.handle);
    }
}
