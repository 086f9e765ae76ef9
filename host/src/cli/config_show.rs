//! `whimbrel config show JOB`: every value that holds for a job, and where each comes from. Secrets are not shown.
//!
//! The plugins are asked in short-lived workers which of their fields are secret and which variables they read; texts in
//! the config of a plugin that cannot be asked are all hidden. No system is opened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::{Map, Value};
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::{Error, Finding};

use super::output::{print, print_aside, print_json};
use super::plugin_info::describe;
use super::{Exit, Global, job_flags, tasks};
use crate::config::{Job, LoadedJob, Origin, Variables, load_job, plugin_config, render};

/// Which job.
#[derive(Args)]
pub struct ShowArgs {
    /// The job file.
    #[arg(value_name = "JOB")]
    job: PathBuf,
    /// What takes the place of keys of the job.
    #[command(flatten)]
    flags: job_flags::JobFlags,
}

/// One value.
#[derive(Serialize)]
struct Row {
    key: String,
    value: Value,
    origin: ValueOrigin,
    secret: bool,
}

/// What a value comes from.
#[derive(Serialize)]
#[serde(untagged)]
enum ValueOrigin {
    Job(Origin),
    Plugin { kind: &'static str, plugin: String },
}

#[derive(Serialize)]
struct ShowJson<'a> {
    job: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<&'a PathBuf>,
    values: &'a [Row],
    findings: &'a [Finding],
    errors: &'a [Error],
}

/// Shows the values of a job.
pub fn show(global: &Global, args: &ShowArgs) -> Exit {
    let variables = Variables::of_process();
    let mut loaded = match load_job(&args.job, &args.flags.overrides(), &variables) {
        Ok(loaded) => loaded,
        Err(errors) => return tasks::refuse(global, "config show", None, &errors),
    };
    let (errors, schemas) = ask_plugins(global, &mut loaded, &variables);
    let rows = rows(&loaded, &schemas);
    let exit = if errors.is_empty() {
        Exit::Done
    } else {
        Exit::Config
    };
    if global.json {
        print_json(&ShowJson {
            job: &loaded.job.name,
            settings: loaded.settings.as_ref(),
            values: &rows,
            findings: &loaded.findings,
            errors: &errors,
        });
        return exit;
    }
    print(&table(&rows));
    for finding in &loaded.findings {
        tasks::warn(finding);
    }
    print_aside(&render(&errors));
    exit
}

/// A plugin's name and schema, by the place at which the job uses it.
type Schemas = BTreeMap<String, (String, Value)>;

/// Completes the configs of the job by what its plugins say; the faults, and the schemas by place.
fn ask_plugins(global: &Global, loaded: &mut LoadedJob, variables: &Variables) -> (Vec<Error>, Schemas) {
    let registry = tasks::registry(global);
    let uses: Vec<(Role, String, String)> = tasks::uses(&loaded.job)
        .into_iter()
        .map(|(role, plugin, place)| (role, plugin.to_owned(), place))
        .collect();
    let mut asked = BTreeMap::new();
    let (mut errors, mut schemas) = (Vec::new(), BTreeMap::new());
    for (role, plugin, place) in uses {
        let described = asked.entry((role, plugin.clone())).or_insert_with(|| {
            let (path, manifest) = registry.find(&plugin, Some(role))?;
            describe(path, manifest).map_err(|failure| failure.error)
        });
        let pointer = format!("{place}/config");
        match described {
            Ok(roles) => {
                if let Some((_, description)) = roles.iter().find(|(known, _)| *known == role) {
                    let schema = description.config_schema.clone();
                    errors.extend(plugin_config::complete(&schema, loaded, &pointer, variables));
                    schemas.insert(place, (plugin, schema));
                }
            }
            Err(error) => {
                loaded.hide(&pointer);
                let error = error.clone().with_place(loaded.place(&format!("{place}/plugin")));
                errors.push(error);
            }
        }
    }
    (errors, schemas)
}

fn rows(loaded: &LoadedJob, schemas: &Schemas) -> Vec<Row> {
    let mut rows = vec![Row {
        key: "working_dir".to_owned(),
        value: loaded.working_dir.display().to_string().into(),
        origin: ValueOrigin::Job(loaded.working_dir_origin.clone()),
        secret: false,
    }];
    let mut shown = loaded.shown();
    if let (Value::Object(members), Some(properties)) = (&mut shown, Job::schema()["properties"].as_object())
    {
        for key in properties.keys() {
            members.entry(key.clone()).or_insert(Value::Null);
        }
    }
    leaves(&shown, "", "", loaded, schemas, &mut rows);
    rows
}

/// Adds a row for each value below `pointer`; mappings and lists with something in them have none of their own.
fn leaves(
    value: &Value,
    pointer: &str,
    key: &str,
    loaded: &LoadedJob,
    schemas: &Schemas,
    rows: &mut Vec<Row>,
) {
    match value {
        Value::Object(members) if !members.is_empty() || pointer.ends_with("/config") => {
            for (name, member) in members {
                let below = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                let key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                leaves(member, &below, &key, loaded, schemas, rows);
            }
            let place = pointer
                .strip_suffix("/config")
                .and_then(|place| schemas.get(place));
            if let Some((plugin, schema)) = place {
                plugin_defaults(plugin, schema, members, key, rows);
            }
        }
        Value::Array(items) if !is_one_row(items, pointer, loaded) => {
            for (index, item) in items.iter().enumerate() {
                leaves(
                    item,
                    &format!("{pointer}/{index}"),
                    &format!("{key}[{index}]"),
                    loaded,
                    schemas,
                    rows,
                );
            }
        }
        leaf => rows.push(Row {
            key: key.to_owned(),
            value: leaf.clone(),
            origin: ValueOrigin::Job(loaded.origin(pointer)),
            secret: loaded.spans.is_secret(pointer),
        }),
    }
}

/// Whether a list is short enough for a row: plain values, none of them secret.
fn is_one_row(items: &[Value], pointer: &str, loaded: &LoadedJob) -> bool {
    items.iter().enumerate().all(|(index, item)| {
        !item.is_object() && !item.is_array() && !loaded.spans.is_secret(&format!("{pointer}/{index}"))
    })
}

/// What a plugin takes for the keys that its config leaves out, as far as its schema says.
fn plugin_defaults(
    plugin: &str,
    schema: &Value,
    config: &Map<String, Value>,
    key: &str,
    rows: &mut Vec<Row>,
) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let Some(default) = property.get("default").filter(|default| !default.is_null()) else {
            continue;
        };
        if !config.contains_key(name) {
            rows.push(Row {
                key: format!("{key}.{name}"),
                value: default.clone(),
                origin: ValueOrigin::Plugin {
                    kind: "plugin_default",
                    plugin: plugin.to_owned(),
                },
                secret: false,
            });
        }
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["KEY", "VALUE", "ORIGIN"]);
    for row in rows {
        let origin = match &row.origin {
            ValueOrigin::Job(origin) => origin.to_string(),
            ValueOrigin::Plugin { plugin, .. } => format!("default of `{plugin}`"),
        };
        table.add_row([one_line(&row.key), words(&row.value), one_line(&origin)]);
    }
    format!("{table}\n")
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.clone(),
        other => other.to_string(),
    }
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
