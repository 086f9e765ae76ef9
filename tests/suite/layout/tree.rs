//! Walks the folders of the repository and applies a rule to each file.
//!
//! Build output, installed node packages and dot-folders are not ours and are left out.

use std::path::{Path, PathBuf};

/// Folders that the design fixes; each may be absent from an unfinished tree.
const FOLDERS: [&str; 5] = ["host", "plugin-api", "plugins", "tests", "examples"];

/// A file as a rule sees it.
pub(super) struct File {
    /// From the root, with `/`.
    pub(super) path: String,
    /// Empty unless the file is Rust or TOML.
    pub(super) text: String,
}

/// What a rule found wrong.
pub(super) struct Findings(pub(super) Vec<String>);

impl Findings {
    /// Fails the test with every finding, so that one run shows all of them.
    #[track_caller]
    pub(super) fn assert_none(&self) {
        assert!(self.0.is_empty(), "\n{}\n", self.0.join("\n"));
    }
}

/// Applies a rule to every file.
pub(super) fn findings(rule: fn(&str, &str) -> Vec<String>) -> Findings {
    Findings(
        files()
            .iter()
            .flat_map(|file| rule(&file.path, &file.text))
            .collect(),
    )
}

/// The root of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package is in a folder of the repository")
}

/// Every file below the fixed folders, sorted by path.
pub(super) fn files() -> Vec<File> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS
        .iter()
        .map(|folder| root().join(folder))
        .filter(|folder| folder.is_dir())
        .collect();
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" || name == "node_modules" {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(File {
                    text: text_of(&path),
                    path: path_from_root(&path),
                });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

fn text_of(path: &Path) -> String {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("rs" | "toml") => {
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        }
        _ => String::new(),
    }
}

fn path_from_root(path: &Path) -> String {
    let inside = path.strip_prefix(root()).expect("the walk starts at the root");
    inside
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}
