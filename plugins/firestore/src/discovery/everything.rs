//! One look at all documents of the database, which finds collections at any depth.
//!
//! The service lists the collections below a document, but only a call for each document would find them all, and none finds
//! those below documents that are missing. A query without a kind meets every document, parents before children, so a single
//! pass sees collections, fields, counts and orphans. It costs one read per document, whatever is wanted of it. So every value is
//! looked at, even if a sample or the names would do: whoever asks again would pay again. Neighbour: `named`, for collections
//! that are asked for by name.

use std::collections::{BTreeMap, HashMap};

use gcloud_sdk::google::firestore::v1::Document;
use whimbrel_plugin_api::{Error, LogLevel, Result};

use super::ancestors::Ancestors;
use super::survey::Survey;
use super::{Discovered, Look, Watch};
use crate::config::Inference;
use crate::cost;
use crate::memory::{self, Remembered};
use crate::path::{OWN_COLLECTION, Pattern};
use crate::read::Scope;

/// Octets for names of collections and fields: a catalog of that size is nobody's design, and a plan holds it several times.
const NAMES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Octets for paths that divide collections. They get fewer when there are many collections.
const BOUNDS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Octets that a collection takes besides its name, about.
const COLLECTION_BYTES: usize = 512;

/// All collections under way.
#[derive(Debug, Default)]
struct Surveys {
    /// By the text of the pattern.
    positions: HashMap<String, usize>,
    surveys: Vec<Survey>,
    ancestors: Ancestors,
    remembered: BTreeMap<String, Remembered>,
    names_bytes: usize,
    bounds_bytes: usize,
    /// The text of a pattern, made anew for each document without asking for memory.
    name: String,
}

/// Looks at everything.
pub(super) async fn look(look: &Look<'_>) -> Result<Vec<Discovered>> {
    if look.schemas && matches!(look.config.inference, Inference::Sample(_)) {
        look.services.log(
            LogLevel::Info,
            "every document is looked at, since nothing less finds nested collections; collections that the job names are \
             sampled",
        );
    }
    let mut documents = look.open(Scope::Everything, None, None);
    let mut watch = Watch::new(look.services);
    let mut all = Surveys::default();
    while let Some((path, document)) = documents.next().await? {
        all.meet(&path, &document, look.schemas)?;
        watch.tick()?;
    }
    watch.end();
    let has_moved = look.follow(&documents);
    let mut found = all.finish(look, documents.reads());
    for found in found.iter_mut().filter(|_| has_moved) {
        found.has_moved = true;
        found.is_count_exact = false;
        found.orphan_count = None;
    }
    Ok(found)
}

impl Surveys {
    /// Looks at the next document. If `schemas` must be had, fields that columns cannot be made of are an error.
    fn meet(&mut self, path: &str, document: &Document, schemas: bool) -> Result<()> {
        let is_orphan = self.ancestors.meet(path);
        if path.split('/').next() == Some(OWN_COLLECTION) {
            self.remembered.extend(memory::read(path, &document.fields));
            return Ok(());
        }
        self.set_name(path);
        let position = match self.positions.get(&self.name) {
            Some(position) => *position,
            None => self.add(Pattern::of_document(path)),
        };
        let survey = &mut self.surveys[position];
        match survey.look(path, document, is_orphan) {
            Ok(bytes) => self.names_bytes += bytes,
            Err(refusal) if schemas => return Err(refusal.into_error(&survey.pattern)),
            Err(_) => {}
        }
        self.bounds_bytes = self.bounds_bytes.saturating_add_signed(survey.bounds.pass(path));
        if self.bounds_bytes > BOUNDS_BYTES_MAX {
            self.thin();
        }
        self.refuse_too_many()
    }

    /// As [`Pattern::of_document`] is displayed.
    fn set_name(&mut self, path: &str) {
        self.name.clear();
        for (index, collection) in path.split('/').step_by(2).enumerate() {
            if index > 0 {
                self.name.push_str("/*/");
            }
            self.name.push_str(collection);
        }
    }

    fn add(&mut self, pattern: Pattern) -> usize {
        let position = self.surveys.len();
        self.names_bytes += self.name.len() + COLLECTION_BYTES;
        self.positions.insert(self.name.clone(), position);
        self.surveys.push(Survey::new(pattern, true));
        position
    }

    fn thin(&mut self) {
        for survey in &mut self.surveys {
            survey.bounds.thin();
        }
        self.bounds_bytes = self.surveys.iter().map(|survey| survey.bounds.bytes()).sum();
    }

    fn refuse_too_many(&self) -> Result<()> {
        if self.names_bytes <= NAMES_BYTES_MAX {
            return Ok(());
        }
        Err(Error::invalid_data(
            "firestore.too_many_collections",
            format!(
                "the names of collections and fields take more than {NAMES_BYTES_MAX} octets after {} collections",
                self.surveys.len()
            ),
        )
        .with_help("name collections in the job, or groups such as `**/orders`"))
    }

    fn finish(self, look: &Look<'_>, reads: u64) -> Vec<Discovered> {
        let mut found: Vec<Discovered> = self
            .surveys
            .into_iter()
            .map(|survey| {
                let remembered = self.remembered.get(&survey.pattern.to_string());
                let reads = survey.record_count;
                Discovered {
                    reads,
                    ..survey.finish(true, look.config.path_field, remembered, look.services)
                }
            })
            .collect();
        // Parents come before children.
        found.sort_by(|left, right| left.pattern.cmp(&right.pattern));
        fill_in_costs(&mut found, look.config.page_documents_max);
        let own: u64 = found.iter().map(|found| found.reads).sum();
        // Of whimbrel's own documents, and of a request that found nothing.
        if let Some(first) = found.first_mut() {
            first.reads += reads.saturating_sub(own);
        }
        found
    }
}

/// What reading and counting cost: a nested collection is asked for together with all of the same id below the same root
/// collection.
fn fill_in_costs(found: &mut [Discovered], page_documents_max: u32) {
    let mut groups: HashMap<(String, String), u64> = HashMap::new();
    for found in &*found {
        let group = groups.entry(group(&found.pattern)).or_default();
        *group += found.record_count.unwrap_or(0);
    }
    for found in found {
        let records = found.record_count.unwrap_or(0);
        if found.pattern.parent().is_none() {
            found.read_units = cost::scan_reads(records, page_documents_max);
            found.count_units = cost::count_reads(records);
        } else {
            let met = groups.get(&group(&found.pattern)).copied().unwrap_or(0);
            found.read_units = cost::scan_reads(met, page_documents_max);
            found.count_units = cost::count_reads_among(records, found.read_units, page_documents_max);
        }
    }
}

/// The root collection and the last one.
fn group(pattern: &Pattern) -> (String, String) {
    let first = match pattern {
        Pattern::Nested(ids) => ids.first().cloned().unwrap_or_default(),
        Pattern::Group(_) => String::new(),
    };
    (first, pattern.collection_id().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(all: &mut Surveys, path: &str) {
        all.meet(path, &Document::default(), false).unwrap();
    }

    #[test]
    fn the_name_of_a_survey_is_that_of_its_pattern() {
        let mut all = Surveys::default();
        for path in ["users/ann", "users/ann/orders/*", "*/*/**/*", "a/b/c/d/e/f"] {
            all.set_name(path);
            assert_eq!(all.name, Pattern::of_document(path).to_string());
        }
    }

    #[test]
    fn many_collections_have_fewer_bounds_each() {
        let mut all = Surveys::default();
        let long = "x".repeat(1_000);
        for collection in 0..60 {
            for document in 0..600 {
                meet(&mut all, &format!("c{collection:02}/{document:03}{long}"));
            }
        }
        assert!(all.bounds_bytes <= BOUNDS_BYTES_MAX, "{}", all.bounds_bytes);
        let kept: usize = all.surveys.iter().map(|survey| survey.bounds.bytes()).sum();
        assert_eq!(all.bounds_bytes, kept);
        assert!(kept > BOUNDS_BYTES_MAX / 4, "{kept}");
    }

    #[test]
    fn more_names_than_a_catalog_holds_are_refused() {
        let mut all = Surveys::default();
        let long = "x".repeat(1_400);
        let error = (0..100_000)
            .find_map(|number| {
                all.meet(&format!("{number:06}{long}/a"), &Document::default(), false)
                    .err()
            })
            .unwrap();
        assert_eq!(error.code, "firestore.too_many_collections");
    }

    #[test]
    fn a_nested_collection_pays_for_those_that_its_query_meets() {
        let mut all = Surveys::default();
        for path in [
            "orders/1",
            "users/a",
            "users/a/carts/1",
            "users/a/carts/1/orders/1",
            "users/a/orders/1",
            "users/a/orders/2",
            "users/b",
            "users/b/users/c",
        ] {
            meet(&mut all, path);
        }
        let mut found: Vec<Discovered> = all
            .surveys
            .into_iter()
            .map(|survey| survey.finish(true, false, None, &whimbrel_plugin_api::Services::detached()))
            .collect();
        fill_in_costs(&mut found, 3);
        found.sort_by(|left, right| left.pattern.cmp(&right.pattern));
        let units: Vec<_> = found
            .iter()
            .map(|found| (found.pattern.to_string(), found.read_units, found.count_units))
            .collect();
        let expected = [
            ("orders", 1, 1),
            ("users", 2, 1),
            // Alone in its group.
            ("users/*/carts", 1, 1),
            // Three full, then one that finds nothing; they cannot be counted alone.
            ("users/*/carts/*/orders", 4, 0),
            ("users/*/orders", 4, 0),
            // The query for those below meets the root collection, too.
            ("users/*/users", 4, 0),
        ];
        assert_eq!(
            units,
            expected.map(|(name, reads, counts)| (name.to_owned(), reads, counts))
        );
    }
}
