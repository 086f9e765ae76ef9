//! `whimbrel rejected discard`: somebody decides to do without records.
//! They stay in the list, and are not sent any more. Neighbour: `selection`, which says which ones.

use clap::Args;
use serde::Serialize;
use whimbrel_plugin_api::Error;

use super::selection::SelectionArgs;
use super::{OfRun, open};
use crate::cli::Global;
use crate::cli::output::{print, print_json};
use crate::cli::remembered::PlaceArgs;
use crate::report::figures::counted;
use crate::state::{RejectedChange, RunId};

/// Which ones.
#[derive(Args)]
pub struct DiscardArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    run: OfRun,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Serialize)]
struct DiscardJson<'a> {
    run: &'a RunId,
    discarded_count: u64,
}

/// Discards them, all or none.
pub fn discard(global: &Global, args: &DiscardArgs) -> Result<(), Error> {
    let remembered = open(&args.place)?;
    let run = args.run.find(&remembered)?;
    let store = remembered.store()?;
    let numbers = args.selection.find(store, &run.id)?;
    let changes: Vec<RejectedChange> = numbers
        .into_iter()
        .map(|number| RejectedChange::Discarded { number })
        .collect();
    let discarded_count = store.change_rejected(&run.id, &changes)?;
    if global.json {
        print_json(&DiscardJson {
            run: &run.id,
            discarded_count,
        });
    } else {
        let what = counted(discarded_count, "rejected record");
        print(&format!("{what} of run {} discarded\n", run.id));
    }
    Ok(())
}
