//! What is kept of one collection while its documents pass by, and what becomes of it.
//!
//! Neighbours: `tally` (fields), `bounds` (places to divide at), `shape` (schema and key); `everything` and `named` let the
//! documents pass by.

use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::Document;
use gcloud_sdk::prost::Message;
use whimbrel_plugin_api::{LogLevel, Schema, Services};

use super::Discovered;
use super::bounds::Bounds;
use super::shape::{Material, Shape};
use super::tally::{Refusal, Tally};
use crate::memory::Remembered;
use crate::path::Pattern;

/// One collection under way.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) pattern: Pattern,
    pub(super) bounds: Bounds,
    pub(super) record_count: u64,
    /// `None` if its fields are of no interest, or are none that columns can be made of.
    tally: Option<Tally>,
    size_bytes: u64,
    orphan_count: u64,
}

impl Survey {
    /// Nothing seen yet; with `fields` they are looked at.
    pub(super) fn new(pattern: Pattern, fields: bool) -> Self {
        Self {
            pattern,
            bounds: Bounds::default(),
            record_count: 0,
            tally: fields.then(Tally::default),
            size_bytes: 0,
            orphan_count: 0,
        }
    }

    /// Looks at the next document. Returns the octets of field names that are new.
    ///
    /// # Errors
    /// Its fields are none that columns can be made of. They are passed over from now on.
    pub(super) fn look(
        &mut self,
        path: &str,
        document: &Document,
        is_orphan: bool,
    ) -> Result<usize, Refusal> {
        self.record_count += 1;
        self.orphan_count += u64::from(is_orphan);
        self.size_bytes += document.encoded_len() as u64;
        let Some(tally) = &mut self.tally else {
            return Ok(0);
        };
        tally
            .observe(path, &document.fields)
            .inspect_err(|_| self.tally = None)
    }

    /// What was found out. Counts, bounds and orphans are those of the documents that passed by: the caller takes back what
    /// they do not show of the whole.
    pub(super) fn finish(
        self,
        is_complete: bool,
        path_field: bool,
        remembered: Option<&Remembered>,
        services: &Services,
    ) -> Discovered {
        let Shape { schema, key } = match &self.tally {
            Some(tally) => {
                if let Some(remembered) = remembered {
                    self.tell_of_misfits(tally, remembered, services);
                }
                Material {
                    pattern: &self.pattern,
                    tally,
                    is_complete,
                    remembered,
                    path_field,
                }
                .shape()
            }
            None => Shape {
                schema: Schema::default(),
                key: Vec::new(),
            },
        };
        Discovered {
            schema: Arc::new(schema),
            key,
            record_count: Some(self.record_count),
            is_count_exact: true,
            size_bytes: Some(self.size_bytes),
            orphan_count: Some(self.orphan_count),
            bounds: self.bounds.into_paths(),
            reads: 0,
            read_units: 0,
            has_moved: false,
            count_units: 0,
            pattern: self.pattern,
        }
    }

    fn tell_of_misfits(&self, tally: &Tally, remembered: &Remembered, services: &Services) {
        for field in &remembered.fields {
            let seen = tally.field(&field.name).map(|seen| seen.seen);
            if let Some(seen) = seen.filter(|seen| !seen.fits(&field.record_type)) {
                services.log(
                    LogLevel::Warn,
                    format!(
                        "the field `{}` of `{}` was written as {}, and now holds {}: it is read as {}",
                        field.name,
                        self.pattern,
                        field.record_type,
                        seen.names(),
                        seen.record_type()
                    ),
                );
            }
        }
    }
}
