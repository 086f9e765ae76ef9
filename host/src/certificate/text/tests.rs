//! The text for a terminal, as a whole.
//! Names from outside steer nothing.

use super::*;
use crate::certificate::fixtures;
use expect_test::expect_file;

#[test]
fn a_certificate_in_words() {
    let file = CertificateFile::unsigned(fixtures::certified());
    expect_file!["certificate.txt"].assert_eq(&text(&file, &fixtures::plainly(&file)));
}

#[test]
fn nothing_from_outside_steers_the_terminal() {
    let file = fixtures::hostile();
    let shown = text(&file, &fixtures::plainly(&file));
    assert!(
        shown
            .chars()
            .all(|char| char == '\n' || (!char.is_control() && char != '\u{202e}')),
        "{shown:?}"
    );
}

#[test]
fn many_collections_fill_no_screen_and_the_worst_come_first() {
    let mut body = fixtures::certified();
    let one = body.collections[0].clone();
    body.collections = (0..1_000)
        .map(|number| CollectionSection {
            source: format!("c{number}"),
            verdict: if number == 999 {
                Verdict::Undecided
            } else {
                Verdict::Equal
            },
            ..one.clone()
        })
        .collect();
    let file = CertificateFile::unsigned(body);
    let shown = text(&file, &fixtures::plainly(&file));
    assert!(shown.contains("c999"), "{shown}");
    assert!(shown.contains("and 800 more"), "{shown}");
    assert!(shown.lines().count() < 1_100, "{}", shown.lines().count());
}
