//! `report.html`: one file that works offline, prints, and follows the reader's light or dark.
//!
//! No script, nothing fetched, style and charts inside. Everything from outside passes the template's escaping; the
//! policy in the head keeps a browser from running anything even if that failed. `charts` draws, `sections` words.

mod charts;
mod guarantees;
mod proof;
mod references;
mod scale;
mod sections;
mod tables;

use maud::{DOCTYPE, PreEscaped, html as page};

use super::{FinalReport, tone};

const STYLE: &str = include_str!("report.css");
/// Style from within; nothing else at all.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page.
pub fn html(report: &FinalReport) -> String {
    let tone = tone(&report.task);
    let page = page! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (report.verdict) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main class=(tone.name()) {
                    (sections::opening(report))
                    (sections::tiles(report))
                    (sections::failures(report))
                    (sections::steps(report))
                    (charts::over_time(report))
                    (tables::collections(report))
                    (tables::differences(report))
                    (proof::rules(report))
                    (proof::sink_references(report))
                    (proof::repaired(report))
                    (proof::verification(report))
                    (proof::digests(report))
                    (tables::rejected(report))
                    (guarantees::guarantees(report))
                    (references::orphans(report))
                    (tables::losses(report))
                    (sections::notes(report))
                    (sections::looking_further(report))
                    (sections::closing(report))
                }
            }
        }
    };
    page.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{TaskReport, fixtures};

    fn shown(report: &TaskReport, elapsed_secs: f64) -> String {
        html(&FinalReport::new(fixtures::facts(report, elapsed_secs), report))
    }

    /// The tags of a page, and the text between them.
    fn tags(page: &str) -> (Vec<&str>, String) {
        let (mut tags, mut text) = (Vec::new(), String::new());
        let mut rest = page;
        while let Some(start) = rest.find('<') {
            text.push_str(&rest[..start]);
            // No attribute holds a `>`: the template escapes it.
            let end = start + rest[start..].find('>').unwrap();
            tags.push(&rest[start + 1..end]);
            rest = &rest[end + 1..];
        }
        text.push_str(rest);
        (tags, text)
    }

    #[test]
    fn tags_are_closed_in_order_and_nothing_is_fetched() {
        for report in fixtures::every_end().iter().chain([&fixtures::hostile()]) {
            let page = shown(report, 5.8);
            let mut open: Vec<&str> = Vec::new();
            for tag in tags(&page).0 {
                let name = tag.split([' ', '\n']).next().unwrap();
                match name.strip_prefix('/') {
                    Some(closed) => assert_eq!(open.pop(), Some(closed)),
                    None if ["!DOCTYPE", "meta"].contains(&name) => {}
                    None => open.push(name),
                }
                assert!(
                    !["script", "img", "link", "iframe", "object", "form", "base"].contains(&name),
                    "{tag}"
                );
                for part in [" src=", " href=", "url(", " on"] {
                    assert!(!tag.contains(part), "{tag}");
                }
            }
            assert!(open.is_empty(), "{open:?}");
            assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
        }
    }

    #[test]
    fn hostile_names_are_text() {
        let report = fixtures::hostile();
        let page = shown(&report, 5.8);
        let benign = shown(&fixtures::failed(), 5.8);
        let kinds = |page: &str| -> std::collections::BTreeSet<String> {
            tags(page).0.iter().map(|tag| (*tag).to_owned()).collect()
        };
        // The same page from harmless names has the same tags, letter by letter, but those of lists that it lacks.
        for tag in kinds(&page) {
            assert!(
                !tag.contains("alert(") && !tag.contains("onmouseover") && !tag.contains("gpj"),
                "{tag}"
            );
        }
        assert!(kinds(&benign).contains("bdi"));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(page.contains("<bdi>🦆 إوزة]](javascript:x)</bdi>"));
        assert!(!page.contains('\u{202e}') && !page.contains('\u{7}'));
    }

    #[test]
    fn a_page_of_ten_thousand_collections_can_be_opened() {
        let mut report = fixtures::done();
        let one = report.summary.collections[0].clone();
        report.summary.collections = (0..10_000)
            .map(|number| crate::events::CollectionResult {
                source: format!("collection-{number}"),
                ..one.clone()
            })
            .collect();
        let page = shown(&report, 20_000.0);
        assert!(page.len() < 1_000_000, "{} octets", page.len());
        assert!(page.contains("9,500 more"));
    }

    #[test]
    fn it_says_how_it_ended_and_what_to_do() {
        for report in fixtures::every_end() {
            let page = shown(&report, 5.8);
            let (_, text) = tags(&page);
            let verdict = crate::report::verdict(&report);
            assert!(text.contains(&verdict), "{verdict}");
            assert!(text.contains("Next steps"), "{verdict}");
        }
        let text = tags(&shown(&fixtures::failed(), 5.8)).1;
        for part in [
            "curlew.connection_lost",
            "connection reset by peer",
            "look whether the server is up",
            "may not be null",
            "u-9",
            "whimbrel rejected list",
        ] {
            assert!(text.contains(part), "{part} is not in the page");
        }
    }

    #[test]
    fn all_that_was_verified_is_in_the_page() {
        let text = tags(&shown(&fixtures::disproven(), 5.8)).1;
        for part in [
            "comprehensive",
            "u-12",
            "email: a@b.example in the source, nothing in the sink",
            "and 68 more (of the first 2: 1 missing, 1 different); all of them: verification-results/users.ndjson",
            "70 differences, 1 changed since",
            "1,200 (price: float_from_decimal 1,200)",
            "half in 0.41 ms, 95 % in 1.2 ms, 99 % in 2 ms (200 records)",
            "transformed",
            "read back",
            "0123456701234567",
            "89abcdef89abcdef",
            "has an email",
            "2 of 340 records",
            "u-5",
            "the sink takes no query",
            "none of them in the source",
            "user=u-12",
            "3 copied again, 1 removed, 1 left as they are",
            "the sink refuses it",
            "Certificate: none (the sides differ)",
            "since somebody has asked for them",
        ] {
            assert!(text.contains(part), "{part} is not in the page: {text}");
        }
        let text = tags(&shown(&fixtures::changed_since(), 5.8)).1;
        assert!(
            text.contains("2 changed since") && text.contains("Record values are in none"),
            "{text}"
        );
    }

    #[test]
    fn a_collection_that_failed_beside_others_is_named() {
        let report = fixtures::failed();
        let facts = fixtures::facts_with_failed_collection(&report);
        let text = tags(&html(&FinalReport::new(facts, &report))).1;
        assert!(text.contains("Orders: the connection to"), "{text}");
    }

    /// Writes pages to look at, if a folder for them is named.
    #[test]
    fn pages_to_look_at() {
        let Some(folder) = std::env::var_os("WHIMBREL_LOOK_AT") else {
            return;
        };
        let folder = std::path::PathBuf::from(folder);
        let large = {
            let mut report = fixtures::done();
            for collection in &mut report.summary.collections {
                collection.read_count *= 10_000;
                collection.written_count *= 10_000;
                collection.read_bytes *= 10_000;
            }
            for phase in &mut report.summary.phases {
                phase.seconds *= 1_500.0;
                phase.record_count *= 10_000;
            }
            report
        };
        for (name, report, seconds) in [
            ("done", fixtures::done(), 5.8),
            ("failed", fixtures::failed(), 2.3),
            ("proven", fixtures::proven(), 5.8),
            ("differences", fixtures::differences(), 5.8),
            ("disproven", fixtures::disproven(), 5.8),
            ("changed-since", fixtures::changed_since(), 5.8),
            ("crashed", fixtures::crashed(), 3.0),
            ("hostile", fixtures::hostile(), 5.8),
            ("large", large, 8_700.0),
        ] {
            std::fs::write(folder.join(format!("{name}.html")), shown(&report, seconds)).unwrap();
        }
    }
}
