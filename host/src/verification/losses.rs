//! Which declared losses apply to a field, in the form in which the canonical encoding asks for them.
//! The closed list itself is in the plugin API.

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

impl Default for FieldLosses {
    fn default() -> Self {
        Self {
            time_unit_micros: 1,
            negative_zero: false,
            nan_to_null: false,
            infinity_to_null: false,
            float_from_decimal: false,
            absent_to_null: false,
            nul_removed: false,
            empty_to_null: false,
            json_null_to_null: false,
        }
    }
}

impl FieldLosses {
    /// The losses of `field` among `losses`.
    pub fn of(field: &str, losses: &[FieldLoss]) -> Self {
        let mut found = Self::default();
        for loss in losses.iter().filter(|loss| loss.field == field) {
            match loss.loss {
                Loss::TruncateTimestamp { unit } => {
                    found.time_unit_micros = found.time_unit_micros.max(match unit {
                        TimeUnit::Seconds => 1_000_000,
                        TimeUnit::Milliseconds => 1_000,
                        TimeUnit::Microseconds => 1,
                    });
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
