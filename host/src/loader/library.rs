//! Loads a checked library into this process. The only `unsafe` of the host.
//!
//! A library is never unloaded: its threads and thread-locals would outlive its code. An upgrade is a new process.

#![expect(unsafe_code, reason = "loading a library runs its code")]

use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use whimbrel_plugin_api::abi::ForeignPlugin;
use whimbrel_plugin_api::abi::version::plugin_from_symbol;
use whimbrel_plugin_api::manifest::{HEADER_SYMBOL, Manifest};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::inspect::inspect;

/// A loaded plugin.
pub struct LoadedPlugin {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its functions.
    pub plugin: ForeignPlugin,
}

/// Checks the file once more and loads it. Only worker processes call this.
///
/// # Errors
/// Those of [`inspect`]; `plugin.load_failed` if the system's loader refuses it; `plugin.abi_mismatch` if its tables
/// are laid out in another way.
pub fn load(path: &Path) -> Result<LoadedPlugin, Error> {
    let manifest = inspect(path)?;
    let failed = |error: libloading::Error| {
        Error::new(
            ErrorKind::Unsupported,
            "plugin.load_failed",
            "the system could not load the library",
        )
        .with_cause(&error)
    };
    // SAFETY: the file was checked (whole, this machine, a plugin of a compatible API). Its constructors are its
    // author's; this process is a worker that nothing else depends on.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(failed)?;
    // SAFETY: the symbol is taken as an address only.
    let symbol = unsafe { library.get::<*const ()>(HEADER_SYMBOL.as_bytes()) }
        .map_err(failed)?
        .as_raw_ptr();
    // Never unloaded: see the head of this file.
    std::mem::forget(library);
    // SAFETY: the address of the header symbol of a library that stays loaded.
    let plugin = unsafe { plugin_from_symbol(symbol.cast_const().cast()) }?;
    Ok(LoadedPlugin { manifest, plugin })
}
