//! The host services across the boundary: the one table of functions that a plugin calls.
//! Here the host is the producing half, and the plugin the foreign one.

use std::sync::Arc;

use abi_stable::StableAbi;
use abi_stable::std_types::RStr;

use super::object::Handle;
use super::panic::guard;
use crate::services::{HostServices, LogLevel};

/// The host's table. Grows only at its end.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ServicesVtableRef)))]
#[sabi(missing_field(option))]
pub struct ServicesVtable {
    /// Lets the handle go.
    pub release: extern "C" fn(Handle),
    /// Keeps one line: level, text.
    pub log: for<'a> extern "C" fn(Handle, u32, RStr<'a>),
    /// Work done: what, done, total (`u64::MAX` if unknown).
    pub progress: for<'a> extern "C" fn(Handle, RStr<'a>, u64, u64),
    /// Takes permits of a quota; false if the run ends.
    #[sabi(last_prefix_field)]
    pub acquire: for<'a> extern "C" fn(Handle, RStr<'a>, u64) -> bool,
}

/// The host, given to a plugin with each opened object.
#[repr(C)]
#[derive(StableAbi)]
pub struct ServicesObject {
    handle: Handle,
    vtable: ServicesVtableRef,
}

type Host = Arc<dyn HostServices>;

extern "C" fn release(handle: Handle) {
    // SAFETY: `Drop` of the object calls this once.
    drop(unsafe { handle.take::<Host>() });
}

extern "C" fn log(handle: Handle, level: u32, message: RStr<'_>) {
    // SAFETY: the handle is that of a living `ServicesObject`.
    let host: &Host = unsafe { handle.lend() };
    let level = match level {
        1 => LogLevel::Error,
        2 => LogLevel::Warn,
        3 => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    drop(guard("log", || {
        host.log(level, message.as_str());
        Ok(())
    }));
}

extern "C" fn progress(handle: Handle, what: RStr<'_>, done: u64, total: u64) {
    // SAFETY: as in `log`.
    let host: &Host = unsafe { handle.lend() };
    drop(guard("progress", || {
        host.progress(what.as_str(), done, (total != u64::MAX).then_some(total));
        Ok(())
    }));
}

extern "C" fn acquire(handle: Handle, quota: RStr<'_>, permits: u64) -> bool {
    // SAFETY: as in `log`.
    let host: &Host = unsafe { handle.lend() };
    guard("acquire", || Ok(host.acquire(quota.as_str(), permits))).unwrap_or(false)
}

impl ServicesObject {
    /// The host's side.
    pub(crate) fn new(host: Host) -> Self {
        use abi_stable::prefix_type::PrefixTypeTrait as _;
        static VTABLE: std::sync::OnceLock<ServicesVtableRef> = std::sync::OnceLock::new();
        let vtable = *VTABLE.get_or_init(|| {
            ServicesVtable {
                release,
                log,
                progress,
                acquire,
            }
            .leak_into_prefix()
        });
        Self {
            handle: Handle::own(host),
            vtable,
        }
    }
}

impl Drop for ServicesObject {
    fn drop(&mut self) {
        (self.vtable.release())(self.handle);
    }
}

/// The plugin's side.
pub(crate) struct ForeignServices(pub(crate) ServicesObject);

impl HostServices for ForeignServices {
    fn log(&self, level: LogLevel, message: &str) {
        (self.0.vtable.log())(self.0.handle, level as u32, message.into());
    }

    fn progress(&self, what: &str, done: u64, total: Option<u64>) {
        (self.0.vtable.progress())(self.0.handle, what.into(), done, total.unwrap_or(u64::MAX));
    }

    fn acquire(&self, quota: &str, permits: u64) -> bool {
        (self.0.vtable.acquire())(self.0.handle, quota.into(), permits)
    }
}
