//! A certificate as Markdown, for a ticket or a repository. Nothing from outside becomes mark-up.
//! Neighbour: `text`, which says the same for a terminal.

use super::body::Body;
use super::check::{CheckState, Checked};
use super::file::CertificateFile;
use super::text::{came_to, exceptions, facts, shown, standing, title};
use crate::report::figures::{count, sentence};
use crate::report::{markdown_code as code, markdown_text as plain};

/// Lines of a table or a list; the file has them all.
const ROWS_MAX: usize = 200;

/// The page.
pub fn markdown(file: &CertificateFile, checked: &Checked) -> String {
    let body = &file.certificate;
    let rows: String = facts(body)
        .iter()
        .map(|(name, value)| format!("| {name} | {} |\n", plain(value)))
        .collect();
    let checks: String = checked
        .checks
        .iter()
        .map(|check| {
            let sign = match check.state {
                CheckState::Held => "✅",
                CheckState::Open | CheckState::Unchecked => "⚠️",
                CheckState::Failed => "❌",
            };
            format!("- {sign} {}: {}\n", check.name, plain(&check.message))
        })
        .collect();
    let title = sentence(&title(body));
    let mut text = format!("# {}\n\nChecked: **{}**.\n\n", plain(&title), standing(checked));
    text.push_str(&format!("| | |\n|---|---|\n{rows}\n## Checks\n\n{checks}\n"));
    text.push_str(&collections(body));
    text.push_str(&list(body));
    text
}

fn collections(body: &Body) -> String {
    let (shown, left_out) = shown(body, ROWS_MAX);
    let mut text = String::from(
        "## Collections\n\n| collection | into | source | sink | compared | verdict | digest of the sink |\n\
         |---|---|---:|---:|---:|---|---|\n",
    );
    for collection in shown {
        let digest = collection.digests.read_back.as_ref();
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            code(&collection.source),
            code(&collection.sink),
            count(collection.source_count),
            count(collection.sink_count),
            count(collection.compared_count),
            came_to(collection),
            digest.map_or_else(String::new, |place| code(&place.root)),
        ));
    }
    if left_out > 0 {
        text.push_str(&format!("\nAnd {} more.\n", count(left_out)));
    }
    text
}

fn list(body: &Body) -> String {
    let lines = exceptions(body);
    if lines.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n## Exceptions\n\n");
    for line in lines.iter().take(ROWS_MAX) {
        text.push_str(&format!("- {}\n", plain(line)));
    }
    let left_out = lines.len().saturating_sub(ROWS_MAX) as u64;
    if left_out > 0 {
        text.push_str(&format!("- and {} more\n", count(left_out)));
    }
    text
}

#[cfg(test)]
mod tests;
