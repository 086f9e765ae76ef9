//! Conditions as a job writes them: a comparison of one field, or `all`, `any` and `not` of other conditions.
//!
//! This is their form and what can be wrong with it; `judge` decides them over columns. Deliberately no language of its own: what needs more
//! than this is for a transform with programs.

use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use whimbrel_plugin_api::Result;

use crate::reading::wrong;

/// Octets that a compiled regular expression may take; a pattern written by a person takes some thousands.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// How deep conditions may nest.
const DEPTH_MAX: usize = 32;

/// A condition. Exactly one of `field`, `all`, `any` and `not` says which of the four forms it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// The field that is looked at.
    pub field: Option<String>,
    /// How.
    pub op: Option<Operator>,
    /// What it is compared with.
    pub value: Option<Value>,
    /// What it is compared with by `in` and `not_in`.
    pub values: Option<Vec<Value>>,
    /// Each of these is true.
    pub all: Option<Vec<Condition>>,
    /// At least one of these is true.
    pub any: Option<Vec<Condition>>,
    /// This is false.
    pub not: Option<Box<Condition>>,
}

/// How a field is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// The same value.
    Equals,
    /// Another value.
    NotEquals,
    /// Less than `value`, or before it.
    Less,
    /// `value` or less.
    AtMost,
    /// More than `value`, or after it.
    Greater,
    /// `value` or more.
    AtLeast,
    /// One of `values`.
    In,
    /// None of `values`.
    NotIn,
    /// A text with a part that the regular expression `value` describes.
    Matches,
    /// Null, and there.
    IsNull,
    /// Not null, and there.
    NotNull,
    /// The record has the field, if only as null.
    Present,
    /// The record does not have the field.
    Absent,
}

impl Operator {
    /// Its name in a job.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Equals => "equals",
            Self::NotEquals => "not_equals",
            Self::Less => "less",
            Self::AtMost => "at_most",
            Self::Greater => "greater",
            Self::AtLeast => "at_least",
            Self::In => "in",
            Self::NotIn => "not_in",
            Self::Matches => "matches",
            Self::IsNull => "is_null",
            Self::NotNull => "not_null",
            Self::Present => "present",
            Self::Absent => "absent",
        }
    }

    /// Whether it takes `value`.
    pub(crate) const fn takes_value(self) -> bool {
        matches!(
            self,
            Self::Equals
                | Self::NotEquals
                | Self::Less
                | Self::AtMost
                | Self::Greater
                | Self::AtLeast
                | Self::Matches
        )
    }

    /// Whether it takes `values`.
    pub(crate) const fn takes_values(self) -> bool {
        matches!(self, Self::In | Self::NotIn)
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let operator = generator.subschema_for::<Operator>();
        let condition = generator.subschema_for::<Self>();
        let constant = json_schema!({ "type": ["string", "number", "boolean"] });
        json_schema!({
            "description": "A comparison of one field, or `all`, `any` or `not` of other conditions.",
            "oneOf": [
                {
                    "type": "object",
                    "properties": {
                        "field": { "type": "string", "description": "The field that is looked at." },
                        "op": operator,
                        "value": constant,
                        "values": { "type": "array", "items": constant, "minItems": 1 },
                    },
                    "required": ["field", "op"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": { "all": { "type": "array", "items": condition, "minItems": 1 } },
                    "required": ["all"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": { "any": { "type": "array", "items": condition, "minItems": 1 } },
                    "required": ["any"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": { "not": condition },
                    "required": ["not"],
                    "additionalProperties": false,
                },
            ]
        })
    }
}

/// Checks the form of a condition, as far as it can be without a schema.
pub(crate) fn check(condition: &Condition, place: &str) -> Result<()> {
    check_at(condition, place, 0)
}

fn check_at(condition: &Condition, place: &str, depth: usize) -> Result<()> {
    let forms = [
        condition.field.is_some(),
        condition.all.is_some(),
        condition.any.is_some(),
        condition.not.is_some(),
    ];
    let refuse = |what: String, place: String| Err(wrong("bad_condition", what, &place));
    if depth > DEPTH_MAX {
        return refuse(
            format!("conditions nest deeper than {DEPTH_MAX} levels"),
            place.to_owned(),
        );
    }
    if forms.iter().filter(|is_used| **is_used).count() != 1 {
        return refuse(
            "a condition has exactly one of the keys `field`, `all`, `any`, `not`".to_owned(),
            place.to_owned(),
        );
    }
    let lists = [("all", &condition.all), ("any", &condition.any)];
    for (key, list) in lists {
        if list.as_ref().is_some_and(Vec::is_empty) {
            return refuse(format!("`{key}` is empty"), format!("{place}.{key}"));
        }
        for (index, inner) in list.iter().flatten().enumerate() {
            check_at(inner, &format!("{place}.{key}[{index}]"), depth + 1)?;
        }
    }
    if let Some(inner) = &condition.not {
        check_at(inner, &format!("{place}.not"), depth + 1)?;
    }
    check_field(condition, place)
}

/// Checks that a comparison has what its operator takes, and that other forms have none of it.
fn check_field(condition: &Condition, place: &str) -> Result<()> {
    let refuse = |what: String, place: String| Err(wrong("bad_condition", what, &place));
    if condition.field.is_none() {
        let has_rest = condition.op.is_some() || condition.value.is_some() || condition.values.is_some();
        return if has_rest {
            refuse(
                "`op`, `value` and `values` belong to a `field`".to_owned(),
                place.to_owned(),
            )
        } else {
            Ok(())
        };
    }
    let Some(operator) = condition.op else {
        return refuse("the key `op` is missing".to_owned(), place.to_owned());
    };
    let name = operator.name();
    for (key, is_given, is_wanted) in [
        ("value", condition.value.is_some(), operator.takes_value()),
        ("values", condition.values.is_some(), operator.takes_values()),
    ] {
        if is_wanted && !is_given {
            return refuse(format!("`{name}` takes `{key}`"), place.to_owned());
        }
        if is_given && !is_wanted {
            return refuse(format!("`{name}` takes no `{key}`"), format!("{place}.{key}"));
        }
    }
    if condition.values.as_ref().is_some_and(Vec::is_empty) {
        return refuse("`values` is empty".to_owned(), format!("{place}.values"));
    }
    if operator == Operator::Matches {
        pattern(condition.value.as_ref(), &format!("{place}.value"))?;
    }
    Ok(())
}

/// Compiles the regular expression of `matches`.
pub(crate) fn pattern(value: Option<&Value>, place: &str) -> Result<Regex> {
    let text = value.and_then(Value::as_str);
    let regex = text.and_then(|text| RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build().ok());
    regex.ok_or_else(|| {
        wrong(
            "bad_pattern",
            "the regular expression cannot be read, or is too large",
            place,
        )
        .with_help("the syntax is that of the Rust crate `regex`: no look-around, no back references")
    })
}
