//! `whimbrel rejected edit`: corrects the data of a rejected record. The original stays beside it.
//!
//! Changed are members that are named, or the whole by a file or an editor. What is known here of the record's shape is that it is a
//! JSON object; whether it is one of its collection is found when it is sent again.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde::Serialize;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::members::Members;
use super::selection::unsettled;
use super::{OfRun, open};
use crate::cli::Global;
use crate::cli::output::{print, print_json};
use crate::cli::remembered::PlaceArgs;
use crate::state::{Rejected, RejectedChange, RejectedState, RunId};

/// A record that was corrected is at most so large; what a system refuses for its size is smaller.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Owner alone.
const FILE_MODE: u32 = 0o600;

/// Which one, and how.
#[derive(Args)]
pub struct EditArgs {
    /// The record's number in the list.
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    number: u64,
    /// Give a field a value, which is JSON; may be given several times.
    #[arg(long, value_name = "FIELD=JSON")]
    set: Vec<String>,
    /// Take a field away; may be given several times.
    #[arg(long, value_name = "FIELD")]
    unset: Vec<String>,
    /// Take the whole record, a JSON object, from this file; `-` is the standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["set", "unset"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    run: OfRun,
    /// Where it is.
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Serialize)]
struct EditJson<'a> {
    run: &'a RunId,
    number: u64,
    state: &'a str,
}

/// Corrects it.
pub fn edit(global: &Global, args: &EditArgs) -> Result<(), Error> {
    let remembered = open(&args.place)?;
    let run = args.run.find(&remembered)?;
    let store = remembered.store()?;
    let record = unsettled(store, &run.id, args.number, true)?;
    let data = if let Some(file) = &args.file {
        Members::of(&read(file)?)?.line()
    } else if !args.set.is_empty() || !args.unset.is_empty() {
        changed(&record, &args.set, &args.unset)?
    } else {
        let folder = remembered.workspace.root();
        by_editor(&record, folder)?
    };
    let changes = [RejectedChange::Edited {
        number: args.number,
        data,
    }];
    if store.change_rejected(&run.id, &changes)? == 0 {
        // Somebody was faster.
        unsettled(store, &run.id, args.number, false)?;
    }
    if global.json {
        print_json(&EditJson {
            run: &run.id,
            number: args.number,
            state: RejectedState::Edited.name(),
        });
    } else {
        print(&format!(
            "rejected record {0} of run {1} edited; `whimbrel rejected replay {0} --run {1}` sends it again\n",
            args.number, run.id
        ));
    }
    Ok(())
}

/// The record with single fields changed.
fn changed(record: &Rejected, set: &[String], unset: &[String]) -> Result<String, Error> {
    let Some(data) = current(record) else {
        let message = format!(
            "nothing could be read of rejected record {}, so it has no fields",
            record.number
        );
        return Err(Error::invalid_data("rejected.no_data", message)
            .with_help("give the whole record with `--file FILE`"));
    };
    let mut members =
        Members::of(data).map_err(|error| error.with_help("give the whole record with `--file FILE`"))?;
    for setting in set {
        let Some((name, value)) = setting.split_once('=') else {
            return Err(Error::config(
                "rejected.bad_setting",
                "what `--set` is given has no `=` between field and value",
            )
            .with_help("such as `--set 'name=\"Ann\"'` or `--set age=7`"));
        };
        members.set(name, value)?;
    }
    for name in unset {
        if !members.remove(name) {
            let message = format!("rejected record {} has no field `{name}`", record.number);
            return Err(Error::config("rejected.no_field", message));
        }
    }
    Ok(members.line())
}

/// As it would be sent now.
fn current(record: &Rejected) -> Option<&str> {
    record.edited.as_deref().or(record.data.as_deref())
}

fn read(file: &Path) -> Result<String, Error> {
    let fault = |error: io::Error| {
        let message = format!("`{}` cannot be read", file.display());
        Error::new(ErrorKind::NotFound, "rejected.file", message).with_cause(&error)
    };
    let mut text = String::new();
    let mut limited: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock().take(FILE_BYTES_MAX + 1))
    } else {
        Box::new(fs::File::open(file).map_err(fault)?.take(FILE_BYTES_MAX + 1))
    };
    limited.read_to_string(&mut text).map_err(fault)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = format!("`{}` is larger than {FILE_BYTES_MAX} octets", file.display());
        return Err(Error::invalid_data("rejected.too_large", message));
    }
    Ok(text)
}

/// The record as somebody leaves it in an editor.
fn by_editor(record: &Rejected, folder: &Path) -> Result<String, Error> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|editor| !editor.is_empty());
    let (Some(editor), true, true) = (editor, io::stdin().is_terminal(), io::stdout().is_terminal()) else {
        return Err(Error::config(
            "rejected.nothing_to_change",
            "nothing is said to be changed, and there is no terminal with an editor",
        )
        .with_help(
            "give `--set FIELD=JSON`, `--unset FIELD` or `--file FILE`, or name an editor in EDITOR",
        ));
    };
    let path = folder.join(format!(
        ".rejected-{}-{:08x}.json",
        record.number,
        fastrand::u32(..)
    ));
    let edited = write_for_editor(record, &path)
        .and_then(|()| {
            // The editor may be a command with arguments, which a shell takes apart.
            let script = format!("{} \"$1\"", editor.to_string_lossy());
            Command::new("sh").args(["-c", &script, "sh"]).arg(&path).status()
        })
        .map_err(|error| editor_failed().with_cause(&error))
        .and_then(|status| {
            if status.success() {
                read(&path)
            } else {
                Err(editor_failed())
            }
        });
    // It holds values, so it goes whatever became of it.
    drop(fs::remove_file(&path));
    Ok(Members::of(&edited?)?.line())
}

fn write_for_editor(record: &Rejected, path: &Path) -> io::Result<()> {
    let text = current(record).unwrap_or("{}");
    let text = Members::of(text).map_or_else(|_| text.to_owned(), |members| members.lines());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")
}

fn editor_failed() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "rejected.editor",
        "the editor did not end well, so nothing was changed",
    )
    .with_help("`--set FIELD=JSON` and `--file FILE` need no editor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Phase;

    fn record(data: Option<&str>, edited: Option<&str>) -> Rejected {
        Rejected {
            number: 3,
            collection: "c".into(),
            record: "r".into(),
            code: "a.b".into(),
            message: "m".into(),
            data: data.map(str::to_owned),
            edited: edited.map(str::to_owned),
            stage: Phase::Import,
            partition: "all".into(),
            seq: 1,
            digest: None,
            at: chrono::Utc::now(),
            state: RejectedState::New,
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn fields_are_changed_in_what_would_be_sent_now() {
        let record = record(Some("{\"a\":1}"), Some("{\"a\":9007199254740993,\"b\":\"=\"}"));
        let edited = changed(&record, &texts(&["b=\"x=y\"", "c=[1, null]"]), &[]).unwrap();
        assert_eq!(edited, "{\"a\":9007199254740993,\"b\":\"x=y\",\"c\":[1, null]}");
        assert_eq!(
            changed(&record, &[], &texts(&["b"])).unwrap(),
            "{\"a\":9007199254740993}"
        );
    }

    #[test]
    fn what_cannot_be_changed_is_said_with_the_way_out() {
        let code = |data: Option<&str>, set: &[&str], unset: &[&str]| {
            let error = changed(&record(data, None), &texts(set), &texts(unset)).unwrap_err();
            (error.code, error.help.unwrap_or_default())
        };
        for (data, expected) in [
            (None, "rejected.no_data"),
            (Some("1;Ann"), "rejected.not_an_object"),
        ] {
            let (code, help) = code(data, &["a=1"], &[]);
            assert_eq!(code, expected);
            assert!(help.contains("--file"), "{help}");
        }
        assert_eq!(code(Some("{}"), &["a"], &[]).0, "rejected.bad_setting");
        assert_eq!(code(Some("{}"), &["a=b"], &[]).0, "rejected.bad_value");
        assert_eq!(code(Some("{}"), &[], &["a"]).0, "rejected.no_field");
    }

    #[test]
    fn an_editor_gets_a_line_for_each_field_in_a_file_of_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write_for_editor(&record(Some("{\"a\":1,\"b\":[2]}"), None), &path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\n  \"a\":1,\n  \"b\":[2]\n}\n"
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&folder.path().join("y")).unwrap_err().code, "rejected.file");
    }
}
