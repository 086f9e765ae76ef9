//! `numeric` on the wire: groups of four decimal digits, with a weight and the number of digits to show.
//!
//! From and to fixed decimals and the text of the record type `numeric`. Nothing is rounded: what does not fit is refused.
//! Source of the layout and of the limits: `numeric_send`, `numeric_recv` and `make_result` in PostgreSQL's `numeric.c`.

mod limbs;
mod read;
mod write;

pub(super) use read::Numeric;
pub(super) use write::{put_decimal128, put_decimal256, put_int, put_text};

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const POSITIVE_INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;

/// The most digits behind the point (`NUMERIC_DSCALE_MASK`).
const SHOWN_MAX: i64 = 0x3fff;
/// Octets of the count of groups, the weight, the sign and the digits to show.
const HEAD_BYTES: usize = 8;
/// Groups of four digits that five limbs of 64 bits always hold.
const LIMB_GROUPS_MAX: usize = 24;

/// Why a number cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumericFault {
    /// Octets that no server sends, or text that is no number.
    Malformed,
    /// A number beyond what the other side holds.
    OutOfRange,
    /// NaN or an infinity where only numbers go.
    NotANumber,
}
