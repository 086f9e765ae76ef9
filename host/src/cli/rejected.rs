//! `whimbrel rejected list / show / export`: the records that a run refused.
//!
//! Their values are shown by `show` and written by `export` only, to a file that nobody else may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rustix::fs::{CWD, RenameFlags};
use serde::Serialize;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::output::{print, print_json};
use super::remembered::{PlaceArgs, Remembered, moment};
use super::tasks::refuse;
use super::{Exit, Global};
use crate::report::PlainTable;
use crate::report::figures::{count, counted, printable};
use crate::state::{Rejected, RejectedFilter, RunId, RunRecord, StateStore};

/// Records that are read at once for a file.
const PAGE_RECORDS: u32 = 500;
/// Owner alone.
const FILE_MODE: u32 = 0o600;

/// What to do with them.
#[derive(Subcommand)]
pub enum RejectedCommand {
    /// List the records that a run refused, without their values.
    List(ListArgs),
    /// Show one of them, with its values.
    Show(ShowArgs),
    /// Write them with their values to a file, one JSON object a line.
    Export(ExportArgs),
}

/// Which to list.
#[derive(Args)]
pub struct ListArgs {
    /// The run, or how its id begins; the newest one if none is named.
    pub run: Option<String>,
    /// Of this collection only.
    #[arg(long, value_name = "COLLECTION")]
    pub collection: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "RECORDS", default_value_t = 50)]
    pub limit: u32,
    /// Where they are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Which to show.
#[derive(Args)]
pub struct ShowArgs {
    /// The run, or how its id begins.
    pub run: String,
    /// The record's number in the list.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub number: u64,
    /// Where it is.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Which to write, and where to.
#[derive(Args)]
pub struct ExportArgs {
    /// The run, or how its id begins; the newest one if none is named.
    pub run: Option<String>,
    /// The file.
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// Of this collection only.
    #[arg(long, value_name = "COLLECTION")]
    pub collection: Option<String>,
    /// Replace the file if it is there.
    #[arg(long)]
    pub force: bool,
    /// Where they are.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Does it.
pub fn rejected(global: &Global, command: &RejectedCommand) -> Exit {
    let done = match command {
        RejectedCommand::List(args) => list(global, args),
        RejectedCommand::Show(args) => show(global, args),
        RejectedCommand::Export(args) => export(global, args),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(error) => refuse(global, "rejected", None, &[error]),
    }
}

#[derive(Serialize)]
struct ListJson<'a> {
    run: &'a RunId,
    job: &'a str,
    #[serde(rename = "totalErrors")]
    total_errors: u64,
    records: Vec<Rejected>,
}

fn list(global: &Global, args: &ListArgs) -> Result<(), Error> {
    let remembered = Remembered::open(&args.place)?;
    let run = remembered.run(args.run.as_deref())?;
    let filter = RejectedFilter {
        collection: args.collection.clone(),
        limit: args.limit,
        ..RejectedFilter::default()
    };
    let page = remembered.store()?.rejected(&run.id, &filter)?;
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
    let mut table = PlainTable::new(&["NUMBER", "COLLECTION", "RECORD", "CODE", "REASON", "STATE"]);
    for record in records {
        table.row([
            record.number.to_string(),
            printable(&record.collection),
            printable(&record.record),
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

fn show(global: &Global, args: &ShowArgs) -> Result<(), Error> {
    let remembered = Remembered::open(&args.place)?;
    let run = remembered.run(Some(&args.run))?;
    let filter = RejectedFilter {
        after: args.number - 1,
        limit: 1,
        with_data: true,
        ..RejectedFilter::default()
    };
    let mut page = remembered.store()?.rejected(&run.id, &filter)?;
    let found = page.records.pop().filter(|record| record.number == args.number);
    let Some(record) = found else {
        let message = format!("run `{}` has no rejected record {}", run.id, args.number);
        return Err(Error::not_found("rejected.unknown", message).with_help(format!(
            "it has {}; `whimbrel rejected list {}` lists them",
            counted(page.total, "rejected record"),
            run.id
        )));
    };
    if global.json {
        print_json(&record);
    } else {
        print(&show_text(&record));
    }
    Ok(())
}

fn show_text(record: &Rejected) -> String {
    let data = record.data.as_deref().map_or_else(
        || "(none could be read)".to_owned(),
        |data| data.lines().map(printable).collect::<Vec<_>>().join("\n"),
    );
    format!(
        "collection: {}\nrecord:     {}\nreason:     {}\ncode:       {}\nat:         {}\nstate:      {}\n\n{data}\n",
        printable(&record.collection),
        printable(&record.record),
        printable(&record.message),
        printable(&record.code),
        moment(record.at),
        record.state.name()
    )
}

/// One line of the file.
#[derive(Serialize)]
struct Line<'a> {
    number: u64,
    collection: &'a str,
    id: &'a str,
    code: &'a str,
    message: &'a str,
    data: Option<&'a str>,
}

#[derive(Serialize)]
struct ExportJson<'a> {
    run: &'a RunId,
    file: String,
    #[serde(rename = "totalErrors")]
    total_errors: u64,
}

fn export(global: &Global, args: &ExportArgs) -> Result<(), Error> {
    let remembered = Remembered::open(&args.place)?;
    let run = remembered.run(args.run.as_deref())?;
    let total = write_file(remembered.store()?, &run.id, args)?;
    if global.json {
        print_json(&ExportJson {
            run: &run.id,
            file: args.file.display().to_string(),
            total_errors: total,
        });
    } else {
        let what = counted(total, "rejected record");
        print(&format!(
            "{what} of run {} written to {}\n",
            run.id,
            args.file.display()
        ));
    }
    Ok(())
}

/// Writes beside the place and moves there, so that the file is whole or not there.
fn write_file(store: &dyn StateStore, run: &RunId, args: &ExportArgs) -> Result<u64, Error> {
    if !args.force && args.file.symlink_metadata().is_ok() {
        return Err(exists(&args.file));
    }
    let fault = |error: io::Error| {
        let message = format!("`{}` cannot be written", args.file.display());
        Error::new(ErrorKind::Permission, "rejected.file", message)
            .with_help("name a file in a folder that is there and that you may write")
            .with_cause(&error)
    };
    let Some(name) = args.file.file_name() else {
        return Err(fault(io::ErrorKind::IsADirectory.into()));
    };
    let beside = args
        .file
        .with_file_name(format!(".{}.{:08x}", name.to_string_lossy(), fastrand::u32(..)));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&beside)
        .map_err(fault)?;
    let written = write_lines(store, run, args.collection.as_deref(), file, &fault)
        .and_then(|total| place(&beside, args).map(|()| total).map_err(fault));
    if written.is_err() {
        // The error is about the file that was asked for; this one is in nobody's way.
        drop(fs::remove_file(&beside));
    }
    written
}

fn write_lines(
    store: &dyn StateStore,
    run: &RunId,
    collection: Option<&str>,
    file: File,
    fault: &dyn Fn(io::Error) -> Error,
) -> Result<u64, Error> {
    let mut out = BufWriter::new(file);
    let (mut after, mut total) = (0, 0);
    loop {
        let page = store.rejected(
            run,
            &RejectedFilter {
                collection: collection.map(str::to_owned),
                after,
                limit: PAGE_RECORDS,
                with_data: true,
            },
        )?;
        for record in &page.records {
            let line = Line {
                number: record.number,
                collection: &record.collection,
                id: &record.record,
                code: &record.code,
                message: &record.message,
                data: record.data.as_deref(),
            };
            serde_json::to_writer(&mut out, &line).map_err(|error| fault(error.into()))?;
            out.write_all(b"\n").map_err(fault)?;
            after = record.number;
            total += 1;
        }
        if page.records.len() < PAGE_RECORDS as usize {
            break;
        }
    }
    let file = out.into_inner().map_err(|error| fault(error.into_error()))?;
    file.sync_all().map_err(fault)?;
    Ok(total)
}

fn place(beside: &Path, args: &ExportArgs) -> io::Result<()> {
    if args.force {
        return fs::rename(beside, &args.file);
    }
    // Nothing that came there meanwhile is replaced. Not every file system has such a rename, and not every one links.
    rustix::fs::renameat_with(CWD, beside, CWD, &args.file, RenameFlags::NOREPLACE).or_else(|_| {
        fs::hard_link(beside, &args.file)?;
        fs::remove_file(beside)
    })
}

fn exists(path: &Path) -> Error {
    Error::new(
        ErrorKind::Exists,
        "rejected.file_exists",
        format!("`{}` is there already", path.display()),
    )
    .with_help("name another file, or give `--force` to replace it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::remembered::fixtures;
    use crate::state::{Counts, News, RejectedState};
    use std::os::unix::fs::PermissionsExt as _;
    use tempfile::TempDir;

    /// A run that refused 1,203 records, every third of `orders`.
    fn refused() -> (TempDir, RunRecord) {
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

    fn args(folder: &TempDir, collection: Option<&str>, force: bool) -> ExportArgs {
        ExportArgs {
            run: None,
            file: folder.path().join("out.ndjson"),
            collection: collection.map(str::to_owned),
            force,
            place: PlaceArgs {
                working_dir: Some(folder.path().to_owned()),
            },
        }
    }

    fn export_to(args: &ExportArgs, run: &RunRecord) -> Result<u64, Error> {
        write_file(
            Remembered::open(&args.place).unwrap().store().unwrap(),
            &run.id,
            args,
        )
    }

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

    #[test]
    fn the_file_has_every_record_as_it_was_for_its_owner_only() {
        let (folder, run) = refused();
        let all = args(&folder, None, false);
        assert_eq!(export_to(&all, &run).unwrap(), 1203);
        assert_eq!(
            fs::metadata(&all.file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let lines: Vec<serde_json::Value> = fs::read_to_string(&all.file)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 1203);
        assert_eq!(
            lines[6],
            serde_json::json!({"number": 7, "collection": "users", "id": "id-7", "code": "files.bad",
                               "message": "line is no object", "data": "{\"n\": 7}\u{1b}[2J\n\""})
        );
        assert_eq!(lines[1]["data"], serde_json::Value::Null);
        assert!(
            lines
                .iter()
                .zip(1..)
                .all(|(line, number)| line["number"] == number)
        );
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_by_force_and_then_closed_to_others() {
        let (folder, run) = refused();
        let path = folder.path().join("out.ndjson");
        fs::write(&path, "mine").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let orders = args(&folder, Some("orders"), false);
        assert_eq!(export_to(&orders, &run).unwrap_err().code, "rejected.file_exists");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(
            export_to(&args(&folder, Some("orders"), true), &run).unwrap(),
            401
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            names.iter().all(|name| !name.to_string_lossy().starts_with('.')),
            "{names:?}"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let (folder, run) = refused();
        let mut missing = args(&folder, None, false);
        missing.file = folder.path().join("no/where.ndjson");
        let error = export_to(&missing, &run).unwrap_err();
        assert_eq!(error.code, "rejected.file");
        assert!(error.message.contains("no/where.ndjson"), "{error}");
    }
}
