//! Rules over `Cargo.toml` files and over what cargo says of the lock file.
//!
//! Dependencies point one way: plugins and host at the plugin API, tests and examples at anything.

use toml::{Table, Value};

use super::tree::{Findings, root};

const PLUGIN_API: &str = "whimbrel-plugin-api";

/// No dependency from host to plugin, plugin to host, plugin to plugin, or from the API to either.
pub(super) fn dependency_direction(path: &str, text: &str) -> Vec<String> {
    let allowed: &[&str] = match path.split('/').collect::<Vec<_>>()[..] {
        ["plugin-api", "Cargo.toml"] => &["abi_stable"],
        ["host", "Cargo.toml"] => &[PLUGIN_API, "abi_stable"],
        ["plugins", _, "Cargo.toml"] => &[PLUGIN_API],
        _ => return Vec::new(),
    };
    with_table(path, text, |table| {
        let restricted = dependencies(table)
            .into_iter()
            .filter(|dependency| dependency.is_restricted());
        let wrong = restricted.filter(|dependency| !allowed.contains(&dependency.package.as_str()));
        wrong
            .map(|dependency| format!("{path}: must not depend on `{}`", dependency.package))
            .collect()
    })
}

struct Dependency {
    package: String,
    has_path: bool,
}

impl Dependency {
    /// Whether it is one of this repository's packages, or the crate that only the boundary uses.
    fn is_restricted(&self) -> bool {
        let is_ours = self.package == "whimbrel" || self.package.starts_with("whimbrel-");
        is_ours || self.has_path || self.package == "abi_stable"
    }
}

/// The dependencies of a manifest of every kind and for every platform.
fn dependencies(table: &Table) -> Vec<Dependency> {
    let platforms = table
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(Table::values);
    let holders = std::iter::once(table).chain(platforms.filter_map(Value::as_table));
    let sections = holders.flat_map(|holder| {
        ["dependencies", "dev-dependencies", "build-dependencies"].map(|section| holder.get(section))
    });
    let entries = sections.flatten().filter_map(Value::as_table).flatten();
    entries
        .map(|(name, value)| Dependency {
            package: value
                .get("package")
                .and_then(Value::as_str)
                .unwrap_or(name)
                .to_owned(),
            has_path: value.get("path").is_some(),
        })
        .collect()
}

/// Every package of the workspace has the workspace's lints.
pub(super) fn workspace_lints(path: &str, text: &str) -> Vec<String> {
    if !path.ends_with("/Cargo.toml") || path.starts_with("examples/") {
        return Vec::new();
    }
    with_table(path, text, |table| {
        let stands_alone = table.contains_key("workspace");
        let inherits =
            table.get("lints").and_then(|lints| lints.get("workspace")) == Some(&Value::Boolean(true));
        let wrong = !stands_alone && !inherits;
        wrong
            .then(|| format!("{path}: has no `[lints] workspace = true`"))
            .into_iter()
            .collect()
    })
}

fn with_table(path: &str, text: &str, rule: impl FnOnce(&Table) -> Vec<String>) -> Vec<String> {
    match text.parse::<Table>() {
        Ok(table) => rule(&table),
        Err(error) => vec![format!("{path}: cannot be read as TOML: {error}")],
    }
}

/// Locked packages that a user of the oldest compiler that we promise could not build.
pub(super) fn locked_compilers() -> Findings {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = std::process::Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline", "--all-features"])
        // Only what this machine builds: packages for other systems may never have been downloaded.
        .args(["--filter-platform", &platform()])
        .current_dir(root())
        .output()
        .expect("cargo runs, since it started this test");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Findings(newer_compilers(
        &String::from_utf8_lossy(&output.stdout),
        env!("CARGO_PKG_RUST_VERSION"),
    ))
}

/// The platform that this machine's compiler builds for.
fn platform() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc)
        .arg("-vV")
        .current_dir(root())
        .output();
    let said = String::from_utf8(output.expect("rustc runs, since it built this test").stdout);
    let said = said.expect("rustc speaks UTF-8");
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("`rustc -vV` names the host platform").to_owned()
}

/// Packages in `metadata`, which is what `cargo metadata` prints, that need a newer compiler than `promised`.
pub(super) fn newer_compilers(metadata: &str, promised: &str) -> Vec<String> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).expect("cargo metadata prints JSON");
    let packages = metadata["packages"]
        .as_array()
        .expect("cargo metadata lists packages");
    let mut wrong = Vec::new();
    for package in packages {
        let Some(needed) = package["rust_version"].as_str() else {
            continue;
        };
        if numbers(needed) > numbers(promised) {
            let (name, version) = (&package["name"], &package["version"]);
            wrong.push(format!(
                "{} {} needs rustc {needed}, `rust-version` says {promised}",
                name.as_str().unwrap_or_default(),
                version.as_str().unwrap_or_default()
            ));
        }
    }
    wrong
}

fn numbers(version: &str) -> [u64; 3] {
    let mut parts = version
        .split('.')
        .map(|part| part.parse().expect("cargo checked the version"));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}
