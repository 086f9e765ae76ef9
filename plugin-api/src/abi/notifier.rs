//! The notifier role across the boundary: the producing half and the foreign half.
//! Contracts: [`crate::notifier`].

use std::sync::OnceLock;

use abi_stable::StableAbi;
use abi_stable::prefix_type::PrefixTypeTrait as _;
use abi_stable::std_types::{RResult, RVec};

use super::error::{Reply, Request, encode, read_reply, reply};
use super::object::{CancelObject, Canceller, Cell, Handle};
use crate::check::Finding;
use crate::error::Result;
use crate::notifier::{Notification, NotificationReceipt, Notifier};
use crate::services::CancelToken;

/// The functions of an opened notifier. Grows only at its end.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = NotifierVtableRef)))]
#[sabi(missing_field(option))]
pub struct NotifierVtable {
    /// Ends the object.
    pub close: extern "C" fn(Handle),
    /// The object's canceller.
    pub canceller: extern "C" fn(Handle) -> CancelObject,
    /// `Notifier::check`.
    pub check: extern "C" fn(Handle) -> Reply,
    /// `Notifier::send`.
    #[sabi(last_prefix_field)]
    pub send: extern "C" fn(Handle, Request) -> Reply,
}

/// An opened notifier.
#[repr(C)]
#[derive(StableAbi)]
pub struct NotifierObject {
    handle: Handle,
    vtable: NotifierVtableRef,
}

/// The answer of `open_notifier`.
pub type NotifierReply = RResult<NotifierObject, RVec<u8>>;

type NotifierCell = Cell<dyn Notifier>;

impl NotifierObject {
    /// Gives a notifier away.
    pub(crate) fn new(notifier: Box<dyn Notifier>, cancel: CancelToken) -> Self {
        static VTABLE: OnceLock<NotifierVtableRef> = OnceLock::new();
        let vtable = *VTABLE.get_or_init(|| {
            NotifierVtable {
                close,
                canceller,
                check,
                send,
            }
            .leak_into_prefix()
        });
        Self {
            handle: Handle::own(NotifierCell::new(notifier, cancel)),
            vtable,
        }
    }
}

fn cell<'call>(handle: Handle) -> &'call NotifierCell {
    // SAFETY: the foreign half calls with the handle of a living `NotifierObject` of this library only.
    unsafe { handle.lend() }
}

extern "C" fn close(handle: Handle) {
    // SAFETY: the foreign half calls this once, last.
    let cell = unsafe { handle.take::<NotifierCell>() };
    drop(super::panic::guard("close", move || {
        drop(cell);
        Ok(())
    }));
}

extern "C" fn canceller(handle: Handle) -> CancelObject {
    CancelObject::new(cell(handle).cancel_token())
}

extern "C" fn check(handle: Handle) -> Reply {
    reply(cell(handle).call("check", |notifier| notifier.check()))
}

extern "C" fn send(handle: Handle, request: Request) -> Reply {
    reply(cell(handle).call("send", |notifier| notifier.send(&request.read()?)))
}

impl Drop for NotifierObject {
    fn drop(&mut self) {
        (self.vtable.close())(self.handle);
    }
}

/// A notifier of another library, as an ordinary [`Notifier`].
pub struct ForeignNotifier(NotifierObject);

impl ForeignNotifier {
    /// Takes the object of the other side.
    pub(crate) fn new(object: NotifierObject) -> Self {
        Self(object)
    }

    /// Ends its calls from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller::new((self.0.vtable.canceller())(self.0.handle))
    }
}

impl Notifier for ForeignNotifier {
    fn check(&mut self) -> Result<Vec<Finding>> {
        read_reply((self.0.vtable.check())(self.0.handle))
    }

    fn send(&mut self, notification: &Notification) -> Result<NotificationReceipt> {
        let request = encode(notification)?;
        read_reply((self.0.vtable.send())(self.0.handle, Request::lend(&request)))
    }
}
