//! The columns of a batch in the order of a recipe, and the digests of its rows.
//! Neighbour: `super` counts what losses have changed.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, BinaryArray, StringArray};
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::source::OTHER_FIELDS;
use whimbrel_plugin_api::{Batch, Error, Schema};

use super::Pair;
use crate::verification::canonical::{ColumnEncoder, Encoded};
use crate::verification::losses::{FieldLosses, Touched};

/// Keys of the hash: what is hashed with one is never taken for what is hashed with the other.
const RECORD_HASH_KEY: &[u8; 32] = b"whimbrel record digest version 1";
const OTHER_FIELDS_HASH_KEY: &[u8; 32] = b"whimbrel other fields, version 1";
const KEY_HASH_KEY: &[u8; 32] = b"whimbrel digest of key version 1";

/// A recipe, looked at once.
pub(in crate::verification) struct Plan {
    fields: Vec<(String, FieldLosses)>,
    /// The positions of the key's fields, in the order of the key.
    key: Vec<usize>,
}

/// For each field of a plan, where a batch has it.
pub(super) type Columns = Vec<Option<usize>>;

impl Plan {
    /// Of fields, the names of those that are the key, and what is lost of them.
    pub(in crate::verification) fn new(schema: &Schema, key: &[String], losses: &[FieldLoss]) -> Self {
        let field =
            |field: &whimbrel_plugin_api::Field| (field.name.clone(), FieldLosses::of(&field.name, losses));
        Self {
            fields: schema.fields.iter().map(field).collect(),
            key: key.iter().filter_map(|name| schema.index_of(name)).collect(),
        }
    }

    /// Whether records are known by their keys rather than as a whole.
    pub(in crate::verification) fn is_keyed(&self) -> bool {
        !self.key.is_empty()
    }

    pub(super) fn losses(&self, field: usize) -> FieldLosses {
        self.fields[field].1
    }

    pub(super) fn columns_of(&self, schema: &Schema) -> Columns {
        self.fields
            .iter()
            .map(|(name, _)| schema.index_of(name))
            .collect()
    }
}

/// What making digests needs beside the columns; kept from row to row.
#[derive(Default)]
pub(in crate::verification) struct Work {
    encoded: Encoded,
    /// Behind each field.
    ends: Vec<usize>,
    key: Vec<u8>,
    /// Fields of the last row that losses have changed.
    pub(super) touched: Vec<(usize, Touched)>,
}

/// A batch, ready for its rows to be digested.
pub(in crate::verification) struct Rows {
    columns: Vec<Column>,
    key: Vec<usize>,
    presence: Option<BinaryArray>,
    /// Of each record the names of fields that the recipe lacks, as JSON, if the side was asked for them and knows.
    others: Option<StringArray>,
}

struct Column {
    losses: FieldLosses,
    /// The position in the batch and the values; `None` if the batch lacks the field.
    values: Option<(usize, ColumnEncoder)>,
}

impl Rows {
    /// `batch` by `plan`.
    pub(in crate::verification) fn new(plan: &Plan, batch: &Batch) -> Self {
        Self::with_columns(plan, &plan.columns_of(&batch.schema), batch)
    }

    pub(super) fn with_columns(plan: &Plan, columns: &Columns, batch: &Batch) -> Self {
        let column = |((_, losses), index): (&(String, FieldLosses), &Option<usize>)| Column {
            losses: *losses,
            values: index.map(|index| {
                // A side may hold the values in a type of its own.
                let theirs = &batch.schema.fields[index].record_type;
                (
                    index,
                    ColumnEncoder::new(theirs, batch.records.column(index), *losses),
                )
            }),
        };
        let mask = batch.schema.fields.len();
        let is_in_recipe = plan.fields.iter().any(|(name, _)| name == OTHER_FIELDS);
        let others = batch.schema.index_of(OTHER_FIELDS).filter(|_| !is_in_recipe);
        let others = others.and_then(|index| batch.records.column(index).as_string_opt::<i32>().cloned());
        Self {
            columns: plan.fields.iter().zip(columns).map(column).collect(),
            key: plan.key.clone(),
            presence: batch
                .schema
                .presence
                .then(|| batch.records.column(mask).as_binary::<i32>().clone()),
            // Most often no record of a batch has any.
            others: others.filter(|others| others.null_count() < others.len()),
        }
    }

    /// The digests of the record in `row`.
    #[inline]
    pub(in crate::verification) fn pair(&self, row: usize, work: &mut Work) -> Result<Pair, Error> {
        work.encoded.clear();
        work.ends.clear();
        work.touched.clear();
        let mask = self.mask(row);
        for (index, column) in self.columns.iter().enumerate() {
            column.encode(row, mask, &mut work.encoded)?;
            work.ends.push(work.encoded.octets().len());
            let touched = work.encoded.take_touched();
            if !touched.is_none() {
                work.touched.push((index, touched));
            }
        }
        let mut record = digest(RECORD_HASH_KEY, work.encoded.octets());
        if let Some(names) = self.names_of_others(row) {
            // With fields that the recipe lacks it is like no record of the other side.
            let octets = [&record.to_be_bytes()[..], names.as_bytes()].concat();
            record = digest(OTHER_FIELDS_HASH_KEY, &octets);
        }
        let key = match self.key[..] {
            [] => record,
            [column] => digest(KEY_HASH_KEY, work.field(column)),
            _ => {
                let mut key = std::mem::take(&mut work.key);
                key.clear();
                for column in &self.key {
                    key.extend_from_slice(work.field(*column));
                }
                let digest = digest(KEY_HASH_KEY, &key);
                work.key = key;
                digest
            }
        };
        Ok(Pair { key, record })
    }

    /// By what the record in `row` is known. If it has a key nothing else is looked at, so that other values may be none.
    pub(in crate::verification) fn key(&self, row: usize, work: &mut Work) -> Result<u128, Error> {
        if self.key.is_empty() {
            return Ok(self.pair(row, work)?.key);
        }
        work.encoded.clear();
        let mask = self.mask(row);
        for column in &self.key {
            self.columns[*column].encode(row, mask, &mut work.encoded)?;
        }
        Ok(digest(KEY_HASH_KEY, work.encoded.octets()))
    }

    /// The digest of each field of the record in `row`.
    pub(in crate::verification) fn fields(&self, row: usize, work: &mut Work) -> Result<Vec<u128>, Error> {
        let mask = self.mask(row);
        let field = |column: &Column| {
            work.encoded.clear();
            column.encode(row, mask, &mut work.encoded)?;
            Ok(digest(RECORD_HASH_KEY, work.encoded.octets()))
        };
        self.columns.iter().map(field).collect()
    }

    /// The names of the fields that the record in `row` has and the recipe lacks, if the side was asked for them and knows.
    pub(in crate::verification) fn others(&self, row: usize) -> Vec<String> {
        let names = self.names_of_others(row);
        // What is no list is still something that the record has besides.
        names.map_or_else(Vec::new, |names| {
            serde_json::from_str(names).unwrap_or_else(|_| vec![OTHER_FIELDS.to_owned()])
        })
    }

    #[inline]
    fn names_of_others(&self, row: usize) -> Option<&str> {
        let others = self.others.as_ref()?;
        others.is_valid(row).then(|| others.value(row))
    }

    #[inline]
    fn mask(&self, row: usize) -> Option<&[u8]> {
        self.presence.as_ref().map(|presence| presence.value(row))
    }

    /// The canonical form of the record in `row`.
    #[cfg(test)]
    pub(super) fn form<'a>(&self, row: usize, work: &'a mut Work) -> Result<&'a [u8], Error> {
        self.pair(row, work)?;
        Ok(work.encoded.octets())
    }
}

impl Column {
    #[inline]
    fn encode(&self, row: usize, mask: Option<&[u8]>, encoded: &mut Encoded) -> Result<(), Error> {
        let Some((index, values)) = &self.values else {
            encoded.put_missing(self.losses);
            return Ok(());
        };
        let is_present = mask.is_none_or(|mask| {
            mask.get(index / 8)
                .is_some_and(|octet| octet >> (index % 8) & 1 == 1)
        });
        values.encode(row, is_present, encoded)
    }
}

impl Work {
    fn field(&self, column: usize) -> &[u8] {
        let from = column.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.encoded.octets()[from..self.ends[column]]
    }
}

#[inline]
fn digest(key: &[u8; 32], octets: &[u8]) -> u128 {
    let hash = blake3::keyed_hash(key, octets);
    let head = hash.as_bytes().first_chunk().expect("a hash has 32 octets");
    u128::from_be_bytes(*head)
}
