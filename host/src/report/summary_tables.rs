//! The table of a summary: one line for each collection, only the columns that say something, and a sum.
//! Neighbour: `summary` has the text around it.

use std::collections::HashMap;

use comfy_table::{CellAlignment, Table, presets};

use super::TaskReport;
use super::figures::{count, counted, printable};
use crate::events::{CollectionResult, Comparison, MismatchKind, VerificationResult};

/// Lines that a table has at most: those that are not well come first.
const ROWS_MAX: usize = 40;
/// Letters of a name on a terminal.
const NAME_CHARS_MAX: usize = 40;
/// Differences that the text lists per collection; the JSON has more.
const MISMATCHES_SHOWN_MAX: usize = 5;
/// Characters of a value that are shown; the file of differences has more.
const VALUE_CHARS_MAX: usize = 80;

/// A column: its title, whether it holds numbers, its cell for a collection, its sum.
struct Column<'a> {
    title: &'static str,
    is_number: bool,
    cell: Box<dyn Fn(&CollectionResult) -> String + 'a>,
    sum: String,
}

/// The collections of a report; empty if it has none.
pub fn table(report: &TaskReport, is_cut: bool) -> String {
    let collections = &report.summary.collections;
    if collections.is_empty() {
        return String::new();
    }
    let verified: HashMap<&str, &VerificationResult> = report
        .summary
        .verification
        .iter()
        .map(|result| (result.source.as_str(), result))
        .collect();
    let name = move |name: &str| shown_name(name, is_cut);
    let mut columns = vec![Column {
        title: "COLLECTION",
        is_number: false,
        cell: Box::new(move |collection| name(&collection.source)),
        sum: counted(collections.len() as u64, "collection"),
    }];
    if collections
        .iter()
        .any(|collection| collection.source != collection.sink)
    {
        columns.push(Column {
            title: "INTO",
            is_number: false,
            cell: Box::new(move |collection| name(&collection.sink)),
            sum: String::new(),
        });
    }
    columns.extend(match report.command.as_str() {
        "run" | "resume" | "dry-run" => moved(collections),
        "verify" | "repair" => compared(&verified),
        _ => planned(collections),
    });
    if !verified.is_empty() {
        columns.push(verification(&verified));
    }
    let is_well = |collection: &CollectionResult| {
        let is_equal = verified
            .get(collection.source.as_str())
            .is_none_or(|result| is_sure_to_be_equal(result));
        is_equal && collection.rejected_count == 0 && (collection.complete || !report.is_run())
    };
    drawn(collections, &columns, is_well)
}

fn drawn(
    collections: &[CollectionResult],
    columns: &[Column<'_>],
    is_well: impl Fn(&CollectionResult) -> bool,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(columns.iter().map(|column| column.title));
    let unwell = collections
        .iter()
        .filter(|collection| !is_well(collection))
        .count();
    let mut room_for_well = ROWS_MAX.saturating_sub(unwell);
    let mut room = ROWS_MAX;
    let mut left_out = 0;
    for collection in collections {
        let well = is_well(collection);
        if room == 0 || (well && room_for_well == 0) {
            left_out += 1;
            continue;
        }
        room -= 1;
        room_for_well -= usize::from(well);
        table.add_row(columns.iter().map(|column| (column.cell)(collection)));
    }
    if collections.len() > 1 {
        table.add_row(columns.iter().map(|column| column.sum.clone()));
    }
    for (index, column) in columns.iter().enumerate() {
        if column.is_number
            && let Some(drawn) = table.column_mut(index)
        {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut lines: Vec<String> = table.to_string().lines().map(in_line).collect();
    if left_out > 0 {
        let place = lines.len() - 1;
        lines.insert(place, format!("... and {} more", count(left_out)));
    }
    lines.join("\n") + "\n"
}

/// A line of the table without the blanks around it.
fn in_line(line: &str) -> String {
    line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned()
}

fn numbers<'a>(
    title: &'static str,
    collections: &[CollectionResult],
    number: fn(&CollectionResult) -> u64,
) -> Column<'a> {
    Column {
        title,
        is_number: true,
        cell: Box::new(move |collection| count(number(collection))),
        sum: count(collections.iter().map(number).sum()),
    }
}

fn moved<'a>(collections: &[CollectionResult]) -> Vec<Column<'a>> {
    let mut columns = vec![
        numbers("READ", collections, |collection| collection.read_count),
        numbers("WRITTEN", collections, |collection| collection.written_count),
    ];
    if collections.iter().any(|collection| collection.skipped_count > 0) {
        columns.push(numbers("SKIPPED", collections, |collection| {
            collection.skipped_count
        }));
    }
    if collections.iter().any(|collection| collection.filtered_count > 0) {
        columns.push(numbers("FILTERED", collections, |collection| {
            collection.filtered_count
        }));
    }
    if collections.iter().any(|collection| collection.rejected_count > 0) {
        columns.push(numbers("REJECTED", collections, |collection| {
            collection.rejected_count
        }));
    }
    let complete = collections
        .iter()
        .filter(|collection| collection.complete)
        .count();
    if complete < collections.len() {
        columns.push(Column {
            title: "COMPLETE",
            is_number: false,
            cell: Box::new(|collection| if collection.complete { "yes" } else { "no" }.to_owned()),
            sum: format!(
                "{} of {}",
                count(complete as u64),
                count(collections.len() as u64)
            ),
        });
    }
    columns
}

fn planned<'a>(collections: &[CollectionResult]) -> Vec<Column<'a>> {
    let known: Option<u64> = collections.iter().map(|collection| collection.estimate).sum();
    vec![
        Column {
            title: "RECORDS",
            is_number: true,
            cell: Box::new(|collection| collection.estimate.map_or_else(|| "?".to_owned(), count)),
            sum: known.map_or_else(|| "?".to_owned(), count),
        },
        Column {
            title: "KEY",
            is_number: false,
            cell: Box::new(|collection| printable(&collection.key.join(", "))),
            sum: String::new(),
        },
    ]
}

type Verified<'a> = HashMap<&'a str, &'a VerificationResult>;

fn compared<'a>(verified: &Verified<'a>) -> Vec<Column<'a>> {
    let of = |title, number: fn(&VerificationResult) -> u64| {
        let cells = verified.clone();
        Column {
            title,
            is_number: true,
            cell: Box::new(move |collection| {
                cells
                    .get(collection.source.as_str())
                    .map_or_else(|| "-".to_owned(), |result| count(number(result)))
            }),
            sum: count(verified.values().map(|result| number(result)).sum()),
        }
    };
    vec![
        of("SOURCE", |result| result.source_count),
        of("SINK", |result| result.sink_count),
    ]
}

fn verification<'a>(verified: &Verified<'a>) -> Column<'a> {
    let of = |test: fn(&VerificationResult) -> bool| {
        verified.values().filter(|result| test(result)).count() as u64
    };
    let different = of(|result| result.comparison == Comparison::Different);
    let unsure = of(|result| result.comparison != Comparison::Different && !is_sure_to_be_equal(result));
    let cells = verified.clone();
    Column {
        title: "VERIFIED",
        is_number: false,
        cell: Box::new(move |collection| {
            cells
                .get(collection.source.as_str())
                .map_or_else(|| "-".to_owned(), |result| comparison(result))
        }),
        sum: match (different, unsure) {
            (0, 0) => "all equal".to_owned(),
            (0, unsure) => format!("{} unsure", count(unsure)),
            (different, _) => format!("{} different", count(different)),
        },
    }
}

/// Whether nothing of a collection differs, nothing changed while it was compared, and the source could deliver all of it.
pub fn is_sure_to_be_equal(result: &VerificationResult) -> bool {
    result.comparison == Comparison::Equal
        && result.changed_since_count == 0
        && result.source_unchecked_count == 0
}

/// How the comparison of a collection ended, and how much was compared.
pub fn comparison(result: &VerificationResult) -> String {
    let unsure = [
        (result.changed_since_count, "changed since"),
        (result.source_unchecked_count, "unreadable in the source"),
    ];
    let unsure = unsure.iter().filter(|(records, _)| *records > 0);
    let unsure: Vec<String> = unsure
        .map(|(records, what)| format!("{} {what}", count(*records)))
        .collect();
    let changed = unsure.join(", ");
    let found = match (result.comparison, changed.is_empty()) {
        (Comparison::Equal, true) => "equal".to_owned(),
        (Comparison::Undecided, true) => return "undecided".to_owned(),
        // Of these it cannot be said whether they are equal, so the collection is not called so.
        (Comparison::Equal | Comparison::Undecided, false) => return changed,
        (Comparison::Different, true) => counted(result.mismatch_count, "difference"),
        (Comparison::Different, false) => {
            format!("{}, {changed}", counted(result.mismatch_count, "difference"))
        }
    };
    if result.every_record {
        return match result.comparison {
            Comparison::Different => found,
            _ => format!("{found}, every record"),
        };
    }
    match result.compared_count {
        0 => format!("{found}, counts only"),
        compared => format!("{found}, {} compared", count(compared)),
    }
}

/// The first differences of a collection, and where the others are: `listed_in` is the file that has all of them.
pub fn mismatches(result: &VerificationResult, listed_in: Option<&str>) -> String {
    let mut text = String::new();
    for mismatch in result.mismatches.iter().take(MISMATCHES_SHOWN_MAX) {
        let fields = if mismatch.fields.is_empty() {
            String::new()
        } else {
            format!(" (fields: {})", printable(&mismatch.fields.join(", ")))
        };
        text.push_str(&format!(
            "  {}: {}{fields}\n",
            kind_name(mismatch.kind),
            printable(&mismatch.record)
        ));
        for values in &mismatch.values {
            text.push_str(&format!(
                "    {}: {} in the source, {} in the sink\n",
                printable(&values.field),
                value(values.source.as_deref()),
                value(values.sink.as_deref())
            ));
        }
    }
    let more = more_mismatches(result, MISMATCHES_SHOWN_MAX);
    if more > 0 {
        let how = match listed_in {
            None => " (`--json` lists up to 50)",
            Some(_) => "",
        };
        text.push_str(&format!("  and {} more{how}\n", count(more)));
    }
    if let Some(file) = listed_in {
        text.push_str(&format!("  all of them: {}\n", printable(file)));
    }
    text
}

/// Differences beyond the first `shown` that are listed. What changed since is listed and is none.
pub fn more_mismatches(result: &VerificationResult, shown: usize) -> u64 {
    let listed = result.mismatches.iter().take(shown);
    let listed = listed.filter(|mismatch| mismatch.kind != MismatchKind::ChangedSince);
    result.mismatch_count.saturating_sub(listed.count() as u64)
}

/// A value as it is shown, if somebody has asked for values; `nothing` if the side has none.
pub fn value(text: Option<&str>) -> String {
    let Some(text) = text else {
        return "nothing".to_owned();
    };
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        None => printable(text),
        Some((end, _)) => format!("{}...", printable(&text[..end])),
    }
}

/// The name of a kind of difference.
pub const fn kind_name(kind: MismatchKind) -> &'static str {
    match kind {
        MismatchKind::Schema => "schema",
        MismatchKind::Count => "count",
        MismatchKind::Missing => "missing",
        MismatchKind::Extra => "extra",
        MismatchKind::Different => "different",
        MismatchKind::Unreadable => "unreadable",
        MismatchKind::ChangedSince => "changed since",
    }
}

fn shown_name(name: &str, is_cut: bool) -> String {
    let name = printable(name);
    if !is_cut || name.chars().count() <= NAME_CHARS_MAX {
        return name;
    }
    let kept: String = name.chars().take(NAME_CHARS_MAX - 3).collect();
    format!("{kept}...")
}
