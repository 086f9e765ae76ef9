//! `whimbrel export JOB --to PATH` and `whimbrel import JOB --from PATH`: records of either side of a job as files, and back.
//!
//! Both are ordinary runs in which the connector that exchanges files takes the place of one side. Which one that is, the
//! connectors say themselves: a property of its config carries `x-whimbrel-exchange`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::plugin_info::describe;
use super::run::{Beginning, run_prepared};
use super::tasks::{prepare, registry};
use super::{Exit, Global, JobArgs};
use crate::config::{Connector, Hooks, Job, LoadedJob, Staging};

/// The keyword of a config schema that marks where the files are.
const EXCHANGE_KEYWORD: &str = "x-whimbrel-exchange";

/// What `export` takes.
#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The folder for the files; made if it is not there.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Which side is exported.
    #[arg(long, value_enum, default_value_t = Side::Source)]
    side: Side,
}

/// What `import` takes.
#[derive(Args)]
pub struct ImportArgs {
    #[command(flatten)]
    job: JobArgs,
    /// A folder of files, each of which is a collection, or one file.
    #[arg(long, value_name = "PATH")]
    from: PathBuf,
}

/// A side of a job.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    /// What the job reads.
    Source,
    /// What the job writes.
    Sink,
}

/// Writes collections of one side into files.
pub fn export(global: &Global, args: &ExportArgs) -> Exit {
    let prepared = prepare(global, &args.job, "export", |loaded| {
        let files = exchange(global, Role::Sink, &args.to)?;
        let sinks = args.side == Side::Sink;
        let job = &mut loaded.job;
        let names = sink_names(job);
        if sinks {
            std::mem::swap(&mut job.source, &mut job.sink);
        }
        job.sink = files;
        job.name = format!("{}-export", job.name);
        alone(job);
        if sinks {
            job.collections = None;
            if job.include.is_empty() {
                job.include = names;
            }
        }
        Ok(())
    });
    run(global, &args.job, "export", prepared)
}

/// Reads collections from files into the job's sink.
pub fn import(global: &Global, args: &ImportArgs) -> Exit {
    if !args.from.exists() {
        let error = Error::not_found(
            "cli.import_missing",
            format!("there is no file or folder `{}`", args.from.display()),
        );
        return super::tasks::refuse(global, "import", None, &[error]);
    }
    let prepared = prepare(global, &args.job, "import", |loaded: &mut LoadedJob| {
        let job = &mut loaded.job;
        job.source = exchange(global, Role::Source, &args.from)?;
        job.collections = None;
        alone(job);
        Ok(())
    });
    run(global, &args.job, "import", prepared)
}

fn run(global: &Global, args: &JobArgs, title: &str, prepared: Result<super::tasks::Prepared, Exit>) -> Exit {
    match prepared {
        Ok(prepared) => run_prepared(global, args, title, prepared, Beginning::default()),
        Err(exit) => exit,
    }
}

/// What a job does for its own sake is no part of an exchange.
fn alone(job: &mut Job) {
    job.transforms.clear();
    for rule in job.collections.iter_mut().flatten() {
        rule.transforms.clear();
    }
    job.rules.clear();
    job.hooks = Hooks::default();
    job.notifiers.clear();
    job.staging = Staging::Memory;
}

/// The names of the job's collections in its sink, as patterns that stand for nothing else; empty for all.
fn sink_names(job: &Job) -> Vec<String> {
    let escaped = |name: &str| {
        let mut pattern = String::with_capacity(name.len());
        for char in name.chars() {
            if matches!(char, '*' | '?' | '\\') {
                pattern.push('\\');
            }
            pattern.push(char);
        }
        pattern
    };
    job.collections
        .iter()
        .flatten()
        .map(|rule| escaped(rule.sink_name()))
        .collect()
}

/// The connector that exchanges files, set to `path`.
fn exchange(global: &Global, role: Role, path: &Path) -> Result<Connector, Error> {
    let registry = registry(global);
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for manifest in registry
        .usable()
        .filter(|manifest| manifest.roles.contains(&role))
    {
        let (library, manifest) = registry.find(&manifest.name, Some(role))?;
        let Ok(described) = describe(library, manifest) else {
            // What cannot be described cannot be used; `plugin list` says why.
            continue;
        };
        let key = described
            .iter()
            .filter(|(described_as, _)| *described_as == role)
            .find_map(|(_, description)| exchange_key(&description.config_schema));
        if let Some(key) = key {
            let mut config = Map::new();
            config.insert(key, Value::String(path.display().to_string()));
            return Ok(Connector {
                plugin: manifest.name.clone(),
                config,
                environment: None,
            });
        }
    }
    Err(Error::new(
        ErrorKind::NotFound,
        "cli.no_exchange",
        format!("no plugin in the searched folders exchanges files as a {role}"),
    )
    .with_help("`whimbrel plugin list` shows what is there; `--plugin-dir` names another folder"))
}

fn exchange_key(schema: &Value) -> Option<String> {
    schema
        .get("properties")?
        .as_object()?
        .iter()
        .find(|(_, property)| property.get(EXCHANGE_KEYWORD) == Some(&Value::Bool(true)))
        .map(|(key, _)| key.clone())
}
