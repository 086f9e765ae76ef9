//! `whimbrel schema [job|settings]`: prints the JSON Schema of a file, for editors.
//!
//! The configuration page says how an editor is told of it.

use clap::{Args, ValueEnum};

use super::Exit;
use super::output::print_json;
use crate::config::{job_file_schema, settings_file_schema};

/// Which schema is printed.
#[derive(Args)]
pub struct SchemaArgs {
    /// The kind of file.
    #[arg(value_enum, default_value = "job")]
    file: FileKind,
}

#[derive(Clone, Copy, ValueEnum)]
enum FileKind {
    /// A job file.
    Job,
    /// A settings file.
    Settings,
}

/// Prints the schema.
pub fn schema(args: &SchemaArgs) -> Exit {
    print_json(&match args.file {
        FileKind::Job => job_file_schema(),
        FileKind::Settings => settings_file_schema(),
    });
    Exit::Done
}
