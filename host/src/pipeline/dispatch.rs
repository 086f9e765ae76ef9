//! Which task is begun next: parents before children that must wait for them, and no more collections at once than allowed.
//!
//! A task that waits holds nothing: neither a stream nor a reader nor a session. So those that it waits for always find
//! one. Neighbour: `copy` asks for each task when it could begin one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use whimbrel_plugin_api::{Error, ErrorKind};

use super::copy::CopyTask;
use super::writer::WriterContext;
use crate::events::Failure;

/// What is to be done next.
pub(super) enum Next<'a> {
    /// Begin this task.
    Task(&'a CopyTask),
    /// Nothing can be begun before something else is complete.
    Wait,
    /// Everything was begun.
    Done,
}

/// The tasks that were not begun yet.
pub(super) struct Dispatch<'a> {
    waiting: VecDeque<&'a CopyTask>,
    /// Collections that have tasks at all; the others are complete.
    with_tasks: BTreeSet<usize>,
    begun: BTreeSet<usize>,
    collections_max: usize,
    context: &'a WriterContext,
}

impl<'a> Dispatch<'a> {
    /// All `tasks`, of which `collections_max` collections may be under way at once.
    pub(super) fn new(tasks: &'a [CopyTask], collections_max: usize, context: &'a WriterContext) -> Self {
        Self {
            waiting: tasks.iter().collect(),
            with_tasks: tasks.iter().map(|task| task.collection).collect(),
            begun: BTreeSet::new(),
            collections_max: collections_max.max(1),
            context,
        }
    }

    /// What is to be done next.
    pub(super) fn next(&mut self) -> Next<'a> {
        let under_way = self.begun.iter().filter(|of| !self.has_ended(**of)).count();
        let has_room = under_way < self.collections_max;
        // Tasks of one collection stand together, so one look at each collection is enough.
        let mut looked_at: BTreeMap<usize, bool> = BTreeMap::new();
        let mut at = 0;
        while let Some(task) = self.waiting.get(at).copied() {
            let collection = task.collection;
            if self.context.outcomes.has_failed(collection) {
                self.waiting.remove(at);
                continue;
            }
            if let Some(parent) = task.waits_for.iter().find(|parent| self.has_failed(**parent)) {
                self.give_up(task, *parent);
                continue;
            }
            let may_begin = *looked_at.entry(collection).or_insert_with(|| {
                self.begun.contains(&collection)
                    || (has_room && task.waits_for.iter().all(|parent| self.is_complete(*parent)))
            });
            if may_begin {
                self.waiting.remove(at);
                self.begun.insert(collection);
                return Next::Task(task);
            }
            at += 1;
        }
        if self.waiting.is_empty() {
            Next::Done
        } else {
            Next::Wait
        }
    }

    fn is_complete(&self, collection: usize) -> bool {
        !self.with_tasks.contains(&collection) || self.context.counters.of(collection).is_complete()
    }

    fn has_failed(&self, collection: usize) -> bool {
        self.context.outcomes.has_failed(collection)
    }

    fn has_ended(&self, collection: usize) -> bool {
        self.is_complete(collection) || self.has_failed(collection)
    }

    /// A collection whose parent has failed would only bring rejected records.
    fn give_up(&self, task: &CopyTask, parent: usize) {
        let name = self.context.outcomes.name_of_failed(parent).unwrap_or_default();
        let error = Error::new(
            ErrorKind::Integrity,
            "run.parent_failed",
            format!(
                "`{}` was not begun, since it refers to `{name}`, which has failed",
                task.source_name
            ),
        );
        let failure = Failure::from(error).in_phase(self.context.phase);
        self.context
            .outcomes
            .fail(&self.context.emitter, task.collection, &task.source_name, failure);
    }
}
