//! Asks the source for the collections that the job wants, and for as little else as the plan can do with.
//!
//! A source that bills reads may have to read a collection before it can describe it. So those that the job names are asked
//! for by name; all names are listed only if patterns stand for some of them or an error has to say what there is.
//! Neighbour: [`crate::plan::Offer`] is what the answers become.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_plugin_api::Collection;
use whimbrel_plugin_api::collection::CollectionsRequest;

use crate::config::Job;
use crate::events::Failure;
use crate::loader::observe::OpenedSource;
use crate::plan::{Offer, Wanted, chosen, has_open_patterns, rules, wanted};

/// What `source` has for `job`.
///
/// # Errors
/// What the source brings, and a schema that is not valid.
pub fn ask(job: &Job, source: &mut OpenedSource) -> Result<Offer, Failure> {
    let mut asking = Asking {
        job,
        source,
        offer: Offer::default(),
    };
    match wanted(job) {
        Wanted::Everything => {
            asking.offer.collections = asking.call(Vec::new(), true)?;
            asking.offer.listed = Some(names(&asking.offer.collections));
        }
        Wanted::Named(names) => asking.named(names)?,
        Wanted::Chosen { names } => asking.chosen(names)?,
    }
    let offer = asking.offer;
    for collection in &offer.collections {
        collection.schema.validate().map_err(Failure::from)?;
    }
    Ok(offer)
}

struct Asking<'a> {
    job: &'a Job,
    source: &'a mut OpenedSource,
    offer: Offer,
}

impl Asking<'_> {
    fn call(&mut self, names: Vec<String>, schemas: bool) -> Result<Vec<Collection>, Failure> {
        let answer = self.source.collections(&CollectionsRequest { names, schemas })?;
        self.offer.spent.add(&answer);
        Ok(answer)
    }

    /// All names. A source for which that is no less work may describe the collections all the same.
    fn list(&mut self) -> Result<Vec<Collection>, Failure> {
        let listed = self.call(Vec::new(), false)?;
        self.offer.listed = Some(names(&listed));
        Ok(listed)
    }

    /// Those called `names`. An empty list would be a call for all.
    fn describe(&mut self, names: Vec<String>) -> Result<Vec<Collection>, Failure> {
        match names.is_empty() {
            true => Ok(Vec::new()),
            false => self.call(names, true),
        }
    }

    fn named(&mut self, wanted: Vec<String>) -> Result<(), Failure> {
        self.offer.collections = self.describe(wanted.clone())?;
        self.look_at_others()?;
        let found: BTreeSet<&str> = self.offer.collections.iter().map(name).collect();
        // What `include` names may be missing, what a rule names may not.
        let lacks_one =
            self.job.collections.is_some() && wanted.iter().any(|name| !found.contains(name.as_str()));
        if lacks_one || found.is_empty() || self.lacks_other() {
            // The error says what there is.
            self.list()?;
        }
        Ok(())
    }

    fn chosen(&mut self, names: Vec<String>) -> Result<(), Failure> {
        let found = self.describe(names)?;
        let literally: BTreeSet<&str> = found.iter().map(name).collect();
        if !has_open_patterns(self.job, &literally) {
            self.offer.collections = found;
            return self.look_at_others();
        }
        let listed = self.list()?;
        let mut wanted = chosen(self.job, &listed, &literally);
        // A source may know more by name than it lists.
        let in_list: BTreeSet<&str> = listed.iter().map(name).collect();
        let unlisted = literally.iter().filter(|name| !in_list.contains(*name));
        wanted.extend(unlisted.map(|name| (*name).to_owned()));
        let missing = {
            let described: BTreeSet<&str> = listed
                .iter()
                .filter(|one| is_described(one))
                .chain(&found)
                .map(name)
                .collect();
            wanted
                .iter()
                .filter(|name| !described.contains(name.as_str()))
                .cloned()
                .collect()
        };
        let described = self.describe(missing)?;
        // The last answer about a collection says most of it.
        let mut known: BTreeMap<String, Collection> = listed
            .into_iter()
            .chain(found)
            .chain(described)
            .map(|collection| (collection.name.clone(), collection))
            .collect();
        self.offer.collections = wanted.iter().filter_map(|name| known.remove(name)).collect();
        self.offer.others = known.into_values().collect();
        Ok(())
    }

    /// Asks for the collections that the wanted ones refer to and that are not copied: whether they are there. What the job
    /// itself says of them can be checked as well where a description costs nothing.
    fn look_at_others(&mut self) -> Result<(), Failure> {
        let known: BTreeSet<&str> = self.offer.collections.iter().map(name).collect();
        let of_source = self
            .offer
            .collections
            .iter()
            .flat_map(|collection| &collection.references)
            .map(|reference| reference.collection.as_str());
        let others: BTreeSet<&str> = of_source
            .chain(declared(self.job))
            .filter(|name| !known.contains(name))
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let schemas = self.offer.spent.price.is_none() && declared(self.job).next().is_some();
        let others = others.into_iter().map(str::to_owned).collect();
        self.offer.others = self.call(others, schemas)?;
        Ok(())
    }

    /// Whether the job declares a reference to a collection that is not there.
    fn lacks_other(&self) -> bool {
        let found: BTreeSet<&str> = self
            .offer
            .collections
            .iter()
            .chain(&self.offer.others)
            .map(name)
            .collect();
        declared(self.job).any(|name| !found.contains(name))
    }
}

/// The collections that the job's own references point to.
fn declared(job: &Job) -> impl Iterator<Item = &str> {
    rules(job)
        .flat_map(|rule| &rule.references)
        .map(|reference| reference.collection.as_str())
}

fn name(collection: &Collection) -> &str {
    &collection.name
}

fn names(collections: &[Collection]) -> Vec<String> {
    collections
        .iter()
        .map(|collection| collection.name.clone())
        .collect()
}

fn is_described(collection: &Collection) -> bool {
    !collection.schema.fields.is_empty()
}
