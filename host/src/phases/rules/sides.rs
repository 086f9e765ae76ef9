//! Both sides as rules ask them: opened for them alone, when one first asks.
//! Neighbour: [`super`], which asks.

use whimbrel_plugin_api::Error;

use super::Scene;
use crate::config::RuleSide;
use crate::events::Failure;
use crate::loader::observe::{OpenedSink, OpenedSource};

/// The sides, opened for the rules.
#[derive(Default)]
pub(super) struct Sides {
    source: Option<OpenedSource>,
    /// The reading half, and its session, which is dropped after it.
    sink: Option<(OpenedSource, OpenedSink)>,
}

impl Sides {
    /// A side, opened if it is not yet.
    ///
    /// # Errors
    /// What opening brings.
    pub(super) fn opened(&mut self, scene: &Scene<'_>, side: RuleSide) -> Result<&mut OpenedSource, Failure> {
        match side {
            RuleSide::Source => {
                if self.source.is_none() {
                    self.source = Some(scene.source.open_source(&scene.job.source.config)?);
                }
                self.source.as_mut()
            }
            RuleSide::Sink => {
                if self.sink.is_none() {
                    let mut session = scene.sink.open_sink(&scene.job.sink.config)?;
                    self.sink = Some((session.reader()?, session));
                }
                self.sink.as_mut().map(|(reader, _)| reader)
            }
        }
        .ok_or_else(|| Error::internal("a side was opened and is gone").into())
    }

    /// Opens it anew the next time.
    pub(super) fn close(&mut self, side: RuleSide) {
        match side {
            RuleSide::Source => self.source = None,
            RuleSide::Sink => self.sink = None,
        }
    }
}
