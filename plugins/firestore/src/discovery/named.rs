//! Collections that are asked for by name, each looked through alone.
//!
//! With a sample only so many documents of each are read, and a count at the same instant says how many there are. Whether a
//! parent is missing is not known here, since no parent is looked at. Neighbour: `everything`, which finds collections.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_plugin_api::Result;

use super::survey::Survey;
use super::{Discovered, Look, Watch};
use crate::config::Inference;
use crate::cost;
use crate::memory::{self, Remembered};
use crate::path::{OWN_COLLECTION, Pattern};
use crate::read::{self, Scope};

/// Looks at the collections called `names`; those that have no document are left out, and so are texts that name none, such as
/// the patterns of a job.
pub(super) async fn look(look: &Look<'_>, names: &[String]) -> Result<Vec<Discovered>> {
    let patterns: BTreeSet<Pattern> = names
        .iter()
        .filter_map(|name| Pattern::parse(name).ok())
        .filter(|pattern| !is_own(pattern))
        .collect();
    let mut remembered = BTreeMap::new();
    if look.schemas {
        let names: Vec<String> = patterns.iter().map(Pattern::to_string).collect();
        let loaded = memory::load(look.client, &names, Some(look.read_time.get())).await;
        remembered = match loaded {
            Err(error) if read::is_gone_on_after(look.config, &error) => {
                memory::load(look.client, &names, None).await?
            }
            loaded => loaded?,
        };
    }
    // What was remembered, or not, of each.
    let memory_reads = u64::from(look.schemas);
    let mut watch = Watch::new(look.services);
    let mut found = Vec::with_capacity(patterns.len());
    for pattern in patterns {
        let remembered = remembered.remove(&pattern.to_string());
        let mut seen = look_at(look, pattern, remembered.as_ref(), &mut watch).await?;
        seen.reads += memory_reads;
        // What it took to find nothing is told of none: what is said of a collection does not depend on what else was asked.
        found.extend((seen.record_count != Some(0)).then_some(seen));
    }
    watch.end();
    Ok(found)
}

async fn look_at(
    look: &Look<'_>,
    pattern: Pattern,
    remembered: Option<&Remembered>,
    watch: &mut Watch<'_>,
) -> Result<Discovered> {
    // A nested collection is asked for together with others, which are passed over.
    let is_alone = pattern.parent().is_none();
    let scope = Scope::Collection(pattern.clone());
    let limit = match (look.schemas, look.config.inference) {
        (false, _) => Some(1),
        (true, Inference::Full) => None,
        (true, Inference::Sample(documents)) => Some(u64::from(documents.max(1))),
    };
    let fields = (!look.schemas).then(Vec::new);
    let mut documents = look.open(scope.clone(), fields, limit);
    let mut survey = Survey::new(pattern, look.schemas);
    while let Some((path, document)) = documents.next().await? {
        survey
            .look(&path, &document, false)
            .map_err(|refusal| refusal.into_error(&survey.pattern))?;
        survey.bounds.pass(&path);
        watch.tick()?;
    }
    let has_moved = look.follow(&documents);
    let mut reads = documents.reads();
    let seen = survey.record_count;
    let mut is_complete = limit.is_none_or(|limit| seen < limit);
    let mut counted = None;
    if look.schemas && !is_complete {
        let at = Some(look.read_time.get());
        let entries = read::count_kept(look.client, look.config, look.services, &scope, at).await?;
        counted = Some(entries);
        reads += cost::count_reads(entries);
        // Others that the query finds would be counted, too.
        is_complete = entries == seen;
    }
    let page = look.config.page_documents_max;
    let (read_units, count_units) = match counted {
        _ if is_alone => {
            let records = counted.unwrap_or(seen);
            (cost::scan_reads(records, page), cost::count_reads(records))
        }
        // If it is not all that was counted, nobody knows how many are its own.
        Some(entries) if is_complete => (cost::scan_reads(entries, page), cost::count_reads(entries)),
        Some(entries) => (cost::scan_reads(entries, page), 0),
        // This was such a reading.
        None => (reads, cost::count_reads_among(seen, reads, page)),
    };
    let whole = Discovered {
        reads,
        read_units,
        count_units,
        orphan_count: None,
        has_moved,
        ..survey.finish(is_complete, look.config.path_field, remembered, look.services)
    };
    Ok(if is_complete {
        Discovered {
            is_count_exact: whole.is_count_exact && !has_moved,
            ..whole
        }
    } else {
        Discovered {
            record_count: counted,
            is_count_exact: is_alone && counted.is_some() && !has_moved,
            size_bytes: None,
            bounds: Vec::new(),
            ..whole
        }
    })
}

/// Whether it is, or holds, what whimbrel itself remembers.
fn is_own(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Nested(ids) => ids.first().is_some_and(|id| id == OWN_COLLECTION),
        Pattern::Group(id) => id == OWN_COLLECTION,
    }
}
