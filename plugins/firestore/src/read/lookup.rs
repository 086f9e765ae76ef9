//! Documents by name, in groups, as of one instant.
//!
//! The service answers in any order, with what is missing as well; that is left out. A request that fails is asked again for
//! what it had not answered. Neighbour: `stream`, which makes batches of the documents.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use arrow_array::{Array as _, StringArray};
use futures_util::StreamExt as _;
use gcloud_sdk::google::firestore::v1::batch_get_documents_request::ConsistencySelector;
use gcloud_sdk::google::firestore::v1::batch_get_documents_response::Result as Answer;
use gcloud_sdk::google::firestore::v1::{BatchGetDocumentsRequest, Document, DocumentMask};
use gcloud_sdk::prost_types::Timestamp;
use whimbrel_plugin_api::{Batch, Error, Result, Services};

use crate::client::{Attempts, Client};
use crate::error::{Class, Fault};
use crate::path::{PATH_FIELD, Pattern};
use crate::value::{Encoder, Place};

use super::partition::is_document;
use super::query;
use super::snapshot::{self, AsOf};

/// Documents of one request.
const DOCUMENTS_PER_REQUEST: u32 = 300;

/// Documents that are asked for by name.
pub(super) struct Lookup {
    client: Client,
    attempts: Attempts,
    /// Paths that were not asked for yet.
    paths: std::vec::IntoIter<String>,
    mask: Option<DocumentMask>,
    as_of: AsOf,
    services: Services,
    /// With the instant as of which each was read.
    found: VecDeque<(String, Document, Option<Timestamp>)>,
    /// That of the last one that was taken.
    read_time: Option<Timestamp>,
}

impl Lookup {
    /// The documents at `paths`, each once; only `fields` of them, if given.
    pub(super) fn new(
        client: Client,
        mut paths: Vec<String>,
        fields: Option<&[String]>,
        as_of: AsOf,
        services: Services,
    ) -> Self {
        // A request names each document once; keys that stand twice are looked up once.
        let mut seen = HashSet::with_capacity(paths.len());
        paths.retain(|path| seen.insert(path.clone()));
        Self {
            attempts: client.attempts(),
            client,
            paths: paths.into_iter(),
            mask: fields.map(|fields| DocumentMask {
                field_paths: fields.iter().map(|field| query::field_path(field)).collect(),
            }),
            read_time: as_of.at(),
            as_of,
            services,
            found: VecDeque::new(),
        }
    }

    /// The next document with its path; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(String, Document)>> {
        loop {
            if let Some((path, document, read_time)) = self.found.pop_front() {
                self.read_time = read_time;
                return Ok(Some((path, document)));
            }
            let most = self.client.reads().at_once(DOCUMENTS_PER_REQUEST) as usize;
            let asked: HashSet<String> = self.paths.by_ref().take(most).collect();
            if asked.is_empty() {
                return Ok(None);
            }
            self.get(asked).await?;
        }
    }

    /// As of when the last document was read, if it matters.
    pub(super) fn read_time(&self) -> Option<Timestamp> {
        self.read_time
    }

    async fn get(&mut self, mut asked: HashSet<String>) -> Result<()> {
        let count = u32::try_from(asked.len()).unwrap_or(u32::MAX);
        while !asked.is_empty() {
            let (before, first) = (asked.len(), self.found.len());
            let answered = self.request(&mut asked).await?;
            for (_, _, read_time) in self.found.iter_mut().skip(first) {
                *read_time = self.as_of.at();
            }
            match answered {
                Ok(()) if asked.len() < before => {}
                Ok(()) => {
                    return Err(Error::internal(
                        "the service did not answer for all documents that were asked for",
                    ));
                }
                Err(fault) => {
                    if asked.len() < before {
                        self.attempts.reset();
                    }
                    if fault.is_snapshot_lost() && self.as_of.refused(&self.services)? {
                        continue;
                    }
                    if fault.class == Class::RateLimited {
                        self.client.reads().slow_down(fault.retry_after);
                    }
                    self.attempts.after(fault).await?;
                }
            }
        }
        self.attempts.reset();
        self.client.reads().succeeded(count);
        Ok(())
    }

    /// One request for what is `asked`, less what is answered.
    async fn request(&mut self, asked: &mut HashSet<String>) -> Result<Result<(), Fault>> {
        let read_time = self.as_of.read_time(Instant::now(), &self.services)?;
        self.client
            .reads()
            .take(u32::try_from(asked.len()).unwrap_or(u32::MAX))
            .await;
        let root = self.client.root();
        let request = BatchGetDocumentsRequest {
            database: root.database().to_owned(),
            documents: asked.iter().map(|path| root.document(path)).collect(),
            mask: self.mask.clone(),
            consistency_selector: read_time.map(ConsistencySelector::ReadTime),
            ..BatchGetDocumentsRequest::default()
        };
        let mut answers = match self.client.batch_get(request).await {
            Ok(answers) => answers,
            Err(fault) => return Ok(Err(fault)),
        };
        while let Some(answer) = answers.next().await {
            let answer = match answer {
                Ok(answer) => answer,
                Err(status) => return Ok(Err(status.into())),
            };
            if let Some(read_time) = answer.read_time {
                self.as_of
                    .answered(snapshot::to_micros(read_time), Instant::now());
            }
            let (name, document) = match answer.result {
                Some(Answer::Found(document)) => (document.name.clone(), Some(document)),
                Some(Answer::Missing(name)) => (name, None),
                None => continue,
            };
            let path = self.client.root().path(&name);
            let path = path.and_then(|path| asked.take(path));
            if let (Some(path), Some(document)) = (path, document) {
                self.found.push_back((path, document, None));
            }
        }
        Ok(Ok(()))
    }
}

/// The paths that `keys` stand for. Keys that no document can have are left out: there is nothing to find.
pub(super) fn paths(client: &Client, pattern: &Pattern, key: &[String], keys: &Batch) -> Result<Vec<String>> {
    for name in key {
        if keys.schema.index_of(name).is_none() {
            return Err(Error::invalid_data(
                "firestore.bad_keys",
                format!("the keys to look up lack the field `{name}`"),
            ));
        }
    }
    if matches!(pattern, Pattern::Group(_)) {
        return group_paths(pattern, keys);
    }
    let place = Place {
        pattern: pattern.clone(),
        key: key.to_vec(),
    };
    let encoder = Encoder::new(keys, &place, client.root())?;
    Ok((0..keys.record_count())
        .filter_map(|row| encoder.path(row).ok())
        .collect())
}

/// The key of a group is the path.
fn group_paths(pattern: &Pattern, keys: &Batch) -> Result<Vec<String>> {
    let column = keys
        .schema
        .index_of(PATH_FIELD)
        .and_then(|index| keys.records.column(index).as_any().downcast_ref::<StringArray>());
    let column = column.ok_or_else(|| {
        Error::invalid_data(
            "firestore.bad_keys",
            format!("the keys to look up have no text `{PATH_FIELD}`"),
        )
    })?;
    Ok(column
        .iter()
        .flatten()
        .filter(|path| is_document(path) && pattern.contains(path))
        .map(str::to_owned)
        .collect())
}
