//! The Markdown, as a whole.
//! Names from outside stay names.

use super::*;
use crate::certificate::fixtures;
use expect_test::expect_file;

#[test]
fn a_certificate_as_markdown() {
    let file = CertificateFile::unsigned(fixtures::certified());
    expect_file!["certificate.md"].assert_eq(&markdown(&file, &fixtures::plainly(&file)));
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let file = fixtures::hostile();
    let text = markdown(&file, &fixtures::plainly(&file));
    assert!(!text.contains('\u{202e}') && !text.contains('\u{7}'));
    // Outside of code spans, and the names of collections are in such, no tag and no link remains.
    for line in text.lines() {
        let outside: String = line.split('`').step_by(2).collect();
        assert!(!outside.contains("<script"), "{line}");
    }
    assert!(!text.contains("]](javascript:x)\n- "), "{text}");
    let heading = text.lines().next().unwrap();
    assert_eq!(
        heading,
        "# Certificate of &lt;script&gt;alert\\(1\\)&lt;/script&gt;: both sides are equal"
    );
}
