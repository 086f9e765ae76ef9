//! The counts of both sides, and what was removed, in words.
//! Neighbours: the commands `stats` and `clear`.

use super::TaskReport;
use super::figures::{count, printable};
use super::plain_table::PlainTable;

/// The records of both sides, collection by collection.
pub fn stats_text(report: &TaskReport) -> String {
    let mut rows = PlainTable::new(&["COLLECTION", "INTO", "SOURCE", "SINK", ""]);
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), count);
    let stats = &report.summary.stats;
    for each in stats {
        let state = match (each.in_step, each.sink_count) {
            (true, _) => "in step",
            (false, None) => "not in the sink yet",
            (false, Some(_)) => "differs",
        };
        rows.row([
            printable(&each.source),
            printable(&each.sink),
            number(each.source_count),
            number(each.sink_count),
            state.to_owned(),
        ]);
    }
    let behind = stats.iter().filter(|each| !each.in_step).count();
    let last = match behind {
        0 => "the numbers of both sides are the same".to_owned(),
        1 => "1 collection is not in step".to_owned(),
        many => format!("{many} collections are not in step"),
    };
    format!("{}\n{}: {last}\n", rows.text(&[2, 3]), printable(&report.job))
}

/// What was removed from the sink.
pub fn cleared_text(report: &TaskReport) -> String {
    let mut rows = PlainTable::new(&["COLLECTION", "REMOVED"]);
    for each in &report.summary.cleared {
        let removed = each.removed_count.map_or_else(|| "?".to_owned(), count);
        rows.row([printable(&each.collection), removed]);
    }
    let total: u64 = report
        .summary
        .cleared
        .iter()
        .filter_map(|each| each.removed_count)
        .sum();
    format!(
        "{}\n{}: {} records removed\n",
        rows.text(&[1]),
        printable(&report.job),
        count(total)
    )
}
