//! Where text goes: results to standard output, everything on the way to standard error.
//!
//! A reader that closes its pipe early ends the text, not the program.

use std::io::Write as _;

use serde::Serialize;

/// Writes to standard output.
pub fn print(text: &str) {
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}

/// Writes to standard error.
pub fn print_aside(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

/// Writes one JSON object to standard output.
pub fn print_json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(mut text) => {
            text.push('\n');
            print(&text);
        }
        Err(error) => print_aside(&format!("the result could not be written as JSON: {error}\n")),
    }
}

/// Writes one JSON object to standard output, in one line.
pub fn print_line(value: &serde_json::Value) {
    print(&format!("{value}\n"));
}
