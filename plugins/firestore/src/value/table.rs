//! How each record type is stored, and what is lost.
//!
//! The one place that says it in words: the README's table, the plan's losses and the memory of the sink come from here.
//! `cell` carries it out. Neighbour: `kinds` says what stored values are read as by themselves.

use whimbrel_plugin_api::RecordType;
use whimbrel_plugin_api::capability::{Loss, TypeMapping};

use super::numbers::DecimalForm;

/// How each record type is stored.
pub fn type_table() -> Vec<TypeMapping> {
    RecordType::one_of_each()
        .into_iter()
        .map(|record_type| TypeMapping {
            stored_as: match record_type {
                // The others of the kind are stored otherwise.
                RecordType::Decimal { .. } => {
                    "integer up to 18 digits, double up to 15, else string of digits".to_owned()
                }
                _ => stored_as(&record_type),
            },
            losses: match &record_type {
                // The members and items stand for any others, JSON and geopoints among them.
                RecordType::Struct { .. } | RecordType::List { .. } => {
                    [losses(&RecordType::Json), losses(&RecordType::Geopoint)].concat()
                }
                _ => losses(&record_type),
            },
            record_type,
        })
        .collect()
}

/// What is lost of a type, with what it holds.
pub(crate) fn losses(record_type: &RecordType) -> Vec<Loss> {
    match record_type {
        RecordType::Json => vec![Loss::JsonNormalised, Loss::JsonNullToNull],
        RecordType::Variant => vec![Loss::JsonNullToNull],
        RecordType::Geopoint => vec![Loss::NegativeZeroToZero],
        RecordType::List { item } => losses(item),
        RecordType::Struct { fields } => {
            let mut all: Vec<Loss> = Vec::new();
            for loss in fields.iter().flat_map(|field| losses(&field.record_type)) {
                if !all.contains(&loss) {
                    all.push(loss);
                }
            }
            all
        }
        _ => Vec::new(),
    }
}

/// Firestore's own name for how a type is stored.
pub(crate) fn stored_as(record_type: &RecordType) -> String {
    let name = match record_type {
        RecordType::Bool => "boolean",
        RecordType::Int { .. } => "integer",
        RecordType::Float { .. } => "double",
        RecordType::Decimal { precision, scale } => match DecimalForm::of(*precision, *scale) {
            DecimalForm::Integer => "integer",
            DecimalForm::Double => "double",
            DecimalForm::Text => "string of digits",
        },
        RecordType::Numeric => "integer or double if it has all digits, else string of digits",
        RecordType::Text | RecordType::Opaque { .. } => "string",
        RecordType::Bytes => "bytes",
        RecordType::Date => "string, 2024-12-31",
        RecordType::Time => "string, 23:59:59.999999",
        RecordType::TimeTz => "string, 23:59:59+02:00",
        RecordType::TimestampTz => "timestamp; string for infinities and outside the years 1 to 9999",
        RecordType::Timestamp => "string, 2024-12-31T23:59:59.999999",
        RecordType::Interval => "string, ISO 8601 duration",
        RecordType::Uuid => "string, hyphenated",
        RecordType::Json => "map, array or single value",
        RecordType::Variant => "the value itself, of any type",
        RecordType::List { item } => return format!("array of {}", stored_as(item)),
        RecordType::Struct { .. } => "map",
        RecordType::Geopoint => "geopoint",
        RecordType::Reference => "reference; string if it is no path of a document",
        RecordType::Vector => "vector; array if it has no numbers",
    };
    name.to_owned()
}

/// Whether looking at the stored values gives the type again, so that nothing need be remembered of it: the types that a
/// Firestore collection is read with by itself.
pub(crate) fn is_native(record_type: &RecordType) -> bool {
    match record_type {
        RecordType::List { item } => {
            !matches!(**item, RecordType::Numeric | RecordType::Vector) && is_native_scalar(item)
        }
        RecordType::Variant => true,
        _ => is_native_scalar(record_type),
    }
}

const fn is_native_scalar(record_type: &RecordType) -> bool {
    matches!(
        record_type,
        RecordType::Bool
            | RecordType::Int { bits: 64 }
            | RecordType::Float { bits: 64 }
            | RecordType::Numeric
            | RecordType::Text
            | RecordType::Bytes
            | RecordType::TimestampTz
            | RecordType::Geopoint
            | RecordType::Reference
            | RecordType::Vector
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_documents_have_by_themselves_need_no_memory() {
        let native: Vec<String> = RecordType::one_of_each()
            .iter()
            .filter(|record_type| is_native(record_type))
            .map(RecordType::to_string)
            .collect();
        assert_eq!(
            native,
            [
                "bool",
                "int64",
                "float64",
                "numeric",
                "text",
                "bytes",
                "timestamp_tz",
                "list(text)",
                "geopoint",
                "reference",
                "vector",
                "variant"
            ]
        );
        for item in [
            RecordType::Numeric,
            RecordType::Vector,
            RecordType::Variant,
            RecordType::Date,
            RecordType::list(RecordType::Text),
        ] {
            assert!(!is_native(&RecordType::list(item.clone())), "{item}");
        }
    }

    #[test]
    fn what_is_lost_of_a_part_is_lost_of_the_whole() {
        let parts = RecordType::Struct {
            fields: vec![
                whimbrel_plugin_api::Field::new("a", RecordType::Json),
                whimbrel_plugin_api::Field::new("b", RecordType::list(RecordType::Variant)),
                whimbrel_plugin_api::Field::new("c", RecordType::Text),
            ],
        };
        assert_eq!(losses(&parts), [Loss::JsonNormalised, Loss::JsonNullToNull]);
        assert_eq!(losses(&RecordType::list(RecordType::Text)), []);
        let table = type_table();
        let declared = |wanted: fn(&RecordType) -> bool| {
            let found = table.iter().find(|mapping| wanted(&mapping.record_type));
            found.map(|mapping| mapping.losses.clone()).unwrap_or_default()
        };
        // Whatever stands in a struct or a list, the table has said it.
        for scalar in RecordType::one_of_each() {
            for loss in losses(&scalar) {
                assert!(
                    declared(|of| matches!(of, RecordType::List { .. })).contains(&loss),
                    "{scalar}"
                );
                assert!(
                    declared(|of| matches!(of, RecordType::Struct { .. })).contains(&loss),
                    "{scalar}"
                );
            }
        }
    }
}
