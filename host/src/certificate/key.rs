//! Keys and signatures, in the form of minisign: pairs are made, certificates signed, signatures checked.
//!
//! Whom to trust is decided by whoever checks: a public key inside a certificate proves nothing, since anybody can put one
//! there. Not here: where the files of keys are (`cli::certificate`).

use std::fmt;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign::SecretKeyBox;
use minisign_verify::{PublicKey, Signature};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::body::Body;
use super::canonical;
use super::file::{CertificateFile, SignatureSection};

/// The variable with the password of the secret key.
pub const PASSWORD_VARIABLE: &str = "WHIMBREL_CERTIFICATE_PASSWORD";
/// What the first line of a signature says. It is not signed, so nothing else may stand there.
const UNTRUSTED_COMMENT: &str = "signature of a whimbrel migration certificate";
/// What minisign writes before it.
const UNTRUSTED_PREFIX: &str = "untrusted comment: ";
/// What the first line of a secret key says.
const SECRET_COMMENT: &str = "whimbrel certificate secret key";
/// Octets of a public key before base64: algorithm, id, key.
const PUBLIC_KEY_BYTES: usize = 42;
/// The octets of its id among these.
const KEY_ID: std::ops::Range<usize> = 2..10;

/// The name of the file of a public key beside that of its secret key.
pub fn public_name(secret: &std::path::Path) -> std::path::PathBuf {
    let mut name = secret.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// A new pair as texts for two files.
pub struct KeyPair {
    /// For its owner only.
    pub secret: String,
    /// For everybody.
    pub public: String,
    /// What tells it from others, 16 hexadecimal digits.
    pub id: String,
    /// The public key alone, for a command line.
    pub public_key: String,
}

impl KeyPair {
    /// A new one; its secret key is protected by `password` if there is one.
    ///
    /// # Errors
    /// `certificate.key_unmade` if the system gives no random numbers.
    pub fn generate(password: Option<String>) -> Result<Self, Error> {
        let unmade = |error: minisign::PError| {
            Error::new(
                ErrorKind::Internal,
                "certificate.key_unmade",
                "no pair of keys could be made",
            )
            .with_cause(&error)
        };
        let pair = match password {
            Some(password) => minisign::KeyPair::generate_encrypted_keypair(Some(password)),
            None => minisign::KeyPair::generate_unencrypted_keypair(),
        }
        .map_err(unmade)?;
        let public_key = pair.pk.to_base64();
        Ok(Self {
            secret: pair
                .sk
                .to_box(Some(SECRET_COMMENT))
                .map_err(unmade)?
                .into_string(),
            public: pair.pk.to_box().map_err(unmade)?.into_string(),
            id: id_of(&public_key).unwrap_or_default(),
            public_key,
        })
    }
}

/// A secret key that is ready to sign.
pub struct SigningKey {
    secret: minisign::SecretKey,
    public: minisign::PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public.to_base64())
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// From the text of the file of a secret key, called `name` in messages.
    ///
    /// # Errors
    /// `certificate.key_bad`, `certificate.key_locked` if it needs a password, `certificate.key_password` if that is wrong.
    pub fn read(text: &str, password: Option<String>, name: &str) -> Result<Self, Error> {
        let bad = |error: minisign::PError| {
            Error::config(
                "certificate.key_bad",
                format!("`{name}` holds no secret key of minisign"),
            )
            .with_help("`whimbrel certificate key --out FILE` makes one; a public key cannot sign")
            .with_cause(&error)
        };
        let boxed = SecretKeyBox::from_string(text).map_err(bad)?;
        // The form is looked at before the password, which takes a while to try.
        let secret = match boxed.clone().into_unencrypted_secret_key() {
            Ok(secret) => secret,
            Err(error) if !is_encrypted(text) => return Err(bad(error)),
            Err(_) => {
                let Some(password) = password else {
                    return Err(Error::config(
                        "certificate.key_locked",
                        format!("`{name}` is protected by a password, and none is given"),
                    )
                    .with_help(format!(
                        "name a file with it by `certificate.password_from`, or set the variable `{PASSWORD_VARIABLE}`"
                    )));
                };
                boxed.into_secret_key(Some(password)).map_err(|_| {
                    Error::config(
                        "certificate.key_password",
                        format!("the password does not open `{name}`"),
                    )
                    .with_help(format!("correct the variable `{PASSWORD_VARIABLE}`"))
                })?
            }
        };
        let public = minisign::PublicKey::from_secret_key(&secret).map_err(bad)?;
        Ok(Self { secret, public })
    }

    /// The certificate of `body` with a signature.
    ///
    /// # Errors
    /// `certificate.unsigned` if the system gives no random numbers.
    pub fn sign(&self, body: Body) -> Result<CertificateFile, Error> {
        let octets = canonical::octets(&body);
        let comment = format!("whimbrel migration certificate of run {}", body.run.id);
        let signed = minisign::sign(
            Some(&self.public),
            &self.secret,
            Cursor::new(&octets),
            Some(&comment),
            Some(UNTRUSTED_COMMENT),
        )
        .map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                "certificate.unsigned",
                "the certificate could not be signed",
            )
            .with_cause(&error)
        })?;
        Ok(CertificateFile {
            signature: Some(SignatureSection {
                public_key: self.public.to_base64(),
                minisign: signed.into_string(),
            }),
            ..CertificateFile::unsigned(body)
        })
    }
}

/// Whether the text of a secret key says that a password protects it: octets 2 and 3 name the method.
fn is_encrypted(text: &str) -> bool {
    let octets = text.lines().nth(1).and_then(|line| STANDARD.decode(line).ok());
    octets.is_some_and(|octets| octets.get(2..4) == Some(b"Sc"))
}

/// A public key that whoever checks has from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey(String);

impl TrustedKey {
    /// From the key alone, or from the text of its file.
    ///
    /// # Errors
    /// `certificate.public_key`.
    pub fn read(text: &str) -> Result<Self, Error> {
        let alone = text.trim();
        let key = match alone.split_once('\n') {
            Some((comment, key)) if comment.starts_with(UNTRUSTED_PREFIX) => key.trim(),
            _ => alone,
        };
        if id_of(key).is_none() || PublicKey::from_base64(key).is_err() {
            return Err(Error::config(
                "certificate.public_key",
                "what is given as public key is neither one nor a file with one",
            )
            .with_help("give the file `FILE.pub` of `whimbrel certificate key`, or the second line of it"));
        }
        Ok(Self(key.to_owned()))
    }

    /// What tells it from others, 16 hexadecimal digits.
    pub fn id(&self) -> String {
        id_of(&self.0).unwrap_or_default()
    }
}

/// The id of a public key as minisign shows it; `None` if it is none in its one spelling.
pub fn id_of(public_key: &str) -> Option<String> {
    let octets = STANDARD.decode(public_key).ok()?;
    if octets.len() != PUBLIC_KEY_BYTES {
        return None;
    }
    let id = octets.get(KEY_ID)?.try_into().ok()?;
    Some(format!("{:016X}", u64::from_le_bytes(id)))
}

/// What a signature comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureState {
    /// It is one of the trusted key.
    Trusted,
    /// It is one of the key that stands beside it, and no key is trusted.
    Unknown,
    /// It is one of the key that stands beside it, which is not the trusted one.
    OtherKey,
    /// It is none of this body.
    Wrong,
}

/// Looks at the signature of `body`.
pub fn check(body: &Body, signature: &SignatureSection, trusted: Option<&TrustedKey>) -> SignatureState {
    let octets = canonical::octets(body);
    if !has_one_form(&signature.minisign) || id_of(&signature.public_key).is_none() {
        return SignatureState::Wrong;
    }
    let verified = PublicKey::from_base64(&signature.public_key).and_then(|key| {
        let signature = Signature::decode(&signature.minisign)?;
        key.verify(&octets, &signature, false)
    });
    match (verified, trusted) {
        (Err(_), _) => SignatureState::Wrong,
        (Ok(()), None) => SignatureState::Unknown,
        (Ok(()), Some(trusted)) if trusted.0 == signature.public_key => SignatureState::Trusted,
        (Ok(()), Some(_)) => SignatureState::OtherKey,
    }
}

/// Whether a signature is spelt as it is written here: some of its octets are not signed, and base64 has more than one form.
fn has_one_form(minisign: &str) -> bool {
    let mut lines = minisign.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let is_ours = next().strip_prefix(UNTRUSTED_PREFIX) == Some(UNTRUSTED_COMMENT);
    // The decoder refuses bits that stand for nothing.
    let first = STANDARD.decode(next()).is_ok();
    let _signed_comment = next();
    let second = STANDARD.decode(next()).is_ok();
    let end = next();
    is_ours && first && second && end.is_empty() && lines.next().is_none() && minisign.ends_with('\n')
}

#[cfg(test)]
mod tests;
