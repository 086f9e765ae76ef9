//! The digests of a collection as a result and a certificate show them.
//! How they come about is told in `docs/digest.md`; `compare` asks for them.

use super::reading::SideDigests;
use crate::events::{CollectionDigests, PartitionDigest, PlaceDigest};
use crate::verification::bucket::Buckets;
use crate::verification::compare::Comparable;
use crate::verification::digest::Recipe;
use crate::verification::tap::is_same;

/// Of records as the source gives them; none if these are the same as those that are compared.
pub(super) fn extraction(both: &Comparable<'_>, recipe: &Recipe) -> Option<Recipe> {
    let exact = Recipe::of(both.source).exact();
    let is_as_extracted = both.jobs.is_empty() && is_same(&exact, recipe);
    (!is_as_extracted).then_some(exact)
}

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
    let is_as_extracted = extraction(both, recipe).is_none();
    let as_extracted = extracted.or(is_as_extracted.then_some(source)).map(place);
    let read = source.extracted.as_ref();
    let read = read.map(|extracted| of_place(&extracted.buckets, &extracted.partitions));
    CollectionDigests {
        fields: fields.collect(),
        key: recipe.key.clone(),
        extracted: as_extracted.or(read),
        transformed: Some(place(source)),
        read_back: Some(place(sink)),
        snapshots: source.snapshots.clone(),
    }
}

pub(super) fn place(side: &SideDigests) -> PlaceDigest {
    of_place(&side.buckets, &side.partitions)
}

fn of_place(buckets: &Buckets, partitions: &[PartitionDigest]) -> PlaceDigest {
    let total = buckets.total();
    let whole = total.of_partition("");
    PlaceDigest {
        record_count: whole.record_count,
        sum: whole.sum,
        xor: whole.xor,
        root: blake3::Hash::from_bytes(buckets.root()).to_hex().to_string(),
        partitions: partitions.to_vec(),
    }
}
