//! A notification as a line of the file, in both formats, and the dedupe key of a line that is read back.
//!
//! Nothing in a notification can end its line, begin another, or reach a terminal as a command: control characters, and
//! those that change the direction of text, are escaped. The README says how.

use std::fmt::Write as _;

use serde::Deserialize;
use whimbrel_plugin_api::Notification;

use crate::config::Format;

/// Octets of the longest line. The longest text that is promised (1 MiB) fits even if all of it is escaped.
pub(crate) const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Fields of a line of text.
const TEXT_FIELDS: usize = 7;

/// The line, with its end.
pub(crate) fn of(notification: &Notification, format: Format) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = match format {
        Format::Ndjson => ndjson(notification)?,
        Format::Text => text(notification),
    };
    line.push('\n');
    Ok(line.into_bytes())
}

/// What a terminal could take for a command, or show in another place than it stands.
fn is_hostile(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{feff}'
        )
        || ('\u{202a}'..='\u{202e}').contains(&letter)
        || ('\u{2066}'..='\u{2069}').contains(&letter)
}

fn ndjson(notification: &Notification) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(notification)?;
    if !json.contains(is_hostile) {
        return Ok(json);
    }
    // All of them stand within texts: between its tokens, serde_json writes none.
    let mut escaped = String::with_capacity(json.len() + 64);
    for letter in json.chars() {
        if is_hostile(letter) {
            write!(escaped, "\\u{:04x}", u32::from(letter)).expect("writing to a string does not fail");
        } else {
            escaped.push(letter);
        }
    }
    Ok(escaped)
}

fn text(notification: &Notification) -> String {
    let mut line = String::new();
    // A line that begins with a brace is JSON, also if it was cut off.
    escape(&notification.at, "{", &mut line);
    line.push('\t');
    for field in [
        notification.severity.name(),
        &notification.event,
        &notification.title,
        &notification.body,
    ] {
        escape(field, "", &mut line);
        line.push('\t');
    }
    for (number, (name, value)) in notification.facts.iter().enumerate() {
        if number > 0 {
            line.push_str("; ");
        }
        escape(name, ";=", &mut line);
        line.push('=');
        escape(value, ";=", &mut line);
    }
    line.push_str("\t[");
    escape(&notification.dedupe_key, "[]", &mut line);
    line.push(']');
    line
}

/// Writes `field` so that it holds no tab, no line end and nothing hostile; `also` are further letters to escape.
fn escape(field: &str, also: &str, line: &mut String) {
    for letter in field.chars() {
        match letter {
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            letter if also.contains(letter) => line.extend(['\\', letter]),
            letter if is_hostile(letter) => {
                write!(line, "\\u{{{:x}}}", u32::from(letter)).expect("writing to a string does not fail");
            }
            letter => line.push(letter),
        }
    }
}

fn unescape(field: &str) -> Option<String> {
    let mut plain = String::with_capacity(field.len());
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next()? {
            'n' => plain.push('\n'),
            'r' => plain.push('\r'),
            't' => plain.push('\t'),
            'u' => {
                let (digits, rest) = letters.as_str().strip_prefix('{')?.split_once('}')?;
                plain.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                letters = rest.chars();
            }
            escaped => plain.push(escaped),
        }
    }
    Some(plain)
}

#[derive(Deserialize)]
struct KeyOnly {
    dedupe_key: String,
}

/// The dedupe key of a whole line without its end, in either format; `None` if it is no notification.
pub(crate) fn key_of(line: &[u8]) -> Option<String> {
    if line.starts_with(b"{")
        && let Ok(KeyOnly { dedupe_key }) = serde_json::from_slice(line)
    {
        return Some(dedupe_key);
    }
    let fields: Vec<&str> = std::str::from_utf8(line).ok()?.split('\t').collect();
    let key = match fields.as_slice() {
        [.., key] if fields.len() == TEXT_FIELDS => key.strip_prefix('[')?.strip_suffix(']')?,
        _ => return None,
    };
    // Where a line was cut off within its key, the bracket at its end is part of the key.
    let escapes = key.len() - key.trim_end_matches('\\').len();
    if escapes % 2 == 1 { None } else { unescape(key) }
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::Severity;

    use super::*;

    fn hostile(text: &str) -> Notification {
        Notification {
            dedupe_key: text.to_owned(),
            event: text.to_owned(),
            severity: Severity::Critical,
            title: text.to_owned(),
            body: text.to_owned(),
            facts: [
                (text.to_owned(), text.to_owned()),
                ("job".to_owned(), "a=b; c".to_owned()),
            ]
            .into(),
            at: text.to_owned(),
        }
    }

    const TEXTS: [&str; 9] = [
        "",
        "plain, größer, 👩‍👩‍👧",
        "a\nb\r\nc\td\\n",
        "\0\u{1}\u{1b}[2J\u{7f}\u{9b}31m\u{85}",
        "\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}",
        "]",
        "\\",
        "[\\]",
        "{\"dedupe_key\":\"forged\"}",
    ];

    #[test]
    fn a_line_is_one_line_without_control_characters_and_keeps_its_key() {
        for format in [Format::Ndjson, Format::Text] {
            for text in TEXTS {
                let line = String::from_utf8(of(&hostile(text), format).unwrap()).unwrap();
                let inside = line.strip_suffix('\n').unwrap();
                assert!(!inside.replace('\t', "").contains(is_hostile), "{inside:?}");
                assert_eq!(key_of(inside.as_bytes()).as_deref(), Some(text), "{inside:?}");
            }
        }
    }

    #[test]
    fn ndjson_gives_back_the_notification() {
        for text in TEXTS {
            let line = of(&hostile(text), Format::Ndjson).unwrap();
            assert_eq!(
                serde_json::from_slice::<Notification>(&line).unwrap(),
                hostile(text)
            );
        }
    }

    #[test]
    fn text_has_its_fields_in_order() {
        let notification = Notification {
            dedupe_key: "run-1/completed".to_owned(),
            event: "completed".to_owned(),
            title: "done".to_owned(),
            body: "a\nb".to_owned(),
            facts: [
                ("job".to_owned(), "a".to_owned()),
                ("records".to_owned(), "4;2".to_owned()),
            ]
            .into(),
            at: "2024-02-29T00:00:00Z".to_owned(),
            ..Notification::default()
        };
        let line = String::from_utf8(of(&notification, Format::Text).unwrap()).unwrap();
        assert_eq!(
            line,
            "2024-02-29T00:00:00Z\tinfo\tcompleted\tdone\ta\\nb\tjob=a; records=4\\;2\t[run-1/completed]\n"
        );
    }

    #[test]
    fn a_line_that_was_cut_off_has_no_key() {
        for format in [Format::Ndjson, Format::Text] {
            for text in TEXTS.into_iter().skip(1) {
                let line = of(&hostile(text), format).unwrap();
                let whole = line.len() - 1;
                for cut in 0..whole {
                    assert_eq!(key_of(&line[..cut]), None, "{text:?} cut at {cut} of {whole}");
                }
            }
        }
    }

    #[test]
    fn other_lines_have_no_key() {
        for line in [
            "",
            "{}",
            "{\"dedupe_key\":1}",
            "a\tb",
            "name: job",
            "1\t2\t3\t4\t5\t6\t7",
            "1\t2\t3\t4\t5\t6\t[\\x",
        ] {
            assert_eq!(key_of(line.as_bytes()), None, "{line}");
        }
        assert_eq!(key_of(b"\xff\xfe"), None);
    }
}
