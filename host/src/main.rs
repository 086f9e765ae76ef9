//! The `whimbrel` program. Everything is in the library, so that it can be documented.
//! Not here: any decision.

use std::process::ExitCode;

fn main() -> ExitCode {
    whimbrel::cli::main()
}
