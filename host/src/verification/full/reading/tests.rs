//! A reading that was broken off is gone on with as if it had not been: the same digests, places and counts.
//! Neighbour: `made_up` is the system that is read.

mod made_up;

use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use whimbrel_plugin_api::capability::Loss;
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, RecordType};

use super::*;
use crate::verification::digest::Pair;
use crate::verification::pairs::BatchPlace;
use made_up::{World, schema, to_cursor};

/// Often enough for small parts, and never because of the time that a test takes.
const OFTEN: MarkEvery = MarkEvery {
    record_count: 40,
    time: Duration::from_secs(3_600),
    part_records_min: 0,
};

/// All that a reading has to say.
#[derive(Debug, PartialEq)]
struct Read {
    pairs: Vec<Vec<Pair>>,
    places: Vec<Vec<BatchPlace>>,
    root: [u8; 32],
    partitions: Vec<PartitionDigest>,
    labels: Vec<String>,
    losses: Vec<LossCount>,
    lossy_record_count: u64,
    unreadable: Vec<String>,
    unreadable_count: u64,
    missing_fields: Vec<String>,
    new_fields: Vec<Field>,
}

fn read_of(digests: &SideDigests) -> Read {
    let pairs_of = |file: &PairFile| {
        let mut pairs = Vec::new();
        let mut each = |_, pair| {
            pairs.push(pair);
            Ok(())
        };
        file.scan(&mut each).unwrap();
        pairs
    };
    let places_of = |file: &PairFile| {
        let mut places: Vec<BatchPlace> = (0..file.record_count())
            .map(|position| file.batch_of(position).unwrap())
            .collect();
        places.dedup();
        places
    };
    Read {
        pairs: digests.files.iter().map(pairs_of).collect(),
        places: digests.files.iter().map(places_of).collect(),
        root: digests.buckets.root(),
        partitions: digests.partitions.clone(),
        labels: digests.parts.iter().map(|part| part.label.clone()).collect(),
        losses: digests.losses.clone(),
        lossy_record_count: digests.lossy_record_count,
        unreadable: digests.unreadable.clone(),
        unreadable_count: digests.unreadable_count,
        missing_fields: digests.missing_fields.clone(),
        new_fields: digests.new_fields.clone(),
    }
}

/// A reader with a folder.
struct Reader {
    world: World,
    folder: tempfile::TempDir,
    request: ReadRequest,
    recipe: Recipe,
    partitions_parallel: u32,
    stop: Stop,
}

fn recipe() -> Recipe {
    let mut schema = schema();
    // What the world has as `more`, the recipe calls `other`.
    schema.fields.truncate(2);
    schema.fields.push(Field::new("other", RecordType::Text));
    Recipe {
        schema,
        key: vec!["id".to_owned()],
        losses: vec![FieldLoss {
            field: "score".to_owned(),
            loss: Loss::NanToNull,
        }],
    }
}

impl Reader {
    fn of(world: World) -> Self {
        Self {
            world,
            folder: tempfile::tempdir().unwrap(),
            request: ReadRequest::all("things"),
            recipe: recipe(),
            // One after the other, so that faults come where they are wanted.
            partitions_parallel: 1,
            stop: Stop::default(),
        }
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("side")
    }

    fn try_read(&self) -> Result<Read, Failure> {
        self.told(&|_| {})
    }

    fn told(&self, progress: &(dyn Fn(u64) + Sync)) -> Result<Read, Failure> {
        self.digests(None, progress).map(|digests| read_of(&digests))
    }

    fn digests(
        &self,
        extracted: Option<Recipe>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<SideDigests, Failure> {
        let what = SideRead {
            request: self.request.clone(),
            recipe: self.recipe.clone(),
            transformed: None,
            extracted,
            partitions_parallel: self.partitions_parallel,
            can: &self.world.can(),
            folder: &self.work(),
        };
        let mut side = self.world.opened();
        read_marking(&mut side, &what, &self.stop, progress, &OFTEN)
    }

    fn read(&self) -> Read {
        self.try_read().unwrap()
    }

    /// The code of the error that a reading ends with.
    fn fails(&self) -> String {
        self.try_read().unwrap_err().error.code
    }

    /// Parts and places at which streams were opened since this was last asked.
    fn asked(&self) -> Vec<(String, u64)> {
        self.world.take_asked()
    }
}

/// What a reading says that is never broken off.
fn whole(world: &World) -> Read {
    Reader::of(world.calm()).read()
}

fn away() -> Error {
    Error::new(ErrorKind::Unavailable, "a.away", "away")
}

fn ranges(lengths: &[u64]) -> Vec<Range<u64>> {
    let mut from = 0;
    let parts = lengths.iter().map(|length| {
        from += length;
        from - length..from
    });
    parts.collect()
}

#[test]
fn a_side_is_read_part_by_part_with_a_place_and_a_cursor_for_each_batch() {
    let world = World::new(ranges(&[95, 0, 33]));
    let reader = Reader {
        partitions_parallel: 2,
        ..Reader::of(world)
    };
    let told = AtomicUsize::new(0);
    let read = reader
        .told(&|count| {
            told.fetch_add(count as usize, Ordering::Relaxed);
        })
        .unwrap();
    assert_eq!(read.labels, ["0..95", "95..95", "95..128"]);
    // Every seventh record cannot be read.
    let unreadable: Vec<String> = (6..128).step_by(7).map(|id| id.to_string()).collect();
    assert_eq!((read.unreadable.len() as u64, read.unreadable_count), (18, 18));
    assert_eq!(read.unreadable, unreadable);
    assert_eq!(told.into_inner(), 128 - 18);
    let counts: Vec<u64> = read.partitions.iter().map(|part| part.record_count).collect();
    assert_eq!(counts, [95 - 13, 0, 33 - 5]);
    let firsts: Vec<_> = read.places[2].iter().map(|place| place.first).collect();
    let cursors: Vec<_> = read.places[2].iter().map(|place| place.cursor.clone()).collect();
    let at = |number: u64| Some(to_cursor(number));
    assert_eq!(cursors, [Some(Cursor::start()), at(105), at(115), at(125)]);
    assert_eq!(firsts, [0, 8, 17, 26]);
    // Every fifth score is not a number.
    assert_eq!(read.losses.len(), 1);
    assert_eq!(read.lossy_record_count, read.losses[0].record_count);
    assert_eq!(
        read.lossy_record_count,
        (0..128).filter(|id| id % 5 == 0 && id % 7 != 6).count() as u64
    );
    assert_eq!(read.missing_fields, ["other"]);
    assert_eq!(read.new_fields[0].name, "more");
    let mut buckets = Buckets::default();
    read.pairs.iter().flatten().for_each(|pair| buckets.add(*pair));
    assert_eq!(buckets.root(), read.root);
    let distinct: std::collections::HashSet<u128> =
        read.pairs.iter().flatten().map(|pair| pair.key).collect();
    assert_eq!(distinct.len(), 110);
    for entry in fs::read_dir(reader.work()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(
        fs::metadata(reader.work()).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn what_a_system_gave_has_digests_of_its_own_if_all_of_it_was_seen_by_one_reading() {
    let exact = Recipe {
        schema: schema(),
        losses: Vec::new(),
        ..recipe()
    };
    let world = World::new(ranges(&[95, 0, 33]));
    let of = |reader: &Reader, recipe: &Recipe| reader.digests(Some(recipe.clone()), &|_| {});
    let given = of(&Reader::of(world.calm()), &exact).unwrap().extracted.unwrap();
    let reader = Reader {
        recipe: exact.clone(),
        ..Reader::of(world.calm())
    };
    let alone = reader.digests(None, &|_| {}).unwrap();
    assert!(alone.extracted.is_none());
    assert_eq!(given.buckets, alone.buckets);
    assert_eq!(given.partitions, alone.partitions);
    assert_ne!(given.buckets.root(), whole(&world).root);
    // A field that the recipe lacks would be in no digest.
    let mut narrow = exact.clone();
    narrow.schema.fields.truncate(2);
    assert!(
        of(&Reader::of(world.calm()), &narrow)
            .unwrap()
            .extracted
            .is_none()
    );
    // What a reading has seen that was broken off behind a mark is not known any more.
    let reader = Reader::of(world.failing(&[("next", 16, away())]));
    assert_eq!(of(&reader, &exact).unwrap_err().error.code, "a.away");
    let gone_on = of(&reader, &exact).unwrap();
    assert!(gone_on.extracted.is_none());
    assert_eq!(read_of(&gone_on), whole(&world));
}

#[test]
fn wherever_a_reading_fails_every_record_is_digested_once_when_it_is_gone_on_with() {
    for cursor_every in [1, 2] {
        let mut world = World::new(ranges(&[120, 7, 130]));
        world.cursor_every = cursor_every;
        let wanted = whole(&world);
        for at in 1..=58 {
            let reader = Reader::of(world.failing(&[("next", at, away())]));
            let told = AtomicUsize::new(0);
            let failed = reader.told(&|count| {
                told.fetch_add(count as usize, Ordering::Relaxed);
            });
            assert_eq!(failed.unwrap_err().error.code, "a.away", "item {at}");
            let before = reader.asked();
            assert_eq!(reader.read(), wanted, "item {at}, cursors {cursor_every}");
            let after = reader.asked();
            // Only the part that had failed is begun twice, and at a mark if it had come to one.
            let (failed_in, first) = (before.last().unwrap(), after.first().unwrap());
            assert_eq!(failed_in.0, first.0, "item {at}");
            assert_eq!(before.len() + after.len(), 4, "item {at}");
            let done = wanted.partitions[..before.len() - 1].iter();
            let done: u64 = done.map(|part| part.record_count).sum();
            assert!(
                first.1 > 0 || told.into_inner() as u64 - done < 60,
                "item {at}: {first:?}"
            );
        }
    }
}

#[test]
fn a_reading_that_fails_again_and_again_comes_to_its_end() {
    let world = World::new(ranges(&[200, 200]));
    let wanted = whole(&world);
    let faults: Vec<_> = (1..40).map(|number| ("next", number * 13, away())).collect();
    let reader = Reader::of(world.failing(&faults));
    let mut fails = 0;
    let read = loop {
        match reader.try_read() {
            Ok(read) => break read,
            Err(_) => fails += 1,
        }
        assert!(fails < 40, "no end");
    };
    assert_eq!(read, wanted);
    assert!(fails > 4, "{fails} fails");
}

#[test]
fn several_parts_at_once_are_gone_on_with_too() {
    let world = World::new(ranges(&[300, 310, 320, 330]));
    let wanted = whole(&world);
    for at in (1..=250).step_by(31) {
        let reader = Reader {
            partitions_parallel: 3,
            ..Reader::of(world.failing(&[("next", at, away())]))
        };
        assert_eq!(reader.fails(), "a.away", "item {at}");
        assert_eq!(reader.read(), wanted, "item {at}");
    }
}

#[test]
fn a_system_without_cursors_is_asked_for_the_whole_part_again_but_not_for_those_that_are_done() {
    let mut world = World::new(ranges(&[100, 100]));
    world.can.resume = false;
    let wanted = whole(&world);
    let places = wanted.places.iter().flatten();
    assert!(
        places.into_iter().all(|place| place.cursor.is_none()),
        "a place without a way to it has a cursor"
    );
    let reader = Reader::of(world.failing(&[("next", 40, away())]));
    assert_eq!(reader.fails(), "a.away");
    assert_eq!(
        reader.asked(),
        [("0..100".to_owned(), 0), ("100..200".to_owned(), 0)]
    );
    assert_eq!(reader.read(), wanted);
    assert_eq!(reader.asked(), [("100..200".to_owned(), 0)]);
}

#[test]
fn what_is_done_is_not_read_again_at_all_and_is_told_as_progress() {
    let world = World::new(ranges(&[100, 50]));
    let reader = Reader::of(world);
    let first = reader.read();
    reader.asked();
    let told = AtomicUsize::new(0);
    let again = reader.told(&|count| {
        told.fetch_add(count as usize, Ordering::Relaxed);
    });
    assert_eq!(again.unwrap(), first);
    assert_eq!((reader.asked().len(), told.into_inner()), (0, 150 - 21));
}

#[test]
fn a_reading_of_something_else_begins_anew() {
    let world = World::new(ranges(&[100, 100]));
    let broken_off = || {
        let reader = Reader::of(world.failing(&[("next", 40, away())]));
        assert_eq!(reader.fails(), "a.away");
        reader.asked();
        reader
    };
    // Another snapshot makes no difference.
    let mut same = broken_off();
    same.request.snapshot = Some("later".to_owned());
    assert_eq!(same.read(), whole(&world));
    assert!(same.asked()[0].1 > 0, "it was not gone on with");
    let mut others: Vec<Reader> = (0..4).map(|_| broken_off()).collect();
    others[0].recipe.losses.clear();
    others[1].recipe.schema.fields.pop();
    others[2].recipe.key.clear();
    others[3].request.columns = vec!["id".to_owned(), "score".to_owned()];
    for (number, reader) in others.into_iter().enumerate() {
        let read = reader.read();
        assert_eq!(reader.asked()[0], ("0..100".to_owned(), 0), "{number}");
        let calm = Reader {
            recipe: reader.recipe.clone(),
            request: reader.request.clone(),
            ..Reader::of(world.calm())
        };
        assert_eq!(read, calm.read(), "{number}");
    }
}

#[test]
fn damaged_files_are_never_believed() {
    let world = World::new(ranges(&[100, 100]));
    let wanted = whole(&world);
    let names = [
        "progress.json",
        "part-0.pairs",
        "part-0.pairs.index",
        "part-1.pairs",
        "part-1.pairs.index",
    ];
    for name in names {
        for damage in 0..4 {
            let reader = Reader::of(world.failing(&[("next", 40, away())]));
            assert_eq!(reader.fails(), "a.away");
            reader.asked();
            let path = reader.work().join(name);
            let mut octets = fs::read(&path).unwrap();
            let middle = octets.len() / 3;
            match damage {
                0 => octets[middle] ^= 1,
                1 => octets.truncate(middle),
                2 => octets.clear(),
                _ => fs::remove_file(&path).unwrap(),
            }
            if damage < 3 {
                fs::write(&path, octets).unwrap();
            }
            assert_eq!(reader.read(), wanted, "{name}, {damage}");
            let asked = reader.asked();
            let (first, second) = (("0..100".to_owned(), 0), ("100..200".to_owned(), 0));
            assert_eq!(asked[asked.len() - 2..], [first, second], "{name}, {damage}");
        }
    }
}

#[test]
fn parts_that_the_system_no_longer_knows_are_divided_and_read_anew() {
    let lost = Error::new(ErrorKind::Integrity, "a.partition_lost", "lost");
    for call in ["read", "next"] {
        let world = World::new(ranges(&[100, 100]));
        // The third stream is the first one that goes on; in the first two, 34 items were asked for.
        let again = if call == "read" { 3 } else { 35 };
        let faults = [("next", 34, away()), (call, again, lost.clone())];
        let reader = Reader::of(world.failing(&faults));
        assert_eq!(reader.fails(), "a.away");
        reader.world.divide_anew(ranges(&[60, 60, 80]));
        reader.asked();
        let read = reader.read();
        assert_eq!(read.labels, ["0..60", "60..120", "120..200"]);
        let anew = World::new(ranges(&[60, 60, 80]));
        assert_eq!(read, whole(&anew), "{call}");
    }
}

#[test]
fn a_system_that_is_away_when_it_is_gone_on_with_costs_nothing_of_what_was_read() {
    let world = World::new(ranges(&[100, 100]));
    let faults = [("next", 34, away()), ("read", 3, away()), ("next", 35, away())];
    let reader = Reader::of(world.failing(&faults));
    for _ in 0..3 {
        assert_eq!(reader.fails(), "a.away");
    }
    reader.asked();
    assert_eq!(reader.read(), whole(&world));
    assert!(reader.asked()[0].1 > 0, "it was not gone on with");
}

#[test]
fn an_error_in_the_midst_of_records_is_that_of_the_reading() {
    let world = World::new(ranges(&[100, 100]));
    let bad = Error::new(ErrorKind::InvalidData, "a.bad", "bad");
    let reader = Reader::of(world.failing(&[("next", 34, away()), ("next", 40, bad)]));
    assert_eq!(reader.fails(), "a.away");
    assert_eq!(reader.fails(), "a.bad");
    assert_eq!(reader.read(), whole(&world));
}

#[test]
fn no_more_streams_are_open_than_the_system_bears() {
    for (parallel, streams_max, most) in [(4, 0, 4), (4, 2, 2), (1, 3, 1), (0, 0, 1), (9, 0, 6)] {
        let mut world = World::new(ranges(&[400; 6]));
        world.can.streams_max = streams_max;
        // Each stream waits for others before its end, as far as may be.
        world.waits_for = most;
        let reader = Reader {
            partitions_parallel: parallel,
            ..Reader::of(world)
        };
        reader.read();
        assert_eq!(reader.world.most_open(), most, "{parallel} and {streams_max}");
    }
}

#[test]
fn a_limit_is_that_of_the_whole_collection() {
    let reader = {
        let mut reader = Reader::of(World::new(ranges(&[100, 100])).failing(&[("next", 12, away())]));
        reader.request.limit = Some(130);
        reader
    };
    assert_eq!(reader.fails(), "a.away");
    let read = reader.read();
    assert_eq!(read.labels, ["all"]);
    assert_eq!(read.pairs[0].len() as u64 + read.unreadable_count, 130);
    // How much is left of it is not known, so it is read from its start.
    assert_eq!(reader.asked(), [("all".to_owned(), 0), ("all".to_owned(), 0)]);
}

#[test]
fn a_system_that_is_not_divided_is_read_as_a_whole() {
    let mut world = World::new(ranges(&[50, 50]));
    world.can.partitions = false;
    let reader = Reader::of(world);
    assert_eq!(reader.read().labels, ["all"]);
    assert_eq!(reader.asked(), [("all".to_owned(), 0)]);
}

#[test]
fn a_stop_ends_a_reading_and_nothing_is_lost() {
    let world = World::new(ranges(&[200, 200]));
    let reader = Reader::of(world.calm());
    let seen = AtomicUsize::new(0);
    let stopped = reader.told(&|count| {
        if seen.fetch_add(count as usize, Ordering::Relaxed) > 250 {
            reader.stop.ask();
        }
    });
    assert_eq!(stopped.unwrap_err().error.kind, ErrorKind::Cancelled);
    reader.asked();
    let reader = Reader {
        stop: Stop::default(),
        ..reader
    };
    assert_eq!(reader.read(), whole(&world));
    let asked = reader.asked();
    assert!(asked.len() == 1 && asked[0].1 > 200, "{asked:?}");
}

#[test]
fn labels_of_unreadable_records_are_bounded_and_all_are_counted() {
    let mut world = World::new(ranges(&[5_000]));
    world.unreadable_every = 2;
    let read = Reader::of(world).read();
    assert_eq!((read.unreadable.len(), read.unreadable_count), (1_000, 2_500));
}
