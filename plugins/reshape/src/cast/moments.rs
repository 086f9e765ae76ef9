//! Dates, times and timestamps: read from text, written as text, and one as another.
//!
//! A day is a number of days, everything else microseconds; the infinities of one type are those of another.

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::types::{
    Date32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef};
use whimbrel_plugin_api::{RecordType, Result};

use crate::columns::{Converted, TextColumn, map_values, nulls_at};
use crate::date_format::{DAY_MICROS, DateFormat, Moment, unix_of, unix_scale};
use crate::reading::wrong;
use crate::zone::{Zone, finite, is_infinite};

use super::numbers::{narrowed, widen};
use super::time_reader::{TimeReader, cut, timestamps};
use super::{Chosen, Settings, Way};

/// How dates and times convert.
#[derive(Debug, Clone)]
pub(super) enum MomentWay {
    Read(TimeReader),
    Write {
        from: RecordType,
        format: DateFormat,
        zone: Option<Zone>,
    },
    FromUnix {
        bits: u8,
        digits: u32,
    },
    ToUnix {
        bits: u8,
        digits: u32,
    },
    /// With a zone, to an instant.
    DateToTimestamp(Option<Zone>),
    /// With a zone, from an instant.
    TimestampToDate {
        zone: Option<Zone>,
        is_cut: bool,
    },
    ToInstant(Zone),
    ToLocal(Zone),
}

/// The day of a local time; `None` if more than a day would be cut off and may not.
pub(super) fn days_of(local_micros: i64, is_cut: bool) -> Option<i32> {
    match local_micros {
        i64::MAX => Some(i32::MAX),
        i64::MIN => Some(i32::MIN),
        _ if !is_cut && local_micros.rem_euclid(DAY_MICROS) != 0 => None,
        _ => i32::try_from(local_micros.div_euclid(DAY_MICROS)).ok(),
    }
}

fn midnight(days: i32) -> Option<i64> {
    match days {
        i32::MAX => Some(i64::MAX),
        i32::MIN => Some(i64::MIN),
        _ => finite(i64::from(days).checked_mul(DAY_MICROS)?),
    }
}

/// The way from one of date, timestamp and timestamp with zone to another.
pub(super) fn between(from: &RecordType, to: &RecordType, settings: &Settings<'_>) -> Result<Option<Chosen>> {
    use RecordType as T;
    let needed = || {
        settings.zone.ok_or_else(|| {
            wrong(
                "no_zone",
                format!("it takes a `zone` to make `{to}` of `{from}`"),
                settings.place,
            )
            .with_help("add `zone: UTC`, or the zone that is meant")
        })
    };
    Ok(Some(match (from, to) {
        (T::Date, T::Timestamp) => Chosen::new(Way::Moment(MomentWay::DateToTimestamp(None))),
        (T::Date, T::TimestampTz) => Chosen::heeding(
            Way::Moment(MomentWay::DateToTimestamp(Some(needed()?))),
            &["zone"],
        ),
        (T::Timestamp, T::Date) => {
            let way = MomentWay::TimestampToDate {
                zone: None,
                is_cut: cut(to, settings)?,
            };
            Chosen::heeding(Way::Moment(way), &["rounding"])
        }
        (T::TimestampTz, T::Date) => {
            let way = MomentWay::TimestampToDate {
                zone: Some(needed()?),
                is_cut: cut(to, settings)?,
            };
            Chosen::heeding(Way::Moment(way), &["zone", "rounding"])
        }
        (T::Timestamp, T::TimestampTz) => {
            Chosen::heeding(Way::Moment(MomentWay::ToInstant(needed()?)), &["zone"])
        }
        (T::TimestampTz, T::Timestamp) => {
            Chosen::heeding(Way::Moment(MomentWay::ToLocal(needed()?)), &["zone"])
        }
        _ => return Ok(None),
    }))
}

impl MomentWay {
    pub(super) fn read(to: &RecordType, settings: &Settings<'_>) -> Result<Self> {
        let place = settings.key("format");
        let format = DateFormat::parse(settings.format.unwrap_or_default(), &place)?;
        TimeReader::new(vec![(format, place)], to, settings).map(Self::Read)
    }

    pub(super) fn write(from: &RecordType, settings: &Settings<'_>) -> Result<Self> {
        let place = settings.key("format");
        let format = DateFormat::parse(settings.format.unwrap_or_default(), &place)?;
        let is_instant = *from == RecordType::TimestampTz;
        let has_parts = match from {
            RecordType::Date => !format.has_time() && !format.has_offset(),
            RecordType::Time => !format.has_date() && !format.has_offset(),
            _ => is_instant || !format.has_offset(),
        };
        if !has_parts {
            return Err(wrong(
                "bad_format",
                format!("the format asks for parts that a `{from}` does not have"),
                &place,
            ));
        }
        if settings.zone.is_some() && !is_instant {
            return Err(wrong(
                "unused_setting",
                format!("`zone` has no meaning when a `{from}` becomes text"),
                &settings.key("zone"),
            )
            .with_help("take `zone` out"));
        }
        Ok(Self::Write {
            from: from.clone(),
            format,
            zone: settings.zone,
        })
    }

    pub(super) fn unix(from: &RecordType, to: &RecordType, settings: &Settings<'_>) -> Result<Self> {
        let place = settings.key("format");
        let format = settings
            .format
            .map(|text| DateFormat::parse(text, &place))
            .transpose()?;
        let Some(DateFormat::Unix { digits }) = format else {
            return Err(wrong(
                "bad_format",
                format!("it takes a `format` to make `{to}` of `{from}` (valid: unix_s, unix_ms, unix_us)"),
                &place,
            ));
        };
        Ok(match (from, to) {
            (RecordType::Int { bits }, _) => Self::FromUnix { bits: *bits, digits },
            (_, RecordType::Int { bits }) => Self::ToUnix { bits: *bits, digits },
            _ => Self::ToUnix { bits: 64, digits },
        })
    }

    pub(super) fn run(&self, array: &ArrayRef) -> Result<Converted> {
        Ok(match self {
            Self::Read(reader) => reader.run(array),
            Self::Write { from, format, zone } => write(array, from, format, *zone)?,
            Self::FromUnix { bits, digits } => {
                let (micros, failed) =
                    map_values::<_, TimestampMicrosecondType>(&widen(array, *bits), |value| {
                        finite(unix_scale(value, *digits)?)
                    });
                Converted {
                    array: timestamps(micros, true),
                    failed,
                }
            }
            Self::ToUnix { bits, digits } => {
                let instants = array.as_primitive::<TimestampMicrosecondType>();
                let whole = map_values::<_, Int64Type>(instants, |micros| unix_of(finite(micros)?, *digits));
                narrowed(whole, *bits)
            }
            Self::DateToTimestamp(zone) => {
                let days = array.as_primitive::<Date32Type>();
                let (micros, failed) = map_values(days, |days| match zone {
                    Some(zone) => zone.to_instant(midnight(days)?),
                    None => midnight(days),
                });
                Converted {
                    array: timestamps(micros, zone.is_some()),
                    failed,
                }
            }
            Self::TimestampToDate { zone, is_cut } => {
                let micros = array.as_primitive::<TimestampMicrosecondType>();
                let (days, failed) = map_values::<_, Date32Type>(micros, |micros| match zone {
                    Some(zone) => days_of(zone.to_local(micros)?, *is_cut),
                    None => days_of(micros, *is_cut),
                });
                Converted {
                    array: Arc::new(days),
                    failed,
                }
            }
            Self::ToInstant(zone) => shift(array, true, |micros| zone.to_instant(micros)),
            Self::ToLocal(zone) => shift(array, false, |micros| zone.to_local(micros)),
        })
    }
}

fn shift(array: &ArrayRef, is_instant: bool, convert: impl Fn(i64) -> Option<i64>) -> Converted {
    let (micros, failed) = map_values(array.as_primitive::<TimestampMicrosecondType>(), convert);
    Converted {
        array: timestamps(micros, is_instant),
        failed,
    }
}

fn write(array: &ArrayRef, from: &RecordType, format: &DateFormat, zone: Option<Zone>) -> Result<Converted> {
    let moment = |row: usize| match from {
        RecordType::Date => local(midnight(array.as_primitive::<Date32Type>().value(row))?),
        RecordType::Time => {
            let micros = array.as_primitive::<Time64MicrosecondType>().value(row);
            // 24:00:00 would come out as the midnight before.
            local(micros).filter(|_| (0..DAY_MICROS).contains(&micros))
        }
        RecordType::Timestamp => local(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        _ => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            match zone {
                _ if is_infinite(micros) => None,
                None => Some(Moment::instant(micros)),
                Some(zone) => Some(Moment {
                    local_micros: zone.to_local(micros)?,
                    offset: Some(zone.offset_at(micros)?),
                }),
            }
        }
    };
    let mut column = TextColumn::new(array.len(), array.len() * 24);
    let mut failed = Vec::new();
    for row in 0..array.len() {
        if array.is_valid(row) {
            let is_written = moment(row).and_then(|moment| format.write(moment, column.text()));
            if is_written.is_none() {
                column.cut();
                failed.push(row);
            }
        }
        column.end()?;
    }
    Ok(Converted {
        array: column.finish(nulls_at(array.nulls(), &failed, array.len()))?,
        failed,
    })
}

fn local(micros: i64) -> Option<Moment> {
    (!is_infinite(micros)).then_some(Moment {
        local_micros: micros,
        offset: None,
    })
}
