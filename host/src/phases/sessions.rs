//! Sessions of the sink: how many are opened, and what each is prepared with.
//!
//! Neighbour: `copying` writes over them.

use std::sync::Arc;

use whimbrel_plugin_api::Collection;
use whimbrel_plugin_api::capability::SinkCapabilities;
use whimbrel_plugin_api::sink::PrepareRequest;

use super::copying::Scene;
use crate::config::Job;
use crate::events::{Event, Failure};
use crate::loader::observe::{OpenedSink, Opener};
use crate::pipeline::Outcomes;
use crate::plan::blockers;

/// Sessions that are opened at most, whatever the sink allows: two cores gain nothing from more.
const SESSIONS_MAX: usize = 4;

/// What every session of the sink is opened and prepared with.
#[derive(Clone)]
pub(super) struct Sessions {
    pub(super) opener: Opener,
    pub(super) config: serde_json::Map<String, serde_json::Value>,
    pub(super) collections: Vec<Collection>,
    pub(super) outcomes: Arc<Outcomes>,
}

impl Sessions {
    /// A further session, or one in place of another.
    pub(super) fn open(&self) -> Result<OpenedSink, Failure> {
        let mut sink = self.opener.open_sink(&self.config)?;
        self.tell(&mut sink, true)?;
        Ok(sink)
    }

    /// Makes room over the first session.
    pub(super) fn prepare(&self, sink: &mut OpenedSink) -> Result<(), Failure> {
        self.tell(sink, false)
    }

    /// Tells a session of the collections, with the fields that have turned up since. `again`: another one has made room for them.
    fn tell(&self, sink: &mut OpenedSink, again: bool) -> Result<(), Failure> {
        let mut collections = self.collections.clone();
        for (index, grown) in self.outcomes.grown() {
            if let Some(collection) = collections.get_mut(index) {
                *collection = grown;
            }
        }
        let report = sink.prepare(&PrepareRequest {
            collections,
            dry: false,
            again,
        })?;
        match blockers(&report.findings).next() {
            None => Ok(()),
            Some(blocker) => Err(whimbrel_plugin_api::Error::config(&blocker.code, &blocker.message).into()),
        }
    }
}

/// A sink that has no room for another session is written over fewer of them.
pub(super) fn say_few_sessions(scene: &Scene<'_>, open_count: usize, failure: &Failure) {
    scene.emitter.emit(&Event::Log {
        plugin: failure.plugin.clone().unwrap_or_default(),
        level: "warn".to_owned(),
        message: format!(
            "no further session can be opened, so the sink is written over {open_count}: {}",
            failure.error.message
        ),
    });
}

/// How many sessions are opened, if there is work for them.
pub(super) fn sessions_max(job: &Job, capabilities: &SinkCapabilities) -> usize {
    let allowed = match capabilities.sessions_max {
        0 => SESSIONS_MAX,
        max => SESSIONS_MAX.min(max as usize),
    };
    allowed.min(job.limits.connection_pool_size as usize).max(1)
}
