//! `cargo x bench`: every benchmark of the workspace, against a release build of program and plugins.
//!
//! Times are for reading: no check fails on them.

use crate::place::{Place, Profile};
use crate::step::{Outcome, Steps};

/// Builds in release, then runs the benchmarks that `arguments` choose, or all.
pub fn bench(place: &Place, arguments: &[String]) -> Outcome<()> {
    let mut steps = Steps::default();
    steps.run(
        "build the program and its plugins",
        place
            .cargo()
            .args(["build", "--workspace", Profile::Release.argument()]),
    )?;
    let mut bench = place.cargo();
    bench.args(["bench", "--workspace"]);
    // Without a choice, and unlike cargo's own default, no unit tests beside the benchmarks.
    if !arguments
        .iter()
        .any(|argument| argument == "--bench" || argument.starts_with("--bench="))
    {
        bench.args(["--bench", "*"]);
    }
    bench
        .args(arguments)
        .env("WHIMBREL_BIN", place.program(Profile::Release));
    steps.run_last("run the benchmarks", &mut bench)
}
