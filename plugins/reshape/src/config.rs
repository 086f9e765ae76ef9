//! What a job writes under `config`: the steps and the rule. The doc comments become the tables of the README.
//!
//! The steps are kept as JSON here and read one by one in `reading`, so that a fault names its step; the JSON Schema is
//! that of [`Step`]. Neighbours: `condition` (the form of `where` and `rule`), `type_text` (names of types).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Condition;
use crate::type_text::TypeText;

/// The transform role.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReshapeConfig {
    /// What is done to each record, in this order. Each step is one operation with its settings.
    #[serde(default)]
    #[schemars(with = "Vec<Step>")]
    pub steps: Vec<Value>,
    /// A condition by which records are judged in checks before and after a run: true, false, or null if a field that it
    /// looks at is null. It sees records as they come in, before the steps.
    #[serde(default)]
    #[schemars(with = "Option<Condition>")]
    pub rule: Option<Value>,
}

/// One operation.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// New names, as `old: new`; all of one step at once, so names may be swapped.
    Rename(BTreeMap<String, String>),
    /// Another type for fields.
    Cast(Cast),
    /// Only these fields, in this order.
    Select(Vec<String>),
    /// All fields but these.
    Drop(Vec<String>),
    /// A constant, or the value of another field, for each of these fields. New ones come last, by name.
    Set(BTreeMap<String, SetValue>),
    /// A constant for records in which the field is null or absent.
    Default(BTreeMap<String, Value>),
    /// Members of a struct, or parts of JSON, as fields of their own.
    Flatten(Flatten),
    /// White space at both ends of these text fields is removed.
    Trim(Vec<String>),
    /// One spelling for texts that mean the same.
    Normalise(Normalise),
    /// Texts with dates in several formats as one type.
    Dates(Dates),
    /// Only records that meet a condition.
    Filter(Filter),
}

impl Step {
    /// The names of all operations.
    pub(crate) const NAMES: [&'static str; 11] = [
        "rename",
        "cast",
        "select",
        "drop",
        "set",
        "default",
        "flatten",
        "trim",
        "normalise",
        "dates",
        "filter",
    ];
}

/// `cast`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// The field. Either this or `fields`.
    pub field: Option<String>,
    /// Several fields.
    pub fields: Option<Vec<String>>,
    /// The new type, such as `int64`, `decimal(12, 2)`, `timestamp_tz`, `list(text)`.
    pub to: TypeText,
    /// How the value is written. Dates and times in text: `rfc3339`, `rfc2822`, or a pattern such as `%d.%m.%Y`; instants
    /// as numbers: `unix_s`, `unix_ms`, `unix_us`; bytes in text: `hex` (as if nothing is said), `base64`, `utf8`; json and
    /// variant to text: `plain` takes the quotes off strings.
    pub format: Option<String>,
    /// What may be done to a number that the new type cannot hold exactly, and with `floor` to the time of day when a
    /// timestamp becomes a date. Without it such a value does not convert.
    pub rounding: Option<Rounding>,
    /// The time zone of values without one: `UTC`, an offset such as `+02:00`, or a name such as `Europe/Berlin`.
    pub zone: Option<String>,
    /// Which instant a local time is that a zone has twice, when clocks are put back.
    #[serde(default)]
    pub ambiguous: Ambiguous,
    /// What happens to a record whose value does not convert: it is rejected, or the field becomes null.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// How a number is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To the nearest, halves to the even neighbour.
    HalfEven,
    /// To the nearest, halves away from zero.
    HalfUp,
    /// Towards zero.
    TowardZero,
    /// Down, towards the past.
    Floor,
    /// Up.
    Ceiling,
}

/// What becomes of a local time that stands for two instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ambiguous {
    /// It does not convert.
    #[default]
    Reject,
    /// The first of the two.
    Earlier,
    /// The second of the two.
    Later,
}

/// What happens when a value does not convert.
///
/// YAML reads the bare word `null` as null, so that the text and the null mean the same here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The record is rejected.
    #[default]
    Reject,
    /// The field becomes null.
    Null,
}

impl<'de> Deserialize<'de> for OnFailure {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None | Some("null") => Ok(Self::Null),
            Some("reject") => Ok(Self::Reject),
            Some(other) => Err(serde::de::Error::unknown_variant(other, &["reject", "null"])),
        }
    }
}

impl JsonSchema for OnFailure {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OnFailure".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": ["reject", "null", null] })
    }
}

/// What `set` gives to a field: a bare constant, or an object that says more.
#[derive(Debug, Clone)]
pub enum SetValue {
    /// A text, number, boolean or null.
    Constant(Value),
    /// An object.
    Detailed(SetObject),
}

/// The long form of a value of `set`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetObject {
    /// The constant, as JSON writes the type.
    pub value: Option<Value>,
    /// Its type; as if nothing is said, that of the field, or of the constant if the field is new.
    #[serde(rename = "type")]
    pub to: Option<TypeText>,
    /// In place of a constant: the field whose value is taken, as it is before this step.
    pub from: Option<String>,
}

impl<'de> Deserialize<'de> for SetValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match &value {
            Value::Object(_) => serde_json::from_value(value)
                .map(Self::Detailed)
                .map_err(serde::de::Error::custom),
            Value::Array(_) => Err(serde::de::Error::custom(
                "invalid type: sequence, expected a constant or an object with `value`, `type` or `from`",
            )),
            _ => Ok(Self::Constant(value)),
        }
    }
}

impl JsonSchema for SetValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SetValue".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let object = generator.subschema_for::<SetObject>();
        schemars::json_schema!({
            "anyOf": [{ "type": ["string", "number", "boolean", "null"] }, object]
        })
    }
}

/// `flatten`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flatten {
    /// The field: a struct or geopoint, or with `paths` json or variant.
    pub field: String,
    /// What stands between the names of a field and its member.
    #[serde(default = "separator")]
    pub separator: String,
    /// What stands before the names of the new fields; as if nothing is said, the field's name and the separator.
    pub prefix: Option<String>,
    /// How many levels of structs are taken apart; all of them if nothing is said.
    #[schemars(range(min = 1, max = 100))]
    pub depth: Option<u32>,
    /// The parts of a json or variant field that become fields.
    pub paths: Option<Vec<PathField>>,
    /// Whether the field itself stays; with `paths` it does if nothing is said, since it may hold more.
    pub keep: Option<bool>,
    /// What happens to a record with a part that is not of its type: it is rejected, or the new field becomes null.
    #[serde(default)]
    pub on_failure: OnFailure,
}

fn separator() -> String {
    "_".to_owned()
}

/// A part of a json or variant field.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathField {
    /// Where it is, as a JSON pointer: `/address/city`, `/tags/0`; `~1` is a slash within a name and `~0` a tilde.
    pub path: String,
    /// The name of the new field; with `prefix`, without it.
    pub to: String,
    /// Its type.
    #[serde(rename = "type")]
    pub record_type: TypeText,
}

/// `normalise`. What is asked for is done in this order: unicode, case, white space, empty to null.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// The text fields.
    pub fields: Vec<String>,
    /// The Unicode normalisation form.
    pub unicode: Option<UnicodeForm>,
    /// Letter case, by the rules of Unicode for no language in particular.
    pub case: Option<Case>,
    /// White space.
    pub whitespace: Option<Whitespace>,
    /// Whether an empty text becomes null.
    #[serde(default)]
    pub empty_to_null: bool,
}

/// A letter case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// Small letters.
    Lower,
    /// Capital letters.
    Upper,
}

/// A form of Unicode Standard Annex 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnicodeForm {
    /// Composed.
    Nfc,
    /// Decomposed.
    Nfd,
    /// Composed, look-alikes made equal.
    Nfkc,
    /// Decomposed, look-alikes made equal.
    Nfkd,
}

/// What is done to white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Whitespace {
    /// Each run of it becomes one space, and none stays at the ends.
    Collapse,
}

/// `dates`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dates {
    /// The text fields.
    pub fields: Vec<String>,
    /// The formats, tried in this order: `rfc3339`, `rfc2822`, `unix_s`, `unix_ms`, `unix_us`, or patterns such as
    /// `%d.%m.%Y %H:%M`.
    pub formats: Vec<String>,
    /// The type that comes out.
    pub to: DateTarget,
    /// The time zone of texts without an offset, and of the result if it has none.
    pub zone: Option<String>,
    /// Which instant a local time is that a zone has twice.
    #[serde(default)]
    pub ambiguous: Ambiguous,
    /// `floor` lets a time of day be cut off where the result is a date.
    pub rounding: Option<Rounding>,
    /// What happens to a record whose text is in none of the formats: it is rejected, or the field becomes null.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// The types that `dates` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DateTarget {
    /// A day.
    Date,
    /// A time of day.
    Time,
    /// Day and time without a zone.
    Timestamp,
    /// An instant.
    TimestampTz,
}

/// `filter`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The condition. A record for which it is false or null is dropped and counted.
    #[serde(rename = "where")]
    pub condition: Condition,
}
