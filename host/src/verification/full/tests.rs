//! Comparisons of two made-up systems: each kind of difference, what changes meanwhile, what is gone on with after a failure.
//! Whole programs and real systems are in `tests/suite/comprehensive.rs`.

mod made_up;

use std::fs;
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::capability::Loss;
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::{Collection, Error};

use self::made_up::{MadeUp, Row, row};
use super::compare::{FullSettings, Tapped, compare};
use super::reading::{SideRead, read};
use crate::control::Stop;
use crate::events::{Comparison, Emitter, Failure, Mismatch, VerificationResult};
use crate::loader::observe::{CallLog, OpenedSource};
use crate::transform::Transforms;
use crate::verification::compare::Comparable;
use crate::verification::digest::{Digester, Recipe};
use crate::verification::left_out::LeftOut;

/// Enough for several batches of each part.
const RECORDS: i64 = 300;

/// Two systems, and what is asked of their comparison.
struct Case {
    source: MadeUp,
    sink: MadeUp,
    planned: Collection,
    sample: Option<u64>,
    left_out: LeftOut,
    shows_values: bool,
    taps: bool,
    names_others: bool,
    folder: tempfile::TempDir,
}

impl Case {
    fn new(source: MadeUp, sink: MadeUp) -> Self {
        Self {
            planned: source.collection(),
            source,
            sink,
            sample: None,
            left_out: LeftOut::default(),
            shows_values: false,
            taps: false,
            names_others: false,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn opened(system: &MadeUp, name: &str) -> OpenedSource {
        let log = CallLog::new(Emitter::new(Box::new(std::io::sink())), None);
        OpenedSource::of_host(name, Box::new(system.clone()), &log)
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work").join("things")
    }

    fn results(&self) -> PathBuf {
        self.folder.path().join("results").join("things.ndjson")
    }

    /// What a copy would have made of the source.
    fn tapped(&self) -> Tapped {
        let collection = self.source.collection();
        let what = SideRead {
            request: whimbrel_plugin_api::ReadRequest::all("things"),
            recipe: Recipe::of(&self.planned),
            transformed: Some((&collection, &Transforms::default(), &[])),
            extracted: None,
            partitions_parallel: 1,
            can: &self.source.can,
            folder: &self.folder.path().join("tapped"),
        };
        fs::create_dir(what.folder).unwrap();
        let mut source = Self::opened(&self.source, "source");
        Tapped {
            transformed: read(&mut source, &what, &Stop::default(), &|_| {}).unwrap(),
            ..Tapped::default()
        }
    }

    fn compare(&self) -> Result<VerificationResult, Failure> {
        let tapped = self.taps.then(|| self.tapped());
        let collection = self.source.collection();
        let both = Comparable {
            source: &collection,
            sink: &self.planned,
            transforms: &Transforms::default(),
            jobs: &[],
            sample: self.sample,
            counted: None,
            left_out: &self.left_out,
            names_others: self.names_others,
        };
        let settings = FullSettings {
            work_folder: &self.work(),
            results_file: &self.results(),
            shows_values: self.shows_values,
            partitions_parallel: 2,
            source_can: self.source.can.clone(),
            sink_can: self.sink.can.clone(),
            memory_bytes_max: 1024 * 1024,
        };
        compare(
            &mut Self::opened(&self.source, "source"),
            &mut Self::opened(&self.sink, "sink"),
            &both,
            tapped,
            &settings,
            &mut |_| Err(Error::internal("no field turns up later").into()),
            &Stop::default(),
            &|_| {},
        )
    }

    /// Compares, and answers the result with what is listed, as `kind record fields`, in order.
    fn listed(&self) -> (VerificationResult, Vec<String>) {
        let result = self.compare().unwrap();
        assert!(!self.work().exists(), "the work folder goes at the end");
        let lines = lines_of(&self.results());
        let count = result.mismatch_count + result.changed_since_count;
        assert_eq!(lines.len() as u64, count);
        assert_eq!(result.mismatches_file.is_some(), count > 0);
        let differs = result.mismatch_count > 0;
        assert_eq!(result.comparison == Comparison::Different, differs);
        let mut listed: Vec<String> = lines.iter().map(as_text).collect();
        listed.sort();
        (result, listed)
    }
}

fn lines_of(path: &Path) -> Vec<Mismatch> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn as_text(mismatch: &Mismatch) -> String {
    let mut words = vec![format!("{:?}", mismatch.kind), mismatch.record.clone()];
    words.extend(mismatch.fields.iter().cloned());
    words.join(" ")
}

fn rows() -> Vec<Row> {
    (0..RECORDS).map(row).collect()
}

fn with(change: impl FnOnce(&mut Vec<Row>)) -> Vec<Row> {
    let mut rows = rows();
    change(&mut rows);
    rows
}

fn name(rows: &mut [Row], id: usize, name: &str) {
    rows[id].name = Some(name.to_owned());
}

/// All pairs of systems that look records up, or go on in mid-part, or not.
fn abilities() -> impl Iterator<Item = [bool; 4]> {
    (0..16).map(|bits: u8| [0, 1, 2, 3].map(|bit| bits >> bit & 1 == 1))
}

#[test]
fn equal_sides_leave_nothing_but_their_digests() {
    let mut backwards = rows();
    backwards.reverse();
    let case = Case::new(
        MadeUp::of(rows()).that_can(true, true),
        MadeUp::of(backwards).that_can(false, false),
    );
    let (result, listed) = case.listed();
    assert_eq!(listed, [""; 0]);
    assert!(result.every_record);
    assert_eq!(
        (result.source_count, result.sink_count, result.compared_count),
        (300, 300, 300)
    );
    let digests = result.digests.unwrap();
    assert_eq!((digests.fields.len(), digests.key), (3, vec!["id".to_owned()]));
    let (source, sink) = (digests.transformed.unwrap(), digests.read_back.unwrap());
    assert_eq!((source.record_count, source.partitions.len()), (300, 3));
    assert_eq!(
        (&source.sum, &source.xor, &source.root),
        (&sink.sum, &sink.xor, &sink.root)
    );
    assert_eq!((source.root.len(), source.sum.len()), (64, 32));
    assert_eq!(digests.extracted.unwrap().root, source.root);
}

#[test]
fn each_difference_is_found_by_its_key_and_fields_whatever_both_systems_can_do() {
    let corrupted = with(|rows| {
        rows[10].name = None;
        name(rows, 20, "name 20 ");
        name(rows, 30, "NAME 30");
        let (left, right) = (rows[40].name.clone(), rows[41].name.clone());
        (rows[40].name, rows[41].name) = (right, left);
        rows[50].score = f64::from_bits(rows[50].score.to_bits() + 1);
        rows[60].score = -0.0;
        name(rows, 60, "");
        rows.retain(|row| row.id != 70);
        rows.push(row(1_000));
    });
    for [source_looks_up, source_resumes, sink_looks_up, sink_resumes] in abilities() {
        let case = Case::new(
            MadeUp::of(rows()).that_can(source_looks_up, source_resumes),
            MadeUp::of(corrupted.clone()).that_can(sink_looks_up, sink_resumes),
        );
        let (result, listed) = case.listed();
        assert_eq!(
            listed,
            [
                "Different id=10 name",
                "Different id=20 name",
                "Different id=30 name",
                "Different id=40 name",
                "Different id=41 name",
                "Different id=50 score",
                "Different id=60 name score",
                "Extra id=1000",
                "Missing id=70",
            ],
            "{source_looks_up} {source_resumes} {sink_looks_up} {sink_resumes}"
        );
        assert_eq!((result.source_count, result.sink_count), (300, 300));
        assert_eq!(result.changed_since_count, 0);
        assert!(
            result
                .mismatches
                .iter()
                .all(|mismatch| mismatch.values.is_empty())
        );
        for (system, looks_up) in [(&case.source, source_looks_up), (&case.sink, sink_looks_up)] {
            assert!(looks_up || system.lookups() == 0);
        }
    }
}

#[test]
fn values_are_listed_for_who_asks_for_them() {
    let corrupted = with(|rows| {
        rows[10].name = None;
        name(rows, 20, &"é".repeat(1_000));
        rows.retain(|row| row.id != 70);
    });
    let mut case = Case::new(
        MadeUp::of(rows()).that_can(true, true),
        MadeUp::of(corrupted).that_can(true, true),
    );
    case.shows_values = true;
    case.compare().unwrap();
    let mut lines = lines_of(&case.results());
    lines.sort_by(|a, b| a.record.cmp(&b.record));
    let values = |line: usize| -> Vec<(&str, Option<&str>, Option<&str>)> {
        let values = lines[line].values.iter();
        values
            .map(|values| {
                (
                    values.field.as_str(),
                    values.source.as_deref(),
                    values.sink.as_deref(),
                )
            })
            .collect()
    };
    assert_eq!(values(0), [("name", Some("name 10"), Some("null"))]);
    let cut = format!("{}...", "é".repeat(300));
    assert_eq!(values(1), [("name", Some("name 20"), Some(cut.as_str()))]);
    assert_eq!(
        values(2),
        [
            ("id", Some("70"), None),
            ("name", Some("name 70"), None),
            ("score", Some("8.75"), None)
        ]
    );
    let text = fs::read_to_string(case.results()).unwrap();
    assert!(
        text.lines().all(|line| line.contains(r#""key":{"id":"#)),
        "{text}"
    );
}

#[test]
fn what_changed_in_the_source_meanwhile_is_neither_equal_nor_different() {
    for [source_looks_up, source_resumes, sink_looks_up, sink_resumes] in abilities() {
        let stale = with(|rows| {
            for id in [10, 20, 30, 40] {
                name(rows, id, "stale");
            }
            rows.retain(|row| row.id != 50 && row.id != 60);
            rows.push(row(1_000));
            rows.push(row(2_000));
        });
        let case = Case::new(
            MadeUp::of(rows())
                .that_can(source_looks_up, source_resumes)
                .changes(|rows| {
                    name(rows, 10, "changed meanwhile");
                    // The sink has that already.
                    name(rows, 20, "stale");
                    rows.retain(|row| row.id != 30 && row.id != 50);
                    rows.push(row(1_000));
                }),
            MadeUp::of(stale).that_can(sink_looks_up, sink_resumes),
        );
        let (result, listed) = case.listed();
        let gone = "ChangedSince a record that is no longer there";
        // Where a record is gone on both sides, its key can be known from nowhere.
        assert_eq!(
            listed,
            [
                gone,
                "ChangedSince id=10",
                "ChangedSince id=1000",
                "ChangedSince id=20",
                "ChangedSince id=30",
                "Different id=40 name",
                "Extra id=2000",
                "Missing id=60",
            ],
            "{source_looks_up} {source_resumes} {sink_looks_up} {sink_resumes}"
        );
        assert_eq!((result.mismatch_count, result.changed_since_count), (3, 5));
    }
}

#[test]
fn a_sink_that_catches_up_is_equal_and_one_that_changes_is_taken_as_it_is() {
    for [source_looks_up, source_resumes, sink_looks_up, sink_resumes] in abilities() {
        let behind = with(|rows| {
            name(rows, 10, "behind");
            name(rows, 20, "behind");
            rows.retain(|row| row.id != 30);
            rows.push(row(1_000));
        });
        let case = Case::new(
            MadeUp::of(rows()).that_can(source_looks_up, source_resumes),
            MadeUp::of(behind)
                .that_can(sink_looks_up, sink_resumes)
                .changes(|rows| {
                    name(rows, 10, "name 10");
                    name(rows, 20, "name 20");
                    rows[20].score = 0.5;
                    rows.push(row(30));
                    rows.retain(|row| row.id != 1_000);
                }),
        );
        let (_, listed) = case.listed();
        assert_eq!(
            listed,
            ["Different id=20 score"],
            "{source_looks_up} {source_resumes} {sink_looks_up} {sink_resumes}"
        );
    }
}

#[test]
fn a_source_whose_digests_were_tapped_is_read_for_the_records_at_fault_alone() {
    let sink = with(|rows| {
        name(rows, 10, "stale");
        name(rows, 20, "differs");
    });
    let mut case = Case::new(
        MadeUp::of(rows()).that_can(true, true).changes(|rows| {
            name(rows, 10, "changed after the copy");
            // What was copied is what the sink has: that this was changed since is for the next copy.
            name(rows, 30, "changed after the copy");
        }),
        MadeUp::of(sink).that_can(true, true),
    );
    case.taps = true;
    let (result, listed) = case.listed();
    assert_eq!(listed, ["ChangedSince id=10", "Different id=20 name"]);
    assert_eq!((result.source_count, result.compared_count), (300, 300));
    // Once for the tap, and one batch for each record at fault.
    let batches = 3 * (RECORDS as u64 / 3).div_ceil(7) + 2;
    assert!(case.source.batches() <= batches, "{}", case.source.batches());
}

#[test]
fn records_without_a_key_are_counted() {
    let twice = with(|rows| {
        rows.push(row(5));
        rows.push(row(6));
    });
    let found = with(|rows| {
        rows.push(row(6));
        rows.retain(|row| row.id != 7);
        rows.push(row(1_000));
    });
    for [looks_up, resumes, ..] in abilities() {
        let case = Case::new(
            MadeUp::of(twice.clone())
                .that_can(looks_up, resumes)
                .without_key(),
            MadeUp::of(found.clone())
                .that_can(looks_up, resumes)
                .without_key(),
        );
        let (result, listed) = case.listed();
        assert_eq!(
            listed,
            [
                "Count a record without key (2 times expected, 1 found)",
                "Extra a record without key",
                "Missing a record without key",
            ]
        );
        assert_eq!((result.source_count, result.sink_count), (302, 301));
        assert_eq!(case.source.lookups(), 0);
    }
}

#[test]
fn records_without_a_key_are_looked_at_twice_as_well() {
    let found = with(|rows| rows.retain(|row| row.id > 9));
    let case = Case::new(
        MadeUp::of(rows())
            .that_can(true, true)
            .without_key()
            .changes(|rows| rows.retain(|row| row.id > 4)),
        MadeUp::of(found)
            .that_can(true, true)
            .without_key()
            .changes(|rows| rows.push(row(9))),
    );
    let (result, _) = case.listed();
    assert_eq!((result.mismatch_count, result.changed_since_count), (4, 5));
}

#[test]
fn a_sink_without_the_collection_lacks_all_of_it() {
    let case = Case::new(
        MadeUp::of(rows()).that_can(true, true),
        MadeUp::of([]).that_can(true, true),
    );
    case.sink.lose();
    let (result, listed) = case.listed();
    assert_eq!(listed, ["Schema the sink has no collection `things`"]);
    assert_eq!((result.mismatch_count, result.every_record), (1, false));
}

#[test]
fn more_records_than_are_looked_at_together_are_all_listed() {
    let all: i64 = 25_000;
    let source = (0..all).map(row);
    let sink = (0..all).filter(|id| id % 10 == 0).map(|id| Row {
        score: 0.25,
        ..row(id)
    });
    let case = Case::new(
        MadeUp::of(source).that_can(false, true),
        MadeUp::of(sink).that_can(false, true),
    );
    let (result, listed) = case.listed();
    let missing = listed.iter().filter(|line| line.starts_with("Missing ")).count();
    let different = listed.iter().filter(|line| line.ends_with(" score")).count();
    assert_eq!((missing, different), (22_500, 2_500));
    assert_eq!(result.mismatch_count, 25_000);
    assert_eq!(result.mismatches.len(), 50);
}

#[test]
fn records_that_the_source_cannot_deliver_are_counted() {
    for [source_looks_up, source_resumes, sink_looks_up, sink_resumes] in abilities() {
        let case = Case::new(
            MadeUp::of(rows())
                .that_can(source_looks_up, source_resumes)
                .with_broken(&[10, 20]),
            MadeUp::of(rows()).that_can(sink_looks_up, sink_resumes),
        );
        let (result, listed) = case.listed();
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert_eq!(result.source_unreadable_count, 2);
        assert_eq!(result.source_unchecked_count, 2);
        assert_eq!(result.comparison, Comparison::Different);
    }
}

#[test]
fn what_a_copy_has_left_out_before_the_sink_is_no_open_question() {
    let unchecked = |taps, known| {
        let mut case = Case::new(
            MadeUp::of(rows()).that_can(false, false).with_broken(&[10, 20]),
            MadeUp::of(rows().into_iter().filter(|row| ![10, 20].contains(&row.id))).that_can(false, false),
        );
        case.taps = taps;
        (0..known).for_each(|_| case.left_out.add_unseen());
        let (result, listed) = case.listed();
        assert!(listed.is_empty(), "{listed:?}");
        assert_eq!(result.source_unreadable_count, 2);
        let wanted = match result.source_unchecked_count {
            0 => Comparison::Equal,
            _ => Comparison::Undecided,
        };
        assert_eq!(result.comparison, wanted);
        result.source_unchecked_count
    };
    assert_eq!(
        (unchecked(false, 0), unchecked(false, 1), unchecked(false, 3)),
        (2, 1, 0)
    );
    // Made while copying, the digests are of what the copy has told itself.
    assert_eq!(unchecked(true, 0), 0);
}

#[test]
fn what_is_put_right_in_the_sink_meanwhile_leaves_no_digests_of_it() {
    for [source_looks_up, source_resumes, sink_looks_up, sink_resumes] in abilities() {
        let sink = rows().into_iter().filter(|row| row.id != 5).map(|mut row| {
            row.score += if row.id == 6 { 1.0 } else { 0.0 };
            row
        });
        let sink = sink.chain([row(1_000)]);
        let case = Case::new(
            MadeUp::of(rows()).that_can(source_looks_up, source_resumes),
            MadeUp::of(sink)
                .that_can(sink_looks_up, sink_resumes)
                .changes(|stored| stored.clone_from(&rows().into_iter().chain([row(2_000)]).collect())),
        );
        let (result, listed) = case.listed();
        // The new extra one came too late to be seen.
        assert!(listed.is_empty(), "{listed:?}");
        assert_eq!((result.comparison, result.settled_count), (Comparison::Equal, 3));
        assert_eq!(result.sink_count, result.source_count);
        let digests = result.digests.unwrap();
        assert!(digests.read_back.is_none() && digests.transformed.is_some());
    }
}

#[test]
fn a_field_that_only_the_record_of_the_sink_has_is_a_difference_unless_it_is_the_sinks_own() {
    for [source_looks_up, source_resumes, sink_looks_up, sink_resumes] in abilities() {
        for names_others in [true, false] {
            let mut case = Case::new(
                MadeUp::of(rows()).that_can(source_looks_up, source_resumes),
                MadeUp::of(rows())
                    .that_can(sink_looks_up, sink_resumes)
                    .with_others(7, &["admin", "since"]),
            );
            case.names_others = names_others;
            let (result, listed) = case.listed();
            if names_others {
                assert_eq!(listed, ["Different id=7 admin since"]);
            } else {
                assert!(listed.is_empty(), "{listed:?}");
            }
            assert_eq!(result.mismatch_count, u64::from(names_others));
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_is_listed_once_by_its_key_or_as_the_sink_calls_it() {
    for [source_looks_up, source_resumes, sink_looks_up, sink_resumes] in abilities() {
        let case = Case::new(
            MadeUp::of(rows()).that_can(source_looks_up, source_resumes),
            // Of the last one the source knows nothing.
            MadeUp::of(rows().into_iter().chain([row(1_000)]))
                .that_can(sink_looks_up, sink_resumes)
                .with_broken(&[10, 20, 1_000]),
        );
        let (result, listed) = case.listed();
        assert_eq!(result.sink_unreadable_count, 3);
        if sink_looks_up {
            assert_eq!(
                listed,
                ["Unreadable id=10", "Unreadable id=20", "Unreadable number 1000"]
            );
        } else {
            assert_eq!(
                listed,
                [
                    "Missing id=10",
                    "Missing id=20",
                    "Unreadable number 10",
                    "Unreadable number 1000",
                    "Unreadable number 20"
                ]
            );
        }
    }
}

#[test]
fn a_declared_loss_is_counted_and_makes_no_difference() {
    let source = with(|rows| {
        rows[10].score = -0.0;
        rows[20].score = -0.0;
        rows[30].score = -0.0;
    });
    let sink = with(|rows| {
        rows[10].score = 0.0;
        rows[20].score = 0.0;
        rows[30].score = 0.5;
    });
    let mut case = Case::new(
        MadeUp::of(source).that_can(true, true),
        MadeUp::of(sink).that_can(true, true),
    );
    case.planned.losses.push(FieldLoss {
        field: "score".to_owned(),
        loss: Loss::NegativeZeroToZero,
    });
    let (result, listed) = case.listed();
    assert_eq!(listed, ["Different id=30 score"]);
    assert_eq!(result.losses.len(), 1);
    assert_eq!(result.losses[0].record_count, 3);
    assert_eq!(result.equal_after_loss_count, 2);
    let digests = result.digests.unwrap();
    let (extracted, transformed) = (digests.extracted.unwrap(), digests.transformed.unwrap());
    assert_eq!(extracted.record_count, transformed.record_count);
    assert_ne!(extracted.root, transformed.root);
}

#[test]
fn only_what_a_sample_holds_is_looked_for() {
    let sink = with(|rows| rows.retain(|row| row.id != 5));
    let mut case = Case::new(
        MadeUp::of((0..20).map(row)).that_can(true, true),
        MadeUp::of(sink).that_can(true, true),
    );
    case.source.can.partitions = false;
    case.sample = Some(20);
    let (result, listed) = case.listed();
    assert_eq!(listed, ["Missing id=5"]);
    assert_eq!((result.source_count, result.sink_count), (20, 19));
}

#[test]
fn records_that_the_sink_has_refused_are_passed_over_on_both_sides() {
    let sink = with(|rows| {
        name(rows, 7, "of before");
        name(rows, 8, "differs");
        rows.retain(|row| row.id != 5);
    });
    let mut case = Case::new(
        MadeUp::of(rows()).that_can(true, true),
        MadeUp::of(sink).that_can(true, true),
    );
    let keys = digests_of(&case.planned, [row(5), row(6), row(7), row(9_000)]);
    for key in keys {
        case.left_out.add(key);
    }
    let (result, listed) = case.listed();
    assert_eq!(listed, ["Different id=8 name"]);
    assert_eq!(result.left_out_count, 3);
    assert_eq!(result.compared_count, 297);
}

fn digests_of(planned: &Collection, rows: impl IntoIterator<Item = Row>) -> Vec<[u8; 16]> {
    let batch = made_up::batch(&rows.into_iter().collect::<Vec<_>>());
    let mut pairs = Vec::new();
    Digester::new(Recipe::of(planned))
        .digest(&batch, &mut pairs)
        .unwrap();
    pairs.iter().map(|pair| pair.key.to_be_bytes()).collect()
}

#[test]
fn several_records_with_one_key_in_the_source_count_as_the_last() {
    let source = with(|rows| {
        rows.push(Row { score: 0.5, ..row(3) });
        rows.push(Row { score: 0.5, ..row(5) });
    });
    let sink = with(|rows| rows[3].score = 0.5);
    let case = Case::new(
        MadeUp::of(source).that_can(true, true),
        MadeUp::of(sink).that_can(true, true),
    );
    let (result, listed) = case.listed();
    assert_eq!(listed, ["Different id=5 score"]);
    assert_eq!(result.duplicate_key_count, 2);
    assert_eq!((result.source_count, result.compared_count), (302, 300));
}

#[test]
fn a_key_that_the_sink_holds_several_times_is_a_difference() {
    let twice = with(|rows| rows.push(row(3)));
    for [looks_up, resumes, ..] in abilities() {
        let sink = MadeUp::of(twice.clone()).that_can(looks_up, resumes);
        let case = Case::new(MadeUp::of(rows()).that_can(looks_up, resumes), sink.clone());
        let (_, listed) = case.listed();
        assert_eq!(listed, ["Count id=3 (1 times expected, 2 found)"]);
        let case = Case::new(MadeUp::of(twice.clone()).that_can(looks_up, resumes), sink);
        let (_, listed) = case.listed();
        assert_eq!(listed, [""; 0], "both sides have it twice");
    }
}

#[test]
fn a_comparison_that_failed_goes_on_where_it_was() {
    let sink = with(|rows| name(rows, 290, "differs"));
    let case = Case::new(
        MadeUp::of(rows()).that_can(true, true),
        MadeUp::of(sink).that_can(true, true),
    );
    case.sink.fail_after(Some(3));
    let failure = case.compare().unwrap_err();
    assert_eq!(failure.error.code, "made_up.gone");
    assert!(case.work().exists(), "what is needed to go on is kept");
    case.sink.fail_after(None);
    let (result, listed) = case.listed();
    assert_eq!(listed, ["Different id=290 name"]);
    assert_eq!((result.source_count, result.sink_count), (300, 300));
}
