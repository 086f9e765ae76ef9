//! Differences are those of a simple model, whatever fits in memory.
//! `WHIMBREL_SEED` sets the seed that is printed.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use fastrand::Rng;

use super::super::fault::is_torn;
use super::super::writer::PairWriter;
use super::*;
use crate::verification::bucket::{BUCKETS, Buckets};

/// Comparisons that are made up.
const ROUNDS: usize = 80;

fn digest(number: u64) -> u128 {
    let hash = blake3::hash(&number.to_be_bytes());
    u128::from_be_bytes(*hash.as_bytes().first_chunk().unwrap())
}

fn random() -> Rng {
    let given = std::env::var("WHIMBREL_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("WHIMBREL_SEED={seed}");
    Rng::with_seed(seed)
}

/// One side: files of pairs, in memory.
type SidePairs = Vec<Vec<Pair>>;

fn write(folder: &Path, name: &str, side: &SidePairs) -> Vec<PairFile> {
    let files = side.iter().enumerate().map(|(number, pairs)| {
        let path = folder.join(format!("{name}-{number}"));
        let mut writer = PairWriter::create(&path).unwrap();
        for batch in pairs.chunks(100) {
            writer.append(None, batch).unwrap();
        }
        writer.finish().unwrap()
    });
    files.collect()
}

fn buckets(side: &SidePairs) -> Buckets {
    let mut buckets = Buckets::default();
    for pair in side.iter().flatten() {
        buckets.add(*pair);
    }
    buckets
}

struct Made {
    is_keyed: bool,
    is_sample: bool,
    left_out: LeftOut,
    source: SidePairs,
    sink: SidePairs,
}

/// Two sides that are alike but for some records.
fn make(random: &mut Rng) -> Made {
    let is_keyed = random.bool();
    // The more bits of keys are cut off, the fewer buckets there are, down to one with keys that cannot be told apart by
    // their first 63 bits.
    let cut = *random.choice(&[0, 0, 7, 12, 40, 100]).unwrap();
    let count = *random.choice(&[0, 3, 50, 700, 4_000]).unwrap();
    let key_count = match random.u8(..4) {
        0 => 1,
        1 => count / 3 + 1,
        _ => 1_000_000,
    };
    let (file_count, wrong_in) = (random.usize(1..4), *random.choice(&[1, 2, 20, 500]).unwrap());
    let mut made = Made {
        is_keyed,
        is_sample: random.u8(..4) == 0,
        left_out: LeftOut::default(),
        source: vec![Vec::new(); file_count],
        sink: vec![Vec::new(); random.usize(1..4)],
    };
    for number in 0..count {
        let key = digest(if key_count > count {
            number
        } else {
            random.u64(..key_count)
        }) >> cut;
        let record = |version: u64| match is_keyed {
            true => digest(number << 8 | version),
            false => key,
        };
        let source = Pair {
            key,
            record: record(0),
        };
        let mut sink = Some(source);
        if random.u64(..wrong_in) == 0 {
            match random.u8(..5) {
                0 => sink = None,
                1 => {
                    sink = Some(Pair {
                        key,
                        record: record(1),
                    })
                }
                2 => {
                    let extra = digest(u64::MAX - number) >> cut;
                    let record = if is_keyed { record(2) } else { extra };
                    random_file(&mut made.sink, random).push(Pair { key: extra, record });
                }
                3 => random_file(&mut made.sink, random).push(source),
                _ => {
                    made.left_out.add(key.to_be_bytes());
                    sink = None;
                }
            }
        }
        random_file(&mut made.source, random).push(source);
        random_file(&mut made.sink, random).extend(sink);
    }
    made
}

fn random_file<'a>(side: &'a mut SidePairs, random: &mut Rng) -> &'a mut Vec<Pair> {
    let file = random.usize(..side.len());
    &mut side[file]
}

type Found = (Vec<Difference>, Tally);

/// What a person would do with enough paper.
fn model(made: &Made) -> Found {
    let unequal = buckets(&made.source).unequal(&buckets(&made.sink));
    let mut looked_at: HashSet<usize> = unequal.into_iter().collect();
    looked_at.extend(made.left_out.keys().map(bucket_of));
    let by_key = |side: &SidePairs| {
        let mut keys: BTreeMap<u128, Vec<(Place, u128)>> = BTreeMap::new();
        for (file, pairs) in side.iter().enumerate() {
            for (position, pair) in (0..).zip(pairs) {
                let place = Place { file, position };
                keys.entry(pair.key).or_default().push((place, pair.record));
            }
        }
        keys
    };
    let (source, sink) = (by_key(&made.source), by_key(&made.sink));
    let keys: HashSet<u128> = source.keys().chain(sink.keys()).copied().collect();
    let mut found = Found::default();
    for key in keys {
        if looked_at.contains(&bucket_of(key)) {
            let of = |side: &BTreeMap<u128, Vec<(Place, u128)>>| side.get(&key).cloned().unwrap_or_default();
            found
                .0
                .extend(judged(key, &of(&source), &of(&sink), made, &mut found.1));
        }
    }
    found.0.sort_by_key(|difference| difference.key);
    found
}

fn judged(
    key: u128,
    source: &[(Place, u128)],
    sink: &[(Place, u128)],
    made: &Made,
    tally: &mut Tally,
) -> Option<Difference> {
    let refused = made.left_out.times(key);
    let kind = if made.is_keyed {
        if refused > 0 {
            tally.left_out_count += source.len() as u64;
            return None;
        }
        tally.duplicate_key_count += source.len().saturating_sub(1) as u64;
        let records = |side: &[(Place, u128)]| {
            let mut records: Vec<u128> = side.iter().map(|(_, record)| *record).collect();
            records.sort_unstable();
            records
        };
        match (source.len(), sink.len()) {
            (_, 0) => DifferenceKind::Missing,
            (0, _) => DifferenceKind::Extra,
            _ if records(source) == records(sink) => return None,
            (_, 1) if source.last().unwrap().1 == sink[0].1 => return None,
            (_, 1) => DifferenceKind::Different,
            (_, found) => DifferenceKind::Count {
                expected: 1,
                found: found as u64,
            },
        }
    } else {
        let taken = refused.min(source.len() as u64);
        tally.left_out_count += taken;
        match (source.len() as u64 - taken, sink.len() as u64) {
            (expected, found) if expected == found => return None,
            (expected, found) if made.is_sample && found > expected => return None,
            (_, 0) => DifferenceKind::Missing,
            (0, _) => DifferenceKind::Extra,
            (expected, found) => DifferenceKind::Count { expected, found },
        }
    };
    let is_ignored = made.is_sample && kind == DifferenceKind::Extra;
    (!is_ignored).then(|| Difference {
        key,
        kind,
        source: source.last().map(|(place, _)| *place),
        source_record: source.last().map(|(_, record)| *record),
        sink: sink.last().map(|(place, _)| *place),
        sink_count: sink.len() as u64,
    })
}

struct Disk {
    _folder: tempfile::TempDir,
    work_folder: PathBuf,
    source: Vec<PairFile>,
    sink: Vec<PairFile>,
}

fn on_disk(source: &SidePairs, sink: &SidePairs) -> Disk {
    let folder = tempfile::tempdir().unwrap();
    Disk {
        source: write(folder.path(), "source", source),
        sink: write(folder.path(), "sink", sink),
        work_folder: folder.path().join("work"),
        _folder: folder,
    }
}

fn found(made: &Made, disk: &Disk, memory_bytes_max: usize) -> Result<Found, Error> {
    let rules = Rules {
        is_keyed: made.is_keyed,
        left_out: &made.left_out,
        is_sample: made.is_sample,
        memory_bytes_max,
        work_folder: &disk.work_folder,
    };
    let unequal = buckets(&made.source).unequal(&buckets(&made.sink));
    let mut found = Vec::new();
    let mut each = |difference| {
        found.push(difference);
        Ok(())
    };
    let tally = differences(&disk.source, &disk.sink, &unequal, &rules, &mut each)?;
    if let Ok(mut left) = std::fs::read_dir(&disk.work_folder) {
        assert!(left.next().is_none(), "a file is left in the work folder");
    }
    Ok((found, tally))
}

#[test]
fn differences_are_those_of_the_model_whatever_fits_in_memory() {
    let mut random = random();
    for round in 0..ROUNDS {
        let made = make(&mut random);
        let disk = on_disk(&made.source, &made.sink);
        let wanted = model(&made);
        for memory_bytes_max in [0, 20_000, 16 << 20] {
            let found = found(&made, &disk, memory_bytes_max).unwrap();
            assert!(
                found == wanted,
                "round {round}, {memory_bytes_max} octets, keyed {}: found {found:?}, wanted {wanted:?}",
                made.is_keyed
            );
        }
    }
}

fn all_differ(count: u64) -> Made {
    let side = |version: u64| -> SidePairs {
        let pairs = (0..count).map(|number| Pair {
            key: digest(number),
            record: digest(number * 2 + version + count),
        });
        vec![pairs.collect()]
    };
    Made {
        is_keyed: true,
        is_sample: false,
        left_out: LeftOut::default(),
        source: side(0),
        sink: side(1),
    }
}

#[test]
fn a_collection_in_which_everything_differs_is_gone_through_in_little_memory() {
    let made = all_differ(60_000);
    let disk = on_disk(&made.source, &made.sink);
    // 120,000 records of 64 octets do not fit by far; of files of its own some do, and some are divided again.
    let (found, tally) = found(&made, &disk, 100_000).unwrap();
    assert_eq!(tally, Tally::default());
    assert!(
        found.is_sorted_by_key(|difference| difference.key),
        "not in order"
    );
    assert_eq!(found.len(), 60_000);
    for difference in found {
        assert_eq!(difference.kind, DifferenceKind::Different);
        assert_eq!(difference.source, difference.sink);
        let position = difference.source.unwrap().position;
        let there = made.source[0][usize::try_from(position).unwrap()];
        assert_eq!(
            (there.key, Some(there.record)),
            (difference.key, difference.source_record)
        );
    }
}

#[test]
fn a_damaged_file_is_refused_before_anything_is_said_of_it() {
    let made = all_differ(5_000);
    for memory_bytes_max in [0, 16 << 20] {
        let disk = on_disk(&made.source, &made.sink);
        let path = disk.work_folder.with_file_name("sink-0");
        let mut octets = std::fs::read(&path).unwrap();
        octets[3_000 * 32 + 5] ^= 16;
        std::fs::write(&path, octets).unwrap();
        let refused = found(&made, &disk, memory_bytes_max).unwrap_err();
        assert!(is_torn(&refused), "{refused}");
    }
}

#[test]
fn what_is_done_with_a_difference_may_fail() {
    let made = all_differ(10);
    let disk = on_disk(&made.source, &made.sink);
    let rules = Rules {
        is_keyed: true,
        left_out: &made.left_out,
        is_sample: false,
        memory_bytes_max: 1 << 20,
        work_folder: &disk.work_folder,
    };
    let all: Vec<usize> = (0..BUCKETS).collect();
    let mut each = |_| Err(Error::cancelled());
    let outcome = differences(&disk.source, &disk.sink, &all, &rules, &mut each);
    assert_eq!(outcome.unwrap_err(), Error::cancelled());
}

#[test]
fn a_table_takes_no_more_room_than_it_was_given() {
    let mut table = Table::new(100 * size_of::<Seen>(), 1_000_000);
    let place = |position| SidePlace::new(false, Place { file: 0, position }).unwrap();
    let pair = |number| Pair {
        key: digest(number),
        record: digest(number),
    };
    // The same keys again and again take no more room than once.
    for number in 0..5_000 {
        assert!(table.add(Seen::new(pair(number % 60), place(number))));
    }
    let mut count = 0;
    let mut each = |seen: Option<&Seen>, _: Option<&Seen>| -> Result<(), Error> {
        let seen = seen.unwrap();
        assert!(seen.count >= 83 && seen.place.place().position >= 4_940);
        count += 1;
        Ok(())
    };
    table.by_key(&mut each).unwrap();
    assert_eq!(count, 60);
    table.clear();
    let added = (0..5_000).take_while(|number| table.add(Seen::new(pair(*number), place(*number))));
    assert_eq!(added.count(), 100);
}
