//! Rejected records as rows again: those that the sink refused as they are kept, those that were refused before it by way of the transforms.
//! Neighbour: `sending`, which writes the rows.

use std::sync::Arc;

use whimbrel_plugin_api::json_form::RowDecoder;
use whimbrel_plugin_api::{Batch, Error, Schema};

use super::ReplayRecord;
use crate::events::{Failure, Phase};
use crate::phases::rewriting::{Judged, Piece};
use crate::plan::PlannedCollection;
use crate::transform::{Chain, Transforms};

/// The code of data that has to be edited before it can be sent again.
pub const UNFIT: &str = "rejected.unfit_data";

/// The rows to write for `records`, and those that come to no row.
pub(super) fn pieces(
    transforms: &Transforms,
    planned: &PlannedCollection,
    records: &[&ReplayRecord],
) -> Result<(Vec<Piece>, Judged), Failure> {
    let (mut pieces, mut judged) = (Vec::new(), Judged::default());
    let (written, read): (Vec<&ReplayRecord>, Vec<&ReplayRecord>) =
        records.iter().partition(|record| record.stage == Phase::Import);
    let schema = Arc::new(planned.sink.schema.clone());
    let mut decoder = RowDecoder::new(&schema, written.len())?;
    let mut numbers = Vec::new();
    for record in written {
        match decoder.push_line(&record.data) {
            Ok(()) => numbers.push(record.number),
            Err(error) => {
                judged
                    .refused
                    .insert(record.number, unfit(planned, "sink", &error));
            }
        }
    }
    if !numbers.is_empty() {
        let batch = Batch::new(schema, decoder.finish()?)?;
        pieces.push(Piece { numbers, batch });
    }
    if !read.is_empty() {
        let mut chain = Chain::open(transforms, &planned.transforms)?;
        chain.plan(&planned.source)?;
        for record in read {
            transformed(planned, &mut chain, record, &mut pieces, &mut judged)?;
        }
    }
    Ok((pieces, judged))
}

/// A record as the transforms change it.
pub(super) fn transformed(
    planned: &PlannedCollection,
    chain: &mut Chain,
    record: &ReplayRecord,
    pieces: &mut Vec<Piece>,
    judged: &mut Judged,
) -> Result<(), Failure> {
    if record.stage == Phase::Transformation && planned.transforms.len() > 1 && !record.is_edited {
        // Sent as it is, it would be changed twice by those that come before.
        let message = "its data is as one of several transforms had it, and is wanted as the source has it";
        judged
            .refused
            .insert(record.number, (UNFIT.to_owned(), message.to_owned()));
        return Ok(());
    }
    let batch = match decoded(&planned.source.schema, &record.data) {
        Ok(batch) => batch,
        Err(error) => {
            judged
                .refused
                .insert(record.number, unfit(planned, "source", &error));
            return Ok(());
        }
    };
    let changed = chain.apply(batch)?;
    if let Some(refused) = changed.rejected.into_iter().next() {
        judged
            .refused
            .insert(record.number, (refused.code, refused.message));
        return Ok(());
    }
    if changed.batches.is_empty() {
        // Left out on purpose, which is where it belongs.
        judged.taken.insert(record.number);
    }
    pieces.extend(changed.batches.into_iter().map(|batch| Piece {
        numbers: vec![record.number; batch.record_count()],
        batch,
    }));
    Ok(())
}

fn decoded(schema: &Schema, data: &str) -> Result<Batch, Error> {
    let mut decoder = RowDecoder::new(schema, 1)?;
    decoder.push_line(data)?;
    Batch::new(Arc::new(schema.clone()), decoder.finish()?)
}

/// The data of a record is none of its collection, whatever it was refused for at first.
fn unfit(planned: &PlannedCollection, side: &str, error: &Error) -> (String, String) {
    let message = format!(
        "its data is no record of `{}` as the {side} has it: {}",
        planned.source.name, error.message
    );
    (UNFIT.to_owned(), message)
}
