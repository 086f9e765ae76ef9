//! What is a mismatch, what is a hint, and what is neither, of made-up descriptions.
//! Neighbour: `tests/suite/checks_of_sink.rs`, for the same with systems.

use whimbrel_plugin_api::Field;
use whimbrel_plugin_api::collection::Reference;

use super::*;

fn orders() -> Collection {
    let schema = Schema::new(vec![
        Field::required("id", RecordType::INT64),
        Field::required("customer", RecordType::INT64),
        Field::new(
            "price",
            RecordType::Decimal {
                precision: 10,
                scale: 2,
            },
        ),
        Field::new("note", RecordType::Text),
    ]);
    let mut orders = Collection::new("orders", schema).with_key(["id"]);
    orders.references = vec![Reference {
        fields: vec!["customer".to_owned()],
        collection: "customers".to_owned(),
        to_fields: vec!["id".to_owned()],
        is_enforced: true,
    }];
    orders
}

fn objection(collection: &str) -> Finding {
    Finding::blocker("curlew.narrower", "the column `price` is too narrow").with_collection(collection)
}

fn judged(there: &Collection, said: Vec<Finding>) -> Compliance {
    let planned = orders();
    let mut compliance = Compliance::default();
    let described = [(there.name.clone(), there.clone())].into();
    judge(&[(3, &planned)], &described, &objections(said), &mut compliance);
    compliance
}

fn codes(compliance: &Compliance) -> Vec<&str> {
    compliance
        .findings
        .iter()
        .map(|finding| finding.code.as_str())
        .collect()
}

#[test]
fn what_is_as_planned_is_worth_no_word() {
    assert_eq!(judged(&orders(), Vec::new()), Compliance::default());
    // Nor is a wider field, nor a table that is not there.
    let mut wider = orders();
    wider.schema.fields[2].record_type = RecordType::Numeric;
    assert_eq!(judged(&wider, Vec::new()), Compliance::default());
    let other = Collection::new("others", Schema::default());
    assert_eq!(judged(&other, Vec::new()), Compliance::default());
}

#[test]
fn what_both_witnesses_say_is_a_mismatch_with_its_fields() {
    let mut there = orders();
    there.schema.fields[2].record_type = RecordType::Int { bits: 32 };
    there.schema.fields.pop();
    there.key.clear();
    let compliance = judged(&there, vec![objection("orders")]);
    let found: Vec<(&str, String)> = compliance.mismatches[&3]
        .iter()
        .map(|mismatch| {
            assert_eq!(mismatch.kind, MismatchKind::Schema);
            (mismatch.record.as_str(), mismatch.fields.join(","))
        })
        .collect();
    assert_eq!(
        found,
        [
            ("the sink lacks fields", "note".to_owned()),
            (
                "the sink has `int32`, planned was `decimal(10, 2)`",
                "price".to_owned()
            ),
            ("the sink has no key", "id".to_owned()),
        ]
    );
    assert!(compliance.findings.is_empty());
}

#[test]
fn what_one_witness_says_is_a_hint() {
    let mut there = orders();
    there.schema.fields[2].record_type = RecordType::Int { bits: 32 };
    for said in [
        Vec::new(),
        vec![objection("customers")],
        vec![Finding::warning("curlew.narrower", "x").with_collection("orders")],
        vec![Finding {
            kind: Some(ErrorKind::Permission),
            ..objection("orders")
        }],
    ] {
        let compliance = judged(&there, said);
        assert!(compliance.mismatches.is_empty());
        assert_eq!(codes(&compliance), ["verification.schema_deviates"]);
    }
    let compliance = judged(&orders(), vec![objection("orders")]);
    assert!(compliance.mismatches.is_empty());
    assert_eq!(codes(&compliance), ["verification.sink_objects"]);
}

#[test]
fn fields_that_may_be_null_and_references_that_are_gone_are_hints() {
    let mut there = orders();
    there.schema.fields[1].nullable = true;
    there.references[0].fields = vec!["note".to_owned()];
    let compliance = judged(&there, Vec::new());
    assert_eq!(
        codes(&compliance),
        ["verification.nullable", "verification.no_reference"]
    );
    assert_eq!(
        compliance.findings[0].message,
        "the sink lets `customer` be null, the source does not"
    );
    // A system that knows no references at all lacks none.
    there.references.clear();
    assert_eq!(codes(&judged(&there, Vec::new())), ["verification.nullable"]);
}

#[test]
fn fields_that_only_the_sink_has_are_a_hint() {
    let mut there = orders();
    let own = |number: usize| Field::new(format!("own_{number}"), RecordType::Bool);
    there.schema.fields.push(own(0));
    let compliance = judged(&there, Vec::new());
    assert!(compliance.mismatches.is_empty());
    assert_eq!(codes(&compliance), ["verification.sink_only_fields"]);
    assert_eq!(
        compliance.findings[0].message,
        "the sink has fields that no copy fills, and nothing of them was compared: `own_0`"
    );
    there.schema.fields.extend((1..25).map(own));
    let message = &judged(&there, Vec::new()).findings[0].message;
    assert!(message.ends_with("`own_19` and 5 more"), "{message}");
}

#[test]
fn types_hold_what_they_surely_hold_and_whatever_is_not_sure() {
    let decimal = |precision, scale| RecordType::Decimal { precision, scale };
    let int = |bits| RecordType::Int { bits };
    let float = |bits| RecordType::Float { bits };
    for (planned, stored, holds) in [
        (int(32), int(64), true),
        (int(64), int(32), false),
        (int(64), decimal(19, 0), true),
        (int(64), decimal(19, 1), false),
        (int(32), float(64), true),
        (int(64), float(64), false),
        (float(64), float(32), false),
        (float(64), decimal(38, 10), false),
        (decimal(10, 2), decimal(12, 4), true),
        (decimal(10, 2), decimal(12, 1), false),
        (decimal(10, 2), decimal(10, 3), false),
        (decimal(9, 0), int(32), true),
        (decimal(10, 0), int(32), false),
        (decimal(10, 2), float(64), true),
        (RecordType::Numeric, decimal(38, 10), false),
        (RecordType::Timestamp, RecordType::Date, false),
        (RecordType::Text, int(64), false),
        (RecordType::Uuid, RecordType::Text, true),
        (RecordType::Bool, int(64), true),
        (int(64), RecordType::Text, true),
    ] {
        assert_eq!(may_hold(&stored, &planned), holds, "{planned} in {stored}");
    }
    for record_type in RecordType::one_of_each() {
        assert!(may_hold(&record_type, &record_type), "{record_type}");
    }
}
