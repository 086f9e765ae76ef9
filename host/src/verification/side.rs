//! Reads one side of a comparison and keeps what is needed of it: a count and the digests of the chosen records.
//! Memory is bounded by the sample, not by the collection; keys that are counted have a limit of their own.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::source::{Item, OTHER_FIELDS, ReadRequest};
use whimbrel_plugin_api::{Batch, Error, Field, Schema};

use super::digest::{Plan, Rows, Work};
use super::full::key_of;
use super::left_out::LeftOut;
use crate::control::Stop;
use crate::events::Failure;
use crate::loader::observe::{OpenedSource, OpenedStream};
use crate::transform::Chain;

/// What a record is known by, the octets of a [`super::digest::Pair`]'s key: 128 bits of a keyed hash; the chance that two of 10^9 differing records share one is below 10^-20.
pub type Digest = [u8; 16];

/// Distinct keys that are counted; 16 octets each.
pub(super) const DISTINCT_KEYS_MAX: usize = 4_000_000;

/// How the records of both sides are turned into digests.
#[derive(Debug, Clone)]
pub struct Method {
    /// The fields, in the order in which they are encoded.
    pub schema: Schema,
    /// The key; empty if records have none.
    pub key: Vec<String>,
    /// What the mappings lose.
    pub losses: Vec<FieldLoss>,
    /// Which records are kept.
    pub choice: Choice,
    /// Records that are passed over.
    pub left_out: LeftOut,
}

/// Which records of a side are kept; the others are counted.
#[derive(Debug, Clone)]
pub enum Choice {
    /// None.
    Nothing,
    /// One of so many, chosen by its key, so that both sides choose the same ones; 1 keeps all.
    OneIn(u64),
    /// So many, as they come, with the keys to look them up by.
    First(usize),
    /// Those with these keys, with the keys to look them up by.
    These(HashSet<Digest>),
}

impl Choice {
    /// Whether a record is kept of which it `is_known` that one with its key is, beside `kept_count` others.
    fn takes(&self, key: &Digest, is_known: bool, kept_count: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::OneIn(many) => {
                let (head, _) = key.split_first_chunk::<8>().expect("a digest has 16 octets");
                u64::from_be_bytes(*head) % (*many).max(1) == 0
            }
            Self::First(count) => is_known || kept_count < *count,
            Self::These(keys) => keys.contains(key),
        }
    }

    /// Whether those that are kept are looked up elsewhere.
    fn keeps_keys(&self) -> bool {
        matches!(self, Self::First(_) | Self::These(_))
    }
}

/// What is known of one record.
#[derive(Debug, Clone)]
pub struct RecordDigest {
    /// How a person finds it.
    pub label: String,
    /// One digest per field, in the order of the schema.
    pub fields: Vec<u128>,
    /// How many records share the key and were equal so far.
    pub copies: u64,
    /// Fields that it has besides, if the side was asked to name them.
    pub others: Vec<String>,
    /// The values of its key, if it is to be looked up by them and has all of them.
    pub key: Option<Batch>,
}

/// What was read of one side.
#[derive(Debug, Default)]
pub struct Side {
    /// Records in all, but for those that were passed over.
    pub record_count: u64,
    /// Records that were passed over.
    pub left_out_count: u64,
    /// Records with a key that an earlier one had, among those that were counted.
    pub duplicate_key_count: u64,
    /// Whether further records came after so many keys that no more of them are told apart.
    pub counting_stopped: bool,
    /// The chosen records, by the digest of their key.
    pub records: HashMap<Digest, RecordDigest>,
    /// Records that could not be read, by label.
    pub unreadable: Vec<String>,
    /// How many a transform refused.
    pub refused_count: u64,
    /// Fields of the method's schema that this side lacks.
    pub missing_fields: Vec<String>,
    /// Fields of this side that the method's schema lacks, so that nothing of them was looked at.
    pub new_fields: Vec<Field>,
}

impl Side {
    /// Notes what the method does not know of.
    fn meet(&mut self, schema: &Schema, method: &Method) {
        for field in &schema.fields {
            let is_known = method.schema.index_of(&field.name).is_some() || field.name == OTHER_FIELDS;
            if !is_known && self.new_fields.iter().all(|known| known.name != field.name) {
                self.new_fields.push(field.clone());
            }
        }
    }

    /// Forgets the records that `other` does not have.
    pub fn keep_only(&mut self, other: &Self) {
        self.records.retain(|key, _| other.records.contains_key(key));
        self.record_count = self.records.values().map(|record| record.copies).sum();
        self.unreadable.clear();
    }
}

/// Reads all of `request` from `source`, through `chain` if there is one; `progress` is told of each batch.
///
/// # Errors
/// What the source brings.
pub fn read(
    source: &mut OpenedSource,
    request: &ReadRequest,
    chain: Option<Chain>,
    method: &Method,
    stop: &Stop,
    progress: &mut dyn FnMut(u64),
) -> Result<Side, Failure> {
    let stream = source.read(request)?;
    take_all(stream, chain, method, stop, progress)
}

/// Looks up the records of `source` with these `keys`.
///
/// # Errors
/// What the source brings, also that it cannot look up.
pub(super) fn look_up(
    source: &mut OpenedSource,
    request: &ReadRequest,
    keys: &Batch,
    method: &Method,
    stop: &Stop,
) -> Result<Side, Failure> {
    let stream = source.lookup(request, keys)?;
    take_all(stream, None, method, stop, &mut |_| {})
}

fn take_all(
    mut stream: OpenedStream,
    mut chain: Option<Chain>,
    method: &Method,
    stop: &Stop,
    progress: &mut dyn FnMut(u64),
) -> Result<Side, Failure> {
    let mut side = Side::default();
    let mut keys_seen: HashSet<Digest> = HashSet::new();
    let mut left_out = method.left_out.clone();
    let plan = Plan::new(&method.schema, &method.key, &method.losses);
    loop {
        if stop.is_raised() {
            return Err(Failure::from(Error::cancelled()));
        }
        match stream.next_item()? {
            Item::Schema(schema) => {
                if let Some(chain) = &mut chain {
                    // What transforms make of it was planned, unless it has grown since.
                    side.meet(&chain.grow(&schema)?.schema, method);
                    continue;
                }
                side.meet(&schema, method);
                side.missing_fields = method
                    .schema
                    .fields
                    .iter()
                    .filter(|field| schema.index_of(&field.name).is_none())
                    .map(|field| field.name.clone())
                    .collect();
            }
            Item::Batch(batch) => {
                progress(batch.record_count() as u64);
                match &mut chain {
                    None => add(&mut side, &mut keys_seen, &mut left_out, &batch, &plan, method)?,
                    // Records that a transform rejects are not in the sink; whether a run has listed them is judged later.
                    Some(chain) => {
                        let changed = chain.apply(batch)?;
                        side.refused_count += changed.rejected.len() as u64;
                        for batch in changed.batches {
                            add(&mut side, &mut keys_seen, &mut left_out, &batch, &plan, method)?;
                        }
                    }
                }
            }
            Item::Rejected(records) => {
                side.unreadable
                    .extend(records.into_iter().map(|record| record.record));
            }
            Item::End => return Ok(side),
            Item::Heartbeat { .. } | Item::TransactionEnd { .. } | Item::Truncate { .. } => {}
        }
    }
}

fn add(
    side: &mut Side,
    keys_seen: &mut HashSet<Digest>,
    left_out: &mut LeftOut,
    batch: &Batch,
    plan: &Plan,
    method: &Method,
) -> Result<(), Failure> {
    let (rows, mut work) = (Rows::new(plan, batch), Work::default());
    let is_keyed = plan.is_keyed();
    for row in 0..batch.record_count() {
        // Of a record with a key nothing else is looked at yet: what the sink has refused may be what has no form at all.
        let key = rows.key(row, &mut work)?.to_be_bytes();
        let is_left_out = if is_keyed {
            left_out.has(&key)
        } else {
            left_out.take(&key)
        };
        if is_left_out {
            side.left_out_count += 1;
            continue;
        }
        side.record_count += 1;
        if is_keyed && keys_seen.len() >= DISTINCT_KEYS_MAX {
            side.counting_stopped = true;
        } else if is_keyed && !keys_seen.insert(key) {
            side.duplicate_key_count += 1;
        }
        let kept_count = side.records.len();
        let known = side.records.get_mut(&key);
        if !method.choice.takes(&key, known.is_some(), kept_count) {
            continue;
        }
        match known {
            // The last of several with one key is what an overwriting sink keeps.
            Some(known) if is_keyed => {
                known.fields = rows.fields(row, &mut work)?;
                known.others = rows.others(row);
            }
            Some(known) => known.copies += 1,
            None => {
                let record = RecordDigest {
                    label: label(batch, method, row),
                    fields: rows.fields(row, &mut work)?,
                    copies: 1,
                    others: rows.others(row),
                    key: match method.choice.keeps_keys() {
                        true => key_of(batch, row, &method.key)?,
                        false => None,
                    },
                };
                side.records.insert(key, record);
            }
        }
    }
    Ok(())
}

/// Characters of a key value that are shown.
const LABEL_CHARS_MAX: usize = 80;

/// The key as a person reads it: `id=7, part=2`.
fn label(batch: &Batch, method: &Method, row: usize) -> String {
    if method.key.is_empty() {
        return "a record without key".to_owned();
    }
    let mut parts: BTreeMap<usize, String> = BTreeMap::new();
    for (position, name) in method.key.iter().enumerate() {
        let Some(index) = batch.schema.index_of(name) else {
            continue;
        };
        let column = batch.records.column(index);
        let value = if column.is_null(row) {
            "null".to_owned()
        } else if let Some(text) = column.as_string_opt::<i32>() {
            text.value(row).chars().take(LABEL_CHARS_MAX).collect()
        } else if let Some(number) = column.as_primitive_opt::<arrow_array::types::Int64Type>() {
            number.value(row).to_string()
        } else if let Some(number) = column.as_primitive_opt::<arrow_array::types::Int32Type>() {
            number.value(row).to_string()
        } else {
            format!("record {row} of its batch")
        };
        parts.insert(position, format!("{name}={value}"));
    }
    parts.into_values().collect::<Vec<_>>().join(", ")
}
