//! What a batch brings, as documents: each with its path, its fields, and the version that decides about it.
//! Not here: what becomes of them (`session`, `kept`), and what their fields are stored as (`value`).

use std::collections::HashMap;
use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::Document;
use whimbrel_plugin_api::{Batch, Error, ErrorKind, ErrorScope, RecordType, Result};

use super::kept::Coming;
use super::limits;
use super::policy::Policy;
use super::request::Version;
use super::version::can_be_version;
use crate::error::RowFault;
use crate::path::Root;
use crate::value::{Encoder, Place};

/// Where a collection goes, as it was prepared.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) place: Place,
    /// The types that each field was prepared for: more than one after a change of schema.
    pub(crate) fields: HashMap<String, Vec<RecordType>>,
    /// The field that tells newer records from older ones.
    pub(crate) version: Option<Arc<str>>,
}

/// The records of a batch, checked against what was prepared.
pub(super) struct Incoming<'a> {
    encoder: Encoder,
    root: &'a Root,
    version: Option<Arc<str>>,
}

impl<'a> Incoming<'a> {
    /// # Errors
    /// Of scope write if the batch does not fit what was prepared, or the policy cannot be followed.
    pub(super) fn new(
        collection: &str,
        target: &Target,
        batch: &Batch,
        policy: Policy,
        root: &'a Root,
    ) -> Result<Self> {
        fits(collection, target, batch)?;
        let version = version_field(collection, target, batch, policy)?;
        let encoder =
            Encoder::new(batch, &target.place, root).map_err(|error| error.with_scope(ErrorScope::Write))?;
        Ok(Self {
            encoder,
            root,
            version,
        })
    }

    /// The record of a row.
    ///
    /// # Errors
    /// Why it cannot be stored, with the path if that much is known.
    pub(super) fn record(&self, row: usize) -> Result<Coming, (Option<String>, RowFault)> {
        let (path, document) = make(&self.encoder, self.root, row)?;
        let version = self.version.as_ref().map(|field| Version {
            field: Arc::clone(field),
            value: document.fields.get(&**field).cloned(),
        });
        Ok(Coming {
            row,
            path,
            document,
            version,
        })
    }
}

/// The document of a row, with its path.
///
/// # Errors
/// Why there is none, with the path if that much is known.
fn make(
    encoder: &Encoder,
    root: &Root,
    row: usize,
) -> Result<(String, Document), (Option<String>, RowFault)> {
    let path = encoder.path(row).map_err(|fault| (None, fault))?;
    let checked = encoder
        .fields(row)
        .and_then(|fields| limits::check(&path, &fields).map(|()| fields));
    match checked {
        Ok(fields) => {
            let document = Document {
                name: root.document(&path),
                fields,
                ..Document::default()
            };
            Ok((path, document))
        }
        Err(fault) => Err((Some(path), fault)),
    }
}

fn fits(collection: &str, target: &Target, batch: &Batch) -> Result<()> {
    for field in &batch.schema.fields {
        let Some(types) = target.fields.get(&field.name) else {
            return Err(refusal(
                "firestore.unknown_field",
                format!("`{collection}` was not prepared for the field `{}`", field.name),
            ));
        };
        if !types.contains(&field.record_type) {
            return Err(refusal(
                "firestore.changed_field",
                format!(
                    "the field `{}` of `{collection}` is `{}`, it was prepared for `{}`",
                    field.name, field.record_type, types[0]
                ),
            ));
        }
    }
    Ok(())
}

/// The version field, if the policy asks for one.
fn version_field(
    collection: &str,
    target: &Target,
    batch: &Batch,
    policy: Policy,
) -> Result<Option<Arc<str>>> {
    if !policy.compares_versions() {
        return Ok(None);
    }
    let field = target.version.as_ref().and_then(|name| {
        let field = batch.schema.fields.iter().find(|field| field.name == **name)?;
        Some((name, field))
    });
    match field {
        None => Err(refusal(
            "firestore.no_version_field",
            format!("`{collection}` has no version field"),
        )
        .with_help("name the field that tells newer records from older ones")),
        Some((_, field)) if !can_be_version(&field.record_type) || limits::is_reserved(&field.name) => Err(refusal(
            "firestore.bad_version_field",
            format!(
                "the values of the version field `{}` of `{collection}`, of type `{}`, cannot be compared as Firestore stores them",
                field.name, field.record_type
            ),
        )
        .with_help("name a field with integers, timestamps, dates or texts")),
        Some((name, _)) => Ok(Some(Arc::clone(name))),
    }
}

fn refusal(code: &'static str, message: String) -> Error {
    Error::new(ErrorKind::InvalidData, code, message).with_scope(ErrorScope::Write)
}
