//! Digests of batches: what they depend on, and what losses have changed.
//! `vectors` holds the forms themselves; `canonical::tests` the single values.

use std::sync::Arc;

use whimbrel_plugin_api::capability::{Loss, TimeUnit};
use whimbrel_plugin_api::json_form::RowDecoder;
use whimbrel_plugin_api::{Field, RecordType};

use super::*;
use crate::verification::left_out;

fn batch(schema: &Schema, lines: &[&str]) -> Batch {
    let mut decoder = RowDecoder::new(schema, lines.len()).unwrap();
    for line in lines {
        decoder.push_line(line).unwrap();
    }
    Batch::new(Arc::new(schema.clone()), decoder.finish().unwrap()).unwrap()
}

fn fields(names: &[&str]) -> Schema {
    let mut schema = Schema::new(
        names
            .iter()
            .map(|name| Field::new(*name, RecordType::INT64))
            .collect(),
    );
    schema.presence = true;
    schema
}

fn recipe(schema: &Schema, key: &[&str], losses: &[(&str, Loss)]) -> Recipe {
    let loss = |(field, loss): &(&str, Loss)| FieldLoss {
        field: (*field).to_owned(),
        loss: *loss,
    };
    Recipe {
        schema: schema.clone(),
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        losses: losses.iter().map(loss).collect(),
    }
}

fn pairs(recipe: &Recipe, batch: &Batch) -> Vec<Pair> {
    let mut pairs = Vec::new();
    Digester::new(recipe.clone()).digest(batch, &mut pairs).unwrap();
    pairs
}

#[test]
fn digests_depend_on_the_order_of_fields_and_not_on_their_names() {
    let rows = batch(&fields(&["a", "b"]), &[r#"{"a":1,"b":2}"#]);
    let renamed = batch(&fields(&["x", "y"]), &[r#"{"x":1,"y":2}"#]);
    let turned = batch(&fields(&["b", "a"]), &[r#"{"a":1,"b":2}"#]);
    let own = pairs(&recipe(&fields(&["a", "b"]), &["a"], &[]), &rows);
    assert_eq!(pairs(&recipe(&fields(&["x", "y"]), &["x"], &[]), &renamed), own);
    // Columns are found by name, wherever a batch has them.
    assert_eq!(pairs(&recipe(&fields(&["a", "b"]), &["a"], &[]), &turned), own);
    let other = pairs(&recipe(&fields(&["b", "a"]), &["a"], &[]), &rows);
    assert_eq!(other[0].key, own[0].key);
    assert_ne!(other[0].record, own[0].record);
}

#[test]
fn a_record_without_a_key_is_known_by_all_of_it() {
    let schema = fields(&["a", "b"]);
    let rows = batch(&schema, &[r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#]);
    let whole = pairs(&recipe(&schema, &[], &[]), &rows);
    assert!(whole.iter().all(|pair| pair.key == pair.record));
    let keyed = pairs(&recipe(&schema, &["a"], &[]), &rows);
    assert_eq!(keyed[0].key, keyed[1].key);
    assert_ne!(keyed[0].key, keyed[0].record);
    assert_eq!(keyed[0].record, whole[0].record);
    // Even a key that is all fields is hashed with another key.
    let all = pairs(&recipe(&schema, &["a", "b"], &[]), &rows);
    assert_ne!(all[0].key, all[0].record);
    let turned = pairs(&recipe(&schema, &["b", "a"], &[]), &rows);
    assert_ne!(turned[0].key, all[0].key);
}

#[test]
fn a_field_that_a_batch_lacks_is_absent_and_not_null() {
    let both = fields(&["a", "b"]);
    let lacking = batch(&fields(&["a"]), &[r#"{"a":1}"#]);
    let rows = batch(&both, &[r#"{"a":1}"#, r#"{"a":1,"b":null}"#]);
    let exact = recipe(&both, &["a"], &[]);
    assert_eq!(pairs(&exact, &lacking)[0], pairs(&exact, &rows)[0]);
    assert_ne!(pairs(&exact, &rows)[0], pairs(&exact, &rows)[1]);
    let lossy = recipe(&both, &["a"], &[("b", Loss::AbsentToNull)]);
    assert_eq!(pairs(&lossy, &lacking)[0], pairs(&lossy, &rows)[1]);
    // What the recipe does not name is not looked at.
    let narrow = recipe(&fields(&["a"]), &["a"], &[]);
    assert_eq!(pairs(&narrow, &rows)[0], pairs(&narrow, &rows)[1]);
}

#[test]
fn one_digester_takes_batches_of_several_schemas() {
    let both = fields(&["a", "b"]);
    let first = batch(&both, &[r#"{"a":1,"b":2}"#]);
    let second = batch(&fields(&["b", "a"]), &[r#"{"a":1,"b":2}"#]);
    let mut digester = Digester::new(recipe(&both, &["a"], &[]));
    let mut found = Vec::new();
    for batch in [&first, &first, &second, &first] {
        digester.digest(batch, &mut found).unwrap();
    }
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|pair| *pair == found[0]));
}

#[test]
fn refused_records_and_single_fields_have_the_digests_of_their_pairs() {
    let schema = fields(&["a", "b"]);
    let rows = batch(
        &schema,
        &[r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, r#"{"b":3,"a":4}"#],
    );
    for key in [&["a"][..], &["b", "a"], &[]] {
        let mut collection = Collection::new("c", schema.clone());
        collection.key = key.iter().map(|name| (*name).to_owned()).collect();
        let keys: Vec<_> = pairs(&Recipe::of(&collection), &rows)
            .iter()
            .map(|pair| pair.key.to_be_bytes())
            .collect();
        assert_eq!(
            left_out::digests(&collection, &rows, [0, 2, 7]),
            [keys[0], keys[2]]
        );
    }
    let mut digests = FieldDigests::new(&recipe(&schema, &["a"], &[]), &rows);
    let (one, two, three) = (
        digests.of(0).unwrap(),
        digests.of(1).unwrap(),
        digests.of(2).unwrap(),
    );
    assert_eq!((one[0] == two[0], one[1] == two[1]), (true, false));
    assert_eq!((two[0] == three[0], two[1] == three[1]), (false, true));
}

#[test]
fn of_a_refused_record_only_the_key_is_looked_at() {
    let schema = Schema::new(vec![
        Field::new("id", RecordType::INT64),
        Field::new("n", RecordType::Numeric),
    ]);
    let bad = Schema::new(vec![
        Field::new("id", RecordType::INT64),
        Field::new("n", RecordType::Text),
    ]);
    let text = batch(&bad, &[r#"{"id":1,"n":"none"}"#]);
    let rows = Batch::new(Arc::new(schema.clone()), text.records).unwrap();
    let mut collection = Collection::new("c", schema);
    collection.key = vec!["id".to_owned()];
    assert_eq!(left_out::digests(&collection, &rows, [0]).len(), 1);
    let outcome = Digester::new(Recipe::of(&collection)).digest(&rows, &mut Vec::new());
    assert_eq!(outcome.unwrap_err().code, "verification.bad_value");
}

#[test]
fn losses_are_counted_by_field_and_record() {
    let mut schema = Schema::new(vec![
        Field::new("id", RecordType::INT64),
        Field::new("text", RecordType::Text),
        Field::new("float", RecordType::FLOAT64),
        Field::new("at", RecordType::TimestampTz),
    ]);
    schema.presence = true;
    let seconds = Loss::TruncateTimestamp {
        unit: TimeUnit::Seconds,
    };
    let millis = Loss::TruncateTimestamp {
        unit: TimeUnit::Milliseconds,
    };
    let losses = [
        ("text", Loss::EmptyTextToNull),
        ("text", Loss::AbsentToNull),
        ("text", Loss::NulRemoved),
        ("float", Loss::NanToNull),
        ("float", Loss::InfinityToNull),
        ("at", millis),
        ("at", seconds),
        ("at", seconds),
        ("gone", Loss::AbsentToNull),
        ("id", Loss::JsonNormalised),
    ];
    let rows = batch(
        &schema,
        &[
            r#"{"id":1,"text":"","float":"NaN","at":"2024-01-01T00:00:00.500000Z"}"#,
            r#"{"id":2,"float":1.5,"at":"2024-01-01T00:00:00Z"}"#,
            r#"{"id":3,"text":"a","float":"NaN","at":null}"#,
            r#"{"id":4,"text":null,"float":null,"at":"2024-01-01T00:00:00Z"}"#,
        ],
    );
    let mut digester = Digester::new(recipe(&schema, &["id"], &losses));
    let mut found = Vec::new();
    digester.digest(&rows, &mut found).unwrap();
    digester.digest(&rows, &mut found).unwrap();
    let count = |field: &str, loss, record_count| LossCount {
        field: field.to_owned(),
        loss,
        record_count,
    };
    let expected = vec![
        count("text", Loss::EmptyTextToNull, 2),
        count("text", Loss::AbsentToNull, 2),
        count("float", Loss::NanToNull, 4),
        count("at", seconds, 2),
    ];
    assert_eq!(digester.altered(), (expected, 6));
    let mut exact = Digester::new(recipe(&schema, &["id"], &losses).exact());
    exact.digest(&rows, &mut found).unwrap();
    assert_eq!(exact.altered(), (Vec::new(), 0));
}

#[test]
fn a_record_with_fields_that_the_recipe_lacks_is_like_none_without_them() {
    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use whimbrel_plugin_api::source::OTHER_FIELDS;
    use whimbrel_plugin_api::{Field, RecordType};

    let pairs_of = |others: Option<[Option<&str>; 3]>| {
        let mut fields = vec![Field::required("id", RecordType::INT64)];
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 2, 3]))];
        let recipe = Recipe {
            schema: Schema::new(fields.clone()),
            key: vec!["id".to_owned()],
            losses: Vec::new(),
        };
        if let Some(others) = others {
            fields.push(Field::new(OTHER_FIELDS, RecordType::Text));
            columns.push(Arc::new(StringArray::from(others.to_vec())));
        }
        let schema = Arc::new(Schema::new(fields));
        let batch = Batch::new(
            Arc::clone(&schema),
            RecordBatch::try_new(schema.to_arrow(), columns).unwrap(),
        )
        .unwrap();
        let mut pairs = Vec::new();
        Digester::new(recipe.clone()).digest(&batch, &mut pairs).unwrap();
        let others: Vec<Vec<String>> = (0..3)
            .map(|row| FieldDigests::new(&recipe, &batch).others(row))
            .collect();
        (pairs, others)
    };
    let (plain, _) = pairs_of(None);
    assert_eq!(pairs_of(Some([None, None, None])).0, plain);
    let (with, others) = pairs_of(Some([None, Some("[\"admin\"]"), Some("[\"a\",\"b\"]")]));
    assert_eq!(with[0], plain[0]);
    for row in [1, 2] {
        assert_eq!(
            with[row].key, plain[row].key,
            "it is found by its key all the same"
        );
        assert_ne!(with[row].record, plain[row].record);
    }
    assert_eq!(
        others,
        [
            vec![],
            vec!["admin".to_owned()],
            vec!["a".to_owned(), "b".to_owned()]
        ]
    );
    assert_ne!(pairs_of(Some([None, Some("[\"b\"]"), None])).0[1], with[1]);
}
