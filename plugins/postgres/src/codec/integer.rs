//! Integers on the wire: two, four or eight octets with a sign, four without, or a `numeric`.
//!
//! Both ways; what is too wide for the other side is refused.

use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::{Error, Result};

use super::incoming::fixed;
use super::numeric::{Numeric, put_int};
use super::outgoing::{fill_length, put_fixed};
use super::{Refusal, Stop, Wire};

/// How integers travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IntWire {
    Int2,
    Int4,
    Int8,
    Oid,
    Numeric,
}

impl IntWire {
    pub(super) fn of(wire: &Wire) -> Result<Self> {
        Ok(match wire {
            Wire::Int2 => Self::Int2,
            Wire::Int4 => Self::Int4,
            Wire::Int8 => Self::Int8,
            Wire::Oid => Self::Oid,
            Wire::Numeric => Self::Numeric,
            _ => return Err(no_way(&RecordType::INT64, wire)),
        })
    }

    /// Appends the length of a value and the value.
    #[inline]
    pub(super) fn put(self, value: i64, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let too_wide = |_| Refusal::OutOfRange;
        match self {
            Self::Int2 => put_fixed(i16::try_from(value).map_err(too_wide)?.to_be_bytes(), out),
            Self::Int4 => put_fixed(i32::try_from(value).map_err(too_wide)?.to_be_bytes(), out),
            Self::Int8 => put_fixed(value.to_be_bytes(), out),
            Self::Oid => put_fixed(u32::try_from(value).map_err(too_wide)?.to_be_bytes(), out),
            Self::Numeric => {
                let start = out.len();
                out.extend_from_slice(&[0; 4]);
                put_int(value, out);
                fill_length(start, out)?;
            }
        }
        Ok(())
    }

    /// The value as an integer that may be narrower than what travels.
    #[inline]
    pub(super) fn read<T: TryFrom<i64>>(self, octets: &[u8]) -> Result<T, Stop> {
        let value = match self {
            Self::Int2 => i16::from_be_bytes(fixed(octets)?).into(),
            Self::Int4 => i32::from_be_bytes(fixed(octets)?).into(),
            Self::Int8 => i64::from_be_bytes(fixed(octets)?),
            Self::Oid => u32::from_be_bytes(fixed(octets)?).into(),
            Self::Numeric => Numeric::read(octets)?.to_int()?,
        };
        T::try_from(value).map_err(|_| Refusal::OutOfRange.into())
    }
}

/// The error of a type that cannot take a wire, which `type_mapping` never asks for.
pub(super) fn no_way(record_type: &RecordType, wire: &Wire) -> Error {
    Error::internal(format!(
        "values of the type `{record_type}` have no way over {wire:?}"
    ))
}
