//! `cargo x`: the project's own commands, the same for a newcomer, a contributor and CI.
//!
//! Each command is one file that lists steps; `step.rs` runs and times them, `place.rs` knows the folders.
//! Nothing here is part of what users install.

mod bench;
mod bundle;
mod check;
mod example;
mod place;
mod quickstart;
mod services;
mod soak;
mod step;
mod zoo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::place::{Place, Profile};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo x", bin_name = "cargo x")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the program and migrate a browser's storage into a local database.
    Quickstart,
    /// Get what the tests need, build everything, run the tests.
    Test {
        /// Passed to `cargo nextest run`, for example `-E 'test(layout)'`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        nextest: Vec<String>,
    },
    /// Find or install what the checks need from outside, and start the servers that the tests share.
    Services {
        /// Stop those servers instead.
        #[arg(long)]
        stop: bool,
    },
    /// Everything that must hold before a change lands: format, lints, docs, licences, tests.
    Ci,
    /// Run the benchmarks, against a release build.
    Bench {
        /// Passed to `cargo bench`, for example `--bench speed`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        bench: Vec<String>,
    },
    /// Kill and resume runs a thousand times into each sink, and write down how it went.
    Soak,
    /// Build the libraries that a host must refuse or bear, for the tests.
    Zoo,
    /// Build the program and every plugin, and lay them in one folder.
    Plugins {
        /// Build optimised.
        #[arg(long)]
        release: bool,
        /// Where to lay them; without it, `bundle/<profile>` in the target folder.
        #[arg(long, value_name = "FOLDER")]
        out: Option<std::path::PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = Place::find().and_then(|place| match arguments.command {
        Command::Quickstart => quickstart::quickstart(&place),
        Command::Test { nextest } => check::test(&place, &nextest),
        Command::Services { stop: true } => services::SharedServers::stop_all(&place),
        Command::Services { stop: false } => services::start(&place),
        Command::Ci => check::ci(&place),
        Command::Soak => soak::soak(&place),
        Command::Zoo => zoo::zoo(&place),
        Command::Bench { bench } => bench::bench(&place, &bench),
        Command::Plugins { release, out } => {
            bundle::bundle(&place, if release { Profile::Release } else { Profile::Dev }, out)
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code)
        }
    }
}
