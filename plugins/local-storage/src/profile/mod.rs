//! A browser's profile folder in place of an export: found, copied, and turned into the text of an export.
//!
//! `search` tells what a path leads to, `copy` takes the files while the browser may be writing them, `chromium` (over
//! `integrity` and `leveldb`) and `firefox` read the copies, `text` writes what `export_file` reads. `in_use` sees a
//! browser that has the profile open.

mod chromium;
mod copy;
mod firefox;
mod in_use;
mod integrity;
mod leveldb;
mod search;
mod text;

use std::path::Path;

use whimbrel_plugin_api::check::Finding;
use whimbrel_plugin_api::{Result, Services};

use crate::config::{Format, LocalStorageConfig};
use search::Found;
use text::ExportText;

/// What a profile holds.
#[derive(Debug)]
pub struct Profile {
    /// Which browser's it is.
    pub form: Format,
    /// Its entries, as an export of the form `per-origin`.
    pub text: String,
    /// Things that are no local storage, each with its number.
    pub not_read: Vec<(String, usize)>,
    /// What an operator should know.
    pub notes: Vec<Finding>,
}

/// Reads the profile that the config names; `None` if it names an export.
pub fn load(config: &LocalStorageConfig, services: &Services) -> Result<Option<Profile>> {
    let Some(found) = search::search(&config.path, config.format)? else {
        return Ok(None);
    };
    let mut text = ExportText::new(config);
    let mut notes = Vec::new();
    let mut not_read = Vec::new();
    let form = match &found {
        Found::Chromium { leveldb } => {
            let read = chromium::read(leveldb, config, services, &mut text)?;
            if read.is_unfinished {
                notes.push(Finding::warning(
                    "local_storage.unfinished_write",
                    "the last write is there in part only; it does not count, as for the browser itself",
                ));
            }
            not_read
                .extend((read.other_keys > 0).then(|| ("keys of another kind".to_owned(), read.other_keys)));
            Format::Chromium
        }
        Found::Firefox { databases } => {
            for database in databases {
                firefox::read(database, config, services, &mut text)?;
            }
            Format::Firefox
        }
    };
    if let Some(process) = in_use::process(&found) {
        notes.push(
            Finding::warning(
                "local_storage.browser_open",
                format!("a browser has the profile open (process {process}), and may not have written all of it yet"),
            )
            .with_help("close the browser to read everything"),
        );
    }
    if text.entry_count == 0 {
        notes.push(
            Finding::warning("local_storage.empty", "the profile holds no entry of local storage").with_help(
                "a browser writes some seconds after a page does; close it, or look whether this is the right profile",
            ),
        );
    }
    Ok(Some(Profile {
        form,
        text: text.finish(),
        not_read,
        notes,
    }))
}

/// A path for messages.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
