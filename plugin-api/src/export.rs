//! `export_plugin!`: turns a crate into a plugin library.
//!
//! The macro writes the manifest octets and the loader's header, and joins the roles to the types that implement them.
//! Neighbours: [`crate::manifest`] (the octets), [`crate::abi`] (the header).

use serde::{Deserialize, Serialize};

use crate::capability::{NotifierCapabilities, SinkCapabilities, SourceCapabilities, TypeMapping};
use crate::config;
use crate::error::{Error, Result};
use crate::manifest::Role;
use crate::notifier::{Notifier, OpenNotifier};
use crate::services::Services;
use crate::sink::{OpenSink, Sink};
use crate::source::{OpenSource, Source};
use crate::transform::{OpenTransform, Transform};

/// What a role says of itself without being opened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// JSON Schema of its config.
    pub config_schema: serde_json::Value,
    /// Capabilities, if it is a source.
    pub source: Option<SourceCapabilities>,
    /// Capabilities, if it is a sink.
    pub sink: Option<SinkCapabilities>,
    /// Capabilities, if it is a notifier; none from plugins built before API 0.1.1.
    pub notifier: Option<NotifierCapabilities>,
    /// How each record type is kept.
    pub type_mappings: Vec<TypeMapping>,
}

/// What `export_plugin!` implements. Roles that the plugin lacks answer `plugin.unsupported`.
#[doc(hidden)]
pub trait PluginExports: 'static {
    /// Config schema, capabilities and type mappings of a role.
    fn describe(role: Role) -> Result<Description>;

    /// Opens the source role.
    fn open_source(config: serde_json::Value, services: Services) -> Result<Box<dyn Source>> {
        drop((config, services));
        Err(Error::unsupported("source"))
    }

    /// Opens the sink role.
    fn open_sink(config: serde_json::Value, services: Services) -> Result<Box<dyn Sink>> {
        drop((config, services));
        Err(Error::unsupported("sink"))
    }

    /// Opens the transform role.
    fn open_transform(config: serde_json::Value, services: Services) -> Result<Box<dyn Transform>> {
        drop((config, services));
        Err(Error::unsupported("transform"))
    }

    /// Opens the notifier role.
    fn open_notifier(config: serde_json::Value, services: Services) -> Result<Box<dyn Notifier>> {
        drop((config, services));
        Err(Error::unsupported("notifier"))
    }
}

/// Opens `S` with its config read.
#[doc(hidden)]
pub fn open_source<S: OpenSource>(json: serde_json::Value, services: Services) -> Result<Box<dyn Source>> {
    Ok(Box::new(S::open(config::parse(json)?, services)?))
}

/// Opens `S` with its config read.
#[doc(hidden)]
pub fn open_sink<S: OpenSink>(json: serde_json::Value, services: Services) -> Result<Box<dyn Sink>> {
    Ok(Box::new(S::open(config::parse(json)?, services)?))
}

/// Opens `T` with its config read.
#[doc(hidden)]
pub fn open_transform<T: OpenTransform>(
    json: serde_json::Value,
    services: Services,
) -> Result<Box<dyn Transform>> {
    Ok(Box::new(T::open(config::parse(json)?, services)?))
}

/// Opens `N` with its config read.
#[doc(hidden)]
pub fn open_notifier<N: OpenNotifier>(
    json: serde_json::Value,
    services: Services,
) -> Result<Box<dyn Notifier>> {
    Ok(Box::new(N::open(config::parse(json)?, services)?))
}

/// Describes `S`.
#[doc(hidden)]
pub fn describe_source<S: OpenSource>() -> Description {
    Description {
        config_schema: config::schema::<S::Config>(),
        source: Some(S::capabilities()),
        type_mappings: S::type_mappings(),
        ..Description::default()
    }
}

/// Describes `S`.
#[doc(hidden)]
pub fn describe_sink<S: OpenSink>() -> Description {
    Description {
        config_schema: config::schema::<S::Config>(),
        sink: Some(S::capabilities()),
        type_mappings: S::type_mappings(),
        ..Description::default()
    }
}

/// Describes `T`.
#[doc(hidden)]
pub fn describe_transform<T: OpenTransform>() -> Description {
    Description {
        config_schema: config::schema::<T::Config>(),
        ..Description::default()
    }
}

/// Describes `N`.
#[doc(hidden)]
pub fn describe_notifier<N: OpenNotifier>() -> Description {
    Description {
        config_schema: config::schema::<N::Config>(),
        notifier: Some(N::capabilities()),
        ..Description::default()
    }
}

/// Makes this crate a plugin: `export_plugin!(name: "x", source: X, sink: Y)`.
///
/// `name` is what jobs write; version, description and licence come from the crate's `Cargo.toml`. Any of `source`,
/// `sink`, `transform` and `notifier` may be given, in this order, each with the type that implements it. The crate
/// must be a `cdylib` and unwind on panic.
#[macro_export]
macro_rules! export_plugin {
    (
        name: $name:expr
        $(, source: $source:ty)?
        $(, sink: $sink:ty)?
        $(, transform: $transform:ty)?
        $(, notifier: $notifier:ty)?
        $(,)?
    ) => {
        #[cfg(panic = "abort")]
        compile_error!("a whimbrel plugin must be built with panic = \"unwind\": the host turns its panics into errors");

        /// The plugin of this library.
        #[doc(hidden)]
        pub struct WhimbrelPlugin;

        impl $crate::export::PluginExports for WhimbrelPlugin {
            fn describe(role: $crate::manifest::Role) -> $crate::Result<$crate::export::Description> {
                match role {
                    $($crate::manifest::Role::Source => Ok($crate::export::describe_source::<$source>()),)?
                    $($crate::manifest::Role::Sink => Ok($crate::export::describe_sink::<$sink>()),)?
                    $($crate::manifest::Role::Transform => Ok($crate::export::describe_transform::<$transform>()),)?
                    $($crate::manifest::Role::Notifier => Ok($crate::export::describe_notifier::<$notifier>()),)?
                    #[allow(unreachable_patterns, reason = "a plugin may offer every role")]
                    role => Err($crate::Error::unsupported(role.name())),
                }
            }

            $(fn open_source(
                config: $crate::serde_json::Value,
                services: $crate::Services,
            ) -> $crate::Result<Box<dyn $crate::Source>> {
                $crate::export::open_source::<$source>(config, services)
            })?

            $(fn open_sink(
                config: $crate::serde_json::Value,
                services: $crate::Services,
            ) -> $crate::Result<Box<dyn $crate::Sink>> {
                $crate::export::open_sink::<$sink>(config, services)
            })?

            $(fn open_transform(
                config: $crate::serde_json::Value,
                services: $crate::Services,
            ) -> $crate::Result<Box<dyn $crate::Transform>> {
                $crate::export::open_transform::<$transform>(config, services)
            })?

            $(fn open_notifier(
                config: $crate::serde_json::Value,
                services: $crate::Services,
            ) -> $crate::Result<Box<dyn $crate::Notifier>> {
                $crate::export::open_notifier::<$notifier>(config, services)
            })?
        }

        #[doc(hidden)]
        #[used]
        #[unsafe(no_mangle)]
        pub static WHIMBREL_PLUGIN_MANIFEST: [u8; $crate::manifest::MANIFEST_BYTES_MAX] = $crate::manifest::embed(
            $name,
            env!("CARGO_PKG_VERSION"),
            env!("CARGO_PKG_DESCRIPTION"),
            env!("CARGO_PKG_LICENSE"),
            &[
                $({ let _: Option<$source> = None; "source" },)?
                $({ let _: Option<$sink> = None; "sink" },)?
                $({ let _: Option<$transform> = None; "transform" },)?
                $({ let _: Option<$notifier> = None; "notifier" },)?
            ],
        );

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub static WHIMBREL_PLUGIN_HEADER: $crate::abi::root_module::LibHeader =
            $crate::abi::root_module::header::<WhimbrelPlugin>();
    };
}
