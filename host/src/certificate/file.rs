//! The file of a certificate: the body, its checksum, and its signature if there is one.
//!
//! The file has one form only. What is read is written again and must come out octet by octet, so that no octet can be
//! changed unseen, not even one that means nothing.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use whimbrel_plugin_api::{Error, ErrorKind as Kind};

use super::body::{Body, FORMAT};
use super::canonical;
pub use crate::workspace::CERTIFICATE_FILE as FILE_NAME;

/// Octets of a file that is read; ten thousand collections, each read in four parts, have an eighth of it.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFile {
    /// What is certified.
    pub certificate: Body,
    /// BLAKE3 of the body's canonical octets, 64 hexadecimal digits. Shows damage; proves nothing about who made it.
    pub checksum: String,
    /// Who vouches for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureSection>,
}

/// A signature of the body's canonical octets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureSection {
    /// The public key of the pair that has signed, as minisign writes it. Says which key to look for; proves nothing.
    pub public_key: String,
    /// What minisign has in a `.minisig` file.
    pub minisign: String,
}

impl CertificateFile {
    /// Without a signature.
    pub fn unsigned(body: Body) -> Self {
        Self {
            checksum: canonical::checksum(&canonical::octets(&body)),
            certificate: body,
            signature: None,
        }
    }

    /// The octets of the file.
    pub fn to_text(&self) -> String {
        // Texts as keys and no fractions: there is nothing that JSON cannot write.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// Reads the certificate at `path`.
///
/// # Errors
/// `certificate.file` if it cannot be read, `certificate.not_one` if it is something else, `certificate.newer_format`,
/// `certificate.altered` if it is one and not as it was written.
pub fn read(path: &Path) -> Result<CertificateFile, Error> {
    of_octets(&octets_of(path)?, path)
}

/// The certificate that `octets` of the file at `path` are.
fn of_octets(octets: &[u8], path: &Path) -> Result<CertificateFile, Error> {
    let name = path.display();
    let not_one = || {
        Error::config(
            "certificate.not_one",
            format!("`{name}` is no certificate of whimbrel"),
        )
        .with_help(format!("name a `{FILE_NAME}` of a run's folder"))
    };
    let altered = || {
        Error::new(
            Kind::Integrity,
            "certificate.altered",
            format!("`{name}` is not as it was written"),
        )
        .with_help("a certificate has one form, octet by octet; get it again from where it was made")
    };
    let text = std::str::from_utf8(octets).map_err(|_| not_one())?;
    let value: Value = serde_json::from_str(text).map_err(|_| not_one())?;
    match value.pointer("/certificate/format").and_then(Value::as_u64) {
        None => return Err(not_one()),
        Some(1..=FORMAT) => {}
        Some(format) if format > FORMAT => {
            let message = format!("`{name}` has format {format}, this program reads formats up to {FORMAT}");
            return Err(Error::new(Kind::Unsupported, "certificate.newer_format", message)
                .with_help("check it with a newer whimbrel"));
        }
        Some(_) => return Err(altered()),
    }
    let file: CertificateFile = serde_json::from_str(text).map_err(|_| altered())?;
    let is_of_its_format = file.certificate.format >= file.certificate.format_min();
    if !is_of_its_format || file.to_text() != text {
        return Err(altered());
    }
    Ok(file)
}

fn octets_of(path: &Path) -> Result<Vec<u8>, Error> {
    let fault = |what: &str| Error::config("certificate.file", format!("`{}` {what}", path.display()));
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            fault("does not exist").with_help(format!("name a `{FILE_NAME}` of a run's folder"))
        }
        _ => fault("cannot be read")
            .with_help("check its owner and its rights")
            .with_cause(&error),
    };
    // Asked before it is opened: opening a pipe waits for its other end.
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(fault("is no file").with_help(format!("name a `{FILE_NAME}` of a run's folder")));
    }
    let mut octets = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut octets))
        .map_err(unreadable)?;
    if octets.len() as u64 > FILE_BYTES_MAX {
        return Err(fault("is too large to be a certificate"));
    }
    Ok(octets)
}

#[cfg(test)]
mod tests;
