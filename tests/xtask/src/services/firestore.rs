//! Google's Firestore emulator, the Java that runs it, and the emulator that all tests share.
//!
//! The emulator is a part of the Google Cloud SDK and is not to be had alone. [`SharedEmulator`] runs one in a folder of its own
//! below the temporary one: `cargo x services` starts it and leaves it running, `cargo x test` stops what it has started itself.

#[path = "../../../harness/firestore/process.rs"]
mod process;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::{Found, Provided, Service, first_line, install_debian_packages, parse_version};
use crate::place::Place;
use crate::step::{Failure, Outcome};

/// The oldest Java that the emulator runs on.
const JAVA_OLDEST: super::Version = (17, 0, 0);
/// Where the emulator lies in the SDK.
const JAR: &str = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar";
/// Where Google's Debian packages lay the SDK.
const DEBIAN_SDK: &str = "/usr/lib/google-cloud-sdk";
/// An emulator has all in memory, for an hour also what was removed, and its JVM gives nothing back: one that has grown beyond
/// this is replaced by a new one. New it takes 190 MiB, after 50,000 documents 950; what it may have is in `process`.
const MEMORY_KIB_MAX: u64 = 1_280 * 1024;

/// What runs the emulator.
pub const JAVA: Service = Service {
    name: "java",
    purpose: "runs Google's Firestore emulator",
    by_hand: "as root, apt-get install openjdk-17-jre-headless; or set WHIMBREL_JAVA to one of 17 or newer",
    find: find_java,
    install: |place| install_debian_packages(place, &["openjdk-17-jre-headless"]),
};

/// The emulator.
pub const FIRESTORE: Service = Service {
    name: "firestore",
    purpose: "is the Firestore that the plugin `firestore` is tested against",
    by_hand: "gcloud components install cloud-firestore-emulator; or, as root and with Google's repository, apt-get install \
              google-cloud-cli-firestore-emulator; or set FIRESTORE_EMULATOR_JAR",
    find: find_emulator,
    install: |place| install_debian_packages(place, &["google-cloud-cli-firestore-emulator"]),
};

fn find_java(place: &Place) -> Option<Found> {
    let program = from_environment("WHIMBREL_JAVA").unwrap_or_else(|| "java".into());
    let line = first_line(place.command(&program).arg("--version"))?;
    let version = line.split_whitespace().nth(1)?;
    (parse_version(version)? >= JAVA_OLDEST).then(|| Found {
        variables: vec![("WHIMBREL_JAVA", program.display().to_string())],
        version: line.clone(),
        program,
    })
}

/// The file that the environment names, or that of the SDK whose `gcloud` is on the path, or of Debian's.
fn find_emulator(_: &Place) -> Option<Found> {
    let jar = from_environment("FIRESTORE_EMULATOR_JAR")
        .into_iter()
        .chain(sdk_on_the_path().map(|sdk| sdk.join(JAR)))
        .chain([Path::new(DEBIAN_SDK).join(JAR)])
        .find(|jar| jar.is_file())?;
    // It does not say its version, its SDK does.
    let sdk = jar.ancestors().nth(3);
    let version = sdk.and_then(|sdk| std::fs::read_to_string(sdk.join("VERSION")).ok());
    Some(Found {
        variables: vec![("WHIMBREL_FIRESTORE_JAR", jar.display().to_string())],
        version: version.map_or_else(
            || "of unknown version".to_owned(),
            |version| format!("of Google Cloud SDK {}", version.trim()),
        ),
        program: jar,
    })
}

/// The folder of the SDK: `gcloud` is in its `bin`, or a link to that.
fn sdk_on_the_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter_map(|folder| std::fs::canonicalize(folder.join("gcloud")).ok())
        .find_map(|program| program.ancestors().nth(2).map(Path::to_path_buf))
}

fn from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The emulator that all tests share, if this process has started it.
#[derive(Default)]
pub struct SharedEmulator {
    started: Option<PathBuf>,
}

impl SharedEmulator {
    /// Finds or starts it, and adds its address to what the tests are told.
    pub fn provide(place: &Place, provided: &mut Provided) -> Outcome<Self> {
        let Some((java, jar)) = provided
            .program("java")
            .ok()
            .zip(provided.program("firestore").ok())
        else {
            return Ok(Self::default());
        };
        let folder = folder(place);
        let (port, is_new) = find_or_start(java, jar, &folder)
            .map_err(|error| Failure::new(format!("cannot start `firestore`: {error}")))?;
        let state = if is_new { "started" } else { "running" };
        eprintln!("    {:<15} {state} on 127.0.0.1:{port}", "firestore");
        let address = format!("127.0.0.1:{port}");
        provided.variables.push(("WHIMBREL_FIRESTORE_EMULATOR", address));
        Ok(Self {
            started: is_new.then_some(folder),
        })
    }

    /// Lets it run on after this process.
    pub fn keep(mut self) {
        self.started = None;
    }

    /// Stops the emulator of this checkout, whoever has started it.
    pub fn stop_all(place: &Place) -> Outcome<()> {
        let folder = folder(place);
        let is_running = process::running(&folder).is_some();
        remove(&folder).map_err(|error| Failure::io("stop the emulator in", &folder, &error))?;
        let state = if is_running { "stopped" } else { "was not running" };
        eprintln!("    {:<15} {state}", "firestore");
        Ok(())
    }
}

impl Drop for SharedEmulator {
    fn drop(&mut self) {
        if let Some(folder) = &self.started
            && let Err(error) = remove(folder)
        {
            eprintln!("    cannot stop the emulator in `{}`: {error}", folder.display());
        }
    }
}

/// Where the shared emulator says where it listens: one for each checkout, so that two do not meet.
fn folder(place: &Place) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    place.target.hash(&mut hasher);
    std::env::temp_dir().join(format!("whimbrel-shared-firestore-{:016x}", hasher.finish()))
}

/// The port of the emulator of `folder`, and whether it is new. One that does not answer or has grown large is replaced.
fn find_or_start(java: &Path, jar: &Path, folder: &Path) -> std::io::Result<(u16, bool)> {
    if let Some(running) = process::running(folder)
        && running.memory_kib() <= MEMORY_KIB_MAX
        && running.is_ready()
    {
        return Ok((running.port, false));
    }
    remove(folder)?;
    std::fs::create_dir(folder)?;
    let mut launch = process::Launch {
        java: java.to_path_buf(),
        jar: jar.to_path_buf(),
        port: process::free_port()?,
        ends_with_starter: false,
    };
    let child = process::start(folder, &launch).or_else(|_| {
        // Somebody else took the port in between.
        launch.port = process::free_port()?;
        process::start(folder, &launch)
    })?;
    // It is found by its folder from now on.
    drop(child);
    Ok((launch.port, true))
}

fn remove(folder: &Path) -> std::io::Result<()> {
    process::stop(folder)?;
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
