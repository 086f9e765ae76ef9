//! `whimbrel man`: prints the manual page, or writes the pages of all commands into a folder.
//! Made from the same definitions as `--help`.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use whimbrel_plugin_api::Error;

use super::output::{print, print_aside, print_json};
use super::{Exit, Global};
use crate::config::render;

/// Where the pages go.
#[derive(Args)]
pub struct ManArgs {
    /// Write the pages of all commands into this folder, which is made if need be.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Prints or writes the manual pages of `program`.
pub fn man(global: &Global, program: Command, args: &ManArgs) -> Exit {
    let Some(folder) = &args.dir else {
        let mut text = Vec::new();
        if let Err(error) = Man::new(program).render(&mut text) {
            return refuse(global, "the manual page cannot be made", &error);
        }
        let text = String::from_utf8_lossy(&text);
        if global.json {
            print_json(&serde_json::json!({ "text": text }));
        } else {
            print(&text);
        }
        return Exit::Done;
    };
    match write(program, folder) {
        Ok(()) => {
            if global.json {
                print_json(&serde_json::json!({ "folder": folder }));
            }
            Exit::Done
        }
        Err(error) => {
            let message = format!("the folder `{}` cannot be written", folder.display());
            refuse(global, &message, &error)
        }
    }
}

fn write(program: Command, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(program, folder)
}

fn refuse(global: &Global, message: &str, error: &std::io::Error) -> Exit {
    let error = Error::config("cli.output_file", message)
        .with_help("name a folder that you may write")
        .with_cause(error);
    if global.json {
        print_json(&error);
    } else {
        print_aside(&render(&[error]));
    }
    Exit::Config
}
