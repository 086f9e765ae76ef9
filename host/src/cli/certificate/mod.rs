//! `whimbrel certificate`: makes the keys that sign certificates, checks certificates, and shows them.
//!
//! Certificates are made by `run` and `verify`; `making` is what these use. What a certificate is, is in
//! [`crate::certificate`] and in `docs/certificate.md`.

mod key;
mod making;
mod show;
mod verify;

use clap::Subcommand;

use super::{Exit, Global};

pub(super) use making::{Certifying, signing_key};

/// What to do.
#[derive(Subcommand)]
pub enum CertificateCommand {
    /// Make a pair of keys: a secret one that signs certificates and a public one that checks them.
    Key(key::KeyArgs),
    /// Check a certificate, without either system; with `--against` also whether the sink is still as certified.
    Verify(Box<verify::VerifyArgs>),
    /// Show what a certificate says, as text, HTML or Markdown.
    Show(show::ShowArgs),
}

/// Does it.
pub fn certificate(global: &Global, command: &CertificateCommand) -> Exit {
    match command {
        CertificateCommand::Key(args) => key::key(global, args),
        CertificateCommand::Verify(args) => verify::verify(global, args),
        CertificateCommand::Show(args) => show::show(global, args),
    }
}
