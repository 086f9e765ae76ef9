//! A transform that judges records, and what records are called.
//!
//! Neighbour: [`super`], which reads the records and counts.

use std::sync::Arc;

use arrow_array::{Array as _, RecordBatch};
use whimbrel_plugin_api::json_form::JsonEncoder;
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{Batch, Error, ErrorKind};

use crate::config::{RuleJob, RuleSide};
use crate::events::Failure;
use crate::loader::observe::OpenedTransform;
use crate::plan::PlannedCollection;
use crate::transform::Transforms;

/// Characters of a key value that are shown.
const VALUE_CHARS_MAX: usize = 80;

/// The opened transform of a rule.
pub(super) struct Judge(OpenedTransform);

impl Judge {
    /// # Errors
    /// What the plugin says to its config.
    pub(super) fn open(transforms: &Transforms, rule: &RuleJob) -> Result<Self, Failure> {
        let plugin = rule.plugin.as_deref().unwrap_or_default();
        transforms.open_one(plugin, &rule.config).map(Self)
    }

    /// Sees whether it can judge records of the collection at all, without any.
    ///
    /// # Errors
    /// What the plugin says to the fields.
    pub(super) fn try_out(&mut self, planned: &PlannedCollection, side: RuleSide) -> Result<(), Failure> {
        let schema = match side {
            RuleSide::Source => &planned.source.schema,
            RuleSide::Sink => &planned.sink.schema,
        };
        let schema = Arc::new(schema.clone());
        let none = RecordBatch::new_empty(schema.to_arrow());
        let batch = Batch::new(schema, none).map_err(Failure::from)?;
        self.broken(&batch).map(drop)
    }

    /// The rows whose records break the rule.
    ///
    /// # Errors
    /// What the plugin brings; `plugin.wrong_receipt` if it does not judge each record.
    pub(super) fn broken(&mut self, batch: &Batch) -> Result<Vec<usize>, Failure> {
        let judged = self.0.rule(batch)?;
        if judged.len() != batch.record_count() {
            let message = format!(
                "the transform has judged {} of {} records",
                judged.len(),
                batch.record_count()
            );
            return Err(Error::new(ErrorKind::Integrity, "plugin.wrong_receipt", message).into());
        }
        let is_broken = |row: &usize| judged.is_valid(*row) && !judged.value(*row);
        Ok((0..judged.len()).filter(is_broken).collect())
    }
}

/// What the records of a batch are called: the values of some fields as text.
pub(super) struct Labels(Vec<Column>);

enum Column {
    Text(TextEncoder),
    Json(JsonEncoder),
}

impl Labels {
    /// # Errors
    /// A column that is not what its schema says.
    pub(super) fn new(batch: &Batch, fields: &[String]) -> Result<Self, Failure> {
        let columns = fields.iter().filter_map(|name| batch.schema.index_of(name));
        let columns = columns.map(|index| {
            let record_type = &batch.schema.fields[index].record_type;
            let array = batch.records.column(index);
            match TextEncoder::new(record_type, array) {
                Ok(encoder) => Ok(Column::Text(encoder)),
                Err(_) => JsonEncoder::new(record_type, array).map(Column::Json),
            }
        });
        columns.collect::<Result<_, _>>().map(Self).map_err(Failure::from)
    }

    /// What the record of a row is called.
    pub(super) fn of(&self, row: usize) -> String {
        if self.0.is_empty() {
            return "a record without key".to_owned();
        }
        let values: Vec<String> = self.0.iter().map(|column| column.value(row)).collect();
        values.join(", ")
    }
}

impl Column {
    fn value(&self, row: usize) -> String {
        let mut text = String::new();
        match self {
            Self::Text(encoder) if encoder.is_null(row) => text.push_str("null"),
            Self::Text(encoder) => encoder.write(row, &mut text),
            Self::Json(encoder) => {
                let mut json = Vec::new();
                match encoder.write(row, &mut json) {
                    Ok(()) => text.push_str(&String::from_utf8_lossy(&json)),
                    // A value without a JSON form has no other either.
                    Err(_) => text.push('?'),
                }
            }
        }
        match text.char_indices().nth(VALUE_CHARS_MAX) {
            Some((end, _)) => text[..end].to_owned(),
            None => text,
        }
    }
}
