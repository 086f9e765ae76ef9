//! Reads a file that holds one secret, if nobody else may.
//!
//! Neighbour: `references.rs`, which places the faults. The content never appears in one.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use whimbrel_plugin_api::Error;

/// Octets of such a file; key files and service accounts are a tenth of it.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Rights of group and others to read or write.
const OPEN_TO_OTHERS: u32 = 0o066;

/// Why a secret cannot be had: code, what to say of the file after its name, and what helps.
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) what: String,
    pub(crate) help: String,
}

/// The content of the file at `path`, without the line break at its end.
pub(crate) fn read(path: &Path) -> Result<String, Refusal> {
    let refuse = |code, what: &str, help: String| Refusal {
        code,
        what: what.to_owned(),
        help,
    };
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => refuse(
            "config.secret_file_missing",
            "does not exist",
            "relative paths start at the folder of the file that names them".to_owned(),
        ),
        _ => refuse(
            "config.secret_file_unreadable",
            "cannot be read",
            "check its owner and its rights".to_owned(),
        ),
    };
    // Asked before it is opened: opening a pipe waits for its other end.
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(refuse(
            "config.secret_file_unreadable",
            if about.is_dir() {
                "is a folder"
            } else {
                "is no file"
            },
            "name a file that holds the secret and nothing else".to_owned(),
        ));
    }
    let file = File::open(path).map_err(unreadable)?;
    let rights = file.metadata().map_err(unreadable)?.permissions().mode();
    if rights & OPEN_TO_OTHERS != 0 {
        return Err(refuse(
            "config.secret_file_open",
            &format!("may be read or written by others (rights {:o})", rights & 0o777),
            format!("chmod 600 {}", quoted(path)),
        ));
    }
    let mut octets = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut octets)
        .map_err(unreadable)?;
    if octets.len() as u64 > FILE_BYTES_MAX {
        return Err(refuse(
            "config.secret_file_too_large",
            &format!("is larger than {FILE_BYTES_MAX} bytes"),
            "name a file that holds the secret and nothing else".to_owned(),
        ));
    }
    let text = String::from_utf8(octets).map_err(|_| {
        refuse(
            "config.secret_file_not_utf8",
            "is not UTF-8 text",
            "save it as UTF-8, or as base64 if the plugin takes that".to_owned(),
        )
    })?;
    let content = text
        .strip_suffix("\r\n")
        .or_else(|| text.strip_suffix('\n'))
        .unwrap_or(&text);
    if content.is_empty() {
        return Err(refuse(
            "config.secret_file_empty",
            "is empty",
            "write the secret into it".to_owned(),
        ));
    }
    Ok(content.to_owned())
}

/// As `read`, for a file that is named outside of a job's references.
///
/// # Errors
/// `config.secret_file_..`.
pub fn read_named(path: &Path) -> Result<String, Error> {
    read(path).map_err(|refusal| {
        let message = format!("file `{}` {}", path.display(), refusal.what);
        Error::config(refusal.code, message).with_help(refusal.help)
    })
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    if is_plain && !text.starts_with('-') {
        text
    } else {
        format!("-- '{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::path::PathBuf;

    use super::*;

    fn file(folder: &Path, content: impl AsRef<[u8]>, rights: u32) -> PathBuf {
        let path = folder.join("it's secret");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(rights)).unwrap();
        path
    }

    fn code(path: &Path) -> &'static str {
        read(path).err().map_or("", |refusal| refusal.code)
    }

    #[test]
    fn one_line_break_at_the_end_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (content, wanted) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            ("hunter2\n\n", "hunter2\n"),
            (" a b ", " a b "),
        ] {
            let path = file(folder.path(), content, 0o600);
            assert_eq!(read(&path).ok().as_deref(), Some(wanted));
        }
    }

    #[test]
    fn files_that_others_may_read_or_write_are_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        for rights in [0o640, 0o604, 0o620, 0o602, 0o644, 0o666, 0o777] {
            let path = file(folder.path(), "hunter2", rights);
            let refusal = read(&path).err().unwrap();
            assert_eq!(refusal.code, "config.secret_file_open", "{rights:o}");
            let shown = folder.path().display();
            assert_eq!(refusal.help, format!("chmod 600 -- '{shown}/it'\\''s secret'"));
        }
        for rights in [0o600, 0o400, 0o700, 0o611] {
            assert_eq!(code(&file(folder.path(), "hunter2", rights)), "", "{rights:o}");
            std::fs::remove_file(folder.path().join("it's secret")).unwrap();
        }
    }

    #[test]
    fn what_is_no_readable_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(code(folder.path()), "config.secret_file_unreadable");
        assert_eq!(code(Path::new("/dev/null")), "config.secret_file_unreadable");
        assert_eq!(code(&folder.path().join("x")), "config.secret_file_missing");
        assert_eq!(
            code(&file(folder.path(), b"\xff\xfe", 0o600)),
            "config.secret_file_not_utf8"
        );
        assert_eq!(
            code(&file(folder.path(), "\n", 0o600)),
            "config.secret_file_empty"
        );
        let full = vec![b'a'; FILE_BYTES_MAX as usize];
        assert_eq!(code(&file(folder.path(), &full, 0o600)), "");
        let more = [full, vec![b'a']].concat();
        assert_eq!(
            code(&file(folder.path(), more, 0o600)),
            "config.secret_file_too_large"
        );
    }
}
