//! How each record type stands in a file. The schema file beside the data says the types, so that every one is exact but
//! for one thing: a JSON `null` in a field that may be null cannot be told from no value.

use whimbrel_plugin_api::{Field, Loss, RecordType, TypeMapping};

/// One entry for each record type.
pub(crate) fn type_mappings() -> Vec<TypeMapping> {
    RecordType::one_of_each()
        .into_iter()
        .map(|record_type| TypeMapping {
            stored_as: stored_as(&record_type).to_owned(),
            // These stand for lists and structs of anything.
            losses: match record_type {
                RecordType::List { .. } | RecordType::Struct { .. } => vec![Loss::JsonNullToNull],
                _ => losses(&Field::new("any", record_type.clone())),
            },
            record_type,
        })
        .collect()
}

/// What a field loses.
pub(crate) fn losses(field: &Field) -> Vec<Loss> {
    if has_ambiguous_null(&field.record_type, field.nullable) {
        vec![Loss::JsonNullToNull]
    } else {
        Vec::new()
    }
}

fn has_ambiguous_null(record_type: &RecordType, nullable: bool) -> bool {
    match record_type {
        RecordType::Json | RecordType::Variant => nullable,
        // Items may always be null.
        RecordType::List { item } => has_ambiguous_null(item, true),
        RecordType::Struct { fields } => fields
            .iter()
            .any(|member| has_ambiguous_null(&member.record_type, member.nullable)),
        _ => false,
    }
}

/// What a value is in JSON.
pub(crate) fn stored_as(record_type: &RecordType) -> &'static str {
    match record_type {
        RecordType::Bool => "true, false",
        RecordType::Int { .. } => "number",
        RecordType::Float { .. } => "number, or \"NaN\", \"Infinity\", \"-Infinity\"",
        RecordType::Decimal { .. } | RecordType::Numeric => "string of digits",
        RecordType::Text | RecordType::Reference | RecordType::Opaque { .. } => "string",
        RecordType::Bytes => "string, base64",
        RecordType::Date => "string, 2024-12-31",
        RecordType::Time => "string, 23:59:59.999999",
        RecordType::TimeTz => "string, 23:59:59+02:00",
        RecordType::TimestampTz => "string, 2024-12-31T23:59:59.999999Z",
        RecordType::Timestamp => "string, 2024-12-31T23:59:59.999999",
        RecordType::Interval => "string, ISO 8601 duration",
        RecordType::Uuid => "string",
        RecordType::Json | RecordType::Variant => "any JSON",
        RecordType::List { .. } | RecordType::Vector => "array",
        RecordType::Struct { .. } => "object",
        RecordType::Geopoint => "object with lat and lng",
    }
}
