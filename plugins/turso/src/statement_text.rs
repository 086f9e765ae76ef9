//! Whether a text is one statement, before it is put into brackets within a statement of ours.
//!
//! Within brackets the database takes nothing that writes, near or far. So all that matters is that the text does not close the
//! bracket and go on: quotes and comments are followed as the database reads them.

use whimbrel_plugin_api::{Error, Result};

/// What a person can do.
pub(crate) const HELP: &str =
    "give one statement that selects, such as `SELECT id FROM orders WHERE total < 0`, without parameters";

/// The statement without what may stand behind it, such as a semicolon.
///
/// # Errors
/// `turso.bad_query` if the text is none, or several, or does not end where it should.
pub(crate) fn single_statement(text: &str) -> Result<&str> {
    let octets = text.as_bytes();
    let (mut at, mut depth, mut end, mut has_ended) = (0, 0_usize, 0, false);
    while at < octets.len() {
        let rest = &octets[at..];
        match rest {
            [first, ..] if first.is_ascii_whitespace() => at += 1,
            [b'-', b'-', ..] => {
                at += rest
                    .iter()
                    .position(|octet| *octet == b'\n')
                    .unwrap_or(rest.len())
            }
            // A comment that is not closed ends with the text; ours would then go on in it.
            [b'/', b'*', ..] => {
                let close = rest.windows(2).skip(2).position(|octets| octets == b"*/");
                at += close.ok_or_else(|| bad("a comment is not closed"))? + 4;
            }
            [b';', ..] if depth == 0 => {
                has_ended = true;
                at += 1;
            }
            _ if has_ended => return Err(bad("there are several statements")),
            _ => {
                at += token(rest, &mut depth)?;
                end = at;
            }
        }
    }
    if depth > 0 {
        return Err(bad("a bracket is not closed"));
    }
    // A token ends with an ASCII letter or where its last letter does.
    match text.get(..end).map(str::trim_start) {
        Some("") | None => Err(bad("there is no statement")),
        Some(statement) => Ok(statement),
    }
}

pub(crate) fn bad(why: &str) -> Error {
    Error::config(
        "turso.bad_query",
        format!("the text is no single statement that selects: {why}"),
    )
    .with_help(HELP)
}

/// Octets of the token that `rest` begins with; anything quoted is one, and so is any other octet.
fn token(rest: &[u8], depth: &mut usize) -> Result<usize> {
    let close = match rest[0] {
        quote @ (b'\'' | b'"' | b'`') => quote,
        b'[' => b']',
        b'(' => {
            *depth += 1;
            return Ok(1);
        }
        b')' => {
            *depth = depth
                .checked_sub(1)
                .ok_or_else(|| bad("a bracket is closed that was not opened"))?;
            return Ok(1);
        }
        b';' => return Err(bad("there is a semicolon within brackets")),
        _ => return Ok(1),
    };
    // A doubled quote is a text that ends and one that begins, which comes to the same.
    let length = rest.iter().skip(1).position(|octet| *octet == close);
    length
        .map(|length| length + 2)
        .ok_or_else(|| bad("a quoted text is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_is_taken_as_it_is() {
        for (text, expected) in [
            ("SELECT 1", "SELECT 1"),
            ("  SELECT 1 ; ;\n-- that is all\n", "SELECT 1"),
            (
                "SELECT ';' AS \"a;b\", 'it''s;)'",
                "SELECT ';' AS \"a;b\", 'it''s;)'",
            ),
            ("SELECT [a;)], `b;`", "SELECT [a;)], `b;`"),
            ("SELECT 'a\\' ;", "SELECT 'a\\'"),
            ("SELECT /* ; ) */ 1 /**/", "SELECT /* ; ) */ 1"),
            ("VALUES ('Å;') -- Å", "VALUES ('Å;')"),
            ("SELECT Å", "SELECT Å"),
        ] {
            assert_eq!(single_statement(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn anything_that_could_get_out_of_a_bracket_is_refused() {
        for text in [
            "",
            " ; -- nothing",
            "SELECT 1; SELECT 2",
            "SELECT 1); DELETE FROM t; SELECT * FROM (SELECT 1",
            "SELECT 1)",
            "SELECT (1",
            "SELECT (1; DROP TABLE t)",
            "SELECT 'open",
            "SELECT [open",
            "SELECT /* open",
            "SELECT /*/",
        ] {
            assert_eq!(
                single_statement(text).unwrap_err().code,
                "turso.bad_query",
                "{text}"
            );
        }
    }
}
