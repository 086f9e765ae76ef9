//! What can be wrong with a step whatever the collection: found when the job is read, not when a collection is planned.
//! Neighbours: `reading` has made steps of the JSON before, `plan` compares them with the fields of a collection.

use crate::cast::{Settings, TimeReader, target_of};
use crate::cleaning::Spelling;
use crate::condition;
use crate::config::{Ambiguous, Cast, Dates, Flatten, SetObject, SetValue, Step};
use crate::date_format::DateFormat;
use crate::parts::Pointer;
use crate::reading::{PlacedStep, wrong};
use crate::zone::Zone;

use whimbrel_plugin_api::record_type::PRESENCE_COLUMN;
use whimbrel_plugin_api::{Error, Result};

/// Checks one step.
pub(crate) fn step(placed: &PlacedStep) -> Result<()> {
    let place = placed.place.as_str();
    match &placed.step {
        Step::Rename(names) => {
            let place = format!("{place}.rename");
            not_empty(names.is_empty(), "names", &place)?;
            names
                .iter()
                .try_for_each(|(old, new)| new_name(new, &format!("{place}.{old}")))
        }
        Step::Cast(cast) => {
            let place = format!("{place}.cast");
            cast_fields(cast, &place)?;
            zone(cast.zone.as_deref(), cast.ambiguous, &place).map(drop)
        }
        Step::Select(fields) => names(fields, &format!("{place}.select")),
        Step::Drop(fields) => names(fields, &format!("{place}.drop")),
        Step::Set(values) => {
            let place = format!("{place}.set");
            not_empty(values.is_empty(), "fields", &place)?;
            values.iter().try_for_each(|(name, value)| {
                new_name(name, &place)?;
                set_value(value, &format!("{place}.{name}"))
            })
        }
        Step::Default(values) => not_empty(values.is_empty(), "fields", &format!("{place}.default")),
        Step::Flatten(settings) => flatten(settings, &format!("{place}.flatten")),
        Step::Trim(fields) => names(fields, &format!("{place}.trim")),
        Step::Normalise(settings) => {
            let place = format!("{place}.normalise");
            names(&settings.fields, &format!("{place}.fields"))?;
            if Spelling::new(settings).is_empty() {
                return Err(wrong(
                    "nothing_to_do",
                    "it is not said what to normalise (valid keys: unicode, case, whitespace, empty_to_null)",
                    &place,
                ));
            }
            Ok(())
        }
        Step::Dates(settings) => {
            let place = format!("{place}.dates");
            names(&settings.fields, &format!("{place}.fields"))?;
            time_reader(settings, &place).map(drop)
        }
        Step::Filter(settings) => condition::check(&settings.condition, &format!("{place}.filter.where")),
    }
}

/// The fields that a `cast` names, each with its place.
pub(crate) fn cast_fields<'c>(cast: &'c Cast, place: &str) -> Result<Vec<(&'c str, String)>> {
    match (&cast.field, &cast.fields) {
        (Some(field), None) => Ok(vec![(field.as_str(), format!("{place}.field"))]),
        (None, Some(fields)) => {
            let place = format!("{place}.fields");
            names(fields, &place)?;
            let placed = fields.iter().enumerate();
            Ok(placed
                .map(|(index, field)| (field.as_str(), format!("{place}[{index}]")))
                .collect())
        }
        _ => Err(wrong(
            "bad_step",
            "a cast has either the key `field` or the key `fields`",
            place,
        )),
    }
}

/// The zone of a step, if it has one.
pub(crate) fn zone(text: Option<&str>, ambiguous: Ambiguous, place: &str) -> Result<Option<Zone>> {
    match text {
        Some(text) => Zone::parse(text, ambiguous, &format!("{place}.zone")).map(Some),
        None if ambiguous != Ambiguous::Reject => Err(wrong(
            "unused_setting",
            "`ambiguous` has no meaning without a `zone`",
            &format!("{place}.ambiguous"),
        )),
        None => Ok(None),
    }
}

/// The reader of a `dates`.
pub(crate) fn time_reader(dates: &Dates, place: &str) -> Result<TimeReader> {
    not_empty(dates.formats.is_empty(), "formats", &format!("{place}.formats"))?;
    let formats = dates.formats.iter().enumerate().map(|(index, text)| {
        let place = format!("{place}.formats[{index}]");
        Ok((DateFormat::parse(text, &place)?, place))
    });
    let settings = Settings {
        format: None,
        rounding: dates.rounding,
        zone: zone(dates.zone.as_deref(), dates.ambiguous, place)?,
        place,
    };
    TimeReader::new(formats.collect::<Result<_>>()?, &target_of(dates.to), &settings)
}

/// Refuses a list without names, and names that stand twice.
fn names(fields: &[String], place: &str) -> Result<()> {
    not_empty(fields.is_empty(), "fields", place)?;
    for (index, name) in fields.iter().enumerate() {
        if fields[..index].contains(name) {
            return Err(wrong(
                "field_twice",
                format!("the field `{name}` stands twice"),
                &format!("{place}[{index}]"),
            ));
        }
    }
    Ok(())
}

fn not_empty(is_empty: bool, what: &str, place: &str) -> Result<()> {
    if is_empty {
        return Err(wrong("nothing_to_do", format!("there are no {what}"), place));
    }
    Ok(())
}

/// Refuses a name that no field may have.
pub(crate) fn new_name(name: &str, place: &str) -> Result<()> {
    let refuse = |what: String| -> Result<(), Error> { Err(wrong("bad_name", what, place)) };
    match name {
        "" => refuse("a field's name is empty".to_owned()),
        PRESENCE_COLUMN => refuse(format!("the field name `{PRESENCE_COLUMN}` is reserved")),
        _ => Ok(()),
    }
}

fn set_value(value: &SetValue, place: &str) -> Result<()> {
    let refuse = |what: &str| Err(wrong("bad_value", what, place));
    match value {
        SetValue::Constant(_) => Ok(()),
        SetValue::Detailed(SetObject {
            value: None,
            to: None,
            from: None,
        }) => refuse("it is not said what to set (valid keys: value, type, from)"),
        SetValue::Detailed(SetObject {
            from: Some(_),
            value,
            to,
        }) if value.is_some() || to.is_some() => {
            refuse("`from` stands alone: cast the field in a step of its own")
        }
        SetValue::Detailed(_) => Ok(()),
    }
}

fn flatten(settings: &Flatten, place: &str) -> Result<()> {
    if settings.depth == Some(0) {
        return Err(wrong(
            "bad_value",
            "`depth` is out of range (valid: 1 to 100)",
            &format!("{place}.depth"),
        ));
    }
    let Some(paths) = &settings.paths else {
        return Ok(());
    };
    let place = format!("{place}.paths");
    not_empty(paths.is_empty(), "paths", &place)?;
    for (index, part) in paths.iter().enumerate() {
        let place = format!("{place}[{index}]");
        if Pointer::parse(&part.path).is_none() {
            return Err(wrong(
                "bad_path",
                "the path is no JSON pointer",
                &format!("{place}.path"),
            )
            .with_help("write /address/city for a member of a member, /tags/0 for the first of a list"));
        }
        new_name(&part.to, &format!("{place}.to"))?;
    }
    Ok(())
}
