//! Fields and types of documents without a schema: what was seen, and the narrowest types that lose nothing of it.
//!
//! A [`Tally`] looks at records one by one and keeps a few octets per field, not per record; tallies of the parts of a
//! file are joined in their order, so that threads can share the work. Neighbours: [`crate::scan`] (kinds of values),
//! [`crate::format`] (files), [`crate::type_mapping`] (the rules for people).

use std::sync::Arc;

use whimbrel_plugin_api::record_type::PRESENCE_COLUMN;
use whimbrel_plugin_api::{Field, RecordType, Schema};

use crate::field_names::FieldNames;
use crate::kinds::Kinds;
use crate::scan::{self, ScanError};

/// The field of records that are not objects.
pub(crate) const VALUE_FIELD: &str = "value";
/// The field of objects that are kept whole.
pub(crate) const DOCUMENT_FIELD: &str = "document";

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    kinds: Kinds,
    record_count: u64,
    /// The last record that had the field, to notice it twice in one.
    last_record: u64,
}

/// What was seen of the records of a file, or of a part of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    names: FieldNames,
    seen: Vec<Seen>,
    /// Kinds of the records themselves.
    records: Kinds,
    record_count: u64,
    /// Objects with a member twice; they fit into one column, not into many.
    duplicate_count: u64,
    rejected_count: u64,
    looked_at: u64,
    fields_max: usize,
    has_too_many_fields: bool,
    members: Vec<(usize, Kinds)>,
    spelled: String,
}

/// Whether a record names a member of its own twice, in which case its fields are nobody's.
pub(crate) fn has_member_twice(octets: &[u8]) -> bool {
    let mut tally = Tally::new(usize::MAX);
    tally.observe(octets);
    tally.duplicate_count > 0
}

/// What came out of one record.
#[derive(Clone, Copy)]
struct Scanned {
    kinds: Kinds,
    is_duplicate: bool,
    is_beyond_limit: bool,
}

impl Tally {
    /// Nothing seen yet; at most `fields_max` fields are told apart.
    pub(crate) fn new(fields_max: usize) -> Self {
        Self {
            fields_max,
            ..Self::default()
        }
    }

    /// Records that can be read one way or other.
    pub(crate) fn record_count(&self) -> u64 {
        self.record_count + self.duplicate_count
    }

    /// Counts a record that cannot be looked at.
    pub(crate) fn reject(&mut self) {
        self.rejected_count += 1;
    }

    /// Looks at one record. One with a fault leaves no trace but a count.
    pub(crate) fn observe(&mut self, octets: &[u8]) {
        self.looked_at += 1;
        let known = self.names.len();
        let outcome = if simdutf8::basic::from_utf8(octets).is_ok() {
            self.scan(octets).ok()
        } else {
            None
        };
        if outcome.is_none_or(|outcome| outcome.is_duplicate) {
            self.names.truncate(known);
            self.seen.truncate(known);
        }
        match outcome {
            None => self.rejected_count += 1,
            Some(outcome) => {
                self.records = self.records.with(outcome.kinds);
                self.has_too_many_fields |= outcome.is_beyond_limit;
                if outcome.is_duplicate {
                    self.duplicate_count += 1;
                    return;
                }
                self.record_count += 1;
                if self.has_too_many_fields {
                    return;
                }
                for (position, kinds) in &self.members {
                    let seen = &mut self.seen[*position];
                    seen.kinds = seen.kinds.with(*kinds);
                    seen.record_count += 1;
                }
            }
        }
    }

    fn scan(&mut self, octets: &[u8]) -> Result<Scanned, ScanError> {
        let Self {
            names,
            seen,
            members,
            spelled,
            ..
        } = self;
        let (looked_at, fields_max) = (self.looked_at, self.fields_max);
        members.clear();
        let mut is_duplicate = false;
        let mut is_beyond_limit = self.has_too_many_fields;
        let mut guess = 0;
        let mut previous = None;
        let kinds = scan::record(octets, |name, is_escaped, kinds| {
            if is_beyond_limit {
                return;
            }
            let position = match names.find(guess, name, is_escaped, spelled) {
                Some(position) => position,
                None if names.len() == fields_max => {
                    is_beyond_limit = true;
                    return;
                }
                None => {
                    seen.push(Seen::default());
                    names.push(spelled)
                }
            };
            let field = &mut seen[position];
            is_duplicate |= field.last_record == looked_at;
            field.last_record = looked_at;
            members.push((position, kinds));
            if let Some(previous) = previous {
                names.follow(previous, position);
            }
            previous = Some(position);
            guess = names.follower(position);
        })?;
        Ok(Scanned {
            kinds,
            is_duplicate,
            is_beyond_limit,
        })
    }

    /// Joins what was seen in the part of the file that follows.
    pub(crate) fn merge(&mut self, later: &Self) {
        self.records = self.records.with(later.records);
        self.record_count += later.record_count;
        self.duplicate_count += later.duplicate_count;
        self.rejected_count += later.rejected_count;
        self.has_too_many_fields |= later.has_too_many_fields;
        for (name, theirs) in later.names.iter().zip(&later.seen) {
            let position = match self.names.position(name) {
                Some(position) => position,
                None if self.names.len() == self.fields_max => {
                    self.has_too_many_fields = true;
                    return;
                }
                None => {
                    self.seen.push(Seen::default());
                    self.names.push(name)
                }
            };
            let ours = &mut self.seen[position];
            ours.kinds = ours.kinds.with(theirs.kinds);
            ours.record_count += theirs.record_count;
        }
    }

    /// Every field with its type, each of which a record may lack.
    pub(crate) fn fields(&self) -> Result<Vec<Field>, Fallback> {
        if self.has_too_many_fields {
            return Err(Fallback::TooManyFields(self.fields_max));
        }
        let fields = self.names.iter().zip(&self.seen);
        Ok(fields
            .map(|(name, seen)| field(name, seen.kinds, false))
            .collect())
    }

    /// Fixes fields and types. With `is_complete` every record was looked at, so that what no record lacks is never
    /// absent, and what was never null is not nullable.
    pub(crate) fn resolve(&self, is_complete: bool) -> Inferred {
        let has_reserved_name = self.names.position(PRESENCE_COLUMN).is_some();
        let (shape, fields, presence) = if self.records.has_any(Kinds::ALL.without(Kinds::OBJECT)) {
            (
                Shape::Value,
                vec![field(VALUE_FIELD, self.records, is_complete)],
                false,
            )
        } else if self.has_too_many_fields || has_reserved_name {
            (
                Shape::Document,
                vec![field(DOCUMENT_FIELD, Kinds::OBJECT, is_complete)],
                false,
            )
        } else {
            let is_absent = |seen: &Seen| seen.record_count < self.record_count;
            let fields = self.names.iter().zip(&self.seen);
            let fields = fields
                .map(|(name, seen)| field(name, seen.kinds, is_complete && !is_absent(seen)))
                .collect();
            (
                Shape::Columns,
                fields,
                !is_complete || self.seen.iter().any(is_absent),
            )
        };
        let one_column = shape != Shape::Columns;
        Inferred {
            schema: Arc::new(Schema {
                version: 0,
                fields,
                presence: presence && self.names.len() > 0,
            }),
            shape,
            fallback: match shape {
                Shape::Document if has_reserved_name => Some(Fallback::ReservedName),
                Shape::Document => Some(Fallback::TooManyFields(self.fields_max)),
                _ => None,
            },
            record_count: self.record_count + if one_column { self.duplicate_count } else { 0 },
            rejected_count: self.rejected_count + if one_column { 0 } else { self.duplicate_count },
            is_complete,
        }
    }
}

fn field(name: &str, kinds: Kinds, is_always_there: bool) -> Field {
    Field {
        name: name.to_owned(),
        record_type: record_type(kinds),
        nullable: !is_always_there || kinds.has_any(Kinds::NULL),
    }
}

/// The narrowest type that holds every value of `kinds` as it was written.
pub(crate) fn record_type(kinds: Kinds) -> RecordType {
    let numbers = Kinds::NUMBERS;
    let groups = [Kinds::BOOL, numbers, Kinds::TEXT, Kinds::CONTAINER];
    let is_mixed = groups.iter().filter(|group| kinds.has_any(**group)).count() > 1;
    if is_mixed || kinds.has_any(Kinds::HUGE) {
        RecordType::Variant
    } else if kinds.has_any(Kinds::BOOL) {
        RecordType::Bool
    } else if kinds.has_any(Kinds::TEXT) {
        RecordType::Text
    } else if !kinds.has_any(numbers) {
        // Also for a field that was null wherever it was seen: whatever comes later is JSON.
        RecordType::Json
    } else if !kinds.has_any(numbers.without(Kinds::INT_53.with(Kinds::INT_64))) {
        RecordType::INT64
    } else if !kinds.has_any(Kinds::FLOAT.with(Kinds::NEGATIVE_ZERO).with(Kinds::DECIMAL)) {
        RecordType::Decimal {
            precision: 20,
            scale: 0,
        }
    } else if !kinds.has_any(Kinds::INT_64.with(Kinds::UNSIGNED_64).with(Kinds::DECIMAL)) {
        RecordType::FLOAT64
    } else if kinds.has_any(Kinds::NEGATIVE_ZERO) {
        // No exact decimal has a negative zero.
        RecordType::Variant
    } else {
        RecordType::Numeric
    }
}

/// How records become columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A column per member.
    Columns,
    /// One column for records of any kind.
    Value,
    /// One column for objects that are kept whole.
    Document,
}

/// Why objects are kept whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// They have more names between them than this.
    TooManyFields(usize),
    /// One of them has the name of the presence column.
    ReservedName,
}

/// Fields and types, and what they rest on.
#[derive(Debug, Clone)]
pub(crate) struct Inferred {
    pub(crate) schema: Arc<Schema>,
    pub(crate) shape: Shape,
    pub(crate) fallback: Option<Fallback>,
    /// Records looked at that have a place in the columns.
    pub(crate) record_count: u64,
    /// Records looked at that will be rejected.
    pub(crate) rejected_count: u64,
    /// Whether that was all of them.
    pub(crate) is_complete: bool,
}

impl Inferred {
    /// All records that were looked at: those that will be read, and those that will be rejected.
    pub(crate) fn looked_at(&self) -> u64 {
        self.record_count + self.rejected_count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally(records: &[&str]) -> Tally {
        let mut tally = Tally::new(1_000);
        records.iter().for_each(|record| tally.observe(record.as_bytes()));
        tally
    }

    fn types(records: &[&str]) -> String {
        let inferred = tally(records).resolve(true);
        let fields = inferred.schema.fields.iter().map(|field| {
            format!(
                "{}: {}{}",
                field.name,
                field.record_type,
                if field.nullable { "?" } else { "" }
            )
        });
        let presence = if inferred.schema.presence {
            " +presence"
        } else {
            ""
        };
        fields.collect::<Vec<_>>().join(", ") + presence
    }

    #[test]
    fn each_mixture_of_values_has_its_type() {
        for (values, expected) in [
            ("null", "json?"),
            ("null true", "bool?"),
            ("1 -2", "int64"),
            ("1 9223372036854775807 -9223372036854775808", "int64"),
            ("-1 18446744073709551615", "decimal(20, 0)"),
            ("18446744073709551616", "numeric"),
            ("1.5 2", "float64"),
            ("-0", "float64"),
            ("-0 9007199254740992", "float64"),
            ("1.5 9007199254740993", "numeric"),
            ("1.5 18446744073709551615", "numeric"),
            ("0.1000000000000000055511151231257827", "numeric"),
            ("-0.0 9007199254740993", "variant"),
            ("1e999999", "variant"),
            ("\"x\" null", "text?"),
            ("\"x\" 1", "variant"),
            ("true 1", "variant"),
            ("{} []", "json"),
            ("[1] 1", "variant"),
            ("[1] \"1\"", "variant"),
        ] {
            let records: Vec<String> = values
                .split(' ')
                .map(|value| format!("{{\"a\":{value}}}"))
                .collect();
            let records: Vec<&str> = records.iter().map(String::as_str).collect();
            assert_eq!(types(&records), format!("a: {expected}"), "{values}");
        }
    }

    #[test]
    fn an_absent_field_is_kept_apart_and_order_is_that_of_first_sight() {
        assert_eq!(
            types(&[r#"{"b":1,"a":"x"}"#, r#"{"a":"y","c":true}"#, r#"{"c":false}"#]),
            "b: int64?, a: text?, c: bool? +presence"
        );
        assert_eq!(types(&[r#"{"a":1}"#, r#"{"a":2}"#]), "a: int64");
        assert_eq!(types(&["{}", "{}"]), "");
    }

    #[test]
    fn names_are_the_same_however_they_are_escaped() {
        assert_eq!(
            types(&[r#"{"é\n":1}"#, r#"{"\u00e9\u000a":"x"}"#]),
            "é\n: variant"
        );
        let tally = tally(&[r#"{"a":1,"\u0061":2}"#]);
        assert_eq!((tally.duplicate_count, tally.record_count), (1, 0));
    }

    #[test]
    fn a_record_that_is_rejected_leaves_no_trace() {
        let inferred = tally(&[
            r#"{"a":1}"#,
            r#"{"b":1,"b":2}"#,
            r#"{"c":1"#,
            r#"{"d":"\ud800"}"#,
            r#"{"a":"x","a":1}"#,
            r#"{"a":2}"#,
        ])
        .resolve(true);
        let names: Vec<_> = inferred
            .schema
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        assert_eq!(names, ["a"]);
        assert_eq!(inferred.schema.fields[0].record_type, RecordType::INT64);
        assert_eq!((inferred.record_count, inferred.rejected_count), (2, 4));
    }

    #[test]
    fn records_that_are_no_objects_become_one_field() {
        assert_eq!(types(&["1", "2.5"]), "value: float64");
        assert_eq!(types(&["[1]", "[2]"]), "value: json");
        assert_eq!(types(&["{\"a\":1}", "[2]"]), "value: json");
        assert_eq!(types(&["{\"a\":1}", "null", "\"x\""]), "value: variant?");
    }

    #[test]
    fn too_many_fields_and_the_reserved_name_make_one_document_field() {
        let mut tally = Tally::new(3);
        for index in 0..10 {
            tally.observe(format!("{{\"f{index}\":1}}").as_bytes());
        }
        tally.observe(b"{\"x\":1,\"x\":2}");
        let inferred = tally.resolve(true);
        assert_eq!(inferred.fallback, Some(Fallback::TooManyFields(3)));
        assert_eq!(
            inferred.record_count, 11,
            "a member that stands twice is kept in the document"
        );
        assert_eq!(types(&[r#"{"__presence":1}"#]), "document: json");
    }

    #[test]
    fn a_sample_leaves_room_for_null_and_absent() {
        let inferred = tally(&[r#"{"a":1}"#]).resolve(false);
        assert!(inferred.schema.presence && inferred.schema.fields[0].nullable);
    }

    proptest! {
        #[test]
        fn parts_joined_are_as_the_whole(
            records in proptest::collection::vec(
                r#"\{("[abc]":(1|1\.5|"x"|null|\[\]|-0)(,"[def]":(18446744073709551615|true)){0,1}){0,1}\}|\{x|3"#, 0..24),
            cut in 0_usize..24,
        ) {
            let records: Vec<&str> = records.iter().map(String::as_str).collect();
            let cut = cut.min(records.len());
            let whole = tally(&records).resolve(true);
            let mut joined = tally(&records[..cut]);
            joined.merge(&tally(&records[cut..]));
            let joined = joined.resolve(true);
            prop_assert_eq!(&*joined.schema, &*whole.schema);
            prop_assert_eq!((joined.record_count, joined.rejected_count), (whole.record_count, whole.rejected_count));
        }
    }
}
