//! Compares one collection: a straight line over reading, unlike buckets, records at fault, a second look and the list.
//! Each of these has a file of its own; here they are put together, and what they count becomes the result.

use std::path::Path;
use std::time::Instant;

use whimbrel_plugin_api::Collection;
use whimbrel_plugin_api::capability::SourceCapabilities;
use whimbrel_plugin_api::source::CountRequest;

use super::access::Access;
use super::both::{BothRead, Reading, remove};
use super::finding::Keys;
use super::listing::{Listing, note};
use super::looking::{Counts, DIFFERENCES_MAX, Looking, suspects_max, unnamed};
use super::outcome::digests_of;
use super::reading::SideDigests;
use super::second_look::BothSides;
use super::seen::Eyes;
use super::suspect::Rules;
use crate::config::VerificationLevel;
use crate::control::Stop;
use crate::events::{Failure, MismatchKind, VerificationResult};
use crate::loader::observe::OpenedSource;
use crate::verification::compare::{Comparable, Follow};
use crate::verification::digest::Recipe;
use crate::verification::pairs::{self, Difference, differences, is_torn};

/// How a comprehensive comparison is made.
pub struct FullSettings<'a> {
    /// A folder of this collection alone, for what is kept while it is compared. What an earlier comparison has left there is
    /// gone on with; it is removed at the end.
    pub work_folder: &'a Path,
    /// The file that lists all differences, if there are any.
    pub results_file: &'a Path,
    /// Whether values are listed too.
    pub shows_values: bool,
    /// Parts of a side that are read at the same time.
    pub partitions_parallel: u32,
    /// What the source can do.
    pub source_can: SourceCapabilities,
    /// What the sink can do when it is read.
    pub sink_can: SourceCapabilities,
    /// Octets that pairs may take in memory.
    pub memory_bytes_max: usize,
}

/// Digests that were made while records were copied, so that the source need not be read again.
#[derive(Debug, Default)]
pub struct Tapped {
    /// As the source gave the records.
    pub extracted: SideDigests,
    /// As the sink was given them.
    pub transformed: SideDigests,
}

/// Compares a collection. With `tapped` the source is only read for the records that differ.
///
/// # Errors
/// What either side brings: then it could not be compared. A collection that the sink lacks is a difference.
#[expect(
    clippy::too_many_arguments,
    reason = "what both sides are, and what is known of them"
)]
pub fn compare(
    source: &mut OpenedSource,
    sink: &mut OpenedSource,
    both: &Comparable<'_>,
    tapped: Option<Tapped>,
    settings: &FullSettings<'_>,
    follow: &mut Follow<'_>,
    stop: &Stop,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<VerificationResult, Failure> {
    let begun = Instant::now();
    // All parts of the source are read as of one instant, also those that are read after a kill: the second look settles
    // what was changed between that and the instant before.
    let snapshot = match &tapped {
        None if settings.source_can.snapshot => source.open_snapshot()?,
        _ => None,
    };
    let comparison = Comparison {
        both,
        settings,
        snapshot: snapshot.clone(),
        stop,
        progress,
    };
    let outcome = comparison.run(source, sink, tapped, follow);
    if let Some(snapshot) = snapshot {
        // That a token cannot be let go costs the source room, not the comparison its result.
        drop(source.close_snapshot(&snapshot));
    }
    let mut result = match outcome {
        // What is torn would stand in the way of the next comparison as well.
        Err(failure) if is_torn(&failure.error) => {
            remove(settings.work_folder)?;
            return Err(failure);
        }
        outcome => outcome?,
    };
    remove(settings.work_folder)?;
    result.conclude();
    result.seconds = begun.elapsed().as_secs_f64();
    Ok(result)
}

/// What does not change while a collection is compared.
struct Comparison<'a> {
    both: &'a Comparable<'a>,
    settings: &'a FullSettings<'a>,
    snapshot: Option<String>,
    stop: &'a Stop,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Comparison<'_> {
    fn run(
        &self,
        source: &mut OpenedSource,
        sink: &mut OpenedSource,
        tapped: Option<Tapped>,
        follow: &mut Follow<'_>,
    ) -> Result<VerificationResult, Failure> {
        let both = self.both;
        let mut listing = Listing::new(self.settings.results_file)?;
        let mut result = VerificationResult::begun(
            &both.source.name,
            &both.sink.name,
            VerificationLevel::Comprehensive,
        );
        let (extracted, transformed) = match tapped {
            Some(tapped) => (Some(tapped.extracted), Some(tapped.transformed)),
            None => (None, None),
        };
        let reading = Reading {
            both,
            settings: self.settings,
            snapshot: self.snapshot.clone(),
            stop: self.stop,
            progress: self.progress,
        };
        let mut read = reading.read_both(source, sink, transformed, follow)?;
        let Some(ours) = read.sink.take() else {
            result.source_count = self.source_count(source)?;
            let text = format!("the sink has no collection `{}`", both.sink.name);
            listing.add(note(MismatchKind::Schema, text, Vec::new()), None)?;
            listing.end(&mut result)?;
            return Ok(result);
        };
        if !ours.missing_fields.is_empty() {
            let text = "the sink lacks fields".to_owned();
            listing.add(
                note(MismatchKind::Schema, text, ours.missing_fields.clone()),
                None,
            )?;
        }
        let counts = self.records_at_fault(source, sink, &read, &ours, &mut listing)?;
        listing.end(&mut result)?;
        self.count(&read, &ours, &counts, &mut result);
        let mut digests = digests_of(both, &read.recipe, extracted.as_ref(), &read.source, &ours);
        if counts.settled > 0 {
            // They are those of the first look, and the sink is not as it was then.
            digests.read_back = None;
        }
        result.digests = Some(digests);
        Ok(result)
    }

    /// How many records the source has, if that is known without reading them.
    fn source_count(&self, source: &mut OpenedSource) -> Result<u64, Failure> {
        if let Some(count) = self.both.counted {
            return Ok(count);
        }
        let estimate = &self.both.source.estimate;
        let known = estimate.record_count.filter(|_| estimate.exact);
        let asked = CountRequest {
            collection: self.both.source.name.clone(),
            snapshot: self.snapshot.clone(),
        };
        Ok(match known {
            Some(count) => count,
            None => source.count(&asked)?.unwrap_or_default(),
        })
    }

    fn records_at_fault(
        &self,
        source: &mut OpenedSource,
        sink: &mut OpenedSource,
        read: &BothRead,
        ours: &SideDigests,
        listing: &mut Listing<'_>,
    ) -> Result<Counts, Failure> {
        let both = self.both;
        let is_keyed = !read.recipe.key.is_empty();
        let unequal = read.source.buckets.unequal(&ours.buckets);
        let rules = pairs::Rules {
            is_keyed,
            left_out: both.left_out,
            is_sample: both.sample.is_some(),
            memory_bytes_max: self.settings.memory_bytes_max,
            work_folder: self.settings.work_folder,
        };
        let mut looking = Looking {
            sides: self.both_sides(source, sink, read, ours),
            rules: Rules {
                schema: &read.recipe.schema,
                is_keyed,
                is_sample: both.sample.is_some(),
                left_out: both.left_out,
            },
            suspects_max: suspects_max(read.recipe.schema.fields.len(), self.settings.shows_values),
            listing,
            counts: Counts::default(),
            unnamed: unnamed(&ours.unreadable),
        };
        let mut waiting: Vec<Difference> = Vec::new();
        // What a look brings says more than the error that ends the search.
        let mut failed: Option<Failure> = None;
        let searched = differences(&read.source.files, &ours.files, &unequal, &rules, &mut |found| {
            waiting.push(found);
            if waiting.len() < DIFFERENCES_MAX {
                return Ok(());
            }
            looking.look(std::mem::take(&mut waiting)).map_err(|failure| {
                let error = failure.error.clone();
                failed = Some(failure);
                error
            })
        });
        if let Some(failure) = failed {
            return Err(failure);
        }
        let tally = searched?;
        looking.look(waiting)?;
        Ok(Counts {
            tally,
            ..looking.end(ours.unreadable_count)?
        })
    }

    /// Both sides as their records at fault are looked at.
    fn both_sides<'s>(
        &'s self,
        source: &'s mut OpenedSource,
        sink: &'s mut OpenedSource,
        read: &'s BothRead,
        ours: &'s SideDigests,
    ) -> BothSides<'s> {
        let both = self.both;
        BothSides {
            source: Access {
                opened: source,
                request: read.source_request.clone(),
                snapshot: self.snapshot.clone(),
                can: &self.settings.source_can,
                transformed: Some((both.source, both.transforms, both.jobs)),
                key: lookup_key(&both.source.key, &read.recipe),
                eyes: self.eyes(&read.recipe),
                stop: self.stop,
            },
            sink: Access {
                opened: sink,
                request: read.sink_request.clone(),
                snapshot: None,
                can: &self.settings.sink_can,
                transformed: None,
                key: lookup_key(&read.recipe.key, &read.recipe),
                eyes: self.eyes(&read.recipe),
                stop: self.stop,
            },
            source_digests: &read.source,
            sink_digests: ours,
            keys: Keys {
                source: &both.source.key,
                sink: &read.recipe.key,
                are_same: both.jobs.is_empty() && is_same_key(both.source, &read.recipe),
            },
            is_keyed: !read.recipe.key.is_empty(),
        }
    }

    fn eyes<'r>(&self, recipe: &'r Recipe) -> Eyes<'r> {
        Eyes {
            recipe,
            shows_values: self.settings.shows_values,
        }
    }

    fn count(&self, read: &BothRead, ours: &SideDigests, counts: &Counts, result: &mut VerificationResult) {
        let source_count = read.source.buckets.total().count;
        let tally = counts.tally;
        result.source_count = source_count;
        let unreadable = read.source.unreadable_count + read.source.refused_count;
        let explained = match read.is_tapped {
            // They were met by the copy, which has told all of them.
            true => unreadable,
            false => self.both.left_out.unseen_count(),
        };
        result.note_source_unreadable(unreadable, explained);
        result.sink_unreadable_count = ours.unreadable_count;
        result.left_out_count = tally.left_out_count;
        result.duplicate_key_count = tally.duplicate_key_count;
        result.compared_count = source_count
            .saturating_sub(tally.left_out_count)
            .saturating_sub(tally.duplicate_key_count);
        result.sink_count = match self.both.sample {
            // What was there before, or came from elsewhere, is not part of the sample.
            Some(_) => result.compared_count.saturating_sub(counts.missing),
            None => ours
                .buckets
                .total()
                .count
                .saturating_add_signed(counts.settled_more),
        };
        result.settled_count = counts.settled;
        result.every_record = true;
        result.losses.clone_from(&read.source.losses);
        result.equal_after_loss_count = read.source.lossy_record_count.saturating_sub(counts.lossy);
    }
}

/// `key`, if records can be looked up by it: not where a declared loss changes its values.
fn lookup_key(key: &[String], recipe: &Recipe) -> Vec<String> {
    let is_lossy = recipe.losses.iter().any(|loss| recipe.key.contains(&loss.field));
    if is_lossy { Vec::new() } else { key.to_vec() }
}

fn is_same_key(source: &Collection, recipe: &Recipe) -> bool {
    source.key.len() == recipe.key.len() && source.key.iter().all(|name| recipe.key.contains(name))
}
