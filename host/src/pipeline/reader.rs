//! Reads one stream to its end and pushes its batches into a link.
//! It waits for the byte budget and for its writer, never for longer than the run lasts. Neighbour: `reconnect` takes a stream up
//! again whose source was away.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;
use whimbrel_plugin_api::source::Item;
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, Schema};

use super::budget::{Budget, held_bytes};
use super::counters::CollectionCounters;
use super::link::{LinkItem, Passed, push};
use super::reconnect::ItemStream;
use crate::config::NewFieldPolicy;
use crate::control::Stop;
use crate::events::{Failure, Phase};
use crate::verification::tap::Tap;

/// What the sink was prepared for.
#[derive(Clone, Copy)]
pub struct Planned<'a> {
    /// The collection of the source.
    pub collection: &'a str,
    /// Its schema.
    pub schema: &'a Schema,
}

/// Reads `stream`, which was opened at the cursor `from`, until it ends, fails, or the run stops. A `tap` sees all of it.
///
/// # Errors
/// `source.schema_changed` if the stream's schema is not the `planned` one; what the stream brings, and `source.unexpected_item`
/// for items that belong to change streams.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a thing of its own, and there is one caller"
)]
pub fn read(
    mut stream: impl ItemStream,
    from: Cursor,
    planned: Planned<'_>,
    on_new_field: NewFieldPolicy,
    link: &Sender<LinkItem>,
    counters: &CollectionCounters,
    budget: &Budget,
    mut tap: Option<Tap>,
    stop: &Stop,
) -> Result<(), Failure> {
    let mut cursor = from;
    let mut passed = Passed::default();
    let mut current = Arc::new(planned.schema.clone());
    while !stop.is_raised() {
        let item = match stream
            .next_item()
            .map_err(|failure| failure.in_phase(Phase::Extraction))?
        {
            Item::Schema(schema) => {
                // A stream that was taken up again may lack fields that have turned up since they were planned.
                let required = if stream.is_taken_up() {
                    planned.schema
                } else {
                    &current
                };
                let required = Planned {
                    schema: required,
                    ..planned
                };
                let has_grown = compare(required, &current, &schema, on_new_field)
                    .map_err(|error| Failure::from(error).in_phase(Phase::Extraction))?;
                if !has_grown {
                    continue;
                }
                current = Arc::clone(&schema);
                if let Some(tap) = &mut tap {
                    tap.grow();
                }
                LinkItem::Grown(schema)
            }
            Item::Heartbeat { cursor: at } => {
                cursor = at;
                continue;
            }
            Item::Batch(batch) => {
                passed.read += batch.record_count() as u64;
                if let Some(snapshot) = &batch.facts.snapshot {
                    passed.snapshots |= 1 << counters.note_snapshot(snapshot);
                }
                counters
                    .read
                    .fetch_add(batch.record_count() as u64, Ordering::Relaxed);
                counters.bytes.fetch_add(batch.facts.bytes, Ordering::Relaxed);
                cursor = batch.facts.cursor.clone();
                // What the maker says may be wrong; what is held in memory is counted here.
                let held = held_bytes(&batch.records);
                let Some(share) = budget.take(held, stop) else {
                    return Ok(());
                };
                if let Some(tap) = &mut tap {
                    tap.pass(std::slice::from_ref(&batch), &cursor);
                }
                LinkItem::Batch(batch, share, passed)
            }
            Item::Rejected(records) => {
                if let Some(tap) = &mut tap {
                    tap.refuse(&records);
                }
                LinkItem::Rejected(Phase::Extraction, records)
            }
            Item::End => {
                push(link, LinkItem::End { cursor, passed }, stop);
                if let Some(tap) = &mut tap {
                    tap.end();
                }
                return Ok(());
            }
            Item::TransactionEnd { .. } | Item::Truncate { .. } => {
                let error = Error::new(
                    ErrorKind::InvalidData,
                    "source.unexpected_item",
                    "the stream of a copy delivered an item of a change stream",
                );
                return Err(Failure::from(error).in_phase(Phase::Extraction));
            }
        };
        if !push(link, item, stop) {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether `found` has fields that `known` lacks. Columns that the sink was not prepared for would be lost, so that is an
/// error unless `on_new_field` says what to do; any other change is one in any case, also that a field of `required` is gone.
fn compare(
    required: Planned<'_>,
    known: &Schema,
    found: &Schema,
    on_new_field: NewFieldPolicy,
) -> Result<bool, Error> {
    let mut has_grown = false;
    let Planned { collection, schema } = required;
    let differs = |what: String| {
        Error::new(
            ErrorKind::InvalidData,
            "source.schema_changed",
            format!("`{collection}` has changed in the source since it was planned: {what}"),
        )
        .with_help("run the job again; it is planned anew")
    };
    for field in &found.fields {
        match known
            .index_of(&field.name)
            .map(|index| &known.fields[index].record_type)
        {
            None if on_new_field == NewFieldPolicy::Fail => {
                return Err(differs(format!("the field `{}` is new", field.name)).with_help(
                    "run the job again, or let `import.on_new_field` say `evolve` or `overflow`",
                ));
            }
            None => has_grown = true,
            Some(of) if *of != field.record_type => {
                let text = format!(
                    "the field `{}` was `{of}` and is `{}`",
                    field.name, field.record_type
                );
                return Err(differs(text));
            }
            Some(_) => {}
        }
    }
    if let Some(missing) = schema
        .fields
        .iter()
        .find(|field| found.index_of(&field.name).is_none())
    {
        return Err(differs(format!("the field `{}` is gone", missing.name)));
    }
    if found.presence && !known.presence {
        return Err(differs("records lack fields that all of them had".to_owned()));
    }
    Ok(has_grown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_plugin_api::{Field, RecordType};

    fn of(schema: &Schema) -> Planned<'_> {
        Planned {
            collection: "orders",
            schema,
        }
    }

    #[test]
    fn a_schema_that_differs_from_the_planned_one_is_refused_with_the_field() {
        let planned = Schema::new(vec![
            Field::new("a", RecordType::Text),
            Field::new("b", RecordType::INT64),
        ]);
        let changed = |fields: Vec<Field>| {
            compare(of(&planned), &planned, &Schema::new(fields), NewFieldPolicy::Fail)
                .map_err(|error| error.message)
        };
        let (a, b) = (
            Field::new("a", RecordType::Text),
            Field::new("b", RecordType::INT64),
        );
        assert_eq!(
            changed(vec![b.clone(), Field::required("a", RecordType::Text)]),
            Ok(false)
        );
        assert!(
            changed(vec![a.clone(), b.clone(), Field::new("c", RecordType::Bool)])
                .unwrap_err()
                .contains("`orders` has changed in the source since it was planned: the field `c` is new")
        );
        assert!(changed(vec![a.clone()]).unwrap_err().contains("`b` is gone"));
        assert!(
            changed(vec![a.clone(), Field::new("b", RecordType::Text)])
                .unwrap_err()
                .contains("was `int64` and is `text`")
        );
        let grown = Schema::new(vec![a.clone(), b.clone(), Field::new("c", RecordType::Bool)]);
        for policy in [NewFieldPolicy::Evolve, NewFieldPolicy::Overflow] {
            assert!(compare(of(&planned), &planned, &grown, policy).unwrap());
            // A stream that begins anew tells of the fields one after the other once more.
            assert!(!compare(of(&planned), &grown, &planned, policy).unwrap());
            assert!(compare(of(&grown), &grown, &planned, policy).is_err());
        }
        let mut sparse = planned.clone();
        sparse.presence = true;
        assert_eq!(
            compare(of(&planned), &planned, &sparse, NewFieldPolicy::Evolve)
                .unwrap_err()
                .code,
            "source.schema_changed"
        );
    }
}
