//! The command line: one file per command; `exit_code` alone picks exit codes.
//!
//! Commands read a job, let the supervisor do the work, and word the outcome for people or as JSON.

mod check;
mod event_file;
mod exit_code;
mod output;
mod plugin_info;
mod plugin_list;
mod run;
mod tasks;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use exit_code::Exit;

#[derive(Parser)]
#[command(name = "whimbrel", version, about, long_about = None, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args, Clone)]
pub struct Global {
    /// Look for plugins in this folder first; may be given several times.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub plugin_dir: Vec<PathBuf>,
    /// Print one JSON object in place of text.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Copy the collections of a job and verify that they arrived.
    Run(JobArgs),
    /// Look at both systems and say what a run would do; changes nothing.
    Check(JobArgs),
    /// Compare both sides of a job; changes nothing.
    Verify(JobArgs),
    /// See which plugins there are.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// The process that loads plugins; started by the other commands.
    #[command(hide = true)]
    Worker,
}

/// Names a job.
#[derive(Args)]
pub struct JobArgs {
    /// The job file.
    #[arg(value_name = "JOB")]
    pub job: PathBuf,
    /// Write everything that happens to this file while it happens, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub events_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// List every library in the searched folders, with the reason for each one that is refused.
    List,
    /// Say what a plugin is, what it can do, and how it is configured.
    Info {
        /// Its name.
        name: String,
    },
}

/// Reads the arguments, runs the command, returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Clap words it; help and version are no failures.
            let exit = if error.use_stderr() {
                Exit::Config
            } else {
                Exit::Done
            };
            drop(error.print());
            return exit.into();
        }
    };
    let exit = match cli.command {
        Command::Run(args) => run::run(&cli.global, &args),
        Command::Check(args) => check::check(&cli.global, &args),
        Command::Verify(args) => verify::verify(&cli.global, &args),
        Command::Plugin(PluginCommand::List) => plugin_list::list(&cli.global),
        Command::Plugin(PluginCommand::Info { name }) => plugin_info::info(&cli.global, &name),
        Command::Worker => return crate::supervisor::worker_main(),
    };
    exit.into()
}
