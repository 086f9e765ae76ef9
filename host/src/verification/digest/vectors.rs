//! The vectors of the specification: records with their forms and digests, in a file that any implementation can read, and in
//! the table of `docs/digest.md`.
//!
//! A change of a form fails here. After one that is meant, `UPDATE_EXPECT=1 cargo nextest run -p whimbrel vectors` writes both anew;
//! the hash keys must then name the next version. `tests/harness/digests.py` computes the same without this code.

mod cases;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use expect_test::expect_file;
use serde::Serialize;
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::json_form::RowDecoder;
use whimbrel_plugin_api::{Batch, Field, RecordType};

use super::rows::{Plan, Rows, Work};
use super::{Digester, Recipe};
use crate::verification::bucket::Buckets;
use cases::{Case, CollectionCase, cases, collections};

fn file(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/")).join(path)
}

fn batch(recipe: &Recipe, records: &[&str]) -> Batch {
    let mut schema = recipe.schema.clone();
    // What a record does not name is absent.
    schema.presence = true;
    let mut decoder = RowDecoder::new(&schema, records.len()).unwrap();
    for record in records {
        decoder.push_line(record).unwrap();
    }
    Batch::new(Arc::new(schema), decoder.finish().unwrap()).unwrap()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

struct Vector {
    case: Case,
    form: String,
    key_digest: String,
    record_digest: String,
}

fn vectors() -> Vec<Vector> {
    let vector = |case: Case| {
        let batch = batch(&case.recipe, &[case.record]);
        let plan = Plan::new(&case.recipe.schema, &case.recipe.key, &case.recipe.losses);
        let (rows, mut work) = (Rows::new(&plan, &batch), Work::default());
        let pair = rows.pair(0, &mut work).unwrap();
        Vector {
            form: hex(rows.form(0, &mut work).unwrap()),
            key_digest: format!("{:032x}", pair.key),
            record_digest: format!("{:032x}", pair.record),
            case,
        }
    };
    cases().into_iter().map(vector).collect()
}

#[derive(Serialize)]
struct KeptRecipe<'a> {
    fields: &'a [Field],
    key: &'a [String],
    losses: &'a [FieldLoss],
}

impl<'a> KeptRecipe<'a> {
    fn of(recipe: &'a Recipe) -> Self {
        Self {
            fields: &recipe.schema.fields,
            key: &recipe.key,
            losses: &recipe.losses,
        }
    }
}

#[derive(Serialize)]
struct KeptVector<'a> {
    name: &'a str,
    recipe: KeptRecipe<'a>,
    record: &'a str,
    form: &'a str,
    key_digest: &'a str,
    record_digest: &'a str,
}

#[derive(Serialize)]
struct KeptCollection<'a> {
    name: &'a str,
    recipe: KeptRecipe<'a>,
    records: Vec<&'a str>,
    record_count: u64,
    sum: String,
    xor: String,
    root: String,
}

fn vector_line(vector: &Vector) -> String {
    let kept = KeptVector {
        name: vector.case.name,
        recipe: KeptRecipe::of(&vector.case.recipe),
        record: vector.case.record,
        form: &vector.form,
        key_digest: &vector.key_digest,
        record_digest: &vector.record_digest,
    };
    serde_json::to_string(&kept).unwrap()
}

fn collection_line(case: &CollectionCase) -> String {
    let records: Vec<&str> = case.records.iter().map(String::as_str).collect();
    let mut pairs = Vec::new();
    let mut digester = Digester::new(case.recipe.clone());
    digester
        .digest(&batch(&case.recipe, &records), &mut pairs)
        .unwrap();
    let mut buckets = Buckets::default();
    for pair in pairs {
        buckets.add(pair);
    }
    let total = buckets.total();
    let kept = KeptCollection {
        name: case.name,
        recipe: KeptRecipe::of(&case.recipe),
        records,
        record_count: total.count,
        sum: format!("{:032x}", total.sum),
        xor: format!("{:032x}", total.xor),
        root: hex(&buckets.root()),
    };
    serde_json::to_string(&kept).unwrap()
}

#[test]
fn the_vectors_are_what_this_encoding_makes() {
    let lines = |lines: Vec<String>| format!("    {}", lines.join(",\n    "));
    let text = format!(
        "{{\n  \"version\": 1,\n  \"vectors\": [\n{}\n  ],\n  \"collections\": [\n{}\n  ]\n}}\n",
        lines(vectors().iter().map(vector_line).collect()),
        lines(collections().iter().map(collection_line).collect())
    );
    expect_file![file("../tests/fixtures/digest-vectors.json")].assert_eq(&text);
}

#[test]
fn the_specification_lists_the_vectors() {
    let path = file("docs/digest.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- vectors:begin -->\n", "<!-- vectors:end -->");
    let (before, rest) = page
        .split_once(begin)
        .expect("the page has a place for the vectors");
    let (_, after) = rest.split_once(end).expect("the vectors end");
    let mut table =
        "| vector | fields | losses | record | form | digest |\n|---|---|---|---|---|---|\n".to_owned();
    for vector in vectors() {
        let recipe = &vector.case.recipe;
        let fields: Vec<String> = recipe
            .schema
            .fields
            .iter()
            .map(|field| format!("`{}`", field.record_type))
            .collect();
        let losses: Vec<String> = recipe
            .losses
            .iter()
            .map(|loss| format!("`{}`", loss.loss.name()))
            .collect();
        writeln!(
            table,
            "| {} | {} | {} | `{}` | `{}` | `{}` |",
            vector.case.name,
            fields.join(", "),
            losses.join(", "),
            vector.case.record.replace('|', "\\|"),
            vector.form,
            vector.record_digest,
        )
        .unwrap();
    }
    expect_file![path].assert_eq(&format!("{before}{begin}{table}{end}{after}"));
}

#[test]
fn every_record_type_and_every_loss_has_a_vector() {
    let cases = cases();
    assert!(cases.len() >= 60, "{} vectors", cases.len());
    let has_type = |wanted: &RecordType| {
        let is_wanted = |found: &RecordType| match (found, wanted) {
            (RecordType::Int { bits: a }, RecordType::Int { bits: b })
            | (RecordType::Float { bits: a }, RecordType::Float { bits: b }) => a == b,
            _ => std::mem::discriminant(found) == std::mem::discriminant(wanted),
        };
        cases.iter().any(|case| {
            case.recipe
                .schema
                .fields
                .iter()
                .any(|field| is_wanted(&field.record_type))
        })
    };
    for wanted in RecordType::one_of_each() {
        assert!(has_type(&wanted), "no vector has a `{wanted}`");
    }
    for wanted in cases::losses_in_all() {
        let has_loss = |case: &Case| {
            case.recipe
                .losses
                .iter()
                .any(|loss| loss.loss.name() == wanted.name())
        };
        assert!(
            cases.iter().any(has_loss),
            "no vector has the loss `{}`",
            wanted.name()
        );
    }
    let names: std::collections::BTreeSet<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "two vectors have one name");
}
