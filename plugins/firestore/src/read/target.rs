//! What is read: a collection as it is known, and what of it a request wants.
//!
//! Neighbour: `stream`, which reads it.

use std::sync::Arc;
use std::time::Instant;

use gcloud_sdk::prost_types::Timestamp;
use whimbrel_plugin_api::source::OTHER_FIELDS;
use whimbrel_plugin_api::{Field, ReadRequest, RecordType, Result, Schema};

use crate::client::Client;
use crate::config::FirestoreConfig;
use crate::path::{PATH_FIELD, Pattern};

use super::growth::Growth;
use super::snapshot::{self, AsOf, Fixed};

/// What streams of one source have in common.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) client: Client,
    pub(crate) config: Arc<FirestoreConfig>,
}

/// What is read, as discovery or the reader of the records knows it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) pattern: Pattern,
    pub(crate) schema: Arc<Schema>,
    pub(crate) key: Vec<String>,
    /// The instant that this process fixed, if it did.
    pub(crate) fixed: Option<Fixed>,
    pub(crate) growth: Growth,
}

/// As of when a stream reads: at `read_time`, or that of its first page.
pub(super) fn as_of(config: &FirestoreConfig, fixed: Option<Fixed>, read_time: Option<Timestamp>) -> AsOf {
    let now = Instant::now();
    let snapshot = read_time.map(|at| {
        let told = fixed.filter(|fixed| fixed.at == at).map(|fixed| fixed.told);
        let age = told.map_or_else(|| snapshot::age(at), |told| now.saturating_duration_since(told));
        (at, age)
    });
    AsOf::kept(config, snapshot, now)
}

/// The schema of what is delivered.
pub(super) fn delivered(schema: &Arc<Schema>, request: &ReadRequest) -> Result<Arc<Schema>> {
    if request.columns.is_empty() && request.names_others && request.expected.is_some() {
        let mut schema = Schema::clone(schema);
        schema.fields.push(Field::new(OTHER_FIELDS, RecordType::Text));
        return Ok(Arc::new(schema));
    }
    if request.columns.is_empty() {
        return Ok(Arc::clone(schema));
    }
    schema.select(&request.columns).map(Arc::new)
}

/// The fields that are asked of the service: all, or those of the columns that are not in the path.
pub(super) fn wanted_fields(
    schema: &Schema,
    pattern: &Pattern,
    request: &ReadRequest,
) -> Option<Vec<String>> {
    if request.columns.is_empty() {
        return None;
    }
    let of_path = pattern.key();
    let fields = schema.fields.iter().map(|field| &field.name);
    Some(
        fields
            .filter(|name| !of_path.contains(name) && *name != PATH_FIELD)
            .cloned()
            .collect(),
    )
}
