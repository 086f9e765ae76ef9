//! Records that the sink has refused, with what is kept of them: their data and what a comparison knows them by.
//!
//! The data is the row as a JSON object of the batch's schema, exact and read back by the decoder of the same schema, whatever the
//! sink has said of it; a row of any size is kept whole, since keeping it is what the state is for. Only refused rows cost anything.
//! Neighbours: `totals` adds up what was refused, `outcomes` announces it, [`crate::state`] keeps it.

use std::ops::Deref;

use whimbrel_plugin_api::json_form::{JsonNull, RowEncoder};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, Collection};

use crate::verification::left_out;
use crate::verification::side::Digest;

/// A refused record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which one and why.
    pub record: RejectedRecord,
    /// By what a comparison knows it; none if the source refused it, or nobody could compare it either.
    pub digest: Option<Digest>,
}

impl Refused {
    /// What is known of it, but for the record itself.
    pub fn without_data(&self) -> Self {
        Self {
            record: RejectedRecord {
                record: self.record.record.clone(),
                row: self.record.row,
                code: self.record.code.clone(),
                message: self.record.message.clone(),
                data: None,
            },
            digest: self.digest,
        }
    }
}

impl From<RejectedRecord> for Refused {
    fn from(record: RejectedRecord) -> Self {
        Self { record, digest: None }
    }
}

impl Deref for Refused {
    type Target = RejectedRecord;

    fn deref(&self) -> &RejectedRecord {
        &self.record
    }
}

/// Adds what is kept of `refused`, each of which names its row in `batch`, on its way into `collection`. `whole` is the same batch
/// before fields were held back from it, row by row.
pub fn complete(collection: &Collection, batch: &Batch, whole: &Batch, refused: &mut [Refused]) {
    if refused.is_empty() {
        return;
    }
    let encoder = RowEncoder::new(&whole.schema, &whole.records).ok();
    for one in refused {
        let Some(row) = one.record.row.filter(|row| *row < batch.record_count() as u64) else {
            continue;
        };
        one.digest = left_out::digests(collection, batch, [row]).pop();
        if let Some(encoder) = &encoder
            && let Some(data) = line(encoder, row)
        {
            one.record.data = Some(data);
        }
    }
}

/// The record in `row` as it is read back; where a JSON `null` cannot be told from no value, as that.
fn line(encoder: &RowEncoder, row: u64) -> Option<String> {
    let row = usize::try_from(row).ok().filter(|row| *row < encoder.len())?;
    let mut text = Vec::new();
    if encoder.write_line(row, &mut text).is_err() {
        let lenient = encoder.clone().with_json_null(JsonNull::AsNull);
        lenient.write_line(row, &mut text).ok()?;
    }
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
    use whimbrel_plugin_api::json_form::RowDecoder;
    use whimbrel_plugin_api::{Field, RecordType, Schema};

    use super::*;

    fn collection() -> Collection {
        let fields = vec![
            Field::required("id", RecordType::INT64),
            Field::new("name", RecordType::Text),
            Field::new("raw", RecordType::Bytes),
        ];
        let mut collection = Collection::new("users", Schema::new(fields));
        collection.key = vec!["id".to_owned()];
        collection
    }

    fn batch(names: [Option<&str>; 3]) -> Batch {
        let schema = Arc::new(collection().schema);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, i64::MAX, 3])),
            Arc::new(StringArray::from(names.to_vec())),
            Arc::new(BinaryArray::from_opt_vec(vec![
                None,
                Some(b"\x00\xff"),
                Some(b""),
            ])),
        ];
        let records = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
        Batch::new(schema, records).unwrap()
    }

    fn refused(row: Option<u64>, data: Option<&str>) -> Refused {
        let record = RejectedRecord {
            record: "r".into(),
            row,
            code: "a.b".into(),
            message: "m".into(),
            data: data.map(str::to_owned),
        };
        record.into()
    }

    #[test]
    fn the_data_of_a_refused_row_reads_back_as_the_row() {
        let long = "x".repeat(10_000_000);
        let batch = batch([Some(&long), Some("a\u{0}\"b"), None]);
        let mut records = [refused(Some(1), Some("cut")), refused(Some(0), None)];
        complete(&collection(), &batch, &batch, &mut records);
        for (one, row) in records.iter().zip([1, 0]) {
            let mut decoder = RowDecoder::new(&batch.schema, 1).unwrap();
            decoder.push_line(one.record.data.as_deref().unwrap()).unwrap();
            assert_eq!(decoder.finish().unwrap(), batch.records.slice(row, 1));
        }
        let known = left_out::digests(&collection(), &batch, [1, 0]);
        assert_eq!(records.map(|one| one.digest.unwrap()).to_vec(), known);
    }

    #[test]
    fn fields_that_a_first_pass_holds_back_are_in_the_data() {
        let (written, whole) = (batch([None, None, None]), batch([Some("a"), Some("b"), None]));
        let mut records = [refused(Some(1), None)];
        complete(&collection(), &written, &whole, &mut records);
        let data = records[0].record.data.as_deref().unwrap();
        assert!(data.contains("\"name\":\"b\""), "{data}");
    }

    #[test]
    fn a_record_without_a_row_keeps_what_was_said_of_it() {
        let batch = batch([None, None, None]);
        let mut records = [refused(None, Some("text")), refused(Some(7), None)];
        complete(&collection(), &batch, &batch, &mut records);
        assert_eq!(records, [refused(None, Some("text")), refused(Some(7), None)]);
    }
}
