//! Where plugins are looked for, in which order.
//!
//! `--plugin-dir` (repeatable), `WHIMBREL_PLUGIN_PATH`, the executable's own folder, the user's folder, the system's.

use std::path::{Path, PathBuf};

/// The variable with further folders, separated by `:`.
pub const PLUGIN_PATH_VARIABLE: &str = "WHIMBREL_PLUGIN_PATH";

/// A folder to look in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchFolder {
    /// The folder.
    pub path: PathBuf,
    /// Why it is looked in.
    pub origin: Origin,
}

/// Why a folder is looked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `--plugin-dir`.
    Flag,
    /// `WHIMBREL_PLUGIN_PATH`.
    Variable,
    /// Beside the executable: only `libwhimbrel_*` is looked at there.
    Executable,
    /// The user's data folder.
    User,
    /// `/usr/lib/whimbrel/plugins`.
    System,
}

/// What [`folders`] looks at, so that tests can say it.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Content of `WHIMBREL_PLUGIN_PATH`.
    pub plugin_path: Option<std::ffi::OsString>,
    /// The running executable.
    pub executable: Option<PathBuf>,
    /// `XDG_DATA_HOME`, or `~/.local/share`.
    pub data_home: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let data_home = std::env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")));
        Self {
            plugin_path: std::env::var_os(PLUGIN_PATH_VARIABLE),
            executable: std::env::current_exe().ok(),
            data_home,
        }
    }
}

/// The folders in which plugins are looked for, the first one winning. Folders that do not exist are kept: the
/// listing says so for those that a person named.
pub fn folders(flags: &[PathBuf], surroundings: &Surroundings) -> Vec<SearchFolder> {
    let mut folders: Vec<SearchFolder> = Vec::new();
    let mut add = |path: PathBuf, origin| {
        let path = std::path::absolute(&path).unwrap_or(path);
        if !folders.iter().any(|known: &SearchFolder| known.path == path) {
            folders.push(SearchFolder { path, origin });
        }
    };
    for flag in flags {
        add(flag.clone(), Origin::Flag);
    }
    if let Some(variable) = &surroundings.plugin_path {
        for path in std::env::split_paths(variable).filter(|path| !path.as_os_str().is_empty()) {
            add(path, Origin::Variable);
        }
    }
    if let Some(folder) = surroundings.executable.as_deref().and_then(Path::parent) {
        add(folder.to_owned(), Origin::Executable);
    }
    if let Some(data_home) = &surroundings.data_home {
        add(data_home.join("whimbrel/plugins"), Origin::User);
    }
    add(PathBuf::from("/usr/lib/whimbrel/plugins"), Origin::System);
    folders
}

/// The libraries of a folder, sorted by name: `*.so`, beside the executable only `libwhimbrel_*.so`.
///
/// # Errors
/// What reading the folder brings; a folder that does not exist is empty.
pub fn libraries(folder: &SearchFolder) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(&folder.path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            continue;
        };
        let ours = name.starts_with("libwhimbrel_");
        if name.ends_with(".so")
            && (ours || folder.origin != Origin::Executable)
            && !is_host_library(&name, folder)
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Build folders hold the plugin API itself as an object; it is not meant to be a plugin.
fn is_host_library(name: &str, folder: &SearchFolder) -> bool {
    folder.origin == Origin::Executable && name.starts_with("libwhimbrel_plugin_api")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_flags_variable_executable_user_system() {
        let surroundings = Surroundings {
            plugin_path: Some("/v1::/v2".into()),
            executable: Some("/opt/w/whimbrel".into()),
            data_home: Some("/home/u/.local/share".into()),
        };
        let paths: Vec<_> = folders(&["/f1".into(), "/f2".into(), "/v2".into()], &surroundings)
            .into_iter()
            .map(|folder| folder.path.display().to_string())
            .collect();
        assert_eq!(
            paths,
            [
                "/f1",
                "/f2",
                "/v2",
                "/v1",
                "/opt/w",
                "/home/u/.local/share/whimbrel/plugins",
                "/usr/lib/whimbrel/plugins"
            ]
        );
    }

    #[test]
    fn beside_the_executable_only_our_names_count() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libwhimbrel_a.so", "libz.so", "notes.txt", "libother.so.1"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        let names = |origin| {
            libraries(&SearchFolder {
                path: folder.path().to_owned(),
                origin,
            })
            .unwrap()
            .into_iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect::<Vec<_>>()
        };
        assert_eq!(names(Origin::Executable), ["libwhimbrel_a.so"]);
        assert_eq!(names(Origin::Flag), ["libwhimbrel_a.so", "libz.so"]);
    }
}
