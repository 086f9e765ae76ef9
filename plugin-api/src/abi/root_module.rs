//! The one table that a library exports, and the host's view of a loaded library.
//! Neighbour: `version` turns a symbol of a file into it.

use std::sync::{Arc, OnceLock};

use abi_stable::StableAbi;
pub use abi_stable::library::LibHeader;
use abi_stable::library::{CheckTypeLayout, RootModule, RootModuleError, RootModuleResult};
use abi_stable::package_version_strings;
use abi_stable::prefix_type::{PrefixRefTrait as _, PrefixTypeTrait as _};
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RResult, RVec};

use super::arrow::Validation;
use super::error::{Reply, Request, decode_error, encode, encode_error, read_reply, reply};
use super::notifier::{ForeignNotifier, NotifierObject, NotifierReply};
use super::panic::{guard, install_hook};
use super::services::{ForeignServices, ServicesObject};
use super::sink::{ForeignSink, SinkObject, SinkReply};
use super::source::{ForeignSource, SourceObject, SourceReply};
use super::transform::{ForeignTransform, TransformObject, TransformReply};
use crate::error::{Error, Result};
use crate::export::{Description, PluginExports};
use crate::manifest::Role;
use crate::services::{CancelToken, HostServices, Services};

/// The functions of a library. Grows only at its end.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef)))]
#[sabi(missing_field(option))]
pub struct PluginModule {
    /// Config schema, capabilities and type mappings of a role (by number).
    pub describe: extern "C" fn(u32) -> Reply,
    /// Opens the source role: config, host.
    pub open_source: extern "C" fn(Request, ServicesObject) -> SourceReply,
    /// Opens the sink role.
    pub open_sink: extern "C" fn(Request, ServicesObject) -> SinkReply,
    /// Opens the transform role.
    pub open_transform: extern "C" fn(Request, ServicesObject) -> TransformReply,
    /// Opens the notifier role.
    #[sabi(last_prefix_field)]
    pub open_notifier: extern "C" fn(Request, ServicesObject) -> NotifierReply,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "whimbrel_plugin";
    const NAME: &'static str = "whimbrel plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

// ---------------------------------------------------------------- producing half

/// The header static of a library. Used by `export_plugin!`.
pub const fn header<P: PluginExports>() -> LibHeader {
    // SAFETY: `constructor` returns a `PluginModuleRef`, erased.
    unsafe { LibHeader::from_constructor::<PluginModuleRef>(constructor::<P>, CheckTypeLayout::Yes) }
}

extern "C" fn constructor<P: PluginExports>() -> RootModuleResult {
    let made = guard("load", || {
        install_hook();
        Ok(PluginModule {
            describe: describe::<P>,
            open_source: open_source::<P>,
            open_sink: open_sink::<P>,
            open_transform: open_transform::<P>,
            open_notifier: open_notifier::<P>,
        }
        .leak_into_prefix())
    });
    match made {
        // SAFETY: the erased reference is turned back into `PluginModuleRef` only (see `header`).
        Ok(module) => RResult::ROk(unsafe { module.to_prefix_ref().cast() }),
        // The header's error type has no room for a message of ours.
        Err(_) => RResult::RErr(RootModuleError::Unwound),
    }
}

extern "C" fn describe<P: PluginExports>(role: u32) -> Reply {
    reply(guard("describe", || {
        let role = Role::ALL.into_iter().find(|known| known.number() == role);
        P::describe(role.ok_or_else(|| Error::unsupported("describe for this role"))?)
    }))
}

/// Opens one role: reads the config, runs the author's `open` guarded, and gives the object away.
fn open<T, O>(
    config: Request,
    host: ServicesObject,
    open: impl FnOnce(serde_json::Value, Services) -> Result<T>,
    give: impl FnOnce(T, CancelToken) -> O,
) -> RResult<O, RVec<u8>> {
    let opened = guard("open", || {
        let cancel = CancelToken::new();
        let services = Services::new(Arc::new(ForeignServices(host)), cancel.clone());
        Ok(give(open(config.read()?, services)?, cancel))
    });
    match opened {
        Ok(object) => RResult::ROk(object),
        Err(error) => RResult::RErr(encode_error(&error)),
    }
}

extern "C" fn open_source<P: PluginExports>(config: Request, host: ServicesObject) -> SourceReply {
    open(config, host, P::open_source, SourceObject::new)
}

extern "C" fn open_sink<P: PluginExports>(config: Request, host: ServicesObject) -> SinkReply {
    open(config, host, P::open_sink, SinkObject::new)
}

extern "C" fn open_transform<P: PluginExports>(config: Request, host: ServicesObject) -> TransformReply {
    open(config, host, P::open_transform, TransformObject::new)
}

extern "C" fn open_notifier<P: PluginExports>(config: Request, host: ServicesObject) -> NotifierReply {
    open(config, host, P::open_notifier, NotifierObject::new)
}

// ---------------------------------------------------------------- foreign half

/// A loaded library.
#[derive(Clone, Copy)]
pub struct ForeignPlugin {
    module: PluginModuleRef,
}

impl ForeignPlugin {
    /// Takes the module whose layout was checked.
    pub(crate) fn new(module: PluginModuleRef) -> Self {
        Self { module }
    }

    /// Config schema, capabilities and type mappings of `role`.
    pub fn describe(&self, role: Role) -> Result<Description> {
        read_reply((self.module.describe())(role.number()))
    }

    /// Opens the source role.
    pub fn open_source(
        &self,
        config: &serde_json::Value,
        host: Arc<dyn HostServices>,
        validation: Validation,
    ) -> Result<ForeignSource> {
        let config = encode(config)?;
        taken((self.module.open_source())(
            Request::lend(&config),
            ServicesObject::new(host),
        ))
        .map(|object| ForeignSource::new(object, validation))
    }

    /// Opens the sink role.
    pub fn open_sink(
        &self,
        config: &serde_json::Value,
        host: Arc<dyn HostServices>,
        validation: Validation,
    ) -> Result<ForeignSink> {
        let config = encode(config)?;
        taken((self.module.open_sink())(
            Request::lend(&config),
            ServicesObject::new(host),
        ))
        .map(|object| ForeignSink::new(object, validation))
    }

    /// Opens the transform role.
    pub fn open_transform(
        &self,
        config: &serde_json::Value,
        host: Arc<dyn HostServices>,
        validation: Validation,
    ) -> Result<ForeignTransform> {
        let config = encode(config)?;
        taken((self.module.open_transform())(
            Request::lend(&config),
            ServicesObject::new(host),
        ))
        .map(|object| ForeignTransform::new(object, validation))
    }

    /// Opens the notifier role.
    pub fn open_notifier(
        &self,
        config: &serde_json::Value,
        host: Arc<dyn HostServices>,
    ) -> Result<ForeignNotifier> {
        let config = encode(config)?;
        taken((self.module.open_notifier())(
            Request::lend(&config),
            ServicesObject::new(host),
        ))
        .map(ForeignNotifier::new)
    }
}

fn taken<T>(reply: RResult<T, RVec<u8>>) -> Result<T> {
    match reply {
        RResult::ROk(object) => Ok(object),
        RResult::RErr(error) => Err(decode_error(&error)),
    }
}

/// The module of this very library, for tests that go through the boundary without loading a file.
pub fn local<P: PluginExports>() -> ForeignPlugin {
    static MODULES: OnceLock<()> = OnceLock::new();
    MODULES.get_or_init(install_hook);
    ForeignPlugin::new(
        PluginModule {
            describe: describe::<P>,
            open_source: open_source::<P>,
            open_sink: open_sink::<P>,
            open_transform: open_transform::<P>,
            open_notifier: open_notifier::<P>,
        }
        .leak_into_prefix(),
    )
}
