//! Whether a browser has a profile open, by the link that browsers leave in it: its target ends with the process.
//!
//! Chromium's `SingletonLock` points to `host-PID`, Firefox's `lock` to `address:+PID`. A crash leaves the link behind,
//! so the process is looked for too.

use std::path::Path;

use super::search::Found;

/// The process that has it open.
pub fn process(found: &Found) -> Option<u32> {
    let (start, name, levels) = match found {
        // leveldb, Local Storage, the profile, the user data.
        Found::Chromium { leveldb } => (leveldb.as_path(), "SingletonLock", 4),
        // data.sqlite, ls, the origin, default, storage, the profile.
        Found::Firefox { databases } => (databases.first()?.as_path(), "lock", 6),
    };
    let start = start.canonicalize().ok()?;
    let mut folders = start.ancestors().take(levels);
    folders.find_map(|folder| owner(&folder.join(name)))
}

fn owner(link: &Path) -> Option<u32> {
    let target = std::fs::read_link(link).ok()?;
    let process = target.to_str()?.rsplit(['-', '+']).next()?.parse().ok()?;
    Path::new(&format!("/proc/{process}")).exists().then_some(process)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_to_a_process_that_lives_tells_of_an_open_browser() {
        let folder = tempfile::tempdir().unwrap();
        let leveldb = folder.path().join("Default/Local Storage/leveldb");
        std::fs::create_dir_all(&leveldb).unwrap();
        let link = folder.path().join("SingletonLock");
        let found = Found::Chromium { leveldb };
        assert_eq!(process(&found), None);
        let own = std::process::id();
        symlink(format!("a-host-{own}"), &link).unwrap();
        assert_eq!(process(&found), Some(own));
        for gone in ["a-host-4294967294", "a-host", "x"] {
            std::fs::remove_file(&link).unwrap();
            symlink(gone, &link).unwrap();
            assert_eq!(process(&found), None, "{gone}");
        }
    }

    #[test]
    fn firefox_leaves_its_link_in_the_profile() {
        let folder = tempfile::tempdir().unwrap();
        let ls = folder.path().join("storage/default/http+++a/ls");
        std::fs::create_dir_all(&ls).unwrap();
        let database = ls.join("data.sqlite");
        std::fs::write(&database, "").unwrap();
        let own = std::process::id();
        symlink(format!("127.0.1.1:+{own}"), folder.path().join("lock")).unwrap();
        let databases = vec![database];
        assert_eq!(process(&Found::Firefox { databases }), Some(own));
    }
}
