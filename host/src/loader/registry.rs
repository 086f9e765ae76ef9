//! The plugins that can be had, by name: every library of the searched folders with its manifest or its reason.
//! Runs no code of any library. Neighbours: `search` says where to look, `inspect` judges a file.

use std::path::{Path, PathBuf};

use whimbrel_plugin_api::manifest::{Manifest, Role};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::inspect::inspect;
use super::search::{Origin, SearchFolder, libraries};

/// A library that was looked at.
#[derive(Debug, Clone)]
pub struct FoundPlugin {
    /// The file.
    pub path: PathBuf,
    /// What it says of itself, or why it is refused.
    pub manifest: Result<Manifest, Error>,
    /// The library of the same name in an earlier folder, which is used instead.
    pub hidden_by: Option<PathBuf>,
}

/// All libraries of the searched folders.
#[derive(Debug, Default)]
pub struct Registry {
    /// The libraries, in the order of the search.
    pub plugins: Vec<FoundPlugin>,
    /// Folders that could not be read, and those that a person named and that do not exist.
    pub unreadable: Vec<(PathBuf, Error)>,
    folders: Vec<SearchFolder>,
}

impl Registry {
    /// Looks at every library of `folders`, running none of them.
    pub fn scan(folders: &[SearchFolder]) -> Self {
        let mut registry = Self {
            folders: folders.to_vec(),
            ..Self::default()
        };
        for folder in folders {
            let named = matches!(folder.origin, Origin::Flag | Origin::Variable);
            if named && !folder.path.is_dir() {
                let error = Error::not_found("plugin.folder_missing", "the folder does not exist");
                registry.unreadable.push((folder.path.clone(), error));
                continue;
            }
            match libraries(folder) {
                Ok(paths) => paths.iter().for_each(|path| registry.add(path)),
                Err(error) => {
                    let error = Error::new(
                        ErrorKind::Permission,
                        "plugin.folder_unreadable",
                        "the folder cannot be read",
                    )
                    .with_cause(&error);
                    registry.unreadable.push((folder.path.clone(), error));
                }
            }
        }
        registry
    }

    fn add(&mut self, path: &Path) {
        let manifest = inspect(path);
        let hidden_by = manifest.as_ref().ok().and_then(|manifest| {
            let earlier = self.plugins.iter().find(|known| {
                known.hidden_by.is_none()
                    && known
                        .manifest
                        .as_ref()
                        .is_ok_and(|known| known.name == manifest.name)
            })?;
            Some(earlier.path.clone())
        });
        self.plugins.push(FoundPlugin {
            path: path.to_owned(),
            manifest,
            hidden_by,
        });
    }

    /// The plugin called `name`, which must offer `role` if one is given.
    ///
    /// # Errors
    /// `plugin.not_found` with the folders and the names that are there, `plugin.role_missing`, or the reason for which a library
    /// with a fitting file name is refused.
    pub fn find(&self, name: &str, role: Option<Role>) -> Result<(&Path, &Manifest), Error> {
        let fit = self
            .plugins
            .iter()
            .filter(|plugin| plugin.hidden_by.is_none())
            .find_map(|plugin| {
                let manifest = plugin.manifest.as_ref().ok()?;
                (manifest.name == name).then_some((plugin.path.as_path(), manifest))
            });
        if let Some((path, manifest)) = fit {
            return match role {
                Some(role) if !manifest.roles.contains(&role) => Err(self.role_missing(name, manifest, role)),
                _ => Ok((path, manifest)),
            };
        }
        let file_name = format!("libwhimbrel_{}.so", name.replace('-', "_"));
        let refused = self.plugins.iter().find_map(|plugin| {
            let error = plugin.manifest.as_ref().err()?;
            plugin.path.ends_with(&file_name).then_some((&plugin.path, error))
        });
        if let Some((path, error)) = refused {
            let mut refused = error.clone();
            refused.message = format!(
                "failed to load plugin `{name}` from `{}`: {}",
                path.display(),
                error.message
            );
            return Err(refused);
        }
        Err(self.not_found(name))
    }

    fn role_missing(&self, name: &str, manifest: &Manifest, role: Role) -> Error {
        let offered = names(manifest.roles.iter().map(|role| role.name()));
        let others = names(
            self.usable()
                .filter(|other| other.roles.contains(&role))
                .map(|other| other.name.as_str()),
        );
        Error::config(
            "plugin.role_missing",
            format!("the plugin `{name}` is no {role} (it offers: {offered})"),
        )
        .with_help(format!("plugins that are: {others}"))
    }

    fn not_found(&self, name: &str) -> Error {
        let known = names(self.usable().map(|manifest| manifest.name.as_str()));
        let folders = names(
            self.folders
                .iter()
                .map(|folder| folder.path.to_str().unwrap_or("?")),
        );
        Error::config(
            "plugin.not_found",
            format!("there is no plugin `{name}` (known plugins: {known})"),
        )
        .with_help(format!(
            "folders searched: {folders}; `--plugin-dir` adds another"
        ))
    }

    /// The manifests of the plugins that can be used.
    pub fn usable(&self) -> impl Iterator<Item = &Manifest> {
        self.plugins
            .iter()
            .filter(|plugin| plugin.hidden_by.is_none())
            .filter_map(|plugin| plugin.manifest.as_ref().ok())
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
