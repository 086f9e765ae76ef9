//! The messages of Hrana 3 in Protobuf, as far as they are used here.
//!
//! Source: the Hrana 3 specification of libSQL, `hrana.proto` and `hrana.http.proto`. The Protobuf form and not the JSON
//! one, since JSON has no infinities. Texts are taken as octets, which is the same on the wire, so that they need not be
//! copied; a statement of a step is kept encoded, so that it can be sent again.

use std::collections::HashMap;

use prost::bytes::Bytes;
use prost::{Message, Oneof};
use rusqlite::types::ValueRef;

/// What is sent.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PipelineRequest {
    #[prost(string, optional, tag = "1")]
    pub(super) baton: Option<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) requests: Vec<StreamRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StreamRequest {
    #[prost(oneof = "Request", tags = "1, 3, 8")]
    pub(super) request: Option<Request>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Request {
    #[prost(message, tag = "1")]
    Close(Empty),
    #[prost(message, tag = "3")]
    Batch(BatchRequest),
    #[prost(message, tag = "8")]
    GetAutocommit(Empty),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BatchRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) batch: Option<Steps>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Steps {
    #[prost(message, repeated, tag = "1")]
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Step {
    #[prost(message, optional, tag = "1")]
    pub(super) condition: Option<Condition>,
    /// An encoded [`SqlStatement`].
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) statement: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Condition {
    #[prost(oneof = "Cond", tags = "1, 3, 4, 6")]
    pub(super) cond: Option<Cond>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Cond {
    #[prost(uint32, tag = "1")]
    StepOk(u32),
    #[prost(message, tag = "3")]
    Not(Box<Condition>),
    #[prost(message, tag = "4")]
    And(Conditions),
    #[prost(message, tag = "6")]
    IsAutocommit(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Conditions {
    #[prost(message, repeated, tag = "1")]
    pub(super) conditions: Vec<Condition>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SqlStatement {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) sql: Bytes,
    #[prost(message, repeated, tag = "3")]
    pub(super) values: Vec<Value>,
    #[prost(bool, optional, tag = "5")]
    pub(super) want_rows: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(oneof = "OneValue", tags = "1, 2, 3, 4, 5")]
    pub(super) value: Option<OneValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OneValue {
    #[prost(message, tag = "1")]
    Null(Empty),
    #[prost(sint64, tag = "2")]
    Integer(i64),
    #[prost(double, tag = "3")]
    Float(f64),
    #[prost(bytes = "bytes", tag = "4")]
    Text(Bytes),
    #[prost(bytes = "bytes", tag = "5")]
    Blob(Bytes),
}

/// What comes back.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PipelineResponse {
    #[prost(string, optional, tag = "1")]
    pub(super) baton: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) base_url: Option<String>,
    #[prost(message, repeated, tag = "3")]
    pub(super) results: Vec<StreamResult>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StreamResult {
    #[prost(oneof = "Outcome", tags = "1, 2")]
    pub(super) outcome: Option<Outcome>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Outcome {
    #[prost(message, tag = "1")]
    Ok(StreamResponse),
    #[prost(message, tag = "2")]
    Error(SqlError),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StreamResponse {
    #[prost(oneof = "Response", tags = "1, 3, 8")]
    pub(super) response: Option<Response>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Response {
    #[prost(message, tag = "1")]
    Close(Empty),
    #[prost(message, tag = "3")]
    Batch(BatchResponse),
    #[prost(message, tag = "8")]
    GetAutocommit(AutocommitResponse),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BatchResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) result: Option<BatchResult>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct AutocommitResponse {
    #[prost(bool, tag = "1")]
    pub(super) is_autocommit: bool,
}

/// Steps that were carried out, by number, and those that failed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BatchResult {
    #[prost(map = "uint32, message", tag = "1")]
    pub(super) results: HashMap<u32, StepResult>,
    #[prost(map = "uint32, message", tag = "2")]
    pub(super) errors: HashMap<u32, SqlError>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StepResult {
    #[prost(message, repeated, tag = "1")]
    pub(super) columns: Vec<Column>,
    #[prost(message, repeated, tag = "2")]
    pub(super) rows: Vec<Row>,
    #[prost(uint64, tag = "3")]
    pub(super) affected_row_count: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Column {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Row {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<Value>,
}

/// Why the server did not carry something out.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SqlError {
    #[prost(string, tag = "1")]
    pub(super) message: String,
    #[prost(string, optional, tag = "2")]
    pub(super) code: Option<String>,
}

impl Value {
    pub(super) fn of(value: ValueRef<'_>) -> Self {
        let value = match value {
            ValueRef::Null => OneValue::Null(Empty {}),
            ValueRef::Integer(number) => OneValue::Integer(number),
            ValueRef::Real(number) => OneValue::Float(number),
            ValueRef::Text(text) => OneValue::Text(Bytes::copy_from_slice(text)),
            ValueRef::Blob(octets) => OneValue::Blob(Bytes::copy_from_slice(octets)),
        };
        Self { value: Some(value) }
    }

    pub(super) fn as_ref(&self) -> ValueRef<'_> {
        match &self.value {
            None | Some(OneValue::Null(_)) => ValueRef::Null,
            Some(OneValue::Integer(number)) => ValueRef::Integer(*number),
            Some(OneValue::Float(number)) => ValueRef::Real(*number),
            Some(OneValue::Text(text)) => ValueRef::Text(text),
            Some(OneValue::Blob(octets)) => ValueRef::Blob(octets),
        }
    }
}

impl Condition {
    fn of(cond: Cond) -> Self {
        Self { cond: Some(cond) }
    }

    /// That the step has gone well.
    pub(super) fn ok(step: usize) -> Self {
        Self::of(Cond::StepOk(step.try_into().unwrap_or(u32::MAX)))
    }

    /// That the step has not gone well, or was left out.
    pub(super) fn not_ok(step: usize) -> Self {
        Self::of(Cond::Not(Box::new(Self::ok(step))))
    }

    /// That a transaction is open.
    pub(super) fn in_transaction() -> Self {
        Self::of(Cond::Not(Box::new(Self::of(Cond::IsAutocommit(Empty {})))))
    }

    /// Both.
    pub(super) fn and(self, other: Self) -> Self {
        Self::of(Cond::And(Conditions {
            conditions: vec![self, other],
        }))
    }
}

/// A statement in its encoded form.
pub(super) fn statement<'value>(
    sql: &Bytes,
    values: impl IntoIterator<Item = ValueRef<'value>>,
    want_rows: bool,
) -> Bytes {
    let statement = SqlStatement {
        sql: sql.clone(),
        values: values.into_iter().map(Value::of).collect(),
        want_rows: Some(want_rows),
    };
    statement.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_encoded_as_the_specification_says() {
        let values = [
            ValueRef::Null,
            ValueRef::Integer(-2),
            ValueRef::Real(f64::INFINITY),
            ValueRef::Text("ü\0".as_bytes()),
            ValueRef::Blob(&[255]),
        ];
        let encoded = statement(&Bytes::from_static(b"S"), values, false);
        let mut wanted = vec![0x0a, 1, b'S'];
        wanted.extend([0x1a, 2, 0x0a, 0]);
        wanted.extend([0x1a, 2, 0x10, 3]);
        wanted.extend([0x1a, 9, 0x19, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f]);
        wanted.extend([0x1a, 5, 0x22, 3, 0xc3, 0xbc, 0]);
        wanted.extend([0x1a, 3, 0x2a, 1, 255]);
        wanted.extend([0x28, 0]);
        assert_eq!(encoded, wanted);
        let read = SqlStatement::decode(encoded).unwrap();
        assert_eq!(read.values.iter().map(Value::as_ref).collect::<Vec<_>>(), values);
    }

    #[test]
    fn conditions_are_encoded_as_the_specification_says() {
        let condition = Condition::ok(5).and(Condition::in_transaction());
        assert_eq!(
            condition.encode_to_vec(),
            [0x22, 10, 0x0a, 2, 0x08, 5, 0x0a, 4, 0x1a, 2, 0x32, 0]
        );
    }
}
