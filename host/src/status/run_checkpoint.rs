//! What `migration-checkpoint.json` says: what is durable in the sink, by collection and partition.
//!
//! For people. The sink's own record is the truth, and a resumed run asks the sink; what the file knows of the sink's commits is held
//! against it. A file says by a digest whether it is as it was written. Neighbour: `file_set.rs`, which writes it.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use whimbrel_plugin_api::{Cursor, Error};

use crate::canonical_json::canonical_json;

/// The version of this form. The first one had no digest.
pub const CHECKPOINT_FORMAT: u32 = 2;
/// Octets of a checkpoint that is read: some hundred thousand partitions.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The member that has the digest of all others.
const DIGEST: &str = "sha256";
/// Said in the file itself, since people edit files.
const NOTE: &str = "for people: the sink keeps the checkpoint that a resumed run uses";
/// What to do without the file.
const WITHOUT: &str = "resume without `--checkpoint-file`: the sink itself knows what is durable";

/// What is durable in the sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCheckpoint {
    /// The version of this form.
    pub format: u32,
    /// What this is not.
    pub note: String,
    /// The run.
    pub run_id: String,
    /// The run that began the copy, if this one goes on with it; empty if the sink alone knows which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_by: Option<String>,
    /// The job.
    pub job: String,
    /// When all of this was true.
    pub updated_at: DateTime<Utc>,
    /// Records that the copy made durable: this run, and those that it goes on with.
    pub record_count: u64,
    /// By collection of the source, then by partition.
    pub collections: BTreeMap<String, BTreeMap<String, PartitionCheckpoint>>,
    /// The digest of all other members, in hexadecimal digits; empty until it is written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

/// What is durable of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCheckpoint {
    /// The sink's own count of commits.
    pub seq: u64,
    /// Where the source goes on, as hexadecimal digits.
    pub cursor: Cursor,
    /// Records that the copy made durable.
    pub record_count: u64,
    /// Whether the partition is complete.
    pub done: bool,
    /// When the last transaction became durable.
    pub committed_at: DateTime<Utc>,
}

impl RunCheckpoint {
    /// Nothing is durable yet.
    pub fn new(run_id: &str, at: DateTime<Utc>) -> Self {
        Self {
            format: CHECKPOINT_FORMAT,
            note: NOTE.to_owned(),
            run_id: run_id.to_owned(),
            begun_by: None,
            job: String::new(),
            updated_at: at,
            record_count: 0,
            collections: BTreeMap::new(),
            sha256: String::new(),
        }
    }

    /// Takes note of a commit.
    pub fn commit(&mut self, collection: &str, partition: &str, mut now: PartitionCheckpoint) {
        self.record_count += now.record_count;
        let partitions = match self.collections.get_mut(collection) {
            Some(partitions) => partitions,
            None => self.collections.entry(collection.to_owned()).or_default(),
        };
        match partitions.get_mut(partition) {
            Some(before) => {
                now.record_count += before.record_count;
                *before = now;
            }
            None => {
                partitions.insert(partition.to_owned(), now);
            }
        }
    }

    /// Takes the sink's own word for a partition. When it became durable is known better where it was seen.
    pub fn find(&mut self, collection: &str, partition: &str, found: PartitionCheckpoint) {
        let partitions = self.collections.entry(collection.to_owned()).or_default();
        let mut before_count = 0;
        let mut committed_at = found.committed_at;
        match partitions.get(partition) {
            Some(known) if known.seq > found.seq => return,
            Some(known) => {
                before_count = known.record_count;
                if known.seq == found.seq {
                    committed_at = known.committed_at;
                }
            }
            None => {}
        }
        self.record_count = (self.record_count + found.record_count).saturating_sub(before_count);
        partitions.insert(
            partition.to_owned(),
            PartitionCheckpoint {
                committed_at,
                ..found
            },
        );
    }

    /// The collection is copied again from its start: what was durable of it counts no more.
    pub fn forget(&mut self, collection: &str) {
        let forgotten = self.collections.remove(collection).unwrap_or_default();
        let records: u64 = forgotten.values().map(|partition| partition.record_count).sum();
        self.record_count = self.record_count.saturating_sub(records);
    }

    /// Takes what `other` knows and this one does not: of each partition the later of both.
    pub fn merge(&mut self, other: Self) {
        for (collection, partitions) in other.collections {
            let known = self.collections.entry(collection).or_default();
            for (partition, theirs) in partitions {
                match known.get_mut(&partition) {
                    Some(ours) if (ours.seq, ours.record_count) >= (theirs.seq, theirs.record_count) => {}
                    Some(ours) => *ours = theirs,
                    None => {
                        known.insert(partition, theirs);
                    }
                }
            }
        }
        let partitions = self.collections.values().flat_map(BTreeMap::values);
        self.record_count = partitions.map(|partition| partition.record_count).sum();
    }

    /// How many commits of each partition are known, by collection and label of the partition.
    pub fn seqs(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let of = |partitions: &BTreeMap<String, PartitionCheckpoint>| {
            let seqs = partitions.iter();
            seqs.map(|(label, partition)| (label.clone(), partition.seq))
                .collect()
        };
        let collections = self.collections.iter();
        collections
            .map(|(name, partitions)| (name.clone(), of(partitions)))
            .collect()
    }

    /// With the digest of all other members.
    ///
    /// # Errors
    /// `plugin.internal` if it cannot be written as JSON, which is a defect.
    pub fn signed(&self) -> Result<Self, Error> {
        let value = serde_json::to_value(self).map_err(|error| {
            Error::internal("the checkpoint could not be written as JSON").with_cause(&error)
        })?;
        Ok(Self {
            sha256: digest(value),
            ..self.clone()
        })
    }

    /// Reads the file at `path`, which must be as it was written.
    ///
    /// # Errors
    /// `checkpoint.damaged`, `checkpoint.format`, or `checkpoint.unreadable` if it cannot be read at all.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let octets = read_file(path)?;
        Self::of_json(&octets).map_err(|error| error.with_place(path.display().to_string()))
    }

    fn of_json(octets: &[u8]) -> Result<Self, Error> {
        let value: Value = serde_json::from_slice(octets).map_err(|error| damaged().with_cause(&error))?;
        let format = value.get("format").and_then(Value::as_u64);
        let Some(said) = value.get(DIGEST) else {
            // A file of the first form never had one; of any later form it was taken away.
            return Err(match format {
                Some(1) => other_format(1),
                _ => damaged(),
            });
        };
        if said.as_str() != Some(digest(value.clone()).as_str()) {
            return Err(damaged());
        }
        match format {
            Some(format) if format > u64::from(CHECKPOINT_FORMAT) => Err(other_format(format)),
            _ => serde_json::from_value(value).map_err(|error| damaged().with_cause(&error)),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;
    let mut octets = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut octets));
    read.map_err(|error| {
        let message = format!("the checkpoint file `{}` cannot be read", path.display());
        Error::config("checkpoint.unreadable", message)
            .with_help(format!("look at its name and its rights, or {WITHOUT}"))
            .with_cause(&error)
    })?;
    if octets.len() as u64 > FILE_BYTES_MAX {
        return Err(damaged().with_place(path.display().to_string()));
    }
    Ok(octets)
}

/// The digest of all members of `value` but the digest itself, written without spaces and with sorted keys.
fn digest(mut value: Value) -> String {
    if let Value::Object(members) = &mut value {
        members.remove(DIGEST);
    }
    let octets = Sha256::digest(canonical_json(&value).as_bytes());
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn damaged() -> Error {
    let message =
        "the checkpoint file is not as it was written: it was cut short, changed by hand, or damaged";
    Error::config("checkpoint.damaged", message).with_help(format!("put a copy back, or {WITHOUT}"))
}

fn other_format(format: u64) -> Error {
    let message = format!(
        "the checkpoint file has format {format}, this program reads format {CHECKPOINT_FORMAT}, which says whether the file is whole"
    );
    Error::config("checkpoint.format", message).with_help(WITHOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn partition(seq: u64, record_count: u64) -> PartitionCheckpoint {
        PartitionCheckpoint {
            seq,
            cursor: Cursor(vec![1, 2, 255]),
            record_count,
            done: false,
            committed_at: at(1),
        }
    }

    fn checkpoint() -> RunCheckpoint {
        let mut checkpoint = RunCheckpoint::new("20261121-045612-3f9a2c", at(0));
        checkpoint.job = "nightly".into();
        checkpoint.commit("todos", "0-9", partition(3, 30));
        checkpoint.commit("todos", "10-", partition(1, 5));
        checkpoint.commit("a \"b\" \u{2028}", "", partition(7, 1));
        checkpoint
    }

    fn file() -> Vec<u8> {
        serde_json::to_vec_pretty(&checkpoint().signed().unwrap()).unwrap()
    }

    fn code(octets: &[u8]) -> String {
        match RunCheckpoint::of_json(octets) {
            Ok(_) => "read".to_owned(),
            Err(error) => {
                assert!(error.help.is_some(), "{error:?}");
                error.code
            }
        }
    }

    #[test]
    fn a_file_reads_back_as_it_was_written() {
        let read = RunCheckpoint::of_json(&file()).unwrap();
        assert_eq!(read.sha256.len(), 64);
        let unsigned = RunCheckpoint {
            sha256: String::new(),
            ..read
        };
        assert_eq!(unsigned, checkpoint());
        assert_eq!(checkpoint().seqs()["todos"]["0-9"], 3);
    }

    #[test]
    fn h1_every_flipped_bit_and_every_cut_is_noticed() {
        let whole = file();
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[place] ^= 1 << bit;
                assert_eq!(code(&flipped), "checkpoint.damaged", "octet {place}, bit {bit}");
            }
        }
        for length in 0..whole.len() {
            assert_eq!(code(&whole[..length]), "checkpoint.damaged", "cut to {length}");
        }
    }

    #[test]
    fn members_of_a_later_program_are_in_the_digest_and_order_and_spaces_are_not() {
        let mut value: Value = serde_json::from_slice(&file()).unwrap();
        assert_eq!(code(value.to_string().as_bytes()), "read");
        value["added_later"] = 1.into();
        assert_eq!(code(value.to_string().as_bytes()), "checkpoint.damaged");
        value[DIGEST] = digest(value.clone()).into();
        assert_eq!(code(value.to_string().as_bytes()), "read");
        value["format"] = (CHECKPOINT_FORMAT + 1).into();
        assert_eq!(code(value.to_string().as_bytes()), "checkpoint.damaged");
        value[DIGEST] = digest(value.clone()).into();
        assert_eq!(code(value.to_string().as_bytes()), "checkpoint.format");
    }

    #[test]
    fn a_file_of_the_first_form_is_refused_by_its_format() {
        // As 0.1 wrote it.
        let first = r#"{
          "format": 1,
          "note": "for people: the sink keeps the checkpoint that a resumed run uses",
          "run_id": "r-1", "job": "nightly", "updated_at": "2026-11-18T11:06:40Z", "record_count": 3,
          "collections": { "todos": { "whole": {
            "seq": 1, "cursor": "0102", "record_count": 3, "done": true, "committed_at": "2026-11-18T11:06:40Z" } } }
        }"#;
        assert_eq!(code(first.as_bytes()), "checkpoint.format");
        assert_eq!(code(b"{}"), "checkpoint.damaged");
        assert_eq!(code(b"[1]"), "checkpoint.damaged");
        assert_eq!(code(b""), "checkpoint.damaged");
    }

    #[test]
    fn the_sinks_word_counts_unless_more_was_seen() {
        let mut known = checkpoint();
        let word = |seq, record_count| PartitionCheckpoint {
            committed_at: at(9),
            ..partition(seq, record_count)
        };
        known.find("todos", "0-9", word(3, 33));
        known.find("todos", "10-", word(2, 50));
        known.find("users", "whole", word(4, 4));
        known.find("a \"b\" \u{2028}", "", word(6, 100));
        let todos = &known.collections["todos"];
        assert_eq!(
            (todos["0-9"].record_count, todos["0-9"].committed_at),
            (33, at(1))
        );
        assert_eq!((todos["10-"].seq, todos["10-"].committed_at), (2, at(9)));
        assert_eq!(known.record_count, 33 + 50 + 4 + 1);
    }

    #[test]
    fn a_collection_that_is_copied_again_has_nothing() {
        let mut known = checkpoint();
        known.forget("todos");
        known.forget("gone");
        assert_eq!((known.record_count, known.collections.len()), (1, 1));
    }

    #[test]
    fn of_two_the_later_of_each_partition_counts() {
        let mut ours = checkpoint();
        let mut theirs = RunCheckpoint::new("r-2", at(0));
        theirs.commit("todos", "0-9", partition(2, 100));
        theirs.commit("todos", "10-", partition(4, 50));
        theirs.commit("users", "whole", partition(1, 2));
        ours.merge(theirs);
        let seqs = ours.seqs();
        assert_eq!((seqs["todos"]["0-9"], seqs["todos"]["10-"]), (3, 4));
        assert_eq!(seqs["users"]["whole"], 1);
        assert_eq!(ours.record_count, 30 + 50 + 1 + 2);
        assert_eq!(ours.run_id, "20261121-045612-3f9a2c");
    }
}
