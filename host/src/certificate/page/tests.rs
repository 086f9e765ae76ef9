//! The page: its tags are the template's own, whatever the names are, and nothing is fetched.
//! Neighbours: `text` and `markdown` have the wording as a whole.

use super::*;
use crate::certificate::{Demands, check, fixtures};

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

fn shown(file: &CertificateFile) -> String {
    html(file, &fixtures::plainly(file))
}

#[test]
fn it_says_what_is_certified() {
    let file = CertificateFile::unsigned(fixtures::certified());
    let (_, text) = tags(&shown(&file));
    for part in [
        "Certificate of shop: both sides are equal",
        "integrity only",
        "12,000",
        &file.certificate.root,
        &file.certificate.job.sha256,
        "curlew 0.9.1, sha256 2222",
        "truncate_timestamp(milliseconds)",
        "2 records left out",
        "sink.not_null",
        "pointing to nothing",
    ] {
        assert!(text.contains(part), "{part} is not in the page");
    }
}

#[test]
fn hostile_names_are_text() {
    let page = shown(&fixtures::hostile());
    let (tags_of_page, _) = tags(&page);
    let mut open: Vec<&str> = Vec::new();
    for tag in tags_of_page {
        let name = tag.split([' ', '\n']).next().unwrap();
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed)),
            None if ["!DOCTYPE", "meta"].contains(&name) => {}
            None => open.push(name),
        }
        assert!(
            !["script", "img", "link", "iframe", "object", "form", "base", "a"].contains(&name),
            "{tag}"
        );
        for part in [" src=", " href=", "url(", " on", "alert(", "gpj"] {
            assert!(!tag.contains(part), "{tag}");
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!page.contains('\u{202e}') && !page.contains('\u{7}'));
}

#[test]
fn its_colour_is_that_of_the_checks() {
    let (key, public) = fixtures::key();
    let file = key.sign(fixtures::certified()).unwrap();
    let trusted = Demands {
        trusted: Some(public),
        requires_signature: true,
    };
    assert!(html(&file, &check(&file, &trusted)).contains("<main class=\"good\">"));
    assert!(shown(&file).contains("<main class=\"mixed\">"));
    let other = Demands {
        trusted: Some(fixtures::key().1),
        requires_signature: true,
    };
    assert!(html(&file, &check(&file, &other)).contains("<main class=\"bad\">"));
}

/// Writes pages to look at, if a folder for them is named.
#[test]
fn pages_to_look_at() {
    let Some(folder) = std::env::var_os("WHIMBREL_LOOK_AT") else {
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let unsigned = CertificateFile::unsigned(fixtures::certified());
    std::fs::write(folder.join("certificate.html"), shown(&unsigned)).unwrap();
    std::fs::write(
        folder.join("certificate-hostile.html"),
        shown(&fixtures::hostile()),
    )
    .unwrap();
}
