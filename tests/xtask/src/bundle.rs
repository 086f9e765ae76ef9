//! `cargo x plugins`: the program and every plugin of the repository, in one folder that can be moved.
//!
//! whimbrel looks for libraries beside itself, so the folder needs no settings.

use std::path::PathBuf;

use crate::place::{Place, Profile};
use crate::step::{Failure, Outcome, Steps};

/// Builds everything in `profile` and copies it to `out`.
pub fn bundle(place: &Place, profile: Profile, out: Option<PathBuf>) -> Outcome<()> {
    let mut steps = Steps::default();
    let plugins = place.plugins()?;
    let mut build = place.cargo();
    build.args(["build", profile.argument(), "-p", "whimbrel"]);
    for plugin in &plugins {
        build.arg("-p").arg(format!("whimbrel-{plugin}"));
    }
    steps.run("build the program and its plugins", &mut build)?;

    let folder = out.unwrap_or_else(|| place.target.join("bundle").join(profile.folder()));
    std::fs::create_dir_all(&folder).map_err(|error| Failure::io("create", &folder, &error))?;
    let mut files = vec![place.program(profile)];
    files.extend(plugins.iter().map(|plugin| place.library(profile, plugin)));
    steps.work("copy them", || {
        for file in &files {
            let Some(name) = file.file_name() else { continue };
            let copy = folder.join(name);
            // Removed first: writing into a library that a running program has mapped would end that program.
            match std::fs::remove_file(&copy) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::io("replace", &copy, &error));
                }
                _ => {}
            }
            std::fs::copy(file, &copy).map_err(|error| Failure::io("copy", file, &error))?;
        }
        Ok(())
    })?;
    eprintln!("{} files in {}", files.len(), folder.display());
    Ok(())
}
