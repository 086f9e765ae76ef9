//! The smallest plugin, built as a stranger would: outside the workspace, in release, by another compiler.
//!
//! `cargo x test` builds it (`tests/xtask/src/example.rs`). Copied into the search path it works, and the program's own
//! file stays as it was.

use std::path::PathBuf;

use crate::program::{Stage, program};

/// The built library; `None` is allowed where another compiler is not required.
fn library() -> Option<PathBuf> {
    let library = std::env::var_os("WHIMBREL_MINIMAL_SOURCE").map(PathBuf::from);
    if library.is_none() {
        let required = std::env::var("WHIMBREL_REQUIRE").unwrap_or_default();
        let is_required = required
            .split(',')
            .any(|name| name == "all" || name == "other-compiler");
        assert!(
            !is_required,
            "another compiler is required and missing: run `cargo x test`"
        );
        eprintln!(
            "NOT TESTED: the smallest plugin was not built by another compiler; `cargo x test` does it"
        );
    }
    library
}

#[test]
fn a_plugin_of_another_compiler_and_profile_runs_and_the_host_stays_as_it_was() {
    let Some(library) = library() else {
        return;
    };
    let before = std::fs::read(program()).unwrap();
    let octets = std::fs::read(library).unwrap();
    let version = std::env::var("WHIMBREL_OTHER_RUSTC_RELEASE").unwrap();
    let marks = format!("rustc version {version}");
    assert!(
        octets
            .windows(marks.len())
            .any(|window| window == marks.as_bytes()),
        "the library was not built by rustc {version}"
    );
    let stage = Stage::new();
    std::fs::create_dir(stage.path("plugins")).unwrap();
    stage.write("plugins/libwhimbrel_numbers.so", octets);
    stage.write(
        "count.yaml",
        "name: count\nsource: { plugin: numbers, config: { records: 20000 } }\n\
         sink: { plugin: turso, config: { url: \"file:count.db\" } }\n",
    );
    let report = stage
        .run(&["run", "count.yaml", "--json", "--plugin-dir", "plugins"])
        .expect(0)
        .json();
    assert_eq!(report["collections"][0]["written_count"], 20_000);
    assert_eq!(report["verification"][0]["comparison"], "equal");
    assert_eq!(
        std::fs::read(program()).unwrap(),
        before,
        "the host's file changed"
    );
}
