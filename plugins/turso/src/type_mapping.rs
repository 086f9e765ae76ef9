//! How each record type is stored, as data, and what a column of a given declaration keeps.
//!
//! A database file knows integers, floats, text and octets. Types that are none of these are kept as their canonical
//! text or as JSON, both exact. `encode` and `decode` carry out what stands here; the README's table is made from it.

use std::fmt::Write as _;

use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::{Loss, TypeMapping};

use crate::names::same;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StorageClass {
    Integer,
    Real,
    Text,
    Blob,
}

impl StorageClass {
    /// How values of the record type are stored.
    pub(crate) const fn of(record_type: &RecordType) -> Self {
        match record_type {
            RecordType::Bool | RecordType::Int { .. } => Self::Integer,
            RecordType::Float { .. } => Self::Real,
            RecordType::Bytes => Self::Blob,
            _ => Self::Text,
        }
    }

    /// The type in a table's declaration.
    pub(crate) const fn sql(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
        }
    }
}

/// What the stored value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The database's own value.
    Plain,
    /// The text as it is.
    AsIs,
    /// `text_form`.
    Canonical,
    /// `json_form`.
    Json,
}

impl Form {
    pub(crate) const fn of(record_type: &RecordType) -> Self {
        match record_type {
            RecordType::Bool | RecordType::Int { .. } | RecordType::Float { .. } | RecordType::Bytes => {
                Self::Plain
            }
            RecordType::Text
            | RecordType::Numeric
            | RecordType::TimeTz
            | RecordType::Json
            | RecordType::Reference
            | RecordType::Opaque { .. }
            | RecordType::Variant => Self::AsIs,
            RecordType::List { .. }
            | RecordType::Struct { .. }
            | RecordType::Geopoint
            | RecordType::Vector => Self::Json,
            _ => Self::Canonical,
        }
    }
}

/// What is lost in a column of its own; a member of the rest column loses nothing.
pub(crate) fn losses(record_type: &RecordType) -> Vec<Loss> {
    match record_type {
        // The file format has no NaN, and keeps floats without a fraction as integers, which have no -0.
        RecordType::Float { .. } => vec![Loss::NanToNull, Loss::NegativeZeroToZero],
        _ => Vec::new(),
    }
}

/// Whether the database's order of the stored values is that of the values, so that ranges mean the same.
pub(crate) const fn is_ordered(record_type: &RecordType) -> bool {
    matches!(
        record_type,
        RecordType::Bool
            | RecordType::Int { .. }
            | RecordType::Float { .. }
            | RecordType::Text
            | RecordType::Bytes
            | RecordType::Uuid
            | RecordType::Reference
    )
}

/// What a column does to values that are put into it. Source: "Datatypes In SQLite", section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Real,
    Numeric,
    Text,
    /// Values are kept as they are.
    None,
    /// Values of other classes are refused (strict tables).
    Only(StorageClass),
}

impl Affinity {
    /// The affinity of a declared type.
    pub(crate) fn of(declared: &str, is_strict: bool) -> Self {
        let declared = declared.to_ascii_uppercase();
        if is_strict {
            return match declared.as_str() {
                "REAL" => Self::Only(StorageClass::Real),
                "TEXT" => Self::Only(StorageClass::Text),
                "BLOB" => Self::Only(StorageClass::Blob),
                "ANY" => Self::None,
                _ => Self::Only(StorageClass::Integer),
            };
        }
        let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if declared.is_empty() || has(&["BLOB"]) {
            Self::None
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// Whether values of the record type come back from such a column as they went in.
    pub(crate) fn keeps(self, record_type: &RecordType) -> bool {
        let class = StorageClass::of(record_type);
        // Texts that never look like a number, so that no column takes them for one.
        let is_no_number = matches!(
            record_type,
            RecordType::Date
                | RecordType::Time
                | RecordType::TimeTz
                | RecordType::Timestamp
                | RecordType::TimestampTz
                | RecordType::Interval
                | RecordType::Uuid
        );
        match self {
            Self::None => true,
            Self::Only(only) => only == class,
            Self::Integer => matches!(class, StorageClass::Integer | StorageClass::Blob) || is_no_number,
            Self::Numeric => class != StorageClass::Text || is_no_number,
            Self::Real => matches!(class, StorageClass::Real | StorageClass::Blob) || is_no_number,
            Self::Text => matches!(class, StorageClass::Text | StorageClass::Blob),
        }
    }
}

/// Which classes of value a column holds, found by looking at all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Classes {
    pub(crate) integer: bool,
    pub(crate) real: bool,
    pub(crate) text: bool,
    pub(crate) blob: bool,
    /// An integer that no 64-bit float holds exactly is among them.
    pub(crate) wide_integer: bool,
}

impl Classes {
    /// The record type that holds every value of such a column exactly.
    pub(crate) fn record_type(self, declared: &str, affinity: Affinity) -> RecordType {
        match (self.integer, self.real, self.text, self.blob) {
            (true, false, false, false) => RecordType::INT64,
            (false, true, false, false) => RecordType::FLOAT64,
            (true, true, false, false) if !self.wide_integer => RecordType::FLOAT64,
            (false, false, true, false) => RecordType::Text,
            (false, false, false, true) => RecordType::Bytes,
            (false, false, false, false) => match affinity {
                Affinity::Integer | Affinity::Only(StorageClass::Integer) => RecordType::INT64,
                Affinity::Real | Affinity::Only(StorageClass::Real) => RecordType::FLOAT64,
                Affinity::Text | Affinity::Only(StorageClass::Text) => RecordType::Text,
                Affinity::Only(StorageClass::Blob) => RecordType::Bytes,
                Affinity::None if same(declared, "blob") => RecordType::Bytes,
                Affinity::None | Affinity::Numeric => RecordType::Variant,
            },
            _ => RecordType::Variant,
        }
    }
}

/// How every record type is stored.
pub(crate) fn type_mappings() -> Vec<TypeMapping> {
    RecordType::one_of_each()
        .into_iter()
        .map(|record_type| TypeMapping {
            stored_as: stored_as(&record_type).to_owned(),
            losses: losses(&record_type),
            record_type,
        })
        .collect()
}

/// The column type with what stands in it, for people.
pub(crate) fn stored_as(record_type: &RecordType) -> &'static str {
    match (record_type, Form::of(record_type)) {
        (RecordType::Bool, _) => "INTEGER, 0 or 1",
        (RecordType::Int { .. }, _) => "INTEGER",
        (RecordType::Float { .. }, _) => "REAL",
        (RecordType::Bytes, _) => "BLOB",
        (_, Form::Json) => "TEXT, as JSON",
        (_, Form::Canonical) => "TEXT, canonical",
        _ => "TEXT, as it is",
    }
}

/// The type mappings as a Markdown table, for the README.
pub fn type_table() -> String {
    let mut table = String::from("| record type | stored as | lost |\n|---|---|---|\n");
    for mapping in type_mappings() {
        let losses: Vec<String> = mapping
            .losses
            .iter()
            .map(|loss| format!("`{}`", loss.name()))
            .collect();
        let losses = if losses.is_empty() {
            "nothing".to_owned()
        } else {
            losses.join(", ")
        };
        writeln!(
            table,
            "| `{}` | {} | {losses} |",
            mapping.record_type, mapping.stored_as
        )
        .expect("writing to a string does not fail");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_are_those_of_the_documentation() {
        for (declared, wanted) in [
            ("INTEGER", Affinity::Integer),
            ("bigint", Affinity::Integer),
            ("FLOATING POINT", Affinity::Integer),
            ("VARCHAR(20)", Affinity::Text),
            ("", Affinity::None),
            ("Blob", Affinity::None),
            ("DOUBLE PRECISION", Affinity::Real),
            ("DECIMAL(10,2)", Affinity::Numeric),
            ("STRING", Affinity::Numeric),
        ] {
            assert_eq!(Affinity::of(declared, false), wanted, "{declared}");
        }
        assert_eq!(Affinity::of("ANY", true), Affinity::None);
        assert_eq!(Affinity::of("ANY", false), Affinity::Numeric);
    }

    #[test]
    fn every_type_is_kept_by_the_column_that_is_made_for_it() {
        for mapping in type_mappings() {
            let class = StorageClass::of(&mapping.record_type);
            assert!(
                Affinity::of(class.sql(), false).keeps(&mapping.record_type),
                "{}",
                mapping.record_type
            );
            assert!(
                Affinity::of(class.sql(), true).keeps(&mapping.record_type),
                "{}",
                mapping.record_type
            );
        }
    }

    #[test]
    fn columns_that_would_change_a_value_do_not_keep_it() {
        assert!(!Affinity::Real.keeps(&RecordType::INT64));
        assert!(!Affinity::Text.keeps(&RecordType::INT64));
        assert!(!Affinity::Numeric.keeps(&RecordType::Text));
        assert!(!Affinity::Numeric.keeps(&RecordType::Decimal {
            precision: 5,
            scale: 2
        }));
        assert!(Affinity::Numeric.keeps(&RecordType::TimestampTz));
        assert!(!Affinity::Only(StorageClass::Text).keeps(&RecordType::Bytes));
    }

    #[test]
    fn integers_that_a_float_would_round_stay_apart_from_floats() {
        let both = Classes {
            integer: true,
            real: true,
            ..Classes::default()
        };
        assert_eq!(both.record_type("", Affinity::None), RecordType::FLOAT64);
        let wide = Classes {
            wide_integer: true,
            ..both
        };
        assert_eq!(wide.record_type("", Affinity::None), RecordType::Variant);
    }
}
