//! Reads columns of texts as dates and times, in one of several formats each.
//! Both `dates` and a `cast` with a format read with it. Neighbours: `date_format` (one format), `zone`.

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::types::{Date32Type, Time64MicrosecondType, TimestampMicrosecondType};
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef, PrimitiveArray};
use whimbrel_plugin_api::arrow_buffer::NullBuffer;
use whimbrel_plugin_api::{RecordType, Result};

use crate::columns::{Converted, nulls_at};
use crate::config::{DateTarget, Rounding};
use crate::date_format::{DateFormat, SECOND_MICROS};
use crate::reading::wrong;
use crate::zone::{Zone, finite};

use super::Settings;
use super::moments::days_of;

/// The record type of a target of `dates`.
pub(crate) const fn target_of(target: DateTarget) -> RecordType {
    match target {
        DateTarget::Date => RecordType::Date,
        DateTarget::Time => RecordType::Time,
        DateTarget::Timestamp => RecordType::Timestamp,
        DateTarget::TimestampTz => RecordType::TimestampTz,
    }
}

/// Reads texts in one of several formats.
#[derive(Debug, Clone)]
pub(crate) struct TimeReader {
    formats: Vec<DateFormat>,
    target: RecordType,
    zone: Option<Zone>,
    is_cut: bool,
}

impl TimeReader {
    /// Checks that each format says what the target needs.
    ///
    /// # Errors
    /// `reshape.bad_format`, `reshape.no_zone`, `reshape.unused_setting`, `reshape.bad_value`.
    pub(crate) fn new(
        formats: Vec<(DateFormat, String)>,
        target: &RecordType,
        settings: &Settings<'_>,
    ) -> Result<Self> {
        let has_zone = settings.zone.is_some();
        let mut uses_zone = false;
        for (format, place) in &formats {
            let says = if *target == RecordType::Time {
                format.has_time() && !format.has_date() && !format.has_offset()
            } else {
                format.has_date()
            };
            if !says {
                return Err(wrong(
                    "bad_format",
                    format!("a text in this format does not say a `{target}`"),
                    place,
                ));
            }
            let is_instant = *target == RecordType::TimestampTz;
            let needs_zone = *target != RecordType::Time && format.has_offset() != is_instant;
            if needs_zone && !has_zone {
                let what = if is_instant {
                    "has no offset, so that it takes a `zone` to make an instant of it"
                } else {
                    "is an instant, so that it takes a `zone` to make a local day and time of it"
                };
                return Err(wrong("no_zone", format!("a text in this format {what}"), place)
                    .with_help("add `zone: UTC`, or the zone that is meant"));
            }
            uses_zone |= needs_zone;
        }
        if has_zone && !uses_zone {
            return Err(wrong(
                "unused_setting",
                format!("`zone` has no meaning for these formats and `{target}`"),
                &settings.key("zone"),
            )
            .with_help("take `zone` out"));
        }
        Ok(Self {
            formats: formats.into_iter().map(|(format, _)| format).collect(),
            is_cut: cut(target, settings)?,
            target: target.clone(),
            zone: settings.zone,
        })
    }

    /// The number behind the value, or `None` if the text is in no format or has no such value.
    fn read(&self, text: &str) -> Option<i64> {
        let moment = self.formats.iter().find_map(|format| format.read(text))?;
        let instant = |offset: i64| moment.local_micros.checked_sub(offset * SECOND_MICROS);
        match (&self.target, moment.offset) {
            (RecordType::TimestampTz, Some(offset)) => finite(instant(offset)?),
            (RecordType::TimestampTz, None) => self.zone?.to_instant(moment.local_micros),
            (_, Some(offset)) => self.in_days(self.zone?.to_local(instant(offset)?)?),
            (_, None) => self.in_days(moment.local_micros),
        }
    }

    fn in_days(&self, local_micros: i64) -> Option<i64> {
        if self.target == RecordType::Date {
            days_of(local_micros, self.is_cut).map(i64::from)
        } else {
            Some(local_micros)
        }
    }

    /// Reads a column of texts.
    pub(crate) fn run(&self, array: &ArrayRef) -> Converted {
        let texts = array.as_string::<i32>();
        let mut values = Vec::with_capacity(array.len());
        let mut failed = Vec::new();
        for row in 0..array.len() {
            let value = if texts.is_null(row) {
                Some(0)
            } else {
                self.read(texts.value(row))
            };
            if value.is_none() {
                failed.push(row);
            }
            values.push(value.unwrap_or(0));
        }
        let nulls = nulls_at(texts.nulls(), &failed, array.len());
        Converted {
            array: moments(&self.target, values, nulls),
            failed,
        }
    }
}

/// Whether the settings let a time of day be cut off.
pub(super) fn cut(to: &RecordType, settings: &Settings<'_>) -> Result<bool> {
    match settings.rounding {
        None => Ok(false),
        Some(Rounding::Floor) if *to == RecordType::Date => Ok(true),
        Some(_) => Err(wrong(
            "bad_value",
            format!("this rounding has no meaning for a `{to}` (valid: `floor`, where the result is a date)"),
            &settings.key("rounding"),
        )),
    }
}

fn moments(target: &RecordType, values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    match target {
        RecordType::Date => {
            // They came from days.
            let days: Vec<i32> = values.iter().map(|days| *days as i32).collect();
            Arc::new(PrimitiveArray::<Date32Type>::new(days.into(), nulls))
        }
        RecordType::Time => Arc::new(PrimitiveArray::<Time64MicrosecondType>::new(values.into(), nulls)),
        _ => timestamps(
            PrimitiveArray::new(values.into(), nulls),
            *target == RecordType::TimestampTz,
        ),
    }
}

/// A column of timestamps, of instants or without a zone.
pub(super) fn timestamps(array: PrimitiveArray<TimestampMicrosecondType>, is_instant: bool) -> ArrayRef {
    Arc::new(if is_instant {
        array.with_timezone("UTC")
    } else {
        array
    })
}
