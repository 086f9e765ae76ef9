//! The file of what commits made durable, one JSON line per record, which tests read.
//! Not the truth about lanes. Neighbour: `store`, which writes it and has that.

use std::io::Write as _;
use std::path::Path;

use whimbrel_plugin_api::acceptance::records::Value;
use whimbrel_plugin_api::sink::LaneState;
use whimbrel_plugin_api::{Error, Result};

use crate::journal::Written;

/// One line per record.
pub(crate) fn lines_of(lane: &LaneState, written: &[Written]) -> String {
    let mut lines = String::new();
    for Written {
        collection, record, ..
    } in written
    {
        let record: serde_json::Map<_, _> = record
            .iter()
            .filter(|(_, value)| **value != Value::Absent)
            .map(|(field, value)| (field.clone(), json(value)))
            .collect();
        let (seq, lane) = (lane.seq, String::from(lane.lane.partition.clone()));
        let line =
            serde_json::json!({ "collection": collection, "lane": lane, "seq": seq, "record": record });
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    lines
}

/// All lines of a commit in one write.
pub(crate) fn append(path: &Path, lines: &str) -> Result<()> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()))
        .map_err(|error| unwritable(&error))
}

pub(crate) fn unwritable(error: &std::io::Error) -> Error {
    Error::config("scripted.committed_path", "`committed_path` cannot be written").with_cause(error)
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Absent | Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(bits) => f64::from_bits(*bits).into(),
        Value::Decimal(value) => value.to_string().into(),
        Value::Text(text) => text.as_str().into(),
        Value::Bytes(octets) => octets.clone().into(),
        Value::List(values) | Value::Struct(values) => values.iter().map(json).collect(),
    }
}
