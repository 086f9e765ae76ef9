//! Runs a chain of transforms between two links, in a thread of its own.
//! Records that will not convert go on as rejected; an empty result still moves the cursor with the next batch.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use whimbrel_plugin_api::{Collection, Cursor};

use super::budget::held_bytes;
use super::counters::CollectionCounters;
use super::link::{LinkItem, Passed, push};
use crate::config::TransformJob;
use crate::control::Stop;
use crate::events::{Failure, Phase};
use crate::transform::{Chain, Transforms};
use crate::verification::tap::Tap;

/// What a transformer works with.
pub struct Work<'a> {
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// What is applied.
    pub jobs: &'a [TransformJob],
    /// As the source has it.
    pub collection: &'a Collection,
    /// What passed.
    pub counters: &'a CollectionCounters,
    /// Where reading began.
    pub from: &'a Cursor,
    /// Ends everything.
    pub stop: &'a Stop,
}

/// Takes from `from` until it ends, and gives to `to`. A `tap` sees all that comes out.
///
/// # Errors
/// What a transform brings.
pub fn transform(
    work: &Work<'_>,
    from: &Receiver<LinkItem>,
    to: &Sender<LinkItem>,
    mut tap: Option<Tap>,
) -> Result<(), Failure> {
    let mut run = || -> Result<(), Failure> {
        let mut chain = Chain::open(work.transforms, work.jobs)?.from_cursor(work.from.clone());
        chain.plan(work.collection)?;
        let mut filtered = 0;
        // The link closes when its reader has ended, with or without saying so.
        for item in from {
            let going = match item {
                LinkItem::Batch(batch, share, Passed { read, snapshots, .. }) => {
                    let after = tap.is_some().then(|| batch.facts.cursor.clone());
                    let begun = Instant::now();
                    let changed = chain.apply(batch)?;
                    work.counters
                        .transform_nanos
                        .fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
                    work.counters
                        .filtered
                        .fetch_add(changed.filtered_count, Ordering::Relaxed);
                    filtered += changed.filtered_count;
                    if let (Some(tap), Some(after)) = (&mut tap, after) {
                        tap.pass(&changed.batches, &after);
                    }
                    let mut going = changed.rejected.is_empty()
                        || push(
                            to,
                            LinkItem::Rejected(Phase::Transformation, changed.rejected),
                            work.stop,
                        );
                    let mut share = Some(share);
                    let last = changed.batches.len().saturating_sub(1);
                    for (number, batch) in changed.batches.into_iter().enumerate() {
                        let held = held_bytes(&batch.records);
                        work.counters
                            .transformed
                            .fetch_add(batch.record_count() as u64, Ordering::Relaxed);
                        let own = match share.take() {
                            Some(mut share) if number == last => {
                                share.resize(held);
                                share
                            }
                            Some(whole) => {
                                let own = whole.another(held);
                                share = Some(whole);
                                own
                            }
                            None => break,
                        };
                        let passed = Passed {
                            read,
                            filtered,
                            snapshots,
                            more: number < last,
                        };
                        going = going && push(to, LinkItem::Batch(batch, own, passed), work.stop);
                    }
                    going
                }
                LinkItem::Grown(schema) => {
                    let collection = chain.grow(&schema)?;
                    push(to, LinkItem::Grown(Arc::new(collection.schema)), work.stop)
                }
                LinkItem::End { cursor, passed } => {
                    let passed = Passed { filtered, ..passed };
                    let going = push(to, LinkItem::End { cursor, passed }, work.stop);
                    if let Some(tap) = &mut tap {
                        tap.end();
                    }
                    going
                }
                other @ LinkItem::Rejected(..) => push(to, other, work.stop),
            };
            if !going {
                break;
            }
        }
        Ok(())
    };
    run().map_err(|failure| failure.in_phase(Phase::Transformation))
}
