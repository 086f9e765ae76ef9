//! From one record type to another: which way a conversion goes, and running it over columns.
//!
//! The rule for all: a value arrives exactly, or the job has said how it may change, or it does not convert. A float is
//! exactly a decimal number if its shortest text is that number, and a text that is read as a float is the nearest one.
//! Files: `numbers`, `texts`, `moments` (dates and times), `json`, `octets` run the ways that are chosen here.

mod json;
mod moments;
mod numbers;
mod octets;
mod texts;
mod time_reader;

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::ArrayRef;
use whimbrel_plugin_api::{RecordType, Result};

use crate::columns::Converted;
use crate::config::Rounding;
use crate::reading::wrong;
use crate::zone::Zone;

pub(crate) use json::{decode_slice, new_decoder, untagged};
pub(crate) use time_reader::{TimeReader, target_of};

use json::JsonWay;
use moments::MomentWay;
use numbers::NumberWay;
use octets::OctetWay;
use texts::TextWay;

/// A conversion that has been found possible.
#[derive(Debug, Clone)]
pub(crate) struct Conversion {
    from: RecordType,
    to: RecordType,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    /// The column as it is; physical types are alike and every value is one of the new type.
    Same,
    Number(NumberWay),
    Text(TextWay),
    Moment(MomentWay),
    Json(JsonWay),
    Octet(OctetWay),
}

/// What a job says about a conversion beside the type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub(crate) format: Option<&'a str>,
    pub(crate) rounding: Option<Rounding>,
    pub(crate) zone: Option<Zone>,
    /// Place of the step's settings in the config.
    pub(crate) place: &'a str,
}

impl<'a> Settings<'a> {
    /// Nothing but the place.
    pub(crate) const fn none(place: &'a str) -> Self {
        Self {
            format: None,
            rounding: None,
            zone: None,
            place,
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.place)
    }
}

/// A way with the settings that it heeds, so that one that means nothing is refused.
struct Chosen {
    way: Way,
    heeds: &'static [&'static str],
}

impl Chosen {
    const fn new(way: Way) -> Self {
        Self { way, heeds: &[] }
    }

    const fn heeding(way: Way, heeds: &'static [&'static str]) -> Self {
        Self { way, heeds }
    }
}

impl Conversion {
    /// Finds the way from `from` to `to`.
    ///
    /// # Errors
    /// `reshape.cast_unsupported`, `reshape.unused_setting`, `reshape.no_zone`, `reshape.bad_format`.
    pub(crate) fn new(
        from: &RecordType,
        to: &RecordType,
        settings: &Settings<'_>,
        field: &str,
    ) -> Result<Self> {
        let Some(chosen) = choose(from, to, settings)? else {
            return Err(wrong(
                "cast_unsupported",
                format!("the field `{field}` of type `{from}` cannot become `{to}`"),
                &settings.key("to"),
            )
            .with_help(format!("a `{from}` can become: {}", targets(from))));
        };
        for (key, is_set) in [
            ("format", settings.format.is_some()),
            ("rounding", settings.rounding.is_some()),
            ("zone", settings.zone.is_some()),
        ] {
            if is_set && !chosen.heeds.contains(&key) {
                return Err(wrong(
                    "unused_setting",
                    format!("`{key}` has no meaning when `{from}` becomes `{to}` (field `{field}`)"),
                    &settings.key(key),
                )
                .with_help(format!("take `{key}` out")));
            }
        }
        Ok(Self {
            from: from.clone(),
            to: to.clone(),
            way: chosen.way,
        })
    }

    /// Whether a value that is not null may become null without having failed.
    pub(crate) const fn makes_nulls(&self) -> bool {
        matches!(self.from, RecordType::Json | RecordType::Variant) && !matches!(self.way, Way::Same)
    }

    /// Converts a column.
    pub(crate) fn run(&self, array: &ArrayRef) -> Result<Converted> {
        match &self.way {
            Way::Same => Ok(Converted::whole(Arc::clone(array))),
            Way::Number(way) => way.run(array),
            Way::Text(way) => way.run(&self.from, &self.to, array),
            Way::Moment(way) => way.run(array),
            Way::Json(way) => way.run(&self.from, &self.to, array),
            Way::Octet(way) => way.run(array),
        }
    }
}

/// Whether a type is text to everyone but its own system.
const fn is_text_like(record_type: &RecordType) -> bool {
    matches!(
        record_type,
        RecordType::Text | RecordType::Reference | RecordType::Opaque { .. }
    )
}

const fn is_number(record_type: &RecordType) -> bool {
    matches!(
        record_type,
        RecordType::Int { .. } | RecordType::Float { .. } | RecordType::Decimal { .. } | RecordType::Numeric
    )
}

const fn is_moment(record_type: &RecordType) -> bool {
    matches!(
        record_type,
        RecordType::Date | RecordType::Time | RecordType::Timestamp | RecordType::TimestampTz
    )
}

const fn is_list(record_type: &RecordType) -> bool {
    matches!(record_type, RecordType::List { .. } | RecordType::Vector)
}

const fn is_struct(record_type: &RecordType) -> bool {
    matches!(record_type, RecordType::Struct { .. } | RecordType::Geopoint)
}

fn choose(from: &RecordType, to: &RecordType, settings: &Settings<'_>) -> Result<Option<Chosen>> {
    use RecordType as T;
    Ok(Some(match (from, to) {
        _ if from == to => Chosen::new(Way::Same),
        (T::Json | T::Variant, _) => return from_json(from, to, settings),
        (T::Bytes, T::Text) => Chosen::heeding(Way::Octet(OctetWay::text(false, settings)?), &["format"]),
        _ if is_text_like(from) => return from_text(from, to, settings),
        (T::Numeric | T::TimeTz, T::Text) => Chosen::new(Way::Same),
        (T::Uuid, T::Bytes) => Chosen::new(Way::Octet(OctetWay::UuidToBytes)),
        (T::Bytes, T::Uuid) => Chosen::new(Way::Octet(OctetWay::BytesToUuid)),
        (_, T::Json) => Chosen::new(Way::Json(JsonWay::Encode)),
        (T::Bool | T::Int { .. } | T::Float { .. }, T::Variant) => {
            Chosen::new(Way::Json(JsonWay::EncodeVariant))
        }
        (_, T::Text) if is_list(from) || is_struct(from) => Chosen::new(Way::Json(JsonWay::Encode)),
        (_, T::Text) if is_moment(from) && settings.format.is_some() => {
            let way = MomentWay::write(from, settings)?;
            Chosen::heeding(Way::Moment(way), &["format", "zone"])
        }
        (T::Int { .. } | T::Uuid, T::Reference | T::Opaque { .. }) | (_, T::Text) => {
            Chosen::new(Way::Text(TextWay::Plain))
        }
        (T::Bool, T::Int { .. }) | (T::Int { .. }, T::Bool) => {
            Chosen::new(Way::Number(NumberWay::bool(from, to)))
        }
        (T::Int { .. }, T::TimestampTz) | (T::TimestampTz, T::Int { .. }) => {
            let way = MomentWay::unix(from, to, settings)?;
            Chosen::heeding(Way::Moment(way), &["format"])
        }
        _ if is_number(from) && is_number(to) => {
            let way = match NumberWay::number(from, to, settings.rounding) {
                Some(way) => Way::Number(way),
                None => Way::Text(TextWay::rounded(to, settings.rounding)),
            };
            Chosen::heeding(way, rounding_heeded(to))
        }
        _ if is_moment(from) && is_moment(to) => return moments::between(from, to, settings),
        _ if is_list(from) && is_list(to) || is_struct(from) && is_struct(to) => {
            Chosen::new(Way::Json(JsonWay::Through))
        }
        _ => return Ok(None),
    }))
}

/// From json and variant.
fn from_json(from: &RecordType, to: &RecordType, settings: &Settings<'_>) -> Result<Option<Chosen>> {
    use RecordType as T;
    Ok(Some(match (from, to) {
        (_, T::Text) if settings.format == Some("plain") => {
            Chosen::heeding(Way::Json(JsonWay::Unquote), &["format"])
        }
        (_, T::Text) if settings.format.is_some() => {
            return Err(wrong(
                "bad_format",
                format!("the format of `{from}` as text is unknown (valid: plain)"),
                &settings.key("format"),
            ));
        }
        (_, T::Text) | (T::Json, T::Variant) | (T::Variant, T::Json) => Chosen::new(Way::Same),
        (T::Json, _) => Chosen::new(Way::Json(JsonWay::Decode)),
        // Octets stand as hexadecimal digits in a variant and as base64 in JSON.
        (_, T::Bytes) => return Ok(None),
        _ => Chosen::new(Way::Json(JsonWay::DecodeVariant)),
    }))
}

/// From text, reference and opaque.
fn from_text(from: &RecordType, to: &RecordType, settings: &Settings<'_>) -> Result<Option<Chosen>> {
    use RecordType as T;
    Ok(Some(match (from, to) {
        (_, T::Bytes) => Chosen::heeding(Way::Octet(OctetWay::text(true, settings)?), &["format"]),
        _ if is_text_like(to) => Chosen::new(Way::Same),
        // A text may hold JSON; a reference or an opaque value is a string to it.
        (T::Text, T::Json | T::Variant) => Chosen::new(Way::Json(JsonWay::Validate)),
        (T::Text, _) if is_list(to) || is_struct(to) => Chosen::new(Way::Json(JsonWay::Decode)),
        (_, T::Json) => Chosen::new(Way::Json(JsonWay::Encode)),
        (_, T::Variant) => return Ok(None),
        _ if is_list(to) || is_struct(to) => return Ok(None),
        _ if is_moment(to) && settings.format.is_some() => {
            let way = MomentWay::read(to, settings)?;
            Chosen::heeding(Way::Moment(way), &["format", "zone", "rounding"])
        }
        (_, T::Int { .. } | T::Decimal { .. }) if settings.rounding.is_some() => {
            Chosen::heeding(Way::Text(TextWay::rounded(to, settings.rounding)), &["rounding"])
        }
        _ => Chosen::new(Way::Text(TextWay::Plain)),
    }))
}

/// Every number has a nearest `numeric`, so that rounding has no meaning there.
const fn rounding_heeded(to: &RecordType) -> &'static [&'static str] {
    match to {
        RecordType::Numeric => &[],
        _ => &["rounding"],
    }
}

/// The types that `from` can become, for a message.
fn targets(from: &RecordType) -> String {
    let names = RecordType::one_of_each().into_iter().filter(|to| {
        let settings = Settings::none("");
        // A way that only lacks a setting is a way.
        from != to && !matches!(choose(from, to, &settings), Ok(None))
    });
    names.map(|to| to.to_string()).collect::<Vec<_>>().join(", ")
}
