//! `whimbrel certificate key --out FILE`: makes a pair of keys in the form of minisign.
//!
//! The secret key is for its owner only and protected by a password, unless somebody says that it need not be; no file is
//! ever replaced, since certificates that a lost key has signed can be checked and never made again.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use whimbrel_plugin_api::Error;

use super::super::output::{print, print_json};
use super::super::tasks::refuse;
use super::super::{Exit, Global};
use super::making::password_of_variable;
use crate::certificate::{KeyPair, PASSWORD_VARIABLE, public_name};
use crate::config::read_secret_file;

/// Rights of the secret key.
const SECRET_MODE: u32 = 0o600;
/// Rights of the public key, before those that the process takes away.
const PUBLIC_MODE: u32 = 0o644;

/// What `key` takes.
#[derive(Args)]
pub struct KeyArgs {
    /// The file for the secret key; the public key is written beside it as `FILE.pub`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Protect the secret key by the password in this file, which nobody else may read. Left out: by that in the variable
    /// WHIMBREL_CERTIFICATE_PASSWORD.
    #[arg(long, value_name = "FILE", conflicts_with = "unencrypted")]
    password_from: Option<PathBuf>,
    /// Protect the secret key by its rights alone, and by no password.
    #[arg(long)]
    unencrypted: bool,
}

#[derive(Serialize)]
struct KeyJson<'a> {
    secret_key_file: &'a Path,
    public_key_file: &'a Path,
    public_key: &'a str,
    key_id: &'a str,
    encrypted: bool,
}

/// Makes the pair.
pub fn key(global: &Global, args: &KeyArgs) -> Exit {
    let public = public_name(&args.out);
    match make(args, &public) {
        Ok(pair) => {
            if global.json {
                print_json(&KeyJson {
                    secret_key_file: &args.out,
                    public_key_file: &public,
                    public_key: &pair.public_key,
                    key_id: &pair.id,
                    encrypted: !args.unencrypted,
                });
            } else {
                print(&format!(
                    "secret key: {}\npublic key: {}\n\n{} (key {})\n\nname the secret key in a job as `certificate.sign_with`; \
                     give the public key to whoever checks certificates\n",
                    args.out.display(),
                    public.display(),
                    pair.public_key,
                    pair.id,
                ));
            }
            Exit::Done
        }
        Err(error) => refuse(global, "certificate key", None, &[error]),
    }
}

fn make(args: &KeyArgs, public: &Path) -> Result<KeyPair, Error> {
    let password = password(args)?;
    for path in [&args.out, public] {
        // Said before the key is made, which takes a while.
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    let pair = KeyPair::generate(password)?;
    save(&args.out, SECRET_MODE, &pair.secret)?;
    if let Err(error) = save(public, PUBLIC_MODE, &pair.public) {
        // Half a pair is of no use, and would be in the way of the next attempt.
        drop(std::fs::remove_file(&args.out));
        return Err(error);
    }
    Ok(pair)
}

fn password(args: &KeyArgs) -> Result<Option<String>, Error> {
    if args.unencrypted {
        return Ok(None);
    }
    let given = match &args.password_from {
        Some(file) => Some(read_secret_file(file)?),
        None => password_of_variable(),
    };
    given.map(Some).ok_or_else(|| {
        Error::config(
            "certificate.password_missing",
            "no password is given for the secret key",
        )
        .with_help(format!(
            "set the variable `{PASSWORD_VARIABLE}`, name a file by `--password-from`, or give `--unencrypted`"
        ))
    })
}

fn exists(path: &Path) -> Error {
    Error::config(
        "certificate.key_exists",
        format!(
            "`{}` is there already, and no key is ever replaced",
            path.display()
        ),
    )
    .with_help("name another file by `--out`")
}

fn save(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => Error::config(
            "certificate.key_file",
            format!("`{}` cannot be written", path.display()),
        )
        .with_help("name a file in a folder that is there and that you may write")
        .with_cause(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::SigningKey;
    use std::os::unix::fs::PermissionsExt as _;

    fn args(out: PathBuf) -> KeyArgs {
        KeyArgs {
            out,
            password_from: None,
            unencrypted: true,
        }
    }

    fn made(args: &KeyArgs) -> Result<KeyPair, Error> {
        make(args, &public_name(&args.out))
    }

    #[test]
    fn a_pair_is_for_its_owner_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let args = args(folder.path().join("signing.key"));
        let pair = made(&args).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&args.out), 0o600);
        SigningKey::read(&read_secret_file(&args.out).unwrap(), None, "k").unwrap();
        let public = public_name(&args.out);
        assert!(public.ends_with("signing.key.pub"));
        assert_eq!(std::fs::read_to_string(&public).unwrap(), pair.public);
        assert_eq!(made(&args).err().unwrap().code, "certificate.key_exists");
        // Neither is the public key, whose secret key may be elsewhere.
        std::fs::remove_file(&args.out).unwrap();
        assert_eq!(made(&args).err().unwrap().code, "certificate.key_exists");
        assert!(!args.out.exists());
    }

    #[test]
    fn a_password_comes_from_a_file_that_nobody_else_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "correct horse\n").unwrap();
        let set = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let args = KeyArgs {
            password_from: Some(file.clone()),
            unencrypted: false,
            ..args(folder.path().join("k"))
        };
        set(0o644);
        assert_eq!(made(&args).err().unwrap().code, "config.secret_file_open");
        set(0o600);
        let pair = made(&args).unwrap();
        let read = |password: Option<&str>| SigningKey::read(&pair.secret, password.map(str::to_owned), "k");
        read(Some("correct horse")).unwrap();
        assert_eq!(read(None).unwrap_err().code, "certificate.key_locked");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = made(&args(folder.path().join("no/k"))).err().unwrap();
        assert_eq!(error.code, "certificate.key_file");
        assert!(error.message.contains("no/k"), "{error}");
    }
}
