//! The folders of the repository and of the build, found once at the start.
//!
//! Other files ask here for a path and never put one together themselves.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{Failure, Outcome};

/// A cargo profile that whimbrel is built in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    /// The folder below the target folder.
    pub fn folder(self) -> &'static str {
        match self {
            Profile::Dev => "debug",
            Profile::Release => "release",
        }
    }

    /// The argument that chooses it.
    pub fn argument(self) -> &'static str {
        match self {
            Profile::Dev => "--profile=dev",
            Profile::Release => "--profile=release",
        }
    }
}

/// Where things are.
pub struct Place {
    pub root: PathBuf,
    pub target: PathBuf,
}

impl Place {
    /// The repository that this program was built from, and the target folder that it was built into.
    pub fn find() -> Outcome<Place> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest
            .ancestors()
            .nth(2)
            .ok_or_else(|| Failure::new("xtask is not in `tests/xtask`"))?;
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(format!("cannot tell where xtask runs from: {error}")))?;
        let target = program
            .ancestors()
            .nth(2)
            .ok_or_else(|| Failure::new("xtask does not run from a target folder: start it as `cargo x`"))?;
        Ok(Place {
            root: root.to_path_buf(),
            target: target.to_path_buf(),
        })
    }

    /// A command that runs in the root of the repository.
    ///
    /// What `cargo run` tells xtask about xtask's own package is taken out again: build scripts that watch
    /// these variables would run anew each time.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// The cargo that started xtask.
    pub fn cargo(&self) -> Command {
        self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// The whimbrel program of a profile.
    pub fn program(&self, profile: Profile) -> PathBuf {
        self.target
            .join(profile.folder())
            .join(format!("whimbrel{}", std::env::consts::EXE_SUFFIX))
    }

    /// The library of the plugin in `plugins/<name>`.
    pub fn library(&self, profile: Profile, name: &str) -> PathBuf {
        let file = format!(
            "{}whimbrel_{}{}",
            std::env::consts::DLL_PREFIX,
            name.replace('-', "_"),
            std::env::consts::DLL_SUFFIX
        );
        self.target.join(profile.folder()).join(file)
    }

    /// The folder names of all plugins, sorted.
    pub fn plugins(&self) -> Outcome<Vec<String>> {
        let folder = self.root.join("plugins");
        let entries = std::fs::read_dir(&folder).map_err(|error| Failure::io("read", &folder, &error))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Failure::io("read", &folder, &error))?;
            if entry.path().join("Cargo.toml").is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The lock files of the workspace and of the projects outside it, sorted.
    pub fn lock_files(&self) -> Outcome<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(&folder).map_err(|error| Failure::io("read", &folder, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| Failure::io("read", &folder, &error))?;
                let (path, name) = (entry.path(), entry.file_name());
                let name = name.to_string_lossy();
                let passed_over = path == self.target
                    || name.starts_with('.')
                    || name == "node_modules"
                    || name == "target";
                if path.is_dir() && !path.is_symlink() && !passed_over {
                    folders.push(path);
                } else if name == "Cargo.lock" {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Programs that the checks need and that this project installed for itself.
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }
}
