//! The command line: one file per command; `exit_code` alone picks exit codes.
//!
//! Commands read a job, let the supervisor do the work, and word the outcome for people or as JSON.

mod certificate;
mod check;
mod clear;
mod completions;
mod config_show;
mod confirm;
mod daemon;
mod env_file;
mod event_output;
mod exchange;
mod exclusive_run;
mod exit_code;
mod hooks;
mod init;
mod init_text;
mod job_flags;
mod kept_flags;
mod made_from;
mod man;
mod notifying;
mod output;
mod plan;
mod plugin_info;
mod plugin_list;
mod refused_before;
mod rejected;
mod remembered;
mod resumable;
mod resume;
mod run;
mod run_record;
mod runs;
mod schema;
mod stages_filled;
mod stats;
mod status;
mod stop;
mod tasks;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

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
    /// Set by commands that print many objects: each of them is one line then, also what is said of a task that was refused.
    #[arg(skip)]
    pub json_lines: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Copy the collections of a job and verify that they arrived.
    Run(run::RunArgs),
    /// Go on with a run that ended early, where the sink has it.
    Resume(resume::ResumeArgs),
    /// Look at both systems and say whether a run could begin; changes nothing.
    Check(JobArgs),
    /// Say what a run would do, how long it would take and what stands in the way; changes nothing.
    Plan(plan::PlanArgs),
    /// Compare both sides of a job; changes nothing unless it is told to repair.
    Verify(verify::VerifyArgs),
    /// Count the records of both sides; changes nothing.
    Stats(JobArgs),
    /// Remove the records of a job's collections from its sink.
    Clear(clear::ClearArgs),
    /// Write collections of either side of a job into files.
    Export(exchange::ExportArgs),
    /// Read collections from files into the sink of a job.
    Import(exchange::ImportArgs),
    /// List the runs of a working folder.
    Runs(runs::RunsArgs),
    /// Say how far a run is, or how it ended.
    Status(status::StatusArgs),
    /// End a run from any terminal; a copy can be resumed.
    Stop(stop::StopArgs),
    /// See the records that a run refused, correct them and send them again.
    #[command(subcommand)]
    Rejected(rejected::RejectedCommand),
    /// Run jobs when they are due.
    #[command(subcommand)]
    Daemon(daemon::DaemonCommand),
    /// Make keys, check certificates of migrations, and show them.
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// See which plugins there are.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// See what holds for a job.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write a commented job file, from flags or from questions.
    Init(init::InitArgs),
    /// Print the JSON Schema of a job file or a settings file.
    Schema(schema::SchemaArgs),
    /// Print what a shell needs to complete commands and flags.
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write those of all commands.
    Man(man::ManArgs),
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
    /// What takes the place of keys of the job.
    #[command(flatten)]
    pub flags: job_flags::JobFlags,
    /// Print everything that happens while it happens, one object a line, in place of the report; the last line is the
    /// report.
    #[arg(long, value_name = "FORM", value_enum)]
    pub events: Option<EventForm>,
    /// Write everything that happens to this file while it happens, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub events_file: Option<PathBuf>,
}

/// How events are written.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EventForm {
    /// One JSON object a line.
    Json,
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

#[derive(Subcommand)]
enum ConfigCommand {
    /// Show every value that holds for a job, and where each comes from; secrets are not shown.
    Show(config_show::ShowArgs),
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
        Command::Resume(args) => resume::resume(&cli.global, &args),
        Command::Check(args) => check::check(&cli.global, &args),
        Command::Plan(args) => plan::plan(&cli.global, &args),
        Command::Verify(args) => verify::verify(&cli.global, &args),
        Command::Stats(args) => stats::stats(&cli.global, &args),
        Command::Export(args) => exchange::export(&cli.global, &args),
        Command::Import(args) => exchange::import(&cli.global, &args),
        Command::Clear(args) => clear::clear(&cli.global, &args),
        Command::Runs(args) => runs::runs(&cli.global, &args),
        Command::Status(args) => status::status(&cli.global, &args),
        Command::Stop(args) => stop::stop(&cli.global, &args),
        Command::Rejected(command) => rejected::rejected(&cli.global, &command),
        Command::Daemon(command) => daemon::daemon(&cli.global, &command),
        Command::Certificate(command) => certificate::certificate(&cli.global, &command),
        Command::Plugin(PluginCommand::List) => plugin_list::list(&cli.global),
        Command::Plugin(PluginCommand::Info { name }) => plugin_info::info(&cli.global, &name),
        Command::Config(ConfigCommand::Show(args)) => config_show::show(&cli.global, &args),
        Command::Init(args) => init::init(&cli.global, &args),
        Command::Schema(args) => schema::schema(&args),
        Command::Completions(args) => completions::completions(&cli.global, Cli::command(), &args),
        Command::Man(args) => man::man(&cli.global, Cli::command(), &args),
        Command::Worker => return crate::supervisor::worker_main(),
    };
    exit.into()
}
