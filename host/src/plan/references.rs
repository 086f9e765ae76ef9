//! References of the planned collections: what the source knows and the job declares, in the names of the sink.
//!
//! Pure, as its neighbours: `order` sorts by them and says what waits for what, and [`crate::phases::references`] looks
//! whether the records that they point to are there.

use std::collections::HashMap;

use whimbrel_plugin_api::collection::Reference;
use whimbrel_plugin_api::{Collection, Error};

use super::{Offer, PlannedCollection, Shape};
use crate::config::{CollectionJob, ReferenceJob};
use crate::events::Failure;

/// The collections of the source as far as they are known.
pub(super) struct Available<'a> {
    copied: HashMap<String, Collection>,
    /// Those that are not copied. Of one without fields nothing is known but that it is there.
    others: HashMap<String, Collection>,
    rules: &'a [CollectionJob],
    /// All names, as an error lists them.
    known: &'a str,
}

impl<'a> Available<'a> {
    pub(super) fn new(offer: Offer, rules: &'a [CollectionJob], known: &'a str) -> Self {
        let by_name = |collections: Vec<Collection>| {
            let named = |collection: Collection| (collection.name.clone(), collection);
            collections.into_iter().map(named).collect()
        };
        Self {
            copied: by_name(offer.collections),
            others: by_name(offer.others),
            rules,
            known,
        }
    }

    /// The collection called `name`, if it may be copied.
    pub(super) fn copied(&self, name: &str) -> Option<&Collection> {
        self.copied.get(name)
    }

    fn get(&self, name: &str) -> Option<&Collection> {
        self.copied(name).or_else(|| self.others.get(name))
    }

    /// Whether nothing is known of `parent` but that it is there, since it is not copied.
    fn is_only_a_name(&self, parent: &Collection) -> bool {
        parent.schema.fields.is_empty() && self.copied(&parent.name).is_none()
    }

    /// What tells the records of `collection` apart in the source: what the job says, if these are fields there, or what the
    /// source does.
    fn key_of(&self, collection: &Collection) -> Vec<String> {
        let rule = self.rules.iter().find(|rule| rule.source == collection.name);
        rule.and_then(|rule| rule.key.clone())
            .filter(|key| {
                key.iter()
                    .all(|field| collection.schema.index_of(field).is_some())
            })
            .unwrap_or_else(|| collection.key.clone())
    }
}

/// Adds what the job declares to what the source knows, and names the fields that are pointed to. `place` is that of
/// the rule.
///
/// # Errors
/// `plan.reference_field_missing`, `plan.reference_collection_missing`, `plan.reference_key_missing` and
/// `plan.reference_length`, each with its place.
pub(super) fn declare(
    source: &mut Collection,
    rule: &CollectionJob,
    place: &str,
    available: &Available<'_>,
) -> Result<(), Failure> {
    source.references.retain_mut(|reference| {
        // A source may know of a reference to what it does not offer.
        let Some(parent) = available.get(&reference.collection) else {
            return false;
        };
        if available.is_only_a_name(parent) {
            // That it is not copied is what will be said of it.
            return true;
        }
        if reference.to_fields.is_empty() {
            reference.to_fields = match parent.key.is_empty() {
                true => available.key_of(parent),
                false => parent.key.clone(),
            };
        }
        reference.to_fields.len() == reference.fields.len() && !reference.fields.is_empty()
    });
    for (number, declared) in rule.references.iter().enumerate() {
        let place = format!("{place}.references[{number}]");
        let reference = resolve(source, declared, &place, available)?;
        let same = |known: &Reference| {
            (&known.fields, &known.collection, &known.to_fields)
                == (&reference.fields, &reference.collection, &reference.to_fields)
        };
        if !source.references.iter().any(same) {
            source.references.push(reference);
        }
    }
    Ok(())
}

fn resolve(
    own: &Collection,
    declared: &ReferenceJob,
    place: &str,
    available: &Available<'_>,
) -> Result<Reference, Failure> {
    let parent = available.get(&declared.collection).ok_or_else(|| {
        Error::config(
            "plan.reference_collection_missing",
            format!(
                "`{}` refers to `{}`, which the source does not have (it has: {})",
                own.name, declared.collection, available.known
            ),
        )
        .with_place(format!("{place}.collection"))
    })?;
    fields_are_there(own, &declared.fields, &format!("{place}.fields"))?;
    let known = Reference {
        fields: declared.fields.clone(),
        collection: declared.collection.clone(),
        to_fields: declared.to_fields.clone(),
        is_enforced: false,
    };
    if available.is_only_a_name(parent) {
        // To look at its fields may cost as much as reading it.
        return Ok(known);
    }
    let to_fields = if !declared.to_fields.is_empty() {
        fields_are_there(parent, &declared.to_fields, &format!("{place}.to_fields"))?;
        declared.to_fields.clone()
    } else {
        available.key_of(parent)
    };
    if to_fields.is_empty() {
        return Err(Error::config(
            "plan.reference_key_missing",
            format!(
                "`{}` refers to `{}`, of which the source knows no key",
                own.name, parent.name
            ),
        )
        .with_place(place)
        .with_help("name the fields that are pointed to: `to_fields: [..]`")
        .into());
    }
    if to_fields.len() != declared.fields.len() {
        return Err(Error::config(
            "plan.reference_length",
            format!(
                "the reference of `{}` has {} fields (`{}`), and points to {} of `{}` (`{}`)",
                own.name,
                declared.fields.len(),
                declared.fields.join("`, `"),
                to_fields.len(),
                parent.name,
                to_fields.join("`, `")
            ),
        )
        .with_place(place)
        .into());
    }
    Ok(Reference { to_fields, ..known })
}

fn fields_are_there(collection: &Collection, fields: &[String], place: &str) -> Result<(), Failure> {
    let missing = fields
        .iter()
        .find(|field| collection.schema.index_of(field).is_none());
    match missing {
        None => Ok(()),
        Some(field) => Err(Error::config(
            "plan.reference_field_missing",
            format!(
                "`{field}` of a reference is not a field of `{}` (fields: {})",
                collection.name,
                super::field_names(collection)
            ),
        )
        .with_place(place)
        .into()),
    }
}

/// Carries the references of all planned collections over to the names of the sink. Those to collections that are not
/// copied go to `left_out`.
///
/// # Errors
/// What `shape` brings.
pub(super) fn carry_over(planned: &mut [PlannedCollection], shape: &mut Shape<'_>) -> Result<(), Failure> {
    let numbers: HashMap<String, usize> = planned
        .iter()
        .enumerate()
        .map(|(number, collection)| (collection.source.name.clone(), number))
        .collect();
    for number in 0..planned.len() {
        let mut carried = Vec::new();
        for mut reference in std::mem::take(&mut planned[number].sink.references) {
            let Some(parent) = numbers.get(&reference.collection).map(|at| &planned[*at]) else {
                planned[number].left_out.push(reference.collection);
                continue;
            };
            let Some(to_fields) = fields_after(parent, &reference.to_fields, shape)? else {
                continue;
            };
            reference.to_fields = to_fields;
            reference.collection.clone_from(&parent.sink.name);
            // What holds in the source need not hold for what transforms make of it.
            reference.is_enforced &= parent.transforms.is_empty() && planned[number].transforms.is_empty();
            carried.push(reference);
        }
        planned[number].sink.references = carried;
    }
    Ok(())
}

/// What becomes of fields of a collection on the way; `None` if they do not come through. Transforms keep the fields of
/// references in step with their own renaming, so that one with these fields tells.
fn fields_after(
    planned: &PlannedCollection,
    fields: &[String],
    shape: &mut Shape<'_>,
) -> Result<Option<Vec<String>>, Failure> {
    if planned.transforms.is_empty() {
        return Ok(Some(fields.to_vec()));
    }
    let probe = Collection {
        references: vec![Reference {
            fields: fields.to_vec(),
            collection: planned.source.name.clone(),
            ..Reference::default()
        }],
        ..planned.source.clone()
    };
    let shaped = shape(&probe, &planned.transforms)?;
    Ok(shaped
        .references
        .into_iter()
        .next()
        .map(|reference| reference.fields)
        .filter(|fields| {
            fields
                .iter()
                .all(|field| planned.sink.schema.index_of(field).is_some())
        }))
}
