//! Tests of what lies over and under a job file: settings, variables, flags, parameters, environments, secrets.
//!
//! Wrong files are in `fixtures.rs`. That a key does what it says is shown where it is used.

mod environments;
mod parameters;
mod places;
mod plugins;
mod secrets;
mod variables;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use whimbrel_plugin_api::Error;

use super::{KeyFlag, LoadedJob, Overrides, Said, Variables, load_job, render};

const JOB: &str = "name: demo\nsource: { plugin: p }\nsink: { plugin: p }\n";

/// A folder with a job file.
struct Stage {
    folder: TempDir,
    overrides: Overrides,
    variables: Variables,
}

impl Stage {
    fn new(job: &str) -> Self {
        let stage = Self {
            folder: tempfile::tempdir().unwrap(),
            overrides: Overrides::default(),
            variables: Variables::none(),
        };
        stage.write("job.yaml", job)
    }

    /// A file that its owner alone may read.
    fn write(self, name: &str, content: &str) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables = self.variables.with(name, value);
        self
    }

    fn set(mut self, parameter: &str) -> Self {
        self.overrides.parameters.push(parameter.to_owned());
        self
    }

    fn flag(mut self, flag: &'static str, pointer: &'static str, text: &str) -> Self {
        let says = Said::Text(text.to_owned());
        self.overrides.keys.push(KeyFlag { flag, pointer, says });
        self
    }

    fn load(&self) -> Result<LoadedJob, Vec<Error>> {
        load_job(&self.path("job.yaml"), &self.overrides, &self.variables)
    }

    #[track_caller]
    fn loaded(&self) -> LoadedJob {
        self.load().unwrap_or_else(|errors| panic!("{}", render(&errors)))
    }

    /// The faults as text, with paths below the folder.
    #[track_caller]
    fn faults(&self) -> String {
        let errors = self.load().expect_err("the job was accepted");
        render(&errors).replace(&format!("{}/", self.folder.path().display()), "")
    }

    #[track_caller]
    fn value(&self, pointer: &str) -> Value {
        let job = serde_json::to_value(self.loaded().job).unwrap();
        job.pointer(pointer).cloned().unwrap_or_default()
    }

    fn origin(&self, pointer: &str) -> String {
        let origin = self.loaded().origin(pointer).to_string();
        origin.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn settings_job_variables_and_flags_win_in_this_order_and_are_remembered() {
    let pointer = "/import/batch_size";
    let check = |stage: &Stage, value: u64, origin: &str| {
        assert_eq!(stage.value(pointer), value);
        assert_eq!(stage.origin(pointer), origin);
    };
    let stage = Stage::new(JOB);
    check(&stage, 100, "default");
    let stage = stage.write(
        "whimbrel.yaml",
        "defaults:\n  import: { batch_size: 2, max_errors: 9 }\n",
    );
    check(&stage, 2, "whimbrel.yaml:2:25");
    let stage = stage.write("job.yaml", &format!("{JOB}import: {{ batch_size: 3 }}\n"));
    check(&stage, 3, "job.yaml:4:23");
    assert_eq!(stage.value("/import/max_errors"), 9);
    assert_eq!(stage.origin("/import/max_errors"), "whimbrel.yaml:2:40");
    let stage = stage.variable("MIGRATION_BATCH_SIZE", "4");
    check(&stage, 4, "variable MIGRATION_BATCH_SIZE");
    let stage = stage.flag("--batch-size", pointer, "5");
    check(&stage, 5, "flag --batch-size");
}
