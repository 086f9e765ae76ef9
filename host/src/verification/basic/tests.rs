//! What the numbers of records say at the level `basic` if some were refused: by the sink, by a transform, or by the source.
//! Whole programs are in `tests/suite/verify_command.rs`.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use whimbrel_plugin_api::collection::CollectionsRequest;
use whimbrel_plugin_api::source::{CountRequest, Item, ReadRequest, RecordStream};
use whimbrel_plugin_api::{Batch, Collection, Field, RecordType, RejectedRecord, Result, Schema, Source};

use crate::config::VerificationLevel;
use crate::control::Stop;
use crate::events::{Comparison, Emitter, VerificationResult};
use crate::loader::observe::{CallLog, OpenedSource};
use crate::transform::Transforms;
use crate::verification::left_out::{LeftOut, digests};
use crate::verification::{Comparable, compare};

/// Records with these numbers.
#[derive(Clone)]
struct Numbers {
    ids: Vec<i64>,
    /// Numbers of records that it has and cannot deliver.
    broken: Vec<i64>,
    counts: bool,
}

impl Numbers {
    fn of(ids: impl IntoIterator<Item = i64>) -> Self {
        Self {
            ids: ids.into_iter().collect(),
            broken: Vec::new(),
            counts: false,
        }
    }

    fn that_counts(mut self, counts: bool) -> Self {
        self.counts = counts;
        self
    }

    fn with_broken(mut self, broken: impl IntoIterator<Item = i64>) -> Self {
        self.broken = broken.into_iter().collect();
        self
    }

    fn opened(&self, name: &str) -> OpenedSource {
        let log = CallLog::new(Emitter::new(Box::new(std::io::sink())), None);
        OpenedSource::of_host(name, Box::new(self.clone()), &log)
    }
}

fn schema() -> Schema {
    Schema::new(vec![Field::required("id", RecordType::INT64)])
}

fn collection() -> Collection {
    Collection::new("things", schema()).with_key(["id"])
}

fn batch(ids: Vec<i64>) -> Batch {
    let schema = Arc::new(schema());
    let records = RecordBatch::try_new(schema.to_arrow(), vec![Arc::new(Int64Array::from(ids))]).unwrap();
    Batch::new(schema, records).unwrap()
}

impl Source for Numbers {
    fn collections(&mut self, _: &CollectionsRequest) -> Result<Vec<Collection>> {
        Ok(vec![collection()])
    }

    fn count(&mut self, _: &CountRequest) -> Result<Option<u64>> {
        Ok(self.counts.then_some(self.ids.len() as u64))
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        let limit = request.limit.map_or(usize::MAX, |limit| limit as usize);
        let rejected = |id: &i64| RejectedRecord {
            record: format!("number {id}"),
            row: None,
            code: "made_up.broken".to_owned(),
            message: "it is broken".to_owned(),
            data: None,
        };
        let whole = self.ids.iter().filter(|id| !self.broken.contains(id));
        let ids: Vec<i64> = whole.take(limit).copied().collect();
        // Only what lies before the last one that is asked for is met.
        let end = ids.last().copied().filter(|_| ids.len() == limit);
        let met = self.broken.iter().filter(|id| end.is_none_or(|end| **id < end));
        let items = [
            Item::Schema(Arc::new(schema())),
            Item::Rejected(met.map(rejected).collect()),
            Item::Batch(batch(ids)),
        ];
        Ok(Box::new(Items(items.into_iter())))
    }
}

struct Items(std::array::IntoIter<Item, 3>);

impl RecordStream for Items {
    fn next(&mut self) -> Result<Item> {
        Ok(self.0.next().unwrap_or(Item::End))
    }
}

fn compared(source: &Numbers, sink: &Numbers, left_out: &LeftOut, sample: Option<u64>) -> VerificationResult {
    let collection = collection();
    let both = Comparable {
        source: &collection,
        sink: &collection,
        transforms: &Transforms::default(),
        jobs: &[],
        sample,
        counted: None,
        left_out,
        names_others: false,
    };
    compare(
        &mut source.opened("source"),
        &mut sink.opened("sink"),
        &both,
        VerificationLevel::Basic,
        &mut |_| panic!("no field turns up later"),
        &Stop::default(),
        &mut |_| {},
    )
    .unwrap()
}

/// The sink has refused these.
fn refused(ids: impl IntoIterator<Item = i64>) -> LeftOut {
    let ids: Vec<i64> = ids.into_iter().collect();
    let rows = 0..ids.len() as u64;
    let mut left_out = LeftOut::default();
    let digests = digests(&collection(), &batch(ids), rows);
    digests.into_iter().for_each(|digest| left_out.add(digest));
    left_out
}

/// So many never came to the sink.
fn unseen(count: u64) -> LeftOut {
    let mut left_out = LeftOut::default();
    (0..count).for_each(|_| left_out.add_unseen());
    left_out
}

#[test]
fn what_the_sink_has_refused_is_allowed_for_once() {
    for (source_counts, sink_counts) in [(false, false), (false, true), (true, false), (true, true)] {
        let source = Numbers::of(1..=40).that_counts(source_counts);
        let judged = |sink: Vec<i64>| {
            let sink = Numbers::of(sink).that_counts(sink_counts);
            let result = compared(&source, &sink, &refused(1..=5), None);
            assert_eq!((result.source_count, result.left_out_count), (40, 5));
            result.comparison
        };
        let (equal, different) = (Comparison::Equal, Comparison::Different);
        let case = format!("source counts: {source_counts}, sink counts: {sink_counts}");
        assert_eq!(judged((6..=40).collect()), equal, "{case}");
        assert_eq!(judged((6..=39).collect()), different, "{case}: one more is lost");
        assert_eq!(judged((6..=35).collect()), different, "{case}: as many are lost");
        assert_eq!(
            judged((1..=40).collect()),
            equal,
            "{case}: they were there before"
        );
        assert_eq!(
            judged((3..=40).collect()),
            equal,
            "{case}: some were there before"
        );
        assert_eq!(judged((1..=41).collect()), different, "{case}: one too many");
    }
}

#[test]
fn a_refused_record_that_the_source_has_no_longer_allows_for_no_other() {
    let source = Numbers::of(6..=40);
    let result = compared(&source, &Numbers::of(6..=35), &refused(1..=5), None);
    assert_eq!(
        (result.left_out_count, result.comparison),
        (0, Comparison::Different)
    );
}

#[test]
fn of_a_sample_those_may_lack_that_the_sink_has_refused() {
    let source = Numbers::of(1..=40);
    let judged = |sink: Vec<i64>| compared(&source, &Numbers::of(sink), &refused(1..=5), Some(20)).comparison;
    assert_eq!(judged((6..=20).collect()), Comparison::Equal);
    assert_eq!(judged((6..=19).collect()), Comparison::Different);
    assert_eq!(judged((1..=90).collect()), Comparison::Equal);
}

#[test]
fn what_the_source_could_not_deliver_is_no_equality_unless_a_copy_has_left_it_out() {
    let lacks_them = Numbers::of((1..=40).filter(|id| !(2..=4).contains(id)));
    for counts in [false, true] {
        let source = Numbers::of(1..=40).with_broken(2..=4).that_counts(counts);
        for (known, unchecked, wanted) in [
            (0, 3, Comparison::Undecided),
            (1, 2, Comparison::Undecided),
            (3, 0, Comparison::Equal),
        ] {
            let result = compared(&source, &lacks_them, &unseen(known), None);
            let found = (result.source_unreadable_count, result.source_unchecked_count);
            assert_eq!(found, (3, unchecked), "{counts}");
            assert_eq!(result.comparison, wanted, "{counts}, {known}");
        }
        let further = Numbers::of(lacks_them.ids.iter().copied().filter(|id| *id != 30));
        let result = compared(&source, &further, &unseen(3), None);
        assert_eq!(
            result.comparison,
            Comparison::Different,
            "{counts}: one more is lost"
        );
    }
}

#[test]
fn what_a_system_counts_and_a_copy_could_not_read_may_lack_also_where_nobody_looks() {
    let source = Numbers::of(1..=40).with_broken(35..=37).that_counts(true);
    let sink = Numbers::of((1..=40).filter(|id| !(35..=37).contains(id)));
    let judged = |known| compared(&source, &sink, &unseen(known), None).comparison;
    assert_eq!((judged(3), judged(2)), (Comparison::Equal, Comparison::Different));
}
