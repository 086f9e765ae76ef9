//! Why Firestore cannot hold a value: stable codes and reasons without values.
//!
//! `cell` and `json_value` find them, `encode` says in which field. What is too long or too large only shows in a whole
//! document: see `write::limits`.

use crate::error::RowFault;

/// Why a value cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) code: &'static str,
    /// What the field holds, such as `a geopoint out of range`.
    what: &'static str,
}

impl Unfit {
    pub(super) const ARRAY_IN_ARRAY: Self = Self {
        code: "firestore.array_in_array",
        what: "an array directly within an array",
    };
    pub(super) const MEMBER_NAME: Self = Self {
        code: "firestore.bad_field_name",
        what: "a map with a name that is empty or reserved (`__..__`)",
    };
    pub(super) const TOO_DEEP: Self = Self {
        code: "firestore.too_deep",
        what: "more levels of maps and arrays than a document can have",
    };
    pub(super) const GEOPOINT: Self = Self {
        code: "firestore.bad_value",
        what: "a geopoint that is not within 90 degrees of latitude and 180 of longitude",
    };
    pub(super) const GEOPOINT_ZERO: Self = Self {
        code: "firestore.bad_value",
        what: "a tagged geopoint with a negative zero, whose sign would be lost",
    };
    pub(super) const EMPTY_VECTOR: Self = Self {
        code: "firestore.bad_value",
        what: "a tagged vector without numbers, which Firestore does not have",
    };
    pub(super) const NUMBER: Self = Self {
        code: "firestore.bad_value",
        what: "a number that neither a 64-bit integer nor a double has all digits of",
    };
    pub(super) const JSON: Self = Self {
        code: "firestore.bad_value",
        what: "a text that is not JSON",
    };
    pub(super) const LONE_SURROGATE: Self = Self {
        code: "firestore.bad_value",
        what: "a JSON string with a lone surrogate",
    };
    pub(super) const MEMBER_TWICE: Self = Self {
        code: "firestore.bad_value",
        what: "an object in which a member stands twice",
    };
    pub(super) const TAG: Self = Self {
        code: "firestore.bad_value",
        what: "a tagged object whose value is none of its type",
    };

    pub(super) const OWN_REFERENCE: Self = Self {
        code: "firestore.bad_value",
        what: "a reference with the full name of a document of this very database, which would come back as a path",
    };

    /// The fault of a record whose `field` holds such a value.
    pub(super) fn of(self, field: &str) -> RowFault {
        RowFault::new(self.code, format!("the field `{field}` holds {}", self.what))
    }
}
