//! `whimbrel rejected list / show / edit / replay / discard / export`: the records that a run refused.
//!
//! Their values are shown by `show` and written by `export` and to an editor only, to files that nobody else may read. Neighbours:
//! [`crate::state`] keeps them, [`super::refused_before`] tells a run that goes on what was refused before it.

mod discard;
mod edit;
mod export;
mod list;
mod made;
mod members;
mod replay;
mod replaying;
mod selection;

use clap::{Args, Subcommand};
use whimbrel_plugin_api::Error;

use super::remembered::{PlaceArgs, Remembered};
use super::tasks::refuse;
use super::{Exit, Global};
use crate::state::RunRecord;

/// What to do with them.
#[derive(Subcommand)]
pub enum RejectedCommand {
    /// List the records that a run refused, without their values.
    List(list::ListArgs),
    /// Show one of them, with its values.
    Show(list::ShowArgs),
    /// Correct the data of one of them, so that it can be sent again.
    Edit(edit::EditArgs),
    /// Send them again, each as it was or as it was corrected.
    Replay(Box<replay::ReplayArgs>),
    /// Decide to do without them.
    Discard(discard::DiscardArgs),
    /// Write them with their values to a file, one JSON object a line.
    Export(export::ExportArgs),
}

/// Does it.
pub fn rejected(global: &Global, command: &RejectedCommand) -> Exit {
    let done = match command {
        RejectedCommand::List(args) => list::list(global, args),
        RejectedCommand::Show(args) => list::show(global, args),
        RejectedCommand::Edit(args) => edit::edit(global, args),
        RejectedCommand::Discard(args) => discard::discard(global, args),
        RejectedCommand::Export(args) => export::export(global, args),
        // It ends with a code of its own.
        RejectedCommand::Replay(args) => return replay::replay(global, args),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(error) => refuse(global, "rejected", None, &[error]),
    }
}

/// Which run's.
#[derive(Args, Debug, Clone, Default)]
pub struct OfRun {
    /// The run that refused them, or how its id begins; the newest one that refused any if none is named.
    #[arg(long = "run", value_name = "RUN")]
    pub id: Option<String>,
}

impl OfRun {
    /// The run.
    ///
    /// # Errors
    /// `run.none`, `run.unknown` and so on.
    pub fn find(&self, remembered: &Remembered) -> Result<RunRecord, Error> {
        find_run(remembered, self.id.as_deref())
    }
}

/// The run whose id begins so; without an id the newest one that has rejected records, or the newest one if none has.
fn find_run(remembered: &Remembered, id: Option<&str>) -> Result<RunRecord, Error> {
    if id.is_some() {
        return remembered.run(id);
    }
    let newest = remembered.store().ok().map(|store| store.newest_with_rejected());
    match newest.transpose()?.flatten() {
        Some(newest) => remembered.run(Some(newest.as_str())),
        None => remembered.run(None),
    }
}

/// Which run, for commands that take it without a name.
#[derive(Args, Debug, Clone, Default)]
pub struct OfNamedRun {
    /// The run, or how its id begins; the newest one that refused records if none is named.
    #[arg(value_name = "RUN")]
    pub first: Option<String>,
    /// The same.
    #[arg(long = "run", value_name = "RUN", conflicts_with = "first")]
    pub id: Option<String>,
}

impl OfNamedRun {
    /// As [`OfRun::find`].
    ///
    /// # Errors
    /// As [`OfRun::find`].
    pub fn find(&self, remembered: &Remembered) -> Result<RunRecord, Error> {
        find_run(remembered, self.first.as_deref().or(self.id.as_deref()))
    }
}

/// Where they are.
fn open(place: &PlaceArgs) -> Result<Remembered, Error> {
    Remembered::open(place)
}

#[cfg(test)]
mod tests {
    //! Rejected records for the tests of the commands.

    use tempfile::TempDir;

    use crate::cli::remembered::fixtures;
    use crate::events::Phase;
    use crate::state::{Counts, News, Rejected, RejectedState, RunRecord};

    /// A run that refused 1,203 records, every third of `orders`.
    pub(super) fn refused() -> (TempDir, RunRecord) {
        let (folder, ids) = fixtures::folder(&["a"]);
        let remembered = fixtures::open(&folder);
        let run = remembered.run(None).unwrap();
        let rejected = (1..=1203).map(|number| Rejected {
            number,
            collection: if number % 3 == 0 { "orders" } else { "users" }.into(),
            record: format!("id-{number}"),
            code: "files.bad".into(),
            message: "line is no object".into(),
            data: (number != 2).then(|| format!("{{\"n\": {number}}}\u{1b}[2J\n\"")),
            edited: None,
            stage: Phase::Extraction,
            partition: "all".into(),
            seq: 1,
            digest: None,
            at: run.started_at,
            state: RejectedState::New,
        });
        let news = News {
            events: Vec::new(),
            rejected: rejected.collect(),
            counts: Counts::default(),
            plugins: Vec::new(),
            heartbeat_at: run.started_at,
        };
        remembered.store().unwrap().record(&ids[0], &news).unwrap();
        (folder, run)
    }
}
