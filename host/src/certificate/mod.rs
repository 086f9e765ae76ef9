//! The migration certificate: what a comprehensive comparison has shown, as one file that can be checked without the systems.
//!
//! `docs/certificate.md` is the specification. `make` takes the body from a task's report, `file` is its form on disk, `key`
//! signs, `check` looks at a file again, `against` holds it against a sink; `text`, `markdown` and `page` show it. Reads
//! reports only: it asks no system and no plugin.

mod against;
mod body;
mod canonical;
mod check;
mod file;
#[cfg(test)]
mod fixtures;
mod key;
mod make;
mod markdown;
mod page;
mod text;

pub use against::{AgainstSink, SinkCollection, against_sink, has_other_fields};
pub use body::{Body, Verdict};
pub use check::{Check, CheckState, Checked, Demands, VERDICT, check};
pub use file::{CertificateFile, FILE_NAME, read};
pub use key::{KeyPair, PASSWORD_VARIABLE, SigningKey, TrustedKey, public_name};
pub use make::{Facts, GoesOn, Issued, Library, write};
pub use markdown::markdown;
pub use page::html;
pub use text::{checks, text};
