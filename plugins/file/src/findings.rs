//! What `check` finds out about the file without writing it or making it.
//! Neighbour: `appender`, which meets the same faults when it writes.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags};
use whimbrel_plugin_api::Finding;

use crate::appender::{folder_of, read_keys};
use crate::config::NotifierConfig;
use crate::error::{io_error, not_a_file};

/// Octets at the end of a file that are looked at for notifications.
const LOOK_BYTES: u64 = 1024 * 1024;

/// Everything that stands in the way, or that somebody should know.
pub(crate) fn findings(config: &NotifierConfig) -> Vec<Finding> {
    let folder = folder_of(&config.path);
    let mut findings = Vec::new();
    match folder.metadata() {
        Err(error) => return vec![blocker("open", &config.path, &error)],
        Ok(metadata) if !metadata.is_dir() => {
            return vec![blocker(
                "open",
                &config.path,
                &io::ErrorKind::NotADirectory.into(),
            )];
        }
        Ok(_) => {}
    }
    let may_rename = may(&folder, Access::WRITE_OK | Access::EXEC_OK);
    match config.path.symlink_metadata() {
        Ok(metadata) => {
            findings.extend(of_the_file(config, &metadata));
            if let Err(error) = may_rename
                && findings.is_empty()
            {
                let text = format!(
                    "`{}` cannot be renamed, so it grows beyond `size_mb_max`: {error}",
                    config.path.display()
                );
                findings.push(Finding::warning("file.cannot_rotate", text));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Err(error) = may_rename {
                findings.push(blocker("make", &config.path, &error));
            }
        }
        Err(error) => findings.push(blocker("open", &config.path, &error)),
    }
    findings.extend(of_the_disk(config, &folder));
    findings
}

fn blocker(doing: &str, path: &Path, error: &io::Error) -> Finding {
    Finding::of_error(&io_error(doing, path, error))
}

fn may(path: &Path, access: Access) -> io::Result<()> {
    Ok(rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS)?)
}

/// The file that is there already.
fn of_the_file(config: &NotifierConfig, metadata: &Metadata) -> Vec<Finding> {
    let path = &config.path;
    if metadata.is_symlink() {
        return vec![blocker("open", path, &rustix::io::Errno::LOOP.into())];
    }
    if metadata.is_dir() {
        return vec![blocker("open", path, &io::ErrorKind::IsADirectory.into())];
    }
    if !metadata.is_file() {
        let error = not_a_file(path);
        return vec![Finding::blocker(error.code, error.message)];
    }
    let mut findings = Vec::new();
    if let Err(error) = may(path, Access::READ_OK | Access::WRITE_OK) {
        findings.push(blocker("open", path, &error));
    }
    let (has, wanted) = (metadata.permissions().mode() & 0o777, config.readable_by.mode());
    if has & !wanted != 0 {
        let shown = path.display();
        let text = format!("`{shown}` has the permissions {has:04o}, which are wider than {wanted:04o}");
        let help = format!("run `chmod {wanted:04o} {shown}`, or set `readable_by`");
        findings.push(Finding::warning("file.permissions_wide", text).with_help(help));
    }
    if is_foreign(path, metadata.len()).unwrap_or(false) {
        let text = format!(
            "`{}` holds lines, but the last of them are no notifications",
            path.display()
        );
        let help = "check `path`: notifications are appended to whatever is there";
        findings.push(Finding::warning("file.foreign_content", text).with_help(help));
    }
    findings
}

/// Whether the end of the file holds something and no notification.
fn is_foreign(path: &Path, length: u64) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let from = length.saturating_sub(LOOK_BYTES);
    let mut known = 0_usize;
    read_keys(&file, from..length, from == 0, |_, _| known += 1)?;
    // A line longer than what is looked at may be a notification.
    Ok(length > 0 && known == 0 && from == 0)
}

fn of_the_disk(config: &NotifierConfig, folder: &Path) -> Option<Finding> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Some(blocker(
            "write",
            &config.path,
            &io::ErrorKind::ReadOnlyFilesystem.into(),
        ));
    }
    // A file system without a size, such as a special one, says 0 blocks in all.
    if disk.f_blocks == 0 {
        return None;
    }
    of_free_space(config, disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn of_free_space(config: &NotifierConfig, free_bytes: u64) -> Option<Finding> {
    let path = &config.path;
    match free_bytes {
        0 => Some(blocker("write", path, &io::ErrorKind::StorageFull.into())),
        free if free < config.size_bytes_max() => {
            let text = format!(
                "the disk of `{}` has {free} octets left, less than `size_mb_max`",
                path.display()
            );
            Some(Finding::warning("file.disk_nearly_full", text))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::FindingLevel;

    use super::*;

    #[test]
    fn a_full_disk_is_a_blocker_and_a_nearly_full_one_a_warning() {
        let config = NotifierConfig::new("a");
        let found = |free| of_free_space(&config, free).map(|found| (found.level, found.code));
        assert_eq!(
            found(0),
            Some((FindingLevel::Blocker, "file.disk_full".to_owned()))
        );
        assert_eq!(
            found(9_999_999),
            Some((FindingLevel::Warning, "file.disk_nearly_full".to_owned()))
        );
        assert_eq!(found(10_000_000), None);
    }
}
