//! Errors as people read them on a terminal: message, place, causes, help, code.
//!
//! ```text
//! unknown key `batchsize` in `import` (known keys: max_errors, on_conflict)
//!   --> job.yaml:14:3
//!   help: ...
//!   code: config.unknown_key
//! ```

use std::fmt::Write as _;

use whimbrel_plugin_api::Error;

/// The errors, one below the other, with an empty line between them and a line break at the end.
pub fn render(errors: &[Error]) -> String {
    let mut text = String::new();
    for (index, error) in errors.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        render_one(error, &mut text);
    }
    text
}

fn render_one(error: &Error, text: &mut String) {
    line(text, "", &error.message);
    if let Some(place) = &error.place {
        line(text, "  --> ", place);
    }
    for cause in &error.causes {
        line(text, "  cause: ", cause);
    }
    if let Some(help) = &error.help {
        line(text, "  help: ", help);
    }
    line(text, "  code: ", &error.code);
}

/// One line: control characters, which a name from outside may hold, are shown as escapes.
fn line(text: &mut String, lead: &str, content: &str) {
    text.push_str(lead);
    for c in content.chars() {
        match c {
            '\n' => text.push(' '),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _written: std::fmt::Result = write!(text, "{}", c.escape_default());
            }
            c => text.push(c),
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_one_line_per_fact() {
        let errors = [
            Error::config("config.unknown_key", "unknown key `a`")
                .with_place("job.yaml:1:2")
                .with_help("try\n`b`"),
            Error::config("config.file_unreadable", "no `\u{1b}[31m`")
                .with_cause(&std::io::Error::other("denied")),
        ];
        assert_eq!(
            render(&errors),
            "unknown key `a`\n  --> job.yaml:1:2\n  help: try `b`\n  code: config.unknown_key\n\n\
             no `\\u{1b}[31m`\n  cause: denied\n  code: config.file_unreadable\n"
        );
        assert_eq!(render(&[]), "");
    }
}
