//! Fields that turn up while a collection is read, once for all streams of it.
//!
//! The first record with such a field makes discovery look through the whole collection. All parts then go on with the same
//! schema, and what that cost is paid once. Neighbours: `stream` asks, `discovery::grow` looks.

use std::sync::Arc;

use gcloud_sdk::prost_types::Timestamp;
use tokio::sync::Mutex;
use whimbrel_plugin_api::{Result, Schema, Services};

use crate::client::Client;
use crate::config::FirestoreConfig;
use crate::discovery;
use crate::path::Pattern;

/// The schema of one collection with all fields, once somebody had to know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Growth(Arc<Mutex<Option<Schema>>>);

/// What a stream knows when it meets a new field.
pub(super) struct Grower<'stream> {
    pub(super) client: &'stream Client,
    pub(super) config: &'stream FirestoreConfig,
    pub(super) services: &'stream Services,
    pub(super) pattern: &'stream Pattern,
    pub(super) read_time: Option<Timestamp>,
}

impl Growth {
    /// The schema that follows `schema` and has a field called `field`; `None` if there is none.
    pub(super) async fn after(
        &self,
        schema: &Schema,
        field: &str,
        grower: Grower<'_>,
    ) -> Result<Option<Schema>> {
        // Held while one stream looks: the others would only do the same.
        let mut known = self.0.lock().await;
        if let Some(grown) = known.as_ref().and_then(|known| extension(known, schema, field)) {
            return Ok(Some(grown));
        }
        let found = discovery::grow(
            grower.client,
            grower.config,
            grower.services,
            grower.pattern,
            schema,
            grower.read_time,
        )
        .await?;
        let grown = extension(&found, schema, field);
        *known = Some(found);
        Ok(grown)
    }
}

/// `schema` with the further fields of `known`, if `field` is one of them.
fn extension(known: &Schema, schema: &Schema, field: &str) -> Option<Schema> {
    let is_longer = known.fields.starts_with(&schema.fields) && known.index_of(field).is_some();
    is_longer.then(|| Schema {
        version: schema.version + 1,
        fields: known.fields.clone(),
        // Documents before it lack the field.
        presence: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_plugin_api::{Field, RecordType};

    fn schema(fields: &[&str]) -> Schema {
        Schema::new(
            fields
                .iter()
                .map(|name| Field::new(*name, RecordType::Text))
                .collect(),
        )
    }

    #[test]
    fn a_schema_that_is_known_serves_the_streams_that_are_not_there_yet() {
        let known = schema(&["a", "b", "c"]);
        let grown = extension(&known, &schema(&["a"]), "c").unwrap();
        assert_eq!(
            (grown.version, grown.presence, &grown.fields),
            (1, true, &known.fields)
        );
        assert_eq!(extension(&known, &schema(&["a"]), "d"), None);
        assert_eq!(extension(&known, &schema(&["b"]), "c"), None);
    }
}
