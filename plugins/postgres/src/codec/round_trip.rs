//! Whatever goes out comes back, whatever comes in is taken or refused, and a row at fault leaves no trace.
//!
//! Values are made from a seed, which a failure prints; `values` makes them. `outgoing` has what the database cannot store, `incoming`
//! what the columns cannot hold.

mod incoming;
mod outgoing;
mod values;

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;
use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::acceptance::records::{array, values};
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef};
use whimbrel_plugin_api::record_type::{Field, RecordType};

use self::values::{Random, nullable, value};
use super::{RowDecoder, RowEncoder, Wire, WireColumn};

fn wire_array(element: Wire) -> Wire {
    Wire::Array {
        element_oid: 25,
        element: Box::new(element),
    }
}

fn structure() -> RecordType {
    RecordType::Struct {
        fields: vec![
            Field::new("name \"x\"", RecordType::Text),
            Field::new("count", RecordType::INT64),
            Field::new("json", RecordType::Json),
            Field::new("mixed", RecordType::list(RecordType::Variant)),
            Field::new("at", RecordType::TimestampTz),
            Field::new("octets", RecordType::Bytes),
            Field::new("ratio", RecordType::FLOAT64),
        ],
    }
}

/// Every way that there is.
fn ways() -> Vec<(RecordType, Wire)> {
    let int = |bits| RecordType::Int { bits };
    let decimal = |precision, scale| RecordType::Decimal { precision, scale };
    let opaque = || RecordType::Opaque { name: "inet".into() };
    let mut ways = vec![
        (RecordType::Bool, Wire::Bool),
        (RecordType::Float { bits: 32 }, Wire::Float4),
        (RecordType::Float { bits: 32 }, Wire::Float8),
        (RecordType::FLOAT64, Wire::Float8),
        (RecordType::Numeric, Wire::Numeric),
        (RecordType::Bytes, Wire::Bytea),
        (RecordType::Date, Wire::Date),
        (RecordType::Time, Wire::Time),
        (RecordType::TimeTz, Wire::TimeTz),
        (RecordType::TimeTz, Wire::Text),
        (RecordType::TimestampTz, Wire::TimestampTz),
        (RecordType::Timestamp, Wire::Timestamp),
        (RecordType::Interval, Wire::Interval),
        (RecordType::Uuid, Wire::Uuid),
        (RecordType::Uuid, Wire::Text),
        (RecordType::Geopoint, Wire::Point),
        (RecordType::Vector, wire_array(Wire::Float8)),
        (RecordType::list(RecordType::Text), wire_array(Wire::Text)),
        (RecordType::list(RecordType::Json), wire_array(Wire::Jsonb)),
        (RecordType::list(RecordType::Numeric), wire_array(Wire::Numeric)),
        (RecordType::list(RecordType::Interval), wire_array(Wire::Interval)),
        (RecordType::list(RecordType::Uuid), wire_array(Wire::Uuid)),
        (RecordType::list(RecordType::Bool), wire_array(Wire::Bool)),
    ];
    for texts in [
        RecordType::Text,
        RecordType::Json,
        RecordType::Variant,
        RecordType::Reference,
        opaque(),
    ] {
        ways.push((texts, Wire::Text));
    }
    ways.extend([RecordType::Json, RecordType::Variant].map(|json| (json, Wire::Jsonb)));
    for (bits, wires) in [
        (8, vec![Wire::Int2, Wire::Int4, Wire::Int8, Wire::Numeric]),
        (16, vec![Wire::Int2, Wire::Int4, Wire::Int8, Wire::Numeric]),
        (32, vec![Wire::Int4, Wire::Int8, Wire::Numeric]),
        (64, vec![Wire::Int8, Wire::Numeric]),
    ] {
        ways.extend(wires.into_iter().map(|wire| (int(bits), wire)));
    }
    for (precision, scale) in [
        (1, 0),
        (1, 1),
        (5, 3),
        (12, 2),
        (16, 6),
        (20, 0),
        (38, 0),
        (38, 10),
        (38, 37),
        (38, 38),
        (39, 1),
        (60, 7),
        (76, 0),
        (76, 38),
        (76, 75),
        (76, 76),
    ] {
        ways.push((decimal(precision, scale), Wire::Numeric));
    }
    for nested in [
        structure(),
        RecordType::list(structure()),
        RecordType::list(RecordType::list(RecordType::Uuid)),
        RecordType::Vector,
        RecordType::Geopoint,
    ] {
        ways.push((nested.clone(), Wire::Text));
        ways.push((nested, Wire::Jsonb));
    }
    ways
}

fn column(record_type: &RecordType, wire: &Wire) -> WireColumn {
    WireColumn {
        name: "value".to_owned(),
        record_type: record_type.clone(),
        wire: wire.clone(),
        removes_nul: false,
    }
}

fn encoded(columns: &[WireColumn], arrays: &[ArrayRef]) -> Vec<Vec<u8>> {
    let encoder = RowEncoder::new(columns, arrays).unwrap();
    let row = |row| {
        let mut out = Vec::new();
        encoder.write(row, &mut out).unwrap();
        out
    };
    (0..arrays[0].len()).map(row).collect()
}

proptest! {
    #[test]
    fn every_value_comes_back_over_every_wire(way in select(ways()), rows in 0_usize..12, seed in any::<u64>()) {
        let (record_type, wire) = way;
        let mut random = Random(seed);
        let made: Vec<Value> = (0..rows + 3).map(|_| nullable(&record_type, &mut random)).collect();
        // A slice, so that offsets into arrays are taken into account.
        let source = array(&record_type, &made).unwrap().slice(1, rows);
        let columns = [column(&record_type, &wire)];
        let mut decoder = RowDecoder::new(&columns).unwrap();
        for row in encoded(&columns, std::slice::from_ref(&source)) {
            prop_assert_eq!(decoder.push(&row).unwrap(), Ok(()));
        }
        prop_assert_eq!(decoder.row_count(), rows);
        let back = decoder.finish().unwrap();
        prop_assert_eq!(back[0].data_type(), source.data_type());
        prop_assert_eq!(values(&record_type, &back[0]), values(&record_type, &source));
        prop_assert_eq!(decoder.row_count(), 0);
    }

    #[test]
    fn hostile_octets_are_taken_or_refused(
        way in select(ways()),
        mut octets in proptest::collection::vec(any::<u8>(), 0..80),
        has_frame in any::<bool>(),
    ) {
        let columns = [column(&way.0, &way.1)];
        if has_frame && octets.len() >= 6 {
            let length = (octets.len() - 6) as i32;
            octets[..2].copy_from_slice(&1_i16.to_be_bytes());
            octets[2..6].copy_from_slice(&length.to_be_bytes());
        }
        let mut decoder = RowDecoder::new(&columns).unwrap();
        let is_taken = matches!(decoder.push(&octets), Ok(Ok(())));
        prop_assert_eq!(decoder.row_count(), usize::from(is_taken));
        let arrays = decoder.finish().unwrap();
        prop_assert_eq!(arrays[0].len(), usize::from(is_taken));
    }

    #[test]
    fn a_row_cut_short_or_changed_in_one_octet_leaves_no_trace_or_is_a_row(
        way in select(ways()),
        seed in any::<u64>(),
        at in any::<usize>(),
        change in 1_u8..,
    ) {
        let mut random = Random(seed);
        let (record_type, wire) = way;
        let columns = [column(&RecordType::INT64, &Wire::Int8), column(&record_type, &wire)];
        let source = array(&record_type, &[value(&record_type, &mut random)]).unwrap();
        let first = array(&RecordType::INT64, &[Value::Int(1)]).unwrap();
        let row = encoded(&columns, &[first, source]).remove(0);
        let at = at % row.len();
        let mut decoder = RowDecoder::new(&columns).unwrap();
        prop_assert!(decoder.push(&row[..at]).is_err());
        let mut changed = row.clone();
        changed[at] ^= change;
        let is_taken = matches!(decoder.push(&changed), Ok(Ok(())));
        changed.push(0);
        prop_assert!(!matches!(decoder.push(&changed), Ok(Ok(()))));
        prop_assert_eq!(decoder.push(&row).unwrap(), Ok(()));
        let arrays = decoder.finish().unwrap();
        prop_assert_eq!(arrays[0].len(), 1 + usize::from(is_taken));
        prop_assert_eq!(arrays[1].len(), 1 + usize::from(is_taken));
        let last = arrays[1].slice(arrays[1].len() - 1, 1);
        let mut again = RowDecoder::new(&columns).unwrap();
        prop_assert_eq!(again.push(&row).unwrap(), Ok(()));
        prop_assert_eq!(values(&record_type, &last), values(&record_type, &again.finish().unwrap()[1]));
    }
}
