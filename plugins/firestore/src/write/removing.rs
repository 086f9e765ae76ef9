//! Removes records by their keys, in the open transaction.
//!
//! How many there were is looked at first; only what is there is removed. Removals are kept until the commit like any other
//! write, or go at once where writes do. Neighbours: `kept`, `session`; `clear`, which removes all of a collection.

use std::collections::HashSet;

use gcloud_sdk::google::firestore::v1::Document;
use whimbrel_plugin_api::runtime::Runtime;
use whimbrel_plugin_api::{Batch, Error, ErrorScope, Result};

use super::incoming::Target;
use super::kept::{Kept, LOOKS_PER_REQUEST};
use super::look::look;
use super::policy::Policy;
use super::session::Writer;
use super::stored::NAME_PATH;
use crate::client::Client;
use crate::value::Encoder;

impl Writer {
    /// Answers how many there were.
    ///
    /// # Errors
    /// Of scope write if the keys do not fit what was prepared; of scope transaction or session what looking and sending bring.
    pub(crate) fn remove(&mut self, target: &Target, keys: &Batch) -> Result<u64> {
        let is_kept = self.going_on()?.kept.is_some();
        let paths = paths(&self.client, target, keys)?;
        if is_kept {
            return self.keep_removals(paths);
        }
        // What was sent before is to be there, or not, when is looked.
        self.finish()?;
        let before = self.flight.take_judged();
        let removed = self.remove_at_once(paths);
        self.flight.give_back(before);
        removed
    }

    fn keep_removals(&mut self, paths: Vec<String>) -> Result<u64> {
        let Self {
            client,
            services,
            open,
            ..
        } = self;
        let Some(kept) = open.as_mut().and_then(|open| open.kept.as_mut()) else {
            return Err(Error::internal("nothing is kept in this transaction"));
        };
        let outcome = Runtime::get()?.block_on(services, kept.remove(client, paths));
        self.stopping_at(outcome)
    }

    fn remove_at_once(&mut self, paths: Vec<String>) -> Result<u64> {
        let services = self.services.clone();
        let removing = async {
            let there = there(&self.client, paths).await?;
            for (number, path) in there.into_iter().enumerate() {
                self.delete(path, number as u64).await?;
            }
            self.deleted().await
        };
        let outcome = Runtime::get()?.block_on(&services, removing);
        let (removed, refused) = self.stopping_at(outcome)?;
        match refused {
            None => Ok(removed),
            Some(refused) => {
                let message = format!(
                    "the document `{}` cannot be removed: {}",
                    refused.record, refused.message
                );
                self.stopping_at(Err(Error::invalid_data("firestore.not_removed", message)))
            }
        }
    }
}

impl Kept {
    /// Keeps a removal of each of the documents that are there, or come with this transaction; answers how many.
    ///
    /// # Errors
    /// What looking brings.
    async fn remove(&mut self, client: &Client, paths: Vec<String>) -> Result<u64> {
        let (ours, unknown): (Vec<String>, Vec<String>) =
            paths.into_iter().partition(|path| self.has_entry(path));
        let ours = ours.into_iter().filter(|path| !self.is_removed(path));
        let mut gone: Vec<String> = ours.collect();
        gone.extend(there(client, unknown).await?);
        let removed = gone.len() as u64;
        for path in gone {
            let document = Document {
                name: client.root().document(&path),
                ..Document::default()
            };
            self.keep_removal(path, &Policy::DELETE.write(document));
        }
        Ok(removed)
    }
}

/// Those of the documents that are there.
async fn there(client: &Client, paths: Vec<String>) -> Result<Vec<String>> {
    let mut there = Vec::new();
    for paths in paths.chunks(LOOKS_PER_REQUEST) {
        let names = paths.iter().map(|path| client.root().document(path)).collect();
        let mut found = HashSet::new();
        look(client, names, Some(vec![NAME_PATH.to_owned()]), |document| {
            found.insert(document.name);
        })
        .await?;
        let is_found = |path: &&String| found.contains(&client.root().document(path));
        there.extend(paths.iter().filter(is_found).cloned());
    }
    Ok(there)
}

/// The paths that `keys` stand for, each once. Keys that no document can have are left out.
fn paths(client: &Client, target: &Target, keys: &Batch) -> Result<Vec<String>> {
    for name in &target.place.key {
        if keys.schema.index_of(name).is_none() {
            let message = format!("the keys lack the field `{name}`");
            return Err(Error::invalid_data("firestore.bad_keys", message).with_scope(ErrorScope::Write));
        }
    }
    let encoder = Encoder::new(keys, &target.place, client.root())
        .map_err(|error| error.with_scope(ErrorScope::Write))?;
    let mut seen = HashSet::with_capacity(keys.record_count());
    let paths = (0..keys.record_count()).filter_map(|row| encoder.path(row).ok());
    Ok(paths.filter(|path| seen.insert(path.clone())).collect())
}
