//! Fields that no document of the sample has, and that turn up while a collection is read.
//!
//! The first such document makes the source look through the whole collection, once. So the new fields have types that all
//! documents fit, and their order is that of `inference: full`, the same in every part and after every restart. Neighbour: `tally`.

use gcloud_sdk::prost_types::Timestamp;
use whimbrel_plugin_api::{Field, LogLevel, Result, Schema, Services};

use super::Watch;
use super::tally::{FieldSeen, Tally};
use crate::client::Client;
use crate::config::FirestoreConfig;
use crate::path::Pattern;
use crate::read::{Documents, Scan, Scope};

/// The schema that follows `schema` for fields that a sample did not have: looks at every document. It is `schema` itself if there
/// are none.
///
/// # Errors
/// `firestore.too_many_fields`, `firestore.reserved_field`, and what reading brings.
pub(crate) async fn grow(
    client: &Client,
    config: &FirestoreConfig,
    services: &Services,
    pattern: &Pattern,
    schema: &Schema,
    read_time: Option<Timestamp>,
) -> Result<Schema> {
    services.log(
        LogLevel::Info,
        format!(
            "a document of `{pattern}` has a field that its sample lacks: the collection is looked through for all such fields"
        ),
    );
    let scan = Scan {
        scope: Scope::Collection(pattern.clone()),
        from: None,
        to: None,
        after: None,
        fields: None,
        limit: None,
        read_time,
        page_documents_max: config.page_documents_max,
    };
    let mut documents = Documents::open_kept(client, config, scan, services);
    let mut watch = Watch::new(services);
    let mut tally = Tally::default();
    while let Some((path, document)) = documents.next().await? {
        tally
            .observe(&path, &document.fields)
            .map_err(|refusal| refusal.into_error(pattern))?;
        watch.tick()?;
    }
    watch.end();
    Ok(grown(schema, tally.fields()))
}

/// New fields may be absent from all that was read before, so they are nullable whatever was seen.
fn grown(schema: &Schema, seen: &[FieldSeen]) -> Schema {
    let mut grown = schema.clone();
    let new = seen.iter().filter(|field| schema.index_of(&field.name).is_none());
    grown
        .fields
        .extend(new.map(|field| Field::new(field.name.clone(), field.seen.record_type())));
    if grown.fields.len() > schema.fields.len() {
        grown.version += 1;
        grown.presence = true;
    }
    grown
}
