//! How fast the sink answers those who ask for single records by their keys, as an application would.
//!
//! Looks up records that were just read back, one after the other, with a limit on their number and on the time. It
//! compares nothing. Neighbours: [`crate::phases::verification`] asks for it, [`crate::report`] words it.

use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use whimbrel_plugin_api::capability::SourceCapabilities;
use whimbrel_plugin_api::source::{Item, ReadRequest};
use whimbrel_plugin_api::{Batch, Collection, Error, ErrorKind, Schema};

use crate::config::VerificationLevel;
use crate::control::Stop;
use crate::events::{Failure, ReadLatency};
use crate::loader::observe::OpenedSource;

/// How many records are looked up at a level, at most; their keys are read before.
pub fn looked_up_max(level: VerificationLevel) -> u64 {
    Bounds::of(level).map_or(0, |bounds| bounds.keys_max as u64)
}

/// How much is looked up at a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    /// Records.
    keys_max: usize,
    /// After so much time no further one is begun.
    time_max: Duration,
}

impl Bounds {
    /// None where nothing is looked up. A standard comparison is to stay quick; 200 samples are the fewest of which two lie
    /// above the 99th percentile.
    fn of(level: VerificationLevel) -> Option<Self> {
        let (keys_max, secs) = match level {
            VerificationLevel::None | VerificationLevel::Basic => return None,
            VerificationLevel::Standard => (20, 2),
            VerificationLevel::Comprehensive => (200, 10),
        };
        Some(Self {
            keys_max,
            time_max: Duration::from_secs(secs),
        })
    }
}

/// Looks up records of `collection`, which is as the sink was asked to hold it. `None` if the level asks for none, the sink
/// cannot look up, or the collection has no key or no record.
///
/// # Errors
/// What the sink brings; that it cannot look up is none.
pub fn measure(
    sink: &mut OpenedSource,
    collection: &Collection,
    can: &SourceCapabilities,
    level: VerificationLevel,
    stop: &Stop,
) -> Result<Option<ReadLatency>, Failure> {
    let Some(bounds) = Bounds::of(level).filter(|_| can.lookup && !collection.key.is_empty()) else {
        return Ok(None);
    };
    let attempt =
        keys(sink, collection, bounds, stop).and_then(|keys| look_up(sink, collection, &keys, bounds, stop));
    match attempt {
        Ok(times) => Ok(percentiles(times)),
        // Comparing has said already what the sink lacks.
        Err(failure) if matches!(failure.error.kind, ErrorKind::Unsupported | ErrorKind::NotFound) => {
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Keys of the first records that the sink gives, each as a batch of one.
fn keys(
    sink: &mut OpenedSource,
    collection: &Collection,
    bounds: Bounds,
    stop: &Stop,
) -> Result<Vec<Batch>, Failure> {
    let mut stream = sink.read(&ReadRequest {
        columns: collection.key.clone(),
        expected: Some(collection.schema.clone()),
        limit: Some(bounds.keys_max as u64),
        ..ReadRequest::all(&collection.name)
    })?;
    let mut keys = Vec::new();
    while keys.len() < bounds.keys_max {
        if stop.is_raised() {
            return Err(Error::cancelled().into());
        }
        match stream.next_item()? {
            Item::Batch(batch) => {
                for row in 0..batch.record_count().min(bounds.keys_max - keys.len()) {
                    keys.extend(key_at(&batch, &collection.key, row)?);
                }
            }
            Item::End => break,
            _ => {}
        }
    }
    Ok(keys)
}

/// The key of one record; `None` if the batch lacks a field of it.
fn key_at(batch: &Batch, key: &[String], row: usize) -> Result<Option<Batch>, Failure> {
    let places: Option<Vec<usize>> = key.iter().map(|name| batch.schema.index_of(name)).collect();
    let Some(places) = places else {
        return Ok(None);
    };
    let fields = places.iter().map(|place| batch.schema.fields[*place].clone());
    let schema = std::sync::Arc::new(Schema::new(fields.collect()));
    let columns = places
        .iter()
        .map(|place| batch.records.column(*place).slice(row, 1));
    let records = RecordBatch::try_new(schema.to_arrow(), columns.collect())
        .map_err(|error| Error::internal("the keys to look up do not fit their schema").with_cause(&error))?;
    Ok(Some(Batch::new(schema, records)?))
}

/// The time that each record takes, until its stream ends.
fn look_up(
    sink: &mut OpenedSource,
    collection: &Collection,
    keys: &[Batch],
    bounds: Bounds,
    stop: &Stop,
) -> Result<Vec<Duration>, Failure> {
    let request = ReadRequest {
        expected: Some(collection.schema.clone()),
        ..ReadRequest::all(&collection.name)
    };
    let begun = Instant::now();
    let mut times = Vec::with_capacity(keys.len());
    for key in keys {
        if stop.is_raised() {
            return Err(Error::cancelled().into());
        }
        let asked = Instant::now();
        let mut stream = sink.lookup(&request, key)?;
        while !matches!(stream.next_item()?, Item::End) {}
        times.push(asked.elapsed());
        if begun.elapsed() >= bounds.time_max {
            break;
        }
    }
    Ok(times)
}

/// Each is a time that was measured, the smallest that so many of the others do not exceed (nearest rank).
fn percentiles(mut times: Vec<Duration>) -> Option<ReadLatency> {
    if times.is_empty() {
        return None;
    }
    times.sort_unstable();
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        // A thousandth of a millisecond is finer than any clock on the way.
        (times[rank - 1].as_secs_f64() * 1_000_000.0).round() / 1_000.0
    };
    Some(ReadLatency {
        sample_count: times.len() as u64,
        p50_ms: at(50),
        p95_ms: at(95),
        p99_ms: at(99),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use whimbrel_plugin_api::{Field, RecordType};

    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured_whatever_their_order() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let latency = percentiles(times).unwrap();
        assert_eq!(
            latency,
            ReadLatency {
                sample_count: 200,
                p50_ms: 100.0,
                p95_ms: 190.0,
                p99_ms: 198.0
            }
        );
        let one = percentiles(vec![Duration::from_micros(1_234)]).unwrap();
        assert_eq!((one.p50_ms, one.p99_ms), (1.234, 1.234));
        assert_eq!(percentiles(Vec::new()), None);
    }

    #[test]
    fn only_standard_and_above_look_up() {
        let keys = |level| Bounds::of(level).map(|bounds| bounds.keys_max);
        assert_eq!(keys(VerificationLevel::None), None);
        assert_eq!(keys(VerificationLevel::Basic), None);
        assert_eq!(keys(VerificationLevel::Standard), Some(20));
        assert_eq!(keys(VerificationLevel::Comprehensive), Some(200));
    }

    #[test]
    fn a_key_is_its_fields_in_their_order_and_nothing_else() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("name", RecordType::Text),
            Field::new("part", RecordType::INT64),
            Field::new("id", RecordType::INT64),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["a", "b"])),
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(Int64Array::from(vec![10, 20])),
        ];
        let records = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
        let batch = Batch::new(schema, records).unwrap();
        let key = key_at(&batch, &["id".to_owned(), "part".to_owned()], 1)
            .unwrap()
            .unwrap();
        let names: Vec<&str> = key
            .schema
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        assert_eq!((names, key.record_count()), (vec!["id", "part"], 1));
        assert_eq!(
            **key.records.column(0),
            *(Arc::new(Int64Array::from(vec![20])) as ArrayRef)
        );
        assert!(key_at(&batch, &["gone".to_owned()], 0).unwrap().is_none());
    }
}
