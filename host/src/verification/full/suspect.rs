//! A record that differed at first, what was seen of it a moment later, and what that makes it.
//!
//! Only what differs twice is a difference. If the source's record is not what it was, nobody can say whether it arrived:
//! it is neither equal nor different. Neighbours: `second_look` fills in what was seen, `compare` lists the verdicts.

use whimbrel_plugin_api::{Batch, Schema};

use super::seen::Seen;
use crate::events::{FieldValues, Mismatch, MismatchKind};
use crate::verification::left_out::LeftOut;
use crate::verification::pairs::{Difference, DifferenceKind};

/// What a record is called whose key nobody can say any more.
const GONE: &str = "a record that is no longer there";

/// A record that differed at first.
pub(super) struct Suspect {
    /// In what way.
    pub(super) difference: Difference,
    /// The digest that the source's record had then.
    pub(super) source_first: Option<u128>,
    /// Its key as a person reads it, as far as it is known.
    pub(super) label: Option<String>,
    /// The values by which the source looks it up.
    pub(super) source_key: Option<Batch>,
    /// The values by which the sink looks it up.
    pub(super) sink_key: Option<Batch>,
    /// What the source has a moment later.
    pub(super) source_now: Option<Seen>,
    /// What the sink has a moment later.
    pub(super) sink_now: Option<Seen>,
    /// Whether a side has it and cannot deliver it.
    pub(super) is_unreadable: bool,
    /// How the sink called it then.
    pub(super) sink_labels: Vec<String>,
}

/// What is compared.
pub(super) struct Rules<'a> {
    /// The fields of the recipe.
    pub(super) schema: &'a Schema,
    /// Whether records are known by a key.
    pub(super) is_keyed: bool,
    /// Whether only a sample of the source was moved.
    pub(super) is_sample: bool,
    /// Records that the sink has refused.
    pub(super) left_out: &'a LeftOut,
}

/// What a second look has made of a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// Both sides are alike by now.
    Equal,
    /// The source's record is not what it was.
    Changed,
    /// It differs.
    Differs {
        /// In what way.
        kind: MismatchKind,
        /// In which fields, by their numbers.
        fields: Vec<usize>,
        /// How many records the source has, and the sink, if it is about that.
        counts: Option<(u64, u64)>,
    },
}

impl Verdict {
    fn of(kind: MismatchKind) -> Self {
        Self::Differs {
            kind,
            fields: Vec::new(),
            counts: None,
        }
    }

    fn count(expected: u64, found: u64) -> Self {
        Self::Differs {
            kind: MismatchKind::Count,
            fields: Vec::new(),
            counts: Some((expected, found)),
        }
    }
}

impl Suspect {
    /// A record of which nothing is known but that it differs.
    pub(super) fn new(difference: Difference, source_first: Option<u128>) -> Self {
        Self {
            difference,
            source_first,
            label: None,
            source_key: None,
            sink_key: None,
            source_now: None,
            sink_now: None,
            is_unreadable: false,
            sink_labels: Vec::new(),
        }
    }

    /// What both looks together say.
    pub(super) fn verdict(&self, rules: &Rules<'_>) -> Verdict {
        if rules.is_keyed {
            self.by_key(rules)
        } else {
            self.by_counts(rules)
        }
    }

    fn by_key(&self, rules: &Rules<'_>) -> Verdict {
        let source_now = self.source_now.as_ref();
        if self.source_first != source_now.map(|seen| seen.record) {
            return Verdict::Changed;
        }
        match (source_now, &self.sink_now) {
            (None, _) | (_, None) if self.is_unreadable => Verdict::of(MismatchKind::Unreadable),
            (None, None) => Verdict::Equal,
            (Some(_), None) => Verdict::of(MismatchKind::Missing),
            (None, Some(_)) if rules.is_sample => Verdict::Equal,
            (None, Some(_)) => Verdict::of(MismatchKind::Extra),
            (Some(source), Some(sink)) if sink.copies > 1 => {
                if (source.copies, source.sum) == (sink.copies, sink.sum) {
                    Verdict::Equal
                } else {
                    Verdict::count(1, sink.copies)
                }
            }
            (Some(source), Some(sink)) if source.record == sink.record => Verdict::Equal,
            (Some(source), Some(sink)) => Verdict::Differs {
                kind: MismatchKind::Different,
                fields: source.differing(sink),
                counts: None,
            },
        }
    }

    /// Records without a key are alike or not there: what is compared is how many there are.
    fn by_counts(&self, rules: &Rules<'_>) -> Verdict {
        let copies = |seen: &Option<Seen>| seen.as_ref().map_or(0, |seen| seen.copies);
        let refused = rules.left_out.times(self.difference.key);
        let source_now = copies(&self.source_now).saturating_sub(refused);
        let sink_now = copies(&self.sink_now);
        let is_as_it_was = match self.difference.kind {
            DifferenceKind::Missing | DifferenceKind::Different => source_now > 0,
            DifferenceKind::Extra => source_now == 0,
            DifferenceKind::Count { expected, .. } => source_now == expected,
        };
        match (source_now, sink_now) {
            _ if !is_as_it_was => Verdict::Changed,
            (source, sink) if source == sink => Verdict::Equal,
            (_, 0) => Verdict::of(MismatchKind::Missing),
            (0, _) if rules.is_sample => Verdict::Equal,
            (source, sink) if rules.is_sample && sink > source => Verdict::Equal,
            (0, _) => Verdict::of(MismatchKind::Extra),
            (source, sink) => Verdict::count(source, sink),
        }
    }

    /// As it is listed; nothing if there is no difference.
    pub(super) fn mismatch(&self, verdict: &Verdict, rules: &Rules<'_>) -> Option<Mismatch> {
        let seen = self.source_now.as_ref().or(self.sink_now.as_ref());
        let label = match (&self.label, seen) {
            (_, Some(seen)) => seen.label.as_str(),
            (Some(label), None) => label,
            (None, None) => GONE,
        };
        let (kind, record, fields): (_, _, &[usize]) = match verdict {
            Verdict::Equal => return None,
            Verdict::Changed => (MismatchKind::ChangedSince, label.to_owned(), &[]),
            Verdict::Differs {
                kind,
                counts: Some((expected, found)),
                ..
            } => {
                let text = format!("{label} ({expected} times expected, {found} found)");
                (*kind, text, &[])
            }
            Verdict::Differs { kind, fields, .. } => (*kind, label.to_owned(), fields.as_slice()),
        };
        let name = |index: &usize| rules.schema.fields[*index].name.clone();
        // Of a record that only one side has, all values are what differs.
        let all: Vec<usize> = (0..rules.schema.fields.len()).collect();
        let shown = match kind {
            MismatchKind::Different => fields,
            MismatchKind::ChangedSince => &[],
            _ => all.as_slice(),
        };
        let others = self.sink_now.iter().filter(|_| kind == MismatchKind::Different);
        let others = others.flat_map(|seen| seen.others.iter().cloned());
        Some(Mismatch {
            kind,
            record,
            fields: fields.iter().map(name).chain(others).collect(),
            values: self.values(shown, rules.schema),
        })
    }

    /// The values of `fields`, if any were kept.
    fn values(&self, fields: &[usize], schema: &Schema) -> Vec<FieldValues> {
        let has_texts = |seen: &Option<Seen>| seen.as_ref().is_some_and(|seen| !seen.texts.is_empty());
        if !has_texts(&self.source_now) && !has_texts(&self.sink_now) {
            return Vec::new();
        }
        let text = |seen: &Option<Seen>, field: usize| {
            let texts = seen.as_ref().map(|seen| seen.texts.get(field).cloned());
            texts.flatten().flatten()
        };
        let values = fields.iter().map(|field| FieldValues {
            field: schema.fields[*field].name.clone(),
            source: text(&self.source_now, *field),
            sink: text(&self.sink_now, *field),
        });
        values.collect()
    }

    /// How many records of the source are not equal by `verdict` though a declared loss touches them.
    pub(super) fn lossy_count(&self, verdict: &Verdict) -> u64 {
        match (&self.source_now, verdict) {
            (Some(seen), Verdict::Differs { counts, .. }) if seen.is_lossy => match counts {
                Some((expected, found)) => expected.saturating_sub(*found),
                None => seen.copies,
            },
            (Some(seen), Verdict::Changed) if seen.is_lossy => seen.copies,
            _ => 0,
        }
    }
}

impl Seen {
    /// The numbers of the fields that differ.
    fn differing(&self, other: &Self) -> Vec<usize> {
        let both = self.fields.iter().zip(&other.fields).enumerate();
        both.filter(|(_, (ours, theirs))| ours != theirs)
            .map(|(number, _)| number)
            .collect()
    }

    /// Joins another record with the same key. The last one counts, as for a sink that overwrites, unless the one before is
    /// what was seen `first`.
    pub(super) fn join(&mut self, other: Self, first: Option<u128>) {
        let copies = self.copies + other.copies;
        let sum = self.sum.wrapping_add(other.sum);
        if first != Some(self.record) {
            *self = other;
        }
        self.copies = copies;
        self.sum = sum;
    }
}
