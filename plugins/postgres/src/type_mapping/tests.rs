//! Every type fits the column that is made for it and comes back from there; other columns hold what they hold exactly.
//!
//! Without a server: `tests/acceptance` has the same with one.

use whimbrel_plugin_api::Loss;
use whimbrel_plugin_api::acceptance::records::values;
use whimbrel_plugin_api::acceptance::values::edge_cases;
use whimbrel_plugin_api::capability::TimeUnit;
use whimbrel_plugin_api::record_type::{Field, RecordType};

use crate::catalog::{Column, Identity, PgType, PgTypeKind};
use crate::codec::{RowDecoder, RowEncoder, Wire, WireColumn};

use super::{TypeSettings, Writing, declared_losses, reading, stored_as, type_mappings, writing};

/// Numbers and names of the types that the tests use, by what `format_type` calls them.
const BUILTIN: [(&str, u32, &str); 30] = [
    ("boolean", 16, "bool"),
    ("bytea", 17, "bytea"),
    ("name", 19, "name"),
    ("bigint", 20, "int8"),
    ("smallint", 21, "int2"),
    ("integer", 23, "int4"),
    ("text", 25, "text"),
    ("oid", 26, "oid"),
    ("json", 114, "json"),
    ("point", 600, "point"),
    ("real", 700, "float4"),
    ("double precision", 701, "float8"),
    ("money", 790, "money"),
    ("inet", 869, "inet"),
    ("character", 1042, "bpchar"),
    ("character varying", 1043, "varchar"),
    ("date", 1082, "date"),
    ("time without time zone", 1083, "time"),
    ("timestamp without time zone", 1114, "timestamp"),
    ("timestamp with time zone", 1184, "timestamptz"),
    ("interval", 1186, "interval"),
    ("time with time zone", 1266, "timetz"),
    ("bit varying", 1562, "varbit"),
    ("numeric", 1700, "numeric"),
    ("uuid", 2950, "uuid"),
    ("tsvector", 3614, "tsvector"),
    ("jsonb", 3802, "jsonb"),
    ("int4range", 3904, "int4range"),
    ("xml", 142, "xml"),
    ("regclass", 2205, "regclass"),
];

/// The type that `format_type` writes so; digits and lengths may stand in brackets.
fn pg_type(formatted: &str) -> PgType {
    let catalog = |oid, name: &str, modifier, kind| PgType {
        oid,
        schema: "pg_catalog".to_owned(),
        name: name.to_owned(),
        formatted: formatted.to_owned(),
        modifier,
        kind,
    };
    if let Some(element) = formatted.strip_suffix("[]") {
        let element = pg_type(element);
        return catalog(
            1,
            "_array",
            element.modifier,
            PgTypeKind::Array(Box::new(element)),
        );
    }
    if formatted == "public.mood" {
        return PgType {
            schema: "public".to_owned(),
            ..catalog(16_400, "mood", -1, PgTypeKind::Enum(vec!["sad".to_owned()]))
        };
    }
    if formatted == "public.citext" {
        return PgType {
            schema: "public".to_owned(),
            ..catalog(16_500, "citext", -1, PgTypeKind::Base)
        };
    }
    if let Some(base) = formatted.strip_prefix("domain over ") {
        let base = pg_type(base);
        return catalog(16_600, "positive", -1, PgTypeKind::Domain(Box::new(base)));
    }
    let (plain, numbers) = match formatted.split_once('(') {
        None => (formatted.to_owned(), Vec::new()),
        Some((front, rest)) => {
            let (numbers, back) = rest.split_once(')').unwrap();
            let numbers = numbers.split(',').map(|number| number.parse::<i32>().unwrap());
            (format!("{front}{back}"), numbers.collect())
        }
    };
    let (_, oid, name) = *BUILTIN
        .iter()
        .find(|(formatted, ..)| *formatted == plain)
        .unwrap();
    let modifier = match (numbers.as_slice(), name) {
        ([], _) => -1,
        ([precision, scale], _) => (precision << 16 | scale & 0x7ff) + 4,
        ([length], "varchar" | "bpchar") => length + 4,
        ([digits], "interval") => 0x7fff << 16 | digits,
        ([digits], _) => *digits,
        _ => panic!("{formatted}"),
    };
    catalog(oid, name, modifier, PgTypeKind::Base)
}

fn column(formatted: &str) -> Column {
    Column {
        name: "value".to_owned(),
        pg_type: pg_type(formatted),
        dimensions: u32::from(formatted.ends_with("[]")),
        is_not_null: false,
        has_default: false,
        identity: Identity::None,
        is_generated: false,
        sequence: None,
    }
}

fn opaque(name: &str) -> RecordType {
    RecordType::Opaque {
        name: name.to_owned(),
    }
}

fn int(bits: u8) -> RecordType {
    RecordType::Int { bits }
}

fn decimal(precision: u8, scale: i8) -> RecordType {
    RecordType::Decimal { precision, scale }
}

fn structure(member: RecordType) -> RecordType {
    RecordType::Struct {
        fields: vec![Field::new("a", member)],
    }
}

/// One of each, lists of each, and nested ones.
fn record_types() -> Vec<RecordType> {
    let mut types = RecordType::one_of_each();
    types.extend([decimal(12, 2), decimal(76, 38), decimal(1, 0)]);
    types.extend(types.clone().into_iter().map(RecordType::list));
    types.extend([structure(RecordType::FLOAT64), structure(RecordType::Text)]);
    types
}

#[test]
fn every_type_is_held_by_the_column_that_is_made_for_it_and_comes_back() {
    let json = TypeSettings {
        json_as_text: true,
        ..TypeSettings::default()
    };
    for settings in [TypeSettings::default(), json] {
        for record_type in record_types() {
            let column = column(&stored_as(&record_type, settings));
            let written = writing(&record_type, &column, settings).unwrap();
            assert_eq!(written.cast, None, "{record_type}");
            assert_eq!(written.staged_as, column.pg_type.formatted, "{record_type}");
            if settings.json_as_text && !format!("{record_type}").contains("opaque") {
                assert_eq!(written.losses, [], "{record_type}");
            }
            let read = reading(&column, Some(&record_type), settings);
            assert_eq!(read.record_type, record_type);
            assert_eq!((read.wire, read.as_text), (written.wire, false), "{record_type}");
        }
    }
}

#[test]
fn what_is_declared_is_what_new_columns_lose() {
    for mapping in type_mappings() {
        let record_type = &mapping.record_type;
        let column = column(&stored_as(record_type, TypeSettings::default()));
        let written = writing(record_type, &column, TypeSettings::default()).unwrap();
        // Their members and items stand for others, which lose more.
        if !matches!(record_type, RecordType::Struct { .. } | RecordType::List { .. }) {
            assert_eq!(written.losses, mapping.losses, "{record_type}");
        }
    }
    let floats = structure(RecordType::FLOAT64);
    let written = writing(&floats, &column("jsonb"), TypeSettings::default()).unwrap();
    assert_eq!(written.losses, declared_losses(&floats));
}

#[test]
fn edge_values_survive_new_columns_or_are_refused() {
    let mut refused = Vec::new();
    for case in edge_cases() {
        let settings = TypeSettings::default();
        let column = column(&stored_as(&case.record_type, settings));
        let wire_column = |wire| WireColumn {
            name: "value".to_owned(),
            record_type: case.record_type.clone(),
            wire,
            removes_nul: false,
        };
        let array = case.batch().unwrap().records.column(1).clone();
        let written = wire_column(writing(&case.record_type, &column, settings).unwrap().wire);
        let encoder = RowEncoder::new(&[written], std::slice::from_ref(&array)).unwrap();
        let read = wire_column(reading(&column, Some(&case.record_type), settings).wire);
        let mut decoder = RowDecoder::new(&[read]).unwrap();
        let mut wanted = Vec::new();
        for (row, value) in values(&case.record_type, &array).into_iter().enumerate() {
            let mut octets = Vec::new();
            match encoder.write(row, &mut octets) {
                Ok(()) => {
                    assert_eq!(decoder.push(&octets).unwrap(), Ok(()), "{}", case.record_type);
                    wanted.push(value);
                }
                Err(fault) => refused.push((case.name(), case.values[row].0, fault.code)),
            }
        }
        let back = decoder.finish().unwrap();
        assert_eq!(
            values(&case.record_type, &back[0]),
            wanted,
            "{}",
            case.record_type
        );
    }
    assert_eq!(
        refused
            .iter()
            .map(|(name, value, code)| (name.as_str(), *value, *code))
            .collect::<Vec<_>>(),
        [
            ("text", "nul", "postgres.nul_in_text"),
            ("json", "lone surrogate", "postgres.lone_surrogate"),
            ("json", "nul", "postgres.nul_in_text"),
        ]
    );
}

/// The code of the misfit, and whether the rest may be written.
fn misfit(record_type: &RecordType, formatted: &str) -> Result<Writing, (&'static str, bool)> {
    writing(record_type, &column(formatted), TypeSettings::default())
        .map_err(|misfit| (misfit.code, misfit.refusing.is_some()))
}

#[test]
fn columns_hold_what_they_hold_exactly() {
    let list = RecordType::list;
    for (record_type, formatted) in [
        (int(8), "smallint"),
        (int(16), "integer"),
        (int(16), "bigint"),
        (int(16), "numeric"),
        (int(32), "numeric(12,2)"),
        (int(64), "numeric(19,0)"),
        (RecordType::Float { bits: 32 }, "double precision"),
        (decimal(12, 2), "numeric"),
        (decimal(12, 2), "numeric(14,4)"),
        (RecordType::Numeric, "numeric"),
        (RecordType::Text, "character varying"),
        (RecordType::Text, "public.citext"),
        (RecordType::Text, "public.mood"),
        (RecordType::Reference, "text"),
        (RecordType::Uuid, "text"),
        (RecordType::Uuid, "character varying(36)"),
        (RecordType::Json, "json"),
        (RecordType::Json, "text"),
        (RecordType::Variant, "json"),
        (structure(RecordType::FLOAT64), "json"),
        (structure(RecordType::INT64), "jsonb"),
        (list(structure(RecordType::Text)), "jsonb"),
        (list(int(16)), "bigint[]"),
        (RecordType::INT64, "domain over bigint"),
        (RecordType::Timestamp, "timestamp(6) without time zone"),
        (RecordType::Interval, "interval(6)"),
        (opaque("public.mood"), "public.mood"),
        (opaque("mood"), "public.mood"),
    ] {
        let written = misfit(&record_type, formatted).unwrap();
        assert_eq!(written.losses, [], "{record_type}: {formatted}");
        assert_eq!(written.cast, None, "{record_type}: {formatted}");
    }
}

#[test]
fn columns_that_refuse_some_values_are_told_from_those_that_would_change_them() {
    let list = RecordType::list;
    let (narrower, kind) = ("postgres.column_narrower", "postgres.column_type");
    for (record_type, formatted, code, may_refuse) in [
        (int(64), "integer", narrower, true),
        (int(64), "oid", narrower, true),
        (int(64), "numeric(10,2)", narrower, true),
        (int(8), "numeric(3,-2)", narrower, false),
        (list(int(64)), "integer[]", narrower, true),
        (decimal(12, 2), "numeric(10,2)", narrower, true),
        (decimal(12, 2), "numeric(12,4)", narrower, true),
        (decimal(12, 2), "numeric(20,1)", narrower, false),
        (RecordType::Numeric, "numeric(76,38)", narrower, false),
        (RecordType::FLOAT64, "real", narrower, false),
        (RecordType::Vector, "real[]", narrower, false),
        (RecordType::Text, "character varying(20)", narrower, true),
        (RecordType::Uuid, "character varying(35)", kind, false),
        (RecordType::Text, "character(20)", narrower, false),
        (RecordType::Text, "name", narrower, false),
        (
            RecordType::Timestamp,
            "timestamp(2) without time zone",
            narrower,
            false,
        ),
        (RecordType::TimeTz, "time(0) with time zone", narrower, false),
        (RecordType::Interval, "interval(0)", narrower, false),
        (RecordType::Timestamp, "timestamp with time zone", kind, false),
        (
            RecordType::TimestampTz,
            "timestamp without time zone",
            kind,
            false,
        ),
        (RecordType::INT64, "text", kind, false),
        (RecordType::Text, "bigint", kind, false),
        (RecordType::Text, "jsonb", kind, false),
        (RecordType::Text, "inet", kind, false),
        (RecordType::FLOAT64, "numeric", kind, false),
        (RecordType::Bytes, "text", kind, false),
        (list(RecordType::Text), "integer[]", kind, false),
        (opaque("cidr"), "inet", kind, false),
        (opaque("other.mood"), "public.mood", kind, false),
        (RecordType::Geopoint, "double precision[]", kind, false),
    ] {
        assert_eq!(
            misfit(&record_type, formatted).map(|_| ()),
            Err((code, may_refuse)),
            "{record_type}: {formatted}"
        );
    }
}

#[test]
fn losses_are_those_of_the_column() {
    let cut = |unit| vec![Loss::TruncateTimestamp { unit }];
    let jsonb = vec![Loss::JsonNormalised, Loss::NegativeZeroToZero];
    for (record_type, formatted, losses) in [
        (
            RecordType::TimestampTz,
            "timestamp(3) with time zone",
            cut(TimeUnit::Milliseconds),
        ),
        (
            RecordType::Time,
            "time(0) without time zone",
            cut(TimeUnit::Seconds),
        ),
        (RecordType::Json, "jsonb", jsonb.clone()),
        (RecordType::list(RecordType::Variant), "jsonb[]", jsonb),
        (RecordType::Vector, "jsonb", vec![Loss::NegativeZeroToZero]),
        (opaque("inet"), "text", vec![Loss::TypeNameDropped]),
    ] {
        assert_eq!(
            misfit(&record_type, formatted).unwrap().losses,
            losses,
            "{formatted}"
        );
    }
    let removing = TypeSettings {
        removes_nul: true,
        ..TypeSettings::default()
    };
    for (record_type, formatted, removes) in [
        (RecordType::Text, "text", true),
        (RecordType::list(RecordType::Text), "text[]", true),
        (structure(RecordType::Text), "jsonb", true),
        (structure(RecordType::Text), "json", false),
        (RecordType::INT64, "bigint", false),
    ] {
        let losses = writing(&record_type, &column(formatted), removing)
            .unwrap()
            .losses;
        assert_eq!(
            losses.contains(&Loss::NulRemoved),
            removes,
            "{record_type}: {formatted}"
        );
    }
}

#[test]
fn types_without_a_wire_are_staged_as_text_and_cast() {
    for (record_type, formatted, staged_as) in [
        (opaque("inet"), "inet", "text"),
        (opaque("integer[]"), "integer[]", "text"),
        (RecordType::list(opaque("inet")), "inet[]", "text[]"),
    ] {
        let written = misfit(&record_type, formatted).unwrap();
        assert_eq!(written.staged_as, staged_as);
        assert_eq!(written.cast.as_deref(), Some(formatted));
        assert_eq!(written.losses, []);
    }
}

#[test]
fn columns_are_read_as_what_they_are() {
    let list = RecordType::list;
    let settings = TypeSettings::default();
    for (formatted, record_type) in [
        ("oid", RecordType::INT64),
        ("numeric", RecordType::Numeric),
        ("numeric(12,2)", decimal(12, 2)),
        ("numeric(76,0)", decimal(76, 0)),
        ("numeric(77,0)", RecordType::Numeric),
        ("numeric(5,-2)", RecordType::Numeric),
        ("numeric(2,5)", RecordType::Numeric),
        ("character varying(20)", RecordType::Text),
        ("character(3)", RecordType::Text),
        ("name", RecordType::Text),
        ("public.citext", RecordType::Text),
        ("public.mood", opaque("public.mood")),
        ("json", RecordType::Json),
        ("jsonb", RecordType::Json),
        ("integer[]", list(int(32))),
        ("numeric(12,2)[]", list(decimal(12, 2))),
        ("public.mood[]", list(opaque("public.mood"))),
        ("domain over numeric(12,2)", decimal(12, 2)),
        ("timestamp(3) with time zone", RecordType::TimestampTz),
    ] {
        let read = reading(&column(formatted), None, settings);
        assert_eq!(
            (read.record_type, read.as_text),
            (record_type, false),
            "{formatted}"
        );
    }
    for formatted in [
        "point",
        "inet",
        "money",
        "inet[]",
        "int4range",
        "xml",
        "bit varying(3)",
    ] {
        let read = reading(&column(formatted), None, settings);
        assert_eq!((read.record_type, read.as_text), (opaque(formatted), true));
        assert_eq!(read.wire, Wire::Text);
    }
    let square = Column {
        dimensions: 2,
        ..column("integer[]")
    };
    assert_eq!(reading(&square, None, settings).record_type, opaque("integer[]"));
    let as_text = TypeSettings {
        arrays_as_text: true,
        numerics_as_text: true,
        ..settings
    };
    assert_eq!(
        reading(&column("integer[]"), None, as_text).record_type,
        opaque("integer[]")
    );
    assert_eq!(
        reading(&column("numeric(12,2)"), None, as_text).record_type,
        RecordType::Numeric
    );
}

#[test]
fn what_is_expected_is_delivered_if_the_column_can_hold_it() {
    let settings = TypeSettings::default();
    for (formatted, expected, wire) in [
        ("smallint", int(8), Some(Wire::Int2)),
        ("jsonb", structure(RecordType::Text), Some(Wire::Jsonb)),
        ("jsonb", RecordType::Variant, Some(Wire::Jsonb)),
        ("text", RecordType::Reference, Some(Wire::Text)),
        ("text", opaque("inet"), Some(Wire::Text)),
        ("text", RecordType::Uuid, Some(Wire::Text)),
        ("point", RecordType::Geopoint, Some(Wire::Point)),
        ("numeric", decimal(12, 2), Some(Wire::Numeric)),
        ("numeric", RecordType::INT64, Some(Wire::Numeric)),
        (
            "double precision",
            RecordType::Float { bits: 32 },
            Some(Wire::Float8),
        ),
        ("text", RecordType::INT64, None),
        ("bigint", RecordType::Text, None),
        ("timestamp without time zone", RecordType::TimestampTz, None),
        ("jsonb", RecordType::Text, None),
    ] {
        let read = reading(&column(formatted), Some(&expected), settings);
        assert_eq!(
            read.record_type == expected,
            wire.is_some(),
            "{formatted}: {expected}"
        );
        assert!(
            wire.is_none_or(|wire| wire == read.wire),
            "{formatted}: {expected}"
        );
    }
    let vector = reading(&column("double precision[]"), Some(&RecordType::Vector), settings);
    assert_eq!(vector.record_type, RecordType::Vector);
    let text = reading(&column("inet"), Some(&RecordType::Text), settings);
    assert_eq!((text.record_type, text.as_text), (RecordType::Text, true));
}

#[test]
fn the_table_of_the_readme_is_that_of_the_type_mappings() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("<!-- types:begin -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- types:end -->").unwrap();
    assert_eq!(table, super::type_table(), "put this table into README.md");
}
