//! Asks a person whether to go on. Without a terminal nobody is asked, and the answer is an error that says how to agree
//! beforehand.

use std::io::{BufRead as _, IsTerminal as _};

use whimbrel_plugin_api::Error;

use super::output::print_aside;

/// Whether a person at the terminal answers `question` with yes.
///
/// # Errors
/// `cli.confirmation_needed` if there is no terminal.
pub fn ask(question: &str, flag: &str) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::config(
            "cli.confirmation_needed",
            "this needs somebody to agree, and there is no terminal to ask at",
        )
        .with_help(format!("give `{flag}` to agree beforehand")));
    }
    print_aside(&format!("{question} [y/N] "));
    let mut answer = String::new();
    // An end of input is a no.
    drop(std::io::stdin().lock().read_line(&mut answer));
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
