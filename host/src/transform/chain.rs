//! The transforms of one collection, applied one after the other.
//!
//! Each thread that transforms opens a chain of its own. What goes in as one batch comes out as any number of them; the
//! last one carries the cursor, so that nothing is taken for durable before all of it is. Neighbours: the
//! pipeline's `transformer` runs a chain between two links, verification runs one over what it reads.

use std::collections::BTreeMap;

use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::transform::{Applied, Plan};
use whimbrel_plugin_api::{Batch, Collection, Cursor, Error, ErrorKind, Schema};

use crate::config::TransformJob;
use crate::events::Failure;
use crate::loader::observe::{OpenedTransform, Opener};

/// The loaded transforms, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Transforms(BTreeMap<String, Opener>);

impl Transforms {
    /// Those of `openers`.
    pub fn new(openers: impl IntoIterator<Item = (String, Opener)>) -> Self {
        Self(openers.into_iter().collect())
    }

    /// Opens the transform of `plugin` by itself.
    ///
    /// # Errors
    /// What the plugin says to its config.
    pub fn open_one(
        &self,
        plugin: &str,
        config: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<OpenedTransform, Failure> {
        self.opener(plugin)?.open_transform(config)
    }

    fn opener(&self, plugin: &str) -> Result<&Opener, Failure> {
        self.0
            .get(plugin)
            .ok_or_else(|| Error::internal(format!("the task does not load the transform `{plugin}`")).into())
    }
}

/// Opened transforms, in their order.
pub struct Chain {
    steps: Vec<OpenedTransform>,
    cursor: Cursor,
    collection: Option<Collection>,
}

/// What became of a batch.
#[derive(Default)]
pub struct Changed {
    /// What goes on.
    pub batches: Vec<Batch>,
    /// Records that could not be changed as asked.
    pub rejected: Vec<RejectedRecord>,
    /// Records that were left out on purpose.
    pub filtered_count: u64,
}

impl Chain {
    /// Opens `jobs` in their order.
    ///
    /// # Errors
    /// What a plugin says to its config.
    pub fn open(transforms: &Transforms, jobs: &[TransformJob]) -> Result<Self, Failure> {
        let steps = jobs
            .iter()
            .map(|job| transforms.opener(&job.plugin)?.open_transform(&job.config))
            .collect::<Result<_, Failure>>()?;
        Ok(Self {
            steps,
            cursor: Cursor::start(),
            collection: None,
        })
    }

    /// Goes on at `cursor`: what is behind it was there before.
    #[must_use]
    pub fn from_cursor(mut self, cursor: Cursor) -> Self {
        self.cursor = cursor;
        self
    }

    /// What comes out for `collection`. Must be called before the first batch.
    ///
    /// # Errors
    /// What a transform brings; `plan.several_outputs` if one makes more or less than one collection.
    pub fn plan(&mut self, collection: &Collection) -> Result<Collection, Failure> {
        let mut planned = collection.clone();
        for step in &mut self.steps {
            let Plan { mut outputs } = step.plan(&planned)?;
            let output = outputs.pop();
            let (Some(output), true) = (output, outputs.is_empty()) else {
                return Err(several_outputs(&planned.name, outputs.len()).into());
            };
            output.schema.validate().map_err(Failure::from)?;
            planned = output;
        }
        self.collection = Some(collection.clone());
        Ok(planned)
    }

    /// What comes out once the batches that come in follow `schema`.
    ///
    /// # Errors
    /// As [`Chain::plan`].
    pub fn grow(&mut self, schema: &Schema) -> Result<Collection, Failure> {
        let mut collection = self
            .collection
            .clone()
            .ok_or_else(|| Error::internal("transforms were given a schema before they were planned"))?;
        collection.schema = schema.clone();
        self.plan(&collection)
    }

    /// Changes one batch.
    ///
    /// # Errors
    /// What a transform brings.
    pub fn apply(&mut self, batch: Batch) -> Result<Changed, Failure> {
        let facts = batch.facts.clone();
        let mut changed = Changed {
            batches: vec![batch],
            ..Changed::default()
        };
        for step in &mut self.steps {
            let mut next = Vec::with_capacity(changed.batches.len());
            for batch in changed.batches {
                let given = batch.record_count();
                let Applied {
                    outputs, rejected, ..
                } = step.apply(&batch)?;
                let came: usize = outputs.iter().map(|(_, batch)| batch.record_count()).sum();
                changed.filtered_count += given.saturating_sub(came + rejected.len()) as u64;
                changed.rejected.extend(rejected);
                next.extend(outputs.into_iter().map(|(_, batch)| batch));
            }
            changed.batches = next;
        }
        changed.batches.retain(|batch| batch.record_count() > 0);
        if let Some((last, others)) = changed.batches.split_last_mut() {
            for other in others {
                other.facts.cursor = self.cursor.clone();
            }
            let bytes = last.facts.bytes;
            last.facts = facts.clone();
            last.facts.bytes = bytes;
        }
        self.cursor = facts.cursor;
        Ok(changed)
    }
}

fn several_outputs(collection: &str, further: usize) -> Error {
    let made = if further == 0 { 0 } else { further + 1 };
    Error::new(
        ErrorKind::Unsupported,
        "plan.several_outputs",
        format!("a transform makes {made} collections of `{collection}`, and one is wanted"),
    )
    .with_help("use a transform that makes one collection of one")
}
