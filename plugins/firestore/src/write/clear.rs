//! Removes the documents of collections, and nothing else: what is below them in other collections stays.
//! Neighbours: `read` finds their names, `session` sends the removals.

use whimbrel_plugin_api::services::LogLevel;
use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope, Result, Services};

use super::session::Writer;
use crate::client::Client;
use crate::memory;
use crate::path::Pattern;
use crate::read::{Documents, Scan, Scope};

/// Names of one page; they are small.
const PAGE_DOCUMENTS: u32 = 5_000;

/// Removes all documents of `collections`, in this order, and what is remembered of them; answers how many each had.
///
/// # Errors
/// `firestore.bad_collection`, before anything is removed; `firestore.not_cleared`; what reading and writing bring.
pub(crate) async fn clear(
    client: &Client,
    services: &Services,
    writer: &mut Writer,
    collections: &[String],
) -> Result<Vec<Option<u64>>> {
    let patterns = collections.iter().map(|name| Pattern::parse(name));
    let patterns = patterns.collect::<Result<Vec<_>>>()?;
    let mut removed = Vec::with_capacity(patterns.len());
    for (pattern, name) in patterns.into_iter().zip(collections) {
        let scan = Scan {
            scope: Scope::Collection(pattern),
            from: None,
            to: None,
            after: None,
            fields: Some(Vec::new()),
            limit: None,
            read_time: None,
            page_documents_max: PAGE_DOCUMENTS,
        };
        let mut documents = Documents::open(client, scan, services);
        let mut number = 0;
        while let Some((path, _)) = documents.next().await? {
            writer.delete(path, number).await?;
            number += 1;
        }
        let (count, refused) = writer.deleted().await?;
        if let Some(refused) = refused {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "firestore.not_cleared",
                format!(
                    "the document `{}` of `{name}` cannot be removed: {}",
                    refused.record, refused.message
                ),
            )
            .with_scope(ErrorScope::Write));
        }
        services.log(
            LogLevel::Info,
            format!(
                "documents of `{name}` removed: {count}, document reads: {}",
                documents.reads()
            ),
        );
        removed.push(Some(count));
    }
    memory::forget(client, collections).await?;
    Ok(removed)
}
