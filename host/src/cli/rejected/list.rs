//! `whimbrel rejected list` and `show`: what a run refused.
//! The list has no values; `show` has those of one record.

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use whimbrel_plugin_api::Error;

use super::selection::record;
use super::{OfNamedRun, OfRun, open};
use crate::cli::Global;
use crate::cli::output::{print, print_json};
use crate::cli::remembered::{PlaceArgs, moment};
use crate::events::Phase;
use crate::report::PlainTable;
use crate::report::figures::{count, counted, printable, record_label};
use crate::state::{Rejected, RejectedFilter, RejectedState, RunId, RunRecord};

/// The phases that refuse records.
const STAGES: [Phase; 3] = [Phase::Extraction, Phase::Transformation, Phase::Import];

/// Which to list.
#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    run: OfNamedRun,
    /// Of this collection only.
    #[arg(long, value_name = "COLLECTION")]
    collection: Option<String>,
    /// In this state only.
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(RejectedState::ALL.map(RejectedState::name)))]
    state: Option<String>,
    /// Refused by this phase only.
    #[arg(long, value_name = "PHASE", value_parser = PossibleValuesParser::new(STAGES.map(Phase::name)))]
    stage: Option<String>,
    /// With this code only.
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "RECORDS", default_value_t = 50)]
    limit: u32,
    /// Where they are.
    #[command(flatten)]
    place: PlaceArgs,
}

impl ListArgs {
    fn filter(&self) -> RejectedFilter {
        RejectedFilter {
            collection: self.collection.clone(),
            state: self.state.as_deref().and_then(RejectedState::of_name),
            stage: STAGES
                .into_iter()
                .find(|stage| self.stage.as_deref() == Some(stage.name())),
            code: self.code.clone(),
            limit: self.limit,
            ..RejectedFilter::default()
        }
    }
}

/// Which to show.
#[derive(Args)]
pub struct ShowArgs {
    /// The record's number in the list.
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    number: u64,
    #[command(flatten)]
    run: OfRun,
    /// Where it is.
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Serialize)]
struct ListJson<'a> {
    run: &'a RunId,
    job: &'a str,
    #[serde(rename = "totalErrors")]
    total_errors: u64,
    records: Vec<Rejected>,
}

/// Lists them.
pub fn list(global: &Global, args: &ListArgs) -> Result<(), Error> {
    let remembered = open(&args.place)?;
    let run = args.run.find(&remembered)?;
    let page = remembered.store()?.rejected(&run.id, &args.filter())?;
    if global.json {
        print_json(&ListJson {
            run: &run.id,
            job: &run.job.name,
            total_errors: page.total,
            records: page.records,
        });
    } else {
        print(&list_text(&run, page.total, &page.records));
    }
    Ok(())
}

fn list_text(run: &RunRecord, total: u64, records: &[Rejected]) -> String {
    let whose = format!("run {} of {}", run.id, printable(&run.job.name));
    if total == 0 {
        return format!("{whose} has no rejected records\n");
    }
    let mut table = PlainTable::new(&[
        "NUMBER",
        "COLLECTION",
        "RECORD",
        "STAGE",
        "CODE",
        "REASON",
        "STATE",
    ]);
    for record in records {
        table.row([
            record.number.to_string(),
            printable(&record.collection),
            record_label(&record.record),
            record.stage.name().to_owned(),
            printable(&record.code),
            printable(&record.message),
            record.state.name().to_owned(),
        ]);
    }
    let more = if total > records.len() as u64 {
        format!(
            "; the first {} are shown, `--limit` shows more",
            count(records.len() as u64)
        )
    } else {
        String::new()
    };
    format!(
        "{}\n{whose}: {}{more}\n",
        table.text(&[0]),
        counted(total, "rejected record")
    )
}

/// Shows one.
pub fn show(global: &Global, args: &ShowArgs) -> Result<(), Error> {
    let remembered = open(&args.place)?;
    let run = args.run.find(&remembered)?;
    let record = record(remembered.store()?, &run.id, args.number, true)?;
    if global.json {
        print_json(&record);
    } else {
        print(&show_text(&record));
    }
    Ok(())
}

fn show_text(record: &Rejected) -> String {
    let lines = |data: &str| data.lines().map(printable).collect::<Vec<_>>().join("\n");
    let data = record
        .data
        .as_deref()
        .map_or_else(|| "(none could be read)".to_owned(), lines);
    let edited = record
        .edited
        .as_deref()
        .map_or_else(String::new, |edited| format!("\nedited:\n{}\n", lines(edited)));
    format!(
        "collection: {}\nrecord:     {}\nreason:     {}\ncode:       {}\nstage:      {}\nat:         {}\nstate:      {}\n\n{data}\n{edited}",
        printable(&record.collection),
        printable(&record.record),
        printable(&record.message),
        printable(&record.code),
        record.stage.name(),
        moment(record.at),
        record.state.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rejected::tests::refused;
    use crate::cli::remembered::fixtures;

    #[test]
    fn the_list_has_the_total_and_no_values() {
        let (folder, run) = refused();
        let remembered = fixtures::open(&folder);
        let filter = RejectedFilter {
            limit: 50,
            ..RejectedFilter::default()
        };
        let page = remembered.store().unwrap().rejected(&run.id, &filter).unwrap();
        let text = list_text(&run, page.total, &page.records);
        assert_eq!(text.lines().count(), 1 + 50 + 2);
        let last = text.lines().last().unwrap();
        assert!(
            last.ends_with("of a: 1,203 rejected records; the first 50 are shown, `--limit` shows more"),
            "{last}"
        );
        assert!(!text.contains("\"n\""));
        let json = ListJson {
            run: &run.id,
            job: "a",
            total_errors: page.total,
            records: page.records,
        };
        let json = serde_json::to_value(&json).unwrap();
        assert_eq!(json["totalErrors"], 1203);
        assert_eq!(json["records"][0].get("data"), None);
        assert_eq!(
            list_text(&run, 0, &[]),
            format!("run {} of a has no rejected records\n", run.id)
        );
    }

    #[test]
    fn one_record_is_shown_with_its_values_and_steers_no_terminal() {
        let (folder, run) = refused();
        let show = RejectedFilter {
            after: 6,
            limit: 1,
            with_data: true,
            ..RejectedFilter::default()
        };
        let page = fixtures::open(&folder)
            .store()
            .unwrap()
            .rejected(&run.id, &show)
            .unwrap();
        let text = show_text(&page.records[0]);
        assert!(
            text.contains("record:     id-7\n") && text.contains("{\"n\": 7}\u{fffd}[2J\n\"\n"),
            "{text}"
        );
    }
}
