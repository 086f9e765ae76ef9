//! npm `@google-cloud/firestore`, Google's own client: fills projects with the input of the tests, and dumps them.
//!
//! The scripts lie beside this file and are included, so a test needs no path to them. The address of the emulator goes into the
//! environment of their process only.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Emulator, is_required, variable};

/// Node.js and the packages of `tests/services`.
#[derive(Debug, Clone)]
pub struct Node {
    program: PathBuf,
    modules: PathBuf,
}

impl Node {
    /// Both, from `WHIMBREL_NODE` and `WHIMBREL_NODE_MODULES`; `None` is said loudly, and fails where `WHIMBREL_REQUIRE` names
    /// `node`.
    pub fn shared() -> Option<Self> {
        let found = variable("WHIMBREL_NODE").zip(variable("WHIMBREL_NODE_MODULES"));
        if found.is_none() {
            assert!(
                !is_required("node"),
                "node is required and missing: run the tests as `cargo x test`, which installs it"
            );
            eprintln!("NOT TESTED: there is no Node.js with its packages; `cargo x services` installs them");
        }
        found.map(|(program, modules)| Self {
            program: program.into(),
            modules: modules.into(),
        })
    }

    /// Fills a project with the input of the tests, the same each time: at a scale of 1 more than 50,000 documents, at less
    /// fewer, but the special ones are always there. What it prints: a line `PATTERN\tCOUNT` for each collection, in order.
    pub fn seed(&self, emulator: &Emulator, project: &str, scale: f64) -> String {
        let arguments = [emulator.host(), project, &scale.to_string()];
        self.script(emulator, include_str!("seed.mjs"), &arguments)
    }

    /// Every document of a project: a line `{"path":..,"fields":..}` each, with types, ordered by path.
    pub fn dump(&self, emulator: &Emulator, project: &str) -> String {
        self.script(emulator, include_str!("dump.mjs"), &[emulator.host(), project])
    }

    /// [`Node::dump`] without the documents in which the plugin keeps what it must remember (`_whimbrel`).
    pub fn dump_without_own(&self, emulator: &Emulator, project: &str) -> String {
        let arguments = [emulator.host(), project, "--without-own"];
        self.script(emulator, include_str!("dump.mjs"), &arguments)
    }

    /// What a script prints that is given to it on its standard input, with the client set up for an emulator.
    pub fn script(&self, emulator: &Emulator, script: &str, arguments: &[&str]) -> String {
        let mut child = Command::new(&self.program)
            .args(["--input-type=module", "-"])
            .args(arguments)
            .env("WHIMBREL_NODE_MODULES", &self.modules)
            .env("FIRESTORE_EMULATOR_HOST", emulator.host())
            // Nobody is to be asked on which of Google's machines this runs.
            .env("METADATA_SERVER_DETECTION", "none")
            .env("GOOGLE_CLOUD_PROJECT", arguments.get(1).unwrap_or(&"whimbrel"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("node starts");
        // Node reads its script before it prints anything, so this does not wait for the output to be read.
        let input = child
            .stdin
            .take()
            .expect("the input is a pipe")
            .write_all(script.as_bytes());
        let output = child.wait_with_output().expect("node ends");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        input.expect("node reads its script");
        String::from_utf8(output.stdout).expect("the scripts print UTF-8")
    }
}
