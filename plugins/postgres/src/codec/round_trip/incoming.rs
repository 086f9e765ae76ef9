//! What the columns cannot hold is a fault, and a row at fault is taken back whole.
//! Neighbour: `round_trip`, which has the columns and the way there and back.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::acceptance::records::{array, values};
use whimbrel_plugin_api::arrow_array::ArrayRef;
use whimbrel_plugin_api::arrow_buffer::i256;
use whimbrel_plugin_api::record_type::RecordType;

use super::super::{HEADER, RowDecoder, RowEncoder, TRAILER, Wire};
use super::values::{Random, value};
use super::{column, encoded, structure, wire_array};

/// Pushes one value in a row of its own; the code of the fault.
fn refusal(record_type: &RecordType, wire: &Wire, octets: &[u8]) -> Result<Value, &'static str> {
    let mut row = vec![0, 1];
    row.extend((octets.len() as i32).to_be_bytes());
    row.extend(octets);
    let mut decoder = RowDecoder::new(&[column(record_type, wire)]).unwrap();
    match decoder.push(&row) {
        Ok(Ok(())) => Ok(values(record_type, &decoder.finish().unwrap()[0]).remove(0)),
        Ok(Err(fault)) => Err(fault.code),
        Err(_) => Err("malformed"),
    }
}

#[test]
fn what_the_column_cannot_hold_is_a_fault() {
    let decimal = RecordType::Decimal {
        precision: 5,
        scale: 2,
    };
    let numeric = |sign: u16, weight: i16, shown: u16, groups: &[u16]| {
        let mut octets = Vec::new();
        for part in [groups.len() as u16, weight.cast_unsigned(), sign, shown] {
            octets.extend(part.to_be_bytes());
        }
        octets.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
        octets
    };
    let list = RecordType::list(RecordType::INT64);
    let ints = wire_array(Wire::Int8);
    let array = |numbers: &[i32], rest: &[u8]| {
        let mut octets: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        octets.extend(rest);
        octets
    };
    for (record_type, wire, octets, code) in [
        (
            &decimal,
            &Wire::Numeric,
            numeric(0xc000, 0, 0, &[]),
            "postgres.decimal_nan",
        ),
        (
            &decimal,
            &Wire::Numeric,
            numeric(0xd000, 0, 0, &[]),
            "postgres.decimal_nan",
        ),
        (
            &decimal,
            &Wire::Numeric,
            numeric(0, 0, 2, &[1_000]),
            "postgres.out_of_range",
        ),
        (
            &decimal,
            &Wire::Numeric,
            numeric(0, -1, 3, &[1_230]),
            "postgres.out_of_range",
        ),
        (
            &decimal,
            &Wire::Numeric,
            numeric(0, 0, 8, &[1, 0, 1]),
            "postgres.out_of_range",
        ),
        (
            &decimal,
            &Wire::Numeric,
            numeric(0, 32_767, 0, &[1]),
            "postgres.out_of_range",
        ),
        (&decimal, &Wire::Numeric, numeric(0, 0, 0, &[10_000]), "malformed"),
        (
            &RecordType::Numeric,
            &Wire::Numeric,
            numeric(0, 0, 3, &[1, 1]),
            "malformed",
        ),
        (
            &RecordType::Numeric,
            &Wire::Numeric,
            numeric(0, 0, 0x4000, &[1]),
            "malformed",
        ),
        (
            &RecordType::INT64,
            &Wire::Numeric,
            numeric(0, 0, 1, &[1, 5_000]),
            "postgres.out_of_range",
        ),
        (
            &RecordType::Int { bits: 8 },
            &Wire::Int2,
            128_i16.to_be_bytes().to_vec(),
            "postgres.out_of_range",
        ),
        (
            &RecordType::Float { bits: 32 },
            &Wire::Float8,
            0.1_f64.to_be_bytes().to_vec(),
            "postgres.out_of_range",
        ),
        (&RecordType::Text, &Wire::Text, vec![0xff], "postgres.not_utf8"),
        (&RecordType::Json, &Wire::Jsonb, b"\x02{}".to_vec(), "malformed"),
        (
            &RecordType::Uuid,
            &Wire::Text,
            b"1".to_vec(),
            "postgres.bad_value",
        ),
        (
            &RecordType::Geopoint,
            &Wire::Jsonb,
            b"\x01{}".to_vec(),
            "postgres.bad_value",
        ),
        (&RecordType::Bool, &Wire::Bool, vec![2], "malformed"),
        (&RecordType::Date, &Wire::Date, vec![0; 3], "malformed"),
        (
            &RecordType::Timestamp,
            &Wire::Timestamp,
            (i64::MAX - 1).to_be_bytes().to_vec(),
            "postgres.out_of_range",
        ),
        (
            &list,
            &ints,
            array(&[2, 0, 20, 1, 1, 1, 1], &[]),
            "postgres.array_shape",
        ),
        (
            &list,
            &ints,
            array(&[1, 0, 20, 1, 0, 8], &[0; 8]),
            "postgres.array_shape",
        ),
        (&list, &ints, array(&[1, 0, 20, i32::MAX, 1], &[]), "malformed"),
        (&list, &ints, array(&[1, 0, 20, -1, 1], &[]), "malformed"),
        (&list, &ints, array(&[-1, 0, 20], &[]), "malformed"),
        (
            &RecordType::Vector,
            &wire_array(Wire::Float8),
            array(&[1, 1, 701, 1, 1, -1], &[]),
            "postgres.null_item",
        ),
    ] {
        assert_eq!(
            refusal(record_type, wire, &octets),
            Err(code),
            "{record_type}: {octets:?}"
        );
    }
    assert_eq!(
        refusal(&decimal, &Wire::Numeric, &numeric(0x4000, -1, 3, &[1_200])),
        Ok(Value::Decimal(i256::from(-12)))
    );
    assert_eq!(
        refusal(&list, &ints, &array(&[0, 0, 20], &[])),
        Ok(Value::List(Vec::new()))
    );
}

#[test]
fn a_fault_in_a_late_column_takes_back_the_early_ones() {
    let columns = [
        column(&structure(), &Wire::Jsonb),
        column(&RecordType::list(RecordType::Text), &wire_array(Wire::Text)),
        column(&RecordType::Numeric, &Wire::Numeric),
        column(&RecordType::Text, &Wire::Text),
    ];
    let mut random = Random(7);
    let good: Vec<ArrayRef> = columns
        .iter()
        .map(|column| array(&column.record_type, &[value(&column.record_type, &mut random)]).unwrap())
        .collect();
    let row = encoded(&columns, &good).remove(0);
    let mut decoder = RowDecoder::new(&columns).unwrap();
    assert_eq!(decoder.push(&row).unwrap(), Ok(()));
    assert!(decoder.push(&row[..row.len() - 1]).is_err());
    let text = columns.len() - 1;
    let mut not_utf8 = encoded(&columns[..text], &good[..text]).remove(0);
    not_utf8[..2].copy_from_slice(&4_i16.to_be_bytes());
    not_utf8.extend([0, 0, 0, 1, 0xff]);
    let fault = decoder.push(&not_utf8).unwrap().unwrap_err();
    assert_eq!((fault.column, fault.code), (3, "postgres.not_utf8"));
    assert!(fault.help().is_some());
    assert_eq!(decoder.push(&row).unwrap(), Ok(()));
    assert!(decoder.size_bytes() >= 2 * row.len());
    let arrays = decoder.finish().unwrap();
    for ((column, array), good) in columns.iter().zip(&arrays).zip(&good) {
        let good = values(&column.record_type, good).remove(0);
        assert_eq!(values(&column.record_type, array), [good.clone(), good]);
    }
}

#[test]
fn columns_and_arrays_that_do_not_match_are_refused() {
    let two = [
        column(&RecordType::INT64, &Wire::Int8),
        column(&RecordType::Text, &Wire::Text),
    ];
    let ints = array(&RecordType::INT64, &[Value::Int(1)]).unwrap();
    let none = array(&RecordType::Text, &[]).unwrap();
    assert!(RowEncoder::new(&two, std::slice::from_ref(&ints)).is_err());
    assert!(RowEncoder::new(&two, &[ints.clone(), none]).is_err());
    assert!(RowEncoder::new(&two, &[ints.clone(), ints.clone()]).is_err());
    let no_way = [column(&RecordType::INT64, &Wire::Text)];
    assert!(RowEncoder::new(&no_way, &[ints]).is_err());
    assert!(RowDecoder::new(&no_way).is_err());
    assert_eq!(HEADER.len(), 19);
    assert_eq!(TRAILER.len(), 2);
}
