//! Chromium, for the tests that read the profile of a real browser.
//!
//! Firefox is not needed: its profile is kept with the sources (`plugins/local-storage/tests/fixtures`).

use std::path::PathBuf;

use super::{Found, Service, first_line, install_debian_packages};
use crate::place::Place;

/// The browser whose profiles the tests make and read.
pub const CHROMIUM: Service = Service {
    name: "chromium",
    purpose: "keeps localStorage in profiles that are read while it runs",
    by_hand: "as root, apt-get install chromium; or set WHIMBREL_CHROMIUM",
    find: find_chromium,
    install: |place| install_debian_packages(place, &["chromium"]),
};

/// The one that the environment names, or the one on the path.
fn find_chromium(place: &Place) -> Option<Found> {
    let program =
        std::env::var_os("WHIMBREL_CHROMIUM").map_or_else(|| PathBuf::from("chromium"), PathBuf::from);
    let version = first_line(place.command(&program).arg("--version"))?;
    Some(Found {
        variables: vec![("WHIMBREL_CHROMIUM", program.display().to_string())],
        program,
        version,
    })
}
