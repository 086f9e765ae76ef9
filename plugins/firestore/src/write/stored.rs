//! What is stored already decides about writes: which version wins, which document is there, and whether it is ours.
//!
//! The other half of [`Carrier`]; neighbours: `send` carries writes out, `look` gets documents, `version` compares.

use std::collections::{HashMap, HashSet};

use gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use gcloud_sdk::google::firestore::v1::write::Operation;
use gcloud_sdk::google::firestore::v1::{Document, Write};
use whimbrel_plugin_api::Result;

use super::look::{is_same, look};
use super::policy;
use super::request::{Item, Version};
use super::send::Carrier;
use super::version;
use crate::error::RowFault;
use crate::read::field_path;

/// The field path of a document's own name: what is asked for if only whether it is there is of interest.
pub(super) const NAME_PATH: &str = "__name__";

/// What a look at the stored version leads to.
pub(super) enum Choice {
    /// The record wins, if the document is still as it was.
    Write(ConditionType),
    /// The stored one stays.
    Skip,
    /// It is the record's own, from an earlier attempt.
    Ours,
    Reject(RowFault),
}

impl Carrier {
    /// Looks at the versions that are stored, and leaves the writes that win, each with the condition that nothing has changed.
    pub(super) async fn compare_versions(
        &mut self,
        items: Vec<Item>,
        writes: Vec<Write>,
    ) -> Result<(Vec<Item>, Vec<Write>)> {
        let versioned = items
            .iter()
            .filter_map(|item| Some((item, item.version.as_ref()?)));
        let (names, mut mask): (Vec<String>, Vec<String>) = versioned
            .map(|(item, version)| (self.name(item), field_path(&version.field)))
            .unzip();
        mask.sort_unstable();
        mask.dedup();
        let mut stored = HashMap::new();
        self.look(names, Some(mask), |document| {
            stored.insert(document.name.clone(), document);
        })
        .await?;
        let mut winners = (Vec::new(), Vec::new());
        for (item, mut write) in items.into_iter().zip(writes) {
            if let Some(version) = &item.version {
                match choose(&item, version, stored.remove(&self.name(&item)).as_ref()) {
                    Choice::Write(condition) => write.current_document = Some(policy::condition(condition)),
                    Choice::Skip => {
                        self.judged.skip();
                        continue;
                    }
                    Choice::Ours => {
                        self.judged.accepted += 1;
                        continue;
                    }
                    Choice::Reject(reason) => {
                        self.judged.reject(&item, reason);
                        continue;
                    }
                }
            }
            winners.0.push(item);
            winners.1.push(write);
        }
        Ok(winners)
    }

    /// Of documents that are there and that an earlier attempt may have made: which of them are as that attempt would have left
    /// them. One that was so before is taken for ours, since the outcome is the same. Answers those that are gone again.
    pub(super) async fn settle(&mut self, items: Vec<Item>) -> Result<Vec<Item>> {
        let mut ours = HashMap::with_capacity(items.len());
        for item in &items {
            if let Some(Operation::Update(document)) = self.encoded.write(item)?.operation {
                ours.insert(document.name, document.fields);
            }
        }
        let mut found = HashMap::new();
        self.look(ours.keys().cloned().collect(), None, |document| {
            let is_ours = ours
                .get(&document.name)
                .is_some_and(|fields| is_same(fields, &document.fields));
            found.insert(document.name, is_ours);
        })
        .await?;
        let mut gone = Vec::new();
        for item in items {
            match found.get(&self.name(&item)) {
                Some(true) => self.judged.accepted += 1,
                Some(false) => self.judged.leave(&item),
                None => gone.push(item),
            }
        }
        Ok(gone)
    }

    /// Judges the writes that make documents which are there: one of them spoils all writes of a commit. Answers the others.
    pub(super) async fn leave_existing(&mut self, items: Vec<Item>) -> Result<Vec<Item>> {
        let makes = |item: &&Item| item.policy.makes_only();
        let names = items.iter().filter(makes).map(|item| self.name(item)).collect();
        let mut stored = HashSet::new();
        self.look(names, Some(vec![NAME_PATH.to_owned()]), |document| {
            stored.insert(document.name);
        })
        .await?;
        let (there, mut others): (Vec<_>, Vec<_>) = items
            .into_iter()
            .partition(|item| makes(&item) && stored.contains(&self.name(item)));
        let (doubtful, certain): (Vec<_>, Vec<_>) = there.into_iter().partition(|item| item.is_doubtful);
        certain.iter().for_each(|item| self.judged.leave(item));
        if !doubtful.is_empty() {
            others.extend(self.settle(doubtful).await?);
        }
        Ok(others)
    }

    fn name(&self, item: &Item) -> String {
        self.sender.client.root().document(&item.path)
    }

    async fn look(
        &self,
        names: Vec<String>,
        mask: Option<Vec<String>>,
        found: impl FnMut(Document),
    ) -> Result<()> {
        let looking = look(&self.sender.client, names, mask, found);
        self.sender.unless_stopped(looking).await
    }
}

/// What becomes of a record whose document is `stored`, where versions are compared.
pub(super) fn choose(item: &Item, version: &Version, stored: Option<&Document>) -> Choice {
    let Some(document) = stored else {
        return match item.policy.needs_document {
            true => Choice::Reject(policy::missing()),
            false => Choice::Write(ConditionType::Exists(false)),
        };
    };
    let (coming, held) = (version.value.as_ref(), document.fields.get(&*version.field));
    match version::wins(item.policy.rule, coming, held) {
        Some(true) => Choice::Write(match document.update_time {
            Some(time) => ConditionType::UpdateTime(time),
            None => ConditionType::Exists(true),
        }),
        // Of equal ones the stored one stays; but if an attempt may have been carried out, it is the one that stored it.
        Some(false) if item.is_doubtful && version::wins(item.policy.rule, held, coming) == Some(false) => {
            Choice::Ours
        }
        Some(false) => Choice::Skip,
        None => Choice::Reject(policy::not_comparable(&version.field)),
    }
}
