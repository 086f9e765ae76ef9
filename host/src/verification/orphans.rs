//! Looks for records that point to others that are not there, in bounded memory.
//!
//! The keys of parents are held as digests, as many collections at a time as fit; then the fields that point are read
//! once for all of them. It knows no plugin: [`crate::phases::references`] reads for it and words what is found.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{Batch, RecordType, Schema};

use super::key_set::{Class, KeyDigests, KeySet};
use crate::events::{Failure, Orphan};

/// Octets of one digest.
const DIGEST_BYTES: usize = 16;
/// Missing keys that are told apart at one time, over all references.
const MISSING_MAX: usize = 262_144;
/// Orphans that are kept of each reference.
pub const SHOWN_MAX: usize = 20;
/// Characters of a key value that are shown.
const VALUE_CHARS_MAX: usize = 80;

/// A reference that is looked at, by the numbers of its collections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// The collection whose records point.
    pub child: usize,
    /// Its fields that point.
    pub fields: Vec<String>,
    /// The collection pointed to.
    pub parent: usize,
    /// The fields pointed to.
    pub to_fields: Vec<String>,
}

/// What was found of a reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Records looked at.
    pub record_count: u64,
    /// Of these, those that point to nothing.
    pub orphan_count: u64,
    /// The different keys that they point to.
    pub missing_key_count: u64,
    /// Whether there are too many of these to count them.
    pub missing_keys_uncounted: bool,
    /// The first orphans.
    pub orphans: Vec<Orphan>,
}

/// Reads collections, and takes what is found.
pub trait Reading {
    /// Gives each batch of collection number `collection`, with at least `fields` of it, to `each`, until that says that it
    /// has enough.
    ///
    /// # Errors
    /// What reading brings, or `each`.
    fn read(
        &mut self,
        collection: usize,
        fields: &[String],
        each: &mut dyn FnMut(&Batch) -> Result<bool, Failure>,
    ) -> Result<(), Failure>;

    /// The fields that tell the records of collection number `collection` apart.
    fn key(&self, collection: usize) -> &[String];
}

/// Takes one orphan of a reference.
pub type List<'a> = dyn FnMut(&Sought, &Orphan) + 'a;

/// Whether values of both types can be the same one. What the canonical form tells apart is never the same.
pub fn is_comparable(one: &RecordType, other: &RecordType) -> bool {
    let class = |of: &RecordType| match of {
        RecordType::Int { .. } | RecordType::Decimal { .. } | RecordType::Numeric => 1,
        RecordType::Text | RecordType::Reference | RecordType::Opaque { .. } | RecordType::TimeTz => 2,
        RecordType::Float { .. } => 3,
        _ => 0,
    };
    class(one) == class(other) && (class(one) != 0 || one == other)
}

/// How often each collection is read to look at all of `sought`, by its number, if the keys of all parents fit.
pub fn readings(sought: &[Sought]) -> BTreeMap<usize, u64> {
    let parents = targets(sought).into_iter().map(|target| target.parent);
    let children: BTreeSet<usize> = sought.iter().map(|reference| reference.child).collect();
    let mut readings = BTreeMap::new();
    for collection in parents.chain(children) {
        *readings.entry(collection).or_default() += 1;
    }
    readings
}

/// The keys of one parent that references point to.
struct Target {
    parent: usize,
    to_fields: Vec<String>,
    /// Numbers of the references that point to it.
    references: Vec<usize>,
    waiting: Vec<Class>,
}

/// Looks at all of `sought`, with at most `bytes_max` octets for the keys of parents, and gives each orphan to `list`. What
/// is found is in the same order.
///
/// # Errors
/// What `reading` brings.
pub fn find(
    sought: &[Sought],
    bytes_max: usize,
    reading: &mut dyn Reading,
    list: &mut List<'_>,
) -> Result<Vec<Found>, Failure> {
    let mut found = vec![Found::default(); sought.len()];
    let mut targets = targets(sought);
    while targets.iter().any(|target| !target.waiting.is_empty()) {
        let mut held: Vec<(usize, KeySet)> = Vec::new();
        let mut room = bytes_max / DIGEST_BYTES;
        for (number, target) in targets.iter_mut().enumerate() {
            let Some(class) = target.waiting.last().copied() else {
                continue;
            };
            let Some(set) = keys_of(target, class, room, held.is_empty(), reading)? else {
                // It gets a round of its own.
                break;
            };
            target.waiting.pop();
            let mut set = set;
            target.waiting.extend(set.seal());
            room = room.saturating_sub(set.len());
            held.push((number, set));
            if room == 0 || class != Class::ALL {
                break;
            }
        }
        look_at_children(sought, &targets, &held, &mut found, reading, list)?;
    }
    Ok(found)
}

fn targets(sought: &[Sought]) -> Vec<Target> {
    let mut by_fields: BTreeMap<(usize, &[String]), Vec<usize>> = BTreeMap::new();
    for (number, reference) in sought.iter().enumerate() {
        let to = (reference.parent, reference.to_fields.as_slice());
        by_fields.entry(to).or_default().push(number);
    }
    by_fields
        .into_iter()
        .map(|((parent, to_fields), references)| Target {
            parent,
            to_fields: to_fields.to_vec(),
            references,
            waiting: vec![Class::ALL],
        })
        .collect()
}

/// The keys of `target`; `None` if they do not fit and may not be divided.
fn keys_of(
    target: &Target,
    class: Class,
    room: usize,
    may_divide: bool,
    reading: &mut dyn Reading,
) -> Result<Option<KeySet>, Failure> {
    let mut set = KeySet::new(room, class, may_divide);
    let mut fits = true;
    reading.read(target.parent, &target.to_fields, &mut |batch| {
        let Some(mut digests) = KeyDigests::new(batch, &target.to_fields) else {
            return Ok(true);
        };
        for row in 0..batch.record_count() {
            if let Some(digest) = digests.of(row)? {
                fits = fits && set.add(digest);
            }
        }
        Ok(fits)
    })?;
    Ok(fits.then_some(set))
}

/// Reads each child of the parents in `held` once.
fn look_at_children(
    sought: &[Sought],
    targets: &[Target],
    held: &[(usize, KeySet)],
    found: &mut [Found],
    reading: &mut dyn Reading,
    list: &mut List<'_>,
) -> Result<(), Failure> {
    let mut by_child: BTreeMap<usize, Vec<(usize, &KeySet)>> = BTreeMap::new();
    for (target, set) in held {
        for reference in &targets[*target].references {
            let child = sought[*reference].child;
            by_child.entry(child).or_default().push((*reference, set));
        }
    }
    let mut missing: BTreeMap<usize, HashSet<u128>> = BTreeMap::new();
    for (child, references) in by_child {
        let key = reading.key(child).to_vec();
        let mut fields = key.clone();
        for (reference, _) in &references {
            for field in &sought[*reference].fields {
                if !fields.contains(field) {
                    fields.push(field.clone());
                }
            }
        }
        reading.read(child, &fields, &mut |batch| {
            for (reference, set) in &references {
                let held = missing.values().map(HashSet::len).sum();
                let look = LookAt {
                    sought: &sought[*reference],
                    set,
                    key: &key,
                    missing_max: MISSING_MAX.saturating_sub(held),
                };
                let missing = missing.entry(*reference).or_default();
                look.at(batch, &mut found[*reference], missing, list)?;
            }
            Ok(true)
        })?;
    }
    for (reference, keys) in missing {
        // No key is of two classes, so what several passes count adds up.
        found[reference].missing_key_count += keys.len() as u64;
    }
    Ok(())
}

/// One reference, while its child is read.
struct LookAt<'a> {
    sought: &'a Sought,
    set: &'a KeySet,
    key: &'a [String],
    /// Further missing keys that can be told apart.
    missing_max: usize,
}

impl LookAt<'_> {
    fn at(
        &self,
        batch: &Batch,
        found: &mut Found,
        missing: &mut HashSet<u128>,
        list: &mut List<'_>,
    ) -> Result<(), Failure> {
        if self.set.is_first_pass() {
            found.record_count += batch.record_count() as u64;
        }
        let Some(mut digests) = KeyDigests::new(batch, &self.sought.fields) else {
            return Ok(());
        };
        let known = missing.len();
        let mut labels = None;
        for row in 0..batch.record_count() {
            let Some(digest) = digests.of(row)? else {
                continue;
            };
            if self.set.has(digest) != Some(false) {
                continue;
            }
            found.orphan_count += 1;
            if missing.len() - known < self.missing_max {
                missing.insert(digest);
            } else if !missing.contains(&digest) {
                found.missing_keys_uncounted = true;
            }
            let (record, key) = labels.get_or_insert_with(|| {
                (
                    Labels::new(batch, self.key),
                    Labels::new(batch, &self.sought.fields),
                )
            });
            let orphan = Orphan {
                record: record.of(row),
                missing: key.of(row),
            };
            list(self.sought, &orphan);
            if found.orphans.len() < SHOWN_MAX {
                found.orphans.push(orphan);
            }
        }
        Ok(())
    }
}

/// Says which key a record has: `id=7, part=2`.
struct Labels(Vec<(String, Option<TextEncoder>)>);

impl Labels {
    fn new(batch: &Batch, fields: &[String]) -> Self {
        let named = |schema: &Schema, field: &String| {
            let index = schema.index_of(field)?;
            let record_type = &schema.fields[index].record_type;
            TextEncoder::new(record_type, batch.records.column(index)).ok()
        };
        let fields = fields.iter();
        Self(
            fields
                .map(|field| (field.clone(), named(&batch.schema, field)))
                .collect(),
        )
    }

    fn of(&self, row: usize) -> String {
        if self.0.is_empty() {
            return "a record without key".to_owned();
        }
        let mut label = String::new();
        for (name, encoder) in &self.0 {
            if !label.is_empty() {
                label.push_str(", ");
            }
            label.push_str(name);
            label.push('=');
            match encoder {
                None => label.push('?'),
                Some(encoder) if encoder.is_null(row) => label.push_str("null"),
                Some(encoder) => {
                    let mut value = String::new();
                    encoder.write(row, &mut value);
                    match value.char_indices().nth(VALUE_CHARS_MAX) {
                        None => label.push_str(&value),
                        Some((end, _)) => {
                            label.push_str(&value[..end]);
                            label.push_str("...");
                        }
                    }
                }
            }
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use whimbrel_plugin_api::Field;

    use super::*;

    /// Collections whose columns are made up on the spot, a thousand records at a time.
    struct MadeUp {
        schemas: Vec<Arc<Schema>>,
        counts: Vec<i64>,
        value: fn(usize, &str, i64) -> Option<i64>,
        reads: Vec<usize>,
    }

    const STEP: i64 = 1_000;

    impl MadeUp {
        fn new(fields: &[&[&str]], count: i64, value: fn(usize, &str, i64) -> Option<i64>) -> Self {
            Self::with_counts(fields, &vec![count; fields.len()], value)
        }

        fn with_counts(
            fields: &[&[&str]],
            counts: &[i64],
            value: fn(usize, &str, i64) -> Option<i64>,
        ) -> Self {
            let schema = |fields: &&[&str]| {
                let fields = fields.iter().map(|name| Field::new(*name, RecordType::INT64));
                Arc::new(Schema::new(fields.collect::<Vec<_>>()))
            };
            Self {
                schemas: fields.iter().map(schema).collect(),
                counts: counts.to_vec(),
                value,
                reads: Vec::new(),
            }
        }
    }

    impl Reading for MadeUp {
        fn read(
            &mut self,
            collection: usize,
            fields: &[String],
            each: &mut dyn FnMut(&Batch) -> Result<bool, Failure>,
        ) -> Result<(), Failure> {
            self.reads.push(collection);
            let schema = Arc::new(self.schemas[collection].select(fields).unwrap());
            let count = self.counts[collection];
            for from in (0..count).step_by(STEP as usize) {
                let columns = fields.iter().map(|field| {
                    let rows = from..count.min(from + STEP);
                    let values: Int64Array = rows.map(|row| (self.value)(collection, field, row)).collect();
                    Arc::new(values) as ArrayRef
                });
                let records = RecordBatch::try_new(schema.to_arrow(), columns.collect()).unwrap();
                if !each(&Batch::new(Arc::clone(&schema), records).unwrap())? {
                    return Ok(());
                }
            }
            Ok(())
        }

        fn key(&self, _: usize) -> &[String] {
            KEY.as_slice()
        }
    }

    static KEY: std::sync::LazyLock<[String; 1]> = std::sync::LazyLock::new(|| ["id".to_owned()]);

    fn sought(child: usize, fields: &[&str], parent: usize, to_fields: &[&str]) -> Sought {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Sought {
            child,
            fields: owned(fields),
            parent,
            to_fields: owned(to_fields),
        }
    }

    /// Looks with `bytes_max`; also all orphans that are listed.
    fn looked(all: &[Sought], bytes_max: usize, reading: &mut MadeUp) -> (Vec<Found>, Vec<String>) {
        let mut listed = Vec::new();
        let found = find(all, bytes_max, reading, &mut |of, orphan| {
            listed.push(format!("{} {} {}", of.child, orphan.record, orphan.missing));
        });
        (found.unwrap(), listed)
    }

    #[test]
    fn a_million_keys_are_looked_at_in_passes_when_they_do_not_fit_with_the_same_result() {
        // Each tenth record points beyond the last key, a hundredth to nothing at all.
        let value = |collection: usize, field: &str, row: i64| match (collection, field) {
            (1, "to") if row % 100 == 1 => None,
            (1, "to") if row % 10 == 0 => Some(10_000_000 + row / 20),
            (1, "to") => Some(row * 9),
            _ => Some(row),
        };
        let fields: [&[&str]; 2] = [&["id"], &["id", "to"]];
        let counts = [1_000_000, 100_000];
        let all = [sought(1, &["to"], 0, &["id"])];
        let mut whole = MadeUp::with_counts(&fields, &counts, value);
        let (at_once, mut listed) = looked(&all, 32 * 1024 * 1024, &mut whole);
        assert_eq!(whole.reads, [0, 1]);
        assert_eq!(at_once[0].record_count, 100_000);
        assert_eq!(
            (at_once[0].orphan_count, at_once[0].missing_key_count),
            (10_000, 5_000)
        );
        assert!(!at_once[0].missing_keys_uncounted);
        assert_eq!(
            at_once[0].orphans[1],
            Orphan {
                record: "id=10".into(),
                missing: "to=10000000".into()
            }
        );
        // Room for 700,000 of the keys, which makes two classes.
        let mut parts = MadeUp::with_counts(&fields, &counts, value);
        let (in_passes, mut listed_in_passes) = looked(&all, 700_000 * DIGEST_BYTES, &mut parts);
        assert_eq!(parts.reads, [0, 1, 0, 1]);
        assert_eq!(
            (
                in_passes[0].record_count,
                in_passes[0].orphan_count,
                in_passes[0].missing_key_count
            ),
            (100_000, 10_000, 5_000)
        );
        listed.sort_unstable();
        listed_in_passes.sort_unstable();
        assert_eq!(listed, listed_in_passes);
    }

    #[test]
    fn a_child_is_read_once_for_all_parents_that_fit_together() {
        let value = |_: usize, field: &str, row: i64| match field {
            "a" => Some(row + 1),
            "b" => Some(row + 2),
            "self" => Some(row - 1),
            _ => Some(row),
        };
        let fields: [&[&str]; 3] = [&["id"], &["id"], &["id", "a", "b", "self"]];
        let all = [
            sought(2, &["a"], 0, &["id"]),
            sought(2, &["b"], 1, &["id"]),
            sought(2, &["b"], 0, &["id"]),
            sought(2, &["self"], 2, &["id"]),
        ];
        let counts = |found: &[Found]| -> Vec<u64> { found.iter().map(|found| found.orphan_count).collect() };
        let mut reading = MadeUp::new(&fields, 5_000, value);
        let (found, _) = looked(&all, 1024 * 1024, &mut reading);
        assert_eq!(counts(&found), [1, 2, 2, 1]);
        assert_eq!(
            reading.reads,
            [0, 1, 2, 2],
            "two parents, the child as a parent, and as a child"
        );
        // With room for one parent at a time each gets a round of its own.
        let mut reading = MadeUp::new(&fields, 5_000, value);
        let (found, _) = looked(&all, 7_000 * DIGEST_BYTES, &mut reading);
        assert_eq!(counts(&found), [1, 2, 2, 1]);
        assert!(found.iter().all(|found| found.record_count == 5_000));
    }

    #[test]
    fn a_reference_of_several_fields_points_as_a_whole_and_a_null_in_it_points_to_nothing() {
        let value = |collection: usize, field: &str, row: i64| match (collection, field) {
            (0, "x") => Some(row % 10),
            (0, "y") => Some(row / 10),
            // 0: null and known, 1: null and unknown, 2: swapped, 3: known.
            (1, "x") => [None, Some(999), Some(3), Some(4)][row as usize % 4],
            (1, "y") => [Some(1), None, Some(100), Some(5)][row as usize % 4],
            _ => Some(row),
        };
        let fields: [&[&str]; 2] = [&["x", "y"], &["id", "x", "y"]];
        let all = [sought(1, &["x", "y"], 0, &["x", "y"])];
        let (found, listed) = looked(&all, 1024 * 1024, &mut MadeUp::new(&fields, 100, value));
        assert_eq!((found[0].orphan_count, found[0].missing_key_count), (25, 1));
        assert_eq!(listed[0], "1 id=2 x=3, y=100");
        assert_eq!(found[0].orphans.len(), SHOWN_MAX);
    }

    #[test]
    fn only_types_that_can_hold_the_same_value_are_compared() {
        let decimal = RecordType::Decimal {
            precision: 10,
            scale: 0,
        };
        assert!(is_comparable(&RecordType::INT64, &decimal));
        assert!(is_comparable(&RecordType::Numeric, &RecordType::Int { bits: 8 }));
        assert!(is_comparable(&RecordType::Reference, &RecordType::Text));
        assert!(is_comparable(&RecordType::Uuid, &RecordType::Uuid));
        assert!(!is_comparable(&RecordType::Uuid, &RecordType::Text));
        assert!(!is_comparable(&RecordType::FLOAT64, &RecordType::INT64));
        assert!(!is_comparable(&RecordType::Variant, &RecordType::Text));
    }

    #[test]
    fn a_label_names_the_whole_key_and_is_never_long() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("a", RecordType::Text),
            Field::new("b", RecordType::INT64),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("é".repeat(200)), None])),
            Arc::new(Int64Array::from(vec![1, 2])),
        ];
        let records = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
        let batch = Batch::new(schema, records).unwrap();
        let labels = Labels::new(&batch, &["a".to_owned(), "b".to_owned()]);
        assert_eq!(labels.of(0), format!("a={}..., b=1", "é".repeat(VALUE_CHARS_MAX)));
        assert_eq!(labels.of(1), "a=null, b=2");
        assert_eq!(Labels::new(&batch, &[]).of(0), "a record without key");
    }
}
