//! `whimbrel rejected export`: rejected records with their values in a file that nobody else may read.
//!
//! The file is whole or not there. Neighbour: `list`, which shows no values.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::{CWD, RenameFlags};
use serde::Serialize;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::{OfNamedRun, open};
use crate::cli::Global;
use crate::cli::output::{print, print_json};
use crate::cli::remembered::PlaceArgs;
use crate::report::figures::counted;
use crate::state::{RejectedFilter, RunId, StateStore};

/// Records that are read at once for a file.
const PAGE_RECORDS: u32 = 500;
/// Owner alone.
const FILE_MODE: u32 = 0o600;

/// Which to write, and where to.
#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub run: OfNamedRun,
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

/// One line of the file.
#[derive(Serialize)]
struct Line<'a> {
    number: u64,
    collection: &'a str,
    id: &'a str,
    code: &'a str,
    message: &'a str,
    /// The phase that refused it: what the data looks like depends on it.
    stage: &'a str,
    state: &'a str,
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited: Option<&'a str>,
}

#[derive(Serialize)]
struct ExportJson<'a> {
    run: &'a RunId,
    file: String,
    #[serde(rename = "totalErrors")]
    total_errors: u64,
}

/// Writes them.
pub fn export(global: &Global, args: &ExportArgs) -> Result<(), Error> {
    let remembered = open(&args.place)?;
    let run = args.run.find(&remembered)?;
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
                ..RejectedFilter::default()
            },
        )?;
        for record in &page.records {
            let line = Line {
                number: record.number,
                collection: &record.collection,
                id: &record.record,
                code: &record.code,
                message: &record.message,
                stage: record.stage.name(),
                state: record.state.name(),
                data: record.data.as_deref(),
                edited: record.edited.as_deref(),
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
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;
    use crate::cli::rejected::tests::refused;
    use crate::cli::remembered::Remembered;
    use crate::state::RunRecord;

    fn args(folder: &TempDir, collection: Option<&str>, force: bool) -> ExportArgs {
        ExportArgs {
            run: OfNamedRun::default(),
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
                               "message": "line is no object", "stage": "extraction", "state": "new", "data": "{\"n\": 7}\u{1b}[2J\n\""})
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
