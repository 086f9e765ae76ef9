//! A small disk for a server to fill: a file system in memory that only its processes see, gone when they end.
//!
//! Neighbour: `process` starts a server with it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{NOBODY, is_root};

/// The disk.
#[derive(Debug, Clone)]
pub struct SmallDisk {
    /// Where; the folder is there.
    pub folder: PathBuf,
    /// How much it holds, MiB.
    pub size_mib: u32,
}

impl SmallDisk {
    /// Whether this process may make one.
    pub fn can_be_had() -> bool {
        let tried = Command::new("unshare")
            .args(["--mount", "true"])
            .stderr(Stdio::null())
            .status();
        is_root() && tried.is_ok_and(|status| status.success())
    }

    /// `command` with the disk before its eyes. Each program takes the place of the one before it, so the id stays.
    pub(super) fn before(&self, command: &Command) -> Command {
        let script = format!(
            "mount -t tmpfs -o size={}m,uid={NOBODY},gid={NOBODY},mode=0700 tmpfs \"$0\"; exec \"$@\"",
            self.size_mib
        );
        let mut wrapped = Command::new("unshare");
        wrapped
            .args(["--mount", "sh", "-ec", &script])
            .arg(&self.folder)
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir("/")
            .stdin(Stdio::null());
        wrapped
    }
}
