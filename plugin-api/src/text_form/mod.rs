//! The canonical text of every scalar record type, and its way back, exact in both directions.
//!
//! The text of each type is listed at [`TextEncoder`]; what is read besides, at [`TextDecoder`]. Dates and
//! times have functions of their own for connectors that meet them one at a time. Lists, structs, geopoints
//! and vectors have no text form: see [`crate::json_form`]. Nothing here does I/O.

mod ascii;
mod civil;
mod clock;
mod decimal;
mod decoder;
mod encoder;
mod interval;
mod number;
mod octet_runs;
mod octets;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
pub(crate) mod samples;
mod scalar_column;

pub use civil::{civil_from_days, days_from_civil, parse_date, write_date};
pub use clock::{
    parse_time, parse_timestamp, parse_timestamp_tz, write_time, write_timestamp, write_timestamp_tz,
};
pub use decoder::TextDecoder;
pub use encoder::TextEncoder;

pub(crate) use ascii::Sink;
pub(crate) use number::{Float, is_special, special, with_json_float};
pub(crate) use octet_runs::{Ends, Refusal};
pub(crate) use scalar_column::ScalarColumn;

use arrow_array::{Array, ArrayRef};

use crate::error::{Error, ErrorKind, ErrorScope, Result};
use crate::record_type::RecordType;

/// The error of a text that is no value of `record_type`. Only its record is at fault.
pub(crate) fn bad_value(record_type: &RecordType) -> Error {
    Error::invalid_data(
        "text_form.bad_value",
        format!("a text is not a value of the type `{record_type}`"),
    )
    .with_scope(ErrorScope::Rows)
}

/// The error of a column that would pass the 2 GiB that its offsets can count.
pub(crate) fn too_large(record_type: &RecordType) -> Error {
    Error::invalid_data(
        "text_form.too_large",
        format!("a column of the type `{record_type}` holds at most 2 GiB in one batch"),
    )
    .with_help("make batches smaller")
    .with_scope(ErrorScope::Rows)
}

/// Refuses parameters outside the closed list, and an array that is not the physical type of `record_type`.
pub(crate) fn check_array(record_type: &RecordType, array: &ArrayRef) -> Result<()> {
    record_type.validate()?;
    let wanted = record_type.to_arrow();
    if array.data_type().equals_datatype(&wanted) {
        return Ok(());
    }
    Err(Error::internal(format!(
        "a column is `{}`, its type `{record_type}` travels as `{wanted}`",
        array.data_type()
    )))
}

/// Refuses the types that hold other values.
fn check_scalar(record_type: &RecordType) -> Result<()> {
    record_type.validate()?;
    match record_type {
        RecordType::List { .. } | RecordType::Struct { .. } | RecordType::Geopoint | RecordType::Vector => {
            Err(Error::new(
                ErrorKind::Unsupported,
                "text_form.nested_type",
                format!("the type `{record_type}` has no text form"),
            )
            .with_help("use its JSON form"))
        }
        _ => Ok(()),
    }
}
