//! Fields that close a circle of references: null in a first pass, set in a second one.
//! Neighbours: [`crate::plan`] chooses them, `writer` asks here what it is to write.

use std::sync::Arc;

use arrow_array::{Array as _, BooleanArray, RecordBatch, new_null_array};
use whimbrel_plugin_api::{Batch, Error, Result};

/// What a pass does with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HeldBack {
    /// There are none.
    #[default]
    Nothing,
    /// They are written null.
    Null(Arc<[String]>),
    /// Records that have one of them are written once more; all others are as they should be.
    Set(Arc<[String]>),
}

impl HeldBack {
    /// Whether records were written before.
    pub fn is_second_pass(&self) -> bool {
        matches!(self, Self::Set(_))
    }

    /// The part of `batch` that is written, as it is written. Its facts stay, so that the cursor moves on.
    ///
    /// # Errors
    /// Only if columns do not fit together, which would be a defect.
    pub fn apply(&self, batch: Batch) -> Result<Batch> {
        match self {
            Self::Nothing => Ok(batch),
            Self::Null(fields) => with_nulls(batch, fields),
            Self::Set(fields) => only_with(batch, fields),
        }
    }
}

fn with_nulls(mut batch: Batch, fields: &[String]) -> Result<Batch> {
    let mut columns = batch.records.columns().to_vec();
    for index in fields.iter().filter_map(|field| batch.schema.index_of(field)) {
        columns[index] = new_null_array(columns[index].data_type(), batch.record_count());
    }
    batch.records = RecordBatch::try_new(batch.records.schema(), columns).map_err(|error| misfit(&error))?;
    Ok(batch)
}

fn only_with(mut batch: Batch, fields: &[String]) -> Result<Batch> {
    let columns: Vec<_> = fields
        .iter()
        .filter_map(|field| batch.schema.index_of(field))
        .map(|index| batch.records.column(index))
        .collect();
    let wanted: BooleanArray = (0..batch.record_count())
        .map(|row| Some(columns.iter().any(|column| column.is_valid(row))))
        .collect();
    if wanted.true_count() < batch.record_count() {
        batch.records = arrow_select::filter::filter_record_batch(&batch.records, &wanted)
            .map_err(|error| misfit(&error))?;
    }
    Ok(batch)
}

fn misfit(error: &arrow_schema::ArrowError) -> Error {
    Error::internal("a batch could not be made for one of two passes").with_cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use whimbrel_plugin_api::{Cursor, Field, RecordType, Schema};

    fn batch() -> Batch {
        let schema = Arc::new(Schema::new(vec![
            Field::required("id", RecordType::INT64),
            Field::new("boss", RecordType::INT64),
            Field::new("name", RecordType::Text),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 2, 3])),
            Arc::new(Int64Array::from(vec![None, Some(1), None])),
            Arc::new(StringArray::from(vec![Some("a"), None, Some("c")])),
        ];
        let records = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
        Batch::new(schema, records).unwrap().with_cursor(Cursor(vec![7]))
    }

    fn numbers(batch: &Batch, column: usize) -> Vec<Option<i64>> {
        batch
            .records
            .column(column)
            .as_primitive::<Int64Type>()
            .iter()
            .collect()
    }

    #[test]
    fn the_first_pass_writes_all_records_without_them_and_the_second_only_those_that_have_them() {
        let fields: Arc<[String]> = Arc::from(["boss".to_owned()]);
        let first = HeldBack::Null(Arc::clone(&fields)).apply(batch()).unwrap();
        assert_eq!(numbers(&first, 0), [Some(1), Some(2), Some(3)]);
        assert_eq!(numbers(&first, 1), [None, None, None]);
        assert_eq!(first.records.column(2).null_count(), 1);
        let second = HeldBack::Set(fields).apply(batch()).unwrap();
        assert_eq!(
            (numbers(&second, 0), numbers(&second, 1)),
            (vec![Some(2)], vec![Some(1)])
        );
        for made in [&first, &second] {
            assert_eq!(made.facts.cursor, Cursor(vec![7]));
        }
        let none: Arc<[String]> = Arc::from(["gone".to_owned()]);
        assert_eq!(HeldBack::Set(none).apply(batch()).unwrap().record_count(), 0);
    }
}
