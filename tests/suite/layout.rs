//! Keeps the tree as its design says: who depends on whom, host modules in layers, names, places of `unsafe`.
//!
//! Each rule is a function of a path and a text that returns what is wrong, so that a made-up bad file can
//! show that it bites. `source.rs` reads Rust, `manifest.rs` reads `Cargo.toml`, `tree.rs` walks the folders.

mod manifest;
mod source;
mod tree;

use source::{Source, Token};
use tree::{File, Findings, findings};

/// The modules of the host, top to bottom, and left to right within a layer. A module uses those after it.
const HOST_LAYERS: [&[&str]; 7] = [
    &["cli", "api", "scheduler"],
    &["supervisor"],
    &["orchestrator"],
    &["phases"],
    &[
        "plan",
        "pipeline",
        "verification",
        "backup",
        "rollback",
        "checkpoint",
        "transform",
        "loader",
    ],
    &["status", "certificate", "report", "notify"],
    &[
        "barrier",
        "control",
        "crash_site",
        "state",
        "events",
        "workspace",
        "canonical_json",
        "config",
        "error",
    ],
];

/// Names that say nothing of what is in the file or folder.
const EMPTY_NAMES: [&str; 10] = [
    "utils", "util", "common", "helpers", "helper", "core", "base", "types", "manager", "misc",
];

/// Where `unsafe` may stand. The export macro is among them for the attributes of the symbols that it exports.
const UNSAFE_PLACES: &[&str] = &[
    "plugin-api/src/abi/",
    "plugin-api/src/export.rs",
    "host/src/loader/library.rs",
    "tests/scripted-plugin/",
    "tests/zoo/",
];

/// Where `abi_stable` may be named.
const ABI_STABLE_PLACES: &[&str] = &["plugin-api/src/abi/", "host/src/loader/"];

/// Words by which the host would name a plugin or the system behind one.
const PLUGIN_WORDS: [&str; 9] = [
    "firestore",
    "turso",
    "libsql",
    "local-storage",
    "local_storage",
    "localstorage",
    "postgres",
    "slack",
    "smtp",
];

/// A page of documentation that is one complete plugin, so longer than an opening.
const WHOLE_PAGE: &str = "plugin-api/src/lib.rs";

/// Every Rust file says what it is for.
fn opening(path: &str, text: &str) -> Vec<String> {
    if !path.ends_with(".rs") {
        return Vec::new();
    }
    match text.lines().take_while(|line| line.starts_with("//!")).count() {
        2..=12 => Vec::new(),
        13.. if path == WHOLE_PAGE => Vec::new(),
        found => vec![format!(
            "{path}:1: opens with {found} lines of `//!`, wanted are 2 to 12"
        )],
    }
}

/// No file or folder has a name that says nothing.
fn telling_names(path: &str, _text: &str) -> Vec<String> {
    path.split('/')
        .map(|part| part.split_once('.').map_or(part, |(stem, _)| stem))
        .filter(|stem| EMPTY_NAMES.contains(stem))
        .map(|stem| format!("{path}: `{stem}` says nothing of what is in it"))
        .collect()
}

/// `unsafe` stands in the boundary only.
fn unsafe_places(path: &str, text: &str) -> Vec<String> {
    word_places(path, text, "unsafe", UNSAFE_PLACES)
}

/// `abi_stable` is named in the boundary only.
fn abi_stable_places(path: &str, text: &str) -> Vec<String> {
    word_places(path, text, "abi_stable", ABI_STABLE_PLACES)
}

fn word_places(path: &str, text: &str, word: &str, places: &[&str]) -> Vec<String> {
    if !path.ends_with(".rs") || places.iter().any(|place| path.starts_with(place)) {
        return Vec::new();
    }
    with_source(path, text, |source| {
        let named = source.tokens.iter().filter(|token| token.is_word(word));
        named
            .map(|token| format!("{path}:{}: `{word}` belongs in {}", token.line, places.join(", ")))
            .collect()
    })
}

/// The host names no plugin, in words or in strings; its comments and tests may.
fn host_names_no_plugin(path: &str, text: &str) -> Vec<String> {
    if !path.starts_with("host/src/") || !path.ends_with(".rs") {
        return Vec::new();
    }
    with_source(path, text, |source| {
        let tokens = source.without_tests();
        let named = |token: &Token| {
            PLUGIN_WORDS
                .iter()
                .find(|word| has_word(&token.text, word))
                .copied()
        };
        let found = tokens.filter_map(|token| named(token).map(|word| (token.line, word)));
        found
            .map(|(line, word)| format!("{path}:{line}: the host names the plugin `{word}`"))
            .collect()
    })
}

/// The files and folders, up to where their names end, of modules that a host file declares for tests only.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let (Some((folder, name)), true) = (path.rsplit_once('/'), path.starts_with("host/src/")) else {
        return Vec::new();
    };
    let is_folder_file = ["mod.rs", "lib.rs", "main.rs"].contains(&name);
    let folder = if is_folder_file {
        folder
    } else {
        path.trim_end_matches(".rs")
    };
    let names = Source::read(text)
        .map(|source| source.test_modules())
        .unwrap_or_default();
    names
        .iter()
        .flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/")])
        .collect()
}

/// Whether `text` has `word` with no letter, digit or underscore at either side, whatever the case.
fn has_word(text: &str, word: &str) -> bool {
    let text = text.to_lowercase();
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// A module of the host uses those to its right in its layer, or lower ones.
fn host_layers(path: &str, text: &str) -> Vec<String> {
    let Some(inside) = path
        .strip_prefix("host/src/")
        .filter(|inside| inside.ends_with(".rs"))
    else {
        return Vec::new();
    };
    if ["lib.rs", "main.rs"].contains(&inside) {
        return Vec::new();
    }
    let module = inside.split(['/', '.']).next().unwrap_or(inside);
    let Some(own) = layer_position(module) else {
        return vec![format!(
            "{path}:1: module `{module}` is in no layer: add it to HOST_LAYERS"
        )];
    };
    with_source(path, text, |source| {
        let mut wrong = Vec::new();
        for (used, line) in source.crate_paths() {
            match layer_position(&used) {
                Some(position) if position >= own => {}
                Some(_) => wrong.push(format!(
                    "{path}:{line}: `{module}` uses `{used}`, which is above it"
                )),
                None => wrong.push(format!(
                    "{path}:{line}: `crate::{used}` is no module of a layer: name where the item is defined"
                )),
            }
        }
        let depth = inside
            .trim_end_matches(".rs")
            .trim_end_matches("/mod")
            .split('/')
            .count();
        for line in source.supers_to_the_root(depth) {
            wrong.push(format!(
                "{path}:{line}: name another module by `crate::`, not by `super`"
            ));
        }
        wrong
    })
}

fn layer_position(module: &str) -> Option<usize> {
    HOST_LAYERS
        .iter()
        .copied()
        .flatten()
        .position(|known| *known == module)
}

/// No test is switched off: what is missing is said by the test itself.
fn no_ignored_test(path: &str, text: &str) -> Vec<String> {
    if !path.ends_with(".rs") {
        return Vec::new();
    }
    with_source(path, text, |source| {
        let ignored = source.attributes().filter(|(name, _)| name == "ignore");
        ignored
            .map(|(_, line)| format!("{path}:{line}: a test is ignored"))
            .collect()
    })
}

fn with_source(path: &str, text: &str, rule: impl FnOnce(&Source) -> Vec<String>) -> Vec<String> {
    match Source::read(text) {
        Ok(source) => rule(&source),
        Err(error) => vec![format!("{path}: cannot be read as Rust: {error}")],
    }
}

#[test]
fn the_walk_sees_the_sources() {
    let files: Vec<File> = tree::files();
    for wanted in [
        "tests/suite/layout.rs",
        "tests/Cargo.toml",
        "tests/xtask/src/main.rs",
    ] {
        assert!(
            files.iter().any(|file| file.path == wanted),
            "`{wanted}` was not seen"
        );
    }
    assert!(
        !files.iter().any(|file| file.path.contains("node_modules")),
        "`node_modules` was walked"
    );
}

#[test]
fn every_file_opens_with_its_purpose() {
    findings(opening).assert_none();
}

#[test]
fn every_name_tells_something() {
    findings(telling_names).assert_none();
}

#[test]
fn unsafe_stays_in_its_places() {
    findings(unsafe_places).assert_none();
}

#[test]
fn abi_stable_stays_in_its_places() {
    findings(abi_stable_places).assert_none();
}

#[test]
fn the_host_names_no_plugin() {
    let files = tree::files();
    let test_files: Vec<String> = files
        .iter()
        .flat_map(|file| test_modules(&file.path, &file.text))
        .collect();
    let is_test = |file: &&File| test_files.iter().any(|test| file.path.starts_with(test));
    let shipped = files.iter().filter(|file| !is_test(file));
    Findings(
        shipped
            .flat_map(|file| host_names_no_plugin(&file.path, &file.text))
            .collect(),
    )
    .assert_none();
}

#[test]
fn host_modules_stay_in_layers() {
    findings(host_layers).assert_none();
}

#[test]
fn no_test_is_ignored() {
    findings(no_ignored_test).assert_none();
}

#[test]
fn dependencies_point_at_the_plugin_api() {
    findings(manifest::dependency_direction).assert_none();
}

#[test]
fn every_member_takes_the_workspace_lints() {
    findings(manifest::workspace_lints).assert_none();
}

#[test]
fn no_locked_package_needs_a_newer_compiler_than_we_say() {
    manifest::locked_compilers().assert_none();
}

#[cfg(test)]
mod bad_files {
    //! A made-up bad file for each rule, and a good one beside it.

    use super::*;

    #[track_caller]
    fn refused(found: &[String], part: &str) {
        assert!(
            found.iter().any(|finding| finding.contains(part)),
            "no finding has `{part}`: {found:?}"
        );
    }

    const OPENING: &str = "//! One.\n//! Two.\n";

    #[test]
    fn file_without_a_purpose_is_refused() {
        refused(
            &opening("host/src/a.rs", "//! One line.\nfn a() {}\n"),
            "host/src/a.rs:1",
        );
        refused(&opening("host/src/a.rs", "fn a() {}\n"), "0 lines");
        refused(&opening("host/src/a.rs", &"//! line\n".repeat(13)), "13 lines");
        refused(&opening(WHOLE_PAGE, "//! One line.\n"), "1 lines");
        assert!(opening(WHOLE_PAGE, &"//! line\n".repeat(100)).is_empty());
        assert!(opening("host/src/a.rs", OPENING).is_empty());
        assert!(opening("host/docs/a.md", "").is_empty());
    }

    #[test]
    fn empty_name_is_refused() {
        refused(&telling_names("host/src/utils.rs", ""), "`utils`");
        refused(&telling_names("plugins/x/src/common/mod.rs", ""), "`common`");
        refused(&telling_names("tests/suite/helpers.test.rs", ""), "`helpers`");
        assert!(telling_names("host/src/record_types.rs", "").is_empty());
    }

    #[test]
    fn unsafe_elsewhere_is_refused() {
        let code = "fn a() { unsafe { b() } }";
        refused(&unsafe_places("host/src/loader/search.rs", code), "search.rs:1");
        refused(
            &unsafe_places("plugins/x/src/lib.rs", "#[unsafe(no_mangle)] fn a() {}"),
            "`unsafe`",
        );
        refused(
            &unsafe_places(
                "plugin-api/src/config.rs",
                "macro_rules! m { () => { unsafe {} } }",
            ),
            "`unsafe`",
        );
        assert!(unsafe_places("host/src/loader/library.rs", code).is_empty());
        assert!(unsafe_places("plugin-api/src/abi/source.rs", code).is_empty());
        assert!(
            unsafe_places(
                "host/src/a.rs",
                "// unsafe\n#![deny(unsafe_code)]\nconst A: &str = \"unsafe\";"
            )
            .is_empty()
        );
    }

    #[test]
    fn abi_stable_elsewhere_is_refused() {
        let code = "use abi_stable::StableAbi;";
        refused(
            &abi_stable_places("plugin-api/src/source.rs", code),
            "source.rs:1",
        );
        refused(
            &abi_stable_places("plugins/x/src/lib.rs", "fn a(b: ::abi_stable::RStr) {}"),
            "lib.rs:1",
        );
        assert!(abi_stable_places("host/src/loader/library.rs", code).is_empty());
        assert!(abi_stable_places("plugin-api/src/lib.rs", "/// Uses abi_stable.\nfn a() {}").is_empty());
    }

    #[test]
    fn plugin_named_by_the_host_is_refused() {
        let rule = |code: &str| host_names_no_plugin("host/src/plan/estimate.rs", code);
        refused(&rule("fn a() -> &'static str { \"Firestore\" }"), "estimate.rs:1");
        refused(
            &rule("\nconst A: &str = \"plugin `whimbrel-turso`\";"),
            "estimate.rs:2",
        );
        refused(&rule("fn local_storage() {}"), "`local_storage`");
        refused(&rule("#[arg(help = \"as for slack\")] struct A;"), "`slack`");
        refused(&rule("#[cfg(test)] use a::b;\nfn libsql() {}"), "`libsql`");
        assert!(
            rule("// like Firestore\n/// not smtp\nconst A: &str = \"whimbrel_turso FIRESTORE_QUOTA\";")
                .is_empty()
        );
        assert!(rule("#[cfg(test)]\nmod tests { const A: &str = \"turso\"; }").is_empty());
        assert!(host_names_no_plugin("plugins/turso/src/lib.rs", "const A: &str = \"turso\";").is_empty());
    }

    #[test]
    fn files_of_test_modules_are_known() {
        let declared = "#[cfg(test)]\nmod fixtures;\nmod shipped;\n#[cfg(test)]\nmod tests { mod inner; }";
        let inside = |path: &str| test_modules(path, declared);
        assert_eq!(
            inside("host/src/config/mod.rs")[..2],
            ["host/src/config/fixtures.rs", "host/src/config/fixtures/"]
        );
        assert_eq!(
            inside("host/src/plan/order.rs")[1],
            "host/src/plan/order/fixtures/"
        );
        assert!(
            !inside("host/src/plan/order.rs")
                .iter()
                .any(|path| path.contains("shipped"))
        );
    }

    #[test]
    fn use_of_a_higher_layer_is_refused() {
        let rule = |code: &str| host_layers("host/src/plan/order.rs", code);
        refused(&rule("use crate::cli::run;"), "`plan` uses `cli`");
        refused(
            &rule("use crate::{\n    config::Job,\n    phases::{self, extraction},\n};"),
            "order.rs:3",
        );
        refused(&rule("fn a() { crate::orchestrator::run() }"), "`orchestrator`");
        refused(&rule("use crate::Job;"), "`crate::Job`");
        refused(&rule("use super::super::cli::run;"), "`super`");
        refused(
            &host_layers("host/src/error.rs", "use super::cli::run;"),
            "`super`",
        );
        refused(
            &host_layers("host/src/rollback/mod.rs", "use crate::backup;"),
            "`rollback` uses `backup`",
        );
        refused(&host_layers("host/src/novelty/mod.rs", ""), "HOST_LAYERS");
        let good = "use crate::{config::Job, loader, pipeline::Budget};\nuse super::estimate;\n\
                    pub(crate) fn a() {}\n// use crate::cli\nmod tests { use super::*; use super::super::plan; }";
        assert_eq!(rule(good), Vec::<String>::new());
        assert!(host_layers("host/src/main.rs", "use whimbrel::cli;").is_empty());
    }

    #[test]
    fn ignored_test_is_refused() {
        refused(
            &no_ignored_test("tests/suite/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}"),
            "a.rs:2",
        );
        assert!(no_ignored_test("tests/suite/a.rs", "#[test]\nfn a() { ignore(); }").is_empty());
    }

    #[test]
    fn file_that_is_no_rust_is_refused() {
        refused(
            &unsafe_places("host/src/a.rs", "fn a() { \"open"),
            "cannot be read",
        );
    }

    #[test]
    fn dependency_in_the_wrong_direction_is_refused() {
        use manifest::dependency_direction as rule;
        refused(
            &rule("host/Cargo.toml", "[dependencies]\nwhimbrel-turso = \"0.1\""),
            "`whimbrel-turso`",
        );
        refused(
            &rule(
                "host/Cargo.toml",
                "[dev-dependencies]\nx = { path = \"../plugins/x\" }",
            ),
            "`x`",
        );
        refused(
            &rule(
                "plugins/x/Cargo.toml",
                "[target.'cfg(unix)'.dependencies]\nwhimbrel = { workspace = true }",
            ),
            "`whimbrel`",
        );
        refused(
            &rule(
                "plugins/x/Cargo.toml",
                "[build-dependencies]\ny = { package = \"whimbrel-y\", version = \"1\" }",
            ),
            "`whimbrel-y`",
        );
        refused(
            &rule(
                "plugin-api/Cargo.toml",
                "[dependencies.whimbrel]\nworkspace = true",
            ),
            "`whimbrel`",
        );
        refused(
            &rule("plugins/x/Cargo.toml", "[dependencies]\nabi_stable = \"0.11\""),
            "`abi_stable`",
        );
        let good = "[dependencies]\nserde = \"1\"\nwhimbrel-plugin-api = { workspace = true }";
        assert!(rule("plugins/x/Cargo.toml", good).is_empty());
        assert!(rule("host/Cargo.toml", good).is_empty());
        assert!(
            rule(
                "tests/Cargo.toml",
                "[dependencies]\nwhimbrel = { path = \"../host\" }"
            )
            .is_empty()
        );
    }

    #[test]
    fn member_without_the_lints_is_refused() {
        use manifest::workspace_lints as rule;
        refused(&rule("host/Cargo.toml", "[package]\nname = \"a\""), "lints");
        assert!(
            rule(
                "host/Cargo.toml",
                "[package]\nname = \"a\"\n[lints]\nworkspace = true"
            )
            .is_empty()
        );
        assert!(rule("tests/zoo/old/Cargo.toml", "[package]\nname = \"a\"\n[workspace]").is_empty());
    }

    #[test]
    fn package_for_a_newer_compiler_is_refused() {
        let metadata = |needed: &str| {
            format!(
                "{{\"packages\": [{{\"name\": \"a\", \"version\": \"2.0.0\", \"rust_version\": {needed}}}]}}"
            )
        };
        refused(
            &manifest::newer_compilers(&metadata("\"1.100\""), "1.89"),
            "a 2.0.0",
        );
        assert!(manifest::newer_compilers(&metadata("\"1.89.0\""), "1.89").is_empty());
        assert!(manifest::newer_compilers(&metadata("null"), "1.89").is_empty());
    }
}
