//! Which rejected records somebody means: by their numbers, or all about which something can still be done.
//! Not here: what is done about them.

use clap::Args;
use whimbrel_plugin_api::Error;

use crate::report::figures::counted;
use crate::state::{Rejected, RejectedFilter, RunId, StateStore};

/// Records that are looked at at once.
const PAGE_RECORDS: u32 = 5_000;

/// Which ones.
#[derive(Args, Debug, Clone, Default)]
pub struct SelectionArgs {
    /// The records' numbers in the list.
    #[arg(value_name = "NUMBER", required_unless_present = "all", value_parser = clap::value_parser!(u64).range(1..))]
    pub numbers: Vec<u64>,
    /// All that were neither discarded nor replayed.
    #[arg(long, conflicts_with = "numbers")]
    pub all: bool,
    /// Of this collection only.
    #[arg(long, value_name = "COLLECTION", requires = "all")]
    pub collection: Option<String>,
}

impl SelectionArgs {
    /// Their numbers, in order.
    ///
    /// # Errors
    /// `rejected.unknown`, and `rejected.settled` for one that was discarded or replayed.
    pub fn find(&self, store: &dyn StateStore, run: &RunId) -> Result<Vec<u64>, Error> {
        if !self.all {
            let mut numbers = self.numbers.clone();
            numbers.sort_unstable();
            numbers.dedup();
            for number in &numbers {
                unsettled(store, run, *number, false)?;
            }
            return Ok(numbers);
        }
        let mut filter = RejectedFilter {
            collection: self.collection.clone(),
            limit: PAGE_RECORDS,
            ..RejectedFilter::default()
        };
        let mut numbers = Vec::new();
        loop {
            let page = store.rejected(run, &filter)?.records;
            let Some(last) = page.last() else {
                return Ok(numbers);
            };
            filter.after = last.number;
            let open = page.iter().filter(|record| !record.state.is_settled());
            numbers.extend(open.map(|record| record.number));
        }
    }
}

/// Record number `number` of a run.
///
/// # Errors
/// `rejected.unknown`.
pub fn record(store: &dyn StateStore, run: &RunId, number: u64, with_data: bool) -> Result<Rejected, Error> {
    let filter = RejectedFilter {
        after: number.saturating_sub(1),
        limit: 1,
        with_data,
        ..RejectedFilter::default()
    };
    let mut page = store.rejected(run, &filter)?;
    let found = page.records.pop().filter(|record| record.number == number);
    found.ok_or_else(|| {
        let message = format!("run `{run}` has no rejected record {number}");
        Error::not_found("rejected.unknown", message).with_help(format!(
            "it has {}; `whimbrel rejected list --run {run}` lists them",
            counted(page.total, "rejected record"),
        ))
    })
}

/// The same, if something can still be done about it.
///
/// # Errors
/// `rejected.unknown`, `rejected.settled`.
pub fn unsettled(
    store: &dyn StateStore,
    run: &RunId,
    number: u64,
    with_data: bool,
) -> Result<Rejected, Error> {
    let record = record(store, run, number, with_data)?;
    if record.state.is_settled() {
        let state = record.state.name();
        return Err(Error::config(
            "rejected.settled",
            format!(
                "rejected record {number} of run `{run}` is {state}; nothing more is to be done about it"
            ),
        )
        .with_help(format!(
            "`whimbrel rejected list --run {run} --state new` lists those that are open"
        )));
    }
    Ok(record)
}
