//! Where the folder of runs and the settings file are.
//! Neighbour: `overlaid`, which has the folder with a job file.

use super::super::load_job;
use super::{JOB, Stage};

#[test]
fn the_folder_of_runs_comes_from_flag_variable_settings_or_stands_beside_the_job() {
    let here = std::env::current_dir().unwrap();
    let folder = |stage: &Stage| {
        let loaded = stage.loaded();
        (loaded.working_dir, loaded.working_dir_origin.to_string())
    };
    let stage = Stage::new(JOB);
    assert_eq!(folder(&stage), (stage.path(".whimbrel"), "default".to_owned()));
    let stage = stage.write("whimbrel.yaml", "working_dir: runs\n");
    assert_eq!(folder(&stage).0, stage.path("runs"));
    assert!(folder(&stage).1.ends_with("whimbrel.yaml:1:14"));
    let stage = stage.variable("MIGRATION_WORKING_DIR", "of-variable");
    let wanted = (
        here.join("of-variable"),
        "variable MIGRATION_WORKING_DIR".to_owned(),
    );
    assert_eq!(folder(&stage), wanted);
    let mut stage = stage;
    stage.overrides.working_dir = Some("of-flag".into());
    assert_eq!(
        folder(&stage),
        (here.join("of-flag"), "flag --working-dir".to_owned())
    );
}

#[test]
fn the_settings_file_is_named_by_a_flag_a_variable_or_its_place() {
    let batch_size = |stage: &Stage| stage.value("/import/batch_size");
    let text = |size: u32| format!("defaults: {{ import: {{ batch_size: {size} }} }}\n");
    let stage = Stage::new(JOB)
        .write("whimbrel.yaml", &text(1))
        .write("x/a.yaml", &text(2))
        .write("x/b.yaml", &text(3));
    assert_eq!(batch_size(&stage), 1);
    let named = stage.path("x/a.yaml").display().to_string();
    let mut stage = stage.variable("WHIMBREL_SETTINGS", &named);
    assert_eq!(batch_size(&stage), 2);
    stage.overrides.settings = Some(stage.path("x/b.yaml"));
    assert_eq!(batch_size(&stage), 3);
    assert_eq!(stage.loaded().settings, Some(stage.path("x/b.yaml")));
    stage.overrides.settings = Some(stage.path("x/c.yaml"));
    let errors = stage.load().unwrap_err();
    assert_eq!(errors[0].code, "config.file_missing");
    assert!(errors[0].message.starts_with("settings file"));
}

#[test]
fn a_job_file_with_the_name_of_the_settings_file_is_not_its_own_settings() {
    let stage = Stage::new("").write("whimbrel.yaml", JOB);
    let path = stage.path("whimbrel.yaml");
    let loaded = load_job(&path, &stage.overrides, &stage.variables).unwrap();
    assert_eq!(loaded.settings, None);
}
