//! A plugin that does what a script in its config says, for tests of the host, in every role.
//!
//! Without a script it keeps the contract whole, and the acceptance suites say so. With one, it panics, fails, hangs, lies
//! or takes the process down at the named occurrence of the named call. Its records live in memory, and in a file if its config
//! names one.

mod committed_lines;
pub mod config;
mod journal;
mod lane_lies;
mod notifier;
mod script;
mod sink;
mod source;
mod store;
mod transform;

pub use config::{Call, How, Misbehaviour, ScriptedConfig};
pub use notifier::{ScriptedNotifier, notified, set_outage};
pub use sink::ScriptedSink;
pub use source::ScriptedSource;
pub use transform::ScriptedTransform;

/// `scripted`, or for the zoo of plugins built in other ways the name that its builder gives.
const NAME: &str = match option_env!("WHIMBREL_ZOO_NAME") {
    Some(name) => name,
    None => "scripted",
};

whimbrel_plugin_api::export_plugin!(
    name: NAME,
    source: ScriptedSource,
    sink: ScriptedSink,
    transform: ScriptedTransform,
    notifier: ScriptedNotifier,
);

/// Ends the process that loads a library of the wrong version, before anything of it can be checked.
#[cfg(whimbrel_made_up = "major")]
mod constructor {
    extern "C" fn constructor() {
        std::process::abort();
    }

    #[expect(
        unsafe_code,
        reason = "the test wants code that runs while the library is loaded"
    )]
    #[used]
    // SAFETY: the section holds pointers to such functions; the system's loader calls them.
    #[unsafe(link_section = ".init_array")]
    static CONSTRUCTOR: extern "C" fn() = constructor;
}
