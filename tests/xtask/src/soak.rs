//! `cargo x soak`: the long version of the tests of exactly-once: a thousand SIGKILLs of each sink's runs, millions of simulated steps.
//!
//! Against a release build. What it found is written into `host/docs/soak.md`, with its seed and the versions of everything that took part, and
//! is committed with the change that it was made for. `WHIMBREL_SEED` repeats a soak.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::place::{Place, Profile};
use crate::services;
use crate::step::{Failure, Outcome, Steps};

/// SIGKILLs of each sink.
const KILLS: &str = "1000";
/// Schedules that the lane of production goes through.
const SCHEDULES: &str = "200000";
/// Services that take part, whose versions are written down.
const TAKING_PART: [&str; 4] = ["sqld", "postgres15", "postgres18", "firestore"];
/// What is run.
const TESTS: &str = "test(/^exactly_once::moments/) | test(/^checkpoint::simulation/)";

/// Soaks, and writes down how it went.
pub fn soak(place: &Place) -> Outcome<()> {
    let mut steps = Steps::default();
    let mut provided = services::provide(place, services::FOR_TESTS)?;
    steps.run(
        "build the program and its plugins",
        place.cargo().args([
            "build",
            "--workspace",
            Profile::Release.argument(),
            "--lib",
            "--bins",
        ]),
    )?;
    steps.run(
        "build the tests",
        place
            .cargo()
            .args(["build", "--workspace", "--lib", "--bins", "--tests"]),
    )?;
    let _servers = steps.work("start the servers that the tests share", || {
        provided.start_servers(place)
    })?;
    let given = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    let seed = given("WHIMBREL_SEED", &now.to_string());
    let (kills, schedules) = (
        given("WHIMBREL_KILLS", KILLS),
        given("WHIMBREL_SCHEDULES", SCHEDULES),
    );
    let mut tests = place.command(provided.program("cargo-nextest")?);
    tests
        .args(["nextest", "run", "--workspace", "--profile", "soak", "-E", TESTS])
        .env("WHIMBREL_BIN", place.program(Profile::Release))
        .env("WHIMBREL_SEED", &seed)
        .env("WHIMBREL_KILLS", &kills)
        .env("WHIMBREL_SCHEDULES", &schedules)
        .envs(provided.variables.iter().map(|(key, value)| (key, value)));
    let started = Instant::now();
    let said = steps.work("kill and resume", || output_of(&mut tests))?;
    let mut facts = vec![
        ("seed", seed),
        ("SIGKILLs of each sink", kills),
        ("simulated schedules", schedules),
        ("time", format!("{:.0} s", started.elapsed().as_secs_f64())),
        ("machine", machine()),
        ("compiler", first_line(Command::new("rustc").arg("--version"))),
    ];
    facts.extend(
        provided
            .versions
            .into_iter()
            .filter(|(name, _)| TAKING_PART.contains(name)),
    );
    let file = place.root.join("host/docs/soak.md");
    std::fs::write(&file, page(&facts, &said)).map_err(|error| Failure::io("write", &file, &error))
}

/// The output of the tests, which is also shown; a failure is one of the soak.
fn output_of(tests: &mut Command) -> Outcome<String> {
    let output = tests
        .output()
        .map_err(|error| Failure::new(format!("cannot start the tests: {error}")))?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    if output.status.success() {
        Ok(said)
    } else {
        Err(Failure::new(format!(
            "the soak has found something: {}",
            output.status
        )))
    }
}

fn page(facts: &[(&str, String)], said: &str) -> String {
    let mut page = String::from(
        "# The last soak\n\n\
         `cargo x soak` kills runs into each sink at moments drawn by chance and resumes them, and simulates the lanes with crashes, take-overs, lost and\n\
         late answers. After each copy every record was in the sink, and the sink's own notes had one write of each.\n\n\
         | | |\n|---|---|\n",
    );
    for (name, value) in facts {
        page.push_str(&format!("| {name} | {value} |\n"));
    }
    page.push_str("\nWhat the tests said:\n```\n");
    let wanted = |line: &&str| {
        ["kills in", "schedules", "noticed with", "PASS", "Summary"]
            .iter()
            .any(|part| line.contains(part))
    };
    // The runner repeats at its end what it said before.
    let mut seen = BTreeSet::new();
    for line in said.lines().map(str::trim).filter(wanted) {
        if line.starts_with("PASS") && !seen.insert(line) {
            continue;
        }
        page.push_str(line);
        page.push('\n');
    }
    page.push_str("```\n");
    page
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "{} {}, {cores} cores",
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().next().unwrap_or("unknown").to_owned()
}
