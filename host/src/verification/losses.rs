//! Which declared losses apply to a field, in the form in which the canonical encoding asks for them, and which of them have
//! changed a value. The closed list itself is in the plugin API.

use whimbrel_plugin_api::capability::{Loss, TimeUnit};
use whimbrel_plugin_api::collection::FieldLoss;

/// The losses of one field, ready to be applied to both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldLosses {
    /// Microseconds to which times are cut; 1 keeps all.
    pub time_unit_micros: i64,
    /// -0.0 becomes 0.0.
    pub negative_zero: bool,
    /// Not-a-number becomes null.
    pub nan_to_null: bool,
    /// Infinities become null.
    pub infinity_to_null: bool,
    /// Decimals become the nearest float.
    pub float_from_decimal: bool,
    /// Absent becomes null.
    pub absent_to_null: bool,
    /// NUL characters are removed.
    pub nul_removed: bool,
    /// An empty text becomes null.
    pub empty_to_null: bool,
    /// A JSON `null` becomes null.
    pub json_null_to_null: bool,
}

impl FieldLosses {
    /// No loss at all.
    pub const NONE: Self = Self {
        time_unit_micros: 1,
        negative_zero: false,
        nan_to_null: false,
        infinity_to_null: false,
        float_from_decimal: false,
        absent_to_null: false,
        nul_removed: false,
        empty_to_null: false,
        json_null_to_null: false,
    };

    /// The losses of `field` among `losses`.
    pub fn of(field: &str, losses: &[FieldLoss]) -> Self {
        let mut found = Self::NONE;
        for loss in losses.iter().filter(|loss| loss.field == field) {
            match loss.loss {
                Loss::TruncateTimestamp { unit } => {
                    found.time_unit_micros = found.time_unit_micros.max(micros(unit));
                }
                Loss::NegativeZeroToZero => found.negative_zero = true,
                Loss::NanToNull => found.nan_to_null = true,
                Loss::InfinityToNull => found.infinity_to_null = true,
                Loss::FloatFromDecimal => found.float_from_decimal = true,
                Loss::AbsentToNull => found.absent_to_null = true,
                Loss::NulRemoved => found.nul_removed = true,
                Loss::EmptyTextToNull => found.empty_to_null = true,
                Loss::JsonNullToNull => found.json_null_to_null = true,
                // JSON is compared by value in any case, a surrogate is replaced before the host sees the text, and a
                // type's name is not part of a value.
                Loss::JsonNormalised | Loss::LoneSurrogateReplaced | Loss::TypeNameDropped => {}
            }
        }
        found
    }
}

impl Default for FieldLosses {
    fn default() -> Self {
        Self::NONE
    }
}

fn micros(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Seconds => 1_000_000,
        TimeUnit::Milliseconds => 1_000,
        TimeUnit::Microseconds => 1,
    }
}

/// The losses that have changed a value, one bit for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Touched(u16);

impl Touched {
    /// Bits in use.
    pub const BITS: usize = 9;

    pub(super) const TIME: Self = Self(1);
    pub(super) const NEGATIVE_ZERO: Self = Self(1 << 1);
    pub(super) const NAN: Self = Self(1 << 2);
    pub(super) const INFINITY: Self = Self(1 << 3);
    pub(super) const FLOAT: Self = Self(1 << 4);
    pub(super) const ABSENT: Self = Self(1 << 5);
    pub(super) const NUL: Self = Self(1 << 6);
    pub(super) const EMPTY: Self = Self(1 << 7);
    pub(super) const JSON_NULL: Self = Self(1 << 8);

    /// Whether no loss has changed anything.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Adds the losses of `other`.
    pub(super) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// The positions of the bits that are set.
    pub fn positions(self) -> impl Iterator<Item = usize> {
        (0..Self::BITS).filter(move |position| self.0 >> position & 1 == 1)
    }

    /// The position of the bit that says whether `loss`, one of those declared for a field with these `losses`, has changed
    /// a value; `None` for a loss that changes no value here. Of several units the coarsest cuts.
    pub fn position(loss: Loss, losses: FieldLosses) -> Option<usize> {
        let bit = match loss {
            Loss::TruncateTimestamp { unit } if micros(unit) < losses.time_unit_micros => return None,
            Loss::TruncateTimestamp { .. } => Self::TIME,
            Loss::NegativeZeroToZero => Self::NEGATIVE_ZERO,
            Loss::NanToNull => Self::NAN,
            Loss::InfinityToNull => Self::INFINITY,
            Loss::FloatFromDecimal => Self::FLOAT,
            Loss::AbsentToNull => Self::ABSENT,
            Loss::NulRemoved => Self::NUL,
            Loss::EmptyTextToNull => Self::EMPTY,
            Loss::JsonNullToNull => Self::JSON_NULL,
            Loss::JsonNormalised | Loss::LoneSurrogateReplaced | Loss::TypeNameDropped => return None,
        };
        Some(bit.0.trailing_zeros() as usize)
    }
}
