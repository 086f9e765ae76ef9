//! `cargo x zoo`: libraries that are no plugins, or plugins of another kind than this host expects.
//!
//! Each stands as `zoo/<member>/libwhimbrel_<member>.so` in the target folder. Some are built, from the scripted plugin; the
//! others are copies of one of these with something broken. What each must lead to, `tests/suite/zoo.rs` says.

mod damage;

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::place::Place;
use crate::step::{Failure, Outcome, Steps};

/// What the compile error of the export macro says.
const ABORT_MESSAGE: &str = "a whimbrel plugin must be built with panic = \"unwind\"";

/// A member that is built: its name, arguments for rustc on the packages of this repository, and its manifest.
struct Variant {
    name: &'static str,
    rustc: &'static [&'static str],
    manifest: &'static str,
}

/// What the members are made from.
const INPUTS: [&str; 7] = [
    "Cargo.lock",
    "Cargo.toml",
    "plugin-api/Cargo.toml",
    "plugin-api/src",
    "tests/scripted-plugin/Cargo.toml",
    "tests/scripted-plugin/src",
    "tests/zoo/other-arrow/Cargo.toml",
];

/// The repository's own workspace.
const WORKSPACE: &str = "Cargo.toml";

const VARIANTS: [Variant; 6] = [
    // The others are patched from this one.
    Variant {
        name: "debug",
        rustc: &[],
        manifest: WORKSPACE,
    },
    Variant {
        name: "release",
        rustc: &[
            "-C",
            "opt-level=1",
            "-C",
            "debug-assertions=no",
            "-C",
            "overflow-checks=no",
        ],
        manifest: WORKSPACE,
    },
    Variant {
        name: "older",
        rustc: &["--cfg", "whimbrel_made_up=\"older\""],
        manifest: WORKSPACE,
    },
    Variant {
        name: "newer",
        rustc: &["--cfg", "whimbrel_made_up=\"newer\""],
        manifest: WORKSPACE,
    },
    // API 2.1, with a constructor that ends the process.
    Variant {
        name: "constructor",
        rustc: &["--cfg", "whimbrel_made_up=\"major\""],
        manifest: WORKSPACE,
    },
    Variant {
        name: "other-arrow",
        rustc: &[],
        manifest: "tests/zoo/other-arrow/Cargo.toml",
    },
];

/// Builds every member.
pub fn zoo(place: &Place) -> Outcome<()> {
    let mut steps = Steps::default();
    let zoo = Zoo::new(place)?;
    if zoo.is_fresh()? {
        eprintln!("    the zoo is up to date");
        return Ok(());
    }
    let started = zoo.folder.join("started");
    std::fs::write(&started, "").map_err(|error| Failure::io("write", &started, &error))?;
    for variant in &VARIANTS {
        steps.work(&format!("build the member `{}`", variant.name), || {
            zoo.build(variant)
        })?;
    }
    steps.work("see that `panic = \"abort\"` does not compile", || {
        zoo.refuse_abort()
    })?;
    steps.work("break copies", || zoo.damage())?;
    std::fs::rename(&started, zoo.stamp()).map_err(|error| Failure::io("rename", &started, &error))?;
    eprint!("{}", steps.table());
    Ok(())
}

struct Zoo<'p> {
    place: &'p Place,
    folder: PathBuf,
    build: PathBuf,
}

impl<'p> Zoo<'p> {
    fn new(place: &'p Place) -> Outcome<Self> {
        let zoo = Self {
            place,
            folder: place.target.join("zoo"),
            build: place.target.join("zoo-build"),
        };
        for folder in [&zoo.folder, &zoo.build] {
            std::fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, &error))?;
        }
        Ok(zoo)
    }

    /// Its time is that of the beginning of the last build that came to its end.
    fn stamp(&self) -> PathBuf {
        self.folder.join("built")
    }

    /// Whether nothing of what the members are made from is younger than the members.
    fn is_fresh(&self) -> Outcome<bool> {
        let Ok(built) = std::fs::metadata(self.stamp()).and_then(|stamp| stamp.modified()) else {
            return Ok(false);
        };
        let mut inputs: Vec<PathBuf> = INPUTS.iter().map(|input| self.place.root.join(input)).collect();
        // Of another compiler, cargo would have built this program anew. A build of everything may have replaced it
        // since it was started; then it is no longer there to be looked at.
        inputs.extend(std::env::current_exe().ok().filter(|program| program.is_file()));
        while let Some(path) = inputs.pop() {
            let age = std::fs::metadata(&path).and_then(|input| Ok((input.is_dir(), input.modified()?)));
            let (is_folder, modified) = age.map_err(|error| Failure::io("look at", &path, &error))?;
            if modified >= built {
                return Ok(false);
            }
            if is_folder {
                let entries = std::fs::read_dir(&path).map_err(|error| Failure::io("read", &path, &error))?;
                inputs.extend(entries.flatten().map(|entry| entry.path()));
            }
        }
        Ok(true)
    }

    /// The folder of a member, empty.
    fn pen(&self, member: &str) -> Outcome<PathBuf> {
        let pen = self.folder.join(member);
        match std::fs::remove_dir_all(&pen) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::io("empty", &pen, &error));
            }
            _ => {}
        }
        std::fs::create_dir_all(&pen).map_err(|error| Failure::io("create", &pen, &error))?;
        Ok(pen)
    }

    /// The library of a member.
    fn library(&self, member: &str) -> PathBuf {
        let file = format!("libwhimbrel_{}.so", member.replace('-', "_"));
        self.folder.join(member).join(file)
    }

    /// `cargo` for one member, in a target folder that all members share.
    ///
    /// cargo keeps what a wrapper compiles apart by the wrapper's path. So each member has a wrapper of its own, which
    /// adds its arguments to the packages of this repository only, and dependencies are compiled once for all members.
    fn cargo(&self, variant: &Variant, verb: &str) -> Outcome<Command> {
        let wrapper = self.build.join(format!("rustc-{}", variant.name));
        let added: String = variant
            .rustc
            .iter()
            .map(|argument| format!(" '{argument}'"))
            .collect();
        // The lints are for those who write the code, not for those who build it in odd ways.
        let script = format!("#!/bin/sh\nexec \"$@\" --cap-lints allow{added}\n");
        // Written only when it changes: another build may be running it.
        if std::fs::read_to_string(&wrapper).ok().as_ref() != Some(&script) {
            std::fs::write(&wrapper, script)
                .and_then(|()| std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)))
                .map_err(|error| Failure::io("write", &wrapper, &error))?;
        }
        let mut cargo = self.place.cargo();
        cargo
            .args([verb, "--quiet", "--lib", "--manifest-path", variant.manifest])
            .arg("--target-dir")
            .arg(&self.build)
            .env("RUSTC_WORKSPACE_WRAPPER", wrapper)
            .env("WHIMBREL_ZOO_NAME", format!("scripted-{}", variant.name))
            // Nobody debugs them, and with debug information each is tens of megabytes.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0");
        if variant.manifest == WORKSPACE {
            cargo.args(["--package", "whimbrel-scripted"]);
        }
        Ok(cargo)
    }

    fn build(&self, variant: &Variant) -> Outcome<()> {
        // cargo writes the libraries of all members to one path, and would take the last one for each of them.
        let built = self.build.join("debug").join("libwhimbrel_scripted.so");
        for stale in [&built, &self.build.join("debug/deps/libwhimbrel_scripted.so")] {
            match std::fs::remove_file(stale) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::io("remove", stale, &error));
                }
                _ => {}
            }
        }
        let status = self.cargo(variant, "build")?.status().map_err(|error| {
            Failure::new(format!(
                "cannot start cargo for the member `{}`: {error}",
                variant.name
            ))
        })?;
        if !status.success() {
            return Err(Failure::new(format!(
                "the member `{}` does not build: {status}",
                variant.name
            )));
        }
        self.pen(variant.name)?;
        let library = self.library(variant.name);
        std::fs::copy(&built, &library).map_err(|error| Failure::io("copy", &built, &error))?;
        Ok(())
    }

    /// A plugin with `panic = "abort"` must not compile, and what the compiler says is kept for the tests.
    fn refuse_abort(&self) -> Outcome<()> {
        let output = self
            .cargo(&VARIANTS[0], "rustc")?
            .args(["--", "-C", "panic=abort"])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::new(format!("cannot start cargo: {error}")))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let log = self.pen("panic-abort")?.join("compiler.txt");
        std::fs::write(&log, said.as_bytes()).map_err(|error| Failure::io("write", &log, &error))?;
        if output.status.success() || !said.contains(ABORT_MESSAGE) {
            return Err(Failure::new(format!(
                "a plugin with `panic = \"abort\"` is not refused:\n{said}"
            )));
        }
        Ok(())
    }

    fn damage(&self) -> Outcome<()> {
        let path = self.library("debug");
        let whole = std::fs::read(&path).map_err(|error| Failure::io("read", &path, &error))?;
        for (member, octets) in damage::members(&whole)? {
            self.pen(member)?;
            let library = self.library(member);
            std::fs::write(&library, octets).map_err(|error| Failure::io("write", &library, &error))?;
        }
        self.pen("symlink")?;
        let link = self.library("symlink");
        symlink(&path, &link).map_err(|error| Failure::io("link", &link, &error))?;
        self.pen("world-writable")?;
        let open = self.library("world-writable");
        std::fs::copy(&path, &open)
            .and_then(|_| std::fs::set_permissions(&open, PermissionsExt::from_mode(0o666)))
            .map_err(|error| Failure::io("copy", &open, &error))?;
        let folder = self.pen("folder")?.join("libwhimbrel_folder.so");
        std::fs::create_dir(&folder).map_err(|error| Failure::io("create", &folder, &error))?;
        // Under its own name: a stray library of the system, as one finds it in folders.
        let libz = self.pen("libz")?.join("libz.so");
        let system = system_library()?;
        std::fs::copy(&system, &libz).map_err(|error| Failure::io("copy", &system, &error))?;
        Ok(())
    }
}

/// The system's libz, or another library of the system that this process has loaded.
fn system_library() -> Outcome<PathBuf> {
    let machine = std::env::consts::ARCH;
    let usual = [
        format!("/usr/lib/{machine}-linux-gnu/libz.so.1"),
        "/usr/lib64/libz.so.1".to_owned(),
    ];
    if let Some(libz) = usual.iter().map(Path::new).find(|path| path.exists()) {
        return Ok(libz.to_path_buf());
    }
    let maps = std::fs::read("/proc/self/maps")
        .map_err(|error| Failure::io("read", Path::new("/proc/self/maps"), &error))?;
    let maps = String::from_utf8_lossy(&maps).into_owned();
    let loaded = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains(".so"));
    loaded
        .map(|path| PathBuf::from(OsString::from(path)))
        .ok_or_else(|| Failure::new("no library of the system was found"))
}
