//! Runs the built program as a user does: arguments in, exit code, standard output and standard error out.
//!
//! Not here: any knowledge of what a command should answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The built program. `cargo x test` says where; otherwise it stands beside this test's own folder.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("WHIMBREL_BIN") {
        return path.into();
    }
    let mut folder = std::env::current_exe().expect("a test has a path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    folder.join("whimbrel")
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests stand in the repository")
}

/// A folder of one test, with the program ready to run in it.
pub struct Stage {
    folder: TempDir,
    plugin_folders: Vec<PathBuf>,
}

/// What a command answered.
pub struct Answer {
    /// The exit code; negative for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// The JSON object on standard output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| {
            panic!("not JSON ({error}):\n{}\nstandard error:\n{}", self.out, self.err)
        })
    }

    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit code\nout:\n{}\nerr:\n{}",
            self.out, self.err
        );
        self
    }

    /// The first error of the JSON.
    pub fn error(&self) -> Value {
        self.json()["errors"][0].clone()
    }
}

impl Stage {
    /// An empty folder.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            plugin_folders: Vec::new(),
        }
    }

    /// Also looks for plugins in `folder`.
    pub fn with_plugins(mut self, folder: impl Into<PathBuf>) -> Self {
        self.plugin_folders.push(folder.into());
        self
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folders of the verifications so far, the oldest first. Their names have whole seconds, so the order is that of the file
    /// system.
    pub fn verifications(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path(".whimbrel/verifications")) else {
            return Vec::new();
        };
        let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        folders.sort_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).ok());
        folders
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file in a temporary folder");
        path
    }

    /// Copies a file of the repository.
    pub fn copy(&self, from: &str, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::copy(repository().join(from), &path).expect("a file of the repository");
        path
    }

    /// The program, to be started in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command.env_remove("WHIMBREL_PLUGIN_PATH");
        for folder in &self.plugin_folders {
            command.arg("--plugin-dir").arg(folder);
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        self.run_with(arguments, &[])
    }

    /// As [`Stage::run`], with variables.
    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        let output = command.output().expect("the program starts");
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
