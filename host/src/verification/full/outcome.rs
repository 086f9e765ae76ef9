//! The digests of a collection as a result and a certificate show them.
//! How they come about is told in `docs/digest.md`; `compare` asks for them.

use super::reading::SideDigests;
use crate::events::{CollectionDigests, PlaceDigest};
use crate::verification::compare::Comparable;
use crate::verification::digest::Recipe;

/// The digests at all places that were looked at. `extracted` are those that a copy has made of what the source gave.
pub(super) fn digests_of(
    both: &Comparable<'_>,
    recipe: &Recipe,
    extracted: Option<&SideDigests>,
    source: &SideDigests,
    sink: &SideDigests,
) -> CollectionDigests {
    let fields = recipe.schema.fields.iter().map(|field| field.name.clone());
    // Where nothing is changed on the way, and nothing lost, both places have the same records.
    let is_as_extracted = both.jobs.is_empty() && recipe.losses.is_empty();
    let as_extracted = extracted.or(is_as_extracted.then_some(source));
    CollectionDigests {
        fields: fields.collect(),
        key: recipe.key.clone(),
        extracted: as_extracted.map(place),
        transformed: Some(place(source)),
        read_back: Some(place(sink)),
    }
}

fn place(side: &SideDigests) -> PlaceDigest {
    let total = side.buckets.total();
    let whole = total.of_partition("");
    PlaceDigest {
        record_count: whole.record_count,
        sum: whole.sum,
        xor: whole.xor,
        root: blake3::Hash::from_bytes(side.buckets.root()).to_hex().to_string(),
        partitions: side.partitions.clone(),
    }
}
