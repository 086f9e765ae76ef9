//! Holds what the sink has made of the collections against what was planned: fields, types, keys, nulls, references.
//!
//! Two witnesses are heard: how the sink describes its collections when it is read, and what a dry preparation says stands
//! in the way now. Only what both of them say is a mismatch: a table that was there before may well be stricter or wider
//! than the plan and hold every record. What one of them says is a hint. Records are not looked at. Neighbours:
//! [`crate::phases::verification`] asks for it, `compare` and `full` look at the records.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{
    Collection, CollectionsRequest, ErrorKind, Finding, FindingLevel, RecordType, Schema,
};

use crate::events::{Failure, Mismatch, MismatchKind};
use crate::loader::observe::{OpenedSink, OpenedSource};

/// Collections that one request names; a sink may look at each of them for a while, and can only be ended between.
const NAMES_PER_REQUEST: usize = 100;
/// Names of fields that a hint lists.
const NAMES_SHOWN_MAX: usize = 20;

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub struct Compliance {
    /// What differs, by the number of the collection.
    pub mismatches: BTreeMap<usize, Vec<Mismatch>>,
    /// Hints.
    pub findings: Vec<Finding>,
    /// The collections as the sink describes them, by their names there.
    pub described: BTreeMap<String, Collection>,
    /// The names of those for which the sink bills what it is asked.
    pub billed: BTreeSet<String>,
}

/// Looks at the collections `wanted`, by number, as the sink was asked to hold them. A sink that bills for a description is not
/// asked for one, nor is anything said of a collection that it lacks: comparing the records says that.
///
/// # Errors
/// Cancelling. What else either witness brings is a finding.
pub fn look(
    sink: &mut OpenedSink,
    reader: &mut OpenedSource,
    wanted: &[(usize, &Collection)],
) -> Result<Compliance, Failure> {
    let mut compliance = Compliance::default();
    if wanted.is_empty() {
        return Ok(compliance);
    }
    let request = PrepareRequest {
        collections: wanted
            .iter()
            .map(|(_, collection)| (*collection).clone())
            .collect(),
        dry: true,
        again: true,
    };
    let objections = match sink.prepare(&request) {
        Ok(report) => {
            let billed = report.collections.into_iter().filter(|one| one.cost.is_some());
            compliance.billed = billed.map(|one| one.name).collect();
            objections(report.findings)
        }
        Err(failure) => {
            compliance.findings.extend(not_looked_at("asked", failure)?);
            Vec::new()
        }
    };
    // To ask what a description costs may cost something as well.
    let is_free = |(_, collection): &(usize, &Collection)| !compliance.billed.contains(&collection.name);
    let free: Vec<_> = wanted.iter().copied().filter(is_free).collect();
    let described = match describe(reader, &free) {
        Ok(described) => described,
        Err(failure) => {
            compliance.findings.extend(not_looked_at("described", failure)?);
            BTreeMap::new()
        }
    };
    judge(wanted, &described, &objections, &mut compliance);
    compliance.described = described;
    Ok(compliance)
}

/// What could not be looked at is a hint, and none if the sink does not offer it.
fn not_looked_at(what: &str, failure: Failure) -> Result<Option<Finding>, Failure> {
    match failure.error.kind {
        ErrorKind::Cancelled => Err(failure),
        ErrorKind::Unsupported | ErrorKind::NotFound => Ok(None),
        _ => {
            let message = format!(
                "the sink could not be {what} how it holds the collections: {} (`{}`)",
                failure.error.message, failure.error.code
            );
            Ok(Some(Finding::warning("verification.schema_unchecked", message)))
        }
    }
}

/// The collections as the sink describes them, without those that it bills for.
fn describe(
    reader: &mut OpenedSource,
    wanted: &[(usize, &Collection)],
) -> Result<BTreeMap<String, Collection>, Failure> {
    let mut described = BTreeMap::new();
    for part in wanted.chunks(NAMES_PER_REQUEST) {
        let mut request = CollectionsRequest {
            names: part
                .iter()
                .map(|(_, collection)| collection.name.clone())
                .collect(),
            schemas: false,
        };
        let listed = reader.collections(&request)?;
        let is_free = |collection: &Collection| collection.cost.is_none();
        request.names = listed
            .into_iter()
            .filter(is_free)
            .map(|collection| collection.name)
            .collect();
        if request.names.is_empty() {
            continue;
        }
        request.schemas = true;
        let told = reader.collections(&request)?;
        described.extend(
            told.into_iter()
                .map(|collection| (collection.name.clone(), collection)),
        );
    }
    Ok(described)
}

/// What stands in the way of the collections. A right to write that is missing says nothing of what is there.
fn objections(findings: Vec<Finding>) -> Vec<Finding> {
    findings
        .into_iter()
        .filter(|finding| {
            finding.level == FindingLevel::Blocker
                && finding.kind != Some(ErrorKind::Permission)
                && finding.collection.is_some()
        })
        .collect()
}

fn judge(
    wanted: &[(usize, &Collection)],
    described: &BTreeMap<String, Collection>,
    objections: &[Finding],
    compliance: &mut Compliance,
) {
    let knows_references = described
        .values()
        .any(|collection| !collection.references.is_empty());
    for (number, planned) in wanted {
        let objects = |finding: &&Finding| finding.collection.as_deref() == Some(planned.name.as_str());
        let own: Vec<&Finding> = objections.iter().filter(objects).collect();
        let there = described.get(&planned.name);
        let deviations = there.map_or_else(Vec::new, |there| deviations(planned, there));
        let hints = there.map_or_else(Vec::new, |there| hints(planned, there, knows_references));
        compliance.findings.extend(hints);
        if own.is_empty() {
            let findings = deviations.into_iter().map(|deviation| {
                Finding::info("verification.schema_deviates", deviation.text).with_collection(&planned.name)
            });
            compliance.findings.extend(findings);
        } else if deviations.is_empty() {
            let findings = own.into_iter().map(|finding| {
                let message = format!("as it is now, the sink would refuse a copy: {}", finding.message);
                let hint = Finding::warning("verification.sink_objects", message);
                match &finding.help {
                    Some(help) => hint.with_help(help),
                    None => hint,
                }
                .with_collection(&planned.name)
            });
            compliance.findings.extend(findings);
        } else {
            let mismatches = deviations.into_iter().map(|deviation| Mismatch {
                kind: MismatchKind::Schema,
                record: deviation.text,
                fields: deviation.fields,
                values: Vec::new(),
            });
            compliance.mismatches.insert(*number, mismatches.collect());
        }
    }
}

/// Something that is not as it was planned.
#[derive(Debug, PartialEq, Eq)]
struct Deviation {
    text: String,
    fields: Vec<String>,
}

fn type_of<'a>(schema: &'a Schema, field: &str) -> Option<&'a RecordType> {
    schema
        .index_of(field)
        .map(|index| &schema.fields[index].record_type)
}

/// Fields that are not there, types that cannot hold what was planned, a key that is none.
fn deviations(planned: &Collection, there: &Collection) -> Vec<Deviation> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for field in &planned.schema.fields {
        match type_of(&there.schema, &field.name) {
            None => missing.push(field.name.clone()),
            Some(stored) if !may_hold(stored, &field.record_type) => found.push(Deviation {
                text: format!("the sink has `{stored}`, planned was `{}`", field.record_type),
                fields: vec![field.name.clone()],
            }),
            Some(_) => {}
        }
    }
    if !missing.is_empty() {
        found.insert(
            0,
            Deviation {
                text: "the sink lacks fields".to_owned(),
                fields: missing,
            },
        );
    }
    if !planned.key.is_empty() && !is_same_set(&planned.key, &there.key) {
        let text = match there.key.is_empty() {
            true => "the sink has no key".to_owned(),
            false => format!("the sink has the key `{}`", there.key.join("`, `")),
        };
        found.push(Deviation {
            text,
            fields: planned.key.clone(),
        });
    }
    found
}

fn is_same_set(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().all(|field| other.contains(field))
}

/// What may be so on purpose: fields that only the sink has, or that may be null in it alone, references that it does not know.
fn hints(planned: &Collection, there: &Collection, knows_references: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let own = there.schema.fields.iter();
    let own = own.filter(|field| type_of(&planned.schema, &field.name).is_none());
    let own: Vec<String> = own.map(|field| format!("`{}`", field.name)).collect();
    if !own.is_empty() {
        let message = format!(
            "the sink has fields that no copy fills, and nothing of them was compared: {}",
            shortened(&own)
        );
        found.push(Finding::info("verification.sink_only_fields", message).with_collection(&planned.name));
    }
    let is_looser = |name: &str| {
        let index = there.schema.index_of(name);
        index.is_some_and(|index| there.schema.fields[index].nullable)
    };
    let looser: Vec<String> = planned
        .schema
        .fields
        .iter()
        .filter(|field| !field.nullable && is_looser(&field.name))
        .map(|field| format!("`{}`", field.name))
        .collect();
    if !looser.is_empty() {
        let message = format!("the sink lets {} be null, the source does not", looser.join(", "));
        found.push(Finding::info("verification.nullable", message).with_collection(&planned.name));
    }
    for reference in planned.references.iter().filter(|_| knows_references) {
        let is_same = |known: &&whimbrel_plugin_api::collection::Reference| {
            known.fields == reference.fields && known.collection == reference.collection
        };
        if !there.references.iter().any(|known| is_same(&known)) {
            let message = format!(
                "the sink has no reference from `{}` to `{}`",
                reference.fields.join("`, `"),
                reference.collection
            );
            found.push(Finding::info("verification.no_reference", message).with_collection(&planned.name));
        }
    }
    found
}

/// The first of `names`, and how many more there are.
fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_SHOWN_MAX).cloned().collect::<Vec<_>>();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Whether a place of the type `stored` may hold every value of the type `planned`. Texts and what is not sure may: a sink
/// knows ways of its own to keep a value.
fn may_hold(stored: &RecordType, planned: &RecordType) -> bool {
    use RecordType::{
        Bool, Date, Decimal, Float, Int, Json, Numeric, Opaque, Text, Time, TimeTz, Timestamp, TimestampTz,
        Uuid, Variant,
    };
    match (planned, stored) {
        (Int { bits }, Int { bits: stored }) => stored >= bits,
        (Int { bits }, Float { bits: stored }) => bits < stored && *bits < 64,
        (Int { bits }, Decimal { precision, scale }) => {
            int_digits(*bits) <= i16::from(*precision) - i16::from(*scale)
        }
        (Float { bits }, Float { bits: stored }) => stored >= bits,
        (Decimal { precision, scale }, Int { bits }) => {
            // The largest integer has one digit that does not go through all values.
            *scale <= 0 && i16::from(*precision) - i16::from(*scale) < int_digits(*bits)
        }
        (
            Decimal { precision, scale },
            Decimal {
                precision: stored,
                scale: stored_scale,
            },
        ) => {
            let whole = |precision: u8, scale: i8| i16::from(precision) - i16::from(scale);
            stored_scale >= scale && whole(*stored, *stored_scale) >= whole(*precision, *scale)
        }
        (Float { .. } | Numeric, Int { .. } | Decimal { .. }) => false,
        (Timestamp | TimestampTz, Date | Time | TimeTz) => false,
        (
            Text | Json | Variant | Opaque { .. },
            Bool
            | Int { .. }
            | Float { .. }
            | Decimal { .. }
            | Numeric
            | Date
            | Time
            | Timestamp
            | TimestampTz
            | Uuid,
        ) => false,
        (
            Int { .. } | Float { .. } | Decimal { .. } | Numeric,
            Bool | Date | Time | TimeTz | Timestamp | TimestampTz | Uuid,
        ) => false,
        _ => true,
    }
}

/// Decimal digits that an integer may have.
const fn int_digits(bits: u8) -> i16 {
    match bits {
        8 => 3,
        16 => 5,
        32 => 10,
        _ => 19,
    }
}

#[cfg(test)]
mod tests;
