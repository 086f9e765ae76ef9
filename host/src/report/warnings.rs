//! A finding in words, in the form of every other trouble.
//! Not here: findings that stop a run, which are failures.

use whimbrel_plugin_api::{Finding, FindingLevel};

use super::figures::printable;

/// The finding, its help and its code.
pub fn finding(finding: &Finding) -> String {
    let level = match finding.level {
        FindingLevel::Info => "info",
        FindingLevel::Warning => "warning",
        FindingLevel::Blocker => "error",
    };
    let help = finding
        .help
        .as_deref()
        .map_or_else(String::new, |help| format!("  help: {}\n", printable(help)));
    format!(
        "{level}: {}\n{help}  code: {}\n",
        printable(&finding.message),
        finding.code
    )
}
