//! Writes variables into a file of `NAME=value` lines, as applications read their settings from.
//!
//! Lines that say something else stay as they are, in their places; the file is replaced as a whole and keeps its rights.

use std::collections::BTreeMap;
use std::io::ErrorKind as IoKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use whimbrel_plugin_api::{Error, ErrorKind};

/// Rights of a file that is made: such files often hold secrets.
const NEW_FILE_MODE: u32 = 0o600;

/// Sets the variables `set` in the file at `path`, which is made if it is not there.
///
/// # Errors
/// `hook.env_file_name` for a name that no shell would take, `hook.env_file` if the file cannot be read or written.
pub fn write(path: &Path, set: &BTreeMap<String, String>) -> Result<(), Error> {
    if let Some(bad) = set.keys().find(|name| !is_name(name)) {
        return Err(Error::config(
            "hook.env_file_name",
            format!("`{bad}` cannot be the name of a variable"),
        )
        .with_help("a name is made of letters, digits and `_`, and does not begin with a digit"));
    }
    let unusable = |error: &std::io::Error| {
        Error::new(
            ErrorKind::Unavailable,
            "hook.env_file",
            format!("the file `{}` cannot be written", path.display()),
        )
        .with_cause(error)
    };
    // A link stays a link: what it points to is replaced.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (text, mode) = match std::fs::read_to_string(&target) {
        Ok(text) => {
            let mode = std::fs::metadata(&target)
                .map_err(|error| unusable(&error))?
                .permissions()
                .mode();
            (text, mode & 0o7777)
        }
        Err(error) if error.kind() == IoKind::NotFound => (String::new(), NEW_FILE_MODE),
        Err(error) => return Err(unusable(&error)),
    };
    replace(&target, changed(&text, set).as_bytes(), mode).map_err(|error| unusable(&error))
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|char| char.is_ascii_alphanumeric() || char == '_')
}

fn changed(text: &str, set: &BTreeMap<String, String>) -> String {
    let mut left: BTreeMap<&str, &str> = set
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        let stated = line.trim_start();
        let (export, stated) = match stated.strip_prefix("export ") {
            Some(rest) => ("export ", rest.trim_start()),
            None => ("", stated),
        };
        let name = stated.split_once('=').map(|(name, _)| name.trim_end());
        match name.filter(|name| set.contains_key(*name)) {
            Some(name) => {
                // Of several lines for one name the first is changed and the others go: the last one would win.
                if let Some(value) = left.remove(name) {
                    out.push_str(&format!("{export}{name}={}\n", quoted(value)));
                }
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    for (name, value) in left {
        out.push_str(&format!("{name}={}\n", quoted(value)));
    }
    out
}

/// A value as dotenv files and shells read it.
fn quoted(value: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "_-./:@%+,".contains(char);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    let mut out = String::from("\"");
    for char in value.chars() {
        match char {
            '\n' => out.push_str("\\n"),
            '"' | '\\' | '$' | '`' => out.extend(['\\', char]),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn replace(path: &Path, octets: &[u8], mode: u32) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(NEW_FILE_MODE)
            .open(&partial)?;
        file.write_all(octets)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&partial)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn only_the_named_variables_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        std::fs::write(&path, "# settings\nexport A=1\nB='x y'\nA=2\n\nC=3").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, &set(&[("A", "new value"), ("D", "p$w\"d\n")])).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "# settings\nexport A=\"new value\"\nB='x y'\n\nC=3\nD=\"p\\$w\\\"d\\n\"\n"
        );
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_is_for_its_owner_and_a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("new.env"), folder.path().join("link.env"));
        write(&path, &set(&[("URL", "https://x.example/?a=1")])).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "URL=\"https://x.example/?a=1\"\n"
        );
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        std::os::unix::fs::symlink("new.env", &link).unwrap();
        write(&link, &set(&[("URL", "b")])).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "URL=b\n");
    }

    #[test]
    fn a_name_that_no_shell_would_take_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for bad in ["", "1A", "A B", "A=B", "Ä"] {
            let error = write(&folder.path().join("x"), &set(&[(bad, "1")])).unwrap_err();
            assert_eq!(error.code, "hook.env_file_name");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
