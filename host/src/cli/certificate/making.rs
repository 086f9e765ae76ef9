//! What a run and a verification do for a certificate: read the key and take the digests of the libraries before anything
//! begins, note when the comparison has ended, write the certificate after it.
//!
//! Only for jobs that ask for one: those that compare every record of a collection, or that name a key.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use whimbrel_plugin_api::Error;

use super::super::run_record::sha256;
use super::super::tasks::Prepared;
use crate::certificate::{FILE_NAME, Facts, GoesOn, Issued, Library, PASSWORD_VARIABLE, SigningKey, write};
use crate::config::{Job, LoadedJob, Mode, VerificationLevel, read_secret_file};
use crate::events::{CertificateNote, Event, Phase};
use crate::report::TaskReport;
use crate::supervisor::PluginFile;

/// Octets of a library that are in memory at a time.
const READ_BYTES: usize = 256 * 1024;

/// A certificate that is to be made.
#[derive(Debug)]
pub struct Certifying {
    begun_at: DateTime<Utc>,
    goes_on: Option<GoesOn>,
    verified_at: Option<DateTime<Utc>>,
    job_sha256: String,
    is_sample: bool,
    libraries: Vec<Library>,
    key: Option<SigningKey>,
}

impl Certifying {
    /// For a task that is about to begin; `None` if its job asks for no certificate.
    ///
    /// # Errors
    /// `certificate.library` if the file of a plugin cannot be read, and whatever is wrong with the key.
    pub fn begin(prepared: &Prepared) -> Result<Option<Self>, Error> {
        let loaded = &prepared.loaded;
        if !is_wanted(&loaded.job) {
            return Ok(None);
        }
        let libraries = prepared.plugins.iter().map(library);
        Ok(Some(Self {
            begun_at: Utc::now(),
            goes_on: None,
            verified_at: None,
            job_sha256: sha256(&loaded.path),
            is_sample: loaded.job.mode == Mode::Test,
            key: signing_key(loaded)?,
            libraries: libraries.collect::<Result<_, _>>()?,
        }))
    }

    /// Says that the comparison goes on with an earlier one, whose parts are as old as that.
    pub fn goes_on(&mut self, earlier: Option<GoesOn>) -> &mut Self {
        self.goes_on = earlier;
        self
    }

    /// Takes note of an event.
    pub fn follow(&mut self, event: &Event) {
        if matches!(event, Event::PhaseEnded(ended) if ended.phase == Phase::Verification) {
            self.verified_at = Some(Utc::now());
        }
    }

    /// Writes the certificate into `folder`, or says in the report why there is none.
    ///
    /// # Errors
    /// `certificate.unsigned`, `workspace.disk_full` or `workspace.unwritable`.
    pub fn issue(&self, folder: &Path, run_id: &str, report: &mut TaskReport) -> Result<(), Error> {
        if !matches!(report.outcome, "done" | "differences" | "unverified") {
            // Of a task that did not come so far there is more to be said than this.
            return Ok(());
        }
        let facts = Facts {
            run_id,
            is_sample: self.is_sample,
            begun_at: self.begun_at,
            goes_on: self.goes_on.as_ref(),
            verified_at: self.verified_at.unwrap_or_else(Utc::now),
            job_sha256: &self.job_sha256,
            libraries: &self.libraries,
            key: self.key.as_ref(),
        };
        let issued = write(folder, report, &facts);
        report.summary.certificate = Some(match &issued {
            Err(error) => none(&error.message),
            Ok(Issued::None { reason }) => none(reason),
            Ok(Issued::Certificate { is_signed, .. }) => CertificateNote {
                file: Some(FILE_NAME.to_owned()),
                is_signed: *is_signed,
                reason: (!is_signed).then(|| "the job names no key".to_owned()),
            },
        });
        issued.map(drop)
    }
}

fn none(reason: &str) -> CertificateNote {
    CertificateNote {
        reason: Some(reason.to_owned()),
        ..CertificateNote::default()
    }
}

/// Whether somebody would miss a certificate.
fn is_wanted(job: &Job) -> bool {
    let is_comprehensive = |level: VerificationLevel| level == VerificationLevel::Comprehensive;
    let own = job
        .collections
        .iter()
        .flatten()
        .filter_map(|rule| rule.verification);
    job.certificate.sign_with.is_some()
        || is_comprehensive(job.verification)
        || own.into_iter().any(is_comprehensive)
}

/// The key that the job names, ready to sign.
///
/// # Errors
/// `config.secret_file_..` if the file cannot be read or others may read it, `certificate.key_..` if it holds no key.
pub fn signing_key(loaded: &LoadedJob) -> Result<Option<SigningKey>, Error> {
    let Some(file) = &loaded.job.certificate.sign_with else {
        return Ok(None);
    };
    let place = |error: Error| error.with_place(loaded.place("/certificate/sign_with"));
    let text = read_secret_file(&loaded.folder.join(file)).map_err(place)?;
    let password = password(loaded)?;
    if let Some(password) = &password {
        loaded.secrets.add(password);
    }
    SigningKey::read(&text, password, file).map(Some).map_err(place)
}

/// The password of the job's key: that in the file which the job names, or that in the variable.
fn password(loaded: &LoadedJob) -> Result<Option<String>, Error> {
    let Some(file) = &loaded.job.certificate.password_from else {
        return Ok(password_of_variable());
    };
    read_secret_file(&loaded.folder.join(file))
        .map(Some)
        .map_err(|error| error.with_place(loaded.place("/certificate/password_from")))
}

/// The password in the variable, if there is one.
pub fn password_of_variable() -> Option<String> {
    std::env::var(PASSWORD_VARIABLE)
        .ok()
        .filter(|password| !password.is_empty())
}

fn library(plugin: &PluginFile) -> Result<Library, Error> {
    let sha256 = sha256_of_large(&plugin.path).map_err(|error| {
        Error::config(
            "certificate.library",
            format!("the library `{}` cannot be read", plugin.path.display()),
        )
        .with_help("check that it is a file and that its rights let you read it")
        .with_cause(&error)
    })?;
    Ok(Library {
        role: plugin.role,
        name: plugin.name.clone(),
        sha256,
    })
}

fn sha256_of_large(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut octets = vec![0; READ_BYTES];
    loop {
        match file.read(&mut octets)? {
            0 => break,
            read => hasher.update(&octets[..read]),
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(change: serde_json::Value) -> Job {
        let mut job = serde_json::json!({
            "name": "a", "source": { "plugin": "p" }, "sink": { "plugin": "q" },
        });
        job.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn only_jobs_that_ask_for_a_certificate_pay_for_one() {
        assert!(!is_wanted(&job(serde_json::json!({}))));
        for wanted in [
            serde_json::json!({ "verification": "comprehensive" }),
            serde_json::json!({ "certificate": { "sign_with": "k" } }),
            serde_json::json!({ "collections": [{ "source": "a" }, { "source": "b", "verification": "comprehensive" }] }),
        ] {
            assert!(is_wanted(&job(wanted.clone())), "{wanted}");
        }
    }

    #[test]
    fn the_digest_of_a_large_file_is_that_of_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        std::fs::write(&path, vec![7; 2 * READ_BYTES + 3]).unwrap();
        assert_eq!(sha256_of_large(&path).unwrap(), sha256(&path));
    }
}
