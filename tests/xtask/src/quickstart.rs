//! `cargo x quickstart`: from a fresh clone to a migrated and verified database, in one command.
//!
//! It runs `examples/browser-to-turso` on a copy, so that it can be repeated and leaves the example as it was.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::place::{Place, Profile};
use crate::services;
use crate::step::{Failure, Outcome, Steps};

/// What the example needs of the workspace.
const PACKAGES: [&str; 4] = [
    "whimbrel",
    "whimbrel-local-storage",
    "whimbrel-turso",
    "whimbrel-files",
];

/// Builds, runs, verifies, and counts again without whimbrel.
pub fn quickstart(place: &Place) -> Outcome<()> {
    let mut steps = Steps::default();
    steps.work("look for a C compiler (SQLite is built from source)", || {
        find_c_compiler(place)
    })?;

    let mut build = place.cargo();
    build.args(["build", Profile::Release.argument()]);
    build.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    steps.run(
        "build whimbrel and three plugins (a few minutes the first time)",
        &mut build,
    )?;

    let example = place.root.join("examples/browser-to-turso");
    let folder = place.target.join("quickstart");
    steps.work("lay out the example", || lay_out(&example, &folder))?;

    let program = place.program(Profile::Release);
    let run = |command: &str| {
        let mut whimbrel = place.command(&program);
        whimbrel.args([command, "job.yaml"]).current_dir(&folder);
        whimbrel
    };
    steps.run("migrate: whimbrel run job.yaml", &mut run("run"))?;
    steps.run(
        "compare both sides again: whimbrel verify job.yaml",
        &mut run("verify"),
    )?;

    let database = folder.join("app.db");
    match services::find_python(place) {
        Some(python) => {
            let mut recount = place.command(&python.program);
            recount
                .arg(example.join("recount.py"))
                .arg(&database)
                .arg(example.join("manifest.json"));
            steps.run("count the database again, without whimbrel", &mut recount)?;
            let mut revalue = place.command(&python.program);
            revalue
                .arg(example.join("revalue.py"))
                .arg(example.join("export.json"))
                .arg(&database);
            steps.run(
                "compare every value with the export, without whimbrel",
                &mut revalue,
            )?;
        }
        None => eprintln!("    python3 is not here: skipped the count that does not use whimbrel"),
    }

    eprintln!();
    eprint!("{}", steps.table());
    eprintln!();
    eprintln!("the database:  {}", database.display());
    eprintln!("look at it:    sqlite3 {} .tables", database.display());
    eprintln!("next:          cd {}", folder.display());
    eprintln!("               {} check job.yaml", program.display());
    eprintln!("               {} --help", program.display());
    Ok(())
}

fn lay_out(example: &Path, folder: &Path) -> Outcome<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(|error| Failure::io("empty", folder, &error))?;
    }
    std::fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, &error))?;
    for name in ["job.yaml", "export.json"] {
        let file = example.join(name);
        std::fs::copy(&file, folder.join(name)).map_err(|error| Failure::io("copy", &file, &error))?;
    }
    Ok(())
}

/// Finds `$CC` or `cc`, with the C library's headers.
fn find_c_compiler(place: &Place) -> Outcome<()> {
    let wanted = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut words = wanted.split_whitespace();
    let mut compiler = place.command(words.next().unwrap_or("cc"));
    compiler.args(words).args(["-x", "c", "-E", "-"]);
    let works = compiler
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .and_then(|mut child| {
            if let Some(mut input) = child.stdin.take() {
                input.write_all(b"#include <stdio.h>\n")?;
            }
            child.wait()
        });
    match works {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Failure::new(format!(
            "no working C compiler: `{wanted}` cannot find the C library's headers\n  \
             help: install one (Debian: apt-get install build-essential; Fedora: dnf install gcc glibc-devel), \
             or name it in CC"
        ))),
    }
}
