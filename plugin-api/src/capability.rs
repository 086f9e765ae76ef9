//! What a connector declares about itself: capabilities, type mappings and losses, all as data.
//!
//! A declared capability makes its acceptance tests run; a declared loss is carried out by the host on both
//! sides when it verifies. The lists are closed: a connector that needs another entry adds it here first.

use serde::{Deserialize, Serialize};

use crate::record_type::RecordType;

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Atomicity {
    /// All writes since `begin` become visible together or not at all.
    Transactional,
    /// One guarded request is all or nothing (Firestore `Commit`).
    Conditional,
    /// Writing the same record again changes nothing.
    Idempotent,
    /// Every write adds a record.
    #[default]
    #[serde(other)]
    Append,
}

/// What the source role can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceCapabilities {
    /// `open_snapshot` gives a token under which later reads see one instant.
    pub snapshot: bool,
    /// `partitions` can divide a collection.
    pub partitions: bool,
    /// A stream can be taken up again at any cursor that it has given out.
    pub resume: bool,
    /// `changes` is offered.
    pub changes: bool,
    /// `lookup` is offered.
    pub lookup: bool,
    /// `query` is offered.
    pub query: bool,
    /// Streams of one opened source that may be read at the same time; 0 means any number.
    pub streams_max: u32,
}

/// What the sink role can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkCapabilities {
    /// What a commit promises.
    pub atomicity: Atomicity,
    /// Records with an existing key can replace the stored one.
    pub upsert: bool,
    /// Conflict policies that are carried out.
    pub policies: Vec<crate::sink::ConflictPolicy>,
    /// Sessions that may write at the same time; 0 means any number.
    pub sessions_max: u32,
    /// A lane's checkpoint is stored with the data.
    pub lanes: bool,
    /// `undo` is offered.
    pub undo: bool,
    /// `reader` is offered, so that what was written can be read back.
    pub read_back: bool,
    /// `remove` is offered.
    pub remove: bool,
    /// An absent field can be told from null.
    pub presence: bool,
    /// Fields per collection that can be held; 0 means any number.
    pub fields_max: u32,
}

/// What the notifier role can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotifierCapabilities {
    /// A dedupe key that was delivered lately is recognised when it is sent again, also by another opened notifier of the
    /// same target: it is delivered once.
    pub dedupes: bool,
    /// Octets of title and body together up to which both are delivered whole; longer ones are cut or refused. 0 means
    /// any number.
    pub text_bytes_max: u64,
}

/// How one record type is kept by a connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeMapping {
    /// The record type; parameters stand for all of their kind (`decimal(38, 10)` for every decimal).
    pub record_type: RecordType,
    /// The system's own type, as a person of that system would name it.
    pub stored_as: String,
    /// What is lost; empty means exact.
    #[serde(default)]
    pub losses: Vec<Loss>,
}

/// A unit of time to which values are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// 1 s.
    Seconds,
    /// 1 ms.
    Milliseconds,
    /// 1 us.
    Microseconds,
}

/// The closed list of what a mapping may lose. The host can carry out each of them on a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "loss", rename_all = "snake_case")]
pub enum Loss {
    /// Parts of a timestamp or time below `unit` are cut off (towards the past).
    TruncateTimestamp {
        /// What is kept.
        unit: TimeUnit,
    },
    /// -0.0 becomes 0.0.
    NegativeZeroToZero,
    /// Not-a-number becomes null.
    NanToNull,
    /// Infinities (of floats, dates, timestamps) become null.
    InfinityToNull,
    /// A decimal becomes the nearest 64-bit float.
    FloatFromDecimal,
    /// A field that was not there becomes null.
    AbsentToNull,
    /// A NUL character in text is removed.
    NulRemoved,
    /// A lone surrogate becomes U+FFFD.
    LoneSurrogateReplaced,
    /// JSON text is stored by value: order of members, white space, repeated members and the spelling of numbers
    /// are not kept.
    JsonNormalised,
    /// The type's name is not kept; the value arrives as text.
    TypeNameDropped,
    /// An empty text becomes null.
    EmptyTextToNull,
    /// A JSON `null` in a json or variant field becomes a missing value.
    JsonNullToNull,
}

impl Loss {
    /// The stable name, as in the docs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::TruncateTimestamp { .. } => "truncate_timestamp",
            Self::NegativeZeroToZero => "negative_zero_to_zero",
            Self::NanToNull => "nan_to_null",
            Self::InfinityToNull => "infinity_to_null",
            Self::FloatFromDecimal => "float_from_decimal",
            Self::AbsentToNull => "absent_to_null",
            Self::NulRemoved => "nul_removed",
            Self::LoneSurrogateReplaced => "lone_surrogate_replaced",
            Self::JsonNormalised => "json_normalised",
            Self::TypeNameDropped => "type_name_dropped",
            Self::EmptyTextToNull => "empty_text_to_null",
            Self::JsonNullToNull => "json_null_to_null",
        }
    }
}
