//! The kinds of JSON value that a field was seen to hold, as a set of a few bits.
//!
//! Sets are joined as records go by and in the end decide the type. Neighbours: [`crate::scan`] and [`crate::number`] name the
//! kind of each value, [`crate::inference`] keeps the sets.

/// The kinds of JSON value that were seen in one place, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Kinds(u16);

impl Kinds {
    pub(crate) const NULL: Self = Self(1);
    pub(crate) const BOOL: Self = Self(1 << 1);
    /// An integer that a 64-bit float holds: at most 2^53 on either side of zero.
    pub(crate) const INT_53: Self = Self(1 << 2);
    /// Another integer of 64 bits.
    pub(crate) const INT_64: Self = Self(1 << 3);
    /// An integer above those, of 64 bits without sign.
    pub(crate) const UNSIGNED_64: Self = Self(1 << 4);
    /// A number that a 64-bit float holds, so that its shortest text is numerically the same.
    pub(crate) const FLOAT: Self = Self(1 << 5);
    /// Negative zero, which only a float can hold.
    pub(crate) const NEGATIVE_ZERO: Self = Self(1 << 6);
    /// Any other number.
    pub(crate) const DECIMAL: Self = Self(1 << 7);
    /// A number of more digits than a `numeric` of any system holds.
    pub(crate) const HUGE: Self = Self(1 << 8);
    pub(crate) const TEXT: Self = Self(1 << 9);
    pub(crate) const OBJECT: Self = Self(1 << 10);
    pub(crate) const ARRAY: Self = Self(1 << 11);

    /// Every kind.
    pub(crate) const ALL: Self = Self((1 << 12) - 1);
    pub(crate) const CONTAINER: Self = Self::OBJECT.with(Self::ARRAY);
    /// The kinds of number.
    pub(crate) const NUMBERS: Self = Self(0b1_1111_1100);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// How a person reads the set.
    pub(crate) fn names(self) -> String {
        const NAMES: [(Kinds, &str); 9] = [
            (Kinds::NULL, "null"),
            (Kinds::BOOL, "bool"),
            (Kinds::INT_53.with(Kinds::INT_64), "integer"),
            (Kinds::UNSIGNED_64, "integer above 2^63 - 1"),
            (Kinds::FLOAT.with(Kinds::NEGATIVE_ZERO), "float"),
            (
                Kinds::DECIMAL.with(Kinds::HUGE),
                "number that no float holds exactly",
            ),
            (Kinds::TEXT, "text"),
            (Kinds::OBJECT, "object"),
            (Kinds::ARRAY, "array"),
        ];
        let names: Vec<&str> = NAMES
            .iter()
            .filter(|(kinds, _)| self.has_any(*kinds))
            .map(|(_, name)| *name)
            .collect();
        names.join(", ")
    }
}
