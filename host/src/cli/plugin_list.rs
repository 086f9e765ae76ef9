//! `whimbrel plugin list`: every library of the searched folders, the fit ones and the reason for each of the others.
//!
//! The manifest is read from the file; a library that looks fit is loaded once in a short-lived worker, so that one
//! that crashes or was laid out differently is listed with its reason too.

use std::path::Path;

use comfy_table::{Table, presets};
use serde::Serialize;
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::manifest::{Manifest, Role};

use super::output::{print, print_json};
use super::plugin_info::describe;
use super::{Exit, Global, tasks};

#[derive(Serialize)]
struct Row {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
    roles: Vec<Role>,
    usable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct ListJson {
    plugins: Vec<Row>,
}

/// Lists; never fails because of a library.
pub fn list(global: &Global) -> Exit {
    let registry = tasks::registry(global);
    let mut rows: Vec<Row> = Vec::new();
    for (folder, error) in &registry.unreadable {
        rows.push(refused(folder, None, error));
    }
    for found in &registry.plugins {
        rows.push(match (&found.manifest, &found.hidden_by) {
            (Err(error), _) => refused(&found.path, None, error),
            (Ok(manifest), Some(earlier)) => {
                let text = format!("the plugin of the same name in `{}` is used", earlier.display());
                refused(&found.path, Some(manifest), &Error::config("plugin.hidden", text))
            }
            (Ok(manifest), None) => match first_fault(&found.path, manifest) {
                Some(error) => refused(&found.path, Some(manifest), &error),
                None => row(&found.path, Some(manifest)),
            },
        });
    }
    if global.json {
        print_json(&ListJson { plugins: rows });
    } else {
        print(&text(&rows));
    }
    Exit::Done
}

fn first_fault(path: &Path, manifest: &Manifest) -> Option<Error> {
    describe(path, manifest).err().map(|failure| failure.error)
}

fn row(path: &Path, manifest: Option<&Manifest>) -> Row {
    Row {
        path: path.display().to_string(),
        name: manifest.map(|manifest| manifest.name.clone()),
        version: manifest.map(|manifest| manifest.version.to_string()),
        api_version: manifest.map(|manifest| manifest.api_version.to_string()),
        roles: manifest
            .map(|manifest| manifest.roles.clone())
            .unwrap_or_default(),
        usable: true,
        code: None,
        reason: None,
    }
}

fn refused(path: &Path, manifest: Option<&Manifest>, error: &Error) -> Row {
    Row {
        usable: false,
        code: Some(error.code.clone()),
        reason: Some(error.message.clone()),
        ..row(path, manifest)
    }
}

fn text(rows: &[Row]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["NAME", "VERSION", "API", "ROLES", "FILE"]);
    for row in rows.iter().filter(|row| row.usable) {
        let roles: Vec<&str> = row.roles.iter().map(|role| role.name()).collect();
        table.add_row([
            row.name.clone().unwrap_or_default(),
            row.version.clone().unwrap_or_default(),
            row.api_version.clone().unwrap_or_default(),
            roles.join(", "),
            row.path.clone(),
        ]);
    }
    let mut text = format!("{table}\n");
    let mut refused = rows.iter().filter(|row| !row.usable).peekable();
    if refused.peek().is_some() {
        text.push_str("\nnot used:\n");
    }
    for row in refused {
        let (code, reason) = (
            row.code.as_deref().unwrap_or_default(),
            row.reason.as_deref().unwrap_or_default(),
        );
        text.push_str(&format!(
            "  {}: {} [{code}]\n",
            row.path,
            reason.replace('\n', " ")
        ));
    }
    text
}
