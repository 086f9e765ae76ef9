//! From a symbol to a usable module: header, layouts in both directions, then the module itself.
//!
//! A new plugin in an old host passes the check of layouts one way, an old plugin in a new host the other way; either
//! is enough, since tables grow only at their end. Versions were compared before, from the manifest in the file.

use abi_stable::StableAbi as _;
use abi_stable::abi_stability::abi_checking::{
    AbiInstabilityErrors, CheckingGlobals, check_layout_compatibility_with_globals,
};
use abi_stable::library::{AbiHeaderRef, IsLayoutChecked, LibHeader};
use abi_stable::type_layout::TypeLayout;

use super::root_module::{ForeignPlugin, PluginModuleRef};
use crate::error::{Error, ErrorKind, Result};

/// Turns the address of a library's [`crate::manifest::HEADER_SYMBOL`] into the library's functions.
///
/// # Errors
/// `plugin.abi_mismatch` if header or layouts differ, `plugin.load_failed` if the library's own code fails.
///
/// # Safety
/// `symbol` is the address of that symbol in a loaded library which is never unloaded.
pub unsafe fn plugin_from_symbol(symbol: *const ()) -> Result<ForeignPlugin> {
    if symbol.is_null() || !symbol.cast::<LibHeader>().is_aligned() {
        return Err(mismatch("its header is not where a header can be"));
    }
    // SAFETY: `AbiHeaderRef` is a transparent reference; the caller vouches for the symbol, and `upgrade` compares
    // the magic before anything else is read.
    let header = unsafe { std::mem::transmute::<*const (), AbiHeaderRef>(symbol) };
    let header = header
        .upgrade()
        .map_err(|error| mismatch("it was built with another binary interface").with_cause(&error))?;
    let IsLayoutChecked::Yes(theirs) = header.root_mod_consts().layout() else {
        return Err(mismatch("it does not say how its tables are laid out"));
    };
    let ours = PluginModuleRef::LAYOUT;
    if let Err(forwards) = fits(ours, theirs)
        && fits(theirs, ours).is_err()
    {
        let mut error = mismatch("its tables are laid out in another way");
        // Both layouts stand in the text, tens of thousands of characters; what differs stands last.
        let text = forwards.to_string();
        let difference = text.rsplit("Error:").next().unwrap_or_default();
        error
            .causes
            .push(difference.split_whitespace().collect::<Vec<_>>().join(" "));
        return Err(error);
    }
    // SAFETY: one of the layouts is a prefix of the other, and missing functions are asked for as options.
    let module = unsafe { header.unchecked_layout::<PluginModuleRef>() }.map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            "plugin.load_failed",
            "the library's own code failed while it was loaded",
        )
        .with_cause(&error)
    })?;
    Ok(ForeignPlugin::new(module))
}

/// Whether a library of layout `library` can be used through `interface`.
///
/// Each comparison stands alone: what the crate remembers of earlier libraries would refuse a library of this host's own
/// version once one of an older minor was loaded.
fn fits(
    interface: &'static TypeLayout,
    library: &'static TypeLayout,
) -> std::result::Result<(), AbiInstabilityErrors> {
    check_layout_compatibility_with_globals(interface, library, &CheckingGlobals::new())
}

fn mismatch(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "plugin.abi_mismatch", what)
        .with_help("rebuild the plugin with the plugin API of this host")
}
