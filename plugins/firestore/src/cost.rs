//! What reading a collection costs, and writing into one: the service bills each document that a query answers.
//!
//! The arithmetic is that of `read::scan`: pages of a fixed size, the last of which is shorter; if it is full, one more request
//! finds nothing, which is billed as one read. A count is billed per thousand index entries. Source of the rules: the service's
//! price list. Neighbours: `discovery` counts, the program sums up and multiplies.

use whimbrel_plugin_api::Cost;
use whimbrel_plugin_api::sink::SinkCost;

use crate::config::FirestoreConfig;
use crate::discovery::Discovered;

/// Index entries that an aggregation looks at for the price of one document read.
const COUNTED_PER_READ: u64 = 1_000;
/// What the prices in the configuration are for, as parts of a million.
const PRICES_PER_MILLION: f64 = 10.0;
/// What is billed.
const UNIT: &str = "document reads";

/// Document reads of a scan whose query finds `documents`, those that it passes over included.
pub(crate) fn scan_reads(documents: u64, page_documents_max: u32) -> u64 {
    let last_page_is_empty = documents.is_multiple_of(page_documents_max.into());
    documents + u64::from(last_page_is_empty)
}

/// Document reads of counting what a query finds.
pub(crate) fn count_reads(documents: u64) -> u64 {
    documents.div_ceil(COUNTED_PER_READ).max(1)
}

/// [`count_reads`] of a collection with `records` whose query takes `reads`; 0 if the query may find others too, whose count would
/// be no count of the collection.
pub(crate) fn count_reads_among(records: u64, reads: u64, page_documents_max: u32) -> u64 {
    // The read for nothing behind a full page looks like one of another collection's document.
    let is_alone = reads == records && !records.is_multiple_of(page_documents_max.into());
    if is_alone { count_reads(records) } else { 0 }
}

/// What looking at a collection costs.
pub(crate) fn cost(found: &Discovered, config: &FirestoreConfig) -> Cost {
    Cost {
        unit: UNIT.to_owned(),
        description_units: found.reads,
        read_units: found.read_units,
        count_units: found.count_units,
        usd_per_million: config.price_per_100k_reads * PRICES_PER_MILLION,
        units_max: config.quota.reads_of_a_day(),
    }
}

/// What each document of a sink's collection costs. `is_alone`: its query finds no documents of others, so that it can be counted.
pub(crate) fn sink_cost(is_alone: bool, config: &FirestoreConfig) -> SinkCost {
    SinkCost {
        unit: UNIT.to_owned(),
        usd_per_million: config.price_per_100k_reads * PRICES_PER_MILLION,
        units_max: config.quota.reads_of_a_day(),
        check_units: 1,
        record_units: 1,
        nothing_units: 1,
        counted_per_unit: if is_alone { COUNTED_PER_READ } else { 0 },
        look_units: 1,
        lane_units: 1,
        ..SinkCost::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_last_page_costs_one_more_read() {
        for (documents, reads) in [
            (0, 1),
            (1, 1),
            (999, 999),
            (1_000, 1_001),
            (1_001, 1_001),
            (3_000, 3_001),
        ] {
            assert_eq!(scan_reads(documents, 1_000), reads, "{documents}");
        }
        assert_eq!(scan_reads(3, 1), 4);
    }

    #[test]
    fn a_count_costs_one_read_per_started_thousand() {
        for (documents, reads) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (50_000, 50)] {
            assert_eq!(count_reads(documents), reads, "{documents}");
        }
    }

    #[test]
    fn what_is_found_together_with_others_cannot_be_counted() {
        assert_eq!(count_reads_among(2_500, 2_500, 1_000), 3);
        assert_eq!(count_reads_among(2_500, 2_501, 1_000), 0);
        // One of another collection, or a page that found nothing.
        assert_eq!(count_reads_among(2_000, 2_001, 1_000), 0);
    }
}
