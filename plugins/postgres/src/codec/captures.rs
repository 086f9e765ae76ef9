//! What real servers send, to the octet: captures of `COPY .. TO STDOUT (FORMAT binary)` for edge values of each type.
//!
//! `tests/fixtures/copy` has, for each type, the query (`.sql`), what PostgreSQL 15 sent for it (`.hex`: what stands in
//! front, a line a row, what stands behind) and what the values are (`.ndjson`). The captures are read, written again, and
//! compared with what the servers of today send; what is written is also read by them.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;

use whimbrel_plugin_api::arrow_array::ArrayRef;
use whimbrel_plugin_api::json_form::JsonEncoder;
use whimbrel_plugin_api::record_type::RecordType;

use crate::servers;

use super::{HEADER, RowDecoder, RowEncoder, TRAILER, Wire, WireColumn};

struct Capture {
    name: &'static str,
    sql: &'static str,
    hex: &'static str,
    json: &'static str,
    record_type: RecordType,
    wire: Wire,
}

macro_rules! capture {
    ($name:literal, $record_type:expr, $wire:expr) => {
        Capture {
            name: $name,
            sql: include_str!(concat!("../../tests/fixtures/copy/", $name, ".sql")),
            hex: include_str!(concat!("../../tests/fixtures/copy/", $name, ".hex")),
            json: include_str!(concat!("../../tests/fixtures/copy/", $name, ".ndjson")),
            record_type: $record_type,
            wire: $wire,
        }
    };
}

fn captures() -> Vec<Capture> {
    let int = |bits| RecordType::Int { bits };
    let decimal = |precision, scale| RecordType::Decimal { precision, scale };
    let list = RecordType::list;
    let array = |element_oid, element| Wire::Array {
        element_oid,
        element: Box::new(element),
    };
    vec![
        capture!("bool", RecordType::Bool, Wire::Bool),
        capture!("int2", int(16), Wire::Int2),
        capture!("int4", int(32), Wire::Int4),
        capture!("int8", int(64), Wire::Int8),
        capture!("oid", int(64), Wire::Oid),
        capture!("float4", RecordType::Float { bits: 32 }, Wire::Float4),
        capture!("float8", RecordType::FLOAT64, Wire::Float8),
        capture!("numeric", RecordType::Numeric, Wire::Numeric),
        capture!("numeric_12_2", decimal(12, 2), Wire::Numeric),
        capture!("numeric_38_10", decimal(38, 10), Wire::Numeric),
        capture!("numeric_76_38", decimal(76, 38), Wire::Numeric),
        capture!("text", RecordType::Text, Wire::Text),
        capture!("bpchar", RecordType::Text, Wire::Text),
        capture!("bytea", RecordType::Bytes, Wire::Bytea),
        capture!("date", RecordType::Date, Wire::Date),
        capture!("time", RecordType::Time, Wire::Time),
        capture!("timetz", RecordType::TimeTz, Wire::TimeTz),
        capture!("timestamp", RecordType::Timestamp, Wire::Timestamp),
        capture!("timestamptz", RecordType::TimestampTz, Wire::TimestampTz),
        capture!("interval", RecordType::Interval, Wire::Interval),
        capture!("uuid", RecordType::Uuid, Wire::Uuid),
        capture!("json", RecordType::Json, Wire::Text),
        capture!("jsonb", RecordType::Json, Wire::Jsonb),
        capture!("point", RecordType::Geopoint, Wire::Point),
        capture!("int4_array", list(int(32)), array(23, Wire::Int4)),
        capture!("text_array", list(RecordType::Text), array(25, Wire::Text)),
        capture!(
            "numeric_array",
            list(RecordType::Numeric),
            array(1700, Wire::Numeric)
        ),
        capture!("float8_array", RecordType::Vector, array(701, Wire::Float8)),
        capture!("uuid_array", list(RecordType::Uuid), array(2950, Wire::Uuid)),
        capture!("jsonb_array", list(RecordType::Json), array(3802, Wire::Jsonb)),
        capture!(
            "timestamptz_array",
            list(RecordType::TimestampTz),
            array(1184, Wire::TimestampTz)
        ),
    ]
}

impl Capture {
    fn columns(&self) -> [WireColumn; 2] {
        let column = |name: &str, record_type: &RecordType, wire: &Wire| WireColumn {
            name: name.to_owned(),
            record_type: record_type.clone(),
            wire: wire.clone(),
            removes_nul: false,
        };
        [
            column("id", &RecordType::Int { bits: 32 }, &Wire::Int4),
            column("value", &self.record_type, &self.wire),
        ]
    }

    /// The lines of the capture: what stands in front, rows, what stands behind.
    fn lines(&self) -> Vec<Vec<u8>> {
        let octet = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        let line = |line: &str| line.as_bytes().chunks(2).map(octet).collect();
        self.hex.lines().map(line).collect()
    }

    fn decoded(&self) -> Vec<ArrayRef> {
        let mut decoder = RowDecoder::new(&self.columns()).unwrap();
        let lines = self.lines();
        for row in &lines[1..lines.len() - 1] {
            assert_eq!(decoder.push(row).unwrap(), Ok(()), "{}", self.name);
        }
        decoder.finish().unwrap()
    }

    /// All octets that would be sent to a server.
    fn encoded(&self) -> Vec<u8> {
        let arrays = self.decoded();
        let encoder = RowEncoder::new(&self.columns(), &arrays).unwrap();
        let mut out = HEADER.to_vec();
        for row in 0..arrays[0].len() {
            encoder.write(row, &mut out).unwrap();
        }
        out.extend_from_slice(TRAILER);
        out
    }
}

#[test]
fn captures_are_read_as_the_values_that_they_are() {
    for capture in captures() {
        let arrays = capture.decoded();
        let encoder = JsonEncoder::new(&capture.record_type, &arrays[1])
            .unwrap()
            .with_json_null(whimbrel_plugin_api::json_form::JsonNull::AsNull);
        let mut lines = Vec::new();
        for row in 0..encoder.len() {
            encoder.write(row, &mut lines).unwrap();
            lines.push(b'\n');
        }
        let lines = String::from_utf8(lines).unwrap();
        assert_eq!(lines, capture.json, "{}", capture.name);
    }
}

#[test]
fn captures_are_written_as_the_server_wrote_them() {
    for capture in captures() {
        assert_eq!(capture.encoded(), capture.lines().concat(), "{}", capture.name);
    }
}

#[test]
fn the_servers_of_today_send_what_was_captured() {
    for server in servers::servers() {
        let database = server.database();
        let mut psql = server.endpoint().psql(database.name());
        for capture in captures() {
            psql.arg("-c")
                .arg(format!("COPY ({}) TO STDOUT (FORMAT binary)", capture.sql));
        }
        let output = psql.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success());
        let mut sent = output.stdout.as_slice();
        for capture in captures() {
            let captured = capture.lines().concat();
            let (first, rest) = sent.split_at(captured.len().min(sent.len()));
            assert_eq!(first, captured, "{}", capture.name);
            sent = rest;
        }
        assert!(sent.is_empty());
    }
}

#[test]
fn the_servers_take_what_is_written_for_the_same_values() {
    let folder = tempfile::tempdir().unwrap();
    let mut script = String::new();
    let mut wanted = Vec::new();
    for capture in captures() {
        let path = folder.path().join(capture.name);
        File::create(&path)
            .unwrap()
            .write_all(&capture.encoded())
            .unwrap();
        // Values are compared as texts, since `json` and `point` have no equality.
        write!(
            script,
            "CREATE TABLE \"{name}\" AS {sql} WITH NO DATA;
            \\copy \"{name}\" FROM '{path}' (FORMAT binary)
            SELECT '{name}', count(*) FROM \"{name}\" AS taken JOIN ({sql}) AS given USING (id)
            WHERE taken.value::text IS NOT DISTINCT FROM given.value::text;\n",
            name = capture.name,
            sql = capture.sql,
            path = path.display(),
        )
        .unwrap();
        wanted.push(format!("{}|{}", capture.name, capture.json.lines().count()));
    }
    for server in servers::servers() {
        let equal = server.database().sql(&script);
        assert_eq!(equal.lines().collect::<Vec<_>>(), wanted);
    }
}
