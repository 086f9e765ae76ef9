//! What is kept of one record that was looked at: the digests of its fields, its key as a person reads it, and its values
//! as text if somebody has asked for them. Nothing of the batch that it came in is held on to.
//!
//! Neighbours: `finding` and `second_look` read the records, `suspect` compares what was seen of both sides.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, RecordBatch, UInt32Array};
use arrow_select::take::take;
use whimbrel_plugin_api::json_form::JsonEncoder;
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{Batch, Error, RecordType, Schema};

use crate::verification::digest::{Digester, FieldDigests, Pair, Recipe};

/// Characters of a key value that are shown.
const KEY_CHARS_MAX: usize = 80;
/// Characters of any other value that are shown.
const VALUE_CHARS_MAX: usize = 300;

/// A record that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// The digest of the whole record.
    pub(super) record: u128,
    /// Of all records with this key added up, modulo 2^128.
    pub(super) sum: u128,
    /// Records with this key.
    pub(super) copies: u64,
    /// Digests of the single fields, in the order of the recipe.
    pub(super) fields: Vec<u128>,
    /// Fields that it has and the recipe lacks, as far as that was asked for.
    pub(super) others: Vec<String>,
    /// The values as text, in the same order, if they are to be shown; none of a field that the record does not have.
    pub(super) texts: Vec<Option<String>>,
    /// Its key as a person reads it: `id=7, part=2`.
    pub(super) label: String,
    /// Whether a declared loss changes one of its values.
    pub(super) is_lossy: bool,
}

/// How records are looked at.
#[derive(Clone, Copy)]
pub(super) struct Eyes<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) shows_values: bool,
}

impl Eyes<'_> {
    /// The digests of all records of `batch`.
    ///
    /// # Errors
    /// `verification.bad_value`.
    pub(super) fn pairs(&self, batch: &Batch) -> Result<Vec<Pair>, Error> {
        let mut pairs = Vec::with_capacity(batch.record_count());
        Digester::new(self.recipe.clone()).digest(batch, &mut pairs)?;
        Ok(pairs)
    }

    /// What is kept of the record in `row`, whose digest is `record`.
    ///
    /// # Errors
    /// `verification.bad_value`.
    pub(super) fn see(&self, batch: &Batch, row: usize, record: u128) -> Result<Seen, Error> {
        let alone = one(batch, row);
        let fields = Fields { batch, row };
        let mut texts = Vec::new();
        if self.shows_values {
            for field in &self.recipe.schema.fields {
                texts.push(fields.text(&field.name, VALUE_CHARS_MAX)?);
            }
        }
        let mut digests = FieldDigests::new(self.recipe, &alone);
        Ok(Seen {
            record,
            sum: record,
            copies: 1,
            others: digests.others(0),
            fields: digests.of(0)?,
            texts,
            label: self.label(batch, row)?,
            is_lossy: self.is_lossy(&alone)?,
        })
    }

    /// The key of the record in `row` as a person reads it.
    ///
    /// # Errors
    /// `internal` if a value has no text.
    pub(super) fn label(&self, batch: &Batch, row: usize) -> Result<String, Error> {
        if self.recipe.key.is_empty() {
            return Ok("a record without key".to_owned());
        }
        let fields = Fields { batch, row };
        let mut label = String::new();
        for name in &self.recipe.key {
            if !label.is_empty() {
                label.push_str(", ");
            }
            label.push_str(name);
            label.push('=');
            match fields.text(name, KEY_CHARS_MAX)? {
                Some(text) => label.push_str(&text),
                None => label.push('?'),
            }
        }
        Ok(label)
    }

    fn is_lossy(&self, alone: &Batch) -> Result<bool, Error> {
        if self.recipe.losses.is_empty() {
            return Ok(false);
        }
        let mut digester = Digester::new(self.recipe.clone());
        digester.digest(alone, &mut Vec::with_capacity(1))?;
        let (_, touched_record_count) = digester.altered();
        Ok(touched_record_count > 0)
    }
}

/// The record in `row` as a batch of its own, still within the memory of the whole.
fn one(batch: &Batch, row: usize) -> Batch {
    Batch {
        schema: Arc::clone(&batch.schema),
        records: batch.records.slice(row, 1),
        facts: batch.facts.clone(),
    }
}

/// `fields` of the record in `row`, in memory of their own; none if the batch lacks one or the record has no value in one.
///
/// # Errors
/// `internal` if Arrow refuses.
pub(in crate::verification) fn key_of(
    batch: &Batch,
    row: usize,
    fields: &[String],
) -> Result<Option<Batch>, Error> {
    let indexes: Option<Vec<usize>> = fields.iter().map(|name| batch.schema.index_of(name)).collect();
    let Some(indexes) = indexes.filter(|indexes| !indexes.is_empty()) else {
        return Ok(None);
    };
    let row = u32::try_from(row).map_err(|_| Error::internal("a batch has more than 2^32 records"))?;
    let rows = UInt32Array::from(vec![row]);
    let columns: Vec<ArrayRef> = indexes
        .iter()
        .map(|index| take(batch.records.column(*index), &rows, None))
        .collect::<Result<_, _>>()?;
    if columns.iter().any(|column| column.is_null(0)) {
        return Ok(None);
    }
    let fields = indexes.iter().map(|index| batch.schema.fields[*index].clone());
    let schema = Arc::new(Schema::new(fields.collect()));
    let records = RecordBatch::try_new(schema.to_arrow(), columns)?;
    Ok(Some(Batch::new(schema, records)?))
}

/// The fields of one record.
struct Fields<'a> {
    batch: &'a Batch,
    row: usize,
}

impl Fields<'_> {
    fn index(&self, name: &str) -> Option<usize> {
        self.batch.schema.index_of(name)
    }

    fn is_present(&self, index: usize) -> bool {
        if !self.batch.schema.presence {
            return true;
        }
        let mask = self.batch.records.column(self.batch.schema.fields.len());
        let octets = mask.as_binary::<i32>().value(self.row);
        octets
            .get(index / 8)
            .is_some_and(|octet| octet >> (index % 8) & 1 == 1)
    }

    /// The value as text, cut off behind `chars_max`; none if the record does not have the field.
    fn text(&self, name: &str, chars_max: usize) -> Result<Option<String>, Error> {
        let Some(index) = self.index(name).filter(|index| self.is_present(*index)) else {
            return Ok(None);
        };
        let record_type = &self.batch.schema.fields[index].record_type;
        let column = self.batch.records.column(index).slice(self.row, 1);
        if column.is_null(0) {
            return Ok(Some("null".to_owned()));
        }
        let mut text = text_of(record_type, &column)?;
        if let Some((end, _)) = text.char_indices().nth(chars_max) {
            text.truncate(end);
            text.push_str("...");
        }
        Ok(Some(text))
    }
}

fn text_of(record_type: &RecordType, column: &ArrayRef) -> Result<String, Error> {
    if let RecordType::List { .. } | RecordType::Struct { .. } | RecordType::Geopoint | RecordType::Vector =
        record_type
    {
        let mut json = Vec::new();
        JsonEncoder::new(record_type, column)?.write(0, &mut json)?;
        return Ok(String::from_utf8_lossy(&json).into_owned());
    }
    let mut text = String::new();
    TextEncoder::new(record_type, column)?.write(0, &mut text);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{FixedSizeBinaryBuilder, Int64Builder, ListBuilder};
    use arrow_array::{
        BinaryArray, Date32Array, Decimal128Array, Int8Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    };
    use whimbrel_plugin_api::Field;

    use super::*;

    fn batch(columns: Vec<(&str, RecordType, ArrayRef)>) -> Batch {
        let fields = columns
            .iter()
            .map(|(name, record_type, _)| Field::new(*name, record_type.clone()));
        let schema = Arc::new(Schema::new(fields.collect()));
        let columns = columns.into_iter().map(|(_, _, column)| column).collect();
        let records = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
        Batch::new(schema, records).unwrap()
    }

    fn recipe(batch: &Batch, key: &[&str]) -> Recipe {
        Recipe {
            schema: (*batch.schema).clone(),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            losses: Vec::new(),
        }
    }

    fn keys() -> Batch {
        let mut uuids = FixedSizeBinaryBuilder::new(16);
        uuids.append_value([0x12; 16]).unwrap();
        let mut lists = ListBuilder::new(Int64Builder::new())
            .with_field(Arc::new(Field::new("item", RecordType::INT64).to_arrow()));
        lists.append_value([Some(1), None]);
        let decimal = RecordType::Decimal {
            precision: 10,
            scale: 2,
        };
        let decimals = Decimal128Array::from(vec![1_250])
            .with_precision_and_scale(10, 2)
            .unwrap();
        batch(vec![
            (
                "small",
                RecordType::Int { bits: 8 },
                Arc::new(Int8Array::from(vec![-7])),
            ),
            ("uuid", RecordType::Uuid, Arc::new(uuids.finish())),
            ("price", decimal, Arc::new(decimals)),
            ("day", RecordType::Date, Arc::new(Date32Array::from(vec![19_782]))),
            (
                "at",
                RecordType::Timestamp,
                Arc::new(TimestampMicrosecondArray::from(vec![1_500_000])),
            ),
            (
                "octets",
                RecordType::Bytes,
                Arc::new(BinaryArray::from(vec![&[1_u8, 255][..]])),
            ),
            (
                "list",
                RecordType::list(RecordType::INT64),
                Arc::new(lists.finish()),
            ),
            (
                "nothing",
                RecordType::Text,
                Arc::new(StringArray::from(vec![None::<&str>])),
            ),
            (
                "long",
                RecordType::Text,
                Arc::new(StringArray::from(vec!["ü".repeat(200)])),
            ),
        ])
    }

    #[test]
    fn a_key_of_any_type_can_be_read_and_is_never_long() {
        let batch = keys();
        let names: Vec<&str> = batch
            .schema
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        let eyes = Eyes {
            recipe: &recipe(&batch, &names),
            shows_values: false,
        };
        let wanted = format!(
            "small=-7, uuid=12121212-1212-1212-1212-121212121212, price=12.50, day=2024-02-29, \
             at=1970-01-01T00:00:01.500000, octets=01ff, list=[1,null], nothing=null, long={}...",
            "ü".repeat(80)
        );
        assert_eq!(eyes.label(&batch, 0).unwrap(), wanted);
        let keyless = Eyes {
            recipe: &recipe(&batch, &[]),
            shows_values: false,
        };
        assert_eq!(keyless.label(&batch, 0).unwrap(), "a record without key");
    }

    #[test]
    fn a_key_stands_alone_and_is_none_without_all_its_values() {
        let ids: Int64Array = (0..1_000).collect();
        let names: StringArray = (0..1_000).map(|id| (id != 7).then(|| format!("n{id}"))).collect();
        let batch = batch(vec![
            ("id", RecordType::INT64, Arc::new(ids)),
            ("name", RecordType::Text, Arc::new(names)),
        ]);
        let key = |row: usize, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            key_of(&batch, row, &names).unwrap()
        };
        let found = key(500, &["name", "id"]).unwrap();
        assert_eq!(found.record_count(), 1);
        assert_eq!(found.schema.fields[0].name, "name");
        assert_eq!(found.records.column(0).as_string::<i32>().value(0), "n500");
        assert!(
            found.records.get_array_memory_size() < 2_000,
            "it holds on to the batch that it came in"
        );
        assert!(key(7, &["name"]).is_none());
        assert!(key(7, &["gone"]).is_none());
        assert!(key(7, &[]).is_none());
    }
}
