//! The checks of streams as such: their life beside the source, on other threads, and their end by cancellation.
//!
//! Neighbour: `reading_checks`, for what streams deliver.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::reading::{Reader, ensure_same, read_to_end};
use super::reading_checks::cut;
use super::report::{Checked, fail, skip};
use crate::abi::object::Canceller;
use crate::error::{Error, ErrorKind};
use crate::source::{BatchBounds, Item, ReadRequest, RecordStream};

/// How soon a cancelled call must have ended.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first item of a stream may take.
const FIRST_ITEM_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn stream_outlives_its_source(reader: &Reader) -> Checked {
    reader.each(|expected| {
        let request = cut(&expected.name, expected.record_count);
        let all = reader.read(&request)?.all();
        let stream = reader.open()?.source.read(&request)?;
        let elsewhere = std::thread::spawn(move || read_to_end(stream));
        let Ok(reading) = elsewhere.join() else {
            return fail("reading on another thread panicked");
        };
        ensure_same(
            &all,
            &reading?.all(),
            "a stream without its source, on another thread,",
        )
    })
}

pub(super) fn streams_run_side_by_side(reader: &Reader) -> Checked {
    if reader.capabilities.streams_max == 1 {
        return skip("the plugin declares `streams_max` 1");
    }
    reader.each(|expected| {
        let request = cut(&expected.name, expected.record_count);
        let all = reader.read(&request)?.all();
        let mut opened = reader.open()?;
        let first = opened.source.read(&request)?;
        let second = opened.source.read(&request)?;
        let elsewhere = std::thread::spawn(move || read_to_end(first));
        ensure_same(&all, &read_to_end(second)?.all(), "the second of two streams")?;
        let Ok(reading) = elsewhere.join() else {
            return fail("reading on another thread panicked");
        };
        ensure_same(&all, &reading?.all(), "the first of two streams")
    })
}

pub(super) fn close_with_an_open_stream_is_fine(reader: &Reader) -> Checked {
    reader.each(|expected| {
        let request = cut(&expected.name, expected.record_count);
        for items in 0..3 {
            let mut opened = reader.open()?;
            let mut stream = opened.source.read(&request)?;
            for _ in 0..items {
                if matches!(stream.next()?, Item::End) {
                    break;
                }
            }
            if items == 1 { drop(opened) } else { drop(stream) }
        }
        reader.read(&request).map(drop)
    })
}

/// What a reading thread tells: an item came, or the stream has ended.
enum Told {
    Item,
    End,
    Failed(Error),
}

/// Reads on another thread, one step ahead of whoever listens.
fn read_elsewhere(
    open: impl FnOnce() -> Result<Box<dyn RecordStream>, Error> + Send + 'static,
) -> Receiver<Told> {
    let (tell, told) = sync_channel(0);
    std::thread::spawn(move || {
        let mut stream = match open() {
            Ok(stream) => stream,
            Err(error) => return tell.send(Told::Failed(error)),
        };
        loop {
            match stream.next() {
                Ok(Item::End) => return tell.send(Told::End),
                Ok(_) => tell.send(Told::Item)?,
                Err(error) => return tell.send(Told::Failed(error)),
            }
        }
    });
    told
}

fn ends_by(told: &Receiver<Told>, canceller: &Canceller) -> Checked<Option<Error>> {
    canceller.cancel();
    let deadline = Instant::now() + CANCEL_TIMEOUT;
    loop {
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Told::Item) => {}
            Ok(Told::End) => return Ok(None),
            Ok(Told::Failed(error)) if error.kind == ErrorKind::Cancelled => return Ok(Some(error)),
            Ok(Told::Failed(error)) => return Err(error.into()),
            Err(RecvTimeoutError::Timeout) => {
                return fail(format!(
                    "a cancelled read goes on for more than {} s",
                    CANCEL_TIMEOUT.as_secs()
                ));
            }
            Err(RecvTimeoutError::Disconnected) => return fail("the reading thread panicked"),
        }
    }
}

pub(super) fn cancel_ends_a_read(reader: &Reader) -> Checked {
    reader.each(|expected| {
        let mut opened = reader.open()?;
        let request = ReadRequest {
            batch: BatchBounds {
                records_max: 1,
                ..BatchBounds::default()
            },
            ..ReadRequest::all(&expected.name)
        };
        let stream = opened.source.read(&request)?;
        let told = read_elsewhere(move || Ok(stream));
        match told.recv_timeout(FIRST_ITEM_TIMEOUT) {
            Ok(Told::Item) => ends_by(&told, &opened.canceller).map(drop),
            Ok(Told::End) => Ok(()),
            Ok(Told::Failed(error)) => Err(error.into()),
            Err(_) => fail(format!("no item within {} s", FIRST_ITEM_TIMEOUT.as_secs())),
        }
    })
}

pub(super) fn cancel_ends_a_blocked_read(reader: &Reader, collection: &str) -> Checked {
    let mut opened = reader.open()?;
    let canceller = opened.canceller.clone();
    let request = ReadRequest::all(collection);
    let told = read_elsewhere(move || opened.source.read(&request));
    match ends_by(&told, &canceller)? {
        Some(_) => Ok(()),
        None => fail("a read that blocks until it is cancelled came to its end"),
    }
}
