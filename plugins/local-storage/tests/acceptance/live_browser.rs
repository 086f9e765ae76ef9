//! A real Chromium that runs: what is read of its profile while it has it open, and after it has ended, is what its pages
//! said.
//!
//! `chromium` reads a profile that is kept with the sources.

use std::time::Duration;

use serde_json::json;

use crate::browser::{chromium, fill, wait_for};
use crate::profile::{Folder, codes, compare, config, error, findings};

/// Chromium writes five seconds after the page does, and later if it had much to write.
const WRITE_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_profile_is_read_as_its_pages_say_while_the_browser_runs_and_afterwards() {
    let Some(program) = chromium() else {
        return;
    };
    let folder = Folder::empty();
    let filled = fill(&program, folder.path(), "first");
    let config = config(folder.path());
    wait_for("all of it to be on the disk", WRITE_LIMIT, || {
        let compared = compare(&config, &filled.told);
        compared.is_ok()
    });
    assert!(codes(&findings(&config)).contains(&"local_storage.browser_open"));
    filled.browser.stop();

    let before = folder.content();
    assert_eq!(compare(&config, &filled.told), Ok(()));
    assert!(!codes(&findings(&config)).contains(&"local_storage.browser_open"));
    let one = filled.origins[1].clone();
    let chosen = json!({"path": folder.path(), "origin": one});
    let told = filled
        .told
        .into_iter()
        .filter(|(origin, _)| *origin == one)
        .collect();
    assert_eq!(compare(&chosen, &told), Ok(()));
    let missing = error(&json!({"path": folder.path(), "origin": "http://nobody"}));
    assert_eq!(missing.code, "local_storage.origin_missing");
    assert!(
        filled
            .origins
            .iter()
            .all(|origin| missing.message.contains(origin))
    );
    assert!(folder.content() == before, "the profile was written to");
}

#[test]
fn a_profile_whose_browser_was_killed_is_read_as_its_pages_said() {
    let Some(program) = chromium() else {
        return;
    };
    let folder = Folder::empty();
    let filled = fill(&program, folder.path(), "small");
    let config = config(folder.path());
    wait_for("all of it to be on the disk", WRITE_LIMIT, || {
        compare(&config, &filled.told).is_ok()
    });
    filled.browser.kill();
    assert_eq!(compare(&config, &filled.told), Ok(()));
}
