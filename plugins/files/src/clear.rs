//! Emptying collections: their files go, those of others stay.
//!
//! The data file goes first, so that no moment shows data without the types that belong to them. A collection without a
//! file is empty already, so this can be repeated after a crash. The rest of the sink is in [`crate::sink`].

use std::path::PathBuf;

use whimbrel_plugin_api::sink::{ClearReport, ClearRequest};
use whimbrel_plugin_api::{Error, ErrorKind, Result};

use crate::error::io_error;
use crate::format::DataFile;
use crate::listing;
use crate::load::{Load, remove};
use crate::schema_file::{self, sync_folder};
use crate::sink::FilesSink;

impl FilesSink {
    /// What [`whimbrel_plugin_api::Sink::clear`] does.
    pub(crate) fn clear_all(&mut self, request: &ClearRequest) -> Result<ClearReport> {
        let folder = self.folder();
        if folder.is_file() {
            return Err(io_error(
                "clear",
                folder,
                &std::io::ErrorKind::NotADirectory.into(),
            ));
        }
        // Also names that are being changed belong to a load.
        if Load::read(folder)?.is_some() {
            return Err(under_way(folder.display().to_string()));
        }
        let listing = if folder.exists() {
            listing::list(folder)?
        } else {
            listing::Listing::default()
        };
        listing.refuse_twice()?;
        let mut report = ClearReport::default();
        for name in &request.collections {
            let Some(file) = listing.files.get(name) else {
                report.removed.push(Some(0));
                continue;
            };
            report.removed.push(record_count(file)?);
            remove(&file.path)?;
            if file.schema_file.is_some() {
                remove(&schema_path(file))?;
            }
        }
        if folder.exists() {
            sync_folder(folder)?;
        }
        Ok(report)
    }
}

/// As its schema file says, if that still speaks of the same file.
fn record_count(file: &DataFile) -> Result<Option<u64>> {
    let size_bytes = file.identity()?.size_bytes;
    let content = file.schema_file.as_ref();
    Ok(content
        .filter(|content| content.size_bytes == size_bytes)
        .map(|content| content.record_count))
}

fn schema_path(file: &DataFile) -> PathBuf {
    let name = file.path.file_name().and_then(|name| name.to_str());
    let stem = name.and_then(listing::data_stem).unwrap_or_default();
    file.path.with_file_name(format!("{stem}{}", schema_file::SUFFIX))
}

fn under_way(folder: String) -> Error {
    Error::new(
        ErrorKind::Exists,
        "files.load_under_way",
        format!("nothing is removed from `{folder}` while a load into it has not ended"),
    )
    .with_help("let that run end, or run its job again: it finishes the load or begins it anew")
}
