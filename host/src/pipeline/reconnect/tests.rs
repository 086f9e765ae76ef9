//! Reads from made-up sources that fail in every way that they may, and compares what arrives with what is there.
//! The source counts numbers; its faults are named by call and occurrence.

use std::io::Write;

use arrow_array::{Int64Array, RecordBatch};
use whimbrel_plugin_api::batch::Batch;
use whimbrel_plugin_api::collection::{Collection, CollectionsRequest};
use whimbrel_plugin_api::source::RecordStream;
use whimbrel_plugin_api::{Error, ErrorKind, Field, RecordType, Schema, Source};

use super::*;
use crate::loader::observe::CallLog;

/// Records of a batch.
const BATCH: i64 = 10;

/// Numbers from 0 on, of which some are rejected, and what goes wrong: the call, its occurrence, the error.
struct World {
    record_count: i64,
    rejects_every: i64,
    has_cursors: bool,
    faults: Vec<(&'static str, u32, Error)>,
    calls: Mutex<HashMap<&'static str, u32>>,
    /// Cursor and limit of each reading.
    requests: Mutex<Vec<(i64, Option<u64>)>>,
    events: Mutex<Vec<u8>>,
}

impl World {
    fn new(record_count: i64, faults: Vec<(&'static str, u32, Error)>) -> Self {
        Self {
            record_count,
            rejects_every: i64::MAX,
            has_cursors: true,
            faults,
            calls: Mutex::default(),
            requests: Mutex::default(),
            events: Mutex::default(),
        }
    }

    fn play(&self, call: &'static str) -> Result<(), Error> {
        let mut calls = self.calls.lock().unwrap();
        let count = calls.entry(call).or_default();
        *count += 1;
        let due = self
            .faults
            .iter()
            .find(|fault| fault.0 == call && fault.1 == *count);
        due.map_or(Ok(()), |fault| Err(fault.2.clone()))
    }

    fn count(&self, call: &str) -> u32 {
        self.calls.lock().unwrap().get(call).copied().unwrap_or(0)
    }

    fn retries(&self) -> Vec<(Option<Role>, u32)> {
        let text = String::from_utf8(self.events.lock().unwrap().clone()).unwrap();
        text.lines()
            .filter_map(|line| match serde_json::from_str(line).unwrap() {
                Event::Retrying { role, attempt, .. } => Some((role, attempt)),
                _ => None,
            })
            .collect()
    }
}

#[derive(Clone)]
struct Shared(Arc<World>);

impl Write for Shared {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.events.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn to_cursor(number: i64) -> Cursor {
    Cursor(number.to_be_bytes().to_vec())
}

impl Source for Shared {
    fn collections(&mut self, _: &CollectionsRequest) -> Result<Vec<Collection>, Error> {
        Ok(Vec::new())
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>, Error> {
        self.0.play("read")?;
        assert_eq!(request.snapshot.as_deref(), Some("then"));
        let octets: Option<[u8; 8]> = request.cursor.0.as_slice().try_into().ok();
        let from = octets.map_or(0, i64::from_be_bytes);
        self.0.requests.lock().unwrap().push((from, request.limit));
        let limit = request
            .limit
            .map_or(i64::MAX, |limit| i64::try_from(limit).unwrap());
        Ok(Box::new(Numbers {
            world: Arc::clone(&self.0),
            next: from,
            end: self.0.record_count.min(from.saturating_add(limit)),
            step: 0,
        }))
    }
}

struct Numbers {
    world: Arc<World>,
    next: i64,
    end: i64,
    /// 0: the schema; then rejected records and a batch in turns.
    step: u32,
}

impl RecordStream for Numbers {
    fn next(&mut self) -> Result<Item, Error> {
        self.world.play("next")?;
        let schema = Arc::new(Schema::new(vec![Field::required("id", RecordType::INT64)]));
        self.step += 1;
        if self.step == 1 {
            return Ok(Item::Schema(schema));
        }
        let to = self.end.min(self.next + BATCH);
        if self.next >= to {
            return Ok(Item::End);
        }
        let is_rejected = |id: &i64| id % self.world.rejects_every == self.world.rejects_every - 1;
        let (rejected, fine): (Vec<i64>, Vec<i64>) = (self.next..to).partition(is_rejected);
        if self.step.is_multiple_of(2) {
            let records = rejected.into_iter().map(|id| RejectedRecord {
                record: id.to_string(),
                row: None,
                code: "a.bad".to_owned(),
                message: "bad".to_owned(),
                data: None,
            });
            return Ok(Item::Rejected(records.collect()));
        }
        let array = Arc::new(Int64Array::from(fine));
        let records = RecordBatch::try_from_iter([("id", array as arrow_array::ArrayRef)]).unwrap();
        self.next = to;
        let batch = Batch::new(schema, records)?;
        Ok(Item::Batch(match self.world.has_cursors {
            true => batch.with_cursor(to_cursor(to)),
            false => batch,
        }))
    }
}

fn away(scope: ErrorScope) -> Error {
    Error::new(ErrorKind::Unavailable, "a.away", "away").with_scope(scope)
}

/// What a reading brings.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    ids: Vec<i64>,
    rejected: Vec<String>,
    sequences: Vec<u64>,
    failed: Option<String>,
}

struct Reader {
    world: Arc<World>,
    limit: Option<u64>,
    from: Cursor,
    can_resume: bool,
    retries_max: u32,
    can_open: bool,
    pause_max: Duration,
}

impl Reader {
    fn of(world: World) -> Self {
        Self {
            world: Arc::new(world),
            limit: None,
            from: Cursor::start(),
            can_resume: true,
            retries_max: 2,
            can_open: true,
            pause_max: Duration::ZERO,
        }
    }

    fn read(&self) -> Reading {
        let shared = Shared(Arc::clone(&self.world));
        let emitter = Emitter::new(Box::new(shared.clone()));
        let calls = CallLog::new(Emitter::new(Box::new(std::io::sink())), None);
        let open = || OpenedSource::of_host("numbers", Box::new(shared.clone()), &calls);
        let anew = || {
            self.world.play("open")?;
            Ok(open())
        };
        let mut first = open();
        let source = SharedSource::new(&mut first, self.can_open.then_some(&anew as &OpenAnew<'_>));
        let stop = Stop::default();
        let context = ReadingContext {
            can_resume: self.can_resume,
            retries_max: self.retries_max,
            retry_delay: Duration::ZERO,
            pause: Arc::new(Pause::new(&emitter, &stop, self.pause_max)),
            emitter,
            stop,
        };
        let request = ReadRequest {
            snapshot: Some("then".to_owned()),
            limit: self.limit,
            cursor: self.from.clone(),
            ..ReadRequest::all("numbers")
        };
        let mut reading = Reading::default();
        let outcome = ReconnectingStream::open(&source, request, &context)
            .and_then(|mut stream| take_all(&mut stream, &mut reading));
        reading.failed = outcome.err().map(|failure| failure.error.code);
        reading
    }

    fn requests(&self) -> Vec<(i64, Option<u64>)> {
        self.world.requests.lock().unwrap().clone()
    }
}

fn take_all(stream: &mut impl ItemStream, reading: &mut Reading) -> Result<(), Failure> {
    loop {
        match stream.next_item()? {
            Item::Batch(batch) => {
                let column = batch.records.column(0).as_any();
                let ids = column.downcast_ref::<Int64Array>().unwrap();
                reading.ids.extend(ids.values());
                reading.sequences.push(batch.facts.sequence);
            }
            Item::Rejected(records) => {
                reading
                    .rejected
                    .extend(records.into_iter().map(|record| record.record));
            }
            Item::End => return Ok(()),
            _ => {}
        }
    }
}

fn whole(record_count: i64, rejects_every: i64) -> Reading {
    let is_rejected = |id: &i64| id % rejects_every == rejects_every - 1;
    let (rejected, ids): (Vec<i64>, Vec<i64>) = (0..record_count).partition(is_rejected);
    Reading {
        ids,
        rejected: rejected.iter().map(i64::to_string).collect(),
        sequences: (0..record_count.div_euclid(BATCH).cast_unsigned()).collect(),
        failed: None,
    }
}

#[test]
fn whatever_call_fails_for_now_everything_is_read_once() {
    for scope in [ErrorScope::Transaction, ErrorScope::Session] {
        for (call, last) in [("read", 1), ("next", 22)] {
            for at in 1..=last {
                let mut world = World::new(100, vec![(call, at, away(scope))]);
                world.rejects_every = 7;
                let reader = Reader::of(world);
                assert_eq!(reader.read(), whole(100, 7), "{call} {at} {scope:?}");
                assert_eq!(reader.world.retries(), [(Some(Role::Source), 1)]);
                let opened = u32::from(scope == ErrorScope::Session);
                assert_eq!(reader.world.count("open"), opened, "{call} {at}");
            }
        }
    }
}

#[test]
fn a_stream_goes_on_at_its_cursor_and_not_before() {
    let reader = Reader::of(World::new(100, vec![("next", 7, away(ErrorScope::Session))]));
    assert_eq!(reader.read(), whole(100, i64::MAX));
    assert_eq!(reader.requests(), [(0, None), (20, None)]);
}

#[test]
fn rejected_records_after_the_cursor_are_told_once_however_often_they_come() {
    // Each of three streams fails after the rejected records that follow the first batch, before their batch.
    let faults = [5, 8, 11].map(|at| ("next", at, away(ErrorScope::Transaction)));
    let mut world = World::new(30, faults.to_vec());
    world.rejects_every = 3;
    let reader = Reader {
        retries_max: 3,
        ..Reader::of(world)
    };
    assert_eq!(reader.read(), whole(30, 3));
    assert_eq!(reader.requests().len(), 4);
}

#[test]
fn tries_are_bounded_and_a_cursor_that_is_reached_gives_them_back() {
    let fail = |at: &[u32]| -> Vec<_> {
        at.iter()
            .map(|at| ("next", *at, away(ErrorScope::Transaction)))
            .collect()
    };
    // Each new stream needs its schema, its rejected records and its batch.
    let reader = Reader::of(World::new(40, fail(&[1, 2, 6, 7, 11, 12])));
    assert_eq!(reader.read(), whole(40, i64::MAX));
    let tries: Vec<u32> = reader.world.retries().iter().map(|retry| retry.1).collect();
    assert_eq!(tries, [1, 2, 1, 2, 1, 2]);
    let reader = Reader::of(World::new(40, fail(&[1, 2, 3])));
    assert_eq!(reader.read().failed.as_deref(), Some("a.away"));
    assert_eq!(reader.world.count("next"), 3);
}

#[test]
fn what_cannot_be_gone_on_with_exactly_fails_as_it_was() {
    let fails = |reader: Reader| {
        let reading = reader.read();
        assert_eq!(reading.failed.as_deref(), Some("a.away"), "{reading:?}");
        assert_eq!((reading.ids.len(), reader.world.retries().len()), (10, 0));
    };
    let after_one = || World::new(100, vec![("next", 4, away(ErrorScope::Transaction))]);
    fails(Reader {
        can_resume: false,
        ..Reader::of(after_one())
    });
    let mut world = after_one();
    world.has_cursors = false;
    fails(Reader::of(world));
    fails(Reader {
        can_open: false,
        ..Reader::of(World::new(100, vec![("next", 4, away(ErrorScope::Session))]))
    });
    // From the start on, nothing has to be known.
    let mut world = World::new(100, vec![("next", 3, away(ErrorScope::Transaction))]);
    world.has_cursors = false;
    assert_eq!(Reader::of(world).read(), whole(100, i64::MAX));
}

#[test]
fn an_error_for_good_is_no_reason_to_try_again() {
    let gone = Error::new(ErrorKind::NotFound, "a.snapshot_gone", "gone");
    let reader = Reader::of(World::new(100, vec![("next", 5, gone.clone())]));
    assert_eq!(reader.read().failed.as_deref(), Some("a.snapshot_gone"));
    assert!(reader.world.retries().is_empty());
    // Also if the source takes it for an outage.
    let gone_for_now = Error::new(ErrorKind::Unavailable, "a.snapshot_gone", "gone");
    let reader = Reader::of(World::new(100, vec![("next", 5, gone_for_now)]));
    assert_eq!(reader.read().failed.as_deref(), Some("a.snapshot_gone"));
    assert!(reader.world.retries().is_empty());
    // Found out only when the stream is opened again.
    let faults = vec![("next", 5, away(ErrorScope::Session)), ("read", 2, gone)];
    let reader = Reader::of(World::new(100, faults));
    assert_eq!(reader.read().failed.as_deref(), Some("a.snapshot_gone"));
    assert_eq!(reader.world.retries().len(), 1);
}

#[test]
fn a_sample_stays_as_large_as_it_was_asked_for() {
    for at in 1..=12 {
        let mut world = World::new(100, vec![("next", at, away(ErrorScope::Transaction))]);
        world.rejects_every = 7;
        let reader = Reader {
            limit: Some(50),
            ..Reader::of(world)
        };
        assert_eq!(reader.read(), whole(50, 7), "{at}");
        let requests = reader.requests();
        assert!(
            requests
                .iter()
                .all(|(from, limit)| *limit == Some((50 - from).cast_unsigned())),
            "{requests:?}"
        );
    }
}

#[test]
fn a_reading_that_begins_at_a_cursor_is_taken_up_after_it() {
    let reader = Reader {
        from: to_cursor(60),
        ..Reader::of(World::new(100, vec![("next", 2, away(ErrorScope::Transaction))]))
    };
    assert_eq!(reader.read().ids, (60..100).collect::<Vec<_>>());
    assert_eq!(reader.requests(), [(60, None), (60, None)]);
}

#[test]
fn a_source_that_waits_for_a_repair_costs_no_try() {
    let full = || away(ErrorScope::Session).with_pause();
    let reader = Reader {
        retries_max: 0,
        pause_max: Duration::from_secs(60),
        ..Reader::of(World::new(100, vec![("next", 5, full())]))
    };
    assert_eq!(reader.read(), whole(100, i64::MAX));
    assert!(reader.world.retries().is_empty());
    // Nobody repairs it in time.
    let reader = Reader {
        pause_max: Duration::from_millis(1),
        ..Reader::of(World::new(
            100,
            vec![("next", 5, full()), ("read", 2, full()), ("read", 3, full())],
        ))
    };
    assert_eq!(reader.read().failed.as_deref(), Some("a.away"));
}

#[test]
fn streams_that_lose_their_source_together_open_one_in_its_place() {
    let faults = (1..=4)
        .map(|at| ("next", at, away(ErrorScope::Session)))
        .collect();
    let world = Arc::new(World::new(40, faults));
    let shared = Shared(Arc::clone(&world));
    let emitter = Emitter::new(Box::new(std::io::sink()));
    let calls = CallLog::new(emitter.clone(), None);
    let open = || OpenedSource::of_host("numbers", Box::new(shared.clone()), &calls);
    let anew = || {
        world.play("open")?;
        Ok(open())
    };
    let mut first = open();
    let source = SharedSource::new(&mut first, Some(&anew));
    let stop = Stop::default();
    let context = ReadingContext {
        can_resume: true,
        retries_max: 5,
        retry_delay: Duration::ZERO,
        pause: Arc::new(Pause::new(&emitter, &stop, Duration::ZERO)),
        emitter,
        stop,
    };
    let request = ReadRequest {
        snapshot: Some("then".to_owned()),
        ..ReadRequest::all("numbers")
    };
    let mut streams: Vec<_> = (0..4)
        .map(|_| ReconnectingStream::open(&source, request.clone(), &context).unwrap())
        .collect();
    // All four of the first source fail before any of the next one is asked.
    for stream in &mut streams {
        let failure = stream.stream.next_item().unwrap_err();
        stream.take_up(failure).unwrap();
    }
    for stream in &mut streams {
        let mut reading = Reading::default();
        take_all(stream, &mut reading).unwrap();
        assert_eq!(reading, whole(40, i64::MAX));
    }
    assert_eq!(world.count("open"), 1);
}
