//! `whimbrel certificate show FILE`: what a certificate says, for people.
//!
//! Pages say what the checks came to that need no key; whoever wants to know who vouches for a certificate asks `verify`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use whimbrel_plugin_api::Error;

use super::super::output::{print, print_json};
use super::super::{Exit, Global};
use super::verify::{TrustArgs, exit_of_fault, refuse_as};
use crate::certificate::{CertificateFile, Checked, check, html, markdown, read, text};
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
    certificate: &'a crate::certificate::Body,
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
            Exit::Done
        }
        Err(error) => refuse_as(global, TITLE, &error, exit_of_fault(&error)),
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
