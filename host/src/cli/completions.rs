//! `whimbrel completions SHELL`: prints what a shell needs to complete commands and flags.
//! Made from the same definitions as `--help`.

use clap::{Args, Command};
use clap_complete::Shell;

use super::output::{print, print_json};
use super::{Exit, Global};

/// For which shell.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions of `program`.
pub fn completions(global: &Global, mut program: Command, args: &CompletionsArgs) -> Exit {
    let name = program.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut program, name, &mut text);
    let text = String::from_utf8_lossy(&text);
    if global.json {
        print_json(&serde_json::json!({ "shell": args.shell.to_string(), "text": text }));
    } else {
        print(&text);
    }
    Exit::Done
}
