//! The transform, which changes nothing, and the ways to spoil a batch, which the source shares.
//!
//! The lies need `unsafe`, since the plugin API refuses to make them.

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::{Array as _, BooleanArray};
use whimbrel_plugin_api::arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use whimbrel_plugin_api::arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use whimbrel_plugin_api::transform::{Applied, Plan};
use whimbrel_plugin_api::{Batch, Collection, Error, OpenTransform, Result, Services, Transform};

use crate::config::{Call, How, ScriptedConfig};
use crate::script::Script;

/// The transform role.
pub struct ScriptedTransform {
    script: Script,
    collection: String,
}

impl OpenTransform for ScriptedTransform {
    type Config = ScriptedConfig;

    fn open(config: ScriptedConfig, services: Services) -> Result<Self> {
        let script = Script::new(config, services);
        script.play(Call::Open)?;
        Ok(Self {
            script,
            collection: String::new(),
        })
    }
}

impl Drop for ScriptedTransform {
    fn drop(&mut self) {
        // There is nobody to hand an error to.
        drop(self.script.act(Call::Close));
    }
}

impl Transform for ScriptedTransform {
    fn plan(&mut self, collection: &Collection) -> Result<Plan> {
        self.script.play(Call::Plan)?;
        self.collection.clone_from(&collection.name);
        Ok(Plan {
            outputs: vec![collection.clone()],
        })
    }

    fn apply(&mut self, batch: &Batch) -> Result<Applied> {
        Ok(match self.script.play(Call::Apply)? {
            Some(How::UnplannedOutput) => Applied::one("nobody_planned_this", batch.clone()),
            Some(how) => Applied::one(&self.collection, spoilt(batch.clone(), how)?),
            None => Applied::one(&self.collection, batch.clone()),
        })
    }

    fn rule(&mut self, batch: &Batch) -> Result<BooleanArray> {
        let lie = self.script.play(Call::Rule)? == Some(How::WrongRecordCount);
        Ok(BooleanArray::from(vec![
            true;
            batch.record_count() + usize::from(lie)
        ]))
    }
}

/// The batch with a lie in it. Nothing of this goes through [`Batch::new`], which would refuse it.
pub(crate) fn spoilt(mut batch: Batch, how: How) -> Result<Batch> {
    let rows = batch.record_count();
    let mut columns = batch.records.columns().to_vec();
    let text = columns
        .iter()
        .position(|column| column.as_any().is::<StringArray>());
    let at = text.ok_or_else(|| Error::internal("there is no text column to spoil"))?;
    let mut said = rows;
    let mut arrow = batch.schema.to_arrow();
    match how {
        How::WrongLength => columns[at] = text_with(vec![b'a'; rows], rows, 1_000_000)?,
        How::NotUtf8 => columns[at] = text_with(vec![0xff; rows], rows, rows)?,
        How::WrongSchema => columns[at] = Arc::new(Int64Array::from(vec![7; rows])),
        How::WrongRecordCount => said = rows + 1_000,
        How::NullInRequired => columns[0] = Arc::new(Int64Array::from(vec![None::<i64>; rows])),
        _ => return Ok(batch),
    }
    let fields: Vec<_> = arrow
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| {
            field
                .as_ref()
                .clone()
                .with_data_type(column.data_type().clone())
                .with_nullable(true)
        })
        .collect();
    arrow = Arc::new(whimbrel_plugin_api::arrow_schema::Schema::new(fields));
    batch.records = if said == rows {
        RecordBatch::try_new_with_options(arrow, columns, &RecordBatchOptions::new())?
    } else {
        #[expect(unsafe_code, reason = "the test wants a batch that lies about its length")]
        // SAFETY: none; nobody on this side looks at the records again, and the host must refuse them.
        unsafe {
            RecordBatch::new_unchecked(arrow, columns, said)
        }
    };
    Ok(batch)
}

/// A text column of one octet per record, whose last record ends at `end`.
fn text_with(octets: Vec<u8>, rows: usize, end: usize) -> Result<ArrayRef> {
    let mut offsets: Vec<i32> = (0..=rows as i32).collect();
    if let Some(last) = offsets.last_mut() {
        *last = i32::try_from(end).map_err(|_| Error::internal("the offset is too large"))?;
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    #[expect(unsafe_code, reason = "the test wants a column that lies about its text")]
    // SAFETY: none; nobody on this side looks at the texts again, and the host must refuse them.
    let column = unsafe { StringArray::new_unchecked(offsets, Buffer::from_vec(octets), None) };
    Ok(Arc::new(column))
}
