//! The host services across the boundary: the one table of functions that a plugin calls.
//! Here the host is the producing half, and the plugin the foreign one.

use std::sync::Arc;
use std::time::Duration;

use abi_stable::StableAbi;
use abi_stable::std_types::RStr;

use super::object::Handle;
use super::panic::guard;
use crate::services::{HostServices, LogLevel};

/// What is told by `progress` under this name is a wait, in milliseconds: a table that grows is a matter of every plugin, a name
/// is one of those who know it.
const WAITS_MS: &str = "whimbrel.waits_ms";

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
        match what.as_str() {
            WAITS_MS => host.waits(Duration::from_millis(done)),
            what => host.progress(what, done, (total != u64::MAX).then_some(total)),
        }
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

    fn waits(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        (self.0.vtable.progress())(self.0.handle, WAITS_MS.into(), millis, u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps what it is told.
    #[derive(Default)]
    struct Host(Mutex<Vec<String>>);

    impl Host {
        fn keep(&self, line: String) {
            self.0.lock().unwrap().push(line);
        }
    }

    impl HostServices for Host {
        fn log(&self, level: LogLevel, message: &str) {
            self.keep(format!("{level:?} {message}"));
        }

        fn progress(&self, what: &str, done: u64, total: Option<u64>) {
            self.keep(format!("{what} {done} {total:?}"));
        }

        fn acquire(&self, quota: &str, permits: u64) -> bool {
            self.keep(format!("{quota} {permits}"));
            permits == 1
        }

        fn waits(&self, time: Duration) {
            self.keep(format!("waits {time:?}"));
        }
    }

    #[test]
    fn a_host_hears_what_a_plugin_says_and_tells_a_wait_from_progress() {
        let host = Arc::new(Host::default());
        let plugin = ForeignServices(ServicesObject::new(Arc::clone(&host) as super::Host));
        plugin.log(LogLevel::Warn, "a line");
        plugin.progress("looked at", 1, Some(2));
        plugin.progress("looked at", 3, None);
        plugin.waits(Duration::from_millis(1_500));
        plugin.waits(Duration::MAX);
        assert!(plugin.acquire("reads", 1) && !plugin.acquire("reads", 2));
        let expected = [
            "Warn a line".to_owned(),
            "looked at 1 Some(2)".to_owned(),
            "looked at 3 None".to_owned(),
            "waits 1.5s".to_owned(),
            format!("waits {:?}", Duration::from_millis(u64::MAX)),
            "reads 1".to_owned(),
            "reads 2".to_owned(),
        ];
        assert_eq!(*host.0.lock().unwrap(), expected);
    }
}
