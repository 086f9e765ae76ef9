//! `whimbrel init`: writes a commented job file, from flags or from questions at a terminal.
//!
//! The keys of the plugins come from the plugins themselves, each asked in a short-lived worker. Neighbour:
//! `init_text.rs`, which words the file. Without a terminal nobody is asked.

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use dialoguer::{Input, Select};
use serde::Serialize;
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::manifest::Role;

use super::init_text::{Side, job_text};
use super::output::{print, print_json};
use super::plugin_info::describe;
use super::{Exit, Global, tasks};
use crate::config::check_job;
use crate::loader::Registry;

/// The file that is written unless another is named.
const OUTPUT: &str = "job.yaml";

/// The name of a job that nobody has named.
const NAME: &str = "my-job";

/// What the file is to hold.
#[derive(Args)]
pub struct InitArgs {
    /// The plugin that reads.
    #[arg(long, value_name = "PLUGIN")]
    source_plugin: Option<String>,
    /// The plugin that writes.
    #[arg(long, value_name = "PLUGIN")]
    sink_plugin: Option<String>,
    /// The name of the job.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The file to write; `-` for standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

/// What was decided, by flags or by answers.
struct Choice {
    name: String,
    source: String,
    sink: String,
    output: PathBuf,
}

#[derive(Serialize)]
struct InitJson<'a> {
    job: &'a str,
    file: &'a Path,
}

/// Writes the file.
pub fn init(global: &Global, args: &InitArgs) -> Exit {
    match write(global, args) {
        Ok(choice) => {
            if choice.output == Path::new("-") {
                return Exit::Done;
            }
            if global.json {
                print_json(&InitJson {
                    job: &choice.name,
                    file: &choice.output,
                });
            } else {
                let file = choice.output.display();
                print(&format!(
                    "wrote `{file}`; fill in what stands in <angle brackets>, then: whimbrel check {file}\n"
                ));
            }
            Exit::Done
        }
        Err(errors) => tasks::refuse(global, "init", None, &errors),
    }
}

fn write(global: &Global, args: &InitArgs) -> Result<Choice, Vec<Error>> {
    let one = |error: Error| vec![error];
    let registry = tasks::registry(global);
    let choice = choose(global, args, &registry).map_err(one)?;
    let source = side(&registry, &choice.source, Role::Source).map_err(one)?;
    let sink = side(&registry, &choice.sink, Role::Sink).map_err(one)?;
    let text = job_text(&choice.name, &source, &sink);
    // What is written loads; only a name that somebody gave can keep it from that.
    check_job(&text, &choice.output)?;
    if choice.output == Path::new("-") {
        print(&text);
    } else {
        save(&choice.output, &text, args.force).map_err(one)?;
    }
    Ok(choice)
}

fn choose(global: &Global, args: &InitArgs, registry: &Registry) -> Result<Choice, Error> {
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    let can_ask = !global.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let is_complete = args.source_plugin.is_some() && args.sink_plugin.is_some();
    // With both plugins given, the rest has defaults, and nobody is asked.
    let asks = can_ask && !is_complete;
    let plugin = |given: &Option<String>, role: Role| match given {
        Some(name) => Ok(name.clone()),
        None => ask_plugin(registry, role, asks),
    };
    let name = match &args.name {
        Some(name) => name.clone(),
        None if asks => ask_text("Name of the job", NAME)?,
        None => NAME.to_owned(),
    };
    let source = plugin(&args.source_plugin, Role::Source)?;
    let sink = plugin(&args.sink_plugin, Role::Sink)?;
    let output = match &args.output {
        Some(output) => output.clone(),
        None if asks && !to_stdout => ask_text("File to write", OUTPUT)?.into(),
        None => PathBuf::from(OUTPUT),
    };
    Ok(Choice {
        name,
        source,
        sink,
        output,
    })
}

fn ask_text(question: &str, default: &str) -> Result<String, Error> {
    Input::new()
        .with_prompt(question)
        .default(default.to_owned())
        .interact_text()
        .map_err(|_| not_answered())
}

fn ask_plugin(registry: &Registry, role: Role, asks: bool) -> Result<String, Error> {
    let names = names(registry, role);
    let known = if names.is_empty() {
        "none was found".to_owned()
    } else {
        names.join(", ")
    };
    if !asks {
        let flag = format!("--{}-plugin", role.name());
        return Err(Error::config(
            "cli.flag_missing",
            format!("flag `{flag}` is missing, and there is no terminal to ask at (plugins: {known})"),
        )
        .with_help(format!("give `{flag} NAME`")));
    }
    if names.is_empty() {
        return Err(Error::not_found(
            "plugin.not_found",
            format!("no plugin with the role {role} was found"),
        )
        .with_help("`whimbrel plugin list` says where plugins are looked for"));
    }
    let chosen = Select::new()
        .with_prompt(format!("Plugin of the {role}"))
        .items(&names)
        .default(0)
        .interact_opt()
        .map_err(|_| not_answered())?;
    let chosen = chosen.and_then(|index| names.get(index));
    chosen.cloned().ok_or_else(not_answered)
}

fn not_answered() -> Error {
    Error::config("cli.not_answered", "a question was not answered")
        .with_help("give flags; see `whimbrel init --help`")
}

fn names(registry: &Registry, role: Role) -> Vec<String> {
    let mut names: Vec<String> = registry
        .plugins
        .iter()
        .filter(|found| found.hidden_by.is_none())
        .filter_map(|found| found.manifest.as_ref().ok())
        .filter(|manifest| manifest.roles.contains(&role))
        .map(|manifest| manifest.name.clone())
        .collect();
    names.sort();
    names
}

fn side(registry: &Registry, plugin: &str, role: Role) -> Result<Side, Error> {
    let (path, manifest) = registry.find(plugin, Some(role))?;
    let described = describe(path, manifest).map_err(|failure| failure.error)?;
    let own = described.into_iter().find(|(known, _)| *known == role);
    Ok(Side {
        role: role.name(),
        plugin: plugin.to_owned(),
        description: manifest.description.clone(),
        schema: own
            .map(|(_, description)| description.config_schema)
            .unwrap_or_default(),
    })
}

fn save(path: &Path, text: &str, force: bool) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let name = path.display();
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Error::config("cli.file_exists", format!("`{name}` exists already"))
                .with_help("name another file by `--output`, or give `--force` to replace it");
        }
        Error::config("cli.output_file", format!("`{name}` cannot be written"))
            .with_help("name a file in a folder that is there and that you may write")
            .with_cause(&error)
    })
}
