//! `cargo x test` and `cargo x ci`: what must hold, from the quickest to find out to the slowest.
//!
//! The tests come last and nothing is printed after them, so that their summary ends the output.

use std::num::NonZero;
use std::process::{Command, Stdio};

use crate::example;
use crate::place::{Place, Profile};
use crate::services::{self, Provided};
use crate::step::{Failure, Outcome, Steps};
use crate::zoo;

/// How many tests run at once, if nothing else says so (`--test-threads`): half as many again as there are processors, since tests wait
/// for servers, processes and disks for a good part of their time.
const TEST_THREADS_VARIABLE: &str = "NEXTEST_TEST_THREADS";

/// Gets the services, builds, and runs doc tests and tests. `arguments` go to nextest.
pub fn test(place: &Place, arguments: &[String]) -> Outcome<()> {
    let mut steps = Steps::default();
    let mut provided = services::provide(place, services::FOR_TESTS)?;
    run_tests(place, &mut steps, &mut provided, arguments)
}

/// All checks. Their times go to `ci-times.txt` in the target folder.
pub fn ci(place: &Place) -> Outcome<()> {
    let mut steps = Steps::default();
    let outcome = run_all(place, &mut steps);
    let file = place.target.join("ci-times.txt");
    std::fs::write(&file, steps.table()).map_err(|error| Failure::io("write", &file, &error))?;
    outcome
}

fn run_all(place: &Place, steps: &mut Steps) -> Outcome<()> {
    steps.run(
        "check the format",
        place.cargo().args(["fmt", "--all", "--check"]),
    )?;
    check_lock_files(place, steps)?;
    let mut provided = steps.work("get what the checks need", || {
        services::provide(place, services::ALL)
    })?;
    check_dependencies(place, steps, &provided)?;
    steps.run(
        "check the lints",
        cargo(place).args(["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]),
    )?;
    steps.run(
        "build the documentation",
        cargo(place)
            .env("RUSTDOCFLAGS", "-Dwarnings")
            .args(["doc", "--no-deps", "--workspace"]),
    )?;
    run_tests(
        place,
        steps,
        &mut provided,
        &["--profile".to_owned(), "ci".to_owned()],
    )
}

/// Of the workspace and of each project outside it: what is built with `--locked` much later fails here at once.
fn check_lock_files(place: &Place, steps: &mut Steps) -> Outcome<()> {
    for file in place.lock_files()? {
        let shown = file.strip_prefix(&place.root).unwrap_or(&file).display();
        steps.run(
            &format!("check that `{shown}` is up to date"),
            place
                .cargo()
                .args(["tree", "--locked", "--depth", "0", "--manifest-path"])
                .arg(file.with_file_name("Cargo.toml"))
                .stdout(Stdio::null()),
        )?;
    }
    Ok(())
}

fn check_dependencies(place: &Place, steps: &mut Steps, provided: &Provided) -> Outcome<()> {
    let Ok(program) = provided.program("cargo-deny") else {
        eprintln!("    skipped the check of dependencies: cargo-deny is missing");
        return Ok(());
    };
    let mut deny = place.command(program);
    deny.args(["check", "bans", "licenses", "sources"]);
    if std::env::var("WHIMBREL_ADVISORIES").is_ok_and(|value| value == "1") {
        deny.arg("advisories");
    }
    steps.run("check licences and sources of dependencies", &mut deny)
}

fn run_tests(place: &Place, steps: &mut Steps, provided: &mut Provided, arguments: &[String]) -> Outcome<()> {
    // Plugins are libraries that no test links: only a build of everything lays them beside the program. With
    // the tests in the same build, everything has one set of features and is compiled once. What strangers and
    // ill-wishers would build lies in target folders of its own, so it is built meanwhile.
    let found = &*provided;
    let ((), minimal_source) = steps.side_by_side(
        |steps| {
            steps.run(
                "build the program, its plugins and the tests",
                cargo(place).args(["build", "--workspace", "--lib", "--bins", "--tests", "--examples"]),
            )?;
            steps.run(
                "run the examples in the documentation",
                cargo(place).args(["test", "--workspace", "--doc"]),
            )
        },
        |steps| {
            let minimal_source = example::minimal_source(place, steps, found)?;
            steps.work("build the zoo of bad plugins", || zoo::zoo(place))?;
            Ok(minimal_source)
        },
    )?;
    // Kept until the tests have ended, and until then only: unless they ran before, they stop again.
    let _servers = steps.work("start the servers that the tests share", || {
        provided.start_servers(place)
    })?;
    eprint!("{}", steps.table());

    let mut tests = place.command(provided.program("cargo-nextest")?);
    tests.args(["nextest", "run", "--workspace"]).args(arguments);
    tests.env("WHIMBREL_BIN", place.program(Profile::Dev));
    tests.env("WHIMBREL_ZOO", place.target.join("zoo"));
    if let Some(library) = minimal_source {
        tests.env(example::VARIABLE, library);
    }
    tests.envs(provided.variables.iter().map(|(key, value)| (key, value)));
    if std::env::var_os(TEST_THREADS_VARIABLE).is_none() {
        tests.env(TEST_THREADS_VARIABLE, test_threads().to_string());
    }
    settle(&mut tests);
    steps.run_last("run the tests", &mut tests)
}

fn test_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    processors + processors.div_ceil(2)
}

fn cargo(place: &Place) -> Command {
    let mut cargo = place.cargo();
    settle(&mut cargo);
    cargo
}

/// In CI nothing is built twice, so what cargo keeps for the next build is not written.
fn settle(command: &mut Command) {
    if std::env::var_os("CI").is_some() {
        command.env("CARGO_INCREMENTAL", "0");
    }
}
