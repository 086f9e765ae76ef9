//! `whimbrel certificate show FILE`: what a certificate says, for people.
//!
//! It is shown whatever the checks come to; the exit code says whether it is one to rely on: 0, 4 if it was damaged or is not signed as was
//! asked for, 5 if that cannot be said. That a certificate says that the sides differ is no fault of it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use whimbrel_plugin_api::Error;

use super::super::output::{print, print_json};
use super::super::{Exit, Global};
use super::verify::{TrustArgs, exit_of_fault, refuse_as};
use crate::certificate::{
    Body, CertificateFile, Check, CheckState, Checked, VERDICT, Verdict, check, html, markdown, read, text,
};
use crate::workspace::write_whole;

const TITLE: &str = "certificate show";

/// What `show` takes.
#[derive(Args)]
pub struct ShowArgs {
    /// The certificate.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also write it as a page for a browser; what is there is replaced.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Also write it as Markdown; what is there is replaced.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Serialize)]
struct ShownJson<'a> {
    file: &'a Path,
    #[serde(flatten)]
    checked: &'a Checked,
    certificate: &'a Body,
}

/// Shows it.
pub fn show(global: &Global, args: &ShowArgs) -> Exit {
    match shown(args) {
        Ok((file, checked)) => {
            if global.json {
                print_json(&ShownJson {
                    file: &args.file,
                    checked: &checked,
                    certificate: &file.certificate,
                });
            } else {
                print(&text(&file, &checked));
                for path in [&args.html, &args.markdown].into_iter().flatten() {
                    print(&format!("written: {}\n", path.display()));
                }
            }
            exit_of(&file.certificate, &checked)
        }
        Err(error) => refuse_as(global, TITLE, &error, exit_of_fault(&error)),
    }
}

/// A certificate that says of itself that the sides differ is as good as any.
fn exit_of(body: &Body, checked: &Checked) -> Exit {
    let counts = |check: &&Check| check.name != VERDICT || body.verdict == Verdict::Equal;
    let states = checked.checks.iter().filter(counts).map(|check| check.state);
    match states.max() {
        Some(CheckState::Held | CheckState::Open) => Exit::Done,
        Some(CheckState::Failed) => Exit::Differences,
        Some(CheckState::Unchecked) | None => Exit::Unverified,
    }
}

fn shown(args: &ShowArgs) -> Result<(CertificateFile, Checked), Error> {
    let demands = args.trust.demands()?;
    let file = read(&args.file)?;
    let checked = check(&file, &demands);
    if let Some(path) = &args.html {
        save(path, &html(&file, &checked))?;
    }
    if let Some(path) = &args.markdown {
        save(path, &markdown(&file, &checked))?;
    }
    Ok((file, checked))
}

fn save(path: &Path, content: &str) -> Result<(), Error> {
    write_whole(path, content.as_bytes()).map_err(|error| {
        Error::config(
            "cli.output_file",
            format!("`{}` cannot be written", path.display()),
        )
        .with_help("name a file in a folder that is there and that you may write")
        .with_cause(&error)
    })
}
