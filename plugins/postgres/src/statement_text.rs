//! Whether a text is one statement, before it is put into a statement of ours.
//!
//! In the simple protocol a text may hold several statements, and one that closes our bracket could end the transaction that
//! forbids writing. So quotes, comments and brackets are followed as the database reads them, with
//! `standard_conforming_strings` on. Whether the statement makes sense, and only reads, is the database's to say.

use whimbrel_plugin_api::{Error, Result};

/// What a text is, for [`Error`]s about it.
const HELP: &str =
    "give one statement that selects, such as `SELECT id FROM orders WHERE total < 0`, without parameters";

/// The statement without what may stand behind it, such as a semicolon.
///
/// # Errors
/// `postgres.bad_query` if the text is none, or several, or does not end where it should.
pub(crate) fn single_statement(text: &str) -> Result<&str> {
    let octets = text.as_bytes();
    let (mut at, mut depth, mut end, mut has_ended) = (0, 0_usize, 0, false);
    while at < octets.len() {
        let rest = &octets[at..];
        let length = if rest[0].is_ascii_whitespace() {
            at += 1;
            continue;
        } else if rest.starts_with(b"--") {
            at += rest
                .iter()
                .position(|octet| matches!(octet, b'\n' | b'\r'))
                .unwrap_or(rest.len());
            continue;
        } else if rest.starts_with(b"/*") {
            at += comment(rest)?;
            continue;
        } else if rest[0] == b';' && depth == 0 {
            has_ended = true;
            at += 1;
            continue;
        } else if has_ended {
            return Err(bad("there are several statements"));
        } else {
            token(rest)?
        };
        match rest[0] {
            b'(' | b'[' => depth += 1,
            b')' | b']' => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| bad("a bracket is closed that was not opened"))?;
            }
            b';' => return Err(bad("there is a semicolon within brackets")),
            _ => {}
        }
        at += length;
        end = at;
    }
    if depth > 0 {
        return Err(bad("a bracket is not closed"));
    }
    // Every octet at which a token ends is the end of a letter, or the octet is ASCII.
    match text.get(..end).map(str::trim_start) {
        Some("") | None => Err(bad("there is no statement")),
        Some(statement) => Ok(statement),
    }
}

fn bad(why: &str) -> Error {
    Error::config(
        "postgres.bad_query",
        format!("the text is no single statement that selects: {why}"),
    )
    .with_help(HELP)
}

/// Octets of the token that `rest` begins with; quoted text is one, and so is any other letter.
fn token(rest: &[u8]) -> Result<usize> {
    match rest {
        [b'\'', ..] => quoted(rest, b'\'', false),
        [b'"', ..] => quoted(rest, b'"', false),
        [b'$', ..] => match tag(rest) {
            Some(tag) => {
                let inner = &rest[tag.len()..];
                let close = inner.windows(tag.len()).position(|octets| octets == tag);
                close
                    .map(|close| close + 2 * tag.len())
                    .ok_or_else(|| bad("a text is not closed"))
            }
            None => Ok(1),
        },
        [first, ..] if is_of_word(*first) => {
            let word = rest
                .iter()
                .position(|octet| !is_of_word(*octet) && *octet != b'$');
            let word = word.unwrap_or(rest.len());
            // A text behind a lone `e` has backslashes of a meaning.
            match rest.get(word) {
                Some(b'\'') if rest[..word].eq_ignore_ascii_case(b"e") => {
                    Ok(word + quoted(&rest[word..], b'\'', true)?)
                }
                _ => Ok(word),
            }
        }
        _ => Ok(1),
    }
}

fn is_of_word(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'_' || !octet.is_ascii()
}

/// Octets of a quoted text; a doubled quote is a part of it.
fn quoted(rest: &[u8], quote: u8, has_escapes: bool) -> Result<usize> {
    let mut at = 1;
    while at < rest.len() {
        if has_escapes && rest[at] == b'\\' {
            at += 2;
        } else if rest[at] != quote {
            at += 1;
        } else if rest.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return Ok(at + 1);
        }
    }
    Err(bad("a text is not closed"))
}

/// The opening of a dollar-quoted text, with both of its dollars.
fn tag(rest: &[u8]) -> Option<&[u8]> {
    let end = rest.iter().skip(1).position(|octet| *octet == b'$')? + 1;
    let name = &rest[1..end];
    let is_name =
        name.iter().all(|octet| is_of_word(*octet)) && !name.first().is_some_and(u8::is_ascii_digit);
    is_name.then(|| &rest[..=end])
}

/// Octets of a comment, those within it included.
fn comment(rest: &[u8]) -> Result<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Ok(at);
            }
        } else {
            at += 1;
        }
    }
    Err(bad("a comment is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_is_taken_as_it_is() {
        for (text, expected) in [
            ("SELECT 1", "SELECT 1"),
            ("  SELECT 1 ; ;\n-- that is all\n", "SELECT 1"),
            ("SELECT ';' AS \"a;b\"", "SELECT ';' AS \"a;b\""),
            ("SELECT 'it''s;' , E'\\';'", "SELECT 'it''s;' , E'\\';'"),
            ("SELECT 'a\\' ;", "SELECT 'a\\'"),
            ("SELECT $$;)$$, $a$ $$ ; $a$", "SELECT $$;)$$, $a$ $$ ; $a$"),
            ("SELECT /* ; /* ) */ ; */ 1", "SELECT /* ; /* ) */ ; */ 1"),
            ("SELECT (a)[1] -- ;", "SELECT (a)[1]"),
            ("VALUES ('Å;')", "VALUES ('Å;')"),
            ("SELECT a$1$b, c FROM t", "SELECT a$1$b, c FROM t"),
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
            "SELECT 1) AS q; COMMIT; DELETE FROM t; SELECT * FROM (SELECT 1",
            "SELECT 1)",
            "SELECT (1",
            "SELECT (1; DROP TABLE t)",
            "SELECT 'open",
            "SELECT \"open",
            "SELECT $a$ open $b$",
            "SELECT /* open /* */",
            "SELECT E'\\'",
            // With escapes the text would end behind the semicolon, and does not.
            "SELECT 'a\\'; DELETE FROM t; --'",
            "SELECT e '\\'; DELETE FROM t; --'",
        ] {
            assert_eq!(
                single_statement(text).unwrap_err().code,
                "postgres.bad_query",
                "{text}"
            );
        }
    }
}
