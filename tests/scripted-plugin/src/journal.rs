//! The file that keeps a store across processes: each change of it is one line, records and lane together.
//!
//! A line is written in one step and synced, so that no end of the process comes between the records of a commit and its lane; half
//! a line at the end is what never happened. Who reads or writes has the file locked, so that several processes see one store.
//! Neighbour: `store`, which does what the lines say.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use whimbrel_plugin_api::acceptance::records::{Record, Value};
use whimbrel_plugin_api::arrow_buffer::i256;
use whimbrel_plugin_api::sink::LaneState;
use whimbrel_plugin_api::{Collection, Error, Result, Schema};

/// One change of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// There is room for a collection, or for more fields of it.
    Prepared(Collection),
    /// A collection has another schema.
    Altered { collection: String, schema: Schema },
    /// A collection is empty.
    Cleared(String),
    /// Lanes have new holders.
    TakenOver(Vec<LaneState>),
    /// Records are there, and their lane has moved.
    Committed { lane: LaneState, records: Vec<Written> },
}

/// A record at its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Json", try_from = "Json")]
pub(crate) struct Written {
    pub(crate) collection: String,
    pub(crate) key: Vec<Value>,
    pub(crate) record: Record,
}

/// See the module.
pub(crate) struct Journal {
    path: PathBuf,
    /// Octets that were read or written by this process.
    known_to: u64,
}

/// The file, which nobody else touches meanwhile.
pub(crate) struct Locked(File);

impl Journal {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            known_to: 0,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Locks the file, with what others have changed since.
    pub(crate) fn lock(&mut self) -> Result<(Locked, Vec<Change>)> {
        let mut changes = Vec::new();
        let mut open = || -> std::io::Result<File> {
            let mut options = OpenOptions::new();
            let mut file = options
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&self.path)?;
            file.lock()?;
            file.seek(SeekFrom::Start(self.known_to))?;
            let mut octets = Vec::new();
            file.read_to_end(&mut octets)?;
            let whole = octets
                .iter()
                .rposition(|octet| *octet == b'\n')
                .map_or(0, |at| at + 1);
            for line in octets[..whole].split_inclusive(|octet| *octet == b'\n') {
                changes.push(serde_json::from_slice(line)?);
            }
            self.known_to += whole as u64;
            file.set_len(self.known_to)?;
            Ok(file)
        };
        match open() {
            Ok(file) => Ok((Locked(file), changes)),
            Err(error) => Err(unusable(&error)),
        }
    }

    /// Adds a change; durable once this returns.
    pub(crate) fn append(&mut self, file: &mut Locked, change: &Change) -> Result<()> {
        let mut line = serde_json::to_vec(change).map_err(|error| unusable(&error.into()))?;
        line.push(b'\n');
        let file = &mut file.0;
        let write = file
            .seek(SeekFrom::Start(self.known_to))
            .and_then(|_| file.write_all(&line))
            .and_then(|()| file.sync_data());
        write.map_err(|error| unusable(&error))?;
        self.known_to += line.len() as u64;
        Ok(())
    }
}

fn unusable(error: &std::io::Error) -> Error {
    Error::config("scripted.lanes_path", "`lanes_path` cannot be read or written").with_cause(error)
}

impl From<Written> for Json {
    fn from(written: Written) -> Self {
        let record: serde_json::Map<_, _> = written
            .record
            .iter()
            .map(|(field, value)| (field.clone(), to_json(value)))
            .collect();
        let key: Vec<Self> = written.key.iter().map(to_json).collect();
        json!({ "collection": written.collection, "key": key, "record": record })
    }
}

impl TryFrom<Json> for Written {
    type Error = String;

    fn try_from(json: Json) -> Result<Self, String> {
        let collection = json["collection"].as_str().ok_or("a record has no collection")?;
        let key = json["key"].as_array().ok_or("a record has no key")?;
        let record = json["record"].as_object().ok_or("a record has no fields")?;
        let record = record
            .iter()
            .map(|(field, value)| Some((field.clone(), of_json(value)?)));
        Ok(Self {
            collection: collection.to_owned(),
            key: key
                .iter()
                .map(of_json)
                .collect::<Option<_>>()
                .ok_or("a key is odd")?,
            record: record.collect::<Option<_>>().ok_or("a field is odd")?,
        })
    }
}

/// Every value comes back as it was, which plain JSON could not promise.
fn to_json(value: &Value) -> Json {
    let all = |values: &[Value]| values.iter().map(to_json).collect::<Json>();
    match value {
        Value::Absent => json!({ "absent": true }),
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Float(bits) => json!({ "float_bits": bits }),
        Value::Decimal(value) => json!({ "decimal": value.to_string() }),
        Value::Text(text) => json!(text),
        Value::Bytes(octets) => json!({ "bytes": octets }),
        Value::List(values) => json!({ "list": all(values) }),
        Value::Struct(values) => json!({ "struct": all(values) }),
    }
}

fn of_json(json: &Json) -> Option<Value> {
    let (tag, value) = match json {
        Json::Null => return Some(Value::Null),
        Json::Bool(value) => return Some(Value::Bool(*value)),
        Json::Number(value) => return value.as_i64().map(Value::Int),
        Json::String(text) => return Some(Value::Text(text.clone())),
        Json::Array(_) => return None,
        Json::Object(members) => members.iter().next()?,
    };
    let all = || value.as_array()?.iter().map(of_json).collect::<Option<Vec<_>>>();
    Some(match tag.as_str() {
        "absent" => Value::Absent,
        "float_bits" => Value::Float(value.as_u64()?),
        "decimal" => Value::Decimal(i256::from_string(value.as_str()?)?),
        "bytes" => Value::Bytes(serde_json::from_value(value.clone()).ok()?),
        "list" => Value::List(all()?),
        "struct" => Value::Struct(all()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_plugin_api::acceptance::values::edge_cases;

    #[test]
    fn every_value_comes_back_as_it_was() {
        let cases = edge_cases();
        let records = cases.iter().flat_map(|case| case.records());
        let records: Vec<Written> = records
            .map(|record| Written {
                collection: "a".to_owned(),
                key: record.values().cloned().collect(),
                record: record.clone(),
            })
            .collect();
        assert!(records.len() > 50);
        let change = Change::Committed {
            lane: LaneState::default(),
            records,
        };
        let line = serde_json::to_vec(&change).unwrap();
        assert!(!line.contains(&b'\n'));
        assert_eq!(serde_json::from_slice::<Change>(&line).unwrap(), change);
    }

    #[test]
    fn half_a_line_is_what_never_happened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lanes.ndjson");
        let mut first = Journal::new(&path);
        let cleared = |name: &str| Change::Cleared(name.to_owned());
        let (mut file, found) = first.lock().unwrap();
        assert_eq!(found, []);
        first.append(&mut file, &cleared("a")).unwrap();
        drop(file);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], &whole[..whole.len() - 2]].concat()).unwrap();

        let mut second = Journal::new(&path);
        let (mut file, found) = second.lock().unwrap();
        assert_eq!(found, [cleared("a")]);
        second.append(&mut file, &cleared("b")).unwrap();
        drop(file);
        assert_eq!(first.lock().unwrap().1, [cleared("b")]);
    }
}
