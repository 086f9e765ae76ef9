//! Builds `examples/minimal-source` as a stranger would: outside the workspace, in release, by the other compiler.
//!
//! Neighbours: `services.rs` finds that compiler, `tests/suite/minimal_source.rs` runs what is built.

use std::path::PathBuf;

use crate::place::Place;
use crate::services::Provided;
use crate::step::{Outcome, Steps};

/// The variable that tells the tests where the library is.
pub const VARIABLE: &str = "WHIMBREL_MINIMAL_SOURCE";

/// Builds it; `None` if there is no other compiler, which was said when it was looked for.
pub fn minimal_source(place: &Place, steps: &mut Steps, provided: &Provided) -> Outcome<Option<PathBuf>> {
    let variable = |name: &str| {
        provided
            .variables
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.clone())
    };
    let (Some(cargo), Some(rustc)) = (variable("WHIMBREL_OTHER_CARGO"), variable("WHIMBREL_OTHER_RUSTC"))
    else {
        return Ok(None);
    };
    let target = place.target.join("minimal-source");
    let mut build = place.command(cargo);
    build
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(place.root.join("examples/minimal-source/Cargo.toml"))
        .env("RUSTC", rustc)
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTFLAGS");
    steps.run("build the smallest plugin with another compiler", &mut build)?;
    Ok(Some(target.join("release/libwhimbrel_numbers.so")))
}
