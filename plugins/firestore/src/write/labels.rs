//! What rejected records are called: by the path of the document, or by the key where no path could be made.
//! Only for those that were never sent; the others have their path with them (`judged`).

use std::fmt::Write as _;

use whimbrel_plugin_api::Batch;
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::text_form::TextEncoder;

use super::incoming::Target;
use crate::error::RowFault;

/// Names the records of a batch.
pub(super) struct Labels(Vec<TextEncoder>);

impl Labels {
    pub(super) fn new(target: &Target, batch: &Batch) -> Self {
        let encoder = |name: &String| {
            let index = batch.schema.index_of(name)?;
            let field = &batch.schema.fields[index];
            TextEncoder::new(&field.record_type, batch.records.column(index)).ok()
        };
        let encoders = target.place.key.iter().map(encoder);
        Self(encoders.collect::<Option<_>>().unwrap_or_default())
    }

    /// A record of the batch that could not be sent.
    pub(super) fn rejected(&self, path: Option<String>, row: usize, fault: RowFault) -> RejectedRecord {
        RejectedRecord {
            record: path.unwrap_or_else(|| self.label(row)),
            row: Some(row as u64),
            code: fault.code.to_owned(),
            message: fault.message,
            data: None,
        }
    }

    fn label(&self, row: usize) -> String {
        let mut label = String::new();
        for encoder in &self.0 {
            if !label.is_empty() {
                label.push_str(", ");
            }
            encoder.write(row, &mut label);
        }
        if label.is_empty() {
            write!(label, "row {row} of its batch").expect("writing to a string does not fail");
        }
        label
    }
}
