//! What is looked at, and done, before collections are written.
//!
//! Firestore has no tables to make: a collection is there as soon as a document is. So the names are judged, the keys against the
//! patterns, the fields against what documents can hold; and the record types that Firestore has none for are remembered
//! (`memory`). Neighbours: `naming` judges names and types, `session` writes what was prepared.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use whimbrel_plugin_api::sink::{PrepareReport, PreparedCollection, PreparedField, SinkCost};
use whimbrel_plugin_api::{
    Collection, ErrorKind, Field, Finding, FindingLevel, LogLevel, RecordType, Result, Services,
};

use super::incoming::Target;
use super::limits::is_reserved;
use super::naming;
use super::policy::looks;
use crate::client::Client;
use crate::config::FirestoreConfig;
use crate::cost;
use crate::memory::{self, Remembered};
use crate::path::Pattern;
use crate::read::{self, Documents, Scan, Scope};
use crate::value::{Place, is_native, losses, stored_as};

/// Collections that are looked at side by side.
const LOOKS_MAX: usize = 8;
/// How often a count is tried again: of very many documents it takes longer than the service allows, each time.
const COUNT_RETRIES_MAX: u32 = 2;

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

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What there is, and how much of it, for a plan.
    Counted,
    /// What has to be known before records are written.
    Needed,
    /// Nothing: another session has looked, and has made room.
    Nothing,
}

/// What does not change within one call.
pub(crate) struct Call<'call> {
    pub(crate) client: &'call Client,
    pub(crate) services: &'call Services,
    pub(crate) config: &'call FirestoreConfig,
    pub(crate) depth: Depth,
    /// The same collections as they were prepared, if their schema changes in mid-run.
    pub(crate) before: Option<&'call Target>,
}

/// What is there of a collection.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    existed: bool,
    /// Documents that its query finds, those of others included, if they were counted.
    found: Option<u64>,
    /// Document reads that looking took.
    reads: u64,
}

/// Looks at what is there and says what would be done.
pub(crate) async fn prepare(call: &Call<'_>, collections: &[Collection]) -> Result<Plan> {
    let looks_at_all = call.depth != Depth::Nothing;
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
        match pattern.filter(|_| looks_at_all) {
            Some(pattern) => look_at(call, pattern).await,
            None => Ok(Held::default()),
        }
    });
    let held: Vec<Held> = stream::iter(looks).buffered(LOOKS_MAX).try_collect().await?;
    let names: Vec<String> = collections
        .iter()
        .zip(&places)
        .filter(|(_, place)| place.is_some())
        .map(|(collection, _)| collection.name.clone())
        .collect();
    let mut known = match names.is_empty() || !looks_at_all {
        true => BTreeMap::new(),
        false => memory::load(call.client, &names, None).await?,
    };
    for ((collection, place), held) in collections.iter().zip(places).zip(held) {
        let mut prepared = prepared(collection, held.existed);
        let Some(place) = place else {
            plan.report.collections.push(prepared);
            continue;
        };
        if is_alone(&place.pattern) {
            prepared.record_count = prepared.record_count.or(held.found);
        }
        prepared.cost = Some(billed(call, &place.pattern, held));
        plan.report.collections.push(prepared);
        let before_fields = call.before.map(|target| &target.fields);
        plan.targets
            .push((collection.name.clone(), target(collection, place, before_fields)));
        if looks_at_all {
            plan.settle_memory(
                collection,
                known.remove(&collection.name),
                call.config.writing.keep_types,
                held.existed || call.before.is_some(),
            );
        }
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

/// Whether there is any document, which is one document read, or more where those of others are passed over; and how many
/// there are, if a plan wants to know.
async fn look_at(call: &Call<'_>, pattern: Pattern) -> Result<Held> {
    let scope = Scope::Collection(pattern);
    let scan = Scan {
        scope: scope.clone(),
        from: None,
        to: None,
        after: None,
        fields: Some(Vec::new()),
        limit: Some(1),
        read_time: None,
        page_documents_max: 1,
    };
    let mut documents = Documents::open(call.client, scan, call.services);
    let mut held = Held {
        existed: documents.next().await?.is_some(),
        ..Held::default()
    };
    held.reads = documents.reads();
    if held.existed && call.depth == Depth::Counted {
        held.found = count(call, &scope).await?;
        held.reads += held.found.map_or(0, cost::count_reads);
    }
    Ok(held)
}

/// What a query finds; `None` if that takes longer than the service allows.
async fn count(call: &Call<'_>, scope: &Scope) -> Result<Option<u64>> {
    let client = call
        .client
        .with_retries_max(COUNT_RETRIES_MAX.min(call.config.retries_max));
    match read::count_kept(&client, call.config, call.services, scope, None).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == ErrorKind::Timeout => {
            let message = "how many documents there are takes too long to count".to_owned();
            call.services.log(LogLevel::Info, message);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the query of a collection finds no documents of others.
fn is_alone(pattern: &Pattern) -> bool {
    pattern.parent().is_none()
}

/// What a run is billed for a collection.
fn billed(call: &Call<'_>, pattern: &Pattern, held: Held) -> SinkCost {
    let memory_reads = u64::from(call.depth != Depth::Nothing);
    let page = call.config.page_documents_max;
    let scanned = held.found.map(|found| cost::scan_reads(found, page));
    let held_units = if held.existed { scanned } else { Some(0) };
    SinkCost {
        preparation_units: held.reads + memory_reads,
        // What is remembered is looked at each time, and so is whether there are documents, but they are not counted.
        room_units: held.reads - held.found.map_or(0, cost::count_reads) + memory_reads,
        held_units: held_units.filter(|_| call.depth == Depth::Counted),
        look_policies: looks(&call.config.writing),
        ..cost::sink_cost(is_alone(pattern), call.config)
    }
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
        // That there is none is known without counting.
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
