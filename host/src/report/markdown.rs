//! Text from outside in Markdown: as code, as text, as a list, so that nothing of it becomes mark-up.
//! Neighbours: `executive_summary` and `executive_proof`, which make the page.

use super::figures::{count, printable};

/// Lines of a list; a page has no more room.
pub(super) const LINES_MAX: usize = 10;

/// The first lines of a list, and how many more there are.
pub(super) fn shortened(mut lines: Vec<String>) -> String {
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    if more > 0 {
        lines.push(format!("- and {} more.", count(more as u64)));
    }
    lines.join("\n") + "\n"
}

/// Text from outside as a code span: the fence is longer than any in the text, and a table's `|` cannot end a cell.
pub fn code(text: &str) -> String {
    let text = printable(text).replace('|', "\\|");
    let mut longest = 0;
    let mut current = 0;
    for char in text.chars() {
        current = if char == '`' { current + 1 } else { 0 };
        longest = longest.max(current);
    }
    let fence = "`".repeat(longest + 1);
    let blank = if text.is_empty() || text.starts_with('`') || text.ends_with('`') {
        " "
    } else {
        ""
    };
    format!("{fence}{blank}{text}{blank}{fence}")
}

/// Text from outside as text.
pub fn plain(text: &str) -> String {
    let mut escaped = String::new();
    for char in printable(text).chars() {
        match char {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' | '~' | '(' | ')' => {
                escaped.push('\\');
                escaped.push(char);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

/// A message names objects in backticks; those stay code, the rest is text.
pub(super) fn message(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return plain(text);
    }
    parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            if index.is_multiple_of(2) {
                plain(part)
            } else {
                code(part)
            }
        })
        .collect()
}
