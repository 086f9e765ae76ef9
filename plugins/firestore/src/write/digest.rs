//! Digests of records on their way: of those that went ahead of a checkpoint, and of those that the service has refused.
//! Not here: the digests by which a copy is verified, which are the host's. Neighbours: `kept`, `lane_commit`.

use std::collections::{BTreeMap, HashMap};

use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::write::Operation;
use gcloud_sdk::google::firestore::v1::{Value, Write};
use gcloud_sdk::prost::Message as _;

/// A digest of records, one after another. The octets of a write will not do: maps have no order.
#[derive(Clone, Default)]
pub(super) struct Digest(blake3::Hasher);

impl Digest {
    /// The digest of one record.
    pub(super) fn of(write: &Write) -> Vec<u8> {
        let mut digest = Self::default();
        digest.add(write);
        digest.octets()
    }

    /// The next record.
    pub(super) fn add(&mut self, write: &Write) {
        // What is merged differs from what replaces.
        self.0.update(&[u8::from(write.update_mask.is_some())]);
        match &write.operation {
            Some(Operation::Update(document)) => {
                hash_octets(&mut self.0, document.name.as_bytes());
                hash_map(&mut self.0, &document.fields);
            }
            Some(Operation::Delete(name)) => {
                self.0.update(b"d");
                hash_octets(&mut self.0, name.as_bytes());
            }
            _ => {}
        }
    }

    /// The digest of all so far.
    pub(super) fn octets(&self) -> Vec<u8> {
        self.0.finalize().as_bytes().to_vec()
    }
}

fn hash_octets(hasher: &mut blake3::Hasher, octets: &[u8]) {
    hasher.update(&(octets.len() as u64).to_be_bytes());
    hasher.update(octets);
}

fn hash_map(hasher: &mut blake3::Hasher, fields: &HashMap<String, Value>) {
    let ordered: BTreeMap<&String, &Value> = fields.iter().collect();
    hasher.update(&(ordered.len() as u64).to_be_bytes());
    for (name, value) in ordered {
        hash_octets(hasher, name.as_bytes());
        hash_value(hasher, value);
    }
}

fn hash_value(hasher: &mut blake3::Hasher, value: &Value) {
    match &value.value_type {
        Some(ValueType::MapValue(map)) => {
            hasher.update(b"m");
            hash_map(hasher, &map.fields);
        }
        Some(ValueType::ArrayValue(array)) => {
            hasher.update(b"a");
            hasher.update(&(array.values.len() as u64).to_be_bytes());
            array.values.iter().for_each(|value| hash_value(hasher, value));
        }
        // The octets of all others begin with their kind, and there is one form of each.
        _ => {
            hasher.update(b"v");
            hash_octets(hasher, &value.encode_to_vec());
        }
    }
}
