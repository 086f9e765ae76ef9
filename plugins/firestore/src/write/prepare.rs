//! What is looked at, and done, before collections are written.
//!
//! Firestore has no tables to make: a collection is there as soon as a document is. So the names are judged, the keys against the
//! patterns, the fields against what documents can hold; and the record types that Firestore has none for are remembered
//! (`memory`). Neighbours: `naming` judges names and types, `session` writes what was prepared.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use whimbrel_plugin_api::sink::{PrepareReport, PreparedCollection, PreparedField};
use whimbrel_plugin_api::{Collection, Field, Finding, FindingLevel, RecordType, Result, Services};

use super::incoming::Target;
use super::limits::is_reserved;
use super::naming;
use crate::client::Client;
use crate::memory::{self, Remembered};
use crate::path::Pattern;
use crate::read::{Documents, Scan, Scope};
use crate::value::{Place, is_native, losses, stored_as};

/// Collections that are looked at side by side.
const LOOKS_MAX: usize = 8;

/// What is to be done for a request.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) report: PrepareReport,
    /// The collections that can be written, in the order of the request.
    pub(crate) targets: Vec<(String, Target)>,
    remember: Vec<(String, Remembered)>,
    forget: Vec<String>,
}

impl Plan {
    /// Whether something is in the way.
    pub(crate) fn is_blocked(&self) -> bool {
        let is_blocker = |finding: &Finding| finding.level == FindingLevel::Blocker;
        self.report.findings.iter().any(is_blocker)
    }

    /// Remembers the record types.
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<()> {
        for (name, remembered) in &self.remember {
            memory::store(client, name, remembered).await?;
        }
        if self.forget.is_empty() {
            return Ok(());
        }
        memory::forget(client, &self.forget).await
    }
}

/// Looks at what is there and says what would be done. `before`: the same collections as they were prepared, if their schema changes
/// in mid-run.
pub(crate) async fn prepare(
    client: &Client,
    services: &Services,
    collections: &[Collection],
    keeps_types: bool,
    before: Option<&Target>,
) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut places = Vec::with_capacity(collections.len());
    for collection in collections {
        let place = naming::place(collection, &mut plan.report.findings);
        naming::check_fields(collection, &mut plan.report.findings);
        places.push(place);
    }
    let patterns: Vec<Option<Pattern>> = places
        .iter()
        .map(|place| place.as_ref().map(|place| place.pattern.clone()))
        .collect();
    let looks = patterns.into_iter().map(|pattern| async move {
        match pattern {
            Some(pattern) => holds_documents(client, services, pattern).await,
            None => Ok(false),
        }
    });
    let existed: Vec<bool> = stream::iter(looks).buffered(LOOKS_MAX).try_collect().await?;
    let names: Vec<String> = collections
        .iter()
        .zip(&places)
        .filter(|(_, place)| place.is_some())
        .map(|(collection, _)| collection.name.clone())
        .collect();
    let mut known = match names.is_empty() {
        true => BTreeMap::new(),
        false => memory::load(client, &names, None).await?,
    };
    for ((collection, place), existed) in collections.iter().zip(places).zip(existed) {
        plan.report.collections.push(prepared(collection, existed));
        let Some(place) = place else {
            continue;
        };
        let before_fields = before.map(|target| &target.fields);
        plan.targets
            .push((collection.name.clone(), target(collection, place, before_fields)));
        let keeps_fields = existed || before.is_some();
        plan.settle_memory(
            collection,
            known.remove(&collection.name),
            keeps_types,
            keeps_fields,
        );
    }
    Ok(plan)
}

impl Plan {
    fn settle_memory(
        &mut self,
        collection: &Collection,
        known: Option<Remembered>,
        keeps_types: bool,
        keeps_fields: bool,
    ) {
        let name = &collection.name;
        let wanted = keeps_types
            .then(|| wanted_memory(collection, known.as_ref().filter(|_| keeps_fields)))
            .flatten();
        match (wanted, known) {
            (Some(wanted), Some(known)) if wanted == known => {}
            (Some(wanted), _) => {
                self.report.ddl.push(format!(
                    "remember the record types of `{name}` in a document of `_whimbrel`"
                ));
                self.remember.push((name.clone(), wanted));
            }
            (None, Some(_)) => {
                self.report
                    .ddl
                    .push(format!("forget the record types of `{name}` in `_whimbrel`"));
                self.forget.push(name.clone());
            }
            (None, None) => {}
        }
    }
}

/// What is to be remembered, if anything: record types that are not seen in the documents, and a key that is not their path. Of
/// fields that documents may still have from earlier, what was known stays.
fn wanted_memory(collection: &Collection, known: Option<&Remembered>) -> Option<Remembered> {
    let mut fields = collection.schema.fields.clone();
    let is_gone = |old: &&Field| fields.iter().all(|field| field.name != old.name);
    let old: Vec<Field> = known
        .into_iter()
        .flat_map(|known| known.fields.iter().filter(is_gone).cloned())
        .collect();
    let presence = collection.schema.presence || !old.is_empty() || known.is_some_and(|known| known.presence);
    fields.extend(old);
    (!says_all(&fields, &collection.key)).then(|| Remembered {
        fields,
        key: collection.key.clone(),
        presence,
    })
}

/// Whether the documents say all of it themselves: types that Firestore has, and a key that is their path. So it is with every
/// collection that was read from Firestore.
fn says_all(fields: &[Field], key: &[String]) -> bool {
    fields.iter().all(|field| is_native(&field.record_type)) && key.iter().all(|name| is_reserved(name))
}

/// Whether there is any document; one document read.
async fn holds_documents(client: &Client, services: &Services, pattern: Pattern) -> Result<bool> {
    let scan = Scan {
        scope: Scope::Collection(pattern),
        from: None,
        to: None,
        after: None,
        fields: Some(Vec::new()),
        limit: Some(1),
        read_time: None,
        page_documents_max: 1,
    };
    let mut documents = Documents::open(client, scan, services);
    Ok(documents.next().await?.is_some())
}

fn prepared(collection: &Collection, existed: bool) -> PreparedCollection {
    // What comes from Firestore has no value that it could lose there, such as a negative zero in a geopoint.
    let is_of_firestore = !collection.key.is_empty() && says_all(&collection.schema.fields, &collection.key);
    let field = |field: &Field| PreparedField {
        name: field.name.clone(),
        stored_name: field.name.clone(),
        stored_as: match is_reserved(&field.name) {
            true => "part of the document's path".to_owned(),
            false => stored_as(&field.record_type),
        },
        losses: match is_of_firestore {
            true => Vec::new(),
            false => losses(&field.record_type),
        },
    };
    PreparedCollection {
        name: collection.name.clone(),
        existed,
        // Counting is billed; that there is none is known already.
        record_count: (!existed).then_some(0),
        fields: collection.schema.fields.iter().map(field).collect(),
        ..PreparedCollection::default()
    }
}

fn target(
    collection: &Collection,
    place: Place,
    before: Option<&HashMap<String, Vec<RecordType>>>,
) -> Target {
    // Batches of the earlier schema may still come, from partitions that have not met the new one.
    let mut fields = before.cloned().unwrap_or_default();
    for field in &collection.schema.fields {
        let types = fields.entry(field.name.clone()).or_default();
        if !types.contains(&field.record_type) {
            types.push(field.record_type.clone());
        }
    }
    Target {
        place,
        fields,
        version: match &collection.cursor_fields[..] {
            [one] => Some(Arc::from(one.as_str())),
            _ => None,
        },
    }
}
