//! A file of pairs gives back what was appended, also after a cut, and refuses whatever was damaged.
//! The writer and the index beside the file are tested here, too.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use super::super::fault::is_torn;
use super::super::writer::{PairMark, PairWriter};
use super::*;

fn pair(number: u64) -> Pair {
    let hash = blake3::hash(&number.to_be_bytes());
    let (halves, _) = hash.as_bytes().as_chunks();
    Pair {
        key: u128::from_be_bytes(halves[0]),
        record: u128::from_be_bytes(halves[1]),
    }
}

fn pairs(from: u64, to: u64) -> Vec<Pair> {
    (from..to).map(pair).collect()
}

fn cursor(number: u64) -> Cursor {
    Cursor(number.to_string().into_bytes())
}

fn scanned(file: &PairFile) -> Result<Vec<Pair>, Error> {
    let mut found = Vec::new();
    file.scan(&mut |position, pair| {
        assert_eq!(position, found.len() as u64);
        found.push(pair);
        Ok(())
    })?;
    Ok(found)
}

/// Batches of 1, 2, 3 ... records up to `to`; every third one without a cursor.
fn append(writer: &mut PairWriter, batches: std::ops::Range<u64>) {
    for number in batches {
        let from = writer.written().record_count;
        let cursor = (!number.is_multiple_of(3)).then(|| cursor(from));
        writer
            .append(cursor.as_ref(), &pairs(from, from + number))
            .unwrap();
    }
}

#[test]
fn what_was_appended_is_read_in_order_with_its_places_and_cursors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/a.pairs");
    let mut writer = PairWriter::create(&path).unwrap();
    // More batches than a file remembers places.
    append(&mut writer, 0..20);
    for from in 190..3_000 {
        writer
            .append(Some(&cursor(from)), &pairs(from, from + 1))
            .unwrap();
    }
    let file = writer.finish().unwrap();
    assert_eq!(file.record_count(), 3_000);
    assert!(file.marks.len() <= MARKS_MAX && file.marks.len() > MARKS_MAX / 4);
    assert_eq!(scanned(&file).unwrap(), pairs(0, 3_000));
    let mut first = 0;
    for number in 1..20 {
        for position in first..first + number {
            let place = file.batch_of(position).unwrap();
            assert_eq!((place.first, place.record_count), (first, number));
            let wanted = (number % 3 != 0).then(|| cursor(first));
            assert_eq!(place.cursor, wanted);
        }
        first += number;
    }
    for position in (0..3_000).step_by(7).chain([2_999]) {
        if position >= 190 {
            assert_eq!(file.batch_of(position).unwrap().cursor, Some(cursor(position)));
        }
    }
    file.batch_of(3_000).unwrap_err();
}

#[test]
fn a_file_is_for_its_owner_alone_even_if_it_was_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/a.pairs");
    fs::create_dir(folder.path().join("other")).unwrap();
    let other = folder.path().join("other/a.pairs");
    fs::write(&other, b"before").unwrap();
    fs::set_permissions(&other, Permissions::from_mode(0o644)).unwrap();
    for path in [&path, &other] {
        assert_eq!(
            PairWriter::create(path).unwrap().finish().unwrap().record_count(),
            0
        );
        for file in [path.clone(), index_of(path)] {
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
    let made = fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_file_that_is_gone_on_with_at_any_mark_is_as_if_it_had_never_been_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pairs");
    let mut writer = PairWriter::create(&path).unwrap();
    append(&mut writer, 0..12);
    writer.close().unwrap();
    let whole = [fs::read(&path).unwrap(), fs::read(index_of(&path)).unwrap()];
    let (mut record_count, mut batch_count) = (0, 0);
    for number in 1..=12 {
        fs::write(&path, &whole[0]).unwrap();
        fs::write(index_of(&path), &whole[1]).unwrap();
        // What is behind the mark may be anything.
        let behind = OpenOptions::new().append(true).open(&path).unwrap();
        (&behind).write_all(b"half a pair").unwrap();
        let mark = PairMark {
            record_count,
            batch_count,
        };
        let mut kept = Vec::new();
        let mut writer = PairWriter::resume_with(&path, mark, &mut |pair| kept.push(pair)).unwrap();
        assert_eq!(kept, pairs(0, record_count));
        assert_eq!(writer.sync().unwrap(), mark);
        append(&mut writer, number..12);
        writer.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole[0]);
        assert_eq!(fs::read(index_of(&path)).unwrap(), whole[1]);
        record_count += number;
        batch_count += 1;
    }
}

#[test]
fn a_mark_that_was_never_reached_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pairs");
    let mut writer = PairWriter::create(&path).unwrap();
    append(&mut writer, 1..5);
    assert_eq!(
        writer.sync().unwrap(),
        PairMark {
            record_count: 10,
            batch_count: 4
        }
    );
    writer.close().unwrap();
    for (record_count, batch_count) in [(10, 5), (11, 4), (10, 3), (9, 4)] {
        let mark = PairMark {
            record_count,
            batch_count,
        };
        let refused = PairWriter::resume(&path, mark).err().unwrap();
        assert!(is_torn(&refused), "{mark:?}: {refused}");
    }
    fs::remove_file(&path).unwrap();
    let refused = PairWriter::resume(&path, PairMark::default()).err().unwrap();
    assert!(is_torn(&refused), "{refused}");
}

#[test]
fn a_flipped_bit_and_a_lost_octet_are_refused_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pairs");
    let mut writer = PairWriter::create(&path).unwrap();
    append(&mut writer, 1..6);
    let mark = writer.sync().unwrap();
    writer.close().unwrap();
    for damaged in [path.clone(), index_of(&path)] {
        let whole = fs::read(&damaged).unwrap();
        let refused = |octets: &[u8], what: &str| {
            fs::write(&damaged, octets).unwrap();
            let outcome = PairFile::open(&path).and_then(|file| scanned(&file));
            assert!(outcome.is_err_and(|error| is_torn(&error)), "{what} is believed");
            let outcome = PairWriter::resume(&path, mark).err();
            assert!(
                outcome.is_some_and(|error| is_torn(&error)),
                "{what} is gone on with"
            );
        };
        for bit in 0..whole.len() * 8 {
            let mut octets = whole.clone();
            octets[bit / 8] ^= 1 << (bit % 8);
            refused(&octets, &format!("{}: bit {bit}", damaged.display()));
        }
        for length in 0..whole.len() {
            refused(
                &whole[..length],
                &format!("{}: {length} octets", damaged.display()),
            );
        }
        fs::write(&damaged, &whole).unwrap();
        assert_eq!(
            scanned(&PairFile::open(&path).unwrap()).unwrap(),
            pairs(0, mark.record_count)
        );
    }
}

#[test]
fn a_batch_that_was_taken_out_or_moved_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pairs");
    let mut writer = PairWriter::create(&path).unwrap();
    for from in [0, 2, 4] {
        writer
            .append(Some(&cursor(from)), &pairs(from, from + 2))
            .unwrap();
    }
    writer.close().unwrap();
    let whole = [path.clone(), index_of(&path)].map(|path| (fs::read(&path).unwrap(), path));
    for order in [
        [0, 2, 2].as_slice(),
        &[0, 2],
        &[1, 2],
        &[1, 0, 2],
        &[0, 1, 1],
        &[0, 1, 2, 2],
    ] {
        for (octets, path) in &whole {
            let batches: Vec<&[u8]> = octets.chunks(octets.len() / 3).collect();
            let moved: Vec<&[u8]> = order.iter().map(|number| batches[*number]).collect();
            fs::write(path, moved.concat()).unwrap();
        }
        let outcome = PairFile::open(&path).and_then(|file| scanned(&file));
        assert!(outcome.is_err_and(|error| is_torn(&error)), "{order:?}");
    }
    for (octets, path) in &whole {
        fs::write(path, octets).unwrap();
    }
    assert_eq!(scanned(&PairFile::open(&path).unwrap()).unwrap(), pairs(0, 6));
}
